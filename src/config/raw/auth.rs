//! `[[auth]]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::auth::certificate::IdentityFrom;
use crate::auth::credentials::Places;
use crate::auth::jwk::Algorithm;
use crate::auth::jwt::JwtSettings;
use crate::auth::{self, FileKind};
use crate::config::secret_file::warn_if_for_everybody;
use crate::config::section::{Keys, Section, Value};
use crate::config::settings::{AuthKind, AuthServer, AuthSettings, CalloutSettings, JwksSettings, KeySource};
use crate::config::text::Text;
use crate::http::token::is_token;

use super::dial::{RawDial, dial};
use super::dial_keys::{DialKeys, OF_ISSUER, OF_SERVICE};
use super::http::header_names;
use super::route::is_name;

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
        ("jwks_url", "\"https://login.example/jwks.json\""),
        ("refresh_interval", "\"10m\""),
        ("stale_for", "\"24h\""),
        ("url", "\"https://accounts.example/wsgate\""),
        ("forward_headers", "[\"X-Api-Key\"]"),
        ("max_requests", "16"),
        ("cache_for", "\"off\""),
        ("answer_timeout", "\"5s\""),
        ("headers", "{ X-Api-Key = \"abc\" }"),
        ("proxy", "\"environment\""),
        ("tls", "{ ca = \"ca.pem\" }"),
    ],
};

/// An `[[auth]]` and where its parts stand.
pub(crate) struct RawAuth {
    pub(crate) settings: AuthSettings,
    pub(crate) name_at: usize,
    /// Whether the name is what was meant; a wrong one is compared with nothing.
    pub(crate) valid: bool,
    /// The server that it asks, if it does.
    pub(crate) dial: Option<RawDial>,
    /// Where `answer_timeout` and `stale_for` are written.
    pub(crate) answer_timeout_at: Option<usize>,
    pub(crate) stale_for_at: Option<usize>,
}

/// A kind as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tokens,
    Basic,
    Jwt,
    Http,
    Certificate,
}

const KINDS: [(&str, Kind); 5] = [
    ("tokens", Kind::Tokens),
    ("basic", Kind::Basic),
    ("jwt", Kind::Jwt),
    ("http", Kind::Http),
    ("certificate", Kind::Certificate),
];

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
const OF_JWT: [&str; 5] = ["algorithm", "issuer", "audience", "leeway", "jwks_url"];

/// Those of keys at a URL, of a service, and of whatever asks a server.
const OF_JWKS: [&str; 2] = ["refresh_interval", "stale_for"];
const OF_HTTP: [&str; 4] = ["url", "forward_headers", "max_requests", "cache_for"];
const OF_SERVER: [&str; 4] = ["answer_timeout", "headers", "proxy", "tls"];

/// The time for an answer, unless another one is written. A client waits meanwhile.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The keys of an issuer are loaded this often at most.
const REFRESH_MIN: Duration = Duration::from_secs(1);

/// The keys that have no meaning for passwords: these come in Authorization alone.
const NOT_OF_BASIC: [&str; 3] = ["cookie", "query", "subprotocol"];

/// The keys that have no meaning for certificates: these are not in the request, and the listener checks them.
const NOT_OF_CERTIFICATE: [&str; 5] = ["file", "authorization", "cookie", "query", "subprotocol"];

pub(super) fn auth(section: &Section<'_>, base_dir: &Path) -> RawAuth {
    let name_value = section.require("name");
    let name = name_value.and_then(|value| auth_name(&value));
    let kind = section.require("kind").and_then(|value| value.choice(&KINDS));
    let keys = match kind {
        Some(Kind::Http) => Some(&OF_SERVICE),
        Some(Kind::Jwt) => section.get("jwks_url").map(|_| &OF_ISSUER),
        _ => None,
    };
    check_meaning(section, kind, keys);
    let places = places(section, kind);
    let server = keys.map(|keys| server(section, base_dir, keys));
    let (kind, dial) = match (kind, server) {
        (Some(Kind::Jwt), Some((server, dial))) => (issued(section, server), Some(dial)),
        (Some(Kind::Http), Some((server, dial))) => (callout(section, server), Some(dial)),
        (Some(Kind::Certificate), _) => (certificate(section), None),
        (kind, _) => (of_file(section, base_dir, kind), None),
    };
    RawAuth {
        settings: AuthSettings { name: name.clone().unwrap_or_default(), kind, places },
        name_at: name_value.map_or(section.at, |value| value.at()),
        valid: name.is_some(),
        dial,
        answer_timeout_at: section.get("answer_timeout").map(|value| value.at()),
        stale_for_at: section.get("stale_for").map(|value| value.at()),
    }
}

/// Keys that have no meaning for a kind. Where that one is wrong, it is not known what was meant.
fn check_meaning(section: &Section<'_>, kind: Option<Kind>, server: Option<&DialKeys>) {
    let Some(kind) = kind else { return };
    let refuse = |keys: &[&'static str], why: &str| {
        for value in keys.iter().filter_map(|key| section.get(key)) {
            value.mistake(format_args!("has no meaning {why}: remove it"));
        }
    };
    for (keys, has_meaning, why) in [
        (&OF_JWT[..], kind == Kind::Jwt, "without kind = \"jwt\""),
        (&["claims"], matches!(kind, Kind::Jwt | Kind::Http), "without kind = \"jwt\" or \"http\""),
        (
            &["identity_from"],
            matches!(kind, Kind::Jwt | Kind::Certificate),
            "without kind = \"jwt\" or \"certificate\"",
        ),
        (&OF_JWKS, kind == Kind::Jwt && server.is_some(), "without jwks_url"),
        (&OF_HTTP, kind == Kind::Http, "without kind = \"http\""),
        (&OF_SERVER, server.is_some(), "without a server that is asked, with jwks_url or kind = \"http\""),
        (&["file"], server.is_none(), "beside the URL of a server"),
        (&NOT_OF_BASIC, kind != Kind::Basic, "with kind = \"basic\", whose passwords come in Authorization alone"),
        (
            &NOT_OF_CERTIFICATE,
            kind != Kind::Certificate,
            "with kind = \"certificate\", which is checked by client_ca of a listener",
        ),
    ] {
        if !has_meaning {
            refuse(keys, why);
        }
    }
}

/// Which name in a certificate counts.
fn certificate(section: &Section<'_>) -> AuthKind {
    let mut from = IdentityFrom::default();
    section.read("identity_from", &mut from, |v| v.choice(&NAMES));
    AuthKind::Certificate(from)
}

/// What checks against a file.
fn of_file(section: &Section<'_>, base_dir: &Path, kind: Option<Kind>) -> AuthKind {
    let path = |what: Option<FileKind>| {
        let Some((value, text)) = section.require("file").and_then(|value| Some((value, value.text()?))) else {
            return PathBuf::new();
        };
        let path = base_dir.join(&text.value);
        what.into_iter().for_each(|what| check_file(&value, what, &path, &text));
        path
    };
    match kind {
        Some(Kind::Jwt) => {
            let jwt = jwt(section);
            let algorithm = jwt.algorithm;
            AuthKind::Jwt(jwt.into(), KeySource::File(path(Some(FileKind::Jwt(algorithm)))))
        }
        Some(Kind::Basic) => AuthKind::Basic(path(Some(FileKind::Basic))),
        Some(Kind::Tokens) => AuthKind::Tokens(path(Some(FileKind::Tokens))),
        Some(Kind::Http | Kind::Certificate) | None => AuthKind::Tokens(path(None)),
    }
}

/// The server that is asked.
fn server(section: &Section<'_>, base_dir: &Path, keys: &DialKeys) -> (AuthServer, RawDial) {
    let mut raw = dial(section, base_dir, keys);
    if section.get("answer_timeout").is_none() {
        raw.settings.connect_timeout = TIMEOUT;
    }
    (AuthServer { dial: raw.settings.clone(), shown: raw.shown.clone() }, raw)
}

/// Signed tokens whose keys are at a URL.
fn issued(section: &Section<'_>, server: AuthServer) -> AuthKind {
    let mut jwks = JwksSettings::new(server);
    section.read("refresh_interval", &mut jwks.refresh_interval, |value| {
        let interval = value.duration()?;
        if interval < REFRESH_MIN {
            value.mistake("is too short: write \"1s\" or more");
            return None;
        }
        Some(interval)
    });
    section.read("stale_for", &mut jwks.stale_for, |v| v.duration());
    AuthKind::Jwt(jwt(section).into(), KeySource::Url(Box::new(jwks)))
}

/// A service that is asked who a client is.
fn callout(section: &Section<'_>, server: AuthServer) -> AuthKind {
    let mut callout = CalloutSettings::new(server);
    if let Some(value) = section.get("forward_headers") {
        callout.forward_headers = header_names(&value, false).into_iter().map(|(name, _)| name).collect();
    }
    section.read("claims", &mut callout.claims, |v| some_texts(&v));
    section.read("max_requests", &mut callout.max_requests, |v| v.integer(1..=1024));
    section.read("cache_for", &mut callout.cache_for, |v| v.duration_or_off().map(Option::unwrap_or_default));
    AuthKind::Http(Box::new(callout))
}

fn auth_name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if !is_name(&text.value) {
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

/// One text, or a list of some. An empty list is not to mean that everything is taken.
fn some_texts(value: &Value<'_>) -> Option<Vec<String>> {
    if value.is_empty_list() {
        value.mistake("is empty: write what it has to be, or remove the key");
        return None;
    }
    let texts = value.words()?;
    if let Some(empty) = texts.iter().find(|text| text.value.is_empty()) {
        value.mistake_at(empty.at, "has an empty text: remove it");
        return None;
    }
    Some(texts.into_iter().map(|text| text.value).collect())
}

/// Where credentials are looked for; at least one place.
fn places(section: &Section<'_>, kind: Option<Kind>) -> Places {
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
    let is_elsewhere =
        ["cookie", "query", "forward_headers"].iter().any(|key| section.get(key).is_some()) || places.subprotocol;
    if let Some(value) = section.get("authorization").filter(|_| !places.authorization) {
        match kind {
            Some(Kind::Basic) => {
                value.mistake("is false, but passwords come in Authorization alone, so nobody could get in: remove it")
            }
            Some(Kind::Certificate) => {}
            _ if is_elsewhere => {}
            _ => value.mistake(
                "is false, and no other place is on, so nobody could get in: write cookie, query or subprotocol too",
            ),
        }
    }
    places
}

/// A file that can be read and holds what it has to.
fn check_file(value: &Value<'_>, kind: FileKind, path: &Path, text: &Text) {
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
