//! `doctor` as people run it: on nothing, on a sound place, on one where things are wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use convpipe::views::acl;
use secrecy::SecretString;
use serde_json::Value;

use crate::health::replayed::address;
use crate::pipeline::place::Place;
use crate::support::emulator::Emulator;
use crate::support::process::Process;
use crate::support::redis::RedisServer;

const LIMIT: Duration = Duration::from_secs(60);
const QUIET_EVENING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/recordings/quiet-evening.jsonl.gz");

#[track_caller]
fn doctor(dir: &Path, config: &str, code: i32) -> Vec<Value> {
    // Whatever runs on this machine is not asked.
    let nobody = "health: { ingest: off, snapshot: off, auth_refresh: off, dashboard: off }\ndashboard: { listen: \"127.0.0.1:0\" }\n";
    fs::write(dir.join("convpipe.yaml"), format!("{config}{nobody}")).unwrap();
    let output = Process::start(dir, &["doctor", "-o", "json"]).wait(Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(code), "{}\n{}", output.stdout.join("\n"), output.stderr.join("\n"));
    serde_json::from_str(&output.stdout.join("\n")).unwrap()
}

#[track_caller]
fn status(findings: &[Value], area: &str, check: &str) -> (String, String) {
    let finding = findings.iter().find(|finding| finding["area"] == area && finding["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("no {area} {check} in {findings:#?}"));
    (finding["status"].as_str().unwrap().to_owned(), finding["found"].as_str().unwrap().to_owned())
}

#[test]
fn what_is_not_there_is_said_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let findings = doctor(dir.path(), "redis: { url: \"redis://127.0.0.1:1\", timeout_ms: 300 }\n", 1);
    assert_eq!(status(&findings, "redis", "reachable").0, "fail");
    for (area, check) in [("bus", "folder"), ("documents", "open"), ("artifacts", "folder"), ("daemons", "ingest"), ("daemons", "snapshot")]
    {
        assert_eq!(status(&findings, area, check).0, "warn", "{area}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the config alone");
}

#[test]
fn a_redis_as_it_comes_is_warned_of_and_one_that_evicts_is_not_sound() {
    let dir = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let findings = doctor(dir.path(), &format!("redis: {{ url: \"{}\" }}\n", redis.url()), 0);
    assert_eq!(status(&findings, "redis", "maxmemory").0, "warn");
    assert_eq!(status(&findings, "redis", "eviction"), ("ok".into(), "noeviction".into()));
    assert_eq!(status(&findings, "redis", "clock").0, "ok");
    let (rights, found) = status(&findings, "redis", "reader");
    assert!(rights == "warn" && found.contains("SET") && found.contains("EVALSHA"), "{found}");
    assert_eq!(redis.run::<u64>(&["DBSIZE"]), 0, "what was tried wrote nothing");
    redis.run::<()>(&["CONFIG", "SET", "maxmemory", "64mb", "maxmemory-policy", "allkeys-lru"]);
    let findings = doctor(dir.path(), &format!("redis: {{ url: \"{}\" }}\n", redis.url()), 1);
    assert_eq!((status(&findings, "redis", "maxmemory").0, status(&findings, "redis", "eviction").0), ("ok".into(), "fail".into()));
}

#[test]
fn the_readers_rights_suffice_to_ask_and_not_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let (file, passwords) = (dir.path().join("users.acl"), ["snapshot-Secret", "reader-Secret"]);
    fs::write(&file, acl::render(&SecretString::from(passwords[0]), &SecretString::from(passwords[1])).unwrap()).unwrap();
    let redis = RedisServer::start_with(&["--aclfile", file.to_str().unwrap(), "--maxmemory", "64mb"]);
    for (name, password) in [("snapshot", passwords[0]), ("reader", passwords[1])] {
        fs::write(dir.path().join(name), password).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let config =
        |user: &str, file: &str| format!("redis: {{ url: \"{}\", reader_user: {user}, reader_password_file: {file} }}\n", redis.url());
    let findings = doctor(dir.path(), &config(acl::READER_USER, "reader"), 0);
    for check in ["reachable", "version", "eviction", "maxmemory", "clock", "reader"] {
        assert_eq!(status(&findings, "redis", check).0, "ok", "{check}");
    }
    // The writer in the reader's place.
    let findings = doctor(dir.path(), &config(acl::SNAPSHOT_USER, "snapshot"), 1);
    let (rights, found) = status(&findings, "redis", "reader");
    assert!(rights == "fail" && found.contains("SET"), "{found}");
    assert_eq!(status(&findings, "redis", "clock").0, "warn", "it may not ask");
}

#[test]
fn what_is_in_the_way_fails_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let redis = RedisServer::start();
    let at = |name: &str| dir.path().join(name);
    for folder in ["bus", "auth"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let mode = |name: &str, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    fs::write(at("bus/convpipe-events.convpipe-views.sub.db"), "no database").unwrap();
    fs::write(at("documents.db"), "no database, but for its name and more than a header's worth of bytes ".repeat(9)).unwrap();
    fs::write(at("auth/200000001.json"), "{}").unwrap();
    fs::write(at("writer"), "secret").unwrap();
    for (name, open) in [("auth", 0o777), ("auth/200000001.json", 0o644), ("writer", 0o644)] {
        mode(name, open);
    }
    let config = format!(
        "redis: {{ url: \"{}\", password_file: writer, reader_password_file: null }}\nbus: {{ embedded: {{ dir: bus }} }}\ndocuments: {{ embedded: {{ path: documents.db }} }}\nauth: {{ dir: auth }}\n",
        redis.url()
    );
    let findings = doctor(dir.path(), &config, 1);
    for (area, check, expected) in [
        ("config", "redis.password_file", "fail"),
        ("bus", "convpipe-views", "fail"),
        ("bus", "convpipe-documents", "warn"),
        ("bus", "quarantine", "ok"),
        ("documents", "open", "fail"),
        ("artifacts", "folder", "fail"),
        ("artifacts", "file", "fail"),
    ] {
        assert_eq!(status(&findings, area, check).0, expected, "{area} {check}: {findings:#?}");
    }
}

#[test]
fn a_pipeline_that_runs_is_sound_and_what_it_set_aside_is_told() {
    let redis = RedisServer::start_with(&["--maxmemory", "64mb"]);
    let mut place = Place::new(&redis.url(), "convpipe");
    let snapshot = place.start(&["snapshot", "--health", "127.0.0.1:0"]);
    place.config.health.snapshot = address(&snapshot).parse().unwrap();
    // A quiet evening has three frames that nobody can read.
    let replay = place.start(&["replay", QUIET_EVENING, "--to", "bus", "--speed", "max", "--shift-time"]);
    assert!(replay.wait(LIMIT).status.success());
    let end = Instant::now() + LIMIT;
    loop {
        let output = place.start(&["doctor", "-o", "json"]).wait(LIMIT);
        let findings: Vec<Value> = serde_json::from_str(&output.stdout.join("\n")).unwrap();
        let (subscription, backlog) = status(&findings, "bus", "convpipe-documents");
        if subscription == "ok" && backlog == "0 messages" && status(&findings, "daemons", "snapshot").0 == "ok" {
            let (quarantine, found) = status(&findings, "bus", "quarantine");
            assert_eq!(quarantine, "warn", "{found}");
            assert!(found.starts_with("3 messages, the oldest ") && found.ends_with("not_an_object"), "{found}");
            let (_, found) = status(&findings, "daemons", "snapshot");
            assert!(found.starts_with("ready at 127.0.0.1:"), "{found}");
            assert_eq!(status(&findings, "redis", "memory").0, "ok");
            return;
        }
        assert!(Instant::now() < end, "{findings:#?}");
    }
}

#[test]
fn googles_dead_letters_need_a_subscription() {
    let Some(pubsub) = Emulator::pubsub() else { return };
    let dir = tempfile::tempdir().unwrap();
    let project = format!("doctor-{:08x}", fastrand::u32(..));
    let config = format!(
        "redis: {{ url: \"redis://127.0.0.1:1\", timeout_ms: 300 }}\nbus: {{ backend: google, google: {{ project: {project}, emulator: \"{}\" }} }}\n",
        pubsub.address
    );
    let findings = doctor(dir.path(), &config, 1);
    assert_eq!(status(&findings, "bus", "dead letters").0, "fail");
    assert_eq!(status(&findings, "pubsub", "topic convpipe-events"), ("fail".into(), "missing".into()));
    assert_eq!(status(&findings, "bus", "convpipe-views").0, "warn");
    let provisioned = Process::start(dir.path(), &["provision"]).wait(LIMIT);
    assert!(provisioned.status.success(), "{:?}", provisioned.stderr);
    let findings = doctor(dir.path(), &config, 1);
    let (dead, found) = status(&findings, "bus", "dead letters");
    assert!(dead == "ok" && found.starts_with("held by "), "{found}");
    assert_eq!(status(&findings, "pubsub", "topic convpipe-events").0, "ok");
}
