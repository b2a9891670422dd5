//! CEL conditions over an event and what is known of its fan and conversation.

use std::fmt;

use cel::{Context, Program, Value};
use serde::Serialize;

use crate::schema::event::Event;
use crate::schema::state::ConversationState;

/// A condition that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("condition {expression:?} is no CEL expression: {message}")]
pub struct ConditionError {
    expression: String,
    message: String,
}

/// A compiled condition.
pub struct Condition {
    expression: String,
    program: Program,
}

/// What a condition sees as `event`. Absent fields have the neutral value of their type, so that a condition never fails on one.
#[derive(Debug, Serialize)]
struct EventFacts<'a> {
    id: &'a str,
    kind: &'a str,
    direction: &'a str,
    text: &'a str,
    money_minor: i64,
    price_minor: i64,
    media: i64,
    is_tip: bool,
    is_bulk: bool,
    target: &'a str,
}

/// What a condition sees as `fan`.
#[derive(Debug, Serialize)]
struct FanFacts<'a> {
    id: &'a str,
    name: &'a str,
    username: &'a str,
    tier: &'a str,
    high_value: bool,
    spend_minor: i64,
    lists: Vec<&'a str>,
}

/// What a condition sees as `conversation`.
#[derive(Debug, Serialize)]
struct ConversationFacts {
    unread: i64,
    awaiting: bool,
    awaiting_s: i64,
    messages_in: i64,
    messages_out: i64,
}

/// What the caller has worked out already.
#[derive(Debug, Clone, Copy)]
pub struct Worked<'a> {
    /// Value tier.
    pub tier: &'a str,
    /// Whether the fan is high-value.
    pub high_value: bool,
    /// Value in minor units.
    pub value: i64,
    /// Unread messages.
    pub unread: u32,
    /// Seconds of waiting; absent when nobody waits.
    pub awaiting_s: Option<i64>,
}

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Where it is no CEL; the message points into it.
    pub fn compile(expression: &str) -> Result<Self, ConditionError> {
        let program = Program::compile(expression)
            .map_err(|error| ConditionError { expression: expression.to_owned(), message: error.to_string().replace('\n', " ") })?;
        Ok(Self { expression: expression.to_owned(), program })
    }

    /// Whether the condition holds. A condition that fails or gives no boolean does not hold.
    #[must_use]
    pub fn holds(&self, event: &Event<'_>, state: Option<&ConversationState>, worked: Worked<'_>) -> bool {
        let mut context = Context::default();
        let direction = match event.direction {
            crate::schema::event::Direction::In => "in",
            crate::schema::event::Direction::Out => "out",
            crate::schema::event::Direction::System => "system",
        };
        let message = event.message.as_ref();
        let event_facts = EventFacts {
            id: event.id.raw(),
            kind: event.kind.name(),
            direction,
            text: message.and_then(|message| message.text.as_ref()).map_or("", |text| text.raw()),
            money_minor: event.money.map_or(0, |money| money.minor),
            price_minor: message.and_then(|message| message.price).unwrap_or(0),
            media: message.map_or(0, |message| i64::try_from(message.media.len()).unwrap_or(i64::MAX)),
            is_tip: message.and_then(|message| message.is_tip).unwrap_or(false),
            is_bulk: message.and_then(|message| message.is_bulk).unwrap_or(false),
            target: event.target.as_ref().map_or("", |target| &*target.kind),
        };
        let profile = state.map(|state| &state.profile);
        let text = |register: Option<&crate::schema::state::Register<crate::schema::text::OwnedText>>| {
            register.map(|register| register.value.raw().to_owned()).unwrap_or_default()
        };
        let (name, username) = (text(profile.and_then(|p| p.name.as_ref())), text(profile.and_then(|p| p.username.as_ref())));
        let fan_facts = FanFacts {
            id: event.fan_id.as_ref().map_or("", |fan| fan.raw()),
            name: &name,
            username: &username,
            tier: worked.tier,
            high_value: worked.high_value,
            spend_minor: worked.value,
            lists: profile
                .and_then(|profile| profile.lists.as_ref())
                .map(|lists| lists.value.iter().map(|list| list.raw()).collect())
                .unwrap_or_default(),
        };
        let conversation_facts = ConversationFacts {
            unread: i64::from(worked.unread),
            awaiting: worked.awaiting_s.is_some(),
            awaiting_s: worked.awaiting_s.unwrap_or(0),
            messages_in: state.map_or(0, |state| i64::try_from(state.messages_in).unwrap_or(i64::MAX)),
            messages_out: state.map_or(0, |state| i64::try_from(state.messages_out).unwrap_or(i64::MAX)),
        };
        let added = context.add_variable("event", Facts(event_facts)).is_ok()
            && context.add_variable("fan", Facts(fan_facts)).is_ok()
            && context.add_variable("conversation", Facts(conversation_facts)).is_ok();
        added && matches!(self.program.execute(&context), Ok(Value::Bool(true)))
    }
}

/// Lets anything that serializes be a variable.
struct Facts<T>(T);

impl<T: Serialize> cel::objects::TryIntoValue for Facts<T> {
    type Error = cel::SerializationError;

    fn try_into_value(self) -> Result<Value, Self::Error> {
        cel::to_value(self.0)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.expression).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::event::{Basis, Currency, EventKind, Money};
    use crate::schema::time::Millis;

    #[test]
    fn conditions_see_event_fan_and_conversation() {
        let mut event = Event::of_account(EventKind::TipReceived, "i".into(), "1", "c", Millis(0));
        event.money = Some(Money { minor: 2_500, currency: Currency::Usd, basis: Basis::Gross, net_minor: None });
        let worked = Worked { tier: "whale", high_value: true, value: 100, unread: 3, awaiting_s: Some(60) };
        for (expression, expected) in [
            ("event.money_minor >= 2500", true),
            ("event.money_minor > 2500", false),
            ("fan.tier == 'whale' && conversation.unread > 2", true),
            ("event.kind.startsWith('tip.')", true),
            ("'vip' in fan.lists", false),
            ("conversation.awaiting && conversation.awaiting_s >= 60", true),
            ("event.nothing == 1", false),
            ("event.kind", false),
            ("1 / 0 == 1", false),
        ] {
            let condition = Condition::compile(expression).expect(expression);
            assert_eq!(condition.holds(&event, None, worked), expected, "{expression}");
        }
    }
}
