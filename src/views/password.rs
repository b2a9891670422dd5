//! A password from a file that nobody else can read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use secrecy::SecretString;

use super::error::ViewsError;

/// No password is longer; a larger file is another file.
const SIZE_MAX_BYTES: u64 = 4096;

/// Reads the password: the file's text without line ends at its end. It stays out of every log and error.
///
/// # Errors
/// [`ViewsError::PasswordFile`] where the file is missing, a symlink, not a regular file, somebody else's, readable by group or others (but for a
/// credential of systemd), empty, larger than 4 KiB or not UTF-8.
pub(super) fn read(path: &Path) -> Result<SecretString, ViewsError> {
    read_checked(path).map_err(|reason| ViewsError::PasswordFile { path: path.to_owned(), reason })
}

fn read_checked(path: &Path) -> Result<SecretString, String> {
    // NONBLOCK: opening a pipe by this name must not hang.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| match e {
        rustix::io::Errno::LOOP => "it is a symlink; name the file itself".to_owned(),
        other => std::io::Error::from(other).to_string(),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(|e| e.to_string())?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err("it is not a regular file".into());
    }
    check_access(stat.st_uid, stat.st_mode & 0o777, rustix::process::geteuid().as_raw())?;
    let mut text = String::new();
    File::from(file).take(SIZE_MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > SIZE_MAX_BYTES {
        return Err(format!("it is larger than {SIZE_MAX_BYTES} bytes"));
    }
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err("it is empty".into());
    }
    Ok(SecretString::from(password))
}

/// Whether nobody but us and root can read a file of this owner and mode.
fn check_access(owner: u32, mode: u32, us: u32) -> Result<(), String> {
    if owner != us && owner != 0 {
        return Err(format!("it belongs to user {owner}, not to {us}"));
    }
    // A credential that systemd hands to a service of another user is root's, and lets that one user in by an ACL, which shows as 0440.
    let is_credential = owner == 0 && mode == 0o440;
    if mode & 0o077 != 0 && !is_credential {
        return Err(format!("its mode is {mode:04o}, so others can read it; chmod 0600"));
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
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("password");
        for (content, mode, expected) in [
            ("secret\n", 0o600, Ok("secret")),
            ("sec ret", 0o400, Ok("sec ret")),
            ("secret", 0o640, Err("chmod 0600")),
            ("secret", 0o604, Err("chmod 0600")),
            ("\n", 0o600, Err("empty")),
            (&*"x".repeat(5000), 0o600, Err("larger")),
        ] {
            let _ = std::fs::remove_file(&file);
            std::fs::write(&file, content).expect("written");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("mode set");
            match (read(&file), expected) {
                (Ok(password), Ok(expected)) => assert_eq!(password.expose_secret(), expected),
                (Err(error), Err(expected)) => {
                    let text = error.to_string();
                    assert!(text.contains(expected) && !text.contains("secret"), "{text}");
                }
                (got, expected) => panic!("mode {mode:o}: {got:?}, expected {expected:?}"),
            }
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert!(read(&link).expect_err("a symlink").to_string().contains("symlink"));
        assert!(read(dir.path()).expect_err("a folder").to_string().contains("regular"));
        assert!(read(&dir.path().join("none")).is_err());
    }

    #[test]
    fn it_belongs_to_us_or_to_root_who_may_let_us_in() {
        let us = 1000;
        for (owner, mode, expected) in [
            (us, 0o600, ""),
            (us, 0o400, ""),
            (0, 0o600, ""),
            (0, 0o440, ""),
            (us, 0o440, "chmod 0600"),
            (0, 0o640, "chmod 0600"),
            (0, 0o444, "chmod 0600"),
            (1001, 0o600, "belongs to user 1001"),
        ] {
            let refused = check_access(owner, mode, us).err().unwrap_or_default();
            assert_eq!((refused.is_empty(), refused.contains(expected)), (expected.is_empty(), true), "{owner} {mode:o}: {refused}");
        }
    }
}
