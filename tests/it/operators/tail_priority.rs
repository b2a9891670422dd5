//! The feed: what is printed, where it begins and ends, and a Redis that goes away.

use std::io::Read as _;
use std::process::{Command, Stdio};

use convpipe::schema::policy::Level;
use convpipe::views::Writer;
use rustix::process::Signal;

use super::{A, B, HOSTILE, LIMIT, Site, conversation, entry, json, nothing_disturbs, write};
use crate::support::process::Process;

/// Adds an entry as the snapshot service does; its text is the conversation's name too.
async fn alert(writer: &Writer, account: &str, level: Level, text: &str) {
    let entry = serde_json::to_vec(&entry(account, "100000001", level, text)).unwrap();
    write(writer, super::ConversationWrite { priority: vec![entry], ..conversation(account, text) }).await;
}

/// Three entries of two accounts.
async fn three() -> (Site, Writer) {
    let site = Site::new();
    let writer = site.writer().await;
    for (account, level, text) in [(A, Level::Urgent, "one"), (B, Level::Low, "two"), (A, Level::High, "three")] {
        alert(&writer, account, level, text).await;
        // So that ids, which are milliseconds of Redis, are in this order.
        let time = || site.redis.run::<(u64, u64)>(&["TIME"]);
        let begun = time();
        while time().1 / 1000 == begun.1 / 1000 {}
    }
    (site, writer)
}

fn previews(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| json(line)["preview"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_there_is_printed_from_where_it_was_asked() {
    let (site, _writer) = three().await;
    let ids: Vec<String> =
        site.run("tail-priority --no-follow -o jsonl").stdout.iter().map(|line| json(line)["stream_id"].as_str().unwrap().into()).collect();
    let from_first = format!("--from-id {}", ids[0]);
    for (args, expected) in [
        ("", &["one", "two", "three"][..]),
        ("--last 2", &["two", "three"]),
        ("--last 2 --until 2100-01-01", &["two", "three"]),
        ("--count 1", &["one"]),
        ("--level urgent --level low", &["one", "two"]),
        ("--account 200000002", &["two"]),
        ("--since 1h", &["one", "two", "three"]),
        (&from_first, &["two", "three"]),
    ] {
        let output = site.check(&format!("tail-priority --no-follow -o jsonl {args}"), 0, "go on with --from-id ");
        assert_eq!(previews(&output.stdout), expected, "{args}");
    }
    for args in ["--until 2020-01-01", "--since 2100-01-01", "--level due", "--account 9"] {
        assert!(site.check(&format!("tail-priority --no-follow {args}"), 1, "no entries").stdout.is_empty(), "{args}");
    }
    site.check("tail-priority --level importnt", 2, "urgent, high, due, low");
    site.check("tail-priority --from-id now", 2, "--from-id: not an entry's id");
    site.check("tail-priority --last 0 --idle-timeout 1ms", 1, "nothing came");
}

#[tokio::test]
async fn every_format_says_the_same_and_disturbs_nothing() {
    let site = Site::new();
    let writer = site.writer().await;
    alert(&writer, A, Level::Urgent, HOSTILE).await;
    let table = site.run("tail-priority --no-follow").stdout;
    let line = r"2026-07-23T12:00:00.000Z  urgent  200000001   Ann 100000001                   whale     350ms  tip                        $25.00 \u{1b}[2Jevil\u{202e}\u{e0041}\nname\u{9b}";
    assert_eq!(table, [line]);
    for format in ["json", "jsonl", "raw"] {
        let output = site.run(&format!("tail-priority --no-follow -o {format}"));
        nothing_disturbs(&output.stdout);
        let value = match json(&output.stdout.join("\n")) {
            serde_json::Value::Array(mut values) => values.remove(0),
            value => value,
        };
        assert_eq!(value["preview"], HOSTILE, "{format}");
        assert_eq!(value.get("stream_id").is_some(), format != "raw");
    }
    assert_eq!(site.run("tail-priority --no-follow -o json --level low").stdout, ["[]"]);
}

#[tokio::test]
async fn a_follower_goes_on_through_a_restart_until_it_is_told_to_end() {
    let (mut site, writer) = three().await;
    let follower = site.start("tail-priority -o jsonl");
    follower.wait_stdout("three", LIMIT);
    alert(&writer, A, Level::Urgent, "four").await;
    follower.wait_stdout("four", LIMIT);
    let table = site.start("tail-priority --last 1");
    table.wait_stdout("four", LIMIT);

    site.redis.stop();
    for process in [&follower, &table] {
        process.wait_stderr("redis is gone", LIMIT);
    }
    site.redis.restart();
    let writer = site.writer().await;
    for process in [&follower, &table] {
        process.wait_stderr("redis is back", LIMIT);
    }
    alert(&writer, A, Level::Urgent, "five").await;
    follower.wait_stdout("five", LIMIT);
    table.wait_stdout("five", LIMIT);

    for (process, signal) in [(follower, Signal::INT), (table, Signal::TERM)] {
        process.signal(signal);
        let output = process.wait(LIMIT);
        assert_eq!(output.status.code(), Some(0), "{output:#?}");
        let said = |text: &str| output.stderr.iter().filter(|line| line.contains(text)).count();
        assert_eq!((said("redis is gone"), said("redis is back"), said("go on with --from-id")), (1, 1, 1), "{output:#?}");
        let gap = output.stdout.iter().any(|line| line.contains(r#"{"gap":{"account_id":"200000001","#) && line.contains("emptied"));
        assert_ne!(gap, said("gap: account 200000001: Redis was emptied") == 1, "told once, where it is read: {output:#?}");
    }
}

#[tokio::test]
async fn the_id_at_the_end_goes_on_where_it_ended() {
    let (site, writer) = three().await;
    let first = site.run("tail-priority --last 3 --count 2 -o jsonl");
    assert_eq!((first.status.code(), previews(&first.stdout)), (Some(0), vec!["one".to_owned(), "two".to_owned()]));
    let id = first.stderr.last().unwrap().rsplit(' ').next().unwrap().to_owned();
    let second = site.start(&format!("tail-priority --account {A} --from-id {id} --count 2 -o jsonl"));
    second.wait_stdout("three", LIMIT);
    alert(&writer, A, Level::Urgent, "four").await;
    let records: Vec<_> = second.wait(LIMIT).stdout.into_iter().filter(|line| !line.contains("\"gap\"")).collect();
    assert_eq!(previews(&records), ["three", "four"]);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_a_clean_end() {
    let (site, writer) = three().await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_convpipe"))
        .args(["tail-priority", "--last", "1"])
        .current_dir(site.folder())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 8]).unwrap();
    // The pipe is closed now, and the next line finds that out.
    alert(&writer, A, Level::Urgent, "four").await;
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_redis_that_is_not_there_or_says_no_has_its_exit_code() {
    let mut site = Site::new();
    site.redis.run::<()>(&["CONFIG", "SET", "requirepass", "right"]);
    site.check("tail-priority", 77, "error: ");
    site.redis.stop();
    site.check("tail-priority", 69, "hint: start Redis");
    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join("convpipe.yaml"), "redis:\n  ulr: x\n").unwrap();
    assert_eq!(Process::start(empty.path(), &["tail-priority"]).wait(LIMIT).status.code(), Some(78));
}
