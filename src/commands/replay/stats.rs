//! What a recording holds: kinds, rates, sizes, what is unknown and what is rejected.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Run;
use crate::commands::output::{Output, duration, number};
use crate::commands::read::Format;
use crate::commands::{CommandError, Exit};
use crate::daemons::playback::Played;
use crate::schema::event::EventKind;
use crate::transform::normalize::FrameContext;

/// Keys that are unknown are listed up to so many; the rest is one number.
const UNKNOWN_MAX: usize = 50;
/// Seconds that are told apart; a recording of two days has fewer.
const SECONDS_MAX: usize = 200_000;

/// What was counted.
#[derive(Debug, Default, Serialize)]
struct Stats {
    frames: u64,
    bytes: u64,
    largest_frame: u64,
    length_s: u64,
    frames_a_second: f64,
    frames_in_the_busiest_second: u64,
    accounts: usize,
    kinds: BTreeMap<&'static str, Kind>,
    unknown_keys: BTreeMap<String, u64>,
    rejected: BTreeMap<&'static str, u64>,
}

/// The events of one kind.
#[derive(Debug, Default, Serialize)]
struct Kind {
    events: u64,
    /// Of their JSON.
    bytes: u64,
    largest: u64,
}

pub(super) fn run(run: &Run<'_>, format: Format) -> Result<Exit, CommandError> {
    let depth_max = run.context.config()?.config.ingest.depth_max;
    let mut counting = Counting { depth_max, seconds: BTreeMap::new(), stats: Stats::default() };
    let playing = run.each("interrupted; the numbers are printed at the end", |played| counting.frame(played, run))?;
    let stats = counting.finish(run);
    if playing.has_result(format) {
        print(run.context.output(), &stats, format)?;
    }
    let matched = stats.kinds.values().map(|kind| kind.events).sum();
    run.conclude(playing, matched)
}

struct Counting {
    depth_max: usize,
    seconds: BTreeMap<i64, u64>,
    stats: Stats,
}

impl Counting {
    fn frame(&mut self, played: &Played, run: &Run<'_>) -> Result<u64, CommandError> {
        let stats = &mut self.stats;
        let bytes = played.text.len() as u64;
        stats.frames += 1;
        stats.bytes += bytes;
        stats.largest_frame = stats.largest_frame.max(bytes);
        if self.seconds.len() < SECONDS_MAX {
            *self.seconds.entry(played.received_at.0.div_euclid(1_000)).or_default() += 1;
        }
        let context = FrameContext {
            account_id: &played.account,
            connection: "0000000000000000",
            frame_no: stats.frames,
            received_at: played.received_at,
            raw: true,
            depth_max: self.depth_max,
        };
        let normalized = played.read(&context);
        for event in normalized.events.iter().filter(|event| run.wants(event)) {
            let json = serde_json::to_vec(event).map_err(|error| CommandError::of(Exit::BadData, &error))?.len() as u64;
            let kind = stats.kinds.entry(event.kind.name()).or_default();
            kind.events += 1;
            kind.bytes += json;
            kind.largest = kind.largest.max(json);
            if event.kind == EventKind::Unknown {
                let key = event.target.as_ref().and_then(|target| target.id.as_ref()).map_or("", |id| id.raw());
                let is_new = !stats.unknown_keys.contains_key(key);
                let key = if is_new && stats.unknown_keys.len() >= UNKNOWN_MAX { "…" } else { key };
                *stats.unknown_keys.entry(key.to_owned()).or_default() += 1;
            }
        }
        for rejected in &normalized.rejected {
            *stats.rejected.entry(rejected.reason.name()).or_default() += 1;
        }
        Ok(normalized.rejected.len() as u64)
    }

    fn finish(mut self, run: &Run<'_>) -> Stats {
        let bounds = self.seconds.keys().next().zip(self.seconds.keys().next_back());
        let length_s = bounds.map_or(0, |(first, last)| u64::try_from(last - first).unwrap_or(0) + 1);
        self.stats.length_s = length_s;
        self.stats.frames_a_second = self.stats.frames as f64 / length_s.max(1) as f64;
        self.stats.frames_in_the_busiest_second = self.seconds.values().copied().max().unwrap_or(0);
        self.stats.accounts = run.overview.accounts.len();
        self.stats
    }
}

fn print(output: &Output, stats: &Stats, format: Format) -> Result<(), CommandError> {
    match format {
        Format::Json => return output.json(stats),
        Format::Jsonl | Format::Raw => return output.json_line(stats),
        Format::Table => {}
    }
    let mut table = output.table(&["what", "count", "share", "bytes each", "largest"]).right(1).right(2).right(3).right(4);
    let events: u64 = stats.kinds.values().map(|kind| kind.events).sum();
    let mut line = |what: &str, count: u64, of: u64, bytes: u64, largest: u64| {
        let share = (count * 1_000).checked_div(of).map_or_else(String::new, |share| format!("{}.{} %", share / 10, share % 10));
        let sized = |bytes: u64| if largest > 0 { number(bytes) } else { String::new() };
        table.row(&[what, &number(count), &share, &sized(bytes.checked_div(count).unwrap_or(0)), &sized(largest)]);
    };
    line("frames", stats.frames, 0, stats.bytes, stats.largest_frame);
    for (name, kind) in &stats.kinds {
        line(name, kind.events, events, kind.bytes, kind.largest);
    }
    for (key, &count) in &stats.unknown_keys {
        line(&format!("unknown key {key}"), count, events, 0, 0);
    }
    for (reason, &count) in &stats.rejected {
        line(&format!("rejected: {reason}"), count, stats.frames, 0, 0);
    }
    output.print(&table)?;
    output.flush()?;
    let length = duration(std::time::Duration::from_secs(stats.length_s));
    output.note(format!(
        "{} accounts, {length}, {:.1} frames/s, {} in the busiest second",
        stats.accounts, stats.frames_a_second, stats.frames_in_the_busiest_second
    ));
    Ok(())
}
