//! Web pages and devices, by the Origin and the Host of their requests: who may connect, and the line of the log that
//! helps who may not.

use crate::harness::{Gateway, Raw, request};

const LISTEN: &str = "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n";

/// A gateway with more lines for its listener and for its endpoint.
fn gateway(of_listener: &str, of_endpoint: &str) -> Gateway {
    Gateway::start(&format!("{LISTEN}{of_listener}\n[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\n{of_endpoint}\n"))
}

/// The status line of the answer to a request with this Origin and this Host.
fn status(mut client: Raw, origin: &str, host: &str) -> String {
    let request = request("/", &[&format!("Origin: {origin}")]).replace("Host: localhost", &format!("Host: {host}"));
    client.send(request.as_bytes());
    client.head()[..12].to_owned()
}

/// What the log says to write, once it has refused: the text between `write ` and ` under`.
fn line_to_write(gateway: &Gateway, origin: &str) -> String {
    let refusal = gateway.wait_for_log(&format!("Origin '{origin}' may not connect"));
    let line = refusal.split(" write ").nth(1).and_then(|rest| rest.split(" under ").next());
    line.unwrap_or_else(|| panic!("nothing to write in {refusal}")).to_owned()
}

#[test]
fn b1_the_log_has_the_line_that_lets_a_device_in() {
    let strict = gateway("", "");
    for origin in [
        "file://",
        "null",
        "https://github.com/gilmaimon/TinyWebsockets",
        "chrome-extension://pfdhoblngboilpfeibdedpjgfnlcodoo",
        "capacitor://localhost",
        "https://dash.example",
        "esp8266",
        "http://10.0.0.7:1880",
        "same",
    ] {
        assert_eq!(status(strict.raw("plain"), origin, "plc.local:8080"), "HTTP/1.1 403", "{origin}");
        let line = line_to_write(&strict, origin);
        let is_listed = line == format!("origins = [\"same\", \"{origin}\"]");
        assert!(is_listed || origin == "same" && line == "origins = \"any\"", "{line}");
        let open = gateway("", &line);
        assert_eq!(status(open.raw("plain"), origin, "plc.local:8080"), "HTTP/1.1 101", "{origin} with {line}");
        assert_eq!(status(open.raw("plain"), "http://127.0.0.1:80", "127.0.0.1"), "HTTP/1.1 101", "{line}");
    }
}

#[test]
fn b2_the_same_host_and_port_are_the_same_whatever_the_scheme() {
    let gateway = gateway("hosts = [\"plc.local\"]", "");
    for (origin, host, expected) in [
        ("ws://plc.local:8080", "plc.local:8080", "HTTP/1.1 101"),
        ("wss://plc.local:8080", "plc.local:8080", "HTTP/1.1 101"),
        ("wss://plc.local", "plc.local:443", "HTTP/1.1 101"),
        ("ws://plc.local:80", "plc.local", "HTTP/1.1 101"),
        ("ws://plc.local:8081", "plc.local:8080", "HTTP/1.1 403"),
        ("ftp://plc.local:8080", "plc.local:8080", "HTTP/1.1 403"),
    ] {
        assert_eq!(status(gateway.raw("plain"), origin, host), expected, "{origin} at {host}");
    }
}

#[test]
fn b48_a_page_of_a_development_server_on_this_machine_may_connect() {
    let gateway = gateway("", "");
    for (origin, expected) in [
        ("http://localhost:3000", "HTTP/1.1 101"),
        ("https://127.0.0.1:5173", "HTTP/1.1 101"),
        ("http://[::1]", "HTTP/1.1 101"),
        ("http://localhost.evil.example:3000", "HTTP/1.1 403"),
        ("http://10.0.0.7:3000", "HTTP/1.1 403"),
    ] {
        assert_eq!(status(gateway.raw("plain"), origin, "localhost:8080"), expected, "{origin}");
    }
}

#[test]
fn c7_a_name_that_was_led_to_this_machine_is_not_this_host_unless_it_is_listed() {
    let strict = gateway("", "");
    let origin = "http://gate.example:8080";
    assert_eq!(status(strict.raw("plain"), origin, "gate.example:8080"), "HTTP/1.1 403");
    let line = line_to_write(&strict, origin);
    assert_eq!(line, "hosts = [\"gate.example\"]");
    let named = gateway(&line, "");
    assert_eq!(status(named.raw("plain"), origin, "gate.example:8080"), "HTTP/1.1 101");
    assert_eq!(status(named.raw("plain"), "http://evil.example", "evil.example"), "HTTP/1.1 403");
    let any = gateway("hosts = \"any\"", "");
    assert_eq!(status(any.raw("plain"), "http://evil.example", "evil.example"), "HTTP/1.1 101");
}

#[test]
fn c7_a_unix_socket_is_reached_through_a_proxy_whose_names_are_its_own() {
    let unix = "[[listen]]\nname = \"unix\"\naddress = \"unix:ws.sock\"\n";
    for (hosts, expected) in [("", "HTTP/1.1 101"), ("hosts = [\"gate.example\"]\n", "HTTP/1.1 403")] {
        let gateway = Gateway::start(&format!("{unix}{hosts}"));
        let client = || Raw::unix(&gateway.file("ws.sock"));
        assert_eq!(status(client(), "https://gate.example", "gate.example"), "HTTP/1.1 101");
        assert_eq!(status(client(), "https://other.example", "other.example"), expected, "{hosts}");
    }
}

#[test]
fn b46_a_proxy_that_changes_the_host_is_named_with_the_line_that_passes_it_on() {
    let gateway = gateway("hosts = [\"gate.example\"]", "");
    for (origin, host) in [
        // $host of nginx has no port, $proxy_host is the address or the name of the upstream.
        ("https://gate.example:8443", "gate.example"),
        ("https://gate.example:8444", "127.0.0.1:8080"),
        ("https://gate.example:8445", "wsgate"),
    ] {
        assert_eq!(status(gateway.raw("plain"), origin, host), "HTTP/1.1 403", "{origin} at {host}");
        let told = gateway.wait_for_log(&format!("Origin '{origin}' may not connect to Host '{host}'"));
        assert!(told.contains("proxy_set_header Host $http_host;"), "{told}");
    }
}
