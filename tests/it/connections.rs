//! Connections under faults: a platform that plays each fault by script, an hour of outages of many accounts, a process that comes back, and secrets.

mod faults;
mod life;
mod outages;
mod secrets;
