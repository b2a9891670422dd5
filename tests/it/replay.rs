//! `convpipe replay` as people run it: what it prints, what it says of damage, how it ends.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::Process;

fn quiet_evening() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings/quiet-evening.jsonl.gz")
}

fn quiet_lines() -> Vec<u8> {
    let mut plain = Vec::new();
    let file = std::fs::File::open(quiet_evening()).unwrap();
    std::io::copy(&mut flate2::read::MultiGzDecoder::new(file), &mut plain).unwrap();
    plain
}

fn replay(dir: &Path, args: &[&str], stdin: &[u8]) -> Output {
    let mut command = Command::cargo_bin("convpipe").unwrap();
    command.env_clear().current_dir(dir).arg("replay").args(args).write_stdin(stdin).output().unwrap()
}

/// The snapshots that a dry run printed, without the times of the run itself.
fn snapshots(output: &Output) -> Vec<Value> {
    let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut snapshot: Value = serde_json::from_slice(line).unwrap();
            snapshot.as_object_mut().unwrap().remove("applied_at");
            snapshot
        })
        .collect()
}

#[track_caller]
fn ends(output: &Output, code: i32, says: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for text in says {
        assert!(stderr.contains(text), "{stderr:?} does not say {text:?}");
    }
}

#[test]
fn a_dry_run_counts_what_the_quiet_evening_holds() {
    let dir = tempfile::tempdir().unwrap();
    let file = quiet_evening();
    let output = replay(dir.path(), &[file.to_str().unwrap(), "-o", "json"], b"");
    ends(&output, 0, &["600 frames: ", "39 conversations"]);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    // The numbers that fixtures/README.md gives for it.
    let counts = &printed["counts"];
    assert_eq!(counts["frames"], 600);
    for (kind, count) in [("typing.started", 120), ("presence.snapshot", 61), ("message.deleted", 6), ("ppv.unlocked", 3), ("unknown", 24)]
    {
        assert_eq!(counts["kinds"][kind], count, "{kind}");
    }
    let rejected: u64 = counts["rejected"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(rejected, 3);
    assert_eq!(printed["snapshots"].as_array().unwrap().len(), 39);
    assert_eq!(printed["accounts"].as_object().unwrap().keys().collect::<Vec<_>>(), ["200000001", "200000002"]);
    let is_high_value = |fan: &str| {
        let mut snapshots = printed["snapshots"].as_array().unwrap().iter();
        snapshots.any(|one| one["fan"]["id"] == fan && one["high_value"]["is"] == true)
    };
    assert!(is_high_value("100000001") && !is_high_value("100000016"));
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "a dry run writes nothing");
}

#[test]
fn plain_gzip_zstandard_and_standard_input_are_the_same_recording() {
    let dir = tempfile::tempdir().unwrap();
    let plain = quiet_lines();
    std::fs::write(dir.path().join("plain"), &plain).unwrap();
    std::fs::write(dir.path().join("zstd"), zstd::encode_all(&plain[..], 1).unwrap()).unwrap();
    let gzip = std::fs::read(quiet_evening()).unwrap();
    let expected = snapshots(&replay(dir.path(), &[quiet_evening().to_str().unwrap(), "-o", "jsonl"], b""));
    assert_eq!(expected.len(), 39);
    for (what, file, stdin) in [("plain", "plain", &b""[..]), ("zstd", "zstd", b""), ("stdin", "-", &plain), ("gzip on stdin", "-", &gzip)]
    {
        let output = replay(dir.path(), &[file, "-o", "jsonl"], stdin);
        ends(&output, 0, &["600 frames"]);
        assert_eq!(snapshots(&output), expected, "{what}");
    }
}

#[test]
fn a_cut_off_recording_is_played_up_to_the_damage_which_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let plain = quiet_lines();
    let lines: Vec<&[u8]> = plain.split_inclusive(|&byte| byte == b'\n').collect();
    let whole = lines[..100].concat();
    std::fs::write(dir.path().join("whole.jsonl"), &whole).unwrap();
    let mut cut = whole;
    cut.extend(&lines[100][..40]);
    std::fs::write(dir.path().join("cut.jsonl"), &cut).unwrap();
    let expected = replay(dir.path(), &["whole.jsonl", "-o", "jsonl"], b"");
    let output = replay(dir.path(), &["cut.jsonl", "-o", "jsonl"], b"");
    ends(&output, 65, &["error: cut.jsonl:101:40: ", "hint: everything before it was played"]);
    assert!(!snapshots(&expected).is_empty());
    assert_eq!(snapshots(&output), snapshots(&expected));
    let gzip = std::fs::read(quiet_evening()).unwrap();
    std::fs::write(dir.path().join("cut.jsonl.gz"), &gzip[..gzip.len() / 2]).unwrap();
    let output = replay(dir.path(), &["cut.jsonl.gz", "-o", "jsonl"], b"");
    ends(
        &output,
        65,
        &["error: cut.jsonl.gz:", "the file ends in the middle of its compressed data", "hint: everything before it was played"],
    );
    assert!(!snapshots(&output).is_empty());
}

#[test]
fn what_cannot_be_played_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let recording = quiet_evening();
    let recording = recording.to_str().unwrap();
    for (args, code, says) in [
        (&["gone.jsonl"][..], 65, "error: gone.jsonl: No such file"),
        (&["."], 65, "error: .: Is a directory"),
        (&[recording, "--serve", &address], 69, "hint: choose another port, or 0 for a free one"),
        (&[recording, "--speed", "fast"], 2, "a number of times such as 1x or 20x, or max"),
        (&[recording, "--speed", "0x"], 2, "invalid value '0x'"),
        (&[recording, "--rate", "5", "--speed", "max"], 2, "cannot be used with"),
        (&[recording, "--loop"], 2, "--loop never ends"),
        (&["-", "--to", "bus", "--loop"], 2, "standard input can be played only once"),
        (&[], 2, "<FILE>"),
    ] {
        ends(&replay(dir.path(), args, b""), code, &[says]);
    }
}

#[test]
fn a_replay_that_a_signal_ends_says_which() {
    let limit = Duration::from_secs(60);
    let recording = quiet_evening();
    let recording = recording.to_str().unwrap();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let dir = tempfile::tempdir().unwrap();
        // Nobody connects, so it waits for somebody.
        let serving = Process::start(dir.path(), &["replay", recording, "--serve", "127.0.0.1:0"]);
        serving.wait_stderr("serving 2 accounts on ws://127.0.0.1:", limit);
        serving.signal(signal);
        let output = serving.wait(limit);
        assert_eq!(output.status.code(), Some(code), "{:?}", output.stderr);
        assert!(output.stderr.iter().any(|line| line == "error: interrupted before the recording's end"), "{:?}", output.stderr);

        // What has no end of its own is ended so.
        let serving = Process::start(dir.path(), &["replay", recording, "--serve", "127.0.0.1:0", "--loop"]);
        serving.wait_stderr("serving 2 accounts on ws://127.0.0.1:", limit);
        serving.signal(signal);
        assert_eq!(serving.wait(limit).status.code(), Some(0));

        let publishing = Process::start(dir.path(), &["replay", recording, "--to", "bus", "--rate", "1"]);
        // By the time the topic is there it listens to signals.
        let end = Instant::now() + limit;
        while !dir.path().join(".convpipe/bus").exists() {
            assert!(Instant::now() < end, "there is no topic");
            std::thread::sleep(Duration::from_millis(5));
        }
        publishing.signal(signal);
        let output = publishing.wait(limit);
        assert_eq!(output.status.code(), Some(code), "{:?}", output.stderr);
        assert!(output.stderr.iter().any(|line| line == "error: interrupted; what was played is published"), "{:?}", output.stderr);
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_a_good_end() {
    let mut child = StdCommand::new(env!("CARGO_BIN_EXE_convpipe"))
        .args(["replay", "-", "-o", "jsonl"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody reads the output, from before the first line on.
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&quiet_lines()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).contains("error")), (Some(0), false), "{output:?}");
}
