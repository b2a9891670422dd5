//! The folder of artifacts: reading one, all, and replacing one.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use secrecy::zeroize::Zeroizing;

use super::{ARTIFACT_MAX_BYTES, ARTIFACTS_MAX, ArtifactError, Fingerprint, Problem, check, encode};
use crate::schema::artifact::Artifact;

/// Ending of an artifact's file name; what stands before it is the account.
const ENDING: &str = ".json";

/// A folder of artifacts, `<account>.json` each. Files with other endings, and names that begin with a dot, are not looked at.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    dir: PathBuf,
}

/// Everything in the folder, ascending by account.
#[derive(Debug, Default)]
pub struct Scan {
    /// What can be read. Whether to connect with it is for [`super::usable`].
    pub artifacts: Vec<Artifact>,
    /// What cannot, or the folder where that cannot be read.
    pub problems: Vec<ArtifactError>,
}

impl ArtifactStore {
    /// The store in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The artifact of an account, read from a regular file that belongs to this process's user, that nobody else may get at, and that no symbolic
    /// link led to.
    ///
    /// # Errors
    /// Where the file is missing, is not as above, or does not hold a valid artifact of that account.
    pub fn load(&self, account: &str) -> Result<Artifact, ArtifactError> {
        let file = self.path(account)?;
        read(&file, account).and_then(|bytes| check::decode(&bytes, account)).map_err(|problem| ArtifactError { file, problem })
    }

    /// Loads every artifact of the folder. One that is wrong does not keep the others from being read.
    #[must_use]
    pub fn scan(&self) -> Scan {
        let mut scan = Scan::default();
        let (accounts, mut problems) = match self.accounts() {
            Ok(found) => found,
            Err(error) => return Scan { problems: vec![error], ..scan },
        };
        for account in accounts {
            match self.load(&account) {
                Ok(artifact) => scan.artifacts.push(artifact),
                // It went between the listing and now, as a file that is being replaced by hand may.
                Err(ArtifactError { problem: Problem::Missing, .. }) => {}
                Err(error) => problems.push(error),
            }
        }
        scan.problems = problems;
        scan
    }

    /// The files of the folder as they are now; reads none of them. Files that [`ArtifactStore::scan`] would refuse are in it.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn fingerprint(&self) -> Result<Fingerprint, ArtifactError> {
        let mut fingerprint = Fingerprint::default();
        for account in self.accounts()?.0 {
            // Without following a link; a file that went in between is simply not there.
            if let Ok(metadata) = fs::symlink_metadata(self.file(&account)) {
                fingerprint.insert(account, &metadata);
            }
        }
        Ok(fingerprint)
    }

    /// Puts an artifact in its place, for its owner alone (0600), making the folder (0700) where there is none. A reader sees the old
    /// one or the new one, whole; where this fails, the old one stays.
    ///
    /// # Errors
    /// Where the artifact would not be read back, or cannot be written.
    pub fn write(&self, artifact: &Artifact) -> Result<(), ArtifactError> {
        let file = self.path(&artifact.account_id)?;
        let written = check::check(artifact).and_then(|()| replace(&self.dir, &file, artifact));
        written.map_err(|problem| ArtifactError { file, problem })
    }

    /// Accounts that have a file, ascending, and files that cannot be one. The folder is bounded.
    fn accounts(&self) -> Result<(Vec<String>, Vec<ArtifactError>), ArtifactError> {
        let failed = |error: &io::Error| ArtifactError {
            file: self.dir.clone(),
            problem: match error.kind() {
                io::ErrorKind::NotFound => Problem::MissingFolder,
                _ => Problem::Io { what: "listed", detail: error.to_string() },
            },
        };
        let (mut accounts, mut problems) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.dir).map_err(|error| failed(&error))? {
            let name = entry.map_err(|error| failed(&error))?.file_name();
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(b".") || !bytes.ends_with(ENDING.as_bytes()) {
                continue;
            }
            if accounts.len() + problems.len() == ARTIFACTS_MAX {
                problems.push(ArtifactError { file: self.dir.clone(), problem: Problem::TooMany(ARTIFACTS_MAX) });
                break;
            }
            match name.to_str().and_then(|name| name.strip_suffix(ENDING)).filter(|account| check::is_account(account)) {
                Some(account) => accounts.push(account.to_owned()),
                None => problems.push(ArtifactError { file: self.dir.join(&name), problem: Problem::Name }),
            }
        }
        accounts.sort_unstable();
        problems.sort_unstable_by(|a, b| a.file.cmp(&b.file));
        Ok((accounts, problems))
    }

    /// Path of an account's file. An account that cannot name one, such as `../x`, is refused before it becomes a path.
    fn path(&self, account: &str) -> Result<PathBuf, ArtifactError> {
        if check::is_account(account) {
            Ok(self.file(account))
        } else {
            Err(ArtifactError { file: self.dir.clone(), problem: Problem::Account })
        }
    }

    fn file(&self, account: &str) -> PathBuf {
        self.dir.join(format!("{account}{ENDING}"))
    }
}

/// The file's content. Everything is asked of the open file, so that it cannot be another one by then.
fn read(path: &Path, account: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
    // Without NONBLOCK, opening a pipe would wait for somebody to write.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::NOENT => Problem::Missing,
        rustix::io::Errno::LOOP => Problem::Symlink,
        error => Problem::Io { what: "opened", detail: error.to_string() },
    })?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(|error| Problem::Io { what: "opened", detail: error.to_string() })?;
    let name = || format!("{account}{ENDING}");
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(Problem::NotAFile);
    }
    if owner != user {
        return Err(Problem::Owner { owner, user, name: name() });
    }
    if mode & 0o077 != 0 {
        return Err(Problem::Mode { mode, name: name() });
    }
    // It may grow while it is read, so the size is not taken from the metadata; room for all of it means that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(ARTIFACT_MAX_BYTES) + 1).unwrap_or(0)));
    file.take(ARTIFACT_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Problem::Io { what: "read", detail: error.to_string() })?;
    if bytes.len() as u64 > ARTIFACT_MAX_BYTES { Err(Problem::TooLarge) } else { Ok(bytes) }
}

/// Writes beside the file, then renames: the steps after which a power cut leaves the old one or the new one.
fn replace(dir: &Path, path: &Path, artifact: &Artifact) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::Io { what: "written", detail: error.to_string() };
    let bytes = encode::encode(artifact).map_err(|error| failed(error.into()))?;
    if bytes.len() as u64 > ARTIFACT_MAX_BYTES {
        return Err(Problem::TooLarge);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    // The name begins with a dot, so no scan takes it for an artifact. It is random, because process ids repeat in containers and a killed
    // process leaves its file behind.
    let beside = dir.join(format!(".{}.{:016x}.tmp", artifact.account_id, fastrand::u64(..)));
    let outcome = write_synced(&beside, &bytes).and_then(|()| fs::rename(&beside, path)).and_then(|()| File::open(dir)?.sync_all());
    if outcome.is_err() {
        // Where even that fails, the error that counts is the first one.
        let _ = fs::remove_file(&beside);
    }
    outcome.map_err(failed)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    file.sync_all()
}
