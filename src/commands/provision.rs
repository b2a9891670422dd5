//! `convpipe provision`: what Google's services need before the daemons start.

use serde::Serialize;

use super::output::Tone;
use super::read::ListFormat;
use super::{CommandError, Context, Exit};
use crate::backends;
use crate::runtime::provision::{Action, Change};

/// Make the topics, subscriptions, indexes and policies that the config needs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For bus.backend google: topics and subscriptions, with their retention, order
and dead-letter backstop. For documents.backend firestore: TTL policies and
indexes. The embedded engines make what they need by themselves.
What is missing is made, what differs is changed, nothing is deleted; run again,
it changes nothing. What cannot be changed, or what an emulator does not have,
is told. New indexes are built by Firestore in the background.

Exit: 0; 1 with --dry-run where something would be made or changed; 77 where the
credentials are missing or refused.

Examples:
  convpipe provision --dry-run      what differs from the plan
  convpipe provision                make it so")]
pub struct Args {
    /// Change nothing, only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// How to print it
    #[arg(short, long, value_name = "table|json|jsonl", value_enum, default_value = "table", hide_possible_values = true)]
    output: ListFormat,
}

/// A change as JSON has it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    service: &'static str,
    resource: &'a str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Runs `convpipe provision`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    let changes = context.block_on(async { Ok(backends::provision(config, !args.dry_run).await?) })?;
    let rows: Vec<Row<'_>> = changes.iter().map(|(service, change)| row(service, change)).collect();
    let output = context.output();
    match args.output {
        ListFormat::Json => output.json(&rows)?,
        ListFormat::Jsonl => rows.iter().try_for_each(|row| output.json_line(row))?,
        ListFormat::Table if rows.is_empty() => {
            output.note("nothing to do: bus and documents are embedded, and make what they need by themselves");
        }
        ListFormat::Table => print(context, &rows)?,
    }
    let differs = changes.iter().any(|(_, change)| matches!(change.action, Action::Create | Action::Update { .. }));
    Ok(if args.dry_run && differs { Exit::Finding } else { Exit::Done })
}

fn row<'a>(service: &'static str, change: &'a Change) -> Row<'a> {
    let row = Row { service, resource: &change.resource, action: "same", field: None, from: None, to: None, reason: None };
    match &change.action {
        Action::Same => row,
        Action::Create => Row { action: "create", ..row },
        Action::Update { field, from, to } => Row { action: "update", field: Some(field), from: Some(from), to: Some(to), ..row },
        Action::Unsupported(reason) => Row { action: "unsupported", reason: Some(reason), ..row },
    }
}

fn print(context: &Context, rows: &[Row<'_>]) -> Result<(), CommandError> {
    let output = context.output();
    let mut table = output.table(&["service", "resource", "action", "what"]);
    for row in rows {
        let tone = match row.action {
            "same" => None,
            "unsupported" => Some(Tone::Bad),
            _ => Some(Tone::Strong),
        };
        let what = match (row.field, row.from, row.to) {
            (Some(field), Some(from), Some(to)) => format!("{field}: {from} → {to}"),
            _ => row.reason.unwrap_or_default().to_owned(),
        };
        table.toned([(row.service, None), (row.resource, None), (row.action, tone), (what.as_str(), None)]);
    }
    output.print(&table)
}
