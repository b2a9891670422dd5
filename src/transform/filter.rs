//! `--filter`: a CEL expression over whatever a command reads, with the same fields everywhere.
//!
//! ```
//! use convpipe::schema::event::{Event, EventKind};
//! use convpipe::schema::time::Millis;
//! use convpipe::transform::filter::Filter;
//!
//! let filter = Filter::compile("event.kind.startsWith('tip.') && event.account == '200000001'")?;
//! let event = Event::of_account(EventKind::TipReceived, "id".into(), "200000001", "c", Millis(0));
//! assert!(filter.holds_for_event(&event));
//!
//! let error = Filter::compile("event.kimd == 'x'").unwrap_err();
//! assert_eq!(error.pointed(), "`event` has no field `kimd`; did you mean `kind`?\n\n  event.kimd == 'x'\n        ^");
//! # Ok::<_, convpipe::transform::filter::FilterError>(())
//! ```
//!
//! The fields are in `docs/reading.md`: `event`, `fan`, `conversation` as the priority rules have them, and `entry`. What a record does not
//! say is an empty text, 0 or false.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::expression::{Expression, Variables};
use super::facts::{self, ConversationFacts, EntryFacts, EventFacts, FanFacts, count, direction};
use crate::schema::document::MessageDocument;
use crate::schema::event::{Direction, Event, EventKind};
use crate::schema::text::{OwnedText, Untrusted};
use crate::schema::view::PriorityEntry;

pub use super::expression::ExpressionError as FilterError;

/// A compiled filter. One that cannot be worked out for a record does not hold for it, and [counts](Self::failures) it.
#[derive(Debug)]
pub struct Filter {
    expression: Expression,
    failed: AtomicU64,
    first: OnceLock<String>,
}

/// Records that a filter could not be worked out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures<'a> {
    /// How many.
    pub count: u64,
    /// Why, of the first.
    pub first: &'a str,
}

impl Filter {
    /// Compiles an expression of at most 4 KiB.
    ///
    /// # Errors
    /// Where it is no CEL, names a field that does not exist, compares what does not go together, or gives no boolean.
    /// [`FilterError::pointed`] shows the place.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        let neutral = facts::of_filter(&EventFacts::default(), &FanFacts::default(), &ConversationFacts::default(), &EntryFacts::default());
        let expression = Expression::compile(expression, &neutral)?;
        Ok(Self { expression, failed: AtomicU64::new(0), first: OnceLock::new() })
    }

    /// The records so far that it could not be worked out for, such as `int(event.text) > 5` where the text is no number; `None` where there are none.
    #[must_use]
    pub fn failures(&self) -> Option<Failures<'_>> {
        Some(Failures { count: self.failed.load(Ordering::Relaxed), first: self.first.get()? })
    }

    fn holds(&self, variables: Variables) -> bool {
        self.expression.holds(variables).unwrap_or_else(|why| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.first.get_or_init(|| why);
            false
        })
    }

    /// Whether it holds for an event. `fan` is what the event itself says of the fan.
    #[must_use]
    pub fn holds_for_event(&self, event: &Event<'_>) -> bool {
        let profile = event.fan.as_ref();
        let fan = FanFacts {
            id: raw(event.fan_id.as_ref()),
            name: raw(profile.and_then(|profile| profile.name.as_ref())),
            username: raw(profile.and_then(|profile| profile.username.as_ref())),
            spend_minor: event.spend.and_then(|spend| spend.total).unwrap_or(0),
            lists: profile.and_then(|profile| profile.lists.as_ref()).into_iter().flatten().map(Untrusted::raw).collect(),
            ..FanFacts::default()
        };
        let conversation = ConversationFacts { id: raw(event.conversation_id.as_ref()), ..ConversationFacts::default() };
        self.holds(facts::of_filter(&EventFacts::of(event), &fan, &conversation, &EntryFacts::default()))
    }

    /// Whether it holds for an entry of the priority feed. `event.text` is the entry's preview; a timer's `event.kind` is empty.
    #[must_use]
    pub fn holds_for_entry(&self, entry: &PriorityEntry) -> bool {
        let event = EventFacts {
            id: entry.event.id.raw(),
            kind: entry.event.kind.map_or("", EventKind::name),
            account: entry.account_id.raw(),
            text: owned(entry.preview.as_ref()),
            money_minor: entry.money.map_or(0, |money| money.minor),
            ..EventFacts::default()
        };
        let fan = entry.fan.as_ref().map_or_else(FanFacts::default, |fan| FanFacts {
            id: fan.id.raw(),
            name: owned(fan.name.as_ref()),
            tier: &fan.tier,
            high_value: fan.high_value,
            ..FanFacts::default()
        });
        let conversation = ConversationFacts {
            id: owned(entry.conversation_id.as_ref()),
            awaiting: entry.awaiting_reply_since.is_some(),
            awaiting_s: entry.awaiting_reply_since.map_or(0, |since| entry.applied_at.since(since) / 1_000),
            ..ConversationFacts::default()
        };
        let lag_ms = entry.applied_at.since(entry.received_at);
        let entry = EntryFacts { level: entry.level.name(), reasons: &entry.reasons, score: entry.score, lag_ms };
        self.holds(facts::of_filter(&event, &fan, &conversation, &entry))
    }

    /// Whether it holds for a message of the history, whose document does not say whose it is.
    #[must_use]
    pub fn holds_for_message(&self, account: &str, fan: &str, message: &MessageDocument) -> bool {
        let kind = if message.direction == Direction::Out { EventKind::MessageSent } else { EventKind::MessageReceived };
        let event = EventFacts {
            id: message.event_id.raw(),
            kind: kind.name(),
            account,
            direction: direction(message.direction),
            text: owned(message.text.as_ref()),
            money_minor: message.money.map_or(0, |money| money.minor),
            price_minor: message.price.unwrap_or(0),
            media: count(message.media.len()),
            is_tip: message.is_tip,
            is_bulk: message.is_bulk,
            target: "",
        };
        let conversation = ConversationFacts { id: fan, ..ConversationFacts::default() };
        let fan = FanFacts { id: fan, ..FanFacts::default() };
        self.holds(facts::of_filter(&event, &fan, &conversation, &EntryFacts::default()))
    }
}

fn raw<'a>(text: Option<&'a Untrusted<'_>>) -> &'a str {
    text.map_or("", Untrusted::raw)
}

fn owned(text: Option<&OwnedText>) -> &str {
    text.map_or("", OwnedText::raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::event::{FanProfile, Message};
    use crate::schema::time::Millis;

    #[test]
    fn mistakes_are_pointed_at() {
        for (expression, column, message) in [
            ("event.kimd == 'x'", 7, "`event` has no field `kimd`; did you mean `kind`?"),
            ("event.is_tip && event.  txt == ''", 25, "`event` has no field `txt`; did you mean `text`?"),
            ("'é你' == 'x' && event.nonsense", 22, "`event` has no field `nonsense`; it has account, direction, id,"),
            ("has(event.txt)", 11, "`event` has no field `txt`"),
            ("event.is_tip ||\n  fann.id == ''", 3, "there is no `fann`; there are event, fan, conversation, entry"),
            ("fan.lists.exists(list, list == nane)", 32, "there is no `nane`"),
            ("event['txt'] == ''", 6, "there is no field `txt`"),
            ("event.kind == 'x' && event.money_minor > '5'", 40, "`>` does not go with int and string"),
            ("event.money_minor == '5'", 19, "`==` compares int with string, which never holds"),
            ("event.is_tip && event.kind != 5", 28, "`!=` compares string with int, which always holds"),
            ("event.text == null", 12, "`==` compares string with null, which never holds"),
            ("fan.lists == 'vip'", 11, "`==` compares list with string, which never holds"),
            ("event.is_tip == 'true' || fan.high_value", 14, "`==` compares bool with string, which never holds"),
            ("5 in fan.lists", 3, "`in` looks for int in a list of string, which never holds"),
            ("event.price_minor in ['5', '6']", 19, "`in` looks for int in a list of string, which never holds"),
            ("fan.lists.exists(list, list == 5)", 29, "`==` compares string with int, which never holds"),
            ("entry.reasons.all(r, r != true || event.is_tip)", 24, "`!=` compares string with bool, which always holds"),
            ("['a'].exists(x, x > 1)", 19, "`>` does not go with string and int"),
            ("event.text.contain('x')", 19, "there is no `contain`"),
            ("event.kind", 1, "it gives a value of type string, not true or false"),
            ("'é你' == 'x' && event.is_tip ) ", 29, "extraneous input ')'"),
            ("event.kind ==", 14, "the expression ends too early"),
            ("event.kind == 'x", 15, "token recognition error"),
            ("(event.is_tip", 14, "the expression ends too early"),
            ("event.is_tip = true", 14, "token recognition error"),
            ("", 1, "the expression ends too early"),
        ] {
            let error = Filter::compile(expression).expect_err(expression);
            assert!(error.to_string().starts_with(&format!("column {column}: {message}")), "{expression}: {error}");
        }
    }

    #[test]
    fn no_expression_is_too_much() {
        for expression in [
            "!".repeat(5_000),
            "!".repeat(4_001),
            "(".repeat(4_000),
            format!("event.text{} == ''", " + 'a'".repeat(650)),
            format!("event.text{} == ''", ".a".repeat(2_000)),
            format!("{}true", "true && ".repeat(500)),
            format!("fan.lists{} == []", ".map(x, x)".repeat(400)),
        ] {
            // Whatever it says, it says so.
            let _ = Filter::compile(&expression)
                .map(|filter| filter.holds_for_event(&Event::of_account(EventKind::Unknown, "i".into(), "1", "c", Millis(0))));
        }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        for (expression, shown) in [
            ("'你' == event.txt", "  '你' == event.txt\n                ^"),
            ("true &&\n\tevent.txt == ''", "   event.txt == ''\n         ^"),
            ("event.kind ==", "  event.kind ==\n               ^"),
        ] {
            let pointed = Filter::compile(expression).expect_err(expression).pointed();
            assert_eq!(pointed.split_once("\n\n").expect("two parts").1, shown, "{expression}");
        }
    }

    #[test]
    fn what_depends_on_the_values_is_no_mistake() {
        for expression in [
            "fan.lists[0] == 'vip'",
            "int(event.text) > 5",
            "10 / conversation.unread > 1",
            "fan.lists.exists(list, list.startsWith('v') && event.is_tip)",
            "event.media > 0 ? event.text == '' : false",
            "entry.level in ['urgent', 'high'] && entry.reasons.size() > 1",
            "type(event.text) == string",
            "size(fan.lists.filter(list, list != '')) == 0",
            "event.money_minor == 5.0 && event.money_minor != 5u && event.money_minor in [1, 2.5]",
            "event.price_minor in ['5', 5]",
            "fan.lists == [] && [1, 'a'].exists(x, x == 1)",
            "fan.lists.map(list, size(list)).exists(n, n > 3)",
            "type(event.media) == int && 'kind' in {'kind': 1}",
        ] {
            Filter::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        }
    }

    #[test]
    fn what_cannot_be_worked_out_is_counted() {
        let filter = Filter::compile("int(event.text) > 5").expect("compiles");
        let mut event = Event::of_account(EventKind::MessageReceived, "i".into(), "1", "c", Millis(0));
        for (text, holds, failed) in [("7", true, None), ("no number", false, Some(1)), ("3", false, Some(1)), ("x", false, Some(2))] {
            event.message = Some(Message { text: Some(text.into()), ..Message::default() });
            assert_eq!(filter.holds_for_event(&event), holds, "{text}");
            assert_eq!(filter.failures().map(|failures| failures.count), failed, "{text}");
        }
        assert!(filter.failures().is_some_and(|failures| failures.first.starts_with("`int`: ")), "{:?}", filter.failures());
    }

    #[test]
    fn an_event_an_entry_and_a_message_have_the_same_fields() {
        let mut event = Event::of_account(EventKind::MessageReceived, "i".into(), "1", "c", Millis(0));
        (event.fan_id, event.direction) = (Some("7".into()), Direction::In);
        event.message = Some(Message { text: Some("hello?".into()), price: Some(500), ..Message::default() });
        event.fan = Some(FanProfile { name: Some("Ann".into()), lists: Some(vec!["vip".into()]), ..FanProfile::default() });
        let entry: PriorityEntry = serde_json::from_value(serde_json::json!({
            "level": "urgent", "reasons": ["message"], "score": 3, "event": { "id": "i", "kind": "message.received" }, "account_id": "1",
            "fan": { "id": "7", "name": "Ann", "tier": "whale" }, "preview": "hello?", "awaiting_reply_since": "1970-01-01T00:00:00.000Z",
            "received_at": "1970-01-01T00:00:05.000Z", "applied_at": "1970-01-01T00:00:05.120Z",
        }))
        .expect("an entry");
        let message: MessageDocument = serde_json::from_value(serde_json::json!({
            "message_id": "5", "direction": "in", "sent_at": "1970-01-01T00:00:00.000Z", "text": "hello?", "price": 500, "event_id": "i",
            "expire_at": "1971-01-01T00:00:00.000Z",
        }))
        .expect("a message");
        for (expression, expected) in [
            ("event.id == 'i' && event.account == '1' && event.kind == 'message.received' && fan.id == '7'", [true; 3]),
            ("event.text.endsWith('?')", [true; 3]),
            ("event.direction == 'in' && event.price_minor == 500", [true, false, true]),
            ("fan.name == 'Ann'", [true, true, false]),
            ("'vip' in fan.lists", [true, false, false]),
            ("entry.level == 'urgent' && 'message' in entry.reasons && entry.lag_ms == 120", [false, true, false]),
            ("conversation.awaiting && conversation.awaiting_s == 5 && fan.tier == 'whale'", [false, true, false]),
            ("1 / entry.score > 0", [false; 3]),
        ] {
            let filter = Filter::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
            let holds = [filter.holds_for_event(&event), filter.holds_for_entry(&entry), filter.holds_for_message("1", "7", &message)];
            assert_eq!(holds, expected, "{expression}");
        }
    }
}
