//! What the snapshot service counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use crate::bus::{self, Backlog, PublishCounters};
use crate::runtime::histogram::Histogram;
use crate::transform::materialize::Tally;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Counts since the start, of one consumer.
        #[derive(Debug, Default)]
        pub struct SnapshotCounters {
            $($(#[$doc])* pub $name: AtomicU64,)+
            /// How long a batch took from its lane's turn to its ack, failed tries included.
            pub write_took: Histogram,
            /// How long after it was received an event was written.
            pub lag: Histogram,
            /// What the subscriber counts, once it is there.
            pub subscriber: OnceLock<Arc<bus::Counters>>,
            /// What the publisher of the quarantine counts, once it is there.
            pub quarantine: OnceLock<Arc<PublishCounters>>,
            /// What the subscription had not acked when somebody last looked.
            pub backlog: Mutex<Option<Backlog>>,
        }

        impl SnapshotCounters {
            /// Names and values, in order.
            #[must_use]
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Relaxed)),)+]
            }
        }
    };
}

counters! {
    /// Deliveries taken from the bus.
    delivered,
    /// Of these, delivered before.
    redelivered,
    /// Deliveries acked.
    acked,
    /// Events that were new to their state.
    new,
    /// Events that were seen before.
    seen,
    /// Events older than the horizon.
    stale,
    /// Events whose time lay too far ahead.
    clamped,
    /// Memories for which an event was too old.
    window_misses,
    /// Deletes whose message the store does not know (yet).
    deletes_unresolved,
    /// Deliveries set aside in the quarantine.
    poison,
    /// Batches written.
    batches,
    /// Conversations, or fans, written.
    writes,
    /// Guarded writes that another writer was faster with.
    conflicts,
    /// Batches tried again because the store failed.
    retries,
    /// States filled from the documents.
    refilled,
    /// States that the documents could not be asked for.
    refill_failed,
    /// Timers raised.
    due,
}

impl SnapshotCounters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    /// Adds what a batch did.
    pub fn count(&self, tally: Tally) {
        self.new.fetch_add(tally.new, Relaxed);
        self.seen.fetch_add(tally.seen, Relaxed);
        self.stale.fetch_add(tally.stale, Relaxed);
        self.clamped.fetch_add(tally.clamped, Relaxed);
        self.window_misses.fetch_add(tally.window_misses, Relaxed);
    }
}
