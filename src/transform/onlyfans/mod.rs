//! OnlyFans: which key of a frame is what.
//!
//! The platform documents nothing; the catalogue is what public client code, tests and a capture show. Comments mark what is inferred \[I\] and what is
//! unknown \[U\]. Owns: the walk over a frame's keys. Does not own: bytes that are no frame ([`super::normalize`]) and what a single item means
//! (the files beside this one, by the catalogue's groups). Invariant: every key becomes an event, a rejection, a control answer, or belongs to
//! a key that does.

mod account;
mod chat;
mod item;
mod money;
mod notification;
mod publishing;
mod raw;
mod user;
mod wire;

use std::borrow::Cow;

use serde_json::value::RawValue;

use self::item::{Failure, Item};
use self::wire::{Bounded, Scalar, read};
use super::normalize::{Control, FrameContext, Normalized, Reason, Rejected};
use crate::schema::event::{Counters, Event, EventKind, Target};
use crate::schema::text::Untrusted;

pub(super) use self::wire::Members;

/// Most events and rejections of one frame. What is beyond is rejected in one piece, the whole frame: a few bytes of JSON each would
/// otherwise become a thousand.
pub(super) const ITEMS_MAX: usize = 1024;

/// Largest source item that an event carries.
const RAW_MAX_BYTES: usize = 64 * 1024;

/// Turns a frame's members into events, rejections and a control answer.
pub(super) fn walk<'f>(frame: &'f str, members: &Members<'f>, context: &FrameContext<'f>) -> Normalized<'f> {
    let mut walk = Walk { context, out: Normalized::default(), full: members.cut };
    let mut counters = Vec::new();
    for (key, json) in &members.list {
        if account::COUNTER_KEYS.contains(&key.raw()) {
            counters.push((key, *json));
        } else {
            walk.member(key, json, members);
        }
    }
    walk.counters(&counters);
    if walk.full {
        let detail = format!("more than {ITEMS_MAX} items in one frame");
        walk.out.rejected.push(Rejected::new(Reason::TooManyItems, None, detail, frame.as_bytes()));
    }
    walk.out
}

struct Walk<'a, 'f> {
    context: &'a FrameContext<'f>,
    out: Normalized<'f>,
    /// Items were left out because there were [`ITEMS_MAX`] already.
    full: bool,
}

impl<'f> Walk<'_, 'f> {
    /// The catalogue.
    fn member(&mut self, key: &Untrusted<'f>, json: &'f RawValue, members: &Members<'f>) {
        use EventKind as Kind;
        match key.raw() {
            "api2_chat_message" => self.one(key, json, chat::message),
            "chat_message_delete" => self.one(key, json, chat::deleted),
            "chat_message_like" => self.one(key, json, |item| Ok(chat::liked(item, Kind::MessageLiked, "liked"))),
            "chat_message_unlike" => self.one(key, json, |item| Ok(chat::liked(item, Kind::MessageUnliked, "unliked"))),
            "chat_queue_update" => self.one(key, json, chat::queue),

            "typing" => self.one(key, json, account::typing),
            "new_message" => self.one(key, json, notification::new_message),
            "subscribed" => self.one(key, json, notification::subscribed),
            "toasts" => self.each(key, json, notification::toast),

            "post_published" => self.one(key, json, |item| publishing::published(item, Kind::PostPublished)),
            "post_updated" => self.one(key, json, |item| publishing::published(item, Kind::PostUpdated)),
            "post_expire" => self.one(key, json, |item| publishing::published(item, Kind::PostExpired)),
            "post_fundraising_updated" => self.one(key, json, |item| publishing::published(item, Kind::PostFundraisingUpdated)),
            "stories" => self.each(key, json, |item| publishing::published(item, Kind::StoryPublished)),
            "story_tips" => self.one(key, json, |item| Ok(publishing::tip(item, "story")?.unwrap_or_else(|| unknown(item)))),
            "stream_tips" => self.one(key, json, |item| Ok(publishing::tip(item, "stream")?.unwrap_or_else(|| unknown(item)))),
            "stream_start" => self.one(key, json, |item| publishing::stream(item, Kind::StreamStarted)),
            "stream_stop" => self.one(key, json, |item| publishing::stream(item, Kind::StreamStopped)),
            "stream_likes" | "stream_like" => self.one(key, json, |item| publishing::stream(item, Kind::StreamLiked)),
            "stream" | "stream_update" => self.one(key, json, |item| Ok(publishing::loose_stream(item, Kind::StreamUpdated, "updated"))),
            "stream_look" => self.one(key, json, |item| Ok(publishing::loose_stream(item, Kind::StreamJoined, "joined"))),
            "stream_unlook" => self.one(key, json, |item| Ok(publishing::loose_stream(item, Kind::StreamLeft, "left"))),
            "stream_comment" => self.one(key, json, |item| Ok(publishing::loose_stream(item, Kind::StreamCommented, "commented"))),

            "online" => {
                // The heartbeat is answered even where the answer cannot be read.
                self.control(Control::Online);
                self.one(key, json, account::online);
            }
            "connected" if json.get() == "true" => self.control(Control::Connected),
            "error" if json.get() != "null" => self.control(Control::Error(error_code(json))),

            name if is_companion(name, members) => {}
            _ => self.one(key, json, |item| Ok(unknown(item))),
        }
    }

    /// One item under a key.
    fn one(&mut self, key: &Untrusted<'f>, json: &'f RawValue, read: impl FnOnce(&Item<'_, 'f>) -> Result<Event<'f>, Failure>) {
        if !self.has_room() {
            return;
        }
        let item = Item { context: self.context, key, json, item_no: self.next_item_no() };
        match read(&item) {
            Ok(event) => self.push(event, json),
            Err(failure) => self.reject(key, None, json, &failure),
        }
    }

    /// The items of a list, or the one that stands in its place. An empty list says nothing that the catalogue knows.
    fn each(&mut self, key: &Untrusted<'f>, json: &'f RawValue, read_item: impl Fn(&Item<'_, 'f>) -> Result<Event<'f>, Failure>) {
        if !json.get().starts_with('[') {
            return self.one(key, json, read_item);
        }
        match read::<Bounded<&'f RawValue, ITEMS_MAX>>(json) {
            Ok(Bounded(list)) if list.is_empty() => self.one(key, json, |item| Ok(unknown(item))),
            Ok(Bounded(list)) => {
                for (index, json) in list.into_iter().enumerate() {
                    if !self.has_room() {
                        return;
                    }
                    let item = Item { context: self.context, key, json, item_no: self.next_item_no() };
                    match read_item(&item) {
                        Ok(event) => self.push(event, json),
                        Err(failure) => self.reject(key, Some(index), json, &failure),
                    }
                }
            }
            Err(failure) => self.reject(key, None, json, &failure),
        }
    }

    /// All counters of a frame are one event; one that cannot be read does not take the others with it.
    fn counters(&mut self, members: &[(&Untrusted<'f>, &'f RawValue)]) {
        let mut counters = Counters::default();
        let mut object = String::new();
        for &(key, json) in members {
            match account::count(&mut counters, key.raw(), json) {
                Ok(()) => {
                    object.push_str(if object.is_empty() { "{\"" } else { ",\"" });
                    object.push_str(key.raw());
                    object.push_str("\":");
                    object.push_str(json.get());
                }
                Err(failure) if self.has_room() => self.reject(key, None, json, &failure),
                Err(_) => {}
            }
        }
        if object.is_empty() || !self.has_room() {
            return;
        }
        object.push('}');
        let mut event = account::counters(self.context, counters, &object);
        event.item_no = self.next_item_no();
        if self.context.raw {
            event.raw = RawValue::from_string(object).ok().map(Cow::Owned);
        }
        self.out.events.push(event);
    }

    fn push(&mut self, mut event: Event<'f>, json: &'f RawValue) {
        if self.context.raw {
            event.raw_omitted = json.get().len() > RAW_MAX_BYTES;
            if !event.raw_omitted {
                // `null` would read back as absent.
                event.raw = Some(raw::without_urls(json)).filter(|raw| raw.get() != "null");
            }
        }
        self.out.events.push(event);
    }

    #[cold]
    fn reject(&mut self, key: &Untrusted<'f>, index: Option<usize>, json: &'f RawValue, failure: &Failure) {
        let index = index.map(|index| format!("[{index}]")).unwrap_or_default();
        let dot = if failure.path.is_empty() { "" } else { "." };
        let detail = format!("{}{index}{dot}{}: {}", key.raw(), failure.path, failure.what);
        self.out.rejected.push(Rejected::new(failure.reason, Some(key.clone()), detail, json.get().as_bytes()));
    }

    /// The gravest answer of a frame stands.
    fn control(&mut self, control: Control<'f>) {
        match (&self.out.control, &control) {
            (Some(Control::Error(_)), _) | (Some(Control::Connected), Control::Online) => {}
            _ => self.out.control = Some(control),
        }
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.out.events.len() + self.out.rejected.len() < ITEMS_MAX;
        self.full |= !has_room;
        has_room
    }

    fn next_item_no(&self) -> u32 {
        u32::try_from(self.out.events.len()).unwrap_or(u32::MAX)
    }
}

/// Keys that only ever stand beside another and say something of it: whether `name` is one, and the other is there.
fn is_companion(name: &str, members: &Members<'_>) -> bool {
    let main: &[&str] = match name {
        "hasSystemNotifications" => &["new_message", "messages", "chat_messages"],
        "is_show_tips" | "tips_count" | "tips_summ" => &["stream_tips"],
        "v" => &["connected"],
        _ => return false,
    };
    members.list.iter().any(|(key, _)| main.contains(&key.raw()))
}

/// What the catalogue does not know: carried, never dropped.
fn unknown<'f>(item: &Item<'_, 'f>) -> Event<'f> {
    let mut event = item.event(EventKind::Unknown, item.weak("unknown", ""));
    event.target = Some(Target { kind: Cow::Borrowed("key"), id: Some(item.key.clone()), code: None });
    event
}

/// The code of an `error` frame: a number or a text \[U\], or whatever stands there.
fn error_code(json: &RawValue) -> Untrusted<'_> {
    match read(json) {
        Ok(Scalar::Number(code) | Scalar::Text(code)) => code.into(),
        Err(_) => json.get().into(),
    }
}
