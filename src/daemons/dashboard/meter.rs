//! How busy each account is and how long it takes from a frame to Redis, over the last minute.
//!
//! Owns seconds and what happened in each. Does not own where it is known from. Invariant: a meter is never larger than a minute.

use std::collections::VecDeque;

use crate::schema::time::Millis;

/// Seconds that are kept.
pub(super) const SECONDS: usize = 60;
/// Seconds over which the rate is told.
const RATE_SECONDS: i64 = 10;

/// The last minute of one account.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    slots: VecDeque<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    second: i64,
    writes: u64,
    lag_ms: Option<i64>,
}

impl Meter {
    /// Notes that so many writes were seen, the slowest of which took so long, where that is known.
    pub(super) fn note(&mut self, now: Millis, writes: u64, lag_ms: Option<i64>) {
        let second = now.0.div_euclid(1_000);
        match self.slots.back_mut() {
            // A clock that was set back goes on in the last second, so that seconds stay in order.
            Some(last) if last.second >= second => {
                last.writes += writes;
                last.lag_ms = last.lag_ms.max(lag_ms);
            }
            _ => self.slots.push_back(Slot { second, writes, lag_ms }),
        }
        if self.slots.len() > SECONDS {
            self.slots.pop_front();
        }
    }

    /// Writes a second, over the last ten.
    pub(super) fn per_second(&self, now: Millis) -> f64 {
        let from = now.0.div_euclid(1_000) - RATE_SECONDS;
        let writes: u64 = self.slots.iter().filter(|slot| slot.second > from).map(|slot| slot.writes).sum();
        // A tenth is as exact as anybody reads it, and keeps two equal seconds equal.
        (writes as f64 / RATE_SECONDS as f64 * 10.0).round() / 10.0
    }

    /// The slowest write of each of the last sixty seconds, oldest first; `None` where nothing was written.
    pub(super) fn lag(&self, now: Millis) -> Vec<Option<i64>> {
        let now = now.0.div_euclid(1_000);
        let mut lag = vec![None; SECONDS];
        for slot in &self.slots {
            let ago = usize::try_from(now - slot.second).unwrap_or(0);
            if ago < SECONDS {
                lag[SECONDS - 1 - ago] = slot.lag_ms;
            }
        }
        lag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_kept_and_told() {
        let mut meter = Meter::default();
        for second in 0..200 {
            meter.note(Millis(second * 1_000 + 7), 2, Some(second));
            meter.note(Millis(second * 1_000 + 9), 1, None);
        }
        let now = Millis(199_500);
        assert_eq!(meter.per_second(now), 3.0);
        let lag = meter.lag(now);
        assert_eq!((lag.len(), lag[0], lag[59]), (SECONDS, Some(140), Some(199)));
        assert_eq!(meter.lag(Millis(259_500))[0], None);
        meter.note(Millis(0), 1, Some(999));
        assert_eq!(meter.lag(now)[59], Some(999), "a clock that was set back");
        assert_eq!(meter.per_second(Millis(300_000)), 0.0);
    }
}
