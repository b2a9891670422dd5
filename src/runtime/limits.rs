//! What the system allows a process, held against what its config lets it take: file descriptors and memory.
//!
//! Owns reading and raising the limits. Invariant: a limit that is too low is told and never a reason not to start: a daemon that serves most of its
//! accounts is worth more than one that serves none.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors of a process that serves nobody yet: the runtime, the log, the stores with their files, the health listener and its clients.
pub const FILES_RESERVED: u64 = 128;
/// Memory of a process that holds nothing yet, bytes: code, threads, buffers of connections, and what an allocator keeps.
pub const MEMORY_RESERVED: u64 = 48 << 20;

/// What a daemon may take, by its config.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// File descriptors beyond [`FILES_RESERVED`].
    pub files: u64,
    /// Bytes of its queues, windows and caches together.
    pub bytes: u64,
}

/// Something that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLow {
    /// What is limited.
    pub what: &'static str,
    /// What is needed when everything is full.
    pub needed: u64,
    /// What is allowed.
    pub allowed: u64,
    /// What to do.
    pub hint: &'static str,
}

/// Raises the number of file descriptors to what the process may raise it to, and says what is too low for these needs.
#[must_use]
pub fn check(needs: Needs) -> Vec<TooLow> {
    let files = raise_files();
    too_low(needs, files, memory_max(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")))
}

fn too_low(needs: Needs, files: Option<u64>, memory: Option<u64>) -> Vec<TooLow> {
    let of = |what, needed: u64, allowed: Option<u64>, hint| {
        let allowed = allowed.filter(|&allowed| allowed < needed)?;
        Some(TooLow { what, needed, allowed, hint })
    };
    let files_hint = "raise LimitNOFILE= of the unit, or `ulimit -Hn`";
    let memory_hint = "raise MemoryMax= of the unit (the container's limit), or lower the bounds that the config sets";
    let found = [
        of("file descriptors", FILES_RESERVED.saturating_add(needs.files), files, files_hint),
        of("bytes of memory", MEMORY_RESERVED.saturating_add(needs.bytes), memory, memory_hint),
    ];
    found.into_iter().flatten().collect()
}

/// The soft limit is there for programs that use `select`; nothing here does. `None` where there is no bound.
fn raise_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_lower = current.is_some_and(|current| maximum.is_none_or(|maximum| current < maximum));
    // Some systems have no hard limit and allow none as the soft one.
    if is_lower && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum;
    }
    current
}

/// The smallest `memory.max` of the process's cgroup (version 2) and those above it; `None` where nothing limits it, or nobody can tell.
fn memory_max(own: &Path, root: &Path) -> Option<u64> {
    let text = fs::read_to_string(own).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own: PathBuf = root.join(path);
    let limits = own.ancestors().take_while(|folder| folder.starts_with(root));
    limits.filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_up_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (own, root) = (dir.path().join("own"), dir.path().join("cgroup"));
        let limit = |path: &str, limit: &str| {
            fs::create_dir_all(root.join(path)).unwrap();
            fs::write(root.join(path).join("memory.max"), limit).unwrap();
        };
        assert_eq!(memory_max(&own, &root), None, "no such file");
        fs::write(&own, "1:name=systemd:/x\n0::/system.slice/convpipe.service\n").unwrap();
        assert_eq!(memory_max(&own, &root), None);
        limit("system.slice/convpipe.service", "max\n");
        assert_eq!(memory_max(&own, &root), None);
        limit("system.slice", "300000000\n");
        limit("system.slice/convpipe.service", "200000000\n");
        assert_eq!(memory_max(&own, &root), Some(200_000_000));
        limit("system.slice", "100000000\n");
        assert_eq!(memory_max(&own, &root), Some(100_000_000));
        fs::write(dir.path().join("memory.max"), "1").unwrap();
        assert_eq!(memory_max(&own, &root), Some(100_000_000), "what is above the root is none");
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_numbers() {
        let needs = Needs { files: 2_000, bytes: 100 << 20 };
        let told = |files, memory| too_low(needs, files, memory).iter().map(|low| (low.needed, low.allowed)).collect::<Vec<_>>();
        assert_eq!(told(None, None), []);
        assert_eq!(told(Some(2_128), Some(148 << 20)), []);
        assert_eq!(told(Some(1_024), Some(128 << 20)), [(2_128, 1_024), (148 << 20, 128 << 20)]);
    }

    #[test]
    fn the_soft_limit_is_raised() {
        let raised = raise_files();
        assert_eq!((raised, getrlimit(Resource::Nofile).current), (getrlimit(Resource::Nofile).maximum, raised));
    }
}
