//! Following streams: starts, new accounts, gaps, restarts.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use convpipe::schema::time::Millis;
use convpipe::transform::materialize::WriteOutcome;
use convpipe::views::{Follow, FollowItem, Followed, Follower, GapCause, Start, StreamId, ViewsError, Writer};

use super::super::support::redis::RedisServer;
use super::{entry, entry_of, follow, next, start, write_of};

/// Adds an entry as the snapshot service does.
async fn alert(writer: &Writer, account: &str, conversation: &str, text: &str) {
    let mut write = write_of(account, conversation, 0);
    write.priority = vec![entry(text)];
    assert_eq!(writer.write_conversations(&[write]).await.unwrap(), [WriteOutcome::Written]);
}

/// Waits until Redis' clock, which makes the ids, has moved on.
fn next_millisecond(server: &RedisServer) {
    let now = || {
        let (seconds, micros): (u64, u64) = server.run(&["TIME"]);
        seconds * 1000 + micros / 1000
    };
    let begun = now();
    while now() == begun {}
}

/// Waits until that many clients wait in Redis.
async fn blocked(server: &RedisServer, clients: usize) {
    let expected = format!("blocked_clients:{clients}\r");
    let wait = async {
        while !server.run::<String>(&["INFO", "clients"]).contains(&expected) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), wait).await.expect("clients wait");
}

#[tokio::test]
async fn a_follower_starts_where_it_is_told_and_merges_accounts() {
    let (server, config, writer, _) = start().await;
    for (number, account) in ["a", "b", "a", "b", "a"].into_iter().enumerate() {
        alert(&writer, account, &number.to_string(), &number.to_string()).await;
        // So that the order over accounts is certain.
        next_millisecond(&server);
    }
    let third = {
        let mut follower = Follower::open(&config, follow(Start::Last(3), false)).unwrap();
        let FollowItem::Entry { id, json, account } = next(&mut follower).await else { panic!("an entry") };
        assert_eq!((json.as_str(), account.as_str()), ("{\"n\":\"2\"}", "a"));
        id
    };
    let since = Millis(i64::try_from(third.ms).unwrap());
    for (begin, expected) in [
        (Start::Last(2), &["3", "4", "new"][..]),
        (Start::Last(0), &["new"]),
        (Start::Last(100), &["0", "1", "2", "3", "4", "new"]),
        (Start::Since(since), &["2", "3", "4", "new"]),
        (Start::Since(Millis(0)), &["0", "1", "2", "3", "4", "new"]),
        (Start::AfterId(third), &["3", "4", "new"]),
        (Start::Now, &["new"]),
    ] {
        blocked(&server, 0).await;
        let mut follower = Follower::open(&config, follow(begin, false)).unwrap();
        for text in &expected[..expected.len() - 1] {
            assert_eq!(entry_of(next(&mut follower).await), format!("{{\"n\":\"{text}\"}}"), "{begin:?}");
        }
        // Nothing more: it waits in Redis until something comes. Dropping the wait loses nothing.
        tokio::select! {
            item = follower.next() => panic!("{begin:?}: {item:?}"),
            () = blocked(&server, 1) => {}
        }
        let id: String = server.run(&["XADD", "convpipe:{a}:priority", "*", "entry", "{\"n\":\"new\"}"]);
        assert_eq!(entry_of(next(&mut follower).await), "{\"n\":\"new\"}", "{begin:?}");
        server.run::<()>(&["XDEL", "convpipe:{a}:priority", &id]);
    }
}

#[tokio::test]
async fn a_follower_notices_new_accounts_and_follows_fans() {
    let (_server, config, writer, _) = start().await;
    alert(&writer, "z", "1", "in z").await;
    let mut all = Follower::open(&config, follow(Start::Last(1), false)).unwrap();
    assert_eq!(entry_of(next(&mut all).await), "{\"n\":\"in z\"}");
    alert(&writer, "b", "1", "in b").await;
    alert(&writer, "a", "1", "in a").await;
    let mut of_fan = write_of("a", "7", 0);
    of_fan.fan_events = vec![Bytes::from_static(b"{\"fan\":7}")];
    writer.write_conversations(&[of_fan]).await.unwrap();
    let seen: BTreeSet<String> = [entry_of(next(&mut all).await), entry_of(next(&mut all).await)].into();
    assert_eq!(seen, ["{\"n\":\"in a\"}".to_owned(), "{\"n\":\"in b\"}".to_owned()].into());
    let mut only_a = Follower::open(&config, Follow { accounts: vec!["a".into()], ..follow(Start::Last(9), false) }).unwrap();
    assert_eq!(entry_of(next(&mut only_a).await), "{\"n\":\"in a\"}");
    let of_fan = Follow { what: Followed::FanEvents("7".into()), ..follow(Start::Since(Millis(0)), false) };
    let mut of_fan = Follower::open(&config, of_fan).unwrap();
    assert_eq!(entry_of(next(&mut of_fan).await), "{\"fan\":7}");
}

#[tokio::test]
async fn a_follower_reports_what_was_trimmed_and_only_that() {
    let (server, config, writer, _) = start().await;
    let key = "convpipe:{a}:priority";
    alert(&writer, "a", "1", "first").await;
    let mut follower = Follower::open(&config, follow(Start::Last(1), false)).unwrap();
    let FollowItem::Entry { id: first, .. } = next(&mut follower).await else { panic!("an entry") };
    let add = |text: &str| server.run::<String>(&["XADD", key, "*", "entry", text]);
    add("second");
    assert_eq!(entry_of(next(&mut follower).await), "second");

    // Up to date when the stream was cut: the place is gone, but nothing was missed.
    add("third");
    server.run::<()>(&["XTRIM", key, "MAXLEN", "1"]);
    assert_eq!(entry_of(next(&mut follower).await), "third");
    // The stream ran out and began anew: nothing was missed either.
    next_millisecond(&server);
    server.run::<()>(&["DEL", key]);
    add("fourth");
    assert_eq!(entry_of(next(&mut follower).await), "fourth");

    // Behind when it was cut.
    add("fifth");
    let sixth: StreamId = add("sixth").parse().unwrap();
    server.run::<()>(&["XTRIM", key, "MAXLEN", "1"]);
    match next(&mut follower).await {
        FollowItem::Gap { account, next, cause: GapCause::Trimmed, .. } => assert_eq!((account.as_str(), next), ("a", Some(sixth))),
        other => panic!("a gap, not {other:?}"),
    }
    assert_eq!(entry_of(next(&mut follower).await), "sixth");

    // Resumed after an entry that is long gone.
    let mut resumed = Follower::open(&config, follow(Start::AfterId(first), false)).unwrap();
    match next(&mut resumed).await {
        FollowItem::Gap { after, next, .. } => assert_eq!((after, next), (first, Some(sixth))),
        other => panic!("a gap, not {other:?}"),
    }
    assert_eq!(entry_of(next(&mut resumed).await), "sixth");
}

#[tokio::test]
async fn a_follower_reports_an_emptied_redis_and_starts_over() {
    let (server, config, writer, _) = start().await;
    writer.epoch().await.unwrap();
    alert(&writer, "a", "1", "before").await;
    let mut follower = Follower::open(&config, follow(Start::Last(1), false)).unwrap();
    assert_eq!(entry_of(next(&mut follower).await), "{\"n\":\"before\"}");
    server.flush();
    writer.epoch().await.unwrap();
    alert(&writer, "a", "1", "after 1").await;
    alert(&writer, "a", "2", "after 2").await;
    assert!(matches!(next(&mut follower).await, FollowItem::Gap { cause: GapCause::Emptied, .. }));
    assert_eq!(entry_of(next(&mut follower).await), "{\"n\":\"after 1\"}");
    assert_eq!(entry_of(next(&mut follower).await), "{\"n\":\"after 2\"}");
}

#[tokio::test]
async fn an_entry_of_before_a_flush_is_told_to_whoever_goes_on_after_it() {
    let (server, config, writer, _) = start().await;
    alert(&writer, "a", "1", "before").await;
    let mut follower = Follower::open(&config, follow(Start::Last(1), false)).unwrap();
    let FollowItem::Entry { id, .. } = next(&mut follower).await else { panic!("an entry") };
    next_millisecond(&server);
    // Another account's stream that began later is no loss, as long as one still has the entry.
    alert(&writer, "b", "1", "of b").await;
    let mut resumed = Follower::open(&config, follow(Start::AfterId(id), false)).unwrap();
    assert_eq!(entry_of(next(&mut resumed).await), "{\"n\":\"of b\"}");

    server.flush();
    next_millisecond(&server);
    for account in ["a", "b"] {
        alert(&writer, account, "2", "after").await;
    }
    let mut resumed = Follower::open(&config, follow(Start::AfterId(id), false)).unwrap();
    for expected in ["a", "b"] {
        match next(&mut resumed).await {
            FollowItem::Gap { account, after, next: None, cause: GapCause::Emptied } => {
                assert_eq!((account.as_str(), after), (expected, id))
            }
            other => panic!("a gap, not {other:?}"),
        }
    }
    assert_eq!(entry_of(next(&mut resumed).await), "{\"n\":\"after\"}");
}

#[tokio::test]
async fn a_follower_outlives_a_restart_or_fails_as_told() {
    let (mut server, config, writer, _) = start().await;
    writer.epoch().await.unwrap();
    alert(&writer, "a", "1", "before").await;
    let mut patient = Follower::open(&config, follow(Start::Last(1), true)).unwrap();
    let mut strict = Follower::open(&config, follow(Start::Last(1), false)).unwrap();
    for follower in [&mut patient, &mut strict] {
        assert_eq!(entry_of(next(follower).await), "{\"n\":\"before\"}");
    }
    server.stop();
    let error = tokio::time::timeout(Duration::from_secs(15), strict.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ViewsError::Unreachable { .. }), "{error:?}");
    assert!(matches!(next(&mut patient).await, FollowItem::Reconnecting(ViewsError::Unreachable { .. })));
    // Said once; then it tries on.
    assert!(tokio::time::timeout(Duration::from_millis(100), patient.next()).await.is_err());
    server.restart();
    assert!(matches!(next(&mut patient).await, FollowItem::Reconnected));
    assert!(matches!(next(&mut patient).await, FollowItem::Gap { cause: GapCause::Emptied, .. }));
    let writer = Writer::connect(&config).await.unwrap();
    writer.epoch().await.unwrap();
    alert(&writer, "a", "1", "after").await;
    assert_eq!(entry_of(next(&mut patient).await), "{\"n\":\"after\"}");
}
