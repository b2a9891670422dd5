//! The Firestore engine.
//!
//! Owns: the handle that async code calls, and what it knows of the store. Does not own the schema of what is written ([`crate::schema`]), or how
//! two versions of a message become one ([`message`]). Invariants: every write has a precondition, so that no writer undoes another's; every
//! status of every write is looked at; what waits to be tried again is bounded by the call that brought it.

mod account;
mod batch;
mod connect;
mod known;
mod message;
mod path;
pub mod provision;
mod query;
mod read;
mod resolve;
mod rpc;
mod summary;
mod upsert;
mod value;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::rpc::FirestoreCounters;

use self::batch::Limits;
use self::known::{Known, KnownSummary};
use self::rpc::{Found, Rpc};
use super::{Access, AccountSummary, DocumentsError, History, HistoryPage, StoredState, StoredSummary, SummaryDocument};
use crate::config::FirestoreConfig;
use crate::schema::time::Millis;
use crate::transform::materialize::{AccountDocumentWrite, SummaryWrite, WriteOutcome};
use crate::transform::resolve::{Claims, Resolved};

/// A handle on a database. Cheap to clone; every clone is the same handle.
#[derive(Clone)]
pub struct FirestoreDocuments {
    store: Arc<Store>,
}

/// What every call needs.
struct Store {
    rpc: Rpc,
    known: Known,
    limits: Limits,
    summary_interval: Duration,
    delete_ttl_ms: i64,
    access: Access,
}

impl FirestoreDocuments {
    /// Opens the database. See [`super::Documents::firestore`].
    ///
    /// # Errors
    /// Where it cannot be reached, or there are no credentials for it.
    pub async fn open(config: &FirestoreConfig, access: Access) -> Result<Self, DocumentsError> {
        let store = Store {
            rpc: Rpc::connect(config).await?,
            known: Known::new(),
            limits: Limits { batch_max: config.batch_max, batch_bytes_max: config.batch_bytes_max },
            summary_interval: Duration::from_millis(config.summary_interval_ms),
            delete_ttl_ms: i64::try_from(config.delete_ttl_s).unwrap_or(i64::MAX / 1000).saturating_mul(1000),
            access,
        };
        Ok(Self { store: Arc::new(store) })
    }

    /// What was asked of Firestore since the start.
    #[must_use]
    pub fn counters(&self) -> &FirestoreCounters {
        &self.store.rpc.counters
    }

    pub(super) async fn load(&self, fans: &[(String, String)]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
        read::load(&self.store, fans).await
    }

    pub(super) async fn resolve(&self, claims: &[Claims]) -> Result<Vec<Resolved>, DocumentsError> {
        self.writable()?;
        resolve::resolve(&self.store, claims).await
    }

    pub(super) async fn write(&self, writes: Vec<SummaryWrite>) -> Result<Vec<WriteOutcome>, DocumentsError> {
        self.writable()?;
        write::write(&self.store, writes).await
    }

    pub(super) async fn load_accounts(&self, accounts: &[String]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
        account::load(&self.store, accounts).await
    }

    pub(super) async fn write_accounts(&self, writes: Vec<AccountDocumentWrite>) -> Result<Vec<WriteOutcome>, DocumentsError> {
        self.writable()?;
        account::write(&self.store, &writes).await
    }

    pub(super) async fn deletions(
        &self,
        account: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Millis)>, DocumentsError> {
        account::deletions(&self.store, account, after, limit).await
    }

    pub(super) async fn summary(&self, account: &str, fan: &str, now: Millis) -> Result<Option<SummaryDocument>, DocumentsError> {
        read::summary(&self.store, account, fan, now).await
    }

    pub(super) async fn stored(&self, account: &str, fans: &[String], now: Millis) -> Result<Vec<Option<StoredSummary>>, DocumentsError> {
        read::stored(&self.store, account, fans, now).await
    }

    pub(super) async fn find_fan(&self, fan: &str, now: Millis) -> Result<Vec<String>, DocumentsError> {
        read::find_fan(&self.store, fan, now).await
    }

    pub(super) async fn history(
        &self,
        account: &str,
        conversation: &str,
        page: HistoryPage,
        now: Millis,
    ) -> Result<History, DocumentsError> {
        read::history(&self.store, account, conversation, page, now).await
    }

    pub(super) async fn accounts(&self) -> Result<Vec<String>, DocumentsError> {
        read::accounts(&self.store).await
    }

    pub(super) async fn summaries(
        &self,
        account: &str,
        after: Option<&str>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<AccountSummary>, DocumentsError> {
        read::summaries(&self.store, account, after, limit, now).await
    }

    fn writable(&self) -> Result<(), DocumentsError> {
        match self.store.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(DocumentsError::ReadOnly { store: self.to_string(), detail: "opened to be read".to_owned() }),
        }
    }
}

impl Store {
    /// The states in documents of these names, in one request for up to 300. What they say of themselves is kept for the guards.
    async fn states(&self, names: &[String]) -> Result<Vec<Option<StoredState>>, DocumentsError> {
        let found = self.rpc.get(names, &["rev", "fold"]).await?;
        let stored = found.into_iter().map(|found| {
            found.map(|mut found| {
                self.keep_read(&found);
                summary::stored(&mut found.document.fields)
            })
        });
        Ok(stored.collect())
    }

    /// Keeps what a read summary says of itself. Both its times are Firestore's, so the difference needs no agreement of clocks.
    fn keep_read(&self, found: &Found) -> KnownSummary {
        let update_time = found.document.update_time.unwrap_or_default();
        let age_ms = found.read_time.map_or(0, |read_time| value::millis(&read_time).since(value::millis(&update_time)));
        let now = Instant::now();
        // Longer ago than the interval is long enough ago, and within what the clock can say.
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)).min(self.summary_interval);
        let written = now.checked_sub(age).unwrap_or(now);
        let known = KnownSummary { rev: summary::rev(&found.document.fields), update_time, written };
        self.known.keep_summary(&found.document.name, known);
        known
    }
}

impl fmt::Display for FirestoreDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.store.rpc.store)
    }
}

impl fmt::Debug for FirestoreDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirestoreDocuments")
            .field("store", &self.store.rpc.store)
            .field("access", &self.store.access)
            .finish_non_exhaustive()
    }
}
