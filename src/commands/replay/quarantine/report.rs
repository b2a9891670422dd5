//! What lies in the quarantine, counted, for people and for scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Counted, Verdict, Wanted};
use crate::commands::CommandError;
use crate::commands::output::{Output, Tone, fit, number, utc};
use crate::commands::read::Format;
use crate::daemons::playback::{Group, Record, Refused};
use crate::schema::time::Millis;

/// Samples of one group.
const SAMPLES_MAX: usize = 3;
/// Columns of a sample's text where no terminal says how many there are.
const SAMPLE_COLUMNS: usize = 120;

/// The records of a span of time.
#[derive(Serialize)]
pub(super) struct Report<'r> {
    records: u64,
    /// Whether more lie there than were looked at.
    more: bool,
    groups: Vec<Counting<'r>>,
    #[serde(skip)]
    fed: Vec<&'r Record>,
    #[serde(skip)]
    counted: Counted,
}

/// The records of one group.
#[derive(Serialize)]
struct Counting<'r> {
    #[serde(flatten)]
    group: &'r Group,
    records: u64,
    bytes: u64,
    oldest: Millis,
    newest: Millis,
    /// How many can be fed back.
    readable: u64,
    /// How many can, and are not asked for.
    unwanted: u64,
    /// Why the others cannot, by reason.
    still: BTreeMap<String, u64>,
    samples: Vec<Sample<'r>>,
}

#[derive(Serialize)]
struct Sample<'r> {
    received_at: Millis,
    connection: &'r str,
    frame_no: u64,
    /// What was wrong with it.
    detail: &'r str,
    /// What still is.
    still: Option<Refused>,
    /// The beginning of it.
    text: &'r str,
}

impl<'r> Report<'r> {
    pub(super) fn new(records: &'r [Record], is_all: bool, wanted: &Wanted<'_>) -> Self {
        let mut groups: BTreeMap<&Group, Counting<'r>> = BTreeMap::new();
        let (mut counted, mut fed) = (Counted::default(), Vec::new());
        for record in records {
            if !wanted.is_in_window(record) {
                counted.outside += 1;
                continue;
            }
            counted.seen += 1;
            let group = groups.entry(&record.group).or_insert_with(|| Counting::new(record));
            group.records += 1;
            group.bytes += record.bytes;
            group.oldest = group.oldest.min(record.received_at);
            group.newest = group.newest.max(record.received_at);
            let still = match wanted.verdict(record) {
                Verdict::Fed(_) => {
                    counted.fed += 1;
                    group.readable += 1;
                    fed.push(record);
                    None
                }
                Verdict::Unwanted => {
                    counted.unwanted += 1;
                    group.unwanted += 1;
                    None
                }
                Verdict::Refused(refused) => {
                    counted.refused += 1;
                    *group.still.entry(refused.reason.clone()).or_default() += 1;
                    Some(refused)
                }
            };
            if group.samples.len() < SAMPLES_MAX {
                group.samples.push(Sample::of(record, still));
            }
        }
        Self { records: counted.seen, more: !is_all, groups: groups.into_values().collect(), fed, counted }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) const fn records(&self) -> u64 {
        self.records
    }

    pub(super) const fn counted(&self) -> Counted {
        self.counted
    }

    /// Those that can be fed back.
    pub(super) fn fed(&self) -> impl Iterator<Item = &'r Record> {
        self.fed.iter().copied()
    }

    pub(super) fn print(&self, output: &Output, format: Format, with_samples: bool) -> Result<(), CommandError> {
        match format {
            Format::Json => return output.json(&serde_json::json!({ "quarantine": self })),
            Format::Jsonl | Format::Raw => return self.groups.iter().try_for_each(|group| output.json_line(group)),
            Format::Table => {}
        }
        let mut table = output.table(&["stage", "reason", "source", "account", "records", "readable", "bytes", "oldest", "newest"]);
        table = table.right(4).right(5).right(6);
        for group in &self.groups {
            let Group { stage, reason, source, account } = group.group;
            let (records, readable, bytes) = (number(group.records), number(group.readable), number(group.bytes));
            let (oldest, newest) = (utc(group.oldest), utc(group.newest));
            let tone = (group.readable > 0).then_some(Tone::Good);
            let plain = |text| (text, None);
            table.toned([
                plain(stage.as_str()),
                plain(reason),
                plain(source),
                plain(account),
                plain(&records),
                (readable.as_str(), tone),
                plain(&bytes),
                plain(&oldest),
                plain(&newest),
            ]);
        }
        output.print(&table)?;
        if with_samples {
            self.groups.iter().try_for_each(|group| group.samples(output))?;
        }
        if self.more {
            output.note(format!("these are the first {}; more lie behind them", number(self.records)));
        }
        Ok(())
    }
}

impl<'r> Counting<'r> {
    fn new(first: &'r Record) -> Self {
        Self {
            group: &first.group,
            records: 0,
            bytes: 0,
            oldest: first.received_at,
            newest: first.received_at,
            readable: 0,
            unwanted: 0,
            still: BTreeMap::new(),
            samples: Vec::new(),
        }
    }

    fn samples(&self, output: &Output) -> Result<(), CommandError> {
        let Group { reason, source, account, .. } = self.group;
        let heading = format!("{} {} {}", output.text(reason), output.text(source), output.text(account));
        output.line("")?;
        output.line(output.tone(Tone::Strong, &heading))?;
        let columns = output.width().unwrap_or(SAMPLE_COLUMNS).saturating_sub(4).max(20);
        for sample in &self.samples {
            let connection = output.text(sample.connection);
            output.line(format!("  {} connection {connection} frame {}", utc(sample.received_at), sample.frame_no))?;
            output.line(format!("    was: {}", output.text(sample.detail)))?;
            let now =
                sample.still.as_ref().map_or_else(|| "it can be read".to_owned(), |still| format!("{}, {}", still.reason, still.detail));
            output.line(format!("    now: {}", output.text(&now)))?;
            output.line(format!("    {}", output.tone(Tone::Faint, &fit(&output.text(sample.text), columns))))?;
        }
        Ok(())
    }
}

impl<'r> Sample<'r> {
    fn of(record: &'r Record, still: Option<Refused>) -> Self {
        let (connection, frame_no) = record.place();
        Self { received_at: record.received_at, connection, frame_no, detail: &record.detail, still, text: &record.sample }
    }
}
