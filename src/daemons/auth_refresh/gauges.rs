//! What auth-refresh shows on `/metrics`: numbers of accounts, not accounts. Which account it is stands in its table and in the textfile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::job::Outcome;
use super::status::{AccountStatus, Standing};
use crate::runtime::exposition::{Expose, Labels, Page};
use crate::runtime::supervise::Report;
use crate::schema::time::Millis;

/// How the accounts stood when they were last looked at, and what came of asking. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct AuthGauges {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    looked_at: Option<Millis>,
    by_standing: [u64; Standing::ALL.len()],
    soonest_end: Option<Millis>,
    oldest: Option<Millis>,
    failing: u64,
    attempts: [u64; OUTCOMES.len()],
    asking: usize,
}

const OUTCOMES: [&str; 4] = ["renewed", "unchanged", "needs_people", "failed"];

impl AuthGauges {
    /// The accounts stand like this.
    pub(super) fn look(&self, accounts: &[AccountStatus], now: Millis) {
        let mut seen = self.lock();
        seen.looked_at = Some(now);
        seen.by_standing = Standing::ALL.map(|standing| accounts.iter().filter(|account| account.status == standing).count() as u64);
        seen.soonest_end = accounts.iter().filter_map(|account| account.expires_at).min();
        seen.oldest = accounts.iter().filter_map(|account| account.prepared_at).min();
        seen.failing = accounts.iter().filter(|account| account.failures > 0).count() as u64;
    }

    /// So many are being asked.
    pub(super) fn asking(&self, accounts: usize) {
        self.lock().asking = accounts;
    }

    /// Somebody was asked.
    pub(super) fn asked(&self, outcome: &Outcome) {
        let which = match outcome {
            Outcome::Renewed { .. } => 0,
            Outcome::Unchanged => 1,
            Outcome::Needs(_) => 2,
            Outcome::Failed { .. } => 3,
        };
        self.lock().attempts[which] += 1;
    }

    /// Nothing panics under the lock; if something did, the numbers would still be whole.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report for AuthGauges {
    fn summary(&self) -> String {
        let seen = self.lock();
        let standings = Standing::ALL.iter().zip(seen.by_standing).filter(|(_, count)| *count > 0);
        let told: Vec<String> = standings.map(|(standing, count)| format!("{count} {}", standing.name())).collect();
        if told.is_empty() { "no accounts".to_owned() } else { format!("accounts: {}", told.join(", ")) }
    }

    fn given_up(&self) -> Option<String> {
        let asking = self.lock().asking;
        (asking > 0).then(|| format!("the answers of providers that were being asked for {asking} accounts"))
    }
}

impl Expose for AuthGauges {
    fn expose(&self, page: &mut Page<'_>) {
        let seen = self.lock();
        let time = |at: Option<Millis>| at.map(|at| (&[] as Labels<'_>, at.0 as f64 / 1000.0));
        page.gauges("auth_refresh_looked_timestamp_seconds", "When the accounts were last looked at.", time(seen.looked_at));
        let standings = Standing::ALL.map(|standing| [("status", standing.name())]);
        let accounts = standings.iter().zip(seen.by_standing).map(|(labels, count)| (&labels[..], count));
        page.gauges("auth_refresh_accounts", "Accounts by how they stand.", accounts);
        page.gauge("auth_refresh_failing_accounts", "Accounts whose provider failed when it was last asked.", seen.failing);
        page.gauges("auth_refresh_soonest_end_timestamp_seconds", "When the first token ends.", time(seen.soonest_end));
        page.gauges("auth_refresh_oldest_artifact_timestamp_seconds", "When the oldest artifact was prepared.", time(seen.oldest));
        let outcomes = OUTCOMES.map(|outcome| [("outcome", outcome)]);
        let attempts = outcomes.iter().zip(seen.attempts).map(|(labels, count)| (&labels[..], count));
        page.counters("auth_refresh_attempts", "Providers asked, by what came of it.", attempts);
    }
}
