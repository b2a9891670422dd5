//! Which events stand in a high-value fan's stream and in the priority feed.
//!
//! Whether a fan is high-value when an event passes may depend on the order of arrival, and so may an active exchange or the once
//! in five minutes of typing: these are facts about the moment. The model says what must be there in any order, and what may.

use std::collections::BTreeSet;

use convpipe::schema::event::{Event, EventKind};
use convpipe::schema::policy::{Policy, PriorityRule};
use convpipe::schema::text::Untrusted;
use convpipe::schema::time::Millis;

use super::chat::Chat;
use super::model::{Seen, lists_as_online};
use super::money::Payment;

/// Ids of the events in a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Feed {
    /// Stand in it, each exactly once, whatever the order.
    pub(crate) certain: BTreeSet<String>,
    /// May stand in it, or not, depending on what was known when they passed. Anything else must not.
    pub(crate) possible: BTreeSet<String>,
}

/// Whether a fan is high-value, over all orders in which the events could have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Listed by id.
    Always,
    /// May have met another criterion at some moment.
    Sometimes,
    /// Nothing that was ever said comes near a criterion.
    Never,
}

impl Standing {
    /// The standing of a conversation's fan.
    pub(crate) fn of(policy: &Policy, fan: &str, told: &[Seen<'_>], payments: &[Payment]) -> Self {
        let policy = &policy.high_value;
        if policy.fans.iter().any(|id| id == fan) {
            return Self::Always;
        }
        let paid_at_most: i64 = payments.iter().map(|payment| payment.minor).sum();
        let reported = told.iter().filter_map(|event| event.spend?.total);
        let spend = reported.max().unwrap_or(0).max(paid_at_most);
        let largest = payments.iter().map(|payment| payment.minor).max().unwrap_or(0);
        let lists = told.iter().filter_map(|event| event.fan.as_ref()?.lists.as_ref()).flatten();
        let reached = policy.spend_min.is_some_and(|min| spend >= min)
            || policy.payment_min.is_some_and(|min| largest >= min)
            || lists.map(Untrusted::raw).any(|list| policy.lists.iter().any(|named| named == list));
        if reached { Self::Sometimes } else { Self::Never }
    }
}

/// Events that name no conversation but may have been applied to this one: deletes of its messages, snapshots that list its fan.
pub(crate) fn unnamed<'m>(live: &[(Seen<'m>, Millis)], fan: &str, chat: &Chat<'_>) -> Vec<(Seen<'m>, Millis)> {
    let is_delete = |event: Seen<'_>| event.kind == EventKind::MessageDeleted && event.message_id().is_some_and(|id| chat.knows(id));
    let about_it = |event: Seen<'_>| event.conversation_id.is_none() && (is_delete(event) || lists_as_online(event, fan));
    live.iter().copied().filter(|(event, _)| about_it(event)).collect()
}

/// The stream of a high-value fan: every event of the conversation.
pub(crate) fn fan_stream(standing: Standing, named: &[(Seen<'_>, Millis)], unnamed: &[(Seen<'_>, Millis)]) -> Feed {
    match standing {
        Standing::Never => Feed::default(),
        Standing::Sometimes => Feed { certain: BTreeSet::new(), possible: ids(named).chain(ids(unnamed)).collect() },
        Standing::Always => Feed { certain: ids(named).collect(), possible: ids(unnamed).collect() },
    }
}

/// The conversation's part of the priority feed.
pub(crate) fn priority(policy: &Policy, standing: Standing, named: &[(Seen<'_>, Millis)], unnamed: &[(Seen<'_>, Millis)]) -> Feed {
    let mut feed = priority_of(policy, standing, named);
    feed.possible.extend(ids(unnamed));
    feed
}

/// The part of the priority feed that events of no conversation make.
pub(crate) fn account_priority(policy: &Policy, events: &[(Seen<'_>, Millis)]) -> Feed {
    priority_of(policy, Standing::Never, events)
}

fn priority_of(policy: &Policy, standing: Standing, events: &[(Seen<'_>, Millis)]) -> Feed {
    let fresh = events.iter().filter(|(event, now)| now.since(event.at()) <= policy.freshness_ms);
    let mut feed = Feed::default();
    for (event, _) in fresh {
        let mut matches = policy.rules.iter().filter(|rule| rule.names(event.kind) && may_match(rule, standing)).peekable();
        if matches.peek().is_none() {
            continue;
        }
        let is_certain = matches.any(|rule| must_match(rule, standing)) && !is_throttled(event);
        let ids = if is_certain { &mut feed.certain } else { &mut feed.possible };
        ids.insert(event.id.raw().to_owned());
    }
    // Sighted once while fresh and once when not any more, or in versions: certain is enough.
    feed.possible.retain(|id| !feed.certain.contains(id));
    feed
}

/// The rule's demand on the fan's value is met at some moment.
fn may_match(rule: &PriorityRule, standing: Standing) -> bool {
    match rule.high_value {
        None => true,
        Some(wanted) => standing == Standing::Sometimes || wanted == (standing == Standing::Always),
    }
}

/// The rule asks for nothing that changes from moment to moment.
fn must_match(rule: &PriorityRule, standing: Standing) -> bool {
    (rule.high_value.is_none() || standing == Standing::Always) && rule.active_exchange.is_none() && rule.when.is_none()
}

/// At most one entry in five minutes a conversation: which one, the order decides.
fn is_throttled(event: &Event<'_>) -> bool {
    matches!(event.kind, EventKind::TypingStarted | EventKind::PresenceSnapshot)
}

fn ids<'s>(events: &'s [(Seen<'_>, Millis)]) -> impl Iterator<Item = String> + 's {
    events.iter().map(|(event, _)| event.id.raw().to_owned())
}
