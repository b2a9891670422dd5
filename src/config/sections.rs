//! The typed sections of the config with their defaults. The doc comments are the comments of `convpipe config default`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::{ProviderConfig, RefreshConfig};
use super::bus::BusConfig;
use super::dashboard::DashboardConfig;
use super::health::HealthConfig;
use super::shard::Shard;
use super::trace::TraceConfig;
use crate::schema::policy::{DuePolicy, HighValuePolicy, PriorityRule, Tier, default_rules, default_tiers};

/// The whole config; every key is optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where events wait between ingest and state.
    pub bus: BusConfig,
    /// The Redis that holds the views.
    pub redis: RedisConfig,
    /// Message history and fan summaries.
    pub documents: DocumentsConfig,
    /// Session material.
    pub auth: AuthConfig,
    /// The sockets.
    pub ingest: IngestConfig,
    /// The fold and its writers.
    pub snapshot: SnapshotConfig,
    /// Message history.
    pub history: HistoryConfig,
    /// Who counts as high-value.
    pub high_value: HighValuePolicy,
    /// Value tiers, by spend.
    pub tiers: Tiers,
    /// The priority feed.
    pub priority: PriorityConfig,
    /// What differs for single accounts, by account id.
    pub accounts: BTreeMap<String, AccountConfig>,
    /// The web page of the inbox.
    pub dashboard: DashboardConfig,
    /// How the daemons are doing.
    pub health: HealthConfig,
    /// Logs.
    pub log: LogConfig,
    /// Traces.
    pub trace: TraceConfig,
}

/// What a confirmed write survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Any killed process.
    #[default]
    Normal,
    /// Also a power cut.
    Full,
}

/// The Redis that holds the views.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    /// Where it is: `redis://host:port/db`, `rediss://…` with TLS, `unix:///path`. No password here.
    pub url: String,
    /// User of the snapshot service, who writes.
    pub user: Option<String>,
    /// File with its password, mode 0600; a bare name is looked for in $CREDENTIALS_DIRECTORY first.
    pub password_file: Option<PathBuf>,
    /// User of everything that reads.
    pub reader_user: Option<String>,
    /// File with the reader's password, as above.
    pub reader_password_file: Option<PathBuf>,
    /// Prefix of every key.
    pub prefix: String,
    /// Longest wait for an answer, milliseconds. After three in a row the connection is rebuilt.
    pub timeout_ms: u64,
    /// How long a conversation is kept after its last activity, seconds.
    pub conversation_ttl_s: u64,
    /// Most accounts that are listed. The longest inactive are listed no more; what is known of them stays.
    pub accounts_max: u64,
    /// Most conversations in the inbox and among those awaiting a reply, an account.
    pub inbox_max: u64,
    /// Most timers, an account.
    pub due_max: u64,
    /// Most events in a high-value fan's stream, about.
    pub fan_events_max: u64,
    /// How long a high-value fan's stream is kept after its last event, seconds.
    pub fan_events_ttl_s: u64,
    /// Most entries in an account's priority feed, about.
    pub priority_max: u64,
    /// How long the priority feed is kept after its last entry, seconds.
    pub priority_ttl_s: u64,
    /// Most messages remembered with their conversation, an account, so that a delete finds it.
    pub message_index_max: u64,
}

impl RedisConfig {
    /// Longest `prefix`, bytes.
    pub const PREFIX_MAX: usize = 32;

    /// Whether `prefix` can begin a key: 1 to [`Self::PREFIX_MAX`] letters, digits, `-` or `_`. A brace in it would take the place of the account's
    /// hash tag.
    #[must_use]
    pub fn has_prefix(&self) -> bool {
        let prefix = self.prefix.as_bytes();
        (1..=Self::PREFIX_MAX).contains(&prefix.len()) && prefix.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".into(),
            user: None,
            password_file: None,
            reader_user: None,
            reader_password_file: None,
            prefix: "convpipe".into(),
            timeout_ms: 2_000,
            conversation_ttl_s: 30 * 86_400,
            accounts_max: 10_000,
            inbox_max: 20_000,
            due_max: 20_000,
            fan_events_max: 1_000,
            fan_events_ttl_s: 14 * 86_400,
            priority_max: 10_000,
            priority_ttl_s: 7 * 86_400,
            message_index_max: 20_000,
        }
    }
}

/// Message history and fan summaries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DocumentsConfig {
    /// The engine: `embedded`, a SQLite file, or `firestore`, Google's.
    pub backend: DocumentsBackend,
    /// The embedded engine.
    pub embedded: EmbeddedDocumentsConfig,
    /// Firestore.
    pub firestore: FirestoreConfig,
    /// How long a summary is kept after its last change, seconds.
    pub summary_ttl_s: u64,
    /// Shortest time between two writes, milliseconds: what gathers in between is written once.
    pub linger_ms: u64,
}

impl Default for DocumentsConfig {
    fn default() -> Self {
        Self {
            backend: DocumentsBackend::default(),
            embedded: EmbeddedDocumentsConfig::default(),
            firestore: FirestoreConfig::default(),
            summary_ttl_s: 365 * 86_400,
            linger_ms: 100,
        }
    }
}

/// The engine of the documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DocumentsBackend {
    /// A SQLite file on this machine.
    #[default]
    Embedded,
    /// Google Cloud Firestore.
    Firestore,
}

/// The embedded engine of the documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedDocumentsConfig {
    /// The SQLite file; its folder is created with mode 0700.
    pub path: PathBuf,
    /// Whether a write is safe from a killed process (`normal`) or also from a power cut (`full`).
    pub sync: Durability,
    /// Most messages remembered with their conversation, an account, so that a delete finds it.
    pub message_index_max: u64,
}

impl Default for EmbeddedDocumentsConfig {
    fn default() -> Self {
        Self { path: ".convpipe/documents.db".into(), sync: Durability::Normal, message_index_max: 100_000 }
    }
}

/// Firestore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FirestoreConfig {
    /// The Google Cloud project.
    pub project: Option<String>,
    /// The database in it.
    pub database: String,
    /// Another endpoint than `https://firestore.googleapis.com`, such as a region's.
    pub endpoint: Option<String>,
    /// `host:port` of an emulator, which is spoken to in plain text and without credentials. `FIRESTORE_EMULATOR_HOST` sets it too.
    pub emulator: Option<String>,
    /// Shortest time between two writes of one fan's summary, milliseconds: Firestore takes about one a second of a document.
    pub summary_interval_ms: u64,
    /// Most documents written by one request.
    pub batch_max: usize,
    /// Most bytes of documents in one request.
    pub batch_bytes_max: usize,
    /// Most requests at once of one call.
    pub concurrency_max: usize,
    /// Longest wait for one answer, milliseconds.
    pub timeout_ms: u64,
    /// How long what Firestore does not take is tried again before the call fails, milliseconds.
    pub retry_max_ms: u64,
    /// How long it is remembered that a message was deleted, seconds.
    pub delete_ttl_s: u64,
}

impl Default for FirestoreConfig {
    fn default() -> Self {
        Self {
            project: None,
            database: "(default)".into(),
            endpoint: None,
            emulator: None,
            summary_interval_ms: 1_000,
            batch_max: 400,
            batch_bytes_max: 4 << 20,
            concurrency_max: 8,
            timeout_ms: 10_000,
            retry_max_ms: 30_000,
            delete_ttl_s: 30 * 86_400,
        }
    }
}

/// Session material.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Folder of the artifacts, `<account>.json`, each with mode 0600.
    pub dir: PathBuf,
    /// How often the folder is looked at for new artifacts, milliseconds.
    pub watch_ms: u64,
    /// When artifacts are renewed.
    pub refresh: RefreshConfig,
    /// Where new artifacts come from, by a name of your choice.
    pub providers: BTreeMap<String, ProviderConfig>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { dir: ".convpipe/auth".into(), watch_ms: 2_000, refresh: RefreshConfig::default(), providers: BTreeMap::new() }
    }
}

/// The sockets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Whether events carry the source item.
    pub raw: bool,
    /// Longest wait for the TCP and TLS connection and the handshake, each, milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for the platform's `connected`, milliseconds.
    pub connected_timeout_ms: u64,
    /// Time between two heartbeats, milliseconds.
    pub heartbeat_ms: u64,
    /// Longest wait for a heartbeat's answer, milliseconds; two missed end the connection.
    pub heartbeat_timeout_ms: u64,
    /// Shortest wait before a new attempt, milliseconds; doubles with every failure, with full jitter.
    pub backoff_min_ms: u64,
    /// Longest wait before a new attempt, milliseconds.
    pub backoff_max_ms: u64,
    /// How long a connection has to live before the wait starts over, milliseconds.
    pub backoff_reset_ms: u64,
    /// Longest wait where the platform wants less of us (HTTP 429, close code 1008), milliseconds; the shortest is half of it.
    pub backoff_slow_ms: u64,
    /// Accounts that start together are spread over this many milliseconds for each of them.
    pub start_spread_ms: u64,
    /// Silence of a kind of event that is shorter is never too long, milliseconds.
    pub silence_min_ms: u64,
    /// Silence is too long at this many of the account's own mean distances between two events of the kind. 0: never.
    pub silence_factor: u64,
    /// PEM file of certificate authorities that are trusted besides the machine's, for a platform of your own.
    pub ca_file: Option<PathBuf>,
    /// The part of the accounts that this process serves, such as `1/3`; each account belongs to exactly one. All, where it is not set.
    pub shard: Option<Shard>,
    /// Folder in which is remembered when each account was last heard of, so that a gap after a restart has a beginning.
    pub state_dir: PathBuf,
    /// Recordings of what comes over the sockets.
    pub record: RecordConfig,
    /// Largest message, bytes; of a larger one the beginning and the length are quarantined, and the stream goes on.
    pub message_max_bytes: usize,
    /// Largest frame, bytes.
    pub frame_max_bytes: usize,
    /// Deepest nesting of a frame's JSON.
    pub depth_max: usize,
    /// Memory for events that wait for the bus, bytes. At half of it class C is dropped, at three quarters class B is coalesced, when it is full
    /// the sockets are not read.
    pub buffer_max_bytes: usize,
    /// Most events published at once.
    pub publish_batch_max: usize,
    /// How long a stop may take, seconds.
    pub drain_timeout_s: u64,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            raw: true,
            connect_timeout_ms: 10_000,
            connected_timeout_ms: 10_000,
            heartbeat_ms: 20_000,
            heartbeat_timeout_ms: 5_000,
            backoff_min_ms: 1_000,
            backoff_max_ms: 60_000,
            backoff_reset_ms: 60_000,
            backoff_slow_ms: 300_000,
            start_spread_ms: 10,
            silence_min_ms: 600_000,
            silence_factor: 20,
            ca_file: None,
            shard: None,
            state_dir: ".convpipe/ingest".into(),
            record: RecordConfig::default(),
            message_max_bytes: 4 << 20,
            frame_max_bytes: 1 << 20,
            depth_max: 64,
            buffer_max_bytes: 8 << 20,
            publish_batch_max: 2_048,
            drain_timeout_s: 10,
        }
    }
}

/// Recordings of what comes over the sockets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecordConfig {
    /// Folder of the recordings, made with mode 0700. Nothing is recorded where it is not set.
    pub dir: Option<PathBuf>,
    /// Whether names, texts, ids and media are replaced, so that a recording can be shared.
    pub scrub: bool,
    /// File with the key of the replacements, mode 0600: runs with the same key replace the same by the same. Without one each run has its own.
    pub key_file: Option<PathBuf>,
    /// Longest time until a frame is in its file, milliseconds.
    pub flush_ms: u64,
    /// A file that is larger than this is followed by a new one, bytes.
    pub file_max_bytes: u64,
    /// A file that is older than this is followed by a new one, seconds.
    pub file_max_s: u64,
    /// When all files are larger than this, the oldest are deleted, bytes.
    pub size_max_bytes: u64,
    /// Files whose last frame is older than this are deleted, seconds.
    pub age_max_s: u64,
    /// Memory for frames that wait to be written, bytes. When it is full, frames are not recorded, and counted.
    pub queue_max_bytes: usize,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            dir: None,
            scrub: false,
            key_file: None,
            flush_ms: 1_000,
            file_max_bytes: 64 << 20,
            file_max_s: 3_600,
            size_max_bytes: 1 << 30,
            age_max_s: 7 * 86_400,
            queue_max_bytes: 16 << 20,
        }
    }
}

/// The fold and its writers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// Lanes that fold and write side by side; a conversation always takes the same one.
    pub lanes: usize,
    /// Most events folded into one write.
    pub batch_max: usize,
    /// Most bytes of conversation states that each consumer keeps in memory, over all lanes.
    pub states_max_bytes: usize,
    /// How often timers are looked at, milliseconds.
    pub due_ms: u64,
    /// Age beyond which an event raises no entry in the priority feed, seconds.
    pub freshness_s: u64,
    /// How long a stop may take, seconds.
    pub drain_timeout_s: u64,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { lanes: 4, batch_max: 8_192, states_max_bytes: 24 << 20, due_ms: 1_000, freshness_s: 600, drain_timeout_s: 10 }
    }
}

/// Message history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Whose messages are kept: `all`, or those of `high_value` fans.
    pub scope: HistoryScope,
    /// How long a message is kept, seconds.
    pub ttl_s: u64,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { scope: HistoryScope::All, ttl_s: 365 * 86_400 }
    }
}

/// Whose messages are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HistoryScope {
    /// Everybody's.
    #[default]
    All,
    /// Those of high-value fans.
    HighValue,
}

/// Value tiers, by spend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Tiers(pub Vec<Tier>);

impl Default for Tiers {
    fn default() -> Self {
        Self(default_tiers())
    }
}

/// The priority feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PriorityConfig {
    /// The rules; the most urgent level of those that match is the entry's. Setting this replaces all of them.
    pub rules: Vec<PriorityRule>,
    /// The timers.
    pub due: DuePolicy,
}

impl Default for PriorityConfig {
    fn default() -> Self {
        Self { rules: default_rules(), due: DuePolicy::default() }
    }
}

/// What differs for one account. What is absent is as for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccountConfig {
    /// Who counts as high-value.
    pub high_value: Option<HighValuePolicy>,
    /// Value tiers.
    pub tiers: Option<Tiers>,
    /// The rules of the priority feed.
    pub rules: Option<Vec<PriorityRule>>,
    /// The timers.
    pub due: Option<DuePolicy>,
    /// Where its artifacts come from, a name in `auth.providers`.
    pub auth_provider: Option<String>,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What is logged: `info`, `debug`, or a filter such as `info,convpipe::ws=debug`.
    pub filter: String,
    /// `auto` (text on a terminal, else JSON), `text` or `json`.
    pub format: LogFormat,
    /// Most records that one place in the code writes within `repeat_s`, `debug` and `trace` left out; of more the number is told. 0: no limit.
    pub repeat_max: u64,
    /// The time over which they are counted, seconds.
    pub repeat_s: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Auto, repeat_max: 50, repeat_s: 10 }
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Always text.
    Text,
    /// Always JSON.
    Json,
}
