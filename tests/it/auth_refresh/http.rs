//! HTTP endpoints as providers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::place::{ACCOUNT, CANARY, LIMIT, Place, answer, artifact};
use super::server::{Server, response};
use crate::support::process::Process;

const DAY: i64 = 86_400;

/// A place whose provider is this endpoint, which wants a header.
fn place(http: &Value) -> Place {
    let mut place = Place::new();
    place.write("header", &format!("Bearer {CANARY}\n"), 0o600);
    let mut config = json!({ "header_files": { "Authorization": "header" }, "timeout_ms": 5_000 });
    config.as_object_mut().unwrap().extend(http.as_object().unwrap().clone());
    place.config["auth"]["providers"] = json!({ "vault": { "http": config } });
    place.config["auth"]["refresh"]["provider"] = json!("vault");
    place
}

#[test]
fn an_endpoint_answers_with_the_artifact() {
    let body = answer(ACCOUNT, "new-token", DAY).to_string();
    let server = Server::start(move |_| response("200 OK", "", &body));
    let place = place(&json!({ "url": server.url("/v1/{account}?why={reason}") }));
    assert_eq!(place.once(&[]), (0, String::new()));
    assert_eq!((place.artifact().generation, place.artifact().token.expose_secret()), (1, "new-token"));
    let [request] = &server.asked()[..] else { panic!("{:?}", server.asked()) };
    let lower = request.to_lowercase();
    assert!(request.starts_with("GET /v1/200000001?why=missing HTTP/1.1\r\n"), "{request}");
    for header in [&*format!("authorization: bearer {CANARY}\r\n"), "accept: application/json\r\n", "user-agent: convpipe/"] {
        assert!(lower.contains(header), "{header}: {request}");
    }
}

#[test]
fn fields_are_taken_from_where_the_config_points() {
    let server = Server::start(|_| {
        let body =
            json!({ "data": [{ "jwt": "new-token", "url": "wss://ws.example.com/", "exp": 4_070_908_800u64 }], "agent": "Mozilla/5.0" });
        response("201 Created", "", &body.to_string())
    });
    let fields = json!({ "token": "/data/0/jwt", "ws_url": "/data/0/url", "expires_at": "/data/0/exp", "user_agent": "/agent" });
    let body = r#"{"account": "{account}", "because": "{reason}"}"#;
    let place = place(&json!({ "url": server.url("/"), "method": "POST", "body": body, "fields": fields }));
    assert_eq!(place.once(&[]), (0, String::new()));
    let artifact = place.artifact();
    assert_eq!(artifact.expires_at.unwrap().to_string(), "2099-01-01T00:00:00.000Z");
    assert_eq!((artifact.token.expose_secret(), artifact.user_agent.as_deref()), ("new-token", Some("Mozilla/5.0")));
    let request = server.asked().concat();
    assert!(request.starts_with("POST / HTTP/1.1") && request.to_lowercase().contains("content-type: application/json"), "{request}");
    assert!(request.ends_with(r#"{"account": "200000001", "because": "missing"}"#), "{request}");
}

#[test]
fn whatever_an_endpoint_answers_the_old_artifact_stays_and_no_secret_is_told() {
    let ready = answer(ACCOUNT, CANARY, DAY).to_string();
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{ready}").into_bytes();
    let endless = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", "8\r\ncanary-3\r\n".repeat(20_000)).into_bytes();
    let http2 = b"PRI * HTTP/2.0\r\n\r\ncanary-3f9a1c".to_vec();
    for (name, sent, code, says) in [
        (
            "refused",
            response("401 Unauthorized", "", CANARY),
            77,
            "the endpoint refused our credentials (HTTP 401); renew what header_files names",
        ),
        ("forbidden", response("403 Forbidden", "", CANARY), 77, "the endpoint refused our credentials (HTTP 403)"),
        ("no such account", response("404 Not Found", "", CANARY), 69, "the endpoint answered with HTTP 404"),
        ("broken", response("500 Internal Server Error", "", CANARY), 69, "the endpoint answered with HTTP 500"),
        ("garbage", response("200 OK", "", CANARY), 65, "the answer is not one well-formed JSON object"),
        (
            "another account",
            response("200 OK", "", &answer("5", CANARY, DAY).to_string()),
            65,
            "the answer is the artifact of another account",
        ),
        ("too large", response("200 OK", "", &CANARY.repeat(10_000)), 65, "the answer is larger than 65536 bytes"),
        ("endless", Some(endless), 65, "the answer is larger than 65536 bytes"),
        ("cut off", Some(cut), 69, "the endpoint cannot be asked: "),
        ("no HTTP", Some(http2), 69, "the endpoint cannot be asked: "),
        ("silent", None, 69, "no answer within 300 ms"),
    ] {
        let server = Server::start(move |_| sent.clone());
        let place = place(&json!({ "url": server.url(&format!("/{CANARY}")), "timeout_ms": 300 }));
        place.store().write(&artifact(4, "old-token", 3 * DAY, DAY / 2)).unwrap();
        let (found, said) = place.once(&["-v"]);
        assert_eq!(found, code, "{name}: {said}");
        assert!(said.contains(says) && !said.contains(CANARY), "{name}: {said}");
        assert_eq!((place.artifact().generation, server.asked().len()), (4, 1), "{name}");
    }
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let elsewhere = Server::start(|_| response("200 OK", "", "{}"));
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("Location: {}\r\n", elsewhere.url("/"));
        let server = Server::start(move |_| response(status, &location, ""));
        let (code, said) = place(&json!({ "url": server.url("/") })).once(&[]);
        assert_eq!(code, 65, "{said}");
        assert!(said.contains(&format!("the endpoint redirects (HTTP {}), which is not followed", &status[..3])), "{said}");
    }
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn an_endpoint_that_wants_to_be_left_alone_is() {
    let server = Server::start(|_| response("503 Service Unavailable", "Retry-After: 40\r\n", ""));
    let place = place(&json!({ "url": server.url("/") }));
    assert_eq!(place.once(&[]).0, 69);
    let record = place.record();
    let wait = record.retry_at.unwrap().since(record.attempted_at.unwrap());
    assert!((40_000..50_000).contains(&wait), "{wait}");
}

#[test]
fn tls_is_checked() {
    let body = answer(ACCOUNT, "new-token", DAY).to_string();
    let server = Server::start_tls(move |_| response("200 OK", "", &body));
    let mut place = place(&json!({ "url": server.url("/") }));
    let (code, said) = place.once(&[]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("the endpoint cannot be asked: ") && said.contains("certificate"), "{said}");
    assert!(server.asked().is_empty(), "nothing was sent to somebody unknown");

    let http = |place: &mut Place, key: &str, value: &str| place.config["auth"]["providers"]["vault"]["http"][key] = json!(value);
    place.write("ca.pem", &server.certificate, 0o644);
    http(&mut place, "ca_file", "ca.pem");
    assert_eq!(place.once(&["--force"]), (0, String::new()));
    assert_eq!(place.artifact().token.expose_secret(), "new-token");

    // The name in the certificate has to be the one in the URL.
    http(&mut place, "url", &server.url("/").replace("localhost", "127.0.0.1"));
    let (code, said) = place.once(&["--force"]);
    assert_eq!((code, said.contains("certificate")), (69, true), "{said}");

    for (content, says) in
        [("no certificate", "holds no certificate"), ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "ca_file")]
    {
        place.write("ca.pem", content, 0o644);
        let (code, said) = place.once(&["--force"]);
        assert_eq!((code, said.contains(says)), (78, true), "{said}");
    }
}

#[test]
fn without_a_file_the_machine_s_authorities_are_trusted() {
    let body = answer(ACCOUNT, "new-token", DAY).to_string();
    let (secure, clear) = (
        Server::start_tls({
            let body = body.clone();
            move |_| response("200 OK", "", &body)
        }),
        Server::start(move |_| response("200 OK", "", &body)),
    );
    for (url, authorities, code, says) in [
        (secure.url("/"), &*secure.certificate, 0, ""),
        (secure.url("/"), "", 78, "this machine names no certificate authorities to trust"),
        // To loopback in the clear nobody has to vouch for.
        (clear.url("/"), "", 0, ""),
    ] {
        let place = place(&json!({ "url": url }));
        place.write("machine.pem", authorities, 0o644);
        place.write_config();
        let machine = place.path("machine.pem");
        let variables = [("SSL_CERT_FILE", machine.to_str().unwrap()), ("SSL_CERT_DIR", "")];
        let output = Process::start_with(place.dir(), &["auth-refresh", "--once"], &variables).wait(LIMIT);
        let said = output.stderr.join("\n");
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says) && (code == 0 || said.contains("SSL_CERT_FILE")), "{said}");
    }
}

#[test]
fn a_header_file_that_others_can_read_is_refused() {
    let server = Server::start(|_| response("200 OK", "", "{}"));
    let place = place(&json!({ "url": server.url("/") }));
    for (content, mode, says) in
        [(CANARY, 0o644, "chmod 0600"), ("a\r\nX: canary-3f9a1c", 0o600, "cannot stand in a header"), ("", 0o600, "is empty")]
    {
        place.write("header", content, mode);
        let (code, said) = place.once(&["--force"]);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("header_files: ") && said.contains(says) && !said.contains(CANARY), "{said}");
    }
    assert!(server.asked().is_empty());
}

#[test]
fn many_accounts_are_asked_for_side_by_side_up_to_the_limit() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    // Three at a time meet here; a fourth would be counted.
    let barrier = Arc::new(std::sync::Barrier::new(3));
    let server = Server::start(move |request| {
        barrier.wait();
        count.fetch_add(1, Ordering::SeqCst);
        let account = request.split(['/', ' ']).nth(2).unwrap().to_owned();
        response("200 OK", "", &answer(&account, &format!("token-of-{account}"), DAY).to_string())
    });
    let mut place = place(&json!({ "url": server.url("/{account}") }));
    place.config["auth"]["refresh"]["concurrency_max"] = json!(3);
    place.config["accounts"] = (1..=9).map(|n| (n.to_string(), json!({}))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(place.once(&[]), (0, String::new()));
    assert_eq!((seen.load(Ordering::SeqCst), place.store().scan().artifacts.len()), (9, 9));
    assert_eq!(server.at_once.load(Ordering::SeqCst), 3);
}
