//! From Redis' answers to Rust values; what has another shape is an error that names the key.

use std::str::FromStr;

use redis::Value;

use super::error::ViewsError;

/// A string that must be there.
pub(super) fn text(key: &str, value: Value) -> Result<String, ViewsError> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| ViewsError::unexpected(key, "not UTF-8")),
        Value::SimpleString(text) => Ok(text),
        other => Err(ViewsError::unexpected(key, shape(&other))),
    }
}

/// A string that RESP 3 marks as one for people.
pub(super) fn info(key: &str, value: Value) -> Result<String, ViewsError> {
    match value {
        Value::VerbatimString { text, .. } => Ok(text),
        value => text(key, value),
    }
}

/// A string, or nothing.
pub(super) fn optional_text(key: &str, value: Value) -> Result<Option<String>, ViewsError> {
    if value == Value::Nil { Ok(None) } else { text(key, value).map(Some) }
}

/// A list of strings.
pub(super) fn texts(key: &str, value: Value) -> Result<Vec<String>, ViewsError> {
    array(key, value)?.into_iter().map(|value| text(key, value)).collect()
}

/// A number, written in digits or as an integer reply.
pub(super) fn number<N: FromStr + TryFrom<i64>>(key: &str, value: &Value) -> Result<N, ViewsError> {
    let number = match value {
        Value::Int(number) => N::try_from(*number).ok(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(|digits| digits.parse().ok()),
        _ => None,
    };
    number.ok_or_else(|| ViewsError::unexpected(key, format!("{} instead of a number", shape(value))))
}

/// A list.
pub(super) fn array(key: &str, value: Value) -> Result<Vec<Value>, ViewsError> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        other => Err(ViewsError::unexpected(key, shape(&other))),
    }
}

/// A list of exactly that many.
pub(super) fn pair<const N: usize>(key: &str, value: Value) -> Result<[Value; N], ViewsError> {
    let values = array(key, value)?;
    let len = values.len();
    values.try_into().map_err(|_| ViewsError::unexpected(key, format!("{len} values instead of {N}")))
}

/// What kind of answer it is, without its content: that may be chat.
pub(super) fn shape(value: &Value) -> String {
    match value {
        Value::Nil => "nothing".into(),
        Value::Int(_) => "an integer".into(),
        Value::BulkString(bytes) => format!("a string of {} bytes", bytes.len()),
        Value::SimpleString(_) | Value::Okay => "a status".into(),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::ServerError(error) => format!("the error {}", error.code()),
        _ => "another type".into(),
    }
}
