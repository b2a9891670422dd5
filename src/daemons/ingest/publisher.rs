//! From the buffer to the bus, batch after batch.
//!
//! Self-clocked: what gathers while one batch is confirmed is the next one, so batches grow with the load and nothing waits for a timer.
//! Invariant: a batch leaves the buffer's account only when the bus has confirmed all of it; a failed one is tried again for ever.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::buffer::Buffer;
use super::counters::Counters;
use crate::runtime::backoff::Backoff;
use crate::schema::envelope::Envelope;

const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A bus that is down is reported this often.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// One topic of a bus.
pub trait Publish: Send + Sync + 'static {
    /// Why a batch was not confirmed.
    type Error: fmt::Display + Send;

    /// Publishes a batch in order; returns when all of it is confirmed. After an error any part of it may have been published.
    fn publish(&self, batch: Vec<Envelope>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl Publish for crate::bus::Publisher {
    type Error = crate::bus::PublishError;

    async fn publish(&self, batch: Vec<Envelope>) -> Result<(), Self::Error> {
        Self::publish(self, batch).await
    }
}

/// Publishes until the buffer is closed and empty.
pub(super) async fn run<P: Publish>(buffer: Buffer, events: P, quarantine: P, batch_max: usize, counters: Arc<Counters>) {
    while let Some(batch) = buffer.take(batch_max).await {
        confirm("events", &events, &batch.events, &counters).await;
        confirm("quarantine", &quarantine, &batch.quarantine, &counters).await;
        Counters::add(&counters.published, batch.len() as u64);
        buffer.release(&batch);
    }
}

async fn confirm<P: Publish>(topic: &'static str, publisher: &P, messages: &[Envelope], counters: &Counters) {
    if messages.is_empty() {
        return;
    }
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut reported: Option<Instant> = None;
    // A copy is a count up per message: the bytes are shared.
    while let Err(error) = publisher.publish(messages.to_vec()).await {
        Counters::add(&counters.publish_retries, 1);
        if reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            reported = Some(Instant::now());
            tracing::warn!(topic, %error, failures = backoff.failures() + 1, "the bus takes nothing; events wait in the buffer");
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
    if reported.is_some() {
        tracing::info!(topic, failures = backoff.failures(), "the bus takes events again");
    }
}
