//! What can go wrong with the bus: what happened, where, and what to do.

use std::path::{Path, PathBuf};

/// Opening a topic or a subscription, or asking about one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// The folder cannot be made or entered.
    #[error("cannot use {path} as the bus folder: {reason}; set `bus.embedded.dir` to a folder that this user may write to")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file's layout is of a later version.
    #[error(
        "{path} has layout {found}, this convpipe knows layouts up to {known}; run the newer convpipe that wrote it, or move the file away"
    )]
    NewerLayout {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file cannot be opened or read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no such subscription.
    #[error("topic {topic} has no subscription {subscription}; {hint}")]
    NoSubscription {
        /// The topic.
        topic: String,
        /// The subscription.
        subscription: String,
        /// How there comes to be one.
        hint: &'static str,
    },
    /// The subscription is one of another topic.
    #[error(
        "the subscription {subscription} belongs to {found}, not to {topic}; name another one in the config, or delete it and run `convpipe provision`"
    )]
    OtherTopic {
        /// The subscription.
        subscription: String,
        /// The topic that was expected.
        topic: String,
        /// The topic that it belongs to.
        found: String,
    },
    /// The service did not do what it was asked.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A thread could not be started, or ended before it answered.
    #[error("the bus thread for {topic} did not start: {reason}")]
    Thread {
        /// The topic.
        topic: String,
        /// What happened.
        reason: String,
    },
}

/// A publish that was not confirmed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// One envelope is larger than the bus takes. Nothing of the batch was written.
    #[error("an envelope of {bytes} bytes is larger than the bus takes ({max}); publish it without its raw item, or not at all")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// [`super::MESSAGE_BYTES_MAX`].
        max: usize,
    },
    /// These are refused for good; everything else of the batch is confirmed.
    #[error("{} of the batch are refused for good, the first because: {}", refused.len(), refused.first().map_or("", |first| &first.reason))]
    Refused {
        /// Which, in the order of the batch.
        refused: Vec<Refusal>,
    },
    /// The file could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The service did not confirm it.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The publisher's thread has ended, which only a bug does; open a new publisher.
    #[error("the publisher has stopped")]
    Closed,
}

impl PublishError {
    /// Whether the same batch may go through later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::Refused { .. } | Self::Closed => false,
            Self::Storage(error) => error.is_retryable(),
            Self::Service(error) => error.is_retryable(),
        }
    }
}

impl PublishError {
    /// Why the bus lets nobody publish, where waiting alone will not mend that.
    #[must_use]
    pub const fn barred(&self) -> Option<&'static str> {
        match self {
            Self::Service(error) => error.fault.barred(),
            _ => None,
        }
    }
}

impl SubscribeError {
    /// Why the bus delivers nothing, where waiting alone will not mend that.
    #[must_use]
    pub const fn barred(&self) -> Option<&'static str> {
        match self {
            Self::Service(error) => error.fault.barred(),
            _ => None,
        }
    }
}

impl ServiceFault {
    const fn barred(self) -> Option<&'static str> {
        match self {
            Self::Credentials => Some("the credentials are not accepted"),
            Self::Denied => Some("permission denied"),
            Self::NotFound => Some("not found"),
            Self::Refused | Self::Unsupported | Self::Timeout | Self::Unavailable => None,
        }
    }
}

/// An envelope that the bus will never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// What the bus said.
    pub reason: String,
}

/// A subscriber that could not get its deliveries.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubscribeError {
    /// The files could not be read or written; the subscriber goes on trying.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The service ended a stream; the subscriber goes on opening new ones.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The subscriber has ended; open a new one.
    #[error("the subscriber has stopped")]
    Closed,
}

/// What kept a file from being read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageFault {
    /// Another process held the lock too long.
    Busy,
    /// No space left.
    Full,
    /// The file or its file system does not accept writes.
    ReadOnly,
    /// The file is not a database, or is damaged.
    Damaged,
    /// Anything else: I/O errors, permissions.
    Other,
}

/// A fault of one of the bus's files.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: {reason}; {}", self.advice())]
pub struct StorageError {
    /// The file.
    pub path: PathBuf,
    /// What kind of fault.
    pub fault: StorageFault,
    /// What SQLite said.
    pub reason: String,
}

impl StorageError {
    pub(super) fn new(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let fault = match error.sqlite_error_code() {
            Some(Code::DatabaseBusy | Code::DatabaseLocked | Code::FileLockingProtocolFailed) => StorageFault::Busy,
            Some(Code::DiskFull) => StorageFault::Full,
            Some(Code::ReadOnly) => StorageFault::ReadOnly,
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => StorageFault::Damaged,
            _ => StorageFault::Other,
        };
        Self { path: path.to_owned(), fault, reason: error.to_string() }
    }

    /// Whether the same call may go through later, with nothing but the outside changed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self.fault, StorageFault::Damaged)
    }

    const fn advice(&self) -> &'static str {
        match self.fault {
            StorageFault::Busy => "another process holds it; it is tried again",
            StorageFault::Full => "the disk is full: free some space, or lower `bus.embedded.size_max_bytes`",
            StorageFault::ReadOnly => "make the folder of `bus.embedded.dir` writable for this user",
            StorageFault::Damaged => "stop all processes and move the file away; events in it that were not read yet are lost with it",
            StorageFault::Other => "check the disk and the permissions of `bus.embedded.dir`",
        }
    }
}

/// Why the service did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFault {
    /// There are no credentials, or they are not accepted.
    Credentials,
    /// The identity may not do this.
    Denied,
    /// There is no such topic or subscription.
    NotFound,
    /// The request itself is wrong, whoever sends it and whenever.
    Refused,
    /// The service does not know this call; emulators lack some.
    Unsupported,
    /// No answer in time.
    Timeout,
    /// Not reachable, overloaded, or anything else that passes.
    Unavailable,
}

/// A fault of the managed service behind the bus.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{resource}: {reason}; {}", self.advice())]
pub struct ServiceError {
    /// What it is about: a topic, a subscription, the credentials.
    pub resource: String,
    /// What kind of fault.
    pub fault: ServiceFault,
    /// What the service said.
    pub reason: String,
}

impl ServiceError {
    /// Whether the same call may go through later, with nothing but the outside changed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self.fault, ServiceFault::Refused | ServiceFault::Unsupported)
    }

    const fn advice(&self) -> &'static str {
        match self.fault {
            ServiceFault::Credentials => {
                "sign in with `gcloud auth application-default login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS; \
                 for an emulator set PUBSUB_EMULATOR_HOST"
            }
            ServiceFault::Denied => "give this identity the roles that docs/google.md names",
            ServiceFault::NotFound => "make it with `convpipe provision`, or correct `bus.google.project` and the names under `bus`",
            ServiceFault::Refused => "the service will not take it, however often it is sent",
            ServiceFault::Unsupported => "this service does not have the call",
            ServiceFault::Timeout => "it is tried again",
            ServiceFault::Unavailable => "the network, or the service, is down or overloaded; it is tried again",
        }
    }
}
