//! Authentication by the certificates of clients: who a client is by its certificate, over whole handshakes and saved
//! sessions, with real clients; and when it may not stay.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, SanType, date_time_ymd};

use crate::certificates::{Authority, VERSIONS, client, has_openssl, named, reload, s_client_saying, with};
use crate::harness::command::run_with_input;
use crate::harness::{Gateway, Raw, Remote, measured, process, request};
use crate::real_clients::{installed, source};
use crate::withdrawn::certified;

/// A listener with TLS that asks for certificates of `clients.pem`; more may be added to its `tls`.
fn listener(tls: &str) -> String {
    format!(
        "[[listen]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n[listen.tls]\ncertificate = \"cert.pem\"\n\
         private_key = \"key.pem\"\nclient_ca = \"clients.pem\"\n{tls}\n"
    )
}

/// An `[[auth]]` of this name, with `identity_from` of the same name unless it is "devices".
fn auth(name: &str) -> String {
    let from = if name == "devices" { String::new() } else { format!("identity_from = {name:?}\n") };
    format!("[[auth]]\nname = {name:?}\nkind = \"certificate\"\n{from}")
}

fn start(config: &str, prepare: impl FnOnce(&Path)) -> Gateway {
    let gateway = Gateway::launch(config, |command| prepare(command.get_current_dir().unwrap()));
    gateway.wait_for_log(": accepting on ");
    gateway
}

/// A client with the certificate of this name.
fn raw(gateway: &Gateway, name: &str) -> Raw {
    Raw::secured(gateway.port("tls"), &certified(&gateway.file(""), name)).0
}

fn status(mut client: Raw, path: &str, lines: &[&str]) -> (u16, String) {
    client.send(request(path, lines).as_bytes());
    let head = client.head();
    (head[9..12].parse().unwrap(), head)
}

/// A certificate with a name of each kind, of which the first or the last one counts.
fn full() -> CertificateParams {
    let mut parameters = client("press-3", 1);
    let dns = ["press-3.plant.example", "other.example"].map(|name| SanType::DnsName(name.try_into().unwrap()));
    let mail = SanType::Rfc822Name("press@plant.example".try_into().unwrap());
    let uris = ["spiffe://plant/press-3", "urn:other"].map(|name| SanType::URI(name.try_into().unwrap()));
    parameters.subject_alt_names = [[mail].as_slice(), &uris, &dns].concat();
    parameters
}

#[test]
fn s21_each_name_of_a_certificate_can_be_the_identity_also_over_a_saved_session() {
    if !has_openssl("S21") {
        return;
    }
    let kinds = [
        ("cn", "press-3"),
        ("san", "press-3.plant.example"),
        ("dns", "press-3.plant.example"),
        ("uri", "spiffe://plant/press-3"),
        ("email", "press@plant.example"),
    ];
    let mut config = listener("");
    for (kind, _) in kinds {
        config.push_str(&auth(kind));
        config.push_str(&format!("[[endpoint]]\npath = \"/{kind}\"\nto = []\nauth = [{kind:?}]\n"));
    }
    let gateway = start(&config, |directory| {
        let root = Authority::root("plant clients");
        let middle = root.intermediate("plant middle");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        middle.issue(directory, "press", full(), &middle.pem());
    });
    let close = "\\210\\200\\0\\0\\0\\0";
    let mut seen = 0;
    for version in VERSIONS {
        for (kind, identity) in kinds {
            let said =
                format!("{}{close}", request(&format!("/{kind}"), &[]).replace('\r', "\\r").replace('\n', "\\n"));
            let session = format!("press{version}.session");
            let first = s_client_saying(&gateway, &said, &format!("{version} {} -sess_out {session}", with("press")));
            assert!(first.contains("New, TLS") && first.contains("HTTP/1.1 101 "), "{version} {kind}: {first}");
            let again = s_client_saying(&gateway, &said, &format!("{version} -sess_in {session}"));
            assert!(again.contains("Reused, TLS") && again.contains("HTTP/1.1 101 "), "{version} {kind}: {again}");
            seen += 2;
            let lines = gateway.wait_for_logs(": connected to '", seen);
            let expected = format!("connected to '/{kind}' as '{identity}'");
            assert!(lines[seen - 2..].iter().all(|line| line.ends_with(&expected)), "{lines:?}");
        }
    }
    measured("S21", format!("{seen} of {seen} connections have the right identity, half of them resumed"));
}

#[test]
fn s21_python_and_node_come_in_by_certificate_on_their_own_path_alone() {
    let config = listener("")
        + &auth("devices")
        + "[[endpoint]]\npath = \"/devices/{device}\"\nto = [\"reply\"]\nformat = \"message\"\nauth = [\"devices\"]\n\
           allow = [{ path = \"/devices/{identity}\" }]\n";
    let gateway = start(&config, |directory| {
        let root = Authority::root("plant clients");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        root.issue(directory, "press", full(), "");
    });
    let python = || Command::new(installed("target/clients/python/bin/python"));
    let node = || {
        let mut node = Command::new("node");
        node.env("NODE_PATH", installed("target/clients/node/node_modules"));
        node
    };
    for (mut command, script) in [(python(), "tests/clients/certificate.py"), (node(), "tests/clients/certificate.js")]
    {
        let run = |command: &mut Command, path: &str| {
            let url = format!("wss://localhost:{}{path}", gateway.port("tls"));
            let files = ["ca.pem", "press.pem", "press.key"].map(|name| gateway.file(name));
            let output = process::run(command.arg(url).args(files), Duration::from_secs(60));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.success(), text(&output.stdout), text(&output.stderr))
        };
        command.arg(source(script));
        let mut elsewhere = Command::new(command.get_program());
        elsewhere.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let (is_good, said, error) = run(&mut command, "/devices/press-3");
        assert!(
            is_good && said.contains("\"payload\":\"hello\"") && said.contains("\"identity\":\"press-3\""),
            "{said}{error}"
        );
        let (is_good, said, error) = run(&mut elsewhere, "/devices/press-4");
        assert!(!is_good && error.contains("403"), "{said}{error}");
    }
    gateway.wait_for_log("no rule of \"allow\" fits 'press-3' at '/devices/press-4'");
}

#[test]
fn s21_where_certificates_are_optional_another_credential_lets_in_too() {
    let token =
        |name: &str, token: &str| run_with_input(&["token", "hash", name], token.as_bytes()).stdout().to_owned();
    let endpoint = |path: &str, auth: &str| format!("[[endpoint]]\npath = {path:?}\nto = [\"reply\"]\nauth = {auth}\n");
    let config = [
        "[gateway]\nfailed_credentials = { most = 3, within = \"1h\" }\n",
        &listener("client_certificate = \"optional\""),
    ]
    .concat()
        + &auth("devices")
        + &auth("uri")
        + "[[auth]]\nname = \"staff\"\nkind = \"tokens\"\nfile = \"tokens.txt\"\n"
        + &endpoint("/both", "[\"devices\", \"staff\"]")
        + &endpoint("/token", "[\"staff\", \"devices\"]")
        + &endpoint("/only", "[\"uri\", \"devices\"]")
        + &endpoint("/uri", "[\"uri\"]")
        + &endpoint("/page", "[\"uri\"]\nrefuse = \"close\"");
    let gateway = start(&config, |directory| {
        let root = Authority::root("plant clients");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        fs::write(directory.join("tokens.txt"), token("ada", "secret")).unwrap();
        root.issue(directory, "bare", client("bare", 1), "");
    });
    let (none, right, wrong) = (&[][..], &["Authorization: Bearer secret"][..], &["Authorization: Bearer wrong"][..]);
    for (path, certificate, lines, expected) in [
        ("/both", Some("bare"), none, "as 'bare'"),
        ("/both", Some("bare"), wrong, "as 'bare'"),
        ("/both", Some("bare"), right, "as 'bare'"),
        ("/both", None, right, "as 'ada'"),
        // The first one in the list says who it is.
        ("/token", Some("bare"), right, "as 'ada'"),
        ("/token", Some("bare"), none, "as 'bare'"),
        // A certificate without this name is none for it, and the next one is asked.
        ("/only", Some("bare"), none, "as 'bare'"),
        ("/both", None, none, "401"),
        ("/both", None, wrong, "401"),
        ("/only", None, none, "403"),
        ("/uri", None, right, "403"),
        ("/uri", Some("bare"), none, "403"),
        // Nobody guesses certificates: they lock nobody out.
        ("/uri", Some("bare"), none, "403"),
        ("/uri", Some("bare"), none, "403"),
        ("/uri", Some("bare"), none, "403"),
        ("/both", None, right, "as 'ada'"),
    ] {
        let client = match certificate {
            Some(name) => raw(&gateway, name),
            None => gateway.raw("tls"),
        };
        let port = client.own_port();
        let (status, head) = status(client, path, lines);
        if expected.starts_with("as ") {
            assert_eq!(status, 101, "{path} {certificate:?} {lines:?}");
            let line = gateway.wait_for_log(&format!(":{port}): connected to "));
            assert!(line.ends_with(expected), "{path} {lines:?}: {line}");
        } else {
            assert_eq!(status.to_string(), expected, "{path} {certificate:?} {lines:?}");
            // RFC 9110: a 401 has a challenge, and for certificates there is none.
            assert_eq!(head.contains("WWW-Authenticate: Bearer"), expected == "401", "{head}");
            assert_eq!(head.contains("WWW-Authenticate"), expected == "401", "{head}");
        }
    }
    gateway.wait_for_log("refused with 403: this endpoint asks for a certificate of the client: it has none");
    let why = "the client's certificate is none of \"uri\" (it has no URI that can be an identity)";
    gateway.wait_for_log(&format!("asks for a certificate of the client: {why}"));
    let mut page = raw(&gateway, "bare");
    page.upgrade("/page", &[]);
    page.closed_with(4403, "Forbidden");
}

#[test]
fn s21_an_identity_ends_with_the_trust_in_its_certificate() {
    let root = Authority::root("plant clients");
    let config = listener("crl = \"clients.crl\"")
        + &auth("devices")
        + "[[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nauth = [\"devices\"]\n";
    let gateway = start(&config, |directory| {
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        fs::write(directory.join("clients.crl"), root.revoke(&[], 4000)).unwrap();
        root.issue(directory, "stays", client("stays", 1), "");
        root.issue(directory, "revoked", client("revoked", 2), "");
    });
    let [mut stays, mut revoked] = ["stays", "revoked"].map(|name| {
        let mut client = raw(&gateway, name);
        client.upgrade("/", &[]);
        client
    });
    fs::write(gateway.file("clients.crl"), root.revoke(&[2], 4000)).unwrap();
    reload(&gateway, 1);
    revoked.closed_with(1008, "Access withdrawn");
    stays.send_text("still here");
    assert_eq!(stays.text(), "still here");
}

#[test]
fn s21_a_connection_ends_when_its_certificate_does() {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(4);
    let config = listener("")
        + &auth("devices")
        + "[[endpoint]]\npath = \"/who\"\nto = [\"reply\"]\nauth = [\"devices\"]\nheartbeat = \"off\"\n";
    let gateway = start(&config, |directory| {
        let root = Authority::root("plant clients");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        let mut short = client("short", 1);
        short.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until.as_secs());
        root.issue(directory, "short", short, "");
        root.issue(directory, "long", named("long"), "");
    });
    let [mut short, mut long] = ["short", "long"].map(|name| {
        let mut client = raw(&gateway, name);
        client.upgrade("/who", &[]);
        client
    });
    short.closed_with(1008, "Certificate expired");
    long.send_text("still here");
    assert_eq!(long.text(), "still here");
}

#[test]
fn s21_a_relays_server_is_told_who_the_client_is() {
    let server = Remote::up();
    let relay = format!("relay = {{ url = \"{}\", proxy = \"off\" }}", server.url_of("/up"));
    let config = listener("") + &auth("uri") + &format!("[[endpoint]]\npath = \"/\"\nauth = [\"uri\"]\n{relay}\n");
    let gateway = start(&config, |directory| {
        let root = Authority::root("plant clients");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        root.issue(directory, "press", full(), "");
    });
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut client = raw(&gateway, "press");
            client.upgrade("/", &["X-Wsgate-Identity: root"]);
            client
        });
        let (_server, head) = server.upgraded(&[]);
        let told: Vec<&str> = head.lines().filter(|line| line.starts_with("X-Wsgate-Identity")).collect();
        assert_eq!(told, ["X-Wsgate-Identity: spiffe://plant/press-3"], "{head}");
        connecting.join().unwrap();
    });
}
