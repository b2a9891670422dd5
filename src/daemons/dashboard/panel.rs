//! The panel of one conversation: its snapshot, money, subscription, why it is high-value, and the fan's events.
//!
//! Owns what of them is shown and in which words. Does not own the page around it ([`super::page`]). `assets/dashboard.js` writes the same from JSON.

use http::StatusCode;
use serde::Deserialize;

use super::html::{Html, utc, waiting};
use super::route::{Choice, Conversation, conversation_path, encode};
use super::rows::waiting_class;
use crate::runtime::units::{criterion, money, number};
use crate::schema::event::{Direction, EventKind, ReportedSpend, SubscriptionState};
use crate::schema::text::OwnedText;
use crate::schema::time::Millis;
use crate::schema::view::ConversationSnapshot;
use crate::views::{ConversationView, Reader, StreamRange, ViewsError};

/// Events that are shown.
const EVENTS: usize = 50;

/// What is read of a conversation.
pub(super) struct Panel {
    wanted: Conversation,
    /// `None` where there is none, or no more.
    view: Result<Option<ConversationView>, ViewsError>,
    /// Place in the stream and what was read of the event, newest first.
    events: Vec<(String, Told)>,
}

/// What of an event is shown.
#[derive(Debug, Deserialize)]
struct Told {
    kind: EventKind,
    #[serde(default)]
    direction: Option<Direction>,
    #[serde(default)]
    occurred_at: Option<Millis>,
    received_at: Millis,
    #[serde(default)]
    message: Option<ToldMessage>,
    #[serde(default)]
    money: Option<ToldMoney>,
}

#[derive(Debug, Deserialize)]
struct ToldMessage {
    #[serde(default)]
    text: Option<OwnedText>,
}

#[derive(Debug, Deserialize)]
struct ToldMoney {
    minor: i64,
}

impl Panel {
    /// Reads it; what cannot be read is told in its place.
    pub(super) async fn read(reader: &Reader, wanted: &Conversation) -> Self {
        let read = async {
            let Some(view) = reader.conversation(&wanted.account, &wanted.id).await? else { return Ok((None, Vec::new())) };
            // In one-to-one chats the conversation's id is the fan's.
            let entries = reader.fan_events(&wanted.account, &wanted.id, StreamRange::Last(EVENTS)).await?;
            let told = entries.into_iter().rev().filter_map(|entry| Some((entry.id.to_string(), serde_json::from_str(&entry.json).ok()?)));
            Ok((Some(view), told.collect()))
        };
        let (view, events) = read.await.map_or_else(|error| (Err(error), Vec::new()), |(view, events)| (Ok(view), events));
        Self { wanted: wanted.clone(), view, events }
    }

    /// The status of a page that shows it.
    pub(super) const fn status(&self) -> StatusCode {
        match &self.view {
            Ok(Some(_)) => StatusCode::OK,
            Ok(None) => StatusCode::NOT_FOUND,
            Err(ViewsError::Unexpected { .. }) => StatusCode::BAD_GATEWAY,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Writes the panel.
pub(super) fn panel(html: &mut Html, panel: &Panel, choice: &Choice, now: Millis) {
    let account = choice.account.as_deref().map_or_else(String::new, |account| format!("&account={}", encode(account)));
    html.leaf("a", &[("class", "back"), ("href", &format!("/?tab={}{account}", choice.tab.name()))], "← Inbox");
    let view = match &panel.view {
        Ok(Some(view)) => view,
        Ok(None) => {
            html.leaf(
                "p",
                &[("class", "hint")],
                "There is no such conversation, or no more: it may have ended, or Redis does not have it yet.",
            );
            return;
        }
        Err(error) => {
            html.leaf("p", &[("class", "hint")], &format!("It cannot be read now: {error}"));
            return;
        }
    };
    let snapshot = &view.snapshot;
    who(html, snapshot, now);
    html.open("dl", &[("class", "facts")]);
    state(html, snapshot, now);
    spend(html, snapshot);
    html.close("dl");
    events(html, panel, snapshot, now);
}

fn who(html: &mut Html, snapshot: &ConversationSnapshot, now: Millis) {
    let fan = &snapshot.fan;
    html.open("h2", &[]).foreign("name", fan.display_name.as_ref().or(fan.name.as_ref()).unwrap_or(&fan.id)).close("h2");
    html.open("p", &[("class", "ids")]);
    if let Some(username) = &fan.username {
        html.text("@").foreign("username", username).text(" · ");
    }
    html.text("fan ").foreign("id", &fan.id).text(" · account ").foreign("id", &snapshot.account_id);
    html.text(" · written ").ago(snapshot.applied_at, now).close("p");
    if let Some(notice) = &fan.notice {
        html.open("p", &[("class", "note")]).foreign("remark", notice).close("p");
    }
}

/// `<dt>name</dt><dd>`, what `write` writes, `</dd>`.
fn fact(html: &mut Html, name: &str, write: impl FnOnce(&mut Html)) {
    html.leaf("dt", &[], name).open("dd", &[]);
    write(html);
    html.close("dd");
}

fn state(html: &mut Html, snapshot: &ConversationSnapshot, now: Millis) {
    fact(html, "Tier", |html| {
        html.leaf("span", &[("class", "tier")], &snapshot.tier);
    });
    fact(html, "High-value", |html| {
        let why: Vec<_> = snapshot.high_value.why.iter().map(|why| criterion(why)).collect();
        html.text(&if snapshot.high_value.is { format!("yes: {}", why.join(", ")) } else { "no".to_owned() });
    });
    if let Some(since) = snapshot.awaiting_reply_since {
        let ms = now.since(since);
        fact(html, "Waiting", |html| {
            html.leaf("span", &[("class", &format!("wait {}", waiting_class(ms)))], &waiting(ms));
        });
    }
    let more = if snapshot.unread_more { "+" } else { "" };
    fact(html, "Unread", |html| {
        html.text(&format!("{}{more}", snapshot.unread));
    });
    if let Some(message) = &snapshot.last_message {
        fact(html, "Last message", |html| {
            let way = if message.direction == Direction::In { "← " } else { "→ " };
            html.text(way).foreign("preview", &message.preview).text(" ").ago(message.at, now);
        });
    }
    if let Some(subscription) = &snapshot.subscription {
        fact(html, "Subscription", |html| {
            html.text(match subscription.state {
                Some(SubscriptionState::Active) => "active",
                Some(SubscriptionState::Expired) => "expired",
                None => "unknown",
            });
            if let Some(at) = subscription.expires_at {
                html.text(&format!(", until {}", utc(at)));
            }
            if let Some(renews) = subscription.auto_renew {
                html.text(if renews { ", renews by itself" } else { ", does not renew" });
            }
        });
    }
    if !snapshot.fan.lists.is_empty() {
        fact(html, "Lists", |html| {
            for list in &snapshot.fan.lists {
                html.foreign("list", list).text(" ");
            }
        });
    }
    if snapshot.stale == Some(true) {
        fact(html, "Stale", |html| {
            html.text("frames may have been missed since the last event");
        });
    }
}

fn spend(html: &mut Html, snapshot: &ConversationSnapshot) {
    let seen = &snapshot.spend.observed;
    let reported = snapshot.spend.reported.as_ref();
    html.close("dl").open("table", &[("class", "spend")]).leaf("caption", &[], "Spend");
    html.open("thead", &[]).open("tr", &[]).leaf("th", &[("scope", "col")], "Category").leaf("th", &[("scope", "col")], "Observed");
    html.leaf("th", &[("scope", "col")], "Reported").close("tr").close("thead").open("tbody", &[]);
    type Said = fn(&ReportedSpend) -> Option<i64>;
    let lines: [(&str, i64, Said); 6] = [
        ("Messages", seen.messages, |said| said.messages),
        ("Tips", seen.tips, |said| said.tips),
        ("Subscriptions", seen.subscriptions, |said| said.subscriptions),
        ("Posts", seen.posts, |said| said.posts),
        ("Streams", seen.streams, |said| said.streams),
        ("Total", seen.total, |said| said.total),
    ];
    for (name, observed, said) in lines {
        html.open("tr", &[]).leaf("th", &[("scope", "row")], name).leaf("td", &[], &money(observed));
        html.leaf("td", &[], &reported.and_then(said).map_or_else(|| "–".to_owned(), money)).close("tr");
    }
    html.close("tbody").close("table").open("dl", &[("class", "facts")]);
    fact(html, "Payments", |html| {
        html.text(&format!("{}, the largest {}", number(seen.payments), money(seen.largest)));
    });
}

fn events(html: &mut Html, panel: &Panel, snapshot: &ConversationSnapshot, now: Millis) {
    html.leaf("h3", &[], "Events");
    if panel.events.is_empty() {
        let why = if snapshot.high_value.is { "None yet." } else { "Kept for high-value fans alone." };
        html.leaf("p", &[("class", "hint")], why);
        return;
    }
    html.open("ol", &[("id", "events")]);
    for (id, told) in &panel.events {
        html.open("li", &[]).ago(told.occurred_at.unwrap_or(told.received_at), now).text(" ");
        html.text(match told.direction {
            Some(Direction::In) => "← ",
            Some(Direction::Out) => "→ ",
            _ => "",
        });
        html.leaf("span", &[("class", "kind")], told.kind.name()).text(" ");
        if let Some(paid) = &told.money {
            html.leaf("span", &[("class", "spent")], &money(paid.minor)).text(" ");
        }
        if let Some(text) = told.message.as_ref().and_then(|message| message.text.as_ref()) {
            html.foreign("preview", text).text(" ");
        }
        let path = format!("/api/v1{}/events/{id}", conversation_path(&panel.wanted.account, &panel.wanted.id));
        html.leaf("a", &[("class", "raw"), ("href", &path)], "raw").close("li");
    }
    html.close("ol");
}
