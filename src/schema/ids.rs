//! Identities: how they are hashed, and how they are written into Redis keys and document paths.

use std::borrow::Cow;

/// An event's or message's identity inside a state: 64 bits of its text's hash. Two of a conversation's few hundred remembered ids
/// collide with a probability under 1 in 10^14.
#[must_use]
pub fn hash64(id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes())
}

/// 128 bits over several parts, in hex: the identity of what has no id of its own.
#[must_use]
pub fn hash128_hex(parts: &[&[u8]]) -> String {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    format!("{:032x}", hasher.digest128())
}

/// The ordering key of a conversation, or of an account for what belongs to none: 0 to 255.
#[must_use]
pub fn ordering_key(account: &str, conversation: Option<&str>) -> u16 {
    let seed = xxhash_rust::xxh3::xxh3_64(account.as_bytes());
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(conversation.unwrap_or("").as_bytes(), seed);
    (hash % 256) as u16
}

/// Names a socket session: 16 hex digits, 48 bits of the time it began in and 16 of chance, so that later sessions have greater names.
#[must_use]
pub fn connection_id(began: super::time::Millis, chance: u16) -> String {
    let ms = u64::try_from(began.0).unwrap_or(0) & ((1 << 48) - 1);
    format!("{ms:012x}{chance:04x}")
}

/// Where a message stands among the messages of its account: its number, where it is one (the platform's ids grow with time),
/// else 52 bits of its hash. Always exactly representable as a Redis score.
#[must_use]
pub fn message_rank(id: &str) -> u64 {
    match id.parse::<u64>() {
        Ok(number) if number < (1 << 53) => number,
        _ => hash64(id) >> 12,
    }
}

/// An id as a part of a Redis key, a file name or a document path: itself where it is `[A-Za-z0-9_-]{1,64}` and does not look encoded, else `x~` and
/// 128 bits of its hash in hex. Braces, colons, slashes and dots of a hostile id never reach a key.
#[must_use]
pub fn key_part(id: &str) -> Cow<'_, str> {
    let plain = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain { Cow::Borrowed(id) } else { Cow::Owned(format!("x~{}", hash128_hex(&[id.as_bytes()]))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::time::Millis;

    #[test]
    fn hostile_ids_do_not_reach_keys() {
        for id in ["", "a:b", "{a}", "../x", "a b", "é", &"9".repeat(65), "x~00"] {
            let part = key_part(id);
            assert!(part.starts_with("x~") && part.len() == 34, "{id:?} became {part}");
        }
        assert_eq!(key_part("100000001"), "100000001");
        assert_ne!(key_part("a:b"), key_part("a:c"));
    }

    #[test]
    fn ordering_keys_are_few_and_spread() {
        let keys: std::collections::BTreeSet<u16> = (0..10_000).map(|fan| ordering_key("200000001", Some(&fan.to_string()))).collect();
        assert_eq!(keys.len(), 256);
        assert!(keys.iter().all(|&key| key < 256));
    }

    #[test]
    fn later_connections_have_greater_ids() {
        let ids: Vec<String> = [0, 1, 1_784_808_000_000, 1_784_808_000_001].map(|ms| connection_id(Millis(ms), 0xffff)).into();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 16), "{ids:?}");
        assert_eq!(connection_id(Millis(-1), 0), "0000000000000000");
    }

    #[test]
    fn message_ranks_are_exact_as_scores() {
        assert_eq!(message_rank("6400000000001"), 6_400_000_000_001);
        for id in ["abc", "", "99999999999999999999"] {
            let rank = message_rank(id);
            assert!(rank < 1 << 53, "{id}: {rank}");
        }
    }
}
