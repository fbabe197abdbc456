//! Files that are read again on SIGHUP: what is renewed is in force for whoever connects from then on, what is broken
//! changes nothing, and no client notices.

use std::env;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use openssl::sha::sha256;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use rustix::process::{Signal, geteuid};

use crate::auth::write;
use crate::harness::{Canary, DEADLINE, Gateway, LISTENERS, Raw, Wire, certificates, eventually, measured, pass};

const CONFIG: &str = r#"
[[endpoint]]
path = "/canary"
to = ["reply"]
max_connections = 2000
"#;

const TOKENS: &str = r#"
[[auth]]
name = "devices"
kind = "tokens"
file = "tokens.txt"

[[endpoint]]
path = "/"
to = ["reply"]
max_connections = 2000
auth = ["devices"]
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

/// The serial number of the certificate in a file, in the form that logs and tools have.
fn serial_in(file: &Path) -> String {
    serial(&X509::from_pem(&fs::read(file).unwrap()).unwrap())
}

fn serial(certificate: &X509) -> String {
    certificate.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string()
}

/// The serial number of the certificate that a new client is shown.
fn serial_shown(gateway: &Gateway) -> String {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let socket = TcpStream::connect(("127.0.0.1", gateway.port("tls"))).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let stream = builder.build().connect("localhost", socket).unwrap();
    serial(&stream.ssl().peer_certificate().unwrap())
}

/// Reloads, and expects the `count`th line that begins so after "reload: ".
fn reload(gateway: &Gateway, begins: &str, count: usize) -> String {
    gateway.signal(Signal::HUP);
    gateway.wait_for_logs(&format!("reload: {begins}"), count).pop().unwrap()
}

#[test]
fn r5_a_renewed_certificate_is_for_new_clients_and_the_others_stay() {
    let gateway = start();
    let mut old = gateway.client(Wire::Tls, "/canary");
    let before = serial_in(&gateway.file("cert.pem"));
    assert_eq!(serial_shown(&gateway), before);
    certificates::write(&gateway.file(""));
    let after = serial_in(&gateway.file("cert.pem"));
    assert_ne!(before, after);
    let line = reload(&gateway, "read again", 1);
    assert!(line.contains("listener \"tls\"") && line.contains("cert.pem") && line.contains(&after), "{line}");
    assert_eq!(serial_shown(&gateway), after);
    old.send_text("still here");
    assert_eq!(old.text(), "still here");
}

#[test]
fn r1_a_file_that_is_broken_changes_nothing_and_is_named() {
    let gateway = start();
    let mut canary = Canary::connect(&gateway);
    let certificate = fs::read(gateway.file("cert.pem")).unwrap();
    let key = fs::read(gateway.file("key.pem")).unwrap();
    let serial = serial_in(&gateway.file("cert.pem"));
    let elsewhere = tempfile::tempdir().unwrap();
    certificates::write(elsewhere.path());
    let other_key = fs::read(elsewhere.path().join("key.pem")).unwrap();
    let cases: [(&str, &str, Option<&[u8]>); 8] = [
        ("cert.pem", "holds no certificate in PEM form", Some(b"")),
        ("key.pem", "holds no private key in PEM form", Some(b"")),
        ("cert.pem", "cannot be read", None),
        ("key.pem", "cannot be read", None),
        ("cert.pem", "holds a certificate that cannot be read", Some(&certificate[..certificate.len() / 3])),
        ("cert.pem", "holds a certificate that cannot be read", Some(&certificate[..certificate.len() - 30])),
        ("key.pem", "holds a private key that cannot be read", Some(&key[..key.len() / 2])),
        ("key.pem", "holds the private key of another certificate", Some(&other_key)),
    ];
    for (count, (name, words, content)) in cases.into_iter().enumerate() {
        let file = gateway.file(name);
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => {
                fs::remove_file(&file).unwrap();
                fs::create_dir(&file).unwrap();
            }
        }
        let line = reload(&gateway, "failed", count + 1);
        assert!(line.contains(" ERROR ") && line.contains(name), "{line}");
        assert!(line.contains(words), "{words}: {line}");
        assert_eq!(serial_shown(&gateway), serial, "after {words}");
        canary.check_echo(words);
        if content.is_none() {
            fs::remove_dir(&file).unwrap();
        }
        fs::write(gateway.file("cert.pem"), &certificate).unwrap();
        fs::write(gateway.file("key.pem"), &key).unwrap();
    }
    reload(&gateway, "read again", 1);
    measured("R1", "8 of 8 broken files changed nothing");
}

#[test]
fn r1_a_certificate_that_has_expired_does_not_replace_another() {
    let gateway = start();
    let serial = serial_in(&gateway.file("cert.pem"));
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(gateway.file("cert.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(gateway.file("key.pem"), key.serialize_pem()).unwrap();
    let line = reload(&gateway, "failed", 1);
    assert!(
        line.contains("\"cert.pem\", which holds a certificate that expired on Jan  1 00:00:00 2021 GMT: renew it"),
        "{line}"
    );
    assert_eq!(serial_shown(&gateway), serial);
}

#[test]
fn r1_a_file_that_may_not_be_read_changes_nothing() {
    if geteuid().is_root() {
        return measured("R1", "an unreadable file skipped: root may read everything");
    }
    let gateway = start();
    let serial = serial_in(&gateway.file("cert.pem"));
    fs::set_permissions(gateway.file("key.pem"), fs::Permissions::from_mode(0o000)).unwrap();
    let line = reload(&gateway, "failed", 1);
    assert!(line.contains("key.pem\", which cannot be read: Permission denied"), "{line}");
    assert_eq!(serial_shown(&gateway), serial);
}

#[test]
fn r1_one_broken_file_keeps_all_others_too() {
    let two = LISTENERS.replace("\"plain\"", "\"plain\"\ntls = { certificate = \"a.pem\", private_key = \"a.key\" }");
    let gateway = Gateway::launch(&format!("{CONFIG}{two}"), |command| {
        let directory = command.get_current_dir().unwrap();
        fs::copy(directory.join("cert.pem"), directory.join("a.pem")).unwrap();
        fs::copy(directory.join("key.pem"), directory.join("a.key")).unwrap();
    });
    gateway.wait_for_logs(": accepting on ", 2);
    let serial = serial_in(&gateway.file("cert.pem"));
    certificates::write(&gateway.file(""));
    fs::write(gateway.file("a.key"), "").unwrap();
    let line = reload(&gateway, "failed", 1);
    assert!(line.contains("\"a.key\"") && !line.contains("cert.pem"), "{line}");
    assert_eq!(serial_shown(&gateway), serial);
}

#[test]
fn r3_a_reload_without_a_free_descriptor_changes_nothing() {
    let gateway = Gateway::start_limited(&format!("{CONFIG}{LISTENERS}"), "--nofile=64");
    let serial = serial_in(&gateway.file("cert.pem"));
    let mut canary = Canary::connect(&gateway);
    let beyond: Vec<Raw> = (0..100).map(|_| gateway.raw("plain")).collect();
    gateway.wait_for_log("failed to accept");
    certificates::write(&gateway.file(""));
    let line = reload(&gateway, "failed", 1);
    assert!(line.contains("Too many open files"), "{line}");
    canary.check_echo("a reload without descriptors");
    drop(beyond);
    eventually("the old certificate is shown", DEADLINE, || {
        TcpStream::connect(("127.0.0.1", gateway.port("tls"))).is_ok() && serial_shown(&gateway) == serial
    });
    reload(&gateway, "read again", 1);
    assert_ne!(serial_shown(&gateway), serial);
}

#[test]
fn r5_a_renewed_authority_and_certificate_of_a_link_are_for_its_next_connection() {
    let server = start();
    let link = format!(
        "[[link]]\nname = \"up\"\nurl = \"wss://localhost:{}/canary\"\nbackoff = {{ first = \"100ms\", most = \"100ms\" }}\n\
         tls = {{ ca = \"up.pem\", certificate = \"own.pem\", private_key = \"own.key\" }}\n",
        server.port("tls")
    );
    let gateway =
        Gateway::launch(&format!("[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n{link}"), |command| {
            let directory = command.get_current_dir().unwrap();
            // The authority of another server.
            for (from, to) in [("ca.pem", "up.pem"), ("cert.pem", "own.pem"), ("key.pem", "own.key")] {
                fs::copy(directory.join(from), directory.join(to)).unwrap();
            }
        });
    gateway.wait_for_log("certificate");
    fs::write(gateway.file("own.key"), "").unwrap();
    fs::copy(server.file("ca.pem"), gateway.file("up.pem")).unwrap();
    let line = reload(&gateway, "failed", 1);
    assert!(line.contains("[[link]]") && line.contains("own.key"), "{line}");
    fs::copy(gateway.file("key.pem"), gateway.file("own.key")).unwrap();
    let line = reload(&gateway, "read again", 1);
    assert!(line.contains("link \"up\"") && line.contains("up.pem") && line.contains("own.pem"), "{line}");
    gateway.wait_for_log("link up: connected to ");
}

/// The line of this token in a file, which is its own name too.
fn token_line(token: &str) -> String {
    format!("{token}:{}\n", HEXLOWER.encode(&sha256(token.as_bytes())))
}

/// `tests/long reload` runs it for longer and with more clients.
#[test]
fn r4_reloads_under_clients_cost_nobody_anything_but_whom_they_take_away() {
    /// In so many reloads all clients have been looked at.
    const ROUNDS: usize = 10;
    let number = |name, default| env::var(name).map_or(default, |number| number.parse().unwrap());
    let (length, count) = (number("WSGATE_RELOAD_SECONDS", 3), number("WSGATE_RELOAD_CLIENTS", 100));
    let staying: String = (0..count).map(|number| token_line(&format!("stays-{number}"))).collect();
    let with_leaver = |number: usize| staying.clone() + &token_line(&format!("leaves-{number}"));
    let gateway = Gateway::start_with(&format!("{TOKENS}{LISTENERS}"), |command| {
        write(&command.get_current_dir().unwrap().join("tokens.txt"), &with_leaver(0));
    });
    let come = |listener: &str, token: &str| {
        let mut client = gateway.raw(listener);
        client.upgrade("/", &[&format!("Authorization: Bearer {token}")]);
        client
    };
    let mut clients: Vec<Raw> =
        (0..count).map(|number| come(["plain", "tls"][number as usize % 2], &format!("stays-{number}"))).collect();
    serial_shown(&gateway);
    let still_here = |clients: &mut [Raw], reloads: usize| {
        clients.iter_mut().for_each(|client| client.send_text("still here"));
        for client in clients {
            assert_eq!(client.text(), "still here", "reload {reloads}");
        }
    };
    // What each of them takes for its first message is not for the reloads.
    still_here(&mut clients, 0);
    let (threads, descriptors, memory) = (gateway.threads(), gateway.descriptors(), gateway.memory_kib());
    let (until, mut reloads, mut slowest) = (Instant::now() + Duration::from_secs(length), 0, Duration::ZERO);
    while Instant::now() < until {
        let next = Instant::now() + Duration::from_millis(100);
        // Over TLS it would have to trust another authority each time.
        let mut leaver = come("plain", &format!("leaves-{reloads}"));
        reloads += 1;
        write(&gateway.file("tokens.txt"), &with_leaver(reloads));
        certificates::write(&gateway.file(""));
        let since = Instant::now();
        reload(&gateway, "read again", reloads);
        leaver.closed_with(1008, "Access withdrawn");
        slowest = slowest.max(since.elapsed());
        assert!(slowest < Duration::from_secs(1), "reload {reloads}: after {slowest:?}");
        assert_eq!(serial_shown(&gateway), serial_in(&gateway.file("cert.pem")), "reload {reloads}");
        let slice = clients.len().div_ceil(ROUNDS);
        still_here(clients.chunks_mut(slice).nth(reloads % ROUNDS).unwrap_or_default(), reloads);
        pass(next.saturating_duration_since(Instant::now()));
    }
    still_here(&mut clients, reloads);
    eventually("threads and descriptors are back", DEADLINE, || {
        gateway.threads() <= threads && gateway.descriptors() <= descriptors
    });
    let grown = gateway.memory_kib().saturating_sub(memory);
    measured(
        "R4",
        format!(
            "{reloads} reloads in {length} s under {count} clients: none dropped, +{grown} KiB; {reloads} of {reloads} \
                 connections of removed tokens ended, the last after {slowest:.0?}"
        ),
    );
    assert!(grown < 4 << 10, "+{grown} KiB");
}
