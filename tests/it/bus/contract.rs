//! What every engine of the bus promises.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use convpipe::bus::{Backlog, BusError, Delivery, PublishError, Subscriber};
use convpipe::schema::envelope::Envelope;

use super::{Limits, Names, Open, ack, drain, message, messages, number, numbers, settle, take, within};

const CLOSE: Duration = Duration::from_secs(5);
const ONE: Names = &[("events", &["first"])];

/// The next `count` deliveries, acked.
async fn take_and_ack(subscriber: &mut Subscriber, count: usize) -> Vec<Delivery> {
    let taken = take(subscriber, count).await;
    ack(subscriber, &taken);
    taken
}

/// A message with an ordering key of its own.
fn apart(number: usize) -> Envelope {
    Envelope::new(number as u16, &[("ce-id", "apart")], number.to_string().as_bytes())
}

pub(super) async fn batches_arrive_whole_and_in_order(open: Open) {
    let Some(fresh) = open(Limits::default(), ONE).await else { return };
    let publisher = fresh.bus.publisher("events").unwrap();
    let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
    publisher.publish(Vec::new()).await.unwrap();
    for batch in [0..1, 1..300, 300..301, 301..2_500] {
        publisher.publish(messages(batch)).await.unwrap();
    }
    let taken = take(&mut subscriber, 2_500).await;
    assert_eq!(numbers(&taken), (0..2_500).collect::<Vec<_>>());
    assert!(taken.iter().all(|delivery| delivery.attempt == 1));
    let counters = publisher.counters();
    assert_eq!((counters.confirmed(), counters.refused(), counters.in_flight()), (2_500, 0, (0, 0)));
    assert_eq!(counters.oldest_unconfirmed(), None);
    ack(&subscriber, &taken);
    settle(&fresh, "events", "first", subscriber).await;
}

pub(super) async fn the_order_of_a_key_is_kept_with_publishes_side_by_side(open: Open) {
    let Some(fresh) = open(Limits::default(), ONE).await else { return };
    let publisher = fresh.bus.publisher("events").unwrap();
    let mut tasks = Vec::new();
    for key in 0..4u16 {
        let publisher = publisher.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..50 {
                publisher.publish(vec![Envelope::new(key, &[("ce-id", "1")], number.to_string().as_bytes())]).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
    let taken = take(&mut subscriber, 200).await;
    for key in 0..4 {
        let of_key: Vec<usize> = taken.iter().filter(|delivery| delivery.envelope.ordering_key() == key).map(number).collect();
        assert_eq!(of_key, (0..50).collect::<Vec<_>>(), "key {key}");
    }
}

pub(super) async fn every_subscription_gets_everything(open: Open) {
    const NAMES: Names = &[("events", &["early", "late"]), ("another", &["elsewhere"])];
    let Some(fresh) = open(Limits::default(), NAMES).await else { return };
    let publisher = fresh.bus.publisher("events").unwrap();
    let mut early = fresh.bus.subscriber("events", "early").await.unwrap();
    publisher.publish(messages(0..100)).await.unwrap();
    let first = take(&mut early, 100).await;
    ack(&early, &first);
    let mut late = fresh.bus.subscriber("events", "late").await.unwrap();
    assert_eq!(numbers(&take(&mut late, 100).await), numbers(&first));
    let mut elsewhere = fresh.bus.subscriber("another", "elsewhere").await.unwrap();
    fresh.bus.publisher("another").unwrap().publish(messages([7])).await.unwrap();
    assert_eq!(numbers(&take(&mut elsewhere, 1).await), [7]);
}

pub(super) async fn what_is_nacked_comes_again_after_its_delay(open: Open) {
    let Some(fresh) = open(Limits::default(), ONE).await else { return };
    // What is nacked may take what comes after it under the same key along, so each has its own here.
    fresh.bus.publisher("events").unwrap().publish((0..10).map(apart).collect()).await.unwrap();
    let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
    let mut taken = take(&mut subscriber, 10).await;
    taken.sort_unstable_by_key(number);
    let delay = Duration::from_millis(if fresh.is_exact() { 150 } else { 1_000 });
    let nacked_at = Instant::now();
    subscriber.acker().nack(taken[3].ack, delay);
    subscriber.acker().nack(taken[5].ack, Duration::ZERO);
    // Only the first answer counts.
    ack(&subscriber, &taken);
    for (expected, not_before) in [(5, Duration::ZERO), (3, delay)] {
        let again = take(&mut subscriber, 1).await;
        assert_eq!((numbers(&again), again[0].attempt), (vec![expected], 2));
        assert!(nacked_at.elapsed() >= not_before);
        subscriber.acker().nack(again[0].ack, Duration::ZERO);
        let third = take(&mut subscriber, 1).await;
        assert_eq!((numbers(&third), third[0].attempt), (vec![expected], 3));
        ack(&subscriber, &third);
    }
    let counters = subscriber.counters();
    assert_eq!((counters.delivered(), counters.redelivered(), counters.acked(), counters.nacked()), (14, 4, 10, 4));
    assert_eq!((counters.in_flight(), counters.lost_to_retention(), counters.corrupt()), (0, 0, 0));
    settle(&fresh, "events", "first", subscriber).await;
}

pub(super) async fn a_subscription_goes_on_where_it_stopped(open: Open) {
    let Some(fresh) = open(Limits::default(), ONE).await else { return };
    let publisher = fresh.bus.publisher("events").unwrap();
    // The emulator goes on sending a key down the stream that it first went down, so what comes after the restart has another one.
    for (begin, end) in [(0, 200), (200, 201)] {
        let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
        publisher.publish((begin..end).map(apart).collect()).await.unwrap();
        let mut taken = numbers(&take_and_ack(&mut subscriber, end - begin).await);
        taken.sort_unstable();
        assert_eq!(taken, (begin..end).collect::<Vec<_>>(), "nothing that was acked before comes again");
        subscriber.close(CLOSE).await;
    }
}

pub(super) async fn subscribers_of_one_subscription_share_it(open: Open) {
    let Some(fresh) = open(Limits { in_flight_max: 500, ..Limits::default() }, ONE).await else { return };
    let all = fresh.some(20_000);
    let publisher = fresh.bus.publisher("events").unwrap();
    let (told, mut tell) = tokio::sync::mpsc::channel(2 * all);
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
        let told = told.clone();
        tasks.push(tokio::spawn(async move {
            loop {
                let deliveries = subscriber.next().await.unwrap();
                for delivery in &deliveries {
                    told.send(number(delivery)).await.unwrap();
                }
                ack(&subscriber, &deliveries);
            }
        }));
    }
    for start in (0..all).step_by(all / 20) {
        publisher.publish((start..start + all / 20).map(apart).collect()).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    while seen.len() < all {
        let new = seen.insert(within(tell.recv()).await.unwrap());
        assert!(new || !fresh.is_exact(), "something was delivered twice");
    }
    if fresh.is_exact() {
        super::wait_for_backlog(&fresh.bus, "events", "first", 0).await;
        assert!(tell.try_recv().is_err(), "something was delivered twice");
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

pub(super) async fn the_window_bounds_what_is_unanswered(open: Open) {
    for (limits, window) in [
        (Limits { in_flight_max: 10, ..Limits::default() }, 10),
        (Limits { in_flight_bytes_max: 10 << 10, ..Limits::default() }, 10),
        (Limits { in_flight_max: 1, ..Limits::default() }, 1),
    ] {
        let Some(fresh) = open(limits, ONE).await else { return };
        let all = if fresh.is_exact() { 100 } else { 14 };
        let batch: Vec<Envelope> = (0..all).map(|number: usize| Envelope::new(0, &[], format!("{number:01024}").as_bytes())).collect();
        fresh.bus.publisher("events").unwrap().publish(batch).await.unwrap();
        let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
        let counters = subscriber.counters();
        let mut seen = Vec::new();
        let mut held = Vec::new();
        while seen.len() < all {
            let deliveries = within(subscriber.next()).await.unwrap();
            seen.extend(numbers(&deliveries));
            held.extend(deliveries);
            assert!(held.len() <= window && counters.in_flight() <= window as u64, "{} held, {limits:?}", held.len());
            if held.len() == window {
                let more = tokio::time::timeout(Duration::from_millis(5), subscriber.next()).await;
                assert!(more.is_err(), "delivered beyond the window, {limits:?}");
            }
            ack(&subscriber, &[held.remove(0)]);
        }
        assert_eq!(seen, (0..all).collect::<Vec<_>>(), "{limits:?}");
    }
}

pub(super) async fn payloads_come_back_as_they_were(open: Open) {
    let Some(fresh) = open(Limits::default(), ONE).await else { return };
    let unicode = "żółć 🦀 \u{202e}rtl\u{0} مرحبا";
    let large: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let batch = vec![
        Envelope::new(0, &[("ce-id", "an empty message")], b""),
        Envelope::new(255, &[("ce-id", "1"), ("reason", unicode), ("empty", "")], unicode.as_bytes()),
        Envelope::new(3, &[("Content-Type", "application/octet-stream")], &large),
        Envelope::new(4, &[], &[0xff, 0xfe, 0x00]),
    ];
    fresh.bus.publisher("events").unwrap().publish(batch.clone()).await.unwrap();
    let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
    let taken = take(&mut subscriber, batch.len()).await;
    // Keys keep their order, and nobody else does.
    let mut taken: Vec<Envelope> = taken.into_iter().map(|delivery| delivery.envelope).collect();
    let place = |envelope: &Envelope| batch.iter().position(|sent| sent.ordering_key() == envelope.ordering_key());
    taken.sort_by_key(place);
    for (taken, sent) in taken.iter().zip(&batch) {
        let attributes = |envelope: &Envelope| envelope.attributes().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeSet<_>>();
        assert_eq!((taken.ordering_key(), attributes(taken)), (sent.ordering_key(), attributes(sent)));
        assert!(taken.data() == sent.data(), "{} bytes came back as {}", sent.data().len(), taken.data().len());
    }
}

pub(super) async fn too_large_is_refused_for_good(open: Open) {
    let Some(fresh) = open(Limits::default(), ONE).await else { return };
    let publisher = fresh.bus.publisher("events").unwrap();
    let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
    let huge = Envelope::new(0, &[], &vec![0; convpipe::bus::MESSAGE_BYTES_MAX + 1]);
    let error = publisher.publish(vec![message("1"), huge]).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { .. }) && !error.is_retryable());
    publisher.publish(vec![message("2")]).await.unwrap();
    assert_eq!(numbers(&take(&mut subscriber, 1).await), [2], "nothing of the refused batch was written");
}

pub(super) async fn a_backlog_is_of_a_subscription_that_exists(open: Open) {
    let Some(fresh) = open(Limits::default(), ONE).await else { return };
    let error = fresh.bus.backlog("events", "nobody").await.unwrap_err();
    assert!(matches!(error, BusError::NoSubscription { .. }) && error.to_string().contains("nobody"), "{error}");
    let error = fresh.bus.rewind("events", "nobody", convpipe::schema::time::Millis(0)).await.unwrap_err();
    assert!(matches!(error, BusError::NoSubscription { .. }), "{error}");
    let _subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
    let backlog = fresh.bus.backlog("events", "first").await.unwrap();
    if fresh.is_exact() {
        assert_eq!(backlog, Backlog { messages: Some(0), oldest_age: None });
    } else {
        assert_eq!(backlog.messages, None, "nobody knows");
        assert!(backlog.oldest_age.is_some(), "but there is a bound");
    }
}

pub(super) async fn waiting_may_be_cancelled(open: Open) {
    let Some(fresh) = open(Limits { in_flight_max: 64, ..Limits::default() }, ONE).await else { return };
    let all = fresh.some(600);
    let publisher = fresh.bus.publisher("events").unwrap();
    let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
    let publishing = tokio::spawn(async move {
        for number in 0..all {
            publisher.publish(messages([number])).await.unwrap();
        }
    });
    let mut seen = Vec::new();
    within(async {
        while seen.len() < all {
            // Polled once and dropped, over and over.
            let deliveries = tokio::select! {
                biased;
                deliveries = subscriber.next() => deliveries.unwrap(),
                () = tokio::task::yield_now() => continue,
            };
            seen.extend(numbers(&deliveries));
            ack(&subscriber, &deliveries);
        }
    })
    .await;
    assert_eq!(seen, (0..all).collect::<Vec<_>>());
    publishing.await.unwrap();
}

pub(super) async fn publishers_side_by_side_lose_nothing(open: Open) {
    let Some(fresh) = open(Limits::default(), ONE).await else { return };
    let each = fresh.some(4_000);
    let mut tasks = Vec::new();
    for part in 0..2 {
        let publisher = fresh.bus.publisher("events").unwrap();
        tasks.push(tokio::spawn(async move {
            for start in (part * each..(part + 1) * each).step_by(each / 40) {
                publisher.publish(messages(start..start + each / 40)).await.unwrap();
            }
        }));
    }
    let mut subscriber = fresh.bus.subscriber("events", "first").await.unwrap();
    let seen = drain(&mut subscriber, 2 * each).await;
    assert!(seen.values().all(|&times| times == 1) || !fresh.is_exact());
    for task in tasks {
        task.await.unwrap();
    }
}

/// Makes a test of each case, on one engine.
macro_rules! contract {
    ($engine:expr) => {
        $crate::bus::contract::contract! { $engine =>
            batches_arrive_whole_and_in_order
            the_order_of_a_key_is_kept_with_publishes_side_by_side
            every_subscription_gets_everything
            what_is_nacked_comes_again_after_its_delay
            a_subscription_goes_on_where_it_stopped
            subscribers_of_one_subscription_share_it
            the_window_bounds_what_is_unanswered
            payloads_come_back_as_they_were
            too_large_is_refused_for_good
            a_backlog_is_of_a_subscription_that_exists
            waiting_may_be_cancelled
            publishers_side_by_side_lose_nothing
        }
    };
    ($engine:expr => $($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::bus::contract::$case($engine).await;
            }
        )*
    };
}
pub(super) use contract;
