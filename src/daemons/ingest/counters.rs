//! What ingest counts. Every bound and every loss has its number here; [`Counters::read`] is what is logged.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::histogram::Histogram;
use crate::ws::Reason;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// The running numbers, shared by all tasks. Hot paths add once a chunk, never once a frame.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)+
            /// `failures`, by reason.
            pub failures_by: ByReason<AtomicU64>,
            /// Of these, steps of connecting that did not end within their time.
            pub timeouts_by: ByReason<AtomicU64>,
            /// `gaps`, by what began them: how often an account was live again after that.
            pub gaps_by: ByReason<AtomicU64>,
            /// How long the bus took to confirm a batch, failed tries and their waits included.
            pub publish_took: Histogram,
        }

        /// [`Counters`] at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)+
            /// `failures`, by reason.
            pub failures_by: ByReason<u64>,
            /// Of these, steps of connecting that did not end within their time.
            pub timeouts_by: ByReason<u64>,
            /// `gaps`, by what began them: how often an account was live again after that.
            pub gaps_by: ByReason<u64>,
        }

        impl Counters {
            /// The numbers now; each is exact, together they are of about the same moment.
            #[must_use]
            pub fn read(&self) -> Counts {
                Counts {
                    $($name: self.$name.load(Ordering::Relaxed),)+
                    failures_by: self.failures_by.read(),
                    timeouts_by: self.timeouts_by.read(),
                    gaps_by: self.gaps_by.read(),
                }
            }
        }

        impl Counts {
            pub(super) fn log(&self, message: &'static str) {
                let Self { failures_by, timeouts_by, gaps_by, .. } = self;
                tracing::info!($($name = self.$name,)+ %failures_by, %timeouts_by, %gaps_by, "{message}");
            }
        }
    };
}

counters! {
    /// Accounts that have an artifact now.
    accounts,
    /// Accounts that are live now.
    live,
    /// Accounts that wait for another artifact now.
    waiting,
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
    /// Frames that became at least one event; `online` is a control frame too.
    frames_read,
    /// Frames of which nothing could be read.
    frames_rejected,
    /// Frames that are neither, nor control frames.
    frames_empty,
    /// Events that no frame said: those about connections, of `events`.
    own_events,
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
    /// Milliseconds that readers stood still for that, over all accounts; counted when they go on.
    waits_ms,
    /// Attempts to connect.
    connects,
    /// Attempts that failed and connections that were lost.
    failures,
    /// Gaps that were published.
    gaps,
    /// Connections that another one replaced without a gap.
    rotations,
    /// Artifacts that the platform refused, or that it may have refused three times.
    refusals,
    /// Heartbeats that were not answered in time.
    heartbeats_missed,
    /// Artifacts of which three quarters of their life were over before another one came.
    artifacts_due,
    /// Of these, artifacts of which seven eighths were over.
    artifacts_late,
    /// Of these, artifacts that ended.
    artifacts_ended,
    /// Artifact files that could not be used: damaged, ended, of another account, open to others.
    artifacts_unusable,
    /// Connections that were left because nothing of a kind came any more.
    silences,
    /// Frames that were recorded.
    recorded,
    /// Frames that were not: the writer was behind or its disk full, or the frame was over the limits.
    record_dropped,
    /// Bytes that wait for the bus now, those on their way included.
    buffer_bytes,
    /// Messages that wait for the bus now, without those on their way.
    buffer_messages,
}

/// A number for each [`Reason`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByReason<N>([N; Reason::ALL.len()]);

impl ByReason<AtomicU64> {
    pub(super) fn add(&self, reason: Reason) {
        Counters::add(&self.0[reason as usize], 1);
    }

    fn read(&self) -> ByReason<u64> {
        ByReason(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}

impl ByReason<u64> {
    /// The number of a reason.
    #[must_use]
    pub const fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its number.
    pub(super) fn each(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.0)
    }
}

impl fmt::Display for ByReason<u64> {
    /// `reset:3 tls:1`; reasons without a number are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (reason, number) in Reason::ALL.into_iter().zip(self.0).filter(|(_, number)| *number > 0) {
            write!(f, "{space}{reason}:{number}")?;
            space = " ";
        }
        Ok(())
    }
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_number() {
        let counters = Counters::default();
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, n, "{reason} stands where it is declared");
            (0..n).for_each(|_| counters.gaps_by.add(reason));
        }
        let gaps = counters.read().gaps_by;
        assert!(Reason::ALL.into_iter().enumerate().all(|(n, reason)| gaps.of(reason) == n as u64));
        assert!(gaps.to_string().starts_with("connect:1 tls:2 handshake:3 "), "{gaps}");
    }
}
