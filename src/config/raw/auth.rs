//! `[[auth]]`.

use std::path::Path;

use crate::auth;
use crate::auth::certificate::IdentityFrom;
use crate::auth::credentials::Places;
use crate::auth::jwk::Algorithm;
use crate::auth::jwt::JwtSettings;
use crate::config::secret_file::warn_if_for_everybody;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{AuthKind, AuthSettings};
use crate::config::text::Text;
use crate::http::token::is_token;

use super::route::is_link_name;

pub(crate) static AUTH: Keys = Keys {
    table: "[[auth]]",
    keys: &[
        ("name", "\"devices\""),
        ("kind", "\"tokens\""),
        ("file", "\"tokens.txt\""),
        ("authorization", "true"),
        ("cookie", "\"session\""),
        ("query", "\"token\""),
        ("subprotocol", "false"),
        ("algorithm", "\"ES256\""),
        ("issuer", "\"https://login.example\""),
        ("audience", "\"wsgate\""),
        ("leeway", "\"10s\""),
        ("identity_from", "\"sub\""),
        ("claims", "[\"group\"]"),
    ],
};

/// An `[[auth]]` and where its parts stand.
pub(crate) struct RawAuth {
    pub(crate) settings: AuthSettings,
    pub(crate) name_at: usize,
    /// Whether the name is what was meant; a wrong one is compared with nothing.
    pub(crate) valid: bool,
}

/// A kind as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tokens,
    Basic,
    Jwt,
    Certificate,
}

const KINDS: [(&str, Kind); 4] =
    [("tokens", Kind::Tokens), ("basic", Kind::Basic), ("jwt", Kind::Jwt), ("certificate", Kind::Certificate)];

const NAMES: [(&str, IdentityFrom); 5] = [
    ("cn", IdentityFrom::CommonName),
    ("san", IdentityFrom::San),
    ("dns", IdentityFrom::Dns),
    ("uri", IdentityFrom::Uri),
    ("email", IdentityFrom::Email),
];

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::Hs256),
    ("RS256", Algorithm::Rs256),
    ("ES256", Algorithm::Es256),
    ("EdDSA", Algorithm::EdDsa),
];

/// The keys that only signed tokens have.
const OF_JWT: [&str; 5] = ["algorithm", "issuer", "audience", "leeway", "claims"];

/// The keys that have no meaning for passwords: these come in Authorization alone.
const NOT_OF_BASIC: [&str; 3] = ["cookie", "query", "subprotocol"];

/// The keys that have no meaning for certificates: these are not in the request, and the listener checks them.
const NOT_OF_CERTIFICATE: [&str; 5] = ["file", "authorization", "cookie", "query", "subprotocol"];

pub(super) fn auth(section: &Section<'_>, base_dir: &Path) -> RawAuth {
    let name_value = section.require("name");
    let name = name_value.and_then(|value| auth_name(&value));
    let kind = section.require("kind").and_then(|value| value.choice(&KINDS));
    let has_file = kind != Some(Kind::Certificate);
    let file_value = has_file.then(|| section.require("file")).flatten();
    let text = file_value.and_then(|value| value.text());
    let file = text.as_ref().map(|text| base_dir.join(&text.value)).unwrap_or_default();
    let settings = AuthSettings {
        name: name.clone().unwrap_or_default(),
        kind: match kind {
            Some(Kind::Jwt) => AuthKind::Jwt(jwt(section), file),
            Some(Kind::Basic) => AuthKind::Basic(file),
            Some(Kind::Certificate) => {
                let mut from = IdentityFrom::default();
                section.read("identity_from", &mut from, |v| v.choice(&NAMES));
                AuthKind::Certificate(from)
            }
            Some(Kind::Tokens) | None => AuthKind::Tokens(file),
        },
        places: places(section),
    };
    check_keys(section, kind);
    if let (Some(value), Some(text), Some(_)) = (file_value, text, kind) {
        check_file(&value, &settings.kind, &text);
    }
    RawAuth { settings, name_at: name_value.map_or(section.at, |value| value.at()), valid: name.is_some() }
}

/// Keys that have no meaning for a kind.
fn check_keys(section: &Section<'_>, kind: Option<Kind>) {
    let refuse = |keys: &[&'static str], why: &str| {
        for value in keys.iter().filter_map(|key| section.get(key)) {
            value.mistake(format_args!("has no meaning {why}: remove it"));
        }
    };
    if let Some(Kind::Tokens | Kind::Basic | Kind::Certificate) = kind {
        refuse(&OF_JWT, "without kind = \"jwt\"");
    }
    if let Some(Kind::Tokens | Kind::Basic) = kind {
        refuse(&["identity_from"], "without kind = \"jwt\" or \"certificate\"");
    }
    match kind {
        Some(Kind::Basic) => {
            refuse(&NOT_OF_BASIC, "with kind = \"basic\", whose passwords come in Authorization alone");
        }
        Some(Kind::Certificate) => {
            refuse(&NOT_OF_CERTIFICATE, "with kind = \"certificate\", which is checked by client_ca of a listener");
        }
        Some(Kind::Tokens | Kind::Jwt) | None => {}
    }
}

fn auth_name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if !is_link_name(&text.value) {
        value.mistake(format_args!(
            "is {:?}, but a name has only letters, digits, \"-\" and \"_\", 128 at most: write for example \"devices\"",
            text.written
        ));
        return None;
    }
    Some(text.value)
}

/// What a token must say.
fn jwt(section: &Section<'_>) -> JwtSettings {
    let mut settings = JwtSettings::default();
    section.read("algorithm", &mut settings.algorithm, |v| v.choice(&ALGORITHMS).map(Some));
    section.read("issuer", &mut settings.issuers, |v| some_texts(&v));
    section.read("audience", &mut settings.audiences, |v| some_texts(&v));
    section.read("leeway", &mut settings.leeway, |v| v.duration_or_off().map(Option::unwrap_or_default));
    section.read("claims", &mut settings.claims, |v| some_texts(&v));
    section.read("identity_from", &mut settings.identity_from, |value| {
        let text = value.text()?;
        if text.value.is_empty() {
            value.mistake("is empty: write the name of the claim that says who a client is, for example \"sub\"");
            return None;
        }
        Some(text.value)
    });
    settings
}

/// One text, or a list of some.
fn some_texts(value: &Value<'_>) -> Option<Vec<String>> {
    let texts = value.texts()?;
    if let Some(empty) = texts.iter().find(|text| text.value.is_empty()) {
        value.mistake_at(empty.at, "has an empty text: remove it");
        return None;
    }
    Some(texts.into_iter().map(|text| text.value).collect())
}

/// Where credentials are looked for; at least one place.
fn places(section: &Section<'_>) -> Places {
    let mut places = Places::default();
    section.read("authorization", &mut places.authorization, |v| v.boolean());
    section.read("subprotocol", &mut places.subprotocol, |v| v.boolean());
    section.read("cookie", &mut places.cookie, |value| {
        let text = value.text()?;
        if !is_token(&text.value) {
            value.mistake(format_args!(
                "is {:?}, which is no name of a cookie: use letters, digits, \"-\" and \"_\", no spaces",
                text.written
            ));
            return None;
        }
        Some(Some(text.value))
    });
    section.read("query", &mut places.query, |value| {
        let text = value.text()?;
        if text.value.is_empty() || text.value.contains(|c: char| c.is_control() || matches!(c, '?' | '&' | '=' | '#'))
        {
            value.mistake(format_args!(
                "is {:?}, which is no name of a query parameter: write its name alone, for example \"token\"",
                text.written
            ));
            return None;
        }
        Some(Some(text.value))
    });
    let is_elsewhere = ["cookie", "query"].iter().any(|key| section.get(key).is_some()) || places.subprotocol;
    if let (false, false, Some(value)) = (places.authorization, is_elsewhere, section.get("authorization")) {
        value.mistake(
            "is false, and no other place is on, so nobody could get in: write cookie, query or subprotocol too",
        );
    }
    places
}

/// A file that can be read and holds what it has to.
fn check_file(value: &Value<'_>, kind: &AuthKind, text: &Text) {
    let Some((kind, path)) = kind.file() else { return };
    let shown = if text.value == text.written { path.display().to_string() } else { text.written.clone() };
    match auth::read(kind, path) {
        Err(error) => value.mistake(format_args!("names {shown:?}, {error}")),
        Ok(keys) => {
            keys.doubt().into_iter().for_each(|doubt| value.warning(format_args!("names {shown:?}, {doubt}")));
            if keys.are_secret() {
                warn_if_for_everybody(value, text.at, &shown, path);
            }
        }
    }
}
