//! What several tests need: a private Redis, processes that end with the test.

pub mod process;
pub mod redis;
