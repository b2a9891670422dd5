//! The bus: envelopes in, deliveries out, at least once.
//!
//! Owns: topics, subscriptions, what is delivered to whom and when again. Does not own: what an envelope says, and what to do with one that
//! cannot be used (its `attempt` is reported, setting it aside is the caller's decision). Invariant: what a publish confirmed is delivered to
//! every subscription until it is acked there, or until retention deletes it, and then it is counted as lost.
//!
//! The engine is chosen once, where [`Bus`] is made; every other place sees one type.

pub mod embedded;
mod error;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::schema::envelope::Envelope;
use crate::schema::time::Millis;

pub use error::{BusError, PublishError, StorageError, StorageFault, SubscribeError};

/// Largest envelope that a bus takes, bytes; as Pub/Sub has it.
pub const MESSAGE_BYTES_MAX: usize = 10 << 20;

/// The bus, whatever its engine. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Bus {
    /// A SQLite log that the processes of one machine share.
    Embedded(embedded::EmbeddedBus),
}

impl Bus {
    /// A publisher of one topic; the topic is created where absent. Blocks for the few milliseconds of opening a file.
    ///
    /// # Errors
    /// Where the topic's storage cannot be opened; the text says which file and what to do.
    pub fn publisher(&self, topic: &str) -> Result<Publisher, BusError> {
        match self {
            Self::Embedded(bus) => bus.publisher(topic).map(Publisher::Embedded),
        }
    }

    /// A subscriber of one subscription. An absent subscription is created, and starts at the oldest message that the topic still holds.
    /// Any number of subscribers, in any number of processes, share the deliveries of one subscription.
    ///
    /// # Errors
    /// Where the subscription's storage cannot be opened; the text says which file and what to do.
    pub async fn subscriber(&self, topic: &str, subscription: &str) -> Result<Subscriber, BusError> {
        match self {
            Self::Embedded(bus) => bus.subscriber(topic, subscription).await.map(Subscriber::Embedded),
        }
    }

    /// Delivers again, to one subscription, what was published at `since` or later and is still held, acked or not. What was published earlier
    /// stays as it is.
    ///
    /// # Errors
    /// [`BusError::NoSubscription`] where there is none of that name, or where its storage cannot be written.
    pub async fn rewind(&self, topic: &str, subscription: &str, since: Millis) -> Result<(), BusError> {
        match self {
            Self::Embedded(bus) => bus.rewind(topic, subscription, since).await,
        }
    }

    /// What a subscription has not acked yet.
    ///
    /// # Errors
    /// [`BusError::NoSubscription`] where there is none of that name, or where its storage cannot be read.
    pub async fn backlog(&self, topic: &str, subscription: &str) -> Result<Backlog, BusError> {
        match self {
            Self::Embedded(bus) => bus.backlog(topic, subscription).await,
        }
    }
}

/// Publishes to one topic. Clones share one queue and one connection.
#[derive(Debug, Clone)]
pub enum Publisher {
    /// Of the embedded engine.
    Embedded(embedded::Publisher),
}

impl Publisher {
    /// Publishes a batch, in order, and returns once all of it is confirmed. An empty batch is confirmed at once.
    ///
    /// Cancelling leaves it open whether the batch was written.
    ///
    /// # Errors
    /// After an error nothing is known to be written. Where [`PublishError::is_retryable`], publish the same batch again: event ids make
    /// the duplicates harmless.
    pub async fn publish(&self, batch: Vec<Envelope>) -> Result<(), PublishError> {
        match self {
            Self::Embedded(publisher) => publisher.publish(batch).await,
        }
    }
}

/// Receives the deliveries of one subscription. Dropping it gives back what is unanswered, as [`Subscriber::close`] does, without waiting.
#[derive(Debug)]
pub enum Subscriber {
    /// Of the embedded engine.
    Embedded(embedded::Subscriber),
}

impl Subscriber {
    /// Waits until there is something to deliver and returns all that has gathered, at most the in-flight window. New messages come in
    /// the order of the log; what is delivered again comes before them. Cancel-safe: nothing is taken by a call that is dropped.
    ///
    /// # Errors
    /// A storage fault is reported once and retried in the background, so calling again is right, unless it is
    /// [`SubscribeError::Closed`].
    pub async fn next(&mut self) -> Result<Vec<Delivery>, SubscribeError> {
        match self {
            Self::Embedded(subscriber) => subscriber.next().await,
        }
    }

    /// The handle that answers deliveries, from any task or thread.
    #[must_use]
    pub fn acker(&self) -> Acker {
        match self {
            Self::Embedded(subscriber) => Acker::Embedded(subscriber.acker()),
        }
    }

    /// The counters of this subscriber.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        match self {
            Self::Embedded(subscriber) => subscriber.counters(),
        }
    }

    /// Writes the answers given so far and gives back every unanswered delivery, so that another subscriber gets it at once. Waits at most
    /// `deadline`; what could not be written by then is delivered again to somebody.
    pub async fn close(self, deadline: Duration) {
        match self {
            Self::Embedded(subscriber) => subscriber.close(deadline).await,
        }
    }

    /// The same for a caller that broke over what it was given: what is unanswered counts as delivered, so that its next delivery has a higher
    /// [`Delivery::attempt`], as if the process had been killed.
    pub async fn abandon(self, deadline: Duration) {
        match self {
            Self::Embedded(subscriber) => subscriber.abandon(deadline).await,
        }
    }
}

/// Answers deliveries. Never waits for I/O; what it remembers is bounded by the in-flight window. An answer to something that is no longer
/// held (answered before, lease lost, subscriber closed) is ignored.
#[derive(Debug, Clone)]
pub enum Acker {
    /// Of the embedded engine.
    Embedded(embedded::Acker),
}

impl Acker {
    /// These are done and are not delivered again.
    pub fn ack(&self, ids: &[AckId]) {
        match self {
            Self::Embedded(acker) => acker.ack(ids),
        }
    }

    /// This one is delivered again, to any subscriber, after `delay`.
    pub fn nack(&self, id: AckId, delay: Duration) {
        match self {
            Self::Embedded(acker) => acker.nack(id, delay),
        }
    }
}

/// One message, delivered.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message; a slice of the segment that it came in.
    pub envelope: Envelope,
    /// Which delivery of this message to this subscription it is: 1 for the first. What a clean close gave back does not count.
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

/// What a subscription has not acked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Messages, delivered or not.
    pub messages: u64,
    /// How long ago the oldest of them was published; `None` when there is none.
    pub oldest_age: Option<Duration>,
}

/// What one subscriber did since it was opened. All but `in_flight` only grow.
#[derive(Debug, Default)]
pub struct Counters {
    delivered: AtomicU64,
    redelivered: AtomicU64,
    acked: AtomicU64,
    nacked: AtomicU64,
    lost_to_retention: AtomicU64,
    corrupt: AtomicU64,
    in_flight: AtomicU64,
}

impl Counters {
    /// Deliveries made, repeated ones included.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Of these, those with an attempt above 1.
    #[must_use]
    pub fn redelivered(&self) -> u64 {
        self.redelivered.load(Ordering::Relaxed)
    }

    /// Deliveries acked.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Deliveries nacked.
    #[must_use]
    pub fn nacked(&self) -> u64 {
        self.nacked.load(Ordering::Relaxed)
    }

    /// Messages that retention deleted before this subscription had acked them.
    #[must_use]
    pub fn lost_to_retention(&self) -> u64 {
        self.lost_to_retention.load(Ordering::Relaxed)
    }

    /// Messages that were skipped because their stored bytes are damaged.
    #[must_use]
    pub fn corrupt(&self) -> u64 {
        self.corrupt.load(Ordering::Relaxed)
    }

    /// Messages held unanswered right now, including those that [`Subscriber::next`] has not returned yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }
}
