//! `convpipe reconcile`: what changed, for a consumer that missed it; and whether Redis and the documents agree, for an operator.

mod changes;
mod check;

use std::path::PathBuf;
use std::time::Duration;

use super::read::{self, ListFormat};
use super::{CommandError, Context, Exit};
use crate::daemons::reconcile::{Cursor, Scope, Since};
use crate::runtime::clock;

/// Catch up with what changed, or hold Redis and the documents against each other
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("mode").required(true).args(["since", "check", "repair"]), after_help = "\
For consumers: --since prints every conversation whose snapshot was written
since, from Redis alone, and a cursor for the next call. Some come twice, none
is missed: keep of each the one with the greatest rev. -o jsonl prints one
snapshot a line (convpipe schema conversation-snapshot) and at the end
{\"cursor\", \"conversations\", \"reset\"}. With reset Redis has lost data since the
cursor: what you hold and were not told of now is void.

For operators: --check compares each conversation in Redis with the documents.
  lost         a store does not have it, or not the newest events of it
  conflicting  what stands there is not what its own events say
  late         a store is behind: within --settle, deliveries wait, or it is
               being written to; what looks worse is looked at twice
  trimmed      an index is full and names more recent ones
  expired      its time has run out, as it should
--repair checks, asks, and publishes a repair.requested for each that is lost or
conflicting. The snapshot service then rewrites Redis from the documents, or the
summary from the history and what Redis knows. Messages that --history finds
missing stand in no store whole: a replay of the recordings brings them back.
docs/reconcile.md has more.

Exit: 0 the stores agree; 1 something is lost or conflicting, or nobody knows
the account; 69 a store is down; 75 Redis lost data while it was read.

Examples:
  convpipe reconcile --since 15m -o jsonl
  convpipe reconcile --since \"$cursor\" -o jsonl | jq -r 'select(.cursor).cursor'
  convpipe reconcile --check --samples 1000
  convpipe reconcile --check --history --account 200000001
  convpipe reconcile --repair --account 200000001")]
pub struct Args {
    /// What was written since: `15m` ago, a date or time, or the cursor of an earlier call
    #[arg(long, value_name = "WHEN|CURSOR", value_parser = since)]
    since: Option<Typed>,
    /// Compare Redis with the documents
    #[arg(long)]
    check: bool,
    /// Compare, and have repaired what is lost or conflicting
    #[arg(long)]
    repair: bool,
    /// Only this account; may be given several times
    #[arg(long = "account", value_name = "ID")]
    accounts: Vec<String>,
    /// With --check or --repair: about how many conversations of each account, picked at random
    #[arg(long, value_name = "N|all", value_parser = scope, default_value = "all", conflicts_with = "since")]
    samples: Scope,
    /// How long a store may be behind
    #[arg(long, value_name = "DURATION", value_parser = read::duration, default_value = "60s", conflicts_with = "since")]
    settle: Duration,
    /// Also look for the newest messages of each conversation in the history: one query more for each
    #[arg(long, conflicts_with = "since")]
    history: bool,
    /// Note in this file how far the check has got, and go on from there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "samples"])]
    checkpoint: Option<PathBuf>,
    /// With --repair: do not ask
    #[arg(long, requires = "repair")]
    yes: bool,
    /// How to print it
    #[arg(short, long, value_name = "table|json|jsonl", value_enum, default_value_t, hide_possible_values = true)]
    output: ListFormat,
}

/// A beginning as it was typed.
#[derive(Debug, Clone)]
enum Typed {
    Moment(read::Moment),
    Cursor(Cursor),
}

/// Runs `convpipe reconcile`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let since = args.since.clone().map(|typed| match typed {
        Typed::Moment(moment) => Since::Moment(moment.resolve(clock::now())),
        Typed::Cursor(cursor) => Since::Cursor(cursor),
    });
    match since {
        Some(since) => changes::run(context, since, &args.accounts, args.output),
        None => check::run(context, args),
    }
}

fn since(typed: &str) -> Result<Typed, String> {
    if let Ok(cursor) = typed.parse() {
        return Ok(Typed::Cursor(cursor));
    }
    read::moment(typed).map(Typed::Moment).map_err(|moment| format!("{moment}, or the cursor of an earlier call"))
}

fn scope(typed: &str) -> Result<Scope, String> {
    if typed == "all" {
        return Ok(Scope::All);
    }
    let samples = typed.parse().ok().filter(|&samples| samples > 0);
    samples.map(Scope::Samples).ok_or_else(|| "a number of conversations, or all".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_moment_or_a_cursor() {
        assert!(matches!(since("15m"), Ok(Typed::Moment(_))));
        assert!(matches!(since("2026-07-23T12:00:00Z"), Ok(Typed::Moment(_))));
        assert!(matches!(since("00ff:1784808000000"), Ok(Typed::Cursor(_))));
        assert!(since("yesterday").is_err() && since("xy:5").is_err());
        assert_eq!((scope("all"), scope("5")), (Ok(Scope::All), Ok(Scope::Samples(5))));
        assert!(scope("0").is_err() && scope("some").is_err());
    }
}
