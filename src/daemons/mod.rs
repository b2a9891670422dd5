//! The long-running compositions.

pub mod ingest;
pub mod playback;
pub mod snapshot;
