//! What `wsgate --version` says: enough to tell two builds apart.

use std::sync::LazyLock;

/// The version, the commit that it was built from, the features that the package was built with, and the OpenSSL that
/// is in use, which may be newer than the one at the build.
pub(super) fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{}\ncommit: {}\nfeatures: {}\nOpenSSL: {}",
            env!("CARGO_PKG_VERSION"),
            env!("WSGATE_COMMIT"),
            env!("WSGATE_FEATURES"),
            openssl::version::version(),
        )
    });
    &LONG
}
