//! What every engine of the bus promises.

use std::time::{Duration, Instant};

use convpipe::bus::{BusError, PublishError};
use convpipe::schema::envelope::Envelope;

use super::{Limits, Open, ack, drain, message, messages, number, numbers, take, text, wait_for_backlog, within};

const CLOSE: Duration = Duration::from_secs(5);

pub(super) async fn batches_arrive_whole_and_in_order(open: Open) {
    let fresh = open(Limits::default());
    let publisher = fresh.bus.publisher("t").unwrap();
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    publisher.publish(Vec::new()).await.unwrap();
    for batch in [0..1, 1..300, 300..301, 301..2_500] {
        publisher.publish(messages(batch)).await.unwrap();
    }
    let taken = take(&mut subscriber, 2_500).await;
    assert_eq!(numbers(&taken), (0..2_500).collect::<Vec<_>>());
    assert!(taken.iter().all(|delivery| delivery.attempt == 1));
    ack(&subscriber, &taken);
    wait_for_backlog(&fresh.bus, "t", "s", 0).await;
}

pub(super) async fn the_order_of_a_key_is_kept_with_publishes_side_by_side(open: Open) {
    let fresh = open(Limits::default());
    let publisher = fresh.bus.publisher("t").unwrap();
    let mut tasks = Vec::new();
    for key in 0..4u16 {
        let publisher = publisher.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..50 {
                publisher.publish(vec![Envelope::new(key, &[], number.to_string().as_bytes())]).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, 200).await;
    for key in 0..4 {
        let of_key: Vec<usize> = taken.iter().filter(|delivery| delivery.envelope.ordering_key() == key).map(number).collect();
        assert_eq!(of_key, (0..50).collect::<Vec<_>>(), "key {key}");
    }
}

pub(super) async fn every_subscription_gets_everything(open: Open) {
    let fresh = open(Limits::default());
    let publisher = fresh.bus.publisher("t").unwrap();
    let mut early = fresh.bus.subscriber("t", "early").await.unwrap();
    publisher.publish(messages(0..100)).await.unwrap();
    let first = take(&mut early, 100).await;
    ack(&early, &first);
    // Created later, it still starts at the oldest message that is kept.
    let mut late = fresh.bus.subscriber("t", "late").await.unwrap();
    assert_eq!(numbers(&take(&mut late, 100).await), numbers(&first));
    let mut elsewhere = fresh.bus.subscriber("another", "early").await.unwrap();
    fresh.bus.publisher("another").unwrap().publish(messages([7])).await.unwrap();
    assert_eq!(numbers(&take(&mut elsewhere, 1).await), [7]);
}

pub(super) async fn what_is_nacked_comes_again_after_its_delay(open: Open) {
    let fresh = open(Limits::default());
    fresh.bus.publisher("t").unwrap().publish(messages(0..10)).await.unwrap();
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, 10).await;
    let delay = Duration::from_millis(150);
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
    wait_for_backlog(&fresh.bus, "t", "s", 0).await;
    let counters = subscriber.counters();
    assert_eq!((counters.delivered(), counters.redelivered(), counters.acked(), counters.nacked()), (14, 4, 10, 4));
    assert_eq!((counters.in_flight(), counters.lost_to_retention(), counters.corrupt()), (0, 0, 0));
}

pub(super) async fn what_was_published_since_a_time_comes_again(open: Open) {
    let fresh = open(Limits::default());
    let publisher = fresh.bus.publisher("t").unwrap();
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let mut other = fresh.bus.subscriber("t", "other").await.unwrap();
    publisher.publish(messages(0..10)).await.unwrap();
    let before = take(&mut subscriber, 10).await;
    // Publishing times are whole milliseconds.
    tokio::time::sleep(Duration::from_millis(2)).await;
    publisher.publish(messages(10..20)).await.unwrap();
    let after = take(&mut subscriber, 10).await;
    let since = after[0].published_at;
    assert!(before[9].published_at < since);
    ack(&subscriber, &before[..5]);
    ack(&subscriber, &after[..5]);
    fresh.bus.rewind("t", "s", since).await.unwrap();
    let again = take(&mut subscriber, 10).await;
    assert_eq!(numbers(&again), (10..20).collect::<Vec<_>>(), "acked or not");
    ack(&subscriber, &before);
    ack(&subscriber, &after);
    ack(&subscriber, &again);
    wait_for_backlog(&fresh.bus, "t", "s", 0).await;
    let of_other = take(&mut other, 20).await;
    ack(&other, &of_other);
    wait_for_backlog(&fresh.bus, "t", "other", 0).await;

    fresh.bus.rewind("t", "s", since.plus(3_600_000)).await.unwrap();
    assert_eq!(fresh.bus.backlog("t", "s").await.unwrap().messages, 0, "nothing was published since");
    fresh.bus.rewind("t", "s", before[0].published_at).await.unwrap();
    assert_eq!(numbers(&take(&mut subscriber, 20).await), (0..20).collect::<Vec<_>>());
    let absent = fresh.bus.rewind("t", "nobody", since).await.unwrap_err();
    assert!(matches!(absent, BusError::NoSubscription { .. }), "{absent}");
}

pub(super) async fn a_subscription_goes_on_where_it_stopped(open: Open) {
    let fresh = open(Limits::default());
    let publisher = fresh.bus.publisher("t").unwrap();
    publisher.publish(messages(0..600)).await.unwrap();
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, 600).await;
    let (done, left): (Vec<_>, Vec<_>) = taken.into_iter().partition(|delivery| !number(delivery).is_multiple_of(3));
    ack(&subscriber, &done);
    subscriber.close(CLOSE).await;
    let backlog = fresh.bus.backlog("t", "s").await.unwrap();
    assert_eq!(backlog.messages, left.len() as u64);
    assert!(backlog.oldest_age.is_some());
    publisher.publish(messages([600])).await.unwrap();
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, left.len() + 1).await;
    let mut expected = numbers(&left);
    expected.push(600);
    assert_eq!(numbers(&taken), expected);
    assert!(taken.iter().all(|delivery| delivery.attempt == 1), "what a clean close gave back is no attempt");
}

pub(super) async fn closing_gives_back_what_is_unanswered_at_once(open: Open) {
    let fresh = open(Limits::default());
    fresh.bus.publisher("t").unwrap().publish(messages(0..300)).await.unwrap();
    let mut holder = fresh.bus.subscriber("t", "s").await.unwrap();
    let held = take(&mut holder, 300).await;
    let mut heir = fresh.bus.subscriber("t", "s").await.unwrap();
    let late = holder.acker();
    holder.close(CLOSE).await;
    late.ack(&[held[0].ack]);
    assert_eq!(numbers(&take(&mut heir, 300).await), numbers(&held), "an answer after the close is too late");
    // A subscriber that is dropped gives back as well.
    drop(heir);
    let mut heir = fresh.bus.subscriber("t", "s").await.unwrap();
    take(&mut heir, 300).await;
}

pub(super) async fn abandoning_gives_back_at_once_and_counts_the_attempt(open: Open) {
    let fresh = open(Limits::default());
    fresh.bus.publisher("t").unwrap().publish(messages(0..300)).await.unwrap();
    let mut heir = fresh.bus.subscriber("t", "s").await.unwrap();
    for attempt in 1..4 {
        let taken = take(&mut heir, 300 - (attempt - 1)).await;
        assert!(taken.iter().all(|delivery| delivery.attempt as usize == attempt), "attempt {attempt}");
        ack(&heir, &taken[..1]);
        heir.abandon(CLOSE).await;
        heir = fresh.bus.subscriber("t", "s").await.unwrap();
    }
}

pub(super) async fn subscribers_of_one_subscription_share_it(open: Open) {
    const ALL: usize = 20_000;
    let fresh = open(Limits { in_flight_max: 500, ..Limits::default() });
    let publisher = fresh.bus.publisher("t").unwrap();
    let (told, mut tell) = tokio::sync::mpsc::channel(ALL);
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
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
    for start in (0..ALL).step_by(1_000) {
        publisher.publish(messages(start..start + 1_000)).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < ALL {
        seen.push(within(tell.recv()).await.unwrap());
    }
    wait_for_backlog(&fresh.bus, "t", "s", 0).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(tell.try_recv().is_err(), "something was delivered twice");
    seen.sort_unstable();
    assert_eq!(seen, (0..ALL).collect::<Vec<_>>());
}

pub(super) async fn the_window_bounds_what_is_unanswered(open: Open) {
    for (limits, window) in [
        (Limits { in_flight_max: 10, ..Limits::default() }, 10),
        (Limits { in_flight_bytes_max: 10 << 10, ..Limits::default() }, 10),
        (Limits { in_flight_max: 1, ..Limits::default() }, 1),
    ] {
        let fresh = open(limits);
        let batch: Vec<Envelope> = (0..100).map(|number: u32| Envelope::new(0, &[], format!("{number:01024}").as_bytes())).collect();
        fresh.bus.publisher("t").unwrap().publish(batch).await.unwrap();
        let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
        let counters = subscriber.counters();
        let mut seen = Vec::new();
        let mut held = Vec::new();
        while seen.len() < 100 {
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
        assert_eq!(seen, (0..100).collect::<Vec<_>>(), "{limits:?}");
    }
}

pub(super) async fn payloads_come_back_as_they_were(open: Open) {
    let fresh = open(Limits::default());
    let unicode = "żółć 🦀 \u{202e}rtl\u{0} مرحبا";
    let large: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let batch = vec![
        Envelope::new(0, &[], b""),
        Envelope::new(255, &[("ce-id", "1"), ("reason", unicode), ("", "")], unicode.as_bytes()),
        Envelope::new(3, &[("Content-Type", "application/octet-stream")], &large),
        Envelope::new(3, &[], &[0xff, 0xfe, 0x00]),
    ];
    fresh.bus.publisher("t").unwrap().publish(batch.clone()).await.unwrap();
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let taken = take(&mut subscriber, batch.len()).await;
    assert_eq!(taken.into_iter().map(|delivery| delivery.envelope).collect::<Vec<_>>(), batch);
}

pub(super) async fn any_name_is_a_name(open: Open) {
    let fresh = open(Limits::default());
    for (topic, subscription) in [("../escape", "a/b"), ("a.b", "c"), ("a", "b.c"), ("", ""), (&"long".repeat(50), "ü\n")] {
        let mut subscriber = fresh.bus.subscriber(topic, subscription).await.unwrap();
        fresh.bus.publisher(topic).unwrap().publish(vec![message(topic)]).await.unwrap();
        let taken = take(&mut subscriber, 1).await;
        assert_eq!(text(&taken[0]), topic);
    }
}

pub(super) async fn too_large_is_refused_for_good(open: Open) {
    let fresh = open(Limits::default());
    let publisher = fresh.bus.publisher("t").unwrap();
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let huge = Envelope::new(0, &[], &vec![0; convpipe::bus::MESSAGE_BYTES_MAX + 1]);
    let error = publisher.publish(vec![message("1"), huge]).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { .. }) && !error.is_retryable());
    publisher.publish(vec![message("2")]).await.unwrap();
    assert_eq!(numbers(&take(&mut subscriber, 1).await), [2], "nothing of the refused batch was written");
}

pub(super) async fn a_backlog_is_of_a_subscription_that_exists(open: Open) {
    let fresh = open(Limits::default());
    let error = fresh.bus.backlog("t", "nobody").await.unwrap_err();
    assert!(matches!(error, BusError::NoSubscription { .. }) && error.to_string().contains("nobody"), "{error}");
    let _subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    assert_eq!(fresh.bus.backlog("t", "s").await.unwrap(), convpipe::bus::Backlog::default());
}

pub(super) async fn waiting_may_be_cancelled(open: Open) {
    let fresh = open(Limits { in_flight_max: 64, ..Limits::default() });
    let publisher = fresh.bus.publisher("t").unwrap();
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let publishing = tokio::spawn(async move {
        for number in 0..500 {
            publisher.publish(messages([number])).await.unwrap();
        }
    });
    let mut seen = Vec::new();
    within(async {
        while seen.len() < 500 {
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
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
    publishing.await.unwrap();
}

pub(super) async fn publishers_side_by_side_lose_nothing(open: Open) {
    let fresh = open(Limits::default());
    let mut tasks = Vec::new();
    for part in 0..2 {
        let publisher = fresh.bus.publisher("t").unwrap();
        tasks.push(tokio::spawn(async move {
            for batch in 0..40 {
                let start = part * 4_000 + batch * 100;
                publisher.publish(messages(start..start + 100)).await.unwrap();
            }
        }));
    }
    let mut subscriber = fresh.bus.subscriber("t", "s").await.unwrap();
    let seen = drain(&mut subscriber, 8_000).await;
    assert!(seen.values().all(|&times| times == 1));
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
            what_was_published_since_a_time_comes_again
            a_subscription_goes_on_where_it_stopped
            closing_gives_back_what_is_unanswered_at_once
            abandoning_gives_back_at_once_and_counts_the_attempt
            subscribers_of_one_subscription_share_it
            the_window_bounds_what_is_unanswered
            payloads_come_back_as_they_were
            any_name_is_a_name
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
