//! What ingest counts. Every bound and every loss has its number here; [`Counters::read`] is what is logged.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// The running numbers, shared by all tasks. Hot paths add once a chunk, never once a frame.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)+ }

        /// [`Counters`] at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)+ }

        impl Counters {
            /// The numbers now; each is exact, together they are of about the same moment.
            #[must_use]
            pub fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }

        impl Counts {
            pub(super) fn log(&self, message: &'static str) {
                tracing::info!($($name = self.$name,)+ "{message}");
            }
        }
    };
}

counters! {
    /// Accounts that are live now.
    live,
    /// Frames read.
    frames,
    /// Their bytes.
    bytes,
    /// Events that they became, and events of our own about connections.
    events,
    /// Items that went to the quarantine.
    rejected,
    /// Control frames: `connected`, `online`, `error`.
    control,
    /// Events and quarantine messages that the bus confirmed.
    published,
    /// Publishes that failed and were tried again.
    publish_retries,
    /// Events that the bus refused for good, and that went to the quarantine.
    refused,
    /// Quarantine messages that the bus refused for good: lost.
    quarantine_refused,
    /// Class C events that were dropped, because the buffer was half full.
    dropped_c,
    /// Class B events that a newer one replaced, because the buffer was three quarters full.
    coalesced_b,
    /// Times that a reader stopped, because the buffer was full.
    waits_a,
    /// Attempts to connect.
    connects,
    /// Attempts that failed and connections that were lost.
    failures,
    /// Gaps that were published.
    gaps,
    /// Connections that were left because nothing of a kind came any more.
    silences,
    /// Frames that were recorded.
    recorded,
    /// Frames that were not: the writer was behind or its disk full, or the frame was over the limits.
    record_dropped,
    /// Bytes that wait for the bus now, those on their way included.
    buffer_bytes,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
