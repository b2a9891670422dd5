//! SIGHUP: what can change changes, what cannot is told, and a wrong config changes nothing.

use convpipe::auth::ArtifactStore;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::policy::HighValuePolicy;
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::auth_refresh::place as refresh;
use crate::health::replayed::address;
use crate::health::scrape::{Scrape, wait_for};
use crate::pipeline::place::{LIMIT, Place, busy_evening, wait_until};
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::ws::artifact;

/// Waits for a record of the log, by a field and a text in its message.
fn record(process: &Process, text: &str) -> Value {
    let line = process.wait_stderr(text, LIMIT);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn reloads(at: &str, result: &str) -> u64 {
    Scrape::of(at).value(&format!("convpipe_config_reloads_total{{result=\"{result}\"}}"))
}

/// Two messages that the same fan wrote.
fn messages_of_one_fan() -> [Envelope; 2] {
    let received: Vec<Envelope> =
        busy_evening(2_000).into_iter().filter(|envelope| envelope.attribute("ce-type") == Some("convpipe.message.received.v1")).collect();
    let subject = |at: usize| received[at].attribute("ce-subject");
    let pair =
        (0..received.len()).find_map(|at| (at + 1..received.len()).find(|&later| subject(later) == subject(at)).map(|later| [at, later]));
    pair.unwrap().map(|at| received[at].clone())
}

async fn is_high_value(place: &Place) -> bool {
    let actual = place.read().await;
    let (_, written) = actual.conversations.iter().next().unwrap();
    written.snapshot.as_ref().unwrap()["high_value"]["is"].as_bool().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_takes_up_what_it_can_and_refuses_what_is_wrong() {
    let redis = RedisServer::start();
    let mut place = Place::new(&redis.url(), "reload");
    place.config.high_value = HighValuePolicy { spend_min: None, payment_min: None, ..HighValuePolicy::default() };
    let process = place.start(&["snapshot", "--health", "127.0.0.1:0"]);
    let at = address(&process);
    wait_for(&at, "/readyz", 200);
    let [first, second] = messages_of_one_fan();
    let fan = first.event().unwrap().fan_id.as_ref().unwrap().raw().to_owned();
    place.publish(vec![first]).await;
    place.wait_backlog(&place.bus(), 0).await;
    assert!(!is_high_value(&place).await);

    // A key that does not exist, and a rule that does not compile.
    let file = place.dir().join("convpipe.yaml");
    std::fs::write(&file, "snapshot:\n  batch_maxx: 5\n").unwrap();
    process.signal(Signal::HUP);
    let refused = record(&process, "batch_maxx");
    let why = refused["why"].as_str().unwrap();
    assert!(refused["level"] == "ERROR" && why.contains("convpipe.yaml:2:3: unknown key snapshot.batch_maxx; did you mean"), "{refused}");
    place.config.priority.rules[0].when = Some("event.money_minor >".into());
    place.write_config();
    process.signal(Signal::HUP);
    let refused = record(&process, "rule tip");
    assert!(refused["message"].as_str().unwrap().contains("the one before it stays in use"), "{refused}");
    wait_until("both refusals", async || reloads(&at, "failed") == 2).await;
    assert_eq!(reloads(&at, "ok"), 0);
    wait_for(&at, "/readyz", 200);

    // One that is right: a rule by which the fan is high-value, a log that says more, and a number of lanes that needs a restart.
    place.config.priority.rules[0].when = None;
    place.config.high_value.fans = vec![fan];
    place.config.log.filter = "info,convpipe=debug".into();
    place.config.snapshot.lanes = 2;
    place.config.redis.url = redis.unix_url();
    place.write_config();
    process.signal(Signal::HUP);
    let told = record(&process, "the config was read again\"");
    assert_eq!((&told["in_effect"], &told["need_restart"]), (&2.into(), &2.into()), "{told}");
    let log = record(&process, "\"log.filter\"");
    assert_eq!((&log["old"], &log["new"]), (&"info".into(), &"\"info,convpipe=debug\"".into()), "{log}");
    let lanes = record(&process, "\"snapshot.lanes\"");
    assert_eq!((&lanes["level"], &lanes["old"], &lanes["new"]), (&"WARN".into(), &"4".into(), &"2".into()), "{lanes}");
    let url = record(&process, "\"redis.url\"");
    assert_eq!((&url["old"], &url["new"]), (&"***".into(), &"***".into()), "{url}");
    wait_until("the third reload", async || reloads(&at, "ok") == 1).await;
    assert_eq!(Scrape::of(&at).value("convpipe_config_restart_pending_keys"), 2);
    process.wait_stderr("hold from the next batch on", LIMIT);

    place.publish(vec![second]).await;
    place.wait_backlog(&place.bus(), 0).await;
    assert!(is_high_value(&place).await);

    // Back to what runs: nothing needs a restart any more.
    place.config.snapshot.lanes = 4;
    place.config.redis.url = redis.url();
    place.write_config();
    process.signal(Signal::HUP);
    wait_until("the fourth reload", async || reloads(&at, "ok") == 2).await;
    assert_eq!(Scrape::of(&at).value("convpipe_config_restart_pending_keys"), 0);
    assert!(process.terminate(LIMIT).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_or_empty_is_nobodys_wish_for_the_defaults() {
    let redis = RedisServer::start();
    let mut place = Place::new(&redis.url(), "gone");
    place.config.snapshot.batch_max = 7;
    let file = place.write_config();
    // Found in the folder, as a service's is in its place: one that is named has to be there anyway.
    let process = Process::start(place.dir(), &["snapshot", "--health", "127.0.0.1:0"]);
    let at = address(&process);
    wait_for(&at, "/readyz", 200);
    std::fs::write(&file, "").unwrap();
    process.signal(Signal::HUP);
    wait_until("the refusal of an empty file", async || reloads(&at, "failed") == 1).await;
    assert!(record(&process, "gone or empty")["why"].as_str().unwrap().contains("convpipe.yaml"));
    std::fs::remove_file(&file).unwrap();
    process.signal(Signal::HUP);
    wait_until("the refusal without a file", async || reloads(&at, "failed") == 2).await;
    place.write_config();
    process.signal(Signal::HUP);
    wait_until("a reload of the file that is back", async || reloads(&at, "ok") == 1).await;
    assert_eq!(Scrape::of(&at).value("convpipe_config_restart_pending_keys"), 0);
    assert!(process.terminate(LIMIT).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_takes_new_session_material_at_once() {
    let redis = RedisServer::start();
    let mut place = Place::new(&redis.url(), "material");
    place.config.auth.watch_ms = 3_600_000;
    place.write_artifacts([]);
    let process = place.start(&["ingest", "--drain-timeout", "7"]);
    process.wait_stderr("there is no artifact yet", LIMIT);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (_player, source) = convpipe::ws::serve::stage(["200000001"], &[]);
    let stop = convpipe::runtime::shutdown::Shutdown::new();
    let serving = tokio::spawn(convpipe::ws::serve::serve(listener, source, stop.clone()));
    ArtifactStore::new(&place.config.auth.dir).write(&artifact("200000001", 1, &url)).unwrap();
    // A flag wins over the file, at a reload as at the start.
    place.config.ingest.drain_timeout_s = 3;
    place.config.ingest.raw = false;
    place.write_config();
    process.signal(Signal::HUP);
    process.wait_stderr("\"ingest.raw\"", LIMIT);
    process.wait_stderr("\"live\"", LIMIT);
    let output = process.terminate(LIMIT);
    assert!(output.status.success());
    assert!(!output.stderr.iter().any(|line| line.contains("\"ingest.drain_timeout_s\"")), "{}", output.stderr.join("\n"));
    stop.request();
    serving.await.unwrap().unwrap();
}

#[test]
fn auth_refresh_takes_accounts_and_providers_at_once() {
    let mut place = refresh::Place::new();
    place.answers(&refresh::answer(refresh::ACCOUNT, "token", 86_400));
    place.config["auth"]["watch_ms"] = 3_600_000.into();
    let process = place.start(&[]);
    process.wait_stderr("generation 1", LIMIT);
    place.config["accounts"]["200000002"] = serde_json::json!({});
    place.config["auth"]["refresh"]["min_ttl_percent"] = 50.into();
    place.write_config();
    process.signal(Signal::HUP);
    process.wait_stderr("\"auth.refresh.min_ttl_percent\"", LIMIT);
    // The answer is for another account; that it was asked for is what counts.
    process.wait_stderr("\"account\":\"200000002\"", LIMIT);
    assert!(process.terminate(LIMIT).status.success());
}
