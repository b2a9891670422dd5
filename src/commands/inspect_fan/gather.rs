//! Asking the two stores.
//!
//! Invariant: what one store fails with never hides what the other knows, and each failure is told once, as the exit of the command.

use super::Window;
use super::report::{Report, Section, State};
use crate::backends;
use crate::commands::output::term_safe;
use crate::commands::streams::{Entry, written_at};
use crate::commands::{CommandError, Exit};
use crate::config::Config;
use crate::documents::{Access, Documents, DocumentsError, HistoryCursor, HistoryPage};
use crate::schema::time::Millis;
use crate::views::{Reader, StreamRange, ViewsError};

/// Events of a stream that are read to find the newest of a window; a stream's cap is a tenth of this.
const EVENTS_MAX: usize = 10_000;

/// What to gather.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Most messages, and most events.
    pub(super) last: usize,
    /// Of which time.
    pub(super) window: Window,
    /// Nothing but messages, so that Redis is not asked.
    pub(super) only_messages: bool,
    /// The clock.
    pub(super) now: Millis,
}

/// Why a store, or one section of it, gives nothing.
#[derive(Debug, Clone)]
struct Missing {
    state: State,
    detail: String,
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

    /// Everything of one fan in one account.
    pub(super) async fn report(&mut self, account: &str, fan: &str, wanted: &Wanted) -> Report {
        let mut report = Report::new(account, fan);
        if !wanted.only_messages {
            self.snapshot(&mut report, wanted).await;
            self.summary(&mut report, wanted).await;
        }
        self.messages(&mut report, wanted).await;
        if !wanted.only_messages {
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
        let read = async |documents: &Documents| {
            let mut messages = Vec::new();
            let mut before = window.until.map(HistoryCursor::at);
            // A page may be shorter than its limit.
            loop {
                let page = HistoryPage { before, limit: limit - messages.len() };
                // One-to-one chats: the conversation is the fan's.
                let history = documents.history(&account, &fan, page, wanted.now).await?;
                messages.extend(history.messages);
                before = history.next;
                if messages.len() >= limit || before.is_none() {
                    return Ok((messages, before.is_some()));
                }
            }
        };
        match self.ask_documents(read).await {
            Ok((mut messages, has_older)) => {
                let read = messages.len();
                messages.retain(|message| window.since.is_none_or(|since| message.sent_at >= since));
                report.has_older_messages = has_older && messages.len() == read;
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
        let range = if window.since.is_none() && window.until.is_none() {
            StreamRange::Last(wanted.last.max(1))
        } else {
            StreamRange::Between { since: window.since, until: window.until.map(|until| until.plus(-1)), limit: EVENTS_MAX }
        };
        match self.ask_redis(async |reader| reader.fan_events(&account, &fan, range).await).await {
            Ok(entries) => {
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
    async fn ask_redis<T>(&mut self, call: impl AsyncFnOnce(&Reader) -> Result<T, ViewsError>) -> Result<T, Missing> {
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

    async fn ask_documents<T>(&mut self, call: impl AsyncFnOnce(&Documents) -> Result<T, DocumentsError>) -> Result<T, Missing> {
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
