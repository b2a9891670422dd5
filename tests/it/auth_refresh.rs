//! auth-refresh as people run it: real processes, real providers, real files.

mod cron;
mod daemon;
mod files;
mod http;
mod ingest;
pub(crate) mod place;
mod program;
mod server;
