//! Where documents lie: ids as parts of a path, and the names made of them.
//!
//! Invariant: whatever an id says, it stays one segment of the path that it was meant for; its raw text stands in a field of the document.

use std::borrow::Cow;

use crate::schema::ids::{hash64, hash128_hex};

/// Longest id that is a segment as it stands. Firestore takes 1,500 bytes; a message's id has five of a prefix before it.
const ID_BYTES_MAX: usize = 1_495;

/// The names of one database's documents.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// `projects/P/databases/D`.
    pub database: String,
    /// The same and `/documents`.
    pub root: String,
}

impl Names {
    pub(super) fn of(project: &str, database: &str) -> Self {
        let database = format!("projects/{project}/databases/{database}");
        Self { root: format!("{database}/documents"), database }
    }

    pub(super) fn account(&self, account: &str) -> String {
        format!("{}/accounts/{}", self.root, segment(account))
    }

    pub(super) fn fan(&self, account: &str, fan: &str) -> String {
        format!("{}/fans/{}", self.account(account), segment(fan))
    }

    pub(super) fn conversation(&self, account: &str, conversation: &str) -> String {
        format!("{}/conversations/{}", self.account(account), segment(conversation))
    }

    /// Ids that grow with time would all fall into one range of the keys, which Firestore splits too late; so a hash goes first.
    pub(super) fn message(&self, account: &str, conversation: &str, message: &str) -> String {
        format!("{}/messages/{:04x}-{}", self.conversation(account, conversation), hash64(message) & 0xffff, segment(message))
    }

    pub(super) fn deletion(&self, account: &str, message: &str) -> String {
        format!("{}/deletes/{}", self.account(account), key(account, message))
    }
}

/// A message among those of all accounts: what it is looked up by where its conversation is not known. A hash, because an index of ids that
/// grow with time takes 500 writes a second and no more.
pub(super) fn key(account: &str, message: &str) -> String {
    hash128_hex(&[account.as_bytes(), message.as_bytes()])
}

/// An id as one segment: itself, or `~` and 128 bits of its hash where Firestore would not take it, or take it for something else.
pub(super) fn segment(id: &str) -> Cow<'_, str> {
    let is_reserved = id.is_empty() || id == "." || id == ".." || (id.starts_with("__") && id.ends_with("__")) || id.starts_with('~');
    let plain = !is_reserved && id.len() <= ID_BYTES_MAX && !id.chars().any(|c| c == '/' || c.is_control());
    if plain { Cow::Borrowed(id) } else { Cow::Owned(format!("~{}", hash128_hex(&[id.as_bytes()]))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_id_stays_one_segment() {
        let long = "9".repeat(ID_BYTES_MAX + 1);
        for id in ["", ".", "..", "a/b", "../../x", "__x__", "____", "__", "a\nb", "a\0b", "~1", &long] {
            let segment = segment(id);
            assert!(segment.starts_with('~') && segment.len() == 33, "{id:?} became {segment}");
        }
        for id in ["1", "a b", "_x_", "__x", "é💥", "...", "%2F", &long[1..]] {
            assert_eq!(segment(id), id);
        }
    }

    #[test]
    fn names_are_as_documented_and_differ_for_different_ids() {
        let names = Names::of("p", "(default)");
        assert_eq!(names.root, "projects/p/databases/(default)/documents");
        assert_eq!(names.fan("200000001", "100000001"), format!("{}/accounts/200000001/fans/100000001", names.root));
        let message = names.message("200000001", "100000001", "6400000000001");
        let id = message.strip_prefix(&format!("{}/accounts/200000001/conversations/100000001/messages/", names.root)).expect("the path");
        assert_eq!(id.split_once('-').map(|(hash, id)| (hash.len(), id)), Some((4, "6400000000001")));
        let odd = ["a/b", "a", "b", "a/", "/a", ""];
        let distinct: BTreeSet<String> = odd.iter().flat_map(|a| odd.iter().map(|b| names.message(a, b, "m"))).collect();
        assert_eq!(distinct.len(), odd.len() * odd.len());
    }
}
