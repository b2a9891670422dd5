//! What can go wrong with the documents, as far as a caller decides by it.

/// A failed call to the document store. `store` says which store it was: `documents file /var/lib/convpipe/documents.db`.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// There is no store to read from yet.
    #[error("{store}: does not exist yet; start `convpipe snapshot` once, or correct documents.embedded.path")]
    Missing {
        /// The store.
        store: String,
    },
    /// Something else lies where the documents should.
    #[error("{store}: is not a documents file of convpipe; move it away, or correct documents.embedded.path")]
    Foreign {
        /// The store.
        store: String,
    },
    /// A newer version wrote it.
    #[error("{store}: has layout {found}, this version reads up to {known}; use the newer convpipe that wrote it")]
    Newer {
        /// The store.
        store: String,
        /// The layout in the file.
        found: i64,
        /// The newest layout that this version knows.
        known: i64,
    },
    /// It may not be written.
    #[error("{store}: is read-only ({detail}); give its owner write permission, or use another file")]
    ReadOnly {
        /// The store.
        store: String,
        /// How that showed.
        detail: String,
    },
    /// No space is left. Nothing was written.
    #[error("{store}: no space is left; nothing of this call was written")]
    Full {
        /// The store.
        store: String,
    },
    /// Another process kept it locked for longer than we wait. Nothing was written.
    #[error("{store}: another process kept it locked for {waited_s} s; nothing of this call was written")]
    Busy {
        /// The store.
        store: String,
        /// How long we waited, seconds.
        waited_s: u64,
    },
    /// Its content is damaged.
    #[error("{store}: is damaged ({detail}); move it away and let it fill again, or restore a copy")]
    Corrupt {
        /// The store.
        store: String,
        /// What the engine says.
        detail: String,
    },
    /// A document does not encode or decode: a broken invariant of ours, or a foreign writer.
    #[error("{store}: {what} is not what this version writes: {source}")]
    Document {
        /// The store.
        store: String,
        /// Which document.
        what: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There are no credentials for it, or they give no token.
    #[error(
        "{store}: no usable credentials: {detail}; run `gcloud auth application-default login`, name a key file in \
         GOOGLE_APPLICATION_CREDENTIALS, or run as a service account that has roles/datastore.user"
    )]
    Credentials {
        /// The store.
        store: String,
        /// Why there is no token.
        detail: String,
    },
    /// It refuses whom the credentials name.
    #[error(
        "{store}: refused while {what}: {detail}; give the account that runs this roles/datastore.user, for `provision` roles/datastore.indexAdmin"
    )]
    Refused {
        /// The store.
        store: String,
        /// What was being done.
        what: &'static str,
        /// What it says.
        detail: String,
    },
    /// The project has no such database.
    #[error(
        "{store}: does not exist ({detail}); make it with `gcloud firestore databases create`, or correct documents.firestore.project and \
         documents.firestore.database"
    )]
    NoDatabase {
        /// The store.
        store: String,
        /// What it says.
        detail: String,
    },
    /// An index that a query needs is missing or still being built.
    #[error("{store}: an index is missing or not built yet ({detail}); run `convpipe provision`, and wait until it is built")]
    NotProvisioned {
        /// The store.
        store: String,
        /// What it says.
        detail: String,
    },
    /// It asks to be left alone, and went on asking for as long as we try.
    #[error("{store}: is throttling ({detail}); tried again for {waited_ms} ms")]
    Throttled {
        /// The store.
        store: String,
        /// What it says.
        detail: String,
        /// How long it was tried, milliseconds.
        waited_ms: u64,
    },
    /// It will never take this document, whatever others it takes: it is too large, or an invariant of ours is broken.
    #[error("{store}: will never take {document}: {detail}")]
    RefusedDocument {
        /// The store.
        store: String,
        /// Which document.
        document: String,
        /// What it says.
        detail: String,
    },
    /// It does not take such a request: a broken invariant of ours.
    #[error("{store}: does not take {what}: {detail}")]
    Rejected {
        /// The store.
        store: String,
        /// Which request.
        what: String,
        /// What it says.
        detail: String,
    },
    /// Messages were deleted at the source while they were being written. They are known to be now: resolve the batch again.
    #[error("{store}: {count} messages were deleted before they were written; the batch is folded again with their deletions")]
    DeletedMeanwhile {
        /// The store.
        store: String,
        /// How many.
        count: usize,
    },
    /// It cannot be reached: an I/O error, permissions, a missing folder, no answer.
    #[error("{store}: {what}: {detail}")]
    Unavailable {
        /// The store.
        store: String,
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        detail: String,
    },
    /// Its thread ended by a bug of ours.
    #[error("{store}: its thread ended unexpectedly; restart the process")]
    Stopped {
        /// The store.
        store: String,
    },
}

impl DocumentsError {
    /// Whether the same call may succeed later without anybody changing the configuration or the store: wait and try again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Full { .. } | Self::Busy { .. } | Self::Unavailable { .. } | Self::Throttled { .. } | Self::DeletedMeanwhile { .. }
        )
    }

    /// Whether one document is the cause, for good, and the same call may succeed without it.
    #[must_use]
    pub const fn is_of_one_document(&self) -> bool {
        matches!(self, Self::RefusedDocument { .. } | Self::Document { .. })
    }

    /// Whether it is about who may use the store: nothing but other credentials or rights helps.
    #[must_use]
    pub const fn is_auth(&self) -> bool {
        matches!(self, Self::Credentials { .. } | Self::Refused { .. })
    }
}
