//! Two gateways, one with a link to the other, both with the format `message`.

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Gateway, Raw, Remote, eventually, unmasked};
use crate::links::{client, gateway, link};

/// The gateway that clients ask: `/ask` leads to the other one, and what names no client goes to `/feed`.
fn near(far: &Gateway) -> Gateway {
    let url = format!("ws://127.0.0.1:{}/hub", far.port("plain"));
    let link = link("hub", &url, "format = \"message\"\nto = [\"endpoint:/feed\"]");
    let endpoints = "[[endpoint]]\npath = \"/ask\"\nto = [\"link:hub\"]\n[[endpoint]]\npath = \"/feed\"\nto = []\n";
    let near = gateway(&format!("[gateway]\nname = \"near\"\n{endpoints}{link}"));
    near.wait_for_log("link hub: connected");
    near
}

/// The gateway that has the flow: `/hub` leads to this destination.
fn far(to: &str, more: &str) -> Gateway {
    let hub =
        format!("[[endpoint]]\npath = \"/hub\"\nformat = \"message\"\nto = [\"{to}\"]\naddress_sessions = true\n");
    gateway(&format!("[gateway]\nname = \"far\"\n{hub}{more}"))
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Two clients ask; `take` is what the flow gets, and `give` what it answers.
fn ask_and_answer(near: &Gateway, mut take: impl FnMut() -> Value, mut give: impl FnMut(Value)) {
    let (mut one, mut other) = (client(near, "/ask"), client(near, "/ask"));
    let mut feed = client(near, "/feed");
    one.send_text("one");
    let first = take();
    other.send_text("other");
    let second = take();
    assert_eq!([&first["payload"], &second["payload"]], ["one", "other"]);
    // In the other order, and beside them something that nobody has asked for.
    give(json!({ "payload": "news" }));
    for mut question in [second, first.clone()] {
        question["payload"] = format!("answer to {}", question["payload"].as_str().unwrap()).into();
        give(question);
    }
    assert_eq!((one.text(), other.text()), ("answer to one".to_owned(), "answer to other".to_owned()));
    assert_eq!(feed.text(), "news");
    // An answer to a client that has left is not for everybody.
    let threads = near.threads();
    one.reset();
    eventually("its thread has ended", DEADLINE, || near.threads() < threads);
    give(first);
    near.wait_for_log("link hub: session_unknown: ");
    give(json!({ "payload": "more news" }));
    assert_eq!(feed.text(), "more news");
}

#[test]
fn b18_questions_and_answers_pass_through_two_gateways_to_a_flow_that_connects() {
    let flow =
        "[[endpoint]]\npath = \"/flow\"\nformat = \"message\"\nto = [\"endpoint:/hub\"]\naddress_sessions = true\n";
    let far = far("endpoint:/flow", flow);
    let mut flow: Raw = client(&far, "/flow");
    let mut writer = flow.writer();
    let near = near(&far);
    ask_and_answer(&near, || json_of(&flow.text()), |message| writer.send_text(&message.to_string()));
}

#[test]
fn b18_questions_and_answers_pass_through_two_gateways_to_a_flow_that_listens() {
    let remote = Remote::up();
    let settings = "format = \"message\"\nto = [\"endpoint:/hub\"]";
    let far = far("link:flow", &link("flow", &remote.url(), settings));
    let (mut flow, _) = remote.upgraded(&[]);
    let mut writer = flow.writer();
    let near = near(&far);
    // As Node-RED does it: `_session` is its own and does not come back.
    let mut without_session = |mut message: Value| {
        message.as_object_mut().unwrap().remove("_session");
        writer.send(&unmasked(0x81, message.to_string().as_bytes()));
    };
    ask_and_answer(&near, || json_of(&flow.text()), &mut without_session);
}
