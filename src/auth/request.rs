//! Requests for new artifacts: `<account>.request` beside the artifacts, how ingest and people reach whoever renews them.

use std::collections::BTreeMap;

use super::{ARTIFACTS_MAX, ArtifactError, ArtifactStore, check, file};
use crate::schema::ARTIFACT_REQUEST_SCHEMA;
use crate::schema::artifact::{ArtifactRequest, RequestReason};
use crate::schema::time::Millis;

/// Ending of a request's file name; what stands before it is the account.
const ENDING: &str = ".request";

impl ArtifactStore {
    /// Asks for a new artifact of an account. A request that is there already is replaced.
    ///
    /// # Errors
    /// Where the account cannot name a file, or the file cannot be written.
    pub fn request(&self, account: &str, reason: RequestReason, generation: Option<u64>, now: Millis) -> Result<(), ArtifactError> {
        let request = ArtifactRequest {
            schema: ARTIFACT_REQUEST_SCHEMA.to_owned(),
            account_id: account.to_owned(),
            reason,
            generation,
            requested_at: now,
        };
        self.keep(account, ENDING, &request)
    }

    /// The requests that are there, by account. What is no request, or was not written by this process's user, counts as none.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn requests(&self) -> Result<BTreeMap<String, ArtifactRequest>, ArtifactError> {
        let mut requests = BTreeMap::new();
        for entry in self.list()? {
            let name = entry.map_err(|error| self.unlisted(&error))?.file_name();
            let account = name.to_str().and_then(|name| name.strip_suffix(ENDING)).filter(|account| check::is_account(account));
            let Some(account) = account.filter(|_| requests.len() < ARTIFACTS_MAX) else { continue };
            let bytes = file::read(&self.dir().join(&name), &format!("{account}{ENDING}"));
            let request = bytes.ok().and_then(|bytes| serde_json::from_slice::<ArtifactRequest>(&bytes).ok());
            let is_ours = |request: &ArtifactRequest| request.account_id == account && request.schema == ARTIFACT_REQUEST_SCHEMA;
            if let Some(request) = request.filter(is_ours) {
                requests.insert(account.to_owned(), request);
            }
        }
        Ok(requests)
    }

    /// Takes a request away, once it is answered; that there is none is fine.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn withdraw(&self, account: &str) -> Result<(), ArtifactError> {
        self.discard(account, ENDING)
    }
}
