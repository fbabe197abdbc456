//! What a server's refusal must not repeat of our request: secrets, taken out without breaking what they stand in. A
//! rule.

use std::borrow::Cow;

use data_encoding::BASE64;
use serde::de::IgnoredAny;

use crate::path::percent_decoded;
use crate::secret::{Secret, names_a_secret};

/// Anything shorter is a word that stands in many texts.
const SECRET_MIN: usize = 4;

/// What stands in the place of a secret.
const MASK: &[u8] = b"***";

/// Values that say something in every JSON text, and nothing about whoever uses them.
const NO_SECRETS: [&[u8]; 3] = [b"true", b"false", b"null"];

/// Secrets, each in the forms in which it can be repeated.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<Box<[u8]>>);

impl Secrets {
    /// A value that is secret whatever it is called.
    pub(super) fn add(&mut self, value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        self.add_form(value);
        self.add_form(json_escaped(&text).as_bytes());
        self.add_form(percent_encoded(value).as_bytes());
        if let Some(decoded) = percent_decoded(&text) {
            self.add_form(&decoded);
        }
    }

    /// A secret of the settings.
    pub(super) fn add_secret(&mut self, secret: &Secret) {
        self.add(secret.expose().as_bytes());
    }

    /// A user and a password.
    pub(super) fn add_user(&mut self, user: &str, password: &str) {
        self.add(password.as_bytes());
        self.add_authorization(format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes())).as_bytes());
    }

    /// The value of a header, if its name says that it is secret.
    pub(super) fn add_header(&mut self, name: &str, value: &[u8]) {
        if !names_a_secret(name) {
            return;
        }
        if !name.eq_ignore_ascii_case("cookie") {
            return self.add_authorization(value);
        }
        self.add(value);
        for pair in value.split(|byte| *byte == b';') {
            let at = pair.iter().position(|byte| *byte == b'=').map_or(0, |at| at + 1);
            self.add(pair[at..].trim_ascii());
        }
    }

    /// Of `Bearer TOKEN` the token is one by itself, and of `Basic BASE64` the password is.
    fn add_authorization(&mut self, value: &[u8]) {
        self.add(value);
        let token = value.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        self.add(token);
        let is_basic = value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "));
        if let Some(plain) = BASE64.decode(token).ok().filter(|_| is_basic) {
            self.add(&plain);
            let at = plain.iter().position(|byte| *byte == b':').map_or(0, |at| at + 1);
            self.add(&plain[at..]);
        }
    }

    /// A query as a whole, which is nobody else's concern, and those of its values whose names say that they are secret.
    pub(super) fn add_query(&mut self, path_and_query: &str) {
        let query = path_and_query.split_once('?').map_or("", |(_, query)| query);
        self.add_form(query.as_bytes());
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            if names_a_secret(name) {
                self.add(value.as_bytes());
            }
        }
    }

    fn add_form(&mut self, form: &[u8]) {
        let is_known = || self.0.iter().any(|known| **known == *form);
        if form.len() >= SECRET_MIN && !NO_SECRETS.contains(&form) && !is_known() {
            self.0.push(form.into());
        }
    }

    /// The first `keep` bytes of a text without the secrets in it; one that begins before that is taken out whole, and so
    /// is one of which the text has only the beginning at its end. What was JSON is JSON, or nothing.
    pub(super) fn hide(&self, text: &[u8], keep: usize) -> Vec<u8> {
        let hidden = self.replace(text, keep, |_| Cow::Borrowed(MASK));
        if text.len() > keep || !is_json(text) || is_json(&hidden) {
            return hidden;
        }
        // A secret has stood where only a number can.
        let nines = self.replace(text, keep, |secret| {
            let is_number = secret.iter().all(|byte| byte.is_ascii_digit());
            if is_number { Cow::Owned(vec![b'9'; secret.len()]) } else { Cow::Borrowed(MASK) }
        });
        if is_json(&nines) { nines } else { Vec::new() }
    }

    fn replace<'m>(&self, text: &[u8], keep: usize, mask: impl Fn(&[u8]) -> Cow<'m, [u8]>) -> Vec<u8> {
        let mut kept = Vec::with_capacity(text.len().min(keep));
        let mut at = 0;
        while at < text.len().min(keep) {
            let rest = &text[at..];
            let whole = self.0.iter().filter(|secret| rest.starts_with(secret)).max_by_key(|secret| secret.len());
            let is_begun = |secret: &[u8]| secret.len() > rest.len() && secret.starts_with(rest);
            match whole {
                _ if rest.len() >= SECRET_MIN && self.0.iter().any(|secret| is_begun(secret)) => {
                    kept.extend_from_slice(MASK);
                    break;
                }
                Some(secret) => {
                    kept.extend_from_slice(&mask(secret));
                    at += secret.len();
                }
                None => {
                    kept.push(text[at]);
                    at += 1;
                }
            }
        }
        kept
    }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// As it stands between the quotes of a JSON string.
fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// All but the unreserved characters (RFC 3986 section 2.3).
fn percent_encoded(value: &[u8]) -> String {
    let mut encoded = String::with_capacity(value.len());
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        values.iter().for_each(|value| secrets.add(value.as_bytes()));
        secrets
    }

    fn hidden(secrets: &Secrets, text: &str, keep: usize) -> String {
        String::from_utf8(secrets.hide(text.as_bytes(), keep)).unwrap()
    }

    #[test]
    fn b19_a_secret_is_taken_out_in_each_of_its_forms_and_before_the_text_is_cut() {
        let secrets = secrets(&["a b\"c", "longer than", "longer", "ab"]);
        for (text, keep, expected) in [
            ("<a b\"c> a%20b%22c a b\\\"c ab", 100, "<***> *** *** ab"),
            ("no longer than longer", 100, "no *** ***"),
            ("x longer", 2, "x "),
            ("x longer than that", 3, "x ***"),
            ("x longer than that", 13, "x ***"),
            ("x longer than that", 14, "x *** "),
            ("it ends with longer tha", 100, "it ends with ***"),
            ("it ends with long", 100, "it ends with ***"),
            ("it ends with lon", 100, "it ends with lon"),
        ] {
            assert_eq!(hidden(&secrets, text, keep), expected, "{text} {keep}");
        }
    }

    #[test]
    fn b20_json_stays_json() {
        let secrets = secrets(&["2024", "user", "true", "}{,:"]);
        for (text, expected) in [
            (r#"{"error":"user unknown","since":2024}"#, r#"{"error":"*** unknown","since":9999}"#),
            (r#"{"error":"user 2024","ok":true}"#, r#"{"error":"*** ***","ok":true}"#),
            (r#"[120245,-2024.5]"#, "[199995,-9999.5]"),
            ("since 2024", "since ***"),
        ] {
            assert_eq!(hidden(&secrets, text, 100), expected);
        }
        // No secret is shown to keep something in form.
        let odd = self::secrets(&["[1,2"]);
        assert_eq!((hidden(&odd, "[1,2]", 100), hidden(&odd, "[1,2", 100)), (String::new(), "***".to_owned()));
    }

    #[test]
    fn b20_what_is_secret_is_told_by_names_and_by_where_it_comes_from() {
        let mut secrets = Secrets::default();
        for (name, value) in [
            ("Authorization", "Bearer first-token"),
            ("authorization", "Basic bWU6c2Vjb25kLXRva2Vu"),
            ("Cookie", "theme=darkest; sid=third-token"),
            ("X-Api-Key", "fourth-token"),
            ("X-Role", "user"),
            ("X-Year", "2024"),
        ] {
            secrets.add_header(name, value.as_bytes());
        }
        secrets.add_user("me", "fifth-token");
        secrets.add_query("/user?token=sixth%2Dtoken&year=2024");
        for token in ["first", "second", "third", "fourth", "fifth", "sixth"] {
            assert_eq!(hidden(&secrets, &format!("<{token}-token>"), 100), "<***>");
        }
        assert_eq!(hidden(&secrets, "bWU6ZmlmdGgtdG9rZW4=, sixth%2Dtoken", 100), "***, ***");
        let body = r#"{"error":"user me","since":2024}"#;
        assert_eq!(hidden(&secrets, body, 100), body);
    }
}
