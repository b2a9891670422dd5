//! One attempt to renew one account's artifact: ask, decide, write, remember.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::plan::{Why, refusals};
use crate::auth::provider::{Answer, Ask, Asked, Provider, ProviderError};
use crate::auth::{ArtifactError, ArtifactStore, Fault, Held, Problem, Record, usable};
use crate::config::RefreshConfig;
use crate::runtime::backoff::Backoff;
use crate::runtime::clock::Now;
use crate::schema::artifact::{Artifact, ArtifactStatus};
use crate::schema::time::Millis;

/// An attempt that is about to be made.
pub(super) struct Job {
    pub(super) account: String,
    pub(super) why: Why,
    pub(super) provider_name: String,
    pub(super) provider: Arc<Provider>,
    pub(super) record: Record,
    pub(super) store: ArtifactStore,
    pub(super) config: RefreshConfig,
    pub(super) now: Now,
}

/// An attempt that was made.
#[derive(Debug)]
pub struct Ended {
    /// The account.
    pub account: String,
    /// Why its provider was asked.
    pub why: Why,
    /// The name of the provider.
    pub provider: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What the provider wrote to its standard error, without secrets.
    pub said: Vec<String>,
    pub(super) record: Record,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A new artifact is in its place.
    Renewed {
        /// Its generation.
        generation: u64,
        /// When its token ends.
        expires_at: Option<Millis>,
    },
    /// The provider gave what is there already, which still can be used.
    Unchanged,
    /// A person has to act first.
    Needs(ArtifactStatus),
    /// No new artifact; the old one stays.
    Failed {
        /// Whose failure it is.
        fault: Fault,
        /// What happened. It holds no secret.
        error: String,
        /// When it is tried again, at the earliest.
        retry_at: Millis,
    },
}

impl Job {
    pub(super) async fn run(self) -> Ended {
        let old = self.store.load(&self.account);
        let asked_at = (self.now)();
        let ask = Ask { account: &self.account, reason: self.why.name(), old: old.as_ref().ok(), now: asked_at };
        let Asked { answer, said } = self.provider.ask(ask).await;
        // Writing waits for the disk.
        let finished = tokio::task::spawn_blocking(move || {
            let mut record = Record { attempted_at: Some(asked_at), ..self.record.clone() };
            let outcome = self.finish(old, answer, &mut record);
            Ended { account: self.account, why: self.why, provider: self.provider_name, outcome, said, record }
        });
        finished.await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
    }

    fn finish(&self, old: Result<Artifact, ArtifactError>, answer: Result<Answer, ProviderError>, record: &mut Record) -> Outcome {
        let now = (self.now)();
        let settled = answer.and_then(|answer| settle(old, self.why, answer, now));
        let written = settled.map_err(Failure::from).and_then(|settled| {
            if let Settled::Renewed(artifact) | Settled::Marked(artifact) = &settled {
                self.store.write(artifact)?;
            }
            Ok(settled)
        });
        let outcome = match written {
            Ok(settled) => self.succeed(settled, now, record),
            Err(failure) => self.fail(failure, now, record),
        };
        // The artifact is what counts. Without its record the next attempt comes early, and a request that stays is overtaken by the generation.
        if let Err(error) = self.store.remember(&self.account, record) {
            tracing::warn!(%error, "what became of an attempt cannot be remembered");
        }
        if !matches!(outcome, Outcome::Failed { .. })
            && let Err(error) = self.store.withdraw(&self.account)
        {
            tracing::warn!(%error, "a request that was answered cannot be removed");
        }
        outcome
    }

    fn succeed(&self, settled: Settled, now: Millis, record: &mut Record) -> Outcome {
        (record.failures, record.retry_at, record.fault, record.error) = (0, None, None, None);
        match settled {
            Settled::Renewed(artifact) => {
                record.refusals = if self.why == Why::Refused { refusals(record, now).saturating_add(1) } else { 0 };
                record.refreshed_at = Some(now);
                record.held = None;
                Outcome::Renewed { generation: artifact.generation, expires_at: artifact.expires_at }
            }
            Settled::Unchanged => {
                record.retry_at = Some(now.plus(ms(Duration::from_millis(self.config.backoff_max_ms))));
                Outcome::Unchanged
            }
            Settled::Marked(artifact) => {
                record.held = Some(Held { status: artifact.status, generation: Some(artifact.generation) });
                Outcome::Needs(artifact.status)
            }
            Settled::Needs { status, generation } => {
                record.held = Some(Held { status, generation });
                Outcome::Needs(status)
            }
        }
    }

    fn fail(&self, failure: Failure, now: Millis, record: &mut Record) -> Outcome {
        let max = Duration::from_millis(self.config.backoff_max_ms);
        let wait = Backoff::new(Duration::from_millis(self.config.backoff_min_ms), max).after(record.failures).next_wait();
        let wanted = Duration::from_secs(failure.retry_after_s.unwrap_or(0)).min(max);
        let retry_at = now.plus(ms(wait.max(wanted)));
        record.failures = record.failures.saturating_add(1);
        record.retry_at = Some(retry_at);
        record.fault = Some(failure.fault);
        record.error = Some(failure.error.clone());
        Outcome::Failed { fault: failure.fault, error: failure.error, retry_at }
    }
}

/// Why there is no new artifact.
struct Failure {
    fault: Fault,
    error: String,
    retry_after_s: Option<u64>,
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        Self { fault: error.fault(), error: error.to_string(), retry_after_s: error.retry_after_s() }
    }
}

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Self {
        Self { fault: Fault::Local, error: error.to_string(), retry_after_s: None }
    }
}

/// What an answer means for what is there.
#[derive(Debug)]
enum Settled {
    /// This takes its place.
    Renewed(Artifact),
    /// What is there is of no use any more, and now says why.
    Marked(Artifact),
    /// A person has to act; what is there stays as it is, because it may still be in use.
    Needs { status: ArtifactStatus, generation: Option<u64> },
    /// It is what is there.
    Unchanged,
}

fn settle(old: Result<Artifact, ArtifactError>, why: Why, answer: Answer, now: Millis) -> Result<Settled, ProviderError> {
    let was_refused = why == Why::Refused;
    let next = match &old {
        // Another number is what counts: it is how a running ingest knows that the artifact is new.
        Ok(old) => old.generation.checked_add(1).unwrap_or(1),
        Err(ArtifactError { problem: Problem::Missing, .. }) => 1,
        // Its generation is not known, and the new one has to be another: no counted one is as large as the time.
        Err(_) => u64::try_from(now.0).unwrap_or(1),
    };
    match (answer, old) {
        (Answer::Needs(status), Ok(old)) => {
            let is_useless = was_refused || usable(&old, now).is_err();
            if is_useless && old.status != status {
                return Ok(Settled::Marked(Artifact { status, generation: next, prepared_at: Some(now), ..old }));
            }
            Ok(Settled::Needs { status, generation: Some(old.generation) })
        }
        (Answer::Needs(status), Err(_)) => Ok(Settled::Needs { status, generation: None }),
        (Answer::Artifact(new), Ok(old)) if new.token.expose_secret() == old.token.expose_secret() => {
            let wants_any = matches!(why, Why::Forced | Why::Asked) || old.status != ArtifactStatus::Ready;
            match () {
                () if was_refused && is_same(&new, &old) => Err(ProviderError::SameToken),
                () if !wants_any && is_same(&new, &old) && new.expires_at == old.expires_at => Ok(Settled::Unchanged),
                () => Ok(Settled::Renewed(Artifact { generation: next, ..*new })),
            }
        }
        (Answer::Artifact(new), _) => Ok(Settled::Renewed(Artifact { generation: next, ..*new })),
    }
}

/// Whether both make the same connection.
fn is_same(a: &Artifact, b: &Artifact) -> bool {
    let headers = |artifact: &Artifact| -> Vec<(String, String)> {
        artifact.headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect()
    };
    a.token.expose_secret() == b.token.expose_secret()
        && a.ws_url.expose_secret() == b.ws_url.expose_secret()
        && (&a.origin, &a.user_agent) == (&b.origin, &b.user_agent)
        && headers(a) == headers(b)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Content;

    const NOW: Millis = Millis(1_784_808_000_000);

    fn artifact(token: &str, generation: u64, status: ArtifactStatus, ends_ms: i64) -> Artifact {
        Artifact {
            schema: crate::schema::ARTIFACT_SCHEMA.into(),
            account_id: "1".into(),
            generation,
            platform: "onlyfans".into(),
            ws_url: "wss://h/".into(),
            token: token.into(),
            expires_at: Some(NOW.plus(ends_ms)),
            origin: None,
            user_agent: None,
            headers: [].into(),
            prepared_at: None,
            status,
        }
    }

    #[test]
    fn what_an_answer_means_for_what_is_there() {
        use ArtifactStatus::{NeedsOtp, Ready};
        let error = |problem| Err(ArtifactError { file: "1.json".into(), problem });
        let (missing, broken) = (|| error(Problem::Missing), || error(Problem::Content(Content::OtherAccount)));
        let (live, dead) = (|| Ok(artifact("old", 5, Ready, 9)), || Ok(artifact("old", 5, Ready, -9)));
        let new = || Answer::Artifact(Box::new(artifact("new", 0, Ready, 99)));
        let same = || Answer::Artifact(Box::new(artifact("old", 0, Ready, 9)));
        let longer = || Answer::Artifact(Box::new(artifact("old", 0, Ready, 99)));
        let otp = || Answer::Needs(NeedsOtp);
        for (name, old, why, answer, expected) in [
            ("the first", missing(), Why::Missing, new(), "renewed 1 Ready"),
            ("the next", live(), Why::Expiring, new(), "renewed 6 Ready"),
            ("the last that can be counted", Ok(artifact("old", u64::MAX, Ready, 9)), Why::Expiring, new(), "renewed 1 Ready"),
            ("in place of a broken one", broken(), Why::Broken, new(), "renewed 1784808000000 Ready"),
            ("nothing new", live(), Why::Expiring, same(), "unchanged"),
            ("nothing new, but wanted", live(), Why::Forced, same(), "renewed 6 Ready"),
            ("the same for longer", live(), Why::Expiring, longer(), "renewed 6 Ready"),
            ("the refused one", live(), Why::Refused, same(), "the answer holds the token that the platform refused"),
            ("the refused one for longer", live(), Why::Refused, longer(), "the answer holds the token that the platform refused"),
            ("a check, while the old one lives", live(), Why::Expiring, otp(), "needs Some(5)"),
            ("a check, and the old one is refused", live(), Why::Refused, otp(), "marked 6 NeedsOtp"),
            ("a check, and the old one has ended", dead(), Why::Expired, otp(), "marked 6 NeedsOtp"),
            ("a check that was told already", Ok(artifact("old", 5, NeedsOtp, 9)), Why::Asked, otp(), "needs Some(5)"),
            ("a check, and there is none", missing(), Why::Missing, otp(), "needs None"),
            ("a check was passed", Ok(artifact("old", 5, NeedsOtp, 9)), Why::Asked, same(), "renewed 6 Ready"),
        ] {
            let told = match settle(old, why, answer, NOW) {
                Ok(Settled::Renewed(artifact)) => format!("renewed {} {:?}", artifact.generation, artifact.status),
                Ok(Settled::Marked(artifact)) => format!("marked {} {:?}", artifact.generation, artifact.status),
                Ok(Settled::Needs { generation, .. }) => format!("needs {generation:?}"),
                Ok(Settled::Unchanged) => "unchanged".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(told, expected, "{name}");
        }
    }
}
