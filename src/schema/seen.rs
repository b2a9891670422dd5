//! The memory of event ids: what one is, and how a ring of them is packed.
//!
//! A ring of 64 is more than half of a state, and a state is decoded and encoded with every write: packed, it is one field of bytes.

use std::cmp::Ordering;

use super::memory::Keyed;
use super::time::Millis;

/// A remembered event id: its time and 48 bits of its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The event's time.
    pub at: Millis,
    /// 48 bits of the hash of its id.
    pub id: u64,
}

impl Seen {
    /// The memory of an event of that time and that hash.
    #[must_use]
    pub const fn new(at: Millis, id: u64) -> Self {
        Self { at, id: id >> 16 }
    }
}

impl Keyed for Seen {
    type Key = Self;
    type Id = u64;

    fn key(&self) -> Self {
        *self
    }

    fn id(&self) -> u64 {
        self.id
    }
}

/// A ring as bytes: of each, in order, how many milliseconds it is later than the one before it, as a varint, and the 6 bytes of its id.
pub(super) mod packed {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    use super::{Millis, Ordering, Seen};
    use crate::schema::memory::Greatest;

    const ID_BYTES: usize = 6;

    pub(in crate::schema) fn serialize<S: Serializer>(ring: &Greatest<Seen>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(ring.items().len() * (ID_BYTES + 3) + 8);
        let mut before = i64::MIN;
        for seen in ring.items() {
            put_varint(&mut bytes, seen.at.0.abs_diff(before));
            bytes.extend_from_slice(&seen.id.to_le_bytes()[..ID_BYTES]);
            before = seen.at.0;
        }
        serializer.serialize_bytes(&bytes)
    }

    pub(in crate::schema) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Greatest<Seen>, D::Error> {
        struct Ring;
        impl Visitor<'_> for Ring {
            type Value = Greatest<Seen>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a ring of event ids")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                unpack(bytes).ok_or_else(|| E::custom("a ring of event ids that is cut off or out of order"))
            }
        }
        deserializer.deserialize_bytes(Ring)
    }

    fn unpack(mut bytes: &[u8]) -> Option<Greatest<Seen>> {
        let mut ring: Vec<Seen> = Vec::with_capacity(bytes.len() / (ID_BYTES + 1));
        let mut at = i64::MIN;
        while !bytes.is_empty() {
            at = at.checked_add_unsigned(take_varint(&mut bytes)?)?;
            let (id, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
            let mut wide = [0; 8];
            wide[..ID_BYTES].copy_from_slice(id);
            let seen = Seen { at: Millis(at), id: u64::from_le_bytes(wide) };
            if ring.last().is_some_and(|last| last.cmp(&seen) != Ordering::Less) {
                return None;
            }
            ring.push(seen);
            bytes = rest;
        }
        Some(Greatest::of_ascending(ring))
    }

    fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
    }

    fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::memory::Greatest;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Ring(#[serde(with = "packed")] Greatest<Seen>);

    proptest! {
        #[test]
        fn a_ring_is_read_back_as_it_was(arrivals in prop::collection::vec((any::<i64>(), any::<u64>()), 0..80)) {
            let mut ring = Greatest::default();
            for (at, id) in arrivals {
                ring.merge(Seen::new(Millis(at), id), 64, |_, _| {});
            }
            let ring = Ring(ring);
            let bytes = postcard::to_stdvec(&ring).expect("encodes");
            prop_assert_eq!(postcard::from_bytes::<Ring>(&bytes).expect("decodes"), ring);
        }

        #[test]
        fn damaged_bytes_are_an_error_or_a_ring_in_order(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(Ring(ring)) = postcard::from_bytes(&bytes) {
                prop_assert!(ring.items().is_sorted());
            }
        }
    }

    #[test]
    fn an_id_a_second_after_the_one_before_it_takes_eight_bytes() {
        let mut ring = Greatest::default();
        (0..64).for_each(|n| _ = ring.merge(Seen::new(Millis(1_700_000_000_000 + 1000 * n), n.unsigned_abs() << 16), 64, |_, _| {}));
        assert_eq!(postcard::to_stdvec(&Ring(ring)).expect("encodes").len(), 2 + 64 * 8 + 8);
    }
}
