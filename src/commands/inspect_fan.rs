//! `convpipe inspect-fan`: everything that is known of one fan, and who says so.
//!
//! Owns: what is asked for, and how the command ends. Invariant: what one store knows is shown even if the other does not answer, and what is
//! not known is never made up.

mod gather;
mod page;

use super::read::Format;
use super::tail_priority::stamped;
use super::{CommandError, Context, Exit};
use crate::runtime::clock;
use crate::schema::time::Millis;

use gather::{FanReport, Sections, State, Stores};

/// Show everything known of one fan
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows the snapshot and the last events from Redis, and the summary and the last messages from the documents, each with its age and
version. A fan of several accounts is shown once for each. Exit 1 where nobody knows the fan, 69 where a store did not answer.

Examples:
  convpipe inspect-fan 100000001
  convpipe inspect-fan 100000001 --account 200000001 -o json
  convpipe inspect-fan 100000001 --history --last 100 -o jsonl")]
pub struct Args {
    /// The fan's id
    #[arg(value_name = "FAN")]
    fan: String,
    /// Only this account; may be given several times
    #[arg(long = "account", value_name = "ID")]
    accounts: Vec<String>,
    /// How many messages, and how many events, at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    last: u16,
    /// Only the last events of the high-value stream
    #[arg(long, conflicts_with = "history")]
    events: bool,
    /// Only the last messages
    #[arg(long)]
    history: bool,
    /// How to print it; jsonl with --events or --history prints one item a line
    #[arg(short, long, value_name = "table|json|jsonl|raw", value_enum, default_value_t, hide_possible_values = true)]
    output: Format,
}

impl Args {
    const fn sections(&self) -> Sections {
        match (self.events, self.history) {
            (true, _) => Sections { snapshot: false, summary: false, messages: false, events: true },
            (_, true) => Sections { snapshot: false, summary: false, messages: true, events: false },
            _ => Sections { snapshot: true, summary: true, messages: true, events: true },
        }
    }
}

/// Runs `convpipe inspect-fan`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    let now = clock::now();
    let sections = args.sections();
    context.block_on(async {
        let mut stores = Stores::open(config, sections).await;
        let accounts = if args.accounts.is_empty() { stores.find(&args.fan, now).await } else { args.accounts.clone() };
        let mut reports = Vec::new();
        for account in &accounts {
            let report = stores.report(account, &args.fan, sections, args.last.into(), now).await;
            if report.knows_anything() {
                reports.push(report);
            }
        }
        print(context, args, &reports, now)?;
        context.output().flush()?;
        conclude(context, args, &accounts, &reports, stores)
    })
}

fn print(context: &Context, args: &Args, reports: &[FanReport], now: Millis) -> Result<(), CommandError> {
    let output = context.output();
    match (args.output, reports) {
        (Format::Table, _) => page::print(output, reports, args.sections(), now),
        (_, []) => Ok(()),
        (Format::Json, [only]) => output.json(&only.json()),
        (Format::Json, several) => output.json(&several.iter().map(FanReport::json).collect::<Vec<_>>()),
        (Format::Jsonl, _) if !args.events && !args.history => reports.iter().try_for_each(|report| output.json_line(&report.json())),
        (format, _) => reports.iter().try_for_each(|report| items(context, report, format == Format::Raw)),
    }
}

/// What stands in the stores, one item a line; only the sections that were read have any.
fn items(context: &Context, report: &FanReport, is_raw: bool) -> Result<(), CommandError> {
    use super::output::json_safe;
    let output = context.output();
    let line = |json: &str| output.line(if is_raw && context.globals().allow_escape_sequences { json.into() } else { json_safe(json) });
    if let Some(snapshot) = &report.snapshot {
        line(&snapshot.raw)?;
    }
    if let Some(summary) = &report.summary {
        output.json_line(&summary.summary)?;
    }
    report.messages.iter().try_for_each(|message| output.json_line(message))?;
    report.events.iter().try_for_each(|event| line(&if is_raw { event.json.clone() } else { stamped(&event.json, event.id) }))
}

/// Tells which store did not answer, or that nobody knows the fan.
fn conclude(context: &Context, args: &Args, accounts: &[String], reports: &[FanReport], stores: Stores) -> Result<Exit, CommandError> {
    let output = context.output();
    let looked: Vec<String> = stores.looked();
    let mut failures = stores.into_failures().into_iter();
    if reports.is_empty() {
        let of = match args.accounts.as_slice() {
            [] => "any account".to_owned(),
            _ => format!("account {}", accounts.join(", ")),
        };
        let text = format!("nothing is known of fan {} of {of}; looked in {}", args.fan, looked.join(" and "));
        output.note(output.text(&text));
    }
    match failures.next() {
        Some(first) => {
            failures.for_each(|other| other.lines(|tone, text| output.note_tone(tone, text)).iter().for_each(|line| output.note(line)));
            Err(first)
        }
        // A section of its own that is empty is a finding too: there is no such item.
        None if reports.is_empty() || reports.iter().all(|report| report.sources.iter().all(|source| source.state != State::Ok)) => {
            Ok(Exit::Finding)
        }
        None => Ok(Exit::Done),
    }
}
