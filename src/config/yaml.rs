//! YAML with the place of every key and value.
//!
//! `serde_yaml` tells places only in errors. So each scalar is read by a visitor that keeps the value and then reports an error, and
//! the reader of the collection around it takes the place out of that error and goes on. The deserializer has consumed the scalar by
//! then, so nothing is read twice. The tests below hold that behaviour.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_yaml::Value;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) content: Content,
    /// For lists and maps the place of the first thing in them; `None` where nothing is.
    pub(super) place: Option<Place>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map. Keys may repeat; who reads the map decides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Option<Place>,
    pub(super) value: Node,
}

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A text that is not one YAML document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) place: Option<Place>,
}

/// Reads one document. Text without one, such as nothing but comments, is null.
pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let blank = |line: &str| line.is_empty() || line.starts_with('#') || line == "---" || line == "...";
    if text.trim_start_matches('\u{feff}').lines().all(|line| blank(line.trim())) {
        return Ok(Node { content: Content::Scalar(Value::Null), place: None });
    }
    let mut read = None;
    let outcome = Probe { read: &mut read }.deserialize(serde_yaml::Deserializer::from_str(text));
    finish(outcome, read).map_err(|error: serde_yaml::Error| {
        let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
        let told = error.to_string();
        let message = told.split_once(" at line ").map_or(told.as_str(), |(message, _)| message).to_owned();
        SyntaxError { message, place }
    })
}

/// Reads one value into `read`. Scalars end in an error that carries their place; lists and maps end well.
struct Probe<'a> {
    read: &'a mut Option<Content>,
}

/// The node that a probe has read, or the error that was a real one.
fn finish<E: fmt::Display>(outcome: Result<(), E>, read: Option<Content>) -> Result<Node, E> {
    match (outcome, read) {
        (Ok(()), Some(content)) => {
            let place = match &content {
                Content::Scalar(_) => None,
                Content::List(items) => items.first().and_then(|item| item.place),
                Content::Map(entries) => entries.first().and_then(|entry| entry.place),
            };
            Ok(Node { content, place })
        }
        (Err(told), Some(content @ Content::Scalar(_))) => Ok(Node { content, place: place_in(&told.to_string()) }),
        (Err(error), _) => Err(error),
        (Ok(()), None) => Ok(Node { content: Content::Scalar(Value::Null), place: None }),
    }
}

/// The tail ` at line 3 column 5` of an error. The first place of a document is not told, so no tail is line 1, column 1.
fn place_in(error: &str) -> Option<Place> {
    let Some((_, tail)) = error.rsplit_once(" at line ") else { return Some(Place { line: 1, column: 1 }) };
    let (line, column) = tail.split_once(" column ")?;
    Some(Place { line: line.parse().ok()?, column: column.parse().ok()? })
}

impl<'de> DeserializeSeed<'de> for Probe<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Probe<'_> {
    fn scalar<E: Error>(self, value: impl Into<Value>) -> Result<(), E> {
        *self.read = Some(Content::Scalar(value.into()));
        Err(E::custom("here"))
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.scalar(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut list = Vec::new();
        loop {
            let mut read = None;
            match items.next_element_seed(Probe { read: &mut read }) {
                Ok(None) => break,
                Ok(Some(())) => list.push(finish::<A::Error>(Ok(()), read)?),
                Err(error) => list.push(finish(Err(error), read)?),
            }
        }
        *self.read = Some(Content::List(list));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut map = Vec::new();
        loop {
            let mut key = None;
            let place = match entries.next_key_seed(KeyProbe { read: &mut key }) {
                Ok(_) => break,
                Err(error) if key.is_none() => return Err(error),
                Err(told) => place_in(&told.to_string()),
            };
            let mut read = None;
            let outcome = entries.next_value_seed(Probe { read: &mut read });
            map.push(Entry { key: key.unwrap_or_default(), place, value: finish(outcome, read)? });
        }
        *self.read = Some(Content::Map(map));
        Ok(())
    }
}

/// Reads a key as the text that stands there, so that an account id is one whether or not it looks like a number.
struct KeyProbe<'a> {
    read: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for KeyProbe<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyProbe<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        *self.read = Some(key.to_owned());
        Err(E::custom("here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line, each key and scalar with its place.
    fn show(node: &Node) -> String {
        let at = |place: Option<Place>| place.map_or(String::new(), |place| format!("@{}:{}", place.line, place.column));
        match &node.content {
            Content::Scalar(value) => {
                format!("{}{}", serde_json::to_string(value).expect("scalars are JSON"), at(node.place))
            }
            Content::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Content::Map(entries) => {
                let entry = |entry: &Entry| format!("{}{}={}", entry.key, at(entry.place), show(&entry.value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn every_key_and_scalar_has_its_place() {
        for (text, expected) in [
            ("", "null"),
            ("# only a comment\n---\n", "null"),
            ("x", r#""x"@1:1"#),
            (
                "a: 1\nb:\n  c: x\n  d: [1, true, ~]\ne: {f: 1.5}\n",
                r#"{a@1:1=1@1:4 b@2:1={c@3:3="x"@3:6 d@4:3=[1@4:7 true@4:10 null@4:16]} e@5:1={f@5:5=1.5@5:8}}"#,
            ),
            ("a:\nb: 1\n", "{a@1:1=null@1:3 b@2:1=1@2:4}"),
            ("l:\n  - n: 1\n    m: 2\n  - n: 3\n", "{l@1:1=[{n@2:5=1@2:8 m@3:5=2@3:8} {n@4:5=3@4:8}]}"),
            ("a: 1\na: 2\n", "{a@1:1=1@1:4 a@2:1=2@2:4}"),
            ("0123: x\n200000001: y\n", r#"{0123@1:1="x"@1:7 200000001@2:1="y"@2:12}"#),
            ("a: &x [1]\nb: *x\n", "{a@1:1=[1@1:8] b@2:1=[1@1:8]}"),
            ("a: \" at line 9 column 9\"\nb: |\n  text\n", r#"{a@1:1=" at line 9 column 9"@1:4 b@2:1="text\n"@2:4}"#),
        ] {
            let tree = read(text).map(|node| show(&node)).map_err(|error| error.message);
            assert_eq!(tree.as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_yaml_says_where() {
        for (text, line, message) in [
            ("a: [1\nb: 2\n", 2, "did not find expected"),
            ("a: *nowhere\n", 1, "unknown anchor"),
            ("a: !tag x\n", 1, "invalid type: enum"),
            ("[1, 2]: x\n", 1, "invalid type"),
            ("a: 1\n---\nb: 2\n", 0, "more than one document"),
            ("a: \t- b\n  c", 1, ""),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.message.contains(message), "{text:?}: {}", error.message);
            assert_eq!(error.place.map_or(0, |place| place.line), line, "{text:?}: {}", error.message);
        }
    }

    #[test]
    fn nesting_and_repetition_are_bounded() {
        let deep = "[".repeat(1_000) + &"]".repeat(1_000);
        assert!(read(&deep).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert!(read(&bomb).is_err());
    }
}
