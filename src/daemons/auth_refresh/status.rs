//! How the accounts stand: the rows of the table, the lines of the metrics, and how a run ends.

use serde::Serialize;

use super::plan::{Plan, Why, plan};
use super::roster::Member;
use crate::auth::Fault;
use crate::config::RefreshConfig;
use crate::schema::artifact::ArtifactStatus;
use crate::schema::time::Millis;

/// How an account stands. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountStatus {
    /// The account.
    pub account_id: String,
    /// Whether its artifact can be used, or why not.
    pub status: Standing,
    /// The name of its provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Of the artifact that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// When that was prepared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared_at: Option<Millis>,
    /// When its token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    /// When its provider is asked next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_at: Option<Millis>,
    /// Why it is asked then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// When its provider was last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempted_at: Option<Millis>,
    /// When it last gave a new artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refreshed_at: Option<Millis>,
    /// Failures in a row.
    pub failures: u32,
    /// Whose failure the last one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The last failure in words, or what is wrong with the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether an account's artifact can be used, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It can.
    Ready,
    /// There is none.
    Missing,
    /// It has ended.
    Expired,
    /// The platform refused it; a new one was asked for.
    Refused,
    /// It is no valid artifact; a new one takes its place.
    Broken,
    /// The file may be somebody else's doing: a person has to look.
    Blocked,
    /// The owner has to enter a one-time code.
    NeedsOtp,
    /// The owner has to pass a face check.
    NeedsFaceCheck,
    /// The platform refuses the account's sessions.
    Rejected,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ready,
        Self::Missing,
        Self::Expired,
        Self::Refused,
        Self::Broken,
        Self::Blocked,
        Self::NeedsOtp,
        Self::NeedsFaceCheck,
        Self::Rejected,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Blocked => "blocked",
            Self::NeedsOtp => "needs_otp",
            Self::NeedsFaceCheck => "needs_face_check",
            Self::Rejected => "rejected",
        }
    }

    /// Whether nothing goes on without a person.
    #[must_use]
    pub const fn needs_people(self) -> bool {
        matches!(self, Self::Blocked | Self::NeedsOtp | Self::NeedsFaceCheck | Self::Rejected)
    }
}

impl From<ArtifactStatus> for Standing {
    fn from(status: ArtifactStatus) -> Self {
        match status {
            ArtifactStatus::Ready => Self::Ready,
            ArtifactStatus::NeedsOtp => Self::NeedsOtp,
            ArtifactStatus::NeedsFaceCheck => Self::NeedsFaceCheck,
            ArtifactStatus::Rejected => Self::Rejected,
        }
    }
}

impl AccountStatus {
    /// How an account stands at `now`.
    #[must_use]
    pub fn of(account: &str, member: &Member, config: &RefreshConfig, now: Millis) -> Self {
        let (facts, record) = (&member.facts, &member.facts.record);
        let plan = plan(account, facts, config, now);
        let status = match (&plan, &facts.artifact) {
            (Plan::Blocked(_), _) => Standing::Blocked,
            (Plan::Held(status), _) => Standing::from(*status),
            (_, None) => Standing::Missing,
            (_, Some(Err(_))) => Standing::Broken,
            (Plan::At(_, Why::Refused), _) => Standing::Refused,
            (_, Some(Ok(summary))) if summary.expires_at.is_some_and(|end| end <= now) => Standing::Expired,
            (_, Some(Ok(summary))) => Standing::from(summary.status),
        };
        let (refresh_at, reason) = match plan {
            Plan::At(at, why) if member.provider.is_some() => (Some(at), Some(why.name())),
            _ => (None, None),
        };
        let wrong_file = facts.artifact.as_ref().and_then(|artifact| artifact.as_ref().err()).map(ToString::to_string);
        let summary = facts.summary();
        Self {
            account_id: account.to_owned(),
            status,
            provider: member.provider.clone(),
            generation: summary.map(|summary| summary.generation),
            prepared_at: summary.and_then(|summary| summary.prepared_at),
            expires_at: summary.and_then(|summary| summary.expires_at),
            refresh_at,
            reason,
            attempted_at: record.attempted_at,
            refreshed_at: record.refreshed_at,
            failures: record.failures,
            fault: record.fault,
            error: record.error.clone().or(wrong_file),
        }
    }

    /// Whose failure keeps the account from what it needs; `None` where nothing does, and where somebody else looks after it.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.provider.as_ref()?;
        if self.status.needs_people() { Some(Fault::Refused) } else { self.fault }
    }
}

/// The fault that decides how a run over these accounts ends: the one that a person has to act on first.
#[must_use]
pub fn worst(accounts: &[AccountStatus]) -> Option<Fault> {
    Fault::ALL.into_iter().find(|fault| accounts.iter().any(|account| account.fault() == Some(*fault)))
}
