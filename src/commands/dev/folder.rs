//! The folder in which `dev` keeps everything: `.convpipe/`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::redis::RedisAccess;
use crate::commands::{CommandError, Exit};

/// First line of the config that `dev` writes; a file without it is somebody else's and is not overwritten.
const HEADER: &str = "# Written by `convpipe dev`, again at every start.";

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
        let lock = private_file(&dir.join("dev.lock")).map_err(|error| failed("write in the folder", &error))?;
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

    /// Writes the config that the other commands find.
    pub(super) fn write_config(&self, redis: &RedisAccess) -> Result<(), CommandError> {
        let quoted = |path: &Path| serde_json::to_string(&path.display().to_string()).unwrap_or_default();
        let at = |name: &str| quoted(&self.dir.join(name));
        let mut text = format!("{HEADER}\n# `convpipe config default` has every key with its meaning.\n");
        text += &format!("bus:\n  embedded:\n    dir: {}\n", at("bus"));
        text += &format!("documents:\n  embedded:\n    path: {}\n", at("documents.db"));
        text += &format!("auth:\n  dir: {}\n", at("auth"));
        text += &format!("redis:\n  url: {}\n", serde_json::to_string(&redis.url).unwrap_or_default());
        for (prefix, user) in [("", &redis.writer), ("reader_", &redis.reader)] {
            if let Some((name, password_file)) = user {
                text += &format!("  {prefix}user: {name}\n  {prefix}password_file: {}\n", quoted(password_file));
            }
        }
        // A list that the recorded fans stand on, so that high-value streams have something in them from the start.
        text += "high_value:\n  lists: [\"880001\"]\n";
        self.write("convpipe.yaml", text.as_bytes()).map(|_| ())
    }
}

/// Opens a file for writing, empty, with mode 0600 whatever it had before.
fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}
