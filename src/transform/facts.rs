//! What CEL expressions see: the same fields in the rules of the priority feed and in `--filter`.
//!
//! Invariant: a fact that is not known has the neutral value of its type (an empty text, 0, false), so that no expression fails on one.

use cel::{Value, to_value};
use serde::Serialize;

use super::expression::Variables;
use crate::schema::event::{Direction, Event};

/// `event`.
#[derive(Debug, Default, Serialize)]
pub(super) struct EventFacts<'a> {
    pub(super) id: &'a str,
    pub(super) kind: &'a str,
    pub(super) account: &'a str,
    pub(super) direction: &'a str,
    pub(super) text: &'a str,
    pub(super) money_minor: i64,
    pub(super) price_minor: i64,
    pub(super) media: i64,
    pub(super) is_tip: bool,
    pub(super) is_bulk: bool,
    pub(super) target: &'a str,
}

/// `fan`.
#[derive(Debug, Default, Serialize)]
pub(super) struct FanFacts<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) username: &'a str,
    pub(super) tier: &'a str,
    pub(super) high_value: bool,
    pub(super) spend_minor: i64,
    pub(super) lists: Vec<&'a str>,
}

/// `conversation`.
#[derive(Debug, Default, Serialize)]
pub(super) struct ConversationFacts<'a> {
    pub(super) id: &'a str,
    pub(super) unread: i64,
    pub(super) awaiting: bool,
    pub(super) awaiting_s: i64,
    pub(super) messages_in: i64,
    pub(super) messages_out: i64,
}

/// `entry`: of the priority feed.
#[derive(Debug, Default, Serialize)]
pub(super) struct EntryFacts<'a> {
    pub(super) level: &'a str,
    pub(super) reasons: &'a [String],
    pub(super) score: i64,
    pub(super) lag_ms: i64,
}

impl<'a> EventFacts<'a> {
    pub(super) fn of(event: &'a Event<'_>) -> Self {
        let message = event.message.as_ref();
        Self {
            id: event.id.raw(),
            kind: event.kind.name(),
            account: event.account_id.raw(),
            direction: direction(event.direction),
            text: message.and_then(|message| message.text.as_ref()).map_or("", |text| text.raw()),
            money_minor: event.money.map_or(0, |money| money.minor),
            price_minor: message.and_then(|message| message.price).unwrap_or(0),
            media: message.map_or(0, |message| count(message.media.len())),
            is_tip: message.and_then(|message| message.is_tip).unwrap_or(false),
            is_bulk: message.and_then(|message| message.is_bulk).unwrap_or(false),
            target: event.target.as_ref().map_or("", |target| &*target.kind),
        }
    }
}

pub(super) const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::System => "system",
    }
}

pub(super) fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// What a rule sees.
pub(super) fn of_rule(event: &EventFacts<'_>, fan: &FanFacts<'_>, conversation: &ConversationFacts<'_>) -> Variables {
    vec![("event", value(event)), ("fan", value(fan)), ("conversation", value(conversation))]
}

/// What a filter sees: the same and `entry`.
pub(super) fn of_filter(
    event: &EventFacts<'_>,
    fan: &FanFacts<'_>,
    conversation: &ConversationFacts<'_>,
    entry: &EntryFacts<'_>,
) -> Variables {
    let mut variables = of_rule(event, fan, conversation);
    variables.push(("entry", value(entry)));
    variables
}

fn value(facts: impl Serialize) -> Value {
    // Texts, numbers and booleans in a struct always are a value.
    to_value(facts).unwrap_or(Value::Null)
}
