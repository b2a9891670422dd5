//! The one buffer between the sockets and the bus.
//!
//! Owns: the bound in bytes, and what is shed before it is reached. Does not own: publishing. Invariants: what lies here and what is on
//! its way to the bus together stay within the bound (a single item larger than all of it passes alone); class A is never shed and keeps
//! its order; what is shed is counted.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::counters::Counters;
use crate::schema::envelope::Envelope;
use crate::schema::event::{Class, Event};
use crate::schema::ids;

/// What an item costs beyond its envelope's bytes, about: its place in the queue, the allocation, the index.
const ITEM_OVERHEAD: usize = 128;

/// One message on its way to the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    envelope: Envelope,
    topic: Topic,
    class: Class,
    /// For class B: hash of account, kind and conversation. Items that share it replace each other under pressure.
    same: u64,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// To the events.
    Events,
    /// To what could not be read.
    Quarantine,
}

impl Item {
    /// An event's message.
    ///
    /// # Errors
    /// Only where the event does not serialize, which would be our own broken invariant.
    pub(super) fn event(event: &Event<'_>) -> Result<Self, serde_json::Error> {
        let class = event.kind.class();
        let same = if class == Class::B {
            let conversation = event.conversation_id.as_ref().map_or("", |id| id.raw());
            // Lengths keep the parts apart; the names are ours, the ids are hashed whole.
            let seed = ids::hash64(event.account_id.raw()) ^ ids::hash64(event.kind.name()).rotate_left(21);
            ids::hash64(conversation) ^ seed.rotate_left(42)
        } else {
            0
        };
        Ok(Self { envelope: Envelope::of_event(event)?, topic: Topic::Events, class, same })
    }

    /// A quarantine message. It is class A: the bytes of what could not be read are never shed.
    #[must_use]
    pub(super) const fn quarantine(envelope: Envelope) -> Self {
        Self { envelope, topic: Topic::Quarantine, class: Class::A, same: 0 }
    }

    /// Bytes of the message.
    pub(super) fn size(&self) -> usize {
        self.envelope.size()
    }

    /// The message's data.
    pub(super) fn data(&self) -> &[u8] {
        self.envelope.data()
    }

    fn cost(&self) -> usize {
        self.envelope.size() + ITEM_OVERHEAD
    }
}

/// The buffer; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Buffer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    counters: Arc<Counters>,
    bytes_max: usize,
    /// Space came free.
    space: Notify,
    /// Something is there, or nothing will be any more.
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Items that were ever taken: the position of the front one.
    taken: u64,
    /// Items that were ever taken and confirmed.
    released: u64,
    /// Where the newest class B item of a kind stands, by [`Item::same`].
    newest: HashMap<u64, u64, foldhash::fast::FixedState>,
    /// Bytes of the items here and of those on their way.
    used: usize,
    closed: bool,
}

/// What was taken off the buffer and is on its way to the bus. Its bytes count as used until [`Buffer::release`].
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Envelope>,
    pub(super) quarantine: Vec<Envelope>,
    cost: usize,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.events.len() + self.quarantine.len()
    }
}

impl Buffer {
    /// An empty buffer of at most `bytes_max`.
    #[must_use]
    pub(super) fn new(bytes_max: usize, counters: Arc<Counters>) -> Self {
        let shared = Shared { queue: Mutex::default(), counters, bytes_max, space: Notify::new(), filled: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Moves `items` in, in order; waits while the next one has no place. Cancel-safe: what has not moved stays in `items`.
    pub(super) async fn push(&self, items: &mut VecDeque<Item>) {
        loop {
            let mut space = pin!(self.shared.space.notified());
            space.as_mut().enable();
            if self.try_push(items) {
                return;
            }
            space.await;
        }
    }

    /// Moves in what has a place now, in order, under one lock; true where nothing is left in `items`.
    #[must_use]
    pub(super) fn try_push(&self, items: &mut VecDeque<Item>) -> bool {
        if items.is_empty() {
            return true;
        }
        let mut queue = self.lock();
        let (mut moved, mut dropped, mut coalesced) = (0u64, 0, 0);
        while let Some(item) = items.pop_front() {
            match queue.admit(item, self.shared.bytes_max) {
                Ok(Admission::Queued) => {}
                Ok(Admission::Dropped) => dropped += 1,
                Ok(Admission::Coalesced) => coalesced += 1,
                Err(item) => {
                    items.push_front(item);
                    break;
                }
            }
            moved += 1;
        }
        let (used, messages) = (queue.used, queue.items.len());
        drop(queue);
        let counters = &self.shared.counters;
        counters.buffer_messages.store(messages as u64, Ordering::Relaxed);
        counters.buffer_bytes.store(used as u64, Ordering::Relaxed);
        if dropped + coalesced > 0 {
            Counters::add(&counters.dropped_c, dropped);
            Counters::add(&counters.coalesced_b, coalesced);
        }
        if moved > 0 {
            self.shared.filled.notify_one();
        }
        items.is_empty()
    }

    /// Waits for something to publish and takes at most `count_max` of it; `None` once the buffer is closed and empty. For one consumer.
    pub(super) async fn take(&self, count_max: usize) -> Option<Batch> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.items.is_empty() {
                    let batch = queue.take(count_max.max(1));
                    self.shared.counters.buffer_messages.store(queue.items.len() as u64, Ordering::Relaxed);
                    return Some(batch);
                }
                if queue.closed {
                    return None;
                }
            }
            // A permit that was stored before this wait ends it at once, so nothing pushed in between is missed.
            self.shared.filled.notified().await;
        }
    }

    /// The bus has confirmed a batch: its bytes are free.
    pub(super) fn release(&self, batch: &Batch) {
        let used = {
            let mut queue = self.lock();
            queue.used -= batch.cost;
            queue.released += batch.len() as u64;
            queue.used
        };
        self.shared.counters.buffer_bytes.store(used as u64, Ordering::Relaxed);
        self.shared.space.notify_waiters();
    }

    /// Nothing more will be pushed: the consumer ends once it has taken the rest.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.shared.filled.notify_one();
    }

    /// Items that were ever queued. When [`Buffer::released`] has come that far, the bus has confirmed all of them.
    #[must_use]
    pub(super) fn pushed(&self) -> u64 {
        let queue = self.lock();
        queue.taken + queue.items.len() as u64
    }

    /// Items that were ever confirmed; they are taken and confirmed in order.
    #[must_use]
    pub(super) fn released(&self) -> u64 {
        self.lock().released
    }

    /// Messages and bytes that wait or are on their way.
    #[must_use]
    pub(super) fn depth(&self) -> (usize, usize) {
        let queue = self.lock();
        (queue.items.len(), queue.used)
    }

    /// No code that can panic runs under the lock, so a poisoned queue is still whole.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Queued,
    Dropped,
    Coalesced,
}

impl Queue {
    /// Gives the item back where it has to wait: class A, and class B that has nothing to replace.
    fn admit(&mut self, item: Item, bytes_max: usize) -> Result<Admission, Item> {
        if item.class == Class::C && self.used > bytes_max / 2 {
            return Ok(Admission::Dropped);
        }
        let cost = item.cost();
        if item.class == Class::B
            && self.used > bytes_max / 4 * 3
            && let Some(older) = self.newest.get(&item.same).copied().and_then(|position| self.at(position))
        {
            let after = self.used - self.items[older].cost() + cost;
            if after > bytes_max {
                return Err(item);
            }
            self.used = after;
            self.items[older] = item;
            return Ok(Admission::Coalesced);
        }
        if self.used > 0 && self.used + cost > bytes_max {
            return Err(item);
        }
        if item.class == Class::B {
            self.newest.insert(item.same, self.taken + self.items.len() as u64);
        }
        self.used += cost;
        self.items.push_back(item);
        Ok(Admission::Queued)
    }

    fn at(&self, position: u64) -> Option<usize> {
        let index = usize::try_from(position.checked_sub(self.taken)?).ok()?;
        (index < self.items.len()).then_some(index)
    }

    fn take(&mut self, count_max: usize) -> Batch {
        let mut batch = Batch::default();
        let count = count_max.min(self.items.len());
        batch.events.reserve(count);
        for item in self.items.drain(..count) {
            batch.cost += item.cost();
            if item.class == Class::B && self.newest.get(&item.same) == Some(&self.taken) {
                self.newest.remove(&item.same);
            }
            self.taken += 1;
            match item.topic {
                Topic::Events => batch.events.push(item.envelope),
                Topic::Quarantine => batch.quarantine.push(item.envelope),
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests;
