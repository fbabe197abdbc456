//! The keys of servers that links, relays and `[[auth]]`s dial.

use std::net::IpAddr;
use std::path::Path;

use crate::config::section::{Section, Value};
use crate::config::settings::{DialSettings, DialTls, Proxy};
use crate::config::text::Text;
use crate::secret::{Secret, names_a_secret};
use crate::url::{self, PathTemplate, Protocol, Url};

use super::dial_keys::DialKeys;
use super::http::{RawHeader, headers, own_origin};
use super::tls::{certificates, identity};

/// What a table that dials says, and where its parts stand.
pub(crate) struct RawDial {
    /// The URL in it is a stand-in if `path` is `None`.
    pub(crate) settings: DialSettings,
    /// The path and query of the URL, with a place for each parameter; `None` if the URL is wrong.
    pub(crate) path: Option<PathTemplate<String>>,
    /// The URL for people.
    pub(crate) shown: String,
    pub(crate) url_at: usize,
    /// The parameters in the URL's path, also of a wrong one.
    pub(crate) parameters: Vec<String>,
    pub(crate) headers: Vec<RawHeader>,
    pub(crate) origin_at: Option<usize>,
    pub(crate) tls_at: Option<usize>,
    /// The place of `ca` if it is written.
    pub(crate) ca_at: Option<usize>,
    /// The place of `server_name` if it is written.
    pub(crate) server_name_at: Option<usize>,
}

impl RawDial {
    /// The URL, if it is one.
    pub(crate) fn url(&self) -> Option<&Url> {
        self.path.as_ref().map(|_| &self.settings.url)
    }
}

/// Stands in for a URL that could not be read.
fn nowhere() -> Url {
    let (host, path_and_query) = (String::new(), "/".to_owned());
    Url { protocol: Protocol::WebSocket, secure: false, host, port: 80, user: None, path_and_query }
}

/// Reads the keys that all have in common.
pub(super) fn dial(section: &Section<'_>, base_dir: &Path, keys: &DialKeys) -> RawDial {
    let mut raw = RawDial {
        settings: DialSettings::new(nowhere()),
        path: None,
        shown: String::new(),
        url_at: section.at,
        parameters: Vec::new(),
        headers: Vec::new(),
        origin_at: None,
        tls_at: None,
        ca_at: None,
        server_name_at: None,
    };
    if let Some(value) = section.require(keys.url) {
        raw.url_at = value.at();
        if let Some(text) = value.text()
            && let Some((url, path)) = dialled_url(&value, &text, keys, &mut raw.parameters)
        {
            if has_secret(&url, &text) {
                value.shows_a_secret("\"${NAME}\" in its place");
            }
            raw.shown = shown(&url, &text);
            raw.settings.secrets.extend(text.variables);
            raw.settings.url = url;
            raw.path = Some(path);
        }
    }
    if let Some(value) = section.get("headers") {
        raw.headers = headers(&value, base_dir, keys);
        raw.settings.headers = raw.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
        raw.settings.secrets.extend(raw.headers.iter_mut().flat_map(|header| std::mem::take(&mut header.secrets)));
    }
    if keys.protocol == Protocol::WebSocket
        && let Some(value) = section.get("origin")
    {
        raw.origin_at = Some(value.at());
        raw.settings.origin = own_origin(&value);
    }
    section.read(keys.timeout, &mut raw.settings.connect_timeout, |v| v.duration());
    section.read("proxy", &mut raw.settings.proxy, |v| proxy(&v));
    if let Some(value) = section.get("tls") {
        raw.tls_at = Some(value.at());
        if let Some(section) = value.section(keys.tls) {
            raw.ca_at = section.get("ca").map(|value| value.at());
            raw.server_name_at = section.get("server_name").map(|value| value.at());
            raw.settings.tls = tls(&section, base_dir);
        }
    }
    raw
}

fn dialled_url(
    value: &Value<'_>,
    text: &Text,
    keys: &DialKeys,
    parameters: &mut Vec<String>,
) -> Option<(Url, PathTemplate<String>)> {
    let parsed = match keys.protocol {
        Protocol::Http => url::parse_as(Protocol::Http, &text.value).map(|url| {
            let path = PathTemplate::fixed(&url.path_and_query);
            (url, path)
        }),
        Protocol::WebSocket => url::parse_template(&text.value, |name| {
            if !keys.of_relay {
                return Err("a link has no parameters (write the value, or a brace as '%7B' or '%7D')".into());
            }
            parameters.push(name.to_owned());
            Ok(name.to_owned())
        }),
    };
    let (server, example) = match keys.protocol {
        Protocol::Http => ("an HTTP server", "https://login.example/wsgate"),
        Protocol::WebSocket => ("a WebSocket server", "wss://plc.example:8443/ws"),
    };
    let written = url::without_user(&text.written);
    match parsed {
        Ok(parsed) => return Some(parsed),
        Err(problem) if text.value == text.written => {
            value.mistake(format_args!("is {written:?}, which is no URL of {server}: {problem}"));
        }
        // What is wrong may quote the value of a variable.
        Err(_) => value.mistake(format_args!(
            "is {written:?}, which is no URL of {server} once its variables are replaced: check them; it must look like \
             {example:?}"
        )),
    }
    None
}

/// The URL for people: a variable of the environment may be a secret, so behind the host they stay as they are written,
/// and a query may be one however it is written.
fn shown(url: &Url, text: &Text) -> String {
    if text.value == text.written {
        return url::fit_to_show(&text.written);
    }
    let behind_scheme = text.written.split_once("://").map_or("", |(_, rest)| rest);
    let written_path = behind_scheme.find(['/', '?']).map(|at| &behind_scheme[at..]);
    let scheme = url.protocol.scheme(url.secure);
    let path = match written_path {
        Some(path) => path,
        None if url.path_and_query == "/" => "",
        None => "/***",
    };
    url::fit_to_show(&format!("{scheme}://{}{path}", url.authority()))
}

/// Whether a password, or a parameter whose name says that it is secret, stands in the file itself.
fn has_secret(url: &Url, text: &Text) -> bool {
    let is_secret = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        names_a_secret(name) && !value.is_empty() && text.has_in_the_clear(value)
    };
    let query = url.path_and_query.split_once('?').map_or("", |(_, query)| query);
    url.user.as_ref().is_some_and(|(_, password)| text.has_in_the_clear(password.expose()))
        || query.split('&').any(is_secret)
}

fn proxy(value: &Value<'_>) -> Option<Proxy> {
    let text = value.text()?;
    let proxy = proxy_of(&text.value);
    if let Some(Proxy::Url(proxy)) = &proxy
        && let Some((user, _)) = proxy.expose().rsplit_once('@')
        && text.has_in_the_clear(user)
    {
        value.shows_a_secret("\"${NAME}\" in its place");
    }
    if proxy.is_none() {
        value.mistake(format_args!(
            "cannot be {:?}: write \"environment\", \"off\" or an HTTP proxy, for example \"http://proxy.example:3128\"",
            url::proxy_without_user(&text.written)
        ));
    }
    proxy
}

/// Reads `environment`, `off` or the URL of a proxy.
pub(crate) fn proxy_of(text: &str) -> Option<Proxy> {
    match text {
        "environment" => Some(Proxy::Environment),
        "off" => Some(Proxy::Off),
        _ => is_proxy(text).then(|| Proxy::Url(Secret::new(text))),
    }
}

/// `http://[user:password@]host:port`, and perhaps a slash behind it.
fn is_proxy(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://") else { return false };
    // No port is usual enough to be implied.
    let has_port = rest
        .trim_end_matches('/')
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    has_port && url::parse(&format!("ws://{rest}")).is_ok_and(|url| url.path_and_query == "/")
}

fn tls(section: &Section<'_>, base_dir: &Path) -> DialTls {
    let ca = section.get("ca").and_then(|value| certificates(&value, base_dir)).map(|(file, _)| file);
    let mut tls = DialTls { ca, ..DialTls::default() };
    if section.get("certificate").is_some() || section.get("private_key").is_some() {
        tls.identity = identity(section, base_dir);
    }
    tls.server_name = section.get("server_name").and_then(|v| server_name(&v));
    section.read("verify", &mut tls.verify, |v| v.boolean());
    tls
}

fn server_name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if is_server_name(&text.value) {
        return Some(text.value);
    }
    value.mistake(format_args!(
        "is {:?}, which is no name of a host: write only the name that is in the server's certificate",
        text.written
    ));
    None
}

/// Whether a certificate can be for this: the name of a host, or an address.
pub(crate) fn is_server_name(text: &str) -> bool {
    let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (!text.is_empty() && text.bytes().all(in_name)) || text.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_a_host_and_a_port() {
        for text in ["http://proxy:3128", "http://me:secret@proxy:3128/", "http://[::1]:8080", "http://10.0.0.1:1"] {
            assert!(is_proxy(text), "{text}");
        }
        for text in [
            "proxy:3128",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://proxy",
            "http://[::1]",
            "http://:80",
            "http://proxy:0",
            "http://proxy:3128/x",
            "http://me:1@proxy",
            "",
        ] {
            assert!(!is_proxy(text), "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_with_its_variables_as_they_are_written() {
        for (written, value, expected) in [
            ("ws://h/x?token=1", "ws://h/x?token=1", "ws://h/x?***"),
            ("ws://me:p@h/x", "ws://me:p@h/x", "ws://***@h/x"),
            ("wss://${H}/x?token=${T}", "wss://plc:81/x?token=secret", "wss://plc:81/x?***"),
            ("wss://me:${P}@h", "wss://me:secret@h", "wss://h"),
            ("${URL}", "wss://me:secret@h:443/secret?secret", "wss://h/***"),
            ("${URL}/x", "wss://h/secret/x", "wss://h/***"),
            ("wss://${REST}", "wss://h/secret", "wss://h/***"),
        ] {
            let text = Text { value: value.into(), written: written.into(), variables: Vec::new(), at: 0 };
            assert_eq!(shown(&url::parse(value).unwrap(), &text), expected, "{written}");
        }
    }
}
