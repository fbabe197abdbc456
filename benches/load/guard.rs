//! The credentials of a guarded gateway: its files, and what its clients send.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::sha::sha256;

use crate::process::{Guard, Workspace};

const TOKEN: &str = "dGhlIHJpZ2h0IHRva2VuIG9mIHRoaXMgYmVuY2ggcnU";
/// How long the signed token is good.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What clients send in Authorization.
pub(crate) struct Credentials {
    token: String,
    signed: String,
}

impl Credentials {
    /// Makes them, and writes the gateway's files.
    pub(crate) fn write(workspace: &Workspace) -> Result<Credentials, String> {
        let digest = data_encoding::HEXLOWER.encode(&sha256(TOKEN.as_bytes()));
        workspace.write("tokens.txt", &format!("bench-1:{digest}\n"))?;
        let (pem, signed) = es256().map_err(|cause| format!("failed to sign a token: {cause}"))?;
        workspace.write("es256.pem", &String::from_utf8_lossy(&pem))?;
        Ok(Credentials { token: format!("Bearer {TOKEN}"), signed: format!("Bearer {signed}") })
    }

    /// That of a client of this gateway.
    pub(crate) fn of(&self, guard: Guard) -> &str {
        match guard {
            Guard::Tokens => &self.token,
            Guard::Es256 => &self.signed,
        }
    }
}

/// A public key, and a token that is signed with its private one.
fn es256() -> Result<(Vec<u8>, String), ErrorStack> {
    let key = EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims = format!(r#"{{"sub":"bench-1","exp":{}}}"#, (now + A_DAY).as_secs());
    let signed =
        [r#"{"alg":"ES256","typ":"JWT"}"#, &claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let signature = EcdsaSig::sign(&sha256(signed.as_bytes()), &key)?;
    let numbers = [signature.r().to_vec_padded(32)?, signature.s().to_vec_padded(32)?].concat();
    Ok((key.public_key_to_pem()?, format!("{signed}.{}", BASE64URL_NOPAD.encode(&numbers))))
}
