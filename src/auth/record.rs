//! What is remembered of an account between two runs: `<account>.refresh` beside the artifacts. It holds no secret.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::{ArtifactError, ArtifactStore, Problem, check, file};
use crate::schema::artifact::ArtifactStatus;
use crate::schema::time::Millis;

/// Ending of a record's file name; what stands before it is the account.
const ENDING: &str = ".refresh";

/// What became of the attempts to renew an account's artifact. Losing it costs an early attempt, nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// When the provider was last asked.
    pub attempted_at: Option<Millis>,
    /// When a new artifact was last put in its place.
    pub refreshed_at: Option<Millis>,
    /// Failures in a row.
    pub failures: u32,
    /// Not to be tried again before then.
    pub retry_at: Option<Millis>,
    /// Whose failure the last one was; `None` after a success.
    pub fault: Option<Fault>,
    /// The last failure in words.
    pub error: Option<String>,
    /// People have to act; until then the provider is not asked.
    pub held: Option<Held>,
    /// Artifacts in a row that were renewed because the platform had refused the one before.
    pub refusals: u32,
}

/// The provider said that a person has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What.
    pub status: ArtifactStatus,
    /// The artifact that was there then. With another one the matter is settled.
    pub generation: Option<u64>,
}

/// Whose failure it was: what tells who has to act, and how a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Somebody refused our session or our credentials: a person has to act.
    Refused,
    /// Something that the config names is not as it has to be.
    Config,
    /// The provider answered with what is no artifact.
    BadAnswer,
    /// The provider did not answer, or said that it cannot.
    Unavailable,
    /// This machine could not write the artifact.
    Local,
}

impl Fault {
    /// All of them, those that people have to act on first: of several accounts, the first decides how a run ends.
    pub const ALL: [Self; 5] = [Self::Refused, Self::Config, Self::BadAnswer, Self::Unavailable, Self::Local];
}

impl ArtifactStore {
    /// What is remembered of an account. A record that is missing or cannot be read counts as an empty one.
    #[must_use]
    pub fn record(&self, account: &str) -> Record {
        let name = format!("{account}{ENDING}");
        if !check::is_account(account) {
            return Record::default();
        }
        file::read(&self.dir().join(&name), &name).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Remembers it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember(&self, account: &str, record: &Record) -> Result<(), ArtifactError> {
        self.keep(account, ENDING, record)
    }

    /// Forgets accounts that are no longer there, so that what is remembered does not grow for ever.
    ///
    /// # Errors
    /// Where the folder cannot be listed, or a record cannot be removed.
    pub fn forget_all_but(&self, is_there: impl Fn(&str) -> bool) -> Result<(), ArtifactError> {
        for entry in self.list()? {
            let name = entry.map_err(|error| self.unlisted(&error))?.file_name();
            let account = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            if let Some(gone) = account.filter(|account| check::is_account(account) && !is_there(account)) {
                self.discard(gone, ENDING)?;
            }
        }
        Ok(())
    }

    pub(super) fn keep<T: Serialize>(&self, account: &str, ending: &str, value: &T) -> Result<(), ArtifactError> {
        if !check::is_account(account) {
            return Err(self.of_folder(Problem::Account));
        }
        let name = format!("{account}{ending}");
        let written = serde_json::to_vec(value)
            .map_err(|error| Problem::Io { what: "written", detail: error.to_string() })
            .and_then(|bytes| file::replace(self.dir(), &name, &bytes));
        written.map_err(|problem| ArtifactError { file: self.dir().join(&name), problem })
    }

    pub(super) fn discard(&self, account: &str, ending: &str) -> Result<(), ArtifactError> {
        if !check::is_account(account) {
            return Err(self.of_folder(Problem::Account));
        }
        let file = self.dir().join(format!("{account}{ending}"));
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ArtifactError { file, problem: Problem::Io { what: "removed", detail: error.to_string() } })
            }
            _ => Ok(()),
        }
    }
}
