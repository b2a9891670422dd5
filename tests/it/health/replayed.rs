//! A recording goes the whole way, and every daemon's numbers tell so.

use serde_json::Value;

use super::scrape::{Scrape, get, wait_for};
use crate::auth_refresh::place as refresh;
use crate::pipeline::place::{LIMIT, Place, wait_until};
use crate::support::process::Process;
use crate::support::redis::RedisServer;

const QUIET_EVENING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/quiet-evening.jsonl.gz");

/// Where the daemon answers.
pub(crate) fn address(daemon: &Process) -> String {
    let line: Value = serde_json::from_str(&daemon.wait_stderr("health listener", LIMIT)).unwrap();
    line["address"].as_str().unwrap().to_owned()
}

/// The two daemons that a recording went through, and where they answer.
pub(crate) struct Played {
    pub(crate) ingest: Process,
    pub(crate) snapshot: Process,
    ingest_at: String,
    snapshot_at: String,
}

/// Sends the quiet evening through, and waits until both stores have all of it.
pub(crate) async fn play(place: &Place) -> Played {
    let auth = place.config.auth.dir.to_str().unwrap();
    let platform = place.start(&["replay", QUIET_EVENING, "--serve", "127.0.0.1:0", "--artifacts", auth, "--speed", "max", "--shift-time"]);
    platform.wait_stderr("serving 2 accounts on ws://127.0.0.1:", LIMIT);
    // An empty Redis has told again what was published before it was seen; here each message is to come once.
    let snapshot = place.start(&["snapshot", "--health", "127.0.0.1:0"]);
    let snapshot_at = address(&snapshot);
    wait_for(&snapshot_at, "/readyz", 200);
    let ingest = place.start(&["ingest", "--health", "127.0.0.1:0"]);
    let ingest_at = address(&ingest);
    assert!(platform.wait(LIMIT).status.success());
    wait_until("all frames", async || Scrape::of(&ingest_at).sum("convpipe_ingest_frames_total") >= 602).await;
    wait_until("all that was published in the stores", async || {
        let published = Scrape::of(&ingest_at).value("convpipe_bus_published_messages_total{topic=\"events\"}");
        let scrape = Scrape::of(&snapshot_at);
        let acked = |consumer: &str| scrape.value(&format!("convpipe_snapshot_acked_messages_total{{consumer=\"{consumer}\"}}"));
        // The backlog is looked at now and then.
        let is_looked_at = scrape.samples.contains_key("convpipe_snapshot_backlog_messages{consumer=\"documents\"}");
        is_looked_at
            && acked("views") == published
            && acked("documents") == published
            && Scrape::of(&ingest_at).value("convpipe_ingest_buffer_bytes") == 0
    })
    .await;
    Played { ingest, snapshot, ingest_at, snapshot_at }
}

/// Scrapes of ingest and of snapshot, once all of the recording is in the stores.
pub(crate) async fn pipeline() -> (Scrape, Scrape) {
    let redis = RedisServer::start_with(&["--maxmemory", "100mb"]);
    let place = Place::new(&redis.url(), "convpipe");
    let played = play(&place).await;
    for at in [&played.ingest_at, &played.snapshot_at] {
        assert_eq!(get(at, "/livez"), (200, "ok\n".to_owned()));
        wait_for(at, "/readyz", 200);
    }
    (Scrape::of(&played.ingest_at), Scrape::of(&played.snapshot_at))
}

/// A scrape of an auth-refresh that renewed one artifact.
pub(crate) fn auth_refresh() -> Scrape {
    let place = refresh::Place::new();
    place.answers(&refresh::answer(refresh::ACCOUNT, "token", 86_400));
    let daemon = place.start(&["--health", "127.0.0.1:0"]);
    let at = address(&daemon);
    daemon.wait_stderr("generation 1", LIMIT);
    wait_for(&at, "/readyz", 200);
    refresh::wait_until("the look after it", || Scrape::of(&at).sum("convpipe_auth_refresh_accounts") == 1);
    Scrape::of(&at)
}

/// A scrape of a dashboard that has read an empty Redis.
pub(super) fn dashboard() -> Scrape {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "convpipe");
    let daemon = place.start(&["dashboard", "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"]);
    let at = address(&daemon);
    wait_for(&at, "/readyz", 200);
    Scrape::of(&at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_of_a_replay_add_up() {
    let (ingest, snapshot) = pipeline().await;
    let frames = |outcome: &str| ingest.value(&format!("convpipe_ingest_frames_total{{outcome=\"{outcome}\"}}"));
    // The recording has 600 frames, 3 of which cannot be read; the platform itself says `connected` to each account.
    assert_eq!((frames("event"), frames("rejected"), frames("nothing")), (597, 3, 0));
    assert!(frames("control") >= 2);
    let events = ingest.sum("convpipe_ingest_events_total");
    let own = ingest.value("convpipe_ingest_events_total{source=\"ingest\"}");
    assert_eq!(events - own, 606, "as the dry run of this recording says");
    let shed = ingest.sum("convpipe_ingest_shed_events_total");
    let published = ingest.value("convpipe_bus_published_messages_total{topic=\"events\"}");
    assert_eq!(events, published + shed);
    let aside = ingest.value("convpipe_bus_published_messages_total{topic=\"quarantine\"}");
    assert_eq!((aside, ingest.value("convpipe_ingest_rejected_items_total")), (3, 3));
    assert_eq!(ingest.value("convpipe_ingest_published_messages_total"), published + aside);
    assert!(ingest.value("convpipe_ingest_publish_seconds_count") > 0);
    assert_eq!(ingest.value("convpipe_ingest_buffer_max_bytes"), 8 << 20);
    // An account that lost its connection at the end waits to connect again.
    assert_eq!(ingest.sum("convpipe_ingest_accounts"), 2);
    assert!(ingest.sum("convpipe_ingest_gaps_total") >= 2, "each account began behind one");

    for consumer in ["views", "documents"] {
        let of = |name: &str| snapshot.value(&format!("convpipe_{name}{{consumer=\"{consumer}\"}}"));
        let delivered = of("bus_delivered_messages_total");
        assert_eq!(delivered - of("bus_redelivered_messages_total"), published, "{consumer}");
        assert_eq!(
            (delivered, of("snapshot_delivered_messages_total"), of("snapshot_acked_messages_total")),
            (published, published, published)
        );
        let all = snapshot.value(&format!("convpipe_snapshot_lag_seconds_bucket{{le=\"+Inf\",consumer=\"{consumer}\"}}"));
        assert_eq!((of("snapshot_lag_seconds_count"), all), (published, published));
    }
    assert_eq!(snapshot.value("convpipe_redis_up"), 1);
    assert_eq!(snapshot.value("convpipe_redis_max_bytes"), 100 << 20);
    assert!(snapshot.value("convpipe_redis_used_bytes") > 0);
}

#[test]
fn a_renewed_artifact_is_counted() {
    let scrape = auth_refresh();
    assert_eq!(scrape.value("convpipe_auth_refresh_accounts{status=\"ready\"}"), 1);
    assert_eq!(scrape.value("convpipe_auth_refresh_attempts_total{outcome=\"renewed\"}"), 1);
    assert_eq!(scrape.sum("convpipe_auth_refresh_attempts_total"), 1);
    assert!(scrape.samples["convpipe_auth_refresh_soonest_end_timestamp_seconds"] > 1.7e9);
}
