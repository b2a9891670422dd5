//! What Redis itself says: its memory and work, and how each account's connection stands there.
//!
//! It is what the snapshot service wrote last: where ingest or snapshot does not run it stays as it was.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::judge::Severity;
use crate::config::RedisConfig;
use crate::runtime::clock;
use crate::schema::time::Millis;
use crate::schema::view::AccountView;
use crate::views::{Reader, ViewsError};

/// Longest wait for Redis; its own timeouts apply as well.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Accounts that are told one by one.
const ACCOUNTS_MAX: usize = 100;
/// How long a gap is news.
const GAP_NEWS_MS: i64 = 15 * 60_000;

/// Redis as it stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(in crate::commands) struct Redis {
    pub(in crate::commands) address: String,
    /// Why it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) fault: Option<String>,
    /// Absent where the reader may not ask.
    pub(in crate::commands) used_bytes: Option<u64>,
    /// 0 where there is no limit.
    pub(in crate::commands) max_bytes: Option<u64>,
    pub(in crate::commands) evicted_keys: Option<u64>,
    pub(in crate::commands) commands_per_s: Option<u64>,
    pub(in crate::commands) accounts: Accounts,
}

/// The accounts as Redis has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(in crate::commands) struct Accounts {
    pub(in crate::commands) opened: usize,
    pub(in crate::commands) closed: usize,
    pub(in crate::commands) silent: usize,
    /// Nothing is known of their connection.
    pub(in crate::commands) unknown: usize,
    /// Those of which something is to be told, what is worst first; at most 100.
    pub(in crate::commands) noted: Vec<Account>,
}

/// An account of which something is to be told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::commands) struct Account {
    pub(in crate::commands) account: String,
    pub(in crate::commands) severity: Severity,
    /// `closed`, `silent`, `needs_otp`, `gap`, …
    pub(in crate::commands) state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) reason: Option<String>,
    pub(in crate::commands) since: Millis,
}

/// Asks Redis, over a connection that is kept.
#[derive(Clone)]
pub(super) struct Views {
    address: String,
    /// Or why there can be none.
    reader: Result<Reader, String>,
}

impl Views {
    /// What cannot be opened is told with each look.
    pub(super) fn open(config: &RedisConfig) -> Self {
        Self { address: config.url.clone(), reader: Reader::open(config).map_err(|error| error.to_string()) }
    }

    /// Looks once.
    pub(super) async fn look(&self) -> Redis {
        let looked = match &self.reader {
            Ok(reader) => match timeout(ANSWER_MAX, Self::ask(reader)).await {
                Ok(Ok(redis)) => Ok(redis),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", ANSWER_MAX.as_secs())),
            },
            Err(error) => Err(error.clone()),
        };
        let redis = looked.unwrap_or_else(|fault| Redis { fault: Some(fault), ..Redis::default() });
        Redis { address: self.address.clone(), ..redis }
    }

    async fn ask(reader: &Reader) -> Result<Redis, ViewsError> {
        let ids: Vec<String> = reader.accounts().await?.into_iter().map(|(account, _)| account).collect();
        let views = reader.connections(&ids).await?;
        let accounts = Accounts::of(ids.into_iter().zip(views), clock::now());
        match reader.memory().await {
            Ok(memory) => Ok(Redis {
                used_bytes: Some(memory.used_bytes),
                max_bytes: Some(memory.max_bytes),
                evicted_keys: Some(memory.evicted_keys),
                commands_per_s: Some(memory.commands_per_s),
                accounts,
                ..Redis::default()
            }),
            Err(ViewsError::NoPermission(_)) => Ok(Redis { accounts, ..Redis::default() }),
            Err(error) => Err(error),
        }
    }
}

impl Accounts {
    fn of(accounts: impl Iterator<Item = (String, AccountView)>, now: Millis) -> Self {
        let mut found = Self::default();
        for (account, view) in accounts {
            let state = view.connection.as_ref().map(|connection| connection.state.as_str());
            match state {
                Some("opened") => found.opened += 1,
                Some("closed") => found.closed += 1,
                Some("silent") => found.silent += 1,
                _ => found.unknown += 1,
            }
            found.noted.extend(note(account, view, now));
        }
        found.noted.sort_by(|a, b| b.severity.cmp(&a.severity).then(b.since.cmp(&a.since)).then_with(|| a.account.cmp(&b.account)));
        found.noted.truncate(ACCOUNTS_MAX);
        found
    }
}

/// What is to be told of an account: the worst of it.
fn note(account: String, view: AccountView, now: Millis) -> Option<Account> {
    let told = |severity, state, reason, since| Some(Account { account, severity, state, reason, since });
    if let Some(auth) = view.auth.filter(|auth| auth.status != "ready") {
        return told(Severity::Fail, auth.status, None, auth.as_of);
    }
    if let Some(connection) = view.connection.filter(|connection| connection.state != "opened") {
        return told(Severity::Warn, connection.state, connection.reason, connection.as_of);
    }
    let gap = view.gap.filter(|gap| now.since(gap.to) < GAP_NEWS_MS)?;
    told(Severity::Note, "gap".to_owned(), gap.reason, gap.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_an_account_is_told_and_the_worst_account_first() {
        let now = Millis(10_000_000);
        let views = [
            (
                "well",
                r#"{"connection":{"state":"opened","id":"a","as_of":"1970-01-01T00:00:00Z"},"auth":{"status":"ready","as_of":"1970-01-01T00:00:00Z"}}"#,
            ),
            (
                "gapped",
                r#"{"connection":{"state":"opened","id":"a","as_of":"1970-01-01T00:00:00Z"},"gap":{"to":"1970-01-01T02:40:00Z","reason":"stop"}}"#,
            ),
            ("old_gap", r#"{"connection":{"state":"opened","id":"a","as_of":"1970-01-01T00:00:00Z"},"gap":{"to":"1970-01-01T00:00:00Z"}}"#),
            ("closed", r#"{"connection":{"state":"closed","id":"a","reason":"http_401","as_of":"1970-01-01T00:00:00Z"}}"#),
            ("code", r#"{"auth":{"status":"needs_otp","as_of":"1970-01-01T00:00:00Z"}}"#),
            ("nothing", "{}"),
        ];
        let views = views.into_iter().map(|(account, json)| (account.to_owned(), serde_json::from_str(json).unwrap()));
        let accounts = Accounts::of(views, now);
        assert_eq!((accounts.opened, accounts.closed, accounts.silent, accounts.unknown), (3, 1, 0, 2));
        let told: Vec<String> = accounts.noted.iter().map(|noted| format!("{} {}", noted.account, noted.state)).collect();
        assert_eq!(told, ["code needs_otp", "closed closed", "gapped gap"]);
    }
}
