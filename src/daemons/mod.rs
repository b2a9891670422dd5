//! The long-running compositions.

pub mod ingest;
