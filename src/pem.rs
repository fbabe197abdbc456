//! PEM files of TLS: the certificates, the private key or the revocation lists in them, and whether they can be used
//! together.
//!
//! OpenSSL would ask the terminal for the passphrase of an encrypted key; here that is an error, so that nothing ever
//! waits for somebody to type.

use std::fmt;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::{X509, X509Crl, X509NameRef, X509VerifyResult};

/// Why a file cannot be used. Shown, it goes on after the name of the file.
#[derive(Debug)]
pub enum PemError {
    /// There is no certificate in it.
    NoCertificate,
    /// What stands between the lines of a certificate is none.
    BadCertificate(ErrorStack),
    /// The server's own certificate is not good any more.
    Expired(String),
    /// No other certificate in the file is that of the issuer of the first.
    NoIssuer(String),
    /// The certificate of this issuer of the first is not good any more since then.
    ExpiredIssuer(String, String),
    /// There is no revocation list in it.
    NoList,
    /// What stands between the lines of a revocation list is none.
    BadList(ErrorStack),
    /// There is no private key in it.
    NoKey,
    /// What stands between the lines of a private key is none.
    BadKey(ErrorStack),
    /// The private key needs a passphrase.
    Encrypted,
    /// The private key belongs to another certificate.
    OtherKey,
    /// The private key belongs to a certificate that is not the first in its file.
    KeyOfLater,
    /// OpenSSL does not use the certificate or the key.
    Refused(ErrorStack),
}

/// The certificates in a file, at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<X509>, PemError> {
    if !holds(pem, "CERTIFICATE-----") {
        return Err(PemError::NoCertificate);
    }
    let certificates = X509::stack_from_pem(pem).map_err(PemError::BadCertificate)?;
    // The library ends at the first beginning that it does not know, and says nothing of what is behind it.
    let ends = count(pem, "-----END CERTIFICATE-----") + count(pem, "-----END TRUSTED CERTIFICATE-----");
    if certificates.is_empty() || certificates.len() < ends {
        return Err(PemError::BadCertificate(ErrorStack::get()));
    }
    Ok(certificates)
}

/// The revocation lists in a file, at least one.
pub fn revocation_lists(pem: &[u8]) -> Result<Vec<X509Crl>, PemError> {
    const BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";
    let begins = pem.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN).map(|(at, _)| at);
    let lists = begins.map(|at| X509Crl::from_pem(&pem[at..])).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(PemError::BadList)?;
    match lists.len() {
        0 => Err(PemError::NoList),
        read if read < count(pem, "-----END X509 CRL-----") => Err(PemError::BadList(ErrorStack::get())),
        _ => Ok(lists),
    }
}

/// The private key in a file.
pub fn private_key(pem: &[u8]) -> Result<PKey<Private>, PemError> {
    // What stands before it is the kind of the key: "RSA PRIVATE KEY-----".
    if !holds(pem, "PRIVATE KEY-----") {
        return Err(PemError::NoKey);
    }
    let mut asked = false;
    let key = PKey::private_key_from_pem_callback(pem, |_| {
        asked = true;
        Ok(0)
    });
    // Of one in a cipher that it does not have, the library does not even ask for the passphrase.
    let is_encrypted = asked || holds(pem, "ENCRYPTED");
    key.map_err(|error| if is_encrypted { PemError::Encrypted } else { PemError::BadKey(error) })
}

fn holds(pem: &[u8], label: &str) -> bool {
    count(pem, label) > 0
}

fn count(pem: &[u8], label: &str) -> usize {
    pem.windows(label.len()).filter(|window| *window == label.as_bytes()).count()
}

/// Whether a server can use the first of these certificates with this key.
pub fn check_pair(certificates: &[X509], key: &PKey<Private>) -> Result<(), PemError> {
    let first = certificates.first().ok_or(PemError::NoCertificate)?;
    let belongs = |certificate: &X509| certificate.public_key().is_ok_and(|public| public.public_eq(key));
    if !belongs(first) {
        return Err(if certificates.iter().any(belongs) { PemError::KeyOfLater } else { PemError::OtherKey });
    }
    // The library has opinions, such as how short a key may be, and tells them only here.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(PemError::Refused)?;
    builder.set_certificate(first).map_err(PemError::Refused)?;
    builder.set_private_key(key).map_err(PemError::Refused)
}

/// Whether clients will get on with a server that shows these certificates, the first as its own.
pub fn check_server(chain: &[X509]) -> Result<(), PemError> {
    let [own, others @ ..] = chain else { return Err(PemError::NoCertificate) };
    let is_over = |one: &X509| Asn1Time::days_from_now(0).is_ok_and(|now| one.not_after() < now);
    if is_over(own) {
        return Err(PemError::Expired(own.not_after().to_string()));
    }
    let has_issued = |other: &X509| {
        other.issued(own) == X509VerifyResult::OK
            && other.public_key().is_ok_and(|key| own.verify(&key).unwrap_or(false))
    };
    if others.is_empty() || has_issued(own) {
        return Ok(());
    }
    let issuers: Vec<&X509> = others.iter().filter(|other| has_issued(other)).collect();
    match issuers.first() {
        None => Err(PemError::NoIssuer(name(own.issuer_name()))),
        Some(first) if issuers.iter().all(|issuer| is_over(issuer)) => {
            Err(PemError::ExpiredIssuer(name(own.issuer_name()), first.not_after().to_string()))
        }
        Some(_) => Ok(()),
    }
}

/// The name of the issuer of a certificate that stands alone, if other clients than browsers probably miss the
/// issuer's: it says where to fetch that one, as certificates of public authorities do.
pub fn lonely(chain: &[X509]) -> Option<String> {
    let [own] = chain else { return None };
    let is_fetched = own.authority_info()?.iter().any(|access| access.method().nid() == Nid::AD_CA_ISSUERS);
    is_fetched.then(|| name(own.issuer_name()))
}

/// Whether a certificate has a name that a client can ask for (SNI): a DNS name among its alternative names.
pub fn has_server_name(certificate: &X509) -> bool {
    certificate.subject_alt_names().iter().flatten().any(|name| name.dnsname().is_some())
}

/// A name in a certificate, for people: `CN=press-3, O=Plant`.
pub fn name(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let text = entry.data().to_string().unwrap_or_default();
        format!("{}={text}", entry.object().nid().short_name().unwrap_or("?"))
    });
    entries.collect::<Vec<_>>().join(", ")
}

/// What is to be said about revocation lists that are not up to date; the text goes on after the name of the file.
pub fn lists_out_of_date(lists: &[X509Crl]) -> Option<String> {
    let now = Asn1Time::days_from_now(0).ok()?;
    let ended = lists.iter().find_map(|list| Some((list, list.next_update().filter(|end| **end < now)?)));
    ended.map(|(list, end)| format!("holds a list of {:?} that expired on {end}", name(list.issuer_name())))
}

/// Which certificate it is, for people: its serial number and until when it is good.
pub fn describe(certificate: &X509) -> String {
    let serial = certificate.serial_number().to_bn().and_then(|number| number.to_hex_str().map(|hex| hex.to_string()));
    format!("{} until {}", serial.unwrap_or_default(), certificate.not_after())
}

/// What is to be said about the time for which these certificates are valid, if today is not in it; the text goes on
/// after the name of the file.
pub fn out_of_date(certificates: &[X509]) -> Option<String> {
    let now = Asn1Time::days_from_now(0).ok()?;
    certificates.iter().find_map(|certificate| {
        let (from, until) = (certificate.not_before(), certificate.not_after());
        if until < now {
            return Some(format!("holds a certificate that expired on {until}"));
        }
        (from > now).then(|| format!("holds a certificate that is not valid before {from}"))
    })
}

/// The last reason is the one that the caller of the library was told.
fn reason(error: &ErrorStack) -> String {
    error.errors().iter().rev().find_map(|error| error.reason()).unwrap_or("it cannot be decoded").to_owned()
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PemError::NoCertificate => f.write_str(
                "holds no certificate in PEM form: check that it is the right file (openssl x509 -inform DER converts one)",
            ),
            PemError::BadCertificate(error) => {
                write!(f, "holds a certificate that cannot be read ({}): copy the file again", reason(error))
            }
            PemError::Expired(end) => {
                write!(f, "holds a certificate that expired on {end}: renew it, or check the clock of this machine")
            }
            PemError::NoIssuer(issuer) => write!(
                f,
                "holds certificates behind the server's own, but not that of its issuer {issuer:?}: put the \
                 intermediate certificate of that name second"
            ),
            PemError::ExpiredIssuer(issuer, end) => write!(
                f,
                "holds a certificate of the server's issuer {issuer:?} that expired on {end}: put the renewed one of that name \
                 second"
            ),
            PemError::NoList => {
                f.write_str("holds no revocation list in PEM form: check that it is the right file (openssl crl -inform DER converts one)")
            }
            PemError::BadList(error) => {
                write!(f, "holds a revocation list that cannot be read ({}): copy the file again", reason(error))
            }
            PemError::NoKey => f.write_str(
                "holds no private key in PEM form: check that it is the right file (openssl pkey -inform DER converts one)",
            ),
            PemError::BadKey(error) => {
                write!(f, "holds a private key that cannot be read ({}): copy the file again", reason(error))
            }
            PemError::Encrypted => f.write_str(
                "holds an encrypted private key, and wsgate asks for no passphrase: write a copy without one, \
                 'openssl pkey -in OLD -out NEW', that only wsgate can read",
            ),
            PemError::OtherKey => {
                f.write_str("holds the private key of another certificate: check that both files are of the same pair")
            }
            PemError::KeyOfLater => f.write_str(
                "holds the private key of a later certificate in its file: put the server's own certificate first",
            ),
            PemError::Refused(error) => {
                write!(f, "cannot be used with its certificate ({}): make a new pair", reason(error))
            }
        }
    }
}

impl std::error::Error for PemError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PemError::BadCertificate(error)
            | PemError::BadKey(error)
            | PemError::BadList(error)
            | PemError::Refused(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use openssl::rsa::Rsa;
    use openssl::symm::Cipher;

    use super::*;

    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn checked(certificate: &str, key: &str) -> Result<(), String> {
        let check = || check_pair(&certificates(certificate.as_bytes())?, &private_key(key.as_bytes())?);
        check().map_err(|error| error.to_string())
    }

    #[test]
    fn b31_what_cannot_be_used_is_told_for_its_reason() {
        let ((certificate, key), (other, other_key)) = (pair("a"), pair("b"));
        let locked = private_key(key.as_bytes()).unwrap();
        let locked = locked.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
        let locked = String::from_utf8(locked).unwrap();
        let old = Rsa::generate(2048).unwrap().private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"secret").unwrap();
        let old = String::from_utf8(old).unwrap();
        let chain = format!("{other}{certificate}");
        let damaged = certificate.replacen("MII", "MIJ", 1).replacen("M", "N", 3);
        assert_eq!(checked(&certificate, &key), Ok(()));
        assert_eq!(checked(&format!("{certificate}{other}"), &key), Ok(()));
        // All in one file, as some programs want it.
        let all = format!("{certificate}{key}a comment\n{other}");
        assert!(checked(&all, &all) == Ok(()) && certificates(all.as_bytes()).unwrap().len() == 2);
        for (certificate, key, beginning) in [
            ("", &*key, "holds no certificate in PEM form"),
            (&key, &key, "holds no certificate in PEM form"),
            (&certificate, "no key", "holds no private key in PEM form"),
            (&certificate, &certificate, "holds no private key in PEM form"),
            (&certificate, &locked, "holds an encrypted private key"),
            (&certificate, &old, "holds an encrypted private key"),
            (&certificate, &other_key, "holds the private key of another certificate"),
            (&chain, &key, "holds the private key of a later certificate"),
            (&damaged, &key, "holds a certificate that cannot be read ("),
            ("-----BEGIN CERTIFICATE-----\n", &key, "holds a certificate that cannot be read ("),
            (
                &format!("{certificate}{}", other.replace("BEGIN", "BEGUN")),
                &key,
                "holds a certificate that cannot be read (",
            ),
            (&certificate, &old.replace("AES-128-CBC", "XES-128-CBC"), "holds an encrypted private key"),
            (
                &certificate,
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "holds a private key that",
            ),
        ] {
            let told = checked(certificate, key).unwrap_err();
            assert!(told.starts_with(beginning), "{beginning}: {told}");
        }
    }

    #[test]
    fn b31_a_certificate_out_of_its_time_is_told_with_the_date() {
        for (from, until, expected) in [
            (2001, 2002, Some("holds a certificate that expired on Jan  1 00:00:00 2002 GMT")),
            (4001, 4002, Some("holds a certificate that is not valid before Jan  1 00:00:00 4001 GMT")),
            (2001, 4002, None),
        ] {
            let mut parameters = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
            let made = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let certificates = certificates(made.pem().as_bytes()).unwrap();
            assert_eq!(out_of_date(&certificates).as_deref(), expected);
        }
    }
}
