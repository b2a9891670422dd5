//! Reading. Each function is one read; what it returns is bounded by its limit and, for pages, by bytes.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{AccountSummary, HistoryCursor, StoredState, StoredSummary};
use crate::schema::document::MessageDocument;
use crate::schema::time::Millis;

/// A page ends with the row that takes it over this many bytes of documents.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// A stored message, not yet decoded.
pub(super) struct MessageRow {
    message: String,
    sent_at: i64,
    deleted_at: Option<i64>,
    document: Vec<u8>,
}

impl MessageRow {
    /// The document; the error comes with the message's id.
    pub(super) fn decode(self) -> Result<MessageDocument, (String, serde_json::Error)> {
        let document: MessageDocument = serde_json::from_slice(&self.document).map_err(|error| (self.message, error))?;
        Ok(MessageDocument { deleted_at: self.deleted_at.map(Millis), ..document })
    }
}

pub(super) fn load(connection: &Connection, fans: &[(String, String)]) -> rusqlite::Result<Vec<Option<StoredState>>> {
    let mut statement = connection
        .prepare_cached("SELECT rev, fold FROM summaries WHERE account = (SELECT id FROM accounts WHERE name = ?1) AND fan = ?2")?;
    let mut load_one = |account: &str, fan: &str| {
        statement.query_row([account, fan], |row| Ok(StoredState { rev: rev(row.get(0)?), fold: row.get(1)? })).optional()
    };
    fans.iter().map(|(account, fan)| load_one(account, fan)).collect()
}

/// `rev` and JSON.
pub(super) fn summary(connection: &Connection, account: &str, fan: &str, now: Millis) -> rusqlite::Result<Option<(u64, Vec<u8>)>> {
    connection
        .prepare_cached(
            "SELECT rev, summary FROM summaries
             WHERE account = (SELECT id FROM accounts WHERE name = ?1) AND fan = ?2 AND expire_at > ?3",
        )?
        .query_row(params![account, fan, now.0], |row| Ok((rev(row.get(0)?), row.get(1)?)))
        .optional()
}

pub(super) fn stored(connection: &Connection, account: &str, fans: &[String], now: Millis) -> rusqlite::Result<Vec<Option<StoredSummary>>> {
    let mut statement = connection.prepare_cached(
        "SELECT rev, fold, summary FROM summaries
         WHERE account = (SELECT id FROM accounts WHERE name = ?1) AND fan = ?2 AND expire_at > ?3",
    )?;
    let mut stored_one = |fan: &String| {
        let read = |row: &rusqlite::Row<'_>| {
            let summary: Vec<u8> = row.get(2)?;
            Ok(StoredSummary { rev: rev(row.get(0)?), fold: row.get(1)?, summary: serde_json::from_slice(&summary).ok() })
        };
        statement.query_row(params![account, fan, now.0], read).optional()
    };
    fans.iter().map(&mut stored_one).collect()
}

pub(super) fn find_fan(connection: &Connection, fan: &str, now: Millis) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT accounts.name FROM summaries JOIN accounts ON accounts.id = summaries.account
             WHERE fan = ?1 AND expire_at > ?2 ORDER BY accounts.name",
        )?
        .query_map(params![fan, now.0], |row| row.get(0))?
        .collect()
}

/// The page's messages, newest first, and where the next one begins.
pub(super) fn history(
    connection: &Connection,
    account: &str,
    conversation: &str,
    before: Option<&HistoryCursor>,
    limit: usize,
    now: Millis,
) -> rusqlite::Result<(Vec<MessageRow>, Option<HistoryCursor>)> {
    // No text is at or beyond the end of time, so this begins with the newest.
    let (before, before_message) = before.map_or((i64::MAX, ""), |cursor| (cursor.sent_at.0, cursor.message.as_str()));
    // One row more than asked for, to know whether there is a next page.
    let fetched = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut statement = connection.prepare_cached(
        "SELECT message, sent_at, deleted_at, document FROM messages
         WHERE conversation = (
                 SELECT id FROM conversations WHERE account = (SELECT id FROM accounts WHERE name = ?1) AND name = ?2)
             AND sent_at IS NOT NULL AND (sent_at, message) < (?3, ?4) AND expire_at > ?5
         ORDER BY sent_at DESC, message DESC LIMIT ?6",
    )?;
    let mut rows = statement.query(params![account, conversation, before, before_message, now.0, fetched])?;
    let (mut page, mut bytes) = (Vec::<MessageRow>::new(), 0);
    while let Some(row) = rows.next()? {
        if page.len() == limit || bytes > PAGE_BYTES_MAX {
            let next = page.last().map(|last| HistoryCursor { sent_at: Millis(last.sent_at), message: last.message.clone() });
            return Ok((page, next));
        }
        let row = MessageRow { message: row.get(0)?, sent_at: row.get(1)?, deleted_at: row.get(2)?, document: row.get(3)? };
        bytes += row.document.len();
        page.push(row);
    }
    Ok((page, None))
}

pub(super) fn accounts(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT name FROM accounts
             WHERE EXISTS (SELECT 1 FROM summaries WHERE account = accounts.id) OR id IN (SELECT account FROM account_states) ORDER BY name",
        )?
        .query_map((), |row| row.get(0))?
        .collect()
}

pub(super) fn summaries(
    connection: &Connection,
    account: &str,
    after: Option<&str>,
    limit: usize,
    now: Millis,
) -> rusqlite::Result<Vec<AccountSummary>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT fan, conversation, rev, fold FROM summaries
         WHERE account = (SELECT id FROM accounts WHERE name = ?1)
             AND fan >= ?2 AND (fan <> ?2 OR ?3) AND expire_at > ?4
         ORDER BY fan LIMIT ?5",
    )?;
    let mut rows = statement.query(params![account, after.unwrap_or(""), after.is_none(), now.0, limit])?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes <= PAGE_BYTES_MAX
        && let Some(row) = rows.next()?
    {
        let stored = StoredState { rev: rev(row.get(2)?), fold: row.get(3)? };
        bytes += stored.fold.len();
        page.push(AccountSummary { fan: row.get(0)?, conversation: row.get(1)?, stored });
    }
    Ok(page)
}

/// What [`super::write`] wrote as a signed integer.
pub(super) fn rev(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
