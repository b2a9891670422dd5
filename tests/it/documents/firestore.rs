//! What only Firestore has: native fields, what a call costs, the pace of writes, indexes and TTL policies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use convpipe::config::FirestoreConfig;
use convpipe::documents::firestore::provision::indexes_json;
use convpipe::documents::{Access, Documents, DocumentsError};
use convpipe::runtime::provision::{Action, Change};
use convpipe::schema::document::{MediaDocument, MessageDocument};
use convpipe::schema::event::{Basis, Currency, Direction, Money};
use convpipe::schema::view::{FanView, HighValue};
use convpipe::transform::materialize::{SummaryWrite, WriteOutcome};
use firestore::gcloud_sdk::google::firestore::admin::v1::{Field, field::IndexConfig};
use serde_json::{Value, json};

use super::proxy::Proxy;
use super::{ACCOUNT, LATER, NOW, deletion, emulated, history, ids, key, message, write};
use crate::support::emulator::Emulator;
use crate::support::process::Process;

/// A database of its own; nothing where there is no emulator.
async fn opened(change: impl FnOnce(&mut FirestoreConfig)) -> Option<(FirestoreConfig, Documents)> {
    let mut config = emulated(Emulator::firestore()?);
    change(&mut config);
    let documents = Documents::firestore(&config, Access::ReadWrite).await.unwrap();
    Some((config, documents))
}

/// A document as the plain REST interface gives it, without any client of ours.
fn rest(config: &FirestoreConfig, path: &str) -> Value {
    let address = config.emulator.as_ref().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let project = config.project.as_ref().unwrap();
    let request = format!(
        "GET /v1/projects/{project}/databases/(default)/documents/{path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer owner\r\n\r\n"
    );
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while answer.read_line(&mut line).unwrap() > 2 {
        let value = line.to_ascii_lowercase().strip_prefix("content-length:").map(|value| value.trim().parse().unwrap());
        length = value.unwrap_or(length);
        line.clear();
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn other_clients_find_the_documented_fields_with_native_types() {
    let Some((config, documents)) = opened(|_| {}).await else { return };
    let sent = MessageDocument {
        direction: Direction::Out,
        html: Some("<p>hi &amp; 💥</p>".into()),
        reply_to: Some("1".into()),
        price: Some(399),
        money: Some(Money { minor: 399, currency: Currency::default(), basis: Basis::Gross, net_minor: None }),
        media: vec![MediaDocument {
            id: Some("9".into()),
            kind: Some("photo".into()),
            can_view: Some(false),
            duration_s: None,
            width: Some(1080),
            height: None,
        }],
        is_bulk: true,
        changed_at: Some(NOW.plus(250)),
        ..message("6400000000001", 0, "hi & 💥")
    };
    let mut fan = SummaryWrite { messages: vec![sent], deletions: vec![deletion("6400000000001", 500)], ..write("100000001", 0) };
    let mut summary: convpipe::schema::document::FanSummary = serde_json::from_slice(&fan.summary).unwrap();
    summary.fan = FanView { name: Some("Fan".into()), lists: vec!["vip".into()], ..summary.fan };
    summary.high_value = HighValue { is: true, why: vec!["list:vip".into()] };
    summary.first_seen_at = Some(NOW);
    fan.summary = serde_json::to_vec(&summary).unwrap();
    let fold = fan.fold.clone();
    assert_eq!(documents.write(vec![fan]).await.unwrap(), [WriteOutcome::Written]);

    let listed = rest(&config, &format!("accounts/{ACCOUNT}/conversations/conversation%20100000001/messages"));
    let [stored] = listed["documents"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    let id = stored["name"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(id.len() == 18 && id.ends_with("-6400000000001"), "{id}");
    let mut fields = stored["fields"].clone();
    assert_eq!(fields["key"]["stringValue"].as_str().unwrap().len(), 32);
    fields.as_object_mut().unwrap().remove("key");
    assert_eq!(
        fields,
        json!({
            "message_id": { "stringValue": "6400000000001" },
            "conversation_id": { "stringValue": "conversation 100000001" },
            "direction": { "stringValue": "out" },
            "sent_at": { "timestampValue": "2026-07-23T12:00:00Z" },
            "text": { "stringValue": "hi & 💥" },
            "html": { "stringValue": "<p>hi &amp; 💥</p>" },
            "reply_to": { "stringValue": "1" },
            "price": { "integerValue": "399" },
            "money": { "mapValue": { "fields": {
                "minor": { "integerValue": "399" }, "currency": { "stringValue": "USD" }, "basis": { "stringValue": "gross" },
            } } },
            "media": { "arrayValue": { "values": [ { "mapValue": { "fields": {
                "id": { "stringValue": "9" }, "kind": { "stringValue": "photo" }, "can_view": { "booleanValue": false },
                "width": { "integerValue": "1080" },
            } } } ] } },
            "is_bulk": { "booleanValue": true },
            "changed_at": { "timestampValue": "2026-07-23T12:00:00.250Z" },
            "deleted_at": { "timestampValue": "2026-07-23T12:00:00.500Z" },
            "event_id": { "stringValue": "event" },
            "expire_at": { "timestampValue": "2026-07-23T12:16:40Z" },
        })
    );

    let fields = rest(&config, &format!("accounts/{ACCOUNT}/fans/100000001"))["fields"].clone();
    let expected = json!({
        "account_id": { "stringValue": ACCOUNT },
        "conversation_id": { "stringValue": "conversation 100000001" },
        "fan_id": { "stringValue": "100000001" },
        "fan_key": { "stringValue": "100000001" },
        "tier": { "stringValue": "none" },
        "high_value": { "mapValue": { "fields": {
            "is": { "booleanValue": true }, "why": { "arrayValue": { "values": [ { "stringValue": "list:vip" } ] } },
        } } },
        "messages_in": { "integerValue": "0" },
        "first_seen_at": { "timestampValue": "2026-07-23T12:00:00Z" },
        "rev": { "integerValue": "1" },
        "expire_at": { "timestampValue": "2026-07-23T12:16:40Z" },
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&fields[name], value, "{name}");
    }
    assert_eq!(fields["fan"]["mapValue"]["fields"]["name"]["stringValue"], "Fan");
    assert!(fields["fold"]["bytesValue"].as_str().is_some_and(|base64| base64.len() == fold.len().div_ceil(3) * 4), "{}", fields["fold"]);
    assert_eq!(
        serde_json::to_value(documents.summary(ACCOUNT, "100000001", NOW).await.unwrap().unwrap().summary).unwrap(),
        serde_json::to_value(summary).unwrap(),
        "and it is read back whole"
    );
}

#[tokio::test]
async fn odd_ids_lie_where_they_should() {
    let Some((config, documents)) = opened(|_| {}).await else { return };
    let odd = "../fans/__x__";
    let fan = SummaryWrite { account: odd.into(), conversation: odd.into(), messages: vec![message(odd, 1, "x")], ..write(odd, 0) };
    documents.write(vec![fan]).await.unwrap();
    let listed = rest(&config, "accounts?showMissing=true");
    let name = listed["documents"][0]["name"].as_str().unwrap();
    let account = name.rsplit('/').next().unwrap();
    assert!(account.starts_with('~') && account.len() == 33, "{name}");
    let fans = rest(&config, &format!("accounts/{account}/fans"));
    assert_eq!(fans["documents"].as_array().unwrap().len(), 1);
    assert_eq!(fans["documents"][0]["fields"]["fan_id"]["stringValue"], odd);
}

/// What Firestore bills is documents read and written. These are the numbers of docs/documents.md.
#[tokio::test]
async fn a_call_costs_what_is_documented() {
    let Some((config, documents)) = opened(|_| {}).await else { return };
    let Documents::Firestore(firestore) = &documents else { unreachable!("opened as such") };
    let mut before = (0, 0);
    let mut spent = || {
        let now = (firestore.counters().reads.load(Relaxed), firestore.counters().writes.load(Relaxed));
        let spent = (now.0 - before.0, now.1 - before.1);
        before = now;
        spent
    };
    let messages = |ids: &[&str]| ids.iter().map(|id| message(id, 1, "x")).collect::<Vec<_>>();
    documents.write(vec![SummaryWrite { messages: messages(&["m1", "m2", "m3"]), ..write("f", 0) }]).await.unwrap();
    assert_eq!(spent(), (1, 4), "new: each document, and one look for deletions");
    documents.write(vec![SummaryWrite { messages: messages(&["m4"]), ..write("f", 1) }]).await.unwrap();
    assert_eq!(spent(), (1, 2), "again by the same process: the guard is known");
    documents.write(vec![SummaryWrite { messages: messages(&["m3", "m4"]), ..write("f", 2) }]).await.unwrap();
    assert_eq!(spent(), (3, 1), "a second delivery: each message is read and not written");
    documents.write(vec![write("f", 3)]).await.unwrap();
    assert_eq!(spent(), (0, 1), "no message");
    documents.write(vec![SummaryWrite { deletions: vec![deletion("m1", 5)], ..write("f", 4) }]).await.unwrap();
    assert_eq!(spent(), (1, 2), "a deletion reads its message and marks it");
    let other = Documents::firestore(&config, Access::ReadWrite).await.unwrap();
    let Documents::Firestore(firestore) = &other else { unreachable!("opened as such") };
    other.write(vec![write("f", 5)]).await.unwrap();
    assert_eq!((firestore.counters().reads.load(Relaxed), firestore.counters().writes.load(Relaxed)), (1, 1), "the guard is read");
    other.summary(ACCOUNT, "f", NOW).await.unwrap().unwrap();
    assert_eq!(firestore.counters().reads.load(Relaxed), 2, "a prompt is one read");
}

#[tokio::test]
async fn writes_of_one_summary_keep_apart_and_those_of_others_do_not_wait() {
    const INTERVAL: Duration = Duration::from_millis(300);
    let Some((config, documents)) = opened(|config| config.summary_interval_ms = 300).await else { return };
    let other = Documents::firestore(&config, Access::ReadWrite).await.unwrap();
    documents.write(vec![write("f", 0)]).await.unwrap();
    let begun = Instant::now();
    documents.write(vec![write("g", 0)]).await.unwrap();
    assert!(begun.elapsed() < INTERVAL, "{:?}", begun.elapsed());
    // Also another process' write is waited for, by Firestore's clock.
    let mut revs = vec![1];
    for (handle, rev) in [(&documents, 1), (&other, 2), (&documents, 3)] {
        let loaded = handle.load(&[key("f")]).await.unwrap().remove(0).unwrap().rev;
        handle.write(vec![write("f", rev)]).await.unwrap();
        revs.push(loaded);
    }
    assert_eq!(revs, [1, 1, 2, 3]);
    assert!(begun.elapsed() >= 2 * INTERVAL + INTERVAL / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_handle_for_reading_does_not_write() {
    let Some((config, documents)) = opened(|_| {}).await else { return };
    documents.write(vec![SummaryWrite { messages: vec![message("m", 1, "x")], ..write("f", 0) }]).await.unwrap();
    let reader = Documents::firestore(&config, Access::ReadOnly).await.unwrap();
    assert_eq!(ids(&history(&reader, "f").await), ["m"]);
    assert!(matches!(reader.write(vec![write("f", 1)]).await, Err(DocumentsError::ReadOnly { .. })));
    assert!(matches!(reader.resolve(&[]).await, Err(DocumentsError::ReadOnly { .. })));
    // Expired documents are left to the TTL policy.
    assert_eq!(documents.prune(LATER, 10).await.unwrap(), 0);
    assert!(documents.load(&[key("f")]).await.unwrap()[0].is_some());
}

/// A large write goes in several requests, each within Firestore's bounds.
#[tokio::test]
async fn many_documents_at_once_are_all_written() {
    let Some((_, documents)) = opened(|config| config.batch_max = 50).await else { return };
    let fan = |n: usize| SummaryWrite { messages: vec![message(&format!("m{n}"), 1, "x")], ..write(&n.to_string(), 0) };
    let outcomes = documents.write((0..120).map(fan).collect()).await.unwrap();
    assert!(outcomes.len() == 120 && outcomes.iter().all(|outcome| *outcome == WriteOutcome::Written));
    let wanted: Vec<_> = (0..120).map(|n| key(&n.to_string())).collect();
    assert!(documents.load(&wanted).await.unwrap().iter().all(Option::is_some));
    // An answer is given for every place, also where a fan is named twice.
    assert!(documents.load(&[key("1"), key("1")]).await.unwrap().iter().all(Option::is_some));
}

#[tokio::test]
async fn provisioning_makes_what_is_missing_once_and_tells_what_drifted() {
    let Some(emulator) = Emulator::firestore() else { return };
    let proxy = Proxy::start(&emulator.address).await;
    let config = FirestoreConfig { emulator: Some(proxy.address.clone()), ..emulated(emulator) };
    let documents = Documents::firestore(&config, Access::ReadOnly).await.unwrap();
    let is_same = |changes: &[Change]| changes.iter().all(|change| change.action == Action::Same);

    let plan = documents.provision(false).await.unwrap();
    assert_eq!(proxy.calls("UpdateField") + proxy.calls("CreateIndex"), 0, "a plan changes nothing");
    let created: Vec<&str> = plan.iter().filter(|change| change.action == Action::Create).map(|change| change.resource.as_str()).collect();
    assert_eq!(
        created,
        [
            "TTL policy on messages.expire_at",
            "TTL policy on fans.expire_at",
            "TTL policy on accounts.expire_at",
            "TTL policy on deletes.expire_at",
            "composite index of messages: sent_at, message_id descending",
        ]
    );
    assert_eq!(documents.provision(true).await.unwrap(), plan);
    assert!(is_same(&documents.provision(false).await.unwrap()));
    let updates = proxy.calls("UpdateField");
    assert!(is_same(&documents.provision(true).await.unwrap()));
    assert_eq!((proxy.calls("UpdateField"), proxy.calls("CreateIndex")), (updates, 1), "a second run changes nothing");

    let name = format!("projects/{}/databases/(default)/collectionGroups/messages/fields/text", config.project.unwrap());
    proxy.set_field(Field { name, index_config: Some(IndexConfig { uses_ancestor_config: true, ..Default::default() }), ttl_config: None });
    let drift = documents.provision(false).await.unwrap();
    let drift: Vec<&Change> = drift.iter().filter(|change| change.action != Action::Same).collect();
    let from_default = Action::Update { field: "index_config", from: "the default".into(), to: "none".into() };
    assert_eq!(drift, [&Change { resource: "single-field indexes of messages.text".into(), action: from_default }]);
}

#[tokio::test]
async fn an_emulator_that_manages_no_indexes_says_so() {
    let Some((_, documents)) = opened(|_| {}).await else { return };
    let plan = documents.provision(true).await.unwrap();
    assert_eq!(plan.len(), 17);
    assert!(plan.iter().all(|change| matches!(&change.action, Action::Unsupported(reason) if reason.contains("emulator"))), "{plan:?}");
}

#[test]
fn the_file_for_the_firebase_cli_says_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/firestore.indexes.json");
    let current = format!("{:#}\n", indexes_json());
    #[expect(clippy::disallowed_methods, reason = "the variable is for tests alone")]
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, current, "run with UPDATE_GOLDEN=1 to renew {}", path.display());
}

/// What `snapshot` says where Firestore is Google's own; `key` is what stands in the file of the credentials.
fn refused(key: Option<&Value>, endpoint: &str) -> (Option<i32>, String) {
    refused_within(key, endpoint, FirestoreConfig::default().timeout_ms)
}

fn refused_within(key: Option<&Value>, endpoint: &str, timeout_ms: u64) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.json");
    if let Some(key) = key {
        std::fs::write(&path, key.to_string()).unwrap();
    }
    let config = json!({ "documents": { "backend": "firestore", "firestore": {
        "project": "demo", "endpoint": endpoint, "timeout_ms": timeout_ms,
    } } });
    std::fs::write(dir.path().join("convpipe.yaml"), config.to_string()).unwrap();
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap()), ("FIRESTORE_EMULATOR_HOST", "")];
    let process = Process::start_with(dir.path(), &["snapshot", "--only", "documents"], &variables);
    let output = process.wait(Duration::from_secs(20));
    (output.status.code(), output.stderr.join("\n"))
}

/// A service that answers every request for a token with this, until the test ends.
fn tokens(status: &'static str, body: &'static str) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                let value = line.to_ascii_lowercase().strip_prefix("content-length:").map(|value| value.trim().parse().unwrap());
                length = value.unwrap_or(length);
                line.clear();
            }
            let _ = stream.read_exact(&mut vec![0; length]);
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close", body.len());
            let _ = write!(stream.get_mut(), "{head}\r\n\r\n{body}");
        }
    });
    json!({ "type": "authorized_user", "client_id": "id", "client_secret": "canary", "refresh_token": "canary", "token_uri": url })
}

/// Without credentials, or with such that give no token, a command ends with 77 and says what to do.
#[test]
fn missing_and_refused_credentials_are_told_with_exit_77() {
    let invalid = tokens("400 Bad Request", r#"{"error":"invalid_grant","error_description":"revoked"}"#);
    for key in [None, Some(&json!({ "type": "nonsense" })), Some(&invalid)] {
        let (code, said) = refused(key, "https://127.0.0.1:1");
        assert_eq!(code, Some(77), "{key:?}: {said}");
        assert!(said.contains("no usable credentials") && said.contains("gcloud auth application-default login"), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

/// From the credentials over a token to the TLS connection, which is refused here: nothing of it takes another crypto provider than ours.
#[test]
fn a_server_that_is_not_googles_is_not_trusted() {
    let key = tokens("200 OK", r#"{"access_token":"canary","expires_in":3600,"token_type":"Bearer"}"#);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut hello = [0; 3];
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut hello).unwrap();
        hello
    });
    let (code, said) = refused(Some(&key), &endpoint);
    assert_eq!(server.join().unwrap()[..2], [22, 3], "a TLS handshake was begun");
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("connecting") && said.contains(&endpoint) && !said.contains("canary"), "{said}");
}

/// The library waits for a connection without an end, and so it would for whoever accepts it and says nothing.
#[test]
fn a_server_that_never_answers_is_given_up() {
    let key = tokens("200 OK", r#"{"access_token":"canary","expires_in":3600,"token_type":"Bearer"}"#);
    // What comes is taken by the kernel, and by nobody else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let (code, said) = refused_within(Some(&key), &endpoint, 300);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("connecting: {endpoint}: no answer in time")) && !said.contains("canary"), "{said}");
}
