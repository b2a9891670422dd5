//! The report for people.

use super::gather::{FanReport, Sections, State};
use crate::commands::CommandError;
use crate::commands::output::{Output, Tone, ago, fit, money, short};
use crate::schema::event::{Direction, Event, Subscription, SubscriptionState};
use crate::schema::time::Millis;
use crate::schema::view::{ConversationSnapshot, FanView, GapView, HighValue, LastPpv, PpvState, Spend};

/// A presence that is older says nothing any more.
const PRESENCE_MAX_MS: i64 = 5 * 60 * 1000;

/// Prints the reports, each under its account.
pub(super) fn print(output: &Output, reports: &[FanReport], sections: Sections, now: Millis) -> Result<(), CommandError> {
    for (number, report) in reports.iter().enumerate() {
        if number > 0 {
            output.line("")?;
        }
        let heading = format!("account {} · fan {}", output.text(&report.account), output.text(&report.fan));
        output.line(output.tone(Tone::Strong, &heading))?;
        Page { output, now }.print(report, sections)?;
    }
    Ok(())
}

struct Page<'a> {
    output: &'a Output,
    now: Millis,
}

impl Page<'_> {
    fn print(&self, report: &FanReport, sections: Sections) -> Result<(), CommandError> {
        if sections.snapshot {
            self.heading(report, "snapshot")?;
            if let Some(view) = &report.snapshot {
                self.snapshot(&view.snapshot, report.gap.as_ref())?;
            }
        }
        if sections.summary {
            self.heading(report, "summary")?;
            if let Some(found) = &report.summary {
                let summary = &found.summary;
                self.profile(&summary.fan, &summary.tier, &summary.high_value)?;
                self.field("messages", &format!("{} from the fan, {} from the account", summary.messages_in, summary.messages_out))?;
                self.field("waiting", &self.waiting(summary.awaiting_reply_since))?;
                self.money(&summary.spend, summary.subscription.as_ref(), summary.last_ppv.as_ref())?;
                self.field("seen", &format!("first {}, last {}", self.when(summary.first_seen_at), self.when(summary.last_seen_at)))?;
            }
        }
        if sections.messages {
            self.heading(report, "messages")?;
            for message in &report.messages {
                let mut facts = Vec::new();
                facts.extend(message.price.filter(|&price| price != 0).map(|price| format!("[price {}]", money(price))));
                facts.extend(message.money.map(|amount| format!("[{}{}]", if message.is_tip { "tip " } else { "" }, money(amount.minor))));
                facts.extend((!message.media.is_empty()).then(|| format!("[{} media]", message.media.len())));
                facts.extend(message.is_bulk.then(|| "[bulk]".to_owned()));
                facts.extend(message.deleted_at.map(|_| "[deleted]".to_owned()));
                facts.extend(message.text.as_ref().map(|text| self.output.text(text.raw()).into_owned()));
                self.dated(message.sent_at, arrow(message.direction), &facts.join(" "))?;
            }
        }
        if sections.events {
            self.heading(report, "events")?;
            for entry in &report.events {
                match serde_json::from_str::<Event<'_>>(&entry.json) {
                    Ok(event) => {
                        let mut facts = vec![event.kind.name().to_owned()];
                        facts.extend(event.money.map(|amount| money(amount.minor)));
                        let text = event.message.as_ref().and_then(|message| message.text.as_ref());
                        facts.extend(text.map(|text| self.output.text(text.raw()).into_owned()));
                        self.dated(event.at(), arrow(event.direction), &facts.join(" "))?;
                    }
                    Err(error) => {
                        let text = format!("{}: not an event that this version reads: {error}", entry.id);
                        self.output.line(format!("  {}", self.output.text(&text)))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The section's name, where it comes from, its version and its age.
    fn heading(&self, report: &FanReport, name: &str) -> Result<(), CommandError> {
        let Some(source) = report.source(name) else { return Ok(()) };
        let mut parts = vec![self.output.tone(Tone::Strong, &format!("{name:<9}")), source.store.to_owned()];
        parts.extend(source.rev.map(|rev| format!("rev {rev}")));
        parts.extend(source.age_ms.map(ago));
        match source.state {
            State::Ok => {}
            State::Absent => parts.push(self.output.tone(Tone::Faint, "absent")),
            State::Unreachable => parts.push(self.output.tone(Tone::Bad, "unreachable")),
        }
        parts.extend(source.detail.as_ref().map(|detail| self.output.text(detail).into_owned()));
        self.output.line("")?;
        self.output.line(parts.join("  "))
    }

    fn snapshot(&self, snapshot: &ConversationSnapshot, gap: Option<&GapView>) -> Result<(), CommandError> {
        self.profile(&snapshot.fan, &snapshot.tier, &snapshot.high_value)?;
        self.field("waiting", &self.waiting(snapshot.awaiting_reply_since))?;
        self.field("unread", &format!("{}{}", snapshot.unread, if snapshot.unread_more { " or more" } else { "" }))?;
        if let Some(last) = &snapshot.last_message {
            let text = format!("{} {} {}", ago(self.now.since(last.at)), arrow(last.direction), self.output.text(last.preview.raw()));
            self.cut_field("last", &text)?;
        }
        self.money(&snapshot.spend, snapshot.subscription.as_ref(), snapshot.last_ppv.as_ref())?;
        let is_typing = snapshot.typing_until.is_some_and(|until| until > self.now);
        let presence = match snapshot.presence {
            Some(seen) if self.now.since(seen.as_of) <= PRESENCE_MAX_MS => format!("online {}", ago(self.now.since(seen.as_of))),
            Some(seen) => format!("unknown, last seen online {}", ago(self.now.since(seen.as_of))),
            None => "unknown".to_owned(),
        };
        self.field("presence", &format!("{presence}{}", if is_typing { ", typing" } else { "" }))?;
        if snapshot.stale == Some(true) {
            let text = gap.map_or_else(
                || "frames may have been missed since".to_owned(),
                |gap| {
                    let reason = gap.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                    let from = gap.from.map_or_else(|| "an unknown time".to_owned(), |from| from.to_string());
                    format!("frames may have been missed from {from} to {}{reason}", gap.to)
                },
            );
            self.field("stale", &self.output.tone(Tone::Warning, &self.output.text(&text)))?;
        }
        Ok(())
    }

    fn profile(&self, fan: &FanView, tier: &str, high_value: &HighValue) -> Result<(), CommandError> {
        let text = |text: &crate::schema::text::OwnedText| self.output.text(text.raw()).into_owned();
        let mut names: Vec<String> = [&fan.display_name, &fan.name].into_iter().flatten().map(text).collect();
        names.dedup();
        names.extend(fan.username.as_ref().map(|username| format!("@{}", text(username))));
        self.field("name", &if names.is_empty() { "unknown".to_owned() } else { names.join(" · ") })?;
        let value = if high_value.is { format!(", high-value: {}", self.output.text(&high_value.why.join(", "))) } else { String::new() };
        let tier = format!("{}{value}", self.output.text(tier));
        self.field("tier", &if high_value.is { self.output.tone(Tone::Good, &tier) } else { tier })?;
        if !fan.lists.is_empty() {
            self.field("lists", &fan.lists.iter().map(text).collect::<Vec<_>>().join(", "))?;
        }
        fan.notice.as_ref().map_or(Ok(()), |notice| self.field("notice", &text(notice)))
    }

    fn money(&self, spend: &Spend, subscription: Option<&Subscription>, ppv: Option<&LastPpv>) -> Result<(), CommandError> {
        let seen = &spend.observed;
        let parts = [seen.messages, seen.tips, seen.subscriptions, seen.posts, seen.streams];
        self.field("observed", &format!("{}{}", money(seen.total), categories(parts.map(Some))))?;
        if seen.payments > 0 {
            let text = format!("{} observed, largest {}, last {}", seen.payments, money(seen.largest), self.when(seen.last_at));
            self.field("payments", &text)?;
        }
        if let Some(said) = &spend.reported {
            let parts = [said.messages, said.tips, said.subscriptions, said.posts, said.streams];
            let total = said.total.map_or_else(|| "no total".to_owned(), money);
            self.field("reported", &format!("{total}{}, as of {}", categories(parts), ago(self.now.since(said.as_of))))?;
        }
        if let Some(subscription) = subscription {
            self.field("subscribed", &self.subscription(subscription))?;
        }
        if let Some(ppv) = ppv {
            let state = match ppv.state {
                PpvState::Sent => "sent, not bought",
                PpvState::Unlocked => "bought",
            };
            let price = ppv.price.map_or_else(|| "price unknown".to_owned(), money);
            let text = format!("{price}, {state} {} (message {})", ago(self.now.since(ppv.at)), self.output.text(ppv.message_id.raw()));
            self.field("last PPV", &text)?;
        }
        Ok(())
    }

    fn subscription(&self, subscription: &Subscription) -> String {
        let mut parts = vec![match subscription.state {
            Some(SubscriptionState::Active) => "active".to_owned(),
            Some(SubscriptionState::Expired) => "expired".to_owned(),
            None => "unknown".to_owned(),
        }];
        parts.extend(subscription.expires_at.map(|at| format!("until {at} ({})", ago(self.now.since(at)))));
        parts.extend(subscription.auto_renew.map(|renews| if renews { "renews" } else { "does not renew" }.to_owned()));
        parts.extend((subscription.we_follow == Some(true)).then(|| "the account follows".to_owned()));
        parts.join(", ")
    }

    fn waiting(&self, since: Option<Millis>) -> String {
        match since {
            None => "nobody waits".to_owned(),
            Some(since) => {
                let length = short(self.now.since(since).max(0).unsigned_abs());
                self.output.tone(Tone::Warning, &format!("{length}, since {since}"))
            }
        }
    }

    fn when(&self, at: Option<Millis>) -> String {
        at.map_or_else(|| "unknown".to_owned(), |at| ago(self.now.since(at)))
    }

    fn field(&self, name: &str, value: &str) -> Result<(), CommandError> {
        self.output.line(format!("  {}  {value}", self.output.tone(Tone::Faint, &format!("{name:<10}"))))
    }

    /// A field that is one line of the terminal, however long its text.
    fn cut_field(&self, name: &str, value: &str) -> Result<(), CommandError> {
        match self.output.width() {
            Some(width) => self.field(name, &fit(value, width.saturating_sub(14))),
            None => self.field(name, value),
        }
    }

    fn dated(&self, at: Millis, arrow: &str, text: &str) -> Result<(), CommandError> {
        let time = at.to_string();
        let time = format!("{} {}", &time[..10], &time[11..19]);
        let text = self.output.width().map_or(text.into(), |width| fit(text, width.saturating_sub(25)));
        self.output.line(format!("  {}  {arrow} {text}", self.output.tone(Tone::Faint, &time)))
    }
}

/// What is not zero, by category.
fn categories(parts: [Option<i64>; 5]) -> String {
    let named = ["messages", "tips", "subscriptions", "posts", "streams"].into_iter().zip(parts);
    let said: Vec<String> = named.filter_map(|(name, part)| Some(format!("{name} {}", money(part.filter(|&part| part != 0)?)))).collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) }
}

const fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "←",
        Direction::Out => "→",
        Direction::System => "·",
    }
}
