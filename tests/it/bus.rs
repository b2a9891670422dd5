//! The bus: one contract, run on every engine by way of a function that opens a fresh one.

mod contract;
mod embedded;
mod google;

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use convpipe::bus::{Bus, Delivery, Subscriber};
use convpipe::schema::envelope::Envelope;

/// What a case asks of the engine; the rest is as the defaults have it.
#[derive(Debug, Clone, Copy)]
struct Limits {
    in_flight_max: usize,
    in_flight_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight_max: 10_000, in_flight_bytes_max: 32 << 20 }
    }
}

/// A bus with nothing in it, and what has to live as long as it does.
struct Fresh {
    bus: Bus,
    /// What the engine promises beyond the contract, that a case may count on.
    engine: Engine,
    _keep: Box<dyn Any>,
}

/// What engines differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    /// One order for all, each message once where nothing fails, a backlog that is counted, thousands of messages in no time.
    Embedded,
    /// Order by key, now and then something twice, no backlog; and the emulator is slow.
    Google,
}

impl Fresh {
    fn is_exact(&self) -> bool {
        self.engine == Engine::Embedded
    }

    /// How many messages a case takes, of those that it would like to.
    fn some(&self, count: usize) -> usize {
        if self.is_exact() { count } else { count / 20 }
    }
}

/// Topics and the subscriptions that each is to have.
type Names = &'static [(&'static str, &'static [&'static str])];

/// A way to open one; `None` where what it takes is not there.
type Open = fn(Limits, Names) -> Pin<Box<dyn Future<Output = Option<Fresh>>>>;

/// Fails a test that hangs.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("should have happened by now")
}

fn message(text: &str) -> Envelope {
    Envelope::new(7, &[("ce-id", text)], text.as_bytes())
}

fn messages(numbers: impl IntoIterator<Item = usize>) -> Vec<Envelope> {
    numbers.into_iter().map(|number| message(&number.to_string())).collect()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.envelope.data().to_vec()).unwrap()
}

fn number(delivery: &Delivery) -> usize {
    text(delivery).parse().unwrap()
}

fn numbers(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(number).collect()
}

/// The next `count` deliveries, unanswered.
async fn take(subscriber: &mut Subscriber, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(within(subscriber.next()).await.unwrap());
    }
    assert_eq!(taken.len(), count, "more was delivered than expected");
    taken
}

fn ack(subscriber: &Subscriber, deliveries: &[Delivery]) {
    let ids: Vec<_> = deliveries.iter().map(|delivery| delivery.ack).collect();
    subscriber.acker().ack(&ids);
}

/// Receives and acks until `distinct` different numbers were seen; how often each was.
async fn drain(subscriber: &mut Subscriber, distinct: usize) -> BTreeMap<usize, usize> {
    let mut seen = BTreeMap::new();
    while seen.len() < distinct {
        let deliveries = within(subscriber.next()).await.unwrap();
        for delivery in &deliveries {
            *seen.entry(number(delivery)).or_default() += 1;
        }
        ack(subscriber, &deliveries);
    }
    seen
}

/// Waits until a subscription has so many messages unacked.
async fn wait_for_backlog(bus: &Bus, topic: &str, subscription: &str, messages: u64) {
    within(async {
        while bus.backlog(topic, subscription).await.unwrap().messages != Some(messages) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until everything that was delivered is acked, as far as that can be told: by the backlog; else nobody gets anything any more.
async fn settle(fresh: &Fresh, topic: &str, subscription: &str, subscriber: Subscriber) {
    if fresh.is_exact() {
        wait_for_backlog(&fresh.bus, topic, subscription, 0).await;
        return;
    }
    subscriber.close(Duration::from_secs(5)).await;
    let mut heir = fresh.bus.subscriber(topic, subscription).await.unwrap();
    let more = tokio::time::timeout(Duration::from_millis(300), heir.next()).await;
    assert!(more.is_err(), "delivered although all was acked: {:?}", more.unwrap().unwrap());
}
