//! How every file of the embedded engine is opened: WAL, layout version, patience with locks.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::bus::{BusError, StorageError};
use crate::config::Durability;

/// Pages that a connection keeps, KiB: a group commit, whose 4 MiB are a quarter when compressed, stays in memory until it is written as a whole. A larger one
/// begins to be written before its end, which costs nothing but the order of the writes. Once filled it stays with the process.
const PAGE_CACHE_KIB: i64 = 2 * 1024;

/// What a file is to hold.
pub(super) struct Layout {
    /// `user_version` of the file. A file of a later version is refused; there is no earlier one.
    pub(super) version: i64,
    /// Statements that create it.
    pub(super) schema: &'static str,
    /// Bytes of a page. Only counts when the file is created.
    pub(super) page_bytes: u32,
}

/// Opens a file, creating it where absent. Checkpoints never run inside a commit: [`super::housekeeping`] makes them.
pub(super) fn open(path: &Path, layout: &Layout, sync: Durability) -> Result<Connection, BusError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| StorageError::new(path, &error))?;
    let found = prepare(&mut connection, layout, sync).map_err(|error| StorageError::new(path, &error))?;
    if found > layout.version {
        return Err(BusError::NewerLayout { path: path.to_owned(), found, known: layout.version });
    }
    Ok(connection)
}

/// Settings and schema; returns the layout version that the file has now.
pub(super) fn prepare(connection: &mut Connection, layout: &Layout, sync: Durability) -> rusqlite::Result<i64> {
    connection.busy_handler(Some(wait_for_lock))?;
    connection.pragma_update(None, "page_size", layout.page_bytes)?;
    enter_wal(connection)?;
    let sync = match sync {
        Durability::Normal => "normal",
        Durability::Full => "full",
    };
    connection.pragma_update(None, "synchronous", sync)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(32);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut found = layout_version(&transaction)?;
    if found == 0 {
        transaction.execute_batch(layout.schema)?;
        transaction.pragma_update(None, "user_version", layout.version)?;
        found = layout.version;
    }
    transaction.commit()?;
    Ok(found)
}

/// Turns a new file into one with a write-ahead log. Two processes that open it at the same moment stand in each other's way, and here SQLite
/// answers that the file is busy without asking the busy handler.
fn enter_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut waits = 0;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && wait_for_lock(waits) => waits += 1,
            other => return other,
        }
    }
}

fn layout_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Longest total wait for a lock is about this many times [`LOCK_WAIT_MAX`]: 5 s.
const LOCK_WAITS_MAX: i32 = 1_000;
const LOCK_WAIT_MAX: Duration = Duration::from_millis(5);

/// A lock is held for well under a millisecond, so SQLite's own schedule (1, 2, 5, 10, … 100 ms) would sleep long past its release.
fn wait_for_lock(waits: i32) -> bool {
    if waits >= LOCK_WAITS_MAX {
        return false;
    }
    let doublings = u32::try_from(waits / 4).unwrap_or(0).min(5);
    std::thread::sleep(Duration::from_micros(200 << doublings).min(LOCK_WAIT_MAX));
    true
}
