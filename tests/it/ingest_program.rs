//! `convpipe ingest` as it is typed: a process, its sockets, its files.

mod authorities;
mod place;
mod record;
mod scrub;
mod shard;
