//! Drift made by hand: found, named, repaired, and not found again.

use std::sync::Arc;
use std::time::Duration;

use convpipe::daemons::reconcile::{Check, CheckSettings, Scope};
use convpipe::daemons::snapshot::Policies;
use convpipe::documents::Access;
use convpipe::schema::envelope::Envelope;
use convpipe::views::Reader;
use serde_json::{Value, json};

use crate::pipeline::place::{LIMIT, Place, busy_evening, wait_until};
use crate::support::process::{Output, Process};
use crate::support::redis::RedisServer;

fn events(frames: usize) -> Vec<Envelope> {
    busy_evening(frames).into_iter().filter(|envelope| envelope.attribute("ce-subject").is_some()).collect()
}

fn place(redis: &RedisServer) -> Place {
    let mut place = Place::new(&redis.url(), "convpipe");
    place.config.snapshot.due_ms = 20;
    place
}

fn run(place: &Place, line: &str) -> Output {
    place.start(&line.split(' ').collect::<Vec<_>>()).wait(LIMIT)
}

#[track_caller]
fn check(place: &Place, code: i32) -> Value {
    let output = run(place, "reconcile --check --settle 0s -o json");
    assert_eq!(output.status.code(), Some(code), "{}\n{}", output.stdout.join("\n"), output.stderr.join("\n"));
    serde_json::from_str(&output.stdout.join("\n")).unwrap()
}

/// Class, store and what of a conversation's findings.
fn found(report: &Value, conversation: &str) -> Vec<(String, String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of_it = report["findings"].as_array().unwrap().iter().filter(|row| row["conversation_id"] == conversation);
    of_it.map(|row| (text(&row["class"]), text(&row["store"]), row["what"].as_array().unwrap().iter().map(text).collect())).collect()
}

fn row(class: &str, store: &str, what: &[&str]) -> Vec<(String, String, Vec<String>)> {
    vec![(class.to_owned(), store.to_owned(), what.iter().map(|&what| what.to_owned()).collect())]
}

/// A service that has written all of the evening's beginning, and the conversations of one account that have a history.
async fn settled(redis: &RedisServer, place: &Place) -> (Process, String, Vec<String>) {
    settled_with(redis, place, events(600)).await
}

async fn settled_with(redis: &RedisServer, place: &Place, events: Vec<Envelope>) -> (Process, String, Vec<String>) {
    let process = place.start(&["snapshot"]);
    place.publish(events).await;
    place.wait_backlog(&place.bus(), 0).await;
    let account: Vec<String> = redis.run(&["ZREVRANGE", "convpipe:accounts", "0", "0"]);
    let file = rusqlite::Connection::open(&place.config.documents.embedded.path).unwrap();
    let sql = "SELECT DISTINCT c.name FROM messages m JOIN conversations c ON c.id = m.conversation JOIN accounts a ON a.id = c.account \
               WHERE a.name = ?1 AND m.sent_at IS NOT NULL ORDER BY c.name";
    let mut statement = file.prepare(sql).unwrap();
    let conversations: Vec<String> = statement.query_map([&account[0]], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(conversations.len() >= 14, "{conversations:?}");
    (process, account[0].clone(), conversations)
}

fn sqlite(place: &Place, sql: &str, account: &str, fan: &str) {
    let file = rusqlite::Connection::open(&place.config.documents.embedded.path).unwrap();
    file.busy_timeout(Duration::from_secs(20)).unwrap();
    let changed = file.execute(&format!("{sql} WHERE fan = ?2 AND account = (SELECT id FROM accounts WHERE name = ?1)"), [account, fan]);
    assert_eq!(changed.unwrap(), 1, "{sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_made_by_hand_is_found_named_and_repaired() {
    let redis = RedisServer::start();
    let place = place(&redis);
    let (process, account, conversations) = settled(&redis, &place).await;
    let report = check(&place, 0);
    assert_eq!((&report["classes"]["lost"], &report["findings"]), (&json!(0), &json!([])));
    assert!(report["conversations"].as_u64().unwrap() > 50);

    let key = |at: usize| format!("convpipe:{{{account}}}:conversation:{}", conversations[at]);
    redis.run::<()>(&["DEL", &key(0)]);
    let stored: String = redis.run(&["HGET", &key(1), "snapshot"]);
    let mut snapshot: Value = serde_json::from_str(&stored).unwrap();
    snapshot["unread"] = json!(77);
    redis.run::<()>(&["HSET", &key(1), "snapshot", &snapshot.to_string()]);
    redis.run::<()>(&["PEXPIRE", &key(2), "1"]);
    wait_until("the end of the key", async || redis.run::<u8>(&["EXISTS", &key(2)]) == 0).await;
    redis.run::<()>(&["PERSIST", &key(3)]);
    redis.run::<()>(&["ZREM", &format!("convpipe:{{{account}}}:inbox"), &conversations[4]]);
    redis.run::<()>(&["HSET", &key(5), "fold", "garbage"]);
    sqlite(&place, "DELETE FROM summaries", &account, &conversations[6]);
    let altered = "UPDATE summaries SET summary = CAST(json_set(CAST(summary AS TEXT), '$.messages_in', 4242) AS BLOB)";
    sqlite(&place, altered, &account, &conversations[7]);
    sqlite(&place, "UPDATE summaries SET fold = x'ff'", &account, &conversations[8]);
    redis.run::<()>(&["HDEL", &key(9), "snapshot", "rev"]);
    redis.run::<()>(&["HDEL", &key(10), "fold"]);
    redis.run::<()>(&["ZADD", &format!("convpipe:{{{account}}}:awaiting"), "5", &conversations[11]]);
    sqlite(&place, "UPDATE summaries SET expire_at = 1", &account, &conversations[12]);
    sqlite(&place, "UPDATE summaries SET summary = x'00'", &account, &conversations[13]);

    let report = check(&place, 1);
    for (at, expected) in [
        row("lost", "views", &["all"]),
        row("conflicting", "views", &["unread"]),
        row("lost", "views", &["all"]),
        row("conflicting", "views", &["ttl"]),
        row("conflicting", "views", &["inbox"]),
        row("conflicting", "views", &["fold"]),
        row("lost", "documents", &["all"]),
        row("conflicting", "documents", &["messages_in"]),
        row("conflicting", "documents", &["fold"]),
        row("conflicting", "views", &["snapshot"]),
        row("conflicting", "views", &["fold"]),
        row("conflicting", "views", &["awaiting"]),
        row("lost", "documents", &["all"]),
        row("conflicting", "documents", &["summary"]),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(found(&report, &conversations[at]), expected, "number {at}");
    }
    assert_eq!(report["findings"].as_array().unwrap().len(), 14, "{report}");
    assert_eq!((&report["classes"]["lost"], &report["classes"]["conflicting"]), (&json!(4), &json!(10)));

    let output = run(&place, "reconcile --repair --settle 0s");
    assert_eq!(output.status.code(), Some(2), "nobody is there to be asked");
    let output = run(&place, "reconcile --repair --yes --settle 0s");
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr.join("\n"));
    assert!(output.stderr.iter().any(|line| line.starts_with("14 repairs asked for")), "{:?}", output.stderr);
    place.wait_backlog(&place.bus(), 0).await;
    check(&place, 0);
    assert!(process.terminate(LIMIT).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_behind_is_late_and_no_drift() {
    let redis = RedisServer::start();
    let place = place(&redis);
    let (process, ..) = settled(&redis, &place).await;
    assert!(process.terminate(LIMIT).status.success());
    // Redis alone goes on; what it knows more is still on its way to the documents.
    let process = place.start(&["snapshot", "--only", "views"]);
    place.publish(events(900).split_off(events(600).len())).await;
    let bus = place.bus();
    let views = &place.config.bus.views_subscription;
    wait_until("views without a backlog", async || bus.backlog(&place.config.bus.topic, views).await.unwrap().messages == Some(0)).await;
    assert!(process.terminate(LIMIT).status.success());
    let report = check(&place, 0);
    assert!(report["classes"]["late"].as_u64().unwrap() > 0 && report["documents_backlog"] == true, "{report}");
    assert_eq!((&report["classes"]["lost"], &report["classes"]["conflicting"]), (&json!(0), &json!(0)), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_and_samples_are_printed_and_a_check_is_resumed() {
    let redis = RedisServer::start();
    let place = place(&redis);
    let (process, account, conversations) = settled(&redis, &place).await;
    assert!(process.terminate(LIMIT).status.success());
    let output = run(&place, "reconcile --since 15m -o jsonl");
    assert_eq!(output.status.code(), Some(0), "{:?}", output.stderr);
    let lines: Vec<Value> = output.stdout.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, snapshots) = lines.split_last().unwrap();
    assert!(snapshots.len() > 50 && snapshots.iter().all(|line| line["rev"].is_u64()));
    assert_eq!((&end["conversations"], &end["reset"]), (&json!(snapshots.len()), &json!(false)));
    let cursor = end["cursor"].as_str().unwrap();
    let again = run(&place, &format!("reconcile --since {cursor} --account {account} -o json"));
    let again: Value = serde_json::from_str(&again.stdout.join("\n")).unwrap();
    assert_eq!(again["reset"], false);
    let other = run(&place, "reconcile --since 00ff:99999999999999 -o jsonl");
    let end: Value = serde_json::from_str(other.stdout.last().unwrap()).unwrap();
    assert_eq!((&end["conversations"], &end["reset"]), (&json!(snapshots.len()), &json!(true)), "another epoch");

    let output = run(&place, "reconcile --check --samples 5 -o json");
    let sampled: Value = serde_json::from_str(&output.stdout.join("\n")).unwrap();
    assert!((5..=40).contains(&sampled["conversations"].as_u64().unwrap()), "{sampled}");

    // As if a check had been stopped behind this fan.
    let at = json!({ "position": { "account": account, "after": conversations[3] }, "checked": { "conversations": 4, "classes": { "lost": 1 } } });
    let file = place.dir().join("checkpoint");
    let of = format!("reconcile --check of {account}");
    std::fs::write(&file, json!({ "schema": "convpipe.checkpoint.v1", "of": of, "at": at }).to_string()).unwrap();
    let line = format!("reconcile --check --settle 0s --account {account} --checkpoint {} -o json", file.display());
    let output = run(&place, &line);
    assert_eq!(output.status.code(), Some(1), "what was found before counts: {:?}", output.stderr);
    let resumed: Value = serde_json::from_str(&output.stdout.join("\n")).unwrap();
    assert!(!file.exists(), "the check is done");
    let whole = run(&place, &format!("reconcile --check --settle 0s --account {account} -o json"));
    let whole: Value = serde_json::from_str(&whole.stdout.join("\n")).unwrap();
    let skipped = whole["conversations"].as_u64().unwrap() - (resumed["conversations"].as_u64().unwrap() - 4);
    assert!((4..whole["conversations"].as_u64().unwrap()).contains(&skipped), "{whole} {resumed}");
}

fn messages(place: &Place, sql: &str, account: &str, conversation: &str) -> String {
    let file = rusqlite::Connection::open(&place.config.documents.embedded.path).unwrap();
    file.busy_timeout(Duration::from_secs(20)).unwrap();
    let newest = "SELECT message, m.rowid FROM messages m JOIN conversations c ON c.id = m.conversation JOIN accounts a ON a.id = c.account \
                  WHERE a.name = ?1 AND c.name = ?2 AND sent_at IS NOT NULL AND deleted_at IS NULL ORDER BY sent_at DESC, message DESC LIMIT 1";
    let (message, row): (String, i64) = file.query_row(newest, [account, conversation], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(file.execute(&format!("{sql} WHERE rowid = ?1"), [row]).unwrap(), 1, "{sql}");
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_the_history_lost_are_named_and_told_again_by_their_events() {
    let redis = RedisServer::start();
    let place = place(&redis);
    let events = events(600);
    let (process, account, conversations) = settled_with(&redis, &place, events.clone()).await;
    let history = |code: i32| {
        let output = run(&place, "reconcile --check --history --settle 0s -o json");
        assert_eq!(output.status.code(), Some(code), "{}\n{}", output.stdout.join("\n"), output.stderr.join("\n"));
        serde_json::from_str::<Value>(&output.stdout.join("\n")).unwrap()
    };
    assert_eq!(history(0)["findings"], json!([]), "each message that a summary knows stands in the history as it knows it");
    let gone = messages(&place, "DELETE FROM messages", &account, &conversations[0]);
    let altered = "UPDATE messages SET document = CAST(json_set(CAST(document AS TEXT), '$.text', '!') AS BLOB)";
    let altered = messages(&place, altered, &account, &conversations[1]);
    check(&place, 0);
    let report = history(1);
    assert_eq!(found(&report, &conversations[0]), row("lost", "documents", &[&format!("message {gone}")]));
    assert_eq!(found(&report, &conversations[1]), row("conflicting", "documents", &[&format!("message {altered}")]));
    let output = run(&place, "reconcile --repair --yes --history --settle 0s");
    assert_eq!(output.status.code(), Some(1), "no store has them whole: {:?}", output.stderr);
    assert!(output.stderr.iter().any(|line| line.starts_with("2 conversations lack messages")), "{:?}", output.stderr);
    place.publish(events).await;
    place.wait_backlog(&place.bus(), 0).await;
    assert_eq!(history(0)["findings"], json!([]), "the events themselves bring them back");
    assert!(process.terminate(LIMIT).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_moves_has_not_drifted() {
    let redis = RedisServer::start();
    let place = place(&redis);
    let process = place.start(&["snapshot"]);
    let events = events(2_000);
    let publishing = async {
        for chunk in events.chunks(25) {
            place.publish(chunk.to_vec()).await;
        }
    };
    // Without a settle window, so that only the second look and what waits tell a write in the making from a loss.
    let settings = CheckSettings { accounts: Vec::new(), settle_ms: 0, scope: Scope::All, history: true };
    let policies = Arc::new(Policies::new(&place.config).unwrap());
    let checking = async {
        let (mut conversations, mut late, bus) = (0, 0, place.bus());
        for _ in 0..25 {
            let reader = Reader::connect(&place.config.redis).await.unwrap();
            let Ok(documents) = convpipe::backends::documents(&place.config, Access::ReadOnly).await else { continue };
            let begun = Check::begin(&place.config, reader, documents, &bus, settings.clone(), policies.clone(), None);
            let mut check = begun.await.unwrap();
            while let Some(page) = check.next().await.unwrap() {
                conversations += page.conversations;
                for finding in page.findings {
                    assert!(finding.drifts.iter().all(|drift| !drift.class.is_drift()), "{finding:?}");
                    late += 1;
                }
            }
        }
        (conversations, late)
    };
    let ((), (conversations, late)) = tokio::join!(publishing, checking);
    assert!(conversations > 100 && late > 0, "{conversations} looked at and {late} late prove nothing");
    place.wait_backlog(&place.bus(), 0).await;
    assert_eq!(check(&place, 0)["findings"], json!([]));
    assert!(process.terminate(LIMIT).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_nobody_knows_is_no_account_where_all_is_well() {
    let redis = RedisServer::start();
    let place = place(&redis);
    let (process, account, _) = settled(&redis, &place).await;
    assert!(process.terminate(LIMIT).status.success());
    let typo = &account[..account.len() - 1];
    let told = format!("no account {typo} known here; did you mean ");
    for line in ["--check", "--check --account 200000001", "--repair --yes", "--since 15m -o jsonl"] {
        let output = run(&place, &format!("reconcile {line} --account {typo}"));
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        assert!(output.stderr.iter().any(|line| line.contains(&told)), "{line}: {output:?}");
        // Whoever asks with a cursor gets the next one whatever became of the account.
        assert_eq!(output.stdout.iter().any(|line| line.contains("\"cursor\"")), line.starts_with("--since"), "{output:?}");
    }
    // One that only has an artifact is going to be.
    std::fs::create_dir_all(&place.config.auth.dir).unwrap();
    std::fs::write(place.config.auth.dir.join(format!("{typo}.json")), "{}").unwrap();
    assert_eq!(run(&place, &format!("reconcile --check --account {typo}")).status.code(), Some(0));
}
