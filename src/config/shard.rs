//! Which accounts a process serves, where several share them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schema::ids::hash128_hex;

/// Most parts: more processes than anybody has accounts for.
const OF_MAX: u32 = 1_024;

/// One part of the accounts, such as `2/3`: the second of three. By rendezvous hashing: every account belongs to exactly one part, the same in every
/// process of every version, and of n accounts about n/4 move when three parts become four, all of them to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    of: u32,
}

/// A text that names no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part is two numbers such as 1/3, the first from 1 to the second, the second at most {OF_MAX}")]
pub struct ShardError;

impl Shard {
    /// Whether the account belongs to this part.
    #[must_use]
    pub fn owns(self, account: &str) -> bool {
        let weight = |index: u32| hash128_hex(&[account.as_bytes(), &index.to_le_bytes()]);
        (1..=self.of).max_by_key(|index| weight(*index)) == Some(self.index)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let (index, of) = text.split_once('/').ok_or(ShardError)?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
        match (number(index), number(of)) {
            (Some(index), Some(of)) if (1..=of).contains(&index) && of <= OF_MAX => Ok(Self { index, of }),
            _ => Err(ShardError),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl Serialize for Shard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Shard {
    fn schema_name() -> Cow<'static, str> {
        "Shard".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+/[0-9]+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(account: &str, of: u32) -> Vec<u32> {
        (1..=of).filter(|&index| Shard { index, of }.owns(account)).collect()
    }

    #[test]
    fn every_account_has_one_owner_and_only_a_new_part_takes_some_away() {
        const ACCOUNTS: u32 = 2_000;
        for of in 1..=6 {
            let (mut moved, mut sizes) = (0, vec![0u32; of as usize]);
            for account in (200_000_001..200_000_001 + ACCOUNTS).map(|account| account.to_string()) {
                let (before, after) = (owners(&account, of), owners(&account, of + 1));
                assert_eq!((before.len(), after.len()), (1, 1), "{account} of {of}");
                sizes[before[0] as usize - 1] += 1;
                if before != after {
                    assert_eq!(after, [of + 1], "{account} moves to the new part alone");
                    moved += 1;
                }
            }
            let fair = |count: u32, parts: u32| count.abs_diff(ACCOUNTS / parts) < ACCOUNTS / parts / 5;
            assert!(fair(moved, of + 1), "{moved} of {ACCOUNTS} moved from {of} parts to {}", of + 1);
            assert!(sizes.iter().all(|&size| fair(size, of)), "{sizes:?}");
        }
    }

    /// Another answer in a later version would have two processes serve one account while they are replaced one by one.
    #[test]
    fn the_owner_is_the_same_for_ever() {
        let owners: Vec<u32> = ["1", "2", "200000001", "a-b_C"].iter().map(|account| owners(account, 5)[0]).collect();
        assert_eq!(owners, [3, 2, 3, 2]);
    }

    #[test]
    fn parts_are_read_and_written() {
        for text in ["1/1", "1/3", "3/3", "1024/1024"] {
            assert_eq!(text.parse::<Shard>().map(|shard| shard.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "1", "0/3", "4/3", "1/0", "0/0", "1/1025", "-1/3", "+1/3", "1/3/3", " 1/3", "1/ 3", "a/b", "1/99999999999"] {
            assert_eq!(text.parse::<Shard>(), Err(ShardError), "{text:?}");
        }
    }
}
