//! What a publisher may have on its way. The client library takes whatever it is given into unbounded queues, so the bound is held here.
//!
//! Invariant: a share is given back only when every message under it is resolved, by an answer or by the library giving up. A caller that no
//! longer waits does not free anything.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::schema::envelope::Envelope;

/// Messages and bytes that may be on their way at once.
#[derive(Debug)]
pub(super) struct Budget {
    messages: Pool,
    bytes: Pool,
}

/// A part of the budget, held for as long as this lives.
#[derive(Debug)]
pub(super) struct Share {
    _messages: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Pool {
    free: Arc<Semaphore>,
    max: u32,
}

impl Budget {
    pub(super) fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { messages: Pool::new(messages_max), bytes: Pool::new(bytes_max) }
    }

    /// Takes off the front of a batch what the whole budget has room for; at least one message.
    pub(super) fn portion(&self, batch: &mut VecDeque<Envelope>) -> Vec<Envelope> {
        let mut bytes = 0;
        let fits = |(at, envelope): &(usize, &Envelope)| {
            bytes += envelope.size();
            *at == 0 || *at < self.messages.max as usize && bytes <= self.bytes.max as usize
        };
        let count = batch.iter().enumerate().take_while(fits).count();
        batch.drain(..count).collect()
    }

    /// Waits for room, in the order of asking. One message that is larger than the whole budget takes all of it.
    pub(super) async fn take(&self, portion: &[Envelope]) -> Share {
        let bytes = portion.iter().map(Envelope::size).sum();
        // Always in this order, so that two that wait never wait for each other.
        let messages = self.messages.take(portion.len()).await;
        Share { _messages: messages, _bytes: self.bytes.take(bytes).await }
    }
}

impl Pool {
    fn new(max: usize) -> Self {
        let max = u32::try_from(max.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(max as usize)), max }
    }

    /// `None` only where the pool is closed, which nobody does.
    async fn take(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(self.max);
        Arc::clone(&self.free).acquire_many_owned(count).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn batch(sizes: &[usize]) -> VecDeque<Envelope> {
        sizes.iter().map(|&size| Envelope::new(0, &[], &vec![0; size])).collect()
    }

    #[test]
    fn a_batch_is_taken_in_portions_that_fit() {
        for (messages_max, bytes_max, sizes, expected) in [
            (10, 100, &[40, 40, 40, 40][..], &[2, 2][..]),
            (3, 100, &[1, 1, 1, 1], &[3, 1]),
            (10, 100, &[500, 1, 500], &[1, 1, 1]),
            (10, 100, &[0, 0, 100, 0, 1], &[4, 1]),
            (1, 1, &[0, 0], &[1, 1]),
        ] {
            let budget = Budget::new(messages_max, bytes_max);
            let mut batch = batch(sizes);
            let portions: Vec<usize> = std::iter::from_fn(|| (!batch.is_empty()).then(|| budget.portion(&mut batch).len())).collect();
            assert_eq!(portions, expected, "{messages_max} {bytes_max} {sizes:?}");
        }
    }

    #[test]
    fn room_is_free_again_only_when_a_share_is_given_back() {
        let budget = Budget::new(10, 100);
        let (most, half) = (batch(&[80]), batch(&[50]));
        let held = budget.take(most.as_slices().0).now_or_never().expect("there is room");
        assert!(budget.take(half.as_slices().0).now_or_never().is_none());
        drop(held);
        assert!(budget.take(half.as_slices().0).now_or_never().is_some());
        let too_much = batch(&[1_000]);
        assert!(budget.take(too_much.as_slices().0).now_or_never().is_some(), "one that is larger than all takes all");
    }
}
