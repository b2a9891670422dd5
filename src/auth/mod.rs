//! Session material: the artifact files that ingest loads, one an account, and where new ones come from.
//!
//! Owns: which files are artifacts, who may have written them, what in them is valid, and how a new one takes an old one's place; the providers that
//! are asked for new ones, the requests for them, and what is remembered of earlier attempts. Does not own: when to ask. Invariants: nothing of an artifact but its file name, account, generation and status ever
//! reaches an error or a log; what can be read here was readable by its owner alone.
//!
//! All of it is plain file work of microseconds; a caller in async code that scans many files does so on a blocking thread.

mod check;
mod encode;
mod error;
mod file;
mod lock;
pub mod provider;
mod record;
mod request;
mod store;
mod watch;

pub use check::{Unusable, is_account, usable};
pub use error::{ArtifactError, Content, Problem};
pub use lock::{LockError, RefreshLock};
pub use record::{Fault, Held, Record};
pub use store::{ArtifactStore, Scan};
pub use watch::{Changes, Fingerprint};

/// Largest artifact file, bytes. A real one has a few kilobytes.
pub const ARTIFACT_MAX_BYTES: u64 = 1 << 20;
/// Most artifact files in a folder.
pub const ARTIFACTS_MAX: usize = 10_000;
