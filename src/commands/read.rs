//! The read grammar: the options of every command that reads something, and what they mean.
//!
//! Owns: how times and lengths of time are typed. Invariant: the same option means the same in every command.

use std::sync::Arc;
use std::time::Duration;

use super::{CommandError, Exit};
use crate::schema::time::Millis;
use crate::transform::filter::Filter;

/// Options of a command that reads. Flatten it into the command's own.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "What to read")]
pub struct ReadArgs {
    /// Only this account; may be given several times
    #[arg(long = "account", value_name = "ID")]
    pub accounts: Vec<String>,
    /// From when: `10m` ago, `2026-07-23`, or `2026-07-23T12:00:00Z`
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<Moment>,
    /// Until when, this moment excluded
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<Moment>,
    /// Start with the newest N
    #[arg(long, value_name = "N", conflicts_with_all = ["since", "from_id"])]
    pub last: Option<u64>,
    /// Start after the one with this id
    #[arg(long, value_name = "ID", conflicts_with = "since")]
    pub from_id: Option<String>,
    /// Go on with what comes
    #[arg(short, long, conflicts_with_all = ["no_follow", "until"])]
    follow: bool,
    /// End with what is there
    #[arg(long)]
    no_follow: bool,
    /// End after N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End when nothing came for this long: `30s`, `5m`
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with_all = ["no_follow", "until"])]
    pub idle_timeout: Option<Duration>,
    /// End with exit 1 where something may have been missed
    #[arg(long)]
    pub strict: bool,
    /// End with exit 69 when Redis goes away, instead of waiting for it
    #[arg(long)]
    pub no_retry: bool,
    /// Only what this CEL expression holds for: `event.money_minor >= 5000` (docs/reading.md has the fields)
    #[arg(long, value_name = "CEL", value_parser = filter)]
    pub filter: Option<Arc<Filter>>,
    /// How to print it
    #[arg(short, long, value_name = "table|json|jsonl|raw", value_enum, default_value_t, hide_possible_values = true)]
    pub output: Format,
}

/// How records are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One indented JSON value.
    Json,
    /// One JSON value a line.
    Jsonl,
    /// What is stored, as it is stored, one record a line.
    Raw,
}

/// How a list of what is not stored as JSON is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ListFormat {
    /// For people.
    #[default]
    Table,
    /// One indented JSON value.
    Json,
    /// One JSON value a line.
    Jsonl,
}

/// A point in time as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This long before now.
    Ago(Duration),
    /// Then.
    At(Millis),
}

/// The span of time to read: from `since`, included, to `until`, excluded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// `None` for as far back as there is.
    pub since: Option<Millis>,
    /// `None` for no end.
    pub until: Option<Millis>,
}

impl ReadArgs {
    /// Whether to go on with what comes; `default` is what the command does where nothing was typed. `--until` and `--no-follow` end.
    #[must_use]
    pub const fn follows(&self, default: bool) -> bool {
        self.follow || (default && !self.no_follow && self.until.is_none())
    }

    /// Whether an account was asked for.
    #[must_use]
    pub fn wants_account(&self, account: &str) -> bool {
        self.accounts.is_empty() || self.accounts.iter().any(|wanted| wanted == account)
    }

    /// The span of time, counted from `now`.
    ///
    /// # Errors
    /// With [`Exit::Usage`] where it ends before it begins.
    pub fn window(&self, now: Millis) -> Result<Window, CommandError> {
        let window = Window { since: self.since.map(|since| since.resolve(now)), until: self.until.map(|until| until.resolve(now)) };
        match window {
            Window { since: Some(since), until: Some(until) } if since >= until => {
                Err(CommandError::new(Exit::Usage, format!("--since {since} is not before --until {until}")))
            }
            _ => Ok(window),
        }
    }
}

impl Moment {
    /// The point in time, counted from `now`.
    #[must_use]
    pub fn resolve(self, now: Millis) -> Millis {
        match self {
            Self::Ago(length) => now.plus(-i64::try_from(length.as_millis()).unwrap_or(i64::MAX)),
            Self::At(time) => time,
        }
    }
}

/// Reads and compiles a filter; the value parser of every `--filter`.
///
/// # Errors
/// What is wrong with it, and a caret under the place.
pub fn filter(typed: &str) -> Result<Arc<Filter>, String> {
    Filter::compile(typed).map(Arc::new).map_err(|error| error.pointed())
}

/// Reads a moment: a length of time before now, a date (its first moment in UTC), or an RFC 3339 time.
///
/// # Errors
/// What can be typed instead.
pub fn moment(typed: &str) -> Result<Moment, String> {
    if let Ok(length) = duration(typed) {
        return Ok(Moment::Ago(length));
    }
    let date = || (typed.len() == 10).then(|| Millis::parse(&format!("{typed}T00:00:00Z"))).flatten();
    Millis::parse(typed).or_else(date).map(Moment::At).ok_or_else(|| {
        "a moment is a length of time before now (`10m`), a date (`2026-07-23`) or a time (`2026-07-23T12:00:00Z`)".to_owned()
    })
}

/// Reads a length of time: whole numbers with a unit, `ms`, `s`, `m`, `h` or `d`, largest first: `90s`, `1h30m`.
///
/// # Errors
/// What can be typed instead, or that it is too long.
pub fn duration(typed: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let wrong = || "a length of time is a whole number and a unit, `ms`, `s`, `m`, `h` or `d`: `90s`, `1h30m`".to_owned();
    let mut total = Some(0u64);
    let (mut rest, mut smaller) = (typed, &UNITS[..]);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let letters = rest[digits..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |end| digits + end);
        let at = smaller.iter().position(|(unit, _)| *unit == &rest[digits..letters]).ok_or_else(wrong)?;
        let number = &rest[..digits];
        if number.is_empty() {
            return Err(wrong());
        }
        // Digits that do not fit are a number that is too large.
        total = total.and_then(|total| number.parse::<u64>().ok()?.checked_mul(smaller[at].1)?.checked_add(total));
        (rest, smaller) = (&rest[letters..], &smaller[at + 1..]);
    }
    match total {
        _ if typed.is_empty() => Err(wrong()),
        Some(ms) if ms <= LENGTH_MAX_MS => Ok(Duration::from_millis(ms)),
        _ => Err("a length of time is at most ten years".to_owned()),
    }
}

const LENGTH_MAX_MS: u64 = 3_660 * 86_400_000;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        read: ReadArgs,
    }

    fn typed(line: &str) -> Result<ReadArgs, clap::Error> {
        Typed::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).map(|typed| typed.read)
    }

    #[test]
    fn lengths_of_time() {
        for (text, expected) in [
            ("90s", Some(90_000)),
            ("10m", Some(600_000)),
            ("2h", Some(7_200_000)),
            ("7d", Some(604_800_000)),
            ("250ms", Some(250)),
            ("1h30m", Some(5_400_000)),
            ("1d2h3m4s5ms", Some(93_784_005)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("m", None),
            ("-5m", None),
            ("1.5h", None),
            ("5m1h", None),
            ("5m5m", None),
            ("5 m", None),
            ("5M", None),
            ("٣m", None),
            ("99999d", None),
            ("99999999999999999999999s", None),
        ] {
            assert_eq!(duration(text).ok().map(|length| length.as_millis()), expected, "{text:?}");
        }
    }

    #[test]
    fn moments() {
        let now = Millis::parse("2026-07-23T12:00:00Z").unwrap();
        for (text, expected) in [
            ("10m", "2026-07-23T11:50:00.000Z"),
            ("2026-07-20", "2026-07-20T00:00:00.000Z"),
            ("2026-07-20T10:00:00+02:00", "2026-07-20T08:00:00.000Z"),
        ] {
            assert_eq!(moment(text).unwrap().resolve(now).to_string(), expected, "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-7-1", "10", "2026-07-20T10:00"] {
            assert!(moment(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_typed_is_what_is_meant() {
        let args = typed("--account 1 --account 2 --since 1h --until 10m -o jsonl --count 3").unwrap();
        assert!(args.wants_account("2") && !args.wants_account("3"));
        assert_eq!((args.output, args.count, args.idle_timeout), (Format::Jsonl, Some(3), None));
        assert_eq!(typed("--follow --idle-timeout 5s").unwrap().idle_timeout, Some(Duration::from_secs(5)));
        let now = Millis(3_600_000);
        assert_eq!(args.window(now).unwrap(), Window { since: Some(Millis(0)), until: Some(Millis(3_000_000)) });
        assert_eq!(typed("--since 1m --until 1h").unwrap().window(now).unwrap_err().exit(), Exit::Usage);
        assert!(typed("").unwrap().wants_account("anybody"));
        for (line, default, expected) in [
            ("", true, true),
            ("", false, false),
            ("--follow", false, true),
            ("--no-follow", true, false),
            ("--until 1m", true, false),
            ("--strict --no-retry", true, true),
        ] {
            assert_eq!(typed(line).unwrap().follows(default), expected, "{line:?}, else {default}");
        }
        for line in [
            "--last 3 --since 1m",
            "--last 3 --from-id x",
            "--from-id x --since 1m",
            "--count 0",
            "--follow --until 1m",
            "--follow --no-follow",
            "--no-follow --follow",
            "--idle-timeout 5s --no-follow",
            "--idle-timeout 5s --until 1m",
            "-o yaml",
            "--filter event.txt==''",
        ] {
            assert!(typed(line).is_err(), "{line:?}");
        }
        let told = typed("--filter event.is_tip&&event.txt==''").unwrap_err().to_string();
        let expected =
            "--filter <CEL>': `event` has no field `txt`; did you mean `text`?\n\n  event.is_tip&&event.txt==''\n                      ^\n";
        assert!(told.contains(expected), "{told}");
        assert!(typed("--filter event.is_tip").unwrap().filter.is_some());
    }
}
