//! The bus, the documents, and the artifacts.

use std::time::Duration;

use super::Finding;
use super::Status::{Fail, Warn};
use crate::auth::{ArtifactStore, usable};
use crate::backends;
use crate::bus::{Bus, BusError};
use crate::commands::output::{ago, duration, number};
use crate::config::{BusBackend, Config, DocumentsBackend};
use crate::documents::{Access, DocumentsError};
use crate::runtime::clock;
use crate::runtime::provision::{Action, Change};
use crate::schema::artifact::ArtifactStatus;

/// A backlog older than this means that a consumer does not keep up, or does not run.
const BACKLOG_WARN: Duration = Duration::from_secs(60);
/// A token that ends within this time should have been renewed.
const ENDS_WARN_MS: i64 = 3_600_000;

pub(super) async fn bus(config: &Config) -> Vec<Finding> {
    const AREA: &str = "bus";
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
    let mut findings = Vec::new();
    for subscription in [&names.views_subscription, &names.documents_subscription] {
        findings.push(backlog(AREA, &opened, &names.topic, subscription).await);
    }
    findings
}

async fn backlog(area: &'static str, bus: &Bus, topic: &str, subscription: &str) -> Finding {
    match bus.backlog(topic, subscription).await {
        Ok(backlog) => {
            let waiting = backlog
                .messages
                .map_or_else(|| "a number of messages that cannot be told".to_owned(), |messages| format!("{} messages", number(messages)));
            // Where nobody counts, the age is only what retention allows.
            let age = backlog.oldest_age.filter(|_| backlog.messages.is_some());
            let found = age.map_or_else(
                || waiting.clone(),
                |age| format!("{waiting}, the oldest {} old", duration(Duration::from_secs(age.as_secs()))),
            );
            match age {
                Some(age) if age > BACKLOG_WARN => {
                    Finding::bad(area, subscription, Warn, found, "see that `convpipe snapshot` runs and what it logs")
                }
                _ => Finding::ok(area, subscription, found),
            }
        }
        Err(error @ BusError::NoSubscription { .. }) => Finding::bad(
            area,
            subscription,
            Warn,
            error.to_string(),
            "`convpipe snapshot` makes it on the embedded bus, `convpipe provision` on Pub/Sub",
        ),
        Err(error) => Finding::failed(area, subscription, &error),
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
        Action::Unsupported(reason) => Finding::new(service, check, Warn, reason.clone()),
    }
}

pub(super) fn artifacts(config: &Config) -> Vec<Finding> {
    const AREA: &str = "artifacts";
    let dir = &config.auth.dir;
    if !dir.is_dir() {
        return vec![Finding::bad(
            AREA,
            "folder",
            Warn,
            format!("{} is not there", dir.display()),
            "ingest needs an artifact for each account: docs/auth.md",
        )];
    }
    let (now, scan) = (clock::now(), ArtifactStore::new(dir).scan());
    let mut findings: Vec<Finding> = scan.problems.iter().map(|problem| Finding::failed(AREA, "file", problem)).collect();
    for artifact in &scan.artifacts {
        let age = artifact.prepared_at.map_or_else(String::new, |at| format!(", prepared {}", ago(now.since(at))));
        let found = format!("generation {}{age}", artifact.generation);
        let check = artifact.account_id.clone();
        let soon = artifact.expires_at.is_some_and(|at| at.since(now) < ENDS_WARN_MS);
        findings.push(match usable(artifact, now) {
            Err(unusable) if artifact.status != ArtifactStatus::Ready => {
                Finding::bad(AREA, check, Fail, format!("{found}: {unusable}"), "a person has to log in again: docs/auth.md")
            }
            Err(unusable) => {
                Finding::bad(AREA, check, Fail, format!("{found}: {unusable}"), "`convpipe auth-refresh` renews it, if it has a provider")
            }
            Ok(()) if soon => {
                Finding::bad(AREA, check, Warn, format!("{found}; its token ends within the hour"), "see that `convpipe auth-refresh` runs")
            }
            Ok(()) => Finding::ok(AREA, check, found),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::bad(
            AREA,
            "folder",
            Warn,
            format!("{} has none", dir.display()),
            "ingest needs one for each account: docs/auth.md",
        ));
    }
    findings
}
