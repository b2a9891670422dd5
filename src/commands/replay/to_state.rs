//! A dry run: what the state would be.

use serde_json::value::RawValue;

use super::{Playing, Run};
use crate::commands::output::{Output, Tone, ago, money, number};
use crate::commands::read::Format;
use crate::commands::{CommandError, Exit};
use crate::daemons::playback::{DryRun, Outcome};
use crate::daemons::snapshot::Policies;
use crate::schema::event::Direction;
use crate::schema::ids::hash128_hex;
use crate::schema::view::ConversationSnapshot;

pub(super) fn run(run: &Run<'_>, format: Format) -> Result<Exit, CommandError> {
    let (outcome, playing) = fold(run)?;
    if playing.has_result(format) {
        print(run.context.output(), &outcome, format)?;
    }
    run.conclude(playing, outcome.events())
}

/// Folds twice, and compares.
pub(super) fn verify(run: &Run<'_>) -> Result<Exit, CommandError> {
    if run.overview.t0.is_none() && run.overview.frames > 0 {
        let message = "the recording does not say when it began, so its events have another time whenever it is folded";
        return Err(CommandError::new(Exit::BadData, message).hint("recordings of `convpipe ingest --record` say so with t0"));
    }
    let (first, playing) = fold(run)?;
    if playing.played == 0 {
        return run.conclude(playing, 0);
    }
    let (second, _) = fold(run)?;
    let digests = [digest(&first)?, digest(&second)?];
    let output = run.context.output();
    output.line(format!("{}  {} conversations", digests[0], number(first.snapshots.len() as u64)))?;
    if digests[0] != digests[1] {
        output.line(format!("{}  the second time", digests[1]))?;
        output.note("the two states differ: the fold is not what it should be");
        return Ok(Exit::Finding);
    }
    output.note("both times the same state");
    run.conclude(playing, first.events())
}

/// 128 bits of everything that a fold came to.
fn digest(outcome: &Outcome) -> Result<String, CommandError> {
    let accounts = serde_json::to_vec(&outcome.accounts).map_err(|error| CommandError::of(Exit::BadData, &error))?;
    let parts: Vec<&[u8]> = outcome.snapshots.iter().map(Vec::as_slice).chain([accounts.as_slice()]).collect();
    Ok(hash128_hex(&parts))
}

fn fold(run: &Run<'_>) -> Result<(Outcome, Playing), CommandError> {
    let config = &run.context.config()?.config;
    let policies = Policies::new(config)?;
    let mut dry = DryRun::new(&policies, config.ingest.depth_max).with_filter(run.filter.clone());
    let playing = run.each("interrupted; a dry run prints nothing before its end", |played| Ok(dry.frame(played)?))?;
    Ok((dry.finish()?, playing))
}

fn print(output: &Output, outcome: &Outcome, format: Format) -> Result<(), CommandError> {
    match format {
        Format::Table if outcome.snapshots.is_empty() => {}
        Format::Table => table(output, outcome)?,
        Format::Jsonl | Format::Raw => {
            for snapshot in &outcome.snapshots {
                output.json_line(&raw(snapshot)?)?;
            }
        }
        Format::Json => {
            output.json(&value(outcome)?)?;
        }
    }
    output.flush()?;
    summary(output, outcome);
    Ok(())
}

fn raw(json: &[u8]) -> Result<Box<RawValue>, CommandError> {
    serde_json::from_slice(json).map_err(|error| CommandError::new(Exit::BadData, error.to_string()))
}

/// What a dry run came to, as one value.
pub(super) fn value(outcome: &Outcome) -> Result<serde_json::Value, CommandError> {
    let snapshots: Vec<Box<RawValue>> = outcome.snapshots.iter().map(|json| raw(json)).collect::<Result<_, _>>()?;
    Ok(serde_json::json!({ "snapshots": snapshots, "accounts": outcome.accounts, "counts": counts(outcome) }))
}

/// The snapshots, for people.
pub(super) fn table(output: &Output, outcome: &Outcome) -> Result<(), CommandError> {
    let mut table = output.table(&["account", "fan", "name", "tier", "unread", "waiting", "spent", "last message"]).right(4).right(6);
    for json in &outcome.snapshots {
        let snapshot: ConversationSnapshot =
            serde_json::from_slice(json).map_err(|error| CommandError::new(Exit::BadData, error.to_string()))?;
        let now = snapshot.applied_at;
        let name = snapshot.fan.display_name.as_ref().or(snapshot.fan.name.as_ref()).map_or("", |name| name.raw());
        let more = if snapshot.unread_more { "+" } else { "" };
        let last = snapshot.last_message.as_ref().map(|message| {
            let arrow = if message.direction == Direction::In { "<" } else { ">" };
            format!("{arrow} {}", message.preview.raw())
        });
        let waiting = snapshot.awaiting_reply_since.map(|since| ago(now.since(since))).unwrap_or_default();
        let tone = snapshot.high_value.is.then_some(Tone::Strong);
        table.toned([
            (snapshot.account_id.raw(), None),
            (snapshot.fan.id.raw(), None),
            (name, tone),
            (snapshot.tier.as_str(), tone),
            (format!("{}{more}", snapshot.unread).as_str(), None),
            (waiting.as_str(), None),
            (money(snapshot.spend.observed.total).as_str(), None),
            (last.unwrap_or_default().as_str(), None),
        ]);
    }
    output.print(&table)
}

/// What was counted, on stderr, so that a pipe has the data alone.
pub(super) fn summary(output: &Output, outcome: &Outcome) {
    let counts = &outcome.counts;
    let events = outcome.events();
    let rejected: u64 = counts.rejected.values().sum();
    output.note(format!(
        "{} frames: {} events, {} rejected, {} control · {} conversations · {} new, {} seen before, {} stale, {} past a memory",
        number(counts.frames),
        number(events),
        number(rejected),
        number(counts.control),
        number(outcome.snapshots.len() as u64),
        number(counts.tally.new),
        number(counts.tally.seen),
        number(counts.tally.stale),
        number(counts.tally.window_misses),
    ));
    let list = |pairs: Vec<(String, u64)>| {
        pairs.into_iter().map(|(name, count)| format!("{name} {}", number(count))).collect::<Vec<_>>().join(" · ")
    };
    if events > 0 {
        output.note(format!("kinds     {}", list(counts.kinds.iter().map(|(kind, &count)| (kind.name().to_owned(), count)).collect())));
    }
    if rejected > 0 {
        output.note(format!(
            "rejected  {}",
            list(counts.rejected.iter().map(|(reason, &count)| (reason.name().to_owned(), count)).collect())
        ));
    }
    if events == 0 {
        return;
    }
    let priority = list(counts.priority.iter().map(|(level, &count)| (level.clone(), count)).collect());
    output.note(format!("feeds     priority: {priority} · high-value streams: {}", number(counts.fan_events)));
}

fn counts(outcome: &Outcome) -> serde_json::Value {
    let counts = &outcome.counts;
    let kinds: serde_json::Map<_, _> = counts.kinds.iter().map(|(kind, count)| (kind.name().to_owned(), (*count).into())).collect();
    let rejected: serde_json::Map<_, _> =
        counts.rejected.iter().map(|(reason, count)| (reason.name().to_owned(), (*count).into())).collect();
    serde_json::json!({
        "frames": counts.frames,
        "control": counts.control,
        "kinds": kinds,
        "rejected": rejected,
        "priority": counts.priority,
        "fan_events": counts.fan_events,
        "new": counts.tally.new,
        "seen": counts.tally.seen,
        "stale": counts.tally.stale,
        "clamped": counts.tally.clamped,
        "window_misses": counts.tally.window_misses,
    })
}
