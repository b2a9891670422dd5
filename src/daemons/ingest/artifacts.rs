//! Which accounts ingest has to serve: the artifacts of the auth directory, and what changed there since the last look.

use std::sync::Arc;

use crate::auth::{ArtifactError, ArtifactStore, Fingerprint, Unusable, usable};
use crate::config::Shard;
use crate::runtime::clock;

use super::Change;

/// Looks at the auth directory, and says what is new since the last look.
pub struct Artifacts {
    store: ArtifactStore,
    shard: Option<Shard>,
    seen: Fingerprint,
}

impl Artifacts {
    /// Everything there is new at the first look. Accounts of another shard are not looked at.
    #[must_use]
    pub fn new(store: ArtifactStore, shard: Option<Shard>) -> Self {
        Self { store, shard, seen: Fingerprint::default() }
    }

    /// What changed. An artifact that wants a person to act is a change too: people have to know. One that has ended, or that cannot be read, is told in
    /// the log alone, and the session that runs on the old one goes on.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn look(&mut self) -> Result<Vec<Change>, ArtifactError> {
        let now = self.store.fingerprint()?;
        let changes = self.seen.changes_to(&now);
        let mut found = Vec::new();
        let is_ours = |account: &&String| self.shard.is_none_or(|shard| shard.owns(account));
        for account in changes.added.iter().chain(&changes.changed).filter(is_ours) {
            match self.store.load(account) {
                Ok(artifact) => match usable(&artifact, clock::now()) {
                    Err(why @ Unusable::Expired(_)) => tracing::warn!(account, %why, "an artifact cannot be used; waiting for a new one"),
                    Ok(()) | Err(_) => found.push(Change::Present(Arc::new(artifact))),
                },
                Err(error) => tracing::warn!(%error, "an artifact cannot be used"),
            }
        }
        found.extend(changes.removed.into_iter().filter(|account| is_ours(&account)).map(Change::Gone));
        self.seen = now;
        Ok(found)
    }
}
