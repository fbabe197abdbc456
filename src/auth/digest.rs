//! SHA-256 that leaves nothing behind. OpenSSL's own function for a whole text looks the algorithm up in each call, and
//! keeps a list of errors for each thread that calls it, some 2 KiB: for a client's thread as long as the client is there.
//! A rule.

use openssl::sha::Sha256;

/// The SHA-256 of these bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sha = Sha256::new();
    sha.update(bytes);
    sha.finish()
}
