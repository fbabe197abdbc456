//! The keys of a table that dials, and how messages call its parts: those of a link, a relay and an `[[auth]]` differ.

use crate::config::section::Keys;
use crate::url::Protocol;

/// How messages call the parts of a table that dials.
pub(crate) struct DialKeys {
    /// The key with the URL.
    pub(super) url: &'static str,
    /// The key with the time for all of it.
    pub(super) timeout: &'static str,
    /// What is spoken with the server.
    pub(super) protocol: Protocol,
    pub(super) headers: &'static str,
    pub(super) header_file: &'static Keys,
    pub(crate) tls: &'static Keys,
    /// The URL may have parameters, and the client's request adds to the headers.
    pub(super) of_relay: bool,
}

const HEADER_FILE: &[(&str, &str)] = &[("file", "\"key.txt\"")];
const TLS: &[(&str, &str)] = &[
    ("ca", "\"ca.pem\""),
    ("certificate", "\"client.pem\""),
    ("private_key", "\"client.key\""),
    ("server_name", "\"plc\""),
    ("verify", "true"),
];

pub(crate) static OF_LINK: DialKeys = DialKeys {
    url: "url",
    timeout: "connect_timeout",
    protocol: Protocol::WebSocket,
    headers: "headers of [[link]]",
    header_file: &Keys { table: "a header of [[link]]", keys: HEADER_FILE },
    tls: &Keys { table: "tls of [[link]]", keys: TLS },
    of_relay: false,
};
/// A link that posts.
pub(crate) static OF_HTTP_LINK: DialKeys = DialKeys { protocol: Protocol::Http, ..OF_LINK };
pub(crate) static OF_RELAY: DialKeys = DialKeys {
    url: "url",
    timeout: "connect_timeout",
    protocol: Protocol::WebSocket,
    headers: "headers of relay",
    header_file: &Keys { table: "a header of relay", keys: HEADER_FILE },
    tls: &Keys { table: "tls of relay", keys: TLS },
    of_relay: true,
};
/// The service of an `[[auth]]`.
pub(crate) static OF_SERVICE: DialKeys = DialKeys { url: "url", ..OF_ISSUER };
/// The issuer whose keys an `[[auth]]` loads.
pub(crate) static OF_ISSUER: DialKeys = DialKeys {
    url: "jwks_url",
    timeout: "answer_timeout",
    protocol: Protocol::Http,
    headers: "headers of [[auth]]",
    header_file: &HEADER_OF_AUTH,
    tls: &TLS_OF_AUTH,
    of_relay: false,
};

static HEADER_OF_AUTH: Keys = Keys { table: "a header of [[auth]]", keys: HEADER_FILE };
static TLS_OF_AUTH: Keys = Keys { table: "tls of [[auth]]", keys: TLS };
