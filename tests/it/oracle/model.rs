//! What the state means, computed the naive way: keep everything that was ever seen, and answer each question from all of it.
//!
//! Owns: the reading of `docs/fold.md` that the fold, Redis and the documents are held to. Does not own: anything that forgets. There
//! is no memory to size, no order to arrive in and no duplicate to recognize here, so this is also the shortest explanation of what
//! a field means. Invariant: the answer depends on the *set* of events seen, not on their order or number.
//!
//! Two readings of the specification hold everywhere: an event is *of* a conversation if it names it, so a delete and a presence
//! snapshot, which name none, act through their own rows only (a delete may come before anyone knows where it belongs); and what is
//! *carried* (`unknown`, `repair.requested`) tells the state nothing and stands in no feed.

use std::collections::{BTreeMap, BTreeSet};

use convpipe::schema::document::FanSummary;
use convpipe::schema::event::{Class, Direction, Event, EventKind, Subscription, SubscriptionState};
use convpipe::schema::ids::hash64;
use convpipe::schema::policy::Policy;
use convpipe::schema::text::{OwnedText, Untrusted};
use convpipe::schema::time::Millis;
use convpipe::schema::view::{ConversationSnapshot, FanView, HighValue, PresenceState, PresenceView, Spend};
use serde_json::Value;

use super::chat::{Chat, last_ppv};
use super::feeds::{self, Feed, Standing};
use super::money;

/// Messages that a conversation's state keeps in the views.
pub(crate) const RECENT_IN_VIEWS: usize = 5;
/// Messages that a conversation's state keeps in the documents.
pub(crate) const RECENT_IN_DOCUMENTS: usize = 20;

/// An event as the model holds it.
pub(crate) type Seen<'m> = &'m Event<'m>;

/// Everything that was ever seen, and when; duplicates and all.
#[derive(Debug, Default)]
pub(crate) struct Model<'e> {
    seen: Vec<(Event<'e>, Millis)>,
}

/// What one conversation has come to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    /// A `ConversationSnapshot` without what a write adds: `rev`, `applied_at`, `stale`.
    pub(crate) snapshot: Value,
    /// A `FanSummary` without `rev`, `applied_at`, `expire_at`.
    pub(crate) summary: Value,
    /// A `MessageDocument` for each message id, without `expire_at`.
    pub(crate) history: BTreeMap<String, Value>,
    /// Events in the fan's stream.
    pub(crate) fan_events: Feed,
    /// Events of the conversation in the priority feed; timers are not among them.
    pub(crate) priority: Feed,
    /// Score in the inbox.
    pub(crate) active_at: Millis,
    /// Score among those who wait; absent from that index otherwise.
    pub(crate) awaiting_since: Option<Millis>,
    /// All payments fit into the memory that the specification gives the fold; otherwise `spend` and what follows from it may differ.
    pub(crate) money_in_memory: bool,
}

impl<'e> Model<'e> {
    /// Takes note of one delivery.
    pub(crate) fn see(&mut self, event: &'e [u8], now: Millis) {
        self.seen.push((serde_json::from_slice(event).unwrap(), now));
    }

    /// Every account that was named.
    pub(crate) fn accounts(&self) -> BTreeSet<&str> {
        self.seen.iter().map(|(event, _)| event.account_id.raw()).collect()
    }

    /// Every conversation of an account that exists: something that is neither stale nor merely carried was told of it.
    pub(crate) fn conversations(&self, account: &str, policy: &Policy) -> BTreeSet<&str> {
        let told = self.live(account, policy).into_iter().map(|(event, _)| event).filter(|event| !is_carried(event));
        told.filter_map(|event| event.conversation_id.as_ref().map(Untrusted::raw)).collect()
    }

    /// The events of an account that are not stale, each with the time it was seen at.
    pub(crate) fn live(&self, account: &str, policy: &Policy) -> Vec<(Seen<'_>, Millis)> {
        let of_account = self.seen.iter().filter(|(event, _)| event.account_id.raw() == account);
        of_account.map(|(event, now)| (event, *now)).filter(|(event, now)| event.at() >= now.plus(-policy.horizon_ms)).collect()
    }

    /// Ids of messages that were deleted and never seen.
    pub(crate) fn unknown_deletes(&self, account: &str, policy: &Policy) -> BTreeSet<&str> {
        let live = self.live(account, policy);
        let ids = |wanted: fn(EventKind) -> bool| -> BTreeSet<&str> {
            live.iter().filter(|(event, _)| wanted(event.kind)).filter_map(|(event, _)| event.message_id()).collect()
        };
        let known = ids(|kind| matches!(kind, EventKind::MessageReceived | EventKind::MessageSent));
        ids(|kind| kind == EventKind::MessageDeleted).difference(&known).copied().collect()
    }

    /// What a conversation has come to, where the state keeps `recent_k` messages; `None` where there is no such conversation.
    pub(crate) fn conversation(&self, account: &str, conversation: &str, policy: &Policy, recent_k: usize) -> Option<Expected> {
        let live = self.live(account, policy);
        let names_it = |event: Seen<'_>| event.conversation_id.as_ref().is_some_and(|id| id.raw() == conversation);
        let named: Vec<(Seen<'_>, Millis)> = live.iter().copied().filter(|(event, _)| names_it(event) && !is_carried(event)).collect();
        let told: Vec<Seen<'_>> = named.iter().map(|(event, _)| *event).collect();
        let newest = told.iter().max_by_key(|event| stamp(event))?;

        let fan = register(&told, |event| event.fan_id.as_ref().map(Untrusted::raw)).unwrap_or(conversation);
        let online_at = live.iter().filter(|(event, _)| lists_as_online(event, fan)).map(|(event, _)| event.at()).max();
        let chat = Chat::of(&told, &deletes(&live));
        let payments = money::payments(&told);
        let spend = Spend {
            observed: money::totals(&payments),
            reported: told
                .iter()
                .filter_map(|event| Some((event.spend?, stamp(event))))
                .max_by_key(|(s, stamp)| (s.as_of, *stamp))
                .map(|(s, _)| s),
        };
        let value =
            spend.reported.and_then(|reported| reported.total).map_or(spend.observed.total, |total| total.max(spend.observed.total));
        let profile = profile(&told, fan);
        let high_value = high_value(policy, &profile, value, spend.observed.largest);
        let first_seen_at = told.iter().map(|event| event.at()).min();
        let standing = Standing::of(policy, fan, &told, &payments);
        let awaiting_since = chat.awaiting_since();

        let snapshot = ConversationSnapshot {
            account_id: account.into(),
            conversation_id: conversation.into(),
            fan: profile,
            tier: tier(policy, value),
            high_value,
            last_message: chat.last_message(recent_k),
            last_inbound_at: latest(&told, |event| event.kind == EventKind::MessageReceived),
            last_outbound_at: latest(&told, |event| event.kind == EventKind::MessageSent),
            unread: chat.unread(),
            unread_more: chat.unread_more(),
            awaiting_reply_since: awaiting_since,
            last_ppv: last_ppv(&told),
            spend,
            subscription: subscription(&told),
            typing_until: latest(&told, |event| event.kind == EventKind::TypingStarted).map(|at| at.plus(5_000)),
            presence: online_at.map(|as_of| PresenceView { state: PresenceState::Online, as_of }),
            first_seen_at,
            stale: None,
            rev: 0,
            received_at: told.iter().map(|event| event.received_at).max().unwrap_or_default(),
            applied_at: Millis(0),
            event_id: newest.id.raw().into(),
        };
        let summary = FanSummary {
            account_id: account.into(),
            conversation_id: conversation.into(),
            fan: snapshot.fan.clone(),
            tier: snapshot.tier.clone(),
            high_value: snapshot.high_value.clone(),
            spend: snapshot.spend.clone(),
            messages_in: distinct(&told, EventKind::MessageReceived),
            messages_out: distinct(&told, EventKind::MessageSent),
            first_seen_at,
            last_seen_at: latest(&told, |event| event.direction == Direction::In).max(online_at),
            subscription: snapshot.subscription.clone(),
            last_ppv: snapshot.last_ppv.clone(),
            awaiting_reply_since: awaiting_since,
            recent: chat.summary(recent_k),
            rev: 0,
            applied_at: Millis(0),
            expire_at: Millis(0),
        };
        Some(Expected {
            snapshot: without(serde_json::to_value(snapshot).unwrap(), SNAPSHOT_WRITE_FIELDS),
            summary: without(serde_json::to_value(summary).unwrap(), SUMMARY_WRITE_FIELDS),
            history: chat
                .history()
                .map(|(id, document)| (id, without(serde_json::to_value(document).unwrap(), HISTORY_WRITE_FIELDS)))
                .collect(),
            fan_events: feeds::fan_stream(standing, &named, &feeds::unnamed(&live, fan, &chat)),
            priority: feeds::priority(policy, standing, &named, &feeds::unnamed(&live, fan, &chat)),
            active_at: latest(&told, |event| event.kind.class() == Class::A).or(first_seen_at).unwrap_or_default(),
            awaiting_since,
            money_in_memory: money::in_memory(&payments),
        })
    }
}

/// What a write adds to a snapshot; no event says it.
pub(crate) const SNAPSHOT_WRITE_FIELDS: &[&str] = &["rev", "applied_at", "stale"];
/// What a write adds to a summary.
pub(crate) const SUMMARY_WRITE_FIELDS: &[&str] = &["rev", "applied_at", "expire_at"];
/// What a write adds to a message document.
pub(crate) const HISTORY_WRITE_FIELDS: &[&str] = &["expire_at"];

/// A JSON object without some of its fields.
pub(crate) fn without(mut object: Value, fields: &[&str]) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.retain(|field, _| !fields.contains(&field.as_str()));
    }
    object
}

/// The total order of what registers hold.
pub(crate) type Stamp = (Millis, u64, u64, u32, u64);

/// Where an event stands in that order.
pub(crate) fn stamp(event: &Event<'_>) -> Stamp {
    let connection = event.connection.raw();
    let is_number = connection.len() == 16 && connection.bytes().all(|byte| byte.is_ascii_hexdigit());
    let connection = if is_number { u64::from_str_radix(connection, 16).unwrap() } else { hash64(connection) };
    (event.at(), connection, event.frame_no, event.item_no, hash64(event.id.raw()))
}

/// The value with the greatest stamp, of the events that state one.
pub(crate) fn register<'m, T>(events: &[Seen<'m>], value: impl Fn(Seen<'m>) -> Option<T>) -> Option<T> {
    let stated = events.iter().filter_map(|event| Some((stamp(event), value(event)?)));
    stated.max_by_key(|(stamp, _)| *stamp).map(|(_, value)| value)
}

/// The greatest time of the events that meet a condition.
fn latest(events: &[Seen<'_>], condition: impl Fn(Seen<'_>) -> bool) -> Option<Millis> {
    events.iter().filter(|event| condition(event)).map(|event| event.at()).max()
}

/// How many things of a kind there were, each counted once however often it was seen.
fn distinct(events: &[Seen<'_>], kind: EventKind) -> u64 {
    events.iter().filter(|event| event.kind == kind).map(|event| event.id.raw()).collect::<BTreeSet<_>>().len() as u64
}

/// Passed on, but tells the state nothing.
pub(crate) fn is_carried(event: &Event<'_>) -> bool {
    matches!(event.kind, EventKind::Unknown | EventKind::RepairRequested)
}

/// A presence snapshot that lists a fan.
pub(crate) fn lists_as_online(event: &Event<'_>, fan: &str) -> bool {
    let online = event.presence.iter().flat_map(|presence| &presence.online);
    event.kind == EventKind::PresenceSnapshot && online.map(Untrusted::raw).any(|id| id == fan)
}

/// When each deleted message of an account was deleted: the first time that anyone said so.
fn deletes<'m>(live: &[(Seen<'m>, Millis)]) -> BTreeMap<&'m str, Millis> {
    let mut deleted_at = BTreeMap::new();
    for (event, _) in live.iter().filter(|(event, _)| event.kind == EventKind::MessageDeleted) {
        if let Some(id) = event.message_id() {
            let first = deleted_at.entry(id).or_insert(event.at());
            *first = event.at().min(*first);
        }
    }
    deleted_at
}

fn profile(told: &[Seen<'_>], fan: &str) -> FanView {
    fn text<'m>(field: Option<&'m Untrusted<'m>>) -> Option<OwnedText> {
        field.filter(|text| !text.is_blank()).map(|text| text.raw().into())
    }
    FanView {
        id: fan.into(),
        name: register(told, |event| text(event.fan.as_ref()?.name.as_ref())),
        username: register(told, |event| text(event.fan.as_ref()?.username.as_ref())),
        display_name: register(told, |event| text(event.fan.as_ref()?.display_name.as_ref())),
        notice: register(told, |event| text(event.fan.as_ref()?.notice.as_ref())),
        lists: register(told, |event| event.fan.as_ref()?.lists.as_ref()).into_iter().flatten().map(|list| list.raw().into()).collect(),
    }
}

/// `None` where no event said anything of it.
fn subscription(told: &[Seen<'_>]) -> Option<Subscription> {
    let state_of = |event: Seen<'_>| {
        let implied = match event.kind {
            EventKind::SubscriptionStarted | EventKind::SubscriptionReturned | EventKind::SubscriptionRenewed => {
                Some(SubscriptionState::Active)
            }
            EventKind::SubscriptionExpired => Some(SubscriptionState::Expired),
            _ => None,
        };
        event.subscription.as_ref().and_then(|subscription| subscription.state).or(implied)
    };
    let subscription = Subscription {
        state: register(told, state_of),
        expires_at: register(told, |event| event.subscription.as_ref()?.expires_at),
        auto_renew: register(told, |event| event.subscription.as_ref()?.auto_renew),
        is_fan: register(told, |event| event.subscription.as_ref()?.is_fan),
        we_follow: register(told, |event| event.subscription.as_ref()?.we_follow),
    };
    (subscription != Subscription::default()).then_some(subscription)
}

fn tier(policy: &Policy, value: i64) -> String {
    let reached = policy.tiers.iter().filter(|tier| tier.spend_min <= value);
    reached.max_by_key(|tier| tier.spend_min).map(|tier| tier.name.clone()).unwrap_or_default()
}

fn high_value(policy: &Policy, fan: &FanView, value: i64, largest_payment: i64) -> HighValue {
    let policy = &policy.high_value;
    let mut why = Vec::new();
    why.extend(policy.spend_min.filter(|&min| value >= min).map(|min| format!("spend_minor >= {min}")));
    why.extend(policy.payment_min.filter(|&min| largest_payment >= min).map(|min| format!("payment_minor >= {min}")));
    let lists = fan.lists.iter().map(OwnedText::raw);
    why.extend(lists.filter(|list| policy.lists.iter().any(|named| named == list)).map(|list| format!("list:{list}")));
    why.extend(policy.fans.iter().any(|id| id == fan.id.raw()).then(|| "listed by id".to_owned()));
    HighValue { is: !why.is_empty(), why }
}
