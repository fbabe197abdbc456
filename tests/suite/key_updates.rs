//! Peers that ask for new TLS keys again and again (RFC 8446 section 4.6.3): each request of some bytes makes the session
//! answer, and whoever does not read the answers must not have them piled up.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use crate::harness::{Attack, DEADLINE, Gateway, LISTENERS, Remote, masked, request};

const CONFIG: &str = r#"
[[endpoint]]
path = "/canary"
to = ["reply"]
"#;

/// How much more memory a flood may cost, in KiB.
const COST_KIB: usize = 1 << 10;

/// So many updates are far more than is taken without data, 27 bytes each, and more than are thrown away while a refused
/// peer may read why.
const UPDATES: usize = 5_000_000;

/// A TLS connection that can ask for new keys.
struct Updater {
    tls: Connection,
    socket: TcpStream,
}

impl Updater {
    /// A client of the gateway's TLS port, its handshake done.
    fn client(gateway: &Gateway) -> Updater {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(gateway.file("ca.pem")).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        Updater::agreed(tls.into(), TcpStream::connect(("127.0.0.1", gateway.port("tls"))).unwrap())
    }

    /// The server of a link, its handshake done.
    fn server(gateway: &Gateway, socket: TcpStream) -> Updater {
        let chain = CertificateDer::pem_reader_iter(BufReader::new(File::open(gateway.file("cert.pem")).unwrap()));
        let key = PrivateKeyDer::from_pem_file(gateway.file("key.pem")).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap();
        Updater::agreed(ServerConnection::new(Arc::new(config)).unwrap().into(), socket)
    }

    fn agreed(mut tls: Connection, mut socket: TcpStream) -> Updater {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).unwrap();
        }
        Updater { tls, socket }
    }

    /// Sends what is to be sent.
    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    fn send(&mut self, plain: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(plain)?;
        self.flush()
    }

    /// Asks for new keys once.
    fn update(&mut self) -> io::Result<()> {
        self.tls.refresh_traffic_keys().map_err(io::Error::other)?;
        self.flush()
    }

    /// Asks for new keys until the connection ends; fails if it takes all of them.
    fn flood(&mut self) -> io::Error {
        (0..UPDATES).find_map(|_| self.update().err()).expect("it takes updates without end")
    }

    /// The other side's bytes up to the end of a head.
    fn head(&mut self) -> String {
        let mut head = String::new();
        let mut piece = [0; 1024];
        while !head.ends_with("\r\n\r\n") {
            match self.tls.reader().read(&mut piece) {
                Ok(count) => head.push_str(std::str::from_utf8(&piece[..count]).unwrap()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(self.tls.read_tls(&mut self.socket).unwrap() > 0, "it ended after {head:?}");
                    self.tls.process_new_packets().unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        head
    }
}

/// A gateway that has had a TLS client already: what the first one costs is not an attack's.
fn gateway(more: &str) -> Gateway {
    let gateway = Gateway::start(&format!("{CONFIG}{more}{LISTENERS}"));
    let mut first = Updater::client(&gateway);
    first.send(request("/canary", &[]).as_bytes()).unwrap();
    first.head();
    first.update().unwrap();
    gateway
}

fn is_cut(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[test]
fn c1_key_updates_without_data_end_the_connection() {
    let gateway = gateway("");
    let mut attack = Attack::begin("C1", &gateway);
    for turn in 0..3 {
        let mut client = Updater::client(&gateway);
        client.send(request("/canary", &[]).as_bytes()).unwrap();
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let error = client.flood();
        assert!(is_cut(&error), "{error}");
        attack.costs_less_than_kib(COST_KIB);
        attack.check_echo(&format!("flood {turn}"));
    }
    gateway.wait_for_logs("TLS failed: 64 KiB of key updates or empty records without data", 3);
    attack.end("3 floods behind a handshake cut");
}

#[test]
fn c1_key_updates_instead_of_a_request_end_the_connection() {
    let gateway = gateway("");
    let mut attack = Attack::begin("C1", &gateway);
    for turn in 0..3 {
        let error = Updater::client(&gateway).flood();
        assert!(is_cut(&error), "{error}");
        attack.costs_less_than_kib(COST_KIB);
        attack.check_echo(&format!("flood {turn}"));
    }
    attack.end("3 floods before a request cut");
}

#[test]
fn c1_who_mixes_key_updates_with_data_and_reads_nothing_is_not_read_any_more() {
    let gateway = gateway("[[endpoint]]\npath = \"/in\"\nto = []\n");
    let mut attack = Attack::begin("C1", &gateway);
    let mut client = Updater::client(&gateway);
    client.send(request("/in", &[]).as_bytes()).unwrap();
    client.head();
    // What the kernel keeps of the answers comes first: some megabytes at the most.
    client.socket.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut sent = 0;
    let error = loop {
        let more = if sent % 100 == 0 { client.send(&masked(0x82, b"data")) } else { client.update() };
        match more {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < UPDATES, "it takes updates without end");
    };
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) || is_cut(&error), "{error}");
    attack.costs_less_than_kib(COST_KIB);
    attack.check_echo("a flood that is not read");
    attack.end(format!("held after {sent} updates"));
}

#[test]
fn c1_key_updates_of_a_links_server_end_the_connection() {
    let remote = Remote::up();
    let url = remote.url().replace("ws://", "wss://");
    let link = format!("[[link]]\nname = \"up\"\nurl = \"{url}\"\nto = []\ntls = {{ verify = false }}\n");
    let gateway = gateway(&link);
    let attack = Attack::begin("C1", &gateway);
    let mut server = Updater::server(&gateway, remote.accept_stream());
    let key = server.head().lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ").map(str::to_owned));
    let accept = tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
    let upgraded = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    server.send(upgraded.as_bytes()).unwrap();
    gateway.wait_for_log("link up: connected");
    let error = server.flood();
    assert!(is_cut(&error), "{error}");
    gateway.wait_for_log("TLS failed: 64 KiB of key updates or empty records without data");
    attack.costs_less_than_kib(COST_KIB);
    attack.end("a link's server cut");
}
