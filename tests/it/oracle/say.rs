//! Events as JSON, said in few words: what the examples are made of. Times are seconds from [`NOW`].

use convpipe::schema::event::EventKind;
use convpipe::schema::time::Millis;
use convpipe::schema::{EVENT_SCHEMA, NORMALIZER};
use serde_json::{Value, json};

use super::generate::NOW;
use super::rows::ACCOUNT;

/// The time so many seconds from now.
pub(super) fn second(at: i64) -> Millis {
    NOW.plus(at * 1_000)
}

pub(super) fn at(at: i64) -> Value {
    json!({ "occurred_at": second(at), "received_at": second(at) })
}

/// An event of the account alone. Its id says kind and time.
pub(super) fn of_account(kind: &str, at: i64, facts: Value) -> Value {
    assert!(EventKind::parse(kind).is_some(), "{kind} is in the catalogue");
    let event = json!({
        "schema": EVENT_SCHEMA, "normalizer": NORMALIZER, "id": format!("{kind}@{at}"), "kind": kind, "platform": "onlyfans", "account_id": ACCOUNT,
        "direction": "system", "occurred_at": second(at), "received_at": second(at), "connection": "0198a0000000000a", "frame_no": 1, "item_no": 0,
    });
    with(event, facts)
}

/// An event of the conversation with fan `1`.
pub(super) fn said(kind: &str, at: i64, facts: Value) -> Value {
    let by_fan = ["message.received", "tip.", "ppv.", "post.purchased", "subscription.", "typing.", "message.liked"];
    let direction = if kind == "message.sent" {
        "out"
    } else if by_fan.iter().any(|prefix| kind.starts_with(prefix)) {
        "in"
    } else {
        "system"
    };
    with(of_fan("1", with(of_account(kind, at, json!({})), json!({ "direction": direction }))), facts)
}

pub(super) fn of_fan(fan: &str, event: Value) -> Value {
    with(event, json!({ "conversation_id": fan, "fan_id": fan }))
}

pub(super) fn inbound(id: &str, at: i64) -> Value {
    said("message.received", at, json!({ "id": format!("received:{id}"), "message": { "id": id, "text": "hi" } }))
}

pub(super) fn opened(id: &str, at: i64) -> Value {
    let mut event = inbound(id, at);
    event["message"]["is_opened"] = json!(true);
    event
}

pub(super) fn outbound(id: &str, at: i64) -> Value {
    said("message.sent", at, json!({ "id": format!("sent:{id}"), "message": { "id": id, "text": "hello" } }))
}

pub(super) fn bulk(id: &str, at: i64) -> Value {
    let mut event = outbound(id, at);
    event["message"]["is_bulk"] = json!(true);
    event
}

pub(super) fn priced(id: &str, at: i64, minor: i64) -> Value {
    let mut event = outbound(id, at);
    event["message"]["price"] = json!(minor);
    event
}

pub(super) fn unlocked(id: &str, at: i64) -> Value {
    said("ppv.unlocked", at, json!({ "message": { "id": id } }))
}

/// A delete says of which message, not of which conversation, and has no time of its own.
pub(super) fn deleted(id: &str, at: i64) -> Value {
    let event = of_account("message.deleted", at, json!({ "id": format!("deleted:{id}"), "message": { "id": id } }));
    with(event, json!({ "occurred_at": null }))
}

pub(super) fn usd(minor: i64) -> Value {
    json!({ "minor": minor, "currency": "USD", "basis": "gross" })
}

/// The event with these fields instead.
pub(super) fn with(mut event: Value, fields: Value) -> Value {
    let (Some(event_fields), Value::Object(fields)) = (event.as_object_mut(), fields) else {
        panic!("an event and its fields are objects")
    };
    event_fields.extend(fields);
    event
}
