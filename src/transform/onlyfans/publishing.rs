//! Posts, stories and streams: group F of the catalogue.

use std::borrow::Cow;

use serde::Deserialize;

use super::chat::amount;
use super::item::{Failure, Identity, Item, text_only};
use super::notification::put_fan;
use super::user::UserOrId;
use super::wire::{BareOr, Object, Scalar, Stated, read};
use crate::schema::event::{Basis, Direction, Event, EventKind, Target};
use crate::schema::text::Untrusted;

/// A post, story or stream: its bare id, or an object that holds it.
#[derive(Debug, Default, Deserialize)]
struct Published<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
}

impl<'f> From<Scalar<'f>> for Published<'f> {
    fn from(id: Scalar<'f>) -> Self {
        Self { id: Some(id) }
    }
}

/// `post_published`, `post_updated`, `post_expire`, `post_fundraising_updated`, one of `stories`.
///
/// Only what happens once is identified by the thing's id alone. A change says no time, so two changes of one post are told apart by the
/// second they were received in; the state of a fundraising by what it says.
pub(super) fn published<'f>(item: &Item<'_, 'f>, kind: EventKind) -> Result<Event<'f>, Failure> {
    let BareOr(published): BareOr<Published<'f>> = read(item.json)?;
    let id = published.id.id("id")?;
    let (what, identity) = match kind {
        EventKind::PostPublished => ("post", item.identity("post", id.as_ref(), "published")),
        EventKind::PostExpired => ("post", item.identity("post", id.as_ref(), "expired")),
        EventKind::PostFundraisingUpdated => ("post", item.revision("post", id.as_ref(), "fundraising")),
        EventKind::StoryPublished => ("story", item.identity("story", id.as_ref(), "published")),
        _ => ("post", item.weak("post", "updated")),
    };
    Ok(about(item, kind, identity, what, id))
}

fn about<'f>(item: &Item<'_, 'f>, kind: EventKind, identity: Identity, what: &'static str, id: Option<Untrusted<'f>>) -> Event<'f> {
    let mut event = item.event(kind, identity);
    event.target = Some(Target { kind: Cow::Borrowed(what), id, code: None });
    event
}

/// What is said of a stream. Of `stream`, `stream_update`, `stream_look`, `stream_unlook` and `stream_comment` only the names are known \[U\].
#[derive(Debug, Default, Deserialize)]
struct Stream<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow)]
    stream_id: Option<Scalar<'f>>,
    #[serde(borrow)]
    from_user: Option<UserOrId<'f>>,
    #[serde(borrow)]
    comment: Option<Untrusted<'f>>,
}

impl<'f> From<Scalar<'f>> for Stream<'f> {
    fn from(id: Scalar<'f>) -> Self {
        Self { stream_id: Some(id), ..Self::default() }
    }
}

/// `stream_start`, `stream_stop`, `stream_likes` and its old spelling: shapes that were seen.
pub(super) fn stream<'f>(item: &Item<'_, 'f>, kind: EventKind) -> Result<Event<'f>, Failure> {
    let BareOr(stream): BareOr<Stream<'f>> = read(item.json)?;
    let id = stream.stream_id.id("stream_id")?.or(stream.id.id("id")?);
    let identity = match kind {
        EventKind::StreamStarted => item.identity("stream", id.as_ref(), "started"),
        EventKind::StreamStopped => item.identity("stream", id.as_ref(), "stopped"),
        _ => item.weak("stream", "liked"),
    };
    let mut event = about(item, kind, identity, "stream", id);
    put_fan(item, &mut event, stream.from_user, "from_user.id")?;
    Ok(event)
}

/// A stream's event of which only the name is known: what cannot be read of it is left to `raw`.
pub(super) fn loose_stream<'f>(item: &Item<'_, 'f>, kind: EventKind, verb: &str) -> Event<'f> {
    let BareOr(stream) = read::<BareOr<Stream<'f>>>(item.json).unwrap_or_default();
    let id = stream.stream_id.id("").unwrap_or_default().or(stream.id.id("").unwrap_or_default());
    let mut event = about(item, kind, item.weak("stream", verb), "stream", id);
    event.message = text_only(stream.comment);
    // An unusable user costs the fan, not the event.
    if put_fan(item, &mut event, stream.from_user, "").is_err() {
        event.direction = Direction::System;
    }
    event
}

#[derive(Debug, Deserialize)]
struct Tip<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow)]
    from_user: Option<UserOrId<'f>>,
    #[serde(borrow)]
    story_user_id: Option<Scalar<'f>>,
    #[serde(borrow)]
    story_id: Option<Scalar<'f>>,
    #[serde(borrow)]
    stream_user_id: Option<Scalar<'f>>,
    #[serde(borrow)]
    stream_id: Option<Scalar<'f>>,
    #[serde(borrow)]
    amount: Option<Scalar<'f>>,
    #[serde(borrow)]
    amount_human: Option<Scalar<'f>>,
    #[serde(borrow)]
    message: Option<Untrusted<'f>>,
}

/// `story_tips`, `stream_tips`. `None`: the tip went to another creator, whose stream the account watches; that is not the account's money.
pub(super) fn tip<'f>(item: &Item<'_, 'f>, what: &'static str) -> Result<Option<Event<'f>>, Failure> {
    let Object(tip): Object<Tip<'f>> = read(item.json)?;
    let (name, owner, target) = match what {
        "story" => ("story_tip", tip.story_user_id.id("story_user_id")?, tip.story_id.id("story_id")?),
        _ => ("stream_tip", tip.stream_user_id.id("stream_user_id")?, tip.stream_id.id("stream_id")?),
    };
    if owner.is_some_and(|owner| !item.is_account(&owner)) {
        return Ok(None);
    }
    let id = tip.id.id("id")?;
    let mut event = about(item, EventKind::TipReceived, item.identity(name, id.as_ref(), ""), what, target);
    put_fan(item, &mut event, tip.from_user, "from_user.id")?;
    let cents = match tip.amount.cents("amount")? {
        Some(cents) => Some(cents),
        None => tip.amount_human.cents("amount_human")?,
    };
    event.money = cents.map(|cents| amount(cents, Basis::Unknown));
    event.message = text_only(tip.message);
    Ok(Some(event))
}
