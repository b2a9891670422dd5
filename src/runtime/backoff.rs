//! How long to wait after a failure.

use std::time::Duration;

/// Exponential backoff with full jitter: the n-th wait is drawn evenly between `min` and `min · 2ⁿ`, at most `max`. So a thousand
/// sockets that one outage closed do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    min_ms: u64,
    max_ms: u64,
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    /// Waits between `min` and `max`. Where `max` is below `min`, every wait is `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self::with_rng(min, max, fastrand::Rng::new())
    }

    /// The same with a generator of the caller's, for tests.
    #[must_use]
    pub fn with_rng(min: Duration, max: Duration, rng: fastrand::Rng) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { min_ms: ms(min), max_ms: ms(max).max(ms(min)), failures: 0, rng }
    }

    /// The same as after that many failures, which somebody else remembered.
    #[must_use]
    pub const fn after(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// The wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let factor = 1u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        let ceiling = self.min_ms.saturating_mul(factor).min(self.max_ms);
        Duration::from_millis(self.rng.u64(self.min_ms..=ceiling.max(self.min_ms)))
    }

    /// Failures since the last [`Backoff::reset`].
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts over, after a success that lasted.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_spread() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut longest = [Duration::ZERO; 80];
        for seed in 0..200 {
            let mut backoff = Backoff::with_rng(min, max, fastrand::Rng::with_seed(seed));
            for longest in &mut longest {
                let wait = backoff.next_wait();
                assert!(min <= wait && wait <= max, "{wait:?}");
                *longest = wait.max(*longest);
            }
            backoff.reset();
            assert!(backoff.next_wait() <= Duration::from_secs(2));
        }
        for (n, expected) in [(0, 2), (1, 4), (2, 8), (79, 60)] {
            assert!(
                longest[n] <= Duration::from_secs(expected) && longest[n] > Duration::from_millis(expected * 900),
                "{n}: {:?}",
                longest[n]
            );
        }
    }

    #[test]
    fn odd_bounds_do_not_panic() {
        for (min, max) in [(0, 0), (5, 1), (u64::MAX, u64::MAX), (0, 7)] {
            let mut backoff = Backoff::new(Duration::from_millis(min), Duration::from_millis(max));
            for _ in 0..70 {
                assert!(backoff.next_wait() >= Duration::from_millis(min));
            }
        }
    }
}
