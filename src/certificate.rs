//! What a client's certificate says of the client.

use std::time::{Duration, SystemTime};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::X509Ref;

/// The names in a certificate that a client has proved to have, its end, and its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The last common name of the subject, which is the most specific one.
    pub common_name: Option<String>,
    /// The alternative names that are names of hosts, as they are written.
    pub dns_names: Vec<String>,
    /// Those that are mail addresses.
    pub emails: Vec<String>,
    /// Those that are URIs, such as SPIFFE ids.
    pub uris: Vec<String>,
    /// Until when it is valid.
    pub until: SystemTime,
    /// The SHA-256 of the whole certificate.
    pub fingerprint: [u8; 32],
}

impl ClientCertificate {
    /// Reads the names. Whether the certificate is to be trusted is not looked at.
    pub fn of(certificate: &X509Ref) -> ClientCertificate {
        let mut fingerprint = [0; 32];
        if let Ok(digest) = certificate.digest(MessageDigest::sha256()) {
            fingerprint.copy_from_slice(&digest);
        }
        let mut read = ClientCertificate {
            common_name: common_name(certificate),
            dns_names: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            until: time_of(certificate.not_after()),
            fingerprint,
        };
        for name in certificate.subject_alt_names().iter().flatten() {
            read.dns_names.extend(name.dnsname().map(str::to_owned));
            read.emails.extend(name.email().map(str::to_owned));
            read.uris.extend(name.uri().map(str::to_owned));
        }
        read
    }
}

fn common_name(certificate: &X509Ref) -> Option<String> {
    certificate.subject_name().entries_by_nid(Nid::COMMONNAME).last()?.data().to_string().ok()
}

/// A moment as the system counts time; one that cannot be read, or is before 1970, has been over for long.
fn time_of(moment: &Asn1TimeRef) -> SystemTime {
    let since = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(moment));
    let seconds = since.map(|since| i64::from(since.days) * 24 * 60 * 60 + i64::from(since.secs));
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(seconds.ok().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    #[test]
    fn the_names_of_a_certificate_are_told_by_their_kind() {
        let mut parameters = CertificateParams::new(vec!["press-3.plant.example".to_owned()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, "press-3");
        parameters.subject_alt_names.push(SanType::Rfc822Name("press@plant.example".try_into().unwrap()));
        parameters.subject_alt_names.push(SanType::URI("spiffe://plant/press-3".try_into().unwrap()));
        parameters.not_after = date_time_ymd(2100, 1, 1);
        let made = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = ClientCertificate::of(&X509::from_der(made.der()).unwrap());
        assert_eq!(read.common_name.as_deref(), Some("press-3"));
        assert_eq!(read.dns_names, ["press-3.plant.example"]);
        assert_eq!(read.emails, ["press@plant.example"]);
        assert_eq!(read.uris, ["spiffe://plant/press-3"]);
        assert_eq!(read.until, SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800));
        assert_eq!(read.fingerprint, openssl::sha::sha256(made.der()));
    }

    #[test]
    fn the_last_of_several_common_names_counts_with_all_that_is_in_it() {
        let mut subject = openssl::x509::X509Name::builder().unwrap();
        for name in ["plant", "press-3\0.other"] {
            subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
        }
        let mut builder = X509::builder().unwrap();
        builder.set_subject_name(&subject.build()).unwrap();
        assert_eq!(common_name(&builder.build()).as_deref(), Some("press-3\0.other"));
    }

    #[test]
    fn a_moment_before_1970_has_been_over_for_long() {
        assert_eq!(time_of(&Asn1Time::from_str("19500101000000Z").unwrap()), SystemTime::UNIX_EPOCH);
        let late = time_of(&Asn1Time::from_str("99991231235959Z").unwrap());
        assert_eq!(late, SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799));
    }
}
