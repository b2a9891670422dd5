//! Google Cloud Pub/Sub as the engine of the bus.
//!
//! ```text
//! publisher ── budget ── one way a key ── google-cloud-pubsub ──▶ projects/P/topics/T
//! subscriber ◀── window ◀── a task a stream ◀── google-cloud-pubsub ◀── projects/P/subscriptions/S
//! ```
//! The client library does batches, streams, leases and acks. What it leaves to its user is here: bounds, order after a failure, retries with an
//! end, dead connections, errors that say what to do. Topics and subscriptions are not made on the way: [`admin`] does that, for
//! `convpipe provision`, so that the services need no right to.

pub mod admin;
mod budget;
mod connection;
mod fault;
mod message;
mod publisher;
mod stream;
mod subscriber;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::client::{BasePublisher, SubscriptionAdmin};
use google_cloud_pubsub::model::Subscription;
use google_cloud_wkt::Timestamp;

use self::connection::Connection;
use self::fault::service_error;
use self::stream::StreamTask;
use self::subscriber::Window;
use super::{Backlog, BusError, ServiceError, ServiceFault};
use crate::config::GoogleBusConfig;
use crate::runtime::clock;
use crate::schema::time::Millis;

pub use publisher::Publisher;
pub use subscriber::{Acker, Subscriber};

const NO_SUBSCRIPTION: &str = "make it with `convpipe provision`, or correct `bus.google.project` and the names under `bus`";
/// How long an answer about a subscription is good for.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How far the service's clock and ours may differ, and how long a publish may take until it can be seen.
const SLACK_MS: i64 = 60_000;

/// The bus of one project. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GoogleBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Arc<GoogleBusConfig>,
    project: String,
    connection: Connection,
    publisher: BasePublisher,
    subscriptions: SubscriptionAdmin,
    /// By subscription: when it was last asked about, and how long it keeps a message; `None` where there is no such subscription.
    known: Mutex<HashMap<String, (Instant, Option<Duration>)>>,
}

impl GoogleBus {
    /// Finds the credentials and prepares the clients. What is not reachable yet is no error, but for where credentials come from.
    ///
    /// # Errors
    /// [`BusError::Service`] where there are no credentials or they are refused; the text says what to do.
    pub async fn open(config: &GoogleBusConfig) -> Result<Self, BusError> {
        let connection = Connection::open(config).await?;
        let shared = Shared {
            publisher: connection.publisher(Duration::from_millis(config.publish_timeout_ms)).await?,
            subscriptions: connection.subscriptions().await?,
            config: Arc::new(config.clone()),
            // The config refuses to be without one.
            project: config.project.clone().unwrap_or_default(),
            connection,
            known: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) fn publisher(&self, topic: &str) -> Publisher {
        let Shared { connection, publisher, config, .. } = &*self.shared;
        Publisher::new(connection.clone(), publisher, Arc::clone(config), self.topic_path(topic), self.told("topic", topic))
    }

    pub(super) async fn subscriber(&self, topic: &str, subscription: &str) -> Result<Subscriber, BusError> {
        match self.ask(topic, subscription).await {
            Ok(found) if found.topic != self.topic_path(topic) => {
                return Err(BusError::OtherTopic {
                    subscription: subscription.to_owned(),
                    topic: self.topic_path(topic),
                    found: found.topic,
                });
            }
            Ok(_) => {}
            // To read from a subscription takes no right to look at it.
            Err(BusError::Service(ServiceError { fault: ServiceFault::Denied, .. })) => {}
            Err(BusError::Service(error)) if error.is_retryable() && error.fault != ServiceFault::Credentials => {
                tracing::warn!(%error, "nothing is known of the subscription yet; waiting for it");
            }
            Err(error) => return Err(error),
        }
        let Shared { config, connection, .. } = &*self.shared;
        let mut clients = Vec::with_capacity(config.streams);
        for _ in 0..config.streams {
            clients.push(connection.subscriber().await?);
        }
        let window = Window { messages: config.in_flight_max, bytes: config.in_flight_bytes_max };
        Ok(Subscriber::new(window, |shared| {
            let task = |(place, client)| StreamTask {
                shared: Arc::clone(shared),
                connection: connection.clone(),
                client,
                config: Arc::clone(config),
                subscription: self.subscription_path(subscription),
                name: self.told("subscription", subscription),
                place,
            };
            clients.into_iter().enumerate().map(|place_and_client| tokio::spawn(task(place_and_client).run())).collect()
        }))
    }

    /// Seeks to the beginning of what the subscription keeps: a seek to any later time would take for acked what is older and still waits.
    pub(super) async fn rewind(&self, topic: &str, subscription: &str, since: Millis) -> Result<(), BusError> {
        let keeps = self.keeps(topic, subscription).await?;
        let oldest = clock::now().0.saturating_sub(millis(keeps)).saturating_sub(SLACK_MS);
        let to = since.0.min(oldest).max(0);
        let to = Timestamp::clamp(to / 1_000, i32::try_from(to % 1_000).unwrap_or(0) * 1_000_000);
        let sought = self.shared.subscriptions.seek().set_subscription(self.subscription_path(subscription)).set_time(to).send().await;
        let Err(error) = sought else { return Ok(()) };
        let error = self.subscription_error(topic, subscription, &error);
        match error {
            BusError::Service(ServiceError { fault: ServiceFault::Unsupported, .. }) if self.shared.config.emulator.is_some() => {
                tracing::warn!(subscription, "this emulator cannot seek to a time: nothing is delivered again");
                Ok(())
            }
            error => Err(error),
        }
    }

    pub(super) async fn backlog(&self, topic: &str, subscription: &str) -> Result<Backlog, BusError> {
        Ok(Backlog { messages: None, oldest_age: Some(self.keeps(topic, subscription).await?) })
    }

    /// How long a subscription keeps what is not acked. As the config has it, where this identity may not look.
    async fn keeps(&self, topic: &str, subscription: &str) -> Result<Duration, BusError> {
        let known = self.known().get(subscription).copied().filter(|(at, _)| at.elapsed() < ASK_AGAIN_AFTER);
        let keeps = match known {
            Some((_, keeps)) => keeps,
            None => {
                let configured = Duration::from_secs(self.shared.config.retention_s);
                let keeps = match self.ask(topic, subscription).await {
                    Ok(found) => Some(found.message_retention_duration.and_then(|keeps| keeps.try_into().ok()).unwrap_or(configured)),
                    Err(BusError::NoSubscription { .. }) => None,
                    Err(BusError::Service(ServiceError { fault: ServiceFault::Denied, .. })) => Some(configured),
                    Err(error) => return Err(error),
                };
                self.known().insert(subscription.to_owned(), (Instant::now(), keeps));
                keeps
            }
        };
        keeps.ok_or_else(|| no_subscription(topic, subscription))
    }

    async fn ask(&self, topic: &str, subscription: &str) -> Result<Subscription, BusError> {
        let asked = self.shared.subscriptions.get_subscription().set_subscription(self.subscription_path(subscription)).send().await;
        asked.map_err(|error| self.subscription_error(topic, subscription, &error))
    }

    fn subscription_error(&self, topic: &str, subscription: &str, error: &google_cloud_pubsub::Error) -> BusError {
        if error.status().is_some_and(|status| status.code == Code::NotFound) {
            return no_subscription(topic, subscription);
        }
        service_error(&self.told("subscription", subscription), error).into()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Option<Duration>)>> {
        // Nothing panics while it holds the lock.
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topic_path(&self, topic: &str) -> String {
        format!("projects/{}/topics/{topic}", self.shared.project)
    }

    fn subscription_path(&self, subscription: &str) -> String {
        format!("projects/{}/subscriptions/{subscription}", self.shared.project)
    }

    /// What errors and logs call it.
    fn told(&self, kind: &str, name: &str) -> String {
        format!("{kind} {name} of project {}", self.shared.project)
    }
}

fn no_subscription(topic: &str, subscription: &str) -> BusError {
    BusError::NoSubscription { topic: topic.to_owned(), subscription: subscription.to_owned(), hint: NO_SUBSCRIPTION }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
