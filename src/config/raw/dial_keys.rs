//! The keys of a table that dials, and how messages call its parts: those of a link and of a relay differ.

use crate::config::section::Keys;

/// How messages call the parts of a table that dials.
pub(crate) struct DialKeys {
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
    headers: "headers of [[link]]",
    header_file: &Keys { table: "a header of [[link]]", keys: HEADER_FILE },
    tls: &Keys { table: "tls of [[link]]", keys: TLS },
    of_relay: false,
};
pub(crate) static OF_RELAY: DialKeys = DialKeys {
    headers: "headers of relay",
    header_file: &Keys { table: "a header of relay", keys: HEADER_FILE },
    tls: &Keys { table: "tls of relay", keys: TLS },
    of_relay: true,
};
