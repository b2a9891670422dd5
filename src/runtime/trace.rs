//! Traces: the way of some events from the socket to the stores, told to an OpenTelemetry collector.
//!
//! Owns which events are told, and their spans' ids. Both follow from the event's id alone, so daemons that never speak to each other tell the same
//! events, and their spans meet in one trace without a context on the topic. Does not own: sending, which is the SDK's, on a thread of its own.
//! Invariant: nothing of a stage waits for the collector; what it does not take in time is dropped.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _};
use xxhash_rust::xxh3::xxh3_128;

use crate::config::TraceConfig;
use crate::schema::event::Event;

/// How long the collector may take with one batch of spans.
const EXPORT_MAX: Duration = Duration::from_secs(5);
/// How long the end of a process waits for the collector.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// The collector cannot be spoken to.
#[derive(Debug, thiserror::Error)]
#[error("trace.endpoint {endpoint}: {reason}")]
pub struct TraceError {
    endpoint: String,
    reason: String,
}

/// One step of an event's way. The first is the root of its trace, the others are its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From the frame off the socket until it leaves the buffer, normalized.
    Ingest,
    /// Until the topic has confirmed it.
    Publish,
    /// From a batch's beginning until Redis has confirmed it.
    ApplyViews,
    /// The same of the documents.
    ApplyDocuments,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Publish => "publish",
            Self::ApplyViews => "apply views",
            Self::ApplyDocuments => "apply documents",
        }
    }

    const fn kind(self) -> SpanKind {
        match self {
            Self::Ingest => SpanKind::Internal,
            Self::Publish => SpanKind::Producer,
            Self::ApplyViews | Self::ApplyDocuments => SpanKind::Consumer,
        }
    }
}

/// Tells of events, or of none. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Sending>>);

#[derive(Debug)]
struct Sending {
    processor: BatchSpanProcessor,
    /// Traces whose random half is below it are told.
    below: u64,
    scope: InstrumentationScope,
}

/// A trace that is told.
#[derive(Debug, Clone, Copy)]
pub struct Trace<'a> {
    sending: &'a Sending,
    id: u128,
}

impl Tracer {
    /// Tells of the share of events that the config says, as the service `convpipe-{daemon}`; of none where it names no collector. To be called within
    /// a runtime. The collector need not be there.
    ///
    /// # Errors
    /// Where the endpoint is none.
    pub fn open(config: &TraceConfig, daemon: &'static str) -> Result<Self, TraceError> {
        let Some(endpoint) = &config.endpoint else { return Ok(Self::default()) };
        let refused = |reason: String| TraceError { endpoint: endpoint.clone(), reason };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_MAX)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(config.queue_max)
            .with_max_export_batch_size(config.queue_max.min(512))
            .with_scheduled_delay(Duration::from_secs(1))
            .build();
        let mut processor = BatchSpanProcessor::new(exporter, batches);
        let about = Resource::builder()
            .with_service_name(format!("convpipe-{daemon}"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        processor.set_resource(&about);
        let scope = InstrumentationScope::builder("convpipe").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self(Some(Arc::new(Sending { processor, below: threshold(config.sample_ratio), scope }))))
    }

    /// Whether anything is told at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The trace of the event of this id, where it is one of those that are told.
    #[must_use]
    pub fn of(&self, event_id: &str) -> Option<Trace<'_>> {
        let sending = self.0.as_deref()?;
        let id = xxh3_128(event_id.as_bytes());
        (random_half(id) <= sending.below).then_some(Trace { sending, id })
    }

    /// Sends what waits, for 2 s at most. For the end of the process.
    pub async fn close(self) {
        let Some(sending) = self.0 else { return };
        let closed = tokio::task::spawn_blocking(move || sending.processor.shutdown_with_timeout(CLOSE_MAX)).await;
        if let Ok(Err(error)) = closed {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

impl Trace<'_> {
    /// Tells of one stage of the event.
    pub fn tell(&self, stage: Stage, began: SystemTime, ended: SystemTime, event: &Event<'_>) {
        let trace_id = TraceId::from(self.id);
        let root = SpanId::from(random_half(self.id).max(1));
        let (span_id, parent) = match stage {
            Stage::Ingest => (root, SpanId::INVALID),
            // Deliveries of the same event again are spans of their own.
            _ => (SpanId::from(fastrand::u64(1..)), root),
        };
        let attributes = vec![
            KeyValue::new("convpipe.event.id", event.id.raw().to_owned()),
            KeyValue::new("convpipe.event.kind", event.kind.name()),
            KeyValue::new("convpipe.account", event.account_id.raw().to_owned()),
            KeyValue::new("convpipe.connection", event.connection.raw().to_owned()),
            KeyValue::new("convpipe.frame_no", i64::try_from(event.frame_no).unwrap_or(i64::MAX)),
        ];
        self.sending.processor.on_end(SpanData {
            span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: parent != SpanId::INVALID,
            span_kind: stage.kind(),
            name: stage.name().into(),
            start_time: began,
            end_time: ended.max(began),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.sending.scope.clone(),
        });
    }
}

/// The half of a trace's id by which it is picked.
const fn random_half(id: u128) -> u64 {
    (id & u64::MAX as u128) as u64
}

/// The largest half that is told.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of 2^64, as exact as an f64 is"
)]
const fn threshold(ratio: f64) -> u64 {
    (ratio * u64::MAX as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(sample_ratio: f64) -> Tracer {
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        Tracer::open(&TraceConfig { endpoint, sample_ratio, ..TraceConfig::default() }, "test").unwrap()
    }

    #[test]
    fn without_a_collector_nothing_is_told() {
        let tracer = Tracer::open(&TraceConfig { sample_ratio: 1.0, ..TraceConfig::default() }, "test").unwrap();
        assert!(!tracer.is_on());
        assert!(tracer.of("1").is_none());
    }

    #[tokio::test]
    async fn the_same_events_are_told_by_everybody_and_as_many_as_said() {
        const EVENTS: usize = 10_000;
        for ratio in [1.0, 0.5, 0.01] {
            let (ingest, snapshot) = (sampling(ratio), sampling(ratio));
            let told = (0..EVENTS).filter(|number| ingest.of(&number.to_string()).is_some()).count();
            assert!((0..EVENTS).all(|n| ingest.of(&n.to_string()).is_some() == snapshot.of(&n.to_string()).is_some()));
            let expected = EVENTS as f64 * ratio;
            assert!((told as f64 - expected).abs() <= expected.sqrt() * 5.0, "{told} of {EVENTS} at {ratio}");
        }
    }
}
