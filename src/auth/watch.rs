//! Noticing that artifacts came, changed or went, without reading them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The artifact files of a folder as they were at one moment, by account: enough to see that one is another than before. A `chmod`
/// counts, so a file that was refused is looked at again once it is put right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    files: BTreeMap<String, Stamp>,
}

/// What is different between two fingerprints: accounts, each list ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Accounts that have a file now and had none.
    pub added: Vec<String>,
    /// Accounts whose file was replaced, written to, or given other permissions.
    pub changed: Vec<String>,
    /// Accounts that had a file and have none now.
    pub removed: Vec<String>,
}

impl Changes {
    /// Nothing is different.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Fingerprint {
    /// What is different in `newer`.
    #[must_use]
    pub fn changes_to(&self, newer: &Self) -> Changes {
        let mut changes = Changes::default();
        for (account, stamp) in &newer.files {
            match self.files.get(account) {
                None => changes.added.push(account.clone()),
                Some(before) if before != stamp => changes.changed.push(account.clone()),
                Some(_) => {}
            }
        }
        changes.removed = self.files.keys().filter(|&account| !newer.files.contains_key(account)).cloned().collect();
        changes
    }

    pub(super) fn insert(&mut self, account: String, metadata: &Metadata) {
        self.files.insert(account, Stamp::of(metadata));
    }
}

/// Two files with the same stamp are the same file, unchanged: a replacement has another inode, a change another change time. The clock
/// behind that moves in steps of milliseconds, so what else is cheap to compare is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    changed_s: i64,
    changed_ns: i64,
    size: u64,
    mode: u32,
    owner: u32,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed_s: metadata.ctime(),
            changed_ns: metadata.ctime_nsec(),
            size: metadata.size(),
            mode: metadata.mode(),
            owner: metadata.uid(),
        }
    }
}
