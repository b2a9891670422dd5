//! Asking the two stores.
//!
//! Invariant: what one store fails with never hides what the other knows, and each failure is told once, as the exit of the command.

use std::sync::Arc;

use super::Window;
use super::report::{Report, Section, State};
use crate::backends;
use crate::commands::accounts;
use crate::commands::output::term_safe;
use crate::commands::streams::{Entry, written_at};
use crate::commands::{CommandError, Exit};
use crate::config::Config;
use crate::documents::{Access, Documents, DocumentsError, HistoryCursor, HistoryPage};
use crate::schema::document::MessageDocument;
use crate::schema::event::Event;
use crate::schema::time::Millis;
use crate::transform::filter::Filter;
use crate::views::{Reader, StreamRange, ViewsError};

/// Events of a stream that are read to find the newest of a window; a stream's cap is a tenth of this.
const EVENTS_MAX: usize = 10_000;

/// Messages of a page that is read where a filter passes over some.
const FILTERED_PAGE: usize = 500;

/// Which sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of them.
    Overview,
    /// Messages alone, so that Redis is not asked.
    History,
    /// Summary and messages.
    Transcript,
}

/// What to gather.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Most messages, and most events.
    pub(super) last: usize,
    /// Of which time.
    pub(super) window: Window,
    /// Only messages before this place.
    pub(super) before: Option<HistoryCursor>,
    /// Only messages and events that it holds for.
    pub(super) filter: Option<Arc<Filter>>,
    /// Which sections.
    pub(super) part: Part,
    /// The clock.
    pub(super) now: Millis,
}

/// Why a store, or one section of it, gives nothing.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    /// Whether it is not there or cannot be asked.
    pub(super) state: State,
    /// Why.
    pub(super) detail: String,
}

/// The stores as far as they can be asked.
pub(super) struct Stores {
    redis: Option<Result<Reader, Missing>>,
    documents: Result<Documents, Missing>,
    /// What the command ends with: the first failure.
    failed: Option<CommandError>,
    /// Redis' address, which carries no password.
    redis_url: String,
}

impl Stores {
    /// Opens what the config names; Redis only where it is wanted.
    ///
    /// # Errors
    /// Only where the config cannot be used at all.
    pub(super) async fn open(config: &Config, wants_redis: bool) -> Result<Self, CommandError> {
        let mut failed = None;
        let redis = if wants_redis { Some(Ok(Reader::open(&config.redis)?)) } else { None };
        let documents = backends::documents(config, Access::ReadOnly).await.map_err(|error| of_documents(&error, &mut failed));
        Ok(Self { redis, documents, failed, redis_url: config.redis.url.clone() })
    }

    /// The accounts that know the fan: those of Redis, the latest active first, then what only the documents have.
    pub(super) async fn accounts_of(&mut self, fan: &str, now: Millis) -> Vec<String> {
        let mut accounts = self.ask_redis(async |reader| reader.find_fan(fan).await).await.unwrap_or_default();
        let others = self.ask_documents(async |documents| documents.find_fan(fan, now).await).await.unwrap_or_default();
        for account in others {
            if !accounts.contains(&account) {
                accounts.push(account);
            }
        }
        accounts
    }

    /// The accounts that the stores know, as far as they can be asked.
    pub(super) async fn accounts(&mut self, typed: &[String]) -> Vec<String> {
        let mut accounts = self.ask_redis(async |reader| accounts::of_redis(reader, typed).await).await.unwrap_or_default();
        accounts.extend(self.ask_documents(async |documents| documents.accounts().await).await.unwrap_or_default());
        accounts
    }

    /// Everything of one fan in one account.
    pub(super) async fn report(&mut self, account: &str, fan: &str, wanted: &Wanted) -> Report {
        let mut report = Report::new(account, fan);
        if wanted.part == Part::Overview {
            self.snapshot(&mut report, wanted).await;
        }
        if wanted.part != Part::History {
            self.summary(&mut report, wanted).await;
        }
        self.messages(&mut report, wanted).await;
        if wanted.part == Part::Overview {
            self.events(&mut report, wanted).await;
        }
        report
    }

    /// The first failure of a store.
    pub(super) fn failure(&self) -> Option<CommandError> {
        self.failed.clone()
    }

    /// Where was looked, for people.
    pub(super) fn looked_in(&self, accounts: &[String]) -> String {
        let redis = self.redis.as_ref().map(|_| format!("in Redis at {}", self.redis_url));
        let documents = match &self.documents {
            Ok(documents) => format!("in the {documents}"),
            Err(missing) => format!("for the documents ({})", missing.detail),
        };
        let stores: Vec<String> = redis.into_iter().chain([documents]).collect();
        let whose = if accounts.is_empty() { "any account".to_owned() } else { format!("account {}", accounts.join(", ")) };
        term_safe(&format!("of {whose}; looked {}", stores.join(" and "))).into_owned()
    }

    async fn snapshot(&mut self, report: &mut Report, wanted: &Wanted) {
        let (account, fan) = (report.account_id.clone(), report.fan_id.clone());
        match self.ask_redis(async |reader| reader.conversation(&account, &fan).await).await {
            Ok(Some(view)) => {
                report.found(Section::Snapshot, Some(view.rev), view.snapshot.applied_at, wanted.now);
                report.snapshot = Some(view.snapshot);
                report.raw_snapshot = Some(view.raw);
                // Only said beside the snapshot: that it is stale, the snapshot says itself.
                let known = self.ask_redis(async |reader| reader.account(&account).await).await;
                report.gap = known.ok().and_then(|account| account.gap);
            }
            Ok(None) => report.missing(Section::Snapshot, State::Absent, None),
            Err(missing) => report.missing(Section::Snapshot, missing.state, Some(missing.detail)),
        }
    }

    async fn summary(&mut self, report: &mut Report, wanted: &Wanted) {
        let (account, fan, now) = (report.account_id.clone(), report.fan_id.clone(), wanted.now);
        match self.ask_documents(async |documents| documents.summary(&account, &fan, now).await).await {
            Ok(Some(document)) => {
                report.found(Section::Summary, Some(document.rev), document.summary.applied_at, now);
                report.summary = Some(document.summary);
            }
            Ok(None) => report.missing(Section::Summary, State::Absent, None),
            Err(missing) => report.missing(Section::Summary, missing.state, Some(missing.detail)),
        }
    }

    async fn messages(&mut self, report: &mut Report, wanted: &Wanted) {
        let (account, fan, window) = (report.account_id.clone(), report.fan_id.clone(), wanted.window);
        let limit = wanted.last.max(1);
        let wants =
            |message: &MessageDocument| wanted.filter.as_ref().is_none_or(|filter| filter.holds_for_message(&account, &fan, message));
        // One more than is wanted tells whether there are older ones. A page may be shorter than its limit.
        let page_limit = |read: usize| if wanted.filter.is_some() { FILTERED_PAGE } else { limit - read + 1 };
        let read = async |documents: &Documents| {
            let mut messages: Vec<MessageDocument> = Vec::new();
            let mut before = wanted.before.clone().or(window.until.map(HistoryCursor::at));
            loop {
                let page = HistoryPage { before, limit: page_limit(messages.len()) };
                // One-to-one chats: the conversation is the fan's.
                let history = documents.history(&account, &fan, page, wanted.now).await?;
                for message in history.messages {
                    if window.since.is_some_and(|since| message.sent_at < since) {
                        return Ok((messages, None));
                    }
                    if !wants(&message) {
                        continue;
                    }
                    if messages.len() == limit {
                        let older = messages.last().map(HistoryCursor::of);
                        return Ok((messages, older));
                    }
                    messages.push(message);
                }
                before = history.next;
                if before.is_none() {
                    return Ok((messages, None));
                }
            }
        };
        match self.ask_documents(read).await {
            Ok((mut messages, older)) => {
                report.older = older;
                match messages.first() {
                    Some(newest) => report.found(Section::Messages, None, newest.sent_at, wanted.now),
                    None => report.missing(Section::Messages, State::Absent, None),
                }
                messages.truncate(wanted.last);
                messages.reverse();
                report.messages = messages;
            }
            Err(missing) => report.missing(Section::Messages, missing.state, Some(missing.detail)),
        }
    }

    async fn events(&mut self, report: &mut Report, wanted: &Wanted) {
        let (account, fan, window) = (report.account_id.clone(), report.fan_id.clone(), wanted.window);
        let is_wanted = |json: &str| {
            let holds = |filter: &Arc<Filter>| serde_json::from_str::<Event<'_>>(json).is_ok_and(|event| filter.holds_for_event(&event));
            wanted.filter.as_ref().is_none_or(holds)
        };
        let range = if window.since.is_none() && window.until.is_none() && wanted.filter.is_none() {
            StreamRange::Last(wanted.last.max(1))
        } else {
            StreamRange::Between { since: window.since, until: window.until.map(|until| until.plus(-1)), limit: EVENTS_MAX }
        };
        match self.ask_redis(async |reader| reader.fan_events(&account, &fan, range).await).await {
            Ok(mut entries) => {
                entries.retain(|entry| is_wanted(&entry.json));
                match entries.last() {
                    Some(newest) => report.found(Section::Events, None, written_at(newest.id), wanted.now),
                    None => report.missing(Section::Events, State::Absent, None),
                }
                let skip = entries.len().saturating_sub(wanted.last);
                let newest = entries.into_iter().skip(skip);
                report.events = newest.map(|entry| Entry { account: account.clone(), id: entry.id, json: entry.json }).collect();
            }
            Err(missing) => report.missing(Section::Events, missing.state, Some(missing.detail)),
        }
    }

    /// A Redis that cannot be reached is asked once, not once a section.
    pub(super) async fn ask_redis<T>(&mut self, call: impl AsyncFnOnce(&Reader) -> Result<T, ViewsError>) -> Result<T, Missing> {
        let reader = match &self.redis {
            Some(Ok(reader)) => reader,
            Some(Err(missing)) => return Err(missing.clone()),
            None => return Err(Missing { state: State::Absent, detail: "not asked".to_owned() }),
        };
        let error = match call(reader).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let is_content = matches!(error, ViewsError::Unexpected { .. });
        let state = if is_content { State::Unreadable } else { State::Unreachable };
        let missing = Missing { state, detail: error.to_string() };
        self.failed.get_or_insert_with(|| error.into());
        if !is_content {
            self.redis = Some(Err(missing.clone()));
        }
        Err(missing)
    }

    pub(super) async fn ask_documents<T>(&mut self, call: impl AsyncFnOnce(&Documents) -> Result<T, DocumentsError>) -> Result<T, Missing> {
        let documents = match &self.documents {
            Ok(documents) => documents,
            Err(missing) => return Err(missing.clone()),
        };
        call(documents).await.map_err(|error| of_documents(&error, &mut self.failed))
    }
}

/// That there is no store yet is no failure: nothing was ever written.
fn of_documents(error: &DocumentsError, failed: &mut Option<CommandError>) -> Missing {
    let detail = error.to_string();
    let state = match error {
        DocumentsError::Missing { .. } => return Missing { state: State::Absent, detail },
        DocumentsError::Document { .. }
        | DocumentsError::Foreign { .. }
        | DocumentsError::Newer { .. }
        | DocumentsError::Corrupt { .. } => State::Unreadable,
        _ => State::Unreachable,
    };
    failed.get_or_insert_with(|| CommandError::of(Exit::Unavailable, error));
    Missing { state, detail }
}
