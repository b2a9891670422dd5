//! What publishers and subscribers count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::schema::envelope::Envelope;

/// What one subscriber did since it was opened. All but `in_flight` only grow.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) delivered: AtomicU64,
    pub(super) redelivered: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) nacked: AtomicU64,
    pub(super) lost_to_retention: AtomicU64,
    pub(super) corrupt: AtomicU64,
    pub(super) reopened: AtomicU64,
    pub(super) in_flight: AtomicU64,
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

    /// Streams of a managed service that ended, or were given up as dead, and were opened anew.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.reopened.load(Ordering::Relaxed)
    }

    /// Messages held unanswered right now, including those that [`super::Subscriber::next`] has not returned yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// What one publisher and its clones did since it was opened. All but what is in flight only grow.
#[derive(Debug, Default)]
pub struct PublishCounters {
    pub(super) confirmed: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    on_the_way: Mutex<OnTheWay>,
}

#[derive(Debug, Default)]
struct OnTheWay {
    messages: u64,
    bytes: u64,
    /// When each publish that is not over began, by its number.
    begun: BTreeMap<u64, Instant>,
    next: u64,
}

impl PublishCounters {
    /// Messages confirmed.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Messages that the publisher itself sent again.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// Messages refused for good.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Messages whose publish was given up: not known to be written, and the caller's to publish again.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Messages, and their bytes, that are neither confirmed nor given up right now.
    #[must_use]
    pub fn in_flight(&self) -> (u64, u64) {
        let on_the_way = self.lock();
        (on_the_way.messages, on_the_way.bytes)
    }

    /// How long the oldest of them has been on its way; `None` where there is none.
    #[must_use]
    pub fn oldest_unconfirmed(&self) -> Option<Duration> {
        self.lock().begun.values().next().map(Instant::elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, OnTheWay> {
        // Nothing panics while it holds the lock; if something did, the numbers would still be whole.
        self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages that count as in flight for as long as this lives.
#[derive(Debug)]
pub(super) struct InFlight {
    counters: Arc<PublishCounters>,
    number: u64,
    messages: u64,
    bytes: u64,
}

impl InFlight {
    pub(super) fn of(counters: &Arc<PublishCounters>, batch: &[Envelope]) -> Self {
        let (messages, bytes) = (batch.len() as u64, batch.iter().map(|envelope| envelope.size() as u64).sum());
        let mut on_the_way = counters.lock();
        let number = on_the_way.next;
        on_the_way.next += 1;
        on_the_way.messages += messages;
        on_the_way.bytes += bytes;
        on_the_way.begun.insert(number, Instant::now());
        drop(on_the_way);
        Self { counters: Arc::clone(counters), number, messages, bytes }
    }

    /// All of them are confirmed.
    pub(super) fn confirmed(self) {
        self.counters.confirmed.fetch_add(self.messages, Ordering::Relaxed);
    }

    /// All of them are given up.
    pub(super) fn failed(self) {
        self.counters.failed.fetch_add(self.messages, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut on_the_way = self.counters.lock();
        on_the_way.begun.remove(&self.number);
        on_the_way.messages -= self.messages;
        on_the_way.bytes -= self.bytes;
    }
}
