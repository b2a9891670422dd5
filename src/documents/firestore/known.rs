//! What this process knows of the store without asking: when summaries were written, whose conversation a message is of, what was deleted.
//!
//! Owns no truth: every write is guarded by what the store itself has, so an entry that is out of date costs a conflict or a read, never a lost
//! write. Each memory is bounded; the least recently used leave first.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use firestore::gcloud_sdk::prost_types::Timestamp;
use lru::LruCache;

use crate::schema::time::Millis;

/// Entries of each memory: about 10 MB in all when they are full.
const ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// A summary as the store had it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct KnownSummary {
    pub rev: u64,
    /// What the next write's guard names.
    pub update_time: Timestamp,
    /// The same by this process' clock, to keep writes apart.
    pub written: Instant,
}

/// The memories. Keys are 128 bits of a hash, as those of [`super::path::key`].
pub(super) struct Known {
    /// By document name.
    summaries: Memory<KnownSummary>,
    /// Conversations of messages that were claimed here, by message.
    conversations: Memory<String>,
    /// Messages that were deleted, by message.
    deletions: Memory<Millis>,
}

type Memory<V> = Mutex<LruCache<u128, V, foldhash::fast::RandomState>>;

impl Known {
    pub(super) fn new() -> Self {
        Self { summaries: memory(), conversations: memory(), deletions: memory() }
    }

    pub(super) fn summary(&self, name: &str) -> Option<KnownSummary> {
        with(&self.summaries, |summaries| summaries.get(&hash(name)).copied())
    }

    pub(super) fn keep_summary(&self, name: &str, summary: KnownSummary) {
        with(&self.summaries, |summaries| summaries.put(hash(name), summary));
    }

    pub(super) fn forget_summary(&self, name: &str) {
        with(&self.summaries, |summaries| summaries.pop(&hash(name)));
    }

    pub(super) fn conversation(&self, key: &str) -> Option<String> {
        with(&self.conversations, |conversations| conversations.get(&hash(key)).cloned())
    }

    pub(super) fn keep_conversation(&self, key: &str, conversation: &str) {
        with(&self.conversations, |conversations| {
            // Most claims are new; one that is not keeps what was said first.
            conversations.get_or_insert(hash(key), || conversation.to_owned());
        });
    }

    pub(super) fn deleted_at(&self, key: &str) -> Option<Millis> {
        with(&self.deletions, |deletions| deletions.get(&hash(key)).copied())
    }

    pub(super) fn keep_deletion(&self, key: &str, at: Millis) {
        with(&self.deletions, |deletions| {
            let earliest = deletions.get(&hash(key)).map_or(at, |&known| known.min(at));
            deletions.put(hash(key), earliest);
        });
    }
}

fn memory<V>() -> Memory<V> {
    Mutex::new(LruCache::with_hasher(ENTRIES_MAX, foldhash::fast::RandomState::default()))
}

/// A panic elsewhere leaves a memory whole, as each change of it is one step.
fn with<V, T>(memory: &Memory<V>, work: impl FnOnce(&mut LruCache<u128, V, foldhash::fast::RandomState>) -> T) -> T {
    work(&mut memory.lock().unwrap_or_else(PoisonError::into_inner))
}

fn hash(name: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(name.as_bytes())
}
