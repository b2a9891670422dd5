//! `convpipe tail-priority`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use convpipe::runtime::clock;
use convpipe::schema::view::PriorityEntry;
use convpipe::views::StreamId;
use rustix::process::Signal;
use serde_json::Value;

use super::*;

/// A feed in each of two accounts, with everything that a row can show.
async fn filled() -> Stores {
    let mut stores = Stores::new().await;
    let at = clock::now().plus(-3 * HOUR);
    stores.say(&named(message(A, ANN, 1, "Hello, are you there?", at), "Ann Lee"), at.plus(120)).await;
    stores.say(&named(message(B, BOB, 2, HOSTILE_TEXT, at.plus(1_000)), HOSTILE_NAME), at.plus(3_500)).await;
    stores.say(&tip(A, ANN, 3, 123_405, at.plus(2_000)), at.plus(2_001)).await;
    let mut like = message(A, BOB, 4, "", at.plus(3_000));
    (like.kind, like.message) = (EventKind::MessageLiked, None);
    stores.say(&like, at.plus(3_000)).await;
    stores
}

#[tokio::test]
async fn rows_fit_eighty_columns_and_strangers_are_inert() {
    let _steady = steady();
    let stores = filled().await;
    let output = stores.run("COLUMNS=80 tail-priority --no-follow");
    assert_code(&output, 0);
    assert_inert(&output.stdout);
    insta::assert_snapshot!(output.stdout.join("\n"), @r#"
    TIME     LEVEL  ACCOUNT   FAN                LAG WHY           MESSAGE
    00:00:00 urgent 200000001 Ann Lee none     120ms high_value_m… Hello, are you t…
    00:00:00 high   200000002 Ev\u{202e}… none  2.5s message       a\nb\u{1b}]0;pwn…
    00:00:00 urgent 200000001 Ann Lee whale      1ms tip           $1,234.05
    00:00:00 low    200000001 100000002 none     0ms like          message.liked
    "#);
    let output = stores.run("COLUMNS=200 tail-priority --no-follow");
    insta::assert_snapshot!(output.stdout.join("\n"), @r#"
    TIME                 LEVEL   ACCOUNT     FAN                       ID          TIER          MONEY    LAG  WHY                                 MESSAGE
    0000-00-00 00:00:00  urgent  200000001   Ann Lee                   100000001   none                 120ms  high_value_message, message         Hello, are you there?
    0000-00-00 00:00:00  high    200000002   Ev\u{202e}il\u{1b}[31m …  100000002   none                  2.5s  message                             a\nb\u{1b}]0;pwned\u{7}\u{9b}2J <b>x</b> =cmd()
    0000-00-00 00:00:00  urgent  200000001   Ann Lee                   100000001   whale     $1,234.05    1ms  tip                                 tip.received
    0000-00-00 00:00:00  low     200000001   100000002                 100000002   none                   0ms  like                                message.liked
    "#);
    // In a pipe nothing is cut, and the first line is an entry.
    let output = stores.run("tail-priority --no-follow --account 200000002");
    assert_inert(&output.stdout);
    insta::assert_snapshot!(output.stdout.join("\n"), @r#"
    0000-00-00 00:00:00  high    Ev\u{202e}il\u{1b}[31m 你好  100000002   none                  2.5s  message                                 a\nb\u{1b}]0;pwned\u{7}\u{9b}2J <b>x</b> =cmd()
    "#);
    let coloured = stores.run("tail-priority --no-follow --color always");
    assert!(coloured.stdout[0].contains("\u{1b}[1m\u{1b}[31murgent"), "{coloured:?}");
}

#[tokio::test]
async fn json_is_the_stored_entry_and_its_place() {
    let stores = filled().await;
    let ids = stores.ids(A);
    let stored = stores.stored(A);
    let output = stores.run("tail-priority --no-follow --account 200000001 -o jsonl");
    let expected = stored.iter().zip(&ids).map(|(json, id)| format!("{},\"stream_id\":\"{id}\"}}", json.strip_suffix('}').unwrap()));
    assert_eq!(output.stdout, expected.collect::<Vec<_>>());
    for line in &output.stdout {
        serde_json::from_str::<PriorityEntry>(line).unwrap();
    }
    assert_eq!(stores.run("tail-priority --no-follow --account 200000001 -o raw").stdout, stored);

    let all = stores.run("tail-priority --no-follow -o json");
    assert_inert(&all.stdout);
    let Value::Array(entries) = serde_json::from_str(&all.stdout.concat()).unwrap() else { panic!("an array: {all:?}") };
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[1]["preview"], HOSTILE_TEXT);
    let nothing = stores.run("tail-priority --no-follow -o json --account 7");
    assert_eq!((nothing.status.code(), nothing.stdout.concat().as_str()), (Some(1), "[]"));
    assert_eq!(nothing.stderr, ["no account 7 known here; known: 200000001, 200000002", "no entries"]);
    // With one that is known, what there is of it is printed, and the mistake is a finding all the same.
    let half = stores.run("tail-priority --no-follow -o raw --account 200000001 --account 20000001");
    assert_eq!((half.status.code(), half.stdout.len()), (Some(1), 3), "{half:?}");
    assert!(half.stderr[0].contains("did you mean 200000001?"), "{half:?}");
}

#[tokio::test]
async fn what_is_read_is_what_was_asked_for() {
    let stores = filled().await;
    let (a, b) = (stores.ids(A), stores.ids(B));
    let ms = |id: &str| Millis(id.parse::<StreamId>().unwrap().ms as i64).to_string();
    let read = |options: &str| {
        let output = stores.run(&format!("tail-priority --no-follow -o jsonl {options}"));
        let id = |line: &String| serde_json::from_str::<Value>(line).unwrap()["stream_id"].as_str().unwrap().to_owned();
        output.stdout.iter().map(id).collect::<Vec<_>>()
    };
    // In the order in which they were written, over both accounts: a[0] b[0] a[1] a[2].
    for (options, expected) in [
        ("", vec![&a[0], &b[0], &a[1], &a[2]]),
        ("--level low", vec![&a[2]]),
        ("--level urgent --level high", vec![&a[0], &b[0], &a[1]]),
        ("--level urgent --last 1", vec![&a[1]]),
        ("--level high --last 5", vec![&b[0]]),
        ("--last 2", vec![&a[1], &a[2]]),
        ("--last 0", vec![]),
        ("--count 2", vec![&a[0], &b[0]]),
        ("--account 200000002", vec![&b[0]]),
        ("--account 200000002 --account 200000001 --last 3", vec![&b[0], &a[1], &a[2]]),
        ("--since 1h --count 1", vec![&a[0]]),
        ("--until 2020-01-01", vec![]),
        (&format!("--until {} --last 9", ms(&a[0])), vec![]),
        (&format!("--from-id {} --account 200000001", a[1]), vec![&a[2]]),
        (&format!("--from-id {} --account 200000001", a[2]), vec![]),
    ] {
        let ids = read(options);
        assert_eq!(ids.iter().collect::<Vec<_>>(), expected, "{options:?}");
    }
}

#[tokio::test]
async fn several_accounts_are_read_in_order_however_much_there_is() {
    let stores = Stores::new().await;
    let mut connection = stores.server.connection();
    let mut pipeline = redis::pipe();
    pipeline.cmd("ZADD").arg("convpipe:accounts").arg(0).arg("a").arg(0).arg("b");
    for ms in 1..=900 {
        // A hundred of one account, then a few of the other.
        let account = if ms % 120 < 100 { "a" } else { "b" };
        pipeline.cmd("XADD").arg(feed(account)).arg(format!("{ms}-0")).arg("entry").arg(format!("{{\"n\":{ms}}}"));
    }
    pipeline.exec(&mut connection).unwrap();
    let output = stores.run("tail-priority --no-follow --since 2000-01-01 -o raw");
    assert!(output.stdout.is_empty(), "ids below the time are older");
    let output = stores.run("tail-priority --no-follow --from-id 0 -o raw");
    assert_eq!(output.stdout, (1..=900).map(|ms| format!("{{\"n\":{ms}}}")).collect::<Vec<_>>());
    assert_eq!(stores.run("tail-priority --no-follow -o raw").stdout, output.stdout, "everything, where nothing says from where");
    // Not one entry can be read as what it should be; all the same it is a row.
    let output = stores.run("tail-priority --no-follow --last 1");
    assert!(output.stdout[0].contains("unreadable: missing field"), "{output:?}");
}

#[tokio::test]
async fn a_follower_prints_what_comes_and_goes_on_where_it_ended() {
    let mut stores = filled().await;
    let follower = stores.start("tail-priority --account 200000001 --last 1 -o jsonl");
    follower.wait_stdout("message.liked", LIMIT);
    stores.message(A, ANN, 10, "the tenth").await;
    follower.wait_stdout("the tenth", LIMIT);
    follower.signal(Signal::INT);
    let output = follower.wait(LIMIT);
    assert_code(&output, 0);
    assert_eq!(output.stdout.len(), 2);
    let last = stores.ids(A).pop().unwrap();
    assert_eq!(output.stderr, [format!("last id {last}; --from-id {last} goes on after it")]);

    stores.message(A, ANN, 11, "the eleventh").await;
    stores.message(A, ANN, 12, "the twelfth").await;
    let resumed = stores.run(&format!("tail-priority --account 200000001 --from-id {last} -o raw --count 2"));
    assert_code(&resumed, 0);
    assert_eq!(resumed.stdout, stores.stored(A)[4..]);
    // One id for all accounts is a lower bound: what is near it comes again, nothing is left out, and nothing is told as missing.
    let bound = StreamId { ms: last.parse::<StreamId>().unwrap().ms - 1, seq: 0 };
    stores.message("200000003", ANN, 13, "a feed that began later").await;
    let both = stores.run(&format!("tail-priority --from-id {bound} --no-follow -o raw"));
    assert!(both.stdout.len() >= 4 && both.stdout.last().unwrap().contains("began later"), "{both:?}");
    assert!(!both.stderr.iter().any(|line| line.contains("gap")), "{both:?}");
    assert!(both.stderr[0].ends_with("goes on, the last 2 s again"), "{both:?}");
}

#[tokio::test]
async fn a_follower_ends_when_it_was_asked_to() {
    let mut stores = filled().await;
    let idle = stores.run("tail-priority --last 1 --idle-timeout 50ms");
    assert_eq!((idle.status.code(), idle.stdout.len()), (Some(0), 1));
    let idle = stores.run("tail-priority --last 0 --idle-timeout 50ms");
    assert_eq!((idle.status.code(), idle.stderr.as_slice()), (Some(1), &["no entries".to_owned()][..]));
    let counted = stores.start("tail-priority --last 1 --count 2 -o raw");
    counted.wait_stdout("message.liked", LIMIT);
    stores.message(B, BOB, 20, "twenty").await;
    stores.message(B, BOB, 21, "twenty-one").await;
    let counted = counted.wait(LIMIT);
    assert_eq!((counted.status.code(), counted.stdout.len()), (Some(0), 2));
    let terminated = stores.start("tail-priority --last 1");
    terminated.wait_stdout("twenty-one", LIMIT);
    assert_code(&terminated.terminate(LIMIT), 0);
    let waits = stores.start("tail-priority --account 200000007 --count 1 -o raw");
    waits.wait_stderr("no account 200000007 known here; did you mean 200000001? known: 200000001, 200000002; waiting for it", LIMIT);
    stores.message("200000007", BOB, 19, "a new account").await;
    let waits = waits.wait(LIMIT);
    assert_eq!((waits.status.code(), waits.stdout.len()), (Some(0), 1), "{waits:?}");
}

#[tokio::test]
async fn a_restart_of_redis_loses_and_repeats_nothing() {
    let server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut stores = Stores::on(server).await;
    stores.message(A, ANN, 1, "before").await;
    let follower = stores.start("tail-priority -o raw");
    follower.wait_stdout("before", LIMIT);
    stores.server.stop();
    follower.wait_stderr("redis is gone, waiting (Redis at 127.0.0.1", LIMIT);
    stores.restart().await;
    stores.message(A, ANN, 2, "after").await;
    follower.wait_stdout("after", LIMIT);
    follower.wait_stderr("redis is back", LIMIT);
    let output = follower.terminate(LIMIT);
    assert_code(&output, 0);
    assert_eq!(output.stdout, stores.stored(A));
    assert_eq!(output.stderr.len(), 3, "each is said once: {output:?}");
}

#[tokio::test]
async fn entries_that_went_are_told() {
    let mut stores = filled().await;
    let ids = stores.ids(A);
    stores.server.run::<()>(&["XTRIM", &feed(A), "MAXLEN", "1"]);
    let line = format!("tail-priority --no-follow --account 200000001 --from-id {}", ids[0]);
    let table = stores.run(&line);
    assert_eq!(table.stderr[0], format!("gap: account 200000001: entries after {} went before they could be read", ids[0]));
    assert_eq!(table.stdout.len(), 1);
    let jsonl = stores.run(&format!("{line} -o jsonl"));
    let gap = serde_json::json!({ "gap": { "account_id": A, "after": ids[0], "next": ids[2], "cause": "trimmed" } });
    assert_eq!(serde_json::from_str::<Value>(&jsonl.stdout[0]).unwrap(), gap);
    assert_eq!(jsonl.stdout.len(), 2);
    let json = stores.run(&format!("{line} -o json"));
    assert_eq!(serde_json::from_str::<Value>(&json.stdout.concat()).unwrap()[0], gap);

    let follower = stores.start("tail-priority --account 200000001 -o jsonl");
    follower.wait_stdout("message.liked", LIMIT);
    stores.server.flush();
    stores.writer.epoch().await.unwrap();
    let told: Value = serde_json::from_str(&follower.wait_stdout("\"gap\"", LIMIT)).unwrap();
    assert_eq!(told["gap"]["cause"], "emptied");
    stores.message(A, "100000003", 30, "a new beginning").await;
    follower.wait_stdout("a new beginning", LIMIT);
    assert_code(&follower.terminate(LIMIT), 0);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_ends_it() {
    let stores = filled().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_convpipe"));
    command.args(["tail-priority", "-o", "jsonl"]).current_dir(stores.dir.path()).env_clear();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    // The first line is there although the follower goes on; then the reader is dropped, and nothing else is ever written.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("Hello, are you there?"), "{first}");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[tokio::test]
async fn every_end_has_its_code() {
    let stores = Stores::new().await;
    let nothing = stores.run("tail-priority --no-follow");
    assert_eq!((nothing.status.code(), nothing.stderr.as_slice()), (Some(1), &["no entries".to_owned()][..]));
    for line in [
        "tail-priority --level loud",
        "tail-priority --from-id x",
        "tail-priority --last 1 --since 1h",
        "tail-priority --since 1m --until 1h",
        "tail-priority -o yaml",
        "tail-priority --follow --no-follow",
        "tail-priority --no-follow --idle-timeout 1s",
        "tail-priority --filter event.money_minor=='5'",
    ] {
        assert_code(&stores.run(line), 2);
    }
    let locked = RedisServer::start_with(&["--requirepass", "another"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    for (url, code, says) in [
        (format!("redis://127.0.0.1:{port}"), 69, "error: Redis at 127.0.0.1"),
        (locked.url(), 77, "error: Redis at 127.0.0.1"),
        ("redis://:secret@127.0.0.1".to_owned(), 78, "password"),
    ] {
        for command in ["tail-priority", "tail-priority --level low"] {
            let output = stores.run(&format!("CONVPIPE_REDIS_URL={url} {command}"));
            assert_code(&output, code);
            assert!(output.stderr.concat().contains(says), "{output:?}");
        }
    }
}

#[tokio::test]
async fn a_filter_chooses_and_a_wrong_one_is_pointed_at() {
    let stores = filled().await;
    for (filter, last, expected) in [
        ("fan.high_value", "", 2),
        ("event.money_minor>=5000&&entry.level=='urgent'", "", 1),
        ("entry.reasons.exists(r,r=='like')", "", 1),
        ("event.text.contains('<b>')", "", 1),
        ("fan.high_value", "--last 1", 1),
        ("fan.tier=='nobody'", "", 0),
    ] {
        let output = stores.run(&format!("tail-priority --no-follow -o raw --filter {filter} {last}"));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(i32::from(expected == 0)), expected), "{filter}: {output:?}");
    }
    let wrong = stores.run("tail-priority --filter fan.teir=='whale'");
    assert_code(&wrong, 2);
    assert!(wrong.stderr[0].ends_with("`fan` has no field `teir`; did you mean `tier`?"), "{wrong:?}");
    assert_eq!(wrong.stderr[2..4], ["  fan.teir=='whale'", "      ^"]);
    let apart = stores.run("tail-priority --filter event.money_minor=='5'");
    assert!(apart.stderr[0].ends_with("`==` compares int with string, which never holds"), "{apart:?}");
    assert_eq!(apart.stderr[2..4], ["  event.money_minor=='5'", "                   ^"]);
    let fails = stores.run("tail-priority --no-follow --filter int(event.text)>5||event.money_minor>0");
    assert_eq!(fails.stdout.len(), 1, "{fails:?}");
    assert!(fails.stderr[0].starts_with("the filter cannot be worked out for an entry, which is left out: `int`: "), "{fails:?}");
    assert_eq!(fails.stderr[1], "the filter could not be worked out for 3 entries");
}

#[tokio::test]
async fn a_strict_reader_ends_at_a_gap_and_one_without_patience_with_redis() {
    let mut stores = filled().await;
    let ids = stores.ids(A);
    stores.server.run::<()>(&["XTRIM", &feed(A), "MAXLEN", "1"]);
    let strict = stores.run(&format!("tail-priority --strict --account 200000001 --from-id {} -o jsonl", ids[0]));
    assert_code(&strict, 1);
    assert!(strict.stdout.len() == 1 && strict.stdout[0].contains("\"trimmed\""), "{strict:?}");
    let follower = stores.start("tail-priority --no-retry --account 200000001 -o raw");
    follower.wait_stdout("message.liked", LIMIT);
    stores.server.stop();
    let output = follower.wait(LIMIT);
    assert_code(&output, 69);
    assert!(output.stderr.iter().any(|line| line.starts_with("error: Redis at 127.0.0.1")), "{output:?}");
}
