//! Notifications, subscriptions and toasts: groups C and D of the catalogue.
//!
//! `new_message` is a notification, not a chat message. Its `user_id` is the recipient, the account; who acted is `user.id`.

use std::borrow::Cow;

use serde::Deserialize;

use super::chat::amount;
use super::item::{Failure, Item, text_only};
use super::user::UserOrId;
use super::wire::{BareOr, Object, OrEmpty, Scalar, Stated, read};
use crate::schema::event::{Basis, Direction, Event, EventKind, Money, SubscriptionState, Target};
use crate::schema::text::Untrusted;
use crate::transform::normalize::Reason;

#[derive(Debug, Deserialize)]
struct NewMessage<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Untrusted<'f>>,
    #[serde(borrow, rename = "subType")]
    sub_kind: Option<Untrusted<'f>>,
    #[serde(borrow)]
    text: Option<Untrusted<'f>>,
    #[serde(borrow, rename = "createdAt")]
    created_at: Option<Scalar<'f>>,
    #[serde(borrow, rename = "amountGross")]
    amount_gross: Option<Scalar<'f>>,
    #[serde(borrow, rename = "amountNet")]
    amount_net: Option<Scalar<'f>>,
    #[serde(borrow, rename = "replacePairs")]
    replace_pairs: Option<OrEmpty<ReplacePairs<'f>>>,
    #[serde(borrow)]
    user: Option<UserOrId<'f>>,
}

#[derive(Debug, Default, Deserialize)]
struct ReplacePairs<'f> {
    #[serde(borrow, rename = "{PRICE}")]
    price: Option<Scalar<'f>>,
    #[serde(borrow, rename = "{AMOUNT}")]
    amount: Option<Scalar<'f>>,
    #[serde(borrow, rename = "{MESSAGE_LINK}")]
    message_link: Option<Untrusted<'f>>,
    #[serde(borrow, rename = "{POST_URL}")]
    post_url: Option<Untrusted<'f>>,
}

/// `new_message`
pub(super) fn new_message<'f>(item: &Item<'_, 'f>) -> Result<Event<'f>, Failure> {
    let Object(note): Object<NewMessage<'f>> = read(item.json)?;
    let kind = kind_of(raw(note.sub_kind.as_ref()), raw(note.kind.as_ref()));
    let id = note.id.id("id")?;
    let mut event = item.event(kind, item.identity("note", id.as_ref(), ""));
    event.occurred_at = note.created_at.time("createdAt")?;
    put_fan(item, &mut event, note.user, "user.id")?;
    event.message = text_only(note.text);
    event.target = Some(Target { kind: "notification".into(), id, code: code(note.kind, note.sub_kind) });

    let pairs = note.replace_pairs.map(|OrEmpty(pairs)| pairs).unwrap_or_default();
    match kind {
        EventKind::TipReceived => {
            event.money = gross_and_net(note.amount_gross.cents("amountGross")?, note.amount_net.cents("amountNet")?);
        }
        EventKind::PpvUnlocked => {
            event.money = pairs.amount.cents("replacePairs.{AMOUNT}")?.map(|cents| amount(cents, Basis::Unknown));
            let id = pairs.message_link.as_ref().and_then(|link| digits_after(link.raw(), "firstId=")).map(Untrusted::from);
            event.message.get_or_insert_default().id = id;
        }
        EventKind::PostPurchased => {
            event.money = pairs.price.cents("replacePairs.{PRICE}")?.map(|cents| amount(cents, Basis::Unknown));
            let id = pairs.post_url.as_ref().and_then(|url| post_id(url.raw())).map(Untrusted::from);
            let code = event.target.take().and_then(|target| target.code);
            event.target = Some(Target { kind: "post".into(), id, code });
        }
        EventKind::SubscriptionExpired => put_subscription(&mut event, SubscriptionState::Expired),
        EventKind::SubscriptionStarted | EventKind::SubscriptionReturned | EventKind::SubscriptionRenewed => {
            event.money = pairs.price.cents("replacePairs.{PRICE}")?.map(|cents| amount(cents, Basis::Unknown));
            put_subscription(&mut event, SubscriptionState::Active);
        }
        _ => {}
    }
    Ok(event)
}

/// What a notification means: by its `subType` where that is known, else by its `type`.
fn kind_of(sub_kind: &str, kind: &str) -> EventKind {
    match (sub_kind, kind) {
        ("new_tips", _) => EventKind::TipReceived,
        ("subscriber_pay_for_chat_message", _) => EventKind::PpvUnlocked,
        ("your_post_purchased", _) => EventKind::PostPurchased,
        ("new_subscriber", _) => EventKind::SubscriptionStarted,
        ("returning_subscriber", _) => EventKind::SubscriptionReturned,
        ("subscribe_was_expired", _) => EventKind::SubscriptionExpired,
        (_, "tip") => EventKind::TipReceived,
        (_, "paided_message") => EventKind::PpvUnlocked,
        (_, "paided_post") => EventKind::PostPurchased,
        // [U] No name of a renewal was seen. These two keep a new name from being told as a new subscriber.
        (sub, "subscribed") if sub.contains("renew") => EventKind::SubscriptionRenewed,
        (sub, "subscribed") if sub.contains("expired") => EventKind::SubscriptionExpired,
        (_, "subscribed") => EventKind::SubscriptionStarted,
        _ => EventKind::NotificationReceived,
    }
}

fn raw<'a>(text: Option<&'a Untrusted<'_>>) -> &'a str {
    text.map_or("", Untrusted::raw)
}

/// `tip/new_tips`, or the one of the two that is stated.
fn code<'f>(kind: Option<Untrusted<'f>>, sub_kind: Option<Untrusted<'f>>) -> Option<Untrusted<'f>> {
    match (kind, sub_kind) {
        (Some(kind), Some(sub)) => Some(format!("{}/{}", kind.raw(), sub.raw()).into()),
        (kind, sub) => kind.or(sub),
    }
}

/// Puts in who acted. Money and subscriptions of nobody are refused; what merely informs may name nobody.
pub(super) fn put_fan<'f>(
    item: &Item<'_, 'f>,
    event: &mut Event<'f>,
    user: Option<UserOrId<'f>>,
    path: &'static str,
) -> Result<(), Failure> {
    let mut user = user.map(|BareOr(user)| user).unwrap_or_default();
    match user.take_id(path)?.filter(|id| !item.is_account(id)) {
        Some(id) => {
            event.direction = Direction::In;
            event.conversation_id = Some(id.clone());
            event.fan_id = Some(id);
            user.describe(event)
        }
        None if needs_fan(event.kind) => {
            Err(Failure::new(Reason::NoCounterparty, path, format!("nobody but the account, in {}", event.kind)))
        }
        None => Ok(()),
    }
}

const fn needs_fan(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::TipReceived
            | EventKind::PpvUnlocked
            | EventKind::PostPurchased
            | EventKind::SubscriptionStarted
            | EventKind::SubscriptionReturned
            | EventKind::SubscriptionRenewed
            | EventKind::SubscriptionExpired
    )
}

fn gross_and_net(gross: Option<i64>, net: Option<i64>) -> Option<Money> {
    match (gross, net) {
        (Some(gross), net) => Some(Money { net_minor: net, ..amount(gross, Basis::Gross) }),
        (None, Some(net)) => Some(amount(net, Basis::Net)),
        (None, None) => None,
    }
}

fn put_subscription(event: &mut Event<'_>, state: SubscriptionState) {
    let subscription = event.subscription.get_or_insert_default();
    subscription.state = Some(state);
    if state == SubscriptionState::Active {
        subscription.is_fan = Some(true);
    }
}

/// The digits that follow `name` in a link: `/my/chats/chat/100000001?firstId=6400000000001`.
fn digits_after(link: &str, name: &str) -> Option<String> {
    let (_, after) = link.split_once(name)?;
    digits(after)
}

/// The post's id in a link to it: the first part of the path that is a number, `https://…/492000001/u200000001`.
fn post_id(url: &str) -> Option<String> {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    path.split(['/', '?', '#', '"', '\'']).find(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())).and_then(digits)
}

fn digits(text: &str) -> Option<String> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    (1..=32).contains(&end).then(|| text[..end].to_owned())
}

#[derive(Debug, Deserialize)]
struct Subscribed<'f> {
    #[serde(borrow)]
    user: Option<UserOrId<'f>>,
    #[serde(borrow)]
    timestamp: Option<Scalar<'f>>,
}

/// `subscribed`: that there is a subscription; whether a first one it does not say.
pub(super) fn subscribed<'f>(item: &Item<'_, 'f>) -> Result<Event<'f>, Failure> {
    let Object(subscribed): Object<Subscribed<'f>> = read(item.json)?;
    let occurred_at = subscribed.timestamp.time("timestamp")?;
    let mut event = item.event(EventKind::SubscriptionStarted, item.weak("sub", ""));
    event.occurred_at = occurred_at;
    put_fan(item, &mut event, subscribed.user, "user.id")?;
    if let (Some(at), Some(fan)) = (occurred_at, &event.fan_id) {
        let identity = item.identity("sub", Some(fan), itoa::Buffer::new().format(at.0.div_euclid(1000)));
        identity.put_into(&mut event);
    }
    put_subscription(&mut event, SubscriptionState::Active);
    Ok(event)
}

#[derive(Debug, Deserialize)]
struct Toast<'f> {
    #[serde(borrow)]
    id: Option<Scalar<'f>>,
    #[serde(borrow)]
    text: Option<Untrusted<'f>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Untrusted<'f>>,
    #[serde(borrow)]
    data: Option<OrEmpty<ToastData<'f>>>,
}

#[derive(Debug, Default, Deserialize)]
struct ToastData<'f> {
    #[serde(borrow)]
    code: Option<Untrusted<'f>>,
    #[serde(borrow)]
    replacements: Option<OrEmpty<Replacements<'f>>>,
    #[serde(borrow, rename = "relatedUser")]
    related_user: Option<UserOrId<'f>>,
}

#[derive(Debug, Default, Deserialize)]
struct Replacements<'f> {
    #[serde(borrow, rename = "{RELATED_USER_ID}")]
    related_user_id: Option<Scalar<'f>>,
}

/// One of `toasts`. Of the two ids of the related user the object's is the right one where both stand.
pub(super) fn toast<'f>(item: &Item<'_, 'f>) -> Result<Event<'f>, Failure> {
    let Object(toast): Object<Toast<'f>> = read(item.json)?;
    let data = toast.data.map(|OrEmpty(data)| data).unwrap_or_default();
    let id = toast.id.id("id")?;
    let mut event = item.event(EventKind::ToastReceived, item.identity("toast", id.as_ref(), ""));
    put_fan(item, &mut event, data.related_user, "data.relatedUser.id")?;
    if event.fan_id.is_none() {
        let replaced = data.replacements.and_then(|OrEmpty(replacements)| replacements.related_user_id);
        put_fan(item, &mut event, replaced.map(|id| BareOr(id.into())), "data.replacements.{RELATED_USER_ID}")?;
    }
    // The fan is who the toast is about, not who acted.
    event.direction = Direction::System;
    event.message = text_only(toast.text);
    event.target = Some(Target { kind: Cow::Borrowed("toast"), id, code: data.code.or(toast.kind) });
    Ok(event)
}
