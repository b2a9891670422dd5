//! What every long-running part stands on: the clock, the stop signal, waiting after failures, logs.

pub mod backoff;
pub mod clock;
pub mod shutdown;
pub mod telemetry;
