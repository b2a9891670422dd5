//! `convpipe tail-priority`: the priority feed, as it comes.
//!
//! Owns: where the feed is entered and left. Does not own how Redis is followed ([`crate::views::Follower`]). Invariant: nothing is left out
//! without a word: a gap, a lost Redis and an entry that cannot be read are all told.

mod lines;
mod scan;

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio::time::Instant;

use super::output::Tone;
use super::read::ReadArgs;
use super::{CommandError, Context, Exit};
use crate::runtime::clock;
use crate::runtime::shutdown::Shutdown;
use crate::schema::policy::Level;
use crate::schema::time::Millis;
use crate::views::{Follow, FollowItem, Followed, Follower, Reader, Start, StreamId};

use lines::Printer;
pub(super) use lines::stamped;
use scan::{Scan, ScanStart};

/// Entries before the present that a follower shows where nothing else was asked for, as tail(1) does.
const LAST_DEFAULT: usize = 10;

/// Follow who needs an answer, as it happens
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Follows all accounts, or those named, from the newest ten entries on. It survives a restart of Redis. When it ends it says on stderr the
id of the last entry; --from-id with that goes on from there, in all accounts. --last counts entries before --level leaves some out.
--no-follow prints what is there; exit 1 where that is nothing.

Examples:
  convpipe tail-priority --level urgent --level high
  convpipe tail-priority --account 200000001 --since 1h --no-follow -o jsonl
  convpipe tail-priority -o jsonl --from-id 1784808000000-0 | jq .preview")]
pub struct Args {
    /// What to read.
    #[command(flatten)]
    read: ReadArgs,
    /// Only this level: urgent, high, due or low; may be given several times.
    #[arg(long = "level", value_name = "LEVEL", value_parser = level_parser(), hide_possible_values = true)]
    levels: Vec<Level>,
}

fn level_parser() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(Level::ALL.map(Level::name))
        .map(|typed| Level::ALL.into_iter().find(|level| level.name() == typed).unwrap_or(Level::Low))
}

/// Why the feed was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A signal, or as many entries as were wanted.
    Asked,
    /// Nothing came for as long as was allowed.
    Idle,
    /// Nothing more is there.
    Reached,
}

/// Runs `convpipe tail-priority`.
pub(super) fn run(context: &Context, args: &Args) -> Result<Exit, CommandError> {
    let read = &args.read;
    let window = read.window(clock::now())?;
    let after = read.from_id.as_deref().map(stream_id).transpose()?;
    let redis = &context.config()?.config.redis;
    context.block_on(async {
        let shutdown = super::listen()?;
        // A Redis that is not there at the start is an error; one that goes away later is waited for.
        let reader = Reader::connect(redis).await?;
        let mut printer = Printer::new(context, args);
        let end = if read.follows(true) {
            let start = match (read.last, after, window.since) {
                (Some(last), ..) => Start::Last(usize::try_from(last).unwrap_or(usize::MAX)),
                (_, Some(id), _) => Start::AfterId(id),
                (.., Some(since)) => Start::Since(since),
                _ => Start::Last(LAST_DEFAULT),
            };
            let follow = Follow { what: Followed::Priority, accounts: read.accounts.clone(), start, retry: true };
            follow_on(context, &mut printer, Follower::open(redis, follow)?, read.idle_timeout, &shutdown).await?
        } else {
            let start = match (read.last, after, window.since) {
                (Some(last), ..) => ScanStart::Last(usize::try_from(last).unwrap_or(usize::MAX)),
                (_, Some(id), _) => ScanStart::After(id),
                (.., Some(since)) => ScanStart::After(StreamId::just_before(since)),
                _ => ScanStart::After(StreamId::ZERO),
            };
            tokio::select! {
                end = print_all(&mut printer, reader, &read.accounts, start, window.until) => end?,
                () = shutdown.requested() => End::Asked,
            }
        };
        printer.finish()?;
        Ok(conclude(context, &printer, end))
    })
}

/// Follows until a signal, the wanted count, or silence for too long.
async fn follow_on(
    context: &Context,
    printer: &mut Printer<'_>,
    mut follower: Follower,
    idle: Option<Duration>,
    shutdown: &Shutdown,
) -> Result<End, CommandError> {
    let output = context.output();
    let mut quiet_since = Instant::now();
    while !printer.is_done() {
        let next = follower.next();
        tokio::pin!(next);
        let item = tokio::select! {
            biased;
            () = shutdown.requested() => return Ok(End::Asked),
            item = &mut next => item?,
            // What is at hand was printed: the reader gets it before the next wait.
            () = std::future::ready(()) => {
                output.flush()?;
                tokio::select! {
                    () = shutdown.requested() => return Ok(End::Asked),
                    () = until(idle.map(|idle| quiet_since + idle)) => return Ok(End::Idle),
                    item = &mut next => item?,
                }
            }
        };
        match item {
            FollowItem::Entry { account, id, json } => {
                if printer.entry(&account, id, &json)? {
                    quiet_since = Instant::now();
                }
            }
            FollowItem::Gap { account, after, next, cause } => printer.gap(&account, after, next, cause)?,
            FollowItem::Reconnecting(error) => {
                output.note(format!(
                    "{} {}; waiting for it",
                    output.note_tone(Tone::Warning, "redis is gone:"),
                    output.text(&error.to_string())
                ));
            }
            FollowItem::Reconnected => output.note(output.note_tone(Tone::Good, "redis is back")),
        }
    }
    Ok(End::Asked)
}

/// Waits until then; for ever where there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Prints what is there.
async fn print_all(
    printer: &mut Printer<'_>,
    reader: Reader,
    accounts: &[String],
    start: ScanStart,
    until: Option<Millis>,
) -> Result<End, CommandError> {
    let mut scan = Scan::begin(reader, accounts, start, until).await?;
    while let Some((account, entry)) = scan.next().await? {
        printer.entry(&account, entry.id, &entry.json)?;
        if printer.is_done() {
            return Ok(End::Asked);
        }
    }
    Ok(End::Reached)
}

/// Says where the feed was left, and how the command ends.
fn conclude(context: &Context, printer: &Printer<'_>, end: End) -> Exit {
    let output = context.output();
    if let Some(last) = printer.last() {
        output.note(output.note_tone(Tone::Faint, &format!("last id {last}; go on with --from-id {last}")));
    }
    if printer.printed() > 0 || end == End::Asked {
        return Exit::Done;
    }
    output.note(match end {
        End::Idle => "nothing came in that time",
        _ => "no entries: nothing there matches",
    });
    Exit::Finding
}

fn stream_id(typed: &str) -> Result<StreamId, CommandError> {
    typed.parse::<StreamId>().map_err(|error| CommandError::new(Exit::Usage, format!("--from-id: {error}")))
}
