//! One stream of a subscription: a task that owns it and feeds the [`Shared`] window, and opens it anew whenever it ends.
//!
//! The library's `next` must not be cancelled before the first message of a stream, so it is never raced against anything: a stream is ended by
//! its own shutdown token, and `next` returns by itself. Invariant: what was unanswered when the subscriber closes goes back after its stream is
//! closed and not before, for else the service may send it down that very stream again, where nobody reads it until the lease is over.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use google_cloud_pubsub::client;
use google_cloud_pubsub::subscriber::{MessageStream, ShutdownBehavior, ShutdownToken};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connection::Connection;
use super::fault::service_error;
use super::subscriber::{Shared, Window};
use crate::bus::ServiceError;
use crate::config::GoogleBusConfig;
use crate::runtime::backoff::Backoff;

/// Waits before a stream that ended is opened anew.
const REOPEN_MIN: Duration = Duration::from_millis(250);
const REOPEN_MAX: Duration = Duration::from_secs(30);
/// A stream that is open for so long without a word has not been refused: a refusal comes with the first answer.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Longest wait for the answers that are still to be sent when the subscriber closes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// What a stream's task owns.
pub(super) struct StreamTask {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Connection,
    pub(super) client: client::Subscriber,
    pub(super) config: Arc<GoogleBusConfig>,
    /// As the service names it.
    pub(super) subscription: String,
    /// As a person reads it.
    pub(super) name: String,
    /// Which stream of the subscriber.
    pub(super) place: usize,
}

/// Why a stream ended.
enum Ended {
    /// The subscriber closes.
    Closing,
    /// Nothing came for so long that the connection may be dead.
    Silent,
    /// The service ended it.
    Failed(Option<ServiceError>),
}

impl StreamTask {
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(REOPEN_MIN, REOPEN_MAX);
        let mut before: Vec<ShutdownToken> = Vec::new();
        loop {
            let (ended, token) = self.serve(&mut backoff).await;
            // What came from a stream that ended stays leased until it is answered, and its answers are still sent.
            before.retain(|token| token.shutdown().now_or_never().is_none());
            before.push(token);
            let wait = match ended {
                Ended::Closing => break,
                Ended::Silent => {
                    tracing::debug!(subscription = self.name, "nothing came for a while; the connection is built anew");
                    match self.connection.subscriber().await {
                        Ok(client) => self.client = client,
                        Err(error) => self.shared.fail(error, self.place),
                    }
                    Duration::ZERO
                }
                Ended::Failed(error) => {
                    if let Some(error) = error {
                        self.shared.fail(error, self.place);
                    }
                    backoff.next_wait()
                }
            };
            tokio::select! {
                () = self.shared.closing() => break,
                () = sleep(wait) => {}
            }
            self.shared.count_reopened();
        }
        self.shared.give_back(self.place);
        let sent = join_all(before.iter().map(ShutdownToken::shutdown));
        if timeout(FLUSH_TIMEOUT, sent).await.is_err() {
            tracing::warn!(subscription = self.name, "the last answers were not taken; what they were about is delivered again");
        }
    }

    /// Opens a stream and hands on what it brings, until it ends. What it leaves behind is done when the token's shutdown is.
    async fn serve(&self, backoff: &mut Backoff) -> (Ended, ShutdownToken) {
        let mut stream = self.open();
        let token = stream.shutdown_token();
        let heard = Mutex::new(Instant::now());
        let mut reading = pin!(self.read(&mut stream, &heard, backoff));
        let mut settling = pin!(sleep(SETTLED_AFTER));
        let mut settled = false;
        let ended = loop {
            tokio::select! {
                biased;
                failed = &mut reading => return (if self.shared.is_closing() { Ended::Closing } else { Ended::Failed(failed) }, token.clone()),
                () = self.shared.closing() => break Ended::Closing,
                () = self.silence(&heard) => break Ended::Silent,
                () = &mut settling, if !settled => {
                    settled = true;
                    self.shared.recover(self.place);
                }
            }
        };
        // The reader was only put aside by the selection. Asked to, even without waiting, the token makes it return.
        let _ = token.shutdown().now_or_never();
        reading.await;
        (ended, token)
    }

    fn open(&self) -> MessageStream {
        let part = Window { messages: self.config.in_flight_max, bytes: self.config.in_flight_bytes_max };
        let share = |whole: usize| i64::try_from(whole.div_ceil(self.config.streams.max(1))).unwrap_or(i64::MAX);
        self.client
            .subscribe(&self.subscription)
            .set_max_outstanding_messages(share(part.messages))
            .set_max_outstanding_bytes(share(part.bytes))
            .set_max_lease_extension(Duration::from_secs(self.config.lease_s))
            .set_max_lease(Duration::from_secs(self.config.lease_max_s))
            // Not `NackImmediately`: when a stream fails it would give back what the caller is about to ack, and that counts as an attempt. When the
            // subscriber closes, all that is held is given back by name.
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
            .build()
    }

    /// Reads until the stream ends, or the subscriber closes; the error that ended it.
    async fn read(&self, stream: &mut MessageStream, heard: &Mutex<Instant>, backoff: &mut Backoff) -> Option<ServiceError> {
        while let Some(next) = stream.next().await {
            match next {
                Ok((message, handler)) => {
                    backoff.reset();
                    if !self.shared.admit(message, handler, self.place).await {
                        return None;
                    }
                    *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                }
                Err(error) => return Some(service_error(&self.name, &error)),
            }
        }
        None
    }

    /// Ends when the stream has been silent for too long, although all that it brought is answered.
    async fn silence(&self, heard: &Mutex<Instant>) {
        let limit = Duration::from_secs(self.config.silence_s);
        let mut idle_since = Instant::now();
        loop {
            let heard_at = *heard.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.shared.is_idle() {
                idle_since = Instant::now();
            }
            let end = heard_at.max(idle_since) + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}
