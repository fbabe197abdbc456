//! The keys that tokens are signed with: a secret, PEM, or a JWK set (RFC 7517). A rule.

use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use openssl::sha::Sha256;
use openssl::sign::{Signer, Verifier};
use openssl::x509::X509;
use serde_json::{Map, Value};

use super::digest::sha256;
use super::file::LineError;

/// The shortest secret, in bytes: one that is shorter than the digest can be guessed (RFC 7518 section 3.2).
const SECRET_MIN: usize = 32;

/// The shortest RSA key, in bits (RFC 7518 section 3.3).
const RSA_BITS_MIN: u32 = 2048;

/// The most keys of one file: a token without a `kid` is tried with each of its algorithm.
const KEYS_MAX: usize = 32;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The algorithm of this name in a token or a key.
    pub fn of_name(name: &str) -> Option<Algorithm> {
        match name {
            "HS256" => Some(Algorithm::Hs256),
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "EdDSA" | "Ed25519" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }
}

/// A key with the only algorithm that it is for.
#[derive(Debug)]
pub struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    material: Material,
    /// Of the key itself. It shows nothing of it.
    pub digest: [u8; 32],
}

/// A key. Its `Debug` shows no secret.
enum Material {
    Secret(Box<[u8]>),
    /// On P-256.
    Curve(EcKey<Public>),
    Public(PKey<Public>),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The keys of a file, at least one.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWK set, public keys or certificates as PEM, or, for HS256, a secret of one line. With an algorithm, keys
    /// for others are left out.
    ///
    /// # Errors
    /// What it holds is none of these, or has no key of the algorithm.
    pub fn parse(text: &str, algorithm: Option<Algorithm>) -> Result<KeySet, LineError> {
        let wrong = |problem: String| LineError { line: None, problem };
        let keys = if text.trim_start().starts_with('{') {
            of_jwks(text).map_err(wrong)?
        } else if text.contains("-----BEGIN ") {
            of_pem(text).map_err(wrong)?
        } else if algorithm == Some(Algorithm::Hs256) {
            vec![of_secret(text.trim_end_matches(['\r', '\n'])).map_err(wrong)?]
        } else {
            let problem = "it is neither PEM nor a JWK set: if it is a secret, write algorithm = \"HS256\"";
            return Err(wrong(problem.to_owned()));
        };
        KeySet::of(keys, algorithm)
    }

    /// Reads the JWK set of a server. Keys that cannot be used are left out, since nobody here can mend them.
    ///
    /// # Errors
    /// It is no JWK set, or has no key of the algorithm that can be used.
    pub fn of_server(text: &str, algorithm: Option<Algorithm>) -> Result<KeySet, LineError> {
        let entries = entries(text).map_err(|problem| LineError { line: None, problem })?;
        let keys = entries.iter().filter_map(|entry| entry.as_object().and_then(|entry| of_jwk(entry).ok().flatten()));
        KeySet::of(keys.collect(), algorithm)
    }

    fn of(mut keys: Vec<Key>, algorithm: Option<Algorithm>) -> Result<KeySet, LineError> {
        let wrong = |problem: String| LineError { line: None, problem };
        keys.retain(|key| algorithm.is_none_or(|wanted| key.algorithm == wanted));
        match keys.len() {
            0 => Err(wrong(
                "it has no key for the signatures HS256, RS256, ES256 or EdDSA, or not for \"algorithm\": check that it \
                 is the file of the issuer"
                    .to_owned(),
            )),
            1..=KEYS_MAX => Ok(KeySet(keys)),
            count => Err(wrong(format!("it has {count} keys, and {KEYS_MAX} are allowed: remove old ones"))),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether another set has the same keys under the same names.
    pub fn is_same_as(&self, other: &KeySet) -> bool {
        let is_in_other = |key: &Key| other.0.iter().any(|one| one.digest == key.digest && one.kid == key.kid);
        self.0.len() == other.0.len() && self.0.iter().all(is_in_other)
    }

    /// The keys that may have signed a token: all of this algorithm, but no key that has another `kid`.
    pub fn for_token(&self, algorithm: Algorithm, kid: Option<&str>) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| match (&key.kid, kid) {
            (Some(own), Some(kid)) => own == kid,
            _ => true,
        };
        self.0.iter().filter(move |key| key.algorithm == algorithm).filter(fits)
    }

    /// Whether one of them is a secret that the issuer has too.
    pub fn has_secret(&self) -> bool {
        self.0.iter().any(|key| matches!(key.material, Material::Secret(_)))
    }

    /// Whether the key with this digest is still there.
    pub fn holds(&self, digest: &[u8; 32]) -> bool {
        self.0.iter().any(|key| key.digest == *digest)
    }
}

impl Key {
    fn secret(secret: &[u8], kid: Option<String>) -> Result<Key, String> {
        if secret.len() < SECRET_MIN {
            return Err(format!(
                "a secret for HS256 has {SECRET_MIN} bytes at least: make one with 'openssl rand -hex 32'"
            ));
        }
        let mut sha = Sha256::new();
        sha.update(b"HS256 ");
        sha.update(secret);
        let material = Material::Secret(secret.into());
        Ok(Key { kid, algorithm: Algorithm::Hs256, material, digest: sha.finish() })
    }

    fn public(key: PKey<Public>, kid: Option<String>) -> Result<Key, String> {
        let algorithm = match key.id() {
            Id::RSA if key.bits() < RSA_BITS_MIN => {
                return Err(format!(
                    "an RSA key of {} bits is too short, {RSA_BITS_MIN} are needed: the issuer has to make a new one",
                    key.bits()
                ));
            }
            Id::RSA => Algorithm::Rs256,
            Id::ED25519 => Algorithm::EdDsa,
            Id::EC if key.ec_key().is_ok_and(|key| key.group().curve_name() == Some(Nid::X9_62_PRIME256V1)) => {
                Algorithm::Es256
            }
            _ => return Err("a key is none for RS256, ES256 (P-256) or EdDSA (Ed25519): remove it".to_owned()),
        };
        let unreadable = |_| "a key cannot be read: copy the file again".to_owned();
        let digest = sha256(&key.public_key_to_der().map_err(unreadable)?);
        let material = match algorithm {
            Algorithm::Es256 => Material::Curve(key.ec_key().map_err(unreadable)?),
            _ => Material::Public(key),
        };
        Ok(Key { kid, algorithm, material, digest })
    }

    /// Whether this signature of these bytes is the key's.
    pub fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.check(signed, signature).unwrap_or(false)
    }

    fn check(&self, signed: &[u8], signature: &[u8]) -> Result<bool, openssl::error::ErrorStack> {
        match (&self.material, self.algorithm) {
            (Material::Secret(secret), _) => {
                let key = PKey::hmac(secret)?;
                let own = Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(signed)?;
                Ok(own.len() == signature.len() && memcmp::eq(&own, signature))
            }
            (Material::Curve(key), _) => {
                // RFC 7518 section 3.4: two numbers of 32 bytes, not DER.
                let Some((r, s)) = signature.split_at_checked(32).filter(|(_, s)| s.len() == 32) else {
                    return Ok(false);
                };
                let signature = EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?;
                signature.verify(&sha256(signed), key)
            }
            (Material::Public(key), Algorithm::EdDsa) => {
                Verifier::new_without_digest(key)?.verify_oneshot(signature, signed)
            }
            (Material::Public(key), _) => {
                Verifier::new(MessageDigest::sha256(), key)?.verify_oneshot(signature, signed)
            }
        }
    }
}

fn of_secret(text: &str) -> Result<Key, String> {
    if text.contains(['\r', '\n']) {
        return Err("a secret is one line of text: make one with 'openssl rand -hex 32'".to_owned());
    }
    Key::secret(text.as_bytes(), None)
}

/// The public keys and certificates in PEM.
fn of_pem(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for block in text.split("-----BEGIN ").skip(1) {
        let label = block.split("-----").next().filter(|label| is_label(label)).unwrap_or_default();
        let pem = format!("-----BEGIN {block}");
        let key = match label {
            "PUBLIC KEY" => PKey::public_key_from_pem(pem.as_bytes()),
            "RSA PUBLIC KEY" => Rsa::public_key_from_pem_pkcs1(pem.as_bytes()).and_then(PKey::from_rsa),
            "CERTIFICATE" => X509::from_pem(pem.as_bytes()).and_then(|certificate| certificate.public_key()),
            _ if label.ends_with("PRIVATE KEY") => {
                let advice = "wsgate needs the public key: 'openssl pkey -in PRIVATE -pubout -out PUBLIC'";
                return Err(format!("it has a private key, which the issuer alone should have; {advice}"));
            }
            "" => return Err("a key in it cannot be read: copy the file again".to_owned()),
            _ => return Err(format!("it has PEM of the kind {label:?}, which is no public key: remove it")),
        };
        keys.push(Key::public(key.map_err(|_| "a key in it cannot be read: copy the file again".to_owned())?, None)?);
    }
    Ok(keys)
}

/// Whether this can say of what kind a piece of PEM is. If the end of its line is broken, what looks like that is the key.
fn is_label(text: &str) -> bool {
    let is_word = |word: &str| word.len() <= 16 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    text.len() <= 40 && text.split(' ').all(is_word)
}

/// The keys of a JWK set, or one JWK. Those for encryption and of kinds that are not known are left out, as RFC 7517
/// section 5 demands.
fn of_jwks(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    for (index, entry) in entries(text)?.iter().enumerate() {
        let key = entry.as_object().ok_or_else(|| "it is no object: copy the file again".to_owned()).and_then(of_jwk);
        keys.extend(key.map_err(|problem| format!("key {} of the set: {problem}", index + 1))?);
    }
    Ok(keys)
}

/// The keys of a JWK set, or one JWK, before they are looked at.
fn entries(text: &str) -> Result<Vec<Value>, String> {
    let mut set: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| format!("it is no JSON: line {}, column {} (is it whole?)", error.line(), error.column()))?;
    match set.remove("keys") {
        Some(Value::Array(entries)) => Ok(entries),
        Some(_) => Err("\"keys\" of a JWK set is a list: copy the file again".to_owned()),
        None if set.contains_key("kty") => Ok(vec![Value::Object(set)]),
        None => {
            let problem =
                "it is JSON, but no JWK set: \"keys\" is missing (take what is at the jwks_uri of the issuer)";
            Err(problem.to_owned())
        }
    }
}

/// A key, if it is one for signatures that are known.
fn of_jwk(jwk: &Map<String, Value>) -> Result<Option<Key>, String> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| {
        let value = text(name).and_then(|value| data_encoding::BASE64URL_NOPAD.decode(value.as_bytes()).ok());
        value.ok_or_else(|| format!("{name:?} is missing, or no base64url: copy the file again"))
    };
    let algorithm = match (text("kty"), text("crv")) {
        (Some("oct"), _) => Algorithm::Hs256,
        (Some("RSA"), _) => Algorithm::Rs256,
        (Some("EC"), Some("P-256")) => Algorithm::Es256,
        (Some("OKP"), Some("Ed25519")) => Algorithm::EdDsa,
        _ => return Ok(None),
    };
    let is_other = text("alg").is_some_and(|name| Algorithm::of_name(name) != Some(algorithm));
    if is_other || text("use").is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    if algorithm != Algorithm::Hs256 && jwk.contains_key("d") {
        return Err("it is a private key, which the issuer alone should have: wsgate needs the public key".to_owned());
    }
    let kid = text("kid").map(str::to_owned);
    let unreadable = |_| "it cannot be read: copy the file again".to_owned();
    let number = |name: &str| BigNum::from_slice(&bytes(name)?).map_err(unreadable);
    let key = match algorithm {
        Algorithm::Hs256 => return Key::secret(&bytes("k")?, kid).map(Some),
        Algorithm::Rs256 => {
            let rsa = Rsa::from_public_components(number("n")?, number("e")?).map_err(unreadable)?;
            PKey::from_rsa(rsa).map_err(unreadable)?
        }
        Algorithm::Es256 => {
            let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).map_err(unreadable)?;
            let (x, y) = (number("x")?, number("y")?);
            let key = EcKey::from_public_key_affine_coordinates(&group, &x, &y);
            key.and_then(PKey::from_ec_key).map_err(unreadable)?
        }
        Algorithm::EdDsa => PKey::public_key_from_raw_bytes(&bytes("x")?, Id::ED25519).map_err(unreadable)?,
    };
    Key::public(key, kid).map(Some)
}
