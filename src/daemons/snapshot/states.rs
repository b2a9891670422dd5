//! The states that a lane keeps in memory between batches, so that a conversation that goes on is not read again.

use std::num::NonZeroUsize;

/// The least recently used states leave first. They are kept as the store has them, encoded: a quarter of the memory, and one place of it. What stands
/// here is a copy: the store's `rev` decides whether it still holds.
pub(super) struct States {
    states: lru::LruCache<u128, (Box<[u8]>, u64), foldhash::fast::RandomState>,
}

impl States {
    /// Room for at most `max` states.
    #[must_use]
    pub(super) fn new(max: usize) -> Self {
        let max = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        Self { states: lru::LruCache::with_hasher(max, foldhash::fast::RandomState::default()) }
    }

    /// Takes a state and its `rev` out; whoever folds it puts it back when the store has it.
    pub(super) fn take(&mut self, account: &str, conversation: &str) -> Option<(Box<[u8]>, u64)> {
        self.states.pop(&key(account, conversation))
    }

    /// Keeps a state as the store has it.
    pub(super) fn keep(&mut self, account: &str, conversation: &str, fold: Box<[u8]>, rev: u64) {
        self.states.put(key(account, conversation), (fold, rev));
    }
}

/// 128 bits over both ids: a lookup costs no allocation, and two of 20,000 collide with a probability of 10^-30.
fn key(account: &str, conversation: &str) -> u128 {
    let seed = xxhash_rust::xxh3::xxh3_64(account.as_bytes());
    xxhash_rust::xxh3::xxh3_128_with_seed(conversation.as_bytes(), seed)
}
