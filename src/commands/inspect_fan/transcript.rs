//! A conversation as Markdown, for the prompt of a language model: few tokens, oldest first, money and paid messages marked.
//!
//! Invariants: each message is one line that begins with who wrote it, so that no text can pass for another message; what was deleted at
//! the source is not quoted.

use std::collections::BTreeMap;

use super::report::{Report, State};
use crate::commands::CommandError;
use crate::commands::output::{Output, money, utc};
use crate::schema::document::{FanSummary, MessageDocument};
use crate::schema::event::{Direction, SubscriptionState};
use crate::schema::view::{LastPpv, PpvState};

/// Every account's transcript.
pub(super) fn print(output: &Output, reports: &[Report]) -> Result<(), CommandError> {
    for (place, report) in reports.iter().filter(|report| report.is_found()).enumerate() {
        if place > 0 {
            output.line("")?;
        }
        lines(output, report).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(())
}

fn lines(output: &Output, report: &Report) -> Vec<String> {
    let ids = format!("fan {}, account {}", output.text(&report.fan_id), output.text(&report.account_id));
    let summary = report.summary.as_ref();
    let mut lines = match summary.and_then(|summary| names(output, summary)) {
        Some(names) => vec![format!("# {names} ({ids})")],
        None => vec![format!("# {ids}")],
    };
    lines.extend(summary.map(|summary| about(output, summary)).unwrap_or_default());
    let unread = report.sources.iter().filter(|source| !matches!(source.state, State::Ok | State::Absent));
    lines.extend(unread.map(|source| format!("- {} not available", source.name.name())));
    if report.messages.is_empty() {
        lines.push("- no messages".to_owned());
        return lines;
    }
    lines.push("- F is the fan, A the account; times are UTC".to_owned());
    if report.older.is_some() {
        lines.push("- older messages are left out".to_owned());
    }
    let ppv = summary.and_then(|summary| summary.last_ppv.as_ref());
    let (mut day, mut minute) = (String::new(), String::new());
    for message in &report.messages {
        let at = utc(message.sent_at);
        if at[..10] != day {
            (day, minute) = (at[..10].to_owned(), String::new());
            lines.extend([String::new(), format!("## {day}")]);
        }
        // The time is said once a minute.
        let time = if at[11..16] == minute { String::new() } else { format!("{} ", &at[11..16]) };
        at[11..16].clone_into(&mut minute);
        let who = match message.direction {
            Direction::In => "F",
            Direction::Out => "A",
            Direction::System => "-",
        };
        lines.push(format!("{time}{who}: {}", said(output, message, ppv)).trim_end().to_owned());
    }
    lines
}

fn names(output: &Output, summary: &FanSummary) -> Option<String> {
    let fan = &summary.fan;
    let username = fan.username.as_ref().map(|name| format!("@{}", output.text(name.raw())));
    let name = fan.display_name.as_ref().or(fan.name.as_ref()).map(|name| output.text(name.raw()).into_owned());
    let both: Vec<String> = [name, username].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(" "))
}

/// What is known of the fan, a line for each thing.
fn about(output: &Output, summary: &FanSummary) -> Vec<String> {
    let high_value = if summary.high_value.is { ", high-value" } else { "" };
    let mut lines = vec![format!("- tier {}{high_value}", output.text(&summary.tier))];
    let observed = &summary.spend.observed;
    let mut spend = Vec::new();
    if observed.payments > 0 {
        spend.push(format!("{} seen in {}, largest {}", money(observed.total), observed.payments, money(observed.largest)));
    }
    spend.extend(summary.spend.reported.and_then(|reported| reported.total).map(|total| format!("{} reported", money(total))));
    if !spend.is_empty() {
        lines.push(format!("- spend {}", spend.join("; ")));
    }
    if let Some(subscription) = &summary.subscription {
        let state = subscription.state.map(|state| if state == SubscriptionState::Active { "active" } else { "expired" }.to_owned());
        let ends = subscription.expires_at.map(|at| format!("ends {}", &utc(at)[..10]));
        let renews = subscription.auto_renew.map(|renews| if renews { "renews" } else { "does not renew" }.to_owned());
        let said: Vec<String> = [state, ends, renews].into_iter().flatten().collect();
        if !said.is_empty() {
            lines.push(format!("- subscription {}", said.join(", ")));
        }
    }
    lines.extend(summary.awaiting_reply_since.map(|since| format!("- waits for an answer since {}", &utc(since)[..16])));
    lines.extend(summary.fan.notice.as_ref().map(|notice| format!("- note: {}", one_line(output, notice.raw()))));
    lines
}

fn said(output: &Output, message: &MessageDocument, ppv: Option<&LastPpv>) -> String {
    if message.deleted_at.is_some() {
        return "[deleted]".to_owned();
    }
    let mut marks = Vec::new();
    marks.extend(message.money.map(|paid| format!("{} {}", if message.is_tip { "tip" } else { "paid" }, money(paid.minor))));
    marks.extend(message.price.filter(|&price| price > 0).map(|price| {
        let is_unlocked = ppv.is_some_and(|ppv| ppv.message_id == message.message_id && ppv.state == PpvState::Unlocked);
        format!("PPV {}{}", money(price), if is_unlocked { " unlocked" } else { "" })
    }));
    let mut media: BTreeMap<&str, usize> = BTreeMap::new();
    for medium in &message.media {
        *media.entry(medium.kind.as_ref().map_or("media", |kind| kind.raw())).or_default() += 1;
    }
    marks.extend(media.into_iter().map(|(kind, count)| format!("{count} {}", output.text(kind))));
    marks.extend(message.is_bulk.then(|| "bulk".to_owned()));
    let text = message.text.as_ref().map(|text| one_line(output, text.raw())).unwrap_or_default();
    if marks.is_empty() { text } else { format!("[{}] {text}", marks.join(", ")) }
}

/// Line breaks and runs of spaces say nothing that is worth a token.
fn one_line(output: &Output, text: &str) -> String {
    output.text(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}
