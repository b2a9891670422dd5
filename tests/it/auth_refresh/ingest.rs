//! With ingest: a refused artifact is asked for again, and the new one is picked up.

use std::fs;

use serde_json::json;

use super::place::{LIMIT, Place, artifact, wait_until};

/// The platform's side is a recording's server, which lets in whoever has the token of the account.
#[test]
fn an_account_that_was_refused_is_live_with_the_next_artifact() {
    let mut place = Place::new();
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/quiet-evening.jsonl.gz");
    let server = place.start_command("replay", &[recording, "--serve", "127.0.0.1:0", "--artifacts", "supplied", "--loop"]);
    let supplied = place.path("supplied/200000001.json");
    wait_until("the server's artifacts", || supplied.exists());

    // What is there does not get in; what the provider gives does.
    let given: serde_json::Value = serde_json::from_slice(&fs::read(&supplied).unwrap()).unwrap();
    let mut wrong = artifact(1, "no-such-token", 0, 86_400);
    wrong.ws_url = given["ws_url"].as_str().unwrap().into();
    wrong.headers.clear();
    place.store().write(&wrong).unwrap();
    place.script("cat supplied/$1.json");
    place.config["ingest"] = json!({ "backoff_min_ms": 1, "backoff_max_ms": 20 });
    place.config["bus"] = json!({ "embedded": { "dir": "bus" } });
    let refresher = place.start(&[]);
    let ingest = place.start_command("ingest", &[]);
    ingest.wait_stderr("the account waits for a new artifact", LIMIT);
    refresher.wait_stderr("has a new artifact, generation 2", LIMIT);
    ingest.wait_stderr("\"message\":\"live\"", LIMIT);
    assert_eq!((place.calls(), place.artifact().generation), (vec!["200000001 refused".to_owned()], 2));
    wait_until("the request is taken away", || !place.path("auth/200000001.request").exists());
    server.kill();
    for process in [ingest, refresher] {
        let output = process.terminate(LIMIT);
        assert_eq!(output.status.code(), Some(0), "{:?}", output.stderr);
    }
}
