//! A file of the artifacts' folder: read only if it is ours alone, replaced whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use secrecy::zeroize::Zeroizing;

use super::{ARTIFACT_MAX_BYTES, Problem};

/// Beginning and end of the name of a file that is being written; no scan takes it for an artifact.
const BESIDE: (&str, &str) = (".", ".tmp");

/// The file's content. Everything is asked of the open file, so that it cannot be another one by then. `name` is how a message calls it.
pub(super) fn read(path: &Path, name: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // Without NONBLOCK, opening a pipe would wait for somebody to write.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::NOENT => Problem::Missing,
        rustix::io::Errno::LOOP => Problem::Symlink,
        error => Problem::Io { what: "opened", detail: error.to_string() },
    })?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(|error| Problem::Io { what: "opened", detail: error.to_string() })?;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(Problem::NotAFile);
    }
    if owner != user {
        return Err(Problem::Owner { owner, user, name: name.to_owned() });
    }
    if mode & 0o077 != 0 {
        return Err(Problem::Mode { mode, name: name.to_owned() });
    }
    // It may grow while it is read, so the size is not taken from the metadata; room for all of it means that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(ARTIFACT_MAX_BYTES) + 1).unwrap_or(0)));
    file.take(ARTIFACT_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Problem::Io { what: "read", detail: error.to_string() })?;
    if bytes.len() as u64 > ARTIFACT_MAX_BYTES { Err(Problem::TooLarge) } else { Ok(bytes) }
}

/// Puts a file in its place, for its owner alone, making the folder where there is none: writes beside it, then renames. These are the steps after
/// which a power cut leaves the old one or the new one. A symbolic link in its place is replaced, not followed.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::Io { what: "written", detail: error.to_string() };
    if bytes.len() as u64 > ARTIFACT_MAX_BYTES {
        return Err(Problem::TooLarge);
    }
    make_folder(dir)?;
    // The name is random, because process ids repeat in containers and a killed process leaves its file behind.
    let beside = dir.join(format!("{}{name}.{:016x}{}", BESIDE.0, fastrand::u64(..), BESIDE.1));
    let outcome =
        write_synced(&beside, bytes).and_then(|()| fs::rename(&beside, dir.join(name))).and_then(|()| File::open(dir)?.sync_all());
    if outcome.is_err() {
        // Where even that fails, the error that counts is the first one.
        let _ = fs::remove_file(&beside);
    }
    outcome.map_err(failed)
}

/// Makes the folder, for its owner alone, where there is none.
pub(super) fn make_folder(dir: &Path) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::Io { what: "written", detail: error.to_string() };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)
}

/// Whether a name is that of a file that [`replace`] was writing.
pub(super) fn is_beside(name: &[u8]) -> bool {
    name.starts_with(BESIDE.0.as_bytes()) && name.ends_with(BESIDE.1.as_bytes())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    file.sync_all()
}
