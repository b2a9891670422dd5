//! The Redis users: one that writes, one that reads, nobody else.

use secrecy::{ExposeSecret, SecretString};

/// The template, `scripts/redis.acl`: who may do what.
pub const TEMPLATE: &str = include_str!("../../scripts/redis.acl");

/// User of the snapshot service.
pub const SNAPSHOT_USER: &str = "convpipe-snapshot";
/// User of everything that reads.
pub const READER_USER: &str = "convpipe-reader";

/// That a password cannot stand in an ACL file, which knows no quoting: a blank in it would end it, and what follows would be rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password for Redis is 1 to 512 visible ASCII characters")]
pub struct UnusablePassword;

/// The ACL file with both passwords put in. It holds them in the clear: write it with mode 0600.
///
/// # Errors
/// [`UnusablePassword`] for one that is empty, longer than 512 bytes, or has other than visible ASCII characters.
pub fn render(snapshot_password: &SecretString, reader_password: &SecretString) -> Result<String, UnusablePassword> {
    let (snapshot, reader) = (snapshot_password.expose_secret(), reader_password.expose_secret());
    for password in [snapshot, reader] {
        let visible = password.bytes().all(|b| b.is_ascii_graphic());
        if password.is_empty() || password.len() > 512 || !visible {
            return Err(UnusablePassword);
        }
    }
    let mut rendered = String::with_capacity(TEMPLATE.len() + snapshot.len() + reader.len());
    for line in TEMPLATE.lines().filter(|line| !line.starts_with('#')) {
        // Each line holds one placeholder at most, so a password that looks like the other one is not replaced again.
        let line = match line.contains(">SNAPSHOT_PASSWORD ") {
            true => line.replacen("SNAPSHOT_PASSWORD", snapshot, 1),
            false => line.replacen("READER_PASSWORD", reader, 1),
        };
        rendered.push_str(&line);
        rendered.push('\n');
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_cannot_become_rights() {
        let good = SecretString::from("abc");
        for bad in ["", "a b", "a\nuser x on nopass", "é", &"x".repeat(513)] {
            let bad = SecretString::from(bad);
            assert_eq!(render(&bad, &good), Err(UnusablePassword));
            assert_eq!(render(&good, &bad), Err(UnusablePassword));
        }
        let text = render(&SecretString::from("READER_PASSWORD"), &SecretString::from("two")).expect("usable");
        assert!(text.contains("user convpipe-snapshot on >READER_PASSWORD ") && text.contains("user convpipe-reader on >two "), "{text}");
        assert!(!text.contains('#') && text.lines().all(|line| line.starts_with("user ")), "{text}");
    }
}
