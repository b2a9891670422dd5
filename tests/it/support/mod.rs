//! What several tests need: a private Redis, processes that end with the test.

pub(crate) mod process;
pub(crate) mod redis;
