//! How clients connect: through which listener, to which path, with which subprotocol, and what they get first.

use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::harness::{Frame, Gateway, LISTENERS, Raw, Wire, request, with_any_deliverers};

#[test]
fn the_welcome_comes_before_anything_of_the_room() {
    let config = r#"
[[endpoint]]
path = "/n8n"
format = "n8n"
welcome = true

[[endpoint]]
path = "/text"
welcome = "hello, \u00e9"
"#;
    with_any_deliverers(config, |gateway| {
        for wire in Wire::BOTH {
            for path in ["/n8n", "/text"] {
                let done = AtomicBool::new(false);
                let mut publisher = gateway.client(Wire::Plain, path);
                publisher.text();
                thread::scope(|scope| {
                    scope.spawn(|| {
                        while !done.load(Ordering::Acquire) {
                            publisher.send_text("in the room");
                            publisher.text();
                        }
                    });
                    let clients: Vec<_> = (0..10)
                        .map(|_| {
                            let mut client = gateway.client(wire, path);
                            (client.frame(), client.frame())
                        })
                        .collect();
                    done.store(true, Ordering::Release);
                    for (welcome, next) in clients {
                        let text = String::from_utf8(welcome.payload).unwrap();
                        assert!(String::from_utf8(next.payload).unwrap().contains("in the room"));
                        if path == "/text" {
                            assert_eq!(text, "hello, é");
                            continue;
                        }
                        let welcome: Value = serde_json::from_str(&text).unwrap();
                        assert_eq!(welcome["type"], "welcome", "{text}");
                        assert_eq!(welcome["message"], "Connected to n8n WebSocket server", "{text}");
                        assert_eq!(welcome["timestamp"].as_str().unwrap().len(), 24, "{text}");
                    }
                });
            }
        }
    });
}

#[test]
fn the_first_of_our_subprotocols_that_the_client_offers_is_agreed() {
    let config =
        "[[endpoint]]\npath = \"/\"\nsubprotocols = [\"chat.v2\", \"chat.v1\"]\n[[endpoint]]\npath = \"/none\"\n";
    let gateway = Gateway::start(&format!("{config}{LISTENERS}"));
    let table: [(&str, &[&str], Option<&str>); 7] = [
        ("/", &[], None),
        ("/", &["Sec-WebSocket-Protocol: chat.v1"], Some("chat.v1")),
        ("/", &["Sec-WebSocket-Protocol: chat.v1, chat.v2"], Some("chat.v2")),
        ("/", &["Sec-WebSocket-Protocol: chat.v1", "Sec-WebSocket-Protocol: other,chat.v2"], Some("chat.v2")),
        ("/", &["Sec-WebSocket-Protocol: CHAT.V1"], None),
        ("/", &["Sec-WebSocket-Protocol: other"], None),
        ("/none", &["Sec-WebSocket-Protocol: chat.v1"], None),
    ];
    for (path, headers, agreed) in table {
        let mut client = Raw::plain(gateway.port("plain"));
        let head = client.upgrade(path, headers).to_ascii_lowercase();
        let line = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol:")).map(str::trim);
        assert_eq!(line, agreed, "{headers:?}: {head}");
        client.send_text("works");
        assert_eq!(client.text(), "works");
    }
}

#[test]
fn a_path_leads_to_its_room_however_it_is_written() {
    let config = r#"
[[endpoint]]
path = "/rooms/{room}"

[[endpoint]]
path = "/rooms/{room}/{part}"

[[endpoint]]
path = "/rooms/exact/{part}"
to = ["reply"]
"#;
    let gateway = Gateway::start(&format!("{config}{LISTENERS}"));
    let long = "x".repeat(128);
    // The second path is in the room of the first.
    let long_path = format!("/rooms/{long}");
    for (one, other) in [
        ("/rooms/7", "/rooms/7?token=1&x=/rooms/8"),
        ("/rooms/7", "/rooms/%37"),
        ("/rooms/7", "/room%73/7"),
        ("/rooms/a%20b", "/rooms/%61%20%62"),
        ("/rooms/%C3%A9", "/rooms/%c3%a9"),
        ("/rooms/a+b", "/rooms/a%2Bb"),
        ("/rooms/%2537", "/rooms/%25%33%37"),
        ("/rooms/a/b", "/rooms/%61/b?"),
        (&long_path[..], &long_path),
    ] {
        let [mut one, mut other] = [gateway.client(Wire::Plain, one), gateway.client(Wire::Tls, other)];
        one.send_text("together");
        assert_eq!([one.text(), other.text()], ["together", "together"]);
    }
    // Two values are two rooms, and a value that was decoded is not decoded again.
    let mut seven = gateway.client(Wire::Plain, "/rooms/7");
    let mut encoded = gateway.client(Wire::Plain, "/rooms/%2537");
    seven.send_text("for seven");
    assert_eq!(seven.text(), "for seven");
    encoded.send_text("for %37");
    assert_eq!(encoded.text(), "for %37");
    // The leftmost literal wins.
    let [mut exact, mut twin] = [0; 2].map(|_| gateway.client(Wire::Plain, "/rooms/exact/1"));
    exact.send_text("an echo");
    assert_eq!(exact.text(), "an echo");
    twin.send_text("its own");
    assert_eq!(twin.text(), "its own");

    let too_long = format!("/rooms/{long}x");
    for nowhere in [
        "/",
        "/rooms",
        "/rooms/",
        "/rooms//",
        "/rooms/7/",
        "/rooms/a/b/c",
        "//rooms/7",
        "/Rooms/7",
        "/rooms/.",
        "/rooms/..",
        "/rooms/%2E%2e",
        "/rooms/a%2Fb",
        "/rooms/%00",
        "/rooms/%0d%0a",
        "/rooms/%7f",
        "/rooms/%FF",
        "/rooms/%",
        "/rooms/%4",
        "/rooms/%zz",
        "/?/rooms/7",
        &too_long,
    ] {
        let mut client = Raw::plain(gateway.port("plain"));
        client.send(request(nowhere, &[]).as_bytes());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 404 "), "{nowhere}: {head}");
    }
}

#[test]
fn an_endpoint_is_reachable_on_its_listeners_alone() {
    let config = "[[endpoint]]\npath = \"/both\"\n[[endpoint]]\npath = \"/secret\"\nlisten = [\"tls\"]\n";
    let gateway = Gateway::start(&format!("{config}{LISTENERS}"));
    let mut secret = gateway.client(Wire::Tls, "/secret");
    secret.send_text("in here");
    assert_eq!(secret.text(), "in here");
    let mut plain = Raw::plain(gateway.port("plain"));
    plain.send(request("/secret", &[]).as_bytes());
    let [off, nothing] = [plain.head(), {
        let mut other = Raw::plain(gateway.port("plain"));
        other.send(request("/absent", &[]).as_bytes());
        other.head()
    }];
    assert!(off.starts_with("HTTP/1.1 404 "), "{off}");
    assert_eq!(off, nothing, "it does not even tell that it is there");
    // Where it is reachable on both, it is one room.
    let [mut one, mut other] = Wire::BOTH.map(|wire| gateway.client(wire, "/both"));
    one.send_text("one room");
    assert_eq!([one.text(), other.text()], ["one room", "one room"]);
}

#[test]
fn ipv6_and_unix_listeners_serve_the_same_rooms() {
    let config = r#"
[[listen]]
name = "six"
address = "[::1]:0"

[[listen]]
name = "unix"
address = "unix:gateway.sock"

[[endpoint]]
path = "/"
format = "n8n"
"#;
    let mut gateway = Gateway::start(&format!("{config}{LISTENERS}"));
    let file = gateway.file("gateway.sock");
    let mut unix = Raw::unix(&file);
    let mut six = Raw::ipv6(gateway.port("six"));
    let mut four = Raw::plain(gateway.port("plain"));
    for client in [&mut unix, &mut six, &mut four] {
        client.upgrade("/", &[]);
    }
    for (sender, address) in [(0, None), (1, Some("::1")), (2, Some("127.0.0.1"))] {
        let clients = [&mut unix, &mut six, &mut four];
        clients[sender].send_text("hello");
        let texts = clients.map(Raw::text);
        assert!(texts.iter().all(|text| text == &texts[0]), "{texts:?}");
        let value: Value = serde_json::from_str(&texts[0]).unwrap();
        assert_eq!(value["metadata"]["clientIp"].as_str(), address, "{}", texts[0]);
    }
    assert!(gateway.wait_for_log("(unix): connected to '/'").contains("client "));
    gateway.signal(rustix::process::Signal::TERM);
    for mut client in [unix, six, four] {
        client.closed_with(1001, "Server shutting down");
    }
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!file.exists(), "the socket file was left behind");
}

#[test]
fn a_stale_socket_file_is_replaced_and_no_other_file_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ws.sock");
    let config = format!("[[listen]]\nname = \"unix\"\naddress = \"unix:{}\"\n", file.display());
    // Of a process that is gone: the file stays when the listener is closed.
    drop(UnixListener::bind(&file).unwrap());
    assert!(file.exists());
    let mut first = Gateway::start(&config);
    let mut client = Raw::unix(&file);
    client.upgrade("/", &[]);
    client.send_text("taken over");
    assert_eq!(client.text(), "taken over");

    // One that answers is somebody's.
    let mut second = Gateway::launch(&config, |_| {});
    assert_eq!(second.wait().code(), Some(69));
    let log = second.whole_log();
    assert!(log.last().unwrap().contains("Address already in use"), "{log:?}");
    client.send_text("still mine");
    assert_eq!(client.message(), Frame::text("still mine"));
    drop(client);
    assert_eq!(first.terminate().code(), Some(0));

    std::fs::write(&file, "not a socket").unwrap();
    let mut third = Gateway::launch(&config, |_| {});
    assert_eq!(third.wait().code(), Some(69));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a socket");
}
