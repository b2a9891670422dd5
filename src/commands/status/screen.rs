//! How the picture looks: what is wrong first, then everything else, as wide as there is room for.

use std::time::Duration;

use super::Picture;
use super::judge::{Problem, Severity};
use super::numbers::{Refresh, Standing, State};
use super::views::Redis;
use crate::commands::output::{Output, Tone, ago, duration, number, utc, width};
use crate::schema::time::Millis;

/// Stands for what is not known.
const UNKNOWN: &str = "–";
/// Accounts that are told one by one.
const ACCOUNTS_MAX: usize = 12;
/// Columns between two cells.
const GUTTER: usize = 2;

/// The picture as lines for so many columns; however long, where there is no limit. `how` stands at the end of the first, where there is room.
pub(super) fn lines(output: &Output, picture: &Picture, columns: Option<usize>, how: &str) -> Vec<String> {
    let page = Page { output, columns };
    let mut lines = vec![page.headline(picture, how)];
    for problem in &picture.problems {
        lines.extend(page.problem(problem));
    }
    let mut tables = vec![page.daemons(&picture.daemons), page.ingest(&picture.daemons), page.consumers(&picture.daemons)];
    tables.push(
        picture
            .daemons
            .iter()
            .filter_map(|standing| standing.auth_refresh.as_ref())
            .flat_map(|refresh| page.tokens(refresh, picture.at))
            .collect(),
    );
    tables.push(page.redis(&picture.redis));
    tables.push(page.accounts(&picture.redis, picture.at));
    for table in tables.into_iter().filter(|table| !table.is_empty()) {
        lines.push(String::new());
        lines.extend(table);
    }
    lines
}

struct Page<'a> {
    output: &'a Output,
    columns: Option<usize>,
}

/// A column: its heading, and how dear it is: of those that do not fit, the one with the largest number goes first. 0 always stays.
#[derive(Clone, Copy)]
struct Column(&'static str, u8);

type Cell = (String, Option<Tone>);

fn plain(text: impl Into<String>) -> Cell {
    (text.into(), None)
}

impl Page<'_> {
    fn headline(&self, picture: &Picture, how: &str) -> String {
        let count = |severity| picture.problems.iter().filter(|problem| problem.severity == severity).count();
        let told = [(count(Severity::Fail), "to mend", Tone::Bad), (count(Severity::Warn), "to know", Tone::Warning)];
        let mut told: Vec<(String, Tone)> =
            told.into_iter().filter(|(count, ..)| *count > 0).map(|(count, what, tone)| (format!("{count} {what}"), tone)).collect();
        if told.is_empty() {
            told.push(("all is well".to_owned(), Tone::Good));
        }
        let when = format!("{} UTC", utc(picture.at));
        let taken = width(&when) + told.iter().map(|(text, _)| width(text) + GUTTER).sum::<usize>();
        let mut line = self.output.tone(Tone::Faint, &when);
        for (text, tone) in told {
            line.push_str("  ");
            line.push_str(&self.output.tone(tone, &text));
        }
        let space = self.columns.and_then(|columns| columns.checked_sub(taken + width(how)));
        if let Some(space) = space.filter(|space| *space >= GUTTER && !how.is_empty()) {
            line.push_str(&" ".repeat(space));
            line.push_str(&self.output.tone(Tone::Faint, how));
        }
        line
    }

    fn problem(&self, problem: &Problem) -> Vec<String> {
        let (word, tone) = match problem.severity {
            Severity::Fail => ("fail", Tone::Bad),
            Severity::Warn => ("warn", Tone::Warning),
            Severity::Note => ("note", Tone::Faint),
        };
        let whom = problem.address.as_ref().map_or_else(|| problem.about.to_owned(), |address| format!("{} {address}", problem.about));
        let text = self.output.text(&format!("{whom} {}", problem.what)).into_owned();
        let mut lines = Vec::new();
        for (at, line) in self.wrapped(&text, 6).into_iter().enumerate() {
            let front = if at == 0 { self.output.tone(tone, word) } else { "    ".to_owned() };
            lines.push(format!("{front}  {line}"));
        }
        for (at, line) in self.wrapped(&problem.advice, 8).into_iter().enumerate() {
            let front = if at == 0 { "      → " } else { "        " };
            lines.push(format!("{front}{}", self.output.tone(Tone::Strong, &line)));
        }
        lines
    }

    fn daemons(&self, daemons: &[Standing]) -> Vec<String> {
        const COLUMNS: [Column; 7] = [
            Column("daemon", 0),
            Column("at", 0),
            Column("state", 0),
            Column("up", 1),
            Column("version", 2),
            Column("memory", 3),
            Column("files", 4),
        ];
        let row = |standing: &Standing| {
            let (state, tone) = state(standing);
            let files = match (standing.open_files, standing.max_files) {
                (Some(open), Some(max)) => format!("{} of {}", number(open), number(max)),
                (open, _) => known(open.map(number)),
            };
            vec![
                plain(standing.daemon.name()),
                plain(known(standing.address.clone())),
                (state, tone),
                plain(known(standing.up.map(whole))),
                plain(known(standing.version.clone())),
                plain(known(standing.resident_bytes.map(mebibytes))),
                plain(files),
            ]
        };
        self.table(&COLUMNS, 3, &daemons.iter().map(row).collect::<Vec<_>>())
    }

    fn ingest(&self, daemons: &[Standing]) -> Vec<String> {
        const COLUMNS: [Column; 14] = [
            Column("ingest", 0),
            Column("frames/s", 0),
            Column("events/s", 1),
            Column("sent/s", 0),
            Column("buffer", 1),
            Column("live", 0),
            Column("gaps", 2),
            Column("failures", 3),
            Column("connecting", 4),
            Column("waiting", 4),
            Column("shed/s", 5),
            Column("rejected", 6),
            Column("publish p99", 7),
            Column("lost", 8),
        ];
        let row = |standing: &Standing| {
            let ingest = standing.ingest.as_ref()?;
            let buffer = ingest.buffer_bytes.zip(ingest.buffer_max_bytes.filter(|max| *max > 0));
            let all =
                ingest.live.zip(ingest.connecting).zip(ingest.waiting).map(|((live, connecting), waiting)| live + connecting + waiting);
            let live = ingest.live.zip(all).map(|(live, all)| format!("{} of {}", number(live), number(all)));
            let is_whole = ingest.live == all;
            Some(vec![
                plain(known(standing.address.clone())),
                plain(known(ingest.frames_per_s.map(rate))),
                plain(known(ingest.events_per_s.map(rate))),
                plain(known(ingest.published_per_s.map(rate))),
                plain(known(buffer.map(|(bytes, max)| format!("{}%", bytes.saturating_mul(100) / max)))),
                (known(live), (!is_whole).then_some(Tone::Warning)),
                plain(known(ingest.gaps.map(number))),
                plain(known(ingest.failures.map(number))),
                plain(known(ingest.connecting.map(number))),
                plain(known(ingest.waiting.map(number))),
                plain(known(ingest.shed_per_s.map(rate))),
                plain(known(ingest.rejected.map(number))),
                plain(known(ingest.publish_p99.map(at_most))),
                bad_above_zero(ingest.lost),
            ])
        };
        self.table(&COLUMNS, 1, &daemons.iter().filter_map(row).collect::<Vec<_>>())
    }

    fn consumers(&self, daemons: &[Standing]) -> Vec<String> {
        let several = daemons.iter().filter(|standing| !standing.consumers.is_empty()).count() > 1;
        let columns = [
            Column("snapshot", 0),
            Column("at", if several { 0 } else { 9 }),
            Column("written/s", 0),
            Column("backlog", 0),
            Column("oldest", 1),
            Column("lag p50", 2),
            Column("lag p99", 0),
            Column("conflicts", 3),
            Column("retries", 4),
            Column("redelivered", 5),
            Column("set aside", 6),
            Column("lost", 7),
        ];
        let mut rows = Vec::new();
        for standing in daemons {
            for consumer in &standing.consumers {
                rows.push(vec![
                    plain(consumer.consumer),
                    plain(known(standing.address.clone())),
                    plain(known(consumer.applied_per_s.map(rate))),
                    plain(known(consumer.backlog.map(number))),
                    plain(known(consumer.oldest_unacked.map(whole))),
                    plain(known(consumer.lag_p50.map(at_most))),
                    plain(known(consumer.lag_p99.map(at_most))),
                    plain(known(consumer.conflicts.map(number))),
                    plain(known(consumer.retries.map(number))),
                    plain(known(consumer.redelivered.map(number))),
                    plain(known(consumer.poison.map(number))),
                    bad_above_zero(consumer.lost),
                ]);
            }
        }
        self.table(&columns, 2, &rows)
    }

    fn tokens(&self, refresh: &Refresh, now: Millis) -> Vec<String> {
        let mut parts: Vec<String> =
            refresh.accounts.iter().map(|(standing, accounts)| format!("{} {standing}", number(*accounts))).collect();
        parts.extend(refresh.failing.filter(|failing| *failing > 0).map(|failing| format!("{} failing", number(failing))));
        let when = |at: Millis| ago(now.since(at));
        parts.extend(refresh.soonest_end.map(|at| format!("the first ends {}", when(at))));
        parts.extend(refresh.oldest_artifact.map(|at| format!("the oldest was made {}", when(at))));
        if parts.is_empty() { Vec::new() } else { self.told("artifacts", &parts.join(", ")) }
    }

    fn redis(&self, redis: &Redis) -> Vec<String> {
        let mut parts = vec![redis.address.clone()];
        match (redis.used_bytes, redis.max_bytes) {
            (Some(used), Some(max)) if max > 0 => {
                parts.push(format!("{} of {} ({}%)", number(used >> 20), mebibytes(max), used.saturating_mul(100) / max));
            }
            (Some(used), _) => parts.push(format!("{}, no limit", mebibytes(used))),
            (None, _) if redis.fault.is_none() => parts.push("its memory may not be asked for".to_owned()),
            (None, _) => parts.push("no answer".to_owned()),
        }
        parts.extend(redis.commands_per_s.map(|commands| format!("{} commands/s", number(commands))));
        parts.extend(redis.evicted_keys.map(|keys| format!("{} evicted", number(keys))));
        self.told("redis", &parts.join(", "))
    }

    fn accounts(&self, redis: &Redis, now: Millis) -> Vec<String> {
        if redis.fault.is_some() {
            return Vec::new();
        }
        let accounts = &redis.accounts;
        let parts =
            [("opened", accounts.opened), ("closed", accounts.closed), ("silent", accounts.silent), ("not known", accounts.unknown)];
        let parts = parts.into_iter().filter(|(name, count)| *name == "opened" || *count > 0);
        let parts: Vec<String> = parts.map(|(name, count)| format!("{} {name}", number(count as u64))).collect();
        let mut lines = self.told("accounts", &parts.join(", "));
        if accounts.noted.is_empty() {
            return lines;
        }
        const COLUMNS: [Column; 4] = [Column("account", 0), Column("state", 0), Column("since", 0), Column("reason", 1)];
        let rows = accounts.noted.iter().take(ACCOUNTS_MAX).map(|noted| {
            let tone = match noted.severity {
                Severity::Fail => Some(Tone::Bad),
                Severity::Warn => Some(Tone::Warning),
                Severity::Note => None,
            };
            let reason = noted.reason.clone().unwrap_or_default();
            vec![plain(&*noted.account), (noted.state.clone(), tone), plain(ago(now.since(noted.since))), plain(reason)]
        });
        lines.extend(self.table(&COLUMNS, usize::MAX, &rows.collect::<Vec<_>>()));
        lines
    }

    /// A heading and a sentence behind it.
    fn told(&self, heading: &str, text: &str) -> Vec<String> {
        let indent = heading.len() + GUTTER;
        let text = self.output.text(text).into_owned();
        let lines = self.wrapped(&text, indent).into_iter().enumerate();
        let front = |at| if at == 0 { self.output.tone(Tone::Strong, &heading.to_uppercase()) + "  " } else { " ".repeat(indent) };
        lines.map(|(at, line)| front(at) + &line).collect()
    }

    /// The columns that there is room for; those from `numbers` on are aligned to the right.
    fn table(&self, columns: &[Column], numbers: usize, rows: &[Vec<Cell>]) -> Vec<String> {
        if rows.is_empty() {
            return Vec::new();
        }
        let wide = |at: usize| rows.iter().map(|row| width(&row[at].0)).chain([width(columns[at].0)]).max().unwrap_or(0) + GUTTER;
        let mut kept: Vec<usize> = (0..columns.len()).collect();
        while let Some(limit) = self.columns
            && kept.iter().map(|at| wide(*at)).sum::<usize>() > limit
        {
            let Some(least) = kept.iter().copied().filter(|at| columns[*at].1 > 0).max_by_key(|at| columns[*at].1) else { break };
            kept.retain(|at| *at != least);
        }
        let headings: Vec<&str> = kept.iter().map(|at| columns[*at].0).collect();
        let mut table = self.output.table_within(&headings, self.columns);
        for (place, at) in kept.iter().enumerate() {
            if *at >= numbers {
                table = table.right(place);
            }
        }
        for row in rows {
            table.toned(kept.iter().map(|at| (row[*at].0.as_str(), row[*at].1)));
        }
        table.lines().collect()
    }

    /// Safe text in lines that fit behind an indent.
    fn wrapped(&self, text: &str, indent: usize) -> Vec<String> {
        let Some(limit) = self.columns else { return vec![text.to_owned()] };
        let limit = limit.saturating_sub(indent).max(10);
        let mut lines: Vec<String> = Vec::new();
        for word in text.split(' ') {
            match lines.last_mut() {
                Some(line) if width(line) + 1 + width(word) <= limit => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines.iter().map(|line| crate::commands::output::fit(line, limit).into_owned()).collect()
    }
}

fn state(standing: &Standing) -> (String, Option<Tone>) {
    let (word, tone) = match standing.state {
        State::Ready => ("ready", Some(Tone::Good)),
        State::NotReady => ("not ready", Some(Tone::Warning)),
        State::Stalled => ("stalled", Some(Tone::Bad)),
        State::Down if standing.is_expected => ("down", Some(Tone::Bad)),
        State::Down => ("not running", Some(Tone::Faint)),
        State::Hangs => ("hangs", Some(Tone::Bad)),
        State::Foreign => ("not convpipe's", Some(Tone::Bad)),
        State::Off => ("not asked", Some(Tone::Faint)),
    };
    (word.to_owned(), tone)
}

fn known(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.to_owned())
}

fn bad_above_zero(count: Option<u64>) -> Cell {
    (known(count.map(number)), count.filter(|count| *count > 0).map(|_| Tone::Bad))
}

/// A rate a second: one decimal where it is small.
fn rate(per_s: f64) -> String {
    if per_s == 0.0 {
        return "0".to_owned();
    }
    if per_s < 10.0 { format!("{per_s:.1}") } else { number(per_s.round() as u64) }
}

/// A length of time without its fractions.
fn whole(length: Duration) -> String {
    match length.as_secs() {
        0 => "0s".to_owned(),
        seconds => duration(Duration::from_secs(seconds)),
    }
}

/// The bound of a bucket.
fn at_most(length: Duration) -> String {
    match length {
        Duration::MAX => ">5m".to_owned(),
        // Of the bounds, only 2.5 ms is no whole number of them.
        length if length.subsec_micros() % 1_000 != 0 => format!("≤{:.1}ms", length.as_secs_f64() * 1000.0),
        length => format!("≤{}", duration(length)),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", number(bytes >> 20))
}
