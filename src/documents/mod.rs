//! The document store: message history, fan summaries, and what is known of accounts.
//!
//! Owns: reading and writing documents, the index from a message to its conversation, retention. Does not own: what a document says
//! (that is [`crate::transform`]). Invariants: a summary is written only over the `rev` it was folded from; of two versions of a
//! message the same one stays whatever order they come in; a deletion is never taken back; a reader sees nothing past its `expire_at`.
//!
//! One enum over the engines, matched here and nowhere else.

pub mod embedded;
mod error;
pub mod firestore;

use std::fmt;
use std::str::FromStr;

pub use embedded::Access;
use embedded::EmbeddedDocuments;
pub use error::DocumentsError;

use self::firestore::FirestoreDocuments;
use crate::config::{EmbeddedDocumentsConfig, FirestoreConfig};
use crate::runtime::provision::Change;
use crate::schema::document::{FanSummary, MessageDocument};
use crate::schema::time::Millis;
use crate::transform::materialize::{AccountDocumentWrite, SummaryWrite, WriteOutcome};
use crate::transform::resolve::{Claims, Resolved};

/// Most messages in one page of history, and most summaries in one page of them; a larger `limit` is taken as this.
pub const PAGE_MAX: usize = 1_000;

/// The document store. Cheap to clone; every clone is the same store.
#[derive(Debug, Clone)]
pub enum Documents {
    /// A SQLite file on this machine, shared by the processes that open it.
    Embedded(EmbeddedDocuments),
    /// A database of Google Cloud Firestore.
    Firestore(FirestoreDocuments),
}

/// What a fold starts from: the state of a summary or of an account, and its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredState {
    /// Revision; a write names it as its `expected_rev`.
    pub rev: u64,
    /// The encoded state.
    pub fold: Vec<u8>,
}

/// A fan's summary as it stands in the store.
#[derive(Debug, Clone)]
pub struct SummaryDocument {
    /// Revision.
    pub rev: u64,
    /// What it says.
    pub summary: FanSummary,
}

/// A summary and the state that was written with it, from one read: for who holds the one against the other.
#[derive(Debug, Clone)]
pub struct StoredSummary {
    /// Revision.
    pub rev: u64,
    /// The encoded state.
    pub fold: Vec<u8>,
    /// What it says; `None` where this version cannot read it.
    pub summary: Option<FanSummary>,
}

/// One stored summary of an account, by fan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSummary {
    /// The fan.
    pub fan: String,
    /// The conversation with the fan.
    pub conversation: String,
    /// The state and its revision.
    pub stored: StoredState,
}

/// Which part of a conversation's history to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// Only messages older than this; `None` starts with the newest.
    pub before: Option<HistoryCursor>,
    /// Most messages to read: 1 to [`PAGE_MAX`], else the nearer of the two.
    pub limit: usize,
}

/// A place in a conversation's history: by time, and by message id where the time is the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryCursor {
    sent_at: Millis,
    message: String,
}

impl HistoryCursor {
    /// The place before which everything sent earlier than `time` lies.
    #[must_use]
    pub const fn at(time: Millis) -> Self {
        Self { sent_at: time, message: String::new() }
    }

    /// The place of a message, before which everything older lies.
    #[must_use]
    pub fn of(message: &MessageDocument) -> Self {
        Self { sent_at: message.sent_at, message: message.message_id.raw().to_owned() }
    }
}

/// As it is typed: `1784808000000-6400000000001`, the time in milliseconds and the message's id.
impl fmt::Display for HistoryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.sent_at.0, self.message)
    }
}

/// That a text is no place in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a history: expected milliseconds, a dash and a message's id, such as 1784808000000-6400000000001")]
pub struct NotAHistoryCursor;

impl FromStr for HistoryCursor {
    type Err = NotAHistoryCursor;

    fn from_str(text: &str) -> Result<Self, NotAHistoryCursor> {
        // A time before 1970 has a dash of its own.
        let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (ms, message) = rest.split_once('-').ok_or(NotAHistoryCursor)?;
        let ms: i64 = ms.parse().map_err(|_| NotAHistoryCursor)?;
        Ok(Self { sent_at: Millis(sign * ms), message: message.to_owned() })
    }
}

/// One page of history.
#[derive(Debug, Clone)]
pub struct History {
    /// The messages, newest first. A deleted one is among them, with `deleted_at` set.
    pub messages: Vec<MessageDocument>,
    /// Where the next page begins; `None` where nothing older is stored. A page may be shorter than its limit and still have a next.
    pub next: Option<HistoryCursor>,
}

impl Documents {
    /// Opens the embedded engine; [`Access::ReadWrite`] makes the file where there is none.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no documents file, or was written by a newer version; the error names it and says what to do.
    pub async fn embedded(config: &EmbeddedDocumentsConfig, access: Access) -> Result<Self, DocumentsError> {
        EmbeddedDocuments::open(config, access).await.map(Self::Embedded)
    }

    /// Opens a Firestore database, which has to exist. [`Access::ReadOnly`] refuses to write; what Google allows is another matter.
    ///
    /// # Errors
    /// Where it cannot be reached, or there are no credentials for it; the error names it and says what to do.
    pub async fn firestore(config: &FirestoreConfig, access: Access) -> Result<Self, DocumentsError> {
        FirestoreDocuments::open(config, access).await.map(Self::Firestore)
    }

    /// The stored states of the fans named by account and fan, place by place, expired ones included: a fold goes on from what is stored,
    /// and its guard compares with what is stored.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn load(&self, fans: &[(String, String)]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.load(fans).await,
            Self::Firestore(firestore) => firestore.load(fans).await,
        }
    }

    /// Claims messages and deletes, so that whichever of a message and its delete comes second learns of the first. Doing it again changes
    /// nothing and gives the same answer as long as the bounded index still holds the messages. Within one call, a message and its delete learn
    /// of each other.
    ///
    /// With Firestore, handles learn of each other's messages once those are written, and a message may learn of its delete only by
    /// [`DocumentsError::DeletedMeanwhile`] from [`Documents::write`]: claimed again, it does here.
    ///
    /// # Errors
    /// Where the store cannot be written. With the embedded engine nothing was claimed then.
    pub async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.resolve(claims).await,
            Self::Firestore(firestore) => firestore.resolve(claims).await,
        }
    }

    /// Writes each fan's summary, messages and deletions if the stored `rev` is still the expected one, else nothing of that fan; the
    /// outcomes stand in the order of the writes. A fan named twice is written twice, in order.
    ///
    /// Messages are written by id. Of two versions the one with the later `changed_at` stays, one without being earlier than any; between
    /// equals, the one whose JSON is greater by bytes. The earliest `deleted_at` of any version or deletion stays, whether it
    /// comes before or after the message.
    ///
    /// With Firestore the call lasts until each summary was last written `documents.firestore.summary_interval_ms` ago, and a
    /// [`WriteOutcome::Conflict`] may also say that the answer to our own write was lost: what is loaded then tells.
    ///
    /// # Errors
    /// Where the store cannot be written. With the embedded engine nothing of the call was written then; with Firestore some may be, and
    /// the same batch resolved, folded and written again ends in the same documents.
    pub async fn write(&self, writes: Vec<SummaryWrite>) -> Result<Vec<WriteOutcome>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.write(writes).await,
            Self::Firestore(firestore) => firestore.write(writes).await,
        }
    }

    /// The stored states of accounts, place by place, expired ones included, as [`Documents::load`] gives those of fans.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn load_accounts(&self, accounts: &[String]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.load_accounts(accounts).await,
            Self::Firestore(firestore) => firestore.load_accounts(accounts).await,
        }
    }

    /// Writes what is known of accounts, all of them different, each only if the stored `rev` is still the expected one; the outcomes stand in the
    /// order of the writes. For Firestore what [`Documents::write`] says of summaries holds here.
    ///
    /// # Errors
    /// Where the store cannot be written; the same call may be repeated.
    pub async fn write_accounts(&self, writes: Vec<AccountDocumentWrite>) -> Result<Vec<WriteOutcome>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.write_accounts(writes).await,
            Self::Firestore(firestore) => firestore.write_accounts(writes).await,
        }
    }

    /// Messages of the account that are known as deleted, and since when, in the store's own order, beginning behind the message `after`: all that
    /// [`Documents::resolve`] still knows. At most `limit`, itself from 1 to [`PAGE_MAX`]; a page may be shorter, an empty one is the end.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn deletions(&self, account: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Millis)>, DocumentsError> {
        let limit = limit.clamp(1, PAGE_MAX);
        match self {
            Self::Embedded(embedded) => embedded.deletions(account, after, limit).await,
            Self::Firestore(firestore) => firestore.deletions(account, after, limit).await,
        }
    }

    /// A fan's summary, unless it is expired at `now`.
    ///
    /// # Errors
    /// Where the store cannot be read or the document does not decode.
    pub async fn summary(&self, account: &str, fan: &str, now: Millis) -> Result<Option<SummaryDocument>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.summary(account, fan, now).await,
            Self::Firestore(firestore) => firestore.summary(account, fan, now).await,
        }
    }

    /// The summaries of several fans of an account and what they were folded to, place by place, without what is expired at `now`. The parts of one are
    /// of one write, whatever is written meanwhile.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn stored(&self, account: &str, fans: &[String], now: Millis) -> Result<Vec<Option<StoredSummary>>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.stored(account, fans, now).await,
            Self::Firestore(firestore) => firestore.stored(account, fans, now).await,
        }
    }

    /// The accounts that have a summary of this fan, ascending; expired ones do not count.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn find_fan(&self, fan: &str, now: Millis) -> Result<Vec<String>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.find_fan(fan, now).await,
            Self::Firestore(firestore) => firestore.find_fan(fan, now).await,
        }
    }

    /// One page of a conversation's history, newest first, without what is expired at `now`. Following [`History::next`] to its end
    /// gives every message that was there from the first page to the last, each once.
    ///
    /// # Errors
    /// Where the store cannot be read or a document does not decode.
    pub async fn history(&self, account: &str, conversation: &str, page: HistoryPage, now: Millis) -> Result<History, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.history(account, conversation, page, now).await,
            Self::Firestore(firestore) => firestore.history(account, conversation, page, now).await,
        }
    }

    /// The accounts that have summaries or a document of their own, ascending.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn accounts(&self) -> Result<Vec<String>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.accounts().await,
            Self::Firestore(firestore) => firestore.accounts().await,
        }
    }

    /// Stored states of an account that are not expired at `now`, in the store's own order, beginning behind the fan `after`: what an empty
    /// Redis is filled from. At most `limit`, itself from 1 to [`PAGE_MAX`]; a page may be shorter, an empty one is the end.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn summaries(
        &self,
        account: &str,
        after: Option<&str>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<AccountSummary>, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.summaries(account, after, limit, now).await,
            Self::Firestore(firestore) => firestore.summaries(account, after, limit, now).await,
        }
    }

    /// Deletes at most `limit` documents that are expired at `now` and says how many; fewer than `limit` means that none is left. In
    /// Firestore there is nothing to do: its TTL policy deletes them, which `convpipe provision` sets.
    ///
    /// # Errors
    /// Where the store cannot be written; nothing was deleted then.
    pub async fn prune(&self, now: Millis, limit: usize) -> Result<u64, DocumentsError> {
        match self {
            Self::Embedded(embedded) => embedded.prune(now, limit).await,
            Self::Firestore(_) => Ok(0),
        }
    }

    /// Compares indexes and TTL policies with what they should be; with `apply`, makes them so. Empty for the embedded engine, which makes its own.
    ///
    /// # Errors
    /// Where the store cannot be asked, or does not allow it.
    pub async fn provision(&self, apply: bool) -> Result<Vec<Change>, DocumentsError> {
        match self {
            Self::Embedded(_) => Ok(Vec::new()),
            Self::Firestore(firestore) if apply => firestore.apply().await,
            Self::Firestore(firestore) => firestore.plan().await,
        }
    }
}

impl fmt::Display for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(embedded) => embedded.fmt(f),
            Self::Firestore(firestore) => firestore.fmt(f),
        }
    }
}
