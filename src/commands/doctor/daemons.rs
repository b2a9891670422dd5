//! The daemons, as far as they run here: whether they live, are ready, keep up, and are of this version.
//!
//! One that does not run is a warning and no failure: before the first start, and on a machine from which people only look on, everything else can be as it
//! should. `convpipe status` is the one that calls it down.

use futures_util::future::join_all;

use super::Finding;
use super::Status::{Fail, Warn};
use crate::commands::output::{duration, short};
use crate::commands::status::{BETWEEN, Severity, Standing, State, configured, look, of_daemon};
use crate::config::Config;
use crate::runtime::clock;
use crate::schema::time::Millis;

const AREA: &str = "daemons";
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let targets = configured(config);
    let before = join_all(targets.iter().map(look)).await;
    // Rates and lags are between two looks.
    tokio::time::sleep(BETWEEN).await;
    let looks = join_all(targets.iter().map(look)).await;
    let now = clock::now();
    before.iter().zip(&looks).flat_map(|(before, look)| judge(&Standing::of(look, Some(before), now), now)).collect()
}

fn judge(standing: &Standing, now: Millis) -> Vec<Finding> {
    let (name, key) = (standing.daemon.name(), standing.daemon.key());
    let is_needed = standing.daemon.is_needed();
    match standing.state {
        State::Off if is_needed => {
            return vec![Finding::bad(
                AREA,
                name,
                Warn,
                format!("{key} is no address that could be asked"),
                "set it, so that somebody can look on",
            )];
        }
        State::Off => return vec![Finding::ok(AREA, name, format!("not asked: {key} is no address"))],
        State::Down => {
            let at = standing.address.as_deref().unwrap_or_default();
            let found = format!("does not answer at {at}: {}", standing.reasons.join("; "));
            return vec![match is_needed {
                true => Finding::bad(AREA, name, Warn, found, "start it, or look at it where it runs: `convpipe status` takes addresses"),
                false => Finding::ok(AREA, name, format!("{found}; nothing needs it to")),
            }];
        }
        State::Ready | State::NotReady | State::Stalled | State::Hangs | State::Foreign => {}
    }
    let problems = of_daemon(standing, None, now);
    let mut findings: Vec<Finding> = problems
        .into_iter()
        .map(|problem| {
            let status = if problem.severity == Severity::Fail { Fail } else { Warn };
            Finding::bad(AREA, name, status, problem.what, &problem.advice)
        })
        .collect();
    if let Some(version) = standing.version.as_deref().filter(|version| *version != VERSION) {
        findings.push(Finding::bad(
            AREA,
            name,
            Warn,
            format!("is of version {version}, this is {VERSION}"),
            "restart what an upgrade left behind",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, name, sound(standing)));
    }
    findings
}

/// What is told of one that is well.
fn sound(standing: &Standing) -> String {
    let mut parts = vec![format!("ready at {}", standing.address.as_deref().unwrap_or_default())];
    parts.extend(standing.up.map(|up| format!("up {}", short(u64::try_from(up.as_millis()).unwrap_or(u64::MAX)))));
    for consumer in &standing.consumers {
        parts.extend(consumer.lag_p99.map(|lag| format!("{} at most {} behind", consumer.consumer, duration(lag))));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Status::{self, Ok};
    use super::*;
    use crate::commands::status::{Daemon, blank};

    #[test]
    fn a_daemon_is_judged_where_it_runs() {
        let daemon = |daemon, state, reason: &str| {
            let mut standing = blank(daemon, state);
            standing.reasons = vec![reason.to_owned()].into_iter().filter(|reason| !reason.is_empty()).collect();
            (standing.version, standing.up) = (Some(VERSION.to_owned()), Some(Duration::from_secs(7_200)));
            standing
        };
        let of_version = |version: &str| Standing { version: Some(version.to_owned()), ..daemon(Daemon::Snapshot, State::Ready, "") };
        use Daemon::{AuthRefresh, Dashboard, Ingest, Snapshot};
        for (standing, status, says) in [
            (daemon(Ingest, State::Ready, ""), Ok, "ready at 127.0.0.1:7081, up 2h"),
            (daemon(Ingest, State::Off, ""), Warn, "health.ingest is no address"),
            (daemon(AuthRefresh, State::Off, ""), Ok, "not asked"),
            (daemon(Snapshot, State::Down, "refused"), Warn, "does not answer at 127.0.0.1:7081: refused"),
            (daemon(Dashboard, State::Down, "refused"), Ok, "nothing needs it"),
            (daemon(Snapshot, State::Foreign, "it is nginx"), Fail, "something else answers there: it is nginx"),
            (daemon(Snapshot, State::Stalled, "lane"), Fail, "does not go on: lane"),
            (daemon(Snapshot, State::NotReady, "redis: refused"), Fail, "is not ready: redis: refused"),
            (of_version("0.0.1"), Warn, "is of version 0.0.1"),
        ] {
            let findings = judge(&standing, Millis(0));
            let [finding] = &findings[..] else { panic!("{findings:?}") };
            let expected: Status = status;
            assert_eq!(finding.status, expected, "{finding:?}");
            assert!(finding.found.contains(says) && (status == Ok) == finding.advice.is_none(), "{finding:?} does not say {says:?}");
        }
    }
}
