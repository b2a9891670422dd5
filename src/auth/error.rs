//! What can be wrong with an artifact. None of it repeats a value out of the file.

use std::path::PathBuf;

use super::ARTIFACT_MAX_BYTES;

/// An artifact that cannot be used as a file: which one, what is wrong with it, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct ArtifactError {
    /// The file, or the folder.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an artifact, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no such file.
    #[error("does not exist; put the account's artifact there, with mode 0600")]
    Missing,
    /// There is no such folder.
    #[error("does not exist; make it with mode 0700 and put the artifacts there, or correct auth.dir")]
    MissingFolder,
    /// The file system says no.
    #[error("cannot be {what}: {detail}")]
    Io {
        /// `opened`, `read`, `written`, `listed`.
        what: &'static str,
        /// Why.
        detail: String,
    },
    /// It is a symbolic link.
    #[error("is a symbolic link, which is not followed; put the file itself there")]
    Symlink,
    /// It is a folder, a pipe, a device.
    #[error("is not a regular file; move it away")]
    NotAFile,
    /// Others than its owner may read or write it.
    #[error("has mode {mode:04o}, so others may get at the session; run `chmod 600 {name}` there, and renew the session if they may have")]
    Mode {
        /// Its permission bits.
        mode: u32,
        /// Its name.
        name: String,
    },
    /// It belongs to another user.
    #[error("belongs to user {owner}, this process runs as user {user}; run `chown {user} {name}` there, or run convpipe as its owner")]
    Owner {
        /// Its owner.
        owner: u32,
        /// We.
        user: u32,
        /// Its name.
        name: String,
    },
    /// It is too large to be one.
    #[error("is larger than {} bytes, so it is no artifact; replace it", ARTIFACT_MAX_BYTES)]
    TooLarge,
    /// What stands in it is no artifact of this account.
    #[error("{0}; replace it")]
    Content(#[from] Content),
    /// An account was asked for that cannot name a file.
    #[error("has no artifact of such an account: an account is 1 to 64 of A-Z a-z 0-9 _ -")]
    Account,
    /// A file that is not named after an account.
    #[error("is not named after an account, which is 1 to 64 of A-Z a-z 0-9 _ -; rename it or move it away")]
    Name,
    /// Others can put files into the folder, or take them away.
    #[error("has mode {mode:04o}, so others may put their own session there; run `chmod go-w` on it")]
    FolderMode {
        /// Its permission bits.
        mode: u32,
    },
    /// The folder belongs to another user, who can replace what is in it.
    #[error("belongs to user {owner}, this process runs as user {user}; run convpipe as its owner, or choose another auth.dir")]
    FolderOwner {
        /// Its owner.
        owner: u32,
        /// We.
        user: u32,
    },
    /// The folder has too many files.
    #[error("holds more than {0} artifacts; the rest is not looked at")]
    TooMany(usize),
}

/// What can be wrong with an artifact's content, in a file or in a provider's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Content {
    /// It is not JSON, cut off, or says a thing twice.
    #[error("is not one well-formed JSON object (line {line}, column {column})")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A field is missing.
    #[error("has no field `{0}`")]
    MissingField(&'static str),
    /// A field has a value that cannot be.
    #[error("has a field `{field}` that {what}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// Its `account_id` is not the account's.
    #[error("is the artifact of another account")]
    OtherAccount,
}

impl Problem {
    /// Whether the file itself is as it should be, the account's own and nobody else's, so that a good artifact may take its place unasked.
    #[must_use]
    pub const fn is_of_content(&self) -> bool {
        matches!(self, Self::Content(_) | Self::TooLarge)
    }
}
