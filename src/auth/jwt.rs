//! The kind `jwt`: signed tokens (RFC 7515, RFC 7519), as far as gateways need them. A rule: the time is passed in.
//!
//! The crate `jsonwebtoken` would need a crypto provider that is global to the process, which nothing here is, and a
//! handful of further crates. What is left beside the signatures, which OpenSSL checks, are the lines below; and they
//! know one algorithm for each key, so that a token cannot choose another one.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use super::jwk::{Algorithm, KeySet};
use crate::identity::is_name;

/// What a token must say, beside its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSettings {
    /// The only algorithm that is taken; `None`: each key's own.
    pub algorithm: Option<Algorithm>,
    /// The issuers that are taken; empty: any.
    pub issuers: Vec<String>,
    /// Who the token must be for, one of these. Empty: it must be for nobody in particular.
    pub audiences: Vec<String>,
    /// How wrong the clocks of issuers may be. Default 10 s.
    pub leeway: Duration,
    /// The claim that is the identity. Default `sub`.
    pub identity_from: String,
    /// The claims that messages and events have.
    pub claims: Vec<String>,
}

impl Default for JwtSettings {
    fn default() -> JwtSettings {
        JwtSettings {
            algorithm: None,
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Duration::from_secs(10),
            identity_from: "sub".to_owned(),
            claims: Vec::new(),
        }
    }
}

/// A token that is good.
#[derive(Debug)]
pub struct Verified {
    /// Whose it is.
    pub name: String,
    /// All that it says.
    pub claims: Map<String, Value>,
    /// For how long it still is good.
    pub left: Duration,
    /// The digest of the key that has signed it.
    pub key: [u8; 32],
}

/// Why a token is not good, for the log: it goes on after "it ".
pub type Flaw = &'static str;

/// No key can have signed it; perhaps the issuer has newer ones.
pub const NO_KEY: Flaw = "names an algorithm or a kid that no key has";

/// Judges a token at this time.
pub fn verify(token: &str, keys: &KeySet, settings: &JwtSettings, now: SystemTime) -> Result<Verified, Flaw> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("is no JWT of three parts");
    };
    let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
    let header = object(header).ok_or("has a header that is no JSON in base64url")?;
    let signature = decoded(signature).ok_or("has a signature that is no base64url")?;
    // RFC 7515 section 4.1.11: whoever does not understand an extension must refuse it, and none is understood here.
    if header.contains_key("crit") {
        return Err("has extensions that must be understood (crit)");
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::of_name);
    let algorithm = algorithm.ok_or("is not signed with HS256, RS256, ES256 or EdDSA")?;
    let kid = match header.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().ok_or("has a kid that is no text")?),
    };
    let mut candidates = keys.for_token(algorithm, kid).peekable();
    if candidates.peek().is_none() {
        return Err(NO_KEY);
    }
    let key = candidates.find(|key| key.has_signed(signed, &signature)).ok_or("has a wrong signature")?;
    let claims = object(payload).ok_or("has claims that are no JSON in base64url")?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let left = judge_claims(&claims, settings, now)?;
    let name = claims.get(&settings.identity_from).and_then(Value::as_str).filter(|name| is_name(name));
    let name = name.ok_or("has no name in the claim of identity_from")?.to_owned();
    Ok(Verified { name, claims, left, key: key.digest })
}

/// For how long these claims hold.
fn judge_claims(claims: &Map<String, Value>, settings: &JwtSettings, now: f64) -> Result<Duration, Flaw> {
    let leeway = settings.leeway.as_secs_f64();
    let date = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(date) => date.as_f64().map(Some).ok_or("has a date that is no number"),
    };
    let left = date("exp")?.ok_or("has no end (exp)")? + leeway - now;
    if left <= 0.0 {
        return Err("has expired");
    }
    if date("nbf")?.is_some_and(|from| from - leeway > now) {
        return Err("is not valid yet");
    }
    let is_issued = |issuer: &Value| settings.issuers.iter().any(|known| issuer.as_str() == Some(known));
    if !settings.issuers.is_empty() && !claims.get("iss").is_some_and(is_issued) {
        return Err("is of another issuer");
    }
    let is_for_us = |audience: &Value| settings.audiences.iter().any(|own| audience.as_str() == Some(own));
    let is_for_us = match claims.get("aud") {
        // RFC 7519 section 4.1.3: one that is for somebody is for nobody else.
        None | Some(Value::Null) => settings.audiences.is_empty(),
        Some(Value::Array(audiences)) => audiences.iter().any(is_for_us),
        Some(audience) => is_for_us(audience),
    };
    if !is_for_us {
        return Err("is for another audience");
    }
    // A date that is too far away for a duration is as good as one in a thousand years.
    Ok(Duration::try_from_secs_f64(left).unwrap_or(Duration::from_secs(1 << 35)))
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(part.as_bytes()).ok()
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&decoded(part)?).ok()
}

#[cfg(test)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::ecdsa::EcdsaSig;
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::rsa::Rsa;
    use openssl::sha::sha256;
    use openssl::sign::Signer;

    use super::*;

    const SECRET: &str = "a-secret-of-more-than-32-bytes-of-ascii";
    const NOW: u64 = 1_800_000_000;

    struct Maker {
        rsa: PKey<Private>,
        ec: EcKey<Private>,
        ed: PKey<Private>,
    }

    impl Maker {
        fn new() -> Maker {
            let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
            Maker {
                rsa: PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
                ec: EcKey::generate(&group).unwrap(),
                ed: PKey::generate_ed25519().unwrap(),
            }
        }

        fn pem(&self) -> String {
            let ec = PKey::from_ec_key(self.ec.clone()).unwrap();
            let pems = [&self.rsa, &ec, &self.ed].map(|key| key.public_key_to_pem().unwrap());
            String::from_utf8(pems.concat()).unwrap()
        }

        fn sign(&self, header: &str, payload: &str, with: &str) -> String {
            let signed = [header, payload].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
            let hmac = |key: &[u8]| {
                let key = PKey::hmac(key).unwrap();
                Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(signed.as_bytes()).unwrap()
            };
            let signature = match with {
                "RS256" => {
                    let mut signer = Signer::new(MessageDigest::sha256(), &self.rsa).unwrap();
                    signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap()
                }
                "ES256" => {
                    let signature = EcdsaSig::sign(&sha256(signed.as_bytes()), &self.ec).unwrap();
                    let [r, s] = [signature.r(), signature.s()].map(|number| number.to_vec_padded(32).unwrap());
                    [r, s].concat()
                }
                "EdDSA" => {
                    Signer::new_without_digest(&self.ed).unwrap().sign_oneshot_to_vec(signed.as_bytes()).unwrap()
                }
                "HS256" => hmac(SECRET.as_bytes()),
                "public" => hmac(self.pem().as_bytes()),
                _ => Vec::new(),
            };
            format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    #[test]
    fn each_algorithm_is_that_of_its_key_alone() {
        let maker = Maker::new();
        let public = KeySet::parse(&maker.pem(), None).unwrap();
        let secret = KeySet::parse(SECRET, Some(Algorithm::Hs256)).unwrap();
        let payload = format!(r#"{{"sub":"ada","exp":{}}}"#, NOW + 60);
        let settings = JwtSettings::default();
        for (named, with, keys, expected) in [
            ("RS256", "RS256", &public, Ok(())),
            ("ES256", "ES256", &public, Ok(())),
            ("EdDSA", "EdDSA", &public, Ok(())),
            ("HS256", "HS256", &secret, Ok(())),
            ("none", "none", &public, Err("is not signed with HS256, RS256, ES256 or EdDSA")),
            ("None", "none", &public, Err("is not signed with HS256, RS256, ES256 or EdDSA")),
            ("RS512", "RS256", &public, Err("is not signed with HS256, RS256, ES256 or EdDSA")),
            ("rs256", "RS256", &public, Err("is not signed with HS256, RS256, ES256 or EdDSA")),
            ("RS256", "none", &public, Err("has a wrong signature")),
            ("RS256", "ES256", &public, Err("has a wrong signature")),
            ("ES256", "EdDSA", &public, Err("has a wrong signature")),
            ("EdDSA", "ES256", &public, Err("has a wrong signature")),
            ("HS256", "public", &public, Err("names an algorithm or a kid that no key has")),
            ("HS256", "public", &secret, Err("has a wrong signature")),
            ("RS256", "HS256", &secret, Err("names an algorithm or a kid that no key has")),
        ] {
            let token = maker.sign(&format!(r#"{{"alg":"{named}"}}"#), &payload, with);
            assert_eq!(verify(&token, keys, &settings, now()).map(drop), expected, "{named} with {with}");
        }
        // Of each part, changed or cut.
        for with in ["RS256", "ES256", "EdDSA"] {
            let token = maker.sign(&format!(r#"{{"alg":"{with}"}}"#), &payload, with);
            let other = maker.sign(&format!(r#"{{"alg":"{with}"}}"#), &payload.replace("ada", "bob"), with);
            let (parts, others): (Vec<_>, Vec<_>) = (token.split('.').collect(), other.split('.').collect());
            for wrong in [
                [parts[0], others[1], parts[2]].join("."),
                token[..token.len() - 2].to_owned(),
                [parts[0], parts[1], ""].join("."),
                [parts[0], parts[1]].join("."),
                format!("{token}."),
                format!("{token}="),
                String::new(),
                "..".to_owned(),
            ] {
                assert!(verify(&wrong, &public, &settings, now()).is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn claims_hold_at_their_time_for_whom_they_are_meant() {
        let maker = Maker::new();
        let keys = KeySet::parse(SECRET, Some(Algorithm::Hs256)).unwrap();
        let open = JwtSettings { leeway: Duration::from_secs(5), ..JwtSettings::default() };
        let strict = JwtSettings {
            issuers: vec!["https://a".into(), "https://b".into()],
            audiences: vec!["ws".into(), "gate".into()],
            identity_from: "name".into(),
            ..open.clone()
        };
        let whole = r#""name":"ada","iss":"https://b","aud":"gate","exp":1800000060"#;
        for (settings, claims, expected) in [
            (&open, r#""sub":"ada","exp":1800000060"#, Ok(65)),
            (&open, r#""sub":"ada","exp":1800000000.5"#, Ok(5)),
            (&open, r#""sub":"ada","exp":1799999996"#, Ok(1)),
            (&open, r#""sub":"ada","exp":1799999995"#, Err("has expired")),
            (&open, r#""sub":"ada","exp":-1"#, Err("has expired")),
            (&open, r#""sub":"ada","exp":1e300"#, Ok(1 << 35)),
            (&open, r#""sub":"ada","exp":"1800000060""#, Err("has a date that is no number")),
            (&open, r#""sub":"ada""#, Err("has no end (exp)")),
            (&open, r#""sub":"ada","exp":1800000060,"nbf":1800000005"#, Ok(65)),
            (&open, r#""sub":"ada","exp":1800000060,"nbf":1800000006"#, Err("is not valid yet")),
            (&open, r#""exp":1800000060"#, Err("has no name in the claim of identity_from")),
            (&open, r#""sub":7,"exp":1800000060"#, Err("has no name in the claim of identity_from")),
            (&open, r#""sub":"a\nb","exp":1800000060"#, Err("has no name in the claim of identity_from")),
            (&open, r#""sub":"ada","exp":1800000060,"aud":"gate""#, Err("is for another audience")),
            (&strict, whole, Ok(65)),
            (&strict, &whole.replace("\"gate\"", "[\"x\",\"ws\"]"), Ok(65)),
            (&strict, &whole.replace("\"gate\"", "[]"), Err("is for another audience")),
            (&strict, &whole.replace("\"gate\"", "\"gates\""), Err("is for another audience")),
            (&strict, &whole.replace("\"aud\":\"gate\",", ""), Err("is for another audience")),
            (&strict, &whole.replace("https://b", "https://c"), Err("is of another issuer")),
            (&strict, &whole.replace("\"iss\":\"https://b\",", ""), Err("is of another issuer")),
        ] {
            let token = maker.sign(r#"{"alg":"HS256","typ":"JWT"}"#, &format!("{{{claims}}}"), "HS256");
            let verified = verify(&token, &keys, settings, now());
            assert_eq!(verified.map(|verified| verified.left.as_secs()), expected, "{claims}");
        }
        for (header, expected) in [
            (r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, "has extensions that must be understood (crit)"),
            (r#"{"alg":"HS256","crit":[]}"#, "has extensions that must be understood (crit)"),
            (r#"{"alg":"HS256","kid":7}"#, "has a kid that is no text"),
            (r#"{"alg":7}"#, "is not signed with HS256, RS256, ES256 or EdDSA"),
            (r#"["HS256"]"#, "has a header that is no JSON in base64url"),
            ("", "has a header that is no JSON in base64url"),
        ] {
            let token = maker.sign(header, r#"{"sub":"ada","exp":1800000060}"#, "HS256");
            assert_eq!(verify(&token, &keys, &open, now()).map(drop), Err(expected), "{header}");
        }
    }
}
