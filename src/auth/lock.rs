//! The lock that keeps two refreshers from asking the same providers for the same accounts.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{ArtifactStore, Problem};

/// Its file, in the artifacts' folder. It stays there: removing it would let two processes hold two different files.
const NAME: &str = ".auth-refresh.lock";

/// Held by this process alone, as long as it lives.
#[derive(Debug)]
pub struct RefreshLock {
    _file: File,
}

/// The lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another auth-refresh works on {}", dir.display())]
    Held {
        /// The artifacts' folder.
        dir: PathBuf,
    },
    /// Its file cannot be used.
    #[error("{}: cannot be locked: {detail}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        detail: String,
    },
}

impl RefreshLock {
    /// Takes the lock of a store, without waiting for it.
    ///
    /// # Errors
    /// Where another process holds it, or its file cannot be opened.
    pub fn take(store: &ArtifactStore) -> Result<Self, LockError> {
        let path = store.dir().join(NAME);
        let failed = |detail: String| LockError::Io { file: path.clone(), detail };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|error| match error {
            rustix::io::Errno::LOOP => failed(Problem::Symlink.to_string()),
            error => failed(error.to_string()),
        })?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: File::from(file) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held { dir: store.dir().to_owned() }),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
