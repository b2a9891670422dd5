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

    /// What changed. An artifact that wants a person to act is a change too: people have to know. One that has ended, or that cannot be read, is
    /// [`Change::Unusable`], and the session that runs on the old one goes on.
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
                    Err(why @ Unusable::Expired(_)) => found.push(Change::Unusable { account: account.clone(), why: why.to_string() }),
                    Ok(()) | Err(_) => found.push(Change::Present(Arc::new(artifact))),
                },
                Err(error) => found.push(Change::Unusable { account: account.clone(), why: error.to_string() }),
            }
        }
        found.extend(changes.removed.into_iter().filter(|account| is_ours(&account)).map(Change::Gone));
        self.seen = now;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::artifact::{Artifact, ArtifactStatus};

    fn artifact(account: &str, status: ArtifactStatus, expires_at: Option<&str>) -> Artifact {
        serde_json::from_value(serde_json::json!({
            "schema": "convpipe.artifact.v1", "account_id": account, "generation": 1, "platform": "onlyfans", "ws_url": "wss://example.com/",
            "token": "t", "status": status, "expires_at": expires_at,
        }))
        .unwrap()
    }

    fn found(changes: Vec<Change>) -> Vec<String> {
        let told = |change| match change {
            Change::Present(artifact) => format!("{} {}", artifact.account_id, artifact.status.name()),
            Change::Unusable { account, why } => format!("{account}: {why}"),
            Change::Gone(account) => format!("{account} gone"),
        };
        let mut found: Vec<String> = changes.into_iter().map(told).collect();
        found.sort();
        found
    }

    #[test]
    fn what_a_person_has_to_act_on_is_a_change_and_what_has_ended_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(dir.path().join("auth"));
        for (account, status, end) in [
            ("1", ArtifactStatus::Ready, None),
            ("2", ArtifactStatus::NeedsOtp, None),
            ("3", ArtifactStatus::NeedsFaceCheck, Some("2020-01-01T00:00:00Z")),
            ("4", ArtifactStatus::Ready, Some("2020-01-01T00:00:00Z")),
            ("5", ArtifactStatus::Rejected, None),
        ] {
            store.write(&artifact(account, status, end)).unwrap();
        }
        let mut artifacts = Artifacts::new(store.clone(), None);
        assert_eq!(
            found(artifacts.look().unwrap()),
            [
                "1 ready",
                "2 needs_otp",
                "3 needs_face_check",
                "4: its token ended at 2020-01-01T00:00:00.000Z; supply a new artifact",
                "5 rejected"
            ]
        );
        assert_eq!(found(artifacts.look().unwrap()), [""; 0]);
        std::fs::remove_file(store.dir().join("2.json")).unwrap();
        assert_eq!(found(artifacts.look().unwrap()), ["2 gone"]);
    }

    #[test]
    fn each_account_is_looked_at_by_one_shard() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(dir.path().join("auth"));
        let accounts: Vec<String> = (10..30).map(|n| n.to_string()).collect();
        accounts.iter().for_each(|account| store.write(&artifact(account, ArtifactStatus::Ready, None)).unwrap());
        let of = |shard: &str| found(Artifacts::new(store.clone(), Some(shard.parse().unwrap())).look().unwrap());
        let mut all = [of("1/3"), of("2/3"), of("3/3")].concat();
        all.sort();
        assert_eq!(all, accounts.iter().map(|account| format!("{account} ready")).collect::<Vec<_>>());
        assert!(!of("1/3").is_empty() && of("1/3").len() < 20);
    }
}
