//! What several tests need: a private Redis, Google's emulators, processes that end with the test.

pub(crate) mod emulator;
pub(crate) mod process;
pub(crate) mod redis;
