//! Destinations that each message picks or that are several, and messages that do not reach some of their destinations.

use crate::harness::{Frame, Gateway, LISTENERS, Wire, masked};

/// A gateway with a flow that answers into the rooms of `/rooms/{room}`.
fn gateway(flow: &str) -> Gateway {
    Gateway::start(&format!(
        "{LISTENERS}\n[[endpoint]]\npath = \"/rooms/{{room}}\"\nto = []\n\n[[endpoint]]\npath = \"/all\"\nto = []\n\n\
         [[endpoint]]\npath = \"/{{site}}/flow\"\nchoose_rooms = true\n{flow}\n"
    ))
}

#[test]
fn b26_a_client_picks_a_room_by_a_field_where_its_endpoint_says_so() {
    for (flow, wrap) in [
        ("format = \"message\"\nto = [\"endpoint:/rooms/{payload.room}\", \"reply\"]", true),
        ("to = [\"reply\", \"endpoint:/rooms/{room}\"]", false),
    ] {
        let gateway = gateway(flow);
        for wire in Wire::BOTH {
            let [mut one, mut two] = ["/rooms/1", "/rooms/2"].map(|path| gateway.client(wire, path));
            let mut flow = gateway.client(wire, "/a/flow");
            let to = |room: &str, n: u32| {
                let payload = format!(r#"{{"room":{room},"n":{n}}}"#);
                let sent = if wrap { format!(r#"{{"payload":{payload}}}"#) } else { payload.clone() };
                (sent, payload)
            };
            // One read, and the rooms take turns.
            let messages = [to("1", 1), to("\"2\"", 2), to("1", 3), to("\"nobody\"", 4), to("2", 5)];
            flow.send(&messages.iter().flat_map(|(sent, _)| masked(0x81, sent.as_bytes())).collect::<Vec<_>>());
            for message in [0, 2] {
                assert_eq!(one.text(), messages[message].1);
            }
            for message in [1, 4] {
                assert_eq!(two.text(), messages[message].1);
            }
            for (_, payload) in &messages {
                assert!(flow.text().contains(payload));
            }
        }
    }
}

#[test]
fn b26_a_parameter_of_the_senders_own_path_is_not_looked_for_in_its_messages() {
    let gateway = gateway("to = [\"endpoint:/rooms/{site}\"]");
    let mut room = gateway.client(Wire::Plain, "/rooms/a");
    let mut flow = gateway.client(Wire::Plain, "/a/flow");
    let forged = r#"{"site":"b"}"#;
    flow.send_text(forged);
    assert_eq!(room.text(), forged);
}

#[test]
fn b28_a_message_that_picks_no_room_names_the_field_and_says_who_gets_it() {
    let gateway = gateway("to = [\"endpoint:/all\", \"endpoint:/rooms/{x}\"]");
    let mut all = gateway.client(Wire::Plain, "/all");
    let mut flow = gateway.client(Wire::Plain, "/a/flow");
    let id = gateway.id_of(&flow);
    flow.send_text(r#"{"y":1}"#);
    flow.send_text(r#"{"x":"a/b"}"#);
    assert_eq!([all.text(), all.text()], [r#"{"y":1}"#, r#"{"x":"a/b"}"#]);
    for why in ["it has no value at \"x\"", "what it has at \"x\" is no value of a path"] {
        gateway.wait_for_log(&format!(
            "client {id}: unroutable: {why}, which picks the room of \"endpoint:/rooms/{{x}}\"; its other destinations \
             get the message"
        ));
    }
    flow.send(&masked(0x88, &[3, 0xe8]));
    gateway
        .wait_for_log(&format!("client {id}: of its messages, 0 were session_unknown, 0 session_denied, 2 unroutable"));
    assert!(!gateway.log().iter().any(|line| line.contains("is dropped")), "nothing was dropped");
}

#[test]
fn b28_a_message_that_nobody_gets_is_dropped() {
    let gateway = gateway("to = [\"endpoint:/rooms/{x}\"]");
    let mut flow = gateway.client(Wire::Plain, "/a/flow");
    let id = gateway.id_of(&flow);
    for _ in 0..12 {
        flow.send_text("no object");
    }
    flow.send(&masked(0x88, &[3, 0xe8]));
    gateway.wait_for_log(&format!(
        "client {id}: of its messages, 0 were session_unknown, 0 session_denied, 12 unroutable"
    ));
    let dropped = "which picks the room of \"endpoint:/rooms/{x}\"; the message is dropped";
    assert_eq!(gateway.wait_for_logs(dropped, 10).len(), 10, "the rest is only counted");
}

#[test]
fn b25_messages_without_a_payload_are_counted_and_logged_once_for_each_client() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}\n[[endpoint]]\npath = \"/flow\"\nformat = \"message\"\nto = [\"reply\", \"endpoint:/all\"]\n\
         [[endpoint]]\npath = \"/all\"\nto = []\n"
    ));
    let mut all = gateway.client(Wire::Plain, "/all");
    for _ in 0..2 {
        let mut flow = gateway.client(Wire::Plain, "/flow");
        let id = gateway.id_of(&flow);
        for text in [r#"{"topic":1}"#, "{}", r#"{"payload":2}"#] {
            flow.send_text(text);
            assert!(flow.text().contains("_session"), "its reply has it");
        }
        assert_eq!(all.message(), Frame::text("2"));
        let why = "its message has no \"payload\", so \"endpoint:/all\", which takes payloads, does not get it";
        let line = format!("client {id}: {why}");
        flow.send(&masked(0x88, &[3, 0xe8]));
        gateway.wait_for_log(&format!("client {id}: of its messages, 0 were session_unknown, 0 session_denied, 0 unroutable and 2 without a payload"));
        assert_eq!(gateway.wait_for_logs(&line, 1).len(), 1, "more than the first was logged");
    }
}

#[test]
fn b27_one_path_on_two_listeners_is_two_endpoints_and_as_a_destination_both() {
    let gateway = Gateway::start(&format!(
        r#"
        {LISTENERS}
        [[endpoint]]
        path = "/rooms/{{room}}"
        listen = ["plain"]
        format = "n8n"
        to = ["broadcast"]
        welcome = "plain"
        [[endpoint]]
        path = "/rooms/{{id}}"
        listen = ["tls"]
        to = ["reply"]
        welcome = "tls"
        [[endpoint]]
        path = "/feed/{{id}}"
        listen = ["plain", "tls"]
        choose_rooms = true
        to = ["endpoint:/rooms/{{x}}", "endpoint:/log"]
        [[endpoint]]
        path = "/log"
        listen = ["plain"]
        to = []
        [[endpoint]]
        path = "/log"
        listen = ["tls"]
        to = ["endpoint:/log"]
        "#
    ));
    let [mut plain, mut tls] = Wire::BOTH.map(|wire| gateway.client(wire, "/rooms/1"));
    assert_eq!([plain.text(), tls.text()], ["plain", "tls"]);
    let mut logs = Wire::BOTH.map(|wire| gateway.client(wire, "/log"));
    let mut feed = gateway.client(Wire::Tls, "/feed/7");
    let message = r#"{"x":1}"#;
    feed.send_text(message);
    assert!(plain.text().starts_with(r#"{"message":{"x":1},"metadata":"#));
    assert_eq!(tls.text(), message);
    assert_eq!(logs.each_mut().map(|log| log.text()), [message; 2]);
    // Its own path is the other endpoint.
    logs[1].send_text("over");
    assert_eq!(logs[0].text(), "over");
}
