//! From a frame, as it came off the socket, to events.
//!
//! Owns: what is refused before it is parsed, the answer's types, and how a refusal lies on the quarantine topic. Does not own: what a
//! frame's keys mean ([`super::onlyfans`]). Invariant: any bytes give an answer; the same bytes and context give the same one; a frame that
//! is no control answer gives at least one event or rejection.

use std::fmt;

use crate::schema::NORMALIZER;
use crate::schema::envelope::Envelope;
use crate::schema::event::Event;
use crate::schema::ids;
use crate::schema::text::Untrusted;
use crate::schema::time::Millis;

use super::onlyfans::{self, Members};

/// Where a frame came from, and how it is to be read.
#[derive(Debug, Clone, Copy)]
pub struct FrameContext<'c> {
    /// The account whose socket said it.
    pub account_id: &'c str,
    /// The socket session it came over.
    pub connection: &'c str,
    /// Number of the frame within its connection, from 1.
    pub frame_no: u64,
    /// Our clock when it was read.
    pub received_at: Millis,
    /// Whether events carry the source item.
    pub raw: bool,
    /// Deepest nesting of the frame's JSON; beyond [`DEPTH_MAX`] it has no effect.
    pub depth_max: usize,
}

/// Deepest nesting that is ever read, whatever the config says: an event must still parse into a tree, one level deeper, in readers that
/// stop at 128.
pub const DEPTH_MAX: usize = 120;

/// What a frame said.
#[derive(Debug, Clone, Default)]
pub struct Normalized<'f> {
    /// The events, in the frame's order; its counters, which are one event, stand last.
    pub events: Vec<Event<'f>>,
    /// What could not be read, each with its own bytes.
    pub rejected: Vec<Rejected<'f>>,
    /// What it means for the session.
    pub control: Option<Control<'f>>,
}

/// What a frame means for the session it came over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control<'f> {
    /// The handshake is done.
    Connected,
    /// The heartbeat is answered. The frame also gives a `presence.snapshot`.
    Online,
    /// The platform refuses: its code (numbers seen, meanings unknown) or text, or whatever JSON stood there.
    Error(Untrusted<'f>),
}

/// A frame, or an item of one, that is not an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected<'f> {
    /// Why.
    pub reason: Reason,
    /// The frame's key that the item stood under; absent where the whole frame is rejected.
    pub key: Option<Untrusted<'f>>,
    /// Where in it, and what is wrong there: `new_message.amountGross: "abc" is not a decimal number`. At most 256 bytes; foreign text in it is
    /// escaped.
    pub detail: String,
    /// The item's bytes, or the frame's.
    pub bytes: &'f [u8],
}

/// Why something was rejected. The names are stable: they are an attribute of quarantine messages and a label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The frame is not UTF-8.
    NotUtf8,
    /// The frame is not JSON.
    MalformedJson,
    /// The frame is JSON, but not an object.
    NotAnObject,
    /// The frame is an object without members.
    EmptyFrame,
    /// The frame is nested too deep.
    TooDeep,
    /// The frame, or a list in it, has more items than are read.
    TooManyItems,
    /// A field that is read has a value of the wrong type.
    WrongType,
    /// A field that is read stands twice, so there is no telling which was meant.
    DuplicateKey,
    /// A text is none: half of a surrogate pair.
    BadText,
    /// An amount that is none, or a negative one.
    BadMoney,
    /// A time that is none.
    BadTime,
    /// The item names nobody but the account, and has no meaning without somebody.
    NoCounterparty,
    /// The item is about something that it does not name.
    MissingId,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::NotUtf8,
        Self::MalformedJson,
        Self::NotAnObject,
        Self::EmptyFrame,
        Self::TooDeep,
        Self::TooManyItems,
        Self::WrongType,
        Self::DuplicateKey,
        Self::BadText,
        Self::BadMoney,
        Self::BadTime,
        Self::NoCounterparty,
        Self::MissingId,
    ];

    /// The stable word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::MalformedJson => "malformed_json",
            Self::NotAnObject => "not_an_object",
            Self::EmptyFrame => "empty_frame",
            Self::TooDeep => "too_deep",
            Self::TooManyItems => "too_many_items",
            Self::WrongType => "wrong_type",
            Self::DuplicateKey => "duplicate_key",
            Self::BadText => "bad_text",
            Self::BadMoney => "bad_money",
            Self::BadTime => "bad_time",
            Self::NoCounterparty => "no_counterparty",
            Self::MissingId => "missing_id",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads one frame. Never fails: what cannot be read is in [`Normalized::rejected`].
///
/// Everything borrows from the frame that can. Nesting is limited before anything is parsed, the number of items while it is.
#[must_use]
pub fn normalize<'f>(frame: &'f [u8], context: &FrameContext<'f>) -> Normalized<'f> {
    match members(frame, context.depth_max.min(DEPTH_MAX)) {
        Ok((text, members)) => onlyfans::walk(text, &members, context),
        Err((reason, detail)) => Normalized { rejected: vec![Rejected::new(reason, None, detail, frame)], ..Normalized::default() },
    }
}

fn members(frame: &[u8], depth_max: usize) -> Result<(&str, Members<'_>), (Reason, String)> {
    let text = std::str::from_utf8(frame).map_err(|error| (Reason::NotUtf8, error.to_string()))?;
    if is_deeper_than(frame, depth_max) {
        return Err((Reason::TooDeep, format!("nested deeper than {depth_max}")));
    }
    match serde_json::from_str::<Members<'_>>(text) {
        Ok(members) if members.list.is_empty() => Err((Reason::EmptyFrame, "an object without members".to_owned())),
        Ok(members) => Ok((text, members)),
        Err(error) if error.is_data() => Err((Reason::NotAnObject, error.to_string())),
        Err(error) => Err((Reason::MalformedJson, error.to_string())),
    }
}

/// Whether the JSON is nested deeper than that. Most frames have fewer brackets than they may have levels, which counting them shows.
fn is_deeper_than(frame: &[u8], depth_max: usize) -> bool {
    let brackets = frame.iter().filter(|&&byte| byte == b'[' || byte == b'{').count();
    brackets > depth_max && nesting_exceeds(frame, depth_max)
}

fn nesting_exceeds(frame: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in frame {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Up to this size a quarantine message holds all bytes of what it is about.
pub const QUARANTINE_WHOLE_MAX_BYTES: usize = 1 << 20;
/// Of what is larger it holds this much from the beginning, and the attribute `length` says how long it was.
pub const QUARANTINE_CUT_BYTES: usize = 64 << 10;

/// Longest detail of a rejection.
const DETAIL_MAX_BYTES: usize = 256;

impl<'f> Rejected<'f> {
    /// A rejection. The JSON reader's messages quote the value they are about, escaped but whole, so the detail is cut.
    pub(super) fn new(reason: Reason, key: Option<Untrusted<'f>>, mut detail: String, bytes: &'f [u8]) -> Self {
        if let Some(end) = (0..=DETAIL_MAX_BYTES).rev().find(|&end| detail.is_char_boundary(end)) {
            detail.truncate(end);
        }
        Self { reason, key, detail, bytes }
    }

    /// The message for the quarantine topic: the raw bytes, and as attributes what happened, where, and by which code. `stage` is `normalize`, `decode` or
    /// `apply`.
    #[must_use]
    pub fn envelope(&self, context: &FrameContext<'_>, stage: &str) -> Envelope {
        let received_at = context.received_at.to_string();
        let frame_no = context.frame_no.to_string();
        let length = self.bytes.len().to_string();
        let mut attributes = vec![
            ("reason", self.reason.name()),
            ("detail", self.detail.as_str()),
            ("stage", stage),
            ("account", context.account_id),
            ("connection", context.connection),
            ("frame_no", frame_no.as_str()),
            ("received_at", received_at.as_str()),
            ("normalizer", NORMALIZER),
        ];
        attributes.extend(self.key.as_ref().map(|key| ("key", key.raw())));
        let bytes = if self.bytes.len() > QUARANTINE_WHOLE_MAX_BYTES {
            attributes.push(("length", length.as_str()));
            &self.bytes[..QUARANTINE_CUT_BYTES]
        } else {
            self.bytes
        };
        Envelope::new(ids::ordering_key(context.account_id, None), &attributes, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        for (json, depth) in [
            ("1", 0),
            ("{}", 1),
            (r#"{"a":[{}]}"#, 3),
            (r#"{"a":"[[[{\"[["}"#, 1),
            (r#"[[],[],[[]]]"#, 3),
            ("]]]][[", 2),
            (r#"["\\",["#, 2),
        ] {
            assert!(!is_deeper_than(json.as_bytes(), depth), "{json} is not deeper than {depth}");
            assert!(depth == 0 || is_deeper_than(json.as_bytes(), depth - 1), "{json} is deeper than {}", depth.wrapping_sub(1));
        }
    }

    #[test]
    fn reasons_are_distinct_words() {
        let names: std::collections::BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')));
    }

    #[test]
    fn large_rejects_are_cut_and_say_so() {
        let context = FrameContext { account_id: "2", connection: "c", frame_no: 7, received_at: Millis(0), raw: true, depth_max: 64 };
        for (len, expected_len, expected_length) in [(10, 10, None), (1 << 20, 1 << 20, None), ((1 << 20) + 1, 64 << 10, Some("1048577"))] {
            let bytes = vec![b'x'; len];
            let answer = normalize(&bytes, &context);
            let envelope = answer.rejected[0].envelope(&context, "normalize");
            assert_eq!(envelope.data().len(), expected_len);
            assert_eq!(envelope.attribute("length"), expected_length);
            assert_eq!(envelope.attribute("reason"), Some("malformed_json"));
            assert_eq!(envelope.attribute("stage"), Some("normalize"));
            assert_eq!(envelope.attribute("account"), Some("2"));
        }
    }
}
