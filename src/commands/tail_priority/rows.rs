//! The feed as rows: one line an entry, in columns that fit the terminal.
//!
//! Invariants: no line is wider than the terminal, no text of strangers reaches it unescaped; without a terminal nothing is cut.

use std::time::Duration;

use unicode_width::UnicodeWidthChar;

use crate::commands::CommandError;
use crate::commands::output::{Output, Tone, duration, fit, money, short, utc, width};
use crate::commands::streams::{Entry, written_at};
use crate::runtime::clock;
use crate::schema::policy::Level;
use crate::schema::time::Millis;
use crate::schema::view::{EntryFan, PriorityEntry};

/// From this width on there is room for the date, the fan's id, and the tier and the money in columns of their own.
const WIDE: usize = 132;
/// From this width on columns stand two spaces apart.
const ROOMY: usize = 100;

/// Prints entries one by one. The columns are settled before the first, because what comes is not known.
pub(super) struct Rows {
    columns: Vec<Column>,
    gap: usize,
    is_wide: bool,
    /// On a terminal: headings are printed and what is too long is cut.
    is_fitted: bool,
    /// The day of the last row, where rows show only the time of day.
    day: String,
    has_headings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Time,
    Level,
    Account,
    Fan,
    FanId,
    Tier,
    Money,
    Text,
    Reasons,
    Lag,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    what: What,
    heading: &'static str,
    width: usize,
}

impl What {
    const fn is_right(self) -> bool {
        matches!(self, Self::Money | Self::Lag)
    }
}

/// A text and its tone.
type Cell = (String, Option<Tone>);

impl Rows {
    /// For a terminal of so many columns, or for a pipe. The account is left out where there is only one.
    pub(super) fn new(terminal: Option<usize>, has_accounts: bool) -> Self {
        let total = terminal.unwrap_or(200);
        let is_wide = total >= WIDE;
        let gap = if total >= ROOMY { 2 } else { 1 };
        let column = |what, heading, width| Column { what, heading, width };
        let mut columns = vec![column(What::Time, "TIME", if is_wide { 19 } else { 8 }), column(What::Level, "LEVEL", 6)];
        if has_accounts {
            columns.push(column(What::Account, "ACCOUNT", if is_wide { 10 } else { 9 }));
        }
        columns.push(column(What::Fan, "FAN", 0));
        if is_wide {
            columns.extend([column(What::FanId, "ID", 10), column(What::Tier, "TIER", 8), column(What::Money, "MONEY", 9)]);
        }
        // What strangers wrote stands last: terminals do not agree on how wide it is, and so it pushes nothing aside.
        columns.extend([column(What::Lag, "LAG", 5), column(What::Reasons, "WHY", 0), column(What::Text, "MESSAGE", 0)]);
        // What is left goes to the three that have no width of their own.
        let taken = columns.iter().map(|column| column.width).sum::<usize>() + gap * (columns.len() - 1);
        let left = total.saturating_sub(taken);
        let (fan, reasons) = ((left * 7 / 20).clamp(8, 24), (left * 3 / 10).clamp(6, 40));
        for column in &mut columns {
            match column.what {
                What::Fan => column.width = fan,
                What::Reasons => column.width = reasons,
                What::Text => column.width = left.saturating_sub(fan + reasons).max(6),
                _ => {}
            }
        }
        let day = utc(clock::now())[..10].to_owned();
        Self { columns, gap, is_wide, is_fitted: terminal.is_some(), day, has_headings: false }
    }

    /// Prints one entry.
    pub(super) fn print(&mut self, output: &Output, entry: &Entry) -> Result<(), CommandError> {
        if self.is_fitted && !std::mem::replace(&mut self.has_headings, true) {
            let headings = self.columns.iter().map(|column| (column.heading.to_owned(), Some(Tone::Strong)));
            output.line(self.line(output, headings.collect()))?;
        }
        match serde_json::from_str::<PriorityEntry>(&entry.json) {
            Ok(read) => {
                self.day_of(output, read.received_at)?;
                self.line_of(output, |what| self.cell(output, what, &read))
            }
            Err(error) => {
                let at = written_at(entry.id);
                let why = format!("unreadable: {error}");
                self.day_of(output, at)?;
                self.line_of(output, |what| match what {
                    What::Time => (self.time(at), None),
                    What::Account => (output.text(&entry.account).into_owned(), None),
                    What::Text => (output.text(&why).into_owned(), Some(Tone::Bad)),
                    _ => (String::new(), None),
                })
            }
        }
    }

    /// Says which day it is, where the rows do not and it is another one than before.
    fn day_of(&mut self, output: &Output, at: Millis) -> Result<(), CommandError> {
        if !self.is_wide {
            let day = utc(at)[..10].to_owned();
            if day != self.day {
                output.line(output.tone(Tone::Faint, &format!("{day} UTC")))?;
                self.day = day;
            }
        }
        Ok(())
    }

    fn line_of(&self, output: &Output, cell: impl Fn(What) -> Cell) -> Result<(), CommandError> {
        output.line(self.line(output, self.columns.iter().map(|column| cell(column.what)).collect()))
    }

    fn line(&self, output: &Output, cells: Vec<Cell>) -> String {
        let mut line = String::new();
        let (mut owed, mut doubted) = (0, 0);
        for (column, (text, tone)) in self.columns.iter().zip(cells) {
            // What a terminal may have pushed aside before must not push the end of the line over its edge.
            let pushed = if column.what == What::Text { doubted } else { 0 };
            let room = column.width.saturating_sub(doubt(&text) + pushed);
            let text = if self.is_fitted { fit(&text, room).into_owned() } else { text };
            doubted += doubt(&text);
            let missing = column.width.saturating_sub(width(&text));
            let (before, after) = if column.what.is_right() { (missing, 0) } else { (0, missing) };
            if !text.is_empty() {
                line.extend(std::iter::repeat_n(' ', owed + before));
                line.push_str(&tone.map_or_else(|| text.clone(), |tone| output.tone(tone, &text)));
                owed = after + self.gap;
            } else {
                owed += before + after + self.gap;
            }
        }
        line
    }

    fn cell(&self, output: &Output, what: What, entry: &PriorityEntry) -> Cell {
        let safe = |text: &str| output.text(text).into_owned();
        match what {
            What::Time => (self.time(entry.received_at), None),
            What::Level => (entry.level.name().to_owned(), tone_of(entry.level)),
            What::Account => (safe(entry.account_id.raw()), None),
            What::Fan => self.fan(output, entry.fan.as_ref()),
            What::FanId => (entry.fan.as_ref().map(|fan| safe(fan.id.raw())).unwrap_or_default(), None),
            What::Tier => (entry.fan.as_ref().map(|fan| safe(&fan.tier)).unwrap_or_default(), None),
            What::Money => (entry.money.map(|paid| money(paid.minor)).unwrap_or_default(), Some(Tone::Good)),
            What::Text => self.text(output, entry),
            What::Reasons => (safe(&entry.reasons.join(", ")), None),
            What::Lag => (lag(entry.applied_at.since(entry.received_at)), Some(Tone::Faint)),
        }
    }

    fn time(&self, at: Millis) -> String {
        let text = utc(at);
        if self.is_wide { text } else { text[11..].to_owned() }
    }

    /// The name, or the id; behind it the tier where it has no column. The name gives way first. High-value stands out.
    fn fan(&self, output: &Output, fan: Option<&EntryFan>) -> Cell {
        let Some(fan) = fan else { return Cell::default() };
        let name = output.text(fan.name.as_ref().unwrap_or(&fan.id).raw());
        let tone = fan.high_value.then_some(Tone::Strong);
        if self.is_wide || fan.tier.is_empty() {
            return (name.into_owned(), tone);
        }
        let tier = output.text(&fan.tier);
        let whole = self.columns.iter().find(|column| column.what == What::Fan).map_or(0, |column| column.width);
        let room = whole.saturating_sub(width(&tier) + 1).max(whole / 2);
        (format!("{} {tier}", fit(&name, room)), tone)
    }

    /// What was written, behind the money where that has no column; the kind of event where neither is there.
    fn text(&self, output: &Output, entry: &PriorityEntry) -> Cell {
        let preview = entry.preview.as_ref().map(|preview| output.text(preview.raw()));
        let paid = entry.money.filter(|_| !self.is_wide).map(|paid| money(paid.minor));
        match (paid, preview) {
            (Some(paid), Some(preview)) => (format!("{paid} {preview}"), Some(Tone::Good)),
            (Some(paid), None) => (paid, Some(Tone::Good)),
            (None, Some(preview)) => (preview.into_owned(), None),
            (None, None) => (entry.event.kind.map_or("", |kind| kind.name()).to_owned(), Some(Tone::Faint)),
        }
    }
}

/// By how many columns a terminal may find a text wider than we do: where it draws an emoji's parts, or an Arabic ligature's, side by side.
fn doubt(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum::<usize>().saturating_sub(width(text))
}

const fn tone_of(level: Level) -> Option<Tone> {
    match level {
        Level::Urgent => Some(Tone::Bad),
        Level::High => Some(Tone::Warning),
        Level::Due => Some(Tone::Strong),
        Level::Low => Some(Tone::Faint),
    }
}

/// From the frame, or from the time at which a timer fell due, to Redis; at most five columns up to 11 years.
fn lag(ms: i64) -> String {
    match u64::try_from(ms).unwrap_or(0) {
        ms @ ..60_000 => duration(Duration::from_millis(ms)),
        ms => short(ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::output::ColorChoice;
    use crate::config::Environment;
    use crate::views::StreamId;

    fn entry(name: &str, preview: &str) -> PriorityEntry {
        serde_json::from_value(serde_json::json!({
            "level": "urgent", "reasons": ["tip", "high_value_message", "active_exchange"], "score": 1, "event": { "id": "e", "kind": "tip.received" },
            "account_id": "200000001", "fan": { "id": "100000001", "name": name, "tier": "whale", "high_value": true }, "preview": preview,
            "money": { "minor": 123_405, "basis": "gross" },
            "received_at": "2026-07-23T12:00:00.000Z", "applied_at": "2026-07-23T12:00:00.120Z",
        }))
        .unwrap()
    }

    fn lines(terminal: Option<usize>, entry: &PriorityEntry) -> String {
        let rows = Rows::new(terminal, true);
        let output = Output::new(ColorChoice::Never, &Environment::default(), false);
        rows.line(&output, rows.columns.iter().map(|column| rows.cell(&output, column.what, entry)).collect())
    }

    #[test]
    fn a_row_never_overruns_the_terminal() {
        let hostile = entry("你好\u{202e}\u{1b}[31m name that is much too long", &"a\nb\u{1b}]0;title\u{7} 👩‍👩‍👧 ".repeat(20));
        for columns in [60, 80, 99, 100, 131, 132, 200, 300] {
            let line = lines(Some(columns), &hostile);
            assert!(width(&line) <= columns, "{columns}: {} {line}", width(&line));
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(line.contains("120ms"), "{line}");
            // However a terminal draws an emoji's parts.
            let line = lines(Some(columns), &entry("👍🏽", &"many words ".repeat(30)));
            assert!(width(&line) + doubt(&line) <= columns, "{columns}: {line}");
        }
    }

    #[test]
    fn a_pipe_gets_everything() {
        let line = lines(None, &entry("Ann", &"many words ".repeat(30)));
        for text in [
            "2026-07-23 12:00:00",
            "100000001",
            "whale",
            "$1,234.05",
            "tip, high_value_message, active_exchange",
            &"many words ".repeat(29),
        ] {
            assert!(line.contains(text), "{text:?} is not in {line}");
        }
    }

    #[test]
    fn lags_are_short() {
        for (ms, expected) in
            [(-5, "0ms"), (999, "999ms"), (1_250, "1.2s"), (59_900, "59.9s"), (125_000, "2m"), (i64::MAX, "106751991167d")]
        {
            assert_eq!(lag(ms), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_row_too() {
        let output = Output::new(ColorChoice::Never, &Environment::default(), false);
        let mut rows = Rows::new(Some(80), true);
        rows.print(&output, &Entry { account: "a".into(), id: StreamId { ms: 5, seq: 0 }, json: "{}".into() }).unwrap();
        assert_eq!(rows.day, "1970-01-01");
    }
}
