//! Which accounts ingest has to serve: the artifacts of the auth directory, and what changed there since the last look.

use std::sync::Arc;

use crate::auth::{ArtifactError, ArtifactStore, Fingerprint, usable};
use crate::runtime::clock;

use super::Change;

/// Looks at the auth directory, and says what is new since the last look.
pub struct Artifacts {
    store: ArtifactStore,
    seen: Fingerprint,
}

impl Artifacts {
    /// Everything there is new at the first look.
    #[must_use]
    pub fn new(store: ArtifactStore) -> Self {
        Self { store, seen: Fingerprint::default() }
    }

    /// What changed. An artifact that cannot be used is told in the log and, if it was used before, taken out of use only by its removal: the
    /// session that runs on the old one goes on.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn look(&mut self) -> Result<Vec<Change>, ArtifactError> {
        let now = self.store.fingerprint()?;
        let changes = self.seen.changes_to(&now);
        let mut found = Vec::new();
        for account in changes.added.iter().chain(&changes.changed) {
            match self.store.load(account) {
                Ok(artifact) => match usable(&artifact, clock::now()) {
                    Ok(()) => found.push(Change::Present(Arc::new(artifact))),
                    Err(why) => tracing::warn!(account = ?account, %why, "an artifact cannot be used; waiting for a new one"),
                },
                Err(error) => tracing::warn!(%error, "an artifact cannot be used"),
            }
        }
        found.extend(changes.removed.into_iter().map(Change::Gone));
        self.seen = now;
        Ok(found)
    }
}
