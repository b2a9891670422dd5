//! `convpipe replay` as people run it: what it prints, what it says of damage, how it ends.

mod quarantine;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use convpipe::bus::Bus;
use convpipe::bus::embedded::EmbeddedBus;
use convpipe::config::{BusConfig, EmbeddedBusConfig};
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

/// Frames of which each has exactly one event.
fn messages(count: usize) -> String {
    let line = |number: usize| {
        let begin = if number == 0 { "\"t0\":\"2026-07-23T19:00:00.000Z\"," } else { "" };
        format!(
            "{{{begin}\"t_ms\":{},\"account\":\"200000001\",\"frame\":{{\"typing\":{{\"id\":{}}}}}}}\n",
            number * 1_000,
            100_000_001 + number
        )
    };
    (0..count).map(line).collect()
}

/// How many messages the topic has.
fn published(dir: &Path) -> u64 {
    on_topic(dir).len() as u64
}

/// The data of all messages of the topic, in order.
fn on_topic(dir: &Path) -> Vec<String> {
    on_bus(dir, async |bus, names| {
        let search = bus.search(&names.topic, &[], |_| true, usize::MAX).await.unwrap().unwrap();
        search.found.iter().map(|held| String::from_utf8(held.envelope.data().to_vec()).unwrap()).collect()
    })
}

/// Works on the embedded bus in this folder.
fn on_bus<T>(dir: &Path, work: impl AsyncFnOnce(&Bus, &BusConfig) -> T) -> T {
    let config = EmbeddedBusConfig { dir: dir.join(".convpipe/bus"), ..EmbeddedBusConfig::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { work(&Bus::Embedded(EmbeddedBus::open(&config).unwrap()), &BusConfig::default()).await })
}

#[test]
fn an_interrupted_replay_goes_on_behind_its_checkpoint() {
    const FRAMES: usize = 400;
    let limit = Duration::from_secs(60);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("all.jsonl"), messages(FRAMES)).unwrap();
    let checkpoint = dir.path().join("at");
    let args = ["replay", "all.jsonl", "--to", "bus", "--checkpoint", "at", "--rate", "200"];
    let process = Process::start(dir.path(), &args);
    let end = Instant::now() + limit;
    while !checkpoint.exists() {
        assert!(Instant::now() < end, "there is no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.signal(Signal::INT);
    let output = process.wait(limit);
    assert_eq!(output.status.code(), Some(130), "{:?}", output.stderr);
    let noted: Value = serde_json::from_slice(&std::fs::read(&checkpoint).unwrap()).unwrap();
    let done = noted["at"].as_u64().unwrap();
    assert!(done > 0 && done < FRAMES as u64, "{noted}");
    assert_eq!(published(dir.path()), done);
    // Of other work it is no checkpoint.
    std::fs::write(dir.path().join("other.jsonl"), messages(1)).unwrap();
    ends(&replay(dir.path(), &["other.jsonl", "--to", "bus", "--checkpoint", "at"], b""), 2, &["the checkpoint of other work"]);
    let output = replay(dir.path(), &["all.jsonl", "--to", "bus", "--checkpoint", "at"], b"");
    ends(&output, 0, &[&format!("going on behind {done} frames"), &format!("{} frames played", FRAMES as u64 - done)]);
    assert_eq!(published(dir.path()), FRAMES as u64, "each once");
    assert!(!checkpoint.exists(), "it is done");
}

#[test]
fn a_part_of_a_recording_is_played() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("all.jsonl"), messages(10)).unwrap();
    let window = ["--since", "2026-07-23T19:00:03Z", "--until", "2026-07-23T19:00:05Z"];
    let play = |more: &[&str]| replay(dir.path(), &[&["all.jsonl", "-o", "json"][..], more].concat(), b"");
    for (more, kinds) in [(&[][..], 10), (&window[..], 2), (&["--filter", "fan.id == '100000001'"], 1), (&["--to", "bus", "--dry-run"], 10)]
    {
        let output = play(more);
        ends(&output, 0, &[]);
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed["counts"]["kinds"]["typing.started"].as_u64().unwrap_or(0), kinds, "{more:?}");
    }
    ends(&play(&["--filter", "event.kimd == ''"]), 2, &["did you mean `kind`?"]);
    ends(&play(&["--checkpoint", "at"]), 2, &["add --to bus"]);
    assert!(!dir.path().join(".convpipe").exists(), "nothing of it wrote anything");
}

#[test]
fn what_has_nothing_to_play_says_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("all.jsonl"), messages(3)).unwrap();
    std::fs::write(dir.path().join("empty.jsonl"), "").unwrap();
    let no_tip = "event.kind == 'tip.received'";
    for (args, code, says) in [
        (&["all.jsonl", "--filter", no_tip][..], 1, "nothing to play: --filter holds for no event of it"),
        (&["all.jsonl", "--filter", no_tip, "--to", "bus"], 1, "--filter holds for no event of it"),
        (&["all.jsonl", "--until", "2020-01-01"], 1, "nothing to play: no frame was recorded in this span of time"),
        (&["all.jsonl", "--until", "2020-01-01", "--stats"], 1, "no frame was recorded in this span of time"),
        (&["all.jsonl", "--until", "2020-01-01", "--to", "bus"], 1, "no frame was recorded in this span of time"),
        (&["all.jsonl", "--since", "2026-07-24", "--until", "2026-07-23"], 2, "is not before --until"),
        (&["empty.jsonl"], 1, "nothing to play: there is no frame in it"),
        (&["empty.jsonl", "--verify"], 1, "nothing to play: there is no frame in it"),
    ] {
        let output = replay(dir.path(), args, b"");
        ends(&output, code, &[says]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}: no table of nothing");
    }
    let output = replay(dir.path(), &["all.jsonl", "--filter", no_tip, "-o", "json"], b"");
    ends(&output, 1, &["holds for no event"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["snapshots"], serde_json::json!([]), "a script gets its JSON");
}

#[test]
fn what_is_no_recording_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    for (text, says) in [
        (
            "# A readme\n",
            "error: file:1:1: not JSON: expected value; expected a recorded frame, {\"t_ms\", \"account\", \"frame\"}, or an event",
        ),
        ("{\"t_ms\":1,\"account\":\"1\"}\n", "error: file:1:24: not a recorded frame: missing field `frame`"),
        ("{\"level\":\"high\",\"reasons\":[]}\n", "error: file:1:1: an entry of the priority feed, which names its event"),
    ] {
        std::fs::write(dir.path().join("file"), text).unwrap();
        for args in [&["file"][..], &["file", "-o", "json"], &["file", "--stats"], &["file", "--verify"], &["file", "--to", "bus"]] {
            let output = replay(dir.path(), args, b"");
            ends(&output, 65, &[says, "hint: docs/recordings.md describes recordings"]);
            assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
        }
    }
}

#[test]
fn events_are_played_as_reading_commands_print_them() {
    let dir = tempfile::tempdir().unwrap();
    let recorded = std::fs::File::create(dir.path().join("all.jsonl")).and_then(|mut file| file.write_all(messages(5).as_bytes()));
    recorded.unwrap();
    // What the recording came to on the topic, as a reading command prints it.
    ends(&replay(dir.path(), &["all.jsonl", "--to", "bus"], b""), 0, &["5 frames played: 5 events published"]);
    let lines: Vec<String> = on_topic(dir.path()).iter().zip(1..).map(|(event, number)| with_stream_id(event, number)).collect();
    let gap = r#"{"gap":{"account_id":"200000001","after":"1-0","next":null,"cause":"trimmed"}}"#;
    let text = [&lines[..2], &[gap.to_owned()], &lines[2..]].concat().join("\n") + "\n";
    std::fs::write(dir.path().join("events.jsonl"), &text).unwrap();
    let expected = snapshots(&replay(dir.path(), &["all.jsonl", "-o", "jsonl"], b""));
    let output = replay(dir.path(), &["events.jsonl", "-o", "jsonl"], b"");
    ends(&output, 0, &["5 frames: 5 events", "a gap stands between the events"]);
    assert_eq!(snapshots(&output).len(), 5);
    let of = |snapshots: &[Value], name: &str| snapshots.iter().map(|one| one[name].clone()).collect::<Vec<_>>();
    for name in ["fan", "received_at", "event_id"] {
        assert_eq!(of(&snapshots(&output), name), of(&expected, name), "{name}");
    }
    // From a pipe, a part, by name, onto the topic.
    let args = ["-", "--to", "bus", "--filter", "fan.id == '100000003'", "--run-id", "again"];
    ends(&replay(dir.path(), &args, text.as_bytes()), 0, &["5 frames played: 1 events published"]);
    let events = on_topic(dir.path());
    let (first, again): (Value, Value) = (serde_json::from_str(&events[2]).unwrap(), serde_json::from_str(&events[5]).unwrap());
    assert_eq!(first["id"], again["id"]);
    assert_ne!(first["connection"], again["connection"]);
    for args in [&["events.jsonl", "--serve", "127.0.0.1:0"][..], &["events.jsonl", "--to", "bus", "--loop"]] {
        ends(&replay(dir.path(), args, b""), 2, &["there are events among these"]);
    }
}

fn with_stream_id(event: &str, number: u64) -> String {
    format!("{},\"stream_id\":\"{number}-0\"}}", event.strip_suffix('}').unwrap())
}

#[test]
fn a_recording_is_verified_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let recording = quiet_evening();
    let recording = recording.to_str().unwrap();
    let digests = [replay(dir.path(), &[recording, "--verify"], b""), replay(dir.path(), &[recording, "--verify"], b"")];
    ends(&digests[0], 0, &["both times the same state"]);
    assert_eq!(digests[0].stdout, digests[1].stdout, "over processes too");
    assert!(String::from_utf8_lossy(&digests[0].stdout).ends_with("  39 conversations\n"));
    std::fs::write(dir.path().join("undated.jsonl"), "{\"t_ms\":0,\"account\":\"1\",\"frame\":{\"typing\":{\"id\":2}}}\n").unwrap();
    ends(&replay(dir.path(), &["undated.jsonl", "--verify"], b""), 65, &["does not say when it began"]);

    let output = replay(dir.path(), &["--stats", recording, "-o", "json"], b"");
    ends(&output, 0, &[]);
    let stats: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&stats["frames"], &stats["accounts"]), (&600.into(), &2.into()));
    assert_eq!(stats["kinds"]["typing.started"]["events"], 120);
    let sum = |name: &str| stats[name].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!((sum("unknown_keys"), sum("rejected")), (24, 3), "{stats}");
    let table = replay(dir.path(), &["--stats", recording], b"");
    ends(&table, 0, &["2 accounts, ", " in the busiest second"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("typing.started"));
}

#[test]
fn a_bus_that_others_share_asks_for_its_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("convpipe.yaml"), "bus: { backend: google, google: { project: prod-1 } }\n").unwrap();
    std::fs::write(dir.path().join("all.jsonl"), messages(1)).unwrap();
    for more in [&[][..], &["--confirm", "prod-2"]] {
        let output = replay(dir.path(), &[&["all.jsonl", "--to", "bus"][..], more].concat(), b"");
        ends(&output, 2, &["the project prod-1", "--confirm prod-1"]);
    }
}
