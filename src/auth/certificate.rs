//! The kind `certificate`: who a client is by the certificate that it has shown to its listener, which has verified it.
//! A rule: the time is passed in.

use std::time::{Duration, SystemTime};

use super::jwt::Flaw;
use crate::certificate::ClientCertificate;
use crate::identity::is_name;

/// Which name in a certificate is the identity. Of several of a kind it is the first alternative name, and the last common
/// name of the subject, which is the most specific one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdentityFrom {
    /// `cn`: the common name of the subject.
    #[default]
    CommonName,
    /// `san`: the alternative name: that of a host if there is one, else a URI, else a mail address.
    San,
    /// `dns`: the alternative name that is the name of a host.
    Dns,
    /// `uri`: the one that is a URI, such as a SPIFFE id.
    Uri,
    /// `email`: the one that is a mail address.
    Email,
}

/// What stands in the place of a byte of a name that cannot be read: two names could be the same with it.
const UNREADABLE: char = '\u{fffd}';

impl IdentityFrom {
    fn find(self, certificate: &ClientCertificate) -> Option<&str> {
        let ClientCertificate { common_name, dns_names, uris, emails, .. } = certificate;
        let name = match self {
            IdentityFrom::CommonName => common_name.as_ref(),
            IdentityFrom::San => dns_names.first().or(uris.first()).or(emails.first()),
            IdentityFrom::Dns => dns_names.first(),
            IdentityFrom::Uri => uris.first(),
            IdentityFrom::Email => emails.first(),
        };
        name.map(String::as_str)
    }

    /// What is missing in a certificate without it.
    fn flaw(self) -> Flaw {
        match self {
            IdentityFrom::CommonName => "has no common name that can be an identity",
            IdentityFrom::San => "has no alternative name that can be an identity",
            IdentityFrom::Dns => "has no DNS name that can be an identity",
            IdentityFrom::Uri => "has no URI that can be an identity",
            IdentityFrom::Email => "has no e-mail address that can be an identity",
        }
    }
}

/// Whose a certificate is, and for how long it is good from now on.
pub fn judge(certificate: &ClientCertificate, from: IdentityFrom, now: SystemTime) -> Result<(&str, Duration), Flaw> {
    let name = from.find(certificate).filter(|name| is_name(name) && !name.contains(UNREADABLE));
    let name = name.ok_or_else(|| from.flaw())?;
    let left = certificate.until.duration_since(now).map_err(|_| "has expired")?;
    Ok((name, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(common_name: Option<&str>, [dns, uris, emails]: [&[&str]; 3]) -> ClientCertificate {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ClientCertificate {
            common_name: common_name.map(str::to_owned),
            dns_names: all(dns),
            uris: all(uris),
            emails: all(emails),
            until: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
            fingerprint: [0; 32],
        }
    }

    #[test]
    fn the_first_alternative_name_of_the_kind_is_the_identity() {
        let full = certificate(Some("press-3"), [&["a.example", "b.example"], &["urn:x", "urn:y"], &["a@b", "c@d"]]);
        let uris = certificate(None, [&[], &["urn:x"], &["a@b"]]);
        let mail = certificate(None, [&[], &[], &["a@b"]]);
        let bare = certificate(None, [&[], &[], &[]]);
        use IdentityFrom::{CommonName, Dns, Email, San, Uri};
        for (certificate, from, expected) in [
            (&full, CommonName, Some("press-3")),
            (&full, San, Some("a.example")),
            (&full, Dns, Some("a.example")),
            (&full, Uri, Some("urn:x")),
            (&full, Email, Some("a@b")),
            (&uris, San, Some("urn:x")),
            (&uris, CommonName, None),
            (&uris, Dns, None),
            (&mail, San, Some("a@b")),
            (&mail, Uri, None),
            (&bare, San, None),
            (&bare, Email, None),
        ] {
            let found = judge(certificate, from, SystemTime::UNIX_EPOCH).map(|(name, _)| name);
            assert_eq!(found.ok(), expected, "{from:?}");
        }
    }

    #[test]
    fn a_name_that_shows_something_else_than_it_is_is_no_identity() {
        for name in ["", " a", "a\0b", "a\nb", "a\u{202e}b", "a\u{fffd}b", &"x".repeat(257)] {
            let made = certificate(Some(name), [&[name, "good.example"], &[], &[]]);
            for from in [IdentityFrom::CommonName, IdentityFrom::Dns, IdentityFrom::San] {
                assert!(judge(&made, from, SystemTime::UNIX_EPOCH).is_err(), "{name:?}");
            }
        }
    }

    #[test]
    fn it_is_good_until_its_certificate_ends() {
        let made = certificate(Some("a"), [&[], &[], &[]]);
        let at = |seconds| judge(&made, IdentityFrom::default(), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(60), Ok(("a", Duration::from_secs(40))));
        assert_eq!(at(101), Err("has expired"));
    }
}
