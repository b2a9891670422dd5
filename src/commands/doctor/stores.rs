//! The bus and the documents.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Finding;
use super::Status::{Fail, Warn};
use crate::backends;
use crate::bus::{Backlog, Bus, BusError};
use crate::commands::output::{ago, duration, number};
use crate::config::{BusBackend, Config, DocumentsBackend};
use crate::documents::{Access, DocumentsError};
use crate::runtime::clock;
use crate::runtime::provision::{Action, Change};
use crate::schema::envelope::Envelope;
use crate::schema::time::Millis;

/// A backlog older than this means that a consumer does not keep up, or does not run.
const BACKLOG_WARN: Duration = Duration::from_secs(60);
/// Part of the retention behind which a backlog is about to be deleted unread, percent.
const RETENTION_FAIL: u32 = 80;
/// What was set aside longer ago than this is history.
const QUARANTINE_NEWS_MS: i64 = 86_400_000;
/// Most messages of the quarantine that are looked at.
const QUARANTINE_MAX: u64 = 50_000;

const AREA: &str = "bus";

pub(super) async fn bus(config: &Config) -> Vec<Finding> {
    let dir = &config.bus.embedded.dir;
    if config.bus.backend == BusBackend::Embedded && !dir.is_dir() {
        return vec![Finding::bad(
            AREA,
            "folder",
            Warn,
            format!("{} is not there yet", dir.display()),
            "the first publisher makes it: start ingest",
        )];
    }
    let opened = match backends::bus(config).await {
        Ok(bus) => bus,
        Err(error) => return vec![Finding::failed(AREA, "open", &error)],
    };
    let names = &config.bus;
    let retention = Duration::from_secs(match config.bus.backend {
        BusBackend::Embedded => names.embedded.retention_s,
        BusBackend::Google => names.google.retention_s,
    });
    let mut findings = Vec::new();
    for subscription in [&names.views_subscription, &names.documents_subscription] {
        findings.push(match opened.backlog(&names.topic, subscription).await {
            Ok(held) => backlog(subscription, held, retention),
            Err(error @ BusError::NoSubscription { .. }) => Finding::bad(
                AREA,
                subscription,
                Warn,
                error.to_string(),
                "`convpipe snapshot` makes it on the embedded bus, `convpipe provision` on Pub/Sub",
            ),
            Err(error) => Finding::failed(AREA, subscription, &error),
        });
    }
    findings.push(match aside(&opened, &names.quarantine_topic).await {
        Ok(Some(aside)) => quarantine(&aside, clock::now()),
        Ok(None) => {
            Finding::ok(AREA, "quarantine", "Pub/Sub does not tell how much it holds; num_undelivered_messages in Cloud Monitoring does")
        }
        Err(error) => Finding::failed(AREA, "quarantine", &error),
    });
    match backends::dead_letter_readers(config).await {
        Ok(None) => {}
        Ok(Some(readers)) => findings.push(dead_letters(&readers)),
        Err(error) => findings.push(Finding::failed(AREA, "dead letters", &error)),
    }
    findings
}

fn backlog(subscription: &str, held: Backlog, retention: Duration) -> Finding {
    let waiting = held
        .messages
        .map_or_else(|| "a number of messages that cannot be told".to_owned(), |messages| format!("{} messages", number(messages)));
    // Where nobody counts, the age is only what retention allows.
    let age = held.oldest_age.filter(|_| held.messages.is_some());
    let found =
        age.map_or_else(|| waiting.clone(), |age| format!("{waiting}, the oldest {} old", duration(Duration::from_secs(age.as_secs()))));
    match age {
        Some(age) if age > retention * RETENTION_FAIL / 100 => {
            let found = format!("{found}; after {} they are deleted", duration(retention));
            Finding::bad(AREA, subscription, Fail, found, "start `convpipe snapshot`, or raise the bus's retention_s, now")
        }
        Some(age) if age > BACKLOG_WARN => Finding::bad(
            AREA,
            subscription,
            Warn,
            found,
            "see that `convpipe snapshot` runs and what it logs; `convpipe status --watch` shows its pace",
        ),
        _ => Finding::ok(AREA, subscription, found),
    }
}

/// What the quarantine holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Aside {
    messages: u64,
    /// When the oldest was set aside, and the newest.
    oldest: Option<Millis>,
    newest: Option<Millis>,
    /// Why the newest was.
    reason: Option<String>,
}

/// `None` where the engine cannot tell.
async fn aside(bus: &Bus, topic: &str) -> Result<Option<Aside>, BusError> {
    let seen = Arc::new(Mutex::new(Aside::default()));
    let noting = Arc::clone(&seen);
    let note = move |envelope: &Envelope| {
        let mut seen = noting.lock().unwrap_or_else(PoisonError::into_inner);
        seen.messages += 1;
        seen.newest = envelope.attribute("received_at").and_then(Millis::parse).or(seen.newest);
        seen.reason = envelope.attribute("reason").map(str::to_owned).or_else(|| seen.reason.take());
        // Taking one is how a search ends.
        seen.messages >= QUARANTINE_MAX
    };
    let Some(search) = bus.search(topic, &[], note, 1).await? else { return Ok(None) };
    let mut aside = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    aside.oldest = search.oldest.filter(|_| aside.messages > 0);
    Ok(Some(aside))
}

fn quarantine(aside: &Aside, now: Millis) -> Finding {
    const CHECK: &str = "quarantine";
    if aside.messages == 0 {
        return Finding::ok(AREA, CHECK, "nothing in it");
    }
    let at_least = if aside.messages >= QUARANTINE_MAX { "at least " } else { "" };
    let when = |at: Option<Millis>| at.map_or_else(|| "at an unknown time".to_owned(), |at| ago(now.since(at)));
    let reason = aside.reason.as_deref().unwrap_or("no reason");
    let found = format!(
        "{at_least}{} messages, the oldest {}, the newest {}: {reason}",
        number(aside.messages),
        when(aside.oldest),
        when(aside.newest)
    );
    if aside.newest.is_some_and(|newest| now.since(newest) > QUARANTINE_NEWS_MS) {
        return Finding::ok(AREA, CHECK, found);
    }
    Finding::bad(AREA, CHECK, Warn, found, "`convpipe replay --from-quarantine -v` shows them; docs/events.md says what each reason means")
}

/// What Pub/Sub gives up goes to a topic, which keeps nothing that no subscription holds.
fn dead_letters(readers: &[String]) -> Finding {
    const CHECK: &str = "dead letters";
    match readers {
        [] => Finding::bad(AREA, CHECK, Fail, "their topic has no subscription: what is given up is gone", "run `convpipe provision`"),
        readers => Finding::ok(AREA, CHECK, format!("held by {}", readers.join(", "))),
    }
}

pub(super) async fn documents(config: &Config) -> Vec<Finding> {
    const AREA: &str = "documents";
    let mut findings = match backends::documents(config, Access::ReadOnly).await {
        Ok(documents) => match documents.accounts().await {
            Ok(accounts) => vec![Finding::ok(AREA, "open", format!("{documents}: {} accounts", accounts.len()))],
            Err(error) => vec![Finding::failed(AREA, "read", &error)],
        },
        Err(error @ DocumentsError::Missing { .. }) => {
            vec![Finding::bad(AREA, "open", Warn, error.to_string(), "`convpipe snapshot` makes the file")]
        }
        Err(error) => vec![Finding::failed(AREA, "open", &error)],
    };
    if config.bus.backend == BusBackend::Google || config.documents.backend == DocumentsBackend::Firestore {
        match backends::provision(config, false).await {
            Ok(changes) => findings.extend(changes.iter().map(|(service, change)| provisioned(service, change))),
            Err(error) => findings.push(Finding::failed(AREA, "provisioned", &error)),
        }
    }
    findings
}

/// What stands on Google's side against the plan: topics, subscriptions, dead-letter policies, TTL policies, index exemptions.
fn provisioned(service: &'static str, change: &Change) -> Finding {
    const ADVICE: &str = "run `convpipe provision`";
    let check = change.resource.clone();
    match &change.action {
        Action::Same => Finding::ok(service, check, "as planned"),
        Action::Create => Finding::bad(service, check, Fail, "missing", ADVICE),
        Action::Update { field, from, to } => Finding::bad(service, check, Warn, format!("{field} is {from}, should be {to}"), ADVICE),
        Action::Unsupported(reason) => {
            Finding::bad(service, check, Warn, reason.clone(), "docs/google.md says what it is needed for; nothing changes it in place")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status::{self, Ok};
    use super::*;

    const NOW: Millis = Millis(1_784_808_000_000);

    #[track_caller]
    fn check(finding: &Finding, status: Status, says: &str) {
        assert_eq!(finding.status, status, "{finding:?}");
        assert!(finding.found.contains(says), "{finding:?} does not say {says:?}");
        assert!(status == Ok || finding.advice.is_some(), "{finding:?}");
    }

    #[test]
    fn a_backlog_is_judged_by_its_age_where_that_is_known() {
        let held = |messages, seconds: u64| Backlog { messages, oldest_age: Some(Duration::from_secs(seconds)) };
        for (held, status, says) in [
            (Backlog { messages: Some(0), oldest_age: None }, Ok, "0 messages"),
            (held(Some(1_234), 60), Ok, "1,234 messages, the oldest 1m old"),
            (held(Some(1_234), 61), Warn, "the oldest 1m 1s old"),
            (held(Some(1), 8_001), Fail, "the oldest 2h 13m old; after 2h 46m they are deleted"),
            (held(None, 9_999), Ok, "cannot be told"),
        ] {
            check(&backlog("convpipe-views", held, Duration::from_secs(10_000)), status, says);
        }
    }

    #[test]
    fn what_was_set_aside_of_late_is_told() {
        let aside = |messages, newest_h: Option<i64>| Aside {
            messages,
            oldest: Some(NOW.plus(-72 * 3_600_000)),
            newest: newest_h.map(|hours| NOW.plus(-hours * 3_600_000)),
            reason: Some("malformed_json".into()),
        };
        for (aside, status, says) in [
            (Aside::default(), Ok, "nothing"),
            (aside(12, Some(1)), Warn, "12 messages, the oldest 3d ago, the newest 1h ago: malformed_json"),
            (aside(12, Some(25)), Ok, "the newest 1d ago"),
            (aside(12, None), Warn, "the newest at an unknown time"),
            (aside(QUARANTINE_MAX, Some(1)), Warn, "at least 50,000"),
        ] {
            check(&quarantine(&aside, NOW), status, says);
        }
    }

    #[test]
    fn dead_letters_need_a_reader_and_googles_side_is_held_to_the_plan() {
        check(&dead_letters(&[]), Fail, "no subscription");
        check(&dead_letters(&["convpipe-dead".into()]), Ok, "held by convpipe-dead");
        let change = |action| provisioned("pubsub", &Change { resource: "topic t".into(), action });
        let update = Action::Update { field: "ackDeadlineSeconds", from: "10 s".into(), to: "60 s".into() };
        check(&change(Action::Same), Ok, "as planned");
        check(&change(Action::Create), Fail, "missing");
        check(&change(update), Warn, "ackDeadlineSeconds is 10 s, should be 60 s");
        check(&change(Action::Unsupported("cannot".into())), Warn, "cannot");
    }
}
