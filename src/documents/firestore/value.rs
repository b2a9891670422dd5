//! JSON as Firestore's values, and back.
//!
//! The documents are types of `schema`, and JSON is how they are written everywhere else; here each member becomes a field of the native type, so
//! that a query, a TTL policy and other people's clients understand it. Times become timestamps. Invariant: what was written is read back as the
//! same JSON.

use std::collections::HashMap;

use firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use firestore::gcloud_sdk::google::firestore::v1::{ArrayValue, MapValue, Value};
use firestore::gcloud_sdk::prost_types::Timestamp;
use serde_json::Value as Json;

use crate::schema::time::Millis;

/// The fields of a document.
pub(super) type Fields = HashMap<String, Value>;

/// The members whose text is a time. A test holds them to the published schemas.
const TIMES: [&str; 14] = [
    "applied_at",
    "as_of",
    "at",
    "awaiting_reply_since",
    "changed_at",
    "deleted_at",
    "expire_at",
    "expires_at",
    "first_seen_at",
    "from",
    "last_at",
    "last_seen_at",
    "sent_at",
    "to",
];

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z: the times that Firestore takes.
const TIME_MIN: i64 = -62_135_596_800_000;
const TIME_MAX: i64 = 253_402_300_799_999;

/// The members of a JSON object as fields; nothing else has any.
pub(super) fn fields(json: &Json) -> Fields {
    json.as_object().into_iter().flatten().map(|(name, json)| (name.clone(), value(name, json))).collect()
}

/// The fields as a JSON object.
pub(super) fn json(fields: &Fields) -> Json {
    Json::Object(fields.iter().map(|(name, value)| (name.clone(), json_value(value))).collect())
}

/// The value of a member of that name.
fn value(name: &str, json: &Json) -> Value {
    let typed = match json {
        Json::Null => ValueType::NullValue(0),
        Json::Bool(bool) => ValueType::BooleanValue(*bool),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => ValueType::IntegerValue(integer),
            None => ValueType::DoubleValue(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => match Millis::parse(text).filter(|_| TIMES.contains(&name)) {
            Some(time) => return timestamp(time),
            None => return string(text),
        },
        Json::Array(items) => return array(items.iter().map(|item| value(name, item)).collect()),
        Json::Object(_) => ValueType::MapValue(MapValue { fields: fields(json) }),
    };
    of(typed)
}

fn json_value(value: &Value) -> Json {
    match value.value_type.as_ref() {
        Some(ValueType::BooleanValue(bool)) => Json::from(*bool),
        Some(ValueType::IntegerValue(integer)) => Json::from(*integer),
        Some(ValueType::DoubleValue(double)) => Json::from(*double),
        Some(ValueType::StringValue(text)) => Json::from(text.as_str()),
        Some(ValueType::TimestampValue(time)) => Json::from(millis(time).to_string()),
        Some(ValueType::ArrayValue(array)) => array.values.iter().map(json_value).collect(),
        Some(ValueType::MapValue(map)) => json(&map.fields),
        // None of the others is ever written here.
        _ => Json::Null,
    }
}

fn of(value_type: ValueType) -> Value {
    Value { value_type: Some(value_type) }
}

pub(super) fn string(text: &str) -> Value {
    of(ValueType::StringValue(text.to_owned()))
}

pub(super) fn reference(name: String) -> Value {
    of(ValueType::ReferenceValue(name))
}

pub(super) fn integer(integer: i64) -> Value {
    of(ValueType::IntegerValue(integer))
}

pub(super) fn bytes(bytes: Vec<u8>) -> Value {
    of(ValueType::BytesValue(bytes))
}

pub(super) fn array(values: Vec<Value>) -> Value {
    of(ValueType::ArrayValue(ArrayValue { values }))
}

/// A time as a timestamp, drawn to the nearest that Firestore takes.
pub(super) fn timestamp(time: Millis) -> Value {
    let ms = time.0.clamp(TIME_MIN, TIME_MAX);
    // Below a second, so it fits.
    let nanos = i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    of(ValueType::TimestampValue(Timestamp { seconds: ms.div_euclid(1000), nanos }))
}

/// A timestamp to the millisecond.
pub(super) fn millis(time: &Timestamp) -> Millis {
    Millis(time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000)))
}

pub(super) fn text<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
    match fields.get(name)?.value_type.as_ref()? {
        ValueType::StringValue(text) => Some(text),
        _ => None,
    }
}

pub(super) fn texts<'f>(fields: &'f Fields, name: &str) -> Vec<&'f str> {
    let Some(ValueType::ArrayValue(array)) = fields.get(name).and_then(|value| value.value_type.as_ref()) else { return Vec::new() };
    let text = |value: &'f Value| match value.value_type.as_ref() {
        Some(ValueType::StringValue(text)) => Some(text.as_str()),
        _ => None,
    };
    array.values.iter().filter_map(text).collect()
}

pub(super) fn number(fields: &Fields, name: &str) -> Option<i64> {
    match fields.get(name)?.value_type.as_ref()? {
        ValueType::IntegerValue(integer) => Some(*integer),
        _ => None,
    }
}

pub(super) fn time(fields: &Fields, name: &str) -> Option<Millis> {
    match fields.get(name)?.value_type.as_ref()? {
        ValueType::TimestampValue(time) => Some(millis(time)),
        _ => None,
    }
}

pub(super) fn take_bytes(fields: &mut Fields, name: &str) -> Option<Vec<u8>> {
    match fields.remove(name)?.value_type? {
        ValueType::BytesValue(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::schema::document::{AccountDocument, FanSummary, MessageDocument};

    /// Names of members with a time, and of members with any other text.
    fn walk(schema: &Json, times: &mut BTreeSet<String>, others: &mut BTreeSet<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                let is_time = property["format"] == "date-time" || property["anyOf"][0]["format"] == "date-time";
                let _ = if is_time { times.insert(name.clone()) } else { others.insert(name.clone()) };
            }
        }
        match schema {
            Json::Object(members) => members.values().for_each(|member| walk(member, times, others)),
            Json::Array(items) => items.iter().for_each(|item| walk(item, times, others)),
            _ => {}
        }
    }

    #[test]
    fn the_times_are_those_of_the_schemas() {
        let (mut times, mut others) = (BTreeSet::new(), BTreeSet::new());
        for schema in [
            schemars::schema_for!(FanSummary).to_value(),
            schemars::schema_for!(MessageDocument).to_value(),
            schemars::schema_for!(AccountDocument).to_value(),
        ] {
            walk(&schema, &mut times, &mut others);
        }
        assert_eq!(times, TIMES.iter().map(|&name| name.to_owned()).collect());
        assert!(times.is_disjoint(&others), "{times:?} {others:?}");
    }

    #[test]
    fn values_have_their_native_types() {
        let json = serde_json::json!({
            "sent_at": "2026-07-23T12:00:00.250Z", "text": "2026-07-23T12:00:00.250Z", "price": 399, "is_tip": true, "media": [{"width": 1}],
        });
        let fields = fields(&json);
        assert_eq!(fields["sent_at"], timestamp(Millis(1_784_808_000_250)));
        assert_eq!(fields["text"], string("2026-07-23T12:00:00.250Z"));
        assert_eq!(fields["price"], integer(399));
        assert_eq!(fields["media"], array(vec![value("media", &serde_json::json!({"width": 1}))]));
        assert_eq!(super::json(&fields), json);
    }

    proptest! {
        #[test]
        fn times_are_read_as_written(ms in TIME_MIN..=TIME_MAX) {
            let fields = Fields::from([("at".to_owned(), timestamp(Millis(ms)))]);
            prop_assert_eq!(time(&fields, "at"), Some(Millis(ms)));
        }

        #[test]
        fn times_beyond_the_calendar_do_not_panic(ms: i64) {
            let fields = Fields::from([("at".to_owned(), timestamp(Millis(ms)))]);
            prop_assert!(time(&fields, "at").is_some());
        }
    }
}
