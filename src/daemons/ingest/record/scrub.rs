//! Takes the people out of a frame, so that a recording of it can be shared.
//!
//! Owns: what stays and what takes the place of the rest. What stays is listed ([`super::words`]); all that is not listed goes, so that what the platform
//! adds next year goes too. Invariants: the same text becomes the same text, the same id the same id, whether it stands as a number or in a text, and two ids
//! never become one; without the key, which is made at the start and never written unless its file is named, nothing leads back.

use std::fmt::{self, Write as _};

use ring::hmac;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::words::{AMOUNTS, KEYS, KINDS, WORDS};
use crate::schema::time::Millis;

/// Rounds of the permutation of ids; four are the least that are called secure.
const ROUNDS: u8 = 8;
/// Longest id that is one, digits: all of them fit into 64 bits.
const ID_DIGITS_MAX: usize = 19;
/// Longest replacement, characters; longer texts become shorter.
const TEXT_MAX: usize = 4_096;

/// The system has no randomness.
#[derive(Debug)]
pub(super) struct NoKey;

pub(super) struct Scrubber {
    key: hmac::Key,
}

impl Scrubber {
    /// With a new key.
    pub(super) fn new() -> Result<Self, NoKey> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new()).map_err(|_| NoKey)?;
        Ok(Self { key })
    }

    /// With a key of somebody's own.
    pub(super) fn with_key(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The account that stands on the line.
    pub(super) fn account(&self, account: &str) -> String {
        self.id(account).unwrap_or_else(|| self.text(account))
    }

    /// The frame, one line of JSON where it was JSON, else a text of about its length.
    pub(super) fn frame(&self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len());
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let walked = Walk { scrubber: self, key: "", depth: 0, out: &mut out }.deserialize(&mut json);
        if walked.is_ok() && json.end().is_ok() {
            return out;
        }
        self.text(&String::from_utf8_lossy(bytes))
    }

    fn string(&self, key: &str, text: &str) -> String {
        let is_in = |list: &[&str], word| list.binary_search(&word).is_ok();
        // The name of a notification says what became of a subscription.
        if text.is_empty()
            || is_date(text)
            || (key == "subType" && is_name(text))
            || (is_in(KINDS, key) && is_in(WORDS, text))
            || (is_in(AMOUNTS, key) && is_amount(text))
        {
            return text.to_owned();
        }
        if let Some(id) = self.id(text) {
            return id;
        }
        if let Some(id) = text.strip_prefix('u').and_then(|digits| self.id(digits)) {
            return format!("u{id}");
        }
        if key == "{MESSAGE_LINK}"
            && let Some((fan, message)) = text.strip_prefix("/my/chats/chat/").and_then(|link| link.split_once("?firstId="))
            && let (Some(fan), Some(message)) = (self.id(fan), self.id(message))
        {
            return format!("/my/chats/chat/{fan}?firstId={message}");
        }
        if text.contains("://") {
            // The post's number is the first one in the path of a link to it.
            let post = text.split(['/', '?', '#']).find_map(|part| self.id(part));
            return format!("https://scrubbed.invalid/{}", post.unwrap_or_else(|| self.hex("url", text)[..16].to_owned()));
        }
        self.text(text)
    }

    fn key(&self, key: &str, depth: usize) -> String {
        // At the top stand the names of events.
        if KEYS.binary_search(&key).is_ok() || (depth == 1 && is_name(key)) { key.to_owned() } else { self.text(key) }
    }

    /// Hex digits in place of a text, about as many as it had characters.
    fn text(&self, text: &str) -> String {
        let length = text.chars().count().clamp(8, TEXT_MAX);
        let digits = self.hex("text", text);
        let mut out = String::with_capacity(length + 1);
        for n in 0.. {
            let start = n * 8 % digits.len();
            let word = &digits[start..start + 8];
            // A letter first: no text becomes one that looks like a number.
            let _ = write!(out, "{}x{word}", if n == 0 { "" } else { " " });
            if out.len() >= length {
                break;
            }
        }
        out.truncate(length);
        out
    }

    fn hex(&self, what: &str, text: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{what}:{text}").as_bytes());
        tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Another id with as many digits, where the text is an id. `0` identifies nothing and stays.
    fn id(&self, text: &str) -> Option<String> {
        let is_id = (1..=ID_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !is_id || (text.starts_with('0') && text != "0") {
            return None;
        }
        let id: u64 = text.parse().ok()?;
        if id == 0 {
            return Some(text.to_owned());
        }
        let least = 10u64.pow(u32::try_from(text.len() - 1).ok()?);
        let count = least.saturating_mul(9);
        let bits = (u64::BITS - (count - 1).leading_zeros()).div_ceil(2).max(1);
        // A permutation of a power of four, walked until it comes back into the range.
        let mut at = id - least;
        loop {
            at = self.permute(at, bits, text.len());
            if at < count {
                return Some((least + at).to_string());
            }
        }
    }

    /// A Feistel network over two halves of `bits` bits.
    fn permute(&self, value: u64, bits: u32, digits: usize) -> u64 {
        let mask = (1u64 << bits) - 1;
        let (mut left, mut right) = (value >> bits, value & mask);
        for round in 0..ROUNDS {
            let mut input = [0; 10];
            input[..8].copy_from_slice(&right.to_le_bytes());
            input[8..].copy_from_slice(&[round, u8::try_from(digits).unwrap_or(u8::MAX)]);
            let tag = hmac::sign(&self.key, &input);
            let word = tag.as_ref().iter().take(8).fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            (left, right) = (right, left ^ (word & mask));
        }
        left << bits | right
    }
}

/// Whether it can be a name that the platform gives to a kind of thing, also to one that is new: `subscription_renewed`.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= 40 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && text.contains('_')
}

fn is_date(text: &str) -> bool {
    let is_day = text.len() == 10 && Millis::parse(&format!("{text}T00:00:00Z")).is_some();
    is_day || (text.len() <= 40 && Millis::parse(text).is_some())
}

/// `25`, `3.99`, `$12.00`, `5.4.0`.
fn is_amount(text: &str) -> bool {
    let digits = text.strip_prefix('$').unwrap_or(text);
    (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Writes a value, scrubbed, as it is read: keys keep their order, and those that stand twice stand twice.
struct Walk<'s, 'o> {
    scrubber: &'s Scrubber,
    key: &'s str,
    depth: usize,
    out: &'o mut String,
}

impl Walk<'_, '_> {
    fn number(self, number: impl fmt::Display, is_whole: bool) {
        let text = number.to_string();
        let is_amount = AMOUNTS.binary_search(&self.key).is_ok();
        // What is neither an amount nor an id says nothing that anybody needs.
        let shown = if is_amount {
            Some(text)
        } else if is_whole {
            self.scrubber.id(&text)
        } else {
            None
        };
        self.out.push_str(shown.as_deref().unwrap_or("0"));
    }

    fn quote<E: serde::de::Error>(out: &mut String, text: &str) -> Result<(), E> {
        out.push_str(&serde_json::to_string(text).map_err(E::custom)?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.number(value, true);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.number(value, false);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.number(value, false);
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        Self::quote(self.out, &self.scrubber.string(self.key, text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Walk { scrubber, key, depth, out } = self;
        let mut open = '[';
        loop {
            let before = out.len();
            out.push(open);
            if items.next_element_seed(Walk { scrubber, key, depth: depth + 1, out })?.is_none() {
                out.truncate(before);
                break;
            }
            open = ',';
        }
        out.push_str(if open == '[' { "[]" } else { "]" });
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Walk { scrubber, depth, out, .. } = self;
        let mut open = '{';
        while let Some(key) = entries.next_key::<String>()? {
            out.push(open);
            open = ',';
            Self::quote(out, &scrubber.key(&key, depth + 1))?;
            out.push(':');
            entries.next_value_seed(Walk { scrubber, key: &key, depth: depth + 1, out })?;
        }
        out.push_str(if open == '{' { "{}" } else { "}" });
        Ok(())
    }
}
