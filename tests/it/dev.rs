//! `convpipe dev`: it starts, the other commands find what it left in the folder, and nothing outlives it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use rustix::process::{Pid, Signal, test_kill_process};

use crate::support::process::Process;

const LIMIT: Duration = Duration::from_secs(60);
const QUIET_EVENING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/quiet-evening.jsonl.gz");

/// Starts `convpipe dev` in a folder and waits until it has said what to try.
fn start(folder: &Path) -> Process {
    let process = Process::start(folder, &["dev", "--recording", QUIET_EVENING, "--speed", "max"]);
    process.wait_stderr("Ctrl-C ends all of it", LIMIT);
    process
}

fn convpipe(folder: &Path, args: &[&str]) -> std::process::Output {
    let mut command = Command::cargo_bin("convpipe").unwrap();
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(folder).args(args).output().unwrap()
}

/// Where the private Redis listens, out of the config that `dev` wrote.
fn redis_url(folder: &Path) -> String {
    let config = fs::read_to_string(folder.join(".convpipe/convpipe.yaml")).unwrap();
    let line = config.lines().find_map(|line| line.trim().strip_prefix("url: ")).unwrap();
    line.trim_matches('"').to_owned()
}

/// The process id of the private Redis, which it states itself to the user who may not read anything else.
fn redis_pid(folder: &Path) -> Pid {
    let log = fs::read_to_string(folder.join(".convpipe/redis.log")).unwrap();
    let pid = log.lines().find_map(|line| line.split(':').next()?.parse().ok()).unwrap_or_else(|| panic!("no process id in\n{log}"));
    Pid::from_raw(pid).unwrap()
}

fn wait_until_gone(pid: Pid) {
    let end = Instant::now() + LIMIT;
    // It is no child of this process, so its end can only be asked for.
    while test_kill_process(pid).is_ok() {
        assert!(Instant::now() < end, "process {pid:?} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn everything_runs_is_found_from_the_folder_and_ends_with_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(folder.path());
    process.wait_stderr("2 accounts on ws://127.0.0.1:", LIMIT);
    let pid = redis_pid(folder.path());

    let output = convpipe(folder.path(), &["config", "print", "--origin"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(&redis_url(folder.path())) && printed.contains(".convpipe/convpipe.yaml:"), "{printed}");
    let check = convpipe(folder.path(), &["config", "check"]);
    assert!(check.status.success() && String::from_utf8_lossy(&check.stdout).contains(".convpipe/convpipe.yaml"), "{check:?}");

    // Nobody without a name, and the reader only reads.
    let open = |url: &str| redis::Client::open(url).unwrap().get_connection();
    let nobody = open(&redis_url(folder.path())).and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
    assert_eq!(nobody.unwrap_err().code(), Some("NOAUTH"));
    let password = fs::read_to_string(folder.path().join(".convpipe/redis-reader.password")).unwrap();
    let mut reader = open(&redis_url(folder.path()).replace("redis://", &format!("redis://convpipe-reader:{password}@"))).unwrap();
    let refused = redis::cmd("DEL").arg("convpipe:epoch").query::<i64>(&mut reader).unwrap_err();
    assert_eq!(refused.code(), Some("NOPERM"));
    let end = Instant::now() + LIMIT;
    let inbox = |reader: &mut redis::Connection| -> Vec<String> {
        redis::cmd("ZREVRANGE").arg("convpipe:{200000001}:inbox").arg(0).arg(0).query(reader).unwrap()
    };
    while inbox(&mut reader).is_empty() {
        assert!(Instant::now() < end, "no conversation in the inbox");
        std::thread::sleep(Duration::from_millis(5));
    }

    // A second one in the same folder leaves the first alone.
    let second = convpipe(folder.path(), &["dev"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(75), "{said}");
    assert!(said.contains("another `convpipe dev` runs in") && said.contains("hint: end it first, or choose another --dir"), "{said}");

    process.signal(Signal::INT);
    let output = process.wait(LIMIT);
    assert!(output.status.success(), "{:?}", output.stderr);
    assert!(output.stderr.iter().any(|line| line.contains("nothing is left running")), "{:?}", output.stderr);
    assert!(test_kill_process(pid).is_err(), "Redis is still there");
}

#[test]
fn a_config_of_ones_own_holds_but_for_the_stores_and_a_stopped_dev_is_told_from_a_redis_that_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "redis: { url: \"redis://127.0.0.1:1\", inbox_max: 77, password_file: gone, prefix: other }\nhistory: { scope: high_value }\n";
    fs::write(folder.path().join("convpipe.yaml"), text).unwrap();
    let process = start(folder.path());
    // The other commands would find the folder's own config first.
    let hint = process.wait_stderr("tail-priority", LIMIT);
    assert!(hint.contains("convpipe --config ./.convpipe/convpipe.yaml tail-priority"), "{hint}");
    let written = fs::read_to_string(folder.path().join(".convpipe/convpipe.yaml")).unwrap();
    let config: convpipe::config::Config = serde_yaml::from_str(&written).unwrap();
    assert_eq!((config.redis.inbox_max, config.history.scope), (77, convpipe::config::HistoryScope::HighValue));
    assert_eq!((config.redis.url.clone(), &*config.redis.prefix), (redis_url(folder.path()), "convpipe"));
    assert_ne!(config.redis.url, "redis://127.0.0.1:1");
    assert_eq!(config.auth.dir, folder.path().canonicalize().unwrap().join(".convpipe/auth"));

    let tail = ["--config", ".convpipe/convpipe.yaml", "tail-priority", "--no-follow"];
    let abandoned = "was written by a `convpipe dev` that is not running any more: start `convpipe dev` again, or remove ";
    process.kill();
    let end = Instant::now() + LIMIT;
    let said = loop {
        // Redis ends a moment after it.
        let output = convpipe(folder.path(), &tail);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(69) {
            break said;
        }
        assert!(Instant::now() < end, "{said}");
    };
    assert!(said.contains("cannot be reached") && said.contains(&format!("hint: .convpipe/convpipe.yaml {abandoned}.convpipe")), "{said}");

    // Where `dev` runs, or the config is somebody else's, it is Redis that is missing.
    let lock = fs::File::open(folder.path().join(".convpipe/dev.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for args in [&tail[..], &["tail-priority", "--no-follow"]] {
        fs::write(folder.path().join("convpipe.yaml"), "redis: { url: \"redis://127.0.0.1:1\" }\n").unwrap();
        let said = String::from_utf8(convpipe(folder.path(), args).stderr).unwrap();
        assert!(said.contains("hint: start Redis, or set redis.url") && !said.contains(abandoned), "{args:?}: {said}");
    }
}

#[test]
fn a_config_that_cannot_be_used_is_told_before_anything_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".convpipe/bus")).unwrap();
    fs::write(folder.path().join("mine.yaml"), "lanes: 2\n").unwrap();
    for (args, says) in [
        (["--config", "mine.yaml", "dev"], "mine.yaml:1:1: unknown key lanes"),
        (["--config", "none.yaml", "dev"], "cannot read the config file none.yaml"),
    ] {
        let output = convpipe(folder.path(), &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(says), "{said}");
    }
    assert!(folder.path().join(".convpipe/bus").exists());
}

#[test]
fn redis_ends_with_a_dev_that_is_killed_and_the_next_one_starts() {
    let folder = tempfile::tempdir().unwrap();
    let process = start(folder.path());
    let pid = redis_pid(folder.path());
    process.kill();
    wait_until_gone(pid);
    let process = start(folder.path());
    let pid = redis_pid(folder.path());
    let output = process.terminate(LIMIT);
    assert!(output.status.success(), "{:?}", output.stderr);
    wait_until_gone(pid);
}

#[test]
fn what_keeps_dev_from_starting_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".convpipe")).unwrap();
    let config = folder.path().join(".convpipe/convpipe.yaml");
    fs::write(&config, "redis:\n  inbox_max: 5\n").unwrap();
    let output = convpipe(folder.path(), &["dev"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("was not written by `convpipe dev`") && said.contains("hint: move it to ./convpipe.yaml"), "{said}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "redis:\n  inbox_max: 5\n", "it is left as it was");

    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::cargo_bin("convpipe").unwrap();
    let output = command.env_clear().env("PATH", folder.path()).current_dir(folder.path()).arg("dev").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("neither redis-server nor valkey-server") && said.contains("hint: "), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let output = convpipe(folder.path(), &["dev", "--redis", &format!("redis://{nobody}")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("Redis at {nobody} cannot be reached")), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let output = convpipe(folder.path(), &["dev", "--recording", "gone.jsonl"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("gone.jsonl: No such file"), "{said}");
}
