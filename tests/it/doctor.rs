//! `doctor` as people run it: on nothing, on a sound place, on one where things are wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use convpipe::views::acl;
use secrecy::SecretString;
use serde_json::Value;

use crate::support::process::Process;
use crate::support::redis::RedisServer;

#[track_caller]
fn doctor(dir: &Path, config: &str, code: i32) -> Vec<Value> {
    fs::write(dir.join("convpipe.yaml"), config).unwrap();
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
    for (area, check) in [("bus", "folder"), ("documents", "open"), ("artifacts", "folder")] {
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
    use std::os::unix::fs::PermissionsExt as _;
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
