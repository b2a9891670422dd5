//! Writing and reading back: guard, indexes, bounds, hostile ids, cluster slots.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use convpipe::config::RedisConfig;
use convpipe::schema::time::Millis;
use convpipe::schema::view::GapView;
use convpipe::transform::materialize::{AccountWrite, ConversationWrite, WriteOutcome};
use convpipe::transform::resolve::Claims;
use convpipe::views::{Keys, Reader, StreamRange, ViewsError, Writer};
use redis::Commands;

use super::super::support::redis::RedisServer;
use super::{ACCOUNT, T0, claims, config, entry, snapshot, start, write, write_of};

/// Everything that stands in Redis, but for streams' ids: to see that nothing changed.
fn content(server: &RedisServer) -> BTreeSet<String> {
    let mut connection = server.connection();
    let keys: Vec<String> = connection.keys("*").unwrap();
    let of = |key: &String| {
        let kind: String = redis::cmd("TYPE").arg(key).query(&mut server.connection()).unwrap();
        let command: &[&str] = match kind.as_str() {
            "hash" => &["HGETALL", key],
            "zset" => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
            "stream" => &["XRANGE", key, "-", "+"],
            _ => &["GET", key],
        };
        format!("{key} {:?}", server.run::<redis::Value>(command))
    };
    // A mark grows with every call, whatever it wrote.
    keys.iter().filter(|key| !key.ends_with(":marks")).map(of).collect()
}

#[tokio::test]
async fn a_hash_that_lost_a_part_is_loaded_as_what_is_left_and_written_over() {
    let (server, _, writer, _) = start().await;
    let key = format!("convpipe:{{{ACCOUNT}}}:conversation:c");
    for (lost, rev, fold) in
        [(&["fold"][..], 1, ""), (&["rev"], 0, "fold 1"), (&["snapshot"], 1, "fold 1"), (&["rev", "snapshot"], 0, "fold 1")]
    {
        assert_eq!(writer.write_conversations(&[write("c", 0)]).await.unwrap(), [WriteOutcome::Written], "{lost:?}");
        server.run::<()>(&[&["HDEL", &key], lost].concat());
        let loaded = writer.load_conversations(&[(ACCOUNT.into(), "c".into())]).await.unwrap().pop().flatten().unwrap();
        assert_eq!((loaded.rev, loaded.fold.as_slice()), (rev, fold.as_bytes()), "{lost:?}");
        assert_eq!(writer.write_conversations(&[write("c", rev)]).await.unwrap(), [WriteOutcome::Written], "{lost:?}");
        server.flush();
    }
}

#[tokio::test]
async fn a_write_stands_whole_with_its_indexes() {
    let (_server, _, writer, reader) = start().await;
    let mut one = write("100000001", 0);
    one.awaiting_since = Some(Millis(T0 - 500));
    one.due_at = Some(Millis(T0 + 120_000));
    one.fan_events = vec![Bytes::from_static(b"{\"e\":1}"), Bytes::from_static(b"{\"e\":2}")];
    one.priority = vec![entry("a"), entry("b")];
    let mut two = write("100000002", 0);
    two.active_at = Millis(T0 + 7);
    assert_eq!(writer.write_conversations(&[one.clone(), two]).await.unwrap(), [WriteOutcome::Written; 2]);

    let view = reader.conversation(ACCOUNT, "100000001").await.unwrap().unwrap();
    assert_eq!((view.rev, view.raw.as_bytes(), view.snapshot.stale), (1, one.snapshot.as_slice(), Some(false)));
    assert!(view.ttl.is_some_and(|ttl| ttl > Duration::from_secs(29 * 86_400)), "{:?}", view.ttl);
    assert_eq!(
        reader.inbox(ACCOUNT, 0, 10).await.unwrap(),
        [("100000002".to_owned(), Millis(T0 + 7)), ("100000001".to_owned(), Millis(T0))]
    );
    assert_eq!(reader.inbox(ACCOUNT, 1, 1).await.unwrap(), [("100000001".to_owned(), Millis(T0))]);
    assert_eq!(reader.awaiting(ACCOUNT, 0, 10).await.unwrap(), [("100000001".to_owned(), Millis(T0 - 500))]);
    assert_eq!(reader.accounts().await.unwrap(), [(ACCOUNT.to_owned(), Millis(T0 + 7))]);
    assert_eq!(writer.due(ACCOUNT, Millis(T0 + 119_999), 10).await.unwrap(), [""; 0]);
    assert_eq!(writer.due(ACCOUNT, Millis(T0 + 120_000), 10).await.unwrap(), ["100000001"]);
    let json = |entries: Vec<convpipe::views::StreamEntry>| entries.into_iter().map(|entry| entry.json).collect::<Vec<_>>();
    assert_eq!(json(reader.fan_events(ACCOUNT, "100000001", StreamRange::Last(10)).await.unwrap()), ["{\"e\":1}", "{\"e\":2}"]);
    assert_eq!(json(reader.priority(ACCOUNT, StreamRange::Last(1)).await.unwrap()), ["{\"n\":\"b\"}"]);
    let all = reader.priority(ACCOUNT, StreamRange::Between { since: Some(Millis(0)), until: None, limit: 10 }).await.unwrap();
    assert_eq!(all.len(), 2);
    let after = StreamRange::After { id: all[0].id, limit: 10 };
    assert_eq!(reader.priority(ACCOUNT, after).await.unwrap(), all[1..]);

    let stored = writer.load_conversations(&[(ACCOUNT.into(), "none".into()), (ACCOUNT.into(), "100000001".into())]).await.unwrap();
    assert_eq!(stored[0], None);
    assert_eq!(stored[1].as_ref().map(|stored| (stored.rev, stored.fold.as_slice())), Some((1, one.fold.as_slice())));

    // Answered: the conversation leaves the indexes that it has no place in any more.
    assert_eq!(writer.write_conversations(&[write("100000001", 1)]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(reader.awaiting(ACCOUNT, 0, 10).await.unwrap(), []);
    assert_eq!(writer.due(ACCOUNT, Millis(i64::MAX), 10).await.unwrap(), [""; 0]);
    assert_eq!(reader.find_fan("100000001").await.unwrap(), [ACCOUNT]);
    assert_eq!(reader.find_fan("999").await.unwrap(), [""; 0]);
    assert_eq!(reader.conversation(ACCOUNT, "999").await.unwrap(), None);
}

#[tokio::test]
async fn a_write_from_another_rev_changes_nothing() {
    let (server, _, writer, _) = start().await;
    let full = |conversation: &str, expected| {
        let mut write = write(conversation, expected);
        write.active_at = Millis(T0 + i64::try_from(expected).unwrap());
        write.awaiting_since = Some(write.active_at);
        write.due_at = Some(write.active_at);
        write.fan_events = vec![Bytes::from_static(b"{}")];
        write.priority = vec![entry("x")];
        write
    };
    assert_eq!(writer.write_conversations(&[full("a", 0)]).await.unwrap(), [WriteOutcome::Written]);
    let before = content(&server);
    for expected in [0, 2, 7] {
        assert_eq!(writer.write_conversations(&[full("a", expected)]).await.unwrap(), [WriteOutcome::Conflict], "from rev {expected}");
    }
    // A conversation that is not there has rev 0, and only that.
    assert_eq!(writer.write_conversations(&[full("b", 1)]).await.unwrap(), [WriteOutcome::Conflict]);
    let mut after = content(&server);
    // Activity of the account is noted beside the script; it is no part of the conversation.
    let accounts = |line: &String| !line.starts_with("convpipe:accounts");
    after.retain(accounts);
    assert_eq!(after, before.into_iter().filter(accounts).collect());

    // In one call: each by itself, the outcomes in order.
    let mixed = [full("c", 0), full("a", 0), full("b", 3), full("a", 1), full("a", 2)];
    use WriteOutcome::{Conflict, Written};
    assert_eq!(writer.write_conversations(&mixed).await.unwrap(), [Written, Conflict, Conflict, Written, Written]);
}

#[tokio::test]
async fn of_many_writers_one_wins_each_rev() {
    let (_server, config, _, reader) = start().await;
    let wins = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (writer, wins) = (Writer::connect(&config).await.unwrap(), Arc::clone(&wins));
        tasks.push(tokio::spawn(async move {
            let mut rev = 0;
            while rev < 30 {
                let mut write = write("1", rev);
                write.priority = vec![entry(&format!("{rev}"))];
                match writer.write_conversations(&[write]).await.unwrap()[0] {
                    WriteOutcome::Written => {
                        wins.fetch_add(1, Ordering::Relaxed);
                        rev += 1;
                    }
                    WriteOutcome::Conflict => {
                        rev = writer.load_conversations(&[(ACCOUNT.into(), "1".into())]).await.unwrap()[0].as_ref().map_or(0, |s| s.rev);
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(wins.load(Ordering::Relaxed), 30);
    let entries = reader.priority(ACCOUNT, StreamRange::Last(100)).await.unwrap();
    let expected: Vec<String> = (0..30).map(|rev| format!("{{\"n\":\"{rev}\"}}")).collect();
    assert_eq!(entries.into_iter().map(|entry| entry.json).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn large_calls_are_cut_and_answered_in_order() {
    let (_server, _, writer, reader) = start().await;
    let writes: Vec<ConversationWrite> = (0..1500)
        .map(|number| {
            let mut write = write_of(&format!("{}", 200_000_000 + number % 7), &format!("{number}"), u64::from(number % 5 == 0));
            write.fold = vec![0xff; 2000];
            write
        })
        .collect();
    let outcomes = writer.write_conversations(&writes).await.unwrap();
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(*outcome == WriteOutcome::Conflict, number % 5 == 0, "write {number}");
    }
    let wanted: Vec<(String, String)> = writes.iter().map(|write| (write.account.clone(), write.conversation.clone())).collect();
    let loaded = writer.load_conversations(&wanted).await.unwrap();
    for (number, stored) in loaded.iter().enumerate() {
        assert_eq!(stored.is_none(), number % 5 == 0, "conversation {number}");
    }
    assert_eq!(reader.accounts().await.unwrap().len(), 7);
    let many: Vec<String> = (0..1500).map(|number| number.to_string()).collect();
    let views = reader.conversations("200000000", &many).await.unwrap();
    assert_eq!(views.iter().flatten().count(), (0..1500).filter(|number| number % 7 == 0 && number % 5 != 0).count());
}

#[tokio::test]
async fn every_key_has_its_bound() {
    let server = RedisServer::start();
    let config = RedisConfig {
        inbox_max: 10,
        due_max: 5,
        fan_events_max: 100,
        priority_max: 100,
        message_index_max: 10,
        conversation_ttl_s: 1000,
        fan_events_ttl_s: 500,
        priority_ttl_s: 300,
        ..config(&server)
    };
    let writer = Writer::connect(&config).await.unwrap();
    let keys = Keys::new(&config).unwrap();
    writer.epoch().await.unwrap();
    for round in 0..60u32 {
        let writes: Vec<ConversationWrite> = (0..20)
            .map(|number| {
                let mut write = write(&format!("{number}"), u64::from(round));
                write.active_at = Millis(T0 + i64::from(number));
                write.awaiting_since = Some(write.active_at);
                write.due_at = Some(write.active_at);
                write.fan_events = vec![Bytes::from(vec![b'e'; 900]); 5];
                write.priority = vec![vec![b'p'; 900]; 2];
                write
            })
            .collect();
        assert!(writer.write_conversations(&writes).await.unwrap().iter().all(|outcome| *outcome == WriteOutcome::Written));
    }
    let messages = (0..50).map(|id| (format!("{id}"), "1".to_owned())).collect();
    let deletes = (0..50).map(|id| (format!("{id}"), Millis(T0))).collect();
    writer.resolve(&[Claims { account: ACCOUNT.into(), messages, deletes }]).await.unwrap();
    let account = AccountWrite { account: ACCOUNT.into(), expected_rev: 0, rev: 1, fold: vec![1], fields: vec![], priority: vec![] };
    writer.write_accounts(&[account]).await.unwrap();

    let zset = |key: String| -> Vec<String> { server.run(&["ZRANGE", &key, "0", "-1"]) };
    let newest = |from: u32| (from..20).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(zset(keys.inbox(ACCOUNT)), newest(10));
    // Whoever waits longest is never forgotten, nor is the timer that falls due next.
    let oldest = |until: u32| (0..until).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(zset(keys.awaiting(ACCOUNT)), oldest(10));
    assert_eq!(zset(keys.due(ACCOUNT)), oldest(5));
    // Two halves each, of which the newer one takes the place of the older when it is full.
    for key in keys.message_index(ACCOUNT) {
        assert_eq!(server.run::<u64>(&["HLEN", &key]), 5, "{key}");
    }
    // A stream is cut by whole nodes of at most 100 entries.
    for key in [keys.priority(ACCOUNT), keys.fan_events(ACCOUNT, "3")] {
        let length: u64 = server.run(&["XLEN", &key]);
        assert!((100..=200).contains(&length), "{key}: {length}");
    }
    let all: Vec<String> = server.connection().keys("*").unwrap();
    for key in all {
        let ttl_s: i64 = server.run(&["TTL", &key]);
        let expected = match key.as_str() {
            "convpipe:accounts" | "convpipe:epoch" | "convpipe:refill" | "convpipe:marks" => -1..=-1,
            key if key.ends_with(":priority") => 290..=300,
            key if key.ends_with(":events") => 490..=500,
            _ => 990..=1000,
        };
        assert!(expected.contains(&ttl_s), "{key}: {ttl_s}");
    }
}

#[tokio::test]
async fn the_longest_inactive_accounts_are_listed_no_more() {
    let server = RedisServer::start();
    let config = RedisConfig { accounts_max: 3, ..config(&server) };
    let (writer, reader) = (Writer::connect(&config).await.unwrap(), Reader::connect(&config).await.unwrap());
    let listed = async || -> Vec<String> { reader.accounts().await.unwrap().into_iter().map(|(account, _)| account).collect() };
    for (account, at) in [("a", 5), ("b", 3), ("c", 4), ("d", 2)] {
        let mut write = write_of(account, "1", 0);
        write.active_at = Millis(T0 + at);
        writer.write_conversations(&[write]).await.unwrap();
    }
    assert_eq!(listed().await, ["a", "c", "b"]);
    // What is known of it stays, and its next activity lists it again.
    assert!(reader.conversation("d", "1").await.unwrap().is_some());
    writer.touch_accounts(&[("d".into(), Millis(T0 + 9))]).await.unwrap();
    assert_eq!(listed().await, ["d", "a", "c"]);
}

#[tokio::test]
async fn the_epoch_is_set_once_and_is_another_after_a_flush() {
    let (server, config, writer, reader) = start().await;
    assert_eq!(reader.epoch().await.unwrap(), None);
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let writer = Writer::connect(&config).await.unwrap();
        tasks.push(tokio::spawn(async move { writer.epoch().await.unwrap() }));
    }
    let mut epochs = Vec::new();
    for task in tasks {
        epochs.push(task.await.unwrap());
    }
    assert_eq!(epochs.iter().filter(|epoch| epoch.created).count(), 1, "{epochs:?}");
    assert!(epochs.iter().all(|epoch| epoch.id == epochs[0].id), "{epochs:?}");
    assert_eq!(reader.epoch().await.unwrap().as_deref(), Some(epochs[0].id.as_str()));
    server.flush();
    let after = writer.epoch().await.unwrap();
    assert!(after.created && after.id != epochs[0].id, "{after:?}");
}

#[tokio::test]
async fn a_redis_that_lost_what_it_had_confirmed_is_noticed_once() {
    let (mut server, config, writer, reader) = start().await;
    let other = Writer::connect(&config).await.unwrap();
    let marks = [writer.mark(), other.mark()];
    let first = writer.epoch().await.unwrap();
    assert_eq!((first.floor, first.filled), (0, false));
    writer.begin_refill(7, false).await.unwrap();
    writer.end_refill(7).await.unwrap();
    assert_eq!(writer.epoch().await.unwrap(), convpipe::views::Epoch { created: false, floor: 7, filled: true, ..first.clone() });
    assert!(!writer.has_lost(&marks).await.unwrap(), "nothing was written yet");
    writer.write_conversations(&[write("1", 0)]).await.unwrap();
    other.write_conversations(&[write("2", 0)]).await.unwrap();
    server.run::<()>(&["SAVE"]);
    assert!(!writer.has_lost(&marks).await.unwrap());
    other.write_conversations(&[write("3", 0)]).await.unwrap();
    server.restart();
    while reader.epoch().await.is_err() {}
    let lost = async || {
        loop {
            // A connection that broke says so once.
            if let Ok(lost) = writer.has_lost(&marks).await {
                return lost;
            }
        }
    };
    assert!(lost().await, "the last write is gone");
    assert!(!lost().await, "once");
    writer.begin_refill(9, true).await.unwrap();
    let after = writer.epoch().await.unwrap();
    assert_eq!((after.created, after.floor, after.filled, after.id == first.id), (false, 9, false, false));
    server.flush();
    assert!(writer.write_conversations(&[write("1", 0)]).await.is_ok() && !lost().await, "what was confirmed after the loss is there");
    server.flush();
    assert!(lost().await, "emptied");
}

#[tokio::test]
async fn account_states_are_guarded_and_overlay_staleness() {
    let (_server, _, writer, reader) = start().await;
    let gap = GapView { from: Some(Millis(T0)), to: Millis(T0 + 1000), reason: Some("reconnect".into()) };
    let write_account = |expected_rev, fields| AccountWrite {
        account: ACCOUNT.into(),
        expected_rev,
        rev: expected_rev + 1,
        fold: b"state".to_vec(),
        fields,
        priority: vec![entry("account")],
    };
    let gap_field = vec![("gap", serde_json::to_vec(&gap).unwrap())];
    assert_eq!(writer.write_accounts(&[write_account(0, gap_field.clone())]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(writer.write_accounts(&[write_account(0, gap_field)]).await.unwrap(), [WriteOutcome::Conflict]);
    assert_eq!(writer.write_accounts(&[write_account(1, vec![])]).await.unwrap(), [WriteOutcome::Written]);
    assert_eq!(reader.account(ACCOUNT).await.unwrap().gap, Some(gap));
    assert_eq!(reader.account("other").await.unwrap(), convpipe::schema::view::AccountView::default());
    assert_eq!(reader.priority(ACCOUNT, StreamRange::Last(10)).await.unwrap().len(), 2);
    assert_eq!(writer.load_accounts(&[ACCOUNT.into(), "other".into()]).await.unwrap().iter().flatten().count(), 1);

    assert_eq!(reader.accounts().await.unwrap(), [(ACCOUNT.to_owned(), Millis(0))]);
    writer.touch_accounts(&[(ACCOUNT.into(), Millis(T0))]).await.unwrap();
    writer.touch_accounts(&[(ACCOUNT.into(), Millis(T0 - 1))]).await.unwrap();
    assert_eq!(reader.accounts().await.unwrap(), [(ACCOUNT.to_owned(), Millis(T0))]);

    for (conversation, received_at, stale) in [("before", T0 + 999, true), ("after", T0 + 1000, false)] {
        let mut write = write(conversation, 0);
        write.snapshot = serde_json::to_vec(&snapshot(ACCOUNT, conversation, 1, received_at)).unwrap();
        writer.write_conversations(&[write]).await.unwrap();
        let view = reader.conversation(ACCOUNT, conversation).await.unwrap().unwrap();
        assert_eq!(view.snapshot.stale, Some(stale), "{conversation}");
        assert!(!view.raw.contains("stale"), "{}", view.raw);
    }
}

#[tokio::test]
async fn hostile_ids_stay_values() {
    let (server, _, writer, reader) = start().await;
    let long = "9".repeat(10_000);
    let hostile = ["{x}", "a:b", "a}b{c", "new\nline", "", "é🙂", "\u{202e}rtl", "x~00", "*", "\0", &long];
    for account in hostile {
        for conversation in hostile {
            let mut write = write_of(account, conversation, 0);
            write.fan_events = vec![Bytes::from_static(b"{}")];
            write.priority = vec![entry("x")];
            assert_eq!(writer.write_conversations(&[write]).await.unwrap(), [WriteOutcome::Written]);
            let view = reader.conversation(account, conversation).await.unwrap().unwrap();
            assert_eq!(view.snapshot.conversation_id.raw(), conversation);
        }
        let inbox: BTreeSet<String> = reader.inbox(account, 0, 100).await.unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(inbox, hostile.iter().map(|&id| id.to_owned()).collect());
    }
    assert_eq!(reader.accounts().await.unwrap().len(), hostile.len());
    assert_eq!(reader.find_fan("a:b").await.unwrap().len(), hostile.len());
    let plain = |key: &String| key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-~:{}".contains(&b)) && key.matches('{').count() <= 1;
    let all: Vec<String> = server.connection().keys("*").unwrap();
    assert!(all.iter().all(plain), "{all:?}");
}

/// The slot a key belongs to, as the cluster specification has it: CRC-16/XMODEM of the hash tag, or of the whole key.
fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(key, |(tag, _)| if tag.is_empty() { key } else { tag });
    let crc = tag.bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    crc % 16_384
}

#[tokio::test]
async fn one_account_is_one_slot_and_a_cluster_takes_every_call() {
    assert_eq!(slot("123456789"), 12_739, "the specification's own example");
    let keys = Keys::new(&RedisConfig::default()).unwrap();
    for account in [ACCOUNT, "{x}", "a:b", ""] {
        let mut names = vec![
            keys.inbox(account),
            keys.awaiting(account),
            keys.due(account),
            keys.priority(account),
            keys.account(account),
            keys.conversation(account, "{other}"),
            keys.fan_events(account, "x}y"),
        ];
        names.extend(keys.message_index(account));
        let slots: BTreeSet<u16> = names.iter().map(|name| slot(name)).collect();
        assert_eq!(slots.len(), 1, "{names:?}");
    }

    let server = RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
    server.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let writer = Writer::connect(&config(&server)).await.unwrap();
    // The node takes a moment until it sees that all slots are served.
    let epoch = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match writer.epoch().await {
                Err(ViewsError::Busy(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                other => return other,
            }
        }
    });
    assert!(epoch.await.unwrap().unwrap().created);
    let mut writes = vec![write_of("a", "1", 0), write_of("b", "2", 0)];
    writes.iter_mut().for_each(|write| write.fan_events = vec![Bytes::from_static(b"{}")]);
    assert_eq!(writer.write_conversations(&writes).await.unwrap(), [WriteOutcome::Written; 2]);
    let account = AccountWrite { account: "a".into(), expected_rev: 0, rev: 1, fold: vec![1], fields: vec![], priority: vec![entry("x")] };
    assert_eq!(writer.write_accounts(&[account]).await.unwrap(), [WriteOutcome::Written]);
    writer.resolve(&[claims(&[("1", "1")], &[("1", T0)])]).await.unwrap();
    let reader = Reader::connect(&config(&server)).await.unwrap();
    assert!(reader.conversation("b", "2").await.unwrap().is_some());
}
