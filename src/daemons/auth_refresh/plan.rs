//! When an account's artifact has to be renewed, and why. Pure: facts and a time go in.
//!
//! Invariants: what a person has to act on is not tried again by itself; a provider that failed is left alone for its backoff; an artifact that is
//! used by nobody else's fault is renewed before it ends, at a moment that is the account's own and the same in every run.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::auth::{ArtifactError, Record};
use crate::config::RefreshConfig;
use crate::schema::artifact::{Artifact, ArtifactRequest, ArtifactStatus, RequestReason};
use crate::schema::time::Millis;

/// Artifacts in a row that the platform may refuse shortly after each other; then a person has to look.
const REFUSALS_MAX: u32 = 3;
/// An artifact that was used for longer than this before it was refused begins a new row.
const REFUSAL_MS: i64 = 3_600_000;

/// What is known of an account.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Its artifact; `None` where there is no file.
    pub artifact: Option<Result<Summary, ArtifactError>>,
    /// What became of earlier attempts.
    pub record: Record,
    /// What asks for a new one.
    pub request: Option<ArtifactRequest>,
}

/// An artifact without its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// See [`Artifact::generation`].
    pub generation: u64,
    /// See [`Artifact::status`].
    pub status: ArtifactStatus,
    /// See [`Artifact::expires_at`].
    pub expires_at: Option<Millis>,
    /// See [`Artifact::prepared_at`].
    pub prepared_at: Option<Millis>,
}

impl From<&Artifact> for Summary {
    fn from(artifact: &Artifact) -> Self {
        let Artifact { generation, status, expires_at, prepared_at, .. } = artifact;
        Self { generation: *generation, status: *status, expires_at: *expires_at, prepared_at: *prepared_at }
    }
}

/// What has to be done about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Ask its provider at this time, or now where that is past.
    At(Millis, Why),
    /// Wait until a person has acted.
    Held(ArtifactStatus),
    /// The file that is there may be somebody else's doing, and is not replaced unasked.
    Blocked(ArtifactError),
}

/// Why a provider is asked. In the order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A person wants it, now.
    Forced,
    /// A person asked for it.
    Asked,
    /// The platform refused the one that is there.
    Refused,
    /// There is none.
    Missing,
    /// The one that is there cannot be read.
    Broken,
    /// The one that is there has ended.
    Expired,
    /// The one that is there ends soon.
    Expiring,
}

impl Why {
    /// The word for it: what `{reason}` becomes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Asked => "asked",
            Self::Refused => "refused",
            Self::Missing => "missing",
            Self::Broken => "broken",
            Self::Expired => "expired",
            Self::Expiring => "expiring",
        }
    }
}

impl Facts {
    /// The artifact, where there is one that can be read.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        self.artifact.as_ref().and_then(|artifact| artifact.as_ref().ok())
    }

    /// The request, unless a new artifact has overtaken it.
    #[must_use]
    pub fn request(&self) -> Option<&ArtifactRequest> {
        self.request.as_ref().filter(|request| match request.reason {
            RequestReason::Refused => request.generation == self.generation(),
            RequestReason::Asked => self.record.refreshed_at.is_none_or(|at| at < request.requested_at),
        })
    }

    fn generation(&self) -> Option<u64> {
        self.summary().map(|summary| summary.generation)
    }

    /// What a person has to do, as far as the provider, the artifact or the platform said so.
    fn held(&self) -> Option<ArtifactStatus> {
        let recorded = self.record.held.filter(|held| held.generation == self.generation()).map(|held| held.status);
        let in_artifact = || self.summary().map(|summary| summary.status).filter(|&status| status != ArtifactStatus::Ready);
        recorded.or_else(in_artifact)
    }
}

/// What to do about an account at `now`.
#[must_use]
pub fn plan(account: &str, facts: &Facts, config: &RefreshConfig, now: Millis) -> Plan {
    let record = &facts.record;
    // A clock that was set back must not make a wait longer than it can be.
    let longest = now.plus(ms(config.backoff_max_ms));
    let backoff = record.retry_at.filter(|&at| at <= longest);
    let when_allowed = |at: Millis, why| Plan::At(backoff.map_or(at, |until| at.max(until)), why);
    if let Some(Err(error)) = &facts.artifact
        && !error.problem.is_of_content()
    {
        return Plan::Blocked(error.clone());
    }
    let request = facts.request();
    if let Some(asked) = request.filter(|request| request.reason == RequestReason::Asked) {
        let was_tried = record.attempted_at.is_some_and(|at| at >= asked.requested_at);
        return if was_tried { when_allowed(now, Why::Asked) } else { Plan::At(now, Why::Asked) };
    }
    if let Some(status) = facts.held() {
        return Plan::Held(status);
    }
    if let Some(refused) = request {
        return match refusals(record, refused.requested_at) {
            0 => when_allowed(now, Why::Refused),
            REFUSALS_MAX.. => Plan::Held(ArtifactStatus::Rejected),
            _ => when_allowed(record.refreshed_at.unwrap_or(now).plus(ms(config.backoff_max_ms)), Why::Refused),
        };
    }
    match &facts.artifact {
        None => when_allowed(now, Why::Missing),
        Some(Err(_)) => when_allowed(now, Why::Broken),
        Some(Ok(summary)) => {
            let why = if summary.expires_at.is_some_and(|end| end <= now) { Why::Expired } else { Why::Expiring };
            when_allowed(due_at(account, summary, config).unwrap_or(now), why)
        }
    }
}

/// How many artifacts in a row the platform refused, before the one that it refused at `at`.
#[must_use]
pub(super) fn refusals(record: &Record, at: Millis) -> u32 {
    let was_short = record.refreshed_at.is_some_and(|refreshed| at.since(refreshed) < REFUSAL_MS);
    if was_short { record.refusals } else { 0 }
}

/// When an artifact's turn comes: when less than the minimum of its life is left, by up to the jitter later. The moment depends on the account and the
/// generation alone. `None` where nothing is known of its life.
fn due_at(account: &str, summary: &Summary, config: &RefreshConfig) -> Option<Millis> {
    let unstated = ms(config.life_s.saturating_mul(1000));
    let (start, end) = match (summary.prepared_at, summary.expires_at) {
        (Some(start), Some(end)) => (start, end),
        (Some(start), None) => (start, start.plus(unstated)),
        (None, Some(end)) => (end.plus(-unstated), end),
        (None, None) => return None,
    };
    let life = i128::from(end.since(start).max(0));
    let left = match config.min_ttl_s {
        Some(s) => i128::from(ms(s.saturating_mul(1000))).min(life / 2),
        None => life * i128::from(config.min_ttl_percent) / 100,
    };
    let hash = i128::from(xxh3_64_with_seed(account.as_bytes(), summary.generation) >> 1);
    let later = (left * i128::from(config.jitter_percent) / 100 * hash) >> 63;
    Some(end.plus(-i64::try_from(left - later).unwrap_or(i64::MAX)))
}

fn ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::{Content, Held, Problem};
    use crate::schema::ARTIFACT_REQUEST_SCHEMA;

    const H: i64 = 3_600_000;
    const NOW: Millis = Millis(1_784_808_000_000);

    fn summary(prepared_h: Option<i64>, ends_h: Option<i64>) -> Summary {
        let at = |hours: i64| NOW.plus(hours * H);
        Summary { generation: 7, status: ArtifactStatus::Ready, expires_at: ends_h.map(at), prepared_at: prepared_h.map(at) }
    }

    fn steady() -> RefreshConfig {
        RefreshConfig { jitter_percent: 0, ..RefreshConfig::default() }
    }

    #[test]
    fn an_artifact_is_renewed_when_too_little_of_its_life_is_left() {
        let percent = |percent| RefreshConfig { min_ttl_percent: percent, ..steady() };
        let seconds = |hours: u64| RefreshConfig { min_ttl_s: Some(hours * 3600), ..steady() };
        for (prepared, ends, config, expected_h) in [
            (Some(0), Some(24), percent(25), 18),
            (Some(0), Some(24), percent(50), 12),
            (Some(-20), Some(4), percent(25), -2),
            (Some(-1), Some(0), percent(25), 0),
            (Some(0), Some(24), seconds(6), 18),
            (Some(0), Some(24), seconds(2), 22),
            // Never more than half of its life, else it would be renewed all the time.
            (Some(0), Some(4), seconds(6), 2),
            // Where a time is not stated, the usual life counts.
            (None, Some(24), percent(25), 18),
            (Some(0), None, percent(25), 18),
            (Some(0), None, RefreshConfig { life_s: 48 * 3600, ..percent(25) }, 36),
            // It never lived.
            (Some(5), Some(4), percent(25), 4),
        ] {
            let due = due_at("1", &summary(prepared, ends), &config).unwrap().since(NOW);
            // The row of an hour's life is due in minutes.
            assert_eq!(due.div_euclid(H) + i64::from(due.rem_euclid(H) > 0), expected_h, "{prepared:?} {ends:?} {config:?}");
        }
        assert_eq!(due_at("1", &summary(None, None), &steady()), None);
    }

    proptest! {
        #[test]
        fn the_jitter_has_its_bounds(
            account in "[0-9]{1,12}", generation: u64, start in -9e14 as i64..9e14 as i64, life in 0i64..400 * 24 * H,
            percent in 1u64..=90, jitter in 0u64..=100, fixed in proptest::option::of(1u64..10_000_000),
        ) {
            let config = RefreshConfig { min_ttl_percent: percent, min_ttl_s: fixed, jitter_percent: jitter, ..RefreshConfig::default() };
            let end = Millis(start).plus(life);
            let summary = Summary { generation, status: ArtifactStatus::Ready, expires_at: Some(end), prepared_at: Some(Millis(start)) };
            let left = fixed.map_or(life as i128 * percent as i128 / 100, |s| (s as i128 * 1000).min(life as i128 / 2)) as i64;
            let at = due_at(&account, &summary, &config).unwrap();
            let later = left - end.since(at);
            prop_assert!(0 <= later && later <= left * jitter as i64 / 100, "{later} of {left}");
            prop_assert_eq!(due_at(&account, &summary, &config).unwrap(), at, "the same in every run");
            prop_assert!(Millis(start) <= at && at <= end);
        }

        #[test]
        fn any_facts_have_a_plan(prepared: i64, ends: i64, retry: i64, now: i64, requested: i64, refreshed: i64, life_s: u64, backoff_max_ms: u64) {
            let config = RefreshConfig { life_s, backoff_max_ms, min_ttl_s: Some(life_s), ..RefreshConfig::default() };
            let request = ArtifactRequest { requested_at: Millis(requested), ..request(RequestReason::Refused, Some(7)) };
            let record = Record { retry_at: Some(Millis(retry)), refreshed_at: Some(Millis(refreshed)), refusals: 1, ..Record::default() };
            let artifact = Summary { prepared_at: Some(Millis(prepared)), expires_at: Some(Millis(ends)), ..summary(None, None) };
            for request in [None, Some(request)] {
                let facts = Facts { artifact: Some(Ok(artifact)), record: record.clone(), request };
                let _ = plan("1", &facts, &config, Millis(now));
            }
        }
    }

    #[test]
    fn accounts_do_not_come_all_at_once() {
        let at = |n: u64| due_at(&n.to_string(), &summary(Some(0), Some(24)), &RefreshConfig::default()).unwrap().since(NOW);
        let mut quarters = [0; 4];
        for n in 0..400 {
            // Six hours are left, the jitter is a fifth of that.
            let later = at(n) - 18 * H;
            quarters[usize::try_from(later * 4 / (6 * H / 5 + 1)).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|&count| count > 60), "{quarters:?}");
    }

    fn request(reason: RequestReason, generation: Option<u64>) -> ArtifactRequest {
        ArtifactRequest { schema: ARTIFACT_REQUEST_SCHEMA.into(), account_id: "1".into(), reason, generation, requested_at: NOW }
    }

    #[test]
    fn what_is_done_about_an_account() {
        use ArtifactStatus::{NeedsOtp, Rejected};
        let config = steady();
        let later = NOW.plus(60_000);
        let at = Plan::At;
        let fine = || Some(Ok(summary(Some(-1), Some(23))));
        let short = || Some(Ok(summary(Some(-20), Some(4))));
        let ended = || Some(Ok(summary(Some(-25), Some(-1))));
        let marked = || Some(Ok(Summary { status: NeedsOtp, ..summary(Some(-1), Some(23)) }));
        let error = |problem| ArtifactError { file: "1.json".into(), problem };
        let broken = || Some(Err(error(Problem::Content(Content::MissingField("token")))));
        let linked = || Some(Err(error(Problem::Symlink)));
        let none = Record::default;
        let waiting = || Record { failures: 1, retry_at: Some(later), attempted_at: Some(NOW), ..none() };
        let held = |generation| Record { held: Some(Held { status: NeedsOtp, generation }), ..none() };
        let refreshed = |hours: i64, refusals| Record { refreshed_at: Some(NOW.plus(-hours * H)), refusals, ..none() };
        let minute_ago = |refusals| Record { refreshed_at: Some(NOW.plus(-60_000)), refusals, ..none() };
        let refused = || Some(request(RequestReason::Refused, Some(7)));
        let asked = || Some(request(RequestReason::Asked, None));
        for (name, artifact, record, request, expected) in [
            ("nothing to do yet", fine(), none(), None, at(NOW.plus(17 * H), Why::Expiring)),
            ("too little left", short(), none(), None, at(NOW.plus(-2 * H), Why::Expiring)),
            ("ended", ended(), none(), None, at(NOW.plus(-7 * H), Why::Expired)),
            ("none", None, none(), None, at(NOW, Why::Missing)),
            ("broken", broken(), none(), None, at(NOW, Why::Broken)),
            ("after a failure", short(), waiting(), None, at(later, Why::Expiring)),
            ("none after a failure", None, waiting(), None, at(later, Why::Missing)),
            ("a clock that was set back", None, Record { retry_at: Some(NOW.plus(H)), ..none() }, None, at(NOW, Why::Missing)),
            ("a link is not replaced", linked(), none(), None, Plan::Blocked(error(Problem::Symlink))),
            ("not even when asked", linked(), none(), asked(), Plan::Blocked(error(Problem::Symlink))),
            ("a person has to act", short(), held(Some(7)), None, Plan::Held(NeedsOtp)),
            ("also where there is none yet", None, held(None), None, Plan::Held(NeedsOtp)),
            ("also when it has ended", ended(), held(Some(7)), None, Plan::Held(NeedsOtp)),
            ("and when it is refused", fine(), held(Some(7)), refused(), Plan::Held(NeedsOtp)),
            ("the artifact says so itself", marked(), none(), None, Plan::Held(NeedsOtp)),
            ("a person put another one there", short(), held(Some(6)), None, at(NOW.plus(-2 * H), Why::Expiring)),
            ("a person asks", short(), held(Some(7)), asked(), at(NOW, Why::Asked)),
            (
                "a person asks in the backoff",
                short(),
                Record { attempted_at: Some(NOW.plus(-1)), ..waiting() },
                asked(),
                at(NOW, Why::Asked),
            ),
            ("and that failed", short(), waiting(), asked(), at(later, Why::Asked)),
            ("and that was answered", fine(), Record { refreshed_at: Some(NOW), ..none() }, asked(), at(NOW.plus(17 * H), Why::Expiring)),
            ("refused", fine(), none(), refused(), at(NOW, Why::Refused)),
            ("refused after long use", fine(), refreshed(5, 9), refused(), at(NOW, Why::Refused)),
            ("the new one was refused, too", fine(), minute_ago(1), refused(), at(NOW.plus(540_000), Why::Refused)),
            ("and again, and again", fine(), minute_ago(3), refused(), Plan::Held(Rejected)),
            (
                "refused was another one",
                fine(),
                none(),
                Some(request(RequestReason::Refused, Some(6))),
                at(NOW.plus(17 * H), Why::Expiring),
            ),
        ] {
            let facts = Facts { artifact, record, request };
            assert_eq!(plan("1", &facts, &config, NOW), expected, "{name}");
        }
    }
}
