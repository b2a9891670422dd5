//! Chat messages, what happens to them, and bulk sending: groups A and E of the catalogue.

use serde::Deserialize;

use super::item::{Failure, Item, html_and_text};
use super::user::UserOrId;
use super::wire::{BareOr, Bounded, Object, OrEmpty, Scalar, Stated, read};
use crate::schema::event::{Basis, Currency, Direction, Event, EventKind, Media, Message, Money, Target};
use crate::schema::text::Untrusted;
use crate::transform::normalize::Reason;

/// Most media of a message.
const MEDIA_MAX: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChatMessage<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow)]
    text: Option<Untrusted<'f>>,
    #[serde(borrow)]
    tip_text: Option<Untrusted<'f>>,
    #[serde(borrow)]
    price: Option<Scalar<'f>>,
    #[serde(borrow)]
    tip_amount: Option<Scalar<'f>>,
    is_tip: Option<bool>,
    is_free: Option<bool>,
    is_opened: Option<bool>,
    #[serde(borrow)]
    opened_at: Option<Scalar<'f>>,
    is_from_queue: Option<bool>,
    #[serde(borrow)]
    queue_id: Option<Scalar<'f>>,
    #[serde(borrow)]
    created_at: Option<Scalar<'f>>,
    #[serde(borrow)]
    changed_at: Option<Scalar<'f>>,
    #[serde(borrow)]
    from_user: Option<UserOrId<'f>>,
    #[serde(borrow)]
    to_user: Option<UserOrId<'f>>,
    #[serde(borrow)]
    reply_to_message: Option<BareOr<Reference<'f>>>,
    #[serde(borrow)]
    media: Option<Bounded<Object<Medium<'f>>, MEDIA_MAX>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Medium<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Untrusted<'f>>,
    can_view: Option<bool>,
    #[serde(borrow)]
    duration: Option<Scalar<'f>>,
    #[serde(borrow)]
    files: Option<OrEmpty<Files<'f>>>,
}

#[derive(Debug, Default, Deserialize)]
struct Files<'f> {
    #[serde(borrow)]
    full: Option<OrEmpty<File<'f>>>,
}

#[derive(Debug, Default, Deserialize)]
struct File<'f> {
    #[serde(borrow)]
    width: Option<Scalar<'f>>,
    #[serde(borrow)]
    height: Option<Scalar<'f>>,
}

/// A message that an item refers to. The object form of the likes is \[U\], so both spellings are tried.
#[derive(Debug, Default, Deserialize)]
struct Reference<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow)]
    message_id: Option<Scalar<'f>>,
}

impl<'f> From<Scalar<'f>> for Reference<'f> {
    fn from(id: Scalar<'f>) -> Self {
        Self { id: Some(id), message_id: None }
    }
}

impl<'f> Reference<'f> {
    fn id(self) -> Result<Option<Untrusted<'f>>, Failure> {
        Ok(self.message_id.id("message_id")?.or(self.id.id("id")?))
    }
}

/// `api2_chat_message`
pub(super) fn message<'f>(item: &Item<'_, 'f>) -> Result<Event<'f>, Failure> {
    let Object(chat): Object<ChatMessage<'f>> = read(item.json)?;
    let (direction, fan_id, fan) = counterparty(item, chat.from_user, chat.to_user)?;
    let (kind, verb) = match direction {
        Direction::Out => (EventKind::MessageSent, "sent"),
        _ => (EventKind::MessageReceived, "received"),
    };
    let id = chat.id.id("id")?;
    let mut event = item.event(kind, item.identity("msg", id.as_ref(), verb));
    event.direction = direction;
    event.conversation_id = Some(fan_id.clone());
    event.fan_id = Some(fan_id);
    event.occurred_at = chat.created_at.time("createdAt")?;
    if let Some(BareOr(fan)) = fan {
        fan.describe(&mut event)?;
    }

    let is_tip = chat.is_tip == Some(true);
    let price = chat.price.cents("price")?;
    let tip = chat.tip_amount.cents("tipAmount")?;
    // What the account gives away is not spend of the fan's, and every reader of `money` takes it as that.
    if is_tip && direction == Direction::In {
        event.money = tip.filter(|&cents| cents > 0).or(price.filter(|&cents| cents > 0)).map(|cents| amount(cents, Basis::Unknown));
    }
    let text = match chat.text {
        Some(text) if !text.is_blank() || chat.tip_text.is_none() => Some(text),
        _ => chat.tip_text,
    };
    let (html, text) = text.map(html_and_text).unzip();
    event.message = Some(Message {
        id,
        html,
        text,
        reply_to: chat.reply_to_message.map_or(Ok(None), |BareOr(reply)| reply.id())?,
        media: media(chat.media)?,
        // The price of a tip is the tip, not something to be bought.
        price: price.filter(|_| !is_tip),
        is_free: chat.is_free,
        is_opened: chat.opened_at.time("openedAt")?.map(|_| true).or(chat.is_opened),
        is_tip: chat.is_tip,
        is_bulk: chat.is_from_queue,
        queue_id: chat.queue_id.id("queueId")?,
        changed_at: chat.changed_at.time("changedAt")?,
    });
    Ok(event)
}

/// Who is at the other end, and whether they wrote or were written to.
///
/// Outbound is what the account wrote and what names a recipient other than the account. An outbound message without a usable recipient belongs to
/// no conversation: that is not guessed.
fn counterparty<'f>(
    item: &Item<'_, 'f>,
    mut from: Option<UserOrId<'f>>,
    mut to: Option<UserOrId<'f>>,
) -> Result<(Direction, Untrusted<'f>, Option<UserOrId<'f>>), Failure> {
    let from_id = from.as_mut().map_or(Ok(None), |BareOr(user)| user.take_id("fromUser.id"))?;
    let to_id = to.as_mut().map_or(Ok(None), |BareOr(user)| user.take_id("toUser.id"))?;
    let from_account = from_id.as_ref().is_some_and(|id| item.is_account(id));
    let to_account = to_id.as_ref().is_some_and(|id| item.is_account(id));
    let outbound = from_account || (to.is_some() && !to_account);
    let (direction, id, user, path) =
        if outbound { (Direction::Out, to_id, to, "toUser.id") } else { (Direction::In, from_id, from, "fromUser.id") };
    match id {
        Some(id) if !item.is_account(&id) => Ok((direction, id, user)),
        _ => Err(Failure::new(Reason::NoCounterparty, path, "nobody but the account".to_owned())),
    }
}

fn media<'f>(media: Option<Bounded<Object<Medium<'f>>, MEDIA_MAX>>) -> Result<Vec<Media<'f>>, Failure> {
    let Some(Bounded(media)) = media else { return Ok(Vec::new()) };
    let read = |Object(medium): Object<Medium<'f>>| {
        let full = medium.files.and_then(|OrEmpty(files)| files.full).map(|OrEmpty(full)| full).unwrap_or_default();
        Ok(Media {
            id: medium.id.id("media.id")?,
            kind: medium.kind,
            can_view: medium.can_view,
            duration_s: medium.duration.measure("media.duration")?,
            width: full.width.measure("media.files.full.width")?,
            height: full.height.measure("media.files.full.height")?,
        })
    };
    media.into_iter().map(read).collect()
}

/// An amount whose field name says no more than `basis`.
pub(super) fn amount(minor: i64, basis: Basis) -> Money {
    Money { minor, currency: Currency::Usd, basis, net_minor: None }
}

/// `chat_message_delete`: an id and nothing else, so the conversation is for the reader to find.
pub(super) fn deleted<'f>(item: &Item<'_, 'f>) -> Result<Event<'f>, Failure> {
    let BareOr(reference): BareOr<Reference<'f>> = read(item.json)?;
    let Some(id) = reference.id()? else {
        return Err(Failure::new(Reason::MissingId, "", "names no message".to_owned()));
    };
    Ok(about_message(item, EventKind::MessageDeleted, "deleted", Some(id)))
}

/// `chat_message_like`, `chat_message_unlike`. \[U\]: only the names are known, so a shape that cannot be read costs the id and no more.
pub(super) fn liked<'f>(item: &Item<'_, 'f>, kind: EventKind, verb: &str) -> Event<'f> {
    let reference = read::<BareOr<Reference<'f>>>(item.json).unwrap_or_default().0;
    about_message(item, kind, verb, reference.id().unwrap_or_default())
}

fn about_message<'f>(item: &Item<'_, 'f>, kind: EventKind, verb: &str, id: Option<Untrusted<'f>>) -> Event<'f> {
    let mut event = item.event(kind, item.identity("msg", id.as_ref(), verb));
    event.message = id.map(|id| Message { id: Some(id), ..Message::default() });
    event
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueUpdate<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    is_done: Option<bool>,
    has_error: Option<bool>,
    is_canceled: Option<bool>,
}

/// `chat_queue_update`. Its `date` is the day the queue was made for, not when this happened.
pub(super) fn queue<'f>(item: &Item<'_, 'f>) -> Result<Event<'f>, Failure> {
    let Object(queue): Object<QueueUpdate<'f>> = read(item.json)?;
    let id = queue.id.id("id")?;
    let mut event = if [queue.is_done, queue.has_error, queue.is_canceled].contains(&Some(true)) {
        item.event(EventKind::BulkFinished, item.identity("queue", id.as_ref(), "finished"))
    } else {
        item.event(EventKind::BulkProgressed, item.revision("queue", id.as_ref(), "progressed"))
    };
    event.direction = Direction::Out;
    event.target = Some(Target { kind: "queue".into(), id, code: None });
    Ok(event)
}
