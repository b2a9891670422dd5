//! What several tests need: a private Redis, processes that end with the test, Pub/Sub as Google's emulator and as a fake.

pub(crate) mod fake_pubsub;
pub(crate) mod process;
pub(crate) mod pubsub;
pub(crate) mod redis;
