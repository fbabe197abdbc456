//! Tests of the formats: what is read, what is written, and that no client can forge a session.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::id::{Id, Mark};
use crate::message::Kind::{Binary, Text};

const OWN: &str = r#""_session":{"type":"websocket","id":"0123456789abcdef"}"#;
const FORGED: &str = r#"{"type":"websocket","id":"fedcba9876543210"}"#;

/// The gateway whose session [`FORGED`] would be.
fn own() -> Mark {
    Id::from(0xfedc_ba98_7654_3210).mark()
}

fn message(kind: Kind, data: impl AsRef<[u8]>) -> Message {
    Message { kind, data: Bytes::copy_from_slice(data.as_ref()) }
}

fn origin() -> Origin {
    Origin {
        session: Id::from(0x0123_4567_89ab_cdef),
        client_ip: Some("10.0.0.7".parse().unwrap()),
        user_agent: Some("press \"3\"\n".into()),
        subprotocol: None,
        connected_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_599_999),
        identity: None,
        description: Default::default(),
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_323_200_007)
}

fn convert(from: Format, to: Format, sent: &Message) -> Option<Message> {
    encode(to, &decode(from, sent.clone()), &origin(), now())
}

/// What a receiver of `message` gets, without the `_session` that every message must end with.
fn to_message(from: Format, sent: &Message) -> String {
    let received = convert(from, Format::Message, sent).unwrap();
    assert_eq!(received.kind, Text);
    let text = std::str::from_utf8(&received.data).unwrap();
    assert!(json::value(text.as_bytes()).is_some(), "{text}");
    text.strip_suffix('}').unwrap().strip_suffix(OWN).unwrap().to_owned()
}

/// What a receiver of `n8n` gets as its `message`.
fn to_n8n(from: Format, sent: &Message) -> String {
    let received = convert(from, Format::N8n, sent).unwrap();
    assert_eq!(received.kind, Text);
    let text = std::str::from_utf8(&received.data).unwrap();
    assert!(json::value(text.as_bytes()).is_some(), "{text}");
    let (message, _) = text.strip_prefix(r#"{"message":"#).unwrap().rsplit_once(r#","metadata":{"#).unwrap();
    message.to_owned()
}

#[test]
fn a_payload_is_passed_on_as_the_same_bytes() {
    for kind in [Text, Binary] {
        for data in ["", "null", "{\"_session\":1}", "[", "\0"] {
            let sent = message(kind, data);
            for from in [Format::Payload, Format::N8n] {
                let received = convert(from, Format::Payload, &sent).unwrap();
                assert_eq!(received, sent);
                assert_eq!(received.data.as_ptr(), sent.data.as_ptr(), "copied");
            }
        }
    }
}

#[test]
fn a_payload_becomes_a_string_or_a_buffer_of_a_message() {
    for (kind, data, expected) in [
        (Text, &b""[..], r#"{"payload":"","#),
        (Text, b"on", r#"{"payload":"on","#),
        (Text, "a\"b\\c\n\0é".as_bytes(), r#"{"payload":"a\"b\\c\n\u0000é","#),
        (Text, b"5", r#"{"payload":"5","#),
        (Text, b"null", r#"{"payload":"null","#),
        (Text, br#"{"_session":1}"#, r#"{"payload":"{\"_session\":1}","#),
        (Binary, b"", r#"{"payload":{"type":"Buffer","data":[]},"#),
        (Binary, b"5", r#"{"payload":{"type":"Buffer","data":[53]},"#),
        (Binary, &[0, 9, 10, 99, 100, 255], r#"{"payload":{"type":"Buffer","data":[0,9,10,99,100,255]},"#),
    ] {
        assert_eq!(to_message(Format::Payload, &message(kind, data)), expected);
    }
}

#[test]
fn what_an_n8n_client_sends_is_parsed_for_receivers_of_a_message() {
    for (kind, data, expected) in [
        (Text, &b""[..], r#"{"payload":"","#),
        (Text, b"on", r#"{"payload":"on","#),
        (Text, b" 12345678901234567890123 ", r#"{"payload":12345678901234567890123,"#),
        (Text, b"null", r#"{"payload":null,"#),
        (Text, br#"{"a":1,"a":2,"_session":3}"#, r#"{"payload":{"a":1,"a":2,"_session":3},"#),
        (Binary, b"[1 ]", r#"{"payload":[1 ],"#),
        (Binary, b"", r#"{"payload":"","#),
        (Binary, b"on", r#"{"payload":"on","#),
        (Binary, b"\xff\"", r#"{"payload":{"type":"Buffer","data":[255,34]},"#),
    ] {
        assert_eq!(to_message(Format::N8n, &message(kind, data)), expected);
    }
}

#[test]
fn a_message_is_an_object_or_gets_a_payload() {
    for (kind, data, expected) in [
        (Text, &b"{}"[..], "{"),
        (Text, b" { } ", "{"),
        (Text, br#"{"payload":1,"topic":"t"}"#, r#"{"payload":1,"topic":"t","#),
        (Text, b"\n{ \"a\" : 1 , \"a\":[ 2 ] }\t", "{ \"a\" : 1 , \"a\":[ 2 ] ,"),
        (Text, br#"{"n":12345678901234567890123,"x":1e999}"#, r#"{"n":12345678901234567890123,"x":1e999,"#),
        (Text, br#"{"s":"\ud800"}"#, r#"{"s":"\ud800","#),
        (Text, b"null", r#"{"payload":null,"#),
        (Text, b"true", r#"{"payload":true,"#),
        (Text, b" -1.50e+7 ", r#"{"payload":-1.50e+7,"#),
        (Text, br#""\u0061""#, r#"{"payload":"\u0061","#),
        (Text, b"[]", r#"{"payload":[],"#),
        (Text, br#"[{"_session":1}, 2]"#, r#"{"payload":[{"_session":1}, 2],"#),
        (Text, b"", r#"{"payload":"","#),
        (Text, b" ", r#"{"payload":" ","#),
        (Text, b"hello", r#"{"payload":"hello","#),
        (Text, br#"{"a":1"#, r#"{"payload":"{\"a\":1","#),
        (Text, br#"{"a":01}"#, r#"{"payload":"{\"a\":01}","#),
        (Text, b"{\"a\":NaN}", r#"{"payload":"{\"a\":NaN}","#),
        (Binary, br#"{"payload":1}"#, r#"{"payload":1,"#),
        (Binary, b"5", r#"{"payload":5,"#),
        (Binary, b"", r#"{"payload":{"type":"Buffer","data":[]},"#),
        (Binary, b"on", r#"{"payload":{"type":"Buffer","data":[111,110]},"#),
        (Binary, b"{\"a\":\"\xff\"}", r#"{"payload":{"type":"Buffer","data":[123,34,97,34,58,34,255,34,125]},"#),
    ] {
        assert_eq!(to_message(Format::Message, &message(kind, data)), expected);
    }
}

#[test]
fn the_payload_of_a_message_is_what_receivers_of_payloads_get() {
    let same = |data: &'static str| Some((Text, data.as_bytes()));
    for (kind, data, expected) in [
        (Text, r#"{"payload":"on"}"#, same("on")),
        (Text, r#"{"payload":""}"#, same("")),
        (Text, r#"{ "payload" : "a\n\u00e9\\" , "topic":1}"#, same("a\né\\")),
        (Text, r#"{"payload":"\ud800"}"#, same(r#""\ud800""#)),
        (Text, r#"{"payload":{"b":1, "b":2}}"#, same(r#"{"b":1, "b":2}"#)),
        (Text, r#"{"payload":[1,2 ]}"#, same("[1,2 ]")),
        (Text, r#"{"payload":12345678901234567890123}"#, same("12345678901234567890123")),
        (Text, r#"{"payload":1e999}"#, same("1e999")),
        (Text, r#"{"payload":null}"#, same("null")),
        (Text, r#"{"payload":false}"#, same("false")),
        (Text, r#"{"payload":1,"payload":2}"#, same("2")),
        (Text, r#"{"payload":1,"p\u0061yload":"x"}"#, same("x")),
        (Text, r#"{"payload":{"type":"Buffer","data":[0,255]}}"#, Some((Binary, &[0, 255]))),
        (Text, r#"{"payload":{"type":"Buffer","data":"AP8="}}"#, Some((Binary, &[0, 255]))),
        (Text, r#"{"payload":{"type":"Buffer","data":[]}}"#, Some((Binary, b""))),
        (Text, r#"{"payload":{"type":"Buffer","data":[256]}}"#, same(r#"{"type":"Buffer","data":[256]}"#)),
        (Text, "{}", None),
        (Text, r#"{"topic":"t","Payload":1,"a":{"payload":1}}"#, None),
        (Text, "5", same("5")),
        (Text, " [1] ", same("[1]")),
        (Text, r#""on""#, same("on")),
        (Text, "null", same("null")),
        (Text, "hello", same("hello")),
        (Text, "", same("")),
        (Binary, r#"{"payload":5}"#, same("5")),
        (Binary, "hello", Some((Binary, b"hello"))),
        (Binary, "", Some((Binary, b""))),
    ] {
        let received = convert(Format::Message, Format::Payload, &message(kind, data));
        assert_eq!(received, expected.map(|(kind, data)| message(kind, data)), "{data}");
    }
    let sent = message(Binary, [0, 159, 146, 150]);
    assert_eq!(convert(Format::Message, Format::Payload, &sent), Some(sent));
}

#[test]
fn over_a_link_the_sender_is_named_twice_and_a_forged_name_is_removed() {
    let sent = message(Text, r#"{"_wsgate":"fedcba9876543210","payload":1,"_wsg\u0061te":2}"#);
    let decoded = decode(Format::Message, sent.clone());
    let over_link = encode_for(Audience::Remote, Format::Message, &decoded, &origin(), now()).unwrap();
    let expected = format!(r#"{{"payload":1,"_wsgate":"0123456789abcdef",{OWN}}}"#);
    assert_eq!(std::str::from_utf8(&over_link.data).unwrap(), expected);
    assert_eq!(to_message(Format::Message, &sent), r#"{"payload":1,"#);
    let plain = encode_for(Audience::Remote, Format::Payload, &decoded, &origin(), now());
    assert_eq!(plain, Some(message(Text, "1")));
}

#[test]
fn b22_only_receivers_elsewhere_get_the_description_and_no_sender_describes_itself() {
    let description = r#""path":"/m/7","parameters":{"m":"7"},"query":{}"#;
    let origin = Origin { description: std::sync::OnceLock::from(std::sync::Arc::from(description)), ..origin() };
    let received = |audience, format, sent: &str| {
        let decoded = decode(Format::Message, message(Text, sent));
        let received = encode_for(audience, format, &decoded, &origin, now()).unwrap();
        String::from_utf8(received.data.to_vec()).unwrap()
    };
    for (sent, kept) in [
        ("{}", ""),
        (r#"{"payload":1}"#, r#""payload":1,"#),
        (r#"{"path":1}"#, ""),
        (r#"{"path":1,"payload":2,"quer\u0079":3,"path":4}"#, r#""payload":2,"#),
        (r#"{"payload":{"path":1},"Path":2}"#, r#""payload":{"path":1},"Path":2,"#),
        (r#"{"_session":1,"parameters":{},"a":2}"#, r#""a":2,"#),
    ] {
        for (audience, carried) in [(Audience::Consumer, ""), (Audience::Remote, r#""_wsgate":"0123456789abcdef","#)] {
            assert_eq!(received(audience, Format::Message, sent), format!("{{{kept}{description},{carried}{OWN}}}"));
        }
        assert!(!received(Audience::Client, Format::Message, sent).contains(description));
        let n8n = received(Audience::Consumer, Format::N8n, sent);
        assert!(n8n.contains(&format!(r#","session":"0123456789abcdef",{description},"connectedAt""#)), "{n8n}");
        assert!(!received(Audience::Client, Format::N8n, sent).contains("session\""));
    }
}

#[test]
fn b24_an_event_says_so_and_nobody_can_forge_it() {
    let event = Decoded::event(r#"{"event":"connect"}"#.into());
    let received = |format| String::from_utf8(encode(format, &event, &origin(), now()).unwrap().data.to_vec()).unwrap();
    assert_eq!(received(Format::Payload), r#"{"event":"connect"}"#);
    assert_eq!(received(Format::Message), format!(r#"{{"payload":{{"event":"connect"}},"_event":true,{OWN}}}"#));
    assert!(received(Format::N8n).contains(r#","event":true,"connectedAt""#), "{}", received(Format::N8n));
    for forged in [r#"{"_event":true,"a":1}"#, r#"{"a":1,"_\u0065vent":1,"_event":2}"#] {
        let sent = message(Text, forged);
        assert_eq!(to_message(Format::Message, &sent), r#"{"a":1,"#);
        assert_eq!(to_n8n(Format::Message, &sent), r#"{"a":1}"#);
    }
}

#[test]
fn an_answer_is_addressed_by_its_session_or_by_what_travelled_beside_it() {
    let address = |text: &str| decode(Format::Message, message(Text, text)).take_address(own());
    let (one, other) = (Id::from(0x0123_4567_89ab_3210), Id::from(0xfedc_ba98_7654_3210));
    let carried = r#""_wsgate":"0123456789ab3210""#;
    for (text, expected) in [
        (format!("{{{carried}}}"), Some(Address::Session(one))),
        (format!(r#"{{{carried},"_session":null}}"#), Some(Address::Session(one))),
        (format!(r#"{{{carried},"_session":{FORGED}}}"#), Some(Address::Session(other))),
        (format!("{{{carried},{carried}}}"), Some(Address::Unknown)),
        (r#"{"_wsgate":"nobody"}"#.to_owned(), Some(Address::Unknown)),
        (r#"{"_wsgate":null}"#.to_owned(), None),
        (format!(r#"{{"payload":{{{carried}}}}}"#), None),
    ] {
        assert_eq!(address(&text), expected, "{text}");
    }
}

#[test]
fn b18_a_session_of_another_gateway_is_data_and_follows_behind_ours() {
    // Sessions of three gateways; ours ends with 3210.
    let session = |id: &str| format!(r#""_session":{{"type":"websocket","id":"{id}"}}"#);
    let (ours, theirs, third) = ("0123456789ab3210", "000000000000aaaa", "000000000000bbbb");
    let many = (0..20).map(|number| format!("{number:012}cccc")).collect::<Vec<_>>().join(" ");
    let address = Some(Address::Session(ours.parse().unwrap()));
    for (sent, expected, carried) in [
        (session(theirs), None, theirs),
        (format!(r#""_wsgate":"{theirs}""#), None, theirs),
        (format!(r#"{},"_wsgate":"{theirs}""#, session(theirs)), None, theirs),
        (
            format!(r#"{},"_wsgate":"{third} {ours} {theirs}""#, session(theirs)),
            address,
            "000000000000aaaa 000000000000bbbb",
        ),
        (format!(r#"{},"_wsgate":"{theirs}""#, session(ours)), address, theirs),
        (format!(r#"{},"_wsgate":"nobody""#, session(ours)), address, ""),
        (format!(r#"{},"_wsgate":"nobody""#, session(theirs)), Some(Address::Unknown), ""),
        (format!(r#""_wsgate":"{many}""#), None, many.split_at(8 * 17 - 1).0),
    ] {
        let mut decoded = decode(Format::Message, message(Text, format!("{{{sent}}}")));
        assert_eq!(decoded.take_address(own()), expected, "{sent}");
        let received = |audience| encode_for(audience, Format::Message, &decoded, &origin(), now()).unwrap().data;
        let for_client = if carried.is_empty() { String::new() } else { format!(r#""_wsgate":"{carried}","#) };
        assert_eq!(received(Audience::Client), format!("{{{for_client}{OWN}}}"), "{sent}");
        let for_remote = format!("0123456789abcdef {carried}");
        assert_eq!(received(Audience::Remote), format!(r#"{{"_wsgate":"{}",{OWN}}}"#, for_remote.trim_end()), "{sent}");
        // Of a sender that may not address anybody nothing is kept.
        let decoded = decode(Format::Message, message(Text, format!("{{{sent}}}")));
        assert_eq!(encode(Format::Message, &decoded, &origin(), now()).unwrap().data, format!("{{{OWN}}}"));
    }
}

#[test]
fn a_field_is_found_by_its_path() {
    let text = r#"{"payload":{"device":"a\u00e9","n":7,"deep":{"x":true}},"n":1.50,"o":{},"z":null,"n":2}"#;
    for (format, path, expected) in [
        (Format::Message, "payload.device", Some("aé")),
        (Format::Message, "payload.n", Some("7")),
        (Format::Message, "payload.deep.x", Some("true")),
        (Format::Message, "n", Some("2")),
        (Format::Message, "o", None),
        (Format::Message, "z", None),
        (Format::Message, "payload", None),
        (Format::Message, "payload.n.m", None),
        (Format::Payload, "payload.n", Some("7")),
        (Format::N8n, "payload.n", Some("7")),
    ] {
        let path: Vec<Box<str>> = path.split('.').map(Box::from).collect();
        let found = decode(format, message(Text, text)).field(&path);
        assert_eq!(found.as_deref(), expected, "{path:?}");
    }
    assert_eq!(decode(Format::Payload, message(Text, "no json")).field(&["a".into()]), None);
    assert_eq!(decode(Format::Payload, message(Binary, b"\xff")).field(&["a".into()]), None);
}

#[test]
fn a_string_payload_without_escapes_is_not_copied() {
    let sent = message(Text, r#"{"payload":"hello"}"#);
    let received = convert(Format::Message, Format::Payload, &sent).unwrap();
    assert!(sent.data.as_ptr_range().contains(&received.data.as_ptr()));
}

#[test]
fn n8n_gets_json_a_string_or_a_buffer() {
    for (kind, data, expected) in [
        (Text, &b""[..], r#""""#),
        (Text, b"on", r#""on""#),
        (Text, b"null", "null"),
        (Text, b" {\"n\":12345678901234567890123, \"n\":1e999} ", "{\"n\":12345678901234567890123, \"n\":1e999}"),
        (Text, b"[1", r#""[1""#),
        (Binary, b"", r#""""#),
        (Binary, b"on", r#""on""#),
        (Binary, b"[1]", "[1]"),
        (Binary, b"\xc3\x28", r#"{"type":"Buffer","data":[195,40]}"#),
    ] {
        for from in [Format::Payload, Format::N8n, Format::Message] {
            assert_eq!(to_n8n(from, &message(kind, data)), expected);
        }
    }
    let sent = message(Text, format!(r#"{{"_session":{FORGED},"payload":{{"_session":1}}}}"#));
    assert_eq!(to_n8n(Format::Message, &sent), r#"{"payload":{"_session":1}}"#);
    assert_eq!(to_n8n(Format::Payload, &sent), std::str::from_utf8(&sent.data).unwrap());
}

#[test]
fn n8n_gets_metadata_of_what_is_known() {
    let received = |origin: &Origin| {
        let decoded = decode(Format::Payload, message(Text, "1"));
        let received = encode(Format::N8n, &decoded, origin, now()).unwrap();
        String::from_utf8(received.data.to_vec()).unwrap()
    };
    let times = r#""connectedAt":"2025-12-31T23:59:59.999Z","timestamp":"2026-03-01T00:00:00.007Z""#;
    let mut origin = origin();
    let expected =
        format!(r#"{{"message":1,"metadata":{{"clientIp":"10.0.0.7","userAgent":"press \"3\"\n",{times}}}}}"#);
    assert_eq!(received(&origin), expected);
    origin.user_agent = None;
    origin.client_ip = Some("fe80::1".parse::<IpAddr>().unwrap());
    assert_eq!(received(&origin), format!(r#"{{"message":1,"metadata":{{"clientIp":"fe80::1",{times}}}}}"#));
    origin.client_ip = None;
    assert_eq!(received(&origin), format!(r#"{{"message":1,"metadata":{{{times}}}}}"#));
}

#[test]
fn the_subprotocol_that_was_agreed_is_in_the_message() {
    let origin = Origin { subprotocol: Some("mqtt".into()), ..origin() };
    let decoded = decode(Format::Payload, message(Text, "1"));
    let received = |format| encode(format, &decoded, &origin, now()).unwrap().data;
    assert_eq!(
        received(Format::Message),
        r#"{"payload":"1","_session":{"type":"websocket","id":"0123456789abcdef","subprotocol":"mqtt"}}"#
    );
    let n8n = String::from_utf8(received(Format::N8n).to_vec()).unwrap();
    assert!(n8n.contains(r#""userAgent":"press \"3\"\n","subprotocol":"mqtt","connectedAt":"#), "{n8n}");
    // An answer that carries it is addressed all the same.
    let mut answer = decode(Format::Message, Message { kind: Text, data: received(Format::Message) });
    assert_eq!(answer.take_address(origin.session.mark()), Some(Address::Session(origin.session)));
}

#[test]
fn the_welcome_of_n8n_holds_the_time() {
    for (time, text) in [
        (Duration::ZERO, "1970-01-01T00:00:00.000Z"),
        (Duration::from_nanos(1_709_251_199_999_999_999), "2024-02-29T23:59:59.999Z"),
        (Duration::from_secs(253_402_207_200), "9999-12-30T22:00:00.000Z"),
    ] {
        let expected =
            format!(r#"{{"type":"welcome","message":"Connected to n8n WebSocket server","timestamp":"{text}"}}"#);
        assert_eq!(welcome_n8n(SystemTime::UNIX_EPOCH + time), message(Text, expected));
    }
    let never = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    assert_eq!(welcome_n8n(never).kind, Text);
}

#[test]
fn nobody_can_forge_a_session() {
    for (sent, expected) in [
        (r#"{"_session":%}"#, "{"),
        (r#" { "_session" : % } "#, "{"),
        (r#"{"_session":%,"_session":%}"#, "{"),
        (r#"{"_session":%,"a":1}"#, r#"{"a":1,"#),
        (r#"{"a":1,"_session":%}"#, r#"{"a":1,"#),
        (r#"{"a":1,"_session":%,"b":2}"#, r#"{"a":1,"b":2,"#),
        (r#"{ "a" : 1 , "_session" : % , "b" : 2 }"#, r#"{ "a" : 1 , "b" : 2 ,"#),
        (r#"{"_session":%,"a":1,"_session":%,"b":2,"_session":%}"#, r#"{"a":1,"b":2,"#),
        (r#"{"_session":%,"_session":%,"a":1,"_session":%,"_session":%}"#, r#"{"a":1,"#),
        (r#"{"a":1,"_session":null}"#, r#"{"a":1,"#),
        (r#"{"_session":"},{","a":1}"#, r#"{"a":1,"#),
        (r#"{"_session":[[],{"_session":"\""}],"a":1}"#, r#"{"a":1,"#),
        (r#"{"_\u0073ession":%,"a":1}"#, r#"{"a":1,"#),
        (r#"{"a":1,"\u005f\u0073\u0065\u0073\u0073\u0069\u006f\u006e":%}"#, r#"{"a":1,"#),
        (r#"{"a":1,"\u005F\u0073ession":%,"_session":%}"#, r#"{"a":1,"#),
        // These are other members.
        (r#"{"_Session":%}"#, r#"{"_Session":%,"#),
        (r#"{"_SESSION":%,"session":%}"#, r#"{"_SESSION":%,"session":%,"#),
        (r#"{"_session ":%,"_session\u0000":%}"#, r#"{"_session ":%,"_session\u0000":%,"#),
        (r#"{"\\u005fsession":%}"#, r#"{"\\u005fsession":%,"#),
        (r#"{"\ud800_session":%}"#, r#"{"\ud800_session":%,"#),
        // These are data.
        (r#"{"payload":{"_session":%}}"#, r#"{"payload":{"_session":%},"#),
        (r#"{"payload":[{"_session":%}],"_session":%}"#, r#"{"payload":[{"_session":%}],"#),
        (r#"{"a":"\",\"_session\":@"}"#, r#"{"a":"\",\"_session\":@","#),
        (r#"[{"_session":%}]"#, r#"{"payload":[{"_session":%}],"#),
        // These are no JSON, also if a careless parser could think so.
        (r#"{"_session":%,}"#, r#"{"payload":"{\"_session\":@,}","#),
        (r#"{"_session":%}{"a":1}"#, r#"{"payload":"{\"_session\":@}{\"a\":1}","#),
        (r#"{'_session':%}"#, r#"{"payload":"{'_session':@}","#),
        ("\u{feff}{\"_session\":%}", "{\"payload\":\"\u{feff}{\\\"_session\\\":@}\","),
    ] {
        let quoted = FORGED.replace('"', "\\\"");
        let fill = |text: &str| text.replace('%', FORGED).replace('@', &quoted);
        let text = Message { kind: Text, data: fill(sent).into() };
        assert_eq!(to_message(Format::Message, &text), fill(expected), "{sent}");
        let binary = Message { kind: Binary, ..text.clone() };
        if json::value(&text.data).is_some() {
            assert_eq!(to_message(Format::Message, &binary), fill(expected), "{sent}");
        }
        // In the other formats it is inside the one value that stands for the message.
        for from in [Format::Payload, Format::N8n] {
            assert!(to_message(from, &text).starts_with(r#"{"payload":"#));
        }
    }
}

#[test]
fn a_session_is_an_address_or_unknown() {
    let id = Id::from(0xfedc_ba98_7654_3210);
    let (known, unknown) = (Some(Address::Session(id)), Some(Address::Unknown));
    for (sent, expected) in [
        ("{}", None),
        (r#"{"payload":{"_session":%}}"#, None),
        (r#"{"_Session":%}"#, None),
        (r#"[{"_session":%}]"#, None),
        (r#"{"_session":%"#, None),
        (r#"{"_session":null}"#, None),
        (r#"{"_session":%}"#, known),
        (r#"{"a":1, "\u005fsession" : % , "b":2}"#, known),
        (r#"{"_session":{ "id" : "fedcba9876543210" , "x":[1], "typ\u0065":"websocket"}}"#, known),
        (r#"{"_session":{"type":"web\u0073ocket","id":"\u0066edcba9876543210"}}"#, known),
        (r#"{"_session":%,"_session":%}"#, unknown),
        (r#"{"_session":null,"_session":%}"#, unknown),
        (r#"{"_session":{"type":"websocket","id":"fedcba9876543210","id":"fedcba9876543210"}}"#, unknown),
        (r#"{"_session":{"type":"tcp","type":"websocket","id":"fedcba9876543210"}}"#, unknown),
        (r#"{"_session":{"type":"tcp","id":"fedcba9876543210"}}"#, unknown),
        (r#"{"_session":{"id":"fedcba9876543210"}}"#, unknown),
        (r#"{"_session":{"type":"websocket"}}"#, unknown),
        (r#"{"_session":{"type":"websocket","id":"FEDCBA9876543210"}}"#, unknown),
        (r#"{"_session":{"type":"websocket","id":"fedcba987654321"}}"#, unknown),
        (r#"{"_session":{"type":"websocket","id":18364758544493064720}}"#, unknown),
        (r#"{"_session":"fedcba9876543210"}"#, unknown),
        (r#"{"_session":[%]}"#, unknown),
        (r#"{"_session":{}}"#, unknown),
        (r#"{"_session":false}"#, unknown),
    ] {
        let text = Message { kind: Text, data: sent.replace('%', FORGED).into() };
        assert_eq!(decode(Format::Message, text.clone()).take_address(own()), expected, "{sent}");
        for format in [Format::Payload, Format::N8n] {
            assert_eq!(decode(format, text.clone()).take_address(own()), None, "{sent}");
        }
    }
}

#[test]
fn deep_json_is_passed_on_and_needs_no_stack() {
    let check = || {
        for depth in [100, 1_000, 100_000] {
            let text = "[".repeat(depth) + &"]".repeat(depth);
            let sent = message(Text, &text);
            let value = if depth > json::DEPTH_MAX { format!("{text:?}") } else { text };
            assert_eq!(to_message(Format::Message, &sent), format!(r#"{{"payload":{value},"#));
            assert_eq!(to_n8n(Format::Payload, &sent), value);
            assert_eq!(convert(Format::Message, Format::Payload, &sent), Some(sent));
        }
    };
    std::thread::Builder::new().stack_size(128 << 10).spawn(check).unwrap().join().unwrap();
}

#[test]
fn many_members_take_linear_time() {
    // Anything quadratic in the 100,000 members would take minutes.
    let started = Instant::now();
    for key in ["key", "_session", "payload", "_\\u0073ession"] {
        let members: Vec<_> = (0..100_000).map(|n| format!(r#""{key}":{n},"k{n}":"""#)).collect();
        let sent = message(Text, format!("{{{}}}", members.join(",")));
        let others: Vec<_> = (0..100_000).map(|n| format!(r#""k{n}":"""#)).collect();
        let expected = if key.ends_with("ession") { others.join(",") } else { members.join(",") };
        assert!(to_message(Format::Message, &sent) == format!("{{{expected},"), "{key}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        any::<String>().prop_map(|text| message(Text, text)),
        any::<Vec<u8>>().prop_map(|bytes| message(Binary, bytes)),
    ]
}

/// The members of an object as they may be written, each with whether it is a `_session`.
fn members() -> impl Strategy<Value = Vec<(bool, String)>> {
    let key = prop_oneof![
        prop::sample::select(vec![r#""_session""#, r#""_\u0073ession""#, r#""\u005f\u0073ession""#])
            .prop_map(|key| (true, key.to_owned())),
        prop::sample::select(vec![r#""payload""#, r#""_Session""#, r#""_session_""#, r#""\\_session""#, r#""""#])
            .prop_map(|key| (false, key.to_owned())),
        "[a-z]{1,4}".prop_map(|key| (false, format!("{key:?}"))),
    ];
    let value = prop::sample::select(vec![
        "1",
        "12345678901234567890123",
        "1e999",
        "null",
        r#""\ud800""#,
        r#"",}\"{""#,
        "[ ]",
        "[1, {}]",
        r#"{"_session":{"type":"websocket","id":"fedcba9876543210"}}"#,
        FORGED,
    ]);
    let space = || prop::sample::select(vec!["", " ", "\n\t", "\r"]);
    let member = (key, value, space(), space(), space(), space())
        .prop_map(|((own, key), value, a, b, c, d)| (own, format!("{a}{key}{b}:{c}{value}{d}")));
    prop::collection::vec(member, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_payload_sent_through_a_message_is_the_same_payload(sent in any_message()) {
        let wrapped = convert(Format::Payload, Format::Message, &sent).unwrap();
        prop_assert_eq!(convert(Format::Message, Format::Payload, &wrapped), Some(sent));
    }

    #[test]
    fn every_message_can_be_received_in_every_format(sent in any_message()) {
        for from in [Format::Payload, Format::Message, Format::N8n] {
            to_message(from, &sent);
            to_n8n(from, &sent);
        }
    }

    #[test]
    fn all_but_the_session_is_passed_on_as_it_came(members in members()) {
        let join = |members: Vec<&str>| members.join(",");
        let sent = join(members.iter().map(|(_, text)| text.as_str()).collect());
        let kept = join(members.iter().filter(|(own, _)| !own).map(|(_, text)| text.as_str()).collect());
        let sent = message(Text, format!("{{{sent}}}"));
        let comma = if kept.is_empty() { "" } else { "," };
        prop_assert_eq!(to_message(Format::Message, &sent), format!("{{{kept}{comma}"));
        prop_assert_eq!(to_n8n(Format::Message, &sent), format!("{{{kept}}}"));
    }
}
