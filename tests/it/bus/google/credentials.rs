//! Credentials that are missing or refused: the commands end with 77, and say what to do.

use std::fs::DirBuilder;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::process::Process;

const LIMIT: Duration = Duration::from_secs(30);

/// What a command says that cannot get at the topic.
fn refused(folder: &Path, command: &[&str], credentials: &Path) {
    let config = "bus: {backend: google, google: {project: demo}}\nauth: {dir: auth}\nlog: {format: text}\n";
    std::fs::write(folder.join("convpipe.yaml"), config).unwrap();
    let _ = DirBuilder::new().mode(0o700).create(folder.join("auth"));
    // A variable that is empty counts as not set.
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", credentials.to_str().unwrap()), ("PUBSUB_EMULATOR_HOST", "")];
    let output = Process::start_with(folder, command, &variables).wait(LIMIT);
    let said = output.stderr.join("\n");
    assert_eq!(output.status.code(), Some(77), "{command:?}: {said}");
    assert!(said.contains("Google credentials") && said.contains("gcloud auth application-default login"), "{said}");
    assert!(!said.contains("canary"), "a secret is in {said}");
}

#[test]
fn a_missing_key_file_is_77() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["ingest"][..], &["snapshot", "--only", "views"]] {
        refused(folder.path(), command, &folder.path().join("nowhere.json"));
    }
}

#[test]
fn a_key_file_that_is_none_is_77() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("damaged.json", "{\"type\": "), ("other.json", "{\"type\": \"other\", \"key\": \"canary\"}"), ("empty.json", "")]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
        refused(folder.path(), &["ingest"], &folder.path().join(name));
    }
}

#[test]
fn credentials_that_are_refused_are_77() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = r#"{"error": "invalid_grant", "error_description": "the account is gone"}"#;
    let file = user(folder.path(), "400 Bad Request", refusal);
    refused(folder.path(), &["ingest"], &file);
}

/// From the credentials over a token to the TLS connection, which is refused here: nothing of it takes another crypto provider than ours, of which
/// rustls would choose none by itself, and panic.
#[test]
fn a_server_that_is_not_googles_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let file = user(folder.path(), "200 OK", r#"{"access_token": "canary", "expires_in": 3600, "token_type": "Bearer"}"#);
    std::fs::write(folder.path().join("one.jsonl"), "{\"t_ms\":0,\"account\":\"1\",\"frame\":{\"typing\":{\"id\":1}}}\n").unwrap();
    // One speaks REST, the other gRPC.
    for command in [&["provision", "--dry-run"][..], &["replay", "one.jsonl", "--to", "bus", "--confirm", "demo"]] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut hello = [0; 3];
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut hello).unwrap();
            // Ends here, and with it the listener: who comes again is refused.
            hello
        });
        let google = "publish_attempts_max: 1, publish_timeout_ms: 500";
        let config = format!("bus: {{backend: google, google: {{project: demo, endpoint: \"{endpoint}\", {google}}}}}\n");
        std::fs::write(folder.path().join("convpipe.yaml"), config).unwrap();
        let variables = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap()), ("PUBSUB_EMULATOR_HOST", "")];
        let output = Process::start_with(folder.path(), command, &variables).wait(LIMIT);
        let said = output.stderr.join("\n");
        assert_eq!(output.status.code(), Some(69), "{command:?}: {said}");
        assert_eq!(server.join().unwrap()[..2], [22, 3], "{command:?}: a TLS handshake was begun");
        assert!(!said.contains("canary") && !said.contains("panicked"), "{said}");
    }
}

/// A user's credentials whose tokens come from a server that answers every request with this, for as long as the test runs.
fn user(folder: &Path, status: &'static str, body: &'static str) -> PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            head.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
            let answer = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let key = json!({
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "canary",
        "refresh_token": "canary",
        "token_uri": format!("http://{address}/token"),
    });
    let file = folder.join("user.json");
    std::fs::write(&file, key.to_string()).unwrap();
    file
}
