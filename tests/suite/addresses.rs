//! Where clients come from: by their sockets, by what proxies in front say, and who may come in by it. The proxies are a
//! client that says what it likes, and real ones.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use rustix::process::Signal;

use super::proxies::{caddy, haproxy, nginx, works};
use crate::harness::{Gateway, Proxy, Raw, Remote, measured, request};

/// The proxy that is trusted here, and another address of this machine.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// What a client sends comes back with its address.
const ECHO: &str = "[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nformat = \"n8n\"\n";

/// Listeners with these lines, plain and with TLS.
fn listeners(lines: &str) -> String {
    let listener =
        |name: &str, more: &str| format!("[[listen]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n{more}{lines}\n");
    listener("main", "") + &listener("tls", "tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }\n")
}

fn gateway(of_listener: &str, of_endpoint: &str) -> Gateway {
    Gateway::start(&format!("[gateway]\nhandshake_timeout = \"1s\"\n{}{ECHO}{of_endpoint}", listeners(of_listener)))
}

/// The listener's lines for proxies that speak so.
fn behind(by: &str) -> String {
    format!("client_address = \"{by}\"\ntrusted_proxies = [\"{PROXY}\"]\n")
}

/// The address that the gateway takes a client's to be.
fn client_ip(client: &mut Raw, headers: &[&str]) -> String {
    client.upgrade("/", headers);
    client.send_text("x");
    let message: serde_json::Value = serde_json::from_str(&client.text()).unwrap();
    message["metadata"]["clientIp"].as_str().unwrap().to_owned()
}

fn status(mut client: Raw, headers: &[&str]) -> String {
    client.send(request("/", headers).as_bytes());
    client.head()[9..12].to_owned()
}

#[test]
fn h11_a_header_counts_from_a_trusted_proxy_alone() {
    const HEADERS: [(&str, &str); 2] = [
        ("x-forwarded-for", "X-Forwarded-For: 6.6.6.6, 192.0.2.1"),
        ("forwarded", "Forwarded: for=6.6.6.6, for=\"192.0.2.1:80\""),
    ];
    for (by, header) in HEADERS {
        let gateway = gateway(&behind(by), "");
        let port = gateway.port("main");
        assert_eq!(client_ip(&mut Raw::plain_from(PROXY, port), &[header]), "192.0.2.1");
        gateway.wait_for_log("(192.0.2.1 via 127.0.0.2:");
        let all: Vec<&str> = HEADERS.iter().map(|(_, header)| *header).collect();
        assert_eq!(client_ip(&mut Raw::plain_from(OTHER, port), &all), "127.0.0.3", "it is forged");
        gateway.wait_for_log("(127.0.0.3:");
        for (_, another) in HEADERS.iter().filter(|(other, _)| *other != by) {
            assert_eq!(client_ip(&mut Raw::plain_from(PROXY, port), &[another]), "127.0.0.2", "it was not asked for");
        }
        let broken = header.replace("192.0.2.1", "unknown");
        assert_eq!(status(Raw::plain_from(PROXY, port), &[&broken]), "400");
        let line = gateway.wait_for_log(": refused with 400: ");
        assert!(line.contains("unknown") && line.contains("\"trusted_proxies\""), "{line}");
        assert_eq!(status(Raw::plain_from(OTHER, port), &[&broken]), "101", "nobody reads it");
    }
}

#[test]
fn h11_the_host_that_a_trusted_proxy_says_is_that_of_a_page() {
    for (by, line) in [
        ("x-forwarded-for", "X-Forwarded-Host: gate.example"),
        ("forwarded", "Forwarded: for=192.0.2.1;host=gate.example"),
    ] {
        let gateway = gateway(&behind(by), "");
        let port = gateway.port("main");
        let page = "Origin: https://gate.example";
        assert_eq!(status(Raw::plain_from(PROXY, port), &[page, line]), "101", "{by}");
        assert_eq!(status(Raw::plain_from(PROXY, port), &[page]), "403", "{by}");
        assert_eq!(status(Raw::plain_from(OTHER, port), &[page, line]), "403", "{by}: it is forged");
        assert_eq!(status(Raw::plain_from(PROXY, port), &["Origin: https://evil.example", line]), "403", "{by}");
    }
}

#[test]
fn h11_a_proxy_on_a_unix_socket_is_trusted_by_the_word_for_it() {
    for (by, header, ahead) in [
        ("x-forwarded-for", "X-Forwarded-For: 6.6.6.6, 192.0.2.1", Vec::new()),
        ("forwarded", "Forwarded: for=192.0.2.1", Vec::new()),
        ("proxy_protocol", "X-Other: x", headers()[1].1.clone()),
    ] {
        let config = format!(
            "[[listen]]\nname = \"unix\"\naddress = \"unix:ws.sock\"\nclient_address = \"{by}\"\ntrusted_proxies = [\"unix\"]\n\
             deny_addresses = [\"192.0.2.2\"]\n{ECHO}"
        );
        let gateway = Gateway::start(&config);
        let mut client = Raw::unix(&gateway.file("ws.sock"));
        client.send(&ahead);
        assert_eq!(client_ip(&mut client, &[header]), "192.0.2.1", "{by}");
        gateway.wait_for_log(" via unix): connected to '/'");
        if ahead.is_empty() {
            let denied = header.replace("192.0.2.1", "192.0.2.2");
            assert_eq!(status(Raw::unix(&gateway.file("ws.sock")), &[&denied]), "403", "{by}");
        }
    }
}

/// Headers of version 1 and 2 that name 192.0.2.1, and one of version 2 of the proxy itself.
fn headers() -> [(&'static str, Vec<u8>); 3] {
    let v2 = |command: u8| {
        let rest = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80, 0x20, 0, 3, 1, 2, 3];
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x11, 0, 18], &rest].concat()
    };
    [
        ("192.0.2.1", b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec()),
        ("192.0.2.1", v2(0x21)),
        ("127.0.0.2", v2(0x20)),
    ]
}

#[test]
fn h12_a_header_of_the_proxy_protocol_comes_before_all_else() {
    let gateway = gateway(&behind("proxy_protocol"), "");
    for (expected, header) in headers() {
        let mut client = Raw::plain_from(PROXY, gateway.port("main"));
        client.send(&header);
        assert_eq!(client_ip(&mut client, &["X-Forwarded-For: 6.6.6.6"]), expected);
        // In one packet with the request, and byte by byte.
        let mut client = Raw::plain_from(PROXY, gateway.port("main"));
        client.send(&[&header[..], request("/", &[]).as_bytes()].concat());
        assert!(client.head().starts_with("HTTP/1.1 101 "));
        let mut client = Raw::plain_from(PROXY, gateway.port("main"));
        header.iter().for_each(|byte| client.send(&[*byte]));
        assert_eq!(client_ip(&mut client, &[]), expected);
        let mut client = Raw::tls_behind(&header, PROXY, gateway.port("tls"), &gateway.file("ca.pem"));
        assert_eq!(client_ip(&mut client, &[]), expected);
    }
    gateway.wait_for_log("(192.0.2.1:4660 via 127.0.0.2:");
    // Nobody else may speak of others, nor for himself.
    for listener in ["main", "tls"] {
        let mut forger = Raw::plain_from(OTHER, gateway.port(listener));
        let _ = forger.try_send(&headers()[0].1);
        assert!(forger.is_gone_within(Duration::from_secs(5)), "{listener}");
        let line = format!("listener \"{listener}\": closed a connection from 127.0.0.3:");
        assert!(gateway.wait_for_log(&line).contains("\"trusted_proxies\" does not have its address"));
    }
}

#[test]
fn h12_what_comes_without_a_whole_header_is_refused() {
    let gateway = gateway(&behind("proxy_protocol"), "");
    let (plain, tls) = (gateway.port("main"), gateway.port("tls"));
    assert_eq!(status(Raw::plain_from(PROXY, plain), &[]), "400");
    let line = gateway.wait_for_log(": refused with 400: no header of the PROXY protocol came first");
    assert!(line.contains("send-proxy-v2"), "{line}");
    for begin in [&b"\x16\x03\x01\x02"[..], b"PROXY TCP4 192.0.2.1\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"] {
        let mut client = Raw::plain_from(PROXY, tls);
        client.send(begin);
        client.end();
    }
    // Half a header, and then nothing: the handshake's deadline.
    for (listener, header) in
        [(plain, &headers()[0].1[..20]), (plain, &headers()[1].1[..20]), (tls, &headers()[0].1[..20])]
    {
        let mut client = Raw::plain_from(PROXY, listener);
        client.send(header);
        if listener == plain {
            assert!(client.head().starts_with("HTTP/1.1 408 "));
        }
        assert!(client.is_gone_within(Duration::from_secs(10)));
    }
}

#[test]
fn s11_an_address_that_may_not_come_gets_no_answer_at_a_listener_and_403_at_an_endpoint() {
    let gateway = gateway(
        "allow_addresses = [\"127.0.0.0/8\"]\ndeny_addresses = [\"127.0.0.3\"]",
        "[[endpoint]]\npath = \"/closed\"\nto = [\"reply\"]\ndeny_addresses = [\"127.0.0.2\"]\n\
         [[endpoint]]\npath = \"/nobody\"\nto = [\"reply\"]\nallow_addresses = []\n",
    );
    for listener in ["main", "tls"] {
        let mut denied = Raw::plain_from(OTHER, gateway.port(listener));
        let _ = denied.try_send(request("/", &[]).as_bytes());
        assert!(denied.is_gone_within(Duration::from_secs(5)), "{listener}");
        let line = gateway.wait_for_log(&format!("listener \"{listener}\": closed a connection from 127.0.0.3:"));
        assert!(line.ends_with("without an answer: \"deny_addresses\" has its address"), "{line}");
    }
    assert_eq!(status(Raw::plain_from(PROXY, gateway.port("main")), &[]), "101");
    let mut client = Raw::plain(gateway.port("main"));
    client.upgrade("/closed", &[]);
    for (path, why) in [("/closed", "\"deny_addresses\" has"), ("/nobody", "\"allow_addresses\" does not have")] {
        let mut client = Raw::plain_from(PROXY, gateway.port("main"));
        client.send(request(path, &[]).as_bytes());
        let (head, body) = client.answer();
        assert!(head.starts_with("HTTP/1.1 403 ") && !body.contains("addresses"), "{head}{body}");
        gateway
            .wait_for_log(&format!(": this address may not connect: {why} its address, under [[endpoint]] '{path}'"));
    }
}

#[test]
fn s11_the_address_that_a_proxy_says_is_the_one_that_is_judged() {
    const DENY: &str = "deny_addresses = [\"192.0.2.1\"]\n";
    let by_header = gateway(&format!("{}{DENY}", behind("x-forwarded-for")), "");
    let port = by_header.port("main");
    assert_eq!(status(Raw::plain_from(PROXY, port), &["X-Forwarded-For: 192.0.2.1"]), "403");
    by_header.wait_for_log("(192.0.2.1 via 127.0.0.2:");
    by_header.wait_for_log("\"deny_addresses\" has its address, under [[listen]] 'main'");
    assert_eq!(status(Raw::plain_from(PROXY, port), &["X-Forwarded-For: 192.0.2.2"]), "101");
    assert_eq!(status(Raw::plain_from(OTHER, port), &["X-Forwarded-For: 192.0.2.1"]), "101", "it is forged");
    let by_protocol = gateway(&format!("{}{DENY}", behind("proxy_protocol")), "");
    for listener in ["main", "tls"] {
        let mut denied = Raw::plain_from(PROXY, by_protocol.port(listener));
        denied.send(&headers()[0].1);
        assert!(denied.is_gone_within(Duration::from_secs(5)), "{listener}");
    }
    by_protocol.wait_for_logs(": closed without an answer: \"deny_addresses\" has its address", 2);
}

#[test]
fn s11_a_list_from_a_file_is_read_again_on_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("deny.txt");
    fs::write(&file, "# nobody yet\n").unwrap();
    let gateway = gateway(&format!("deny_addresses = {{ file = {:?} }}", file.to_str().unwrap()), "");
    let port = gateway.port("main");
    let mut before = Raw::plain_from(OTHER, port);
    before.upgrade("/", &[]);
    for (content, told) in [("127.0.0.0/8\n127.0.0.300\n", "line 2"), ("", "it is empty")] {
        fs::write(&file, content).unwrap();
        gateway.signal(Signal::HUP);
        let line = gateway.wait_for_log(told);
        assert!(line.contains("reload: failed") && line.contains("deny.txt"), "{line}");
        assert_eq!(status(Raw::plain_from(OTHER, port), &[]), "101", "the old list stays");
    }
    fs::write(&file, "127.0.0.3\n").unwrap();
    gateway.signal(Signal::HUP);
    gateway.wait_for_log("reload: read again");
    let mut denied = Raw::plain_from(OTHER, port);
    let _ = denied.try_send(request("/", &[]).as_bytes());
    assert!(denied.is_gone_within(Duration::from_secs(5)));
    assert!(gateway.wait_for_log("closed a connection from 127.0.0.3:").contains("deny.txt"));
    assert_eq!(status(Raw::plain_from(PROXY, port), &[]), "101");
    before.closed_with(1008, "Access withdrawn");
    gateway.wait_for_log("its access was withdrawn: \"deny_addresses\" has its address (the list in ");
}

#[test]
fn h11_a_relay_tells_its_server_the_way_of_the_request() {
    let server = Remote::up();
    let relay = format!("[[endpoint]]\npath = \"/up\"\nrelay = {{ url = \"{}\" }}\n", server.url());
    let gateway = gateway(&behind("x-forwarded-for"), &relay);
    let said = ["X-Forwarded-For: 6.6.6.6, 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: gate.example"];
    for (from, lines) in [
        (PROXY, ["X-Forwarded-For: 192.0.2.1, 127.0.0.2", said[1], said[2]]),
        (OTHER, ["X-Forwarded-For: 127.0.0.3", "X-Forwarded-Proto: http", "X-Forwarded-Host: localhost"]),
    ] {
        let mut client = Raw::plain_from(from, gateway.port("main"));
        client.send(request("/up", &said).as_bytes());
        let (_connection, asked) = server.upgraded(&[]);
        let told: Vec<&str> = asked.lines().filter(|line| line.starts_with("X-Forwarded-")).collect();
        assert_eq!(told, lines, "{from}");
    }
}

/// A gateway whose proxies are those of this machine.
fn behind_real(by: &str) -> Gateway {
    gateway(&format!("client_address = \"{by}\"\ntrusted_proxies = [\"127.0.0.1\"]\nhealth = \"/healthz\"\n"), "")
}

/// A port for a proxy, and what keeps it.
fn port() -> (Remote, u16) {
    let kept = Remote::away();
    let port = kept.address().port();
    (kept, port)
}

#[test]
fn h11_nginx_says_where_its_clients_come_from() {
    const HOST: &str = "proxy_set_header Host $http_host;";
    for (by, lines) in [
        ("x-forwarded-for", super::documents::block_with("nginx", "X-Forwarded-For")),
        ("forwarded", super::documents::block_with("nginx", "Forwarded \"host=")),
    ] {
        let (gateway, (_kept, port)) = (behind_real(by), port());
        let listen = format!("listen 80;\nlisten 127.0.0.1:{port};");
        // Without the Host: what the proxy says of it stands for it.
        let Some(_proxy) = nginx(&gateway, &[(HOST, lines), ("listen 80;", &listen)]) else { return };
        let forged = ["X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Forwarded-Host: evil"];
        assert_eq!(client_ip(&mut Raw::plain_from(OTHER, port), &forged), "127.0.0.3", "{by}");
        // A Host that goes on behind the quotes that the recipe puts around it.
        for host in ["x\",for=\"6.6.6.6", "x\",for=6.6.6.6,y=\"", "x\";for=6.6.6.6;y=\"", "x\";y=", "x\\"] {
            let mut client = Raw::plain_from(OTHER, port);
            client.send(request("/", &[]).replace("Host: localhost", &format!("Host: {host}")).as_bytes());
            if client.head().starts_with("HTTP/1.1 101 ") {
                client.send_text("1");
                let seen: serde_json::Value = serde_json::from_str(&client.text()).unwrap();
                assert_eq!(seen["metadata"]["clientIp"], "127.0.0.3", "{by} with Host {host}");
            }
        }
        works(Raw::plain_from(OTHER, port), "gate.example");
        gateway.wait_for_log("(127.0.0.3 via 127.0.0.1:");
        assert_eq!(
            client_ip(&mut Raw::plain_from(PROXY, gateway.port("main")), &forged),
            "127.0.0.2",
            "past the proxy"
        );
    }
}

#[test]
fn h11_caddy_says_where_its_clients_come_from() {
    let (gateway, (_kept, port)) = (behind_real("x-forwarded-for"), port());
    let Some(_proxy) = caddy(&gateway, Some(port)) else { return };
    let forged = ["X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Forwarded-Host: evil"];
    assert_eq!(client_ip(&mut Raw::plain_from(OTHER, port), &forged), "127.0.0.3");
    works(Raw::plain_from(OTHER, port), "gate.example");
    gateway.wait_for_log("(127.0.0.3 via 127.0.0.1:");
}

#[test]
fn h12_haproxy_says_where_its_clients_come_from_in_both_versions() {
    for option in ["send-proxy", "send-proxy-v2"] {
        let (gateway, (_kept, port)) = (behind_real("proxy_protocol"), port());
        let (check, bind) = (format!(" check inter 1ms {option}"), format!("bind :80\n    bind 127.0.0.1:{port}"));
        let Some(_proxy) = haproxy(&gateway, &[(" check", &check), ("bind :80", &bind)]) else { return };
        assert_eq!(
            client_ip(&mut Raw::plain_from(OTHER, port), &["X-Forwarded-For: 6.6.6.6"]),
            "127.0.0.3",
            "{option}"
        );
        gateway.wait_for_log("(127.0.0.3:");
        let told: Vec<_> = gateway.log().into_iter().filter(|line| line.contains("INFO  client ")).collect();
        assert!(told.iter().all(|line| line.contains("connected ")), "the checks are no news: {told:?}");
    }
}

#[test]
fn h12_haproxy_passes_tls_through_or_ends_it() {
    const DEFAULTS: &str = "defaults\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n";
    for (option, is_ended) in
        [("send-proxy", false), ("send-proxy-v2", false), ("send-proxy", true), ("send-proxy-v2", true)]
    {
        let (gateway, (_kept, port)) = (behind_real("proxy_protocol"), port());
        let pair = gateway.file("pair.pem");
        let read = |name| fs::read_to_string(gateway.file(name)).unwrap();
        fs::write(&pair, read("cert.pem") + &read("key.pem")).unwrap();
        let (ssl, listener) =
            if is_ended { (format!(" ssl crt {}", pair.display()), "main") } else { (String::new(), "tls") };
        let config = format!(
            "{DEFAULTS}\nlisten gate\n    mode tcp\n    bind :80\n    bind 127.0.0.1:{port}{ssl}\n    \
             server wsgate 127.0.0.1:{} {option}\n",
            gateway.port(listener)
        );
        let Some(_proxy) = Proxy::haproxy(&config) else {
            return measured("H12", "skipped: HAProxy is not installed");
        };
        let mut client = Raw::tls_behind(b"", OTHER, port, &gateway.file("ca.pem"));
        assert_eq!(client_ip(&mut client, &[]), "127.0.0.3", "{option} {is_ended}");
    }
}
