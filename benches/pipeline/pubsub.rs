//! A million conversations through the Pub/Sub publisher: messages a second, and what stays of them in memory.
//!
//! The service is the fake of the tests, on a runtime of its own and keeping nothing, so tasks are the publisher's alone; the resident memory is of both.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use convpipe::bus::Bus;
use convpipe::bus::google::GoogleBus;
use convpipe::config::GoogleBusConfig;
use convpipe::schema::envelope::Envelope;
use convpipe::schema::event::{Event, EventKind};
use convpipe::schema::time::Millis;
use tokio::runtime::{Builder, Handle, Runtime};

use super::fake_pubsub::{Answer, FakePubSub};
use super::stack::rss_mb;

const CONVERSATIONS: u64 = 1_000_000;
const BATCH: u64 = 1_000;

pub(crate) fn run() {
    let serving = runtime();
    let fake = serving.block_on(FakePubSub::start());
    fake.keep_nothing();
    let keys = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&keys);
    fake.on_publish(move |_, messages| {
        let mut seen = seen.lock().unwrap();
        for message in messages {
            if !seen.contains(&message.ordering_key) {
                seen.insert(message.ordering_key.clone());
            }
        }
        Answer::Confirmed
    });
    let config = GoogleBusConfig { project: Some("demo".into()), emulator: Some(fake.address()), ..GoogleBusConfig::default() };
    let publishing = runtime();
    publishing.block_on(Box::pin(publish(&config)));
    println!("  ordering keys: {}", keys.lock().unwrap().len());
    drop(fake);
}

async fn publish(config: &GoogleBusConfig) {
    let publisher = Bus::Google(GoogleBus::open(config).await.unwrap()).publisher("events").unwrap();
    println!("Pub/Sub publisher, {CONVERSATIONS} conversations of one message each, batches of {BATCH}");
    let began = Instant::now();
    for first in (0..CONVERSATIONS).step_by(BATCH as usize) {
        publisher.publish((first..first + BATCH).map(envelope).collect()).await.unwrap();
        let published = first + BATCH;
        if [10_000, 100_000].contains(&published) || published.is_multiple_of(CONVERSATIONS / 4) {
            let rate = published as f64 / began.elapsed().as_secs_f64();
            let (tasks, rss) = (Handle::current().metrics().num_alive_tasks(), rss_mb(std::process::id()));
            println!("  {published:>9} conversations: {rate:>7.0} messages/s, RSS {rss:.0} MB, {tasks} tasks");
        }
    }
    assert_eq!(publisher.counters().confirmed(), CONVERSATIONS);
}

/// A message of a fan of whom nothing came before.
fn envelope(number: u64) -> Envelope {
    let (account, fan) = ((200_000_000 + number % 100).to_string(), (100_000_000 + number).to_string());
    let at = Millis(1_784_808_000_000);
    let mut event = Event::of_account(EventKind::MessageReceived, format!("onlyfans:{account}:msg:{number}:received"), &account, "c", at);
    event.conversation_id = Some(fan.as_str().into());
    event.fan_id = Some(fan.as_str().into());
    Envelope::of_event(&event).unwrap()
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
