//! Checkpoints: how far long work has got, in a small file, so that the next run goes on there.
//!
//! Invariants: a file is replaced whole or not at all; one of other work is refused, not gone on from.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CommandError, Exit};

const SCHEMA: &str = "convpipe.checkpoint.v1";
/// Larger than any of ours.
const BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Content<T> {
    schema: String,
    /// What the work is, by everything that decides where it goes.
    of: String,
    at: T,
}

/// One checkpoint file.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    of: String,
}

impl Checkpoint {
    /// The file of the work that `of` describes. Nothing is read yet.
    pub(super) fn new(path: &Path, of: String) -> Self {
        Self { path: path.to_owned(), of }
    }

    /// How far the work had got; `None` where there is no file.
    ///
    /// # Errors
    /// With [`Exit::BadData`] where the file is no checkpoint, [`Exit::Usage`] where it is one of other work.
    pub(super) fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, CommandError> {
        let name = self.path.display();
        let unreadable =
            |error: &dyn std::error::Error| CommandError::new(Exit::BadData, format!("{name} is no checkpoint")).caused_by(error);
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&error)),
            Ok(found) if found.len() > BYTES_MAX => return Err(CommandError::new(Exit::BadData, format!("{name} is no checkpoint"))),
            Ok(_) => {}
        }
        let text = fs::read(&self.path).map_err(|error| unreadable(&error))?;
        let content: Content<T> = serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
        if content.schema != SCHEMA || content.of != self.of {
            let message = format!("{name} is the checkpoint of other work: {}", content.of);
            return Err(
                CommandError::new(Exit::Usage, message).hint(format!("this is {}; give another file, or remove it to begin anew", self.of))
            );
        }
        Ok(Some(content.at))
    }

    /// Notes how far the work has got.
    ///
    /// # Errors
    /// With [`Exit::TryLater`] where the file cannot be written; the one before stays.
    pub(super) fn save<T: Serialize>(&self, at: &T) -> Result<(), CommandError> {
        let failed = |error: &dyn std::error::Error| {
            CommandError::new(Exit::TryLater, format!("cannot write the checkpoint {}", self.path.display())).caused_by(error)
        };
        let content = Content { schema: SCHEMA.to_owned(), of: self.of.clone(), at };
        let text = serde_json::to_vec(&content).map_err(|error| failed(&error))?;
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let written = fs::File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&new, &self.path)).map_err(|error| failed(&error))
    }

    /// The work is done: the next run begins anew.
    ///
    /// # Errors
    /// With [`Exit::TryLater`] where the file cannot be removed.
    pub(super) fn remove(&self) -> Result<(), CommandError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(CommandError::new(Exit::TryLater, format!("cannot remove the checkpoint {}", self.path.display())).caused_by(&error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again_by_the_same_work_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        let checkpoint = Checkpoint::new(&path, "replay a.jsonl".to_owned());
        assert_eq!(checkpoint.load::<u64>().unwrap(), None);
        checkpoint.save(&7u64).unwrap();
        checkpoint.save(&8u64).unwrap();
        assert_eq!(checkpoint.load::<u64>().unwrap(), Some(8));
        let other = Checkpoint::new(&path, "replay b.jsonl".to_owned());
        assert_eq!(other.load::<u64>().unwrap_err().exit(), Exit::Usage);
        checkpoint.remove().unwrap();
        checkpoint.remove().unwrap();
        assert_eq!(checkpoint.load::<u64>().unwrap(), None);
        fs::write(&path, "{").unwrap();
        assert_eq!(checkpoint.load::<u64>().unwrap_err().exit(), Exit::BadData);
        assert_eq!(Checkpoint::new(&dir.path().join("no/such"), String::new()).save(&1u64).unwrap_err().exit(), Exit::TryLater);
    }
}
