//! The leases that one subscriber holds, in memory: which of their messages are answered, and what has to be written about it. Pure.
//!
//! Invariant: every message that was granted is either unanswered and counted in the window, or in exactly one settlement.

use std::collections::HashMap;
use std::time::Duration;

use super::segment::SEGMENT_MESSAGES_MAX;

const WORDS: usize = SEGMENT_MESSAGES_MAX / 64;

/// Which messages of a lease need no further delivery by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done([u64; WORDS]);

impl Done {
    pub(super) fn contains(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_none_or(|word| word >> (index % 64) & 1 == 1)
    }

    /// Marks one; whether it was not marked before.
    pub(super) fn insert(&mut self, index: u32) -> bool {
        let new = !self.contains(index);
        if new {
            self.0[index as usize / 64] |= 1 << (index % 64);
        }
        new
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn to_blob(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Reads what [`Done::to_blob`] wrote; absent bytes are unmarked.
    pub(super) fn from_blob(blob: &[u8]) -> Self {
        let mut done = Self::default();
        for (word, bytes) in done.0.iter_mut().zip(blob.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
        done
    }
}

/// What has to be written about one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settlement {
    pub(super) lease: i64,
    pub(super) done: Done,
    /// Every message is answered: the lease goes.
    pub(super) complete: bool,
    /// Those answered since the last settlement that are to be delivered again.
    pub(super) nacks: Vec<Nack>,
}

/// One message that is to be delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nack {
    pub(super) index: u32,
    pub(super) delay: Duration,
    pub(super) bytes: u32,
}

/// The leases that a subscriber holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    leases: HashMap<i64, Lease, foldhash::fast::RandomState>,
    changed: Vec<i64>,
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Lease {
    done: Done,
    unanswered: u32,
    /// Bytes of each message.
    sizes: Box<[u32]>,
    nacks: Vec<Nack>,
    changed: bool,
}

impl Held {
    /// Takes up a lease whose messages have these sizes. Those in `done` are not delivered.
    pub(super) fn grant(&mut self, lease: i64, done: Done, sizes: Box<[u32]>) {
        let unanswered = (0u32..).zip(&sizes).filter(|(index, _)| !done.contains(*index));
        let (messages, bytes) = unanswered.fold((0u32, 0), |(messages, bytes), (_, &size)| (messages + 1, bytes + size as usize));
        self.messages += messages as usize;
        self.bytes += bytes;
        // What has nothing to deliver (deleted, damaged) is settled at once.
        let changed = messages == 0;
        if changed {
            self.changed.push(lease);
        }
        self.leases.insert(lease, Lease { done, unanswered: messages, sizes, nacks: Vec::new(), changed });
    }

    /// Answers a message; whether it was unanswered.
    pub(super) fn ack(&mut self, lease: i64, index: u32) -> bool {
        self.answer(lease, index, None)
    }

    /// Answers a message that is to be delivered again; whether it was unanswered.
    pub(super) fn nack(&mut self, lease: i64, index: u32, delay: Duration) -> bool {
        self.answer(lease, index, Some(delay))
    }

    fn answer(&mut self, id: i64, index: u32, nack: Option<Duration>) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else { return false };
        let Some(&bytes) = lease.sizes.get(index as usize) else { return false };
        if !lease.done.insert(index) {
            return false;
        }
        lease.unanswered -= 1;
        lease.nacks.extend(nack.map(|delay| Nack { index, delay, bytes }));
        if !std::mem::replace(&mut lease.changed, true) {
            self.changed.push(id);
        }
        self.messages -= 1;
        self.bytes -= bytes as usize;
        true
    }

    /// What has to be written since the last call. Complete leases are forgotten.
    pub(super) fn settle(&mut self) -> Vec<Settlement> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|id| self.settlement(id)).collect()
    }

    fn settlement(&mut self, id: i64) -> Option<Settlement> {
        let lease = self.leases.get_mut(&id)?;
        lease.changed = false;
        let complete = lease.unanswered == 0;
        let settlement = Settlement { lease: id, done: lease.done, complete, nacks: std::mem::take(&mut lease.nacks) };
        if complete {
            self.leases.remove(&id);
        }
        Some(settlement)
    }

    /// Whether [`Held::settle`] has something to say.
    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether no lease is held, settled or not.
    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Unanswered messages.
    pub(super) const fn messages(&self) -> usize {
        self.messages
    }

    /// Their bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
