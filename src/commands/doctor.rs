//! `convpipe doctor`: one look at everything that a pipeline stands on.
//!
//! Invariants: it changes nothing; what it could not look at is said and is not called sound; one thing that is down hides nothing of the others.

mod artifacts;
mod daemons;
mod redis;
mod secrets;
mod stores;

use serde::Serialize;

use super::output::{Output, Tone};
use super::read::ListFormat;
use super::{CommandError, Context, Exit};
use crate::daemons::snapshot::Policies;

/// Examine config, Redis, bus, documents, artifacts and daemons, and say what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes nothing; of Redis it asks as the reader does. With Pub/Sub and Firestore
it compares what is there with what `convpipe provision` would make. Daemons are
asked at health.*, twice within a second; one that does not run here is a
warning, for it may run elsewhere, or not yet: `convpipe status` calls it down.
A warning is something to know; a failure is something to mend.

Exit: 0; 1 if something fails; 78 if the config cannot be read at all.

Examples:
  convpipe doctor
  convpipe doctor -o jsonl | jq 'select(.status != \"ok\")'")]
pub struct Args {
    /// How to print it
    #[arg(short, long, value_name = "table|json|jsonl", value_enum, default_value_t, hide_possible_values = true)]
    output: ListFormat,
}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    area: &'static str,
    check: String,
    status: Status,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn new(area: &'static str, check: impl Into<String>, status: Status, found: impl Into<String>) -> Self {
        Self { area, check: check.into(), status, found: found.into(), advice: None }
    }

    fn ok(area: &'static str, check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(area, check, Status::Ok, found)
    }

    /// A failure or a warning, and what to do.
    fn bad(area: &'static str, check: impl Into<String>, status: Status, found: impl Into<String>, advice: &str) -> Self {
        Self { advice: Some(advice.to_owned()), ..Self::new(area, check, status, found) }
    }

    /// Something that could not be looked at. Our errors say what to do themselves.
    fn failed(area: &'static str, check: impl Into<String>, error: &dyn std::error::Error) -> Self {
        Self::new(area, check, Status::Fail, error.to_string())
    }
}

/// Runs `convpipe doctor`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let loaded = context.config()?;
    let config = &loaded.config;
    let file = loaded.file.as_ref().map_or_else(|| "the defaults and the environment".to_owned(), |file| file.display().to_string());
    let mut findings = vec![Finding::ok("config", "file", file)];
    findings.push(match Policies::new(config) {
        Ok(_) => Finding::ok("config", "rules", "they compile"),
        Err(error) => Finding::failed("config", "rules", &error),
    });
    findings.extend(secrets::examine(config));
    context.block_on(async {
        let (redis, bus, documents, daemons) = tokio::join!(
            Box::pin(redis::examine(&config.redis)),
            Box::pin(stores::bus(config)),
            Box::pin(stores::documents(config)),
            Box::pin(daemons::examine(config)),
        );
        findings.extend([redis, bus, documents].into_iter().flatten());
        findings.extend(artifacts::examine(config));
        findings.extend(daemons);
        Ok(())
    })?;
    print(context.output(), &findings, args.output)?;
    let failed = findings.iter().any(|finding| finding.status == Status::Fail);
    Ok(if failed { Exit::Finding } else { Exit::Done })
}

fn print(output: &Output, findings: &[Finding], format: ListFormat) -> Result<(), CommandError> {
    match format {
        ListFormat::Json => output.json(&findings)?,
        ListFormat::Jsonl => findings.iter().try_for_each(|finding| output.json_line(finding))?,
        ListFormat::Table => {
            let mut table = output.table(&["status", "area", "check", "found", "what to do"]);
            for finding in findings {
                let (name, tone) = match finding.status {
                    Status::Ok => ("ok", Tone::Faint),
                    Status::Warn => ("warn", Tone::Strong),
                    Status::Fail => ("fail", Tone::Bad),
                };
                table.toned([
                    (name, Some(tone)),
                    (finding.area, None),
                    (finding.check.as_str(), None),
                    (finding.found.as_str(), None),
                    (finding.advice.as_deref().unwrap_or_default(), None),
                ]);
            }
            output.print(&table)?;
        }
    }
    output.flush()?;
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    output.note(format!("{} ok, {} to know, {} to mend", count(Status::Ok), count(Status::Warn), count(Status::Fail)));
    Ok(())
}
