//! What every long-running part stands on: the clock, the stop signal, waiting after failures, logs, traces, secret files, whom to trust, how it is doing and
//! who is told of it, limits, and figures as people read them.

pub mod backoff;
pub mod causes;
pub mod clock;
pub mod core_dump;
pub mod exposition;
pub mod health;
pub mod histogram;
pub mod limits;
pub mod notify;
pub mod panics;
pub mod process;
pub mod provision;
pub mod repeats;
pub mod samples;
pub mod scrape;
pub mod secret_file;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;
pub mod trace;
pub mod trust;
pub mod units;
