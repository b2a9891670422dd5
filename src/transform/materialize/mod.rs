//! From a state and what was just applied to what has to be written.
//!
//! Owns the writes as values and the batches that produce them. Does not own how a store carries a write out. Invariant: a batch that is thrown
//! away and folded again from what the store has gives the same write.

mod account;
mod account_document;
mod conversation;
mod summary;

use bytes::Bytes;
use serde::Serialize;

use crate::schema::document::MessageDocument;
use crate::schema::state::StateError;
use crate::schema::time::Millis;

use super::fold::{Applied, Novelty};

pub use account::AccountBatch;
pub use account_document::AccountDocumentBatch;
pub use conversation::ConversationBatch;
pub use summary::{Keep, SUMMARY_BYTES_MAX, SummaryBatch};

/// One conversation's write to Redis: all of it happens or none, and only if `rev` is still `expected_rev`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationWrite {
    /// The account.
    pub account: String,
    /// The conversation.
    pub conversation: String,
    /// `rev` that the fold started from; 0 where there was no snapshot.
    pub expected_rev: u64,
    /// `rev` after the write.
    pub rev: u64,
    /// The snapshot's JSON.
    pub snapshot: Vec<u8>,
    /// The encoded state.
    pub fold: Vec<u8>,
    /// Score in the inbox: last activity.
    pub active_at: Millis,
    /// Waiting since; `None` takes the conversation out of the index.
    pub awaiting_since: Option<Millis>,
    /// Next timer; `None` takes the conversation out of the index.
    pub due_at: Option<Millis>,
    /// Events for the high-value fan's stream, as JSON, in order.
    pub fan_events: Vec<Bytes>,
    /// Entries for the priority feed, as JSON, in order.
    pub priority: Vec<Vec<u8>>,
}

/// One account's write to Redis, guarded like a conversation's. Absent fields stay as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountWrite {
    /// The account.
    pub account: String,
    /// `rev` that the fold started from; 0 where there was none.
    pub expected_rev: u64,
    /// `rev` after the write.
    pub rev: u64,
    /// The encoded account state.
    pub fold: Vec<u8>,
    /// JSON values of the account hash's fields: `counters`, `presence`, `connection`, `gap`, `auth`.
    pub fields: Vec<(&'static str, Vec<u8>)>,
    /// Entries for the priority feed, as JSON.
    pub priority: Vec<Vec<u8>>,
}

/// One fan's write to the documents: the summary only if `rev` is still `expected_rev`; messages by id.
#[derive(Debug, Clone)]
pub struct SummaryWrite {
    /// The account.
    pub account: String,
    /// The fan.
    pub fan: String,
    /// The conversation with the fan.
    pub conversation: String,
    /// `rev` that the fold started from; 0 where there was no summary.
    pub expected_rev: u64,
    /// `rev` after the write.
    pub rev: u64,
    /// The summary's JSON.
    pub summary: Vec<u8>,
    /// The encoded state.
    pub fold: Vec<u8>,
    /// When the store may forget the summary.
    pub expire_at: Millis,
    /// Messages to insert or update.
    pub messages: Vec<MessageDocument>,
    /// Messages that the source deleted: id, when, and when the store may forget that.
    pub deletions: Vec<MessageDeletion>,
    /// Messages that were folded in and are not to be kept, nor known as deleted: a store that learns of deletes late looks for theirs, too.
    pub unkept: Vec<String>,
}

/// One account's write to the documents, guarded like a summary's.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountDocumentWrite {
    /// The account.
    pub account: String,
    /// `rev` that the fold started from; 0 where there was none.
    pub expected_rev: u64,
    /// `rev` after the write.
    pub rev: u64,
    /// The document's JSON.
    pub document: Vec<u8>,
    /// The encoded account state.
    pub fold: Vec<u8>,
    /// When the store may forget it.
    pub expire_at: Millis,
}

/// A message that the source deleted. It is kept, marked, whether the message comes before or after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageDeletion {
    /// The message's id.
    pub message: String,
    /// When it was deleted.
    pub deleted_at: Millis,
}

/// The JSON of a view, in a buffer of which most need no second one.
fn json(view: &impl Serialize, bytes: usize) -> Result<Vec<u8>, MaterializeError> {
    let mut json = Vec::with_capacity(bytes);
    serde_json::to_writer(&mut json, view)?;
    Ok(json)
}

/// What became of a guarded write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Written.
    Written,
    /// Another writer was faster: reload, fold again, write again.
    Conflict,
}

/// What could not be written. Neither can happen with a state of our own making.
#[derive(Debug, thiserror::Error)]
pub enum MaterializeError {
    /// The state does not encode.
    #[error(transparent)]
    State(#[from] StateError),
    /// A view does not serialize.
    #[error("a view does not serialize: {0}")]
    Json(#[from] serde_json::Error),
}

/// What a batch did, for the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that were new.
    pub new: u64,
    /// Events that were seen before.
    pub seen: u64,
    /// Events older than the horizon.
    pub stale: u64,
    /// Events whose time lay too far ahead.
    pub clamped: u64,
    /// Memories for which an event was too old.
    pub window_misses: u64,
}

impl Tally {
    /// Counts one event.
    pub fn count(&mut self, applied: Applied) {
        match applied.novelty {
            Novelty::New => self.new += 1,
            Novelty::Seen => self.seen += 1,
            Novelty::Stale => self.stale += 1,
        }
        self.clamped += u64::from(applied.clamped);
        self.window_misses += u64::from(applied.window_misses);
    }

    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.new += other.new;
        self.seen += other.seen;
        self.stale += other.stale;
        self.clamped += other.clamped;
        self.window_misses += other.window_misses;
    }
}
