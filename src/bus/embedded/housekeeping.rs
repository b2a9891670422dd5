//! Checkpoints and retention, on a thread and a connection of their own, so that no commit waits for the disk.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::Connection;

use super::log::{Log, Retention};
use super::{now, spawn};
use crate::bus::{BusError, StorageError};

/// Bytes written between two checkpoints, about.
const CHECKPOINT_BYTES: usize = 16 << 20;
/// A WAL that writers have kept from ending is made to start over beyond this, and writers wait for it. It can be larger by what is written
/// during one checkpoint.
const WAL_BYTES_MAX: i64 = 32 << 20;
/// Longest time between two looks: old events go even while nothing is published.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Segments deleted in one transaction: about a millisecond for the writers.
const DELETED_AT_ONCE_MAX: i64 = 32;

/// The file whose house is kept.
pub(super) enum House {
    /// A log, with how much of the past it keeps.
    Log(Log, Retention),
    /// A subscription.
    Cursor(Connection, std::path::PathBuf),
}

/// Counts what is written and sends the thread to work. The thread ends when this is dropped.
pub(super) struct Housekeeper {
    signal: SyncSender<()>,
    written: usize,
    every: usize,
}

impl Housekeeper {
    pub(super) fn start(house: House) -> Result<Self, BusError> {
        let every = match &house {
            House::Log(_, retention) => usize::try_from(retention.size_max_bytes / 8).unwrap_or(0).min(CHECKPOINT_BYTES),
            House::Cursor(..) => CHECKPOINT_BYTES,
        };
        // One slot: a second signal while the first waits says nothing new.
        let (signal, signals) = sync_channel(1);
        spawn("bus-keeper", move || keep(house, &signals))?;
        Ok(Self { signal, written: 0, every })
    }

    /// Says that about so many bytes were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written >= self.every {
            self.written = 0;
            let _ = self.signal.try_send(());
        }
    }
}

fn keep(mut house: House, signals: &Receiver<()>) {
    loop {
        let last = match signals.recv_timeout(LOOK_EVERY) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if let Err(error) = work(&mut house) {
            // Nothing is lost: the WAL grows, and the next round tries again.
            tracing::warn!(%error, "the bus could not be tidied up");
        }
        if last {
            return;
        }
    }
}

fn work(house: &mut House) -> Result<(), StorageError> {
    match house {
        House::Log(log, retention) => {
            while log.retain(retention, now(), DELETED_AT_ONCE_MAX)? > 0 {}
            checkpoint(log.connection()).map_err(|error| StorageError::new(log.path(), &error))
        }
        House::Cursor(connection, path) => checkpoint(connection).map_err(|error| StorageError::new(path, &error)),
    }
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let wal_pages: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))?;
    if wal_pages * page_bytes > WAL_BYTES_MAX {
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
    }
    Ok(())
}
