//! Silence on a connection that answers its heartbeats: measured against how often the same account heard of the same kind before.
//!
//! Owns: the baseline of each kind that is watched, and when its silence is too long. Does not own: what is done about it. Invariant: a kind whose
//! silence was told is learnt anew before it can be told again, so a night without messages ends no more than one connection a kind.

use std::collections::BTreeMap;

use crate::runtime::clock::Moment;
use crate::schema::event::EventKind;
use crate::schema::time::Millis;

/// Kinds that come as long as an account is in use. Streams, posts and bulk messages end by themselves; their silence says nothing.
const WATCHED: [EventKind; 4] =
    [EventKind::MessageReceived, EventKind::TypingStarted, EventKind::CountersUpdated, EventKind::NotificationReceived];
/// Distances that make a baseline.
const SAMPLES_MIN: u32 = 16;
/// The weight of the newest distance is one in this.
const WEIGHT: u64 = 16;

/// A set of the kinds that are watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Adds a kind, if it is watched.
    pub fn add(&mut self, kind: EventKind) {
        if let Some(at) = WATCHED.iter().position(|watched| *watched == kind) {
            self.0 |= 1 << at;
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Mean distance between two events, milliseconds, of each kind whose baseline is known: what outlives a process.
pub type Pace = BTreeMap<EventKind, u64>;

/// How often an account hears of each kind.
#[derive(Debug)]
pub(super) struct Baseline {
    silence_min: u64,
    factor: u64,
    tracks: [Track; WATCHED.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct Track {
    last_ms: u64,
    last: Millis,
    /// Mean distance between two of the kind, milliseconds; those in one read count as one.
    mean_ms: u64,
    samples: u32,
}

impl Baseline {
    /// Silence is too long at `factor` mean distances, and never before `silence_min` milliseconds; with a factor of 0 it never is.
    pub(super) fn new(silence_min: u64, factor: u64) -> Self {
        Self { silence_min, factor, tracks: [Track::default(); WATCHED.len()] }
    }

    /// Silence counts from now: a connection is live, or is read again.
    pub(super) fn begin(&mut self, now: Moment) {
        for track in &mut self.tracks {
            (track.last_ms, track.last) = (now.mono_ms, now.wall);
        }
    }

    /// The kinds that are known.
    pub(super) fn pace(&self) -> Pace {
        let known = |(at, track): (usize, &Track)| (track.samples >= SAMPLES_MIN).then_some((WATCHED[at], track.mean_ms));
        self.tracks.iter().enumerate().filter_map(known).collect()
    }

    /// Goes on with what was known. It counts as barely enough, so what comes now soon weighs more.
    pub(super) fn remember(&mut self, pace: &Pace) {
        for (track, kind) in self.tracks.iter_mut().zip(WATCHED) {
            if let Some(&mean_ms) = pace.get(&kind) {
                *track = Track { mean_ms, samples: SAMPLES_MIN, ..*track };
            }
        }
    }

    pub(super) fn seen(&mut self, kinds: Kinds, now: Moment) {
        for (at, track) in self.tracks.iter_mut().enumerate() {
            if kinds.0 & (1 << at) == 0 {
                continue;
            }
            let distance = now.mono_ms.saturating_sub(track.last_ms);
            let weight = u64::from(track.samples).min(WEIGHT - 1);
            track.mean_ms = track.mean_ms.saturating_mul(weight).saturating_add(distance) / (weight + 1);
            track.samples = track.samples.saturating_add(1);
            (track.last_ms, track.last) = (now.mono_ms, now.wall);
        }
    }

    /// When the silence of the first kind will be too long.
    pub(super) fn due(&self) -> Option<u64> {
        self.tracks.iter().filter_map(|track| self.due_of(*track)).min()
    }

    /// The kind whose silence is too long now, and since when it lasts. Its baseline is forgotten.
    pub(super) fn silent(&mut self, now: Moment) -> Option<(EventKind, Millis)> {
        let at = self.tracks.iter().position(|track| self.due_of(*track).is_some_and(|due| due <= now.mono_ms))?;
        let track = std::mem::take(&mut self.tracks[at]);
        Some((WATCHED[at], track.last.min(now.wall)))
    }

    fn due_of(&self, track: Track) -> Option<u64> {
        let is_known = self.factor > 0 && track.samples >= SAMPLES_MIN;
        is_known.then(|| track.last_ms.saturating_add(track.mean_ms.saturating_mul(self.factor).max(self.silence_min)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Moment {
        Moment { mono_ms, wall: Millis(i64::try_from(mono_ms).unwrap() + 1_000_000) }
    }

    fn kinds(kinds: &[EventKind]) -> Kinds {
        let mut set = Kinds::default();
        kinds.iter().for_each(|kind| set.add(*kind));
        set
    }

    #[test]
    fn silence_is_measured_against_the_kinds_own_past() {
        // Every how many ms the kind came, and how long its silence may be: 10 times that, and at least 60 s.
        for (every, expected) in [(1_000, 60_000), (6_000, 60_000), (30_000, 300_000)] {
            let mut baseline = Baseline::new(60_000, 10);
            baseline.begin(at(0));
            let messages = kinds(&[EventKind::MessageReceived]);
            for n in 1..=40 {
                assert_eq!(baseline.due().is_some(), n > SAMPLES_MIN.into(), "after {} of them", n - 1);
                baseline.seen(messages, at(n * every));
            }
            let last = 40 * every;
            assert_eq!(baseline.due(), Some(last + expected), "every {every}");
            assert_eq!(baseline.silent(at(last + expected - 1)), None);
            assert_eq!(baseline.silent(at(last + expected)), Some((EventKind::MessageReceived, at(last).wall)));
            assert_eq!((baseline.due(), baseline.silent(at(last * 100))), (None, None), "told once");
        }
    }

    #[test]
    fn what_is_known_outlives_the_process() {
        let mut before = Baseline::new(1_000, 10);
        before.begin(at(0));
        (1..=40).for_each(|n| before.seen(kinds(&[EventKind::MessageReceived]), at(n * 1_000)));
        (1..=10).for_each(|n| before.seen(kinds(&[EventKind::TypingStarted]), at(n * 1_000)));
        assert_eq!(before.pace().into_iter().collect::<Vec<_>>(), [(EventKind::MessageReceived, 1_000)], "ten are too few to know");
        let mut after = Baseline::new(1_000, 10);
        after.remember(&before.pace());
        after.begin(at(500));
        assert_eq!((after.due(), after.pace()), (Some(10_500), before.pace()));
    }

    #[test]
    fn one_kind_may_be_silent_while_others_talk_and_only_what_is_watched_counts() {
        let mut baseline = Baseline::new(1_000, 10);
        baseline.begin(at(0));
        for n in 1..=20 {
            baseline.seen(kinds(&[EventKind::MessageReceived, EventKind::CountersUpdated, EventKind::StreamLiked]), at(n * 1_000));
        }
        for n in 21..=30 {
            baseline.seen(kinds(&[EventKind::CountersUpdated]), at(n * 1_000));
        }
        assert_eq!(baseline.silent(at(30_000)), Some((EventKind::MessageReceived, at(20_000).wall)));
        assert_eq!(baseline.silent(at(30_000)), None);
        assert!(kinds(&[EventKind::StreamLiked, EventKind::ConnectionOpened]).is_empty());
    }

    #[test]
    fn it_can_be_turned_off_and_begins_with_the_connection() {
        for (factor, expected) in [(0, None), (10, Some(60_000))] {
            let mut baseline = Baseline::new(1_000, factor);
            baseline.begin(at(0));
            (1..=20).for_each(|n| baseline.seen(kinds(&[EventKind::TypingStarted]), at(n * 1_000)));
            baseline.begin(at(50_000));
            assert_eq!(baseline.due(), expected);
        }
    }
}
