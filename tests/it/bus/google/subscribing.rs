//! Subscribing to a service that misbehaves: what is recovered, what is told, and what is counted.

use std::time::{Duration, Instant};

use convpipe::bus::{BusError, ServiceFault, SubscribeError, Subscriber};
use convpipe::config::GoogleBusConfig;
use convpipe::runtime::clock;
use convpipe::schema::time::Millis;
use tonic::Code;

use super::super::{ack, take, text, within};
use super::{SUBSCRIPTION, TOPIC, bus, fake};
use crate::support::fake_pubsub::FakePubSub;

async fn subscriber(config: &GoogleBusConfig) -> Subscriber {
    bus(config).await.subscriber("events", "first").await.unwrap()
}

async fn next_texts(subscriber: &mut Subscriber, count: usize) -> Vec<String> {
    take(subscriber, count).await.iter().map(text).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[tokio::test]
async fn what_is_unanswered_is_leased_again_and_again() {
    let (fake, config) = fake().await;
    let mut subscriber =
        subscriber(&GoogleBusConfig { lease_s: 17, in_flight_max: 100, in_flight_bytes_max: 5_000, streams: 2, ..config }).await;
    let streams = [fake.stream(0).await, fake.stream(1).await];
    for stream in &streams {
        let opened = &stream.opened;
        assert_eq!((opened.subscription.as_str(), opened.stream_ack_deadline_seconds), (SUBSCRIPTION, 17));
        assert_eq!((opened.max_outstanding_messages, opened.max_outstanding_bytes), (50, 2_500), "the streams share the window");
    }
    streams[0].deliver(&["a"]).await;
    streams[1].deliver_again(&["b"], 3).await;
    let taken = take(&mut subscriber, 2).await;
    let attempts: Vec<(String, u32)> = taken.iter().map(|delivery| (text(delivery), delivery.attempt)).collect();
    assert!(attempts.contains(&("a".into(), 1)) && attempts.contains(&("b".into(), 3)), "{attempts:?}");
    fake.wait("the leases", |fake| ["a", "b"].iter().all(|id| fake.deadlines().contains(&((*id).into(), 17)))).await;
    let counters = subscriber.counters();
    assert_eq!((counters.delivered(), counters.redelivered(), counters.in_flight()), (2, 1, 2));
    ack(&subscriber, &taken);
    fake.wait("the acks", |fake| sorted(fake.acked()) == ["a", "b"]).await;
    assert_eq!((counters.acked(), counters.in_flight()), (2, 0));
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_anew() {
    for code in [Code::Cancelled, Code::Unknown, Code::FailedPrecondition, Code::Unavailable] {
        let (fake, config) = fake().await;
        let mut subscriber = subscriber(&config).await;
        let stream = fake.stream(0).await;
        stream.deliver(&["taken"]).await;
        let taken = take(&mut subscriber, 1).await;
        stream.deliver(&["waiting"]).await;
        within(async {
            while subscriber.counters().in_flight() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        stream.cut(code).await;
        let stream = fake.stream(1).await;
        // The library itself goes on after some.
        let survives = code == Code::Unavailable;
        if !survives {
            let told = loop {
                match within(subscriber.next()).await {
                    Ok(deliveries) => assert_eq!(deliveries.iter().map(text).collect::<Vec<_>>(), ["waiting"]),
                    Err(told) => break told,
                }
            };
            assert!(matches!(&told, SubscribeError::Service(error) if error.resource.contains("first")), "{told}");
            within(async {
                while subscriber.counters().reopened() == 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        assert_eq!(subscriber.counters().reopened(), u64::from(!survives), "{code:?}");
        stream.deliver(&["after"]).await;
        let mut left = vec!["after"];
        while !left.is_empty() {
            let deliveries = within(subscriber.next()).await.unwrap();
            left.retain(|expected| deliveries.iter().all(|delivery| text(delivery) != *expected));
        }
        // What came from the stream that ended is leased as before, and its answer is sent.
        ack(&subscriber, &taken);
        fake.wait("the ack", |fake| fake.acked() == ["taken"]).await;
        assert!(fake.nacked().is_empty());
        subscriber.close(Duration::from_secs(5)).await;
        assert_eq!(sorted(fake.nacked()), ["after", "waiting"]);
    }
}

#[tokio::test]
async fn no_stream_at_all_is_told_with_what_to_do_and_tried_again() {
    for (code, fault, advice) in [
        (Code::NotFound, ServiceFault::NotFound, "convpipe provision"),
        (Code::PermissionDenied, ServiceFault::Denied, "roles"),
        (Code::Unauthenticated, ServiceFault::Credentials, "gcloud auth application-default login"),
    ] {
        let (fake, config) = fake().await;
        fake.refuse_streams(Some(code));
        let mut subscriber = subscriber(&config).await;
        for _ in 0..2 {
            let told = within(subscriber.next()).await.unwrap_err();
            assert!(matches!(&told, SubscribeError::Service(error) if error.fault == fault), "{told}");
            assert!(told.to_string().contains(advice), "{told}");
        }
        fake.refuse_streams(None);
        fake.stream(0).await.deliver(&["a"]).await;
        loop {
            match within(subscriber.next()).await {
                Ok(deliveries) => {
                    assert_eq!(deliveries.iter().map(text).collect::<Vec<_>>(), ["a"]);
                    break;
                }
                Err(told) => assert!(matches!(told, SubscribeError::Service(_)), "{told}"),
            }
        }
        assert!(subscriber.counters().reopened() >= 2);
    }
}

#[tokio::test]
async fn opening_tells_what_is_wrong_and_waits_for_what_passes() {
    let (fake, config) = fake().await;
    let bus = bus(&config).await;
    let missing = bus.subscriber("events", "nobody").await.unwrap_err();
    assert!(matches!(missing, BusError::NoSubscription { .. }) && missing.to_string().contains("convpipe provision"), "{missing}");
    fake.subscription("projects/demo/subscriptions/theirs", "projects/demo/topics/other");
    let other = bus.subscriber("events", "theirs").await.unwrap_err();
    assert!(matches!(&other, BusError::OtherTopic { found, .. } if found == "projects/demo/topics/other"), "{other}");
    fake.subscription_error("projects/demo/subscriptions/locked", 401);
    let locked = bus.subscriber("events", "locked").await.unwrap_err();
    assert!(matches!(&locked, BusError::Service(error) if error.fault == ServiceFault::Credentials), "{locked}");
    // Who may read but not look, and a service that is down, are no reasons not to begin.
    for status in [403, 503] {
        fake.subscription_error("projects/demo/subscriptions/first", status);
        bus.subscriber("events", "first").await.unwrap();
    }
}

/// The library's `next` may not be cancelled before the first message of a stream: that would leave its connection behind. Closing ends a stream by
/// its own token, and so at once.
#[tokio::test]
async fn a_stream_that_never_brought_anything_is_closed_at_once_and_its_successor_works() {
    let (fake, config) = fake().await;
    for number in 0..3 {
        let mut idle = subscriber(&config).await;
        fake.stream(number).await;
        // Giving up a wait takes nothing with it.
        assert!(tokio::time::timeout(Duration::from_millis(5), idle.next()).await.is_err());
        let begun = Instant::now();
        idle.close(Duration::from_secs(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    let mut subscriber = subscriber(&config).await;
    let stream = fake.stream(3).await;
    assert!(tokio::time::timeout(Duration::from_millis(5), subscriber.next()).await.is_err());
    stream.deliver(&["a"]).await;
    assert_eq!(next_texts(&mut subscriber, 1).await, ["a"]);
    assert_eq!((subscriber.counters().delivered(), subscriber.counters().reopened()), (1, 0));
}

#[tokio::test]
async fn a_nack_goes_out_when_its_time_comes() {
    let (fake, config) = fake().await;
    let mut subscriber = subscriber(&config).await;
    fake.stream(0).await.deliver(&["now", "soon", "later", "kept"]).await;
    let taken = take(&mut subscriber, 4).await;
    let begun = Instant::now();
    let delays = [Duration::ZERO, Duration::from_millis(400), Duration::from_secs(3_600)];
    for (delivery, delay) in taken.iter().zip(delays) {
        subscriber.acker().nack(delivery.ack, delay);
    }
    assert_eq!((subscriber.counters().in_flight(), subscriber.counters().nacked()), (1, 3));
    fake.wait("the first", |fake| fake.nacked() == ["now"]).await;
    assert!(begun.elapsed() < Duration::from_millis(400));
    fake.wait("the second", |fake| fake.nacked() == ["now", "soon"]).await;
    assert!(begun.elapsed() >= Duration::from_millis(400));
    // Closing gives back what waits for its time too.
    subscriber.close(Duration::from_secs(5)).await;
    assert_eq!(sorted(fake.nacked()), ["kept", "later", "now", "soon"]);
}

#[tokio::test]
async fn closing_sends_the_answers_and_gives_everything_else_back() {
    let (fake, config) = fake().await;
    let mut subscriber = subscriber(&GoogleBusConfig { in_flight_max: 3, ..config }).await;
    // More than the window takes: the service does not keep to it, and we do.
    fake.stream(0).await.deliver(&["a", "b", "c", "d", "e"]).await;
    let taken = take(&mut subscriber, 3).await;
    assert_eq!(subscriber.counters().in_flight(), 3);
    let more = tokio::time::timeout(Duration::from_millis(20), subscriber.next()).await;
    assert!(more.is_err(), "beyond the window");
    let acker = subscriber.acker();
    ack(&subscriber, &taken[..1]);
    subscriber.close(Duration::from_secs(5)).await;
    acker.ack(&[taken[1].ack]);
    acker.nack(taken[2].ack, Duration::ZERO);
    assert_eq!(fake.acked(), ["a"]);
    assert_eq!(sorted(fake.nacked()), ["b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_subscriber_that_is_dropped_gives_everything_back() {
    let (fake, config) = fake().await;
    let mut subscriber = subscriber(&config).await;
    fake.stream(0).await.deliver(&["a", "b", "c"]).await;
    let taken = take(&mut subscriber, 3).await;
    subscriber.acker().nack(taken[0].ack, Duration::from_secs(60));
    drop(subscriber);
    fake.wait("all of it", |fake| sorted(fake.nacked()) == ["a", "b", "c"]).await;
}

#[tokio::test]
async fn closing_has_an_end_where_nobody_answers() {
    let (fake, config) = fake().await;
    let mut subscriber = subscriber(&config).await;
    fake.stream(0).await.deliver(&["a"]).await;
    let taken = take(&mut subscriber, 1).await;
    fake.swallow_old_connections();
    ack(&subscriber, &taken);
    let begun = Instant::now();
    subscriber.close(Duration::from_millis(200)).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_ack_that_is_lost_costs_a_repeat() {
    let (fake, config) = fake().await;
    let mut subscriber = subscriber(&config).await;
    let stream = fake.stream(0).await;
    fake.refuse_acks(Some(Code::Unavailable));
    stream.deliver(&["a"]).await;
    let first = take(&mut subscriber, 1).await;
    ack(&subscriber, &first);
    assert!(fake.acked().is_empty());
    // Its lease over, the service delivers it again.
    fake.refuse_acks(None);
    stream.deliver_again(&["a"], 2).await;
    let again = take(&mut subscriber, 1).await;
    assert_eq!(again[0].attempt, 2);
    ack(&subscriber, &again);
    fake.wait("the ack", |fake| fake.acked().contains(&"a".to_owned())).await;
    assert_eq!((subscriber.counters().acked(), subscriber.counters().redelivered()), (2, 1));
}

#[tokio::test]
async fn a_stream_that_is_silent_for_too_long_gets_a_new_connection() {
    let (fake, config) = fake().await;
    let mut subscriber = subscriber(&GoogleBusConfig { silence_s: 1, ..config }).await;
    fake.stream(0).await;
    let before = fake.connections();
    fake.swallow_old_connections();
    let stream = fake.stream(1).await;
    assert!(fake.connections() > before);
    stream.deliver(&["a"]).await;
    assert_eq!(next_texts(&mut subscriber, 1).await, ["a"]);
    // As long as something is unanswered, silence is the window's doing: giving it back would only bring it again.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(subscriber.counters().reopened(), 1);
}

#[tokio::test]
async fn a_service_that_goes_and_comes_back_is_found_again() {
    let (fake, config) = fake().await;
    let mut subscriber = subscriber(&config).await;
    fake.stream(0).await.deliver(&["a"]).await;
    let taken = take(&mut subscriber, 1).await;
    let address = fake.address();
    fake.end().await;
    let fake = FakePubSub::start_at(&address).await;
    fake.subscription(SUBSCRIPTION, TOPIC);
    fake.stream(0).await.deliver(&["b"]).await;
    assert_eq!(next_texts(&mut subscriber, 1).await, ["b"]);
    // The library goes on by itself, with the leases there were.
    assert_eq!((subscriber.counters().reopened(), subscriber.counters().in_flight()), (0, 2));
    ack(&subscriber, &taken);
    fake.wait("the ack", |fake| fake.acked() == ["a"]).await;
}

#[tokio::test]
async fn a_rewind_never_takes_for_acked_what_still_waits() {
    let (fake, config) = fake().await;
    let bus = bus(&config).await;
    let now = clock::now().0;
    // The subscription keeps an hour.
    for (since, expected) in [(now, now - 3_660_000), (now - 60_000, now - 3_660_000), (now - 86_400_000, now - 86_400_000), (-5, 0)] {
        bus.rewind("events", "first", Millis(since)).await.unwrap();
        let (subscription, body) = fake.seeks().pop().unwrap();
        assert_eq!(subscription, SUBSCRIPTION);
        let sought = Millis::parse(body["time"].as_str().unwrap()).unwrap().0;
        assert!((sought - expected).abs() < 5_000, "{sought} instead of {expected}");
    }
    let backlog = bus.backlog("events", "first").await.unwrap();
    assert_eq!((backlog.messages, backlog.oldest_age), (None, Some(Duration::from_secs(3_600))));
}
