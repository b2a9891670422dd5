//! Looks now and then at what nobody is told of: how much waits in the subscriptions, and how full Redis is.
//!
//! Invariant: it only looks. Where something cannot be looked at, what was seen last is forgotten rather than repeated.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::bus::Bus;
use crate::runtime::health::Pulse;
use crate::views::Writer;

use super::counters::SnapshotCounters;

/// Between two looks: often enough for an alert, seldom enough to cost nothing.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Longest look; a service may try again for longer than anybody wants to know.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// How Redis stood at the last look.
#[derive(Debug, Default)]
pub struct RedisGauges {
    /// It answered.
    pub answers: AtomicBool,
    /// Bytes in use; 0 where it may not be asked.
    pub used_bytes: AtomicU64,
    /// Its bound; 0 where there is none.
    pub max_bytes: AtomicU64,
    /// Keys that it evicted.
    pub evicted_keys: AtomicU64,
}

/// What looks.
pub(super) struct Sampler {
    /// The bus.
    pub(super) bus: Bus,
    /// The topic of the events.
    pub(super) topic: String,
    /// Its subscriptions, and where their backlog is noted.
    pub(super) consumers: Vec<(String, Arc<SnapshotCounters>)>,
    /// Redis, and where its memory is noted.
    pub(super) redis: Option<(Writer, Arc<RedisGauges>)>,
}

impl Sampler {
    /// Looks until it is dropped.
    pub(super) async fn run(self, pulse: Pulse) {
        loop {
            for (subscription, counters) in &self.consumers {
                let looking = timeout(LOOK_MAX, self.bus.backlog(&self.topic, subscription));
                let seen = pulse.step(looking).await.ok().and_then(Result::ok);
                *counters.backlog.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            }
            if let Some((writer, gauges)) = &self.redis {
                pulse.step(look_at_redis(writer, gauges)).await;
            }
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
    }
}

async fn look_at_redis(writer: &Writer, gauges: &RedisGauges) {
    match writer.memory().await {
        Ok(memory) => {
            gauges.answers.store(true, Relaxed);
            gauges.used_bytes.store(memory.used_bytes, Relaxed);
            gauges.max_bytes.store(memory.max_bytes, Relaxed);
            gauges.evicted_keys.store(memory.evicted_keys, Relaxed);
        }
        Err(error) => {
            // One that says no has answered.
            gauges.answers.store(!error.is_transient(), Relaxed);
            gauges.used_bytes.store(0, Relaxed);
            tracing::debug!(%error, "redis does not tell how much memory it uses");
        }
    }
}
