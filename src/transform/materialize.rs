//! From a state and what was just applied to what has to be written.

use bytes::Bytes;

use crate::schema::document::MessageDocument;
use crate::schema::time::Millis;

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
}

/// A message that the source deleted. It is kept, marked, whether the message comes before or after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageDeletion {
    /// The message's id.
    pub message: String,
    /// When it was deleted.
    pub deleted_at: Millis,
}

/// What became of a guarded write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Written.
    Written,
    /// Another writer was faster: reload, fold again, write again.
    Conflict,
}
