//! Which web pages and devices may connect, by the Origin header of their requests, and what the others are told: the
//! line that would let them in. A rule.

use crate::approach::AskedHost;
use crate::config::{EndpointSettings, Hosts, ListenerSettings, Origins};
use crate::http::origin::{Place, canonical, is_address, is_listable, is_loopback};
use crate::http::refusal::Refusal;
use crate::http::token::split_port;

/// How many characters of an Origin and a Host stand in the answer and the log.
const SHOWN: usize = 200;

/// The nginx line without which it replaces the Host header.
const PASS_HOST: &str = "nginx: proxy_set_header Host $http_host;";

/// Why an origin is not that of the request itself.
#[derive(Debug, PartialEq, Eq)]
enum Foreign {
    /// It is another place.
    Elsewhere,
    /// It is the same host, but only the origin has a port: something has cut it from the Host.
    PortIsCut,
    /// It is the same place, under a name that need not be ours: whoever owns a name can have it lead here.
    StrangeName,
}

/// Judges a request with this Origin and this Host at an endpoint, over a listener. A request without an Origin is not
/// asked: no browser, no cross-site attack.
///
/// # Errors
/// 403, with what to write if it is meant to connect.
pub fn check(
    endpoint: &EndpointSettings,
    listener: &ListenerSettings,
    origin: &str,
    asked: &AskedHost,
) -> Result<(), Refusal> {
    let host = &*asked.name;
    let Origins::List { same, others } = &endpoint.origins else { return Ok(()) };
    if others.contains(&canonical(origin)) {
        return Ok(());
    }
    let foreign = match same.then(|| compare(listener, origin, asked)) {
        Some(Ok(())) => return Ok(()),
        Some(Err(foreign)) => foreign,
        None => Foreign::Elsewhere,
    };
    let path = &endpoint.path;
    let listing = match is_listable(origin) && origin.chars().count() <= SHOWN {
        true if *same && others.is_empty() => {
            format!("write origins = [\"same\", {}] under [[endpoint]] '{path}'", quoted(origin))
        }
        // The rest of the list may be from the environment, which is never shown.
        true => format!("add {} to \"origins\" under [[endpoint]] '{path}'", quoted(origin)),
        false => format!("write origins = \"any\" under [[endpoint]] '{path}', which lets every page in"),
    };
    let name = split_port(host).0;
    let advice = match foreign {
        Foreign::StrangeName => format!(
            "on an address of this machine only, a name counts as the same host if it is listed (DNS rebinding). If it is \
             yours, as behind a proxy, write hosts = [{}] under [[listen]] '{}'",
            quoted(&name.to_ascii_lowercase()),
            listener.name
        ),
        Foreign::PortIsCut => format!(
            "the Host has no port. If a proxy in front cuts it, as nginx does with $host, pass on all of it ({PASS_HOST}); \
             otherwise, if you trust this origin, {listing}"
        ),
        Foreign::Elsewhere if is_address(name) || !name.contains('.') => {
            format!(
                "if you trust this origin, {listing}; if a proxy in front replaces the Host, pass it on ({PASS_HOST})"
            )
        }
        Foreign::Elsewhere => format!("if you trust this origin, {listing}"),
    };
    let reason = format!("Origin '{origin:.SHOWN$}' may not connect to Host '{host:.SHOWN$}'");
    Err(Refusal::new(403, reason).with_advice(advice))
}

/// Whether an origin is the same place as the Host, whatever its scheme. A missing port is that of the origin's scheme,
/// on both sides: the page and the socket are at the same place.
fn compare(listener: &ListenerSettings, origin: &str, asked: &AskedHost) -> Result<(), Foreign> {
    let host = &*asked.name;
    let Some((place, default_port)) = Place::of(origin).and_then(|place| Some((place, place.default_port()?))) else {
        return Err(Foreign::Elsewhere);
    };
    let (name, port) = split_port(host);
    // Both the page and the gateway are on the browser's own machine. Behind a proxy the Host says otherwise.
    if listener.address.is_local() && is_loopback(place.host) && is_loopback(name) {
        return Ok(());
    }
    if !place.host.eq_ignore_ascii_case(name) {
        return Err(Foreign::Elsewhere);
    }
    if place.port.unwrap_or(default_port) != port.unwrap_or(default_port) {
        return Err(if port.is_none() { Foreign::PortIsCut } else { Foreign::Elsewhere });
    }
    // What a proxy says no name leads to, unless names are listed: the proxy is known, and it is what browsers have reached.
    let is_default = listener.address.is_local() && listener.hosts == Hosts::default_of(&listener.address);
    let is_told = asked.is_forwarded && is_default;
    if is_told || is_address(name) || is_loopback(name) || listener.hosts.contains(name) {
        return Ok(());
    }
    Err(Foreign::StrangeName)
}

/// As a string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenAddress;

    fn listed(same: bool, others: &[&str]) -> Origins {
        Origins::List { same, others: others.iter().map(|&origin| origin.to_owned()).collect() }
    }

    fn judged(origins: &Origins, listener: &ListenerSettings, origin: &str, host: &str) -> Result<(), Refusal> {
        let endpoint = EndpointSettings { origins: origins.clone(), ..EndpointSettings::default() };
        let host = AskedHost { name: host.to_owned(), is_forwarded: false };
        check(&endpoint, listener, origin, &host)
    }

    /// One that the network reaches, where every name is the same host.
    fn open() -> ListenerSettings {
        let address = ListenAddress::Tcp(([0, 0, 0, 0], 8080).into());
        ListenerSettings { address, hosts: Hosts::Any, ..ListenerSettings::default() }
    }

    #[test]
    fn b1_b2_an_origin_is_the_same_place_or_is_listed() {
        let same = Origins::default();
        let list =
            listed(false, &["https://dash.example", "file://", "null", "https://a.example/b", "chrome-extension://c"]);
        let table: [(&Origins, &str, &str, bool); 33] = [
            (&same, "http://here:8080", "here:8080", true),
            (&same, "http://HERE:8080", "here:8080", true),
            (&same, "ws://here:8080", "here:8080", true),
            (&same, "WSS://here:8080", "here:8080", true),
            (&same, "wss://here:8080/ws", "here:8080", true),
            (&same, "http://here", "here", true),
            (&same, "https://here", "here:443", true),
            (&same, "wss://here", "here:443", true),
            (&same, "ws://here:80", "here", true),
            (&same, "app://here", "here", false),
            (&same, "http://here", "here:8080", false),
            (&same, "http://here:8081", "here:8080", false),
            (&same, "http://here.evil", "here", false),
            (&same, "http://here@evil", "here", false),
            (&same, "http://evil/here", "here", false),
            (&same, "http://evil", "here", false),
            (&same, "null", "here", false),
            (&same, "file://", "", false),
            (&same, "http://[::1]:8080", "[::1]:8080", true),
            (&same, "http://[::1]", "[::1]", true),
            // The listener is not of this machine only.
            (&same, "http://localhost:3000", "localhost:8080", false),
            (&list, "https://dash.example", "x", true),
            (&list, "HTTPS://dash.example:443/", "x", true),
            (&list, "https://dash.example.evil", "x", false),
            (&list, "http://dash.example", "dash.example", false),
            (&list, "file://", "x", true),
            (&list, "null", "x", true),
            (&list, "https://a.example/b", "x", true),
            (&list, "https://a.example", "x", false),
            (&list, "chrome-extension://c", "x", true),
            (&listed(true, &["null"]), "http://here", "here", true),
            (&listed(true, &["null"]), "null", "here", true),
            (&Origins::Any, "a b", "x", true),
        ];
        for (origins, origin, host, expected) in table {
            assert_eq!(judged(origins, &open(), origin, host).is_ok(), expected, "{origins:?} {origin:?} {host}");
        }
    }

    #[test]
    fn b48_c7_on_this_machine_pages_of_this_machine_are_the_same_and_names_must_be_known() {
        let same = Origins::default();
        let unix = ListenerSettings {
            address: ListenAddress::Unix("/run/ws.sock".into()),
            hosts: Hosts::Any,
            ..ListenerSettings::default()
        };
        let named = ListenerSettings {
            hosts: Hosts::Named(vec!["gate.example".to_owned(), "*.plant.example".to_owned()]),
            ..ListenerSettings::default()
        };
        let loopback = ListenerSettings::default();
        for (listener, origin, host, expected) in [
            (&loopback, "http://localhost:3000", "localhost:8080", true),
            (&loopback, "http://127.0.0.1:3000", "localhost:8080", true),
            (&loopback, "https://[::1]", "127.0.0.1:8080", true),
            (&loopback, "http://localhost:3000", "gate.example", false),
            (&loopback, "http://10.0.0.7:8080", "10.0.0.7:8080", true),
            (&loopback, "http://evil.example:8080", "evil.example:8080", false),
            (&loopback, "http://localhost.evil.example", "localhost.evil.example", false),
            (&named, "https://gate.example", "gate.example", true),
            (&named, "https://GATE.example", "gate.EXAMPLE", true),
            (&named, "https://a.gate.example", "a.gate.example", false),
            (&named, "https://a.b.plant.example", "a.b.plant.example", true),
            (&named, "https://plant.example", "plant.example", false),
            (&named, "https://evilplant.example", "evilplant.example", false),
            (&named, "http://localhost:3000", "localhost:8080", true),
            (&unix, "https://gate.example", "gate.example", true),
            (&unix, "http://localhost:3000", "localhost", true),
        ] {
            assert_eq!(judged(&same, listener, origin, host).is_ok(), expected, "{} {origin} {host}", listener.name);
        }
    }

    #[test]
    fn a_name_that_a_trusted_proxy_says_needs_no_list_but_keeps_to_one() {
        let listed =
            ListenerSettings { hosts: Hosts::Named(vec!["gate.example".to_owned()]), ..ListenerSettings::default() };
        for (listener, name, is_forwarded, expected) in [
            (&ListenerSettings::default(), "gate.example", true, true),
            (&ListenerSettings::default(), "gate.example", false, false),
            (&listed, "gate.example", true, true),
            (&listed, "other.example", true, false),
        ] {
            let (host, origin) = (AskedHost { name: name.to_owned(), is_forwarded }, format!("https://{name}"));
            let judged = check(&EndpointSettings::default(), listener, &origin, &host);
            assert_eq!(judged.is_ok(), expected, "{name} {is_forwarded}");
        }
    }

    #[test]
    fn b1_b46_a_refusal_has_the_line_to_write() {
        let list = listed(false, &["https://dash.example"]);
        let same = Origins::default();
        let any = "write origins = \"any\" under [[endpoint]] '/'";
        for (origins, origin, host, advice) in [
            (&same, "file://", "localhost", "write origins = [\"same\", \"file://\"] under [[endpoint]] '/'"),
            (&same, "a\"\\", "h", r#"origins = ["same", "a\"\\"]"#),
            (&same, "a\tb", "h", any),
            (&same, "same", "h", any),
            (&same, &"x".repeat(SHOWN + 1), "h", any),
            (&list, "null", "h", "add \"null\" to \"origins\" under [[endpoint]] '/'"),
            (&same, "https://gate.example:8443", "gate.example", "proxy_set_header Host $http_host;"),
            (&same, "https://gate.example", "127.0.0.1:8080", "proxy_set_header Host $http_host;"),
            (&same, "https://gate.example", "wsgate_upstream", "proxy_set_header Host $http_host;"),
            (
                &same,
                "https://Gate.example",
                "Gate.example",
                "hosts = [\"gate.example\"] under [[listen]] '127.0.0.1:8080'",
            ),
        ] {
            let why = judged(origins, &ListenerSettings::default(), origin, host).unwrap_err().to_string();
            assert!(why.contains(advice), "{origin} {host}: {why}");
            assert!(
                why.starts_with(&format!(
                    "refused with 403: Origin '{origin:.SHOWN$}' may not connect to Host '{host}': "
                )),
                "{why}"
            );
        }
        let elsewhere = judged(&same, &open(), "https://a.example", "b.example").unwrap_err().to_string();
        assert!(!elsewhere.contains("proxy"), "{elsewhere}");
    }
}
