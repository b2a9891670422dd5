//! The file: how it is made, opened and checked, its tables, and what its errors mean.

use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::super::DocumentsError;
use crate::config::Durability;

/// `PRAGMA application_id` of a documents file: `cvpd`.
const APPLICATION_ID: i64 = 0x6376_7064;
/// `PRAGMA user_version`: the layout that this version reads and writes.
const LAYOUT: i64 = 1;

/// Longest wait for another process's lock. A commit takes milliseconds, so this is met only where a process hangs.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// Longest single wait in between.
const BUSY_STEP_MAX: Duration = Duration::from_millis(4);

/// Statements kept prepared; the room has about twenty.
const STATEMENTS: usize = 32;
/// Pages of the log (4 KiB each) after which a commit also copies them into the file. Larger than SQLite's default, because a page
/// that several batches touched is then copied once.
const CHECKPOINT_PAGES: u32 = 4_096;
/// What stays of the log on disk after a checkpoint, bytes.
const LOG_KEPT_BYTES: u32 = 64 << 20;
/// Memory for pages, in KiB.
const WRITER_CACHE_KIB: i64 = 32 << 10;
const READER_CACHE_KIB: i64 = 8 << 10;

/// Accounts and conversations have numbers, because their names stand in front of every key. Times are milliseconds since 1970.
///
/// A message that is only known as deleted has no `sent_at` and an empty document. `version` is the document's `changed_at`, or the
/// smallest integer where it has none. The history index leaves deletions without a message out.
const TABLES: &str = "
CREATE TABLE accounts (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    indexed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE conversations (
    id      INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    name    TEXT NOT NULL,
    UNIQUE (account, name)
) STRICT;
CREATE TABLE summaries (
    account      INTEGER NOT NULL,
    fan          TEXT NOT NULL,
    conversation TEXT NOT NULL,
    rev          INTEGER NOT NULL,
    expire_at    INTEGER NOT NULL,
    fold         BLOB NOT NULL,
    summary      BLOB NOT NULL,
    PRIMARY KEY (account, fan)
) STRICT;
CREATE INDEX summaries_by_fan ON summaries (fan, account);
CREATE INDEX summaries_by_expiry ON summaries (expire_at);
CREATE TABLE messages (
    conversation INTEGER NOT NULL,
    message      TEXT NOT NULL,
    sent_at      INTEGER,
    version      INTEGER NOT NULL,
    deleted_at   INTEGER,
    expire_at    INTEGER NOT NULL,
    document     BLOB NOT NULL,
    PRIMARY KEY (conversation, message)
) STRICT;
CREATE INDEX messages_by_time ON messages (conversation, sent_at, message) WHERE sent_at IS NOT NULL;
CREATE INDEX messages_by_expiry ON messages (expire_at);
CREATE TABLE message_index (
    account      INTEGER NOT NULL,
    rank         INTEGER NOT NULL,
    message      TEXT NOT NULL,
    conversation TEXT,
    deleted_at   INTEGER,
    PRIMARY KEY (account, rank, message)
) STRICT, WITHOUT ROWID;
";

/// What is known of accounts beyond their conversations. Made wherever it is missing, as earlier files have none; whoever does not know it does not mind.
const ACCOUNT_STATES: &str = "
CREATE TABLE IF NOT EXISTS account_states (
    account   INTEGER PRIMARY KEY,
    rev       INTEGER NOT NULL,
    expire_at INTEGER NOT NULL,
    fold      BLOB NOT NULL,
    document  BLOB NOT NULL
) STRICT;
";

/// The documents file.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
}

impl File {
    pub(super) fn at(path: &Path) -> Self {
        // Absolute, so that an error says where it really is and SQLite never takes the name for a URI.
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()) }
    }

    /// Makes the file where there is none and opens it for the one thread that writes.
    pub(super) fn open_writer(&self, sync: Durability) -> Result<Connection, DocumentsError> {
        self.create()?;
        let mut connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE_KIB)?;
        // Looked at before anything is changed: somebody else's database stays as it is.
        if self.content(&connection)? == Content::Foreign {
            return Err(self.foreign());
        }
        prepare(&mut connection, sync).map_err(|error| self.failed("preparing", &error))?;
        Ok(connection)
    }

    /// Opens the file, which has to exist, for reading.
    pub(super) fn open_reader(&self) -> Result<Connection, DocumentsError> {
        match self.path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(DocumentsError::Missing { store: self.to_string() }),
            Err(error) => return Err(self.unavailable("opening", error.to_string())),
        }
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB)?;
        match self.content(&connection)? {
            Content::Documents => Ok(connection),
            Content::Nothing => Err(DocumentsError::Missing { store: self.to_string() }),
            Content::Foreign => Err(self.foreign()),
        }
    }

    /// Folder 0700, file 0600. An existing file is not opened here: closing it would drop the locks that SQLite holds on it for other
    /// handles of this process, as POSIX has it.
    fn create(&self) -> Result<(), DocumentsError> {
        if let Some(dir) = self.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|error| self.unavailable("making its folder", error.to_string()))?;
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => return Err(self.read_only(error.to_string())),
            Err(error) if error.kind() == ErrorKind::StorageFull => return Err(DocumentsError::Full { store: self.to_string() }),
            Err(error) => return Err(self.unavailable("making it", error.to_string())),
        }
        // Whoever took the write permission away meant it, also towards root, whom it would not stop.
        let mode = std::fs::metadata(&self.path).map_err(|error| self.unavailable("opening", error.to_string()))?.permissions().mode();
        if mode & 0o200 == 0 { Err(self.read_only(format!("mode {:04o}", mode & 0o7777))) } else { Ok(()) }
    }

    fn connect(&self, flags: OpenFlags, cache_kib: i64) -> Result<Connection, DocumentsError> {
        let open = || {
            let mut connection = Connection::open_with_flags(&self.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            let mut waiting = Waiting::default();
            connection.busy_handler(Some(move |attempt: i32| waiting.again(attempt == 0)))?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            connection.pragma_update(None, "cache_size", -cache_kib)?;
            connection.pragma_update(None, "temp_store", "memory")?;
            Ok(connection)
        };
        open().map_err(|error| self.failed("opening", &error))
    }

    /// What lies in the file, read in one transaction: another process may be making the tables right now.
    fn content(&self, connection: &Connection) -> Result<Content, DocumentsError> {
        let read = || {
            let transaction = connection.unchecked_transaction()?;
            let id: i64 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
            let layout: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let is_empty: bool = transaction.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| row.get(0))?;
            Ok((id, layout, is_empty))
        };
        match read().map_err(|error| self.failed("opening", &error))? {
            (APPLICATION_ID, layout, _) if layout > LAYOUT => {
                Err(DocumentsError::Newer { store: self.to_string(), found: layout, known: LAYOUT })
            }
            (APPLICATION_ID, LAYOUT, _) => Ok(Content::Documents),
            (0, 0, true) => Ok(Content::Nothing),
            _ => Ok(Content::Foreign),
        }
    }

    /// The error of a failed call to SQLite.
    pub(super) fn failed(&self, what: &'static str, error: &rusqlite::Error) -> DocumentsError {
        let store = self.to_string();
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => DocumentsError::Full { store },
            Some(ErrorCode::ReadOnly) => DocumentsError::ReadOnly { store, detail },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DocumentsError::Busy { store, waited_s: BUSY_MAX.as_secs() },
            Some(ErrorCode::DatabaseCorrupt) => DocumentsError::Corrupt { store, detail },
            Some(ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
                DocumentsError::RefusedDocument { store, document: "a document of this call".to_owned(), detail }
            }
            Some(ErrorCode::NotADatabase) => DocumentsError::Foreign { store },
            _ => DocumentsError::Unavailable { store, what, detail },
        }
    }

    pub(super) fn document(&self, what: String, source: serde_json::Error) -> DocumentsError {
        DocumentsError::Document { store: self.to_string(), what, source }
    }

    pub(super) fn read_only(&self, detail: String) -> DocumentsError {
        DocumentsError::ReadOnly { store: self.to_string(), detail }
    }

    pub(super) fn stopped(&self) -> DocumentsError {
        DocumentsError::Stopped { store: self.to_string() }
    }

    pub(super) fn unavailable(&self, what: &'static str, detail: String) -> DocumentsError {
        DocumentsError::Unavailable { store: self.to_string(), what, detail }
    }

    fn foreign(&self) -> DocumentsError {
        DocumentsError::Foreign { store: self.to_string() }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "documents file {}", self.path.display())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Our tables.
    Documents,
    /// No tables at all.
    Nothing,
    /// Somebody else's.
    Foreign,
}

/// Write-ahead log, durability, tables.
fn prepare(connection: &mut Connection, sync: Durability) -> rusqlite::Result<()> {
    use_log(connection)?;
    connection.pragma_update(
        None,
        "synchronous",
        match sync {
            Durability::Normal => "normal",
            Durability::Full => "full",
        },
    )?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let layout: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if layout == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", LAYOUT)?;
    }
    transaction.execute_batch(ACCOUNT_STATES)?;
    transaction.commit()
}

/// Switches to the write-ahead log. While another process does the same with a fresh file, SQLite answers "busy" without asking the
/// busy handler, so the waiting is done here.
fn use_log(connection: &Connection) -> rusqlite::Result<()> {
    let mut waiting = Waiting::default();
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && waiting.again(false) => {}
            outcome => return outcome,
        }
    }
}

/// Short sleeps up to a total.
#[derive(Debug, Default)]
struct Waiting {
    since: Option<Instant>,
    slept: u32,
}

impl Waiting {
    /// Sleeps and says true, or says false where the total is reached. `afresh` starts over.
    fn again(&mut self, afresh: bool) -> bool {
        if afresh {
            *self = Self::default();
        }
        if self.since.get_or_insert_with(Instant::now).elapsed() >= BUSY_MAX {
            return false;
        }
        thread::sleep((Duration::from_micros(100) * (1 << self.slept.min(6))).min(BUSY_STEP_MAX));
        self.slept += 1;
        true
    }
}
