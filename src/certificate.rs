//! What a client's certificate says of the client.

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::X509Ref;

/// The names in a certificate that a client has proved to have, and its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The last common name of the subject.
    pub common_name: Option<String>,
    /// The alternative names that are names of hosts, as they are written.
    pub dns_names: Vec<String>,
    /// Those that are mail addresses.
    pub emails: Vec<String>,
    /// Those that are URIs, such as SPIFFE ids.
    pub uris: Vec<String>,
    /// The SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
}

impl ClientCertificate {
    /// Reads the names. Whether the certificate is to be trusted is not looked at.
    pub fn of(certificate: &X509Ref) -> ClientCertificate {
        let common_name = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).last();
        let common_name = common_name.and_then(|entry| entry.data().to_string().ok());
        let mut fingerprint = [0; 32];
        if let Ok(digest) = certificate.digest(MessageDigest::sha256()) {
            fingerprint.copy_from_slice(&digest);
        }
        let mut read =
            ClientCertificate { common_name, dns_names: Vec::new(), emails: Vec::new(), uris: Vec::new(), fingerprint };
        for name in certificate.subject_alt_names().iter().flatten() {
            read.dns_names.extend(name.dnsname().map(str::to_owned));
            read.emails.extend(name.email().map(str::to_owned));
            read.uris.extend(name.uri().map(str::to_owned));
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn the_names_of_a_certificate_are_told_by_their_kind() {
        let mut parameters = CertificateParams::new(vec!["press-3.plant.example".to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, "press-3");
        parameters.subject_alt_names.push(SanType::Rfc822Name("press@plant.example".try_into().unwrap()));
        parameters.subject_alt_names.push(SanType::URI("spiffe://plant/press-3".try_into().unwrap()));
        let made = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = ClientCertificate::of(&X509::from_der(made.der()).unwrap());
        assert_eq!(read.common_name.as_deref(), Some("press-3"));
        assert_eq!(read.dns_names, ["press-3.plant.example"]);
        assert_eq!(read.emails, ["press@plant.example"]);
        assert_eq!(read.uris, ["spiffe://plant/press-3"]);
        assert_eq!(read.fingerprint, openssl::sha::sha256(made.der()));
    }
}
