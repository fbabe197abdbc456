//! What receivers of the formats `message` and `n8n` are told of a sender and of events, and that nobody can forge it.

use serde_json::{Value, json};

use crate::harness::{Gateway, LISTENERS, Raw, Remote, Wire};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A client of `/meters/{meter}` with this query.
fn meter(gateway: &Gateway, query: &str) -> Raw {
    let mut client = gateway.raw("plain");
    client.upgrade(&format!("/meters/7{query}"), &[]);
    client
}

#[test]
fn b22_a_message_for_another_place_says_where_it_comes_from() {
    let server = Remote::up();
    let gateway = Gateway::start(&format!(
        r#"
        {LISTENERS}
        [[link]]
        name = "flow"
        url = "{}"
        format = "message"
        [[endpoint]]
        path = "/meters/{{meter}}"
        format = "message"
        to = ["reply", "broadcast", "endpoint:/flow", "endpoint:/n8n", "endpoint:/plain", "link:flow"]
        [[endpoint]]
        path = "/flow"
        format = "message"
        to = ["endpoint:/plain"]
        [[endpoint]]
        path = "/n8n"
        format = "n8n"
        to = []
        [[endpoint]]
        path = "/plain"
        to = []
        "#,
        server.url()
    ));
    let mut linked = server.accept();
    let [mut flow, mut n8n, mut plain] = ["/flow", "/n8n", "/plain"].map(|path| gateway.client(Wire::Plain, path));
    let mut meter = meter(&gateway, "?unit=kWh&tag=a&tag=b%20c&token=hunter2&api_key=hunter2");
    let id = gateway.id_of(&meter);
    let (parameters, query) = (json!({ "meter": "7" }), json!({ "unit": "kWh", "tag": ["a", "b c"] }));
    // What it says of itself is for its own room at most.
    let forged = r#"{"payload":1,"path":"/meters/8","p\u0061rameters":{"meter":"8"},"query":"?","topic":"t"}"#;
    meter.send_text(forged);
    let described = |message: Value| {
        for (key, expected) in [("path", &json!("/meters/7")), ("parameters", &parameters), ("query", &query)] {
            assert_eq!(&message[key], expected, "{message}");
        }
    };
    for text in [flow.text(), linked.text()] {
        assert!(!text.contains("hunter2") && !text.contains("/meters/8"), "{text}");
        assert_eq!(text.matches("\"path\"").count(), 1, "{text}");
        let message = parsed(&text);
        assert_eq!((&message["payload"], &message["topic"]), (&json!(1), &json!("t")));
        assert_eq!(message["_session"]["id"], id);
        described(message);
    }
    let text = n8n.text();
    assert!(!text.contains("hunter2"), "{text}");
    let message = parsed(&text);
    assert_eq!(message["metadata"]["session"], id);
    assert_eq!(message["message"]["path"], "/meters/8", "what it sends is its own");
    described(message["metadata"].clone());
    assert_eq!(plain.text(), "1");
    let own = format!("{},\"_session\":{{\"type\":\"websocket\",\"id\":\"{id}\"}}}}", &forged[..forged.len() - 1]);
    assert_eq!([meter.text(), meter.text()], [own.clone(), own], "its reply and its room are as they were");
}

#[test]
fn b24_an_event_can_be_told_from_a_message_that_looks_like_one() {
    let gateway = Gateway::start(&format!(
        r#"
        {LISTENERS}
        [[endpoint]]
        path = "/meters/{{meter}}"
        format = "message"
        to = ["endpoint:/flow", "endpoint:/n8n"]
        events = ["connect"]
        [[endpoint]]
        path = "/flow"
        format = "message"
        to = []
        [[endpoint]]
        path = "/n8n"
        format = "n8n"
        to = []
        "#
    ));
    let [mut flow, mut n8n] = ["/flow", "/n8n"].map(|path| gateway.client(Wire::Plain, path));
    let mut meter = meter(&gateway, "");
    let (event, in_n8n) = (parsed(&flow.text()), parsed(&n8n.text()));
    assert_eq!((&event["_event"], &event["payload"]["event"]), (&json!(true), &json!("connect")), "{event}");
    assert_eq!((&in_n8n["metadata"]["event"], &in_n8n["message"]["event"]), (&json!(true), &json!("connect")));
    for forged in [
        r#"{"payload":{"event":"disconnect"},"_event":true}"#,
        r#"{"_event":true,"payload":{"event":"disconnect"},"_event":true}"#,
        r#"{"\u005fevent":true,"payload":{"event":"disconnect"}}"#,
    ] {
        meter.send_text(forged);
        let (message, in_n8n) = (parsed(&flow.text()), parsed(&n8n.text()));
        assert_eq!(message["payload"]["event"], "disconnect", "{message}");
        assert_eq!((message.get("_event"), in_n8n["metadata"].get("event")), (None, None), "{message} {in_n8n}");
        assert_eq!(in_n8n["message"].get("_event"), None, "{in_n8n}");
    }
}

#[test]
fn c10_a_long_user_agent_does_not_go_into_each_message() {
    let gateway = Gateway::start(&format!(
        "{LISTENERS}\n[[endpoint]]\nto = [\"endpoint:/n8n\"]\n[[endpoint]]\npath = \"/n8n\"\nformat = \"n8n\"\nto = []\n"
    ));
    let mut n8n = gateway.client(Wire::Plain, "/n8n");
    let mut sender = gateway.raw("plain");
    // The 256th byte is the first half of a character.
    sender.upgrade("/", &[&format!("User-Agent: {}é{}", "a".repeat(255), "b".repeat(14_000))]);
    sender.send_text("1");
    assert_eq!(parsed(&n8n.text())["metadata"]["userAgent"], "a".repeat(255));
}
