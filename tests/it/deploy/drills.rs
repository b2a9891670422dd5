//! Real faults in a real pipeline move the numbers that alerts look at. Whether an alert fires at such numbers is `deploy/prometheus/alerts_test.yml`;
//! `scripts/drill` does both at once.

use std::time::Duration;

use convpipe::auth::ArtifactStore;
use convpipe::schema::artifact::{Artifact, ArtifactStatus};
use convpipe::schema::envelope::Envelope;
use serde_json::json;

use super::alerts::alerts;
use super::questions::selectors;
use crate::auth_refresh::place as refresh;
use crate::health::replayed::address;
use crate::health::scrape::{Scrape, wait_for};
use crate::pipeline::place::{LIMIT, Place, busy_evening, wait_until};
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::ws::artifact;

/// Waits until a daemon shows numbers that this alert is about: `is_so` gets the sum of all series that its question selects of `metric`.
async fn moves(at: &str, alert: &str, metric: &str, is_so: impl Fn(f64) -> bool) {
    let rules = alerts();
    let question = rules[alert]["expr"].as_str().unwrap();
    let asked: Vec<_> = selectors(question).into_iter().filter(|selector| selector.metric == metric).collect();
    assert!(!asked.is_empty(), "{alert} does not ask for {metric}");
    let labels = &asked[0].labels;
    let is_selected = |series: &str| {
        series.split('{').next() == Some(metric)
            && labels.iter().all(|(label, operator, values)| {
                let has = values.split('|').any(|value| series.contains(&format!("{label}=\"{value}\"")));
                has != operator.starts_with('!')
            })
    };
    wait_until(&format!("{metric} of {alert}"), async || {
        let scrape = Scrape::of(at);
        is_so(scrape.samples.iter().filter(|(series, _)| is_selected(series)).map(|(_, value)| value).sum())
    })
    .await;
}

fn start(place: &Place, args: &[&str]) -> (Process, String) {
    let process = place.start(&[args, &["--health", "127.0.0.1:0"]].concat());
    let at = address(&process);
    (process, at)
}

/// An artifact that leads nowhere, as it is changed by `change`.
fn ingest_with(url: &str, change: impl FnOnce(&mut Artifact)) -> (Place, Process, String) {
    let mut place = Place::new("redis://127.0.0.1:1", "convpipe");
    place.config.auth.watch_ms = 10;
    place.config.ingest.backoff_min_ms = 1;
    place.config.ingest.backoff_max_ms = 20;
    let mut one = artifact("200000001", 1, url);
    change(&mut one);
    place.write_artifacts([one]);
    let (process, at) = start(&place, &["ingest"]);
    (place, process, at)
}

/// A port on which nobody listens: bound a moment ago, and given back.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("ws://{}/", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stops() {
    let mut redis = RedisServer::start();
    let place = Place::new(&redis.url(), "convpipe");
    let (_snapshot, at) = start(&place, &["snapshot"]);
    moves(&at, "ConvpipeRedisDown", "convpipe_redis_up", |up| up == 1.0).await;
    moves(&at, "ConvpipeRedisUnbounded", "convpipe_redis_used_bytes", |used| used > 0.0).await;
    moves(&at, "ConvpipeRedisUnbounded", "convpipe_redis_max_bytes", |max| max == 0.0).await;
    redis.stop();
    place.publish(busy_evening(200)).await;
    moves(&at, "ConvpipeViewsFailing", "convpipe_snapshot_write_retries_total", |retries| retries > 0.0).await;
    moves(&at, "ConvpipeSnapshotStalled", "convpipe_bus_in_flight_messages", |held| held > 0.0).await;
    moves(&at, "ConvpipeRedisDown", "convpipe_redis_up", |up| up == 0.0).await;
    moves(&at, "ConvpipeBacklogOld", "convpipe_snapshot_backlog_messages", |backlog| backlog > 100.0).await;
    redis.restart();
    moves(&at, "ConvpipeRedisDown", "convpipe_redis_up", |up| up == 1.0).await;
    moves(&at, "ConvpipeBacklogOld", "convpipe_snapshot_backlog_messages", |backlog| backlog == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_nearly_full() {
    let redis = RedisServer::start_with(&["--maxmemory", "2mb"]);
    let place = Place::new(&redis.url(), "convpipe");
    let (_snapshot, at) = start(&place, &["snapshot"]);
    wait_for(&at, "/readyz", 200);
    place.publish(busy_evening(4_000)).await;
    moves(&at, "ConvpipeRedisMemoryHigh", "convpipe_redis_max_bytes", |max| max == f64::from(2 << 20)).await;
    moves(&at, "ConvpipeRedisMemoryHigh", "convpipe_redis_used_bytes", |used| used > 0.8 * f64::from(2 << 20)).await;
    moves(&at, "ConvpipeViewsFailing", "convpipe_snapshot_write_retries_total", |retries| retries > 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_poison() {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "convpipe");
    let (_snapshot, at) = start(&place, &["snapshot"]);
    place.publish(vec![Envelope::new(7, &[("ce-accountid", "200000001")], b"\xff is no event")]).await;
    // Once for each subscription; that of the views may be rewound, because this Redis is new.
    moves(&at, "ConvpipePoison", "convpipe_snapshot_poison_messages_total", |poison| poison >= 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_nobody_answers_for() {
    let (_place, _ingest, at) = ingest_with(&nobody(), |_| ());
    moves(&at, "ConvpipeSocketsDown", "convpipe_ingest_accounts", |connecting| connecting == 1.0).await;
    moves(&at, "ConvpipeNoAccountLive", "convpipe_ingest_accounts", |live| live == 0.0).await;
    assert!(Scrape::of(&at).value("convpipe_ingest_failures_total{reason=\"connect\"}") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_without_a_successor() {
    let now = convpipe::runtime::clock::now();
    let (_place, _ingest, at) = ingest_with(&nobody(), |artifact| {
        artifact.prepared_at = Some(now);
        artifact.expires_at = Some(now.plus(2_000));
    });
    moves(&at, "ConvpipeArtifactLate", "convpipe_ingest_artifacts_total", |late| late == 1.0).await;
    moves(&at, "ConvpipeArtifactEnded", "convpipe_ingest_artifacts_total", |ended| ended == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt as _;

    let (place, _ingest, at) = ingest_with(&nobody(), |_| ());
    // One that can be used at the start; with none it would not run.
    wait_until("the account", async || Scrape::of(&at).sum("convpipe_ingest_accounts") == 1).await;
    std::fs::set_permissions(place.config.auth.dir.join("200000001.json"), std::fs::Permissions::from_mode(0o644)).unwrap();
    moves(&at, "ConvpipeArtifactUnusable", "convpipe_ingest_artifacts_total", |unusable| unusable >= 1.0).await;
}

/// Another process holds the file of the topic, as a copy or a shell would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_takes_nothing() {
    let (place, _ingest, at) = ingest_with(&nobody(), |_| ());
    let log = place.config.bus.embedded.dir.join(format!("{}.log.db", place.config.bus.topic));
    wait_until("the file of the topic", async || log.exists()).await;
    let holder = rusqlite::Connection::open(&log).unwrap();
    holder.busy_timeout(Duration::from_secs(20)).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // An account that needs a person is something to tell of.
    let needy = Artifact { status: ArtifactStatus::NeedsOtp, ..artifact("200000002", 1, &nobody()) };
    ArtifactStore::new(&place.config.auth.dir).write(&needy).unwrap();
    moves(&at, "ConvpipePublishFailing", "convpipe_ingest_publish_failures_total", |failures| failures > 0.0).await;
    moves(&at, "ConvpipeBufferFilling", "convpipe_ingest_buffer_bytes", |bytes| bytes > 0.0).await;
    holder.execute_batch("ROLLBACK").unwrap();
    moves(&at, "ConvpipeBufferFilling", "convpipe_ingest_buffer_bytes", |bytes| bytes == 0.0).await;
}

#[test]
fn a_provider_that_fails_and_one_that_needs_a_person() {
    let value = |at: &str, series: &str| Scrape::of(at).samples.get(series).copied().unwrap_or_default();
    for (script, series) in [
        ("exit 1".to_owned(), "convpipe_auth_refresh_failing_accounts"),
        (
            format!(
                "echo '{}'",
                json!({"schema": "convpipe.artifact.v1", "account_id": refresh::ACCOUNT, "platform": "onlyfans", "status": "needs_otp"})
            ),
            "convpipe_auth_refresh_accounts{status=\"needs_otp\"}",
        ),
    ] {
        let place = refresh::Place::new();
        place.script(&script);
        let daemon = place.start(&["--health", "127.0.0.1:0"]);
        let at = address(&daemon);
        refresh::wait_until(series, || value(&at, series) == 1.0);
        assert!(daemon.terminate(LIMIT).status.success());
    }
}
