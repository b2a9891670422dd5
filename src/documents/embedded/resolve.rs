//! The index from a message to its conversation, with the deletes whose message has not been seen.
//!
//! A row is a message, a delete, or both. Each account keeps its `index_max` highest ranks; since the platform's message ids grow with
//! time, those are its newest messages. The number of rows stands with the account, so that nothing has to be counted.

use rusqlite::{Connection, OptionalExtension, params};

use super::write::account_id;
use crate::schema::ids::message_rank;
use crate::schema::time::Millis;
use crate::transform::resolve::{Claims, Resolved};

/// Claims all of it; the answers stand in the order of the claims.
pub(super) fn resolve(connection: &Connection, claims: &[Claims], index_max: u64) -> rusqlite::Result<Vec<Resolved>> {
    claims.iter().map(|claims| resolve_account(connection, claims, index_max)).collect()
}

/// Deletes are entered first, then messages, then the deletes are looked up: so both learn of each other within one call.
fn resolve_account(connection: &Connection, claims: &Claims, index_max: u64) -> rusqlite::Result<Resolved> {
    let account = account_id(connection, &claims.account)?;
    let mut added = 0usize;
    for (message, deleted_at) in &claims.deletes {
        added += enter_delete(connection, account, message, *deleted_at)?;
    }
    let mut deleted_at = Vec::with_capacity(claims.messages.len());
    for (message, conversation) in &claims.messages {
        let (new, deleted) = enter_message(connection, account, message, conversation)?;
        added += new;
        deleted_at.push(deleted);
    }
    let conversations = claims.deletes.iter().map(|(message, _)| conversation_of(connection, account, message));
    let conversations = conversations.collect::<rusqlite::Result<_>>()?;
    if added > 0 {
        bound(connection, account, added, index_max)?;
    }
    Ok(Resolved { deleted_at, conversations })
}

fn enter_delete(connection: &Connection, account: i64, message: &str, at: Millis) -> rusqlite::Result<usize> {
    let added = connection
        .prepare_cached("INSERT INTO message_index (account, rank, message, deleted_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?
        .execute(params![account, rank(message), message, at.0])?;
    if added == 0 {
        connection
            .prepare_cached(
                "UPDATE message_index SET deleted_at = min(?4, coalesce(deleted_at, ?4)) WHERE account = ?1 AND rank = ?2 AND message = ?3",
            )?
            .execute(params![account, rank(message), message, at.0])?;
    }
    Ok(added)
}

/// Rows added, and when the message was deleted. Most messages are new, and then one statement does it.
fn enter_message(connection: &Connection, account: i64, message: &str, conversation: &str) -> rusqlite::Result<(usize, Option<Millis>)> {
    let added = connection
        .prepare_cached("INSERT INTO message_index (account, rank, message, conversation) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?
        .execute(params![account, rank(message), message, conversation])?;
    if added > 0 {
        return Ok((added, None));
    }
    let key = params![account, rank(message), message];
    let (is_known, deleted_at): (bool, Option<i64>) = connection
        .prepare_cached("SELECT conversation IS NOT NULL, deleted_at FROM message_index WHERE account = ?1 AND rank = ?2 AND message = ?3")?
        .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))?;
    if !is_known {
        connection
            .prepare_cached("UPDATE message_index SET conversation = ?4 WHERE account = ?1 AND rank = ?2 AND message = ?3")?
            .execute(params![account, rank(message), message, conversation])?;
    }
    Ok((0, deleted_at.map(Millis)))
}

fn conversation_of(connection: &Connection, account: i64, message: &str) -> rusqlite::Result<Option<String>> {
    let found = connection
        .prepare_cached("SELECT conversation FROM message_index WHERE account = ?1 AND rank = ?2 AND message = ?3")?
        .query_row(params![account, rank(message), message], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

/// Counts the rows added and drops the lowest ranks beyond the bound.
fn bound(connection: &Connection, account: i64, added: usize, index_max: u64) -> rusqlite::Result<()> {
    let added = i64::try_from(added).unwrap_or(i64::MAX);
    let index_max = i64::try_from(index_max).unwrap_or(i64::MAX);
    let indexed: i64 = connection.prepare_cached("SELECT indexed FROM accounts WHERE id = ?1")?.query_row([account], |row| row.get(0))?;
    let rows = indexed.saturating_add(added);
    connection.prepare_cached("UPDATE accounts SET indexed = ?2 WHERE id = ?1")?.execute([account, rows.min(index_max)])?;
    let excess = rows - index_max;
    if excess > 0 {
        connection
            .prepare_cached(
                "DELETE FROM message_index WHERE account = ?1 AND (rank, message) IN
                     (SELECT rank, message FROM message_index WHERE account = ?1 ORDER BY rank, message LIMIT ?2)",
            )?
            .execute([account, excess])?;
    }
    Ok(())
}

/// Ranks are below 2^53.
pub(super) fn rank(message: &str) -> i64 {
    message_rank(message).cast_signed()
}
