//! Keys and tables as other programs call them, and what to write for them here.

use toml::de::{DeTable, DeValue};

use super::remedy;

/// A key that wsgate does not have, under the names that it has elsewhere.
struct Alias {
    /// The tables in which it may stand, as messages call them.
    tables: &'static str,
    names: &'static str,
    advice: &'static str,
}

const AUTHENTICATION: &str = "write auth = [\"devices\"] under [[endpoint]], and an [[auth]] with name = \"devices\", \
                              kind = \"tokens\" and file = \"tokens.txt\" (docs/authentication.md)";
const SECRETS: &str = "auth authentication authorization token tokens api_key apikey api-key password user users username \
                       basic_auth basic jwt bearer secret credentials";
const CERTIFICATES: &str = "cert certificate certificates cert_file certfile ssl ssl_certificate key key_file keyfile \
                            private_key https wss secure";

const ALIASES: &[Alias] = &[
    Alias { tables: "[[listen]] [[endpoint]] [gateway] file", names: SECRETS, advice: AUTHENTICATION },
    Alias {
        tables: "[[listen]] [[endpoint]] [gateway]",
        names: "allow deny allow_ips deny_ips allowlist denylist whitelist blacklist blocklist ip_filter acl allow_from",
        advice: "write allow_addresses = [\"10.0.0.0/8\"] or deny_addresses = [\"10.0.0.7\"]",
    },
    Alias {
        tables: "[[listen]] [[endpoint]] [gateway] file",
        names: "proxy_protocol accept_proxy trust_proxy trust_proxies trusted_proxy real_ip real_ip_header set_real_ip_from \
                x_forwarded_for forwarded_for use_x_forwarded_for",
        advice: "write client_address = \"x-forwarded-for\", \"forwarded\" or \"proxy_protocol\" under [[listen]], and \
                 trusted_proxies = [\"127.0.0.1\"] with the addresses of your proxies",
    },
    Alias {
        tables: "[[link]] relay",
        names: SECRETS,
        advice: "write headers = { Authorization = \"Bearer ${TOKEN}\" }, or the user and the password in the URL",
    },
    Alias {
        tables: "[[listen]] [[endpoint]] [gateway] file",
        names: CERTIFICATES,
        advice: "write tls = { certificate = \"server.pem\", private_key = \"server.key\" } under [[listen]]",
    },
    Alias {
        tables: "[[link]] relay",
        names: "ca cacert ca_file cert certificate key private_key ssl insecure verify skip_verify reject_unauthorized",
        advice: "write tls = { ca = \"ca.pem\" }, where also certificate, private_key and verify belong",
    },
    Alias {
        tables: "[[endpoint]]",
        names: "upstream proxy_pass target backend url forward forward_to",
        advice: "write relay = { url = \"ws://127.0.0.1:9000/dev\" } to give each client its own connection to another server",
    },
    Alias {
        tables: "[[endpoint]]",
        names: "cors allowed_origins allow_origins allow_origin origin cors_origins",
        advice: "write origins = [\"https://dash.example\"], or origins = \"any\"",
    },
    Alias {
        tables: "[[endpoint]] [[link]]",
        names: "protocol protocols subprotocol sub_protocols",
        advice: "write subprotocols = [\"chat.v1\"]",
    },
    Alias {
        tables: "[[endpoint]] [[link]]",
        names: "ping pings ping_interval keepalive keep_alive interval heartbeat_interval idle_timeout",
        advice: "write heartbeat = \"30s\" and pong_timeout = \"10s\"",
    },
    Alias {
        tables: "[[endpoint]] [[link]]",
        names: "max_payload max_size max_message_size max_frame max_frame_size message_limit limit",
        advice: "write max_message = \"1MiB\"",
    },
    Alias {
        tables: "[[endpoint]]",
        names: "max_clients clients connections limit_clients",
        advice: "write max_connections = 100",
    },
    Alias { tables: "[[endpoint]]", names: "name id", advice: "an endpoint is called by its path: remove it" },
    Alias {
        tables: "[[endpoint]]",
        names: "broadcast reply echo route routes destination destinations send_to",
        advice: "write to = [\"broadcast\"], or the destinations that you want",
    },
    Alias {
        tables: "[[link]]",
        names: "path host port address uri server endpoint",
        advice: "write url = \"wss://plc.example/ws\"",
    },
    Alias {
        tables: "[[link]]",
        names: "reconnect retry retries reconnect_interval reconnect_delay retry_interval max_retries",
        advice: "write backoff = { first = \"500ms\", most = \"60s\", attempts = \"forever\" }",
    },
    Alias {
        tables: "[gateway] file",
        names: "log_level loglevel level debug",
        advice: "write level = \"info\" under [log]",
    },
    Alias {
        tables: "[log]",
        names: "file path output destination",
        advice: "the log is lines on standard error: remove it",
    },
];

/// Where the address of a listener can stand in parts.
const HOSTS: [&str; 8] = ["host", "hostname", "ip", "bind", "interface", "addr", "listen", "address"];

/// What to write for a key of another program, if it is known.
pub(super) fn advice(table: &str, name: &str, entries: &DeTable<'_>) -> Option<String> {
    let takes_address = matches!(table, "[[listen]]" | "[[endpoint]]" | "[gateway]" | "file");
    if takes_address && (name == "port" || HOSTS.contains(&name)) {
        let place = if table == "[[listen]]" { "" } else { " under [[listen]]" };
        return Some(format!("write address = {}{place}", address(entries)));
    }
    let table = if table.starts_with("relay") { "relay" } else { table };
    let has = |words: &str, word: &str| words.split(' ').any(|known| known == word);
    ALIASES.iter().find(|alias| has(alias.tables, table) && has(alias.names, name)).map(|alias| alias.advice.to_owned())
}

/// What to write for a table of another program, if it is known.
pub(super) fn table_advice(name: &str) -> Option<&'static str> {
    let has = |words: &str| words.split(' ').any(|known| known == name);
    if has(SECRETS) {
        return Some(AUTHENTICATION);
    }
    match name {
        "server" | "servers" | "http" | "https" | "websocket" | "ws" => {
            Some("write [[listen]] for an address, [gateway] for the limits of all clients together")
        }
        "route" | "routes" | "path" | "paths" | "location" | "room" | "rooms" | "channel" | "channels" | "topic" => {
            Some("write [[endpoint]] with the path of its clients")
        }
        "upstream" | "upstreams" | "client" | "clients" | "remote" | "remotes" | "connection" | "connections" => Some(
            "write [[link]] for a server that wsgate connects to, or relay under [[endpoint]] for one that each client gets",
        ),
        "tls" | "ssl" => {
            Some("write tls = { certificate = \"server.pem\", private_key = \"server.key\" } under [[listen]]")
        }
        _ => None,
    }
}

/// The address that a table has in parts: its host under one key, its port under another.
fn address(entries: &DeTable<'_>) -> String {
    let text = |key: &str| match entries.get(key)?.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    let fits =
        |text: &String| !text.is_empty() && !text.contains(|c: char| c.is_control() || matches!(c, '/' | '"' | '\\'));
    let (port, host) = (text("port").filter(fits), HOSTS.iter().find_map(|key| text(key)).filter(fits));
    match (&host, port) {
        (Some(number), None) if number.bytes().all(|b| b.is_ascii_digit()) => remedy::address(None, Some(number)),
        (Some(whole), None) if whole.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            let (host, port) = whole.rsplit_once(':').unwrap_or_default();
            remedy::address(Some(host), Some(port))
        }
        (host, port) => remedy::address(host.as_deref(), port.as_deref()),
    }
}
