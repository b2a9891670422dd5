//! What happens to a pipeline: Redis is emptied, Redis is away, a message is poison, a service is told to stop.

use convpipe::bus::Bus;
use convpipe::runtime::clock;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Counters, Event, EventKind, Link};
use convpipe::views::Reader;
use rustix::process::Signal;

use super::place::{LIMIT, Place, busy_evening, differences_of, wait_until};
use crate::oracle::compare::Actual;
use crate::support::redis::RedisServer;

/// What an undisturbed service leaves.
async fn undisturbed(place: &mut Place, envelopes: Vec<Envelope>) -> Actual {
    place.judge_by_id_alone();
    place.publish(envelopes).await;
    let process = place.start(&["snapshot"]);
    place.wait_backlog(&place.bus(), 0).await;
    assert!(process.terminate(LIMIT).status.success());
    place.read().await
}

/// Events that mean the same in any order; see `killed`.
fn events(frames: usize) -> Vec<Envelope> {
    let all = busy_evening(frames).into_iter();
    all.filter(|envelope| envelope.attribute("ce-subject").is_some()).collect()
}

fn assert_same(expected: &Actual, actual: &Actual) {
    assert!(expected.conversations.len() > 50);
    let found = differences_of(expected, actual);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(20)].join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_filled_again_from_the_documents() {
    let calm_redis = RedisServer::start();
    let mut redis = RedisServer::start();
    let mut calm = Place::new(&calm_redis.url(), "convpipe");
    let mut envelopes = events(1_200);
    let mut expected = undisturbed(&mut calm, envelopes.clone()).await;

    let mut place = Place::new(&redis.url(), "convpipe");
    place.judge_by_id_alone();
    place.config.snapshot.due_ms = 20;
    let later = envelopes.split_off(envelopes.len() / 2);
    let (bus, process) = (place.bus(), place.start(&["snapshot"]));
    place.publish(envelopes).await;
    place.wait_backlog(&bus, 0).await;
    let epoch = |redis: &RedisServer| redis.run::<Option<String>>(&["GET", "convpipe:epoch"]);
    let first = epoch(&redis);
    assert!(first.is_some());
    redis.restart();
    place.publish(later).await;
    place.wait_backlog(&bus, 0).await;
    // Conversations of which nothing came since are filled too.
    let conversations = expected.conversations.len();
    wait_until("all conversations", async || {
        redis.run::<Vec<String>>(&["KEYS", "convpipe:{*}:conversation:*"]).len() == conversations && epoch(&redis) != first
    })
    .await;
    assert!(process.terminate(LIMIT).status.success());
    let mut actual = place.read().await;
    // The streams of the first half went with the Redis that held them; what an account said is said again by its source.
    for all in [&mut expected, &mut actual] {
        all.accounts.clear();
        all.conversations.values_mut().for_each(|conversation| conversation.fan_events = None);
    }
    assert_same(&expected, &actual);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_stays_told_when_redis_is_emptied() {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "convpipe");
    let (bus, process) = (place.bus(), place.start(&["snapshot"]));
    let now = clock::now();
    let said = |kind, id: &str| Event::of_account(kind, id.to_owned(), "200000001", "0000000000000001", now);
    let mut gap = said(EventKind::ConnectionGap, "gap");
    gap.link = Some(Link { to: Some(now), reason: Some("reset".into()), ..Link::default() });
    let mut counters = said(EventKind::CountersUpdated, "counters");
    counters.counters = Some(Counters { unread_chats: Some(3), ..Counters::default() });
    for event in [gap, counters] {
        redis.flush();
        place.publish(vec![Envelope::of_event(&event).unwrap()]).await;
        place.wait_backlog(&bus, 0).await;
    }
    assert!(process.terminate(LIMIT).status.success());
    let view = Reader::connect(&place.config.redis).await.unwrap().account("200000001").await.unwrap();
    assert_eq!(view.gap.map(|gap| gap.to), Some(now));
    assert_eq!(view.counters.and_then(|counters| counters.counters.unread_chats), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_wait_while_redis_is_away() {
    let calm_redis = RedisServer::start();
    let mut redis = RedisServer::start();
    let envelopes = events(600);
    let expected = undisturbed(&mut Place::new(&calm_redis.url(), "convpipe"), envelopes.clone()).await;

    let mut place = Place::new(&redis.url(), "convpipe");
    place.judge_by_id_alone();
    let (bus, process) = (place.bus(), place.start(&["snapshot"]));
    place.wait_backlog(&bus, 0).await;
    redis.stop();
    let count = envelopes.len() as u64;
    place.publish(envelopes).await;
    process.wait_stderr("not written, deliveries wait", LIMIT);
    // The documents do not wait for Redis.
    let topic = &place.config.bus.topic;
    let backlog = async |subscription: &str| bus.backlog(topic, subscription).await.unwrap().messages.unwrap();
    wait_until("written documents", async || backlog(&place.config.bus.documents_subscription).await == 0).await;
    assert_eq!(backlog(&place.config.bus.views_subscription).await, count);
    redis.restart();
    place.wait_backlog(&bus, 0).await;
    assert!(process.terminate(LIMIT).status.success());
    assert_same(&expected, &place.read().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_set_aside_with_its_bytes_and_the_stream_goes_on() {
    let redis = RedisServer::start();
    let place = Place::new(&redis.url(), "convpipe");
    let mut envelopes = events(200);
    let poison = b"{\"kind\": \"message.received\" \xff not an event".to_vec();
    envelopes.insert(envelopes.len() / 2, Envelope::new(7, &[("ce-accountid", "200000001")], &poison));
    let (bus, process) = (place.bus(), place.start(&["snapshot"]));
    place.publish(envelopes).await;
    place.wait_backlog(&bus, 0).await;
    assert!(process.terminate(LIMIT).status.success());
    // Each of the two subscriptions had it delivered.
    let quarantined = taken(&bus, &place.config.bus.quarantine_topic, 2).await;
    for envelope in &quarantined {
        assert_eq!(envelope.data(), poison);
        let attribute = |key| envelope.attribute(key);
        assert_eq!(
            (attribute("reason"), attribute("stage"), attribute("account")),
            (Some("not_an_event"), Some("decode"), Some("200000001"))
        );
    }
    assert!(place.read().await.conversations.len() > 50);
}

/// The first messages of a topic.
async fn taken(bus: &Bus, topic: &str, count: usize) -> Vec<Envelope> {
    let mut subscriber = bus.subscriber(topic, "test").await.unwrap();
    let mut envelopes = Vec::new();
    while envelopes.len() < count {
        let deliveries = tokio::time::timeout(LIMIT, subscriber.next()).await.unwrap().unwrap();
        envelopes.extend(deliveries.into_iter().map(|delivery| delivery.envelope));
    }
    envelopes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_told_to_stop_under_load_leaves_nothing_behind() {
    let redis = RedisServer::start();
    let envelopes = events(2_000);
    let expected = undisturbed(&mut Place::new(&redis.url(), "calm"), envelopes.clone()).await;

    let mut place = Place::new(&redis.url(), "stopped");
    place.judge_by_id_alone();
    place.config.snapshot.batch_max = 16;
    // What the second service has to do for sure, so that its end is not asked for before it has begun.
    let mut envelopes = envelopes;
    let later = envelopes.split_off(envelopes.len() - 100);
    place.publish(envelopes).await;
    let bus = place.bus();
    let process = place.start(&["snapshot"]);
    wait_until("a subscription", async || place.backlog(&bus).await.is_some()).await;
    let all = place.backlog(&bus).await.unwrap();
    place.wait_backlog(&bus, all - 50).await;
    let output = process.terminate(LIMIT);
    assert!(output.status.success(), "{:?}", output.stderr);
    place.publish(later).await;
    let process = place.start(&["snapshot"]);
    place.wait_backlog(&bus, 0).await;
    assert!(process.terminate(LIMIT).status.success());
    assert_same(&expected, &place.read().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_does_not_wait_for_the_drain() {
    let mut redis = RedisServer::start();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut place = Place::new(&redis.url(), &format!("second{code}"));
        place.config.snapshot.drain_timeout_s = 600;
        let process = place.start(&["snapshot"]);
        place.wait_backlog(&place.bus(), 0).await;
        // What was taken cannot be written, so the drain goes on for its whole time.
        redis.stop();
        place.publish(events(50)).await;
        process.wait_stderr("not written, deliveries wait", LIMIT);
        let output = process.insist(signal, LIMIT);
        assert_eq!(output.status.code(), Some(code), "{:?}", output.stderr);
        redis.restart();
    }
}
