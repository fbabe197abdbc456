//! A receiver of events that connects learns who is there already.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Frame, Gateway, LISTENERS, Raw, Remote, Wire, eventually, masked};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Session and path of the clients that this many next messages tell of as present.
fn told(count: usize, mut next: impl FnMut() -> Value) -> BTreeMap<String, String> {
    let of = |event: Value| {
        let payload = &event["payload"];
        assert_eq!(
            (&event["_event"], &payload["event"], &payload["present"]),
            (&json!(true), &json!("connect"), &json!(true))
        );
        assert_eq!(event["_session"]["id"], payload["session"]);
        (payload["session"].as_str().unwrap().to_owned(), payload["path"].as_str().unwrap().to_owned())
    };
    (0..count).map(|_| of(next())).collect()
}

const METERS: &str = r#"
[[endpoint]]
path = "/meters/{meter}"
to = ["endpoint:/flow", "endpoint:/dash/{meter}"]
events = ["present", "disconnect"]
[[endpoint]]
path = "/silent/{meter}"
to = ["endpoint:/flow", "endpoint:/dash/{meter}"]
[[endpoint]]
path = "/flow"
format = "message"
to = ["reply"]
[[endpoint]]
path = "/dash/{meter}"
format = "message"
to = ["reply"]
[[endpoint]]
path = "/chat/{room}"
format = "message"
to = ["others"]
events = ["present"]
"#;

#[test]
fn b23_a_flow_that_connects_learns_which_clients_are_there() {
    let gateway = Gateway::start(&format!("{LISTENERS}{METERS}"));
    for wire in Wire::BOTH {
        let meters: Vec<Raw> = (0..3).map(|number| gateway.client(wire, &format!("/meters/{number}"))).collect();
        let _silent = gateway.client(wire, "/silent/1");
        let expected: BTreeMap<_, _> =
            meters.iter().enumerate().map(|(n, meter)| (gateway.id_of(meter), format!("/meters/{n}"))).collect();
        for _ in 0..2 {
            let mut flow = gateway.client(wire, "/flow");
            assert_eq!(told(3, || parsed(&flow.text())), expected);
            // Nobody else, and what it sends itself is behind that.
            flow.send_text(r#"{"payload":"mine"}"#);
            assert_eq!(parsed(&flow.text())["payload"], "mine");
        }
        // A room learns only of those whose messages go there.
        let mut dashboard = gateway.client(wire, "/dash/1");
        let at_one = expected.iter().filter(|(_, path)| *path == "/meters/1");
        assert_eq!(
            told(1, || parsed(&dashboard.text())),
            at_one.map(|(id, path)| (id.clone(), path.clone())).collect()
        );
        dashboard.send_text(r#"{"payload":"mine"}"#);
        assert_eq!(parsed(&dashboard.text())["payload"], "mine");
        drop(meters);
        eventually("the meters have gone", DEADLINE, || {
            expected
                .keys()
                .all(|id| gateway.log().iter().any(|line| line.contains(&format!("client {id}: disconnected"))))
        });
    }
}

#[test]
fn b23_a_room_whose_clients_hear_of_each_other_tells_the_newcomer_alone() {
    let gateway = Gateway::start(&format!("{LISTENERS}{METERS}"));
    let mut first = gateway.client(Wire::Plain, "/chat/1");
    let _elsewhere = gateway.client(Wire::Plain, "/chat/2");
    // What it sends is read once it has been told of everybody, which is nobody.
    first.send(&masked(0x89, b"?"));
    assert_eq!(first.frame(), Frame { first: 0x8a, payload: b"?".to_vec() });
    let id = gateway.id_of(&first);
    let mut second = gateway.client(Wire::Plain, "/chat/1");
    assert_eq!(told(1, || parsed(&second.text())), [(id, "/chat/1".to_owned())].into());
    second.send_text(r#"{"payload":"hello"}"#);
    assert_eq!(parsed(&first.text())["payload"], "hello", "nothing before it");
}

#[test]
fn b23_a_link_learns_who_is_there_whenever_it_comes_up() {
    let server = Remote::up();
    let gateway = Gateway::start(&format!(
        "{LISTENERS}\n[[link]]\nname = \"flow\"\nurl = \"{}\"\nformat = \"message\"\nbackoff = {{ first = \"10ms\" }}\n\
         [[endpoint]]\npath = \"/meters/{{meter}}\"\nto = [\"link:flow\"]\nevents = [\"disconnect\", \"present\"]\n",
        server.url()
    ));
    let mut linked = server.accept();
    let mut meters = vec![gateway.client(Wire::Plain, "/meters/0")];
    meters[0].send_text("up");
    // Whether it was there when the link came up nobody knows. The others were not.
    while linked.json()["payload"] != "up" {}
    meters.extend((1..50).map(|number| gateway.client(Wire::Plain, &format!("/meters/{number}"))));
    let ids: Vec<String> = meters.iter().map(|meter| gateway.id_of(meter)).collect();
    meters[1].send_text("next");
    assert_eq!(linked.json()["payload"], "next");
    for _ in 0..2 {
        linked.hang_up();
        linked = server.accept();
        let expected = ids.iter().enumerate().map(|(number, id)| (id.clone(), format!("/meters/{number}"))).collect();
        assert_eq!(told(50, || linked.json()), expected);
    }
    // One that is gone is not present, and its end comes after.
    meters[7].send(&masked(0x88, &[3, 0xe8]));
    let gone = linked.json();
    assert_eq!((&gone["payload"]["event"], &gone["payload"]["session"]), (&json!("disconnect"), &json!(ids[7])));
    linked.hang_up();
    linked = server.accept();
    assert!(!told(49, || linked.json()).contains_key(&ids[7]));
}

#[test]
fn b23_a_flow_that_does_not_read_is_told_as_it_takes_it_and_of_nobody_who_has_gone() {
    let config = METERS
        .replacen(
            "path = \"/flow\"",
            "path = \"/flow\"\nqueue = { messages = 8, bytes = \"8KiB\", when_full = \"drop_newest\" }",
            1,
        )
        .replacen("path = \"/meters/{meter}\"", "path = \"/meters/{meter}\"\nmax_connections = 300", 1);
    let gateway = Gateway::start(&format!("[log]\nlines_per_second = \"off\"\n{LISTENERS}\n{config}"));
    // Long paths, so that the kernel has not room for all events.
    let name = |number: usize| format!("{number:03}{}", "x".repeat(120));
    let mut meters: Vec<Raw> =
        (0..300).map(|number| gateway.client(Wire::Plain, &format!("/meters/{}", name(number)))).collect();
    let ids: Vec<String> = meters.iter().map(|meter| gateway.id_of(meter)).collect();
    let mut flow = gateway.narrow_client(Wire::Plain, "/flow");
    gateway.wait_for_log("held by its own outbox");
    // While it does not read, half of them go.
    for (meter, id) in meters.drain(..150).zip(&ids) {
        drop(meter);
        gateway.wait_for_log(&format!("client {id}: disconnected"));
    }
    let mut there: BTreeMap<String, bool> = BTreeMap::new();
    flow.send_text(r#"{"payload":"mine"}"#);
    loop {
        let event = parsed(&flow.text());
        if event["payload"] == "mine" {
            break;
        }
        let session = event["payload"]["session"].as_str().unwrap().to_owned();
        if event["payload"]["event"] == "disconnect" {
            there.insert(session, false);
        } else {
            assert_ne!(there.insert(session, true), Some(false), "a client came back from the dead: {event}");
        }
    }
    assert!(ids[150..].iter().all(|id| there.get(id) == Some(&true)), "not all that are there were told of");
}
