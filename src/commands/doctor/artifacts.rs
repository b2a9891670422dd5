//! The artifacts: whether each account has one that can be used, who may get at them, and whether they are renewed in time.

use std::sync::Arc;

use super::Finding;
use super::Status::{Fail, Warn};
use crate::auth::ArtifactStore;
use crate::commands::output::{ago, number};
use crate::config::Config;
use crate::daemons::auth_refresh::{AccountStatus, Standing, survey};
use crate::runtime::clock;
use crate::schema::time::Millis;

const AREA: &str = "artifacts";
/// A token that ends within this time should have been renewed.
const ENDS_WARN_MS: i64 = 3_600_000;
/// How much later than its time an artifact may be renewed before somebody has to look: auth-refresh runs from cron, too.
const OVERDUE_MS: i64 = 900_000;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let dir = &config.auth.dir;
    let needs = "ingest needs an artifact for each account: docs/auth.md";
    if !dir.is_dir() {
        return vec![Finding::bad(AREA, "folder", Warn, format!("{} is not there", dir.display()), needs)];
    }
    let store = ArtifactStore::new(dir);
    let mut findings = vec![match store.check_folder() {
        Ok(()) => Finding::ok(AREA, "folder", format!("{}: nobody else can put files there", dir.display())),
        Err(error) => Finding::failed(AREA, "folder", &error),
    }];
    findings.extend(store.scan().problems.iter().map(|problem| Finding::failed(AREA, "file", problem)));
    let now = clock::now();
    match survey(&Arc::new(config.clone()), Vec::new(), clock::now) {
        // A file that cannot be read is told above.
        Ok(accounts) => {
            findings.extend(
                accounts
                    .iter()
                    .filter(|account| !matches!(account.status, Standing::Broken | Standing::Blocked))
                    .map(|account| of(account, now)),
            );
        }
        Err(error) => findings.push(Finding::failed(AREA, "accounts", &error)),
    }
    if findings.len() == 1 {
        findings.push(Finding::bad(AREA, "accounts", Warn, format!("{} has none", dir.display()), needs));
    }
    findings
}

/// How an account stands: whether it can connect first, then whether it still can tomorrow.
fn of(account: &AccountStatus, now: Millis) -> Finding {
    let check = account.account_id.as_str();
    let generation = account.generation.map_or_else(|| "no artifact".to_owned(), |generation| format!("generation {generation}"));
    let age = account.prepared_at.map_or_else(String::new, |at| format!(", prepared {}", ago(now.since(at))));
    let next = account.refresh_at.map_or_else(String::new, |at| format!(", to be renewed {}", ago(now.since(at))));
    let found = format!("{generation}{age}");
    let refreshes = account.provider.is_some();
    let bad = |status, found: String, advice: &str| Finding::bad(AREA, check, status, found, advice);
    let renews = if refreshes {
        "`convpipe auth-refresh` renews it: see that it runs, and `convpipe auth-refresh status`"
    } else {
        "it has no provider: put a new one in its place (docs/auth.md)"
    };
    match account.status {
        status if status.needs_people() => bad(Fail, format!("{found}: {}", status.name()), "a person has to log in again: docs/auth.md"),
        Standing::Ready => {
            let overdue = account.refresh_at.filter(|at| now.since(*at) > OVERDUE_MS);
            let ends = account.expires_at.filter(|at| at.since(now) < ENDS_WARN_MS);
            if account.failures > 0 {
                let why = account.error.as_deref().unwrap_or("no reason");
                let found = format!("{found}; its provider failed {} times: {why}", number(account.failures.into()));
                return bad(Warn, found, "`convpipe auth-refresh status` has the whole of it");
            }
            match (ends, overdue) {
                (Some(at), _) => bad(Warn, format!("{found}; its token ends {}", ago(now.since(at))), renews),
                (None, Some(at)) => bad(Warn, format!("{found}; it should have been renewed {}", ago(now.since(at))), renews),
                (None, None) => Finding::ok(AREA, check, format!("{found}{next}")),
            }
        }
        status => bad(Fail, format!("{found}: {}", status.name()), renews),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status::{self, Ok};
    use super::*;

    const NOW: Millis = Millis(1_784_808_000_000);
    const H: i64 = 3_600_000;

    #[test]
    fn an_account_is_judged_by_what_it_needs_next() {
        let account = |status, provider: Option<&str>, ends_h: i64, renew_h: Option<i64>, failures| AccountStatus {
            account_id: "200000001".into(),
            status,
            provider: provider.map(str::to_owned),
            generation: (status != Standing::Missing).then_some(7),
            prepared_at: Some(NOW.plus(-5 * H)),
            expires_at: Some(NOW.plus(ends_h * H)),
            refresh_at: renew_h.map(|hours| NOW.plus(hours * H)),
            reason: None,
            attempted_at: None,
            refreshed_at: None,
            failures,
            fault: None,
            error: (failures > 0).then(|| "exit 3".into()),
        };
        use Standing::{Expired, Missing, NeedsOtp, Ready, Refused, Rejected};
        for (account, status, says, advises) in [
            (account(Ready, Some("p"), 19, Some(13), 0), Ok, "generation 7, prepared 5h ago, to be renewed in 13h", ""),
            (account(Ready, None, 19, None, 0), Ok, "generation 7, prepared 5h ago", ""),
            (account(Ready, Some("p"), 3, Some(-2), 0), Warn, "should have been renewed 2h ago", "see that it runs"),
            (account(Ready, Some("p"), 0, Some(-2), 0), Warn, "its token ends now", "see that it runs"),
            (account(Ready, None, 0, None, 0), Warn, "its token ends now", "no provider"),
            (account(Ready, Some("p"), 19, Some(13), 2), Warn, "failed 2 times: exit 3", "auth-refresh status"),
            (account(Expired, Some("p"), -1, None, 0), Fail, "expired", "auth-refresh"),
            (account(Refused, None, 5, None, 0), Fail, "refused", "no provider"),
            (account(Missing, Some("p"), 5, None, 0), Fail, "no artifact, prepared 5h ago: missing", "auth-refresh"),
            (account(NeedsOtp, Some("p"), 5, None, 0), Fail, "needs_otp", "log in again"),
            (account(Rejected, Some("p"), 5, None, 0), Fail, "rejected", "log in again"),
        ] {
            let finding = of(&account, NOW);
            let expected: Status = status;
            assert_eq!(finding.status, expected, "{finding:?}");
            assert!(
                finding.found.contains(says) && finding.advice.unwrap_or_default().contains(advises),
                "{says:?} {advises:?} {account:?}"
            );
        }
    }
}
