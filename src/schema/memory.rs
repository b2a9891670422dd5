//! The two bounded memories that make the fold converge: the value with the greatest stamp, and the greatest items of all that came.
//!
//! Invariant: what stands in them depends on what came, never on the order.

use serde::{Deserialize, Serialize};

use super::state::Stamp;
use super::text::OwnedText;

/// The value with the greatest stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register<T> {
    /// Whose value it is.
    pub stamp: Stamp,
    /// The value.
    pub value: T,
}

impl<T> Register<T> {
    /// Puts a value in if its stamp is at least that of the one that stands there. `make` runs only then.
    pub fn put(slot: &mut Option<Self>, stamp: Stamp, make: impl FnOnce() -> T) -> bool {
        match slot {
            Some(register) if register.stamp > stamp => false,
            _ => {
                *slot = Some(Self { stamp, value: make() });
                true
            }
        }
    }
}

impl<T> Register<T> {
    /// Takes the one with the greater stamp.
    pub fn merge(slot: &mut Option<Self>, other: Option<Self>) {
        if let Some(other) = other {
            Self::put(slot, other.stamp, || other.value);
        }
    }
}

impl Register<OwnedText> {
    /// As [`Register::put`], for texts, which mostly repeat: an equal text is not copied. Blank texts are no values.
    pub fn put_text(slot: &mut Option<Self>, stamp: Stamp, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        match slot {
            Some(register) if register.stamp > stamp => {}
            Some(register) if register.value.raw() == text => register.stamp = stamp,
            _ => *slot = Some(Self { stamp, value: text.into() }),
        }
    }
}

/// What has a place in a [`Greatest`].
pub trait Keyed {
    /// What it is ordered by; may grow when the same thing is seen again.
    type Key: Ord + Copy;
    /// What it is recognized by.
    type Id: Eq + Copy;
    /// Its order.
    fn key(&self) -> Self::Key;
    /// Its identity.
    fn id(&self) -> Self::Id;
}

/// What became of an item merged into a [`Greatest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged<T> {
    /// It is in now; the one that had to leave for it, if any.
    New(Option<T>),
    /// It was in already and has been combined with what stood there.
    Known,
    /// The memory is full of greater ones.
    Forgotten,
}

/// The greatest items by key of all that were ever merged, ascending, each identity once: the same for every order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Greatest<T>(Vec<T>);

impl<T> Default for Greatest<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Keyed> Greatest<T> {
    /// Merges an item into a memory of at most `max`. Where its identity is in already, `combine` is called with what stands there;
    /// it may make that item's key greater, never smaller.
    pub fn merge(&mut self, item: T, max: usize, combine: impl FnOnce(&mut T, T)) -> Merged<T> {
        let id = item.id();
        if let Some(known) = self.0.iter().rposition(|probe| probe.id() == id) {
            combine(&mut self.0[known], item);
            self.move_up(known);
            return Merged::Known;
        }
        let key = item.key();
        // Events come nearly in order, so the place is nearly always at the end.
        let at = match self.0.last() {
            Some(last) if last.key() > key => self.0.partition_point(|probe| probe.key() <= key),
            _ => self.0.len(),
        };
        if self.0.len() < max {
            self.0.insert(at, item);
            return Merged::New(None);
        }
        if at == 0 {
            return Merged::Forgotten;
        }
        let first = self.0.remove(0);
        self.0.insert(at - 1, item);
        Merged::New(Some(first))
    }

    /// The item of that identity.
    pub fn get_mut(&mut self, id: T::Id) -> Option<&mut T> {
        self.0.iter_mut().rfind(|item| item.id() == id)
    }

    fn move_up(&mut self, mut at: usize) {
        while at + 1 < self.0.len() && self.0[at].key() > self.0[at + 1].key() {
            self.0.swap(at, at + 1);
            at += 1;
        }
    }
}

impl<T> Greatest<T> {
    /// A memory of items that are in ascending order already, as a decoder reads them.
    pub(super) const fn of_ascending(items: Vec<T>) -> Self {
        Self(items)
    }

    /// The items, smallest key first.
    #[must_use]
    pub fn items(&self) -> &[T] {
        &self.0
    }

    /// The items, to be changed in all but their keys.
    pub fn items_mut(&mut self) -> &mut [T] {
        &mut self.0
    }

    /// Forgets the items that do not satisfy a condition.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }

    /// Keeps the greatest `max`.
    pub fn truncate(&mut self, max: usize) {
        let extra = self.0.len().saturating_sub(max);
        self.0.drain(..extra);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Item {
        id: u32,
        key: u32,
    }

    impl Keyed for Item {
        type Key = (u32, u32);
        type Id = u32;

        fn key(&self) -> (u32, u32) {
            (self.key, self.id)
        }

        fn id(&self) -> u32 {
            self.id
        }
    }

    proptest! {
        #[test]
        fn the_greatest_are_the_same_in_any_order(arrivals in prop::collection::vec((0u32..30, 0u32..40), 0..60), max in 1usize..20) {
            let mut memory = Greatest::default();
            let mut greatest_key = std::collections::BTreeMap::new();
            for &(id, key) in &arrivals {
                memory.merge(Item { id, key }, max, |known, item| known.key = known.key.max(item.key));
                let greatest: &mut u32 = greatest_key.entry(id).or_default();
                *greatest = key.max(*greatest);
            }
            let mut expected: Vec<(u32, u32)> = greatest_key.into_iter().map(|(id, key)| (key, id)).collect();
            expected.sort_unstable();
            let expected = expected.split_off(expected.len().saturating_sub(max));
            let remembered: Vec<(u32, u32)> = memory.items().iter().map(Keyed::key).collect();
            prop_assert_eq!(remembered, expected);
        }
    }
}
