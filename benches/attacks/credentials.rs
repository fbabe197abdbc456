//! The ways to authenticate of the gateway under attack, and credentials that are wrong for them.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::nid::Nid;
use openssl::pkey::Private;
use openssl::sha::sha256;

use crate::process::Workspace;

/// What `htpasswd -C 10` takes for a hash.
const BCRYPT_COST: u32 = 10;
/// How long signed tokens are good.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The tables of the configuration; the files are those that [`Credentials::write`] makes.
pub(crate) const SECTIONS: &str = r#"
[[auth]]
name = "tokens"
kind = "tokens"
file = "tokens.txt"

[[auth]]
name = "passwords"
kind = "basic"
file = "users.txt"

[[auth]]
name = "signed"
kind = "jwt"
file = "jwks.json"

[[endpoint]]
path = "/tokens"
auth = ["tokens"]

[[endpoint]]
path = "/passwords"
auth = ["passwords"]

[[endpoint]]
path = "/signed"
auth = ["signed"]
"#;

/// What is wrong with a credential.
#[derive(Clone, Copy)]
pub(crate) enum Wrong {
    /// A token that is not in the file.
    Token,
    /// Another password of a user that there is.
    Password,
    /// A signed token that names a key which is not in the set.
    UnknownKid,
    /// One that another key has signed.
    Signature,
    /// A token that a service is asked about.
    Asked,
    /// A signed token that names a key which is not in the set at the issuer's URL.
    UnknownKidOfIssuer,
}

impl Wrong {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Wrong::Token => "wrong tokens",
            Wrong::Password => "wrong passwords",
            Wrong::UnknownKid => "JWTs with an unknown kid",
            Wrong::Signature => "JWTs with a wrong signature",
            Wrong::Asked => "tokens for a service that never answers",
            Wrong::UnknownKidOfIssuer => "JWTs with a kid that the set at a URL lacks",
        }
    }

    /// The path of the endpoint that asks for it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Wrong::Token => "/tokens",
            Wrong::Password => "/passwords",
            Wrong::UnknownKid | Wrong::Signature => "/signed",
            Wrong::Asked => "/asked",
            Wrong::UnknownKidOfIssuer => "/issued",
        }
    }
}

/// Makes credentials that are wrong.
pub(crate) struct Credentials {
    /// A key that is not in the set.
    foreign: EcKey<Private>,
    /// When signed tokens end, in seconds since 1970.
    expires: u64,
}

impl Credentials {
    /// Writes the files of the gateway.
    pub(crate) fn write(workspace: &Workspace) -> Result<Credentials, String> {
        let digest = data_encoding::HEXLOWER.encode(&sha256(b"the right token"));
        workspace.write("tokens.txt", &format!("press-3:{digest}\n"))?;
        let hash = bcrypt::hash("the right password", BCRYPT_COST);
        let hash = hash.map_err(|cause| format!("failed to hash a password: {cause}"))?;
        workspace.write("users.txt", &format!("ada:{hash}\n"))?;
        let failed = |cause| format!("failed to make a key: {cause}");
        workspace.write("jwks.json", &jwk_set().map_err(failed)?)?;
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1);
        let foreign = group.and_then(|group| EcKey::generate(&group)).map_err(failed)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Credentials { foreign, expires: (now + A_DAY).as_secs() })
    }

    /// What stands in Authorization; each number has another one.
    pub(crate) fn wrong(&self, wrong: Wrong, number: u64) -> Result<String, String> {
        match wrong {
            // As long as a right one.
            Wrong::Token | Wrong::Asked => Ok(format!("Bearer {number:043}")),
            Wrong::Password => {
                let user = format!("ada:wrong {number}");
                Ok(format!("Basic {}", data_encoding::BASE64.encode(user.as_bytes())))
            }
            Wrong::UnknownKid | Wrong::UnknownKidOfIssuer => self.jwt(&format!("k{number}"), number),
            Wrong::Signature => self.jwt("k", number),
        }
        .map_err(|cause: openssl::error::ErrorStack| format!("failed to sign a token: {cause}"))
    }

    fn jwt(&self, kid: &str, number: u64) -> Result<String, openssl::error::ErrorStack> {
        let header = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{kid}"}}"#);
        let claims = format!(r#"{{"sub":"eve-{number}","exp":{}}}"#, self.expires);
        let signed = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
        let signature = EcdsaSig::sign(&sha256(signed.as_bytes()), &self.foreign)?;
        let both = [padded(signature.r())?, padded(signature.s())?].concat();
        Ok(format!("Bearer {signed}.{}", BASE64URL_NOPAD.encode(&both)))
    }
}

/// A set with one key, called "k".
pub(crate) fn jwk_set() -> Result<String, openssl::error::ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = EcKey::generate(&group)?;
    let (mut x, mut y, mut context) = (BigNum::new()?, BigNum::new()?, BigNumContext::new()?);
    key.public_key().affine_coordinates(&group, &mut x, &mut y, &mut context)?;
    let [x, y] = [padded(&x)?, padded(&y)?].map(|number| BASE64URL_NOPAD.encode(&number));
    Ok(format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256","x":"{x}","y":"{y}"}}]}}"#))
}

/// A number of P-256, as JOSE writes it.
fn padded(number: &openssl::bn::BigNumRef) -> Result<Vec<u8>, openssl::error::ErrorStack> {
    number.to_vec_padded(32)
}
