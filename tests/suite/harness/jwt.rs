//! Signed tokens as a test wants them, right or wrong.

use std::time::SystemTime;

use data_encoding::BASE64URL_NOPAD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

/// A token with this header and these claims, signed with this secret as HS256 does.
pub(crate) fn signed(header: &str, claims: &str, secret: &[u8]) -> String {
    let signed = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let key = PKey::hmac(secret).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    let signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// The time of a claim, so many seconds from now.
pub(crate) fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_secs() as i64 + seconds
}
