//! Names of keys.
//!
//! Owns every key that exists. Invariant: all keys of one account carry the same hash tag, `{A}`, so that one script may touch them
//! and a cluster keeps them together; an id reaches a key only through [`key_part`].

use crate::config::RedisConfig;
use crate::schema::ids::key_part;

use super::error::ViewsError;

/// The keys below one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys below the config's prefix.
    ///
    /// # Errors
    /// [`ViewsError::Config`] for a prefix that a loaded config cannot have ([`RedisConfig::has_prefix`]).
    pub fn new(config: &RedisConfig) -> Result<Self, ViewsError> {
        if !config.has_prefix() {
            let reason = format!("{:?} cannot be a prefix: it is 1 to {} letters, digits, - or _", config.prefix, RedisConfig::PREFIX_MAX);
            return Err(ViewsError::Config { key: "prefix", reason });
        }
        Ok(Self { prefix: config.prefix.clone() })
    }

    /// HASH `snapshot`, `rev`, `fold`: one conversation.
    #[must_use]
    pub fn conversation(&self, account: &str, conversation: &str) -> String {
        format!("{}:{{{}}}:conversation:{}", self.prefix, key_part(account), key_part(conversation))
    }

    /// STREAM `event`: all events of one high-value fan. In one-to-one chats the conversation's id is the fan's.
    #[must_use]
    pub fn fan_events(&self, account: &str, fan: &str) -> String {
        format!("{}:{{{}}}:fan:{}:events", self.prefix, key_part(account), key_part(fan))
    }

    /// ZSET of conversations by last activity, ms.
    #[must_use]
    pub fn inbox(&self, account: &str) -> String {
        self.of_account(account, "inbox")
    }

    /// ZSET of conversations by waiting since, ms.
    #[must_use]
    pub fn awaiting(&self, account: &str) -> String {
        self.of_account(account, "awaiting")
    }

    /// ZSET of conversations by next timer, ms.
    #[must_use]
    pub fn due(&self, account: &str) -> String {
        self.of_account(account, "due")
    }

    /// HASH of JSON values: what is known of the account beyond its conversations.
    #[must_use]
    pub fn account(&self, account: &str) -> String {
        self.of_account(account, "account")
    }

    /// STREAM `entry`: the priority feed.
    #[must_use]
    pub fn priority(&self, account: &str) -> String {
        self.of_account(account, "priority")
    }

    /// HASHes by message id, internal: which conversation a message belongs to, and an older part of that; which messages were deleted and when, and
    /// an older part of that.
    #[must_use]
    pub fn message_index(&self, account: &str) -> [String; 4] {
        ["messages", "messages:before", "deleted", "deleted:before"].map(|name| self.of_account(account, name))
    }

    /// ZSET of accounts by last activity, ms.
    #[must_use]
    pub fn accounts(&self) -> String {
        format!("{}:accounts", self.prefix)
    }

    /// STRING: identity of this Redis' content; another one after it lost data.
    #[must_use]
    pub fn epoch(&self) -> String {
        format!("{}:epoch", self.prefix)
    }

    /// HASH `floor`, `filled`, internal: the `rev` below which states are filled again from the documents, and how far that is done.
    #[must_use]
    pub fn refill(&self) -> String {
        format!("{}:refill", self.prefix)
    }

    /// ZSET of writers by their last mark, internal: a mark that is gone tells that Redis came back with older data.
    #[must_use]
    pub fn marks(&self) -> String {
        format!("{}:marks", self.prefix)
    }

    fn of_account(&self, account: &str, what: &str) -> String {
        format!("{}:{{{}}}:{what}", self.prefix, key_part(account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(prefix: &str) -> Result<Keys, ViewsError> {
        Keys::new(&RedisConfig { prefix: prefix.into(), ..RedisConfig::default() })
    }

    #[test]
    fn a_prefix_cannot_take_the_hash_tags_place() {
        for (prefix, good) in [("convpipe", true), ("team-a_1", true), ("", false), ("a:b", false), ("a{b}", false), ("é", false)] {
            assert_eq!(keys(prefix).is_ok(), good, "{prefix:?}");
        }
    }

    #[test]
    fn names_are_the_contract() {
        let keys = keys("convpipe").expect("a plain prefix");
        for (key, expected) in [
            (keys.conversation("200000001", "100000001"), "convpipe:{200000001}:conversation:100000001"),
            (keys.fan_events("200000001", "100000001"), "convpipe:{200000001}:fan:100000001:events"),
            (keys.inbox("200000001"), "convpipe:{200000001}:inbox"),
            (keys.awaiting("200000001"), "convpipe:{200000001}:awaiting"),
            (keys.due("200000001"), "convpipe:{200000001}:due"),
            (keys.account("200000001"), "convpipe:{200000001}:account"),
            (keys.priority("200000001"), "convpipe:{200000001}:priority"),
            (keys.message_index("200000001")[0].clone(), "convpipe:{200000001}:messages"),
            (keys.message_index("200000001")[3].clone(), "convpipe:{200000001}:deleted:before"),
            (keys.accounts(), "convpipe:accounts"),
            (keys.epoch(), "convpipe:epoch"),
            (keys.refill(), "convpipe:refill"),
            (keys.marks(), "convpipe:marks"),
        ] {
            assert_eq!(key, expected);
        }
    }
}
