//! Stops and reloads under load, over and over: every stop ends well, nothing is lost, and nothing is applied twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use convpipe::bus::Subscriber;
use convpipe::runtime::shutdown::Shutdown;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::EventKind;
use convpipe::ws::serve;
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::pipeline::place::{LIMIT, Place, busy_evening, differences_of, wait_until};
use crate::support::process::Output;
use crate::support::redis::RedisServer;
use crate::ws::artifact;

const STOPS: u64 = 10;
const ACCOUNT: &str = "200000001";

/// Whether the event means the same whenever it comes, as in `pipeline::killed`.
fn is_in_any_order(envelope: &Envelope) -> bool {
    !matches!(envelope.event().unwrap().kind, EventKind::PresenceSnapshot | EventKind::MessageDeleted)
}

#[track_caller]
fn drained(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_stopped_ten_times_in_full_work_loses_and_repeats_nothing() {
    let redis = RedisServer::start();
    let (mut calm, mut wild) = (Place::new(&redis.url(), "calm"), Place::new(&redis.url(), "wild"));
    calm.judge_by_id_alone();
    wild.judge_by_id_alone();
    let envelopes: Vec<Envelope> = busy_evening(6_000).into_iter().filter(is_in_any_order).collect();
    calm.publish(envelopes).await;
    wild.copy_bus_of(&calm);
    let process = calm.start(&["snapshot"]);
    calm.wait_backlog(&calm.bus(), 0).await;
    drained(&process.terminate(LIMIT));

    // A window that is small against all there is, so that there is work at every stop.
    (wild.config.snapshot.batch_max, wild.config.bus.embedded.in_flight_max) = (32, 64);
    let bus = wild.bus();
    let mut process = wild.start(&["snapshot"]);
    wait_until("a subscription", async || wild.backlog(&bus).await.is_some()).await;
    let all = wild.backlog(&bus).await.unwrap();
    for stop in 1..=STOPS {
        process.signal(Signal::HUP);
        wild.wait_backlog(&bus, all - all * stop / (STOPS + 2)).await;
        // The rules are swapped in the middle of it, for the same ones.
        process.signal(Signal::HUP);
        drained(&process.terminate(LIMIT));
        assert!(wild.backlog(&bus).await.unwrap() > 0, "the stops are over before the work is");
        process = wild.start(&["snapshot"]);
        process.wait_stderr("\"consuming\"", LIMIT);
    }
    wild.wait_backlog(&bus, 0).await;
    drained(&process.terminate(LIMIT));
    let found = differences_of(&calm.read().await, &wild.read().await);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(20)].join("\n"));
}

/// The platform counts its messages. A stream cannot be asked again, so what is sent while nobody is connected is missing; but of each connection every
/// message from the first to the last that was read has to be there, each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingest_stopped_ten_times_at_full_speed_publishes_all_that_it_read_once() {
    let redis = RedisServer::start();
    let mut place = Place::new(&redis.url(), "speed");
    place.config.ingest.backoff_min_ms = 1;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    place.write_artifacts([artifact(ACCOUNT, 1, &format!("ws://{}/", listener.local_addr().unwrap()))]);
    let (player, source) = serve::stage([ACCOUNT], &[]);
    let (stop, over) = (Shutdown::new(), Arc::new(AtomicBool::new(false)));
    let serving = tokio::spawn(serve::serve(listener, source, stop.clone()));
    let playing = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            for number in 1u64.. {
                if over.load(Ordering::Relaxed) {
                    return number;
                }
                player.play(ACCOUNT, frame(number)).await.unwrap();
            }
            unreachable!()
        }
    });
    let mut topic = Topic { subscriber: place.bus().subscriber(&place.config.bus.topic, "test").await.unwrap(), numbers: BTreeMap::new() };
    for _ in 0..STOPS {
        let before = topic.numbers.len();
        let process = place.start(&["ingest"]);
        topic.wait(before, 1_500).await;
        process.signal(Signal::HUP);
        topic.wait(before, 2_000).await;
        let output = process.terminate(LIMIT);
        drained(&output);
        balanced(&output);
    }
    over.store(true, Ordering::Relaxed);
    // Somebody has to take what waits for the account.
    let process = place.start(&["ingest"]);
    playing.await.unwrap();
    drained(&process.terminate(LIMIT));
    stop.request();
    serving.await.unwrap().unwrap();
    topic.rest().await;
    topic.check();
}

fn frame(number: u64) -> String {
    let id = 6_400_000_000_000 + number;
    format!(
        r#"{{"api2_chat_message":{{"id":{id},"text":"{number}","createdAt":"2026-07-24T20:00:00+00:00","fromUser":{{"id":100000001,"name":"F"}}}}}}"#
    )
}

/// What the last record of an ingest says it did.
#[track_caller]
fn balanced(output: &Output) {
    let line = output.stderr.iter().rfind(|line| line.contains("\"ingest stopped\"")).expect("a last record");
    let counts: Value = serde_json::from_str(line).unwrap();
    let of = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("no {name} in {line}"));
    assert!(of("frames") >= 2_000, "{line}");
    assert_eq!(of("events") + of("rejected"), of("published") + of("dropped_c") + of("coalesced_b"), "{line}");
    assert_eq!((of("buffer_bytes"), of("rejected")), (0, 0), "{line}");
}

/// Numbers of the messages in the topic, by connection, in the order in which they came.
struct Topic {
    subscriber: Subscriber,
    numbers: BTreeMap<String, Vec<u64>>,
}

impl Topic {
    async fn take(&mut self) -> usize {
        let deliveries = tokio::time::timeout(LIMIT, self.subscriber.next()).await.expect("a delivery").unwrap();
        for delivery in &deliveries {
            let event = delivery.envelope.event().unwrap();
            if event.kind == EventKind::MessageReceived {
                let number = event.message.as_ref().unwrap().text.as_ref().unwrap().raw().parse().unwrap();
                self.numbers.entry(event.connection.raw().to_owned()).or_default().push(number);
            }
        }
        let acks: Vec<_> = deliveries.iter().map(|delivery| delivery.ack).collect();
        self.subscriber.acker().ack(&acks);
        deliveries.len()
    }

    /// Waits until so many messages have come over a connection that is newer than the first `before`. Ids of connections begin with their time.
    async fn wait(&mut self, before: usize, messages: usize) {
        while self.numbers.len() <= before || self.numbers.last_key_value().is_none_or(|(_, numbers)| numbers.len() < messages) {
            self.take().await;
        }
    }

    /// Takes what is left: nothing is published any more.
    async fn rest(&mut self) {
        while tokio::time::timeout(std::time::Duration::from_millis(300), self.take()).await.is_ok() {}
    }

    fn check(&self) {
        assert!(self.numbers.len() >= usize::try_from(STOPS).unwrap(), "{} connections", self.numbers.len());
        let mut all = BTreeSet::new();
        for (connection, numbers) in &self.numbers {
            let holes: Vec<_> = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
            assert!(holes.is_empty(), "{connection}: {holes:?}");
            numbers.iter().for_each(|number| assert!(all.insert(*number), "{number} came over two connections"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once_and_says_what_is_given_up() {
    let mut redis = RedisServer::start();
    let place = Place::new(&redis.url(), "hurry");
    let process = place.start(&["snapshot", "--drain-timeout", "600"]);
    place.wait_backlog(&place.bus(), 0).await;
    redis.stop();
    place.publish(busy_evening(50)).await;
    process.wait_stderr("not written, deliveries wait", LIMIT);
    process.signal(Signal::TERM);
    process.wait_stderr("stopping; writing what was taken", LIMIT);
    process.signal(Signal::TERM);
    let output = process.wait(LIMIT);
    assert_eq!(output.status.code(), Some(143));
    let last: Value = serde_json::from_str(output.stderr.iter().rfind(|line| line.contains("given_up")).expect("last words")).unwrap();
    let given_up = last["given_up"].as_str().unwrap_or_else(|| panic!("{last}"));
    assert!(given_up.ends_with("deliveries that were not answered; they are delivered again"), "{last}");
}
