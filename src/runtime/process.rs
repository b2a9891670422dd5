//! What the process takes of the machine: memory and file descriptors, and how many of these it may have.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::exposition::Page;

/// Writes what is known; a machine without `/proc` tells less.
pub fn expose(page: &mut Page<'_>) {
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_bytes", "Memory of the process.", bytes);
    }
    if let Some(files) = open_files() {
        page.gauge("process_open_files", "File descriptors that are open.", files);
    }
    if let Some(max) = files_max() {
        page.gauge("process_max_files", "File descriptors that may be open.", max);
    }
}

/// How many file descriptors the process may have; `None` where there is no bound.
#[must_use]
pub fn files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn open_files() -> Option<u64> {
    // The folder that is being read is one of them.
    fs::read_dir("/proc/self/fd").ok().map(|files| (files.count() as u64).saturating_sub(1))
}
