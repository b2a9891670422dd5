//! Repairs: what asks for one, and how a state is rebuilt from what is left of it.
//!
//! Owns the shape of `repair.requested`. Does not own what is broken ([`super::drift`]) nor who writes. A request goes the one road, as an event on the
//! topic, to the service that owns the store.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::schema::document::{MediaDocument, MessageDocument};
use crate::schema::event::{Direction, Event, EventKind, Media, Message, Target};
use crate::schema::state::ConversationState;
use crate::schema::text::Untrusted;
use crate::schema::time::Millis;

use super::fold::{self, Depth, new_conversation};

/// Which store is to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// Redis.
    Views,
    /// The documents.
    Documents,
}

impl Store {
    /// `views` or `documents`, as in the event's `target`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Views => "views",
            Self::Documents => "documents",
        }
    }
}

/// What a request carries besides its address.
#[derive(Debug, Serialize, Deserialize)]
struct Carried<'a> {
    /// The state that the other store has, in hex: where the documents lost a summary, the history alone does not tell profile and payments.
    #[serde(borrow)]
    fold: Cow<'a, str>,
}

/// The event that asks for one conversation to be written anew in one store. `fold` is the encoded state that the other store has of it, where this
/// one has nothing to start from.
#[must_use]
pub fn request<'a>(account: &'a str, conversation: &'a str, store: Store, fold: Option<&[u8]>, now: Millis) -> Event<'a> {
    let id = format!("onlyfans:{account}:repair:{conversation}:{}:{}", store.name(), now.0);
    let mut event = Event::of_account(EventKind::RepairRequested, id, account, "0000000000000000", now);
    event.conversation_id = Some(conversation.into());
    event.fan_id = Some(conversation.into());
    event.target = Some(Target { kind: Cow::Borrowed(store.name()), id: None, code: None });
    // Hex digits between quotes are JSON whatever the state is.
    event.raw = fold.and_then(|fold| RawValue::from_string(format!("{{\"fold\":\"{}\"}}", hex(fold))).ok()).map(Cow::Owned);
    event
}

/// Whether an event asks for this store to be repaired.
#[must_use]
pub fn is_for(event: &Event<'_>, store: Store) -> bool {
    event.kind == EventKind::RepairRequested && event.target.as_ref().is_some_and(|target| target.kind == store.name())
}

/// The state that a request carries; `None` where it carries none, or none that this version reads.
#[must_use]
pub fn carried(event: &Event<'_>) -> Option<Box<ConversationState>> {
    let carried: Carried<'_> = serde_json::from_str(event.raw.as_ref()?.get()).ok()?;
    ConversationState::decode(&unhex(&carried.fold)?).ok().map(Box::new)
}

/// A summary's state, from the messages of the history in any order. What came with other events, such as profile and most payments, is not in it.
#[must_use]
pub fn rebuild(account: &str, conversation: &str, history: &[MessageDocument]) -> Box<ConversationState> {
    let mut state = Box::new(new_conversation(account, conversation));
    for document in history {
        if document.deleted_at.is_some() {
            fold::delete_message(&mut state, document.message_id.raw());
        }
        // The horizon is for what comes from outside; the history is our own.
        fold::apply(&mut state, &event_of(account, conversation, document), document.sent_at, i64::MAX, Depth::DOCUMENTS);
    }
    state
}

/// The state that another store has, which knows all but older messages and the ends of long ones, with those of ours.
#[must_use]
pub fn joined(mut known: Box<ConversationState>, ours: &ConversationState) -> Box<ConversationState> {
    for message in ours.recent.items() {
        known.recent.merge(message.clone(), Depth::DOCUMENTS.recent, |known, ours| {
            // A text that was cut ends in an ellipsis.
            if known.text.raw().strip_suffix('…').is_some_and(|begin| ours.text.raw().starts_with(begin)) {
                known.text = ours.text;
            }
            known.deleted |= ours.deleted;
        });
    }
    known.messages_in = known.messages_in.max(ours.messages_in);
    known.messages_out = known.messages_out.max(ours.messages_out);
    known
}

/// The event that the message came with, as far as its document tells.
fn event_of<'a>(account: &'a str, conversation: &'a str, document: &'a MessageDocument) -> Event<'a> {
    let kind = if document.direction == Direction::In { EventKind::MessageReceived } else { EventKind::MessageSent };
    let mut event = Event::of_account(kind, document.event_id.raw().to_owned(), account, "0000000000000000", document.sent_at);
    event.conversation_id = Some(conversation.into());
    event.fan_id = Some(conversation.into());
    event.direction = document.direction;
    event.occurred_at = Some(document.sent_at);
    event.money = document.money;
    event.message = Some(Message {
        id: Some(Untrusted::borrowed(document.message_id.raw())),
        text: document.text.as_ref().map(|text| Untrusted::borrowed(text.raw())),
        price: document.price,
        is_tip: Some(document.is_tip),
        is_bulk: Some(document.is_bulk),
        changed_at: document.changed_at,
        media: document.media.iter().map(medium).collect(),
        ..Message::default()
    });
    event
}

fn medium(document: &MediaDocument) -> Media<'_> {
    Media {
        id: document.id.as_ref().map(|id| id.as_untrusted()),
        kind: document.kind.as_ref().map(|kind| kind.as_untrusted()),
        can_view: document.can_view,
        duration_s: document.duration_s,
        width: document.width,
        height: document.height,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(number: i64, direction: Direction, text: &str) -> MessageDocument {
        let id = number.to_string();
        serde_json::from_value(serde_json::json!({
            "message_id": id, "direction": direction, "sent_at": Millis(1_000 * number), "text": text,
            "event_id": format!("onlyfans:a:msg:{id}:received"), "expire_at": Millis(4_000_000_000_000),
        }))
        .expect("a document")
    }

    #[test]
    fn a_request_says_for_whom_it_is_and_carries_a_state() {
        let mut state = new_conversation("a", "c");
        state.messages_in = 7;
        let fold = state.encode().expect("encodes");
        let event = request("a", "c", Store::Documents, Some(&fold), Millis(5));
        let json = serde_json::to_string(&event).expect("serializes");
        let read: Event<'_> = serde_json::from_str(&json).expect("an event");
        assert!(is_for(&read, Store::Documents) && !is_for(&read, Store::Views));
        assert_eq!(carried(&read).as_deref(), Some(&state));
        assert_eq!(carried(&request("a", "c", Store::Views, None, Millis(5))), None);
        for bad in ["{\"fold\":\"0\"}", "{\"fold\":\"zz\"}", "{\"fold\":\"09\"}", "{}", "7"] {
            let mut event = request("a", "c", Store::Views, None, Millis(5));
            event.raw = RawValue::from_string(bad.to_owned()).ok().map(Cow::Owned);
            assert_eq!(carried(&event), None, "{bad}");
        }
    }

    #[test]
    fn a_state_is_rebuilt_from_the_history_alone() {
        let mut history = vec![
            document(1, Direction::In, "hello"),
            document(2, Direction::Out, "hi"),
            document(3, Direction::In, "again"),
            document(4, Direction::In, "oops"),
        ];
        history[3].deleted_at = Some(Millis(9_000));
        let state = rebuild("a", "c", &history);
        assert_eq!((state.messages_in, state.messages_out, state.recent.items().len()), (3, 1, 4));
        assert_eq!(super::super::view::awaiting_since(&state), Some(Millis(3_000)));
        assert!(state.recent.items()[3].deleted);
        history.reverse();
        assert_eq!(rebuild("a", "c", &history), state, "in any order");
    }

    #[test]
    fn what_the_other_store_knows_is_kept_and_its_messages_are_whole_again() {
        let long = "x".repeat(1_000);
        let history: Vec<MessageDocument> = (1..=20).map(|number| document(number, Direction::In, &long)).collect();
        let ours = rebuild("a", "c", &history);
        let mut known = fold::for_views(ours.clone());
        (known.messages_in, known.received_at) = (400, Millis(77_000));
        assert_eq!(known.recent.items().len(), Depth::VIEWS.recent);
        let state = joined(known, &ours);
        assert_eq!((state.messages_in, state.received_at), (400, Millis(77_000)));
        assert!(state.recent.items() == ours.recent.items(), "all messages, with all of their texts");
    }
}
