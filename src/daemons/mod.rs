//! The long-running compositions.

pub mod auth_refresh;
pub mod dashboard;
pub mod ingest;
pub mod playback;
pub mod reconcile;
pub mod snapshot;
