//! The source item as an event carries it: byte for byte, but for URLs.
//!
//! Media URLs are signed and private, so no URL of the source is stored. Owns: what is a URL and where one may stay. Invariant: what
//! comes out is valid JSON, and nothing but strings that are URLs differs from what went in.

use std::borrow::Cow;

use memchr::{memchr_iter, memmem};
use serde_json::value::RawValue;

/// Members that hold what people wrote. A URL there is chat, not a medium.
const TEXT_KEYS: [&str; 14] = [
    "about",
    "comment",
    "displayName",
    "html",
    "lockedText",
    "message",
    "name",
    "notice",
    "rawText",
    "template",
    "text",
    "tipText",
    "title",
    "username",
];

/// The item with every string value that is a URL replaced by null, and every key that is one by `removed-url-N`.
///
/// A URL begins with `//` or `scheme://`, its slashes escaped or not. What stays: URLs inside a longer text, and the values of [`TEXT_KEYS`].
/// Borrows where there is nothing to remove, which takes two searches for double slashes.
pub(super) fn without_urls(item: &RawValue) -> Cow<'_, RawValue> {
    let json = item.get();
    if memmem::find(json.as_bytes(), b"//").is_none() && memmem::find(json.as_bytes(), br"/\/").is_none() {
        return Cow::Borrowed(item);
    }
    let Some(stripped) = strip(json) else { return Cow::Borrowed(item) };
    // Never seen to fail; if it did, no raw at all is what keeps the promise.
    Cow::Owned(RawValue::from_string(stripped).unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

fn strip(json: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let (mut copied, mut skip_to, mut keys_removed) = (0, 0, 0u32);
    for open in memchr_iter(b'"', json.as_bytes()) {
        if open < skip_to {
            continue;
        }
        let close = string_end(json, open);
        skip_to = close + 1;
        if !is_url(&json[open + 1..close]) {
            continue;
        }
        let is_key = json[close + 1..].trim_start().starts_with(':');
        if !is_key && is_text_value(&json[..open]) {
            continue;
        }
        let out = out.get_or_insert_with(|| String::with_capacity(json.len()));
        out.push_str(&json[copied..open]);
        if is_key {
            keys_removed += 1;
            out.push_str(&format!("\"removed-url-{keys_removed}\""));
        } else {
            out.push_str("null");
        }
        copied = close + 1;
    }
    out.map(|mut out| {
        out.push_str(&json[copied..]);
        out
    })
}

/// The index of the quote that closes the string opened at `open`.
fn string_end(json: &str, open: usize) -> usize {
    let bytes = json.as_bytes();
    let mut at = open + 1;
    while let Some(next) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        if bytes[at + next] == b'"' {
            return at + next;
        }
        at += next + 2;
    }
    json.len() - 1
}

/// Whether the string, as it stands between its quotes, begins like a URL.
fn is_url(text: &str) -> bool {
    let slashes = |text: &str| {
        let text = text.strip_prefix('\\').unwrap_or(text);
        text.strip_prefix('/').map(|text| text.strip_prefix('\\').unwrap_or(text)).is_some_and(|text| text.starts_with('/'))
    };
    let text = text.trim_start();
    let scheme = text.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')).count();
    match text.as_bytes().get(scheme) {
        Some(b':') if scheme > 0 => slashes(&text[scheme + 1..]),
        Some(b'/' | b'\\') if scheme == 0 => slashes(text),
        _ => false,
    }
}

/// Whether the value that follows `before` belongs to one of the [`TEXT_KEYS`]. Elements of arrays never do.
fn is_text_value(before: &str) -> bool {
    let Some(before) = before.trim_end().strip_suffix(':') else { return false };
    let Some(before) = before.trim_end().strip_suffix('"') else { return false };
    TEXT_KEYS.iter().any(|key| before.strip_suffix(key).is_some_and(|rest| rest.ends_with('"') && !rest.ends_with("\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn stripped(json: &str) -> String {
        let item: &RawValue = serde_json::from_str(json).expect("test JSON is valid");
        without_urls(item).get().to_owned()
    }

    #[test]
    fn urls_are_removed_and_nothing_else() {
        for (json, expected) in [
            (r#"{"url":"https://cdn.example/1?Signature=x"}"#, r#"{"url":null}"#),
            (r#"{"url":"https:\/\/cdn.example\/1","n":1}"#, r#"{"url":null,"n":1}"#),
            (r#"{ "url" : "//cdn.example/1" }"#, r#"{ "url" : null }"#),
            (r#"{"url":"\/\/cdn.example"}"#, r#"{"url":null}"#),
            (r#"{"a":"HTTP://X","b":"rtmp://live/key","c":" https://x"}"#, r#"{"a":null,"b":null,"c":null}"#),
            (r#"["https://x","plain",["https://y"]]"#, r#"[null,"plain",[null]]"#),
            (r#"{"text":["https://x"]}"#, r#"{"text":[null]}"#),
            (r#"{"text":"https://x","name" : "//y"}"#, r#"{"text":"https://x","name" : "//y"}"#),
            (r#"{"text":"see https://x","link":"see https://x"}"#, r#"{"text":"see https://x","link":"see https://x"}"#),
            (r#"{"a\"text":"https://x","context":"https://y"}"#, r#"{"a\"text":null,"context":null}"#),
            (r#"{"https://cdn/1":{"w":1},"//b" :2}"#, r#"{"removed-url-1":{"w":1},"removed-url-2" :2}"#),
            (r#"{"text":"a\\","u":"https://x\"y","v":1}"#, r#"{"text":"a\\","u":null,"v":1}"#),
            (r#"{"text":"he said \"https://x\"","t":"/my/chats"}"#, r#"{"text":"he said \"https://x\"","t":"/my/chats"}"#),
            (r#""https://x""#, "null"),
            (r#"{"a":"/","b":"/\/","c":"a:/b","d":"://"}"#, r#"{"a":"/","b":null,"c":"a:/b","d":"://"}"#),
        ] {
            assert_eq!(stripped(json), expected, "{json}");
        }
    }

    #[test]
    fn an_item_without_urls_is_not_copied() {
        let item: &RawValue = serde_json::from_str(r#"{"text":"<p>a</p>","t":"https:/x"}"#).expect("valid");
        assert!(matches!(without_urls(item), Cow::Borrowed(_)));
    }

    /// The same, over a parsed tree.
    fn model(value: Value, is_text: bool) -> Value {
        match value {
            Value::String(text) => {
                let start = text.trim_start_matches([' ', '\t']);
                let scheme = start.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "+-.".contains(c));
                let is_url = start.starts_with("//") || (scheme.len() < start.len() && scheme.starts_with("://"));
                if is_url && !is_text { Value::Null } else { Value::String(text) }
            }
            Value::Array(values) => values.into_iter().map(|value| model(value, false)).collect(),
            Value::Object(members) => {
                let members = members.into_iter().map(|(key, value)| {
                    let is_text = TEXT_KEYS.contains(&key.as_str());
                    (key, model(value, is_text))
                });
                Value::Object(members.collect::<Map<String, Value>>())
            }
            other => other,
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "(https?:|//|/|:|\"|\\\\| |a|é|rtmp|,|\\{|\\}|\\[){0,6}",
            Just("https://cdn.example/1?a=\"b\"".to_owned()),
            Just("//x\\".to_owned())
        ];
        let leaf = prop_oneof![Just(json!(null)), Just(json!(3.5)), text.prop_map(Value::String)];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec(("(text|name|url|src|te\\\\xt|\"text)", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_parsed_tree(value in values(), pretty in any::<bool>(), escaped in any::<bool>()) {
            let mut json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("values serialize");
            if escaped {
                json = json.replace('/', "\\/");
            }
            let result: Value = serde_json::from_str(&stripped(&json)).expect("still JSON");
            prop_assert_eq!(result, model(value, false));
        }
    }
}
