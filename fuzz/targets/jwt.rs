//! Signed tokens: who is let in has a token that a naive check lets in too, and nobody has made one without the key.
//!
//! Input: a byte that says how the rest is meant. A whole token; or header and claims, with a line between them, that are
//! signed; or what to change in a token that is good.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{Map, Value};
use wsgate::internals::auth::jwk::KeySet;
use wsgate::internals::auth::jwt::{JwtSettings, verify};

const SECRET: &[u8] = b"a secret that is as long as it has to be";
const NOW: u64 = 1_800_000_000;
const LEEWAY: u64 = 10;

/// A key of each kind; of all but the first nobody has the private half.
const KEYS: &str = r#"{"keys":[
    {"kty":"oct","kid":"own","k":"YSBzZWNyZXQgdGhhdCBpcyBhcyBsb25nIGFzIGl0IGhhcyB0byBiZQ"},
    {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
]}"#;

static SET: LazyLock<KeySet> = LazyLock::new(|| KeySet::parse(KEYS, None).expect("good keys"));

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let settings = settings(choice >> 2);
    match choice % 4 {
        0 => of_nobody(&String::from_utf8_lossy(rest), &settings),
        1 | 2 => of_the_issuer(rest, &settings),
        _ => changed(rest, &settings),
    }
});

fn settings(choice: u8) -> JwtSettings {
    let some = |bit: u8, texts: &[&str]| match choice & bit {
        0 => Vec::new(),
        _ => texts.iter().map(|text| (*text).to_owned()).collect(),
    };
    JwtSettings {
        algorithm: None,
        issuers: some(1, &["a", "b"]),
        audiences: some(2, &["ws", "gate"]),
        leeway: Duration::from_secs(LEEWAY),
        identity_from: if choice & 4 == 0 { "sub" } else { "name" }.to_owned(),
        claims: Vec::new(),
    }
}

fn is_good(token: &str, settings: &JwtSettings) -> bool {
    match verify(token, &SET, settings, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)) {
        Ok(verified) => {
            assert!(!verified.left.is_zero());
            assert_eq!(verified.claims.get(&settings.identity_from).and_then(Value::as_str), Some(&*verified.name));
            true
        }
        Err(flaw) => {
            assert!(!flaw.is_empty());
            false
        }
    }
}

fn sign(signed: &str) -> String {
    let key = PKey::hmac(SECRET).expect("a key");
    let mut signer = Signer::new(MessageDigest::sha256(), &key).expect("a signer");
    BASE64URL_NOPAD.encode(&signer.sign_oneshot_to_vec(signed.as_bytes()).expect("a signature"))
}

/// Bytes of somebody who has no key: a good token among them was signed with ours all the same.
fn of_nobody(token: &str, settings: &JwtSettings) {
    if is_good(token, settings) {
        let (signed, signature) = token.rsplit_once('.').expect("it has parts");
        assert_eq!(signature, sign(signed), "{token}");
    }
}

/// A token with this header and these claims.
fn of_the_issuer(data: &[u8], settings: &JwtSettings) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, claims) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let signed = [header, claims].map(|part| BASE64URL_NOPAD.encode(part)).join(".");
    let token = format!("{signed}.{}", sign(&signed));
    assert_eq!(is_good(&token, settings), is_good_naively(header, claims, settings), "{}", String::from_utf8_lossy(data));
    // With the same claims, and no signature or another one.
    for signature in ["", "AA", &sign("another text")] {
        assert!(!is_good(&format!("{signed}.{signature}"), settings));
    }
}

/// The rules one by one, as they are written.
fn is_good_naively(header: &[u8], claims: &[u8], settings: &JwtSettings) -> bool {
    let object = |bytes: &[u8]| serde_json::from_slice::<Map<String, Value>>(bytes).ok();
    let (Some(header), Some(claims)) = (object(header), object(claims)) else { return false };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| claims.get(name).map(Value::as_f64);
    let is_one_of = |value: &Value, known: &[String]| known.iter().any(|known| value == known);
    let (now, leeway) = (NOW as f64, LEEWAY as f64);
    let is_of_key = text(header.get("alg")).as_deref() == Some("HS256")
        && !header.contains_key("crit")
        && (!header.contains_key("kid") || text(header.get("kid")).as_deref() == Some("own"));
    let is_in_time = matches!(number("exp"), Some(Some(end)) if now < end + leeway)
        && matches!(number("nbf"), None | Some(Some(_)))
        && !matches!(number("nbf"), Some(Some(from)) if now + leeway < from);
    let is_of_issuer = settings.issuers.is_empty()
        || claims.get("iss").is_some_and(|issuer| is_one_of(issuer, &settings.issuers));
    let is_for_us = match claims.get("aud") {
        None | Some(Value::Null) => settings.audiences.is_empty(),
        Some(Value::Array(all)) => all.iter().any(|audience| is_one_of(audience, &settings.audiences)),
        Some(audience) => is_one_of(audience, &settings.audiences),
    };
    let name = text(claims.get(&settings.identity_from)).unwrap_or_default();
    let is_name = !name.is_empty() && name.len() <= 256 && name.trim() == name && !name.chars().any(is_odd);
    is_of_key && is_in_time && is_of_issuer && is_for_us && is_name
}

/// Control characters, and those that are not seen or turn the text around.
fn is_odd(c: char) -> bool {
    matches!(
        c as u32,
        0..32 | 0x7f..0xa0 | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
    )
}

/// A good token in which something is different is no good one.
fn changed(data: &[u8], settings: &JwtSettings) {
    let claims = format!(r#"{{"sub":"ada","name":"ada","iss":"a","aud":["ws"],"exp":{}}}"#, NOW + 60);
    let claims = if settings.audiences.is_empty() { claims.replace(r#""aud":["ws"],"#, "") } else { claims };
    let signed = [r#"{"alg":"HS256"}"#, &claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let good = format!("{signed}.{}", sign(&signed));
    assert!(is_good(&good, settings));
    let mut token = good.clone().into_bytes();
    for pair in data.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % (token.len() + 1);
        match (pair[2], at < token.len()) {
            (0x80, true) => drop(token.remove(at)),
            (0x81, true) => token.truncate(at),
            (byte, true) if byte < 0x80 => token[at] = byte,
            (byte, _) => token.insert(at, byte & 0x7f),
        }
    }
    let token = String::from_utf8(token).expect("it is ASCII");
    assert!(token == good || !is_good(&token, settings), "{token}");
}
