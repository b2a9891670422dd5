//! What everybody who looks is shown: one picture of Redis, and what changed from one picture to the next.
//!
//! Owns the picture that all pages and answers are made of, and the channel of the changes. Does not own how it is read ([`super::watch`]).
//! Invariants: a picture never changes, a newer one takes its place; any number of viewers share the bytes of one change.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use tokio::sync::{Notify, broadcast, watch};

use super::rows::{Entry, Row};
use crate::runtime::clock::Now;
use crate::schema::text::OwnedText;
use crate::schema::time::Millis;
use crate::schema::view::{AuthView, ConnectionView, GapView};
use crate::views::Memory;

/// Changes that a slow viewer may be behind before it is told to load everything anew.
const CHANGES_MAX: usize = 64;
/// How long whoever asks waits for a picture that is new enough; then the old one and what is wrong have to do.
const FRESH_WAIT: Duration = Duration::from_secs(3);
/// How long after a request somebody still counts as watching.
const WATCHED_MS: i64 = 10_000;

/// Redis at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    /// Grows when something in it changed.
    pub(super) version: u64,
    /// When Redis was last read; `None` where it never was.
    pub(super) read_at: Option<Millis>,
    /// Why it is not read now.
    pub(super) fault: Option<Fault>,
    pub(super) accounts: Vec<Arc<Strip>>,
    /// By activity, the latest first.
    pub(super) rows: Arc<Vec<Arc<Row>>>,
    /// Oldest first.
    pub(super) feed: Arc<Vec<Arc<Entry>>>,
    pub(super) memory: Option<MemoryView>,
}

/// Redis cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    pub(super) since: Millis,
    pub(super) message: String,
}

/// Redis' memory, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct MemoryView {
    pub(super) used_bytes: u64,
    /// 0 where there is no limit.
    pub(super) max_bytes: u64,
}

impl From<Memory> for MemoryView {
    fn from(memory: Memory) -> Self {
        Self { used_bytes: memory.used_bytes, max_bytes: memory.max_bytes }
    }
}

/// An account in the pipeline strip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Strip {
    pub(super) account: OwnedText,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<ConnectionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gap: Option<GapView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth: Option<AuthView>,
    /// Fans online at the last heartbeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) online: Option<usize>,
    pub(super) conversations: usize,
    pub(super) unread: usize,
    pub(super) awaiting: usize,
    /// Conversations that cannot be read.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) unreadable: usize,
    /// Why what is known of the account itself cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<String>,
    /// Writes of conversations a second, over the last ten seconds.
    pub(super) writes_per_second: f64,
    /// The slowest way from frame to Redis that was seen in each of the last sixty seconds, milliseconds; null where none was.
    pub(super) lag_ms: Vec<Option<i64>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// What changed, as it is sent to live pages.
#[derive(Debug, Serialize)]
pub(super) struct Delta<'a> {
    pub(super) version: u64,
    pub(super) read_at: Option<Millis>,
    pub(super) fault: Option<&'a Fault>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "shared")]
    pub(super) rows: &'a [Arc<Row>],
    /// Account and conversation of rows that are no more.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) gone: &'a [(String, String)],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "shared")]
    pub(super) feed: &'a [Arc<Entry>],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "shared")]
    pub(super) accounts: &'a [Arc<Strip>],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<MemoryView>,
}

/// The picture, shared by everybody who shows it. Clones are the same board.
#[derive(Clone)]
pub(super) struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    picture: watch::Sender<Arc<Picture>>,
    changes: broadcast::Sender<Bytes>,
    wake: Notify,
    asked_at: AtomicI64,
    now: Now,
    refresh_ms: i64,
}

impl Board {
    pub(super) fn new(now: Now, refresh_ms: u64) -> Self {
        let shared = Shared {
            picture: watch::Sender::new(Arc::default()),
            changes: broadcast::Sender::new(CHANGES_MAX),
            wake: Notify::new(),
            asked_at: AtomicI64::new(i64::MIN),
            now,
            refresh_ms: i64::try_from(refresh_ms).unwrap_or(i64::MAX),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The picture as it is.
    pub(super) fn picture(&self) -> Arc<Picture> {
        self.shared.picture.borrow().clone()
    }

    /// A picture of now: where nobody was watching, Redis is read first.
    pub(super) async fn fresh(&self) -> Arc<Picture> {
        let asked = (self.shared.now)();
        let was_watched = self.is_watched();
        self.shared.asked_at.store(asked.0, Ordering::Relaxed);
        let mut pictures = self.shared.picture.subscribe();
        let is_fresh = |picture: &Arc<Picture>| picture.read_at.is_some_and(|at| asked.since(at) <= self.shared.refresh_ms * 2);
        let current = pictures.borrow_and_update().clone();
        if is_fresh(&current) || (was_watched && current.fault.is_some()) {
            return current;
        }
        self.shared.wake.notify_one();
        // The next one, whatever it says: also that Redis does not answer.
        let _ = tokio::time::timeout(FRESH_WAIT, pictures.changed()).await;
        self.picture()
    }

    /// The changes from now on, as bytes of a server-sent event each.
    pub(super) fn changes(&self) -> broadcast::Receiver<Bytes> {
        let changes = self.shared.changes.subscribe();
        self.shared.wake.notify_one();
        changes
    }

    /// Whether somebody looks, or did a moment ago.
    pub(super) fn is_watched(&self) -> bool {
        let asked_at = Millis(self.shared.asked_at.load(Ordering::Relaxed));
        self.shared.changes.receiver_count() > 0 || (self.shared.now)().since(asked_at) < WATCHED_MS
    }

    /// Waits until somebody begins to look.
    pub(super) async fn woken(&self) {
        self.shared.wake.notified().await;
    }

    /// Puts a newer picture in place.
    pub(super) fn show(&self, picture: Picture) {
        self.shared.picture.send_replace(Arc::new(picture));
    }

    /// Hands a change to everybody who watches.
    pub(super) fn tell(&self, event: Bytes) {
        // Without a receiver nobody is interested.
        let _ = self.shared.changes.send(event);
    }
}

/// Shared values as their list.
pub(super) fn shared<T: Serialize, S: Serializer>(values: &&[Arc<T>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|value| &**value))
}

/// A server-sent event.
pub(super) fn event(name: &str, data: &impl Serialize) -> Bytes {
    // JSON has no line breaks outside of its strings, and inside they are escaped.
    let json = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    format!("event: {name}\ndata: {json}\n\n").into()
}
