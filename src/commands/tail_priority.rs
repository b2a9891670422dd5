//! `convpipe tail-priority`: the priority feed, as it is written.

mod rows;

use super::read::ReadArgs;
use super::streams::{self, Entry, Reading};
use super::{CommandError, Context, Exit};
use crate::schema::policy::Level;
use crate::schema::view::PriorityEntry;
use crate::views::Followed;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use rows::Rows;

/// Follow who needs an answer, as it happens
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Starts with the newest 10 entries and goes on with what comes, until Ctrl-C;
--last 0 starts with what comes. --no-follow and --until print what is there and
end. --since and --until go by when Redis wrote an entry. Times are shown in
UTC. What raises an entry: docs/priority.md.

-o jsonl prints each entry as it is stored (convpipe schema priority-entry) and
its stream_id. Where entries may be missing, because the feed was cut or Redis
was emptied, it prints {\"gap\": {account_id, after, next, cause:
trimmed|emptied}}; tables tell it on stderr. --strict ends there with exit 1.
-o json prints one array of the same. -v tells every 5 seconds how much comes
and how late.

At the end stderr names the last id. With one --account, --from-id goes on
exactly after it. An id begins with the milliseconds at which Redis wrote the
entry, so with several accounts one id is a lower bound for all: the last 2
seconds come again, nothing is missed.

A Redis that goes away is waited for, unless --no-retry is given. Exit: 0 also
after Ctrl-C; 1 if there was no entry, or a gap with --strict; 69 if Redis
cannot be reached at the start, or at any time with --no-retry.

Examples:
  convpipe tail-priority                                   all accounts
  convpipe tail-priority --account 200000001 --level urgent
  convpipe tail-priority --filter 'event.money_minor >= 5000 || fan.high_value'
  convpipe tail-priority --since 1h --no-follow -o jsonl | jq .fan.name
  convpipe tail-priority --last 0 --count 1 --idle-timeout 5m   only the next")]
pub struct Args {
    /// Only entries of this level; may be given several times
    #[arg(long = "level", value_name = "urgent|high|due|low", value_parser = level(), hide_possible_values = true)]
    levels: Vec<Level>,
    #[command(flatten)]
    read: ReadArgs,
}

/// With how many entries a follower begins, as tail(1) does.
const LAST: u64 = 10;

fn level() -> impl TypedValueParser<Value = Level> {
    let by_name = |name: String| Level::ALL.into_iter().find(|level| level.name() == name).ok_or("no such level");
    PossibleValuesParser::new(Level::ALL.map(Level::name)).try_map(by_name)
}

/// Runs `convpipe tail-priority`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let config = &context.config()?.config;
    let mut rows = Rows::new(context.output().width(), args.read.accounts.len() != 1);
    let is_wanted = |entry: &Entry| wants(args, &entry.json);
    let wants_all = args.levels.is_empty() && args.read.filter.is_none();
    let reading = Reading {
        what: Followed::Priority,
        read: &args.read,
        follows: true,
        last: args.read.follows(true).then_some(LAST),
        wanted: if wants_all { None } else { Some(&is_wanted) },
        row: &mut |output, entry| rows.print(output, entry),
        nothing: "no entries",
    };
    context.block_on(streams::run(context, config, reading))
}

/// Whether an entry is of the levels and passes the filter. One that cannot be read passes nothing.
fn wants(args: &Args, json: &str) -> bool {
    let Ok(entry) = serde_json::from_str::<PriorityEntry>(json) else { return false };
    let has_level = args.levels.is_empty() || args.levels.contains(&entry.level);
    has_level && args.read.filter.as_ref().is_none_or(|filter| filter.holds_for_entry(&entry))
}
