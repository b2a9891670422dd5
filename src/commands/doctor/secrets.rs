//! The files of secrets that the config names: whether each is there, and this user's alone.

use std::path::Path;

use super::Finding;
use super::Status::{Fail, Warn};
use crate::config::Config;
use crate::runtime::secret_file;

const AREA: &str = "config";
/// Larger than any secret.
const BYTES_MAX: u64 = 16 << 10;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let (redis, record) = (&config.redis, &config.ingest.record);
    let named = [
        ("redis.password_file", &redis.password_file),
        ("redis.reader_password_file", &redis.reader_password_file),
        ("dashboard.token_file", &config.dashboard.token_file),
        ("ingest.record.key_file", &record.key_file),
    ];
    named.into_iter().filter_map(|(key, path)| Some(of(key, path.as_deref()?))).collect()
}

fn of(key: &str, path: &Path) -> Finding {
    match secret_file::read(path, BYTES_MAX) {
        Ok(_) => Finding::ok(AREA, key, format!("{}: nobody else can read it", path.display())),
        // The writer's password has no business on a machine where only people read.
        Err(_) if !path.exists() => {
            let found = format!("{} is not there", path.display());
            Finding::bad(AREA, key, Warn, found, "what needs it does not start here; elsewhere is as well")
        }
        Err(error) => Finding::bad(AREA, key, Fail, error.to_string(), "see docs/security.md for what a file of a secret has to be"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Status::Ok;
    use super::*;

    #[test]
    fn a_secret_is_there_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        assert!(examine(&config).is_empty());
        config.redis.password_file = Some(dir.path().join("none"));
        for (mode, content, expected) in [(0o600, "secret", Ok), (0o644, "secret", Fail), (0o600, "", Fail)] {
            let file = dir.path().join(format!("{mode:o}{content}"));
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            config.dashboard.token_file = Some(file);
            let statuses: Vec<_> = examine(&config).iter().map(|finding| finding.status).collect();
            assert_eq!(statuses, [Warn, expected], "{mode:o} {content}");
        }
    }
}
