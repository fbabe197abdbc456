//! Signed tokens as a test wants them, right or wrong.

use std::time::SystemTime;

use data_encoding::BASE64URL_NOPAD;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::sign::Signer;

/// A token with this header and these claims, and this signature.
pub(crate) fn signed_by(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let signature = BASE64URL_NOPAD.encode(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// The signature of HS256 with this secret.
pub(crate) fn hs256(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> + use<> {
    rs256(&PKey::hmac(secret).unwrap())
}

/// The signature of RS256 with this key.
pub(crate) fn rs256(key: &PKeyRef<Private>) -> impl Fn(&[u8]) -> Vec<u8> + use<> {
    let key = key.to_owned();
    move |signed| {
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        signer.sign_oneshot_to_vec(signed).unwrap()
    }
}

/// The time of a claim, so many seconds from now.
pub(crate) fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_secs() as i64 + seconds
}
