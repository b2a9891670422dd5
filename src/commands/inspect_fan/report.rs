//! What was found of a fan in one account, and where: the shape of `-o json`.

use serde::Serialize;
use serde_json::Value;

use crate::commands::streams::{Entry, with_id};
use crate::documents::HistoryCursor;
use crate::schema::document::{FanSummary, MessageDocument};
use crate::schema::time::Millis;
use crate::schema::view::{ConversationSnapshot, GapView};

/// One fan in one account.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The account.
    pub(super) account_id: String,
    /// The fan.
    pub(super) fan_id: String,
    /// From Redis.
    pub(super) snapshot: Option<ConversationSnapshot>,
    /// From the documents.
    pub(super) summary: Option<FanSummary>,
    /// From the documents, oldest first.
    pub(super) messages: Vec<MessageDocument>,
    /// From Redis, oldest first, each with its `stream_id`.
    #[serde(serialize_with = "values")]
    pub(super) events: Vec<Entry>,
    /// The account's newest gap, from Redis; where it lies after the fan's last event, the snapshot is stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gap: Option<GapView>,
    /// Of each section, where it comes from.
    pub(super) sources: Vec<Source>,
    /// The snapshot as it is stored.
    #[serde(skip)]
    pub(super) raw_snapshot: Option<String>,
    /// Where the messages before these begin, where the window has any.
    #[serde(skip)]
    pub(super) older: Option<HistoryCursor>,
}

/// One message alone, with whose it is, which its document does not say.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    account_id: &'a str,
    fan_id: &'a str,
    #[serde(flatten)]
    document: &'a MessageDocument,
}

impl<'a> Message<'a> {
    /// Those of a report.
    pub(super) fn all(report: &'a Report) -> impl Iterator<Item = Self> {
        let (account_id, fan_id) = (report.account_id.as_str(), report.fan_id.as_str());
        report.messages.iter().map(move |document| Self { account_id, fan_id, document })
    }
}

/// Where one section comes from.
#[derive(Debug, Serialize)]
pub(super) struct Source {
    /// The section.
    pub(super) name: Section,
    /// The store.
    pub(super) store: Store,
    /// Whether it could be read.
    pub(super) state: State,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// Its revision, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rev: Option<u64>,
    /// How long ago it was written, or for messages and events how old the newest is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) age_ms: Option<i64>,
}

/// A section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Section {
    /// The current state.
    Snapshot,
    /// The summary.
    Summary,
    /// Chat history.
    Messages,
    /// The high-value stream.
    Events,
}

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Store {
    /// Redis.
    Redis,
    /// The documents.
    Documents,
}

/// Whether a section could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It is there.
    Ok,
    /// The store does not have it.
    Absent,
    /// The store cannot be asked.
    Unreachable,
    /// The store has something else there than this version writes.
    Unreadable,
}

impl Section {
    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Summary => "summary",
            Self::Messages => "messages",
            Self::Events => "events",
        }
    }

    /// Where it is kept.
    pub(super) const fn store(self) -> Store {
        match self {
            Self::Snapshot | Self::Events => Store::Redis,
            Self::Summary | Self::Messages => Store::Documents,
        }
    }
}

impl Store {
    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Documents => "documents",
        }
    }
}

impl Report {
    /// Nothing is known yet.
    pub(super) fn new(account: &str, fan: &str) -> Self {
        Self {
            account_id: account.to_owned(),
            fan_id: fan.to_owned(),
            snapshot: None,
            summary: None,
            messages: Vec::new(),
            events: Vec::new(),
            gap: None,
            sources: Vec::new(),
            raw_snapshot: None,
            older: None,
        }
    }

    /// Whether any store has anything of the fan.
    pub(super) fn is_found(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.state, State::Ok | State::Unreadable))
    }

    /// Where a section comes from.
    pub(super) fn source(&self, section: Section) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == section)
    }

    /// A section that is there.
    pub(super) fn found(&mut self, section: Section, rev: Option<u64>, written: Millis, now: Millis) {
        self.note(section, State::Ok, None, rev, Some(now.since(written)));
    }

    /// A section that is not.
    pub(super) fn missing(&mut self, section: Section, state: State, detail: Option<String>) {
        self.note(section, state, detail, None, None);
    }

    fn note(&mut self, name: Section, state: State, detail: Option<String>, rev: Option<u64>, age_ms: Option<i64>) {
        self.sources.push(Source { name, store: name.store(), state, detail, rev, age_ms });
    }

    /// What is stored, as it is stored, each as one line of JSON: snapshot, summary, messages, events.
    pub(super) fn stored(&self) -> Vec<String> {
        // None of these can fail: they were just read from JSON.
        let documents = self.summary.iter().flat_map(serde_json::to_string).chain(self.messages.iter().flat_map(serde_json::to_string));
        self.raw_snapshot.iter().cloned().chain(documents).chain(self.events.iter().map(|event| event.json.clone())).collect()
    }
}

fn values<S: serde::Serializer>(events: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    // As values, so that they are indented with the rest.
    serializer.collect_seq(events.iter().map(|event| serde_json::from_str::<Value>(&with_id(event)).unwrap_or(Value::Null)))
}
