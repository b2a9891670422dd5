//! `convpipe dev` and `scripts/dev`: it starts, the other commands find what it left in the folder, and nothing outlives it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};

use crate::support::emulator::Emulator;
use crate::support::process::{Output, Process};

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

    // Every part is found from the folder.
    let states = || {
        let picture = convpipe(folder.path(), &["status", "-o", "json"]).stdout;
        let picture: serde_json::Value = serde_json::from_slice(&picture).unwrap();
        let daemons = picture["daemons"].as_array().unwrap().iter();
        daemons.map(|daemon| daemon["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let end = Instant::now() + LIMIT;
    // At this speed, one that is asked may be too busy for a while.
    while states() != ["ready", "ready", "off", "ready"] {
        assert!(Instant::now() < end, "{:?}", states());
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

/// A script that leads a process group of its own, as in a terminal; Ctrl-C goes to all of it.
struct Script(Option<(Process, Pid)>);

impl Script {
    fn start(command: &mut std::process::Command) -> Self {
        let process = Process::spawn(command.process_group(0));
        let group = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
        Self(Some((process, group)))
    }

    fn process(&self) -> &Process {
        &self.0.as_ref().unwrap().0
    }

    fn interrupt(mut self) -> Output {
        let (process, group) = self.0.take().unwrap();
        kill_process_group(group, Signal::INT).unwrap();
        process.wait(LIMIT)
    }
}

impl Drop for Script {
    /// Where the test fails, what the script has started ends all the same.
    fn drop(&mut self) {
        if let Some((process, group)) = self.0.take() {
            let _ = kill_process_group(group, Signal::INT);
            process.wait(LIMIT);
        }
    }
}

/// The command lines of all processes in which something stands.
fn running(what: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(what)).collect()
}

#[test]
fn the_script_runs_it_on_googles_emulators_and_leaves_nothing_but_the_folder() {
    if !Emulator::are_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (dir, scratch) = (folder.path().join(".convpipe"), tempfile::tempdir().unwrap());
    let mut command = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/dev"));
    command.args(["--google-emulators", "--recording", QUIET_EVENING, "--speed", "max", "--dir"]).arg(&dir);
    command.env("DEV_PROGRAM", env!("CARGO_BIN_EXE_convpipe")).env("TMPDIR", scratch.path()).current_dir(folder.path());
    let script = Script::start(&mut command);
    let addresses: Vec<String> = ["pubsub", "firestore"]
        .iter()
        .map(|name| script.process().wait_stderr(&format!("the {name} emulator listens on"), LIMIT))
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect();
    script.process().wait_stderr("Ctrl-C ends all of it", LIMIT);
    let redis = redis_pid(folder.path());
    assert!(addresses.iter().all(|address| !running(address).is_empty()), "{addresses:?}");

    // In Redis and in Firestore.
    let end = Instant::now() + LIMIT;
    loop {
        let output = convpipe(folder.path(), &["inspect-fan", "100000001", "-o", "json"]);
        let said = String::from_utf8(output.stdout).unwrap();
        let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        if report["snapshot"].is_object() && report["summary"].is_object() && report["messages"][0].is_object() {
            break;
        }
        assert!(Instant::now() < end, "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        std::thread::sleep(Duration::from_millis(20));
    }

    let output = script.interrupt();
    assert!(output.status.success(), "{:?} {:?}", output.status, output.stderr);
    assert!(output.stderr.iter().any(|line| line.contains("nothing is left running")), "{:?}", output.stderr);
    wait_until_gone(redis);
    for address in &addresses {
        assert_eq!(running(address), Vec::<String>::new());
        assert!(TcpStream::connect(address).is_err(), "somebody listens on {address}");
    }
    let left = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    assert_eq!((left(folder.path()), left(scratch.path())), (vec![".convpipe".to_owned()], Vec::new()));
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
    let abandoned = "was written by a `convpipe dev` that is not running any more: start `convpipe dev` again, with --keep to go on with what is there, or remove ";
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
fn a_dashboard_whose_port_is_taken_is_elsewhere_and_the_config_says_where() {
    let (folder, other) = (tempfile::tempdir().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = other.local_addr().unwrap().to_string();
    fs::write(folder.path().join("base.yaml"), format!("dashboard: {{ listen: \"{taken}\" }}\n")).unwrap();
    let args = ["--config", "base.yaml", "dev", "--recording", QUIET_EVENING, "--speed", "max"];
    let process = Process::start(folder.path(), &args);
    let said = process.wait_stderr(&format!("{taken} (dashboard.listen) is taken, so this dashboard is at 127.0.0.1:"), LIMIT);
    process.wait_stderr("Ctrl-C ends all of it", LIMIT);
    let written = fs::read_to_string(folder.path().join(".convpipe/convpipe.yaml")).unwrap();
    let config: convpipe::config::Config = serde_yaml::from_str(&written).unwrap();
    assert!(said.ends_with(&config.dashboard.listen) && config.dashboard.listen != taken, "{said} {}", config.dashboard.listen);
    assert!(TcpStream::connect(&config.dashboard.listen).is_ok());
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
