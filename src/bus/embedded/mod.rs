//! The embedded engine: SQLite files in one folder, shared by the processes of one machine. No server.
//!
//! ```text
//! <dir>/<topic>.log.db                   the topic's messages: written by publishers, read by subscribers
//! <dir>/<topic>.<subscription>.sub.db    a subscription's position and leases: written by its subscribers
//! <dir>/wake/<topic>/<pid>-<n>.sock      one socket a subscriber: rings when there is news
//! ```
//! So publishers and the subscribers of different subscriptions never wait for each other's write lock. The folder must be on a local file
//! system: WAL needs shared memory.
//!
//! SQLite is only touched on threads of this module: a publisher has one, a subscriber has one, and each has a [`housekeeping`] thread.

mod cursor;
mod housekeeping;
mod leases;
mod log;
mod publisher;
mod search;
mod segment;
mod sqlite;
mod subscriber;
mod wake;
mod worker;

#[cfg(test)]
mod model;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::log::Log;
use self::wake::{Ringer, WakeDir};
use super::{Backlog, BusError};
use crate::config::{Durability, EmbeddedBusConfig};
use crate::schema::ids::key_part;
use crate::schema::time::Millis;

pub use publisher::Publisher;
pub use subscriber::{Acker, Subscriber};

/// How often a subscriber looks for news by itself, in case a wake-up was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The bus in one folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EmbeddedBus {
    config: Arc<EmbeddedBusConfig>,
    look_every: Duration,
}

impl EmbeddedBus {
    /// Opens the bus in the folder of the config, creating it with mode 0700 where absent.
    ///
    /// # Errors
    /// [`BusError::Folder`] where that is not possible.
    pub fn open(config: &EmbeddedBusConfig) -> Result<Self, BusError> {
        create_dir(&config.dir).map_err(|error| BusError::Folder { path: config.dir.clone(), reason: error.to_string() })?;
        Ok(Self { config: Arc::new(config.clone()), look_every: LOOK_EVERY })
    }

    /// Sets how often a subscriber looks for news by itself. Deliveries do not depend on it while wake-ups get through.
    #[must_use]
    pub const fn look_every(mut self, interval: Duration) -> Self {
        self.look_every = interval;
        self
    }

    pub(super) fn publisher(&self, topic: &str) -> Result<Publisher, BusError> {
        Publisher::start(self, topic)
    }

    pub(super) async fn subscriber(&self, topic: &str, subscription: &str) -> Result<Subscriber, BusError> {
        Subscriber::start(self, topic, subscription).await
    }

    pub(super) async fn backlog(&self, topic: &str, subscription: &str) -> Result<Backlog, BusError> {
        self.on_files(topic, subscription, backlog).await
    }

    pub(super) async fn rewind(&self, topic: &str, subscription: &str, since: Millis) -> Result<(), BusError> {
        self.on_files(topic, subscription, move |log, cursor, sync| {
            let first = Log::open(log, sync)?.first_since(since)?;
            first.map_or(Ok(()), |first| cursor::rewind(cursor, first, sync))
        })
        .await?;
        // Subscribers that cannot be rung look by themselves.
        if let Ok(mut subscribers) = Ringer::new(self.wake_dir(topic)?) {
            subscribers.ring();
        }
        Ok(())
    }

    /// Works on an existing subscription's files, the topic's log and the subscription's own, on a thread that may wait for them.
    async fn on_files<T: Send + 'static>(
        &self,
        topic: &str,
        subscription: &str,
        work: impl FnOnce(&Path, &Path, Durability) -> Result<T, BusError> + Send + 'static,
    ) -> Result<T, BusError> {
        let path = self.cursor_path(topic, subscription);
        if !path.exists() {
            return Err(BusError::NoSubscription {
                topic: topic.to_owned(),
                subscription: subscription.to_owned(),
                hint: "it is created by its first subscriber",
            });
        }
        let (log_path, sync) = (self.log_path(topic), self.config.sync);
        let done = tokio::task::spawn_blocking(move || work(&log_path, &path, sync));
        done.await.map_err(|error| BusError::Thread { topic: topic.to_owned(), reason: error.to_string() })?
    }

    fn log_path(&self, topic: &str) -> PathBuf {
        self.config.dir.join(format!("{}.log.db", key_part(topic)))
    }

    fn cursor_path(&self, topic: &str, subscription: &str) -> PathBuf {
        self.config.dir.join(format!("{}.{}.sub.db", key_part(topic), key_part(subscription)))
    }

    fn wake_dir(&self, topic: &str) -> Result<WakeDir, BusError> {
        let path = self.config.dir.join("wake").join(&*key_part(topic));
        WakeDir::open(path.clone()).map_err(|error| BusError::Folder { path, reason: error.to_string() })
    }
}

fn backlog(log_path: &Path, cursor_path: &Path, sync: Durability) -> Result<Backlog, BusError> {
    let log = Log::open(log_path, sync)?;
    let unacked = cursor::unacked(cursor_path, &log)?;
    let published_at = match unacked.oldest {
        Some(offset) => log.published_at(offset)?,
        None => None,
    };
    let age = |at: Millis| Duration::from_millis(u64::try_from(now().since(at)).unwrap_or(0));
    Ok(Backlog { messages: Some(u64::try_from(unacked.messages).unwrap_or(0)), oldest_age: published_at.map(age) })
}

/// Creates a folder that only this user may enter; its absent parents too.
fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The wall clock: leases and ages are compared between processes, and over restarts.
fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), BusError> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(|error| BusError::Thread { topic: name.to_owned(), reason: error.to_string() })
}
