//! What stands in the log: ids and never a text of anybody's, and every event's whole way where that is asked for.

use convpipe::documents::HistoryPage;
use convpipe::runtime::clock::now;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::ws::serve;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::pipeline::place::{LIMIT, Place, wait_until};
use crate::support::process::Output;
use crate::support::redis::RedisServer;
use crate::ws::artifact;

const ACCOUNT: &str = "200000001";
/// Stands wherever people write something, with what would forge a record.
const CANARY: &str = "canary-7d21f0\u{1b}[2J\r\n{\"level\":\"ERROR\"}\u{202e}";
const PLAIN_CANARY: &str = "canary-7d21f0";
/// The message by which it is known that all before it was read.
const LAST: u64 = 6_400_000_009_999;

/// Frames of every kind of badness, each with the canary in it.
fn frames() -> Vec<String> {
    let fan = json!({ "id": 100_000_001, "name": CANARY, "username": CANARY, "displayName": CANARY, "notice": CANARY });
    let message = |id: u64| json!({ "api2_chat_message": { "id": id, "text": CANARY, "createdAt": now().to_string(), "fromUser": fan } });
    let mut frames: Vec<String> = vec![
        message(6_400_000_000_001).to_string(),
        json!({ CANARY: { "text": CANARY } }).to_string(),
        json!({ "api2_chat_message": { "id": CANARY, "text": CANARY, "fromUser": { "id": CANARY } } }).to_string(),
        json!({ "new_message": { "text": CANARY, "type": CANARY, "subType": CANARY, "user": fan } }).to_string(),
        json!({ "toasts": [{ "type": CANARY, "text": CANARY }] }).to_string(),
        json!({ "error": CANARY }).to_string(),
        format!("{{\"api2_chat_message\":{PLAIN_CANARY}"),
        format!("{PLAIN_CANARY} is no JSON"),
        format!("{}{PLAIN_CANARY}{}", "[".repeat(500), "]".repeat(500)),
        json!({ "api2_chat_message": { "id": 6_400_000_000_002u64, "text": format!("{CANARY}{}", "x".repeat(2 << 20)), "fromUser": fan } })
            .to_string(),
    ];
    // An error from the platform may end the connection; the last message has to come over one that is there.
    let error = frames.remove(5);
    frames.push(message(LAST).to_string());
    frames.push(error);
    frames
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_of_anybody_stands_in_any_log_and_an_event_can_be_followed() {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "logs");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    place.write_artifacts([artifact(ACCOUNT, 1, &format!("ws://{}/", listener.local_addr().unwrap()))]);
    let (player, source) = serve::stage([ACCOUNT], &[]);
    let stop = Shutdown::new();
    let serving = tokio::spawn(serve::serve(listener, source, stop.clone()));
    let ingest = place.start(&["ingest", "--log", "trace"]);
    let snapshot = place.start(&["snapshot", "--log", "trace"]);
    for frame in frames() {
        tokio::time::timeout(LIMIT, player.play(ACCOUNT, frame)).await.unwrap().unwrap();
    }
    let last = format!("onlyfans:{ACCOUNT}:msg:{LAST}:received");
    let bus = place.bus();
    wait_until("the last message in both stores", async || {
        let actual = place.backlog(&bus).await == Some(0);
        actual && place.documents().await.history(ACCOUNT, "100000001", page(), now()).await.unwrap().messages.len() >= 2
    })
    .await;
    stop.request();
    serving.await.unwrap().unwrap();
    let (ingest, snapshot) = (ingest.terminate(LIMIT), snapshot.terminate(LIMIT));
    for (name, output) in [("ingest", &ingest), ("snapshot", &snapshot)] {
        assert!(output.status.success() && output.stderr.len() > 20, "{name}: {}", output.stderr.join("\n"));
        let found: Vec<&String> = output.stderr.iter().filter(|line| line.contains(PLAIN_CANARY)).collect();
        assert!(found.is_empty(), "{name}: {found:#?}");
        output.stderr.iter().for_each(|line| assert!(serde_json::from_str::<Value>(line).is_ok(), "{name}: {line}"));
    }

    // The way of the last message: its frame, the event in it, both deliveries, both writes.
    let trail = |output: &Output, message: &str| -> Vec<Value> {
        let records = output.stderr.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_trail = records.filter(|record| record["target"] == "trail" && record["message"] == message);
        of_trail.filter(|record| message == "frame" || record["event"] == *last).collect()
    };
    let events = trail(&ingest, "event");
    let [event] = &events[..] else { panic!("{events:?}") };
    let same = |frame: &&Value| frame["connection"] == event["connection"] && frame["frame_no"] == event["frame_no"];
    let frames = trail(&ingest, "frame");
    assert!(frames.iter().filter(same).count() == 1 && frames[0]["account"] == ACCOUNT, "{frames:?}");
    for stage in ["delivery", "written"] {
        let mut consumers: Vec<String> = trail(&snapshot, stage).iter().map(|record| record["consumer"].to_string()).collect();
        consumers.sort();
        // A Redis that was empty is told again what came before it was looked at.
        consumers.dedup();
        assert_eq!(consumers, ["\"documents\"", "\"views\""], "{stage}");
    }
}

fn page() -> HistoryPage {
    HistoryPage { before: None, limit: 10 }
}
