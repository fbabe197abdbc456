//! No credential is shown. Each credential of the tests has the same mark in it, so that every log, every answer and
//! everything that a command prints can be searched for all of them.

use std::sync::OnceLock;

use data_encoding::BASE64_NOPAD;

/// What stands in every token, password and secret of the tests.
const MARK: &str = "hunter2";

/// What signed tokens of the tests begin with, or their claims: `{"alg`, `{"typ` and `{"sub`.
const SIGNED: [&str; 3] = ["eyJhbGci", "eyJ0eXAi", "eyJzdWIi"];

/// Panics if a text shows a credential of the tests, as it is or in base64. `whose` is what the text is.
pub(crate) fn expect_no_secret(whose: &str, text: &str) {
    if let Some(shown) = shown(text) {
        let line = text.lines().find(|line| line.contains(shown)).unwrap_or(text);
        panic!("{whose} shows a credential, {shown:?}: {line}");
    }
}

/// What of a credential is in a text.
fn shown(text: &str) -> Option<&'static str> {
    static FORMS: OnceLock<Vec<String>> = OnceLock::new();
    FORMS.get_or_init(forms).iter().map(String::as_str).find(|form| text.contains(form))
}

/// The mark, what it looks like in base64 wherever it begins, and the beginnings of signed tokens.
fn forms() -> Vec<String> {
    let mut forms = vec![MARK.to_owned()];
    for before in 0..3 {
        // The first and the last digit may have bits of what stands around it.
        let encoded = BASE64_NOPAD.encode(&[&b"???"[..before], MARK.as_bytes()].concat());
        forms.push(encoded[(8 * before).div_ceil(6)..8 * (before + MARK.len()) / 6].to_owned());
    }
    for begin in SIGNED {
        // As a whole they may be in base64 once more; of that the last digit is not whole either.
        let encoded = BASE64_NOPAD.encode(begin.as_bytes());
        forms.extend([begin.to_owned(), encoded[..8 * begin.len() / 6].to_owned()]);
    }
    forms
}

#[test]
fn s2_a_credential_is_found_in_a_text_however_it_is_written() {
    let token = format!("{}.x", BASE64_NOPAD.encode(br#"{"alg":"HS256"}"#));
    for secret in ["hunter2", "ada:hunter2", "bob:x hunter2 y", "a:hunter2", &token] {
        for text in [secret.to_owned(), BASE64_NOPAD.encode(secret.as_bytes())] {
            assert!(shown(&format!("client 1 (10.0.0.7:1): refused\nAuthorization: {text}\n")).is_some(), "{text}");
        }
    }
    assert_eq!(shown("client 1 (10.0.0.7:1): hunter 2, Hunter2, aHVudGVy, eyJ"), None);
}
