//! `convpipe inspect-fan`: everything that Redis and the documents know of one fan.
//!
//! Invariant: each section says which store it comes from, how old it is and which revision; a store that cannot be asked costs its own
//! sections and no others.

mod gather;
mod page;
mod report;
mod wrap;

use super::output::Output;
use super::read::{Format, ReadArgs, Window};
use super::streams::{self, Reading};
use super::{CommandError, Context, Exit};
use crate::config::Config;
use crate::runtime::clock;
use crate::schema::time::Millis;
use crate::views::Followed;

use gather::{Stores, Wanted};
use report::{Message, Report};

/// Show everything known of one fan
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Four sections for each account that knows the fan: the snapshot and the newest
events of the high-value stream (Redis), the summary and the newest messages
(documents). --last, --since and --until choose messages and events; by default
the newest 10. Times are in UTC. Without --account both stores are asked which
accounts know the fan.

-o json prints one object an account: {account_id, fan_id, snapshot, summary,
messages, events, gap, sources}, where sources say of each section {name, store,
state: ok|absent|unreachable|unreadable, detail, rev, age_ms}; -o jsonl the same
on one line.
--events -o jsonl prints the events as they are stored, each with its stream_id;
--from-id goes on after one of them.

Exit: 0 found; 1 nobody knows the fan; 69 a store cannot be asked, what the
other knows is printed.

Examples:
  convpipe inspect-fan 100000001
  convpipe inspect-fan 100000001 --account 200000001 -o json | jq .snapshot
  convpipe inspect-fan 100000001 --history --since 7d
  convpipe inspect-fan 100000001 --events --follow -o jsonl")]
pub struct Args {
    /// The fan's id
    #[arg(value_name = "FAN")]
    fan: String,
    /// Only the events of the high-value stream; with --follow as they come
    #[arg(long, conflicts_with = "history")]
    events: bool,
    /// Only the messages
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    read: ReadArgs,
}

/// Messages or events where nothing says how many.
const LAST: usize = 10;
/// Most messages or events of one section.
const LAST_MAX: usize = 1_000;

/// Runs `convpipe inspect-fan`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    if args.events {
        return context.block_on(events(context, config, args));
    }
    let read = &args.read;
    for (is_typed, option) in [
        (read.follows(false), "--follow"),
        (read.from_id.is_some(), "--from-id"),
        (read.count.is_some(), "--count"),
        (read.idle_timeout.is_some(), "--idle-timeout"),
    ] {
        if is_typed {
            return Err(CommandError::new(Exit::Usage, format!("{option} goes only with --events")));
        }
    }
    let now = clock::now();
    let wanted = Wanted { last: last(read)?, window: read.window(now)?, only_messages: args.history, now };
    context.block_on(async {
        let mut stores = Stores::open(config, !args.history).await?;
        let accounts = match &read.accounts[..] {
            [] => stores.accounts_of(&args.fan, now).await,
            typed => typed.to_vec(),
        };
        let mut reports = Vec::new();
        for account in accounts {
            reports.push(stores.report(&account, &args.fan, &wanted).await);
        }
        let is_anywhere = reports.iter().any(Report::is_found);
        let failed = stores.failure();
        // An account that was named and does not know the fan is told only where another one does, or where nobody could say.
        reports.retain(|report| report.is_found() || failed.is_some());
        print(context.output(), args, &reports, now)?;
        context.output().flush()?;
        match failed {
            Some(error) => Err(error),
            None if is_anywhere => Ok(Exit::Done),
            None => {
                let fan = context.output().text(&args.fan);
                context.output().note(format_args!("no fan {fan} {}", stores.looked_in(&read.accounts)));
                Ok(Exit::Finding)
            }
        }
    })
}

fn last(read: &ReadArgs) -> Result<usize, CommandError> {
    let default = if read.since.is_some() { LAST_MAX } else { LAST };
    match read.last.map(usize::try_from) {
        None => Ok(default),
        Some(Ok(last)) if last <= LAST_MAX => Ok(last),
        Some(_) => Err(CommandError::new(Exit::Usage, format!("--last is at most {LAST_MAX} here; --until goes further back"))),
    }
}

fn print(output: &Output, args: &Args, reports: &[Report], now: Millis) -> Result<(), CommandError> {
    let messages = || reports.iter().flat_map(Message::all);
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

async fn events(context: &Context, config: &Config, args: &Args) -> Result<Exit, CommandError> {
    let fan = context.output().text(&args.fan);
    let nothing = format!("no events of fan {fan} in Redis; only high-value fans have a stream of them");
    let reading = Reading {
        what: Followed::FanEvents(args.fan.clone()),
        read: &args.read,
        follows: false,
        last: Some(LAST as u64),
        wanted: None,
        row: &mut |output, entry| page::event(output, entry),
        nothing: &nothing,
    };
    streams::run(context, &config.redis, reading).await
}
