//! Addresses that are listened on: what is in the place of a Unix socket, and both kinds of IP addresses on one port.

use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::harness::{Gateway, Raw, measured};

fn config(socket: &Path) -> String {
    format!("[[listen]]\naddress = \"unix:{}\"\n", socket.display())
}

/// Expects that a gateway cannot have this path, and says why.
fn is_refused(socket: &Path, why: &str) {
    let mut gateway = Gateway::launch(&config(socket), |_| {});
    assert_eq!(gateway.wait().code(), Some(69), "{why}");
    let log = gateway.whole_log();
    let line = log.last().unwrap();
    assert!(line.contains(&format!("failed to bind 'unix:{}': ", socket.display())), "{line}");
    assert!(line.contains(why), "no {why:?} in {line}");
}

#[test]
fn b12_what_is_in_the_place_of_a_socket_is_named_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "kept").unwrap();
    is_refused(&at("file"), "there is a file: choose another path, or remove it");
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "kept");
    fs::create_dir(at("directory")).unwrap();
    is_refused(&at("directory"), "there is a directory: name a file in it");
    symlink("nowhere", at("link")).unwrap();
    is_refused(&at("link"), "there is something that is no socket");
    assert!(fs::symlink_metadata(at("link")).is_ok());
    is_refused(&at("no/directory"), "its directory does not exist");
}

#[test]
fn c8_only_a_socket_on_which_nobody_listens_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let datagram = UnixDatagram::bind(at("datagram")).unwrap();
    is_refused(&at("datagram"), "there is a socket of another kind");
    UnixDatagram::unbound().unwrap().send_to(b"still there", at("datagram")).unwrap();
    drop(datagram);
    let _listener = UnixListener::bind(at("listener")).unwrap();
    is_refused(&at("listener"), "another process listens there");
    assert!(Raw::unix(&at("listener")).socket().peer_addr().is_ok());
    // Between bind and listen, as another gateway that starts.
    let bound = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    bound.bind(&SockAddr::unix(at("bound")).unwrap()).unwrap();
    is_refused(&at("bound"), "there is a socket of another kind");
    bound.listen(1).unwrap();
    Raw::unix(&at("bound"));
    // Gone are all: a file without a process.
    drop(bound);
    Gateway::start(&config(&at("bound")));
    let gateway = Gateway::start(&config(&at("datagram")));
    Raw::unix(&at("datagram")).upgrade("/", &[]);
    drop(gateway);
}

#[test]
fn c8_a_full_backlog_is_a_sign_of_life_and_delays_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("full");
    let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    busy.listen(0).unwrap();
    let waiting: Vec<_> = (0..10)
        .map_while(|_| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            socket.connect(&SockAddr::unix(&path).unwrap()).is_ok().then_some(socket)
        })
        .collect();
    assert!(waiting.len() < 10, "the backlog is not full");
    is_refused(&path, "another process listens there");
    busy.accept().unwrap();
}

#[test]
fn c8_a_stop_removes_its_own_socket_and_no_later_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ws.sock");
    let mut gateway = Gateway::start(&config(&path));
    fs::remove_file(&path).unwrap();
    let _later = UnixListener::bind(&path).unwrap();
    assert_eq!(gateway.terminate().code(), Some(0));
    assert!(path.exists(), "the socket of another process was removed");
}

#[test]
fn b11_c18_an_ipv4_client_of_a_listener_for_both_has_its_plain_address_everywhere() {
    if std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err() {
        return measured("B11", "skipped: this machine has no IPv6");
    }
    let gateway = Gateway::start(
        "[[listen]]\nname = \"both\"\naddress = \"[::]:0\"\n[[endpoint]]\npath = \"/\"\nformat = \"n8n\"\n\
         to = [\"broadcast\"]\nevents = [\"connect\"]\n",
    );
    let line = gateway.wait_for_log("accepting on ");
    assert!(line.contains("accepting on [::]:") && line.ends_with(" (IPv4 and IPv6)"), "{line}");
    let port = gateway.port("both");
    for (mut client, address, shown) in
        [(Raw::plain(port), "127.0.0.1", "(127.0.0.1:"), (Raw::ipv6(port), "::1", "([::1]:")]
    {
        client.upgrade("/", &[]);
        client.send_text("hello");
        // The event of its own connect comes first or not at all, as the room decides.
        let message = loop {
            let message: Value = serde_json::from_str(&client.text()).unwrap();
            if message["message"] == "hello" {
                break message;
            }
        };
        assert_eq!(message["metadata"]["clientIp"], address, "{message}");
        gateway.wait_for_log(&format!("{shown}{}): connected", client.own_port()));
    }
    let log = gateway.log();
    assert!(!log.iter().any(|line| line.contains("::ffff:")), "{log:?}");
}
