//! A fan as a page for people.
//!
//! Invariants: no line is wider than the terminal, what is longer goes on below itself; no text of strangers is shown unescaped; what
//! is not known is not shown, and never as zero.

use super::report::{Report, Section, State};
use super::wrap::wrap;
use crate::commands::CommandError;
use crate::commands::output::{Output, Tone, ago, criterion, fit, money, number, short, utc};
use crate::commands::streams::{Entry, written_at};
use crate::schema::document::{FanSummary, MessageDocument};
use crate::schema::event::{Basis, Direction, Event, ReportedSpend, Subscription, SubscriptionState};
use crate::schema::text::OwnedText;
use crate::schema::time::Millis;
use crate::schema::view::{ConversationSnapshot, FanView, GapView, HighValue, LastPpv, PpvState, SpendTotals};

/// How long "online" is believed: three heartbeats of the account. The platform never says "offline".
const ONLINE_MS: i64 = 60_000;
/// Columns before a value.
const LABEL: usize = 18;
/// Columns before the text of a message: time and direction.
const STAMP: usize = 2 + 19 + 2 + 5;
/// Fewest columns that a text is squeezed into.
const TEXT_MIN: usize = 20;

/// Every account's page.
pub(super) fn overviews(output: &Output, reports: &[Report], now: Millis) -> Result<(), CommandError> {
    each(reports, output, |report| {
        let page = Page { output, now };
        page.heading(report)?;
        page.snapshot(report)?;
        page.summary(report)?;
        page.messages(report)?;
        if page.section(report, Section::Events)? {
            report.events.iter().try_for_each(|entry| event(output, entry))?;
        }
        Ok(())
    })
}

/// Every account's messages.
pub(super) fn histories(output: &Output, reports: &[Report], now: Millis) -> Result<(), CommandError> {
    each(reports, output, |report| {
        let page = Page { output, now };
        page.heading(report)?;
        page.messages(report)
    })
}

/// One event of the high-value stream, as a row.
pub(super) fn event(output: &Output, entry: &Entry) -> Result<(), CommandError> {
    let (at, text) = match serde_json::from_str::<Event<'_>>(&entry.json) {
        Ok(event) => (event.at(), in_words(output, &event)),
        Err(error) => (written_at(entry.id), format!("unreadable: {}", output.text(&error.to_string()))),
    };
    let line = format!("  {}  {text}", utc(at));
    match output.width() {
        Some(columns) => output.line(fit(&line, columns)),
        None => output.line(line),
    }
}

fn each(reports: &[Report], output: &Output, page: impl Fn(&Report) -> Result<(), CommandError>) -> Result<(), CommandError> {
    for (place, report) in reports.iter().enumerate() {
        if place > 0 {
            output.line("")?;
        }
        page(report)?;
    }
    Ok(())
}

fn in_words(output: &Output, event: &Event<'_>) -> String {
    let message = event.message.as_ref();
    let paid = event.money.map(|paid| money(paid.minor));
    let price = message.and_then(|message| message.price).filter(|&price| price > 0).map(|price| format!("price {}", money(price)));
    let text = message.and_then(|message| message.text.as_ref()).map(|text| output.text(text.raw()).into_owned());
    let said: Vec<String> = [paid, price, text].into_iter().flatten().collect();
    format!("{:<22} {}", event.kind.name(), said.join("  ")).trim_end().to_owned()
}

struct Page<'a> {
    output: &'a Output,
    now: Millis,
}

impl Page<'_> {
    fn heading(&self, report: &Report) -> Result<(), CommandError> {
        let fan = report.snapshot.as_ref().map(|snapshot| &snapshot.fan).or(report.summary.as_ref().map(|summary| &summary.fan));
        let name = fan.and_then(|fan| [&fan.display_name, &fan.name, &fan.username].into_iter().flatten().next());
        let ids = format!("fan {}  account {}", self.output.text(&report.fan_id), self.output.text(&report.account_id));
        let whole = match name {
            Some(name) => format!("{}  {ids}", self.output.text(name.raw())),
            None => ids,
        };
        let lines = wrap(&whole, self.output.width().unwrap_or(usize::MAX));
        lines.into_iter().try_for_each(|line| self.output.line(self.output.tone(Tone::Strong, &line)))
    }

    /// The line over a section: source, revision, age, or why there is nothing. Whether there is something.
    fn section(&self, report: &Report, section: Section) -> Result<bool, CommandError> {
        let Some(source) = report.source(section) else { return Ok(false) };
        let mut said = format!("{:<10}{:<11}", section.name(), source.store.name());
        let age = source.age_ms.map(ago).unwrap_or_default();
        let (rest, tone) = match (source.state, source.rev) {
            (State::Ok, Some(rev)) => (format!("rev {rev}  {age}"), None),
            (State::Ok, None) => (format!("{}  newest {age}", self.count(report, section)), None),
            (State::Absent, _) => ("absent".to_owned(), Some(Tone::Faint)),
            (State::Unreachable, _) => ("unreachable".to_owned(), Some(Tone::Bad)),
            (State::Unreadable, _) => ("unreadable".to_owned(), Some(Tone::Bad)),
        };
        said.push_str(&rest);
        let painted = tone.map_or_else(|| self.output.tone(Tone::Strong, &said), |tone| self.output.tone(tone, &said));
        self.output.line("")?;
        self.output.line(painted)?;
        if let Some(detail) = &source.detail {
            self.wrapped("  ", 2, &self.output.text(detail), None)?;
        }
        Ok(source.state == State::Ok)
    }

    fn count(&self, report: &Report, section: Section) -> String {
        match section {
            Section::Messages if report.older.is_some() => format!("{}, older ones are stored too", report.messages.len()),
            Section::Messages => report.messages.len().to_string(),
            _ => report.events.len().to_string(),
        }
    }

    fn snapshot(&self, report: &Report) -> Result<(), CommandError> {
        if !self.section(report, Section::Snapshot)? {
            return Ok(());
        }
        let Some(snapshot) = &report.snapshot else { return Ok(()) };
        if snapshot.stale == Some(true) {
            self.pair("stale", &self.gap(report.gap.as_ref()), Some(Tone::Bad))?;
        }
        self.profile(&snapshot.fan)?;
        self.value(&snapshot.tier, &snapshot.high_value)?;
        self.waiting(snapshot.awaiting_reply_since)?;
        let more = if snapshot.unread_more { " or more" } else { "" };
        self.pair("unread", &format!("{}{more}", snapshot.unread), (snapshot.unread > 0).then_some(Tone::Warning))?;
        if let Some(last) = &snapshot.last_message {
            let preview = self.output.text(last.preview.raw());
            self.pair("last message", &format!("{}, {}: {preview}", direction(last.direction), self.ago(last.at)), None)?;
        }
        self.last_written(snapshot)?;
        self.ppv(snapshot.last_ppv.as_ref())?;
        self.spend(&snapshot.spend.observed, snapshot.spend.reported.as_ref())?;
        self.subscription(snapshot.subscription.as_ref())?;
        self.presence(snapshot)?;
        self.times(snapshot.first_seen_at, None)
    }

    fn summary(&self, report: &Report) -> Result<(), CommandError> {
        if !self.section(report, Section::Summary)? {
            return Ok(());
        }
        let Some(summary): Option<&FanSummary> = report.summary.as_ref() else { return Ok(()) };
        self.profile(&summary.fan)?;
        self.value(&summary.tier, &summary.high_value)?;
        self.waiting(summary.awaiting_reply_since)?;
        let counted = format!("{} in, {} out", number(summary.messages_in), number(summary.messages_out));
        self.pair("messages", &counted, None)?;
        self.ppv(summary.last_ppv.as_ref())?;
        self.spend(&summary.spend.observed, summary.spend.reported.as_ref())?;
        self.subscription(summary.subscription.as_ref())?;
        self.times(summary.first_seen_at, summary.last_seen_at)?;
        self.pair("kept until", &utc(summary.expire_at), None)
    }

    fn messages(&self, report: &Report) -> Result<(), CommandError> {
        if !self.section(report, Section::Messages)? {
            return Ok(());
        }
        for message in &report.messages {
            let before = format!("  {}  {:<5}", utc(message.sent_at), direction(message.direction));
            let tone = message.deleted_at.map(|_| Tone::Faint);
            self.wrapped(&before, STAMP, &self.message(message), tone)?;
        }
        Ok(())
    }

    fn message(&self, message: &MessageDocument) -> String {
        let mut about = Vec::new();
        about.extend(message.deleted_at.map(|at| format!("deleted {}", self.ago(at))));
        about.extend(message.money.map(|paid| format!("{} {}", if message.is_tip { "tip" } else { "paid" }, money(paid.minor))));
        about.extend(message.price.map(|price| format!("price {}", money(price))));
        about.extend(match message.media.len() {
            0 => None,
            media => Some(format!("{media} media")),
        });
        about.extend(message.is_bulk.then(|| "bulk".to_owned()));
        let text = message.text.as_ref().map(|text| self.output.text(text.raw())).unwrap_or_default();
        if about.is_empty() { text.into_owned() } else { format!("[{}] {text}", about.join(", ")) }
    }

    fn profile(&self, fan: &FanView) -> Result<(), CommandError> {
        let safe = |text: &Option<OwnedText>| text.as_ref().map(|text| self.output.text(text.raw()).into_owned());
        let username = safe(&fan.username).map(|name| format!("@{name}"));
        let given = safe(&fan.display_name).map(|name| format!("called {name}"));
        let names: Vec<String> = [safe(&fan.name), username, given].into_iter().flatten().collect();
        if !names.is_empty() {
            self.pair("name", &names.join(", "), None)?;
        }
        if let Some(notice) = safe(&fan.notice) {
            self.pair("notice", &notice, None)?;
        }
        if !fan.lists.is_empty() {
            let lists: Vec<_> = fan.lists.iter().map(|list| self.output.text(list.raw())).collect();
            self.pair("lists", &lists.join(", "), None)?;
        }
        Ok(())
    }

    fn value(&self, tier: &str, high_value: &HighValue) -> Result<(), CommandError> {
        let tier = self.output.text(tier);
        if !high_value.is {
            return self.pair("tier", &format!("{tier}, not high-value"), None);
        }
        let why: Vec<String> = high_value.why.iter().map(|why| self.output.text(&criterion(why)).into_owned()).collect();
        self.pair("tier", &format!("{tier}, high-value: {}", why.join(", ")), Some(Tone::Strong))
    }

    fn waiting(&self, since: Option<Millis>) -> Result<(), CommandError> {
        match since {
            None => self.pair("waiting", "no", None),
            Some(since) => {
                let length = short(u64::try_from(self.now.since(since)).unwrap_or(0));
                self.pair("waiting", &format!("{length}, since {}", utc(since)), Some(Tone::Warning))
            }
        }
    }

    fn last_written(&self, snapshot: &ConversationSnapshot) -> Result<(), CommandError> {
        let inbound = snapshot.last_inbound_at.map(|at| format!("fan {}", self.ago(at)));
        let outbound = snapshot.last_outbound_at.map(|at| format!("account {}", self.ago(at)));
        let both: Vec<String> = [inbound, outbound].into_iter().flatten().collect();
        if both.is_empty() { Ok(()) } else { self.pair("last wrote", &both.join(", "), None) }
    }

    fn ppv(&self, ppv: Option<&LastPpv>) -> Result<(), CommandError> {
        let Some(ppv) = ppv else { return Ok(()) };
        let price = ppv.price.map_or_else(|| "price unknown".to_owned(), money);
        let state = match ppv.state {
            PpvState::Sent => "sent, not unlocked",
            PpvState::Unlocked => "unlocked",
        };
        let id = self.output.text(ppv.message_id.raw());
        self.pair("last ppv", &format!("{price}, {state}, {} (message {id})", self.ago(ppv.at)), None)
    }

    fn spend(&self, observed: &SpendTotals, reported: Option<&ReportedSpend>) -> Result<(), CommandError> {
        let seen = if observed.payments == 0 {
            "no payment".to_owned()
        } else {
            let categories = [observed.tips, observed.messages, observed.posts, observed.streams, observed.subscriptions].map(Some);
            let plural = if observed.payments == 1 { "" } else { "s" };
            let last = observed.last_at.map(|at| format!(", last {}", self.ago(at))).unwrap_or_default();
            let (total, largest) = (money(observed.total), money(observed.largest));
            let payments = number(observed.payments);
            format!("{total} in {payments} payment{plural}{}; largest {largest}{last}", by_category(categories))
        };
        self.pair("spend seen", &seen, None)?;
        let Some(reported) = reported else { return Ok(()) };
        let total = reported.total.map_or_else(|| "total unknown".to_owned(), money);
        let basis = match reported.basis {
            Basis::Gross => "gross",
            Basis::Net => "net",
            Basis::Unknown => "gross or net",
        };
        let categories = [reported.tips, reported.messages, reported.posts, reported.streams, reported.subscriptions];
        let said = format!("{total} {basis}, {}{}", self.ago(reported.as_of), by_category(categories));
        self.pair("spend reported", &said, None)
    }

    fn subscription(&self, subscription: Option<&Subscription>) -> Result<(), CommandError> {
        let Some(subscription) = subscription else { return Ok(()) };
        let mut said = Vec::new();
        said.extend(subscription.state.map(|state| match state {
            SubscriptionState::Active => "active".to_owned(),
            SubscriptionState::Expired => "expired".to_owned(),
        }));
        said.extend(subscription.expires_at.map(|at| format!("ends {} ({})", utc(at), self.ago(at))));
        said.extend(subscription.auto_renew.map(|renews| if renews { "renews" } else { "does not renew" }.to_owned()));
        said.extend(subscription.is_fan.map(|is| if is { "a fan" } else { "no fan" }.to_owned()));
        said.extend(subscription.we_follow.filter(|&follows| follows).map(|_| "followed by the account".to_owned()));
        if said.is_empty() { Ok(()) } else { self.pair("subscription", &said.join(", "), None) }
    }

    fn presence(&self, snapshot: &ConversationSnapshot) -> Result<(), CommandError> {
        if snapshot.typing_until.is_some_and(|until| until > self.now) {
            self.pair("typing", "now", Some(Tone::Good))?;
        }
        match snapshot.presence {
            Some(seen) if self.now.since(seen.as_of) <= ONLINE_MS => {
                self.pair("presence", &format!("online {}", self.ago(seen.as_of)), Some(Tone::Good))
            }
            Some(seen) => self.pair("presence", &format!("unknown, last online {}", self.ago(seen.as_of)), None),
            None => self.pair("presence", "unknown", None),
        }
    }

    fn times(&self, first: Option<Millis>, last: Option<Millis>) -> Result<(), CommandError> {
        let first = first.map(|at| format!("first {}", utc(at)));
        let last = last.map(|at| format!("last {}", self.ago(at)));
        let both: Vec<String> = [first, last].into_iter().flatten().collect();
        if both.is_empty() { Ok(()) } else { self.pair("seen", &both.join(", "), None) }
    }

    fn gap(&self, gap: Option<&GapView>) -> String {
        let Some(gap) = gap else { return "frames may be missing since its last event".to_owned() };
        let from = gap.from.map_or_else(|| "an unknown time".to_owned(), utc);
        let reason = gap.reason.as_ref().map(|reason| format!(" ({})", self.output.text(reason))).unwrap_or_default();
        format!("frames may be missing from {from} to {}{reason}", utc(gap.to))
    }

    fn ago(&self, at: Millis) -> String {
        ago(self.now.since(at))
    }

    /// A label and a value that is safe already.
    fn pair(&self, label: &str, value: &str, tone: Option<Tone>) -> Result<(), CommandError> {
        self.wrapped(&format!("  {label:<width$}", width = LABEL - 2), LABEL, value, tone)
    }

    /// A text behind `before`, which takes `indent` columns; what does not fit goes on below the text.
    fn wrapped(&self, before: &str, indent: usize, text: &str, tone: Option<Tone>) -> Result<(), CommandError> {
        let columns = self.output.width().map_or(usize::MAX, |columns| columns.saturating_sub(indent).max(TEXT_MIN));
        let mut before = self.output.tone(Tone::Faint, before);
        for line in wrap(text, columns) {
            let line = tone.map_or_else(|| line.clone(), |tone| self.output.tone(tone, &line));
            self.output.line(format!("{before}{line}").trim_end())?;
            before = " ".repeat(indent);
        }
        Ok(())
    }
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::System => "-",
    }
}

/// `: tips $1.00, messages $2.00`, of those that are known and not zero.
fn by_category(minor: [Option<i64>; 5]) -> String {
    let named = ["tips", "messages", "posts", "streams", "subscriptions"].into_iter().zip(minor);
    let known: Vec<String> =
        named.filter_map(|(name, minor)| Some(format!("{name} {}", money(minor.filter(|&minor| minor != 0)?)))).collect();
    if known.is_empty() { String::new() } else { format!(": {}", known.join(", ")) }
}
