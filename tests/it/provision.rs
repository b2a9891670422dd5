//! `convpipe provision`, as it is typed.

use std::path::Path;
use std::time::Duration;

use super::support::emulator::Emulator;
use super::support::process::{Output, Process};

fn provision(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let args: Vec<&str> = ["--config", "convpipe.yaml", "provision"].iter().chain(args).copied().collect();
    let Output { status, stdout, stderr } = Process::start_with(dir, &args, variables).wait(Duration::from_secs(30));
    (status.code(), stdout.join("\n"), stderr.join("\n"))
}

fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("convpipe.yaml"), config).unwrap();
    dir
}

#[test]
fn the_embedded_engines_need_nothing() {
    let dir = folder("{}\n");
    let (exit, stdout, stderr) = provision(dir.path(), &[], &[]);
    assert_eq!((exit, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.contains("embedded"), "{stderr}");
}

#[test]
fn a_dry_run_finds_what_the_run_makes_and_the_second_run_changes_nothing() {
    let (Some(pubsub), Some(firestore)) = (Emulator::pubsub(), Emulator::firestore()) else { return };
    let project = format!("provision-{:08x}", fastrand::u32(..));
    let dir = folder(&format!(
        "bus: {{backend: google, google: {{project: {project}}}}}\ndocuments: {{backend: firestore, firestore: {{project: {project}}}}}\n"
    ));
    let variables = [("PUBSUB_EMULATOR_HOST", pubsub.address.as_str()), ("FIRESTORE_EMULATOR_HOST", firestore.address.as_str())];
    let steps: [(&[&str], i32, usize, usize); 3] = [(&["--dry-run"], 1, 7, 0), (&[], 0, 7, 0), (&["--dry-run"], 0, 0, 7)];
    for (args, expected, created, same) in steps {
        let args: Vec<&str> = args.iter().chain(&["-o", "jsonl"]).copied().collect();
        let (exit, stdout, stderr) = provision(dir.path(), &args, &variables);
        assert_eq!(exit, Some(expected), "{args:?}: {stderr}");
        let rows: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let count = |service: &str, action: &str| rows.iter().filter(|row| row["service"] == service && row["action"] == action).count();
        assert_eq!((count("pubsub", "create"), count("pubsub", "same")), (created, same), "{args:?}: {stdout}");
        // The emulator manages neither indexes nor policies: told, and gone on.
        assert_eq!(count("firestore", "unsupported"), rows.len() - 7, "{args:?}: {stdout}");
    }
    let (_, table, _) = provision(dir.path(), &["--dry-run"], &variables);
    assert!(table.contains("subscription convpipe-views") && table.contains("unsupported"), "{table}");
}

#[test]
fn missing_credentials_end_with_77_and_what_to_do() {
    let dir = folder("bus: {backend: google, google: {project: some-project}}\n");
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json"), ("PUBSUB_EMULATOR_HOST", "")];
    let (exit, stdout, stderr) = provision(dir.path(), &["--dry-run"], &variables);
    assert_eq!((exit, stdout.as_str()), (Some(77), ""), "{stderr}");
    assert!(stderr.contains("GOOGLE_APPLICATION_CREDENTIALS") || stderr.contains("gcloud auth application-default login"), "{stderr}");
}
