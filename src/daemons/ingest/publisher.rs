//! From the buffer to the bus, batch after batch.
//!
//! Self-clocked: what gathers while one batch is confirmed is the next one, so batches grow with the load and nothing waits for a timer.
//! Invariant: a batch leaves the buffer's account only when the bus has confirmed all of it, or has refused for good what the quarantine then
//! took; a failed one is tried again for ever.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Live;
use super::buffer::Buffer;
use super::counters::Counters;
use crate::bus::{PublishError, Refusal};
use crate::runtime::backoff::Backoff;
use crate::runtime::clock;
use crate::runtime::health::{Condition, Pulse};
use crate::runtime::trace::{Stage, Tracer};
use crate::schema::NORMALIZER;
use crate::schema::envelope::Envelope;
use crate::transform::normalize::{QUARANTINE_CUT_BYTES, QUARANTINE_WHOLE_MAX_BYTES};

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

    /// What an error says is refused for good. Where that is anything, all the rest of the batch is confirmed.
    fn refused(_error: &Self::Error) -> &[Refusal] {
        &[]
    }

    /// Why the topic takes nothing from us, where waiting alone will not mend that.
    fn barred(_error: &Self::Error) -> Option<&'static str> {
        None
    }
}

impl Publish for crate::bus::Publisher {
    type Error = PublishError;

    async fn publish(&self, batch: Vec<Envelope>) -> Result<(), Self::Error> {
        Self::publish(self, batch).await
    }

    fn refused(error: &Self::Error) -> &[Refusal] {
        match error {
            PublishError::Refused { refused } => refused,
            _ => &[],
        }
    }

    fn barred(error: &Self::Error) -> Option<&'static str> {
        error.barred()
    }
}

/// What the publisher tells of itself.
pub(super) struct Signs {
    /// It goes on.
    pub(super) pulse: Pulse,
    /// The topics take what it publishes.
    pub(super) topics: Condition,
    /// The ways of some events.
    pub(super) tracer: Tracer,
}

/// Publishes until the buffer is closed and empty.
pub(super) async fn run<P: Publish>(buffer: Buffer, events: P, quarantine: P, live: Arc<Live>, counters: Arc<Counters>, signs: Signs) {
    while let Some(batch) = buffer.take(live.publish_batch_max.load(Relaxed)).await {
        let (began, taken_at) = (Instant::now(), SystemTime::now());
        let refused = confirm("events", &events, &batch.events, &counters, &signs).await;
        let mut aside = batch.quarantine.clone();
        aside.extend(refused.iter().filter_map(|refusal| Some(set_aside(batch.events.get(refusal.index)?, &refusal.reason))));
        Counters::add(&counters.refused, refused.len() as u64);
        let lost = confirm("quarantine", &quarantine, &aside, &counters, &signs).await;
        Counters::add(&counters.quarantine_refused, lost.len() as u64);
        for refusal in &lost {
            tracing::error!(reason = ?refusal.reason, "the quarantine refuses a message for good, and it is lost");
        }
        Counters::add(&counters.published, batch.len() as u64);
        counters.publish_took.observe(began.elapsed());
        trace(&signs.tracer, &batch.events, taken_at);
        buffer.release(&batch);
        signs.topics.meet();
        signs.pulse.rest();
    }
}

/// Publishes until all is confirmed but what is refused for good, which is returned.
async fn confirm<P: Publish>(
    topic: &'static str,
    publisher: &P,
    messages: &[Envelope],
    counters: &Counters,
    signs: &Signs,
) -> Vec<Refusal> {
    if messages.is_empty() {
        return Vec::new();
    }
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut reported: Option<Instant> = None;
    let mut refused = Vec::new();
    signs.pulse.begin();
    // A copy is a count up per message: the bytes are shared.
    while let Err(error) = publisher.publish(messages.to_vec()).await {
        let refusals = P::refused(&error);
        if !refusals.is_empty() {
            tracing::warn!(topic, messages = refusals.len(), %error, "the bus refuses messages for good; they are set aside");
            refused = refusals.to_vec();
            break;
        }
        Counters::add(&counters.publish_retries, 1);
        if let Some(why) = P::barred(&error) {
            signs.topics.miss(why);
        }
        if reported.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            reported = Some(Instant::now());
            tracing::warn!(topic, %error, failures = backoff.failures() + 1, "the bus takes nothing; events wait in the buffer");
        }
        tokio::time::sleep(backoff.next_wait()).await;
        signs.pulse.begin();
    }
    if reported.is_some() {
        tracing::info!(topic, failures = backoff.failures(), "the bus takes events again");
    }
    refused
}

/// Tells of those that are told: how they came off the socket and through the buffer, and how they went onto the topic.
fn trace(tracer: &Tracer, events: &[Envelope], taken_at: SystemTime) {
    if !tracer.is_on() {
        return;
    }
    let confirmed_at = SystemTime::now();
    for envelope in events {
        let trace = envelope.attribute("ce-id").and_then(|id| tracer.of(id));
        if let (Some(trace), Ok(event)) = (trace, envelope.event()) {
            let received_at = UNIX_EPOCH + Duration::from_millis(u64::try_from(event.received_at.0).unwrap_or(0));
            trace.tell(Stage::Ingest, received_at, taken_at, &event);
            trace.tell(Stage::Publish, taken_at, confirmed_at, &event);
        }
    }
}

/// The quarantine message of an event that the bus will never take: its JSON, and why.
fn set_aside(event: &Envelope, reason: &str) -> Envelope {
    let data = event.data();
    let (now, length) = (clock::now().to_string(), data.len().to_string());
    let mut attributes = vec![
        ("reason", "refused_by_bus"),
        ("detail", reason),
        ("stage", "publish"),
        ("account", event.attribute("ce-accountid").unwrap_or_default()),
        ("received_at", &now),
        ("normalizer", NORMALIZER),
    ];
    let kept = if data.len() > QUARANTINE_WHOLE_MAX_BYTES {
        attributes.push(("length", &length));
        &data[..QUARANTINE_CUT_BYTES]
    } else {
        data
    };
    Envelope::new(event.ordering_key(), &attributes, kept)
}
