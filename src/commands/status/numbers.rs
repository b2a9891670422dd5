//! What a daemon's metrics say, typed: rates between two looks, and how things stand at the second.
//!
//! Invariant: what a daemon does not tell, or what only one look cannot tell, is `None`; nothing is guessed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::look::{Look, Seen};
use super::target::Daemon;
use crate::runtime::samples::Samples;
use crate::schema::time::Millis;

/// One daemon as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::commands) struct Standing {
    pub(in crate::commands) daemon: Daemon,
    /// `None` where the config has none that could be asked.
    pub(in crate::commands) address: Option<String>,
    pub(in crate::commands) state: State,
    /// Why it is in another state than ready, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) reasons: Vec<String>,
    /// That it is not there is a finding.
    #[serde(skip)]
    pub(in crate::commands) is_expected: bool,
    pub(in crate::commands) version: Option<String>,
    #[serde(rename = "up_s", serialize_with = "seconds")]
    pub(in crate::commands) up: Option<Duration>,
    pub(in crate::commands) resident_bytes: Option<u64>,
    pub(in crate::commands) open_files: Option<u64>,
    pub(in crate::commands) max_files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) ingest: Option<Ingest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) consumers: Vec<Consumer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) redis: Option<RedisOfSnapshot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) auth_refresh: Option<Refresh>,
}

/// What stands at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::commands) enum State {
    /// It does its work.
    Ready,
    /// It is there and does not: something is missing, it starts or it stops.
    NotReady,
    /// A loop of it does not go on.
    Stalled,
    /// Nobody answers.
    Down,
    /// Somebody is there and does not answer in time.
    Hangs,
    /// Somebody else answers.
    Foreign,
    /// The config has no address that could be asked.
    Off,
}

/// Of ingest. Rates a second, the rest since it started, or as it stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(in crate::commands) struct Ingest {
    pub(in crate::commands) frames_per_s: Option<f64>,
    pub(in crate::commands) events_per_s: Option<f64>,
    pub(in crate::commands) published_per_s: Option<f64>,
    pub(in crate::commands) shed_per_s: Option<f64>,
    pub(in crate::commands) publish_failures_per_s: Option<f64>,
    /// How long 99 of a hundred publishes took at most.
    #[serde(rename = "publish_p99_s", serialize_with = "seconds")]
    pub(in crate::commands) publish_p99: Option<Duration>,
    /// How long the oldest message has been on its way to the topic.
    #[serde(rename = "publish_oldest_s", serialize_with = "seconds")]
    pub(in crate::commands) publish_oldest: Option<Duration>,
    pub(in crate::commands) buffer_bytes: Option<u64>,
    pub(in crate::commands) buffer_max_bytes: Option<u64>,
    pub(in crate::commands) live: Option<u64>,
    pub(in crate::commands) connecting: Option<u64>,
    pub(in crate::commands) waiting: Option<u64>,
    pub(in crate::commands) gaps: Option<u64>,
    pub(in crate::commands) failures: Option<u64>,
    pub(in crate::commands) rejected: Option<u64>,
    pub(in crate::commands) lost: Option<u64>,
}

/// Of one of the two consumers of snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(in crate::commands) struct Consumer {
    pub(in crate::commands) consumer: &'static str,
    pub(in crate::commands) delivered_per_s: Option<f64>,
    pub(in crate::commands) applied_per_s: Option<f64>,
    pub(in crate::commands) retries_per_s: Option<f64>,
    pub(in crate::commands) poison_per_s: Option<f64>,
    /// Messages that are not acked, where the engine can tell.
    pub(in crate::commands) backlog: Option<u64>,
    #[serde(rename = "oldest_unacked_s", serialize_with = "seconds")]
    pub(in crate::commands) oldest_unacked: Option<Duration>,
    /// How long after its frame was read an event was written: half of them, and 99 of a hundred, at most.
    #[serde(rename = "lag_p50_s", serialize_with = "seconds")]
    pub(in crate::commands) lag_p50: Option<Duration>,
    #[serde(rename = "lag_p99_s", serialize_with = "seconds")]
    pub(in crate::commands) lag_p99: Option<Duration>,
    pub(in crate::commands) redelivered: Option<u64>,
    pub(in crate::commands) conflicts: Option<u64>,
    pub(in crate::commands) retries: Option<u64>,
    pub(in crate::commands) poison: Option<u64>,
    pub(in crate::commands) lost: Option<u64>,
}

/// Redis, as snapshot has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct RedisOfSnapshot {
    pub(in crate::commands) up: Option<bool>,
    pub(in crate::commands) evicted_keys: Option<u64>,
}

/// Of auth-refresh.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(in crate::commands) struct Refresh {
    /// How many accounts are in each standing; those that have any.
    pub(in crate::commands) accounts: BTreeMap<String, u64>,
    pub(in crate::commands) failing: Option<u64>,
    pub(in crate::commands) soonest_end: Option<Millis>,
    pub(in crate::commands) oldest_artifact: Option<Millis>,
}

impl Standing {
    /// One of which nothing is known but its state.
    fn blank(daemon: Daemon, state: State) -> Self {
        Self {
            daemon,
            address: None,
            state,
            reasons: Vec::new(),
            is_expected: daemon.is_needed(),
            version: None,
            up: None,
            resident_bytes: None,
            open_files: None,
            max_files: None,
            ingest: None,
            consumers: Vec::new(),
            redis: None,
            auth_refresh: None,
        }
    }

    /// How a daemon stands at `now`, by a look, and by one that was a moment earlier where there is one.
    pub(in crate::commands) fn of(look: &Look, before: Option<&Look>, now: Millis) -> Self {
        let (state, reasons) = match &look.seen {
            Seen::NoAddress => (State::Off, Vec::new()),
            Seen::Down(why) => (State::Down, vec![why.clone()]),
            Seen::Hangs(why) => (State::Hangs, vec![why.clone()]),
            Seen::Foreign(what) => (State::Foreign, vec![what.clone()]),
            Seen::Up(up) if !up.stalled.is_empty() => (State::Stalled, up.stalled.clone()),
            Seen::Up(up) if !up.missing.is_empty() => (State::NotReady, up.missing.clone()),
            Seen::Up(_) => (State::Ready, Vec::new()),
        };
        let address = look.target.address.as_ref().map(ToString::to_string);
        let mut standing = Self { address, reasons, is_expected: look.target.is_expected, ..Self::blank(look.target.daemon, state) };
        let Some(samples) = look.samples() else { return standing };
        let numbers = Numbers { now: samples, before: before.and_then(|before| look.since(before)) };
        standing.version = samples.by("daemon", "version").next().map(|(version, _)| version.chars().take(32).collect());
        standing.up = samples.value("start_timestamp_seconds", &[]).and_then(|started| {
            let ms = now.0 as f64 - started * 1000.0;
            Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).ok()
        });
        standing.resident_bytes = numbers.count("process_resident_bytes", &[]);
        standing.open_files = numbers.count("process_open_files", &[]);
        standing.max_files = numbers.count("process_max_files", &[]);
        match look.target.daemon {
            Daemon::Ingest => standing.ingest = Some(numbers.ingest()),
            Daemon::Snapshot => {
                // One process may run one of them, and another the other.
                let runs = |consumer: &&str| samples.value("snapshot_delivered_messages_total", &[("consumer", consumer)]).is_some();
                standing.consumers = ["views", "documents"].into_iter().filter(runs).map(|consumer| numbers.consumer(consumer)).collect();
                standing.redis = Some(RedisOfSnapshot {
                    up: samples.value("redis_up", &[]).map(|up| up > 0.0),
                    evicted_keys: numbers.count("redis_evicted_keys_total", &[]),
                });
            }
            Daemon::AuthRefresh => standing.auth_refresh = Some(numbers.refresh()),
            Daemon::Dashboard => {}
        }
        standing
    }
}

/// Labels that a series has to have.
type Labels<'a> = &'a [(&'a str, &'a str)];

struct Numbers<'a> {
    now: &'a Samples,
    before: Option<(&'a Samples, Duration)>,
}

impl Numbers<'_> {
    fn ingest(&self) -> Ingest {
        let events: Labels<'_> = &[("topic", "events")];
        Ingest {
            frames_per_s: self.rate("ingest_frames_total", &[]),
            events_per_s: self.rate("ingest_events_total", &[]),
            published_per_s: self.rate("bus_published_messages_total", events),
            shed_per_s: self.rate("ingest_shed_events_total", &[]),
            publish_failures_per_s: self.rate("ingest_publish_failures_total", &[]),
            publish_p99: self.quantile("ingest_publish_seconds", &[], 0.99),
            publish_oldest: self.length("bus_publish_oldest_seconds", events),
            buffer_bytes: self.count("ingest_buffer_bytes", &[]),
            buffer_max_bytes: self.count("ingest_buffer_max_bytes", &[]),
            live: self.count("ingest_accounts", &[("state", "live")]),
            connecting: self.count("ingest_accounts", &[("state", "connecting")]),
            waiting: self.count("ingest_accounts", &[("state", "waiting")]),
            gaps: self.count("ingest_gaps_total", &[]),
            failures: self.count("ingest_failures_total", &[]),
            rejected: self.count("ingest_rejected_items_total", &[]),
            lost: self.count("ingest_lost_messages_total", &[]),
        }
    }

    fn consumer(&self, consumer: &'static str) -> Consumer {
        let of: Labels<'_> = &[("consumer", consumer)];
        Consumer {
            consumer,
            delivered_per_s: self.rate("snapshot_delivered_messages_total", of),
            applied_per_s: self.rate("snapshot_acked_messages_total", of),
            retries_per_s: self.rate("snapshot_write_retries_total", of),
            poison_per_s: self.rate("snapshot_poison_messages_total", of),
            backlog: self.count("snapshot_backlog_messages", of),
            oldest_unacked: self.length("snapshot_oldest_unacked_seconds", of),
            lag_p50: self.quantile("snapshot_lag_seconds", of, 0.5),
            lag_p99: self.quantile("snapshot_lag_seconds", of, 0.99),
            redelivered: self.count("snapshot_redelivered_messages_total", of),
            conflicts: self.count("snapshot_write_conflicts_total", of),
            retries: self.count("snapshot_write_retries_total", of),
            poison: self.count("snapshot_poison_messages_total", of),
            lost: self.count("bus_lost_messages_total", of),
        }
    }

    fn refresh(&self) -> Refresh {
        let standings = self.now.by("auth_refresh_accounts", "status").filter(|(_, accounts)| *accounts > 0.0);
        let time = |name: &str| self.now.value(name, &[]).map(|seconds| Millis((seconds * 1000.0) as i64));
        Refresh {
            accounts: standings.map(|(standing, accounts)| (standing.to_owned(), accounts as u64)).collect(),
            failing: self.count("auth_refresh_failing_accounts", &[]),
            soonest_end: time("auth_refresh_soonest_end_timestamp_seconds"),
            oldest_artifact: time("auth_refresh_oldest_artifact_timestamp_seconds"),
        }
    }

    /// All series of a name together.
    fn count(&self, name: &str, labels: Labels<'_>) -> Option<u64> {
        self.now.sum(name, labels).map(|value| value as u64)
    }

    fn length(&self, name: &str, labels: Labels<'_>) -> Option<Duration> {
        self.now.value(name, labels).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// How fast a counter grew since the earlier look.
    fn rate(&self, name: &str, labels: Labels<'_>) -> Option<f64> {
        let (before, elapsed) = self.before?;
        let grown = self.now.sum(name, labels)? - before.sum(name, labels)?;
        // What is told of a rate is never more exact than this.
        (grown >= 0.0).then(|| (grown / elapsed.as_secs_f64() * 100.0).round() / 100.0)
    }

    /// Of what happened since the earlier look; with one look alone, nothing.
    fn quantile(&self, name: &str, labels: Labels<'_>, share: f64) -> Option<Duration> {
        let (before, _) = self.before?;
        self.now.quantile(name, labels, share, Some(before))
    }
}

/// Seconds as a number; what is beyond the last bucket is none, and told among the problems.
pub(super) fn seconds<S: Serializer>(length: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    length.filter(|length| *length < Duration::MAX).map(|length| length.as_secs_f64()).serialize(serializer)
}

/// A daemon at 127.0.0.1:7081 of which nothing else is known.
#[cfg(test)]
pub(in crate::commands) fn blank(daemon: Daemon, state: State) -> Standing {
    Standing { address: (state != State::Off).then(|| "127.0.0.1:7081".to_owned()), ..Standing::blank(daemon, state) }
}
