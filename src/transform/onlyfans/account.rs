//! What passes by: typing, presence, counters. Group B of the catalogue.

use serde_json::value::RawValue;

use super::item::{self, Failure, Item};
use super::notification::put_fan;
use super::user::User;
use super::wire::{BareOr, Bounded, Scalar, Stated, read};
use crate::schema::event::{Counters, Direction, Event, EventKind, Presence};
use crate::transform::normalize::{FrameContext, Reason};

/// `typing`: a fan is typing. It holds for five seconds, which is for the reader to count.
pub(super) fn typing<'f>(item: &Item<'_, 'f>) -> Result<Event<'f>, Failure> {
    let BareOr(user): BareOr<User<'f>> = read(item.json)?;
    let mut event = item.event(EventKind::TypingStarted, item.weak("typing", ""));
    put_fan(item, &mut event, Some(BareOr(user)), "id")?;
    if event.fan_id.is_none() {
        return Err(Failure::new(Reason::MissingId, "id", "nobody but the account".to_owned()));
    }
    event.direction = Direction::In;
    Ok(event)
}

/// `online`: who of those asked about is online; it answers the heartbeat.
pub(super) fn online<'f>(item: &Item<'_, 'f>) -> Result<Event<'f>, Failure> {
    let Bounded(ids): Bounded<Option<Scalar<'f>>, 65_536> = read(item.json)?;
    let mut online = Vec::with_capacity(ids.len());
    for id in ids {
        online.extend(id.id("[]")?);
    }
    let mut event = item.event(EventKind::PresenceSnapshot, item.weak("presence", ""));
    event.presence = Some(Presence { online });
    Ok(event)
}

/// Keys whose values together make one `counters.updated`.
pub(super) const COUNTER_KEYS: [&str; 5] = ["chat_messages", "count_priority_chat", "unread_tips", "messages", "has_new_hints"];

/// Reads the value of one of [`COUNTER_KEYS`] into its place. `null` is not stated.
pub(super) fn count(counters: &mut Counters, key: &str, json: &RawValue) -> Result<(), Failure> {
    if key == "has_new_hints" {
        counters.has_new_hints = read::<Option<bool>>(json)?;
        return Ok(());
    }
    let value = match read::<Option<Scalar<'_>>>(json)? {
        Some(scalar) => scalar.count("")?,
        None => None,
    };
    match key {
        "chat_messages" => counters.unread_chats = value,
        "count_priority_chat" => counters.priority_chats = value,
        "unread_tips" => counters.unread_tips = value,
        _ => counters.notifications = value,
    }
    Ok(())
}

/// The one event of a frame's counters; `object` is the JSON object of them.
pub(super) fn counters<'f>(context: &FrameContext<'f>, counters: Counters, object: &str) -> Event<'f> {
    let mut event = item::event(context, EventKind::CountersUpdated, item::weak(context, "counters", "", "", object));
    event.counters = Some(counters);
    event
}
