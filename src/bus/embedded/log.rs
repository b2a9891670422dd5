//! The log of one topic: `<topic>.log.db`, written by publishers only, read by subscribers.
//!
//! Invariant: offsets grow by one a message and are never given twice, even after retention has deleted every row: `floor` remembers how
//! far it went. There are no gaps above `floor`.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::segment::{SEGMENT_BYTES, SEGMENT_MESSAGES_MAX, Segment, SegmentError, decode};
use super::sqlite::{self, Layout};
use crate::bus::{BusError, StorageError};
use crate::config::Durability;
use crate::schema::envelope::Envelope;
use crate::schema::time::Millis;

/// Bytes of a page. Every commit writes whole pages: with 16 KiB a publish of one message costs twice as much of the WAL, with 4 KiB large
/// batches are about a tenth slower.
const PAGE_BYTES: u32 = 8_192;

/// `data` stands last, so that the other columns are read without touching its pages.
const LAYOUT: Layout = Layout {
    version: 1,
    page_bytes: PAGE_BYTES,
    schema: "
        CREATE TABLE segment (
            first INTEGER PRIMARY KEY,
            count INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            published_at INTEGER NOT NULL,
            hash INTEGER NOT NULL,
            data BLOB NOT NULL
        );
        CREATE TABLE floor (one INTEGER PRIMARY KEY CHECK (one = 1), first INTEGER NOT NULL);
        INSERT INTO floor VALUES (1, 0);",
};

/// About how many bytes the WAL grows by when these segments are appended: the pages that they fill, and the leaf that is written anew.
pub(super) fn written_bytes(segments: &[Segment]) -> usize {
    let page = PAGE_BYTES as usize;
    segments.iter().map(|segment| segment.data.len() / page * page).sum::<usize>() + page
}

/// A connection to a topic's log.
pub(super) struct Log {
    path: PathBuf,
    connection: Connection,
}

/// Offsets that are leased together: at most [`SEGMENT_MESSAGES_MAX`], of one or several segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: i64,
    pub(super) count: i64,
    /// About how many bytes they have.
    pub(super) bytes: i64,
}

/// How much more a subscriber may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) messages: i64,
    pub(super) bytes: i64,
}

/// What comes next in the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Offsets before the first range that retention has deleted.
    pub(super) lost: i64,
    pub(super) ranges: Vec<Range>,
    /// Where to go on.
    pub(super) next: i64,
}

/// One message as it was read.
pub(super) struct Message {
    pub(super) offset: i64,
    pub(super) published_at: Millis,
    pub(super) envelope: Envelope,
}

/// The messages of a range, and what cannot be read of it. What is in neither was deleted by retention.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) messages: Vec<Message>,
    pub(super) corrupt: i64,
}

impl Log {
    pub(super) fn open(path: &Path, sync: Durability) -> Result<Self, BusError> {
        Ok(Self { path: path.to_owned(), connection: sqlite::open(path, &LAYOUT, sync)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends segments in one transaction.
    pub(super) fn append(&mut self, segments: &[Segment], now: Millis) -> Result<(), StorageError> {
        let write = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut first = end(&transaction)?;
            {
                let mut insert = transaction.prepare_cached("INSERT INTO segment VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
                for segment in segments {
                    insert.execute(params![first, segment.count, segment.bytes, now.0, segment.hash, segment.data])?;
                    first += segment.count;
                }
            }
            transaction.commit()
        };
        write(&mut self.connection).map_err(|error| StorageError::new(&self.path, &error))
    }

    /// The offset that the next message gets.
    pub(super) fn end(&self) -> Result<i64, StorageError> {
        end(&self.connection).map_err(|error| self.fault(&error))
    }

    /// The offset below which retention has deleted everything.
    pub(super) fn floor(&self) -> Result<i64, StorageError> {
        floor(&self.connection).map_err(|error| self.fault(&error))
    }

    /// When the segment that holds `offset` was written.
    pub(super) fn published_at(&self, offset: i64) -> Result<Option<Millis>, StorageError> {
        let sql = "SELECT published_at FROM segment WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
        let found = self.connection.query_row(sql, [offset], |row| row.get(0)).optional();
        found.map(|at| at.map(Millis)).map_err(|error| self.fault(&error))
    }

    /// The first offset that was published at `since` or later.
    pub(super) fn first_since(&self, since: Millis) -> Result<Option<i64>, StorageError> {
        let sql = "SELECT first FROM segment WHERE published_at >= ?1 ORDER BY first LIMIT 1";
        let found = self.connection.query_row(sql, [since.0], |row| row.get(0)).optional();
        found.map_err(|error| self.fault(&error))
    }

    /// Cuts what follows `next` into ranges, as far as there is room. Reads no data.
    pub(super) fn plan(&self, next: i64, room: Room) -> Result<Plan, StorageError> {
        plan(&self.connection, next, room).map_err(|error| self.fault(&error))
    }

    /// The messages of `count` offsets from `first`.
    pub(super) fn read(&self, first: i64, count: i64, cache: &mut SegmentCache) -> Result<Reading, StorageError> {
        self.read_rows(first, first + count, cache).map_err(|error| self.fault(&error))
    }

    fn read_rows(&self, first: i64, end: i64, cache: &mut SegmentCache) -> rusqlite::Result<Reading> {
        let mut reading = Reading::default();
        let mut at = first;
        if cache.covers(at) {
            at = cache.take(at, end, &mut reading);
        }
        if at >= end {
            return Ok(reading);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT first, count, bytes, published_at, hash, data FROM segment
             WHERE first >= ifnull((SELECT max(first) FROM segment WHERE first <= ?1), ?1) AND first < ?2 ORDER BY first",
        )?;
        let mut rows = statement.query([at, end])?;
        while let Some(row) = rows.next()? {
            let (segment_first, count): (i64, i64) = (row.get(0)?, row.get(1)?);
            if segment_first + count <= at {
                continue;
            }
            let messages = decode(count, row.get(2)?, row.get(4)?, row.get_ref(5)?.as_blob()?);
            if let Err(error) = &messages {
                self.report_corrupt(segment_first, count, error);
            }
            *cache = SegmentCache { first: segment_first, count, published_at: Millis(row.get(3)?), messages: messages.ok() };
            at = cache.take(at, end, &mut reading);
        }
        Ok(reading)
    }

    fn report_corrupt(&self, first: i64, count: i64, error: &SegmentError) {
        tracing::error!(path = %self.path.display(), first, count, %error, "a segment of the bus is damaged; its messages are skipped");
    }

    /// Deletes at most `rows_max` of the oldest segments, as age and size ask for it. Returns how many it deleted.
    pub(super) fn retain(&mut self, limits: &Retention, now: Millis, rows_max: i64) -> Result<usize, StorageError> {
        retain(&mut self.connection, limits, now, rows_max).map_err(|error| StorageError::new(&self.path, &error))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn fault(&self, error: &rusqlite::Error) -> StorageError {
        StorageError::new(&self.path, error)
    }
}

/// How much of the past a log keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    pub(super) age_max_ms: i64,
    pub(super) size_max_bytes: i64,
}

/// The segment that was read last: a window smaller than a segment would otherwise decompress it again for every few messages.
#[derive(Default)]
pub(super) struct SegmentCache {
    first: i64,
    count: i64,
    published_at: Millis,
    messages: Option<Vec<Envelope>>,
}

impl SegmentCache {
    fn covers(&self, offset: i64) -> bool {
        (self.first..self.first + self.count).contains(&offset)
    }

    /// Adds what the segment has of these offsets; returns where it ends.
    fn take(&self, first: i64, end: i64, reading: &mut Reading) -> i64 {
        let segment_end = self.first + self.count;
        let (from, to) = (first.max(self.first), end.min(segment_end));
        match &self.messages {
            Some(messages) => {
                let skipped = usize::try_from(from - self.first).unwrap_or(0);
                let wanted = (from..to).zip(&messages[skipped..]);
                let message =
                    |(offset, envelope): (i64, &Envelope)| Message { offset, published_at: self.published_at, envelope: envelope.clone() };
                reading.messages.extend(wanted.map(message));
            }
            None => reading.corrupt += to - from,
        }
        segment_end
    }
}

fn end(connection: &Connection) -> rusqlite::Result<i64> {
    let mut last = connection.prepare_cached("SELECT first + count FROM segment ORDER BY first DESC LIMIT 1")?;
    match last.query_row([], |row| row.get(0)).optional()? {
        Some(end) => Ok(end),
        None => floor(connection),
    }
}

fn floor(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT first FROM floor")?.query_row([], |row| row.get(0))
}

fn plan(connection: &Connection, next: i64, mut room: Room) -> rusqlite::Result<Plan> {
    let floor = floor(connection)?;
    let mut plan = Plan { lost: (floor - next).max(0), ranges: Vec::new(), next: next.max(floor) };
    let mut statement = connection.prepare_cached(
        "SELECT first, count, bytes FROM segment
         WHERE first >= ifnull((SELECT max(first) FROM segment WHERE first <= ?1), ?1) ORDER BY first",
    )?;
    let mut rows = statement.query([plan.next])?;
    while room.messages > 0 && room.bytes > 0 {
        let Some(row) = rows.next()? else { break };
        let (first, count, bytes): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let left = first + count - plan.next;
        if left <= 0 {
            continue;
        }
        // Of a segment that is larger than the room, as many messages as fit if all are of its average size; at least one.
        let average = (bytes / count.max(1)).max(1);
        let fitting = (room.bytes / average).max(1);
        let taken = left.min(room.messages).min(fitting);
        let bytes = average * taken;
        let joined = plan
            .ranges
            .last_mut()
            .filter(|range| range.count + taken <= SEGMENT_MESSAGES_MAX as i64 && range.bytes + bytes <= SEGMENT_BYTES as i64);
        match joined {
            Some(range) => {
                range.count += taken;
                range.bytes += bytes;
            }
            None => plan.ranges.push(Range { first: plan.next, count: taken, bytes }),
        }
        plan.next += taken;
        room.messages -= taken;
        room.bytes -= bytes;
        if taken < left {
            break;
        }
    }
    Ok(plan)
}

fn retain(connection: &mut Connection, limits: &Retention, now: Millis, rows_max: i64) -> rusqlite::Result<usize> {
    if !overdue(connection, limits, now)? {
        return Ok(0);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut deleted = 0;
    while deleted < rows_max && overdue(&transaction, limits, now)? {
        delete_oldest(&transaction)?;
        deleted += 1;
    }
    transaction.commit()?;
    Ok(usize::try_from(deleted).unwrap_or(0))
}

/// Whether the oldest segment has to go.
fn overdue(connection: &Connection, limits: &Retention, now: Millis) -> rusqlite::Result<bool> {
    let mut oldest = connection.prepare_cached("SELECT published_at FROM segment ORDER BY first LIMIT 1")?;
    let Some(published_at) = oldest.query_row([], |row| row.get::<_, i64>(0)).optional()? else { return Ok(false) };
    Ok(now.since(Millis(published_at)) > limits.age_max_ms || used_bytes(connection)? > limits.size_max_bytes)
}

/// Pages in use; the file itself never shrinks, its free pages are used again.
fn used_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}

fn delete_oldest(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut delete =
        transaction.prepare_cached("DELETE FROM segment WHERE first = (SELECT min(first) FROM segment) RETURNING first + count")?;
    let end: i64 = delete.query_row([], |row| row.get(0))?;
    transaction.prepare_cached("UPDATE floor SET first = ?1")?.execute([end])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::StorageFault;
    use crate::bus::embedded::segment::Encoder;

    const NOW: Millis = Millis(1_000_000);
    const PLENTY: Room = Room { messages: 1 << 40, bytes: 1 << 40 };

    fn log() -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(&dir.path().join("t.log.db"), Durability::Normal).unwrap();
        (dir, log)
    }

    fn append(log: &mut Log, count: usize, bytes: usize, now: Millis) -> Result<(), StorageError> {
        // Text that LZ4 does not shrink.
        let messages: Vec<Envelope> = (0..count)
            .map(|_| Envelope::new(0, &[], &std::iter::repeat_with(|| fastrand::u8(..)).take(bytes).collect::<Vec<u8>>()))
            .collect();
        log.append(&Encoder::default().encode(&messages), now)
    }

    #[test]
    fn offsets_are_not_given_twice_after_retention_deleted_everything() {
        let (_dir, mut log) = log();
        append(&mut log, 300, 1, NOW).unwrap();
        let limits = Retention { age_max_ms: 1_000, size_max_bytes: 1 << 40 };
        assert_eq!(log.retain(&limits, NOW.plus(1_000), 10).unwrap(), 0);
        assert_eq!(log.retain(&limits, NOW.plus(1_001), 1).unwrap(), 1);
        assert_eq!((log.floor().unwrap(), log.end().unwrap()), (256, 300));
        assert_eq!(log.retain(&limits, NOW.plus(1_001), 10).unwrap(), 1);
        assert_eq!((log.floor().unwrap(), log.end().unwrap()), (300, 300));
        append(&mut log, 1, 1, NOW).unwrap();
        let plan = log.plan(0, PLENTY).unwrap();
        assert_eq!((plan.lost, plan.next), (300, 301));
        assert_eq!(plan.ranges.iter().map(|range| (range.first, range.count)).collect::<Vec<_>>(), [(300, 1)]);
    }

    #[test]
    fn size_is_kept_by_deleting_the_oldest() {
        let (_dir, mut log) = log();
        for _ in 0..8 {
            append(&mut log, 1, 200 << 10, NOW).unwrap();
        }
        let limits = Retention { age_max_ms: i64::MAX, size_max_bytes: 1 << 20 };
        while log.retain(&limits, NOW, 2).unwrap() > 0 {}
        let floor = log.floor().unwrap();
        assert!((3..=5).contains(&floor), "{floor} of 8 deleted");
        assert_eq!(log.end().unwrap(), 8);
    }

    #[test]
    fn ranges_fill_the_room_and_join_small_segments() {
        let (_dir, mut log) = log();
        for count in [1, 2, 3, 256, 10] {
            append(&mut log, count, 10, NOW).unwrap();
        }
        for (next, messages, expected) in [
            (0, 1 << 40, vec![(0, 6), (6, 256), (262, 10)]),
            (0, 2, vec![(0, 2)]),
            (2, 100, vec![(2, 100)]),
            (100, 1 << 40, vec![(100, 172)]),
            (272, 5, vec![]),
        ] {
            let plan = log.plan(next, Room { messages, ..PLENTY }).unwrap();
            assert_eq!(plan.ranges.iter().map(|range| (range.first, range.count)).collect::<Vec<_>>(), expected, "from {next}");
            assert_eq!(plan.next, plan.ranges.last().map_or(next, |range| range.first + range.count));
        }
        let one = log.plan(6, Room { bytes: 1, ..PLENTY }).unwrap();
        assert_eq!(one.ranges.iter().map(|range| (range.first, range.count)).collect::<Vec<_>>(), [(6, 1)], "at least one message");
    }

    #[test]
    fn any_range_is_read_across_segments_and_with_a_cache() {
        let (_dir, mut log) = log();
        let messages: Vec<Envelope> = (0..20).map(|n: u32| Envelope::new(0, &[], n.to_string().as_bytes())).collect();
        for part in messages.chunks(7) {
            log.append(&Encoder::default().encode(part), NOW).unwrap();
        }
        let mut cache = SegmentCache::default();
        for (first, count) in [(0, 20), (3, 1), (4, 1), (5, 9), (13, 1), (0, 7), (6, 2), (18, 2)] {
            let reading = log.read(first, count, &mut cache).unwrap();
            let expected: Vec<(i64, &Envelope)> = (0i64..).zip(&messages).skip(first as usize).take(count as usize).collect();
            assert_eq!(reading.messages.iter().map(|m| (m.offset, &m.envelope)).collect::<Vec<_>>(), expected, "{count} from {first}");
        }
    }

    #[test]
    fn a_full_disk_and_a_read_only_one_refuse_and_recover() {
        let (_dir, mut log) = log();
        append(&mut log, 1, 10, NOW).unwrap();
        let pages: i64 = log.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let check = |log: &mut Log, pragma: &str, refuse: i64, allow: i64, fault: StorageFault, advice: &str| {
            let set = |log: &Log, value: i64| log.connection.pragma_update_and_check(None, pragma, value, |_| Ok(())).optional().unwrap();
            set(log, refuse);
            let end = log.end().unwrap();
            let error = append(log, 1, 1 << 20, NOW).unwrap_err();
            assert!(error.fault == fault && error.is_retryable(), "{error:?}");
            assert!(error.to_string().contains("t.log.db") && error.to_string().contains(advice), "{error}");
            assert_eq!(log.end().unwrap(), end, "nothing was written");
            set(log, allow);
            append(log, 1, 1 << 20, NOW).unwrap();
        };
        check(&mut log, "max_page_count", pages, 1 << 30, StorageFault::Full, "free some space");
        check(&mut log, "query_only", 1, 0, StorageFault::ReadOnly, "writable");
    }

    #[test]
    fn a_later_layout_is_refused() {
        let (dir, log) = log();
        log.connection.pragma_update(None, "user_version", 2).unwrap();
        let error = Log::open(&dir.path().join("t.log.db"), Durability::Normal).err().expect("refused").to_string();
        assert!(error.contains("t.log.db") && error.contains("layout 2") && error.contains("newer convpipe"), "{error}");
    }

    #[test]
    fn what_is_not_a_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.log.db");
        std::fs::write(&path, [b'x'; 4096]).unwrap();
        let error = Log::open(&path, Durability::Normal).err().expect("refused").to_string();
        assert!(error.contains("t.log.db") && error.contains("move the file away"), "{error}");
    }
}
