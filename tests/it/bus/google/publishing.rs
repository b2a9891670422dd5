//! Publishing to a service that misbehaves: what is recovered, what is told, and what is counted.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use convpipe::bus::{Bus, PublishError, Publisher, ServiceFault};
use convpipe::config::GoogleBusConfig;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::ids;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use tonic::Code;

use super::super::within;
use super::{bus, fake};
use crate::support::fake_pubsub::{Answer, FakePubSub};

fn envelope(key: u16, text: &str) -> Envelope {
    Envelope::new(key, &[("ce-id", "1")], text.as_bytes())
}

/// `1a 1b 2a`: messages of the keys that they begin with.
fn batch(texts: &str) -> Vec<Envelope> {
    texts.split(' ').map(|text| envelope(text[..1].parse().unwrap(), text)).collect()
}

async fn publisher(config: &GoogleBusConfig) -> Publisher {
    bus(config).await.publisher("events").unwrap()
}

/// The first of each, in order.
fn firsts(taken: &[String]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    taken.iter().map(String::as_str).filter(|text| seen.insert(*text)).collect()
}

fn of_key<'t>(taken: &[&'t str], key: &str) -> Vec<&'t str> {
    taken.iter().copied().filter(|text| text.starts_with(key)).collect()
}

fn says(messages: &[PubsubMessage], text: &str) -> bool {
    messages.iter().any(|message| message.data == text.as_bytes())
}

#[tokio::test]
async fn a_burst_of_outages_is_sat_out_in_order() {
    let (fake, config) = fake().await;
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Internal, Code::Aborted, Code::Unknown, Code::Cancelled] {
        let begun = fake.requests();
        fake.on_publish(move |number, _| if number < begun + 3 { Answer::Refused(code) } else { Answer::Confirmed });
        let publisher = publisher(&config).await;
        let taken_before = fake.taken().len();
        within(publisher.publish(batch("1a 1b 1c"))).await.unwrap();
        within(publisher.publish(batch("1d"))).await.unwrap();
        assert_eq!(fake.taken()[taken_before..], ["1a", "1b", "1c", "1d"], "{code:?}");
        let counters = publisher.counters();
        assert_eq!((counters.confirmed(), counters.refused(), counters.failed()), (4, 0, 0), "{code:?}");
        assert!(counters.retried() >= 3, "{code:?}");
        assert_eq!((counters.in_flight(), counters.oldest_unconfirmed()), ((0, 0), None), "{code:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_costs_a_repeat_and_never_the_order() {
    let (fake, config) = fake().await;
    fake.on_publish(|number, _| match number {
        0 => Answer::Lost(Code::Unavailable),
        1 => Answer::ShortByOne,
        _ => Answer::Confirmed,
    });
    let publisher = publisher(&config).await;
    within(publisher.publish(batch("1a 1b 1c"))).await.unwrap();
    let taken = fake.taken();
    assert!(taken.len() > 3, "{taken:?}");
    assert_eq!(firsts(&taken), ["1a", "1b", "1c"]);
    let counters = publisher.counters();
    assert_eq!((counters.confirmed(), counters.failed(), counters.in_flight()), (3, 0, (0, 0)), "each counts once");
    assert!(counters.retried() >= 2, "{}", counters.retried());
}

#[tokio::test]
async fn what_is_refused_for_good_is_found_and_the_rest_goes_through_in_order() {
    let (fake, config) = fake().await;
    fake.on_publish(
        |_, messages| {
            if says(messages, "1c") || says(messages, "2b") { Answer::Refused(Code::InvalidArgument) } else { Answer::Confirmed }
        },
    );
    for ordering in [true, false] {
        let publisher = publisher(&GoogleBusConfig { ordering, ..config.clone() }).await;
        let before = fake.taken().len();
        let error = within(publisher.publish(batch("1a 1b 1c 2a 1d 2b 2c 3a"))).await.unwrap_err();
        let PublishError::Refused { refused } = &error else { panic!("{error}") };
        assert!(!error.is_retryable());
        assert_eq!(refused.iter().map(|refusal| refusal.index).collect::<Vec<_>>(), [2, 5]);
        assert!(refused[0].reason.contains("said by the test"), "{error}");
        let taken = fake.taken();
        let mut taken = firsts(&taken[before..]);
        if ordering {
            assert_eq!(of_key(&taken, "1"), ["1a", "1b", "1d"]);
            assert_eq!(of_key(&taken, "2"), ["2a", "2c"]);
        }
        taken.sort_unstable();
        assert_eq!(taken, ["1a", "1b", "1d", "2a", "2c", "3a"]);
        let counters = publisher.counters();
        assert_eq!((counters.refused(), counters.confirmed(), counters.failed()), (2, 6, 0));
        within(publisher.publish(batch("1e 2d"))).await.unwrap();
        assert_eq!((counters.confirmed(), counters.in_flight()), (8, (0, 0)));
    }
}

#[tokio::test]
async fn a_key_that_is_paused_goes_on_where_it_stopped_and_others_do_not_wait() {
    let (fake, config) = fake().await;
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&failures);
    fake.on_publish(move |_, messages| {
        let of_one = messages.iter().any(|message| message.ordering_key == "1");
        if of_one && counted.fetch_add(1, Ordering::SeqCst) < 4 { Answer::Refused(Code::Unavailable) } else { Answer::Confirmed }
    });
    // Batches of two, so that there is something behind the one that fails.
    let publisher = publisher(&GoogleBusConfig { publish_batch_max: 2, ..config }).await;
    let side_by_side: Vec<_> = ["1a 1b 1c 1d 1e", "2a 1f 2b 1g", "1h"]
        .map(|texts| {
            let (publisher, batch) = (publisher.clone(), batch(texts));
            tokio::spawn(async move { publisher.publish(batch).await })
        })
        .into();
    fake.wait("key 2", |fake| of_key(&fake.taken().iter().map(String::as_str).collect::<Vec<_>>(), "2").len() == 2).await;
    for publishing in side_by_side {
        within(publishing).await.unwrap().unwrap();
    }
    let taken = fake.taken();
    let of_one = of_key(&firsts(&taken), "1").concat();
    for batch in ["1a1b1c1d1e", "1f1g"] {
        assert!(of_one.contains(batch), "{of_one}: a publish's messages of a key stand together, in order");
    }
    assert_eq!(of_one.len(), 16);
}

#[tokio::test]
async fn retries_have_an_end() {
    let (fake, config) = fake().await;
    fake.on_publish(|_, _| Answer::Refused(Code::Unavailable));
    for (limit, requests_max) in [
        (GoogleBusConfig { publish_attempts_max: 3, ..config.clone() }, 3),
        (GoogleBusConfig { publish_deadline_ms: 200, publish_timeout_ms: 100, ..config.clone() }, 8),
    ] {
        let before = fake.requests();
        let publisher = publisher(&limit).await;
        let error = within(publisher.publish(batch("1a"))).await.unwrap_err();
        assert!(matches!(&error, PublishError::Service(error) if error.fault == ServiceFault::Unavailable), "{error}");
        assert!(error.is_retryable() && error.to_string().contains("topic events of project demo"), "{error}");
        let requests = fake.requests() - before;
        assert!(requests <= requests_max, "{requests} requests");
        let counters = publisher.counters();
        assert_eq!((counters.failed(), counters.retried(), counters.confirmed()), (1, requests as u64 - 1, 0));
    }
}

#[tokio::test]
async fn what_waiting_does_not_mend_is_told_at_once() {
    let (fake, config) = fake().await;
    for (code, fault, advice) in [
        (Code::NotFound, ServiceFault::NotFound, "convpipe provision"),
        (Code::PermissionDenied, ServiceFault::Denied, "roles"),
        (Code::Unauthenticated, ServiceFault::Credentials, "gcloud auth application-default login"),
    ] {
        let before = fake.requests();
        fake.on_publish(move |_, _| Answer::Refused(code));
        let publisher = publisher(&config).await;
        let error = within(publisher.publish(batch("1a 1b"))).await.unwrap_err();
        assert!(matches!(&error, PublishError::Service(error) if error.fault == fault), "{error}");
        assert!(error.to_string().contains(advice), "{error}");
        assert_eq!(fake.requests() - before, 1, "{code:?}");
        let counters = publisher.counters();
        assert_eq!((counters.failed(), counters.retried(), counters.in_flight()), (2, 0, (0, 0)), "{code:?}");
        fake.on_publish(|_, _| Answer::Confirmed);
        within(publisher.publish(batch("1a 1b"))).await.unwrap();
        assert_eq!(counters.confirmed(), 2, "{code:?}");
    }
}

#[tokio::test]
async fn a_service_that_falls_silent_holds_no_more_than_the_budget() {
    let (fake, config) = fake().await;
    fake.on_publish(|_, _| Answer::Silence);
    for (messages_max, bytes_max) in [(40, 1 << 20), (1_000, 40 << 10)] {
        let limits = GoogleBusConfig { publish_in_flight_max: messages_max, publish_in_flight_bytes_max: bytes_max, ..config.clone() };
        let publisher = publisher(&GoogleBusConfig { publish_batch_max: 1, ..limits }).await;
        let counters = publisher.counters();
        let waiting: Vec<_> = (0..20u16)
            .map(|key| {
                let (publisher, text) = (publisher.clone(), "x".repeat(1_000));
                let batch = (0..10).map(|_| envelope(key, &text)).collect();
                tokio::spawn(async move { publisher.publish(batch).await })
            })
            .collect();
        let budget = messages_max.min(bytes_max / envelope(0, &"x".repeat(1_000)).size()) as u64;
        // Whole batches of ten, of keys of their own, each with one request on its way: as many as there is room for.
        within(async {
            while counters.in_flight().0 + 10 <= budget {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let (messages, bytes) = counters.in_flight();
        assert!(messages <= messages_max as u64 && bytes <= bytes_max as u64, "{messages} messages, {bytes} bytes");
        // Whoever gives up waiting frees nothing: the library still has the messages.
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        for waiting in waiting {
            assert!(waiting.await.unwrap_err().is_cancelled());
        }
        assert_eq!(counters.in_flight(), (messages, bytes));
        assert!(counters.oldest_unconfirmed().is_some());
        assert!(
            tokio::time::timeout(Duration::from_millis(50), publisher.publish(vec![envelope(99, &"y".repeat(20_000)); 40])).await.is_err()
        );
        assert!(fake.taken().is_empty());
    }
}

#[tokio::test]
async fn a_connection_that_swallows_everything_is_given_up() {
    let (fake, config) = fake().await;
    let publisher = publisher(&GoogleBusConfig { publish_timeout_ms: 60, ..config }).await;
    within(publisher.publish(batch("1a"))).await.unwrap();
    let before = fake.connections();
    fake.swallow_old_connections();
    within(publisher.publish(batch("1b 2a 1c"))).await.unwrap();
    assert!(fake.connections() > before, "it was the old connection that answered");
    assert_eq!(of_key(&firsts(&fake.taken()), "1"), ["1a", "1b", "1c"]);
    let counters = publisher.counters();
    assert!(counters.retried() > 0 && counters.confirmed() == 4 && counters.in_flight() == (0, 0), "{counters:?}");
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_and_one_that_is_too_slow_costs_a_repeat() {
    const SLOW: Duration = Duration::from_millis(150);
    let (fake, config) = fake().await;
    for (timeout_ms, too_slow) in [(10_000, false), (60, true)] {
        let (begun, taken_before) = (fake.requests(), fake.taken().len());
        fake.on_publish(move |number, _| if number == begun { Answer::Late(SLOW) } else { Answer::Confirmed });
        let publisher = publisher(&GoogleBusConfig { publish_timeout_ms: timeout_ms, ..config.clone() }).await;
        let counters = publisher.counters();
        let publishing = tokio::spawn(async move { publisher.publish(batch("1a 1b 1c")).await });
        fake.wait("the request", |fake| fake.requests() > begun).await;
        let waiting = counters.oldest_unconfirmed().expect("it is on its way");
        assert_eq!((counters.in_flight().0, counters.confirmed()), (3, 0));
        within(async {
            // It grows older as long as nothing is confirmed.
            while counters.oldest_unconfirmed().is_some_and(|age| age < waiting + Duration::from_millis(20)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(counters.confirmed(), 0);
        within(publishing).await.unwrap().unwrap();
        assert_eq!((counters.confirmed(), counters.in_flight(), counters.oldest_unconfirmed()), (3, (0, 0), None));
        assert_eq!(counters.retried() > 0, too_slow);
        let taken = fake.taken().split_off(taken_before);
        assert_eq!((taken.len() > 3, firsts(&taken)), (too_slow, vec!["1a", "1b", "1c"]));
    }
}

/// A request's own time limit begins with its connection, and the library waits for that without any. Without a guard a publish would wait for ever
/// where nobody completes a handshake.
#[tokio::test]
async fn a_connection_that_nobody_accepts_is_given_up() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // Who is not in this short queue gets no answer to anything.
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address)).await {
        queue.push(connection);
    }
    let config = GoogleBusConfig { publish_timeout_ms: 50, publish_attempts_max: 1, ..super::config("demo", &address.to_string()) };
    let publisher = publisher(&config).await;
    let counters = publisher.counters();
    let publishing = tokio::spawn(async move { (publisher.publish(batch("1a 1b 2a")).await, publisher) });
    within(async {
        while counters.in_flight().0 < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nothing happens but the time that passes.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    let (given_up, publisher) = publishing.await.unwrap();
    tokio::time::resume();
    let error = given_up.unwrap_err();
    assert!(matches!(&error, PublishError::Service(error) if error.fault == ServiceFault::Timeout), "{error}");
    assert!(error.is_retryable() && error.to_string().contains("no connection, and no answer"), "{error}");
    assert_eq!((counters.failed(), counters.confirmed()), (3, 0));
    // Somebody takes the place of who did not accept: the next publish has a connection of its own.
    drop((queue, listener));
    let fake = FakePubSub::start_at(&address.to_string()).await;
    within(async { while publisher.publish(batch("1a 1b 2a")).await.is_err() {} }).await;
    assert_eq!(of_key(&firsts(&fake.taken()), "1"), ["1a", "1b"]);
    assert_eq!(counters.confirmed(), 3);
}

#[tokio::test]
async fn a_request_keeps_the_bounds_of_a_batch() {
    let (fake, config) = fake().await;
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    fake.on_publish(move |_, messages| {
        let bytes: usize = messages.iter().map(|message| message.data.len()).sum();
        seen.lock().unwrap().push((messages.len(), bytes));
        Answer::Confirmed
    });
    let config = GoogleBusConfig { publish_batch_max: 7, publish_batch_bytes_max: 3_000, ..config };
    let publisher = publisher(&config).await;
    let large = "x".repeat(1_000);
    let batch = (0..30).map(|number| envelope(1, if number < 20 { "x" } else { &large })).collect();
    within(publisher.publish(batch)).await.unwrap();
    let sizes = sizes.lock().unwrap().clone();
    assert!(sizes.iter().all(|&(messages, bytes)| messages <= 7 && bytes <= 3_000), "{sizes:?}");
    assert_eq!(sizes.iter().map(|(messages, _)| messages).sum::<usize>(), 30);
}

#[tokio::test]
async fn a_service_that_goes_and_comes_back_is_waited_for() {
    let (fake, config) = fake().await;
    let address = fake.address();
    let publisher = publisher(&config).await;
    within(publisher.publish(batch("1a"))).await.unwrap();
    fake.end().await;
    let impatient = super::bus(&GoogleBusConfig { publish_attempts_max: 2, ..config }).await.publisher("events").unwrap();
    let error = within(impatient.publish(batch("1b"))).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("the network"), "{error}");
    let publishing = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.publish(batch("1b 1c")).await }
    });
    within(async {
        while publisher.counters().retried() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let fake = FakePubSub::start_at(&address).await;
    within(publishing).await.unwrap().unwrap();
    assert_eq!(fake.taken(), ["1b", "1c"]);
    let counters = publisher.counters();
    assert_eq!((counters.confirmed(), counters.failed(), counters.oldest_unconfirmed()), (3, 0, None));
}

#[tokio::test]
async fn any_number_of_conversations_takes_256_keys() {
    let (fake, config) = fake().await;
    let keys = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&keys);
    fake.on_publish(move |_, messages| {
        seen.lock().unwrap().extend(messages.iter().map(|message| message.ordering_key.clone()));
        Answer::Confirmed
    });
    fake.keep_nothing();
    let publisher = publisher(&config).await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut after_first = 0;
    for round in 0..20 {
        let fans = round * 5_000..(round + 1) * 5_000;
        let batch = fans.map(|fan| envelope(ids::ordering_key("200000001", Some(&fan.to_string())), "x")).collect();
        within(publisher.publish(batch)).await.unwrap();
        if round == 0 {
            after_first = alive();
        }
    }
    assert_eq!(keys.lock().unwrap().len(), 256);
    assert!(alive() <= after_first + 64, "{after_first} tasks became {}", alive());
    assert_eq!(publisher.counters().confirmed(), 100_000);
}

#[tokio::test]
async fn without_ordering_no_message_carries_a_key() {
    let (fake, config) = fake().await;
    let publisher = publisher(&GoogleBusConfig { ordering: false, ..config }).await;
    within(publisher.publish(batch("1a 2a 3a"))).await.unwrap();
    assert!(fake.messages().iter().all(|message| message.ordering_key.is_empty()));
    assert_eq!(fake.requests(), 1, "and a request takes what there is");
}

#[tokio::test]
async fn an_empty_message_is_refused_and_nothing_else() {
    let (fake, config) = fake().await;
    // As the service does.
    fake.on_publish(|_, messages| {
        let is_empty = |message: &PubsubMessage| message.data.is_empty() && message.attributes.is_empty();
        if messages.iter().any(is_empty) { Answer::Refused(Code::InvalidArgument) } else { Answer::Confirmed }
    });
    let bus: Bus = bus(&config).await;
    let error = within(bus.publisher("events").unwrap().publish(vec![envelope(1, "a"), Envelope::new(1, &[], b"")])).await.unwrap_err();
    assert!(matches!(&error, PublishError::Refused { refused } if refused.len() == 1 && refused[0].index == 1), "{error}");
    assert_eq!(firsts(&fake.taken()), ["a"]);
}
