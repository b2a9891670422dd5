//! What a managed service needs beside its data (topics, indexes, policies), compared with what it has.
//!
//! Owns the shape of the comparison. Does not own the plan of a service, or what a person reads.

/// What happened, or would happen, to one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is about: `topic convpipe-events`, `single-field indexes of messages.text`.
    pub resource: String,
    /// What is done to it.
    pub action: Action,
}

/// What is done to have something as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is not there, and is made.
    Create,
    /// It is there and different, and is changed.
    Update {
        /// What of it differs, as the service's own reference names it.
        field: &'static str,
        /// How it is.
        from: String,
        /// How it should be.
        to: String,
    },
    /// It is as it should be, or being built.
    Same,
    /// It is not as it should be and cannot be made so: a field that never changes, or a service (an emulator, as a rule) that lacks the call.
    /// The reason.
    Unsupported(String),
}
