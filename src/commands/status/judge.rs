//! What is not well, what is worst first, and which command tells more. Pure.
//!
//! Owns the bounds from which something is told. Invariant: what is not known is not judged.

use std::time::Duration;

use serde::Serialize;

use super::numbers::{Consumer, Ingest, Refresh, Standing, State};
use super::views::Redis;
use crate::commands::output::{ago, duration, number};
use crate::schema::time::Millis;

use Severity::{Fail, Warn};

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::commands) enum Severity {
    /// To know.
    Note,
    /// It works, and will not for long, or not as it should.
    Warn,
    /// It does not work, or something was lost.
    Fail,
}

/// Something that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::commands) struct Problem {
    pub(in crate::commands) severity: Severity,
    /// `ingest`, `snapshot`, …, or `redis`.
    pub(in crate::commands) about: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) address: Option<String>,
    pub(in crate::commands) what: String,
    /// What to do next.
    pub(in crate::commands) advice: String,
}

/// A start takes less; what is not ready for longer waits for something.
const START_MAX: Duration = Duration::from_secs(30);
/// A backlog older than this is one; than that, people notice.
const OLDEST_WARN: Duration = Duration::from_secs(60);
const OLDEST_FAIL: Duration = Duration::from_secs(600);
/// The views promise less than a second.
const LAG_WARN: Duration = Duration::from_millis(2_500);
/// Longer on its way to the topic than any batch of a topic that is well.
const PUBLISH_WARN: Duration = Duration::from_secs(30);
/// Parts of a bound from which it is told, percent: class C is dropped at half of the buffer, B coalesced at three quarters.
const BUFFER_WARN: u64 = 50;
const BUFFER_FAIL: u64 = 75;
const MEMORY_WARN: u64 = 85;
const MEMORY_FAIL: u64 = 97;
const FILES_WARN: u64 = 80;
/// A token that ends within this time should have been renewed.
const TOKEN_ENDS_MS: i64 = 3_600_000;

/// Everything that is not well, what is worst first, and then in the order of the flow.
pub(in crate::commands) fn judge(daemons: &[Standing], redis: Option<&Redis>, now: Millis) -> Vec<Problem> {
    let mut problems: Vec<Problem> = daemons.iter().flat_map(|standing| of_daemon(standing, redis, now)).collect();
    problems.extend(redis.iter().flat_map(|redis| of_redis(redis)));
    problems.extend(versions(daemons));
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    problems
}

/// What is not well with one daemon. Redis, where it is known, tells which accounts are not connected.
pub(in crate::commands) fn of_daemon(standing: &Standing, redis: Option<&Redis>, now: Millis) -> Vec<Problem> {
    let mut told = Told { standing, problems: Vec::new() };
    told.state();
    told.files();
    if let Some(ingest) = &standing.ingest {
        told.ingest(ingest, redis);
    }
    standing.consumers.iter().for_each(|consumer| told.consumer(consumer));
    if standing.redis.is_some_and(|redis| redis.up == Some(false)) {
        told.add(Fail, "Redis did not answer it at the last look".into(), DOCTOR);
    }
    if let Some(refresh) = &standing.auth_refresh {
        told.refresh(refresh, now);
    }
    told.problems
}

const DOCTOR: &str = "`convpipe doctor` looks at all that it stands on";
const AUTH: &str = "`convpipe auth-refresh status` says which account, and what it waits for";

struct Told<'a> {
    standing: &'a Standing,
    problems: Vec<Problem>,
}

impl Told<'_> {
    fn add(&mut self, severity: Severity, what: String, advice: impl Into<String>) {
        let Standing { daemon, address, .. } = self.standing;
        self.problems.push(Problem { severity, about: daemon.name(), address: address.clone(), what, advice: advice.into() });
    }

    fn state(&mut self) {
        let Standing { daemon, state, reasons, is_expected, up, .. } = self.standing;
        let (name, why) = (daemon.name(), reasons.join("; "));
        match state {
            State::Ready => {}
            State::Off if *is_expected => {
                let advice = format!("--{name} HOST:PORT names one");
                self.add(Severity::Note, format!("is not asked: {} is no address that could be", daemon.key()), advice);
            }
            State::Off => {}
            State::Down if *is_expected => {
                self.add(Fail, format!("does not answer: {why}"), format!("see how it ended in its log; `convpipe {name}` starts it"));
            }
            State::Down => {}
            // Whoever takes the connection has not ended.
            State::Hangs => self.add(Fail, format!("hangs: {why}"), "its log says at what; then restart it"),
            State::Foreign => {
                let advice = format!("see who has the port, or say in {} where {name} is", daemon.key());
                self.add(Fail, format!("something else answers there: {why}"), advice);
            }
            State::Stalled => self.add(Fail, format!("does not go on: {why}"), "restart it; its log says what it waited for"),
            State::NotReady => {
                let is_new = up.is_some_and(|up| up < START_MAX);
                let severity = if is_new { Warn } else { Fail };
                self.add(severity, format!("is not ready: {why}"), DOCTOR);
            }
        }
    }

    fn files(&mut self) {
        if let (Some(open), Some(max)) = (self.standing.open_files, self.standing.max_files)
            && percent(open, max) >= FILES_WARN
        {
            let what = format!("has {} of {} file descriptors open", number(open), number(max));
            self.add(Warn, what, "raise its limit: LimitNOFILE=, ulimit -n");
        }
    }

    fn ingest(&mut self, ingest: &Ingest, redis: Option<&Redis>) {
        self.accounts(ingest, redis);
        if let (Some(bytes), Some(max)) = (ingest.buffer_bytes, ingest.buffer_max_bytes) {
            let part = percent(bytes, max);
            let behind = "the topic does not keep up: `convpipe doctor` looks at it";
            match part {
                BUFFER_FAIL.. => self.add(Fail, format!("{part}% of its buffer waits for the topic; classes C and B are shed"), behind),
                BUFFER_WARN.. => self.add(Warn, format!("{part}% of its buffer waits for the topic; class C is shed"), behind),
                _ => {}
            }
        }
        if let Some(lost) = ingest.lost.filter(|lost| *lost > 0) {
            self.add(
                Fail,
                format!("lost {} messages that the quarantine refused, since it started", number(lost)),
                "its log has each of them",
            );
        }
        if ingest.publish_failures_per_s.is_some_and(|failures| failures > 0.0) {
            self.add(Warn, "publishes fail and are tried again".into(), DOCTOR);
        }
        if let Some(oldest) = ingest.publish_oldest.filter(|oldest| *oldest > PUBLISH_WARN) {
            let what = format!("a message has been on its way to the topic for {}", duration(oldest));
            self.add(Warn, what, DOCTOR);
        }
    }

    fn accounts(&mut self, ingest: &Ingest, redis: Option<&Redis>) {
        let (Some(live), Some(connecting), Some(waiting)) = (ingest.live, ingest.connecting, ingest.waiting) else { return };
        let (away, all) = (connecting + waiting, live + connecting + waiting);
        if all == 0 {
            self.add(
                Warn,
                "serves no account".into(),
                "put their artifacts into auth.dir; `convpipe doctor` looks at those that are there",
            );
        }
        if away == 0 {
            return;
        }
        let noted = redis.iter().flat_map(|redis| &redis.accounts.noted).filter(|noted| noted.severity > Severity::Note);
        let which: Vec<String> = noted.take(3).map(|noted| format!("{} {}", noted.account, noted.state)).collect();
        let which = if which.is_empty() { String::new() } else { format!(" ({})", which.join(", ")) };
        let what = format!("{away} of {all} accounts are not live: {connecting} connecting, {waiting} waiting for an artifact{which}");
        let is_new = self.standing.up.is_some_and(|up| up < START_MAX);
        let advice =
            if waiting > 0 { AUTH } else { "its log says why each attempt failed; docs/connections.md says what each reason means" };
        self.add(if live == 0 && !is_new { Fail } else { Warn }, what, advice);
    }

    fn consumer(&mut self, consumer: &Consumer) {
        let name = consumer.consumer;
        if let Some(oldest) =
            consumer.oldest_unacked.filter(|oldest| *oldest > OLDEST_WARN && consumer.backlog.is_some_and(|held| held > 0))
        {
            let backlog = number(consumer.backlog.unwrap_or(0));
            let pace = match consumer.applied_per_s {
                Some(applied) if applied >= 1.0 => format!("takes {}/s", number(applied.round() as u64)),
                Some(_) => "takes nothing".to_owned(),
                None => "at a pace that one look does not tell".to_owned(),
            };
            let what = format!("{name} is {} behind: {backlog} messages wait, it {pace}", duration(Duration::from_secs(oldest.as_secs())));
            let advice = "another `convpipe snapshot` beside it shares the work; one that takes nothing says why in its log";
            self.add(if oldest > OLDEST_FAIL { Fail } else { Warn }, what, advice);
        } else if let Some(lag) = consumer.lag_p99.filter(|lag| *lag > LAG_WARN) {
            let lag = if lag == Duration::MAX { "more than 5m".to_owned() } else { format!("up to {}", duration(lag)) };
            self.add(Warn, format!("{name} writes events {lag} after their frames were read"), DOCTOR);
        }
        if consumer.retries_per_s.is_some_and(|retries| retries > 0.0) {
            self.add(Warn, format!("{name} tries writes again, because its store fails"), DOCTOR);
        }
        if consumer.poison_per_s.is_some_and(|poison| poison > 0.0) {
            let advice = "`convpipe doctor` tells the newest reason; docs/events.md says what each means";
            self.add(Warn, format!("{name} sets messages aside in the quarantine"), advice);
        }
        if let Some(lost) = consumer.lost.filter(|lost| *lost > 0) {
            let what = format!("{name} lost {} messages that retention deleted before they were written, since it started", number(lost));
            self.add(Fail, what, "`convpipe reconcile --check` finds what differs");
        }
    }

    fn refresh(&mut self, refresh: &Refresh, now: Millis) {
        let people = ["needs_otp", "needs_face_check", "rejected", "blocked"];
        let needing: u64 = people.iter().filter_map(|standing| refresh.accounts.get(*standing)).sum();
        if needing > 0 {
            self.add(Fail, format!("{needing} accounts need a person"), AUTH);
        }
        if let Some(failing) = refresh.failing.filter(|failing| *failing > 0) {
            self.add(Warn, format!("the provider failed for {failing} accounts when it was last asked"), AUTH);
        }
        if let Some(end) = refresh.soonest_end.filter(|end| end.since(now) < TOKEN_ENDS_MS) {
            let left = end.since(now);
            let what = if left > 0 { format!("a token ends {}", ago(-left)) } else { format!("a token ended {}", ago(-left)) };
            self.add(if left > 0 { Warn } else { Fail }, what, AUTH);
        }
    }
}

fn of_redis(redis: &Redis) -> Vec<Problem> {
    let problem =
        |severity, what: String, advice: &str| Problem { severity, about: "redis", address: None, what, advice: advice.to_owned() };
    if let Some(fault) = &redis.fault {
        return vec![problem(
            Fail,
            format!("cannot be read: {fault}"),
            "`convpipe doctor` tells more; events wait in the topic until it is back",
        )];
    }
    let mut problems = Vec::new();
    if let (Some(used), Some(max)) = (redis.used_bytes, redis.max_bytes.filter(|max| *max > 0)) {
        let part = percent(used, max);
        if part >= MEMORY_WARN {
            let severity = if part >= MEMORY_FAIL { Fail } else { Warn };
            problems.push(problem(
                severity,
                format!("{part}% of its memory is used"),
                "raise maxmemory, or lower redis.conversation_ttl_s",
            ));
        }
    }
    if let Some(evicted) = redis.evicted_keys.filter(|evicted| *evicted > 0) {
        let advice = "set maxmemory-policy noeviction and raise maxmemory; `convpipe reconcile --check` finds what is missing";
        problems.push(problem(Fail, format!("evicted {} keys since it started", number(evicted)), advice));
    }
    problems
}

/// An upgrade that is half done.
fn versions(daemons: &[Standing]) -> Option<Problem> {
    let mut versions: Vec<&str> = daemons.iter().filter_map(|standing| standing.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    (versions.len() > 1).then(|| Problem {
        severity: Warn,
        about: "versions",
        address: None,
        what: format!("the daemons are of different versions: {}", versions.join(", ")),
        advice: "restart those that an upgrade left behind".to_owned(),
    })
}

/// How much of a bound is used, rounded down; nothing where there is no bound.
fn percent(used: u64, max: u64) -> u64 {
    u64::try_from(u128::from(used) * 100 / u128::from(max.max(1))).unwrap_or(u64::MAX) * u64::from(max > 0)
}

#[cfg(test)]
mod tests {
    use super::super::numbers::{RedisOfSnapshot, blank};
    use super::super::target::Daemon;
    use super::super::views::{Account, Accounts};
    use super::*;

    const NOW: Millis = Millis(1_784_808_000_000);

    fn standing(daemon: Daemon, change: impl FnOnce(&mut Standing)) -> Standing {
        let mut standing = blank(daemon, State::Ready);
        standing.up = Some(Duration::from_secs(3_600));
        change(&mut standing);
        standing
    }

    fn ingest(change: impl FnOnce(&mut Ingest)) -> Standing {
        let mut ingest = Ingest { live: Some(20), connecting: Some(0), waiting: Some(0), ..Ingest::default() };
        change(&mut ingest);
        standing(Daemon::Ingest, |standing| standing.ingest = Some(ingest))
    }

    fn views(change: impl FnOnce(&mut Consumer)) -> Standing {
        let mut consumer = Consumer { consumer: "views", ..Consumer::default() };
        change(&mut consumer);
        standing(Daemon::Snapshot, |standing| standing.consumers = vec![consumer])
    }

    fn refresh(change: impl FnOnce(&mut Refresh)) -> Standing {
        let mut refresh = Refresh::default();
        change(&mut refresh);
        standing(Daemon::AuthRefresh, |standing| standing.auth_refresh = Some(refresh))
    }

    #[test]
    fn each_thing_that_is_not_well_is_told_and_nothing_else() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let down = |daemon, is_expected| {
            standing(daemon, |standing| {
                (standing.state, standing.is_expected, standing.reasons) = (State::Down, is_expected, vec!["refused".into()]);
            })
        };
        let young = |change: fn(&mut Standing)| {
            standing(Daemon::Snapshot, |standing| {
                (standing.state, standing.up) = (State::NotReady, seconds(3));
                change(standing);
            })
        };
        for (standing, expected) in [
            (standing(Daemon::Ingest, |_| ()), &[][..]),
            (ingest(|_| ()), &[]),
            (views(|_| ()), &[]),
            (refresh(|_| ()), &[]),
            (down(Daemon::Ingest, true), &[(Fail, "does not answer: refused")]),
            (down(Daemon::Dashboard, false), &[]),
            (standing(Daemon::Snapshot, |s| s.state = State::Off), &[(Severity::Note, "health.snapshot is no address")]),
            (standing(Daemon::Dashboard, |s| (s.state, s.is_expected) = (State::Off, false)), &[]),
            (
                standing(Daemon::Dashboard, |s| (s.state, s.reasons) = (State::Foreign, vec!["nginx".into()])),
                &[(Fail, "something else answers there: nginx")],
            ),
            (standing(Daemon::Ingest, |s| (s.state, s.reasons) = (State::Stalled, vec!["lane".into()])), &[(Fail, "does not go on: lane")]),
            (standing(Daemon::Ingest, |s| s.state = State::NotReady), &[(Fail, "is not ready")]),
            (young(|_| ()), &[(Warn, "is not ready")]),
            (
                standing(Daemon::Ingest, |s| (s.open_files, s.max_files) = (Some(800), Some(1_000))),
                &[(Warn, "800 of 1,000 file descriptors")],
            ),
            (standing(Daemon::Ingest, |s| (s.open_files, s.max_files) = (Some(799), Some(1_000))), &[]),
            (ingest(|i| i.live = Some(0)), &[(Warn, "serves no account")]),
            (ingest(|i| i.connecting = Some(1)), &[(Warn, "1 of 21 accounts are not live: 1 connecting, 0 waiting")]),
            (ingest(|i| (i.live, i.waiting) = (Some(0), Some(2))), &[(Fail, "2 of 2 accounts are not live: 0 connecting, 2 waiting")]),
            (ingest(|i| (i.buffer_bytes, i.buffer_max_bytes) = (Some(49), Some(100))), &[]),
            (ingest(|i| (i.buffer_bytes, i.buffer_max_bytes) = (Some(50), Some(100))), &[(Warn, "class C is shed")]),
            (ingest(|i| (i.buffer_bytes, i.buffer_max_bytes) = (Some(75), Some(100))), &[(Fail, "classes C and B are shed")]),
            (ingest(|i| (i.buffer_bytes, i.buffer_max_bytes) = (Some(75), Some(0))), &[]),
            (ingest(|i| i.lost = Some(3)), &[(Fail, "lost 3 messages")]),
            (ingest(|i| i.publish_failures_per_s = Some(0.2)), &[(Warn, "publishes fail")]),
            (ingest(|i| i.publish_oldest = seconds(31)), &[(Warn, "on its way to the topic for 31s")]),
            (views(|c| (c.backlog, c.oldest_unacked) = (Some(0), seconds(70))), &[]),
            (
                views(|c| (c.backlog, c.oldest_unacked, c.applied_per_s) = (Some(9_000), seconds(70), Some(1_200.0))),
                &[(Warn, "views is 1m 10s behind: 9,000 messages wait, it takes 1,200/s")],
            ),
            (
                views(|c| (c.backlog, c.oldest_unacked, c.applied_per_s) = (Some(9), seconds(601), Some(0.0))),
                &[(Fail, "views is 10m 1s behind: 9 messages wait, it takes nothing")],
            ),
            (views(|c| c.lag_p99 = seconds(5)), &[(Warn, "writes events up to 5s after")]),
            (views(|c| c.lag_p99 = Some(Duration::MAX)), &[(Warn, "writes events more than 5m after")]),
            (views(|c| c.retries_per_s = Some(1.0)), &[(Warn, "tries writes again")]),
            (views(|c| c.poison_per_s = Some(1.0)), &[(Warn, "sets messages aside")]),
            (views(|c| c.lost = Some(1)), &[(Fail, "lost 1 messages that retention deleted")]),
            (
                standing(Daemon::Snapshot, |s| s.redis = Some(RedisOfSnapshot { up: Some(false), evicted_keys: None })),
                &[(Fail, "Redis did not answer it")],
            ),
            (refresh(|r| r.accounts.extend([("needs_otp".to_owned(), 2)])), &[(Fail, "2 accounts need a person")]),
            (refresh(|r| r.failing = Some(1)), &[(Warn, "the provider failed for 1 accounts")]),
            (refresh(|r| r.soonest_end = Some(NOW.plus(1_800_000))), &[(Warn, "a token ends in 30m")]),
            (refresh(|r| r.soonest_end = Some(NOW.plus(-1_800_000))), &[(Fail, "a token ended 30m ago")]),
            (refresh(|r| r.soonest_end = Some(NOW.plus(7_200_000))), &[]),
        ] {
            check(&judge(std::slice::from_ref(&standing), None, NOW), expected);
        }
    }

    #[track_caller]
    fn check(problems: &[Problem], expected: &[(Severity, &str)]) {
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, (severity, says)) in problems.iter().zip(expected) {
            assert_eq!(problem.severity, *severity, "{problem:?}");
            assert!(problem.what.contains(says) && !problem.advice.is_empty(), "{problem:?} does not say {says:?}");
        }
    }

    #[test]
    fn redis_is_judged_by_its_memory() {
        let redis =
            |used, max, evicted| Redis { used_bytes: Some(used), max_bytes: Some(max), evicted_keys: Some(evicted), ..Redis::default() };
        for (redis, expected) in [
            (redis(84, 100, 0), &[][..]),
            (redis(85, 100, 0), &[(Warn, "85% of its memory")]),
            (redis(97, 100, 0), &[(Fail, "97% of its memory")]),
            (redis(97, 0, 0), &[]),
            (redis(1, 100, 7), &[(Fail, "evicted 7 keys")]),
            (Redis::default(), &[]),
            (Redis { fault: Some("refused".into()), ..Redis::default() }, &[(Fail, "cannot be read: refused")]),
        ] {
            check(&judge(&[], Some(&redis), NOW), expected);
        }
    }

    #[test]
    fn what_is_worst_stands_first_and_accounts_are_named_where_redis_knows_them() {
        let account = Account { account: "200000003".into(), severity: Warn, state: "closed".into(), reason: None, since: NOW };
        let redis = Redis { accounts: Accounts { noted: vec![account], ..Accounts::default() }, ..Redis::default() };
        let old = |version: &str| standing(Daemon::Dashboard, |standing| standing.version = Some(version.to_owned()));
        let waiting = ingest(|ingest| ingest.waiting = Some(1));
        let lost = views(|consumer| consumer.lost = Some(1));
        check(
            &judge(&[waiting, lost, old("0.1.0"), old("0.2.0")], Some(&redis), NOW),
            &[(Fail, "lost"), (Warn, "(200000003 closed)"), (Warn, "different versions: 0.1.0, 0.2.0")],
        );
    }
}
