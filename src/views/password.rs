//! The password of a Redis user, from a file that nobody else can read.

use std::path::Path;

use secrecy::SecretString;

use super::error::ViewsError;
use crate::runtime::secret_file;

/// No password is longer; a larger file is another file.
const SIZE_MAX_BYTES: u64 = 4096;

/// Reads the password, as [`secret_file::read`] does.
///
/// # Errors
/// [`ViewsError::PasswordFile`] where the file cannot be used.
pub(super) fn read(path: &Path) -> Result<SecretString, ViewsError> {
    secret_file::read(path, SIZE_MAX_BYTES).map_err(|error| ViewsError::PasswordFile { path: error.path, reason: error.reason })
}
