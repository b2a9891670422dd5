//! The embedded engine: one SQLite file in WAL mode, shared by the processes of one machine.
//!
//! Owns: the handle that async code calls; its threads do the I/O, so that SQLite never blocks a tokio worker. One thread owns the only
//! write connection and takes requests from a bounded channel: those that came while the last commit ran share the next transaction.
//! Reads have a connection and a thread of their own. The threads end when the last handle is dropped, after what was requested is done.

mod account;
mod layout;
mod read;
mod resolve;
mod worker;
mod write;

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::layout::File;
use self::worker::{Job, Read, Task};
use super::{AccountSummary, DocumentsError, History, HistoryPage, PAGE_MAX, StoredState, StoredSummary, SummaryDocument};
use crate::config::EmbeddedDocumentsConfig;
use crate::schema::time::Millis;
use crate::transform::materialize::{AccountDocumentWrite, SummaryWrite, WriteOutcome};
use crate::transform::resolve::{Claims, Resolved};

/// Requests that wait for a thread; a caller beyond them waits for a place.
const QUEUE_DEPTH_MAX: usize = 64;

/// What a handle may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and write; the file is made where there is none.
    ReadWrite,
    /// Read a file that exists. Writing is refused.
    ReadOnly,
}

/// A handle on the file.
#[derive(Clone)]
pub struct EmbeddedDocuments {
    file: Arc<File>,
    /// Absent where the file was opened to be read.
    writer: Option<mpsc::Sender<Box<dyn Job>>>,
    reader: mpsc::Sender<Read>,
    index_max: u64,
}

impl EmbeddedDocuments {
    /// Opens the file. See [`super::Documents::embedded`].
    ///
    /// # Errors
    /// Where the file cannot be opened, is no documents file, or was written by a newer version.
    pub async fn open(config: &EmbeddedDocumentsConfig, access: Access) -> Result<Self, DocumentsError> {
        let config = config.clone();
        let file = Arc::new(File::at(&config.path));
        let opened = Arc::clone(&file);
        tokio::task::spawn_blocking(move || Self::open_blocking(&config, opened, access)).await.unwrap_or_else(|_| Err(file.stopped()))
    }

    fn open_blocking(config: &EmbeddedDocumentsConfig, file: Arc<File>, access: Access) -> Result<Self, DocumentsError> {
        let writer = match access {
            Access::ReadOnly => None,
            Access::ReadWrite => {
                let connection = file.open_writer(config.sync)?;
                let (sender, requests) = mpsc::channel(QUEUE_DEPTH_MAX);
                worker::spawn_writer(Arc::clone(&file), connection, requests)?;
                Some(sender)
            }
        };
        let connection = file.open_reader()?;
        let (reader, requests) = mpsc::channel(QUEUE_DEPTH_MAX);
        worker::spawn_reader(&file, connection, requests)?;
        Ok(Self { file, writer, reader, index_max: config.message_index_max })
    }

    pub(super) async fn load(&self, fans: &[(String, String)]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
        let fans = fans.to_vec();
        self.read(move |connection| read::load(connection, &fans)).await
    }

    pub(super) async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, DocumentsError> {
        let (claims, index_max) = (claims.to_vec(), self.index_max);
        let weight = claims.iter().map(|claims| claims.messages.len() + claims.deletes.len()).sum();
        self.change(weight, move |connection| resolve::resolve(connection, &claims, index_max)).await
    }

    pub(super) async fn write(&self, writes: Vec<SummaryWrite>) -> Result<Vec<WriteOutcome>, DocumentsError> {
        let rows: Result<Vec<_>, _> = writes.into_iter().map(write::Row::of).collect();
        let rows = rows.map_err(|(what, source)| self.file.document(what, source))?;
        let weight = rows.iter().map(write::Row::weight).sum();
        self.change(weight, move |connection| write::write(connection, &rows)).await
    }

    pub(super) async fn load_accounts(&self, accounts: &[String]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
        let accounts = accounts.to_vec();
        self.read(move |connection| account::load(connection, &accounts)).await
    }

    pub(super) async fn write_accounts(&self, writes: Vec<AccountDocumentWrite>) -> Result<Vec<WriteOutcome>, DocumentsError> {
        self.change(writes.len(), move |connection| account::write(connection, &writes)).await
    }

    pub(super) async fn deletions(
        &self,
        account: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Millis)>, DocumentsError> {
        let (account, after) = (account.to_owned(), after.map(|after| (resolve::rank(after), after.to_owned())));
        self.read(move |connection| {
            let after = after.as_ref().map(|(rank, message)| (*rank, message.as_str()));
            account::deletions(connection, &account, after, limit)
        })
        .await
    }

    pub(super) async fn prune(&self, now: Millis, limit: usize) -> Result<u64, DocumentsError> {
        self.change(limit, move |connection| write::prune(connection, now, limit)).await
    }

    pub(super) async fn summary(&self, account: &str, fan: &str, now: Millis) -> Result<Option<SummaryDocument>, DocumentsError> {
        let (account, fan) = (account.to_owned(), fan.to_owned());
        let what = format!("the summary of fan {fan:?} of account {account:?}");
        let found = self.read(move |connection| read::summary(connection, &account, &fan, now)).await?;
        let Some((rev, json)) = found else { return Ok(None) };
        let summary = serde_json::from_slice(&json).map_err(|source| self.file.document(what, source))?;
        Ok(Some(SummaryDocument { rev, summary }))
    }

    pub(super) async fn stored(&self, account: &str, fans: &[String], now: Millis) -> Result<Vec<Option<StoredSummary>>, DocumentsError> {
        let (account, fans) = (account.to_owned(), fans.to_vec());
        self.read(move |connection| read::stored(connection, &account, &fans, now)).await
    }

    pub(super) async fn find_fan(&self, fan: &str, now: Millis) -> Result<Vec<String>, DocumentsError> {
        let fan = fan.to_owned();
        self.read(move |connection| read::find_fan(connection, &fan, now)).await
    }

    pub(super) async fn history(
        &self,
        account: &str,
        conversation: &str,
        page: HistoryPage,
        now: Millis,
    ) -> Result<History, DocumentsError> {
        let (account, conversation) = (account.to_owned(), conversation.to_owned());
        let what = format!("in conversation {conversation:?} of account {account:?}");
        let limit = page.limit.clamp(1, PAGE_MAX);
        let (rows, next) =
            self.read(move |connection| read::history(connection, &account, &conversation, page.before.as_ref(), limit, now)).await?;
        let decode = |row: read::MessageRow| {
            row.decode().map_err(|(message, source)| self.file.document(format!("message {message:?} {what}"), source))
        };
        Ok(History { messages: rows.into_iter().map(decode).collect::<Result<_, _>>()?, next })
    }

    pub(super) async fn accounts(&self) -> Result<Vec<String>, DocumentsError> {
        self.read(read::accounts).await
    }

    pub(super) async fn summaries(
        &self,
        account: &str,
        after: Option<&str>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<AccountSummary>, DocumentsError> {
        let (account, after) = (account.to_owned(), after.map(str::to_owned));
        let limit = limit.clamp(1, PAGE_MAX);
        self.read(move |connection| read::summaries(connection, &account, after.as_deref(), limit, now)).await
    }

    /// Has the read thread do `work`.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DocumentsError> {
        let (reply, answer) = oneshot::channel();
        let request: Read = Box::new(move |connection| {
            // Nobody waits any more where the caller was dropped.
            let _ = reply.send(work(connection));
        });
        self.reader.send(request).await.map_err(|_| self.file.stopped())?;
        answer.await.map_err(|_| self.file.stopped())?.map_err(|error| self.file.failed("reading", &error))
    }

    /// Has the write thread do `work` within a transaction. It may run twice, each time from the same state of the store.
    async fn change<T: Send + 'static>(
        &self,
        weight: usize,
        work: impl Fn(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DocumentsError> {
        let Some(writer) = &self.writer else { return Err(self.file.read_only("opened to be read".to_owned())) };
        let (task, answer) = Task::new(weight, work);
        writer.send(Box::new(task)).await.map_err(|_| self.file.stopped())?;
        answer.await.map_err(|_| self.file.stopped())?
    }
}

impl fmt::Display for EmbeddedDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl fmt::Debug for EmbeddedDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedDocuments").field("file", &self.file).field("writes", &self.writer.is_some()).finish_non_exhaustive()
    }
}
