//! The keys of an issuer: read or refused with a reason, each for its own algorithm, and no public key is a secret.
//!
//! Input: a byte that says which algorithm is wanted, then a file.

#![no_main]

use std::time::SystemTime;

use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::Value;
use wsgate::internals::auth::jwk::{Algorithm, KeySet};
use wsgate::internals::auth::jwt::{JwtSettings, verify};

const ALL: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

/// The most keys of a file.
const KEYS_MAX: usize = 32;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let Ok(text) = str::from_utf8(rest) else { return };
    let wanted = ALL.get(usize::from(choice % 5)).copied();
    let keys = match KeySet::parse(text, wanted) {
        Ok(keys) => keys,
        Err(error) => {
            assert!(!error.problem.is_empty() && !error.problem.contains(char::is_control), "{error:?}");
            // Whatever a file holds, the reason is no place to read it.
            let mut keys = text.split_ascii_whitespace().filter(|word| word.len() > 30);
            assert!(!keys.any(|key| error.problem.contains(key)), "{error:?}");
            return;
        }
    };
    let all: Vec<_> = ALL.iter().flat_map(|algorithm| keys.for_token(*algorithm, None)).collect();
    assert!((1..=KEYS_MAX).contains(&all.len()));
    assert!(all.iter().all(|key| keys.holds(&key.digest)));
    // Read again they are the same ones.
    let again = KeySet::parse(text, wanted).expect("it was read before");
    assert!(all.iter().all(|key| again.holds(&key.digest)));
    for other in ALL.iter().filter(|other| wanted.is_some_and(|wanted| wanted != **other)) {
        assert_eq!(keys.for_token(*other, None).count(), 0, "{other:?} was not wanted");
    }
    // A kid leaves out those that have another one, and adds none.
    for algorithm in ALL {
        let named = keys.for_token(algorithm, Some("no key is called so")).count();
        assert!(named <= keys.for_token(algorithm, None).count());
    }
    // The whole file, or a key in it, as if it were the secret: only one that says that it is a secret is.
    let secrets = keys.for_token(Algorithm::Hs256, None).count();
    assert!(secrets == 0 || wanted == Some(Algorithm::Hs256) || has_secret(text), "a secret out of nothing");
    if !text.is_empty() && secrets == 0 {
        let key = PKey::hmac(text.as_bytes()).expect("a key");
        let signed = [r#"{"alg":"HS256"}"#, r#"{"sub":"ada","exp":99999999999}"#]
            .map(|part| BASE64URL_NOPAD.encode(part.as_bytes()))
            .join(".");
        let mut signer = Signer::new(MessageDigest::sha256(), &key).expect("a signer");
        let signature = signer.sign_oneshot_to_vec(signed.as_bytes()).expect("a signature");
        let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature));
        assert!(verify(&token, &keys, &JwtSettings::default(), SystemTime::now()).is_err());
    }
});

/// Whether a JWK set says of one of its keys that it is a secret.
fn has_secret(text: &str) -> bool {
    let set: Value = serde_json::from_str(text).unwrap_or_default();
    let alone = vec![set.clone()];
    let keys = set["keys"].as_array().unwrap_or(&alone);
    keys.iter().any(|key| key["kty"] == "oct")
}
