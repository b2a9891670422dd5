//! The envelope: an event as it lies on the topic. CloudEvents 1.0, Pub/Sub protocol binding, binary content mode.

use bytes::{BufMut, Bytes, BytesMut};

use super::event::{Class, Event};
use super::ids;

/// Attributes and data of one message, in one buffer.
///
/// The attribute block is a run of `[u8 key length][key][u16 LE value length][value]`; the data follows. Building one costs one
/// allocation, and a delivery is a slice of the segment that it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    ordering_key: u16,
    attributes_len: u32,
    buffer: Bytes,
}

/// A message that cannot be an envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The attribute block does not parse.
    #[error("the attribute block is cut off or not UTF-8")]
    Attributes,
    /// The data is not an event.
    #[error("the data is not an event: {0}")]
    Event(String),
}

/// Longest key and value of an attribute, as Pub/Sub has it.
const KEY_LEN_MAX: usize = 255;
const VALUE_LEN_MAX: usize = 1024;

impl Envelope {
    /// The envelope of an event.
    ///
    /// # Errors
    /// Only where the event does not serialize, which would be our own broken invariant.
    pub fn of_event(event: &Event<'_>) -> Result<Self, serde_json::Error> {
        let raw_len = event.raw.as_ref().map_or(0, |raw| raw.get().len());
        let mut buffer = Vec::with_capacity(1024 + raw_len);
        let account = event.account_id.raw();
        let put = &mut buffer;
        put_attribute(put, "Content-Type", "application/json");
        put_attribute(put, "ce-specversion", "1.0");
        put_attribute(put, "ce-id", event.id.raw());
        put_attribute(put, "ce-type", event.kind.cloud_event_type());
        put_parts(put, "ce-source", &["//convpipe/", &event.platform, "/", account]);
        if let Some(conversation) = &event.conversation_id {
            put_attribute(put, "ce-subject", conversation.raw());
        }
        put_parts(put, "ce-time", &[&event.at().to_string()]);
        put_attribute(put, "ce-class", event.kind.class().name());
        put_attribute(put, "ce-accountid", account);
        if let Some(fan) = &event.fan_id {
            put_attribute(put, "ce-fanid", fan.raw());
        }
        let attributes_len = len32(buffer.len());
        serde_json::to_writer(&mut buffer, event)?;
        let ordering_key = ids::ordering_key(account, event.conversation_id.as_ref().map(|c| c.raw()));
        Ok(Self { ordering_key, attributes_len, buffer: buffer.into() })
    }

    /// An envelope of given attributes and data: quarantine messages, tests. Keys and values beyond Pub/Sub's limits are cut.
    #[must_use]
    pub fn new(ordering_key: u16, attributes: &[(&str, &str)], data: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(64 * attributes.len() + data.len());
        for (key, value) in attributes {
            put_attribute(&mut buffer, key, value);
        }
        let attributes_len = len32(buffer.len());
        buffer.extend_from_slice(data);
        Self { ordering_key, attributes_len, buffer: buffer.into() }
    }

    /// Reads an envelope back from its parts, as a bus stores them.
    ///
    /// # Errors
    /// [`EnvelopeError::Attributes`] where `attributes_len` does not fit or the block does not parse.
    pub fn from_parts(ordering_key: u16, attributes_len: u32, buffer: Bytes) -> Result<Self, EnvelopeError> {
        let block = buffer.get(..attributes_len as usize).ok_or(EnvelopeError::Attributes)?;
        let mut rest = block;
        while !rest.is_empty() {
            rest = split_attribute(rest).ok_or(EnvelopeError::Attributes)?.1;
        }
        Ok(Self { ordering_key, attributes_len, buffer })
    }

    /// 0 to 255; the same for all events of a conversation.
    #[must_use]
    pub const fn ordering_key(&self) -> u16 {
        self.ordering_key
    }

    /// Length of the attribute block, for a bus that stores the parts.
    #[must_use]
    pub const fn attributes_len(&self) -> u32 {
        self.attributes_len
    }

    /// Attribute block and data, for a bus that stores the parts.
    #[must_use]
    pub const fn buffer(&self) -> &Bytes {
        &self.buffer
    }

    /// The data: the event's JSON.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.buffer[self.attributes_len as usize..]
    }

    /// The data as a buffer of its own that shares the memory.
    #[must_use]
    pub fn data_bytes(&self) -> Bytes {
        self.buffer.slice(self.attributes_len as usize..)
    }

    /// The attributes, in the order in which they were put.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &self.buffer[..self.attributes_len as usize];
        std::iter::from_fn(move || {
            let (attribute, tail) = split_attribute(rest)?;
            rest = tail;
            Some(attribute)
        })
    }

    /// One attribute's value.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let mut rest = &self.buffer[..self.attributes_len as usize];
        loop {
            let (name, value, tail) = split_bytes(rest)?;
            if name == key.as_bytes() {
                return std::str::from_utf8(value).ok();
            }
            rest = tail;
        }
    }

    /// The class, for shedding; what does not say is A.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.attribute("ce-class") {
            Some("B") => Class::B,
            Some("C") => Class::C,
            _ => Class::A,
        }
    }

    /// A copy in a buffer of its own, for whoever keeps one message longer than those that it came with.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { buffer: Bytes::copy_from_slice(&self.buffer), ..*self }
    }

    /// Bytes that it occupies.
    #[must_use]
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// The event in it, borrowing from it.
    ///
    /// # Errors
    /// [`EnvelopeError::Event`] where the data is none: a poison message.
    pub fn event(&self) -> Result<Event<'_>, EnvelopeError> {
        // Checked once, not again for every text in it.
        let text = std::str::from_utf8(self.data()).map_err(|error| EnvelopeError::Event(error.to_string()))?;
        serde_json::from_str(text).map_err(|error| EnvelopeError::Event(error.to_string()))
    }
}

fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn put_attribute(buffer: &mut Vec<u8>, key: &str, value: &str) {
    put_parts(buffer, key, &[value]);
}

/// One attribute whose value is several texts in a row.
fn put_parts(buffer: &mut Vec<u8>, key: &str, parts: &[&str]) {
    let key = cut(key, KEY_LEN_MAX);
    buffer.put_u8(u8::try_from(key.len()).unwrap_or(u8::MAX));
    buffer.put_slice(key.as_bytes());
    let length_at = buffer.len();
    buffer.put_u16_le(0);
    let mut left = VALUE_LEN_MAX;
    for part in parts {
        let part = cut(part, left);
        buffer.put_slice(part.as_bytes());
        left -= part.len();
    }
    let length = u16::try_from(VALUE_LEN_MAX - left).unwrap_or(u16::MAX);
    buffer[length_at..length_at + 2].copy_from_slice(&length.to_le_bytes());
}

/// The longest prefix of at most `max` bytes that ends between characters.
fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// The first attribute of a block, and what follows it.
fn split_attribute(block: &[u8]) -> Option<((&str, &str), &[u8])> {
    let (key, value, rest) = split_bytes(block)?;
    Some(((std::str::from_utf8(key).ok()?, std::str::from_utf8(value).ok()?), rest))
}

/// Key and value of the first attribute of a block, and what follows it.
fn split_bytes(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&key_len, rest) = block.split_first()?;
    let (key, rest) = rest.split_at_checked(key_len as usize)?;
    let (value_len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_le_bytes(*value_len) as usize)?;
    Some((key, value, rest))
}

/// Appends an envelope to a batch buffer: `[u16 ordering key][u32 attributes length][u32 length][buffer]`, all little-endian.
pub fn put_framed(out: &mut BytesMut, envelope: &Envelope) {
    out.reserve(10 + envelope.buffer.len());
    out.put_u16_le(envelope.ordering_key);
    out.put_u32_le(envelope.attributes_len);
    out.put_u32_le(len32(envelope.buffer.len()));
    out.put_slice(&envelope.buffer);
}

/// Takes the next envelope off a batch buffer; `None` at its end.
///
/// # Errors
/// [`EnvelopeError::Attributes`] where the buffer is cut off or does not parse. Nothing after that can be read.
pub fn take_framed(batch: &mut Bytes) -> Option<Result<Envelope, EnvelopeError>> {
    if batch.is_empty() {
        return None;
    }
    let Some(header) = batch.first_chunk::<10>() else {
        return Some(Err(EnvelopeError::Attributes));
    };
    let [k0, k1, a0, a1, a2, a3, l0, l1, l2, l3] = *header;
    let (key, attributes) = (u16::from_le_bytes([k0, k1]), u32::from_le_bytes([a0, a1, a2, a3]));
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if batch.len() - 10 < length {
        return Some(Err(EnvelopeError::Attributes));
    }
    let buffer = batch.slice(10..10 + length);
    *batch = batch.slice(10 + length..);
    Some(Envelope::from_parts(key, attributes, buffer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::event::EventKind;
    use crate::schema::time::Millis;
    use proptest::prelude::*;

    #[test]
    fn an_event_becomes_cloud_events_attributes() {
        let mut event = Event::of_account(EventKind::TipReceived, "onlyfans:2:tip:9".into(), "2", "c", Millis(0));
        event.conversation_id = Some("1".into());
        event.fan_id = Some("1".into());
        let envelope = Envelope::of_event(&event).expect("events serialize");
        let attributes: Vec<_> = envelope.attributes().collect();
        assert_eq!(
            attributes,
            [
                ("Content-Type", "application/json"),
                ("ce-specversion", "1.0"),
                ("ce-id", "onlyfans:2:tip:9"),
                ("ce-type", "convpipe.tip.received.v1"),
                ("ce-source", "//convpipe/onlyfans/2"),
                ("ce-subject", "1"),
                ("ce-time", "1970-01-01T00:00:00.000Z"),
                ("ce-class", "A"),
                ("ce-accountid", "2"),
                ("ce-fanid", "1"),
            ]
        );
        assert_eq!(envelope.event().expect("its own event").id, event.id);
    }

    proptest! {
        #[test]
        fn framed_and_taken_back(
            messages in prop::collection::vec((0u16..256, prop::collection::vec((".{0,40}", ".{0,400}"), 0..5), prop::collection::vec(any::<u8>(), 0..200)), 0..6)
        ) {
            let sent: Vec<Envelope> = messages.iter().map(|(key, attributes, data)| {
                let attributes: Vec<(&str, &str)> = attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                Envelope::new(*key, &attributes, data)
            }).collect();
            let mut batch = BytesMut::new();
            for envelope in &sent {
                put_framed(&mut batch, envelope);
            }
            let mut batch = batch.freeze();
            let taken: Vec<Envelope> = std::iter::from_fn(|| take_framed(&mut batch)).collect::<Result<_, _>>().expect("own frames");
            prop_assert_eq!(taken, sent);
        }

        #[test]
        fn damaged_batches_end_in_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut batch = Bytes::from(bytes);
            while let Some(Ok(envelope)) = take_framed(&mut batch) {
                let _ = envelope.event();
                let _ = envelope.attributes().count();
            }
        }
    }
}
