//! Keeps what is in memory out of core dumps: tokens, passwords and private messages are in it.

use rustix::process::{Resource, Rlimit, setrlimit};

/// No core file of this process is written, nor handed to a program that collects them. Children that it starts may leave none either; what it is
/// refused changes nothing else.
pub fn forbid() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // A `core_pattern` that is a pipe does not ask for the limit.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
