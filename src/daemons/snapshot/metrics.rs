//! What snapshot shows on `/metrics`, by consumer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use super::counters::SnapshotCounters;
use super::sample::RedisGauges;
use crate::bus::{self, Backlog, PublishCounters};
use crate::documents::Documents;
use crate::runtime::exposition::{Expose, Labels, Page};
use crate::runtime::histogram::Histogram;
use crate::runtime::supervise::Report;

/// The numbers of one snapshot.
pub struct SnapshotMetrics {
    /// What `views` counts, where it runs.
    pub views: Option<Arc<SnapshotCounters>>,
    /// What `documents` counts, where it runs.
    pub documents: Option<Arc<SnapshotCounters>>,
    /// How Redis stands.
    pub redis: Arc<RedisGauges>,
    /// The store, which counts what it asks a service for.
    pub store: Documents,
    /// Bound of the deliveries that one consumer holds.
    pub in_flight_max: usize,
}

type Consumers<'a> = Vec<(Labels<'static>, &'a SnapshotCounters)>;

impl Expose for SnapshotMetrics {
    fn expose(&self, page: &mut Page<'_>) {
        let all: [(Labels<'static>, _); 2] = [(&[("consumer", "views")], &self.views), (&[("consumer", "documents")], &self.documents)];
        let consumers: Consumers<'_> = all.iter().filter_map(|(labels, counters)| Some((*labels, counters.as_deref()?))).collect();
        deliveries(page, &consumers);
        writes(page, &consumers);
        backlog(page, &consumers);
        page.gauge("snapshot_in_flight_max_messages", "Bound of the deliveries that a consumer holds.", self.in_flight_max as u64);
        let subscribers: Vec<(Labels<'_>, &bus::Counters)> =
            consumers.iter().filter_map(|(labels, counters)| Some((*labels, &**counters.subscriber.get()?))).collect();
        bus::Counters::expose(page, &subscribers);
        let publishers: Vec<(Labels<'_>, &PublishCounters)> =
            consumers.iter().filter_map(|(labels, counters)| Some((*labels, &**counters.quarantine.get()?))).collect();
        PublishCounters::expose(page, &publishers);
        if self.views.is_some() {
            self.redis(page);
        }
        self.firestore(page);
    }
}

impl Report for SnapshotMetrics {
    fn summary(&self) -> String {
        let of = |name: &str, counters: &Option<Arc<SnapshotCounters>>| {
            let counters = counters.as_ref()?;
            let waiting = (*counters.backlog.lock().unwrap_or_else(PoisonError::into_inner)).and_then(|backlog| backlog.messages);
            let waiting = waiting.map_or_else(String::new, |messages| format!("{messages} wait, "));
            Some(format!("{name}: {waiting}{} in flight", in_flight(counters)))
        };
        [of("views", &self.views), of("documents", &self.documents)].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    fn given_up(&self) -> Option<String> {
        let left: u64 = [&self.views, &self.documents].into_iter().flatten().map(|counters| in_flight(counters)).sum();
        (left > 0).then(|| format!("{left} deliveries that were not answered; they are delivered again"))
    }
}

fn in_flight(counters: &SnapshotCounters) -> u64 {
    counters.subscriber.get().map_or(0, |subscriber| subscriber.in_flight())
}

fn deliveries(page: &mut Page<'_>, consumers: &Consumers<'_>) {
    let mut counters = |name: &str, help: &str, value: fn(&SnapshotCounters) -> &AtomicU64| {
        page.counters(name, help, consumers.iter().map(|(labels, counters)| (*labels, value(counters).load(Relaxed))));
    };
    counters("snapshot_delivered_messages", "Deliveries taken from the subscription.", |c| &c.delivered);
    counters("snapshot_redelivered_messages", "Of these, deliveries that were not the first of their message.", |c| &c.redelivered);
    counters("snapshot_acked_messages", "Deliveries acked after they were written.", |c| &c.acked);
    counters("snapshot_poison_messages", "Deliveries set aside in the quarantine.", |c| &c.poison);
    counters("snapshot_new_events", "Events that were new to a state.", |c| &c.new);
    counters("snapshot_seen_events", "Events that a state had seen before.", |c| &c.seen);
    counters("snapshot_stale_events", "Events too old to change anything.", |c| &c.stale);
    counters("snapshot_clamped_events", "Events whose time lay too far ahead.", |c| &c.clamped);
    counters("snapshot_window_misses", "Memories of a state for which an event was too old.", |c| &c.window_misses);
    counters("snapshot_deletes_unresolved", "Deletes of messages that the store does not know.", |c| &c.deletes_unresolved);
}

fn writes(page: &mut Page<'_>, consumers: &Consumers<'_>) {
    let mut counters = |name: &str, help: &str, value: fn(&SnapshotCounters) -> &AtomicU64| {
        page.counters(name, help, consumers.iter().map(|(labels, counters)| (*labels, value(counters).load(Relaxed))));
    };
    counters("snapshot_batches", "Batches written.", |c| &c.batches);
    counters("snapshot_writes", "Conversations or summaries written.", |c| &c.writes);
    counters("snapshot_write_conflicts", "Writes that another writer was faster with, and that were folded again.", |c| &c.conflicts);
    counters("snapshot_write_retries", "Batches tried again because the store failed.", |c| &c.retries);
    counters("snapshot_refilled_states", "States filled from the documents.", |c| &c.refilled);
    counters("snapshot_refill_failures", "States that the documents could not be asked for.", |c| &c.refill_failed);
    counters("snapshot_due_timers", "Timers raised.", |c| &c.due);
    let mut latencies = |name: &str, help: &str, value: fn(&SnapshotCounters) -> &Histogram| {
        page.histograms(name, help, consumers.iter().map(|(labels, counters)| (*labels, value(counters).read())));
    };
    latencies("snapshot_write_seconds", "How long a batch took until it was acked, failed tries included.", |c| &c.write_took);
    latencies("snapshot_lag_seconds", "How long after its frame was read an event was written.", |c| &c.lag);
}

fn backlog(page: &mut Page<'_>, consumers: &Consumers<'_>) {
    let seen: Vec<(Labels<'_>, Backlog)> = consumers
        .iter()
        .filter_map(|(labels, counters)| Some((*labels, (*counters.backlog.lock().unwrap_or_else(PoisonError::into_inner))?)))
        .collect();
    page.gauges(
        "snapshot_backlog_messages",
        "Messages that the subscription has not acked, at the last look; left out where the engine cannot tell.",
        seen.iter().filter_map(|(labels, backlog)| Some((*labels, backlog.messages?))),
    );
    page.gauges(
        "snapshot_oldest_unacked_seconds",
        "How long ago the oldest of them was published, at most; 0 where there is none.",
        seen.iter().map(|(labels, backlog)| (*labels, backlog.oldest_age.unwrap_or_default().as_secs_f64())),
    );
}

impl SnapshotMetrics {
    fn redis(&self, page: &mut Page<'_>) {
        let redis = &self.redis;
        page.gauge("redis_up", "Whether Redis answered at the last look.", u64::from(redis.answers.load(Relaxed)));
        page.gauge("redis_used_bytes", "Memory that Redis uses; 0 where it may not be asked.", redis.used_bytes.load(Relaxed));
        page.gauge("redis_max_bytes", "Its bound, `maxmemory`; 0 where there is none.", redis.max_bytes.load(Relaxed));
        page.counter(
            "redis_evicted_keys",
            "Keys that Redis evicted since it started; any is one too many.",
            redis.evicted_keys.load(Relaxed),
        );
    }

    /// Nothing, with another engine.
    fn firestore(&self, page: &mut Page<'_>) {
        let Documents::Firestore(firestore) = &self.store else { return };
        let asked = firestore.counters();
        let mut counter = |name: &str, help: &str, value: &AtomicU64| page.counter(name, help, value.load(Relaxed));
        counter("firestore_reads", "Documents read, and queries that found none.", &asked.reads);
        counter("firestore_writes", "Documents written.", &asked.writes);
        counter("firestore_write_conflicts", "Writes whose precondition did not hold.", &asked.unmet);
        counter("firestore_write_retries", "Writes sent again because Firestore did not take them the first time.", &asked.retried);
        counter("firestore_throttled", "Requests that were throttled, wholly or in part.", &asked.throttled);
    }
}
