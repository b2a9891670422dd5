//! The two threads: one writes, one reads.

use std::sync::Arc;
use std::thread;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::super::DocumentsError;
use super::layout::File;

/// Rows after which no further request joins a transaction: about 50 ms of work, so that the first of them does not wait long.
const GROUP_ROWS_MAX: usize = 8_192;

/// A read, done on the read thread; it answers by itself.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// A change, done on the write thread. It has to leave the store as it was where it fails, which the transaction around it does.
pub(super) trait Job: Send {
    /// About how many rows it touches.
    fn weight(&self) -> usize;
    /// Does the work and keeps the answer. Called again, from the same state of the store, where the transaction came to nothing.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Gives the answer kept, or the error, to whoever waits for it.
    fn finish(self: Box<Self>, outcome: Result<(), DocumentsError>);
}

/// A [`Job`] made of a function, and of the place its answer goes to.
pub(super) struct Task<T, F> {
    weight: usize,
    work: F,
    answer: Option<T>,
    reply: oneshot::Sender<Result<T, DocumentsError>>,
}

impl<T, F: Fn(&Connection) -> rusqlite::Result<T>> Task<T, F> {
    pub(super) fn new(weight: usize, work: F) -> (Self, oneshot::Receiver<Result<T, DocumentsError>>) {
        let (reply, receiver) = oneshot::channel();
        (Self { weight, work, answer: None, reply }, receiver)
    }
}

impl<T: Send, F: Fn(&Connection) -> rusqlite::Result<T> + Send> Job for Task<T, F> {
    fn weight(&self) -> usize {
        self.weight
    }

    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.answer = Some((self.work)(connection)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), DocumentsError>) {
        // Without an answer the sender is dropped, which the caller reads as a stopped thread; a run that succeeded always has one.
        let Self { answer, reply, .. } = *self;
        if let Some(answer) = outcome.map(|()| answer).transpose() {
            // Nobody waits any more where the caller was dropped; the change stands.
            let _ = reply.send(answer);
        }
    }
}

/// Starts the write thread. It ends when every sender is dropped and the queue is empty.
pub(super) fn spawn_writer(
    file: Arc<File>,
    mut connection: Connection,
    mut requests: mpsc::Receiver<Box<dyn Job>>,
) -> Result<(), DocumentsError> {
    let name = Arc::clone(&file);
    let work = move || {
        let mut group = Vec::new();
        while let Some(first) = requests.blocking_recv() {
            let mut weight = first.weight();
            group.push(first);
            while weight < GROUP_ROWS_MAX
                && let Ok(next) = requests.try_recv()
            {
                weight += next.weight();
                group.push(next);
            }
            serve(&file, &mut connection, &mut group);
        }
    };
    spawn(&name, "documents-write", work)
}

/// Starts the read thread. It ends when every sender is dropped and the queue is empty.
pub(super) fn spawn_reader(file: &File, connection: Connection, mut requests: mpsc::Receiver<Read>) -> Result<(), DocumentsError> {
    let work = move || {
        while let Some(request) = requests.blocking_recv() {
            request(&connection);
        }
    };
    spawn(file, "documents-read", work)
}

fn spawn(file: &File, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), DocumentsError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| file.unavailable("starting its thread", error.to_string()))
}

/// One transaction for all of the group. Where that fails, one for each, so that a request that cannot succeed fails alone.
fn serve(file: &File, connection: &mut Connection, group: &mut Vec<Box<dyn Job>>) {
    if group.len() > 1 && commit(connection, group).is_ok() {
        group.drain(..).for_each(|job| job.finish(Ok(())));
        return;
    }
    for mut job in group.drain(..) {
        let outcome = commit(connection, std::slice::from_mut(&mut job));
        job.finish(outcome.map_err(|error| file.failed("writing", &error)));
    }
}

/// Runs the jobs in one transaction: all of them are committed or none is. Taking the write lock at once means that the transaction
/// cannot find, after it has read, that another process wrote in between.
fn commit(connection: &mut Connection, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in jobs {
        job.run(&transaction)?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::documents::embedded::{read, write};
    use crate::schema::time::Millis;
    use crate::transform::materialize::SummaryWrite;

    fn opened() -> (tempfile::TempDir, File, Connection) {
        let dir = tempfile::tempdir().expect("a folder");
        let file = File::at(&dir.path().join("documents.db"));
        let connection = file.open_writer(Durability::Normal).expect("a fresh file");
        (dir, file, connection)
    }

    fn row(fan: &str, size: usize) -> write::Row {
        let write = SummaryWrite {
            account: "a".into(),
            fan: fan.into(),
            conversation: fan.into(),
            expected_rev: 0,
            rev: 1,
            summary: vec![b' '; size],
            fold: Vec::new(),
            expire_at: Millis(1),
            messages: Vec::new(),
            deletions: Vec::new(),
            unkept: Vec::new(),
        };
        write::Row::of(write).expect("nothing to encode")
    }

    fn job(rows: Vec<write::Row>) -> (Box<dyn Job>, oneshot::Receiver<Result<usize, DocumentsError>>) {
        let (task, answer) = Task::new(rows.len(), move |connection| write::write(connection, &rows).map(|outcomes| outcomes.len()));
        (Box::new(task), answer)
    }

    fn fans(connection: &Connection) -> Vec<String> {
        let page = read::summaries(connection, "a", None, 10, Millis(0)).expect("readable");
        page.into_iter().map(|summary| summary.fan).collect()
    }

    #[test]
    fn a_full_disk_writes_nothing_and_fails_alone() {
        let (_dir, file, mut connection) = opened();
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).expect("a count");
        connection.pragma_update_and_check(None, "max_page_count", pages + 4, |_| Ok(())).expect("a bound");

        let (small, mut small_answer) = job(vec![row("small", 10)]);
        let (large, mut large_answer) = job(vec![row("before", 10), row("large", 1 << 20)]);
        let (other, mut other_answer) = job(vec![row("other", 10)]);
        serve(&file, &mut connection, &mut vec![small, large, other]);

        assert!(matches!(small_answer.try_recv(), Ok(Ok(1))));
        assert!(matches!(other_answer.try_recv(), Ok(Ok(1))));
        assert!(matches!(large_answer.try_recv(), Ok(Err(DocumentsError::Full { .. }))));
        assert_eq!(fans(&connection), ["other", "small"]);
    }

    #[test]
    fn damage_is_told_apart() {
        let (dir, file, connection) = opened();
        drop(connection);
        let path = dir.path().join("documents.db");
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes[4096..].fill(0xff);
        std::fs::write(&path, bytes).expect("written");
        let connection = file.open_reader().expect("the header is whole");
        let error = read::accounts(&connection).expect_err("the tables are not");
        assert!(matches!(file.failed("reading", &error), DocumentsError::Corrupt { .. }), "{error}");
    }
}
