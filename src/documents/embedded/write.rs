//! Writing summaries and messages, and forgetting them.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use crate::schema::document::MessageDocument;
use crate::schema::time::Millis;
use crate::transform::materialize::{MessageDeletion, SummaryWrite, WriteOutcome};

/// Version of a message without `changed_at`: earlier than any.
const UNCHANGED: i64 = i64::MIN;

/// A [`SummaryWrite`] whose messages are encoded, which the caller's thread does.
pub(super) struct Row {
    account: String,
    fan: String,
    conversation: String,
    expected_rev: i64,
    rev: i64,
    summary: Vec<u8>,
    fold: Vec<u8>,
    expire_at: Millis,
    messages: Vec<MessageRow>,
    deletions: Vec<MessageDeletion>,
}

struct MessageRow {
    message: String,
    sent_at: Millis,
    version: i64,
    deleted_at: Option<Millis>,
    expire_at: Millis,
    document: Vec<u8>,
}

impl Row {
    /// Encodes the messages; the error comes with the name of the one that does not encode.
    pub(super) fn of(write: SummaryWrite) -> Result<Self, (String, serde_json::Error)> {
        Ok(Self {
            account: write.account,
            fan: write.fan,
            conversation: write.conversation,
            expected_rev: integer(write.expected_rev),
            rev: integer(write.rev),
            summary: write.summary,
            fold: write.fold,
            expire_at: write.expire_at,
            messages: write.messages.into_iter().map(MessageRow::of).collect::<Result<_, _>>()?,
            deletions: write.deletions,
        })
    }

    /// About how many rows it touches.
    pub(super) fn weight(&self) -> usize {
        1 + self.messages.len() + self.deletions.len()
    }
}

impl MessageRow {
    /// `deleted_at` has a column of its own and stays out of the JSON, so that it merges whichever version of the message stays.
    fn of(mut document: MessageDocument) -> Result<Self, (String, serde_json::Error)> {
        let deleted_at = document.deleted_at.take();
        let message = document.message_id.raw().to_owned();
        match serde_json::to_vec(&document) {
            Ok(json) => Ok(Self {
                message,
                sent_at: document.sent_at,
                version: document.changed_at.map_or(UNCHANGED, |at| at.0),
                deleted_at,
                expire_at: document.expire_at,
                document: json,
            }),
            Err(error) => Err((format!("message {message:?}"), error)),
        }
    }
}

/// SQLite's integers are signed; revisions grow by one and do not get near the difference.
pub(super) fn integer(rev: u64) -> i64 {
    i64::try_from(rev).unwrap_or(i64::MAX)
}

/// Writes each row or, where its guard does not hold, nothing of it.
pub(super) fn write(connection: &Connection, rows: &[Row]) -> rusqlite::Result<Vec<WriteOutcome>> {
    rows.iter().map(|row| write_row(connection, row)).collect()
}

fn write_row(connection: &Connection, row: &Row) -> rusqlite::Result<WriteOutcome> {
    let account = account_id(connection, &row.account)?;
    let written = if row.expected_rev == 0 {
        connection
            .prepare_cached(
                "INSERT INTO summaries (account, fan, conversation, rev, expire_at, fold, summary) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![account, row.fan, row.conversation, row.rev, row.expire_at.0, row.fold, row.summary])?
    } else {
        connection
            .prepare_cached(
                "UPDATE summaries SET conversation = ?3, rev = ?4, expire_at = ?5, fold = ?6, summary = ?7
                 WHERE account = ?1 AND fan = ?2 AND rev = ?8",
            )?
            .execute(params![account, row.fan, row.conversation, row.rev, row.expire_at.0, row.fold, row.summary, row.expected_rev])?
    };
    if written == 0 {
        return Ok(WriteOutcome::Conflict);
    }
    if !row.messages.is_empty() || !row.deletions.is_empty() {
        let conversation = conversation_id(connection, account, &row.conversation)?;
        for message in &row.messages {
            upsert(connection, conversation, message)?;
        }
        for deletion in &row.deletions {
            mark_deleted(connection, conversation, &deletion.message, deletion.deleted_at, row.expire_at)?;
        }
    }
    Ok(WriteOutcome::Written)
}

/// The document of a deletion without a message is empty, so any message is greater.
fn upsert(connection: &Connection, conversation: i64, row: &MessageRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO messages (conversation, message, sent_at, version, expire_at, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET
                 sent_at = excluded.sent_at, version = excluded.version, expire_at = excluded.expire_at, document = excluded.document
             WHERE (excluded.version, excluded.document) > (version, document)",
        )?
        .execute(params![conversation, row.message, row.sent_at.0, row.version, row.expire_at.0, row.document])?;
    match row.deleted_at {
        Some(deleted_at) => mark_deleted(connection, conversation, &row.message, deleted_at, row.expire_at),
        None => Ok(()),
    }
}

/// Marks the message, or remembers the deletion until the message comes or `expire_at`.
fn mark_deleted(connection: &Connection, conversation: i64, message: &str, at: Millis, expire_at: Millis) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO messages (conversation, message, version, deleted_at, expire_at, document) VALUES (?1, ?2, ?3, ?4, ?5, x'')
             ON CONFLICT DO UPDATE SET
                 deleted_at = min(excluded.deleted_at, coalesce(deleted_at, excluded.deleted_at)),
                 expire_at = CASE WHEN sent_at IS NULL THEN max(expire_at, excluded.expire_at) ELSE expire_at END",
        )?
        .execute(params![conversation, message, UNCHANGED, at.0, expire_at.0])?;
    Ok(())
}

/// The number of an account, given when it is first written.
pub(super) fn account_id(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let known = connection.prepare_cached("SELECT id FROM accounts WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?;
    match known {
        Some(id) => Ok(id),
        None => connection.prepare_cached("INSERT INTO accounts (name) VALUES (?1) RETURNING id")?.query_row([name], |row| row.get(0)),
    }
}

fn conversation_id(connection: &Connection, account: i64, name: &str) -> rusqlite::Result<i64> {
    let known = connection
        .prepare_cached("SELECT id FROM conversations WHERE account = ?1 AND name = ?2")?
        .query_row(params![account, name], |row| row.get(0))
        .optional()?;
    match known {
        Some(id) => Ok(id),
        None => connection
            .prepare_cached("INSERT INTO conversations (account, name) VALUES (?1, ?2) RETURNING id")?
            .query_row(params![account, name], |row| row.get(0)),
    }
}

/// Deletes at most `limit` messages, summaries and account states that are expired at `now`, and the conversations that are left without messages.
/// The space is used again; the file does not shrink.
pub(super) fn prune(connection: &Connection, now: Millis, limit: usize) -> rusqlite::Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut conversations = BTreeSet::new();
    let mut deleted = 0i64;
    let mut messages = connection.prepare_cached(
        "DELETE FROM messages WHERE rowid IN (SELECT rowid FROM messages WHERE expire_at <= ?1 ORDER BY expire_at LIMIT ?2)
         RETURNING conversation",
    )?;
    for conversation in messages.query_map([now.0, limit], |row| row.get::<_, i64>(0))? {
        conversations.insert(conversation?);
        deleted += 1;
    }
    let mut emptied = connection
        .prepare_cached("DELETE FROM conversations WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM messages WHERE conversation = ?1)")?;
    for conversation in conversations {
        emptied.execute([conversation])?;
    }
    let summaries = connection
        .prepare_cached(
            "DELETE FROM summaries WHERE rowid IN (SELECT rowid FROM summaries WHERE expire_at <= ?1 ORDER BY expire_at LIMIT ?2)",
        )?
        .execute([now.0, limit - deleted])?;
    let deleted = u64::try_from(deleted).unwrap_or(0) + summaries as u64;
    let rest = limit - i64::try_from(deleted).unwrap_or(limit);
    let accounts = connection
        .prepare_cached("DELETE FROM account_states WHERE account IN (SELECT account FROM account_states WHERE expire_at <= ?1 LIMIT ?2)")?
        .execute([now.0, rest])?;
    Ok(deleted + accounts as u64)
}
