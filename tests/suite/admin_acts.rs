//! What operators do over the admin listener: messages to one client, to a room and to all rooms of a pattern, and closing
//! a client; all in the order of the room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::admin::{ADMIN, Answer, Caller};
use crate::harness::command::{closed_port, echo, serve_on};
use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, Raw, Remote, Wire, eventually, request};

const CONFIG: &str = r#"
[[endpoint]]
path = "/rooms/{room}"
max_connections = 1000

[[endpoint]]
path = "/flows/{flow}"
format = "message"

[[endpoint]]
path = "/n8n"
format = "n8n"
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}{ADMIN}"))
}

fn act(gateway: &Gateway, method: &str, path: &str, lines: &[&str], body: &[u8]) -> Answer {
    Caller::of(gateway).ask_with(method, path, lines, Some(body))
}

#[test]
fn a_message_reaches_one_client_as_text_or_as_binary() {
    let gateway = start();
    let (mut one, mut other) = (gateway.client(Wire::Plain, "/rooms/7"), gateway.client(Wire::Tls, "/rooms/7"));
    let path = format!("/api/v1/clients/{}/send", gateway.id_of(&one));
    let sent = act(&gateway, "POST", &path, &["Content-Type: application/json"], br#"{"a":1}"#);
    assert_eq!(sent.status, 202, "{sent:?}");
    assert_eq!(act(&gateway, "POST", &path, &["Content-Type: Application/Octet-Stream; x=y"], b"\xff\x00").status, 202);
    assert_eq!((one.text(), one.message()), (r#"{"a":1}"#.to_owned(), Frame::binary(b"\xff\x00")));
    let wrong = act(&gateway, "POST", &path, &[], b"\xff");
    assert_eq!((wrong.status, wrong.code()), (400, "badRequest".to_owned()));
    for id in ["0000000000000000", "7", "%FF"] {
        let none = act(&gateway, "POST", &format!("/api/v1/clients/{id}/send"), &[], b"x");
        assert_eq!((none.status, none.code()), (404, "notFound".to_owned()), "{id}");
    }
    // The other one has got nothing of all this.
    other.send_text("next");
    assert_eq!(other.text(), "next");
}

#[test]
fn a_publication_reaches_a_room_or_all_rooms_of_a_pattern_in_the_format_of_each() {
    let gateway = start();
    let mut rooms = ["7", "7", "8"].map(|room| gateway.client(Wire::Plain, &format!("/rooms/{room}")));
    let (mut flow, mut n8n) = (gateway.client(Wire::Tls, "/flows/a"), gateway.client(Wire::Plain, "/n8n"));
    let publish = |path: &str, lines: &[&str], body: &[u8]| {
        let answer = act(&gateway, "POST", &format!("/api/v1/publish/{path}"), lines, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["clients"].as_u64().unwrap()
    };
    assert_eq!(publish("rooms/7", &[], b"one"), 2);
    assert_eq!(publish("rooms%2F7", &[], b"two"), 2);
    assert_eq!(publish("rooms/%7Broom%7D", &[], b"three"), 3);
    assert_eq!(publish("rooms/9", &[], b"nobody"), 0);
    for (client, expected) in rooms.iter_mut().zip([&["one", "two", "three"][..], &["one", "two", "three"], &["three"]])
    {
        expected.iter().for_each(|text| assert_eq!(client.text(), *text));
    }
    assert_eq!(publish("flows/{flow}", &[], b"hello"), 1);
    let nobody = r#"{"payload":"hello","_session":{"type":"websocket","id":"0000000000000000"}}"#;
    assert_eq!(flow.text(), nobody);
    assert_eq!(publish("n8n", &["Content-Type: application/json"], br#"{"x":1}"#), 1);
    assert!(n8n.text().starts_with(r#"{"message":{"x":1},"metadata":{"#));
    for path in ["none", "", "rooms", "rooms/7/8", "%7Bx%7D/7", "rooms/%FF", "n8n/%7Bx%7D"] {
        assert_eq!(act(&gateway, "POST", &format!("/api/v1/publish/{path}"), &[], b"x").status, 404, "{path}");
    }
}

#[test]
fn a_client_is_closed_behind_what_was_published_with_the_code_and_the_reason_of_the_operator() {
    let gateway = start();
    for (query, code, reason) in [
        ("", 1008, "Closed by the operator"),
        ("?code=4999&reason=gone%20for+good", 4999, "gone for good"),
        ("?code=1012&reason=", 1012, ""),
    ] {
        let mut client = gateway.client(Wire::Plain, "/rooms/7");
        let path = format!("/api/v1/clients/{}", gateway.id_of(&client));
        assert_eq!(act(&gateway, "POST", "/api/v1/publish/rooms/7", &[], b"last words").status, 200);
        let closed = Caller::of(&gateway).ask_with("DELETE", &format!("{path}{query}"), &[], None);
        assert_eq!((closed.status, &*closed.body), (204, ""), "{closed:?}");
        assert_eq!(client.text(), "last words");
        client.closed_with(code, reason);
        eventually("it is not listed any more", DEADLINE, || Caller::of(&gateway).get(&path).status == 404);
        gateway.wait_for_log(&format!("DELETE {path}: 204"));
    }
    let client = gateway.client(Wire::Plain, "/rooms/7");
    let path = format!("/api/v1/clients/{}", gateway.id_of(&client));
    let long = format!("?reason={}", "x".repeat(124));
    for query in ["?code=1005", "?code=999", "?code=x", "?code=1014", "?code=5000", "?cod=1000", &long, "?reason=%FF"] {
        let refused = Caller::of(&gateway).ask_with("DELETE", &format!("{path}{query}"), &[], None);
        assert_eq!(refused.status, 400, "{query}: {refused:?}");
    }
    assert_eq!(Caller::of(&gateway).get(&path).status, 200);
}

#[test]
fn nothing_that_an_operator_sends_comes_before_the_101() {
    let gateway = start();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (mut caller, mut sent) = (Caller::of(&gateway), 0);
            while !is_over.load(Ordering::Acquire) {
                for client in caller.get("/api/v1/clients?limit=1000").json()["items"].as_array().unwrap() {
                    let path = format!("/api/v1/clients/{}/send", client["id"].as_str().unwrap());
                    sent += usize::from(caller.ask_with("POST", &path, &[], Some(b"early")).status == 202);
                }
                // As many requests as a connection takes.
                caller = Caller::of(&gateway);
            }
            sent
        });
        for _ in 0..200 {
            let mut client = Raw::plain(gateway.port("plain"));
            client.send(request("/rooms/x", &[]).as_bytes());
            assert!(client.head().starts_with("HTTP/1.1 101 "));
        }
        is_over.store(true, Ordering::Release);
        assert!(sending.join().unwrap() > 0, "nobody was sent anything");
    });
}

#[test]
fn clients_are_listed_by_pages_and_narrowed_by_what_is_known_of_them() {
    let gateway = start();
    let _rooms: Vec<_> = (0..5).map(|room| gateway.client(Wire::Plain, &format!("/rooms/{}", room / 3))).collect();
    let _flow = gateway.client(Wire::Tls, "/flows/a");
    let mut caller = Caller::of(&gateway);
    let mut count = |query: &str| {
        let page = caller.get(&format!("/api/v1/clients?{query}")).json();
        (page["items"].as_array().unwrap().len(), page["next"].as_str().map(str::to_owned))
    };
    for (query, expected) in [
        ("", 6),
        ("endpoint=/rooms/{room}", 5),
        ("path=/rooms/1", 2),
        ("path=/rooms/1&endpoint=/flows/%7Bflow%7D", 0),
        ("address=127.0.0.1", 6),
        ("address=::ffff:127.0.0.1", 6),
        ("address=10.0.0.1", 0),
        ("identity=ada", 0),
    ] {
        assert_eq!(count(query), (expected, None), "{query}");
    }
    let (mut seen, mut after) = (0, String::new());
    loop {
        let (items, next) = count(&format!("limit=4{after}"));
        seen += items;
        let Some(next) = next else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, 6);
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "address=x", "colour=red"] {
        assert_eq!(Caller::of(&gateway).get(&format!("/api/v1/clients?{query}")).status, 400, "{query}");
    }
    let client = Caller::of(&gateway).get("/api/v1/clients?endpoint=/flows/{flow}").json()["items"][0].clone();
    assert_eq!((client["path"].as_str(), client["address"].as_str()), (Some("/flows/a"), Some("127.0.0.1")));
    assert_eq!((client["maySend"].as_bool(), client["identity"].is_null()), (Some(true), true));
}

#[test]
fn a_link_that_is_required_and_down_makes_wsgate_not_ready_until_it_is_up() {
    let (closed, url) = closed_port();
    let config = format!(
        "[[endpoint]]\npath = \"/\"\nto = [\"link:plc\"]\n[[link]]\nname = \"plc\"\nurl = \"{url}\"\nrequired = true\n\
         backoff = {{ first = \"50ms\", most = \"50ms\" }}\n{LISTENERS}{ADMIN}"
    );
    let gateway = Gateway::start(&config);
    let mut caller = Caller::of(&gateway);
    eventually("the link has failed", DEADLINE, || caller.get("/api/v1/links/plc").json()["lastFailure"].is_object());
    let link = caller.get("/api/v1/links").json()["items"][0].clone();
    assert_eq!((&link["name"], &link["state"], &link["required"]), (&"plc".into(), &"down".into(), &true.into()));
    assert!(link["failedAttempts"].as_u64() > Some(0) && link["lastFailure"]["at"].is_string(), "{link}");
    let not_ready = caller.get("/readyz");
    assert_eq!((not_ready.status, not_ready.code()), (503, "notReady".to_owned()));
    assert!(not_ready.body.contains("link plc is down"), "{not_ready:?}");
    assert_eq!(caller.get("/healthz").status, 200);

    closed.listen(16).unwrap();
    serve_on(closed.into(), |stream| echo(tungstenite::accept(stream).unwrap()));
    eventually("wsgate is ready", DEADLINE, || Caller::of(&gateway).get("/readyz").status == 200);
    assert_eq!(Caller::of(&gateway).get("/api/v1/links/plc").json()["state"], "up");
    assert_eq!(Caller::of(&gateway).get("/api/v1/links/none").status, 404);
}

#[test]
fn a_reload_says_what_was_read_or_what_is_wrong() {
    let gateway = start();
    let reload = || act(&gateway, "POST", "/api/v1/reload", &[], b"");
    let done = reload();
    assert_eq!(done.status, 200, "{done:?}");
    assert!(
        done.json()["reloaded"].as_array().unwrap().iter().any(|what| what.to_string().contains("cert.pem")),
        "{done:?}"
    );
    std::fs::write(gateway.file("cert.pem"), "").unwrap();
    let failed = reload();
    assert_eq!((failed.status, failed.code()), (422, "reloadFailed".to_owned()));
    let mistakes = failed.json()["error"]["mistakes"].clone();
    assert!(
        mistakes.as_array().unwrap().len() == 1 && mistakes[0].as_str().unwrap().contains("cert.pem"),
        "{mistakes}"
    );
    gateway.wait_for_log("reload: failed, and nothing has changed");
    // Many at once are done one after the other, or told that another one waits.
    let statuses: Vec<u16> = thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| reload().status)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 422 | 409)) && statuses.contains(&422), "{statuses:?}");
}

#[test]
fn a_redial_ends_the_wait_of_a_link_or_replaces_its_connection() {
    let (closed, url) = closed_port();
    let config = format!(
        "[[endpoint]]\npath = \"/\"\nto = [\"link:plc\"]\n[[link]]\nname = \"plc\"\nurl = \"{url}\"\n\
         backoff = {{ first = \"1h\", most = \"1h\" }}\n{LISTENERS}{ADMIN}"
    );
    let gateway = Gateway::start(&config);
    gateway.wait_for_log("dialling again in");
    closed.listen(16).unwrap();
    serve_on(closed.into(), |stream| echo(tungstenite::accept(stream).unwrap()));
    let redial = |name: &str| act(&gateway, "POST", &format!("/api/v1/links/{name}/redial"), &[], b"").status;
    assert_eq!(redial("plc"), 202);
    gateway.wait_for_logs("link plc: connected to", 1);
    assert_eq!(redial("plc"), 202);
    gateway.wait_for_logs("link plc: connected to", 2);
    assert_eq!(redial("none"), 404);
}

#[test]
fn a_link_that_is_given_up_drops_what_is_for_it_until_a_redial_or_a_reload_has_it_begin_again() {
    let mut remote = Remote::away();
    let link = |url: &str| {
        format!(
            "[[endpoint]]\npath = \"/\"\nto = [\"link:plc\", \"reply\"]\n[[link]]\nname = \"plc\"\nurl = \"{url}\"\n\
             backoff = {{ first = \"1ms\", most = \"1ms\", attempts = 2 }}\n{LISTENERS}{ADMIN}"
        )
    };
    let mut gateway = Gateway::start(&link(&remote.url()));
    let look = || Caller::of(&gateway).get("/api/v1/links/plc").json();
    let redial = || act(&gateway, "POST", "/api/v1/links/plc/redial", &[], b"").status;
    gateway.wait_for_log("given up after 2 attempts");
    assert_eq!(look()["state"], "givenUp");
    let mut client = gateway.client(Wire::Plain, "/");
    client.send_text("lost");
    // It holds nobody, and what it does not get is counted.
    assert_eq!(client.text(), "lost");
    eventually("it is counted", DEADLINE, || look()["droppedMessages"] == 1);
    // Nobody is there yet: it has both attempts again.
    assert_eq!(redial(), 202);
    gateway.wait_for_logs("given up after 2 attempts", 2);
    remote.come();
    assert_eq!(redial(), 202);
    let mut linked = remote.accept();
    eventually("it is up", DEADLINE, || look()["state"] == "up");
    client.send_text("again");
    assert_eq!(linked.text(), "again");
    remote.go();
    linked.reset();
    gateway.wait_for_logs("given up after 2 attempts", 3);

    let other = Remote::up();
    std::fs::write(gateway.file("wsgate.toml"), link(&other.url())).unwrap();
    gateway.signal(Signal::HUP);
    let mut linked = other.accept();
    client.text();
    client.send_text("elsewhere");
    assert_eq!(linked.text(), "elsewhere");
    // One that is given up does not hold a stop.
    drop((linked, other));
    gateway.wait_for_logs("given up after 2 attempts", 4);
    assert!(gateway.terminate().success());
}

#[test]
fn s2_the_configuration_in_force_is_shown_without_secrets() {
    let config = format!(
        "[[endpoint]]\npath = \"/rooms/{{room}}\"\nwelcome = \"hunter2\"\nheartbeat = \"7s\"\n[[link]]\nname = \"plc\"\n\
         url = \"ws://ada:hunter2@127.0.0.1:9/?token=hunter2\"\nheaders = {{ X-Key = \"hunter2\" }}\n{LISTENERS}{ADMIN}"
    );
    // The answer is searched for secrets by the harness.
    let shown = Caller::of(&Gateway::start(&config)).get("/api/v1/config").json();
    assert_eq!((&shown["endpoint"][0]["heartbeat"], &shown["endpoint"][0]["welcome"]), (&"7s".into(), &"***".into()));
    assert_eq!(shown["link"][0]["headers"]["X-Key"], "***");
    assert_eq!(shown["listen"][1]["tls"]["certificate"].as_str().map(|file| file.ends_with("cert.pem")), Some(true));
}
