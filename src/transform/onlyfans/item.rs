//! One item of a frame on its way to becoming an event.
//!
//! Owns: event ids, what every event of an item has in common, and what went wrong with one. Invariant: the same item, received by whichever
//! connection, gives the same event id.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::schema::event::{Event, EventKind, Message};
use crate::schema::ids;
use crate::schema::text::Untrusted;
use crate::transform::html;
use crate::transform::normalize::{FrameContext, Reason};

/// Why an item is not an event, and where in it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// The field, from the item's own level; empty for the item itself.
    pub(super) path: Cow<'static, str>,
    pub(super) what: String,
}

impl Failure {
    pub(super) fn new(reason: Reason, path: impl Into<Cow<'static, str>>, what: String) -> Self {
        Self { reason, path: path.into(), what }
    }
}

/// An item: a value of the frame, or an element of it where it is a list.
pub(super) struct Item<'a, 'f> {
    pub(super) context: &'a FrameContext<'f>,
    /// The frame's key that it stands under.
    pub(super) key: &'a Untrusted<'f>,
    pub(super) json: &'f RawValue,
    /// Number of the event within the frame.
    pub(super) item_no: u32,
}

/// An event's id, and whether it is weak.
pub(super) struct Identity {
    id: String,
    weak: bool,
}

impl<'f> Item<'_, 'f> {
    /// The id of what the source identifies: `onlyfans:<account>:<what>:<id>[:<verb>]`. Without a usable id it is a weak one.
    pub(super) fn identity(&self, what: &str, id: Option<&Untrusted<'_>>, verb: &str) -> Identity {
        match id {
            Some(id) => Identity { id: join(self.context, &[what, &ids::key_part(id.raw()), verb]), weak: false },
            None => self.weak(what, verb),
        }
    }

    /// The id of one state of a thing that the source reports again and again: its id and a hash of what is said of it.
    pub(super) fn revision(&self, what: &str, id: Option<&Untrusted<'_>>, verb: &str) -> Identity {
        let Some(id) = id else { return self.weak(what, verb) };
        let hash = ids::hash128_hex(&[self.json.get().as_bytes()]);
        Identity { id: join(self.context, &[what, &ids::key_part(id.raw()), verb, &hash]), weak: false }
    }

    /// See [`weak`].
    pub(super) fn weak(&self, what: &str, verb: &str) -> Identity {
        weak(self.context, what, verb, self.key.raw(), self.json.get())
    }

    /// An event of this item, not yet about anything.
    pub(super) fn event(&self, kind: EventKind, identity: Identity) -> Event<'f> {
        let mut event = event(self.context, kind, identity);
        event.item_no = self.item_no;
        event
    }

    /// Whether that is the account itself.
    pub(super) fn is_account(&self, id: &Untrusted<'_>) -> bool {
        id.raw() == self.context.account_id
    }
}

impl Identity {
    /// Makes it the event's.
    pub(super) fn put_into(self, event: &mut Event<'_>) {
        event.id = self.id.into();
        event.weak_id = self.weak;
    }
}

/// The id of what has none: a hash of the payload and of the second it was received in, so that two connections which overlap agree
/// (but for a second's border) and the same payload a minute later is another event.
pub(super) fn weak(context: &FrameContext<'_>, what: &str, verb: &str, key: &str, json: &str) -> Identity {
    let second = context.received_at.0.div_euclid(1000).to_le_bytes();
    let hash = ids::hash128_hex(&[key.as_bytes(), json.as_bytes(), &second]);
    Identity { id: join(context, &[what, verb, &hash]), weak: true }
}

/// An event of the frame, not yet about anything.
pub(super) fn event<'f>(context: &FrameContext<'f>, kind: EventKind, identity: Identity) -> Event<'f> {
    let mut event = Event::of_account(kind, identity.id, context.account_id, context.connection, context.received_at);
    event.weak_id = identity.weak;
    event.frame_no = context.frame_no;
    event
}

/// `onlyfans:<account>` and the parts that are not empty, in one allocation.
fn join(context: &FrameContext<'_>, parts: &[&str]) -> String {
    let len: usize = parts.iter().map(|part| part.len() + 1).sum();
    let mut id = String::with_capacity("onlyfans:".len() + context.account_id.len() + len);
    id.push_str("onlyfans:");
    id.push_str(context.account_id);
    for part in parts.iter().filter(|part| !part.is_empty()) {
        id.push(':');
        id.push_str(part);
    }
    id
}

/// A message of which only the text is known.
pub(super) fn text_only(html: Option<Untrusted<'_>>) -> Option<Message<'_>> {
    let (html, text) = html_and_text(html?);
    Some(Message { html: Some(html), text: Some(text), ..Message::default() })
}

/// Text as it came, and plain.
pub(super) fn html_and_text(html: Untrusted<'_>) -> (Untrusted<'_>, Untrusted<'_>) {
    let html = html.into_cow();
    let text = match &html {
        Cow::Borrowed(html) => html::to_text(html),
        Cow::Owned(html) => Cow::Owned(html::to_text(html).into_owned()),
    };
    (html.into(), text.into())
}
