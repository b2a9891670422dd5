//! Subscribing, the caller's side: it only exchanges memory with the thread of [`super::worker`], and never waits for a file.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::leases::Held;
use super::log::Room;
use super::wake::OwnRinger;
use super::worker::Worker;
use super::{EmbeddedBus, spawn};
use crate::bus::{AckId, BusError, Counters, Delivery, StorageError, SubscribeError};

/// Most that is leased in one transaction: it is read and handed over while the caller works on what came before.
const TURN_MESSAGES_MAX: usize = 4_096;
const TURN_BYTES_MAX: usize = 4 << 20;
/// Room is used again once this part of the window is free: a full window would otherwise cost a transaction for every single ack.
const ROOM_PART: usize = 8;
/// A subscriber of the embedded engine.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
}

/// Answers deliveries of the embedded engine.
#[derive(Debug, Clone)]
pub struct Acker {
    shared: Arc<Shared>,
}

/// What the caller's side and the thread exchange.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) news: Notify,
    pub(super) counters: Arc<Counters>,
    pub(super) window: Window,
    pub(super) ringer: OwnRinger,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) held: Held,
    /// Delivered by the thread, not yet taken by the caller.
    pub(super) ready: Vec<Delivery>,
    pub(super) fault: Option<StorageError>,
    /// A fault that the caller was told of, or will be, is over.
    pub(super) recovered: bool,
    /// When the oldest answer that is not written was given.
    pub(super) answered_at: Option<Instant>,
    pub(super) sleep: Sleep,
    pub(super) closing: bool,
    /// Closing counts what is unanswered as delivered.
    pub(super) abandoned: bool,
    pub(super) ended: bool,
}

/// What the thread is waiting for, so that an answer rings it only where that changes something.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    /// It is awake, or rung already.
    #[default]
    Awake,
    /// The first answer starts the linger time; those after it have nothing to hurry for.
    ForAnswers,
    /// The same, and there is more to deliver once there is room.
    ForRoom,
}

/// How much may be unanswered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Window {
    /// The room for the next turn, where it is worth one.
    pub(super) fn room(self, held: &Held) -> Option<Room> {
        let messages = self.messages.saturating_sub(held.messages());
        let bytes = self.bytes.saturating_sub(held.bytes());
        let worth = held.messages() == 0 || messages >= (self.messages / ROOM_PART).max(1) && bytes >= (self.bytes / ROOM_PART).max(1);
        let limited = |free: usize, max: usize| i64::try_from(free.min(max)).unwrap_or(i64::MAX);
        worth.then(|| Room { messages: limited(messages, TURN_MESSAGES_MAX), bytes: limited(bytes, TURN_BYTES_MAX) })
    }
}

impl Subscriber {
    pub(super) async fn start(bus: &EmbeddedBus, topic: &str, subscription: &str) -> Result<Self, BusError> {
        let (opened, opening) = oneshot::channel();
        let (finished, ended) = oneshot::channel();
        let (bus, name, subscription) = (bus.clone(), topic.to_owned(), subscription.to_owned());
        spawn("bus-subscriber", move || {
            match Worker::open(&bus, &name, &subscription) {
                Ok(worker) => {
                    // Where the opener no longer waits, the subscriber is dropped here or with the channel, and that closes it.
                    let _ = opened.send(Ok(Self { shared: worker.shared(), ended }));
                    worker.run();
                }
                Err(error) => drop(opened.send(Err(error))),
            }
            let _ = finished.send(());
        })?;
        let ended_early = |_| BusError::Thread { topic: topic.to_owned(), reason: "it ended while opening the subscription".into() };
        opening.await.map_err(ended_early)?
    }

    pub(in crate::bus) async fn next(&mut self) -> Result<Vec<Delivery>, SubscribeError> {
        loop {
            let news = self.shared.news.notified();
            {
                let mut state = self.shared.lock();
                if !state.ready.is_empty() {
                    state.recovered = false;
                    return Ok(std::mem::take(&mut state.ready));
                }
                if let Some(fault) = state.fault.take() {
                    return Err(fault.into());
                }
                if std::mem::take(&mut state.recovered) {
                    return Ok(Vec::new());
                }
                if state.ended {
                    return Err(SubscribeError::Closed);
                }
            }
            news.await;
        }
    }

    pub(in crate::bus) fn acker(&self) -> Acker {
        Acker { shared: Arc::clone(&self.shared) }
    }

    pub(in crate::bus) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    pub(in crate::bus) async fn abandon(self, deadline: Duration) {
        self.shared.lock().abandoned = true;
        self.close(deadline).await;
    }

    pub(in crate::bus) async fn close(mut self, deadline: Duration) {
        self.shared.begin_closing();
        if tokio::time::timeout(deadline, &mut self.ended).await.is_err() {
            tracing::warn!("a subscriber did not close in time; what it held is delivered again once its leases end");
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.begin_closing();
    }
}

impl Acker {
    pub(in crate::bus) fn ack(&self, ids: &[AckId]) {
        let counters = &self.shared.counters;
        self.shared.answer(|held| {
            let acked = ids.iter().filter(|id| held.ack(id.lease, id.index)).count();
            counters.acked.fetch_add(acked as u64, Ordering::Relaxed);
        });
    }

    pub(in crate::bus) fn nack(&self, id: AckId, delay: Duration) {
        let counters = &self.shared.counters;
        self.shared.answer(|held| {
            let nacked = held.nack(id.lease, id.index, delay);
            counters.nacked.fetch_add(u64::from(nacked), Ordering::Relaxed);
        });
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, the state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, answer: impl FnOnce(&mut Held)) {
        let mut state = self.lock();
        if state.closing {
            return;
        }
        answer(&mut state.held);
        self.counters.in_flight.store(state.held.messages() as u64, Ordering::Relaxed);
        if !state.held.is_changed() {
            return;
        }
        let first = state.answered_at.is_none();
        state.answered_at.get_or_insert_with(Instant::now);
        let ring = match state.sleep {
            Sleep::Awake => false,
            Sleep::ForAnswers => first,
            Sleep::ForRoom => first || self.window.room(&state.held).is_some(),
        };
        if ring {
            state.sleep = Sleep::Awake;
            drop(state);
            self.ringer.ring();
        }
    }

    fn begin_closing(&self) {
        self.lock().closing = true;
        self.ringer.ring();
    }
}
