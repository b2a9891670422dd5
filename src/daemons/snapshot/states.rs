//! The states that a lane keeps in memory between batches, so that a conversation that goes on is not read again.

use foldhash::fast::RandomState;
use lru::LruCache;

/// What an entry takes beside its encoded state: key, `rev`, links of the list, slot of the table, and what the allocator adds.
const ENTRY_BYTES: usize = 128;

/// The least recently used states leave first. They are kept as the store has them, encoded: a quarter of the memory, and one place of it. What stands
/// here is a copy: the store's `rev` decides whether it still holds.
pub(super) struct States {
    states: LruCache<u128, (Box<[u8]>, u64), RandomState>,
    bytes: usize,
    bytes_max: usize,
}

impl States {
    /// Room for at most `bytes_max` bytes; a state that is larger is not kept.
    #[must_use]
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { states: LruCache::unbounded_with_hasher(RandomState::default()), bytes: 0, bytes_max }
    }

    /// Takes a state and its `rev` out; whoever folds it puts it back when the store has it.
    pub(super) fn take(&mut self, account: &str, conversation: &str) -> Option<(Box<[u8]>, u64)> {
        let taken = self.states.pop(&key(account, conversation))?;
        self.bytes -= size(&taken.0);
        Some(taken)
    }

    /// Keeps a state as the store has it.
    pub(super) fn keep(&mut self, account: &str, conversation: &str, fold: Box<[u8]>, rev: u64) {
        self.bytes += size(&fold);
        if let Some((before, _)) = self.states.put(key(account, conversation), (fold, rev)) {
            self.bytes -= size(&before);
        }
        while self.bytes > self.bytes_max
            && let Some((_, (oldest, _))) = self.states.pop_lru()
        {
            self.bytes -= size(&oldest);
        }
    }
}

fn size(fold: &[u8]) -> usize {
    ENTRY_BYTES + fold.len()
}

/// 128 bits over both ids: a lookup costs no allocation, and two of 20,000 collide with a probability of 10^-30.
fn key(account: &str, conversation: &str) -> u128 {
    let seed = xxhash_rust::xxh3::xxh3_64(account.as_bytes());
    xxhash_rust::xxh3::xxh3_128_with_seed(conversation.as_bytes(), seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(size: usize) -> Box<[u8]> {
        vec![7; size].into()
    }

    #[test]
    fn bytes_are_bounded_whatever_the_size_of_the_states() {
        let mut states = States::new(10 * (1_000 + ENTRY_BYTES));
        for number in 0..100 {
            states.keep("a", &number.to_string(), fold(1_000), number);
        }
        assert_eq!(states.states.len(), 10, "small ones: as many as fit");
        assert_eq!(states.take("a", "99"), Some((fold(1_000), 99)), "the newest stay");
        assert_eq!(states.take("a", "80"), None, "the oldest leave");
        states.keep("a", "large", fold(9_000), 1);
        assert_eq!(states.states.len(), 2, "a large one takes the place of eight");
        states.keep("a", "larger than all", fold(20_000), 1);
        assert_eq!((states.states.len(), states.bytes), (0, 0), "what does not fit is not kept");
    }

    #[test]
    fn a_state_is_counted_once_however_often_it_is_kept_and_taken() {
        let mut states = States::new(1 << 20);
        for rev in 1..=50 {
            states.keep("a", "c", fold(100), rev);
            states.keep("a", "c", fold(200), rev);
        }
        assert_eq!(states.bytes, size(&fold(200)));
        assert_eq!(states.take("a", "c"), Some((fold(200), 50)));
        assert_eq!((states.take("a", "c"), states.bytes), (None, 0));
    }
}
