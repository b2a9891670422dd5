//! A secret from a file that nobody else can read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

/// The file cannot be used as a secret; says nothing of what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct SecretFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// Reads the secret: the file's text without line ends at its end. It stays out of every log and error.
///
/// # Errors
/// Where the file is missing, a symlink, not a regular file, somebody else's, readable by group or others (but for a credential of systemd), empty,
/// larger than `size_max_bytes` or not UTF-8.
pub fn read(path: &Path, size_max_bytes: u64) -> Result<SecretString, SecretFileError> {
    read_checked(path, size_max_bytes).map_err(|reason| SecretFileError { path: path.to_owned(), reason })
}

fn read_checked(path: &Path, size_max_bytes: u64) -> Result<SecretString, String> {
    // NONBLOCK: opening a pipe by this name must not hang.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        rustix::io::Errno::LOOP => "is a symlink; name the file itself".to_owned(),
        other => std::io::Error::from(other).to_string(),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(|error| error.to_string())?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err("is not a regular file".to_owned());
    }
    check_access(stat.st_uid, stat.st_mode & 0o777, rustix::process::geteuid().as_raw())?;
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(size_max_bytes + 1).unwrap_or(0)));
    // The system's message does not repeat what it read.
    File::from(file).take(size_max_bytes + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > size_max_bytes {
        return Err(format!("is larger than {size_max_bytes} bytes"));
    }
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err("is empty".to_owned()),
        secret => Ok(SecretString::from(secret)),
    }
}

/// Whether nobody but us and root can read a file of this owner and mode.
fn check_access(owner: u32, mode: u32, us: u32) -> Result<(), String> {
    if owner != us && owner != 0 {
        return Err(format!("belongs to user {owner}, not to {us}"));
    }
    // A credential that systemd hands to a service of another user is root's, and lets that one user in by an ACL, which shows as 0440.
    let is_credential = owner == 0 && mode == 0o440;
    if mode & 0o077 != 0 && !is_credential {
        return Err(format!("has mode {mode:04o}, so others can read it; chmod 0600"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn only_a_private_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("header");
        for (content, mode, expected) in [
            ("Bearer canary\n", 0o600, Ok("Bearer canary")),
            ("canary", 0o400, Ok("canary")),
            ("canary", 0o640, Err("chmod 0600")),
            ("canary", 0o604, Err("chmod 0600")),
            ("\n", 0o600, Err("empty")),
            (&*"canary".repeat(4000), 0o600, Err("larger")),
        ] {
            let _ = std::fs::remove_file(&file);
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            // Root's 0440 is a credential, but root's 0640 is not.
            match (read(&file, 16 << 10), expected) {
                (Ok(secret), Ok(expected)) => assert_eq!(secret.expose_secret(), expected),
                (Err(error), Err(expected)) => {
                    let text = error.to_string();
                    assert!(text.contains(expected) && !text.contains("canary"), "{text}");
                }
                (got, expected) => panic!("mode {mode:o}: {got:?}, expected {expected:?}"),
            }
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(read(&link, 99).unwrap_err().to_string().contains("symlink"));
        assert!(read(dir.path(), 99).unwrap_err().to_string().contains("regular"));
        assert!(read(&dir.path().join("none"), 99).is_err());
    }

    #[test]
    fn it_belongs_to_us_or_to_root_who_may_let_us_in() {
        for (owner, mode, expected) in [
            (1000, 0o600, ""),
            (1000, 0o400, ""),
            (0, 0o600, ""),
            (0, 0o440, ""),
            (1000, 0o440, "chmod 0600"),
            (0, 0o640, "chmod 0600"),
            (0, 0o444, "chmod 0600"),
            (1001, 0o600, "belongs to user 1001"),
        ] {
            let refused = check_access(owner, mode, 1000).err().unwrap_or_default();
            assert_eq!((refused.is_empty(), refused.contains(expected)), (expected.is_empty(), true), "{owner} {mode:o}: {refused}");
        }
    }
}
