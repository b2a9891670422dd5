//! The life of an artifact's token, as far as a session has to act on it.
//!
//! Owns: when three quarters of it are over, when its successor is late, when it has ended. Does not own: what is done then. Invariant: each of the
//! three is told once. The times of day are turned into monotonic ones when the artifact comes, so a clock that is set later moves none of them.

use crate::runtime::clock::Moment;
use crate::schema::artifact::Artifact;
use crate::schema::time::Millis;

/// From when to when a token can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it was prepared; where that is not stated it began when it was first seen.
    pub begins: Option<Millis>,
    /// When it ends.
    pub ends: Millis,
}

impl Life {
    /// The life of an artifact's token; `None` where it states no end.
    #[must_use]
    pub fn of(artifact: &Artifact) -> Option<Self> {
        artifact.expires_at.map(|ends| Self { begins: artifact.prepared_at, ends })
    }
}

/// What has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Three quarters of the life are over: it is time for another artifact.
    Renewal,
    /// Half of what was left then is over too, and there still is no other.
    Late,
    /// It has ended.
    End,
}

/// The life of the newest artifact, on the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age {
    next: Option<Due>,
    renewal_at: u64,
    late_at: u64,
    ends_at: u64,
}

impl Age {
    /// A life that nothing is known of: it never ends.
    pub(super) const UNKNOWN: Self = Self { next: None, renewal_at: u64::MAX, late_at: u64::MAX, ends_at: u64::MAX };

    pub(super) fn of(life: Option<Life>, now: Moment) -> Self {
        let Some(Life { begins, ends }) = life else { return Self::UNKNOWN };
        // One that begins in the future is seen by a clock that is behind; it has begun.
        let begins = begins.map_or(now.wall, |begins| begins.min(now.wall));
        let left = |ms: i64| now.mono_ms.saturating_add(u64::try_from(ms).unwrap_or(0));
        let (life, remaining) = (ends.since(begins).max(0), ends.since(now.wall));
        Self {
            next: Some(Due::Renewal),
            renewal_at: left(remaining.saturating_sub(life / 4)),
            late_at: left(remaining.saturating_sub(life / 8)),
            ends_at: left(remaining),
        }
    }

    /// When the next of the three comes.
    pub(super) const fn due(&self) -> Option<u64> {
        match self.next {
            Some(Due::Renewal) => Some(self.renewal_at),
            Some(Due::Late) => Some(self.late_at),
            Some(Due::End) => Some(self.ends_at),
            None => None,
        }
    }

    /// The next of the three, if it has come.
    pub(super) fn tick(&mut self, now: Moment) -> Option<Due> {
        let due = self.next.filter(|_| self.due().is_some_and(|at| at <= now.mono_ms))?;
        self.next = match due {
            Due::Renewal => Some(Due::Late),
            Due::Late => Some(Due::End),
            Due::End => None,
        };
        Some(due)
    }

    /// Whether the end has been told.
    pub(super) const fn is_over(&self) -> bool {
        self.next.is_none() && self.ends_at < u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_then_seven_eighths_then_the_end() {
        let now = Moment { mono_ms: 1_000, wall: Millis(50_000) };
        for (begins, ends, expected) in [
            (Some(50_000), 58_000, [7_000, 8_000, 9_000]),
            (None, 58_000, [7_000, 8_000, 9_000]),
            (Some(90_000), 58_000, [7_000, 8_000, 9_000]),
            (Some(42_000), 58_000, [5_000, 7_000, 9_000]),
            // Most of it, and all of it, was over when it came.
            (Some(0), 52_000, [1_000, 1_000, 3_000]),
            (Some(0), 50_000, [1_000, 1_000, 1_000]),
            (Some(50_000), 40_000, [1_000, 1_000, 1_000]),
        ] {
            let mut age = Age::of(Some(Life { begins: begins.map(Millis), ends: Millis(ends) }), now);
            for (at, due) in expected.into_iter().zip([Due::Renewal, Due::Late, Due::End]) {
                assert_eq!((age.due(), age.is_over()), (Some(at), false), "{begins:?} to {ends}");
                assert_eq!(age.tick(Moment { mono_ms: at - 1, ..now }), None);
                assert_eq!(age.tick(Moment { mono_ms: at, ..now }), Some(due));
            }
            assert_eq!((age.due(), age.is_over()), (None, true));
        }
        assert_eq!((Age::of(None, now).due(), Age::UNKNOWN.is_over()), (None, false));
        let extreme = Age::of(Some(Life { begins: Some(Millis(i64::MIN)), ends: Millis(i64::MAX) }), now);
        assert!(extreme.due().is_some());
    }
}
