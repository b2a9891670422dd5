//! Publishing: what the client library leaves to its user. It batches and sends; order after a failure, retries, bounds and a dead connection
//! are kept here.
//!
//! A batch is published in portions that the [`Budget`] has room for. Within a portion each ordering key goes its own way: one publish at a time
//! has a key's turn, so that what failed is sent again before anything newer of that key. Invariant: what is in the library's hands is covered by
//! a share of the budget until the library has resolved it, whoever still waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use google_cloud_pubsub::client::{self, BasePublisher};
use google_cloud_pubsub::error::PublishError as LibraryError;
use google_cloud_pubsub::publisher::PublishFuture;
use tokio::time::{Instant, sleep, timeout};

use super::budget::{Budget, Share};
use super::connection::Connection;
use super::fault::service_error;
use super::message::{KEYS, key, message};
use crate::bus::counters::InFlight;
use crate::bus::{MESSAGE_BYTES_MAX, PublishCounters, PublishError, Refusal, ServiceError, ServiceFault};
use crate::config::GoogleBusConfig;
use crate::runtime::backoff::Backoff;
use crate::schema::envelope::Envelope;

/// Waits before what failed is sent again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// So many requests without an answer in a row, and the connection is taken for dead: nothing else would ever notice.
const TIMEOUTS_MAX: u32 = 3;
/// A request's own time limit does not count the wait for a connection. This much longer than it, and the message is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes to one topic of Pub/Sub. Clones share one budget and one connection.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connection: Connection,
    config: Arc<GoogleBusConfig>,
    /// As the service names it.
    topic: String,
    /// As a person reads it.
    name: String,
    client: Mutex<Client>,
    timeouts: AtomicU32,
    budget: Budget,
    turns: Vec<tokio::sync::Mutex<()>>,
    counters: Arc<PublishCounters>,
}

/// The library's publisher; which one since the start.
#[derive(Debug, Clone)]
struct Client {
    publisher: client::Publisher,
    number: u32,
}

/// A message on its way.
struct Pending {
    index: usize,
    envelope: Envelope,
    /// A request with it was refused; whether for its sake is found out by sending it alone.
    alone: bool,
}

/// What is held while a portion is in the library's hands.
struct Hold {
    _in_flight: InFlight,
    _share: Share,
}

impl Publisher {
    pub(super) fn new(connection: Connection, base: &BasePublisher, config: Arc<GoogleBusConfig>, topic: String, name: String) -> Self {
        let shared = Shared {
            client: Mutex::new(Client { publisher: of_topic(base, &config, &topic), number: 0 }),
            connection,
            topic,
            name,
            timeouts: AtomicU32::new(0),
            budget: Budget::new(config.publish_in_flight_max, config.publish_in_flight_bytes_max),
            turns: std::iter::repeat_with(tokio::sync::Mutex::default).take(KEYS).collect(),
            counters: Arc::default(),
            config,
        };
        Self { shared: Arc::new(shared) }
    }

    pub(in crate::bus) async fn publish(&self, batch: Vec<Envelope>) -> Result<(), PublishError> {
        if let Some(large) = batch.iter().find(|envelope| envelope.size() > MESSAGE_BYTES_MAX) {
            return Err(PublishError::TooLarge { bytes: large.size(), max: MESSAGE_BYTES_MAX });
        }
        let mut refused = Vec::new();
        let (mut batch, mut begin) = (VecDeque::from(batch), 0);
        while !batch.is_empty() {
            let portion = self.shared.budget.portion(&mut batch);
            let end = begin + portion.len();
            let share = self.shared.budget.take(&portion).await;
            let hold = Hold { _in_flight: InFlight::of(&self.shared.counters, &portion), _share: share };
            // A task of its own: where the caller stops waiting, the share must not be free while the library still has the messages.
            let confirming = tokio::spawn(Arc::clone(&self.shared).confirm(portion, begin, Arc::new(hold)));
            refused.extend(confirming.await.map_err(|_| PublishError::Closed)??);
            begin = end;
        }
        if refused.is_empty() { Ok(()) } else { Err(PublishError::Refused { refused }) }
    }

    pub(in crate::bus) fn counters(&self) -> Arc<PublishCounters> {
        Arc::clone(&self.shared.counters)
    }
}

impl Shared {
    /// Publishes a portion whose first message is the batch's number `begin`, all keys side by side.
    async fn confirm(self: Arc<Self>, portion: Vec<Envelope>, begin: usize, hold: Arc<Hold>) -> Result<Vec<Refusal>, ServiceError> {
        let mut ways: BTreeMap<Option<usize>, VecDeque<Pending>> = BTreeMap::new();
        for (index, envelope) in portion.into_iter().enumerate() {
            let key = self.config.ordering.then(|| key(&envelope));
            ways.entry(key).or_default().push_back(Pending { index: begin + index, envelope, alone: false });
        }
        let outcomes = join_all(ways.into_iter().map(|(key, messages)| self.confirm_key(key, messages, &hold))).await;
        let mut refused: Vec<Refusal> = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        refused.sort_unstable_by_key(|refusal| refusal.index);
        Ok(refused)
    }

    /// Publishes the messages of one key in order, again and again while that helps.
    async fn confirm_key(&self, key: Option<usize>, mut left: VecDeque<Pending>, hold: &Arc<Hold>) -> Result<Vec<Refusal>, ServiceError> {
        let _turn = match key.and_then(|key| self.turns.get(key)) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let give_up_at = Instant::now() + Duration::from_millis(self.config.publish_deadline_ms);
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut refused = Vec::new();
        while !left.is_empty() {
            match self.attempt(key, &mut left, hold).await {
                Attempt::Confirmed | Attempt::Suspected => {}
                Attempt::Refused(refusal) => refused.push(refusal),
                Attempt::Unresolved(error) => return Err(error),
                Attempt::Failed(error) => {
                    let passes = matches!(error.fault, ServiceFault::Timeout | ServiceFault::Unavailable);
                    let wait = backoff.next_wait();
                    if !passes || backoff.failures() >= self.config.publish_attempts_max || Instant::now() + wait >= give_up_at {
                        self.counters.failed.fetch_add(left.len() as u64, Ordering::Relaxed);
                        return Err(error);
                    }
                    self.counters.retried.fetch_add(left.len() as u64, Ordering::Relaxed);
                    sleep(wait).await;
                }
            }
        }
        Ok(refused)
    }

    /// Sends the front of `left`: one message that is to go alone, or all up to the next such. What was not confirmed is in `left` again, in order.
    async fn attempt(&self, key: Option<usize>, left: &mut VecDeque<Pending>, hold: &Arc<Hold>) -> Attempt {
        let client = self.client();
        let alone = left.front().is_some_and(|pending| pending.alone);
        let count = if alone { 1 } else { left.iter().take_while(|pending| !pending.alone).count() };
        let mut sent: VecDeque<(Pending, PublishFuture)> = VecDeque::with_capacity(count);
        for pending in left.drain(..count) {
            let answer = client.publisher.publish(message(&pending.envelope, key));
            sent.push_back((pending, answer));
        }
        let patience = Duration::from_millis(self.config.publish_timeout_ms) + PATIENCE;
        let (mut failed, mut first, mut suspected) = (Vec::new(), None, false);
        while let Some((mut pending, mut answer)) = sent.pop_front() {
            match timeout(patience, &mut answer).await {
                Ok(Ok(_)) => {
                    self.counters.confirmed.fetch_add(1, Ordering::Relaxed);
                    self.timeouts.store(0, Ordering::Relaxed);
                }
                Ok(Err(error)) => {
                    let error = self.fault(&error);
                    pending.alone = error.fault == ServiceFault::Refused;
                    suspected |= pending.alone;
                    first.get_or_insert(error);
                    failed.push(pending);
                }
                Err(_) => {
                    // Nobody knows whether these are still sent. They keep their share of the budget until the library has let go of them.
                    let hold = Arc::clone(hold);
                    sent.push_front((pending, answer));
                    self.counters.failed.fetch_add((failed.len() + sent.len() + left.len()) as u64, Ordering::Relaxed);
                    tokio::spawn(async move {
                        join_all(sent.into_iter().map(|(_, answer)| answer)).await;
                        drop(hold);
                    });
                    self.replace(client.number).await;
                    return Attempt::Unresolved(self.error(ServiceFault::Timeout, "no connection, and no answer"));
                }
            }
        }
        let Some(error) = first else { return Attempt::Confirmed };
        if error.fault == ServiceFault::Timeout && self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
            self.replace(client.number).await;
        }
        if let Some(key) = key {
            client.publisher.resume_publish(key.to_string());
        }
        if alone && suspected {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Attempt::Refused(Refusal { index: failed.first().map_or(0, |pending| pending.index), reason: error.reason });
        }
        failed.into_iter().rev().for_each(|pending| left.push_front(pending));
        if suspected { Attempt::Suspected } else { Attempt::Failed(error) }
    }

    fn fault(&self, error: &LibraryError) -> ServiceError {
        match error {
            LibraryError::Rpc(error) => service_error(&self.name, error),
            // Another message of the key failed, and this one was not sent for the sake of the order.
            LibraryError::OrderingKeyPaused => self.error(ServiceFault::Unavailable, "the ordering key is paused"),
            _ => self.error(ServiceFault::Unavailable, "the answer does not name the message"),
        }
    }

    fn error(&self, fault: ServiceFault, reason: &str) -> ServiceError {
        ServiceError { resource: self.name.clone(), fault, reason: reason.into() }
    }

    fn client(&self) -> Client {
        // Nothing panics while it holds the lock.
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a new connection in place of the client with this number, unless somebody did already. What the old one has on its way goes on there.
    async fn replace(&self, number: u32) {
        match self.connection.publisher(Duration::from_millis(self.config.publish_timeout_ms)).await {
            Ok(base) => {
                let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
                if client.number == number {
                    *client = Client { publisher: of_topic(&base, &self.config, &self.topic), number: number + 1 };
                    self.timeouts.store(0, Ordering::Relaxed);
                    tracing::warn!(topic = self.name, "publishing got no answers; the connection is built anew");
                }
            }
            Err(error) => tracing::warn!(topic = self.name, %error, "publishing gets no answers, and there is no new connection"),
        }
    }
}

/// What came of sending some messages.
enum Attempt {
    /// All are confirmed.
    Confirmed,
    /// A request was refused. Its messages are marked, and sent one by one.
    Suspected,
    /// One that was sent alone is refused.
    Refused(Refusal),
    /// They may be sent again.
    Failed(ServiceError),
    /// They are still on their way, perhaps for ever.
    Unresolved(ServiceError),
}

fn of_topic(base: &BasePublisher, config: &GoogleBusConfig, topic: &str) -> client::Publisher {
    base.publisher(topic)
        .set_message_count_threshold(config.publish_batch_max)
        .set_byte_threshold(config.publish_batch_bytes_max)
        .set_delay_threshold(Duration::from_millis(config.publish_linger_ms))
        .build()
}
