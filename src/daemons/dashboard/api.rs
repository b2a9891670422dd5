//! The JSON answers, `/api/v1/…`, as `assets/openapi.json` describes them.
//!
//! Owns what stands in each. Does not own addresses ([`super::route`]). Invariants: while Redis cannot be read every answer but `status` is 503, so that
//! no program acts on what may be old; ids and texts are as they were written, for a program to show as text.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Rooms;
use super::answer::{Answer, failure, json, tagged};
use super::board::{Fault, MemoryView, Picture, Strip, shared};
use super::route::{Api, Choice, Conversation, Feed, OPENAPI};
use super::rows::{Entry, Row, Tab};
use crate::schema::time::Millis;
use crate::schema::view::ConversationSnapshot;
use crate::views::{StreamId, StreamRange, ViewsError};

#[derive(Serialize)]
struct Status<'a> {
    service: &'static str,
    version: &'static str,
    redis: RedisStatus<'a>,
    conversations: usize,
    accounts: usize,
    streams: Streams,
}

/// The live pages.
#[derive(Serialize)]
struct Streams {
    open: usize,
    max: usize,
    /// Asked for while all places were taken.
    refused: u64,
    /// Connections of any kind whose reader did not read.
    let_go: u64,
}

#[derive(Serialize)]
struct RedisStatus<'a> {
    ok: bool,
    read_at: Option<Millis>,
    fault: Option<&'a Fault>,
    memory: Option<MemoryView>,
}

#[derive(Serialize)]
struct Accounts<'a> {
    version: u64,
    memory: Option<MemoryView>,
    #[serde(serialize_with = "shared")]
    accounts: &'a [Arc<Strip>],
}

#[derive(Serialize)]
struct Rows<'a> {
    version: u64,
    /// Rows of this choice altogether.
    total: usize,
    offset: usize,
    #[serde(serialize_with = "shared")]
    conversations: &'a [Arc<Row>],
}

#[derive(Serialize)]
struct Whole {
    account: String,
    conversation: String,
    rev: u64,
    /// Milliseconds until it ends if nothing happens.
    ttl_ms: Option<u64>,
    snapshot: ConversationSnapshot,
}

#[derive(Serialize)]
struct Events<'a> {
    events: &'a [StreamItem<'a>],
}

#[derive(Serialize)]
struct StreamItem<'a> {
    stream_id: String,
    event: &'a RawValue,
}

#[derive(Serialize)]
struct Priority<'a> {
    version: u64,
    /// Newest first.
    #[serde(serialize_with = "shared")]
    entries: &'a [Arc<Entry>],
}

/// Answers everything but the stream.
pub(super) async fn answer(rooms: &Rooms, asked: &HeaderMap, api: &Api) -> Answer {
    match api {
        Api::Description => return tagged(asked, "application/json", OPENAPI),
        Api::Conversation(conversation) => return or_unavailable(whole(rooms, asked, conversation).await),
        Api::Events(conversation, limit) => return or_unavailable(events(rooms, asked, conversation, *limit).await),
        Api::Event(conversation, id) => return or_unavailable(event(rooms, asked, conversation, *id).await),
        Api::Status | Api::Accounts | Api::Conversations(_) | Api::Priority(_) | Api::Stream => {}
    }
    let picture = rooms.board.fresh().await;
    match (api, &picture.fault) {
        (Api::Status, _) => json(asked, &status(rooms, &picture)),
        (_, Some(fault)) => unavailable(&fault.message),
        (_, None) if picture.read_at.is_none() => unavailable("Redis was not read yet"),
        (Api::Accounts, None) => json(asked, &Accounts { version: picture.version, memory: picture.memory, accounts: &picture.accounts }),
        (Api::Conversations(choice), None) => {
            let (rows, total) = choose(&picture, choice);
            json(asked, &Rows { version: picture.version, total, offset: choice.offset, conversations: &rows })
        }
        (Api::Priority(feed), None) => json(asked, &Priority { version: picture.version, entries: &entries(&picture, feed) }),
        (Api::Description | Api::Conversation(_) | Api::Events(..) | Api::Event(..) | Api::Stream, None) => {
            failure(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address")
        }
    }
}

/// The rows of a choice, in its order, and how many there are altogether.
pub(super) fn choose(picture: &Picture, choice: &Choice) -> (Vec<Arc<Row>>, usize) {
    let is_chosen = |row: &&Arc<Row>| choice.account.as_deref().is_none_or(|account| account == row.account.raw()) && choice.tab.has(row);
    let chosen = picture.rows.iter().filter(is_chosen);
    if matches!(choice.tab, Tab::Awaiting | Tab::Priority) {
        let mut rows: Vec<Arc<Row>> = chosen.cloned().collect();
        choice.tab.sort(&mut rows);
        let total = rows.len();
        return (rows.into_iter().skip(choice.offset).take(choice.limit).collect(), total);
    }
    let rows = chosen.clone().skip(choice.offset).take(choice.limit).cloned().collect();
    (rows, chosen.count())
}

/// The entries of a feed, newest first.
pub(super) fn entries(picture: &Picture, feed: &Feed) -> Vec<Arc<Entry>> {
    let is_chosen = |entry: &&Arc<Entry>| {
        feed.account.as_deref().is_none_or(|account| account == entry.account.raw()) && feed.level.is_none_or(|level| level == entry.level)
    };
    picture.feed.iter().rev().filter(is_chosen).take(feed.limit).cloned().collect()
}

fn status<'a>(rooms: &Rooms, picture: &'a Picture) -> Status<'a> {
    Status {
        service: "convpipe dashboard",
        version: env!("CARGO_PKG_VERSION"),
        redis: RedisStatus {
            ok: picture.fault.is_none() && picture.read_at.is_some(),
            read_at: picture.read_at,
            fault: picture.fault.as_ref(),
            memory: picture.memory,
        },
        conversations: picture.rows.len(),
        accounts: picture.accounts.len(),
        streams: Streams {
            open: rooms.streams_max.saturating_sub(rooms.streams.available_permits()),
            max: rooms.streams_max,
            refused: rooms.refused.load(Ordering::Relaxed),
            let_go: rooms.let_go.load(Ordering::Relaxed),
        },
    }
}

async fn whole(rooms: &Rooms, asked: &HeaderMap, wanted: &Conversation) -> Result<Answer, ViewsError> {
    let Some(view) = rooms.reader.conversation(&wanted.account, &wanted.id).await? else { return Ok(none()) };
    // Rounded, so that the same content has the same tag for a while.
    let ttl_ms = view.ttl.map(|ttl| ttl.as_secs() / 60 * 60_000);
    let (account, conversation) = (wanted.account.clone(), wanted.id.clone());
    Ok(json(asked, &Whole { account, conversation, rev: view.rev, ttl_ms, snapshot: view.snapshot }))
}

async fn events(rooms: &Rooms, asked: &HeaderMap, wanted: &Conversation, limit: usize) -> Result<Answer, ViewsError> {
    let entries = rooms.reader.fan_events(&wanted.account, &wanted.id, StreamRange::Last(limit)).await?;
    let parsed: Vec<(String, Box<RawValue>)> =
        entries.iter().filter_map(|entry| Some((entry.id.to_string(), without_raw(&entry.json)?))).collect();
    let events: Vec<StreamItem<'_>> = parsed.iter().map(|(id, event)| StreamItem { stream_id: id.clone(), event }).collect();
    Ok(json(asked, &Events { events: &events }))
}

/// An event without the source item, which is larger than all the rest and asked for alone.
fn without_raw(event: &str) -> Option<Box<RawValue>> {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(event).ok()?;
    fields.remove("raw");
    serde_json::value::to_raw_value(&fields).ok()
}

async fn event(rooms: &Rooms, asked: &HeaderMap, wanted: &Conversation, id: StreamId) -> Result<Answer, ViewsError> {
    // The place before it; what comes next is it, or it is gone.
    let before = if id.seq > 0 { StreamId { ms: id.ms, seq: id.seq - 1 } } else { StreamId { ms: id.ms.saturating_sub(1), seq: u64::MAX } };
    let range = StreamRange::After { id: before, limit: 1 };
    let found = rooms.reader.fan_events(&wanted.account, &wanted.id, range).await?.pop().filter(|entry| entry.id == id);
    let Some(entry) = found else { return Ok(none()) };
    Ok(match RawValue::from_string(entry.json) {
        Ok(event) => json(asked, &StreamItem { stream_id: id.to_string(), event: &event }),
        Err(_) => none(),
    })
}

fn or_unavailable(answer: Result<Answer, ViewsError>) -> Answer {
    answer.unwrap_or_else(|error| match error {
        // Another try would say the same, so it is no 503.
        ViewsError::Unexpected { .. } => failure(StatusCode::BAD_GATEWAY, "unreadable", &error.to_string()),
        error => unavailable(&error.to_string()),
    })
}

fn none() -> Answer {
    failure(StatusCode::NOT_FOUND, "not_found", "there is none, or no more")
}

fn unavailable(message: &str) -> Answer {
    failure(StatusCode::SERVICE_UNAVAILABLE, "redis", message)
}
