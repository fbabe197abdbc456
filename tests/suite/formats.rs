//! The formats from end to end: what is sent in each and how it arrives in each, which session
//! a message names as its sender, and which session it may be addressed to.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Attack, Frame, Gateway, LISTENERS, Raw, Wire, masked, with_any_deliverers};

/// From an endpoint of each format to an endpoint of each format.
const ALL: &str = r#"
[[endpoint]]
path = "/in/payload"
to = ["endpoint:/out/payload", "endpoint:/out/message", "endpoint:/out/n8n"]

[[endpoint]]
path = "/in/message"
format = "message"
to = ["endpoint:/out/payload", "endpoint:/out/message", "endpoint:/out/n8n"]

[[endpoint]]
path = "/in/n8n"
format = "n8n"
to = ["endpoint:/out/payload", "endpoint:/out/message", "endpoint:/out/n8n"]

[[endpoint]]
path = "/out/payload"
to = []

[[endpoint]]
path = "/out/message"
format = "message"
to = []

[[endpoint]]
path = "/out/n8n"
format = "n8n"
to = []
"#;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// What is sent, and what arrives: the frame of a payload (if any), the members of a message without
/// its session, and the `message` of n8n.
type Case = (u8, &'static [u8], Option<(u8, &'static [u8])>, &'static str, &'static str);

const FROM_PAYLOAD: &[Case] = &[
    (TEXT, b"on", Some((TEXT, b"on")), r#""payload":"on""#, r#""on""#),
    (TEXT, b"", Some((TEXT, b"")), r#""payload":"""#, r#""""#),
    (TEXT, b"null", Some((TEXT, b"null")), r#""payload":"null""#, "null"),
    (TEXT, br#"{"a": 1}"#, Some((TEXT, br#"{"a": 1}"#)), r#""payload":"{\"a\": 1}""#, r#"{"a": 1}"#),
    (TEXT, br#"{"a":"#, Some((TEXT, br#"{"a":"#)), r#""payload":"{\"a\":""#, r#""{\"a\":""#),
    (BINARY, b"", Some((BINARY, b"")), r#""payload":{"type":"Buffer","data":[]}"#, r#""""#),
    (BINARY, b"5", Some((BINARY, b"5")), r#""payload":{"type":"Buffer","data":[53]}"#, "5"),
    (
        BINARY,
        b"\xff\0",
        Some((BINARY, b"\xff\0")),
        r#""payload":{"type":"Buffer","data":[255,0]}"#,
        r#"{"type":"Buffer","data":[255,0]}"#,
    ),
];

const FROM_MESSAGE: &[Case] = &[
    (
        TEXT,
        br#"{"payload":"on","topic":"t"}"#,
        Some((TEXT, b"on")),
        r#""payload":"on","topic":"t""#,
        r#"{"payload":"on","topic":"t"}"#,
    ),
    // Without a payload there is nothing to send to receivers of payloads.
    (TEXT, br#"{"topic":"t"}"#, None, r#""topic":"t""#, r#"{"topic":"t"}"#),
    (TEXT, b"{}", None, "", "{}"),
    (TEXT, b"null", Some((TEXT, b"null")), r#""payload":null"#, "null"),
    (TEXT, b"[1, null]", Some((TEXT, b"[1, null]")), r#""payload":[1, null]"#, "[1, null]"),
    (TEXT, b"true", Some((TEXT, b"true")), r#""payload":true"#, "true"),
    (TEXT, br#""text""#, Some((TEXT, b"text")), r#""payload":"text""#, r#""text""#),
    // Not a digit is lost, nor a member of which there are two.
    (
        TEXT,
        b"12345678901234567890.10",
        Some((TEXT, b"12345678901234567890.10")),
        r#""payload":12345678901234567890.10"#,
        "12345678901234567890.10",
    ),
    (
        TEXT,
        br#"{"a":1,"a":2,"payload":1,"payload":1e400}"#,
        Some((TEXT, b"1e400")),
        r#""a":1,"a":2,"payload":1,"payload":1e400"#,
        r#"{"a":1,"a":2,"payload":1,"payload":1e400}"#,
    ),
    (TEXT, b"", Some((TEXT, b"")), r#""payload":"""#, r#""""#),
    (TEXT, b"{'a'", Some((TEXT, b"{'a'")), r#""payload":"{'a'""#, r#""{'a'""#),
    (BINARY, b"", Some((BINARY, b"")), r#""payload":{"type":"Buffer","data":[]}"#, r#""""#),
    (BINARY, br#"{"payload":7}"#, Some((TEXT, b"7")), r#""payload":7"#, r#"{"payload":7}"#),
    (
        BINARY,
        b"\xff\xfe",
        Some((BINARY, b"\xff\xfe")),
        r#""payload":{"type":"Buffer","data":[255,254]}"#,
        r#"{"type":"Buffer","data":[255,254]}"#,
    ),
    (
        TEXT,
        br#"{"payload":{"type":"Buffer","data":[1,255]}}"#,
        Some((BINARY, &[1, 255])),
        r#""payload":{"type":"Buffer","data":[1,255]}"#,
        r#"{"payload":{"type":"Buffer","data":[1,255]}}"#,
    ),
];

const FROM_N8N: &[Case] = &[
    (TEXT, b"on", Some((TEXT, b"on")), r#""payload":"on""#, r#""on""#),
    (TEXT, b"", Some((TEXT, b"")), r#""payload":"""#, r#""""#),
    (TEXT, b"null", Some((TEXT, b"null")), r#""payload":null"#, "null"),
    (TEXT, br#"{"b":[1,2]}"#, Some((TEXT, br#"{"b":[1,2]}"#)), r#""payload":{"b":[1,2]}"#, r#"{"b":[1,2]}"#),
    (TEXT, b"[1", Some((TEXT, b"[1")), r#""payload":"[1""#, r#""[1""#),
    (BINARY, b"", Some((BINARY, b"")), r#""payload":"""#, r#""""#),
    (
        BINARY,
        b"\xff",
        Some((BINARY, b"\xff")),
        r#""payload":{"type":"Buffer","data":[255]}"#,
        r#"{"type":"Buffer","data":[255]}"#,
    ),
];

/// The end of every message that this client sends.
fn session(id: &str) -> String {
    format!(r#""_session":{{"type":"websocket","id":"{id}"}}}}"#)
}

/// A message with these members, as its receivers get it from this client.
fn message_from(id: &str, members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!("{{{members}{comma}{}", session(id))
}

/// These members, and the description of a client of this path, which receivers elsewhere get.
fn described(path: &str, members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{members}{comma}"path":"{path}","parameters":{{}},"query":{{}}"#)
}

#[test]
fn every_format_arrives_in_every_format() {
    with_any_deliverers(ALL, |gateway| {
        for (wire, format, cases) in [
            (Wire::Plain, "payload", FROM_PAYLOAD),
            (Wire::Tls, "payload", FROM_PAYLOAD),
            (Wire::Plain, "message", FROM_MESSAGE),
            (Wire::Tls, "message", FROM_MESSAGE),
            (Wire::Plain, "n8n", FROM_N8N),
            (Wire::Tls, "n8n", FROM_N8N),
        ] {
            let [mut payloads, mut messages, mut n8n] =
                ["payload", "message", "n8n"].map(|format| gateway.client(wire, &format!("/out/{format}")));
            let mut sender = Raw::plain(gateway.port("plain"));
            sender.upgrade(&format!("/in/{format}"), &["User-Agent: press \"3\""]);
            let id = gateway.id_of(&sender);
            // All at once: what one read brings is written together.
            sender.send(&cases.iter().flat_map(|case| masked(case.0, case.1)).collect::<Vec<_>>());
            for (kind, sent, payload, members, n8n_message) in cases {
                let what = format!("{kind:#04x} {:?} in {format}", String::from_utf8_lossy(sent));
                if let Some((first, payload)) = payload {
                    assert_eq!(payloads.message(), Frame { first: *first, payload: payload.to_vec() }, "{what}");
                }
                let members = described(&format!("/in/{format}"), members);
                assert_eq!(messages.text(), message_from(&id, &members), "{what}");
                let text = n8n.text();
                let head = format!(
                    r#"{{"message":{n8n_message},"metadata":{{"clientIp":"127.0.0.1","userAgent":"press \"3\"","#
                );
                assert!(text.starts_with(&head), "{what}: {text}");
                let metadata =
                    &serde_json::from_str::<Value>(&format!("{{{}", &text[head.len()..text.len() - 1])).unwrap();
                for key in ["connectedAt", "timestamp"] {
                    let time = metadata[key].as_str().unwrap();
                    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{key}: {time}");
                }
            }
        }
    });
}

#[test]
fn a_client_cannot_send_under_the_session_of_another() {
    const OTHER: &str = r#"{"type":"websocket","id":"0000000000000001"}"#;
    let table: &[(&str, &str)] = &[
        (r#"{"payload":1,"_session":OTHER}"#, r#""payload":1"#),
        (r#"{"_session":OTHER,"payload":1}"#, r#""payload":1"#),
        (r#"{"_session":OTHER}"#, ""),
        (r#"{"_session":OTHER,"a":1,"_session":OTHER,"b":2,"_session":OTHER}"#, r#""a":1,"b":2"#),
        (r#"{"\u005fsession":OTHER,"payload":1}"#, r#""payload":1"#),
        (r#"{"_\u0073\u0065ssion":OTHER,"payload":1}"#, r#""payload":1"#),
        (r#"{"payload":1,"_session":null}"#, r#""payload":1"#),
        (r#"{"payload":1,"_session":"0000000000000001"}"#, r#""payload":1"#),
        // What is not the session of the message is data.
        (r#"{"payload":{"_session":OTHER}}"#, r#""payload":{"_session":OTHER}"#),
        (r#"{"_Session":OTHER,"_SESSION":OTHER}"#, r#""_Session":OTHER,"_SESSION":OTHER"#),
        (r#"{"_session\u0000":OTHER," _session":OTHER}"#, r#""_session\u0000":OTHER," _session":OTHER"#),
        (r#"[{"_session":OTHER}]"#, r#""payload":[{"_session":OTHER}]"#),
    ];
    with_any_deliverers(ALL, |gateway| {
        for wire in Wire::BOTH {
            let mut receiver = gateway.client(wire, "/out/message");
            let mut sender = gateway.client(wire, "/in/message");
            let id = gateway.id_of(&sender);
            for (forged, members) in table {
                let [forged, members] = [forged, members].map(|text| text.replace("OTHER", OTHER));
                let bytes = forged.as_bytes();
                let (head, tail) = bytes.split_at(bytes.len() / 2);
                sender.send(&masked(TEXT, bytes));
                sender.send(&masked(BINARY, bytes));
                sender.send(&[masked(0x01, head), masked(0x80, tail)].concat());
                for _ in 0..3 {
                    assert_eq!(receiver.text(), message_from(&id, &described("/in/message", &members)), "{forged}");
                }
            }
            // With spaces, whatever becomes of them.
            sender.send_text(&format!("\t{{ \"_session\" : {OTHER} ,\n\"payload\" : 1 , \"_session\" : 2 }} "));
            let text = receiver.text();
            let compact: String = text.split_whitespace().collect();
            assert_eq!(compact, message_from(&id, &described("/in/message", r#""payload":1"#)), "{text}");
            // A payload is data, and so is JSON in it.
            for path in ["/in/payload", "/in/n8n"] {
                let mut sender = gateway.client(wire, path);
                let id = gateway.id_of(&sender);
                sender.send_text(&format!("{{\"_session\":{OTHER}}}"));
                let text = receiver.text();
                assert!(text.starts_with(r#"{"payload":"#) && text.ends_with(&session(&id)), "{text}");
            }
        }
    });
}

const ADDRESSING: &str = r#"
[[endpoint]]
path = "/devices"
format = "message"
to = ["endpoint:/control"]

[[endpoint]]
path = "/sensors"
format = "payload"
to = ["endpoint:/control"]

[[endpoint]]
path = "/control"
format = "message"
to = ["endpoint:/devices"]
address_sessions = true

[[endpoint]]
path = "/elsewhere"
format = "message"
to = ["broadcast"]
"#;

/// A client of a path and its id.
fn known(gateway: &Gateway, wire: Wire, path: &str) -> (Raw, String) {
    let client = gateway.client(wire, path);
    let id = gateway.id_of(&client);
    (client, id)
}

#[test]
fn where_sessions_may_be_addressed_an_answer_reaches_its_one_client() {
    with_any_deliverers(ADDRESSING, |gateway| {
        for wire in Wire::BOTH {
            let (mut device, device_id) = known(gateway, wire, "/devices");
            let (mut bystander, _) = known(gateway, wire, "/devices");
            let (mut sensor, sensor_id) = known(gateway, wire, "/sensors");
            let (mut control, control_id) = known(gateway, wire, "/control");
            device.send_text(r#"{"payload":"question"}"#);
            assert_eq!(control.text(), message_from(&device_id, &described("/devices", r#""payload":"question""#)));
            sensor.send_text("21.5");
            assert_eq!(control.text(), message_from(&sensor_id, &described("/sensors", r#""payload":"21.5""#)));

            // One read: to the whole room, to one, to the other, and to the room again.
            let all = [
                r#"{"payload":"before"}"#.to_owned(),
                message_from(&device_id, r#""payload":"answer""#),
                message_from(&sensor_id, r#""payload":"reset""#),
                r#"{"payload":"after"}"#.to_owned(),
            ];
            control.send(&all.iter().flat_map(|text| masked(TEXT, text.as_bytes())).collect::<Vec<_>>());
            let [before, after] = ["before", "after"]
                .map(|text| message_from(&control_id, &described("/control", &format!(r#""payload":"{text}""#))));
            // Whoever is answered is told nothing of the one that answers.
            for expected in [&before, &message_from(&control_id, r#""payload":"answer""#), &after] {
                assert_eq!(device.text(), *expected);
            }
            for expected in [&before, &after] {
                assert_eq!(bystander.text(), *expected);
            }
            assert_eq!(sensor.text(), "reset");
        }
    });
}

#[test]
fn a_message_to_a_session_that_is_unknown_or_not_allowed_is_logged_and_dropped() {
    with_any_deliverers(ADDRESSING, |gateway| {
        let (mut control, control_id) = known(gateway, Wire::Plain, "/control");
        let (mut device, device_id) = known(gateway, Wire::Tls, "/devices");
        let (mut foreign, foreign_id) = known(gateway, Wire::Plain, "/elsewhere");
        // One that this gateway could have given: the last four digits are its own.
        let unknown = &format!("000000000000{}", &device_id[12..]);
        for (address, line) in [
            (session(&foreign_id), format!("client {control_id}: session_denied: {foreign_id} ")),
            (session(unknown), format!("client {control_id}: session_unknown: {unknown} ")),
            (
                format!(r#""_session":"{device_id}"}}"#),
                format!("client {control_id}: session_unknown: its _session is not"),
            ),
            (
                format!(r#""_session":1,{}"#, session(&device_id)),
                format!("client {control_id}: session_unknown: its _session is not"),
            ),
        ] {
            let before = gateway.log().iter().filter(|other| other.contains(&line)).count();
            control.send_text(&format!("{{\"payload\":1,{address}"));
            gateway.wait_for_logs(&line, before + 1);
        }
        // No client got any of it: what comes next is the first.
        control.send_text(r#"{"payload":"to all"}"#);
        assert_eq!(device.text(), message_from(&control_id, &described("/control", r#""payload":"to all""#)));
        // Where it is not allowed, an address is only a forged name.
        foreign.send_text(&message_from(&device_id, r#""payload":"psst""#));
        assert_eq!(foreign.text(), message_from(&foreign_id, r#""payload":"psst""#));
        device.send_text(&message_from(&foreign_id, r#""payload":"psst""#));
        assert_eq!(control.text(), message_from(&device_id, &described("/devices", r#""payload":"psst""#)));
    });
}

/// What a JSON bomb may cost at most, with three receivers and the canary.
const CHEAP: Duration = Duration::from_millis(200);

/// ASCII text as a JSON string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn s6_a_json_bomb_arrives_as_it_was_sent_and_costs_no_processor_time() {
    let keys: Vec<_> = (0..100_000).map(|number| format!("\"k{number}\":{number}")).collect();
    let pairs = |depth: usize, open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    // What is nested beyond 1,024 levels is not JSON to us, but text.
    let bombs = [
        ("an array of depth 100,000", pairs(100_000, "[", "]"), false),
        ("an object of depth 100,000", pairs(100_000, "{\"a\":", "}"), false),
        ("1 MiB of [", "[".repeat(1 << 20), false),
        ("1 MiB of {", "{".repeat(1 << 20), false),
        ("an array of depth 1,000", pairs(1000, "[", "]"), true),
        ("1e999", "1e999".to_owned(), true),
        ("-1e-999", "-1e-999".to_owned(), true),
        ("an integer of 400 digits", "7".repeat(400), true),
        ("an integer of 1 MiB", "7".repeat(1 << 20), true),
        ("a duplicate id", r#"{"id":1,"id":2,"id":[3]}"#.to_owned(), true),
        ("a lone surrogate", r#""\ud800""#.to_owned(), true),
        ("100,000 keys", format!("{{{}}}", keys.join(",")), true),
    ];
    let canary = "[[endpoint]]\npath = \"/canary\"\nto = [\"reply\"]\n";
    let config = ALL.replace("to = [\"endpoint", "max_message = \"4MiB\"\nto = [\"endpoint");
    let gateway = Gateway::start(&format!("{config}{canary}{LISTENERS}"));
    let [mut payloads, mut messages, mut n8n] =
        ["payload", "message", "n8n"].map(|format| gateway.client(Wire::Plain, &format!("/out/{format}")));
    let [(mut sender, id), (mut talker, talker_id)] =
        ["/in/payload", "/in/message"].map(|path| known(&gateway, Wire::Plain, path));
    for (name, bomb, is_json) in &bombs {
        let mut attack = Attack::begin("S6", &gateway);
        sender.send_text(bomb);
        assert!(payloads.text() == *bomb, "{name} as a payload was changed");
        let members = described("/in/payload", &format!("\"payload\":{}", quoted(bomb)));
        assert!(messages.text() == message_from(&id, &members), "{name}, in a message");
        let expected = if *is_json { bomb.clone() } else { quoted(bomb) };
        assert!(n8n.text().starts_with(&format!("{{\"message\":{expected},\"metadata\":")), "{name}, for n8n");
        attack.check_echo(name);
        let spent = attack.spent();
        assert!(spent < CHEAP, "{name} as a payload: {spent:?}");
        attack.end(format!("{name}, as a payload: as it was sent"));

        let mut attack = Attack::begin("S6", &gateway);
        let message = format!("{{\"payload\":{bomb}}}");
        talker.send_text(&message);
        let [payload, member, whole] = if *is_json {
            [bomb.clone(), bomb.clone(), message]
        } else {
            [message.clone(), quoted(&message), quoted(&message)]
        };
        assert!(payloads.text() == payload, "{name} in a message was changed");
        let members = described("/in/message", &format!("\"payload\":{member}"));
        assert!(messages.text() == message_from(&talker_id, &members), "{name}, in a message");
        assert!(n8n.text().starts_with(&format!("{{\"message\":{whole},\"metadata\":")), "{name}, for n8n");
        attack.check_echo(name);
        let spent = attack.spent();
        assert!(spent < CHEAP, "{name} in a message: {spent:?}");
        attack.end(format!("{name}, in a message: as it was sent"));
    }
}
