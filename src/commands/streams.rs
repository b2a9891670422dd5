//! Streams of the views, read as the read grammar says: where to begin, how to print, when to end.
//!
//! Owns what `tail-priority` and `inspect-fan --events` have in common. Does not own how a row looks, nor how a stream is followed
//! ([`crate::views::Follower`]). Invariants: every batch is handed to the reader before more is waited for; what may have been missed is
//! told; the end says from where to go on.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::accounts;
use super::output::{Output, Tone, duration, json_safe};
use super::read::{Format, ReadArgs, Window};
use super::{CommandError, Context, Exit};
use crate::config::{Config, RedisConfig};
use crate::runtime::clock;
use crate::runtime::shutdown::Shutdown;
use crate::schema::time::Millis;
use crate::transform::filter::Failures;
use crate::views::{Follow, FollowItem, Followed, Follower, GapCause, Reader, Start, StreamId, StreamRange};

/// How far several streams may be apart when one id stands for all of them: a new account is noticed within a second.
const APART_MS: u64 = 2_000;

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// The account whose stream it stands in.
    pub(super) account: String,
    /// Where it stands.
    pub(super) id: StreamId,
    /// Its JSON, as it is stored.
    pub(super) json: String,
}

/// What to read.
pub(super) struct Reading<'a> {
    /// Which stream of each account.
    pub(super) what: Followed,
    /// As it was typed.
    pub(super) read: &'a ReadArgs,
    /// Whether to go on with what comes, where nothing was typed.
    pub(super) follows: bool,
    /// With how many of the newest to begin, where nothing was typed; with all where absent.
    pub(super) last: Option<u64>,
    /// Which entries are wanted, `--filter` included; all where absent.
    pub(super) wanted: Option<&'a dyn Fn(&Entry) -> bool>,
    /// Prints one entry as a row.
    pub(super) row: &'a mut dyn FnMut(&Output, &Entry) -> Result<(), CommandError>,
    /// What to say where there was no entry.
    pub(super) nothing: &'a str,
}

/// Why reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything that was there is printed.
    There,
    /// What comes is past `--until`.
    Until,
    /// `--count` is reached.
    Count,
    /// Nothing came for `--idle-timeout`.
    Idle,
    /// Something may have been missed, and `--strict` wants none of that.
    Gap,
    /// A signal.
    Stopped,
}

/// Reads and prints until there is a reason to end.
///
/// # Errors
/// What Redis fails with; while following, only what waiting does not mend.
pub(super) async fn run<'a>(context: &'a Context, config: &Config, reading: Reading<'a>) -> Result<Exit, CommandError> {
    let read = reading.read;
    let window = read.window(clock::now())?;
    let follows = read.follows(reading.follows);
    let redis = &config.redis;
    let unknown = match &read.accounts[..] {
        [] => None,
        typed => accounts::unknown(config, typed, accounts::of_redis(&Reader::open(redis)?, typed).await?),
    };
    let begin = begin(redis, &reading, window).await?;
    let follow = Follow { what: reading.what.clone(), accounts: read.accounts.clone(), start: begin.start, retry: !read.no_retry };
    let mut follower = Follower::open(redis, follow)?;
    // Without a follower's clean end a signal ends the process as it ends any.
    let shutdown = if follows { Some(super::listen()?) } else { None };
    let output = context.output();
    let pace = (follows && context.globals().verbose > 0).then(Pace::new);
    let mut tail = Tail { output, reading, skip: begin.skip, until: window.until, shown: 0, last: None, has_array: false, pace, failed: 0 };
    if let Some(unknown) = &unknown {
        // One that is going to be is waited for; a mistake is seen at once.
        output.note(format!("{}{}", unknown.told(), if follows { "; waiting for it" } else { "" }));
    }
    let outcome = tail.run(&mut follower, shutdown.as_ref()).await;
    let exit = tail.conclude(outcome)?;
    Ok(if unknown.is_some() && !follows { Exit::Finding } else { exit })
}

/// Where to begin.
struct Begin {
    start: Start,
    /// What comes before this, by id and account, is not wanted.
    skip: Option<(StreamId, String)>,
}

async fn begin(redis: &RedisConfig, reading: &Reading<'_>, window: Window) -> Result<Begin, CommandError> {
    let read = reading.read;
    let at = |start| Ok(Begin { start, skip: None });
    if let Some(typed) = &read.from_id {
        let id = typed.parse().map_err(|error| CommandError::new(Exit::Usage, format!("--from-id {typed:?}: {error}")))?;
        return at(Start::AfterId(id));
    }
    if let Some(since) = window.since {
        return at(Start::Since(since));
    }
    let default = reading.last.filter(|_| window.until.is_none());
    let Some(count) = read.last.or(default) else { return at(Start::Since(Millis(0))) };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count == 0 || (reading.wanted.is_none() && window.until.is_none()) {
        return at(Start::Last(count));
    }
    let first = newest(&Reader::open(redis)?, reading, window.until, count).await?;
    // Where nothing is wanted of what is there, all of it is passed over, so that nothing is missed that comes meanwhile.
    let start = first.as_ref().map_or(Millis(0), |(id, _)| written_at(*id));
    Ok(Begin { start: Start::Since(start), skip: first })
}

/// The first of the newest `count` entries that are wanted, over all accounts. A stream is read back only as far as it takes.
async fn newest(
    reader: &Reader,
    reading: &Reading<'_>,
    until: Option<Millis>,
    count: usize,
) -> Result<Option<(StreamId, String)>, CommandError> {
    let accounts = match &reading.read.accounts[..] {
        [] => reader.accounts().await?.into_iter().map(|(account, _)| account).collect(),
        typed => typed.to_vec(),
    };
    let mut newest = std::collections::BTreeSet::new();
    for account in accounts {
        let mut asked = count.max(64);
        let wanted = loop {
            let range = StreamRange::Last(asked);
            let entries = match &reading.what {
                Followed::Priority => reader.priority(&account, range).await?,
                Followed::FanEvents(fan) => reader.fan_events(&account, fan, range).await?,
            };
            let is_all = entries.len() < asked;
            let entries = entries.into_iter().map(|entry| Entry { account: account.clone(), id: entry.id, json: entry.json });
            let wanted: Vec<_> = entries.filter(|entry| is_before(entry.id, until) && reading.wants(entry)).map(|entry| entry.id).collect();
            if is_all || wanted.len() >= count {
                break wanted;
            }
            asked = asked.saturating_mul(8);
        };
        newest.extend(wanted.into_iter().map(|id| (id, account.clone())));
        while newest.len() > count {
            newest.pop_first();
        }
    }
    Ok(newest.pop_first())
}

/// Says that a filter left out what it could not be worked out for.
pub(super) fn tell_failures(output: &Output, failures: Failures<'_>) {
    let (count, why) = (failures.count, output.text(failures.first));
    let told = format!("the filter could not be worked out for {count} of them, which are left out; the first: {why}");
    output.note(output.note_tone(Tone::Warning, &told));
}

/// When Redis wrote an entry, by its own clock.
pub(super) fn written_at(id: StreamId) -> Millis {
    Millis(i64::try_from(id.ms).unwrap_or(i64::MAX))
}

fn is_before(id: StreamId, until: Option<Millis>) -> bool {
    until.is_none_or(|until| u64::try_from(until.0).is_ok_and(|until| id.ms < until))
}

impl Reading<'_> {
    fn wants(&self, entry: &Entry) -> bool {
        self.wanted.is_none_or(|wanted| wanted(entry))
    }
}

/// Reading under way.
struct Tail<'a> {
    output: &'a Output,
    reading: Reading<'a>,
    skip: Option<(StreamId, String)>,
    until: Option<Millis>,
    shown: u64,
    last: Option<StreamId>,
    /// `-o json`: the array is open.
    has_array: bool,
    /// With `-v`, while following.
    pace: Option<Pace>,
    /// Entries that the filter could not be worked out for.
    failed: u64,
}

impl Tail<'_> {
    async fn run(&mut self, follower: &mut Follower, shutdown: Option<&Shutdown>) -> Result<End, CommandError> {
        let mut stopped = pin!(async {
            match shutdown {
                Some(shutdown) => shutdown.requested().await,
                None => std::future::pending().await,
            }
        });
        loop {
            let item = tokio::select! {
                biased;
                () = &mut stopped => return Ok(End::Stopped),
                item = follower.next_there() => item?,
            };
            let Some(item) = item else { break };
            if let Some(end) = self.take(item)? {
                return Ok(end);
            }
        }
        if shutdown.is_none() {
            return Ok(End::There);
        }
        // What was there already says nothing of how it comes.
        self.pace = self.pace.take().map(|_| Pace::new());
        let mut reader_gone = pin!(self.output.reader_gone());
        let mut idle_since = Instant::now();
        loop {
            let shown = self.shown;
            let mut next = pin!(follower.next());
            // Whatever came with the same read comes at once. Only before a wait is there a reason to flush.
            let item = if let Some(item) = next.as_mut().now_or_never() {
                item?
            } else {
                self.output.flush()?;
                tokio::select! {
                    biased;
                    () = &mut stopped => return Ok(End::Stopped),
                    () = &mut reader_gone => return Err(CommandError::reader_gone()),
                    item = next => item?,
                    () = idle(idle_since, self.reading.read.idle_timeout) => return Ok(End::Idle),
                    () = Pace::due(self.pace.as_ref()) => {
                        if let Some(pace) = &mut self.pace {
                            self.output.note(self.output.note_tone(Tone::Faint, &pace.told()));
                        }
                        continue;
                    }
                }
            };
            if let Some(end) = self.take(item)? {
                return Ok(end);
            }
            if self.shown > shown {
                idle_since = Instant::now();
            }
        }
    }

    /// Prints what came; the reason to end, if it is one.
    fn take(&mut self, item: FollowItem) -> Result<Option<End>, CommandError> {
        match item {
            FollowItem::Entry { account, id, json } => return self.entry(&Entry { account, id, json }),
            FollowItem::Gap { account, after, next, cause } => {
                self.gap(&account, after, next, cause)?;
                return Ok(self.reading.read.strict.then_some(End::Gap));
            }
            FollowItem::Reconnecting(error) => {
                self.note(Tone::Warning, &format!("redis is gone, waiting ({})", self.output.text(&error.to_string())))?;
            }
            FollowItem::Reconnected => self.note(Tone::Good, "redis is back")?,
        }
        Ok(None)
    }

    fn entry(&mut self, entry: &Entry) -> Result<Option<End>, CommandError> {
        if !is_before(entry.id, self.until) {
            return Ok(Some(End::Until));
        }
        self.last = self.last.max(Some(entry.id));
        let is_skipped = self.skip.as_ref().is_some_and(|(id, account)| (entry.id, &entry.account) < (*id, account));
        if is_skipped || !self.wants(entry)? {
            return Ok(None);
        }
        match self.reading.read.output {
            Format::Table => (self.reading.row)(self.output, entry)?,
            Format::Raw => self.output.stored(&entry.json)?,
            Format::Json | Format::Jsonl => self.record(&with_id(entry))?,
        }
        self.shown += 1;
        if let Some(pace) = &mut self.pace {
            pace.note(entry, clock::now());
        }
        Ok((self.reading.read.count == Some(self.shown)).then_some(End::Count))
    }

    /// Whether it is wanted. The first for which the filter cannot be worked out is told at once: an expression may never hold for that alone.
    fn wants(&mut self, entry: &Entry) -> Result<bool, CommandError> {
        let filter = self.reading.read.filter.as_ref();
        let failed = || filter.and_then(|filter| filter.failures()).map_or(0, |failures| failures.count);
        let (before, wants) = (failed(), self.reading.wants(entry));
        if failed() > before {
            self.failed += 1;
            if let Some(failures) = filter.and_then(|filter| filter.failures()).filter(|_| self.failed == 1) {
                let told = format!("the filter cannot be worked out for an entry, which is left out: {}", self.output.text(failures.first));
                self.note(Tone::Warning, &told)?;
            }
        }
        Ok(wants)
    }

    fn gap(&mut self, account: &str, after: StreamId, next: Option<StreamId>, cause: GapCause) -> Result<(), CommandError> {
        match self.reading.read.output {
            Format::Json | Format::Jsonl => {
                let cause = match cause {
                    GapCause::Trimmed => "trimmed",
                    GapCause::Emptied => "emptied",
                };
                let (after, next) = (after.to_string(), next.map(|id| id.to_string()));
                let gap = serde_json::json!({ "gap": { "account_id": account, "after": after, "next": next, "cause": cause } });
                self.record(&gap.to_string())
            }
            Format::Table | Format::Raw => {
                let account = self.output.text(account);
                let told = match cause {
                    GapCause::Trimmed => format!("gap: account {account}: entries after {after} went before they could be read"),
                    GapCause::Emptied => format!("gap: account {account}: redis was emptied; what came after {after} may be missing"),
                };
                self.note(Tone::Warning, &told)
            }
        }
    }

    /// Prints one JSON object.
    fn record(&mut self, json: &str) -> Result<(), CommandError> {
        if self.reading.read.output == Format::Jsonl {
            return self.output.line(json_safe(json));
        }
        let value: serde_json::Value = serde_json::from_str(json).map_err(|error| CommandError::of(Exit::BadData, &error))?;
        let indented = serde_json::to_string_pretty(&value).map_err(|error| CommandError::of(Exit::BadData, &error))?;
        let before = if std::mem::replace(&mut self.has_array, true) { ",\n  " } else { "[\n  " };
        // A line break stands only between tokens, never in a string.
        self.output.bytes(format!("{before}{}", json_safe(&indented).replace('\n', "\n  ")).as_bytes())
    }

    /// Says something on stderr, in order with what is printed.
    fn note(&self, tone: Tone, text: &str) -> Result<(), CommandError> {
        self.output.flush()?;
        self.output.note(self.output.note_tone(tone, text));
        Ok(())
    }

    fn conclude(self, outcome: Result<End, CommandError>) -> Result<Exit, CommandError> {
        let reader_is_gone = outcome.as_ref().is_err_and(|error| error.exit() == Exit::Done);
        if reader_is_gone {
            return outcome.map(|_| Exit::Done);
        }
        if self.reading.read.output == Format::Json {
            self.output.bytes(if self.has_array { b"\n]\n" } else { b"[]\n" })?;
        }
        self.output.flush()?;
        if self.failed > 1 {
            let told = format!("the filter could not be worked out for {} entries", self.failed);
            self.output.note(self.output.note_tone(Tone::Warning, &told));
        }
        let found_nothing = matches!(outcome, Ok(End::There | End::Until | End::Idle)) && self.shown == 0;
        if found_nothing {
            self.output.note(self.reading.nothing);
        }
        if let Some(told) = self.resume() {
            self.output.note(self.output.note_tone(Tone::Faint, &told));
        }
        outcome.map(|end| if found_nothing || end == End::Gap { Exit::Finding } else { Exit::Done })
    }

    /// How to go on after what was read. Streams are written side by side, so that one id for several is a lower bound a little earlier.
    fn resume(&self) -> Option<String> {
        let read = self.reading.read;
        match (self.last, &read.from_id) {
            (Some(last), _) if read.accounts.len() == 1 => Some(format!("last id {last}; --from-id {last} goes on after it")),
            (Some(last), _) => {
                let bound = StreamId { ms: last.ms.saturating_sub(APART_MS), seq: 0 };
                Some(format!("last id {last}; --from-id {bound} goes on, the last {} s again", APART_MS / 1000))
            }
            (None, Some(typed)) => Some(format!("nothing after {typed}; the same --from-id goes on")),
            (None, None) => None,
        }
    }
}

/// How much comes, and how late: for stderr, now and then.
struct Pace {
    since: Instant,
    count: u64,
    worst_ms: i64,
}

impl Pace {
    const EVERY: Duration = Duration::from_secs(5);

    fn new() -> Self {
        Self { since: Instant::now(), count: 0, worst_ms: 0 }
    }

    /// Waits until it is to be told; for ever where there is none.
    async fn due(pace: Option<&Self>) {
        match pace {
            Some(pace) => tokio::time::sleep_until(pace.since + Self::EVERY).await,
            None => std::future::pending().await,
        }
    }

    /// An entry that is shown now.
    fn note(&mut self, entry: &Entry, now: Millis) {
        self.count += 1;
        self.worst_ms = self.worst_ms.max(now.since(written_at(entry.id)));
    }

    fn told(&mut self) -> String {
        let (count, elapsed) = (self.count, self.since.elapsed());
        let per_s = rate(count, elapsed);
        let behind = duration(Duration::from_millis(u64::try_from(self.worst_ms).unwrap_or(0)));
        *self = Self::new();
        format!("{count} in {}, {per_s}/s; at most {behind} behind Redis", duration(elapsed))
    }
}

fn rate(count: u64, elapsed: Duration) -> String {
    let ms = elapsed.as_millis().max(1);
    let tenths = u128::from(count) * 10_000 / ms;
    format!("{}.{}", tenths / 10, tenths % 10)
}

async fn idle(since: Instant, timeout: Option<Duration>) {
    match timeout.and_then(|timeout| since.checked_add(timeout)) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The stored object with its `stream_id`; what is no object stands in one as a text.
pub(super) fn with_id(entry: &Entry) -> String {
    let object = serde_json::from_str::<&RawValue>(&entry.json).ok().and_then(|json| json.get().strip_prefix('{')?.strip_suffix('}'));
    match object.map(str::trim_end) {
        Some(fields) => {
            let comma = if fields.trim_start().is_empty() { "" } else { "," };
            format!("{{{fields}{comma}\"stream_id\":\"{}\"}}", entry.id)
        }
        None => {
            let (account, id) = (&entry.account, entry.id.to_string());
            serde_json::json!({ "account_id": account, "stream_id": id, "unreadable": entry.json }).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_gets_its_id_and_stays_as_it_is() {
        let id = StreamId { ms: 7, seq: 1 };
        for (json, expected) in [
            (r#"{"b":1,"a":{"x":"}"}}"#, r#"{"b":1,"a":{"x":"}"},"stream_id":"7-1"}"#),
            (r#" { "b" : 1 } "#, r#"{ "b" : 1,"stream_id":"7-1"}"#),
            ("{ }", r#"{"stream_id":"7-1"}"#),
            ("[1]", r#"{"account_id":"a","stream_id":"7-1","unreadable":"[1]"}"#),
            ("{", r#"{"account_id":"a","stream_id":"7-1","unreadable":"{"}"#),
        ] {
            assert_eq!(with_id(&Entry { account: "a".into(), id, json: json.into() }), expected);
        }
    }

    #[test]
    fn until_is_excluded() {
        let id = StreamId { ms: 7, seq: 1 };
        for (until, expected) in [(None, true), (Some(8), true), (Some(7), false), (Some(-1), false)] {
            assert_eq!(is_before(id, until.map(Millis)), expected, "{until:?}");
        }
    }
}
