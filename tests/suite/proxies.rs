//! A real nginx, HAProxy and Caddy in front: the recipes of docs/proxies.md work as they stand there, and each line that
//! is missing or wrong is named by wsgate.

use super::documents::{self, block_with, config_with};
use crate::harness::{Gateway, Proxy, Raw, masked, measured, replaced, request};

/// The configuration beside the recipes.
fn config() -> &'static str {
    config_with("hosts = [\"gate.example\"]         # the names that the proxy serves")
}

fn gateway() -> Gateway {
    documents::start(config())
}

/// Where the recipes lead to.
const ADDRESS: &str = "127.0.0.1:8080";

pub(crate) fn nginx(gateway: &Gateway, changes: &[(&str, &str)]) -> Option<Proxy> {
    let proxy = Proxy::nginx(&recipe(gateway, "nginx", "proxy_pass", changes));
    if proxy.is_none() {
        measured("B46", "skipped: nginx is not installed");
    }
    proxy
}

pub(crate) fn haproxy(gateway: &Gateway, changes: &[(&str, &str)]) -> Option<Proxy> {
    // A check that is made every few milliseconds has more time than that on a busy machine.
    let patient = ("timeout connect 5s", "timeout connect 5s\n    timeout check 5s");
    let changes = [changes, &[patient]].concat();
    let proxy = Proxy::haproxy(&recipe(gateway, "haproxy", "default_backend", &changes));
    if proxy.is_none() {
        measured("B45", "skipped: HAProxy is not installed");
    }
    proxy
}

/// Caddy with its recipe, on this port of the machine too.
pub(crate) fn caddy(gateway: &Gateway, port: Option<u16>) -> Option<Proxy> {
    let site = recipe(gateway, "caddyfile", "reverse_proxy", &[]);
    let on_port = port.map(|port| replaced(&site, "gate.example {", &format!("http://:{port} {{\n    bind 127.0.0.1")));
    let proxy = Proxy::caddy(&format!("{site}\n{}", on_port.unwrap_or_default()));
    if proxy.is_none() {
        measured("B46", "skipped: Caddy is not installed");
    }
    proxy
}

fn recipe(gateway: &Gateway, language: &str, part: &str, changes: &[(&str, &str)]) -> String {
    let recipe = block_with(language, part).to_owned();
    let recipe = changes.iter().fold(recipe, |recipe, (from, to)| replaced(&recipe, from, to));
    replaced(&recipe, ADDRESS, &format!("127.0.0.1:{}", gateway.port("main")))
}

/// A request of a page of the site itself.
fn page(host: &str) -> String {
    request("/", &[&format!("Origin: https://{host}")]).replace("Host: localhost", &format!("Host: {host}"))
}

/// Connects through the proxy and talks with itself.
pub(crate) fn works(mut client: Raw, host: &str) {
    client.send(page(host).as_bytes());
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.send(&masked(0x81, b"through a proxy"));
    assert!(client.text().contains("through a proxy"));
}

/// Expects that the gateway refuses this page and says so, in its log and, where the proxy passes it on, to the page.
fn is_refused(gateway: &Gateway, proxy: &Proxy, host: &str, status: u16, words: &[&str]) {
    let mut client = proxy.raw();
    client.send(page(host).as_bytes());
    let head = client.head();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    let logged = gateway.wait_for_log(&format!(": refused with {status}: "));
    assert!(words.iter().all(|text| logged.contains(text)), "{words:?} in {logged}");
}

#[test]
fn b46_the_recipe_for_nginx_works_with_and_without_a_port() {
    let gateway = gateway();
    let Some(proxy) = nginx(&gateway, &[]) else { return };
    for host in ["gate.example", "gate.example:8443"] {
        works(proxy.raw(), host);
    }
    gateway.wait_for_log("(127.0.0.1:");
}

#[test]
fn b46_nginx_that_changes_the_host_is_told_the_line() {
    const HOST: &str = "proxy_set_header Host $http_host;";
    let gateway = gateway();
    let Some(short) = nginx(&gateway, &[(HOST, "proxy_set_header Host $host;")]) else { return };
    works(short.raw(), "gate.example");
    is_refused(&gateway, &short, "gate.example:8443", 403, &["Host 'gate.example': the Host has no port", HOST]);
    let gateway = self::gateway();
    let Some(without) = nginx(&gateway, &[(HOST, "")]) else { return };
    is_refused(&gateway, &without, "gate.example", 403, &["Host '127.0.0.1:", HOST]);
}

#[test]
fn b47_nginx_that_passes_on_no_upgrade_is_told_the_lines() {
    const LINES: [&str; 3] = [
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection \"upgrade\";",
    ];
    for (missing, status) in
        [(&LINES[..], 505), (&LINES[..1], 505), (&LINES[1..], 426), (&LINES[1..2], 426), (&LINES[2..], 400)]
    {
        let gateway = gateway();
        let changes: Vec<_> = missing.iter().map(|line| (*line, "")).collect();
        let Some(proxy) = nginx(&gateway, &changes) else { return };
        is_refused(&gateway, &proxy, "gate.example", status, &LINES);
    }
}

#[test]
fn c7_a_proxy_on_this_machine_is_told_the_names_to_list() {
    let gateway = documents::start(&replaced(config(), "hosts = [\"gate.example\"] ", ""));
    let Some(proxy) = nginx(&gateway, &[]) else { return };
    is_refused(&gateway, &proxy, "gate.example", 403, &["write hosts = [\"gate.example\"] under [[listen]]"]);
}

#[test]
fn b46_the_recipe_for_caddy_works_with_and_without_a_port() {
    let gateway = gateway();
    let Some(proxy) = caddy(&gateway, None) else { return };
    for host in ["gate.example", "gate.example:8443"] {
        works(proxy.raw(), host);
    }
}

#[test]
fn b45_the_recipe_for_haproxy_works_with_and_without_a_port() {
    let gateway = gateway();
    let Some(proxy) = haproxy(&gateway, &[(" check", " check inter 1ms")]) else { return };
    for host in ["gate.example", "gate.example:8443"] {
        works(proxy.raw(), host);
    }
    // The clients that were let in, and nothing of the checks.
    let told: Vec<_> = gateway.log().into_iter().filter(|line| line.contains("INFO  client ")).collect();
    assert!(told.iter().all(|line| line.contains("connected to") || line.contains("disconnected from")), "{told:?}");
}

#[test]
fn b45_a_check_over_http_and_the_wrong_options_of_haproxy_are_named() {
    for (from, to, named) in [
        ("option httpchk GET /healthz", "option httpchk GET /", "write health = \"/healthz\""),
        (" check", " check send-proxy", "PROXY protocol"),
        (" check", " send-proxy-v2", "PROXY protocol"),
        (" check", " ssl verify none", "this is TLS, and this port is not encrypted"),
        (" check", " proto h2", "this is HTTP/2"),
    ] {
        let gateway = gateway();
        let Some(proxy) = haproxy(&gateway, &[(from, to)]) else { return };
        // It may have taken the server for down already.
        let mut client = proxy.raw();
        client.send(page("gate.example").as_bytes());
        let line = gateway.wait_for_log(": refused with ");
        assert!(line.contains(named), "{to}: {line}");
    }
}
