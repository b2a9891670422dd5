//! A segment: the messages of one stored row, framed and compressed. Pure.

use bytes::{Bytes, BytesMut};

use crate::schema::envelope::{Envelope, EnvelopeError, put_framed, take_framed};

/// Most messages of a segment, and of a lease: what has to be delivered again after a crash stays small.
pub(super) const SEGMENT_MESSAGES_MAX: usize = 256;
/// A segment is closed once it has this many bytes before compression. A larger single message has a segment of its own.
pub(super) const SEGMENT_BYTES: usize = 256 << 10;
/// Most bytes that a segment can have before compression; more is damage, and is not allocated.
const DECODED_BYTES_MAX: usize = crate::bus::MESSAGE_BYTES_MAX + SEGMENT_BYTES + 1024;

/// A segment as it is stored.
pub(super) struct Segment {
    /// Messages in it.
    pub(super) count: i64,
    /// Bytes before compression.
    pub(super) bytes: i64,
    /// Hash of `data`: SQLite does not notice a flipped bit in a row.
    pub(super) hash: i64,
    /// The framed messages, LZ4.
    pub(super) data: Vec<u8>,
}

/// Why a segment cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SegmentError {
    #[error("its hash does not match")]
    Hash,
    #[error("it claims {0} bytes")]
    Size(i64),
    #[error("it does not decompress: {0}")]
    Compression(String),
    #[error("its framing is damaged: {0}")]
    Framing(#[from] EnvelopeError),
    #[error("it holds {found} messages, not {expected}")]
    Count { found: usize, expected: i64 },
}

/// Cuts messages into segments. Keeps its buffer between batches.
#[derive(Default)]
pub(super) struct Encoder {
    framed: BytesMut,
    count: usize,
}

impl Encoder {
    /// The messages of a batch, in order, as segments.
    pub(super) fn encode<'a>(&mut self, messages: impl IntoIterator<Item = &'a Envelope>) -> Vec<Segment> {
        let mut segments = Vec::new();
        for message in messages {
            if self.count > 0 && self.framed.len() + message.size() > SEGMENT_BYTES {
                segments.push(self.cut());
            }
            put_framed(&mut self.framed, message);
            self.count += 1;
            if self.count == SEGMENT_MESSAGES_MAX {
                segments.push(self.cut());
            }
        }
        if self.count > 0 {
            segments.push(self.cut());
        }
        segments
    }

    fn cut(&mut self) -> Segment {
        let data = lz4_flex::block::compress(&self.framed);
        let segment = Segment { count: stored(self.count), bytes: stored(self.framed.len()), hash: hash(&data), data };
        self.framed.clear();
        self.count = 0;
        segment
    }
}

fn stored(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn hash(data: &[u8]) -> i64 {
    xxhash_rust::xxh3::xxh3_64(data).cast_signed()
}

/// The messages of a stored segment.
pub(super) fn decode(count: i64, bytes: i64, expected_hash: i64, data: &[u8]) -> Result<Vec<Envelope>, SegmentError> {
    if hash(data) != expected_hash {
        return Err(SegmentError::Hash);
    }
    let size = usize::try_from(bytes).ok().filter(|&size| size <= DECODED_BYTES_MAX).ok_or(SegmentError::Size(bytes))?;
    let framed = lz4_flex::block::decompress(data, size).map_err(|error| SegmentError::Compression(error.to_string()))?;
    let mut framed = Bytes::from(framed);
    let mut messages = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(SEGMENT_MESSAGES_MAX));
    while let Some(message) = take_framed(&mut framed) {
        messages.push(message?);
    }
    if stored(messages.len()) != count {
        return Err(SegmentError::Count { found: messages.len(), expected: count });
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(len: usize) -> Envelope {
        Envelope::new(1, &[("ce-id", "x")], &vec![b'a'; len])
    }

    fn decoded(segment: &Segment) -> Result<Vec<Envelope>, SegmentError> {
        decode(segment.count, segment.bytes, segment.hash, &segment.data)
    }

    #[test]
    fn segments_stay_small() {
        for (sizes, expected) in [
            (vec![], vec![]),
            (vec![10; 3], vec![3]),
            (vec![10; 600], vec![256, 256, 88]),
            (vec![100 << 10; 5], vec![2, 2, 1]),
            (vec![10, 1 << 20, 10], vec![1, 1, 1]),
        ] {
            let messages: Vec<Envelope> = sizes.iter().map(|&len| message(len)).collect();
            let segments = Encoder::default().encode(&messages);
            assert_eq!(segments.iter().map(|s| s.count).collect::<Vec<_>>(), expected);
            let back: Vec<Envelope> = segments.iter().flat_map(|s| decoded(s).unwrap()).collect();
            assert_eq!(back, messages);
        }
    }

    #[test]
    fn damage_is_named() {
        let segment = || Encoder::default().encode(&[message(3), message(4)]).remove(0);
        let check = |damage: fn(&mut Segment), expected: &str| {
            let mut damaged = segment();
            damage(&mut damaged);
            let error = decoded(&damaged).expect_err("damaged").to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        };
        check(|s| s.data[0] ^= 1, "hash");
        check(|s| s.bytes = 1 << 40, "claims");
        check(|s| s.count = 3, "holds 2 messages, not 3");
        check(|s| (s.data.truncate(5), s.hash = hash(&s.data)).1, "decompress");
        check(
            |s| {
                s.data = lz4_flex::block::compress(b"no frames here");
                (s.bytes, s.hash) = (14, hash(&s.data));
            },
            "framing",
        );
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(count in -1i64..4, bytes in -1i64..4096, data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(count, bytes, hash(&data), &data);
        }
    }
}
