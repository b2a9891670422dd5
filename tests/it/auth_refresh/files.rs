//! What happens to the files: crashes, full disks, somebody else's hands, a second run.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::json;

use super::place::{ACCOUNT, CANARY, LIMIT, Place, answer, artifact, wait_until};

const DAY: i64 = 86_400;

/// The provider gives a larger artifact each time, so that a torn one would be seen.
#[test]
fn killed_at_any_moment_every_artifact_is_whole() {
    let place = Place::new();
    let mut large = answer(ACCOUNT, "token-1", DAY);
    large["headers"]["X-Filling"] = json!("x".repeat(40_000));
    place.answers(&large);
    place.once(&[]);

    // Somebody reads all the time, as ingest does.
    let (store, stop) = (place.store(), Arc::new(AtomicBool::new(false)));
    let reader = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let artifact = store.load(ACCOUNT).expect("whole at any moment");
                assert!(artifact.generation >= last && artifact.headers.len() == 2, "{} after {last}", artifact.generation);
                last = artifact.generation;
            }
            last
        }
    });
    let mut rng = fastrand::Rng::with_seed(4);
    let mut ended = 0;
    for _ in 0..40 {
        let process = place.start(&["--once", "--force"]);
        std::thread::sleep(Duration::from_micros(rng.u64(0..30_000)));
        ended += usize::from(process.kill().status.success());
        let generation = place.artifact().generation;
        assert!(generation >= 1, "{generation}");
    }
    stop.store(true, Ordering::Relaxed);
    let last = reader.join().unwrap();
    assert_eq!(place.once(&["--force"]).0, 0, "the next run goes on; {ended} of 40 had ended before they were killed");
    assert!(place.artifact().generation > last);
}

#[test]
fn what_a_killed_process_left_half_written_is_removed() {
    let place = Place::new();
    place.answers(&answer(ACCOUNT, "token-1", DAY));
    place.once(&[]);
    let names = [".200000001.json.0123456789abcdef.tmp", ".200000001.json.fresh.tmp", ".somebody-elses", "notes.tmp"];
    for name in names {
        place.write(&format!("auth/{name}"), CANARY, 0o600);
    }
    let old = fs::File::options().write(true).open(place.path("auth").join(names[0])).unwrap();
    old.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    place.store().remember("gone", &Default::default()).unwrap();
    assert_eq!(place.once(&[]), (0, String::new()));
    let left = |name: &str| place.path("auth").join(name).exists();
    assert_eq!(names.map(left), [false, true, true, true], "only what is ours and nobody writes any more");
    assert!(!left("gone.refresh") && left("200000001.refresh"), "accounts that are gone are forgotten");
}

/// A file-size limit of nothing is what a full disk is to a program: the write fails, everything else goes on.
#[test]
fn a_full_disk_leaves_the_old_artifact() {
    let place = Place::new();
    place.store().write(&artifact(4, "old-token", 3 * DAY, DAY / 2)).unwrap();
    place.answers(&answer(ACCOUNT, CANARY, DAY));
    place.write_config();
    let shell = "trap '' XFSZ; ulimit -f 0; exec \"$0\" auth-refresh --once";
    // The script notes its calls in a file, which it cannot here.
    place.write("provider.sh", "cat answer.json", 0o600);
    let output = Command::new("/bin/sh")
        .args(["-c", shell, env!("CARGO_BIN_EXE_convpipe")])
        .current_dir(place.dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("auth/200000001.json: cannot be written: ") && !said.contains(CANARY), "{said}");
    assert_eq!(place.artifact().generation, 4);
    let left =
        fs::read_dir(place.path("auth")).unwrap().filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".tmp"));
    assert_eq!(left.count(), 0, "nothing half-written stays");
}

#[test]
fn a_folder_that_cannot_be_written_to_leaves_the_old_artifact() {
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere; a folder in the place of a file stops even root.
        let place = Place::new();
        place.answers(&answer(ACCOUNT, CANARY, DAY));
        fs::create_dir_all(place.path("auth/200000001.json")).unwrap();
        let (code, said) = place.once(&["--force"]);
        // A person has to move that folder away.
        assert_eq!(code, 77, "{said}");
        assert!(said.contains("cannot be written") && !said.contains(CANARY), "{said}");
        return;
    }
    let place = Place::new();
    place.answers(&answer(ACCOUNT, CANARY, DAY));
    place.store().write(&artifact(4, "old-token", 3 * DAY, DAY / 2)).unwrap();
    place.write("auth/.auth-refresh.lock", "", 0o600);
    fs::set_permissions(place.path("auth"), fs::Permissions::from_mode(0o500)).unwrap();
    let (code, said) = place.once(&[]);
    fs::set_permissions(place.path("auth"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!((code, place.artifact().generation), (75, 4), "{said}");
}

#[test]
fn a_second_run_is_refused_as_long_as_the_first_lives() {
    let place = Place::new();
    place.store().write(&artifact(1, "token", 0, DAY)).unwrap();
    let daemon = place.start(&[]);
    daemon.wait_stderr("looks after accounts", LIMIT);
    for args in [&["--force"][..], &["-v"]] {
        let (code, said) = place.once(args);
        assert_eq!(code, 75, "{said}");
        assert!(said.contains("error: another auth-refresh works on auth") && said.contains("auth-refresh request"), "{said}");
    }
    assert_eq!(place.run(&["status"]).status.code(), Some(0), "looking is allowed");
    daemon.signal(Signal::KILL);
    daemon.wait(LIMIT);
    assert_eq!(place.once(&[]), (0, String::new()), "a killed process holds nothing");
}

/// A file that somebody else may have touched is not replaced unasked: what is wrong would go unnoticed.
#[test]
fn somebody_elses_file_is_told_and_stays() {
    type Prepare = fn(&Place);
    let rows: [(&str, Prepare, &str); 4] = [
        (
            "a link",
            |place| {
                place.write("victim", "precious", 0o600);
                symlink(place.path("victim"), place.path("auth/200000001.json")).unwrap();
            },
            "is a symbolic link, which is not followed",
        ),
        (
            "readable by the group",
            |place| fs::set_permissions(place.path("auth/200000001.json"), fs::Permissions::from_mode(0o640)).unwrap(),
            "has mode 0640, so others may get at the session",
        ),
        ("a folder", |place| fs::create_dir(place.path("auth/200000001.json")).unwrap(), "is not a regular file"),
        (
            "another user's",
            |place| _ = std::os::unix::fs::chown(place.path("auth/200000001.json"), Some(65_534), None),
            "belongs to user 65534",
        ),
    ];
    for (name, prepare, says) in rows {
        if name == "another user's" && !rustix::process::geteuid().is_root() {
            // Only root can give a file away.
            continue;
        }
        let place = Place::new();
        place.answers(&answer(ACCOUNT, CANARY, DAY));
        place.store().write(&artifact(4, "old-token", 3 * DAY, DAY / 2)).unwrap();
        if matches!(name, "a link" | "a folder") {
            fs::remove_file(place.path("auth/200000001.json")).unwrap();
        }
        prepare(&place);
        for _ in 0..2 {
            let (code, said) = place.once(&[]);
            assert_eq!(code, 77, "{name}: {said}");
            assert!(said.contains(says) && said.contains("or replace it with --force"), "{name}: {said}");
        }
        assert!(place.calls().is_empty(), "{name}: nobody is asked");
        if name == "a folder" {
            continue;
        }
        assert_eq!(place.once(&["--force"]), (0, String::new()), "{name}");
        assert_eq!(place.artifact().account_id, ACCOUNT, "{name}");
        if name == "a link" {
            assert_eq!(fs::read_to_string(place.path("victim")).unwrap(), "precious", "the link is replaced, not followed");
        }
    }
}

#[test]
fn a_broken_artifact_is_replaced() {
    let place = Place::new();
    place.answers(&answer(ACCOUNT, "new-token", DAY));
    fs::create_dir(place.path("auth")).unwrap();
    fs::set_permissions(place.path("auth"), fs::Permissions::from_mode(0o700)).unwrap();
    place.write("auth/200000001.json", "{\"schema\":", 0o600);
    assert_eq!(place.once(&[]), (0, String::new()));
    // Whatever its generation was, the new one is another.
    assert!(place.artifact().generation > 1_700_000_000);
    assert_eq!(place.calls(), ["200000001 broken"]);
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let place = Place::new();
    place.answers(&answer(ACCOUNT, CANARY, DAY));
    for mode in [0o777, 0o770, 0o1777] {
        fs::create_dir_all(place.path("auth")).unwrap();
        fs::set_permissions(place.path("auth"), fs::Permissions::from_mode(mode)).unwrap();
        let (code, said) = place.once(&[]);
        assert_eq!(code, 77, "{said}");
        assert!(said.contains(&format!("auth: has mode {mode:04o}, so others may put their own session there")), "{said}");
    }
    assert!(place.calls().is_empty());
    fs::set_permissions(place.path("auth"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(place.once(&[]), (0, String::new()));
}

#[test]
fn links_in_the_place_of_our_own_files_are_not_followed() {
    let place = Place::new();
    place.answers(&answer(ACCOUNT, "token-1", DAY));
    place.once(&[]);
    place.write("victim", "precious", 0o600);
    for name in ["200000001.refresh", "200000001.request"] {
        let _ = fs::remove_file(place.path("auth").join(name));
        symlink(place.path("victim"), place.path("auth").join(name)).unwrap();
    }
    assert_eq!(place.once(&["--force"]), (0, String::new()));
    assert_eq!(place.run(&["request", ACCOUNT]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(place.path("victim")).unwrap(), "precious");
    fs::remove_file(place.path("auth/.auth-refresh.lock")).unwrap();
    symlink(place.path("victim"), place.path("auth/.auth-refresh.lock")).unwrap();
    let (code, said) = place.once(&[]);
    assert_eq!((code, said.contains(".auth-refresh.lock: cannot be locked: is a symbolic link")), (75, true), "{said}");
    wait_until("untouched", || fs::read_to_string(place.path("victim")).unwrap() == "precious");
}

/// The canary stands in the artifact, in headers, in a header file, and in what the provider says and answers.
#[test]
fn no_secret_is_printed_anywhere() {
    let mut place = Place::new();
    place.write("header", &format!("Bearer {CANARY}"), 0o600);
    let http = json!({ "url": "http://127.0.0.1:1/", "header_files": { "Authorization": "header" } });
    place.config["auth"]["providers"]["http"] = json!({ "http": http });
    place.config["accounts"]["http"] = json!({ "auth_provider": "http" });
    place.config["accounts"]["broken"] = json!({});
    let mut old = artifact(1, CANARY, 3 * DAY, DAY / 2);
    place.store().write(&old).unwrap();
    old.account_id = "broken".into();
    place.store().write(&old).unwrap();
    place.write("auth/broken.json", &format!("{{\"token\": \"{CANARY}\""), 0o600);
    place.write("answer.json", &answer(ACCOUNT, CANARY, DAY).to_string(), 0o600);
    place.script(&format!("echo 'using {CANARY}' >&2; test $1 = broken && echo '{CANARY}' || cat answer.json"));

    let mut outputs = Vec::new();
    for args in [
        &["--once", "-vv", "--metrics-file", "convpipe.prom"][..],
        &["--once", "-vv", "--force"],
        &["--dry-run", "--force"],
        &["status"],
        &["status", "-o", "json"],
        &["status", "-o", "jsonl"],
        &["--once", "--account", CANARY],
    ] {
        outputs.push((format!("{args:?}"), place.run(args)));
    }
    for args in [&["print"][..], &["print", "--origin"], &["check"]] {
        outputs.push((format!("config {args:?}"), place.start_command("config", args).wait(LIMIT)));
    }
    let daemon = place.start(&["-vv", "--force"]);
    daemon.wait_stderr("has a new artifact", LIMIT);
    daemon.wait_stderr("no new artifact from http", LIMIT);
    outputs.push(("the daemon".to_owned(), daemon.terminate(LIMIT)));
    for (name, output) in outputs {
        // The one that was typed is repeated in the error about it.
        if name.contains(CANARY) {
            continue;
        }
        assert!(output.stdout.len() + output.stderr.len() > 0, "{name}");
        for line in output.stdout.iter().chain(&output.stderr) {
            assert!(!line.contains(CANARY), "{name}: {line}");
        }
    }
    for name in ["convpipe.prom", "auth/200000001.refresh", "auth/broken.refresh", "auth/http.refresh"] {
        assert!(!fs::read_to_string(place.path(name)).unwrap().contains(CANARY), "{name}");
    }
}
