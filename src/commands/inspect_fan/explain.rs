//! Where one event is, and why it is not where one would look for it: topic, quarantine, Redis, documents.
//!
//! Invariants: each place is asked on its own, so that one that is down costs nothing but its own answer; what cannot be known is said to
//! be unknown, never absent.

use serde::Serialize;

use super::gather::{Missing, Stores};
use super::report::State;
use crate::backends;
use crate::bus::{Bus, BusError, Held};
use crate::commands::CommandError;
use crate::commands::output::{Output, Tone, ago, utc};
use crate::commands::read::Format;
use crate::config::Config;
use crate::documents::{HistoryCursor, HistoryPage, PAGE_MAX};
use crate::schema::document::MessageDocument;
use crate::schema::envelope::Envelope;
use crate::schema::event::{Event, EventKind};
use crate::schema::time::Millis;
use crate::schema::view::PriorityEntry;
use crate::views::StreamRange;

/// Entries of a stream that are looked through; above the default cap of both.
const ENTRIES_MAX: usize = 20_000;
/// Pages of history that are looked through.
const PAGES_MAX: usize = 10;
/// Messages of one topic that are told.
const HELD_MAX: usize = 8;
/// Around when an event happened its message is looked for.
const AROUND_MS: i64 = 86_400_000;

/// What is known of one event.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    event_id: String,
    account_id: Option<String>,
    fan_id: Option<String>,
    /// From the topic, where it still is there.
    event: Option<Known>,
    places: Vec<Place>,
}

/// What the topic says of the event.
#[derive(Debug, Clone, Serialize)]
struct Known {
    kind: EventKind,
    at: Millis,
    received_at: Millis,
    message_id: Option<String>,
}

/// One place where it could be.
#[derive(Debug, Serialize)]
struct Place {
    place: &'static str,
    store: &'static str,
    state: Answer,
    /// What is there, or why not.
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// It is there.
    Found,
    /// It is not.
    Absent,
    /// The place cannot say.
    Unknown,
    /// The place cannot be asked.
    Unreachable,
}

impl Explanation {
    pub(super) fn is_found(&self) -> bool {
        self.places.iter().any(|place| place.state == Answer::Found)
    }

    pub(super) fn print(&self, output: &Output, format: Format, now: Millis) -> Result<(), CommandError> {
        match format {
            Format::Json => return output.json(self),
            Format::Jsonl | Format::Raw => return output.json_line(self),
            Format::Table => {}
        }
        output.line(output.tone(Tone::Strong, &format!("event {}", output.text(&self.event_id))))?;
        let whose = |what: &str, id: &Option<String>| format!("{what} {}", id.as_ref().map_or("unknown".into(), |id| output.text(id)));
        let known = self.event.as_ref().map(|event| {
            let (at, age) = (utc(event.at), ago(now.since(event.received_at)));
            format!("  {} of {at}, received {age}", event.kind)
        });
        output.line(format!("{}  {}{}", whose("account", &self.account_id), whose("fan", &self.fan_id), known.unwrap_or_default()))?;
        output.line("")?;
        let mut table = output.table(&["PLACE", "STORE", "STATE", "WHAT IS THERE, OR WHY NOT"]);
        for place in &self.places {
            let state = match place.state {
                Answer::Found => "found",
                Answer::Absent => "absent",
                Answer::Unknown => "unknown",
                Answer::Unreachable => "unreachable",
            };
            table.row(&[place.place, place.store, state, &place.detail]);
        }
        output.print(&table)
    }

    fn put(&mut self, place: &'static str, store: &'static str, state: Answer, detail: impl Into<String>) {
        self.places.push(Place { place, store, state, detail: detail.into() });
    }

    fn missing(&mut self, place: &'static str, store: &'static str, missing: Missing) {
        let state = if missing.state == State::Absent { Answer::Absent } else { Answer::Unreachable };
        self.put(place, store, state, missing.detail);
    }
}

/// Asks every place for the event. `account` and `fan` are what was typed; what was not comes from the id, from the topic, or from the feed.
/// With the explanation comes the first failure.
pub(super) async fn explain(
    config: &Config,
    stores: &mut Stores,
    id: &str,
    account: Option<&str>,
    fan: Option<&str>,
    now: Millis,
) -> (Explanation, Option<CommandError>) {
    let parts: Vec<&str> = id.split(':').collect();
    // A timer's id names no account.
    let of_id = || parts.get(1).filter(|_| parts[0] != "due").map(|&account| account.to_owned());
    let account = account.map(str::to_owned).or_else(of_id);
    let fan = fan.map(str::to_owned);
    let mut told = Explanation { event_id: id.to_owned(), account_id: account, fan_id: fan, event: None, places: Vec::new() };
    let failed = match topic(config, &mut told, now).await {
        Ok(()) => None,
        Err(error) => {
            told.put("topic", "bus", Answer::Unreachable, error.to_string());
            Some(CommandError::from(error))
        }
    };
    let entry = priority(stores, &mut told, config).await;
    if told.fan_id.is_none() {
        told.fan_id = entry.and_then(|entry| Some(entry.fan?.id.raw().to_owned()));
    }
    let (Some(account), Some(fan)) = (told.account_id.clone(), told.fan_id.clone()) else {
        for (place, store) in [("snapshot", "redis"), ("events", "redis"), ("summary", "documents"), ("messages", "documents")] {
            told.put(place, store, Answer::Unknown, "nothing says whose event it is; name the fan, as in `inspect-fan FAN --explain ID`");
        }
        return (told, failed.or(stores.failure()));
    };
    let is_high_value = snapshot(stores, &mut told, &account, &fan, now).await;
    events(stores, &mut told, &account, &fan, is_high_value).await;
    summary(stores, &mut told, &account, &fan, now).await;
    let message_id = told.event.as_ref().and_then(|event| event.message_id.clone());
    let message_id = message_id.or_else(|| (parts.get(2) == Some(&"msg")).then(|| parts.get(3).map(|&id| id.to_owned())).flatten());
    messages(stores, &mut told, &account, &fan, message_id.as_deref(), now).await;
    (told, failed.or(stores.failure()))
}

async fn topic(config: &Config, told: &mut Explanation, now: Millis) -> Result<(), BusError> {
    let Some(bus) = backends::existing_bus(config).await? else {
        told.put("topic", "bus", Answer::Absent, format!("there is no bus in {} yet", config.bus.embedded.dir.display()));
        return Ok(());
    };
    let subscriptions = [config.bus.views_subscription.as_str(), config.bus.documents_subscription.as_str()];
    let id = told.event_id.clone();
    let is_it = move |envelope: &Envelope| envelope.attribute("ce-id") == Some(id.as_str());
    let Some(search) = bus.search(&config.bus.topic, &subscriptions, is_it, HELD_MAX).await? else {
        told.put("topic", "pubsub", Answer::Unknown, "Pub/Sub cannot be searched; a subscription gets each message on its own");
        return backlogs(config, &bus, told, subscriptions).await;
    };
    match search.found.first() {
        Some(held) => {
            read(told, &held.envelope);
            let times = if search.found.len() > 1 { format!(", {} times", search.found.len()) } else { String::new() };
            let when = format!("published {} ({}){times}", utc(held.published_at), ago(now.since(held.published_at)));
            told.put("topic", "bus", Answer::Found, when);
            for (place, name) in ["views", "documents"].into_iter().zip(subscriptions) {
                settled(told, place, name, &search.found);
            }
        }
        None => {
            let since = search.oldest.map(|at| format!(", since {}", utc(at))).unwrap_or_default();
            let detail =
                format!("not among the {} that the topic still holds{since}: never published, or deleted by retention", search.searched);
            told.put("topic", "bus", Answer::Absent, detail);
        }
    }
    quarantine(config, &bus, told).await
}

fn read(told: &mut Explanation, envelope: &Envelope) {
    let Ok(event) = envelope.event() else { return };
    let message_id = event.message_id().map(str::to_owned);
    told.event = Some(Known { kind: event.kind, at: event.at(), received_at: event.received_at, message_id });
    told.account_id = Some(event.account_id.raw().to_owned());
    told.fan_id = event.fan_id.as_ref().map(|fan| fan.raw().to_owned()).or(told.fan_id.take());
}

fn settled(told: &mut Explanation, place: &'static str, name: &str, found: &[Held]) {
    let at = usize::from(place == "documents");
    let acked: Vec<Option<bool>> = found.iter().map(|held| held.acked.get(at).copied().flatten()).collect();
    let (state, detail) = if acked.contains(&Some(true)) {
        (Answer::Found, format!("acked by subscription {name}"))
    } else if acked.contains(&Some(false)) {
        (Answer::Absent, format!("subscription {name} has not acked it yet: snapshot is behind, or does not run"))
    } else {
        (Answer::Absent, format!("there is no subscription {name} yet: snapshot never ran"))
    };
    let place = if at == 0 { "to views" } else { "to documents" };
    told.put(place, "bus", state, detail);
}

async fn backlogs(config: &Config, bus: &Bus, told: &mut Explanation, subscriptions: [&str; 2]) -> Result<(), BusError> {
    for (place, name) in ["to views", "to documents"].into_iter().zip(subscriptions) {
        let backlog = bus.backlog(&config.bus.topic, name).await?;
        let waits = backlog.oldest_age.map_or("nothing waits".to_owned(), |age| format!("what waits is at most {} s old", age.as_secs()));
        told.put(place, "pubsub", Answer::Unknown, format!("subscription {name}: {waits}"));
    }
    told.put("quarantine", "pubsub", Answer::Unknown, "Pub/Sub cannot be searched");
    Ok(())
}

/// A delivery that was set aside has the event's id in its bytes; a frame that could not be read may have the id of the source.
async fn quarantine(config: &Config, bus: &Bus, told: &mut Explanation) -> Result<(), BusError> {
    let needle = told.event_id.clone();
    let source = needle.split(':').nth(3).filter(|source| source.len() >= 6).map(str::to_owned);
    let account = told.account_id.clone();
    let is_it = move |envelope: &Envelope| {
        let has = |text: &str| memchr::memmem::find(envelope.data(), text.as_bytes()).is_some();
        let is_of_account = account.is_none() || envelope.attribute("account") == account.as_deref();
        has(&needle) || (is_of_account && source.as_deref().is_some_and(has))
    };
    let Some(search) = bus.search(&config.bus.quarantine_topic, &[], is_it, HELD_MAX).await? else { return Ok(()) };
    match search.found.first() {
        Some(held) => {
            let said = |name| held.envelope.attribute(name).unwrap_or("?");
            let whole = memchr::memmem::find(held.envelope.data(), told.event_id.as_bytes()).is_some();
            let what = if whole { "set aside" } else { "a frame that names its source id was set aside" };
            let detail = format!("{what} {} at {}: {}, {}", utc(held.published_at), said("stage"), said("reason"), said("detail"));
            told.put("quarantine", "bus", Answer::Found, detail);
        }
        None => told.put("quarantine", "bus", Answer::Absent, format!("not among the {} in it", search.searched)),
    }
    Ok(())
}

async fn priority(stores: &mut Stores, told: &mut Explanation, config: &Config) -> Option<PriorityEntry> {
    let Some(account) = told.account_id.clone() else {
        told.put("priority feed", "redis", Answer::Unknown, "the id does not say which account; name it with --account");
        return None;
    };
    let entries = stores.ask_redis(async |reader| reader.priority(&account, StreamRange::Last(ENTRIES_MAX)).await).await;
    let entries = match entries {
        Ok(entries) => entries,
        Err(missing) => {
            told.missing("priority feed", "redis", missing);
            return None;
        }
    };
    let read = entries.iter().filter_map(|entry| Some((entry.id, serde_json::from_str::<PriorityEntry>(&entry.json).ok()?)));
    let found = read.into_iter().find(|(_, entry)| entry.event.id.raw() == told.event_id);
    if let Some((id, entry)) = found {
        let detail = format!("entry {id}: {}, because of {}", entry.level.name(), entry.reasons.join(", "));
        told.put("priority feed", "redis", Answer::Found, detail);
        return Some(entry);
    }
    let too_old = told.event.as_ref().is_some_and(|event| {
        let limit = i64::try_from(config.snapshot.freshness_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        event.received_at.since(event.at) > limit
    });
    let detail = match entries.first() {
        _ if too_old => "it was older than snapshot.freshness_s when it came, so it raised no entry".to_owned(),
        None => "the feed is empty".to_owned(),
        Some(first) => {
            let since = Millis(i64::try_from(first.id.ms).unwrap_or(i64::MAX));
            format!(
                "not among the {} entries since {}: no rule raised it, it came too late to matter, or its entry was trimmed",
                entries.len(),
                utc(since)
            )
        }
    };
    told.put("priority feed", "redis", Answer::Absent, detail);
    None
}

/// Whether the fan is high-value, where the snapshot says so.
async fn snapshot(stores: &mut Stores, told: &mut Explanation, account: &str, fan: &str, now: Millis) -> Option<bool> {
    match stores.ask_redis(async |reader| reader.conversation(account, fan).await).await {
        Ok(Some(view)) => {
            let snapshot = view.snapshot;
            let written = format!("rev {}, written {}", view.rev, ago(now.since(snapshot.applied_at)));
            let event = told.event.as_ref();
            let (state, detail) = if snapshot.event_id.raw() == told.event_id {
                (Answer::Found, format!("{written}: it is the newest event in it"))
            } else if event.is_some_and(|event| event.received_at > snapshot.received_at) {
                (Answer::Absent, format!("{written}: its newest event is older ({})", utc(snapshot.received_at)))
            } else {
                (Answer::Unknown, format!("{written}: it has newer events ({}), and does not name the others", utc(snapshot.received_at)))
            };
            told.put("snapshot", "redis", state, detail);
            Some(snapshot.high_value.is)
        }
        Ok(None) => {
            told.put("snapshot", "redis", Answer::Absent, "no snapshot of this fan: never written, expired, or Redis was emptied");
            None
        }
        Err(missing) => {
            told.missing("snapshot", "redis", missing);
            None
        }
    }
}

async fn events(stores: &mut Stores, told: &mut Explanation, account: &str, fan: &str, is_high_value: Option<bool>) {
    match stores.ask_redis(async |reader| reader.fan_events(account, fan, StreamRange::Last(ENTRIES_MAX)).await).await {
        Ok(entries) => {
            let has_id = |json: &str| serde_json::from_str::<Event<'_>>(json).is_ok_and(|event| event.id.raw() == told.event_id);
            let found = entries.iter().find(|entry| has_id(&entry.json));
            let (state, detail) = match (found, is_high_value) {
                (Some(entry), _) => (Answer::Found, format!("entry {}", entry.id)),
                (None, Some(false)) => (Answer::Absent, "the fan is not high-value; only such fans have a stream".to_owned()),
                (None, _) if entries.is_empty() => (Answer::Absent, "the fan has no stream".to_owned()),
                (None, _) => {
                    let detail = format!("not among the {} entries: older than them, or the fan was not high-value yet", entries.len());
                    (Answer::Absent, detail)
                }
            };
            told.put("events", "redis", state, detail);
        }
        Err(missing) => told.missing("events", "redis", missing),
    }
}

async fn summary(stores: &mut Stores, told: &mut Explanation, account: &str, fan: &str, now: Millis) {
    match stores.ask_documents(async |documents| documents.summary(account, fan, now).await).await {
        Ok(Some(document)) => {
            let written = document.summary.applied_at;
            let detail = format!("rev {}, written {}; it does not name its events", document.rev, ago(now.since(written)));
            let is_older = told.event.as_ref().is_some_and(|event| event.received_at > written);
            let (state, why) = if is_older { (Answer::Absent, ", and is older than this one") } else { (Answer::Unknown, "") };
            told.put("summary", "documents", state, format!("{detail}{why}"));
        }
        Ok(None) => told.put("summary", "documents", Answer::Absent, "no summary of this fan: never written, or expired"),
        Err(missing) => told.missing("summary", "documents", missing),
    }
}

async fn messages(stores: &mut Stores, told: &mut Explanation, account: &str, fan: &str, message_id: Option<&str>, now: Millis) {
    let kind = told.event.as_ref().map(|event| event.kind);
    if kind.is_some_and(|kind| !matches!(kind, EventKind::MessageReceived | EventKind::MessageSent | EventKind::MessageDeleted)) {
        told.put("messages", "documents", Answer::Absent, "it is no message; the history holds messages alone");
        return;
    }
    let id = told.event_id.clone();
    let is_it = |message: &MessageDocument| message.event_id.raw() == id || message_id == Some(message.message_id.raw());
    let at = told.event.as_ref().map(|event| event.at);
    let read = async |documents: &crate::documents::Documents| {
        let (mut before, mut read) = (at.map(|at| HistoryCursor::at(at.plus(AROUND_MS))), 0);
        for _ in 0..PAGES_MAX {
            let page = documents.history(account, fan, HistoryPage { before, limit: PAGE_MAX }, now).await?;
            read += page.messages.len();
            let is_past = page.messages.last().is_some_and(|oldest| at.is_some_and(|at| oldest.sent_at < at.plus(-AROUND_MS)));
            let found = page.messages.into_iter().find(is_it);
            before = page.next;
            if found.is_some() || before.is_none() || is_past {
                return Ok((found, read));
            }
        }
        Ok((None, read))
    };
    match stores.ask_documents(read).await {
        Ok((Some(message), _)) => {
            let own = if message.event_id.raw() == id { "" } else { ", as another event told it" };
            let deleted = message.deleted_at.map(|at| format!(", deleted {}", ago(now.since(at)))).unwrap_or_default();
            let detail = format!("message {}, sent {}{own}{deleted}", message.message_id.raw(), utc(message.sent_at));
            told.put("messages", "documents", Answer::Found, detail);
        }
        Ok((None, read)) => {
            let detail = format!("not among the {read} messages looked through: never written, expired, or history.scope leaves it out");
            told.put("messages", "documents", Answer::Absent, detail);
        }
        Err(missing) => told.missing("messages", "documents", missing),
    }
}
