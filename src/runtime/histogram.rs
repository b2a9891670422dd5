//! How long things took, by size: a few counters that any number of tasks add to without waiting for each other.
//!
//! Owns the bounds, which are the same for every latency, so that one question fits all of them. Invariant: adding never locks and never allocates.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds in microseconds: from what a local write takes to where somebody is woken up. What took longer is counted beyond the last.
pub const BOUNDS_US: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];
const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Durations, counted by size.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// A [`Histogram`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durations {
    /// How many took at most so long, each counted once: those of [`BOUNDS_US`], then all that took longer.
    pub buckets: [u64; BUCKETS],
    /// All of them together, microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Something took this long.
    pub fn observe(&self, took: Duration) {
        self.observe_all(std::iter::once(took));
    }

    /// Each of these took so long. They are counted here first, so that a batch of thousands touches what is shared only a few times.
    pub fn observe_all(&self, took: impl IntoIterator<Item = Duration>) {
        let (mut buckets, mut sum) = ([0u64; BUCKETS], 0u64);
        for took in took {
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            buckets[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
            sum = sum.saturating_add(us);
        }
        for (shared, count) in self.buckets.iter().zip(buckets).filter(|(_, count)| *count > 0) {
            shared.fetch_add(count, Relaxed);
        }
        self.sum_us.fetch_add(sum, Relaxed);
    }

    /// The numbers now.
    #[must_use]
    pub fn read(&self) -> Durations {
        Durations { buckets: std::array::from_fn(|at| self.buckets[at].load(Relaxed)), sum_us: self.sum_us.load(Relaxed) }
    }
}

impl Durations {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once_where_it_belongs() {
        let histogram = Histogram::default();
        for (us, bucket) in [(0, 0), (1_000, 0), (1_001, 1), (300_000_000, 15), (300_000_001, 16), (u64::MAX, 16)] {
            let before = histogram.read();
            histogram.observe(Duration::from_micros(us));
            let after = histogram.read();
            let grown: Vec<usize> = (0..BUCKETS).filter(|at| after.buckets[*at] != before.buckets[*at]).collect();
            assert_eq!((grown, after.count()), (vec![bucket], before.count() + 1), "{us} µs");
        }
        histogram.observe_all([Duration::from_millis(2); 3]);
        assert_eq!(histogram.read().buckets[1], 4);
    }
}
