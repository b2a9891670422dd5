//! What lies in the quarantine, read again by the code of today. Pure.
//!
//! Owns: turning a quarantine message back into the frame or the event that it is about, and whether that can be read now. Does not own where
//! the messages come from and where the events go. Invariant: a record is readable only as a whole, so that feeding it back loses nothing of it.

use serde::Serialize;

use super::Played;
use crate::schema::envelope::Envelope;
use crate::schema::text::cut;
use crate::schema::time::Millis;
use crate::transform::normalize::{FrameContext, Normalized};

/// Bytes of a record that are shown of it.
const SAMPLE_MAX: usize = 1_024;

/// What records are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Group {
    /// Where it was set aside: `normalize`, `decode`, `apply`, `publish`.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// The key of the frame that it stood under; `frame` for a whole frame, `event` for an event.
    pub source: String,
    /// The account.
    pub account: String,
}

/// One message of the quarantine.
#[derive(Debug)]
pub struct Record {
    /// What it is counted as.
    pub group: Group,
    /// What was wrong, in the words of whoever set it aside.
    pub detail: String,
    /// When the frame was read; for an event, when it was set aside.
    pub received_at: Millis,
    /// When it came to the quarantine.
    pub published_at: Millis,
    /// Bytes of the frame, item or event, also of those that were not kept.
    pub bytes: u64,
    /// The beginning of it.
    pub sample: String,
    connection: String,
    frame_no: u64,
    content: Result<Played, Refused>,
}

/// Why a record still cannot be fed back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// A word, as in the attribute `reason` of a quarantine message.
    pub reason: String,
    /// What is wrong.
    pub detail: String,
}

/// How records are read.
#[derive(Debug, Clone, Copy)]
pub struct Rereading<'r> {
    /// The connection that the events name, in the place of the one that the record names.
    pub connection: Option<&'r str>,
    /// Whether events carry the source item.
    pub raw: bool,
    /// Deepest nesting of a frame.
    pub depth_max: usize,
}

impl Record {
    /// Understands a message of the quarantine. Any message is one: what says nothing of itself is of an unknown stage.
    #[must_use]
    pub fn new(envelope: &Envelope, published_at: Millis) -> Self {
        let said = |name| envelope.attribute(name).unwrap_or_default().to_owned();
        let (data, stage, key) = (envelope.data(), said("stage"), envelope.attribute("key"));
        let is_event = stage != "normalize";
        let source = if is_event { "event" } else { key.unwrap_or("frame") };
        let length = envelope.attribute("length").and_then(|length| length.parse().ok()).unwrap_or(data.len() as u64);
        let received_at = envelope.attribute("received_at").and_then(Millis::parse).unwrap_or(published_at);
        let content = if length > data.len() as u64 {
            Err(Refused::new("cut_off", format!("only the first {} bytes of {length} are kept", data.len())))
        } else {
            match std::str::from_utf8(data) {
                Ok(text) => Ok(Played {
                    account: said("account"),
                    // An item was cut out of its frame; alone in one it reads the same.
                    text: match key.filter(|_| !is_event) {
                        Some(key) => format!("{{{}:{text}}}", serde_json::Value::from(key)),
                        None => text.to_owned(),
                    },
                    received_at,
                    is_event,
                }),
                Err(error) => Err(Refused::new("not_utf8", error.to_string())),
            }
        };
        Self {
            group: Group { stage, reason: said("reason"), source: source.to_owned(), account: said("account") },
            detail: said("detail"),
            received_at,
            published_at,
            bytes: length,
            sample: cut(&String::from_utf8_lossy(&data[..data.len().min(SAMPLE_MAX)]), SAMPLE_MAX).to_owned(),
            connection: said("connection"),
            frame_no: envelope.attribute("frame_no").and_then(|number| number.parse().ok()).unwrap_or(0),
            content,
        }
    }

    /// What it reads as now: events, or nothing, where it turns out to be no more than an answer to the session.
    ///
    /// # Errors
    /// Why it still cannot be read, or not all of it.
    pub fn read<'r>(&'r self, with: &Rereading<'r>) -> Result<Normalized<'r>, Refused> {
        let played = self.content.as_ref().map_err(Clone::clone)?;
        let context = FrameContext {
            account_id: &played.account,
            connection: with.connection.unwrap_or(&self.connection),
            frame_no: self.frame_no,
            received_at: self.received_at,
            raw: with.raw,
            depth_max: with.depth_max,
        };
        let mut normalized = played.read(&context);
        if let Some(rejected) = normalized.rejected.first() {
            let reason = if played.is_event { "not_an_event" } else { rejected.reason.name() };
            return Err(Refused::new(reason, rejected.detail.clone()));
        }
        if let Some(connection) = with.connection.filter(|_| played.is_event) {
            normalized.events.iter_mut().for_each(|event| event.connection = connection.into());
        }
        Ok(normalized)
    }

    /// Where it came from: connection and number of the frame, as far as it says so.
    #[must_use]
    pub fn place(&self) -> (&str, u64) {
        (&self.connection, self.frame_no)
    }

    /// The frame or event, to be folded.
    #[must_use]
    pub fn played(&self) -> Option<&Played> {
        self.content.as_ref().ok()
    }
}

impl Refused {
    /// A reason in a word, and what is wrong.
    #[must_use]
    pub fn new(reason: &str, detail: String) -> Self {
        Self { reason: reason.to_owned(), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::event::{Event, EventKind};

    const WITH: Rereading<'static> = Rereading { connection: None, raw: true, depth_max: 64 };

    fn envelope(attributes: &[(&str, &str)], data: &[u8]) -> Envelope {
        let told = [("account", "200000001"), ("connection", "c1"), ("frame_no", "7"), ("received_at", "2026-07-23T19:00:00.000Z")];
        Envelope::new(0, &[&told[..], attributes].concat(), data)
    }

    #[test]
    fn what_was_cut_out_of_a_frame_is_read_as_if_it_stood_in_it() {
        let event = Event::of_account(EventKind::PostPublished, "id".into(), "200000001", "c0", Millis(5));
        let event = serde_json::to_string(&event).unwrap();
        for (stage, key, data, source, expected) in [
            ("normalize", Some("typing"), r#"{"id":100000001}"#, "typing", Ok(EventKind::TypingStarted)),
            ("normalize", Some("toasts"), r#"{"id":"5","type":"x"}"#, "toasts", Ok(EventKind::ToastReceived)),
            ("normalize", Some("new\"key"), "[1]", "new\"key", Ok(EventKind::Unknown)),
            ("normalize", None, r#"{"typing":{"id":1}}"#, "frame", Ok(EventKind::TypingStarted)),
            ("normalize", None, "{cut", "frame", Err("malformed_json")),
            ("normalize", Some("typing"), r#"{"id":{}}"#, "typing", Err("wrong_type")),
            ("normalize", None, r#"{"typing":{"id":1},"chat_messages":"x"}"#, "frame", Err("wrong_type")),
            ("decode", None, &event, "event", Ok(EventKind::PostPublished)),
            ("decode", None, r#"{"kind":5}"#, "event", Err("not_an_event")),
            ("", None, "", "event", Err("not_an_event")),
        ] {
            let mut attributes = vec![("stage", stage), ("reason", "why")];
            attributes.extend(key.map(|key| ("key", key)));
            let record = Record::new(&envelope(&attributes, data.as_bytes()), Millis(9));
            assert_eq!(record.group.source, source);
            let read = record.read(&WITH);
            let found = read.as_ref().map(|normalized| normalized.events[0].kind).map_err(|refused| refused.reason.as_str());
            assert_eq!(found, expected, "{data}");
            if let Ok(normalized) = &read {
                let from = if stage == "decode" { ("c0", 0) } else { ("c1", 7) };
                assert_eq!((normalized.events[0].connection.raw(), normalized.events[0].frame_no), from);
            }
            let renamed = record.read(&Rereading { connection: Some("c9"), ..WITH });
            assert!(renamed.is_err() || renamed.is_ok_and(|read| read.events[0].connection.raw() == "c9"), "{data}");
        }
    }

    #[test]
    fn what_was_not_kept_whole_cannot_come_back() {
        let record = Record::new(&envelope(&[("stage", "normalize"), ("length", "70000")], b"{\"typing\":"), Millis(9));
        assert_eq!((record.bytes, record.read(&WITH).unwrap_err().reason.as_str()), (70_000, "cut_off"));
        let record = Record::new(&envelope(&[("stage", "normalize")], b"\xff"), Millis(9));
        assert_eq!(record.read(&WITH).unwrap_err().reason, "not_utf8");
        let record = Record::new(&Envelope::new(0, &[], b"x"), Millis(9));
        assert_eq!((record.received_at, record.place()), (Millis(9), ("", 0)));
    }
}
