//! A dry run says what the pipeline writes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::place::{LIMIT, Place, present_recording};
use crate::oracle::compare::compare;
use crate::oracle::model::{SNAPSHOT_WRITE_FIELDS, without};
use crate::support::redis::RedisServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_and_the_pipeline_come_to_the_same_snapshots() {
    let redis = RedisServer::start();
    let mut place = Place::new(&redis.url(), "convpipe");
    // One lane keeps the order of the recording over all conversations, as the dry run does.
    place.config.snapshot.lanes = 1;
    std::fs::write(place.dir().join("evening.jsonl"), present_recording(400)).unwrap();

    let output = place.start(&["replay", "evening.jsonl", "-o", "jsonl"]).wait(LIMIT);
    assert!(output.status.success(), "{:?}", output.stderr);
    let dry: BTreeMap<String, Value> = output.stdout.iter().map(|line| by_place(serde_json::from_str(line).unwrap())).collect();
    assert!(dry.len() > 50, "{}", dry.len());

    let output = place.start(&["replay", "evening.jsonl", "--to", "bus"]).wait(LIMIT);
    assert!(output.status.success(), "{:?}", output.stderr);
    let process = place.start(&["snapshot"]);
    place.wait_backlog(&place.bus(), 0).await;
    assert!(process.terminate(LIMIT).status.success());
    let written = place.read().await.conversations.into_values().map(|written| by_place(written.snapshot.unwrap()));
    let written: BTreeMap<String, Value> = written.collect();

    let mut found = Vec::new();
    compare("", &serde_json::to_value(dry).unwrap(), &serde_json::to_value(written).unwrap(), &mut found);
    assert!(found.is_empty(), "{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

fn by_place(snapshot: Value) -> (String, Value) {
    let at = format!("{}/{}", snapshot["account_id"], snapshot["conversation_id"]);
    (at, without(snapshot, SNAPSHOT_WRITE_FIELDS))
}
