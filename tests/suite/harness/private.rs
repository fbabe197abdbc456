//! Where secrets are safe from all other users, wherever the tests run.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

/// A new directory that only its owner can enter, and that is removed when it is dropped. wsgate does not warn about
/// secrets in its files.
pub(crate) fn private_directory() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}
