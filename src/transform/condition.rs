//! CEL conditions of the priority rules, over an event and what is known of its fan and conversation.

use super::expression::{Expression, ExpressionError};
use super::facts::{self, ConversationFacts, EventFacts, FanFacts};
use crate::schema::event::Event;
use crate::schema::state::{ConversationState, Register};
use crate::schema::text::OwnedText;

/// A condition that does not compile, or names what does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("condition {expression:?}: {error}")]
pub struct ConditionError {
    expression: String,
    error: ExpressionError,
}

/// A compiled condition.
#[derive(Debug)]
pub struct Condition(Expression);

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
    /// Where it is no CEL, names what is not there, or gives no boolean; the message points into it.
    pub fn compile(expression: &str) -> Result<Self, ConditionError> {
        let neutral = facts::of_rule(&EventFacts::default(), &FanFacts::default(), &ConversationFacts::default());
        let compiled = Expression::compile(expression, &neutral);
        compiled.map(Self).map_err(|error| ConditionError { expression: expression.to_owned(), error })
    }

    /// Whether the condition holds. A condition that fails does not hold.
    #[must_use]
    pub fn holds(&self, event: &Event<'_>, state: Option<&ConversationState>, worked: Worked<'_>) -> bool {
        let profile = state.map(|state| &state.profile);
        let text = |register: Option<&Register<OwnedText>>| register.map(|register| register.value.raw().to_owned()).unwrap_or_default();
        let (name, username) = (text(profile.and_then(|p| p.name.as_ref())), text(profile.and_then(|p| p.username.as_ref())));
        let fan = FanFacts {
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
        let conversation = ConversationFacts {
            id: event.conversation_id.as_ref().map_or("", |conversation| conversation.raw()),
            unread: i64::from(worked.unread),
            awaiting: worked.awaiting_s.is_some(),
            awaiting_s: worked.awaiting_s.unwrap_or(0),
            messages_in: state.map_or(0, |state| i64::try_from(state.messages_in).unwrap_or(i64::MAX)),
            messages_out: state.map_or(0, |state| i64::try_from(state.messages_out).unwrap_or(i64::MAX)),
        };
        self.0.holds(facts::of_rule(&EventFacts::of(event), &fan, &conversation)).unwrap_or(false)
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
            ("1 / conversation.messages_in == 1", false),
            ("int(event.text) > 5", false),
        ] {
            let condition = Condition::compile(expression).expect(expression);
            assert_eq!(condition.holds(&event, None, worked), expected, "{expression}");
        }
        let error = Condition::compile("event.money_minor == '2500'").expect_err("a number is no text").to_string();
        assert!(error.ends_with("column 19: `==` compares int with string, which never holds"), "{error}");
    }
}
