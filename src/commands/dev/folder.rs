//! The folder in which `dev` keeps everything: `.convpipe/`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::commands::{CommandError, Exit};

/// Held by a `dev` as long as it runs.
const LOCK: &str = "dev.lock";
/// First line of the config that `dev` writes; a file without it is somebody else's and is not overwritten.
pub(super) const HEADER: &str = "# Written by `convpipe dev`, again at every start.";

/// Whether this config was written by a `dev` that does not run any more. `false` where that cannot be told.
pub(in crate::commands) fn is_abandoned(config: &Path) -> bool {
    if !fs::read_to_string(config).is_ok_and(|text| text.starts_with(HEADER)) {
        return false;
    }
    match File::open(config.with_file_name(LOCK)) {
        Ok(lock) => rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The folder, held by this process alone as long as it lives.
pub(super) struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder, and clears what an earlier run left, unless `keep`.
    ///
    /// # Errors
    /// Where it cannot be made, another `dev` runs in it, or it holds somebody else's config.
    pub(super) fn claim(dir: &Path, keep: bool) -> Result<Self, CommandError> {
        let failed =
            |what: &str, error: &io::Error| CommandError::new(Exit::TryLater, format!("{}: cannot {what}", dir.display())).caused_by(error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed("make the folder", &error))?;
        let dir = dir.canonicalize().map_err(|error| failed("find the folder", &error))?;
        let lock = private_file(&dir.join(LOCK)).map_err(|error| failed("write in the folder", &error))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let message = format!("another `convpipe dev` runs in {}", dir.display());
            return Err(CommandError::new(Exit::TryLater, message).hint("end it first, or choose another --dir"));
        }
        let folder = Self { dir, _lock: lock };
        let config = folder.config_file();
        if fs::read_to_string(&config).is_ok_and(|text| !text.starts_with(HEADER)) {
            let message = format!("{} was not written by `convpipe dev`, so it is not overwritten", config.display());
            return Err(CommandError::new(Exit::Config, message).hint("move it to ./convpipe.yaml, or choose another --dir"));
        }
        if !keep {
            folder.clear()?;
        }
        Ok(folder)
    }

    /// The folder, absolute.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the config is.
    pub(super) fn config_file(&self) -> PathBuf {
        self.dir.join("convpipe.yaml")
    }

    /// Where the private Redis logs.
    pub(super) fn redis_log(&self) -> PathBuf {
        self.dir.join("redis.log")
    }

    /// Removes what `dev` and its services wrote, and nothing else.
    fn clear(&self) -> Result<(), CommandError> {
        for name in ["bus", "auth", "redis.log", "documents.db", "documents.db-wal", "documents.db-shm"] {
            let path = self.dir.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(CommandError::new(Exit::TryLater, format!("cannot remove {}", path.display())).caused_by(&error));
            }
        }
        Ok(())
    }

    /// Writes a file that only this user can read.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, CommandError> {
        let path = self.dir.join(name);
        let written = private_file(&path).and_then(|mut file| file.write_all(content));
        written.map_err(|error| CommandError::new(Exit::TryLater, format!("cannot write {}", path.display())).caused_by(&error))?;
        Ok(path)
    }

    /// Writes the recording that comes with the program.
    pub(super) fn write_recording(&self, recording: &[u8]) -> Result<PathBuf, CommandError> {
        self.write("recording.jsonl.gz", recording)
    }

    /// A new password, in a file of its own.
    pub(super) fn new_password(&self, name: &str) -> Result<(SecretString, PathBuf), CommandError> {
        let mut bytes = [0u8; 24];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut bytes))
            .map_err(|error| CommandError::new(Exit::TryLater, "cannot read /dev/urandom").caused_by(&error))?;
        let password: SecretString = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
        let path = self.write(name, password.expose_secret().as_bytes())?;
        Ok((password, path))
    }
}

/// Opens a file for writing, empty, with mode 0600 whatever it had before.
fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}
