//! The bus: envelopes in, deliveries out, at least once.
//!
//! Owns: topics, subscriptions, what is delivered to whom and when again. Does not own: what an envelope says, and what to do with one that
//! cannot be used (its `attempt` is reported, setting it aside is the caller's decision). Invariant: what a publish confirmed is delivered to
//! every subscription until it is acked there, or until retention deletes it, and then it is counted as lost.
//!
//! The engine is chosen once, where [`Bus`] is made; every other place sees one type.

mod counters;
pub mod embedded;
mod error;
pub mod google;
mod metrics;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::schema::envelope::Envelope;
use crate::schema::time::Millis;

pub use counters::{Counters, PublishCounters};
pub use error::{BusError, PublishError, Refusal, ServiceError, ServiceFault, StorageError, StorageFault, SubscribeError};

/// Largest envelope that a bus takes, bytes; as Pub/Sub has it.
pub const MESSAGE_BYTES_MAX: usize = 10 << 20;

/// The bus, whatever its engine. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Bus {
    /// A SQLite log that the processes of one machine share.
    Embedded(embedded::EmbeddedBus),
    /// Google Cloud Pub/Sub.
    Google(google::GoogleBus),
}

impl Bus {
    /// A publisher of one topic. The embedded engine creates a topic that is absent, and blocks for the few milliseconds of opening a file. On
    /// Pub/Sub topics are made by `convpipe provision`, and an absent one is told by the first publish. To be called on a Tokio runtime.
    ///
    /// # Errors
    /// Where the topic's storage cannot be opened; the text says which file and what to do.
    pub fn publisher(&self, topic: &str) -> Result<Publisher, BusError> {
        match self {
            Self::Embedded(bus) => bus.publisher(topic).map(Publisher::Embedded),
            Self::Google(bus) => Ok(Publisher::Google(bus.publisher(topic))),
        }
    }

    /// A subscriber of one subscription. Any number of subscribers, in any number of processes, share the deliveries of one subscription.
    ///
    /// The embedded engine creates an absent subscription, which starts at the oldest message that the topic still holds. On Pub/Sub
    /// subscriptions are made by `convpipe provision`, and hold what is published from then on.
    ///
    /// # Errors
    /// Where the subscription's storage cannot be opened, or where there is none, the service lets nobody in, or it belongs to another topic. A
    /// service that is only down is no error: the subscriber waits for it.
    pub async fn subscriber(&self, topic: &str, subscription: &str) -> Result<Subscriber, BusError> {
        match self {
            Self::Embedded(bus) => bus.subscriber(topic, subscription).await.map(Subscriber::Embedded),
            // Boxed, for what it takes to ask the service is large, and lies in the caller's future otherwise.
            Self::Google(bus) => Box::pin(bus.subscriber(topic, subscription)).await.map(Subscriber::Google),
        }
    }

    /// Delivers again, to one subscription, what was published at `since` or later and is still held, acked or not. What was published earlier
    /// stays as it is; on Pub/Sub it is delivered again too, because there a seek takes all that is older for acked.
    ///
    /// # Errors
    /// [`BusError::NoSubscription`] where there is none of that name, or where its storage cannot be written.
    pub async fn rewind(&self, topic: &str, subscription: &str, since: Millis) -> Result<(), BusError> {
        match self {
            Self::Embedded(bus) => bus.rewind(topic, subscription, since).await,
            Self::Google(bus) => Box::pin(bus.rewind(topic, subscription, since)).await,
        }
    }

    /// Looks through all messages that the topic still holds, oldest first, for at most `limit` that are wanted, and takes none. For each it is said
    /// whether each of the subscriptions has acked it. `None` for Pub/Sub, which cannot be searched.
    ///
    /// # Errors
    /// Where its storage cannot be read.
    pub async fn search(
        &self,
        topic: &str,
        subscriptions: &[&str],
        wanted: impl Fn(&Envelope) -> bool + Send + 'static,
        limit: usize,
    ) -> Result<Option<Search>, BusError> {
        match self {
            Self::Embedded(bus) => bus.search(topic, subscriptions, wanted, limit).await.map(Some),
            Self::Google(_) => Ok(None),
        }
    }

    /// Looks at what a subscription has not acked yet, oldest first, at most so many messages and bytes, and takes none; [`Search::searched`] says how many
    /// there are. Of a subscription that does not exist yet it is all that the topic holds. `None` for Pub/Sub, which shows a message only to who takes it.
    ///
    /// # Errors
    /// Where its storage cannot be read.
    pub async fn waiting(
        &self,
        topic: &str,
        subscription: &str,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Search>, BusError> {
        match self {
            Self::Embedded(bus) => bus.waiting(topic, subscription, messages_max, bytes_max).await.map(Some),
            Self::Google(_) => Ok(None),
        }
    }

    /// What a subscription has not acked yet, as far as the engine can tell: see [`Backlog`].
    ///
    /// # Errors
    /// [`BusError::NoSubscription`] where there is none of that name, or where its storage cannot be read.
    pub async fn backlog(&self, topic: &str, subscription: &str) -> Result<Backlog, BusError> {
        match self {
            Self::Embedded(bus) => bus.backlog(topic, subscription).await,
            Self::Google(bus) => Box::pin(bus.backlog(topic, subscription)).await,
        }
    }
}

/// Publishes to one topic. Clones share one queue and one connection.
#[derive(Debug, Clone)]
pub enum Publisher {
    /// Of the embedded engine.
    Embedded(embedded::Publisher),
    /// Of Pub/Sub.
    Google(google::Publisher),
}

impl Publisher {
    /// Publishes a batch, in order, and returns once all of it is confirmed. An empty batch is confirmed at once.
    ///
    /// Cancelling leaves it open whether the batch was written.
    ///
    /// # Errors
    /// After an error nothing is known to be written, unless it is [`PublishError::Refused`]: then all the others are. Where
    /// [`PublishError::is_retryable`], publish the same batch again: event ids make the duplicates harmless.
    pub async fn publish(&self, batch: Vec<Envelope>) -> Result<(), PublishError> {
        match self {
            Self::Embedded(publisher) => publisher.publish(batch).await,
            Self::Google(publisher) => publisher.publish(batch).await,
        }
    }

    /// The counters of this publisher and its clones.
    #[must_use]
    pub fn counters(&self) -> Arc<PublishCounters> {
        match self {
            Self::Embedded(publisher) => publisher.counters(),
            Self::Google(publisher) => publisher.counters(),
        }
    }
}

/// Receives the deliveries of one subscription. Dropping it gives back what is unanswered, as [`Subscriber::close`] does, without waiting.
#[derive(Debug)]
pub enum Subscriber {
    /// Of the embedded engine.
    Embedded(embedded::Subscriber),
    /// Of Pub/Sub.
    Google(google::Subscriber),
}

impl Subscriber {
    /// Waits until there is something to deliver and returns all that has gathered, at most the in-flight window. Messages of one ordering key
    /// come in the order of their publishing; what is delivered again comes before those after it. (The embedded engine keeps the order of all.)
    /// Nothing at all is returned once after an error, as soon as it is certain that it is over.
    /// Cancel-safe: nothing is taken by a call that is dropped.
    ///
    /// # Errors
    /// A fault of the storage or the service is reported once and retried in the background, so calling again is right, unless it is
    /// [`SubscribeError::Closed`].
    pub async fn next(&mut self) -> Result<Vec<Delivery>, SubscribeError> {
        match self {
            Self::Embedded(subscriber) => subscriber.next().await,
            Self::Google(subscriber) => subscriber.next().await,
        }
    }

    /// The handle that answers deliveries, from any task or thread.
    #[must_use]
    pub fn acker(&self) -> Acker {
        match self {
            Self::Embedded(subscriber) => Acker::Embedded(subscriber.acker()),
            Self::Google(subscriber) => Acker::Google(subscriber.acker()),
        }
    }

    /// The counters of this subscriber.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        match self {
            Self::Embedded(subscriber) => subscriber.counters(),
            Self::Google(subscriber) => subscriber.counters(),
        }
    }

    /// Writes the answers given so far and gives back every unanswered delivery, so that another subscriber gets it at once. Waits at most
    /// `deadline`; what could not be written by then is delivered again to somebody.
    pub async fn close(self, deadline: Duration) {
        match self {
            Self::Embedded(subscriber) => subscriber.close(deadline).await,
            Self::Google(subscriber) => subscriber.close(deadline).await,
        }
    }

    /// The same for a caller that broke over what it was given: what is unanswered counts as delivered, so that its next delivery has a higher
    /// [`Delivery::attempt`], as if the process had been killed.
    pub async fn abandon(self, deadline: Duration) {
        match self {
            Self::Embedded(subscriber) => subscriber.abandon(deadline).await,
            // Pub/Sub counts every delivery, however it was given back.
            Self::Google(subscriber) => subscriber.close(deadline).await,
        }
    }
}

/// Answers deliveries. Never waits for I/O; what it remembers is bounded by the in-flight window. An answer to something that is no longer
/// held (answered before, lease lost, subscriber closed) is ignored.
#[derive(Debug, Clone)]
pub enum Acker {
    /// Of the embedded engine.
    Embedded(embedded::Acker),
    /// Of Pub/Sub.
    Google(google::Acker),
}

impl Acker {
    /// These are done and are not delivered again.
    pub fn ack(&self, ids: &[AckId]) {
        match self {
            Self::Embedded(acker) => acker.ack(ids),
            Self::Google(acker) => acker.ack(ids),
        }
    }

    /// This one is delivered again, to any subscriber, after `delay`.
    pub fn nack(&self, id: AckId, delay: Duration) {
        match self {
            Self::Embedded(acker) => acker.nack(id, delay),
            Self::Google(acker) => acker.nack(id, delay),
        }
    }
}

/// One message, delivered.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message; a slice of the segment that it came in.
    pub envelope: Envelope,
    /// Which delivery of this message to this subscription it is: 1 for the first. What a clean close gave back does not count on the embedded
    /// engine. On Pub/Sub it does, and the number is about right, where the subscription has a dead-letter policy; else it is always 1.
    pub attempt: u32,
    /// When its publish was written.
    pub published_at: Millis,
    /// What answers it.
    pub ack: AckId,
}

/// Names one delivery towards the [`Acker`] of the subscriber that received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AckId {
    lease: i64,
    index: u32,
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.lease, self.index)
    }
}

/// What a subscription has not acked yet. The embedded engine counts it. Pub/Sub has no call that does (its metrics are minutes behind), so there
/// only the bound is known that retention sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Messages, delivered or not; `None` where the engine cannot tell.
    pub messages: Option<u64>,
    /// None of them was published longer ago than this; `None` when it is certain that there is none.
    pub oldest_age: Option<Duration>,
}

/// What [`Bus::search`] or [`Bus::waiting`] found. Empty for a topic that does not exist.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// When the oldest message that is still held was published.
    pub oldest: Option<Millis>,
    /// Messages that were looked at.
    pub searched: u64,
    /// Those that were wanted.
    pub found: Vec<Held>,
}

/// A message that a topic holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// The message.
    pub envelope: Envelope,
    /// When its publish was written.
    pub published_at: Millis,
    /// For each subscription that was named: whether it has acked it; `None` where there is no such subscription.
    pub acked: Vec<Option<bool>>,
}
