//! Every shape that leaves or enters the process, and every shape that the rooms share.
//!
//! Owns: types, their versions, their JSON Schema, and the lossless encodings between bytes and types. Does not own: any decision
//! (that is [`crate::transform`]) and any I/O. Invariant: a value read back from its own encoding is equal to what was written.

pub mod artifact;
pub mod document;
pub mod envelope;
pub mod event;
pub mod frame;
pub mod ids;
pub mod json_schema;
pub mod memory;
pub mod policy;
mod seen;
pub mod state;
pub mod text;
pub mod time;
pub mod view;

/// Version of the event's shape, the value of [`event::Event::schema`].
pub const EVENT_SCHEMA: &str = "convpipe.event.v1";
/// Version of the normalizer: changes whenever the same frame would give another event.
pub const NORMALIZER: &str = "onlyfans/1";
/// Version of the auth artifact's shape.
pub const ARTIFACT_SCHEMA: &str = "convpipe.artifact.v1";
/// Version of the shape of a request for a new artifact.
pub const ARTIFACT_REQUEST_SCHEMA: &str = "convpipe.artifact-request.v1";
