//! Redis, as the reader sees it.

use super::Status::{Fail, Warn};
use super::{Finding, Status};
use crate::commands::output::{number, short};
use crate::config::RedisConfig;
use crate::views::{Reader, ServerFacts, ViewsError};

const AREA: &str = "redis";
/// The oldest version that has every command that is used.
const VERSION_MIN: (u32, u32) = (6, 2);
/// Clocks further apart than this confuse ages; than that, what counts as new.
const SKEW_WARN_MS: i64 = 1_000;
const SKEW_FAIL_MS: i64 = 30_000;
/// Conversations whose memory is asked for.
const SAMPLES: usize = 50;
/// What a conversation takes in the indexes, bytes, about.
const INDEXED_BYTES: u64 = 300;

pub(super) async fn examine(config: &RedisConfig) -> Vec<Finding> {
    let reader = match Reader::connect(config).await {
        Ok(reader) => reader,
        Err(error) if error.is_transient() => {
            let advice = "start Redis, or set redis.url; `convpipe dev` has one of its own";
            return vec![Finding::bad(AREA, "reachable", Status::Fail, error.to_string(), advice)];
        }
        Err(error) => return vec![Finding::failed(AREA, "reachable", &error)],
    };
    let mut findings = vec![Finding::ok(AREA, "reachable", config.url.clone())];
    let more = async {
        let facts = reader.server_facts().await?;
        let writes = reader.allowed_writes().await?;
        let (held, each) = sizes(&reader).await?;
        Ok::<_, ViewsError>(
            [
                vec![version(&facts), eviction(&facts), limit(&facts), clock(&facts), rights(&writes, config.reader_user.is_some())],
                fits(&facts, held, each),
            ]
            .concat(),
        )
    };
    match more.await {
        Ok(more) => findings.extend(more),
        Err(error) => findings.push(Finding::failed(AREA, "answers", &error)),
    }
    findings
}

/// Conversations that are listed, and bytes of one.
async fn sizes(reader: &Reader) -> Result<(u64, Option<u64>), ViewsError> {
    let (mut held, mut each) = (0, None);
    for (account, _) in reader.accounts().await? {
        let inbox = reader.inbox(&account, 0, usize::MAX).await?;
        held += inbox.len() as u64;
        if each.is_none() {
            let some: Vec<String> = inbox.into_iter().take(SAMPLES).map(|(conversation, _)| conversation).collect();
            each = reader.memory_of(&account, &some).await?;
        }
    }
    Ok((held, each.map(|each| each + INDEXED_BYTES)))
}

fn unknown(check: &str) -> Finding {
    Finding::bad(AREA, check, Warn, "the reader may not ask", "load the rights in scripts/redis.acl")
}

fn version(facts: &ServerFacts) -> Finding {
    let Some(version) = &facts.version else { return unknown("version") };
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found >= VERSION_MIN {
        Finding::ok(AREA, "version", version.clone())
    } else {
        Finding::bad(AREA, "version", Fail, version.clone(), "use Redis 6.2 or later, or Valkey")
    }
}

fn eviction(facts: &ServerFacts) -> Finding {
    match facts.eviction.as_deref() {
        None => unknown("eviction"),
        Some("noeviction") => Finding::ok(AREA, "eviction", "noeviction"),
        Some(other) => Finding::bad(AREA, "eviction", Fail, other, "set maxmemory-policy noeviction: else conversations go without a word"),
    }
}

fn limit(facts: &ServerFacts) -> Finding {
    let used = facts.memory_used.map_or_else(String::new, |used| format!(", {} used", mebibytes(used)));
    match facts.memory_max {
        None => unknown("maxmemory"),
        Some(0) => Finding::bad(
            AREA,
            "maxmemory",
            Warn,
            format!("no limit{used}"),
            "set maxmemory: else the machine runs out before Redis refuses",
        ),
        Some(max) => Finding::ok(AREA, "maxmemory", format!("{}{used}", mebibytes(max))),
    }
}

fn clock(facts: &ServerFacts) -> Finding {
    let Some(ahead) = facts.clock_ahead_ms else { return unknown("clock") };
    let found = format!("{} apart", short(ahead.unsigned_abs()));
    let status = match ahead.abs() {
        ms if ms > SKEW_FAIL_MS => Fail,
        ms if ms > SKEW_WARN_MS => Warn,
        _ => return Finding::ok(AREA, "clock", found),
    };
    Finding::bad(AREA, "clock", status, found, "keep the clocks of both machines with NTP")
}

/// Without users of its own everybody is the default one, who may do all: fit for a machine of one's own.
fn rights(writes: &[&str], has_user: bool) -> Finding {
    if writes.is_empty() {
        return Finding::ok(AREA, "reader", "may not write");
    }
    let found = format!("may write: {}", writes.join(", "));
    let status = if has_user { Fail } else { Warn };
    Finding::bad(AREA, "reader", status, found, "load scripts/redis.acl and name its users in redis.user and redis.reader_user")
}

fn fits(facts: &ServerFacts, held: u64, each: Option<u64>) -> Vec<Finding> {
    let Some(each) = each else { return Vec::new() };
    let mut found = format!("{} a conversation, {} listed", bytes(each), number(held));
    let mut status = Status::Ok;
    if let (Some(max), Some(used)) = (facts.memory_max.filter(|&max| max > 0), facts.memory_used) {
        let more = max.saturating_sub(used).checked_div(each).unwrap_or(0);
        found.push_str(&format!(", about {} more fit", number(more)));
        if more < held / 4 {
            status = Warn;
        }
    }
    let finding = Finding::new(AREA, "memory", status, found);
    vec![if status == Warn {
        Finding { advice: Some("raise maxmemory, or lower redis.conversation_ttl_s".to_owned()), ..finding }
    } else {
        finding
    }]
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", number(bytes >> 20))
}

fn bytes(bytes: u64) -> String {
    format!("{} bytes", number(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: &str, eviction: &str, memory_max: u64, clock_ahead_ms: i64) -> ServerFacts {
        ServerFacts {
            version: Some(version.into()),
            eviction: Some(eviction.into()),
            memory_max: Some(memory_max),
            memory_used: Some(1 << 20),
            clock_ahead_ms: Some(clock_ahead_ms),
        }
    }

    #[test]
    fn what_a_server_says_is_judged() {
        use Status::Ok;
        for (facts, expected) in [
            (facts("7.2.4", "noeviction", 1 << 30, 3), [Ok, Ok, Ok, Ok]),
            (facts("6.2.0", "noeviction", 0, -1_500), [Ok, Ok, Warn, Warn]),
            (facts("6.0.16", "allkeys-lru", 1 << 30, 60_000), [Fail, Fail, Ok, Fail]),
            (facts("what", "noeviction", 1 << 30, 0), [Fail, Ok, Ok, Ok]),
            (ServerFacts::default(), [Warn; 4]),
        ] {
            let found = [version(&facts), eviction(&facts), limit(&facts), clock(&facts)];
            assert_eq!(found.each_ref().map(|finding| finding.status), expected, "{found:?}");
            assert!(found.iter().all(|finding| finding.status == Ok || finding.advice.is_some()), "{found:?}");
        }
        assert_eq!([rights(&[], true), rights(&["SET"], true), rights(&["SET"], false)].map(|finding| finding.status), [Ok, Fail, Warn]);
        let full = facts("7.0.0", "noeviction", 2 << 20, 0);
        assert_eq!(fits(&full, 100_000, Some(2_000))[0].status, Warn);
        assert_eq!(fits(&full, 100, Some(2_000))[0].status, Ok);
        assert!(fits(&full, 0, None).is_empty());
    }
}
