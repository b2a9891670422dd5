//! Somebody else's programs on the topic and the documents: `scripts/check-google` reads them with Google's own Python clients.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::pipeline::place::{LIMIT, Place};
use crate::support::emulator::left_out;
use crate::support::process::Process;
use crate::support::redis::RedisServer;

const QUIET_EVENING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/quiet-evening.jsonl.gz");
/// The first time, packages come from PyPI.
const INSTALLED_WITHIN: Duration = Duration::from_secs(110);

/// The script; it puts its packages below `target/`, once for all runs.
fn check_google(args: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/check-google"));
    command.args(args).arg("--venv").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-google"));
    command
}

/// Whether Python is there, and the packages are or can be installed.
fn is_prepared() -> bool {
    let python = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !python {
        return left_out("python3 is missing, in which scripts/check-google is written: apt-get install python3 python3-venv");
    }
    let output = Process::spawn(&mut check_google(&["--prepare"])).wait(INSTALLED_WITHIN);
    output.status.success() || left_out(&output.stderr.join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn googles_own_clients_read_valid_events_a_filtered_subscription_history_and_summaries() {
    let redis = RedisServer::start();
    let Some(place) = Place::on_google(&redis.url(), "convpipe", true).await else { return };
    if !is_prepared() {
        return;
    }
    let google = &place.config.bus.google;
    let emulators = [
        ("PUBSUB_EMULATOR_HOST", google.emulator.as_deref().unwrap()),
        ("FIRESTORE_EMULATOR_HOST", place.config.documents.firestore.emulator.as_deref().unwrap()),
    ];
    // All that the recording becomes; `replay` says how many that is.
    let dry = place.start(&["replay", QUIET_EVENING, "-o", "json"]).wait(LIMIT);
    let dry: serde_json::Value = serde_json::from_str(&dry.stdout.join("\n")).unwrap();
    let events: u64 = dry["counts"]["kinds"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    let project = google.project.as_deref().unwrap();
    let mut command = check_google(&["--project", project, "--messages", &events.to_string()]);
    let script = Process::spawn(command.envs(emulators));
    script.wait_stdout("ready", LIMIT);

    let replay = place.start(&["replay", QUIET_EVENING, "--to", "bus", "--shift-time"]).wait(LIMIT);
    assert!(replay.status.success(), "{:?}", replay.stderr);
    let snapshot = place.start(&["snapshot"]);
    let output = script.wait(LIMIT);
    assert_eq!(output.status.code(), Some(0), "{}\n{}", output.stdout.join("\n"), output.stderr.join("\n"));
    assert!(output.stdout.iter().any(|line| line.starts_with(&format!("{events} messages, of which "))), "{:?}", output.stdout);
    assert!(snapshot.terminate(LIMIT).status.success());
}

#[test]
fn a_service_that_is_not_there_is_told_with_69() {
    if !is_prepared() {
        return;
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut command = check_google(&["--project", "demo", "--no-documents", "--timeout", "1"]);
    let output = Process::spawn(command.env("PUBSUB_EMULATOR_HOST", nobody)).wait(LIMIT);
    assert_eq!(output.status.code(), Some(69), "{:?}", output.stderr);
}
