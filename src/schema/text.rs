//! Text that strangers wrote.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// A string from outside: chat text, names, ids.
///
/// It is stored as it came and has no `Display`, so that it cannot reach a terminal, a log or a page by accident: whoever shows it
/// goes through the one renderer of that medium (for terminals `commands::output::term_safe`). `Debug` escapes control characters.
/// Deserializing borrows from the input where the JSON string has no escapes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Untrusted<'a>(Cow<'a, str>);

/// An [`Untrusted`] that owns its text, for what outlives the delivery: states, views, documents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct OwnedText(String);

impl OwnedText {
    /// The text as it came, for storing and comparing; never for showing.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// The same text, borrowed.
    #[must_use]
    pub fn as_untrusted(&self) -> Untrusted<'_> {
        Untrusted(Cow::Borrowed(&self.0))
    }
}

/// At most `max` characters of a text, from its beginning.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end])
}

impl From<String> for OwnedText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for OwnedText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for OwnedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'a> Untrusted<'a> {
    /// The text as it came, for storing and comparing; never for showing.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Wraps a borrowed text.
    #[must_use]
    pub const fn borrowed(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// Whether nothing but white space stands in it. A blank profile field never overwrites a known one.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// The same text, owned.
    #[must_use]
    pub fn into_owned(self) -> OwnedText {
        OwnedText(self.0.into_owned())
    }

    /// The text as it came, borrowed for as long as this one borrows it; never for showing.
    #[must_use]
    pub fn into_cow(self) -> Cow<'a, str> {
        self.0
    }

    /// The same text, borrowed from this one.
    #[must_use]
    pub fn reborrow(&self) -> Untrusted<'_> {
        Untrusted(Cow::Borrowed(&self.0))
    }

    /// At most `max` characters, owned; an ellipsis takes the last one where text was cut.
    #[must_use]
    pub fn preview(&self, max: usize) -> OwnedText {
        let text = self.raw();
        if text.len() <= max || text.char_indices().nth(max).is_none() {
            return OwnedText(text.to_owned());
        }
        let mut cut: String = text.chars().take(max.saturating_sub(1)).collect();
        cut.push('…');
        OwnedText(cut)
    }
}

impl<'a> From<&'a str> for Untrusted<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Untrusted<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Untrusted<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Untrusted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Untrusted<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Untrusted<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Untrusted(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Untrusted(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Untrusted(Cow::Owned(text)))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

impl schemars::JsonSchema for Untrusted<'_> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preview_counts_characters_not_bytes() {
        for (text, max, expected) in [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("ééé", 3, "ééé"), ("🙂🙂🙂🙂", 2, "🙂…"), ("", 3, "")]
        {
            assert_eq!(Untrusted::from(text).preview(max).raw(), expected, "{text:?} cut to {max}");
        }
    }

    #[test]
    fn plain_json_strings_are_borrowed() {
        let json = r#"["plain","esc\"aped"]"#;
        let texts: Vec<Untrusted<'_>> = serde_json::from_str(json).expect("valid JSON");
        assert!(matches!(texts[0].0, Cow::Borrowed(_)));
        assert_eq!(texts[1].raw(), "esc\"aped");
    }
}
