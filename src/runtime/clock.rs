//! The clock. Owns the only reading of the system's time of day; everything else is handed a time or asks here.
//!
//! Invariant: timers run on monotonic time, events carry the time of day. A clock that is set back moves no timer.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::schema::time::Millis;

/// A clock as an argument, for whoever wants to see what happens at another time.
pub type Now = fn() -> Millis;

/// The time of day. Before 1970 it is negative, as a broken clock deserves.
#[must_use]
pub fn now() -> Millis {
    let ms = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Millis(match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => ms(since),
        Err(before) => -ms(before.duration()),
    })
}

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic milliseconds since the [`Clock`] was made.
    pub mono_ms: u64,
    /// The time of day.
    pub wall: Millis,
}

/// Reads both clocks at once. The monotonic one is tokio's, so tests can pause it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// In a simulation, the time of day at the start; it goes on with the monotonic clock.
    simulated: Option<Millis>,
}

impl Clock {
    /// A clock whose monotonic time begins at zero, now. Needs a tokio runtime only where its time is paused.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), simulated: None }
    }

    /// A clock whose time of day is `wall` now and goes on with the monotonic clock, not with the system's: where tokio's time is paused, an hour of
    /// both passes in a moment.
    #[must_use]
    pub fn simulated(wall: Millis) -> Self {
        Self { start: Instant::now(), simulated: Some(wall) }
    }

    /// Now, on both clocks.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let mono_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = self.simulated.map_or_else(now, |start| start.plus(i64::try_from(mono_ms).unwrap_or(i64::MAX)));
        Moment { mono_ms, wall }
    }

    /// The instant at which the monotonic clock shows `mono_ms`.
    #[must_use]
    pub fn instant(&self, mono_ms: u64) -> Instant {
        self.start + std::time::Duration::from_millis(mono_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn monotonic_time_is_tokios() {
        let clock = Clock::start();
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.moment().mono_ms, 1500);
        assert_eq!(clock.instant(1500), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_day_goes_on_with_it() {
        let clock = Clock::simulated(Millis(7));
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.moment(), Moment { mono_ms: 1500, wall: Millis(1507) });
    }

    #[test]
    fn the_time_of_day_is_of_this_century() {
        assert!(now() > Millis::parse("2024-01-01T00:00:00Z").unwrap());
    }
}
