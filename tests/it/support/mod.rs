//! What several tests need: a private Redis, Google's emulators and a fake of Pub/Sub, processes that end with the test.

pub(crate) mod emulator;
pub(crate) mod fake_pubsub;
pub(crate) mod fullscreen;
pub(crate) mod process;
pub(crate) mod pubsub;
pub(crate) mod redis;
pub(crate) mod scripted;
pub(crate) mod terminal;
pub(crate) mod tls;
