//! How entries of the priority feed are printed.
//!
//! Invariant: on a terminal a record is one line that fits; in a pipe it is one line, uncut and without colours.

use serde::Serialize;

use super::Args;
use crate::commands::output::{Output, Tone, ago, duration, fit, json_safe, money, width};
use crate::commands::read::Format;
use crate::commands::{CommandError, Context};
use crate::schema::policy::Level;
use crate::schema::view::PriorityEntry;
use crate::views::{GapCause, StreamId};

/// Prints entries and gaps, counts the entries, and knows the last id.
pub(super) struct Printer<'a> {
    output: &'a Output,
    format: Format,
    levels: &'a [Level],
    escapes_allowed: bool,
    count: Option<u64>,
    printed: u64,
    records: u64,
    last: Option<StreamId>,
    layout: Layout,
}

impl<'a> Printer<'a> {
    pub(super) fn new(context: &'a Context, args: &'a Args) -> Self {
        let read = &args.read;
        Self {
            output: context.output(),
            format: read.output,
            levels: &args.levels,
            escapes_allowed: context.globals().allow_escape_sequences,
            count: read.count,
            printed: 0,
            records: 0,
            last: None,
            layout: Layout::of(context.output().width()),
        }
    }

    /// Prints an entry, if it is one of the wanted levels; whether it was.
    pub(super) fn entry(&mut self, account: &str, id: StreamId, json: &str) -> Result<bool, CommandError> {
        self.last = self.last.max(Some(id));
        let entry: PriorityEntry = match serde_json::from_str(json) {
            Ok(entry) => entry,
            Err(error) => {
                let text = format!("entry {id} of account {account} is not what this version reads and is left out: {error}");
                self.output.note(format!("{} {}", self.output.note_tone(Tone::Warning, "warning:"), self.output.text(&text)));
                return Ok(false);
            }
        };
        if !self.levels.is_empty() && !self.levels.contains(&entry.level) {
            return Ok(false);
        }
        match self.format {
            Format::Table => {
                if let (0, Some(_)) = (self.printed, self.layout.width) {
                    self.output.line(self.output.tone(Tone::Strong, &self.layout.heading()))?;
                }
                self.output.line(self.layout.line(self.output, &entry))?;
            }
            Format::Json => self.element(&serde_json::from_str::<serde_json::Value>(&stamped(json, id)).unwrap_or_default())?,
            Format::Jsonl => self.output.line(json_safe(&stamped(json, id)))?,
            Format::Raw if self.escapes_allowed => self.output.line(json)?,
            Format::Raw => self.output.line(json_safe(json))?,
        }
        self.printed += 1;
        Ok(true)
    }

    /// Tells a gap: a record where records are read by programs, else a line on stderr.
    pub(super) fn gap(&mut self, account: &str, after: StreamId, next: Option<StreamId>, cause: GapCause) -> Result<(), CommandError> {
        let (cause, text) = match cause {
            GapCause::Trimmed => ("trimmed", "the feed was cut before it was read; entries may be missing"),
            GapCause::Emptied => ("emptied", "Redis was emptied; entries may be missing"),
        };
        let gap = GapRecord { gap: Gap { account_id: account, after: after.to_string(), next: next.map(|id| id.to_string()), cause } };
        match self.format {
            Format::Jsonl => self.output.json_line(&gap),
            Format::Json => self.element(&gap),
            Format::Table | Format::Raw => {
                let account = self.output.text(account);
                let next = next.map(|id| format!(" and before {id}")).unwrap_or_default();
                self.output
                    .note(format!("{} account {account}: {text}, after {after}{next}", self.output.note_tone(Tone::Warning, "gap:")));
                Ok(())
            }
        }
    }

    /// Ends what was printed.
    pub(super) fn finish(&mut self) -> Result<(), CommandError> {
        match (self.format, self.records) {
            (Format::Json, 0) => self.output.line("[]")?,
            (Format::Json, _) => self.output.line("]")?,
            _ => {}
        }
        self.output.flush()
    }

    /// Whether as many were printed as were wanted.
    pub(super) fn is_done(&self) -> bool {
        self.count.is_some_and(|count| self.printed >= count)
    }

    /// How many entries were printed.
    pub(super) const fn printed(&self) -> u64 {
        self.printed
    }

    /// The greatest id that was read.
    pub(super) const fn last(&self) -> Option<StreamId> {
        self.last
    }

    /// One element of the one array that `-o json` is. It is written as it comes, so that a follower shows it at once.
    fn element<T: Serialize>(&mut self, value: &T) -> Result<(), CommandError> {
        self.output.line(if self.records == 0 { "[" } else { "," })?;
        self.records += 1;
        self.output.json(value)
    }
}

/// The stored JSON object with the id of its place in the stream, and everything else as it was written.
pub(in crate::commands) fn stamped(json: &str, id: StreamId) -> String {
    match json.trim_start().strip_prefix('{').map(str::trim_start) {
        Some(rest) if rest.starts_with('}') => format!("{{\"stream_id\":\"{id}\"{rest}"),
        Some(rest) => format!("{{\"stream_id\":\"{id}\",{rest}"),
        None => json.to_owned(),
    }
}

#[derive(Serialize)]
struct GapRecord<'a> {
    gap: Gap<'a>,
}

#[derive(Serialize)]
struct Gap<'a> {
    account_id: &'a str,
    after: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    cause: &'static str,
}

/// How wide each column is. Without a terminal nothing is cut and columns are as wide as what is usual.
struct Layout {
    width: Option<usize>,
    wide: bool,
    account: usize,
    fan: usize,
    text: usize,
    reasons: usize,
}

/// Columns from which there is room for dates and ids.
const WIDE: usize = 120;
const LEVEL: usize = 6;
const TIER: usize = 7;
const LATENCY: usize = 6;

impl Layout {
    fn of(width: Option<usize>) -> Self {
        let wide = width.is_none_or(|width| width >= WIDE);
        let account = if wide { 10 } else { 9 };
        let time = match width {
            None => 24,
            Some(_) if wide => 14,
            Some(_) => 8,
        };
        // What is left for fan, text and reasons beside the fixed columns and the seven gaps.
        let fixed = time + LEVEL + account + TIER + LATENCY + if wide { 14 } else { 7 };
        // Terminals do not agree on how wide some emoji are, so the last column ends before the line does.
        let rest = width.map_or(100, |width| width.saturating_sub(fixed + 2));
        let (fan, reasons) = (rest * 3 / 10, rest / 4);
        Self { width, wide, account, fan, reasons, text: rest - fan - reasons }
    }

    fn heading(&self) -> String {
        let time = if self.wide { "TIME (UTC)    " } else { "TIME    " };
        let cells = [time.to_owned(), self.cell("LEVEL", LEVEL), self.cell("ACCOUNT", self.account), self.cell("FAN", self.fan)];
        let more = [self.cell("TIER", TIER), right("DELAY", LATENCY), self.cell("WHY", self.reasons), "WHAT".to_owned()];
        self.fitted(&[cells, more].concat().join(self.gap()))
    }

    fn line(&self, output: &Output, entry: &PriorityEntry) -> String {
        let received = entry.received_at.to_string();
        let time = match (self.width, self.wide) {
            (None, _) => received,
            (_, true) => format!("{} {}", &received[5..10], &received[11..19]),
            (_, false) => received[11..19].to_owned(),
        };
        let tone = match entry.level {
            Level::Urgent => Tone::Bad,
            Level::High => Tone::Warning,
            Level::Due => Tone::Strong,
            Level::Low => Tone::Faint,
        };
        let fan = entry.fan.as_ref().map_or_else(String::new, |fan| match &fan.name {
            Some(name) if self.wide => format!("{} {}", output.text(name.raw()), output.text(fan.id.raw())),
            name => output.text(name.as_ref().unwrap_or(&fan.id).raw()).into_owned(),
        });
        let is_high_value = entry.fan.as_ref().is_some_and(|fan| fan.high_value);
        let tier = entry.fan.as_ref().map_or("", |fan| &fan.tier);
        let tier = self.cell(&output.text(tier), TIER);
        let delay = entry.applied_at.since(entry.received_at).max(0);
        let latency = match u64::try_from(delay).unwrap_or(0) {
            ms @ 0..60_000 => duration(std::time::Duration::from_millis(ms)),
            _ => ago(delay).trim_end_matches(" ago").to_owned(),
        };
        let what = self.what(output, entry);
        let reasons = entry.reasons.join(",");
        let reasons = output.text(&reasons);
        let parts = [
            output.tone(Tone::Faint, &time),
            output.tone(tone, &self.cell(entry.level.name(), LEVEL)),
            self.cell(&output.text(entry.account_id.raw()), self.account),
            self.cell(&fan, self.fan),
            if is_high_value { output.tone(Tone::Strong, &tier) } else { tier },
            right(&latency, LATENCY),
            output.tone(Tone::Faint, &self.cell(&reasons, self.reasons)),
            what,
        ];
        parts.join(self.gap())
    }

    /// The money and the text.
    fn what(&self, output: &Output, entry: &PriorityEntry) -> String {
        let amount = entry.money.map(|amount| money(amount.minor));
        let text = entry.preview.as_ref().map(|preview| output.text(preview.raw()));
        let kind = || entry.event.kind.map_or("timer", |kind| kind.name());
        let plain = match (&amount, &text) {
            (Some(amount), Some(text)) => format!("{amount} {text}"),
            (Some(amount), None) => amount.clone(),
            (None, Some(text)) => text.clone().into_owned(),
            (None, None) => format!("({})", kind()),
        };
        let cell = if self.width.is_some() { fit(&plain, self.text).into_owned() } else { plain };
        match amount.and_then(|amount| cell.strip_prefix(&amount).map(|rest| format!("{}{rest}", output.tone(Tone::Good, &amount)))) {
            Some(colored) => colored,
            None => cell,
        }
    }

    /// Safe text, padded to a column, and cut where a terminal has an end.
    fn cell(&self, text: &str, columns: usize) -> String {
        let text = if self.width.is_some() { fit(text, columns) } else { text.into() };
        format!("{text}{}", " ".repeat(columns.saturating_sub(width(&text))))
    }

    fn fitted(&self, line: &str) -> String {
        self.width.map_or_else(|| line.to_owned(), |width| fit(line, width).into_owned())
    }

    const fn gap(&self) -> &'static str {
        if self.wide { "  " } else { " " }
    }
}

fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}
