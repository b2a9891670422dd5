//! What is known of accounts beyond their conversations.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::StoredState;
use super::read::rev;
use super::write::{account_id, integer};
use crate::schema::time::Millis;
use crate::transform::materialize::{AccountDocumentWrite, WriteOutcome};

pub(super) fn load(connection: &Connection, accounts: &[String]) -> rusqlite::Result<Vec<Option<StoredState>>> {
    let mut statement =
        connection.prepare_cached("SELECT rev, fold FROM account_states WHERE account = (SELECT id FROM accounts WHERE name = ?1)")?;
    let mut load_one =
        |account: &String| statement.query_row([account], |row| Ok(StoredState { rev: rev(row.get(0)?), fold: row.get(1)? })).optional();
    accounts.iter().map(&mut load_one).collect()
}

/// Writes each or, where its guard does not hold, leaves what is there.
pub(super) fn write(connection: &Connection, writes: &[AccountDocumentWrite]) -> rusqlite::Result<Vec<WriteOutcome>> {
    writes.iter().map(|write| write_one(connection, write)).collect()
}

fn write_one(connection: &Connection, write: &AccountDocumentWrite) -> rusqlite::Result<WriteOutcome> {
    let account = account_id(connection, &write.account)?;
    let row = params![account, integer(write.rev), write.expire_at.0, write.fold, write.document, integer(write.expected_rev)];
    let written = if write.expected_rev == 0 {
        connection
            .prepare_cached(
                "INSERT INTO account_states (account, rev, expire_at, fold, document) SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?6 = 0
                 ON CONFLICT DO NOTHING",
            )?
            .execute(row)?
    } else {
        connection
            .prepare_cached("UPDATE account_states SET rev = ?2, expire_at = ?3, fold = ?4, document = ?5 WHERE account = ?1 AND rev = ?6")?
            .execute(row)?
    };
    Ok(if written == 0 { WriteOutcome::Conflict } else { WriteOutcome::Written })
}

/// Deletes of an account, by rank of their messages, beginning behind the message `after`: `(rank, message)` is where the index has it.
pub(super) fn deletions(
    connection: &Connection,
    account: &str,
    after: Option<(i64, &str)>,
    limit: usize,
) -> rusqlite::Result<Vec<(String, Millis)>> {
    let (rank, message) = after.unwrap_or((i64::MIN, ""));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT message, deleted_at FROM message_index
             WHERE account = (SELECT id FROM accounts WHERE name = ?1) AND (rank, message) > (?2, ?3) AND deleted_at IS NOT NULL
             ORDER BY rank, message LIMIT ?4",
        )?
        .query_map(params![account, rank, message, limit], |row| Ok((row.get(0)?, Millis(row.get(1)?))))?
        .collect()
}
