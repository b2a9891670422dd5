//! The `bus` section. The doc comments are the comments of `convpipe config default`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Durability;

/// Where events wait between ingest and state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// The engine: `embedded`, a SQLite log that the processes of one machine share, or `google`, Cloud Pub/Sub.
    pub backend: BusBackend,
    /// The embedded engine.
    pub embedded: EmbeddedBusConfig,
    /// Cloud Pub/Sub.
    pub google: GoogleBusConfig,
    /// Topic of the events.
    pub topic: String,
    /// Topic of what could not be read.
    pub quarantine_topic: String,
    /// Subscription that feeds Redis.
    pub views_subscription: String,
    /// Subscription that feeds the documents.
    pub documents_subscription: String,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            backend: BusBackend::default(),
            embedded: EmbeddedBusConfig::default(),
            google: GoogleBusConfig::default(),
            topic: "convpipe-events".into(),
            quarantine_topic: "convpipe-quarantine".into(),
            views_subscription: "convpipe-views".into(),
            documents_subscription: "convpipe-documents".into(),
        }
    }
}

impl BusConfig {
    /// Most unanswered deliveries of one subscriber, of the engine in use.
    #[must_use]
    pub const fn in_flight_max(&self) -> usize {
        match self.backend {
            BusBackend::Embedded => self.embedded.in_flight_max,
            BusBackend::Google => self.google.in_flight_max,
        }
    }

    /// Deliveries of one event beyond which it is taken for what the process dies of; as the engine in use has it.
    #[must_use]
    pub const fn attempts_max(&self) -> u32 {
        match self.backend {
            BusBackend::Embedded => self.embedded.attempts_max,
            BusBackend::Google => self.google.attempts_max,
        }
    }
}

/// The engine of the bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusBackend {
    /// A SQLite log on this machine.
    #[default]
    Embedded,
    /// Google Cloud Pub/Sub.
    Google,
}

/// The embedded engine of the bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedBusConfig {
    /// Folder of the log, created with mode 0700.
    pub dir: PathBuf,
    /// Whether a publish is confirmed once it is safe from a killed process (`normal`) or also from a power cut (`full`, slower).
    pub sync: Durability,
    /// Events older than this are deleted, seconds.
    pub retention_s: u64,
    /// When a topic's log is larger than this, its oldest events are deleted, bytes. A subscription that had not read them counts them as lost.
    pub size_max_bytes: u64,
    /// How long a delivery may stay unanswered before it is delivered again, milliseconds.
    pub lease_ms: u64,
    /// Most deliveries that one subscriber holds unanswered.
    pub in_flight_max: usize,
    /// Most bytes that one subscriber holds unanswered.
    pub in_flight_bytes_max: usize,
    /// Deliveries of one event beyond which it is taken for what the process dies of, and set aside in the quarantine. Every death of a process
    /// counts as one for all that it held.
    pub attempts_max: u32,
}

impl Default for EmbeddedBusConfig {
    fn default() -> Self {
        Self {
            dir: ".convpipe/bus".into(),
            sync: Durability::Normal,
            retention_s: 7 * 86_400,
            size_max_bytes: 4 << 30,
            lease_ms: 30_000,
            in_flight_max: 65_536,
            in_flight_bytes_max: 96 << 20,
            attempts_max: 100,
        }
    }
}

/// Cloud Pub/Sub as the engine of the bus. Topics and subscriptions are made by `convpipe provision`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GoogleBusConfig {
    /// The project that holds topics and subscriptions.
    pub project: Option<String>,
    /// Another endpoint than `https://pubsub.googleapis.com`, such as a region's.
    pub endpoint: Option<String>,
    /// `host:port` of an emulator, which is spoken to in plain text and without credentials. `PUBSUB_EMULATOR_HOST` sets it too.
    pub emulator: Option<String>,
    /// Whether messages carry an ordering key, and subscriptions keep the order of a key. Not needed for correctness.
    pub ordering: bool,
    /// Most messages in one publish request.
    pub publish_batch_max: u32,
    /// Most bytes in one publish request.
    pub publish_batch_bytes_max: u32,
    /// How long a publish request waits for more messages, milliseconds.
    pub publish_linger_ms: u64,
    /// Most messages of one publisher that the service has not confirmed.
    pub publish_in_flight_max: usize,
    /// Most bytes of one publisher that the service has not confirmed.
    pub publish_in_flight_bytes_max: usize,
    /// Longest wait for the answer to one publish request, milliseconds. After three in a row the connection is rebuilt.
    pub publish_timeout_ms: u64,
    /// How long a batch is tried again before it is reported as not confirmed, milliseconds.
    pub publish_deadline_ms: u64,
    /// How often a message is tried before its batch is reported as not confirmed.
    pub publish_attempts_max: u32,
    /// Streams of one subscriber, each with a connection of its own.
    pub streams: usize,
    /// Most deliveries that one subscriber holds unanswered.
    pub in_flight_max: usize,
    /// Most bytes that one subscriber holds unanswered.
    pub in_flight_bytes_max: usize,
    /// How far ahead the lease of an unanswered delivery is extended, seconds: how long after the death of a subscriber others get what it held.
    pub lease_s: u64,
    /// How long a delivery may stay unanswered before it is delivered again all the same, seconds.
    pub lease_max_s: u64,
    /// How long a stream may be silent while nothing is unanswered before its connection is rebuilt, seconds.
    pub silence_s: u64,
    /// Deliveries of one event beyond which it is taken for what the process dies of, and set aside in the quarantine.
    pub attempts_max: u32,
    /// How long topics and subscriptions keep a message, seconds.
    pub retention_s: u64,
    /// Topic of what was delivered `dead_letter_attempts_max` times, and name of the subscription that keeps it.
    pub dead_letter_topic: String,
    /// Deliveries after which the service itself sets a message aside: the backstop behind `attempts_max`.
    pub dead_letter_attempts_max: u32,
}

impl Default for GoogleBusConfig {
    fn default() -> Self {
        Self {
            project: None,
            endpoint: None,
            emulator: None,
            ordering: true,
            publish_batch_max: 100,
            publish_batch_bytes_max: 1_000_000,
            publish_linger_ms: 10,
            publish_in_flight_max: 8_192,
            publish_in_flight_bytes_max: 32 << 20,
            publish_timeout_ms: 10_000,
            publish_deadline_ms: 60_000,
            publish_attempts_max: 10,
            streams: 1,
            in_flight_max: 16_384,
            in_flight_bytes_max: 64 << 20,
            lease_s: 60,
            lease_max_s: 3_600,
            silence_s: 300,
            attempts_max: 50,
            retention_s: 7 * 86_400,
            dead_letter_topic: "convpipe-dead-letter".into(),
            dead_letter_attempts_max: 100,
        }
    }
}
