//! What the lanes of the views and their watcher tell each other of a Redis that has lost data.
//!
//! Owns the floor: a state of a smaller `rev` was written before the loss, or without what the documents know. Invariant: a state at or above the floor
//! holds what the documents knew when it was first written there, and all that was told since.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::clock;

/// Conversations that are refilled one by one; beyond them everything is.
const OWED_MAX: usize = 1_000;
/// How long documents that could not be read are left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Shared by the lanes and the watcher of one process.
#[derive(Debug, Default)]
pub(super) struct Floor {
    rev: AtomicU64,
    owed: Mutex<Owed>,
}

#[derive(Debug, Default)]
struct Owed {
    conversations: HashSet<(String, String)>,
    everything: bool,
    paused_until: Option<Instant>,
}

/// What the views were written without.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Debt {
    /// These, by account and conversation.
    Conversations(Vec<(String, String)>),
    /// More than can be named.
    Everything,
}

impl Floor {
    /// Whether a state of that `rev` holds what the documents know.
    #[must_use]
    pub(super) fn is_current(&self, rev: u64) -> bool {
        rev > 0 && rev >= self.rev.load(Ordering::Acquire)
    }

    /// What a state is written with that was taken from the documents, or is new to both: greater than any `rev` before the loss, as long as nothing is
    /// written more than a thousand times a second.
    #[must_use]
    pub(super) fn first_rev(&self) -> u64 {
        now_rev().max(self.rev.load(Ordering::Acquire))
    }

    /// A floor above everything that was written until now, and above `before`.
    #[must_use]
    pub(super) fn above(before: u64) -> u64 {
        now_rev().max(before + 1)
    }

    /// Has states below `rev` taken from the documents from now on.
    pub(super) fn raise(&self, rev: u64) {
        self.rev.store(rev, Ordering::Release);
    }

    /// Whether the documents may be asked now; for a while after a failure they are not, so that no batch waits for each.
    #[must_use]
    pub(super) fn may_ask(&self) -> bool {
        self.owed().paused_until.is_none_or(|until| until <= Instant::now())
    }

    /// These were written, or will be, without what the documents know. `failed` where those were asked just now.
    pub(super) fn owe(&self, conversations: impl IntoIterator<Item = (String, String)>, failed: bool) {
        let mut owed = self.owed();
        if failed {
            owed.paused_until = Some(Instant::now() + PAUSE);
        }
        if !owed.everything {
            owed.conversations.extend(conversations);
            if owed.conversations.len() > OWED_MAX {
                owed.conversations = HashSet::new();
                owed.everything = true;
            }
        }
    }

    /// More is missing than a conversation.
    pub(super) fn owe_everything(&self) {
        let mut owed = self.owed();
        owed.paused_until = Some(Instant::now() + PAUSE);
        owed.everything = true;
        owed.conversations = HashSet::new();
    }

    /// Takes what is owed, to pay it: the documents can be read again. `None` where nothing is.
    pub(super) fn take(&self) -> Option<Debt> {
        let mut owed = std::mem::take(&mut *self.owed());
        if owed.everything {
            return Some(Debt::Everything);
        }
        let conversations: Vec<_> = owed.conversations.drain().collect();
        (!conversations.is_empty()).then_some(Debt::Conversations(conversations))
    }

    /// Whether anything is owed.
    #[must_use]
    pub(super) fn is_owing(&self) -> bool {
        let owed = self.owed();
        owed.everything || !owed.conversations.is_empty()
    }

    /// A panic elsewhere leaves it whole, as each change of it is one step.
    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_rev() -> u64 {
    u64::try_from(clock::now().0).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(number: usize) -> (String, String) {
        ("a".to_owned(), number.to_string())
    }

    #[test]
    fn what_is_owed_is_bounded_and_taken_once() {
        let floor = Floor::default();
        assert_eq!((floor.take(), floor.is_owing()), (None, false));
        floor.owe([conversation(1), conversation(1)], true);
        assert!(floor.is_owing() && !floor.may_ask());
        assert_eq!(floor.take(), Some(Debt::Conversations(vec![conversation(1)])));
        assert!(floor.may_ask() && floor.take().is_none());
        floor.owe((0..=OWED_MAX).map(conversation), false);
        assert!(floor.may_ask());
        assert_eq!(floor.take(), Some(Debt::Everything));
    }

    #[test]
    fn states_below_the_floor_are_not_current() {
        let floor = Floor::default();
        assert!(floor.is_current(1) && !floor.is_current(0));
        let old = floor.first_rev();
        floor.raise(Floor::above(old));
        assert!(!floor.is_current(old) && floor.is_current(floor.first_rev()));
    }
}
