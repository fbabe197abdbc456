//! Which of a listener's certificates a client is shown, by the name that it asks for (SNI, RFC 6066 section 3).

use openssl::x509::X509Ref;

/// The names that a certificate is good for, in lower case; `*.plant.example` is every name with one label more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames(Vec<String>);

impl ServerNames {
    /// The DNS names among the alternative names of the subject. The common name is none: no client of today takes it
    /// for one.
    pub fn of(certificate: &X509Ref) -> ServerNames {
        let names = certificate.subject_alt_names();
        let names = names.iter().flatten().filter_map(|name| name.dnsname().map(str::to_ascii_lowercase));
        ServerNames(names.collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|own| own == name)
    }

    fn has_wildcard_for(&self, name: &str) -> bool {
        // Exactly one label stands for the star (RFC 9525 section 6.3).
        let Some((_, domain)) = name.split_once('.').filter(|(label, _)| !label.is_empty()) else { return false };
        self.0.iter().any(|own| own.strip_prefix("*.") == Some(domain))
    }
}

/// The index of the certificate for a name: one that has this very name, else one with a wildcard for it, the first of
/// several. `None` if there is none.
pub fn pick(certificates: &[ServerNames], name: &str) -> Option<usize> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let position = |fits: fn(&ServerNames, &str) -> bool| certificates.iter().position(|names| fits(names, &name));
    position(ServerNames::has).or_else(|| position(ServerNames::has_wildcard_for))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> ServerNames {
        let names = names.iter().map(|name| (*name).to_owned());
        let made = rcgen::generate_simple_self_signed(names.collect::<Vec<_>>()).unwrap();
        ServerNames::of(&openssl::x509::X509::from_der(made.cert.der()).unwrap())
    }

    #[test]
    fn s15_a_certificate_is_picked_by_its_own_names_first() {
        let certificates = [
            names(&["gate.example", "127.0.0.1"]),
            names(&["*.plant.example"]),
            names(&["Press.Plant.example", "plant.example"]),
            names(&["*.plant.example", "*.example"]),
        ];
        for (name, expected) in [
            ("gate.example", Some(0)),
            ("GATE.example.", Some(0)),
            ("press.plant.example", Some(2)),
            ("oven.plant.example", Some(1)),
            ("plant.example", Some(2)),
            ("a.b.plant.example", None),
            (".plant.example", None),
            ("other.example", Some(3)),
            ("127.0.0.1", None),
            ("example", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(pick(&certificates, name), expected, "{name}");
        }
    }
}
