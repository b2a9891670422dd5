//! Which conversation a deleted message belongs to: the source does not say, so each store keeps a bounded index.
//!
//! Before a batch is folded, its messages and deletes are *claimed* in the store in one atomic step an account. Whichever of a
//! message and its delete comes second learns of the first, so the fold may see them in any order, over any number of workers.

use crate::schema::time::Millis;

/// What one batch says of one account's messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The account.
    pub account: String,
    /// Messages seen: id and conversation.
    pub messages: Vec<(String, String)>,
    /// Messages deleted: id and when.
    pub deletes: Vec<(String, Millis)>,
}

/// What the store knows of a [`Claims`], place by place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// For each message: when it was deleted, if it was.
    pub deleted_at: Vec<Option<Millis>>,
    /// For each delete: the conversation of its message, if it is known.
    pub conversations: Vec<Option<String>>,
}
