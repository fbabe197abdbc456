//! What authenticated clients may do, and who they are in messages, events and rooms.

use tempfile::TempDir;

use crate::auth::files_of;
use crate::harness::{Frame, Gateway, LISTENERS, Raw, Remote, masked, request};

/// Who has tokens.
const NAMES: [&str; 5] = ["press-3", "press-4", "ada", "a/b", "*"];

fn files() -> TempDir {
    let tokens = NAMES.map(|name| (name, format!("hunter2-{name}")));
    files_of(&tokens.each_ref().map(|(name, token)| (*name, &**token)))
}

/// A gateway with these endpoints.
fn gateway(files: &TempDir, endpoints: &str) -> Gateway {
    let file = files.path().join("tokens.txt").display().to_string();
    Gateway::start(&format!("{LISTENERS}[[auth]]\nname = \"all\"\nkind = \"tokens\"\nfile = {file:?}\n{endpoints}"))
}

fn bearer(name: &str) -> String {
    format!("Authorization: Bearer hunter2-{name}")
}

fn enter(gateway: &Gateway, name: &str, path: &str) -> Raw {
    let mut client = gateway.raw("plain");
    client.upgrade(path, &[&bearer(name)]);
    client
}

const RULES: &str = r#"
[[endpoint]]
path = "/devices/{device}"
to = ["broadcast", "reply"]
auth = ["all"]
allow = [
    { who = "press-*", path = "/devices/{identity}", receive = false },
    { who = "ada", path = "/devices/*", send = false },
    { who = "*", path = "/devices/{identity}" },
]
"#;

#[test]
fn whom_no_rule_fits_gets_403_or_4403() {
    let files = files();
    for (refuse, closes) in [("", false), ("refuse = \"close\"", true)] {
        let gateway = gateway(&files, &RULES.replace("auth =", &format!("{refuse}\nauth =")));
        for (name, path, is_let_in) in [
            ("press-3", "/devices/press-3", true),
            ("press-3", "/devices/press-%33", true),
            ("press-3", "/devices/press-4", false),
            ("press-3", "/devices/*", false),
            ("ada", "/devices/press-4", true),
            ("*", "/devices/press-3", false),
            ("*", "/devices/*", true),
            ("a/b", "/devices/b", false),
        ] {
            let mut client = gateway.raw("tls");
            client.send(request(path, &[&bearer(name)]).as_bytes());
            let status = if is_let_in || closes { "HTTP/1.1 101 " } else { "HTTP/1.1 403 " };
            let head = client.head();
            assert!(head.starts_with(status), "{name} {path}: {head}");
            if !is_let_in && closes {
                assert_eq!(client.frame(), Frame::close(4403, "Forbidden"), "{name} {path}");
            }
        }
        let words = if closes { "closed with 4403: " } else { "refused with 403: " };
        gateway.wait_for_log(&format!("{words}this identity may not connect here: no rule of \"allow\" fits '*' at"));
    }
}

#[test]
fn who_may_not_send_is_closed_at_its_first_message_and_who_may_not_receive_gets_none() {
    let gateway = gateway(&files(), RULES);
    let (mut ada, mut press) =
        (enter(&gateway, "ada", "/devices/press-3"), enter(&gateway, "press-3", "/devices/press-3"));
    for number in 0..3 {
        press.send_text(&number.to_string());
        assert_eq!(ada.text(), number.to_string());
    }
    // Its own messages do not come back to it, and it is answered when it pings.
    press.send(&masked(0x89, b"?"));
    assert_eq!(press.frame(), Frame { first: 0x8a, payload: b"?".to_vec() });
    ada.send(&masked(0x89, b"!"));
    assert_eq!(ada.frame(), Frame { first: 0x8a, payload: b"!".to_vec() });
    ada.send(&[masked(0x01, b"a"), masked(0x80, b"b"), masked(0x81, b"c")].concat());
    ada.closed_with(1008, "Sending is not allowed");
    press.send(&masked(0x89, b"?"));
    assert_eq!(press.frame(), Frame { first: 0x8a, payload: b"?".to_vec() });
}

#[test]
fn a_message_that_is_addressed_to_whoever_may_not_receive_goes_nowhere() {
    let endpoints = r#"
[[endpoint]]
path = "/ask"
to = ["endpoint:/flow"]
format = "message"
auth = ["all"]
allow = [{ who = "press-3", receive = false }, {}]
[[endpoint]]
path = "/flow"
to = ["reply"]
format = "message"
address_sessions = true
"#;
    let gateway = gateway(&files(), endpoints);
    let mut flow = gateway.raw("plain");
    flow.upgrade("/flow", &[]);
    let (mut deaf, mut other) = (enter(&gateway, "press-3", "/ask"), enter(&gateway, "press-4", "/ask"));
    for client in [&mut deaf, &mut other] {
        client.send_text("{\"payload\":1}");
        let asked = flow.text();
        flow.send_text(&asked);
    }
    assert!(other.text().contains("\"payload\":1"));
    deaf.send(&masked(0x89, b"?"));
    assert_eq!(deaf.frame(), Frame { first: 0x8a, payload: b"?".to_vec() });
}

#[test]
fn a_relay_ends_who_sends_and_may_not() {
    let (files, server) = (files(), Remote::up());
    let endpoint = format!(
        "[[endpoint]]\npath = \"/\"\nauth = [\"all\"]\nallow = [{{ send = false }}]\nrelay = {{ url = \"{}\", proxy = \"off\" }}\n",
        server.url()
    );
    let gateway = gateway(&files, &endpoint);
    std::thread::scope(|scope| {
        let entering = scope.spawn(|| enter(&gateway, "ada", "/"));
        let (mut conn, _) = server.upgraded(&[]);
        let mut client = entering.join().unwrap();
        conn.send_frame(0x81, b"news");
        assert_eq!(client.message(), Frame::text("news"));
        client.send_text("no");
        client.closed_with(1008, "Sending is not allowed");
        assert_eq!(conn.frame().first, 0x88, "nothing but the Close reaches the server");
    });
}

#[test]
fn messages_and_events_say_who_and_nobody_can_say_it_of_himself() {
    let endpoints = r#"
[[endpoint]]
path = "/in"
to = ["others", "endpoint:/message", "endpoint:/n8n"]
format = "message"
auth = ["all"]
events = ["connect"]
[[endpoint]]
path = "/message"
to = []
format = "message"
[[endpoint]]
path = "/n8n"
to = []
format = "n8n"
"#;
    let gateway = gateway(&files(), endpoints);
    let mut consumers = ["/message", "/n8n"].map(|path| {
        let mut consumer = gateway.raw("plain");
        consumer.upgrade(path, &[]);
        consumer
    });
    let mut other = enter(&gateway, "ada", "/in");
    let mut sender = enter(&gateway, "a/b", "/in");
    let json = |text: String| -> serde_json::Value { serde_json::from_str(&text).unwrap() };
    for name in ["ada", "a/b"] {
        assert_eq!(json(consumers[0].text())["payload"]["identity"], name);
        assert_eq!(json(consumers[1].text())["message"]["identity"], name);
    }
    // The event about the second one.
    assert_eq!(json(other.text())["payload"]["identity"], "a/b");
    sender.send_text(
        r#"{"payload":1,"_session":{"type":"websocket","id":"0000000000000000","identity":"ada","claims":{"root":true}},"_sess\u0069on":{"identity":"ada"}}"#,
    );
    for received in [json(other.text()), json(consumers[0].text())] {
        assert_eq!((&received["payload"], &received["_session"]["identity"]), (&1.into(), &"a/b".into()), "{received}");
        assert_eq!(received["_session"]["claims"], serde_json::Value::Null);
    }
    let received = json(consumers[1].text());
    assert_eq!((&received["message"]["payload"], &received["metadata"]["identity"]), (&1.into(), &"a/b".into()));
    assert!(!received.to_string().contains("\"ada\""), "{received}");
}

#[test]
fn a_route_leads_to_the_room_of_the_sender_s_name() {
    let endpoints = r#"
[[endpoint]]
path = "/post"
to = ["endpoint:/users/{identity}"]
auth = ["all"]
[[endpoint]]
path = "/users/{user}"
to = []
auth = ["all"]
allow = [{ path = "/users/{identity}" }]
"#;
    let gateway = gateway(&files(), endpoints);
    let (mut ada, mut press) = (enter(&gateway, "ada", "/users/ada"), enter(&gateway, "press-3", "/users/press-3"));
    let (mut from_ada, mut from_press) = (enter(&gateway, "ada", "/post"), enter(&gateway, "press-3", "/post"));
    from_ada.send_text("of ada");
    from_press.send_text("of press-3");
    assert_eq!((ada.text(), press.text()), ("of ada".to_owned(), "of press-3".to_owned()));
    let mut star = enter(&gateway, "*", "/users/*");
    enter(&gateway, "*", "/post").send_text("of star");
    assert_eq!(star.text(), "of star");
    // A name with a slash would be two segments.
    let mut client = gateway.raw("plain");
    client.send(request("/post", &[&bearer("a/b")]).as_bytes());
    assert!(client.head().starts_with("HTTP/1.1 403 "));
    gateway.wait_for_log("'a/b' cannot be a part of a path");
}

#[test]
fn b22_behind_a_relay_messages_say_where_they_come_from_and_hold_no_credential() {
    let inner = Gateway::start(&format!(
        "{LISTENERS}[[endpoint]]\npath = \"/meters/{{meter}}\"\nformat = \"message\"\nsubprotocols = [\"chat\"]\n\
         to = [\"endpoint:/flow\", \"endpoint:/n8n\"]\nevents = [\"connect\"]\n\
         [[endpoint]]\npath = \"/flow\"\nformat = \"message\"\nto = []\n[[endpoint]]\npath = \"/n8n\"\nformat = \"n8n\"\nto = []\n"
    ));
    let [mut flow, mut n8n] = ["/flow", "/n8n"].map(|path| {
        let mut client = inner.raw("plain");
        client.upgrade(path, &[]);
        client
    });
    // Its names do not say that they are secret, so that only their place does.
    let outer = gateway(
        &files(),
        &format!(
            "query = \"k\"\nsubprotocol = true\n[[endpoint]]\npath = \"/in/{{meter}}\"\nauth = [\"all\"]\n\
             relay = {{ url = \"ws://127.0.0.1:{}/meters/{{meter}}\", proxy = \"off\" }}\n",
            inner.port("plain")
        ),
    );
    let encoded = data_encoding::BASE64URL_NOPAD.encode(b"hunter2-ada");
    let mut client = outer.raw("plain");
    let offered = format!("Sec-WebSocket-Protocol: wsgate.bearer.{encoded}, chat");
    let head = client.upgrade("/in/7?unit=kWh&k=hunter2-ada&phase=%32", &[&offered]);
    assert!(head.ends_with("Sec-WebSocket-Protocol: chat"), "{head}");
    client.send_text("{\"payload\":1}");
    let told = [flow.text(), flow.text(), n8n.text(), n8n.text()];
    let json = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
    let query = serde_json::json!({"unit": "kWh", "phase": "2"});
    for description in [&json(&told[1]), &json(&told[3])["metadata"]] {
        assert_eq!((&description["path"], &description["query"]), (&"/meters/7".into(), &query), "{description}");
    }
    assert!(told.iter().all(|text| !text.contains("wsgate.bearer") && !text.contains("\"k\"")), "{told:?}");
}
