//! Which accounts there are, and what is known of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::plan::{Facts, Summary};
use crate::auth::{ArtifactError, ArtifactStore, Fingerprint, Problem, Record};
use crate::config::Config;

/// The accounts of the config and of the artifacts' folder.
///
/// An artifact is read again when its file has changed, a record once: this process is the only one that writes them.
#[derive(Debug)]
pub struct Roster {
    store: ArtifactStore,
    config: Arc<Config>,
    /// Only these; none for all.
    wanted: Vec<String>,
    seen: Fingerprint,
    artifacts: BTreeMap<String, Result<Summary, ArtifactError>>,
    records: BTreeMap<String, Record>,
}

/// An account.
#[derive(Debug, Clone)]
pub struct Member {
    /// The name of its provider; `None` where its artifacts are put there by somebody else.
    pub provider: Option<String>,
    /// What is known of it.
    pub facts: Facts,
}

impl Roster {
    /// The accounts of a store; only those `wanted`, unless that is empty.
    #[must_use]
    pub fn new(store: ArtifactStore, config: Arc<Config>, wanted: Vec<String>) -> Self {
        Self { store, config, wanted, seen: Fingerprint::default(), artifacts: BTreeMap::new(), records: BTreeMap::new() }
    }

    /// All of them as they are now.
    ///
    /// # Errors
    /// Where the folder cannot be listed. A folder that does not exist holds nothing.
    pub fn look(&mut self) -> Result<BTreeMap<String, Member>, ArtifactError> {
        self.read_changed()?;
        let mut requests = match self.store.requests() {
            Ok(requests) => requests,
            Err(ArtifactError { problem: Problem::MissingFolder, .. }) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let with_provider = self.config.accounts.keys().filter(|account| self.config.provider_of(account).is_some());
        let requested = requests.keys().filter(|account| self.config.provider_of(account).is_some());
        let all = with_provider.chain(self.artifacts.keys()).chain(requested).chain(&self.wanted);
        let mut accounts: BTreeSet<String> = all.cloned().collect();
        accounts.retain(|account| self.wanted.is_empty() || self.wanted.contains(account));
        let mut members = BTreeMap::new();
        for account in accounts {
            let provider = self.config.provider_of(&account).map(str::to_owned);
            let record = self.records.entry(account.clone()).or_insert_with(|| self.store.record(&account)).clone();
            let facts = Facts { artifact: self.artifacts.get(&account).cloned(), record, request: requests.remove(&account) };
            members.insert(account, Member { provider, facts });
        }
        Ok(members)
    }

    /// Takes accounts and their providers from another config.
    pub(super) fn adopt(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    /// Takes note of what an attempt left behind.
    pub(super) fn remember(&mut self, account: String, record: Record) {
        self.records.insert(account, record);
    }

    fn read_changed(&mut self) -> Result<(), ArtifactError> {
        let now = match self.store.fingerprint() {
            Ok(now) => now,
            Err(ArtifactError { problem: Problem::MissingFolder, .. }) => Fingerprint::default(),
            Err(error) => return Err(error),
        };
        let changes = self.seen.changes_to(&now);
        for account in changes.removed {
            self.artifacts.remove(&account);
        }
        for account in changes.added.into_iter().chain(changes.changed) {
            let read = self.store.load(&account).map(|artifact| Summary::from(&artifact));
            self.artifacts.insert(account, read);
        }
        self.seen = now;
        Ok(())
    }
}
