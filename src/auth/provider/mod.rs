//! Providers: where new artifacts come from. A command whose stdout is the artifact, or an HTTP endpoint of the owner's.
//!
//! Owns: how a provider is asked, the limits on its time and its answer, what in the answer is valid, and what of what it said may be shown. Does
//! not own: when it is asked, and where the artifact goes. Invariants: no error and no line of a provider's talk holds a secret that we know or can
//! recognize; a provider that is given up leaves no process behind.

mod answer;
mod command;
mod error;
mod http;
mod redact;

use std::time::Duration;

pub use answer::Answer;
pub use error::ProviderError;

use self::command::Command;
use self::http::Http;
use crate::config::{PLACEHOLDERS, ProviderConfig};
use crate::schema::artifact::Artifact;
use crate::schema::time::Millis;

/// A provider, ready to be asked.
#[derive(Debug)]
pub struct Provider {
    kind: Kind,
    answer_max: usize,
}

#[derive(Debug)]
enum Kind {
    Command(Command),
    Http(Http),
}

/// What a provider is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The account.
    pub account: &'a str,
    /// Why, in a word: what `{reason}` becomes.
    pub reason: &'a str,
    /// The artifact that is there, whose secrets must not be shown either.
    pub old: Option<&'a Artifact>,
    /// The time of day.
    pub now: Millis,
}

/// What came of asking.
#[derive(Debug)]
pub struct Asked {
    /// The answer.
    pub answer: Result<Answer, ProviderError>,
    /// What a command wrote to its standard error, line by line, without secrets, cut to a bounded length.
    pub said: Vec<String>,
}

impl Provider {
    /// Prepares a provider; asks nobody yet.
    ///
    /// # Errors
    /// [`ProviderError::CaFile`] and [`ProviderError::Trust`] where nobody can vouch for its endpoint, [`ProviderError::Nothing`] where the config names neither command nor endpoint.
    pub fn open(config: &ProviderConfig, answer_max: usize) -> Result<Self, ProviderError> {
        let kind = match (&config.command, &config.http) {
            (Some(command), _) => Kind::Command(Command::new(command)),
            (None, Some(http)) => Kind::Http(Http::open(http)?),
            (None, None) => return Err(ProviderError::Nothing),
        };
        Ok(Self { kind, answer_max })
    }

    /// Asks it. Dropping the future gives it up: a command is killed with all that it started.
    pub async fn ask(&self, ask: Ask<'_>) -> Asked {
        match &self.kind {
            Kind::Command(command) => command.ask(&ask, self.answer_max).await,
            Kind::Http(http) => Asked { answer: http.ask(&ask, self.answer_max).await, said: Vec::new() },
        }
    }
}

impl Ask<'_> {
    /// A text of the config with its placeholders replaced. Accounts and reasons are plain words, which mean the same in arguments, URLs and JSON.
    fn fill(&self, template: &str) -> String {
        let [account, reason] = PLACEHOLDERS;
        template.replace(account, self.account).replace(reason, self.reason)
    }
}

fn ms(duration_ms: u64) -> Duration {
    Duration::from_millis(duration_ms)
}
