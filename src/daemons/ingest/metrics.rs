//! What ingest shows on `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use crate::bus::PublishCounters;
use crate::runtime::exposition::{Expose, Labels, Page};
use crate::runtime::supervise::Report;
use crate::ws::Reason;

/// The numbers of one ingest.
pub struct IngestMetrics {
    /// What it counts.
    pub counters: Arc<Counters>,
    /// What the publisher of the events counts.
    pub events: Arc<PublishCounters>,
    /// What the publisher of the quarantine counts.
    pub quarantine: Arc<PublishCounters>,
    /// Bound of what waits for the topic, bytes.
    pub buffer_bytes_max: usize,
}

impl Expose for IngestMetrics {
    fn expose(&self, page: &mut Page<'_>) {
        let counts = self.counters.read();
        let elsewhere = counts.accounts.saturating_sub(counts.live + counts.waiting);
        page.gauges(
            "ingest_accounts",
            "Accounts by how their connection stands: live, waiting for another artifact, or connecting.",
            [
                (&[("state", "live")] as Labels<'_>, counts.live),
                (&[("state", "waiting")], counts.waiting),
                (&[("state", "connecting")], elsewhere),
            ],
        );
        let control = counts.frames.saturating_sub(counts.frames_read + counts.frames_rejected + counts.frames_empty);
        page.counters(
            "ingest_frames",
            "Frames read, by what they were: at least one event, rejected as a whole, nothing but a control frame, or nothing.",
            [
                (&[("outcome", "event")] as Labels<'_>, counts.frames_read),
                (&[("outcome", "rejected")], counts.frames_rejected),
                (&[("outcome", "control")], control),
                (&[("outcome", "nothing")], counts.frames_empty),
            ],
        );
        page.counter("ingest_frame_bytes", "Bytes of the frames.", counts.bytes);
        page.counters(
            "ingest_events",
            "Events, by who said them: a frame, or ingest itself about a connection.",
            [
                (&[("source", "frame")] as Labels<'_>, counts.events.saturating_sub(counts.own_events)),
                (&[("source", "ingest")], counts.own_events),
            ],
        );
        page.counter(
            "ingest_rejected_items",
            "Frames, and items of frames, that could not be read and went to the quarantine.",
            counts.rejected,
        );
        page.counter(
            "ingest_published_messages",
            "Messages that are done: confirmed by their topic, or refused for good and set aside.",
            counts.published,
        );
        page.counter("ingest_publish_failures", "Publishes that failed and were tried again.", counts.publish_retries);
        page.counter("ingest_refused_events", "Events that the topic refused for good and the quarantine took.", counts.refused);
        page.counter("ingest_lost_messages", "Messages that the quarantine refused for good.", counts.quarantine_refused);
        page.histograms(
            "ingest_publish_seconds",
            "How long the topic took to confirm a batch, failed tries included.",
            [(&[] as Labels<'_>, self.counters.publish_took.read())],
        );
        page.gauge("ingest_buffer_messages", "Messages that wait for the topic, without those on their way.", counts.buffer_messages);
        page.gauge("ingest_buffer_bytes", "Bytes that wait for the topic, those on their way included.", counts.buffer_bytes);
        page.gauge("ingest_buffer_max_bytes", "Their bound.", self.buffer_bytes_max as u64);
        page.counters(
            "ingest_shed_events",
            "Events shed under pressure, by class: C dropped, B replaced by a newer one.",
            [(&[("class", "B")] as Labels<'_>, counts.coalesced_b), (&[("class", "C")], counts.dropped_c)],
        );
        page.counter("ingest_reader_waits", "Times that a socket was not read because the buffer was full.", counts.waits_a);
        page.seconds_counter("ingest_reader_waits_seconds", "How long, over all sockets.", Duration::from_millis(counts.waits_ms));
        page.counter("ingest_connects", "Attempts to connect.", counts.connects);
        by_reason(page, "ingest_failures", "Attempts that failed and connections that were lost, by reason.", counts.failures_by.each());
        by_reason(page, "ingest_timeouts", "Of these, steps of connecting that did not end in time.", counts.timeouts_by.each());
        by_reason(page, "ingest_gaps", "Gaps that were published, by what began them.", counts.gaps_by.each());
        page.counter("ingest_rotations", "Connections that another one replaced without a gap.", counts.rotations);
        page.counter("ingest_heartbeats_missed", "Heartbeats that were not answered in time.", counts.heartbeats_missed);
        page.counter("ingest_silences", "Connections that were left because nothing of a kind came any more.", counts.silences);
        page.counters(
            "ingest_artifacts",
            "What befell artifacts: refused by the platform, three quarters or seven eighths of their life over, ended, unusable when read.",
            [
                (&[("event", "refused")] as Labels<'_>, counts.refusals),
                (&[("event", "due")], counts.artifacts_due),
                (&[("event", "late")], counts.artifacts_late),
                (&[("event", "ended")], counts.artifacts_ended),
                (&[("event", "unusable")], counts.artifacts_unusable),
            ],
        );
        page.counters(
            "ingest_recorded_frames",
            "Frames for the recording, by what became of them.",
            [(&[("outcome", "recorded")] as Labels<'_>, counts.recorded), (&[("outcome", "dropped")], counts.record_dropped)],
        );
        let topics = [(&[("topic", "events")] as Labels<'_>, &*self.events), (&[("topic", "quarantine")], &*self.quarantine)];
        PublishCounters::expose(page, &topics);
    }
}

impl Report for IngestMetrics {
    fn summary(&self) -> String {
        let counts = self.counters.read();
        let waiting = if counts.waiting > 0 { format!(", {} wait for an artifact", counts.waiting) } else { String::new() };
        let (live, accounts, messages) = (counts.live, counts.accounts, counts.buffer_messages);
        format!("{live} of {accounts} accounts live{waiting}; {messages} messages wait for the topic")
    }

    fn given_up(&self) -> Option<String> {
        let counts = self.counters.read();
        let (messages, bytes) = (counts.buffer_messages, counts.buffer_bytes);
        (bytes > 0)
            .then(|| format!("{messages} messages and what was on its way, {bytes} bytes, that the topic had not confirmed; they are lost"))
    }
}

fn by_reason(page: &mut Page<'_>, name: &str, help: &str, each: impl Iterator<Item = (Reason, u64)>) {
    let labelled: Vec<([(&'static str, &'static str); 1], u64)> =
        each.map(|(reason, count)| ([("reason", reason.name())], count)).collect();
    page.counters(name, help, labelled.iter().map(|(labels, count)| (&labels[..], *count)));
}
