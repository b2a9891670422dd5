//! Each step as it is started by hand in a terminal of its own: a platform, ingest, snapshot. What comes out is what went in.

use std::collections::BTreeMap;

use convpipe::bus::Bus;
use rustix::process::Signal;
use serde_json::Value;

use super::place::{LIMIT, Place, wait_until};
use crate::support::process::Process;
use crate::support::redis::RedisServer;

const QUIET_EVENING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/quiet-evening.jsonl.gz");

#[track_caller]
fn ended(process: Process, code: i32) -> Vec<String> {
    let output = process.terminate(LIMIT);
    assert_eq!(output.status.code(), Some(code), "{}", output.stderr.join("\n"));
    output.stderr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_platform_plays_is_in_the_stores() {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "convpipe");
    let dry = place.start(&["replay", QUIET_EVENING, "-o", "json"]).wait(LIMIT);
    let dry: Value = serde_json::from_str(&dry.stdout.join("\n")).unwrap();

    let expected: BTreeMap<String, u64> = serde_json::from_value(dry["counts"]["kinds"].clone()).unwrap();
    let (bus, topic) = (place.bus(), &place.config.bus.topic);
    bus.subscriber(topic, "test").await.unwrap().close(LIMIT).await;

    let auth = place.config.auth.dir.to_str().unwrap();
    let platform = place.start(&["replay", QUIET_EVENING, "--serve", "127.0.0.1:0", "--artifacts", auth, "--speed", "max", "--shift-time"]);
    platform.wait_stderr("serving 2 accounts on ws://127.0.0.1:", LIMIT);
    let ingest = place.start(&["ingest"]);
    let output = platform.wait(LIMIT);
    assert!(output.status.success(), "{:?}", output.stderr);
    assert!(output.stderr.iter().any(|line| line == "600 frames sent, 0 lost with a connection"), "{:?}", output.stderr);
    // And two accounts that went live, each behind a gap. What a stop finds unread stays unread.
    let all = expected.values().sum::<u64>() + 4;
    wait_until("all events", async || bus.backlog(topic, "test").await.unwrap().messages.unwrap() >= all).await;
    let said = ended(ingest, 0);
    assert!(!said.iter().any(|line| line.contains("error:")), "{said:?}");

    let published = kinds(&bus, topic).await;
    let of_connections = |kind: &String| kind.starts_with("connection.");
    assert_eq!(published.iter().filter(|(kind, _)| !of_connections(kind)).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!((published["connection.opened"], published["connection.gap"]), (2, 2), "one of each for each account");
    let rejected: u64 = dry["counts"]["rejected"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(kinds(&bus, &place.config.bus.quarantine_topic).await.values().sum::<u64>(), rejected);

    let snapshot = place.start(&["snapshot"]);
    place.wait_backlog(&place.bus(), 0).await;
    ended(snapshot, 0);
    let stores = place.read().await;
    let names = |snapshots: &mut dyn Iterator<Item = &Value>| -> Vec<String> {
        snapshots.map(|snapshot| format!("{}/{}", snapshot["account_id"], snapshot["conversation_id"])).collect()
    };
    let written = names(&mut stores.conversations.values().filter_map(|read| read.snapshot.as_ref()));
    assert_eq!(written, names(&mut dry["snapshots"].as_array().unwrap().iter()));
}

/// How many messages of each kind a topic holds; those without a kind count as one.
async fn kinds(bus: &Bus, topic: &str) -> BTreeMap<String, u64> {
    let mut subscriber = bus.subscriber(topic, "test").await.unwrap();
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut left = bus.backlog(topic, "test").await.unwrap().messages.unwrap();
    while left > 0 {
        let deliveries = tokio::time::timeout(LIMIT, subscriber.next()).await.unwrap().unwrap();
        for delivery in &deliveries {
            let kind = delivery.envelope.attribute("ce-type").unwrap_or_default();
            let kind = kind.trim_start_matches("convpipe.").trim_end_matches(".v1");
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
        left -= deliveries.len() as u64;
        subscriber.acker().ack(&deliveries.iter().map(|delivery| delivery.ack).collect::<Vec<_>>());
    }
    kinds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_looped_recording_has_new_messages_every_round_until_it_is_interrupted() {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "convpipe");
    let line =
        r#"{"t_ms":0,"account":"200000001","frame":{"api2_chat_message":{"id":6400000000001,"text":"hi","fromUser":{"id":100000001}}}}"#;
    std::fs::write(place.dir().join("one.jsonl"), format!("{line}\n")).unwrap();
    let process = place.start(&["replay", "one.jsonl", "--to", "bus", "--shift-time", "--loop", "--rate", "500"]);
    let mut subscriber = place.bus().subscriber(&place.config.bus.topic, "test").await.unwrap();
    let mut ids = Vec::new();
    while ids.len() < 3 {
        for delivery in tokio::time::timeout(LIMIT, subscriber.next()).await.unwrap().unwrap() {
            ids.push(delivery.envelope.event().unwrap().message_id().unwrap().to_owned());
        }
    }
    assert_eq!(ids[..3], ["6400000000001", "6401000000001", "6402000000001"]);
    process.signal(Signal::INT);
    let output = process.wait(LIMIT);
    assert_eq!(output.status.code(), Some(130), "{:?}", output.stderr);
    assert!(output.stderr.iter().any(|line| line.contains("interrupted; what was played is published")), "{:?}", output.stderr);
}
