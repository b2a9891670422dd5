//! Subscribing, the caller's side: what is held, what is ready, and the window that bounds both. The streams' side is [`super::stream`].
//!
//! Invariant: every delivery that was handed out has one entry in `held` until it is answered, or until its stream's task gives it back; the
//! handler there is what keeps it leased.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::message::{envelope, published_at, size};
use crate::bus::{AckId, Counters, Delivery, ServiceError, SubscribeError};

/// Longest delay of a nack: the lease is extended all that time.
const NACK_DELAY_MAX: Duration = Duration::from_secs(600);

/// A subscriber of Pub/Sub.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// Answers deliveries of Pub/Sub.
#[derive(Debug, Clone)]
pub struct Acker {
    shared: Arc<Shared>,
}

/// What the caller's side and the streams exchange.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    window: Window,
    counters: Arc<Counters>,
    /// There is something for the caller.
    news: Notify,
    /// There is room in the window.
    room: Notify,
    /// There is a nack to wait for.
    nacks: Notify,
    closing: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Delivery>,
    held: HashMap<i64, Held, foldhash::fast::RandomState>,
    bytes: usize,
    /// Nacked, and given back when their time comes.
    nacked: BTreeMap<(Instant, i64), Held>,
    fault: Option<ServiceError>,
    /// Streams that failed and have not been heard of since.
    failing: HashSet<usize>,
    /// What the caller was told of, or will be, is over.
    recovered: bool,
    next_id: i64,
    closing: bool,
}

#[derive(Debug)]
struct Held {
    handler: Handler,
    bytes: usize,
    /// Whose task gives it back.
    stream: usize,
}

/// How much may be unanswered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Subscriber {
    /// A subscriber that is fed by the tasks that `streams` makes.
    pub(super) fn new(window: Window, streams: impl FnOnce(&Arc<Shared>) -> Vec<JoinHandle<()>>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            window,
            counters: Arc::default(),
            news: Notify::new(),
            room: Notify::new(),
            nacks: Notify::new(),
            closing: watch::Sender::new(false),
        });
        let mut tasks = streams(&shared);
        tasks.push(tokio::spawn(give_back(Arc::clone(&shared))));
        Self { shared, tasks }
    }

    pub(in crate::bus) async fn next(&mut self) -> Result<Vec<Delivery>, SubscribeError> {
        loop {
            let news = self.shared.news.notified();
            {
                let mut state = self.shared.lock();
                if !state.ready.is_empty() {
                    state.recovered = false;
                    return Ok(std::mem::take(&mut state.ready).into());
                }
                if let Some(fault) = state.fault.take() {
                    return Err(fault.into());
                }
                if std::mem::take(&mut state.recovered) {
                    return Ok(Vec::new());
                }
                if state.closing {
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

    pub(in crate::bus) async fn close(mut self, deadline: Duration) {
        self.shared.begin_closing();
        let tasks = std::mem::take(&mut self.tasks);
        let ended = futures_util::future::join_all(tasks);
        if timeout(deadline, ended).await.is_err() {
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
        let answered = self.shared.answer(ids);
        self.shared.counters.acked.fetch_add(answered.len() as u64, Ordering::Relaxed);
        answered.into_iter().for_each(|(_, held)| held.handler.ack());
    }

    pub(in crate::bus) fn nack(&self, id: AckId, delay: Duration) {
        let Some((id, held)) = self.shared.answer(&[id]).pop() else { return };
        self.shared.counters.nacked.fetch_add(1, Ordering::Relaxed);
        if delay.is_zero() {
            return held.handler.nack();
        }
        let mut state = self.shared.lock();
        // Where it closes at this moment, the handler goes at once, and that is a nack.
        if !state.closing {
            state.nacked.insert((Instant::now() + delay.min(NACK_DELAY_MAX), id), held);
            self.shared.nacks.notify_one();
        }
    }
}

impl Shared {
    /// Hands a message over; waits while the window is full. `false` where the subscriber closes: then the message goes back.
    pub(super) async fn admit(&self, message: Message, handler: Handler, stream: usize) -> bool {
        let bytes = size(&message);
        let attempt = handler.delivery_attempt().and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1).max(1);
        let (envelope, published_at) = (envelope(&message), published_at(&message));
        drop(message);
        loop {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            {
                let mut state = self.lock();
                if state.closing {
                    return false;
                }
                if self.window.has_room(&state, bytes) {
                    // What comes is news enough.
                    state.failing.remove(&stream);
                    let id = state.next_id;
                    state.next_id += 1;
                    state.bytes += bytes;
                    state.held.insert(id, Held { handler, bytes, stream });
                    state.ready.push_back(Delivery { envelope, attempt, published_at, ack: AckId { lease: id, index: 0 } });
                    self.counters.in_flight.store(state.held.len() as u64, Ordering::Relaxed);
                    drop(state);
                    self.counters.delivered.fetch_add(1, Ordering::Relaxed);
                    self.counters.redelivered.fetch_add(u64::from(attempt > 1), Ordering::Relaxed);
                    self.news.notify_one();
                    return true;
                }
            }
            room.await;
        }
    }

    /// Gives back everything unanswered that came from the streams of one task: a handler that is dropped unanswered nacks.
    pub(super) fn give_back(&self, stream: usize) {
        let mut state = self.lock();
        let mut given_back: Vec<Held> = state.held.extract_if(|_, held| held.stream == stream).map(|(_, held)| held).collect();
        given_back.extend(state.nacked.extract_if(.., |_, held| held.stream == stream).map(|(_, held)| held));
        self.counters.in_flight.store(state.held.len() as u64, Ordering::Relaxed);
        drop(state);
    }

    /// A stream was opened anew.
    pub(super) fn count_reopened(&self) {
        self.counters.reopened.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the caller, once, why nothing comes from that stream.
    pub(super) fn fail(&self, fault: ServiceError, stream: usize) {
        let mut state = self.lock();
        state.fault = Some(fault);
        state.recovered = false;
        state.failing.insert(stream);
        drop(state);
        self.news.notify_one();
    }

    /// That stream is open; the caller is told when this holds of all that had failed.
    pub(super) fn recover(&self, stream: usize) {
        let mut state = self.lock();
        if state.failing.remove(&stream) && state.failing.is_empty() {
            state.recovered = true;
            drop(state);
            self.news.notify_one();
        }
    }

    /// Whether nothing is unanswered and nothing waits for its nack.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.held.is_empty() && state.nacked.is_empty()
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Ends when the subscriber closes.
    pub(super) async fn closing(&self) {
        // The sender lives in `self`.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, the state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is answered out of the window. What is not held (answered before, given back) is left out.
    fn answer(&self, ids: &[AckId]) -> Vec<(i64, Held)> {
        let mut state = self.lock();
        let mut answered = Vec::with_capacity(ids.len());
        if state.closing {
            return answered;
        }
        for id in ids {
            if let Some(held) = state.held.remove(&id.lease) {
                state.bytes -= held.bytes;
                answered.push((id.lease, held));
            }
        }
        self.counters.in_flight.store(state.held.len() as u64, Ordering::Relaxed);
        drop(state);
        self.room.notify_waiters();
        answered
    }

    /// From now on nothing is handed out and no answer counts. What is held is given back by the streams' tasks, once their streams are closed.
    fn begin_closing(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.ready.clear();
        drop(state);
        self.closing.send_replace(true);
        self.room.notify_waiters();
        self.news.notify_one();
    }
}

impl Window {
    fn has_room(self, state: &State, bytes: usize) -> bool {
        state.held.is_empty() || state.held.len() < self.messages && state.bytes + bytes <= self.bytes
    }
}

/// Nacks what was nacked with a delay, each in its time.
async fn give_back(shared: Arc<Shared>) {
    let mut closing = pin!(shared.closing());
    loop {
        let next = {
            let mut state = shared.lock();
            let later = state.nacked.split_off(&(Instant::now(), i64::MAX));
            let due = std::mem::replace(&mut state.nacked, later);
            let next = state.nacked.first_key_value().map(|(&(at, _), _)| at);
            drop(state);
            due.into_values().for_each(|held| held.handler.nack());
            next
        };
        let due = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut closing => return,
            () = due => {}
            () = shared.nacks.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::ServiceFault;

    #[tokio::test]
    async fn that_all_streams_are_open_again_is_told_once_and_without_a_delivery() {
        let mut subscriber = Subscriber::new(Window { messages: 1, bytes: 1 }, |_| Vec::new());
        let shared = Arc::clone(&subscriber.shared);
        let refused = || ServiceError { resource: "it".to_owned(), fault: ServiceFault::Denied, reason: "no".to_owned() };
        let soon = Duration::from_millis(20);
        shared.recover(0);
        assert!(timeout(soon, subscriber.next()).await.is_err(), "nothing was wrong");
        shared.fail(refused(), 0);
        shared.fail(refused(), 1);
        assert!(subscriber.next().await.is_err());
        shared.recover(1);
        assert!(timeout(soon, subscriber.next()).await.is_err(), "the other one is still refused");
        shared.recover(0);
        assert_eq!(subscriber.next().await.unwrap().len(), 0);
        assert!(timeout(soon, subscriber.next()).await.is_err());
        shared.fail(refused(), 0);
        shared.recover(0);
        shared.fail(refused(), 0);
        assert!(subscriber.next().await.is_err(), "refused again before anybody asked");
        assert!(timeout(soon, subscriber.next()).await.is_err());
    }
}
