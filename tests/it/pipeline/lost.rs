//! What Redis may lose besides everything at once: an account's own state, the newest of its data, deletes whose message is still to come, and what the
//! documents could not tell at the time.

use std::collections::BTreeSet;

use convpipe::runtime::clock;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Counters, Event, EventKind, Link};
use convpipe::views::Reader;

use super::place::{LIMIT, Place, busy_evening, differences_of, wait_until};
use crate::oracle::compare::Actual;
use crate::support::process::Process;
use crate::support::redis::RedisServer;

const ACCOUNT: &str = "200000001";

fn place(redis: &RedisServer) -> Place {
    let mut place = Place::new(&redis.url(), "convpipe");
    place.judge_by_id_alone();
    place.config.snapshot.due_ms = 20;
    place
}

/// Events of conversations, deletes among them.
fn events(frames: usize) -> Vec<Envelope> {
    let all = busy_evening(frames).into_iter();
    all.filter(|envelope| envelope.attribute("ce-subject").is_some() || is_delete(envelope)).collect()
}

fn is_delete(envelope: &Envelope) -> bool {
    envelope.attribute("ce-type") == Some("convpipe.message.deleted.v1")
}

fn ended(process: Process) {
    let output = process.terminate(LIMIT);
    assert!(output.status.success(), "{}", output.stderr.join("\n"));
}

/// What a service leaves that nothing happens to.
async fn undisturbed(envelopes: &[Envelope]) -> Actual {
    let redis = RedisServer::start();
    let place = place(&redis);
    let process = place.start(&["snapshot"]);
    place.publish(envelopes.to_vec()).await;
    place.wait_backlog(&place.bus(), 0).await;
    ended(process);
    place.read().await
}

/// Snapshots, summaries, histories and indexes; not the streams, which went with what was lost.
fn differences(expected: &Actual, actual: &Actual) -> Vec<String> {
    let told = |actual: &Actual| {
        let mut actual = actual.clone();
        actual.accounts.clear();
        actual.conversations.values_mut().for_each(|conversation| conversation.fan_events = None);
        actual
    };
    differences_of(&told(expected), &told(actual))
}

/// Waits until the views are what they should be, and says what they lack where they never are.
async fn wait_same(redis: &RedisServer, place: &Place, expected: &Actual) {
    wait_until("all conversations", async || {
        redis.run::<Vec<String>>(&["KEYS", "convpipe:{*}:conversation:*"]).len() == expected.conversations.len()
    })
    .await;
    let last = std::cell::RefCell::new(Vec::new());
    let same = async || {
        *last.borrow_mut() = differences(expected, &place.read().await);
        last.borrow().is_empty()
    };
    let waited = tokio::time::timeout(LIMIT / 2, wait_until("the same views", same)).await;
    let last = last.into_inner();
    assert!(waited.is_ok(), "{} differences:\n{}", last.len(), last[..last.len().min(12)].join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_known_again_after_a_flush_and_a_restart() {
    let redis = RedisServer::start();
    let place = place(&redis);
    let now = clock::now();
    let said = |kind, id: &str| Event::of_account(kind, id.to_owned(), ACCOUNT, "0000000000000001", now);
    let mut gap = said(EventKind::ConnectionGap, "gap");
    gap.link = Some(Link { to: Some(now), reason: Some("reset".into()), ..Link::default() });
    let mut counters = said(EventKind::CountersUpdated, "counters");
    counters.counters = Some(Counters { unread_chats: Some(3), ..Counters::default() });
    let process = place.start(&["snapshot"]);
    place.publish([gap, counters].iter().map(|event| Envelope::of_event(event).unwrap()).collect()).await;
    place.wait_backlog(&place.bus(), 0).await;
    ended(process);
    redis.flush();
    // Nothing is told again, and nobody remembers anything: it is known from the documents alone.
    let mut place = place;
    place.config.bus.embedded.dir = place.dir().join("another-bus");
    let process = place.start(&["snapshot"]);
    let reader = Reader::connect(&place.config.redis).await.unwrap();
    wait_until("the account", async || reader.account(ACCOUNT).await.unwrap().gap.is_some()).await;
    let view = reader.account(ACCOUNT).await.unwrap();
    assert_eq!(view.gap.map(|gap| (gap.to, gap.reason)), Some((now, Some("reset".into()))));
    assert_eq!(view.counters.and_then(|counters| counters.counters.unread_chats), Some(3));
    ended(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_with_older_data_is_brought_up_to_date() {
    let mut redis = RedisServer::start();
    let envelopes = events(1_000);
    let expected = undisturbed(&envelopes).await;
    assert!(expected.conversations.len() > 50);
    let place = place(&redis);
    let (first, second) = envelopes.split_at(envelopes.len() / 2);
    let process = place.start(&["snapshot"]);
    place.publish(first.to_vec()).await;
    place.wait_backlog(&place.bus(), 0).await;
    redis.run::<()>(&["SAVE"]);
    let epoch: String = redis.run(&["GET", "convpipe:epoch"]);
    place.publish(second.to_vec()).await;
    place.wait_backlog(&place.bus(), 0).await;
    // Killed, and started with what it had saved. Nothing happens to anybody from here on.
    redis.restart();
    wait_same(&redis, &place, &expected).await;
    let renewed: String = redis.run(&["GET", "convpipe:epoch"]);
    assert_ne!(renewed, epoch, "readers are told");
    ended(process);
    // Nor does anything change that for whoever starts later.
    let process = place.start(&["snapshot"]);
    process.wait_stderr("consuming", LIMIT);
    ended(process);
    assert_eq!(differences(&expected, &place.read().await), [""; 0]);
    assert_eq!(redis.run::<String>(&["GET", "convpipe:epoch"]), renewed, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_long_before_its_message_outlives_a_flush() {
    let redis = RedisServer::start();
    let (deletes, messages): (Vec<Envelope>, Vec<Envelope>) = events(3_000).into_iter().partition(is_delete);
    assert!(deletes.len() > 10, "{}", deletes.len());
    let expected = undisturbed(&[deletes.clone(), messages.clone()].concat()).await;
    let mut place = place(&redis);
    let process = place.start(&["snapshot"]);
    // An account is known from the moment it was connected.
    let accounts: BTreeSet<&str> = deletes.iter().filter_map(|envelope| envelope.attribute("ce-accountid")).collect();
    let opened = accounts.iter().map(|account| {
        let event = Event::of_account(EventKind::ConnectionOpened, format!("opened {account}"), account, "0000000000000001", clock::now());
        Envelope::of_event(&event).unwrap()
    });
    place.publish(opened.collect()).await;
    place.publish(deletes).await;
    place.wait_backlog(&place.bus(), 0).await;
    ended(process);
    redis.flush();
    // The topic has forgotten them, as it does in time.
    place.config.bus.embedded.dir = place.dir().join("another-bus");
    let process = place.start(&["snapshot"]);
    place.publish(messages).await;
    place.wait_backlog(&place.bus(), 0).await;
    wait_same(&redis, &place, &expected).await;
    ended(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_documents_could_not_tell_is_filled_when_they_can() {
    let redis = RedisServer::start();
    let envelopes = events(800);
    let expected = undisturbed(&envelopes).await;
    let place = place(&redis);
    let process = place.start(&["snapshot"]);
    let (first, second) = envelopes.split_at(envelopes.len() / 2);
    place.publish(first.to_vec()).await;
    place.wait_backlog(&place.bus(), 0).await;
    let epoch: String = redis.run(&["GET", "convpipe:epoch"]);
    let other = rusqlite::Connection::open(&place.config.documents.embedded.path).unwrap();
    other.busy_timeout(LIMIT).unwrap();
    other.execute_batch("ALTER TABLE summaries RENAME TO hidden").unwrap();
    // Redis lost some conversations, as when they expire or are evicted, and their next events come while nobody can say what was before.
    let again: BTreeSet<&str> = second.iter().filter_map(|envelope| envelope.attribute("ce-subject")).collect();
    let keys: Vec<String> = redis.run(&["KEYS", "convpipe:{*}:conversation:*"]);
    let lost: Vec<&str> = keys.iter().map(String::as_str).filter(|key| again.contains(key.rsplit(':').next().unwrap())).collect();
    assert!(lost.len() > 10, "{lost:?}");
    redis.run::<()>(&[&["DEL"], &lost[..]].concat());
    place.publish(second.to_vec()).await;
    let bus = place.bus();
    wait_until("the views go on", async || {
        let backlog = bus.backlog(&place.config.bus.topic, &place.config.bus.views_subscription).await.unwrap();
        backlog.messages == Some(0)
    })
    .await;
    other.execute_batch("ALTER TABLE hidden RENAME TO summaries").unwrap();
    place.wait_backlog(&bus, 0).await;
    wait_same(&redis, &place, &expected).await;
    assert_eq!(redis.run::<String>(&["GET", "convpipe:epoch"]), epoch, "readers have nothing to begin anew");
    ended(process);
}
