//! `convpipe inspect-fan`: everything that Redis and the documents know of one fan.
//!
//! Invariant: each section says which store it comes from, how old it is and which revision; a store that cannot be asked costs its own
//! sections and no others.

mod explain;
mod gather;
mod page;
mod report;
mod transcript;
mod wrap;

use std::sync::Arc;

use super::accounts;
use super::output::{Output, Tone};
use super::read::{Format, ReadArgs, Window};
use super::streams::{self, Entry, Reading};
use super::{CommandError, Context, Exit};
use crate::config::Config;
use crate::documents::{HistoryCursor, NotAHistoryCursor};
use crate::runtime::clock;
use crate::schema::event::Event;
use crate::schema::time::Millis;
use crate::transform::filter::Filter;
use crate::views::Followed;

use gather::{Part, Stores, Wanted};
use report::{Message, Report};

/// Show everything known of one fan
#[derive(Debug, clap::Args)]
#[command(override_usage = "convpipe inspect-fan [OPTIONS] <FAN>\n       convpipe inspect-fan --explain <EVENT_ID> [FAN]")]
#[command(after_help = "\
Four sections for each account that knows the fan: the snapshot and the newest
events of the high-value stream (Redis), the summary and the newest messages
(documents). --last, --since, --until and --filter choose messages and events;
by default the newest 10. Times are in UTC. Without --account both stores are
asked which accounts know the fan. docs/reading.md has the fields of filters.

-o json prints one object an account: {account_id, fan_id, snapshot, summary,
messages, events, gap, sources}, where sources say of each section {name, store,
state: ok|absent|unreachable|unreadable, detail, rev, age_ms}; -o jsonl the same
on one line.

--events prints the stream alone, with --follow as it comes; its -o jsonl is the
events as they are stored, each with its stream_id; --from-id goes on after one.
--history prints messages alone, a page at a time: where there are older ones,
stderr names the --before that goes on.
--transcript prints summary and messages as Markdown for a language model: few
tokens, oldest first, money and paid messages marked, --last 50 by default.
--explain EVENT_ID says of topic, quarantine, Redis and documents whether the
event is there, and if not, why; the fan may be left out where the topic or the
feed still knows whose it is.

Exit: 0 found; 1 nobody knows the fan or the event; 69 a store cannot be asked,
what the others know is printed.

Examples:
  convpipe inspect-fan 100000001
  convpipe inspect-fan 100000001 --account 200000001 -o json | jq .snapshot
  convpipe inspect-fan 100000001 --history --since 7d --filter event.is_tip
  convpipe inspect-fan 100000001 --events --follow -o jsonl
  convpipe inspect-fan 100000001 --transcript --last 100 > prompt.md
  convpipe inspect-fan --explain onlyfans:200000001:msg:6400000000001:received")]
pub struct Args {
    /// The fan's id
    #[arg(value_name = "FAN", required_unless_present = "explain")]
    fan: Option<String>,
    /// Only the events of the high-value stream; with --follow as they come
    #[arg(long, group = "what")]
    events: bool,
    /// Only the messages
    #[arg(long, group = "what")]
    history: bool,
    /// Summary and messages as Markdown, for the prompt of a language model
    #[arg(long, group = "what")]
    transcript: bool,
    /// Where this event is, and why it is not where it is not
    #[arg(long, group = "what", value_name = "EVENT_ID", value_parser = event_id)]
    explain: Option<String>,
    /// With --history and --transcript: only messages before this place, as stderr named it
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["until", "events", "explain"], value_parser = cursor)]
    before: Option<HistoryCursor>,
    #[command(flatten)]
    read: ReadArgs,
}

/// What cannot be the id of an event is found nowhere, and that would say nothing.
fn event_id(typed: &str) -> Result<String, String> {
    let parts = typed.split(':');
    if parts.clone().count() >= 3 && parts.clone().all(|part| !part.is_empty()) {
        return Ok(typed.to_owned());
    }
    Err("no event has such an id; one looks like onlyfans:200000001:msg:6400000000001:received, and stands in the `id` of an event and the \
         `event.id` of an entry, as -o jsonl prints them"
        .to_owned())
}

fn cursor(typed: &str) -> Result<HistoryCursor, String> {
    typed.parse().map_err(|error: NotAHistoryCursor| error.to_string())
}

/// Messages or events where nothing says how many.
const LAST: usize = 10;
/// Messages of a transcript where nothing says how many.
const LAST_OF_TRANSCRIPT: usize = 50;
/// Most messages or events of one section.
const LAST_MAX: usize = 1_000;

/// Runs `convpipe inspect-fan`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    let fan = args.fan.as_deref().unwrap_or_default();
    if args.events {
        return context.block_on(events(context, config, args, fan));
    }
    refuse_options_of_streams(&args.read)?;
    let now = clock::now();
    if let Some(id) = &args.explain {
        refuse_choices(&args.read)?;
        return context.block_on(explain(context, config, args, id, now));
    }
    if args.transcript && args.read.output != Format::Table {
        let message = "a transcript is Markdown and has no other form";
        return Err(CommandError::new(Exit::Usage, message).hint("--history -o jsonl prints the messages"));
    }
    let part = match (args.history, args.transcript) {
        (true, _) => Part::History,
        (_, true) => Part::Transcript,
        _ => Part::Overview,
    };
    if part == Part::Overview && args.before.is_some() {
        return Err(CommandError::new(Exit::Usage, "--before goes only with --history and --transcript"));
    }
    let (before, filter) = (args.before.clone(), args.read.filter.clone());
    let last = last(&args.read, if args.transcript { LAST_OF_TRANSCRIPT } else { LAST })?;
    let wanted = Wanted { last, window: args.read.window(now)?, before, filter, part, now };
    context.block_on(show(context, config, args, fan, wanted))
}

async fn show(context: &Context, config: &Config, args: &Args, fan: &str, wanted: Wanted) -> Result<Exit, CommandError> {
    let mut stores = Stores::open(config, wanted.part == Part::Overview).await?;
    let accounts = match &args.read.accounts[..] {
        [] => stores.accounts_of(fan, wanted.now).await,
        typed => typed.to_vec(),
    };
    let mut reports = Vec::new();
    for account in accounts {
        reports.push(stores.report(&account, fan, &wanted).await);
    }
    let unknown = match &args.read.accounts[..] {
        [] => None,
        typed => accounts::unknown(config, typed, stores.accounts(typed).await),
    };
    let is_anywhere = reports.iter().any(Report::is_found);
    let failed = stores.failure();
    // An account that was named and does not know the fan is told only where another one does, or where nobody could say.
    reports.retain(|report| report.is_found() || failed.is_some());
    let output = context.output();
    print(output, args, &reports, wanted.now)?;
    output.flush()?;
    if wanted.part != Part::Overview {
        older(output, &reports);
    }
    if let Some(failures) = wanted.filter.as_ref().and_then(|filter| filter.failures()) {
        streams::tell_failures(output, failures);
    }
    if let Some(unknown) = unknown.filter(|_| failed.is_none()) {
        output.note(unknown.told());
    }
    match failed {
        Some(error) => Err(error),
        None if is_anywhere => Ok(Exit::Done),
        None => {
            // A fan who never wrote may well be known: the overview says so.
            let what = if wanted.part == Part::History { "no such messages of fan" } else { "no fan" };
            output.note(format_args!("{what} {} {}", output.text(fan), stores.looked_in(&args.read.accounts)));
            Ok(Exit::Finding)
        }
    }
}

/// Says how to go on with what is older.
fn older(output: &Output, reports: &[Report]) {
    for report in reports {
        if let Some(cursor) = &report.older {
            let (account, cursor) = (output.text(&report.account_id), cursor.to_string());
            let told = format!("older messages: --account {account} --before {}", output.text(&cursor));
            output.note(output.note_tone(Tone::Faint, &told));
        }
    }
}

async fn explain(context: &Context, config: &Config, args: &Args, id: &str, now: Millis) -> Result<Exit, CommandError> {
    if args.read.accounts.len() > 1 {
        return Err(CommandError::new(Exit::Usage, "--explain takes one --account"));
    }
    let mut stores = Stores::open(config, true).await?;
    let account = args.read.accounts.first().map(String::as_str);
    let (told, failed) = explain::explain(config, &mut stores, id, account, args.fan.as_deref(), now).await;
    told.print(context.output(), args.read.output, now)?;
    context.output().flush()?;
    match failed {
        Some(error) => Err(error),
        None => Ok(if told.is_found() { Exit::Done } else { Exit::Finding }),
    }
}

/// Options that mean something only where a stream is read.
fn refuse_options_of_streams(read: &ReadArgs) -> Result<(), CommandError> {
    let typed = [
        (read.follows(false), "--follow"),
        (read.from_id.is_some(), "--from-id"),
        (read.count.is_some(), "--count"),
        (read.idle_timeout.is_some(), "--idle-timeout"),
        (read.strict, "--strict"),
        (read.no_retry, "--no-retry"),
    ];
    match typed.into_iter().find(|(is_typed, _)| *is_typed) {
        Some((_, option)) => Err(CommandError::new(Exit::Usage, format!("{option} goes only with --events"))),
        None => Ok(()),
    }
}

/// Options that choose among many, where one is named.
fn refuse_choices(read: &ReadArgs) -> Result<(), CommandError> {
    let typed = [
        (read.last.is_some(), "--last"),
        (read.since.is_some(), "--since"),
        (read.until.is_some(), "--until"),
        (read.filter.is_some(), "--filter"),
    ];
    match typed.into_iter().find(|(is_typed, _)| *is_typed) {
        Some((_, option)) => Err(CommandError::new(Exit::Usage, format!("{option} does not go with --explain, which looks for one event"))),
        None => Ok(()),
    }
}

fn last(read: &ReadArgs, default: usize) -> Result<usize, CommandError> {
    let default = if read.since.is_some() { LAST_MAX } else { default };
    match read.last.map(usize::try_from) {
        None => Ok(default),
        Some(Ok(last)) if last <= LAST_MAX => Ok(last),
        Some(_) => Err(CommandError::new(Exit::Usage, format!("--last is at most {LAST_MAX} here; --history --before goes further back"))),
    }
}

fn print(output: &Output, args: &Args, reports: &[Report], now: Millis) -> Result<(), CommandError> {
    let messages = || reports.iter().flat_map(Message::all);
    if args.transcript {
        return transcript::print(output, reports);
    }
    match (args.read.output, args.history) {
        (Format::Table, false) => page::overviews(output, reports, now),
        (Format::Table, true) => page::histories(output, reports, now),
        (Format::Json, false) => reports.iter().try_for_each(|report| output.json(report)),
        (Format::Json, true) => output.json(&messages().collect::<Vec<_>>()),
        (Format::Jsonl, false) => reports.iter().try_for_each(|report| output.json_line(report)),
        (Format::Jsonl, true) => messages().try_for_each(|message| output.json_line(&message)),
        (Format::Raw, _) => reports.iter().flat_map(Report::stored).try_for_each(|json| output.stored(&json)),
    }
}

async fn events(context: &Context, config: &Config, args: &Args, fan: &str) -> Result<Exit, CommandError> {
    let why = match args.read.filter.is_some() || args.read.since.is_some() || args.read.until.is_some() {
        true => "that were asked for: the filter and the window leave nothing, or the fan is not high-value and has no stream",
        false => "in Redis; only high-value fans have a stream of them",
    };
    let nothing = format!("no events of fan {} {why}", context.output().text(fan));
    let holds = |entry: &Entry| {
        let holds = |filter: &Arc<Filter>| serde_json::from_str::<Event<'_>>(&entry.json).is_ok_and(|event| filter.holds_for_event(&event));
        args.read.filter.as_ref().is_none_or(holds)
    };
    let reading = Reading {
        what: Followed::FanEvents(fan.to_owned()),
        read: &args.read,
        follows: false,
        last: Some(LAST as u64),
        wanted: if args.read.filter.is_some() { Some(&holds) } else { None },
        row: &mut |output, entry| page::event(output, entry),
        nothing: &nothing,
    };
    streams::run(context, config, reading).await
}
