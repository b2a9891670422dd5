//! Pub/Sub: the contract and the administrator on Google's emulator, and on a fake what no emulator does.
//!
//! The emulator notices that a stream was closed only when it has sent something down it, and that comes again when the lease is over. Of an ordered
//! subscription it never comes again, nor does anything else whose key once went down that stream. So that a close gives back what is unanswered
//! is shown on the fake.

mod admin;
mod credentials;
mod independent;
mod publishing;
mod subscribing;

use std::future::Future;
use std::pin::Pin;

use convpipe::bus::Bus;
use convpipe::bus::google::GoogleBus;
use convpipe::config::GoogleBusConfig;

use super::{Engine, Fresh, Limits, Names};
use crate::support::fake_pubsub::FakePubSub;
use crate::support::pubsub::PubSub;

super::contract::contract!(open);

/// A project of its own on the emulator.
fn open(limits: Limits, names: Names) -> Pin<Box<dyn Future<Output = Option<Fresh>>>> {
    Box::pin(async move {
        let emulator = PubSub::open().await?;
        let project = project();
        for (topic, subscriptions) in names {
            emulator.make(&project, topic, subscriptions);
        }
        let config = GoogleBusConfig {
            in_flight_max: limits.in_flight_max,
            in_flight_bytes_max: limits.in_flight_bytes_max,
            lease_s: 10,
            ..config(&project, emulator.address())
        };
        Some(Fresh { bus: bus(&config).await, engine: Engine::Google, _keep: Box::new(()) })
    })
}

/// A name that no other test has.
fn project() -> String {
    format!("test-{:016x}", fastrand::u64(..))
}

/// Quick where the default is patient.
fn config(project: &str, emulator: &str) -> GoogleBusConfig {
    GoogleBusConfig { project: Some(project.into()), emulator: Some(emulator.into()), publish_linger_ms: 1, ..GoogleBusConfig::default() }
}

async fn bus(config: &GoogleBusConfig) -> Bus {
    Bus::Google(GoogleBus::open(config).await.unwrap())
}

const TOPIC: &str = "projects/demo/topics/events";
const SUBSCRIPTION: &str = "projects/demo/subscriptions/first";

/// A fake with one topic and one subscription, and a config that leads to it.
async fn fake() -> (FakePubSub, GoogleBusConfig) {
    let fake = FakePubSub::start().await;
    fake.subscription(SUBSCRIPTION, TOPIC);
    let config = config("demo", &fake.address());
    (fake, config)
}
