//! The folder of artifacts: reading one, all, and replacing one.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ARTIFACTS_MAX, ArtifactError, Fingerprint, Problem, check, encode, file};
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
        let read = file::read(&file, &format!("{account}{ENDING}"));
        let decoded = read.and_then(|bytes| Ok(check::decode(&bytes, account)?));
        decoded.map_err(|problem| ArtifactError { file, problem })
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
        let written = check::check(artifact).map_err(Problem::from).and_then(|()| {
            let bytes = encode::encode(artifact).map_err(|error| Problem::Io { what: "written", detail: error.to_string() })?;
            file::replace(&self.dir, &format!("{}{ENDING}", artifact.account_id), &bytes)
        });
        written.map_err(|problem| ArtifactError { file, problem })
    }

    /// Whether an account has a file, whatever is in it.
    #[must_use]
    pub fn has(&self, account: &str) -> bool {
        check::is_account(account) && fs::symlink_metadata(self.file(account)).is_ok()
    }

    /// Whether nobody else can put files into the folder. A missing one is made.
    ///
    /// # Errors
    /// Where it belongs to somebody else than this process's user or root, where its group or others may write to it, and where it is none.
    pub fn check_folder(&self) -> Result<(), ArtifactError> {
        let checked = file::make_folder(&self.dir).and_then(|()| {
            let metadata = fs::metadata(&self.dir).map_err(|error| Problem::Io { what: "opened", detail: error.to_string() })?;
            let (owner, user, mode) = (metadata.uid(), rustix::process::geteuid().as_raw(), metadata.permissions().mode() & 0o7777);
            if owner != user && owner != 0 {
                return Err(Problem::FolderOwner { owner, user });
            }
            if mode & 0o022 == 0 { Ok(()) } else { Err(Problem::FolderMode { mode }) }
        });
        checked.map_err(|problem| self.of_folder(problem))
    }

    /// Removes what killed processes left half-written for longer than `age`; it may hold secrets. Returns how many there were.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn sweep(&self, age: Duration) -> Result<usize, ArtifactError> {
        let mut swept = 0;
        for entry in self.list()? {
            let entry = entry.map_err(|error| self.unlisted(&error))?;
            let is_old =
                || entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|old| old >= age));
            if file::is_beside(entry.file_name().as_encoded_bytes()) && is_old() && fs::remove_file(entry.path()).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Accounts that have a file, ascending, and files that cannot be one. The folder is bounded.
    fn accounts(&self) -> Result<(Vec<String>, Vec<ArtifactError>), ArtifactError> {
        let (mut accounts, mut problems) = (Vec::new(), Vec::new());
        for entry in self.list()? {
            let name = entry.map_err(|error| self.unlisted(&error))?.file_name();
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(b".") || !bytes.ends_with(ENDING.as_bytes()) {
                continue;
            }
            if accounts.len() + problems.len() == ARTIFACTS_MAX {
                problems.push(self.of_folder(Problem::TooMany(ARTIFACTS_MAX)));
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
        if check::is_account(account) { Ok(self.file(account)) } else { Err(self.of_folder(Problem::Account)) }
    }

    pub(super) fn list(&self) -> Result<fs::ReadDir, ArtifactError> {
        fs::read_dir(&self.dir).map_err(|error| self.unlisted(&error))
    }

    pub(super) fn unlisted(&self, error: &io::Error) -> ArtifactError {
        self.of_folder(match error.kind() {
            io::ErrorKind::NotFound => Problem::MissingFolder,
            _ => Problem::Io { what: "listed", detail: error.to_string() },
        })
    }

    pub(super) fn of_folder(&self, problem: Problem) -> ArtifactError {
        ArtifactError { file: self.dir.clone(), problem }
    }

    fn file(&self, account: &str) -> PathBuf {
        self.dir.join(format!("{account}{ENDING}"))
    }
}
