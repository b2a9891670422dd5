//! Records that one place in the code writes again and again: some of them, and then how many more there were.
//!
//! Owns the count of each place. Does not own what is logged at all (the filter), nor `debug` and `trace`: who asks for those wants all of them.
//! Invariants: no record is dropped without its number being told, at the latest when the process ends; what is kept is bounded by the places that the
//! program has.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite};
use tracing_subscriber::layer::{Context, Layer};

/// Limits repeated records; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Records of one place within [`Self::every_ms`]; 0 for no limit.
    max: AtomicU64,
    every_ms: AtomicU64,
    places: Mutex<HashMap<callsite::Identifier, Place>>,
}

#[derive(Debug)]
struct Place {
    since: Instant,
    count: u64,
    /// Dropped, and not told yet.
    dropped: u64,
    /// What the first of these said, without its fields.
    message: String,
    level: Level,
}

impl Repeats {
    /// At most `max` records of one place within `every`.
    pub fn limit(&self, max: u64, every: Duration) {
        self.shared.max.store(max, Relaxed);
        self.shared.every_ms.store(u64::try_from(every.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Tells what was dropped by places whose time is over; with `all`, by every place.
    pub fn tell(&self, all: bool) {
        let every = self.every();
        let mut told = Vec::new();
        for (place, seen) in self.places().iter_mut() {
            if seen.dropped > 0 && (all || seen.since.elapsed() >= every) {
                let metadata = place.0.metadata();
                let at = format!("{}:{}", metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default());
                told.push((seen.level, at, std::mem::take(&mut seen.dropped), std::mem::take(&mut seen.message)));
            }
        }
        // Without the lock, which each of these takes.
        for (level, at, repeated, message) in told {
            match level {
                Level::ERROR => tracing::error!(repeated, at, "… repeated {repeated} times: {message}"),
                Level::WARN => tracing::warn!(repeated, at, "… repeated {repeated} times: {message}"),
                _ => tracing::info!(repeated, at, "… repeated {repeated} times: {message}"),
            }
        }
    }

    fn every(&self) -> Duration {
        Duration::from_millis(self.shared.every_ms.load(Relaxed))
    }

    fn is_taken(&self, event: &Event<'_>) -> bool {
        let (metadata, max) = (event.metadata(), self.shared.max.load(Relaxed));
        if max == 0 || *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let (now, every) = (Instant::now(), self.every());
        let mut places = self.places();
        let place = places.entry(metadata.callsite()).or_insert_with(|| Place {
            since: now,
            count: 0,
            dropped: 0,
            message: String::new(),
            level: *metadata.level(),
        });
        if now.saturating_duration_since(place.since) >= every {
            (place.since, place.count) = (now, 0);
        }
        place.count += 1;
        if place.count <= max {
            return true;
        }
        if place.dropped == 0 {
            event.record(&mut Message(&mut place.message));
        }
        place.dropped += 1;
        false
    }

    /// No code that can panic runs under the lock but the formatting of a message, and that leaves the map whole.
    fn places(&self) -> MutexGuard<'_, HashMap<callsite::Identifier, Place>> {
        self.shared.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.is_taken(event)
    }
}

struct Message<'t>(&'t mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.clear();
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}
