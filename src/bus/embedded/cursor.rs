//! The state of one subscription: `<topic>.<subscription>.sub.db`, written by its subscribers only.
//!
//! `next` is the first offset that was never leased. A row of `lease` is a range before it that is not acked: held by `owner` until
//! `deadline`, or, with no owner, waiting to be delivered from `deadline` on. Invariant: an offset of the log is acked, or in a lease and not
//! in its `done`, or at least `next`; each change of that is one transaction, so a process may die at any instant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::leases::{Done, Settlement};
use super::log::{Log, Range, Room};
use super::sqlite::{self, Layout};
use crate::bus::{BusError, StorageError};
use crate::config::Durability;
use crate::schema::time::Millis;

const LAYOUT: Layout = Layout {
    version: 1,
    page_bytes: 4_096,
    schema: "
        CREATE TABLE cursor (one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL, next_lease INTEGER NOT NULL);
        CREATE TABLE lease (
            id INTEGER PRIMARY KEY,
            first INTEGER NOT NULL,
            count INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            done BLOB NOT NULL,
            attempt INTEGER NOT NULL,
            owner TEXT,
            deadline INTEGER NOT NULL
        );
        CREATE INDEX waiting ON lease (deadline) WHERE owner IS NULL;",
};

/// One subscriber's connection to its subscription.
pub(super) struct Cursor {
    path: PathBuf,
    connection: Connection,
    /// Name of this subscriber, unique among all that ever were.
    owner: String,
    lease: Duration,
}

/// What could be leased, seen without a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outlook {
    pub(super) next: i64,
    /// When the first waiting lease may be delivered.
    pub(super) waiting_at: Option<Millis>,
}

/// What a [`Cursor::turn`] is to do besides writing the settlements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) now: Millis,
    /// Lease up to this much.
    pub(super) room: Option<Room>,
    /// Nothing is held, so a waiting lease is taken even where it is larger than the room: it would never fit.
    pub(super) alone: bool,
    /// Move the deadline of all leases held.
    pub(super) extend: bool,
}

/// How what is held is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveBack {
    /// As if it had not been delivered.
    Unseen,
    /// The delivery counts as an attempt.
    Seen,
}

/// A lease that this subscriber now holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) lease: i64,
    pub(super) first: i64,
    pub(super) count: i64,
    pub(super) done: Done,
    pub(super) attempt: u32,
}

/// What a turn brought.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// In the order of delivery.
    pub(super) grants: Vec<Grant>,
    /// Messages that retention deleted before they were ever leased.
    pub(super) lost: i64,
}

/// What is not acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unacked {
    pub(super) messages: i64,
    pub(super) oldest: Option<i64>,
}

impl Cursor {
    /// Opens a subscription, creating it at the oldest message that the log still holds.
    pub(super) fn open(path: &Path, log: &Log, owner: String, lease: Duration, sync: Durability) -> Result<Self, BusError> {
        let connection = sqlite::open(path, &LAYOUT, sync)?;
        let cursor = Self { path: path.to_owned(), connection, owner, lease };
        let start = "INSERT INTO cursor VALUES (1, ?1, 1) ON CONFLICT DO NOTHING";
        cursor.connection.execute(start, [log.floor()?]).map_err(|error| cursor.fault(&error))?;
        Ok(cursor)
    }

    /// A second connection to the same file, for its housekeeping.
    pub(super) fn open_connection(path: &Path, sync: Durability) -> Result<Connection, BusError> {
        sqlite::open(path, &LAYOUT, sync)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What could be leased now.
    pub(super) fn outlook(&self) -> Result<Outlook, StorageError> {
        let read = || -> rusqlite::Result<Outlook> {
            let next = self.connection.prepare_cached("SELECT next FROM cursor")?.query_row([], |row| row.get(0))?;
            let mut waiting = self.connection.prepare_cached("SELECT min(deadline) FROM lease WHERE owner IS NULL")?;
            let waiting_at: Option<i64> = waiting.query_row([], |row| row.get(0))?;
            Ok(Outlook { next, waiting_at: waiting_at.map(Millis) })
        };
        read().map_err(|error| self.fault(&error))
    }

    /// Writes settlements and takes leases, all or nothing. Waiting leases come first; while the first of them does not fit, nothing else is
    /// leased, so that it is not overtaken for ever.
    pub(super) fn turn(&mut self, settlements: &[Settlement], turn: Turn, log: &Log) -> Result<Granted, StorageError> {
        self.write(|transaction, owner, lease| {
            let deadline = turn.now.plus(millis(lease));
            for settlement in settlements {
                settle(transaction, owner, settlement, turn.now)?;
            }
            if turn.extend {
                let extend = "UPDATE lease SET deadline = ?1 WHERE owner = ?2";
                transaction.prepare_cached(extend)?.execute(params![deadline.0, owner])?;
            }
            let Some(room) = turn.room else { return Ok(Granted::default()) };
            let (mut grants, left) = lease_waiting(transaction, owner, turn, deadline, room)?;
            let Some(left) = left else { return Ok(Granted { grants, lost: 0 }) };
            let next = transaction.query_row("SELECT next FROM cursor", [], |row| row.get(0))?;
            let plan = log.plan(next, left)?;
            if plan.next != next {
                grants.extend(lease_new(transaction, owner, deadline, &plan.ranges, plan.next)?);
            }
            Ok(Granted { grants, lost: plan.lost })
        })
    }

    /// Makes leases wait whose time is over or whose owner `is_dead`. Returns how many.
    pub(super) fn reclaim(&mut self, now: Millis, is_dead: impl Fn(&str) -> bool) -> Result<usize, StorageError> {
        let overdue = self.overdue_owners(now, is_dead).map_err(|error| self.fault(&error))?;
        if overdue.is_empty() {
            return Ok(0);
        }
        self.write(|transaction, _, _| {
            let sql = "UPDATE lease SET owner = NULL, deadline = ?1 WHERE owner = ?2 AND (?3 OR deadline <= ?1)";
            let mut reclaim = transaction.prepare_cached(sql)?;
            let mut reclaimed = 0;
            for (owner, dead) in &overdue {
                reclaimed += reclaim.execute(params![now.0, owner, dead])?;
            }
            Ok(reclaimed)
        })
    }

    /// Other subscribers that hold leases and are dead, or have let one expire; with whether they are dead.
    fn overdue_owners(&self, now: Millis, is_dead: impl Fn(&str) -> bool) -> rusqlite::Result<Vec<(String, bool)>> {
        let sql = "SELECT owner, min(deadline) FROM lease WHERE owner <> ?1 GROUP BY owner";
        let mut statement = self.connection.prepare_cached(sql)?;
        let owners = statement.query_map([&self.owner], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let mut overdue = Vec::new();
        for row in owners {
            let (owner, deadline) = row?;
            let dead = is_dead(&owner);
            if dead || deadline <= now.0 {
                overdue.push((owner, dead));
            }
        }
        Ok(overdue)
    }

    /// Writes settlements and gives back everything held. Returns how many leases were given back.
    pub(super) fn release(&mut self, settlements: &[Settlement], as_what: GiveBack, now: Millis) -> Result<usize, StorageError> {
        self.write(|transaction, owner, _| {
            for settlement in settlements {
                settle(transaction, owner, settlement, now)?;
            }
            let sql = "UPDATE lease SET owner = NULL, deadline = ?1, attempt = attempt - ?3 WHERE owner = ?2";
            Ok(transaction.execute(sql, params![now.0, owner, as_what == GiveBack::Unseen])?)
        })
    }

    fn write<T>(&mut self, body: impl FnOnce(&Transaction<'_>, &str, Duration) -> Result<T, TurnError>) -> Result<T, StorageError> {
        let Self { path, connection, owner, lease } = self;
        let run = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = body(&transaction, owner, *lease)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error| match error {
            TurnError::Cursor(error) => StorageError::new(path, &error),
            TurnError::Log(error) => error,
        })
    }

    fn fault(&self, error: &rusqlite::Error) -> StorageError {
        StorageError::new(&self.path, error)
    }
}

/// Which of the two files a turn failed on.
enum TurnError {
    Cursor(rusqlite::Error),
    Log(StorageError),
}

impl From<rusqlite::Error> for TurnError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Cursor(error)
    }
}

impl From<StorageError> for TurnError {
    fn from(error: StorageError) -> Self {
        Self::Log(error)
    }
}

/// What the subscription stored at `path` has not acked of `log`.
pub(super) fn unacked(path: &Path, log: &Log) -> Result<Unacked, BusError> {
    let ranges = unacked_ranges(path, log)?;
    let messages = ranges.iter().map(|range| range.end - range.start).sum();
    Ok(Unacked { messages, oldest: ranges.first().map(|range| range.start) })
}

/// The same as ranges of offsets, in order; all of `log` where there is no such subscription yet.
pub(super) fn unacked_ranges(path: &Path, log: &Log) -> Result<Vec<std::ops::Range<i64>>, BusError> {
    let (end, floor) = (log.end()?, log.floor()?);
    let whole = floor..end.max(floor);
    if !path.exists() {
        return Ok(Some(whole).filter(|range| !range.is_empty()).into_iter().collect());
    }
    let connection = sqlite::open(path, &LAYOUT, Durability::Normal)?;
    let read = || -> rusqlite::Result<Vec<std::ops::Range<i64>>> {
        let next: Option<i64> = connection.query_row("SELECT next FROM cursor", [], |row| row.get(0)).optional()?;
        let next = next.unwrap_or(floor).max(floor);
        let mut leases = connection.prepare("SELECT first, count, done FROM lease ORDER BY first")?;
        let mut rows = leases.query([])?;
        let mut open = Vec::new();
        while let Some(row) = rows.next()? {
            let (first, count): (i64, i64) = (row.get(0)?, row.get(1)?);
            let done = Done::from_blob(row.get_ref(2)?.as_blob()?);
            let offsets = (first..first + count).zip(0u32..).filter(|(offset, index)| *offset >= floor && !done.contains(*index));
            open.extend(offsets.map(|(offset, _)| offset));
        }
        open.sort_unstable();
        let mut ranges: Vec<std::ops::Range<i64>> = Vec::new();
        for range in open.into_iter().map(|offset| offset..offset + 1).chain((next < end).then_some(next..end)) {
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        Ok(ranges)
    };
    Ok(read().map_err(|error| StorageError::new(path, &error))?)
}

/// Whether an offset needs no further delivery; `None` where there is no such subscription.
pub(super) fn is_acked(path: &Path, offset: i64) -> Result<Option<bool>, BusError> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = sqlite::open(path, &LAYOUT, Durability::Normal)?;
    let read = || -> rusqlite::Result<Option<bool>> {
        let next: Option<i64> = connection.query_row("SELECT next FROM cursor", [], |row| row.get(0)).optional()?;
        let mut leases = connection.prepare("SELECT first, done FROM lease WHERE first <= ?1 AND ?1 < first + count")?;
        let mut rows = leases.query([offset])?;
        let mut is_open = false;
        while let Some(row) = rows.next()? {
            let index = u32::try_from(offset - row.get::<_, i64>(0)?).unwrap_or(u32::MAX);
            is_open |= !Done::from_blob(row.get_ref(1)?.as_blob()?).contains(index);
        }
        Ok(next.map(|next| offset < next && !is_open))
    };
    Ok(read().map_err(|error| StorageError::new(path, &error))?)
}

/// Delivers everything from offset `first` on again, beside what is leased now.
pub(super) fn rewind(path: &Path, first: i64, sync: Durability) -> Result<(), BusError> {
    let connection = sqlite::open(path, &LAYOUT, sync)?;
    connection.execute("UPDATE cursor SET next = min(next, ?1)", [first]).map_err(|error| StorageError::new(path, &error))?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Writes what is known of one lease. A lease that another took over meanwhile is no longer ours to change.
fn settle(transaction: &Transaction<'_>, owner: &str, settlement: &Settlement, now: Millis) -> rusqlite::Result<()> {
    if !settlement.nacks.is_empty() {
        let mut find = transaction.prepare_cached("SELECT first, attempt FROM lease WHERE id = ?1 AND owner = ?2")?;
        let found: Option<(i64, i64)> =
            find.query_row(params![settlement.lease, owner], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((first, attempt)) = found else { return Ok(()) };
        let mut insert = transaction.prepare_cached("INSERT INTO lease VALUES (?1, ?2, 1, ?3, x'', ?4, NULL, ?5)")?;
        for nack in &settlement.nacks {
            let due = now.plus(millis(nack.delay));
            insert.execute(params![next_lease(transaction)?, first + i64::from(nack.index), nack.bytes, attempt, due.0])?;
        }
    }
    if settlement.complete {
        transaction.prepare_cached("DELETE FROM lease WHERE id = ?1 AND owner = ?2")?.execute(params![settlement.lease, owner])?;
    } else {
        let sql = "UPDATE lease SET done = ?1 WHERE id = ?2 AND owner = ?3";
        transaction.prepare_cached(sql)?.execute(params![settlement.done.to_blob(), settlement.lease, owner])?;
    }
    Ok(())
}

/// A lease id. Each grant has its own, never given twice: a late answer must not hit another delivery.
fn next_lease(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let mut take = transaction.prepare_cached("UPDATE cursor SET next_lease = next_lease + 1 RETURNING next_lease - 1")?;
    take.query_row([], |row| row.get(0))
}

/// Takes waiting leases that are due, oldest first. Returns the room that is left for new ones, or `None` where a waiting one did not fit.
fn lease_waiting(
    transaction: &Transaction<'_>,
    owner: &str,
    turn: Turn,
    deadline: Millis,
    mut room: Room,
) -> rusqlite::Result<(Vec<Grant>, Option<Room>)> {
    let sql = "SELECT id, first, count, bytes, done, attempt FROM lease WHERE owner IS NULL AND deadline <= ?1 ORDER BY deadline, first";
    let mut due = transaction.prepare_cached(sql)?;
    let mut rows = due.query([turn.now.0])?;
    let (mut waiting, mut grants) = (Vec::new(), Vec::new());
    let mut all_fit = true;
    while let Some(row) = rows.next()? {
        let done = Done::from_blob(row.get_ref(4)?.as_blob()?);
        let (count, bytes): (i64, i64) = (row.get(2)?, row.get(3)?);
        let open = count - i64::from(done.count());
        let fits = open <= room.messages && bytes <= room.bytes;
        if !(fits || turn.alone && grants.is_empty()) {
            all_fit = false;
            break;
        }
        room = Room { messages: room.messages - open, bytes: room.bytes - bytes };
        waiting.push(row.get::<_, i64>(0)?);
        grants.push(Grant { lease: 0, first: row.get(1)?, count, done, attempt: row.get::<_, u32>(5)? + 1 });
    }
    drop(rows);
    // With a new id: the subscriber that had it before may be this one, and its late answers must not count for the new delivery.
    let mut take = transaction.prepare_cached("UPDATE lease SET id = ?1, owner = ?2, deadline = ?3, attempt = ?4 WHERE id = ?5")?;
    for (id, grant) in waiting.iter().zip(&mut grants) {
        grant.lease = next_lease(transaction)?;
        take.execute(params![grant.lease, owner, deadline.0, grant.attempt, id])?;
    }
    Ok((grants, all_fit.then_some(room)))
}

fn lease_new(transaction: &Transaction<'_>, owner: &str, deadline: Millis, ranges: &[Range], next: i64) -> rusqlite::Result<Vec<Grant>> {
    transaction.prepare_cached("UPDATE cursor SET next = ?1")?.execute([next])?;
    let mut insert = transaction.prepare_cached("INSERT INTO lease VALUES (?1, ?2, ?3, ?4, x'', 1, ?5, ?6)")?;
    let grant = |range: &Range| {
        let lease = next_lease(transaction)?;
        insert.execute(params![lease, range.first, range.count, range.bytes, owner, deadline.0])?;
        Ok(Grant { lease, first: range.first, count: range.count, done: Done::default(), attempt: 1 })
    };
    ranges.iter().map(grant).collect()
}
