//! Asks both stores what they know of a fan, and notes for each section who answered.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;

use super::super::CommandError;
use super::stamped;
use crate::backends;
use crate::config::Config;
use crate::documents::{Access, Documents, DocumentsError, HistoryPage, SummaryDocument};
use crate::schema::document::{FanSummary, MessageDocument};
use crate::schema::time::Millis;
use crate::schema::view::{ConversationSnapshot, GapView};
use crate::views::{ConversationView, Reader, StreamEntry, StreamRange, ViewsError};

/// Which sections are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sections {
    pub(super) snapshot: bool,
    pub(super) summary: bool,
    pub(super) messages: bool,
    pub(super) events: bool,
}

/// Both stores, as far as they answer. One that failed is not asked again.
pub(super) struct Stores {
    redis: Store<Reader>,
    documents: Store<Documents>,
}

enum Store<T> {
    /// Nothing is wanted of it.
    Unasked,
    Open(T),
    /// There is none yet.
    Absent(String),
    Failed(CommandError, String),
}

/// What one section has to say for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) store: &'static str,
    pub(super) state: State,
    pub(super) detail: Option<String>,
    pub(super) rev: Option<u64>,
    pub(super) age_ms: Option<i64>,
}

/// Whether a section has content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    /// The store answered, and there is nothing.
    Absent,
    Unreachable,
}

/// Everything that is known of a fan of one account.
pub(super) struct FanReport {
    pub(super) account: String,
    pub(super) fan: String,
    pub(super) snapshot: Option<ConversationView>,
    /// The account's newest gap.
    pub(super) gap: Option<GapView>,
    pub(super) summary: Option<SummaryDocument>,
    /// Oldest first.
    pub(super) messages: Vec<MessageDocument>,
    /// Oldest first.
    pub(super) events: Vec<StreamEntry>,
    pub(super) sources: Vec<Source>,
}

impl Stores {
    /// Opens what the sections need.
    pub(super) async fn open(config: &Config, sections: Sections) -> Self {
        let mut stores = Self { redis: Store::Unasked, documents: Store::Unasked };
        if sections.snapshot || sections.events {
            stores.redis = match Reader::connect(&config.redis).await {
                Ok(reader) => Store::Open(reader),
                Err(error) => Store::failed(error),
            };
        }
        if sections.summary || sections.messages {
            stores.documents = match backends::documents(config, Access::ReadOnly).await {
                Ok(documents) => Store::Open(documents),
                Err(error @ DocumentsError::Missing { .. }) => Store::Absent(error.to_string()),
                Err(error) => Store::failed(error),
            };
        }
        stores
    }

    /// The accounts in which either store knows the fan.
    pub(super) async fn find(&mut self, fan: &str, now: Millis) -> Vec<String> {
        let redis = self.redis.ask(async |reader| reader.find_fan(fan).await).await.unwrap_or_default();
        let documents = self.documents.ask(async |documents| documents.find_fan(fan, now).await).await.unwrap_or_default();
        redis.into_iter().chain(documents).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What they know of the fan of one account, with at most `last` messages and events.
    pub(super) async fn report(&mut self, account: &str, fan: &str, sections: Sections, last: usize, now: Millis) -> FanReport {
        let mut report = FanReport {
            account: account.to_owned(),
            fan: fan.to_owned(),
            snapshot: None,
            gap: None,
            summary: None,
            messages: Vec::new(),
            events: Vec::new(),
            sources: Vec::new(),
        };
        let age = |at: Millis| Some(now.since(at));
        if sections.snapshot {
            // In one-to-one chats the conversation is the fan.
            let found = self
                .redis
                .ask(async |reader| Ok::<_, ViewsError>((reader.conversation(account, fan).await?, reader.account(account).await?.gap)))
                .await;
            (report.snapshot, report.gap) = found.unwrap_or_default();
            let facts = report.snapshot.as_ref().map(|view| (Some(view.rev), age(view.snapshot.applied_at)));
            report.sources.push(self.redis.source("snapshot", "redis", facts, "no conversation of that fan"));
        }
        if sections.summary {
            report.summary = self.documents.ask(async |documents| documents.summary(account, fan, now).await).await.flatten();
            let facts = report.summary.as_ref().map(|found| (Some(found.rev), age(found.summary.applied_at)));
            report.sources.push(self.documents.source("summary", "documents", facts, "no summary of that fan"));
        }
        if sections.messages {
            let page = HistoryPage { before: None, limit: last };
            let conversation = report.summary.as_ref().map_or(fan, |found| found.summary.conversation_id.raw()).to_owned();
            let history = self.documents.ask(async |documents| documents.history(account, &conversation, page, now).await).await;
            report.messages = history.map(|history| history.messages).unwrap_or_default();
            report.messages.reverse();
            let facts = report.messages.last().map(|message| (None, age(message.sent_at)));
            report.sources.push(self.documents.source("messages", "documents", facts, "no messages"));
        }
        if sections.events {
            let events = self.redis.ask(async |reader| reader.fan_events(account, fan, StreamRange::Last(last)).await).await;
            report.events = events.unwrap_or_default();
            let at = |entry: &StreamEntry| Millis(i64::try_from(entry.id.ms).unwrap_or(i64::MAX));
            let facts = report.events.last().map(|entry| (None, age(at(entry))));
            report.sources.push(self.redis.source("events", "redis", facts, "no events are kept: only high-value fans have them"));
        }
        report
    }

    /// Where was looked, for people.
    pub(super) fn looked(&self) -> Vec<String> {
        [self.redis.looked("Redis"), self.documents.looked("the documents")].into_iter().flatten().collect()
    }

    /// The stores that did not answer, and why.
    pub(super) fn into_failures(self) -> Vec<CommandError> {
        [self.redis.into_failure(), self.documents.into_failure()].into_iter().flatten().collect()
    }
}

impl<T: Clone> Store<T> {
    fn failed<E: Display + Into<CommandError>>(error: E) -> Self {
        let text = error.to_string();
        Self::Failed(error.into(), text)
    }

    /// The answer; `None` where the store does not answer, which it then is not asked again.
    async fn ask<A, E: Display + Into<CommandError>>(&mut self, question: impl AsyncFnOnce(T) -> Result<A, E>) -> Option<A> {
        let Self::Open(store) = self else { return None };
        match question(store.clone()).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                *self = Self::failed(error);
                None
            }
        }
    }

    /// How a section came out; `facts` are the revision and the age of what was found.
    fn source(&self, name: &'static str, store: &'static str, facts: Option<(Option<u64>, Option<i64>)>, none: &str) -> Source {
        let (state, detail) = match (self, facts) {
            (Self::Failed(_, error), None) => (State::Unreachable, Some(error.clone())),
            (Self::Absent(reason), None) => (State::Absent, Some(reason.clone())),
            (_, None) => (State::Absent, Some(none.to_owned())),
            (_, Some(_)) => (State::Ok, None),
        };
        let (rev, age_ms) = facts.unwrap_or_default();
        Source { name, store, state, detail, rev, age_ms }
    }

    fn looked(&self, name: &str) -> Option<String> {
        match self {
            Self::Unasked => None,
            Self::Open(_) => Some(name.to_owned()),
            Self::Absent(reason) => Some(format!("{name} ({reason})")),
            Self::Failed(..) => Some(format!("{name} (no answer)")),
        }
    }

    fn into_failure(self) -> Option<CommandError> {
        match self {
            Self::Failed(error, _) => Some(error),
            _ => None,
        }
    }
}

impl FanReport {
    /// Whether any section has content.
    pub(super) fn knows_anything(&self) -> bool {
        self.sources.iter().any(|source| source.state == State::Ok)
    }

    /// How a section came out, where it was asked for.
    pub(super) fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// The report for programs; sections that were not asked for are absent, those without content are `null` or empty.
    pub(super) fn json(&self) -> impl Serialize {
        let asked = |name| self.source(name).is_some();
        let event = |entry: &StreamEntry| serde_json::from_str(&stamped(&entry.json, entry.id)).unwrap_or(Value::Null);
        JsonReport {
            account_id: &self.account,
            fan_id: &self.fan,
            snapshot: asked("snapshot").then(|| self.snapshot.as_ref().map(|view| &view.snapshot)),
            summary: asked("summary").then(|| self.summary.as_ref().map(|found| &found.summary)),
            messages: asked("messages").then_some(&self.messages),
            events: asked("events").then(|| self.events.iter().map(event).collect()),
            sources: &self.sources,
        }
    }
}

#[derive(Serialize)]
struct JsonReport<'a> {
    account_id: &'a str,
    fan_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<Option<&'a ConversationSnapshot>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Option<&'a FanSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<&'a Vec<MessageDocument>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<Value>>,
    sources: &'a [Source],
}
