//! What a service says that cannot start: one error, its cause, what to do.

use std::os::unix::fs::PermissionsExt as _;

use super::place::{LIMIT, Place};
use crate::support::redis::RedisServer;

/// Runs a command to its end; the lines of its error.
fn refused(place: &Place, args: &[&str], code: i32) -> Vec<String> {
    let output = place.start(args).wait(LIMIT);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {:?}", output.stderr);
    assert_eq!(output.stdout, Vec::<String>::new());
    let errors = output.stderr.iter().filter(|line| line.contains("error:")).count();
    assert_eq!(errors, 1, "{:?}", output.stderr);
    output.stderr
}

/// A port on which nobody listens: bound a moment ago, and given back.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("redis://{}", listener.local_addr().unwrap())
}

#[test]
fn snapshot_with_a_redis_that_refuses_it() {
    let redis = RedisServer::start_with(&["--requirepass", "another"]);
    let place = Place::new(&redis.url(), "convpipe");
    let said = refused(&place, &["snapshot"], 77).join("\n");
    assert!(said.contains("refuses the user \"default\"") && said.contains("check the user, the password file and the ACL"), "{said}");
}

#[test]
fn ingest_with_an_artifact_that_others_may_read() {
    let place = Place::new(&nobody(), "convpipe");
    let dir = &place.config.auth.dir;
    std::fs::create_dir(dir).unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    let artifact = dir.join("200000001.json");
    std::fs::write(&artifact, r#"{"token":"canary"}"#).unwrap();
    std::fs::set_permissions(&artifact, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&place, &["ingest"], 77).join("\n");
    assert!(said.contains("200000001.json: has mode 0644") && said.contains("chmod 600 200000001.json"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn documents_that_are_no_documents() {
    let place = Place::new(&nobody(), "convpipe");
    std::fs::write(&place.config.documents.embedded.path, "this is a text, and has been one for a long time\n".repeat(100)).unwrap();
    let said = refused(&place, &["snapshot", "--only", "documents"], 69).join("\n");
    assert!(said.contains("documents.db"), "{said}");
}
