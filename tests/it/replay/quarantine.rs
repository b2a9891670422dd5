//! `convpipe replay --from-quarantine`: what lies there is shown, and fed back once.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use convpipe::bus::Bus;
use convpipe::bus::google::GoogleBus;
use convpipe::config::GoogleBusConfig;
use convpipe::runtime::clock;
use convpipe::schema::envelope::Envelope;
use serde_json::Value;

use super::{ends, on_bus, on_topic, replay};
use crate::support::process::Process;
use crate::support::pubsub::PubSub;
use crate::support::redis::RedisServer;

const LIMIT: Duration = Duration::from_secs(30);
const THEN: &str = "2026-07-23T19:00:00.000Z";

/// A message of the quarantine as `ingest` and `snapshot` leave it there.
fn set_aside(stage: &str, reason: &str, key: Option<&str>, data: &str) -> Envelope {
    set_aside_at(THEN, stage, reason, key, data)
}

fn set_aside_at(received_at: &str, stage: &str, reason: &str, key: Option<&str>, data: &str) -> Envelope {
    let mut attributes = vec![
        ("reason", reason),
        ("detail", "in the words of an older normalizer"),
        ("stage", stage),
        ("account", "200000001"),
        ("connection", "0198a0000000000a"),
        ("frame_no", "7"),
        ("received_at", received_at),
        ("normalizer", "onlyfans/0"),
    ];
    attributes.extend(key.map(|key| ("key", key)));
    Envelope::new(3, &attributes, data.as_bytes())
}

/// An item that today's code can read, and an event; `number` tells them apart.
fn readable(number: u64) -> [Envelope; 2] {
    readable_at(THEN, number)
}

fn readable_at(at: &str, number: u64) -> [Envelope; 2] {
    let event = format!(
        r#"{{"schema":"convpipe.event.v1","normalizer":"n","id":"onlyfans:200000001:msg:{number}:received","kind":"message.received","platform":"onlyfans",
        "account_id":"200000001","conversation_id":"100000002","fan_id":"100000002","direction":"in","received_at":"{at}",
        "connection":"c","frame_no":1,"item_no":0,"message":{{"id":"{number}","text":"hello"}}}}"#
    );
    [
        set_aside_at(at, "normalize", "wrong_type", Some("typing"), &format!(r#"{{"id":{number}}}"#)),
        set_aside_at(at, "decode", "not_an_event", None, &event),
    ]
}

fn broken() -> [Envelope; 2] {
    let mut attributes = vec![("reason", "too_large"), ("stage", "normalize"), ("account", "200000001")];
    attributes.push(("length", "5000000"));
    [set_aside("normalize", "malformed_json", None, "{cut \u{1b}]0;pwned\u{7}"), Envelope::new(3, &attributes, b"{\"api2_chat_message\":")]
}

fn put(dir: &Path, messages: Vec<Envelope>) {
    on_bus(dir, async |bus, names| bus.publisher(&names.quarantine_topic).unwrap().publish(messages).await.unwrap());
}

fn from_quarantine(dir: &Path, args: &[&str]) -> Output {
    replay(dir, &[&["--from-quarantine"][..], args].concat(), b"")
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join(".convpipe/bus")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.ends_with(".db")).collect();
    names.sort();
    names
}

#[test]
fn it_is_shown_and_nothing_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    ends(&from_quarantine(dir.path(), &[]), 1, &["there is no bus here yet"]);
    ends(&from_quarantine(dir.path(), &["--to", "bus"]), 1, &["there is no bus here yet"]);
    assert!(!dir.path().join(".convpipe").exists());
    put(dir.path(), [readable(100_000_001), readable(100_000_003), broken()].concat());
    let before = files(dir.path());

    for args in [&[][..], &["--to", "bus", "--dry-run"], &["-v"]] {
        let output = from_quarantine(dir.path(), args);
        ends(
            &output,
            65,
            &["4 of 6 records can be fed back: add --to bus", "error: 2 records still cannot be read, and stay in the quarantine"],
        );
        let table = String::from_utf8(output.stdout).unwrap();
        for row in [
            "normalize  malformed_json  frame   200000001        1         0",
            "normalize  wrong_type      typing  200000001        2         2",
            "decode     not_an_event    event   200000001        2         2",
        ] {
            assert!(table.contains(row), "no {row:?} in\n{table}");
        }
        assert!(table.contains("100000002"), "the snapshots that it would come to:\n{table}");
        let has_samples =
            table.contains("was: in the words of an older normalizer") && table.contains("now: cut_off, only the first 21 bytes");
        assert_eq!(has_samples, args == ["-v"], "{table}");
        assert!(!table.contains(['\u{1b}', '\u{7}']), "{table:?}");
    }
    let output = from_quarantine(dir.path(), &["-o", "json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told["quarantine"]["records"].as_u64(), &told["counts"]["kinds"]["typing.started"]), (Some(6), &2.into()));
    let cut = told["quarantine"]["groups"].as_array().unwrap().iter().find(|group| group["reason"] == "too_large").unwrap();
    assert_eq!(
        (&cut["still"]["cut_off"], &cut["bytes"], &cut["samples"][0]["still"]["reason"]),
        (&1.into(), &5_000_000.into(), &"cut_off".into())
    );
    let lines = from_quarantine(dir.path(), &["-o", "jsonl"]).stdout;
    assert_eq!(lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count(), 4, "a line a group");
    assert_eq!(files(dir.path()), before, "looking leaves no trace");
    assert!(on_topic(dir.path()).is_empty());
}

#[test]
fn it_is_fed_back_once_and_what_cannot_be_read_stays() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), [readable(100_000_001), broken()].concat());
    let feed = |args: &[&str]| from_quarantine(dir.path(), &[&["--to", "bus"][..], args].concat());
    let typing = ["--filter", "event.kind == 'typing.started'"];
    // A part, under a name.
    let output = feed(&[&typing[..], &["--run-id", "fix-7"]].concat());
    ends(&output, 65, &["1 of 4 records fed back, 1 events published", "error: 2 records still cannot be read"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("wrong_type"), "it is shown first");
    let event: Value = serde_json::from_str(&on_topic(dir.path())[0]).unwrap();
    assert_eq!(
        (&event["kind"], &event["frame_no"], &event["received_at"]),
        (&"typing.started".into(), &7.into(), &"2026-07-23T19:00:00.000Z".into())
    );
    assert_ne!(event["connection"], "0198a0000000000a");
    // The rest of what can be read, and then nothing.
    ends(&feed(&[]), 65, &["1 of 3 records fed back, 1 events published"]);
    ends(&feed(&[]), 65, &["0 of 2 records fed back, 0 events published", "2 records still cannot be read"]);
    assert_eq!(on_topic(dir.path()).len(), 2, "each once");
    ends(&feed(&["--since", "2026-07-24"]), 65, &["0 of 1 records"]);
    ends(&from_quarantine(dir.path(), &["--until", "2026-07-23"]), 1, &["nothing in the quarantine is of this span of time"]);

    // Without what is broken: all of it, and then it is empty.
    let sound = tempfile::tempdir().unwrap();
    put(sound.path(), readable(100_000_001).to_vec());
    ends(&from_quarantine(sound.path(), &["--to", "bus"]), 0, &["2 of 2 records fed back, 2 events published"]);
    for args in [&["--to", "bus"][..], &[]] {
        let output = from_quarantine(sound.path(), args);
        ends(&output, 1, &["the quarantine is empty"]);
        assert!(output.stdout.is_empty());
    }
    put(sound.path(), readable(100_000_003)[..1].to_vec());
    ends(&from_quarantine(sound.path(), &["--to", "bus", "--filter", "event.is_tip"]), 1, &["0 of 1 records fed back"]);
    ends(&from_quarantine(sound.path(), &["--to", "bus"]), 0, &["1 of 1 records fed back"]);
}

#[test]
fn what_comes_back_is_folded() {
    let dir = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    std::fs::write(dir.path().join("convpipe.yaml"), format!("redis:\n  url: {}\n", redis.url())).unwrap();
    // What is older than a conversation lives would change nothing.
    put(dir.path(), readable_at(&clock::now().to_string(), 100_000_001).to_vec());
    ends(&from_quarantine(dir.path(), &["--to", "bus", "-o", "jsonl"]), 0, &["2 of 2 records fed back"]);
    let snapshot = Process::start(dir.path(), &["snapshot"]);
    let end = Instant::now() + LIMIT;
    let stored = |fan: &str| redis.run::<Option<String>>(&["HGET", &format!("convpipe:{{200000001}}:conversation:{fan}"), "snapshot"]);
    while stored("100000001").is_none() || stored("100000002").is_none() {
        assert!(Instant::now() < end, "there is no snapshot");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(stored("100000002").unwrap().contains("hello"));
    assert_eq!(snapshot.terminate(LIMIT).status.code(), Some(0));
}

#[test]
fn a_shared_bus_asks_for_its_name_and_other_ways_of_playing_do_not_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("convpipe.yaml"), "bus: { backend: google, google: { project: prod-1 } }\n").unwrap();
    ends(&from_quarantine(dir.path(), &["--to", "bus"]), 2, &["the project prod-1", "--confirm prod-1"]);
    for args in [&["all.jsonl"][..], &["--serve", "127.0.0.1:0"], &["--loop"], &["--stats"], &["--verify"], &["--checkpoint", "at"]] {
        ends(&from_quarantine(dir.path(), args), 2, &["cannot be used with"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_pubsub_too() {
    let Some(pubsub) = PubSub::open().await else { return };
    let project = format!("quarantine-{:08x}", fastrand::u32(..));
    pubsub.make(&project, "convpipe-events", &["look"]);
    pubsub.make(&project, "convpipe-quarantine", &["convpipe-quarantine"]);
    pubsub.make(&project, "looked-at", &["looked-at"]);
    let config =
        GoogleBusConfig { project: Some(project.clone()), emulator: Some(pubsub.address().to_owned()), ..GoogleBusConfig::default() };
    let bus = Bus::Google(GoogleBus::open(&config).await.unwrap());
    // Side by side, for each listens for some seconds whether there is more.
    let run = async |topic: &str, args: &'static [&'static str]| {
        let messages = [&readable(100_000_001)[..], &broken()[..1]].concat();
        bus.publisher(topic).unwrap().publish(messages).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let google = format!("google: {{ project: {project}, emulator: '{}' }}", pubsub.address());
        let yaml = format!("bus: {{ backend: google, quarantine_topic: {topic}, {google} }}\n");
        std::fs::write(dir.path().join("convpipe.yaml"), yaml).unwrap();
        tokio::task::spawn_blocking(move || from_quarantine(dir.path(), args)).await.unwrap()
    };
    let (looked, fed) = tokio::join!(run("looked-at", &[]), run("convpipe-quarantine", &["--to", "bus"]));
    ends(&looked, 65, &["2 of 3 records can be fed back"]);
    ends(&fed, 65, &["2 of 3 records fed back, 2 events published"]);
    let mut events = bus.subscriber("convpipe-events", "look").await.unwrap();
    let mut found = 0;
    while found < 2 {
        found += tokio::time::timeout(LIMIT, events.next()).await.unwrap().unwrap().len();
    }
    events.close(Duration::from_secs(2)).await;
}
