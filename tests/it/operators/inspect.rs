//! `convpipe inspect-fan`.

use convpipe::runtime::clock;
use convpipe::schema::document::{FanSummary, MessageDocument};
use convpipe::schema::event::{Link, ReportedSpend, Subscription, SubscriptionState};
use convpipe::schema::view::ConversationSnapshot;
use convpipe::transform::materialize::AccountBatch;
use serde_json::Value;

use super::*;

/// Ann, high-value, in account A with everything that can be known; Bob, hostile, in A and B.
async fn filled() -> Stores {
    let mut stores = Stores::new().await;
    let at = clock::now().plus(-3 * HOUR - HOUR / 2);
    let mut first = named(message(A, ANN, 1, "Hello, are you there?", at), "Ann Lee");
    let day = 24 * HOUR;
    first.subscription = Some(Subscription {
        state: Some(SubscriptionState::Active),
        expires_at: Some(at.plus(7 * day)),
        auto_renew: Some(false),
        is_fan: Some(true),
        we_follow: None,
    });
    let (total, tips) = (Some(250_000), Some(200_000));
    let (messages, subscriptions, posts, streams) = (None, Some(50_000), None, None);
    first.spend = Some(ReportedSpend { total, messages, tips, subscriptions, posts, streams, basis: Basis::Gross, as_of: at });
    stores.say(&first, at.plus(120)).await;
    stores.say(&tip(A, ANN, 2, 123_405, at.plus(1_000)), at.plus(1_001)).await;
    let mut paid = message(A, ANN, 3, "Only for you", at.plus(2_000));
    (paid.kind, paid.direction) = (EventKind::MessageSent, Direction::Out);
    paid.id = format!("onlyfans:{A}:msg:3:sent").into();
    paid.message.as_mut().unwrap().price = Some(1_500);
    stores.say(&paid, at.plus(2_001)).await;
    stores.say(&message(A, ANN, 4, &"A long story. ".repeat(8), at.plus(3_000)), at.plus(3_001)).await;
    stores.say(&named(message(A, BOB, 5, HOSTILE_TEXT, at), HOSTILE_NAME), at).await;
    stores.say(&message(B, BOB, 6, "Hi B", at.plus(1)), at.plus(1)).await;
    stores
}

/// A gap of the account that ended just now.
async fn gap(stores: &Stores) {
    let now = clock::now();
    let mut event = Event::of_account(EventKind::ConnectionGap, "gap".into(), A, "00000000000000c2", now);
    event.link = Some(Link { from: Some(now.plus(-30_000)), to: Some(now), reason: Some("reset".into()), ..Link::default() });
    let mut batch = AccountBatch::new(A, None, &stores.policy, now);
    batch.apply(&event).unwrap();
    let (write, _) = batch.finish().unwrap().unwrap();
    assert_eq!(stores.writer.write_accounts(&[write]).await.unwrap(), [WriteOutcome::Written]);
}

#[tokio::test]
async fn a_page_says_what_each_store_knows() {
    let _steady = steady();
    let stores = filled().await;
    gap(&stores).await;
    let output = stores.run("COLUMNS=80 inspect-fan 100000001");
    assert_code(&output, 0);
    assert!(output.stderr.is_empty() && output.stdout.iter().all(|line| line.chars().count() <= 80), "{output:#?}");
    insta::assert_snapshot!(output.stdout.join("\n"), @r#"
    Ann Lee  fan 100000001  account 200000001

    snapshot  redis      rev 4  3h ago
      stale           frames may be missing from 0000-00-00 00:00:00 to 0000-00-00
                      00:00:00 (reset)
      name            Ann Lee, @u1
      tier            whale, high-value: spend >= $500.00, payment >= $100.00,
                      listed by id
      waiting         3h, since 0000-00-00 00:00:00
      unread          1
      last message    in, 3h ago: A long story. A long story. A long story. A long
                      story. A long story. A long story. A long story. A long story.
      last wrote      fan 3h ago, account 3h ago
      last ppv        $15.00, sent, not unlocked, 3h ago (message 3)
      spend seen      $1,234.05 in 1 payment: tips $1,234.05; largest $1,234.05,
                      last 3h ago
      spend reported  $2,500.00 gross, 3h ago: tips $2,000.00, subscriptions $500.00
      subscription    active, ends 0000-00-00 00:00:00 (in 6d), does not renew, a
                      fan
      presence        unknown
      seen            first 0000-00-00 00:00:00

    summary   documents  rev 4  3h ago
      name            Ann Lee, @u1
      tier            whale, high-value: spend >= $500.00, payment >= $100.00,
                      listed by id
      waiting         3h, since 0000-00-00 00:00:00
      messages        2 in, 1 out
      last ppv        $15.00, sent, not unlocked, 3h ago (message 3)
      spend seen      $1,234.05 in 1 payment: tips $1,234.05; largest $1,234.05,
                      last 3h ago
      spend reported  $2,500.00 gross, 3h ago: tips $2,000.00, subscriptions $500.00
      subscription    active, ends 0000-00-00 00:00:00 (in 6d), does not renew, a
                      fan
      seen            first 0000-00-00 00:00:00, last 3h ago
      kept until      0000-00-00 00:00:00

    messages  documents  3  newest 3h ago
      0000-00-00 00:00:00  in   Hello, are you there?
      0000-00-00 00:00:00  out  [price $15.00] Only for you
      0000-00-00 00:00:00  in   A long story. A long story. A long story. A long
                                story. A long story. A long story. A long story. A
                                long story.

    events    redis      4  newest <age>
      0000-00-00 00:00:00  message.received       Hello, are you there?
      0000-00-00 00:00:00  tip.received           $1,234.05
      0000-00-00 00:00:00  message.sent           price $15.00  Only for you
      0000-00-00 00:00:00  message.received       A long story. A long story. A lon…
    "#);
}

#[tokio::test]
async fn json_is_one_object_an_account() {
    let stores = filled().await;
    let output = stores.run("inspect-fan 100000001 -o json --last 1");
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&output.stdout.concat()).unwrap();
    let part = |name: &str| report[name].clone();
    let snapshot: ConversationSnapshot = serde_json::from_value(part("snapshot")).unwrap();
    assert_eq!((snapshot.rev, snapshot.unread, snapshot.stale), (4, 1, Some(false)));
    let summary: FanSummary = serde_json::from_value(part("summary")).unwrap();
    assert_eq!((summary.rev, summary.messages_in, summary.messages_out), (4, 2, 1));
    let messages: Vec<MessageDocument> = serde_json::from_value(part("messages")).unwrap();
    assert_eq!(messages[0].message_id.raw(), "4");
    assert_eq!((&report["events"][0]["message"]["id"], report["events"].as_array().unwrap().len()), (&"4".into(), 1));
    assert!(report["events"][0]["stream_id"].is_string());
    let source = |source: &Value| {
        assert!(source["age_ms"].as_i64().unwrap() >= 0);
        let word = |name: &str| source[name].as_str().unwrap().to_owned();
        format!("{} {} {} {}", word("name"), word("store"), word("state"), source["rev"])
    };
    let sources: Vec<String> = report["sources"].as_array().unwrap().iter().map(source).collect();
    assert_eq!(sources, ["snapshot redis ok 4", "summary documents ok 4", "messages documents ok null", "events redis ok null"]);
    assert_eq!((&report["account_id"], &report["fan_id"], report.get("gap")), (&A.into(), &ANN.into(), None));

    let two = stores.run("inspect-fan 100000002 -o jsonl");
    assert_inert(&two.stdout);
    let read = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    let two: Vec<Value> = two.stdout.iter().map(read).collect();
    assert_eq!(two.iter().map(|report| report["account_id"].as_str().unwrap()).collect::<Vec<_>>(), [A, B]);
    assert_eq!(two[0]["messages"][0]["text"], HOSTILE_TEXT);
    assert_eq!(two[0]["events"], serde_json::json!([]));
    let raw = stores.run("inspect-fan 100000001 -o raw --last 1");
    assert_eq!(raw.stdout.len(), 4, "{raw:?}");
    assert!(raw.stdout.iter().all(|line| read(line).is_object()));
}

#[tokio::test]
async fn a_fan_of_two_accounts_is_shown_for_each_and_is_inert() {
    let stores = filled().await;
    let output = stores.run("COLUMNS=80 inspect-fan 100000002");
    assert_code(&output, 0);
    assert_inert(&output.stdout);
    let headings: Vec<&String> = output.stdout.iter().filter(|line| line.contains("fan 100000002  account")).collect();
    assert_eq!(headings, [r"Ev\u{202e}il\u{1b}[31m 你好  fan 100000002  account 200000001", "fan 100000002  account 200000002"]);
    let one = stores.run("inspect-fan 100000002 --account 200000002");
    assert!(!one.stdout.concat().contains(A), "{one:?}");
    let shown = stores.run("inspect-fan 100000002 --account 200000001 --account 200000009");
    assert_code(&shown, 0);
    assert!(!shown.stdout.concat().contains("200000009"), "{shown:?}");
    assert_eq!(shown.stderr, ["no account 200000009 known here; did you mean 200000001? known: 200000001, 200000002"]);
}

#[tokio::test]
async fn what_has_run_out_is_unknown() {
    let mut stores = Stores::new().await;
    let now = clock::now();
    let mut typing = message(A, ANN, 1, "", now.plus(-HOUR));
    (typing.kind, typing.message) = (EventKind::TypingStarted, None);
    stores.say(&typing, now.plus(-HOUR)).await;
    let shown = stores.run("inspect-fan 100000001").stdout.join("\n");
    assert!(!shown.contains("typing          now") && shown.contains("presence        unknown"), "{shown}");
    // Five seconds may pass on a busy machine before it is shown, so this one begins in a while.
    let mut typing = message(A, ANN, 2, "", now.plus(HOUR / 60));
    (typing.kind, typing.message, typing.occurred_at) = (EventKind::TypingStarted, None, None);
    stores.say(&typing, now).await;
    let shown = stores.run("inspect-fan 100000001").stdout.join("\n");
    assert!(shown.contains("typing          now"), "{shown}");
}

#[tokio::test]
async fn one_store_down_costs_only_its_sections() {
    let mut stores = filled().await;
    stores.server.stop();
    let down = stores.run("inspect-fan 100000001 --last 1");
    assert_code(&down, 69);
    let shown = down.stdout.join("\n");
    for section in
        ["snapshot  redis      unreachable", "events    redis      unreachable", "summary   documents  rev 4  3h ago", "A long story."]
    {
        assert!(shown.contains(section), "{section:?}: {shown}");
    }
    assert!(down.stderr[0].starts_with("error: Redis at 127.0.0.1"), "{down:?}");
    let json = stores.run("inspect-fan 100000001 -o json");
    let json: Value = serde_json::from_str(&json.stdout.concat()).unwrap();
    let states = |json: &Value| {
        json["sources"].as_array().unwrap().iter().map(|source| source["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(states(&json), ["unreachable", "ok", "ok", "unreachable"]);
    // Nobody can say whether the fan is in Redis.
    assert_code(&stores.run("inspect-fan 7"), 69);
    // History asks the documents alone.
    assert_code(&stores.run("inspect-fan 100000001 --history"), 0);

    stores.server.restart();
    let locked = RedisServer::start_with(&["--requirepass", "another"]);
    let refused = stores.run(&format!("CONVPIPE_REDIS_URL={} inspect-fan 100000001", locked.url()));
    assert_code(&refused, 77);
    assert!(refused.stdout.concat().contains("A long story."), "{refused:?}");

    let stores = filled().await;
    let absent = stores.run("CONVPIPE_DOCUMENTS_EMBEDDED_PATH=nowhere.db inspect-fan 100000001 -o json");
    assert_code(&absent, 0);
    let absent: Value = serde_json::from_str(&absent.stdout.concat()).unwrap();
    assert_eq!(states(&absent), ["ok", "absent", "absent", "ok"]);
    assert!(!stores.dir.path().join("nowhere.db").exists());
    fs::write(stores.dir.path().join("letter.db"), "Dear reader, this is a letter and no database. ".repeat(50)).unwrap();
    let foreign = stores.run("CONVPIPE_DOCUMENTS_EMBEDDED_PATH=letter.db inspect-fan 100000001 -o json");
    assert_code(&foreign, 69);
    assert_eq!(states(&serde_json::from_str(&foreign.stdout.concat()).unwrap()), ["ok", "unreadable", "unreadable", "ok"]);
    stores.server.run::<()>(&["HSET", "convpipe:{200000001}:conversation:100000001", "snapshot", "{}"]);
    let broken = stores.run("inspect-fan 100000001 -o json");
    assert_code(&broken, 69);
    assert_eq!(states(&serde_json::from_str(&broken.stdout.concat()).unwrap()), ["unreadable", "ok", "ok", "ok"]);
}

#[tokio::test]
async fn a_fan_whom_nobody_knows_is_a_finding() {
    let stores = filled().await;
    for (line, whose) in [("inspect-fan 7", "any account"), ("inspect-fan 7 --account 200000001", "account 200000001")] {
        let output = stores.run(line);
        assert_code(&output, 1);
        let told = &output.stderr[0];
        assert!(told.starts_with(&format!("no fan 7 of {whose}; looked in Redis at redis://127.0.0.1:")), "{told}");
        assert!(told.contains(" and in the documents file /") && told.ends_with("/documents.db"), "{told}");
        assert!(output.stdout.is_empty());
    }
    let hostile = stores.run("inspect-fan \u{1b}[31m --history");
    assert_code(&hostile, 1);
    assert_inert(&hostile.stderr);
    for line in [
        "inspect-fan",
        "inspect-fan 7 --follow",
        "inspect-fan 7 --history --count 1",
        "inspect-fan 7 --last 9999",
        "inspect-fan 7 --events --history",
    ] {
        assert_code(&stores.run(line), 2);
    }
}

#[tokio::test]
async fn messages_and_events_can_be_had_alone() {
    let mut stores = filled().await;
    let texts = |line: &str| {
        let output = stores.run(line);
        let text = |line: &String| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().trim().to_owned();
        output.stdout.iter().map(text).collect::<Vec<_>>()
    };
    let all = ["Hello, are you there?".to_owned(), "Only for you".to_owned(), "A long story. ".repeat(8).trim().to_owned()];
    assert_eq!(texts("inspect-fan 100000001 --history -o jsonl"), all);
    assert_eq!(texts("inspect-fan 100000001 --history -o jsonl --last 1"), all[2..]);
    assert_eq!(texts("inspect-fan 100000001 --history -o raw --since 1d"), all);
    assert!(texts("inspect-fan 100000001 --history -o jsonl --since 1h").is_empty());
    let nothing = stores.run("inspect-fan 100000001 --history --since 1h");
    assert_code(&nothing, 1);
    assert!(nothing.stderr[0].starts_with("no such messages of fan 100000001 of any account"), "the fan is known: {nothing:?}");
    let table = stores.run("inspect-fan 100000001 --history --last 2");
    assert!(table.stdout[2].starts_with("messages  documents  2, older ones are stored too"), "{table:?}");
    assert!(table.stdout[3].ends_with("out  [price $15.00] Only for you"), "{table:?}");

    let events = stores.run("inspect-fan 100000001 --events -o jsonl");
    assert_code(&events, 0);
    let last: Event<'_> = serde_json::from_str(&events.stdout[3]).unwrap();
    assert_eq!((events.stdout.len(), last.message_id()), (4, Some("4")));
    let follower = stores.start("inspect-fan 100000001 --events --follow --last 1");
    follower.wait_stdout("A long story.", LIMIT);
    stores.message(A, ANN, 9, "the newest").await;
    assert!(follower.wait_stdout("the newest", LIMIT).contains("message.received"));
    assert_code(&follower.terminate(LIMIT), 0);
    let nothing = stores.run("inspect-fan 100000002 --events");
    assert_eq!((nothing.status.code(), nothing.stderr.len()), (Some(1), 1), "{nothing:?}");
}

#[tokio::test]
async fn history_is_read_a_page_at_a_time_until_its_end() {
    let stores = filled().await;
    let (mut ids, mut before) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = stores.run(&format!("inspect-fan 100000001 --history --last 1 -o jsonl{before}"));
        assert_code(&page, 0);
        let message: Value = serde_json::from_str(&page.stdout.concat()).unwrap();
        ids.push(message["message_id"].as_str().unwrap().to_owned());
        before = page.stderr.concat().strip_prefix("older messages:").unwrap_or_default().to_owned();
    }
    assert_eq!((ids, before.as_str()), (vec!["4".to_owned(), "3".to_owned(), "1".to_owned()], ""));
    let filtered = stores.run("inspect-fan 100000001 --history -o jsonl --filter event.price_minor>0");
    assert!(filtered.stdout.len() == 1 && filtered.stdout[0].contains("Only for you"), "{filtered:?}");
    let events = stores.run("inspect-fan 100000001 --events -o jsonl --filter event.money_minor>0");
    assert!(events.stdout.len() == 1 && events.stdout[0].contains("tip.received"), "{events:?}");
    for line in ["--history --before x", "--before 1-2", "--events --transcript", "--transcript -o json", "--explain x --count 1"] {
        assert_code(&stores.run(&format!("inspect-fan 7 {line}")), 2);
    }
}

#[tokio::test]
async fn a_transcript_is_markdown_that_nobody_can_forge() {
    let _steady = steady();
    let stores = filled().await;
    let output = stores.run("inspect-fan 100000001 --transcript");
    assert_code(&output, 0);
    let text = output.stdout.join("\n");
    for line in [
        "# Ann Lee @u1 (fan 100000001, account 200000001)",
        "- tier whale, high-value",
        "- spend $1,234.05 seen in 1, largest $1,234.05; $2,500.00 reported",
        "A: [PPV $15.00] Only for you",
    ] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
    let hostile = stores.run("inspect-fan 100000002 --transcript --account 200000001");
    assert_inert(&hostile.stdout);
    let messages: Vec<&String> = hostile.stdout.iter().filter(|line| line.contains("F: ")).collect();
    assert!(messages.len() == 1 && messages[0].contains(r"F: a b\u{1b}]0;pwned\u{7}\u{9b}2J <b>x</b> =cmd()"), "{hostile:?}");
}

#[tokio::test]
async fn an_event_is_explained_place_by_place() {
    let mut stores = filled().await;
    let explained = |output: &Output| {
        let told: Value = serde_json::from_str(&output.stdout.concat()).unwrap();
        let place = |place: &Value| format!("{} {}", place["place"].as_str().unwrap(), place["state"].as_str().unwrap());
        told["places"].as_array().unwrap().iter().map(place).collect::<Vec<_>>().join(", ")
    };
    let id = "onlyfans:200000001:msg:1:received";
    let found = stores.run(&format!("inspect-fan --explain {id} -o json"));
    assert_code(&found, 0);
    let expected = "topic absent, priority feed found, snapshot unknown, events found, summary unknown, messages found";
    assert_eq!(explained(&found), expected, "{found:?}");
    let bus = convpipe::bus::embedded::EmbeddedBus::open(&convpipe::config::EmbeddedBusConfig {
        dir: stores.dir.path().join("bus"),
        ..convpipe::config::EmbeddedBusConfig::default()
    });
    let bus = convpipe::bus::Bus::Embedded(bus.unwrap());
    let at = clock::now();
    let event = convpipe::schema::envelope::Envelope::of_event(&message(A, ANN, 1, "Hello, are you there?", at)).unwrap();
    bus.publisher("convpipe-events").unwrap().publish(vec![event]).await.unwrap();
    let dir = stores.dir.path().join("bus");
    let with_bus = stores.run(&format!("CONVPIPE_BUS_EMBEDDED_DIR={} inspect-fan --explain {id} -o json", dir.display()));
    let expected = "topic found, to views absent, to documents absent, quarantine absent, priority feed found, snapshot absent, \
                    events found, summary absent, messages found";
    assert_eq!(explained(&with_bus), expected, "{with_bus:?}");

    let garbage = stores.run("inspect-fan --explain garbage");
    assert_code(&garbage, 2);
    assert!(garbage.stderr.concat().contains("one looks like onlyfans:200000001:msg:6400000000001:received"), "{garbage:?}");
    let nobody = stores.run("inspect-fan");
    assert!(nobody.stderr.concat().contains("inspect-fan --explain <EVENT_ID>"), "{nobody:?}");
    for option in ["--last 3", "--since 1h", "--filter event.is_tip", "--follow"] {
        assert_code(&stores.run(&format!("inspect-fan --explain {id} {option}")), 2);
    }
    let unknown = stores.run("inspect-fan --explain onlyfans:200000001:msg:99:received");
    assert_code(&unknown, 1);
    let hostile = stores.run("inspect-fan 100000002 --account 200000001 --explain onlyfans:1:\u{1b}[31m");
    assert_code(&hostile, 1);
    assert_inert(&hostile.stdout);
    stores.server.stop();
    let down = stores.run(&format!("inspect-fan 100000001 --explain {id} -o json"));
    assert_code(&down, 69);
    assert!(explained(&down).contains("priority feed unreachable") && explained(&down).ends_with("messages found"), "{down:?}");
}
