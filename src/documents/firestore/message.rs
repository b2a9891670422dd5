//! A message as it is stored, and how two accounts of it become one.
//!
//! Pure. Invariant: [`Stored::merge`] is commutative, associative and idempotent, so the same document results whatever order versions and
//! deletions come in, and however often.

use crate::schema::document::MessageDocument;
use crate::schema::time::Millis;

use super::value::{self, Fields};

/// Largest message, bytes of its JSON. Firestore refuses a document beyond 1 MiB for good, so this much of it is kept.
const MESSAGE_BYTES_MAX: usize = 900_000;
/// What is left of such a message: characters of its text.
const TEXT_CHARS_MAX: usize = 100_000;

/// A message document: a message, the news that it was deleted, or both.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    message_id: String,
    /// Absent where only the deletion is known.
    version: Option<Version>,
    /// When the source deleted it.
    pub deleted_at: Option<Millis>,
    expire_at: Millis,
}

/// One version of a message; of two the greater stays.
#[derive(Debug, Clone)]
struct Version {
    changed_at: Option<Millis>,
    /// The document's JSON without `deleted_at`.
    json: Vec<u8>,
    document: MessageDocument,
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        (self.changed_at, &self.json) == (other.changed_at, &other.json)
    }
}

impl Stored {
    /// A message as it came.
    ///
    /// # Errors
    /// Where it does not encode.
    pub(super) fn message(document: MessageDocument) -> Result<Self, serde_json::Error> {
        let mut document = document;
        let deleted_at = document.deleted_at.take();
        let mut json = serde_json::to_vec(&document)?;
        if json.len() > MESSAGE_BYTES_MAX {
            document.html = None;
            document.media.clear();
            document.text = document.text.map(|text| text.as_untrusted().preview(TEXT_CHARS_MAX));
            json = serde_json::to_vec(&document)?;
        }
        Ok(Self {
            message_id: document.message_id.raw().to_owned(),
            deleted_at,
            expire_at: document.expire_at,
            version: Some(Version { changed_at: document.changed_at, json, document }),
        })
    }

    /// A deletion of a message, to be remembered until `expire_at` if the message does not come.
    pub(super) fn deletion(message: &str, deleted_at: Millis, expire_at: Millis) -> Self {
        Self { message_id: message.to_owned(), version: None, deleted_at: Some(deleted_at), expire_at }
    }

    /// Both: the greater version, the earliest deletion.
    pub(super) fn merge(self, other: Self) -> Self {
        let version = match (self.version, other.version) {
            (Some(a), Some(b)) => Some(if (b.changed_at, &b.json) > (a.changed_at, &a.json) { b } else { a }),
            (a, b) => a.or(b),
        };
        let expire_at = version.as_ref().map_or_else(|| self.expire_at.max(other.expire_at), |version| version.document.expire_at);
        let deleted_at = [self.deleted_at, other.deleted_at].into_iter().flatten().min();
        Self { message_id: self.message_id, version, deleted_at, expire_at }
    }

    /// The document's fields. `key` and `conversation` are what a message is looked up by, and what is learned by that.
    pub(super) fn fields(&self, key: &str, conversation: Option<&str>) -> Fields {
        // The JSON was made from a document, so it is an object.
        let json = self.version.as_ref().map(|version| serde_json::from_slice(&version.json).unwrap_or_default());
        let mut fields = json.as_ref().map(value::fields).unwrap_or_default();
        fields.insert("message_id".to_owned(), value::string(&self.message_id));
        fields.insert("key".to_owned(), value::string(key));
        fields.insert("expire_at".to_owned(), value::timestamp(self.expire_at));
        fields.extend(conversation.map(|conversation| ("conversation_id".to_owned(), value::string(conversation))));
        fields.extend(self.deleted_at.map(|at| ("deleted_at".to_owned(), value::timestamp(at))));
        fields
    }

    /// Reads a document's fields.
    ///
    /// # Errors
    /// Where they are not what this version writes.
    pub(super) fn read(fields: &Fields) -> Result<Self, serde_json::Error> {
        if fields.contains_key("sent_at") {
            return Self::message(serde_json::from_value(value::json(fields))?);
        }
        Ok(Self {
            message_id: value::text(fields, "message_id").unwrap_or_default().to_owned(),
            version: None,
            deleted_at: value::time(fields, "deleted_at"),
            expire_at: value::time(fields, "expire_at").unwrap_or_default(),
        })
    }

    /// The message, if there is more of it than its deletion.
    pub(super) fn into_document(self) -> Option<MessageDocument> {
        let deleted_at = self.deleted_at;
        self.version.map(|version| MessageDocument { deleted_at, ..version.document })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::event::Direction;

    fn document(text: &str, changed_at: Option<i64>, deleted_at: Option<i64>) -> MessageDocument {
        MessageDocument {
            message_id: "m".into(),
            direction: Direction::In,
            sent_at: Millis(1_784_808_000_000),
            text: Some(text.into()),
            html: None,
            reply_to: None,
            price: Some(399),
            money: None,
            media: Vec::new(),
            is_tip: false,
            is_bulk: false,
            deleted_at: deleted_at.map(Millis),
            changed_at: changed_at.map(Millis),
            event_id: "event".into(),
            expire_at: Millis(1_884_808_000_000),
        }
    }

    fn stored() -> impl Strategy<Value = Stored> {
        let message = (0..3u8, prop::option::of(0..3i64), prop::option::of(0..3i64)).prop_map(|(text, changed_at, deleted_at)| {
            Stored::message(document(&text.to_string(), changed_at, deleted_at)).expect("encodes")
        });
        let deletion = (0..3i64, 0..3i64).prop_map(|(at, expire_at)| Stored::deletion("m", Millis(at), Millis(expire_at)));
        prop_oneof![message, deletion]
    }

    proptest! {
        #[test]
        fn merging_converges(a in stored(), b in stored(), c in stored()) {
            prop_assert_eq!(a.clone().merge(a.clone()), a.clone());
            prop_assert_eq!(a.clone().merge(b.clone()), b.clone().merge(a.clone()));
            prop_assert_eq!(a.clone().merge(b.clone()).merge(c.clone()), a.merge(b.merge(c)));
        }

        #[test]
        fn what_is_stored_is_read_back(stored in stored()) {
            prop_assert_eq!(Stored::read(&stored.fields("key", Some("c"))).expect("ours"), stored);
        }
    }

    #[test]
    fn a_message_too_large_for_firestore_is_cut() {
        let huge = "\u{1}é".repeat(1 << 19);
        let document = MessageDocument { html: Some(huge.as_str().into()), ..document(&huge, None, None) };
        let stored = Stored::message(document).expect("encodes").into_document().expect("a message");
        assert_eq!(stored.html, None);
        assert_eq!(stored.text.expect("kept").raw().chars().count(), TEXT_CHARS_MAX);
    }
}
