//! What operators change of the gateway as a whole over the admin listener: what the log shows, and a drain.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::admin::{ADMIN, Answer, Caller};
use crate::harness::{DEADLINE, Gateway, LISTENERS, Wire, eventually};

const CONFIG: &str = r#"
[[endpoint]]
path = "/rooms/{room}"

[[endpoint]]
path = "/quiet"
"#;

fn start(more: &str) -> Gateway {
    Gateway::start(&format!("{more}{CONFIG}{LISTENERS}{ADMIN}"))
}

fn put(gateway: &Gateway, body: &str) -> Answer {
    Caller::of(gateway).ask_with("PUT", "/api/v1/log", &[], Some(body.as_bytes()))
}

/// Whether the log shows, by now, that somebody has asked for this path.
fn shows(gateway: &Gateway, path: &str) -> bool {
    assert_eq!(Caller::of(gateway).get(path).status, 200);
    // It is written behind that.
    assert_eq!(Caller::of(gateway).ask_with("DELETE", &format!("/end/of{path}"), &[], None).status, 404);
    gateway.wait_for_log(&format!("DELETE /end/of{path}"));
    gateway.log().iter().any(|line| line.contains(&format!(" GET {path}: 200")))
}

#[test]
fn levels_of_the_log_hold_until_the_next_reload_or_until_they_are_taken_back() {
    let gateway = start("");
    let levels = |gateway: &Gateway| Caller::of(gateway).get("/api/v1/log").json();
    assert_eq!(levels(&gateway), json!({ "level": null, "levels": {} }));
    assert!(!shows(&gateway, "/healthz"));
    let wanted = json!({ "level": null, "levels": { "admin": "debug", "/quiet": "off" } });
    let answer = put(&gateway, r#"{"levels":{"admin":"debug","/quiet":"off"}}"#);
    assert_eq!((answer.status, answer.json()), (200, wanted.clone()));
    assert_eq!(levels(&gateway), wanted);
    gateway.wait_for_log("log: until the next reload the levels are off for /quiet, debug for admin, as was asked for");
    assert!(shows(&gateway, "/readyz"));
    drop(["/quiet", "/rooms/7"].map(|path| gateway.client(Wire::Plain, path)));
    gateway.wait_for_log(": disconnected from '/rooms/7'");
    assert!(!gateway.log().iter().any(|line| line.contains("/quiet'")));

    gateway.signal(Signal::HUP);
    gateway.wait_for_log("reload: read again");
    assert_eq!(levels(&gateway), json!({ "level": null, "levels": {} }));
    assert!(!shows(&gateway, "/api/v1/info"));
    drop(gateway.client(Wire::Plain, "/quiet"));
    gateway.wait_for_log(": connected to '/quiet'");

    // A level for all, and back.
    assert_eq!(put(&gateway, r#"{"level":"debug"}"#).status, 200);
    assert!(shows(&gateway, "/metrics"));
    assert_eq!(put(&gateway, "{}").json(), json!({ "level": null, "levels": {} }));
    gateway.wait_for_log("log: the levels of the configuration hold again, as was asked for");
    assert!(!shows(&gateway, "/api/v1/config"));
}

#[test]
fn levels_that_are_wrong_change_nothing_and_each_mistake_is_told() {
    let gateway = start("");
    for (body, words) in [
        ("", &["the body is not as {\"level\":\"debug\""][..]),
        ("debug", &["the body is not as "]),
        (r#"{"levels":{"links":1}}"#, &["the body is not as ", "expected a string"]),
        (r#"{"Level":"debug"}"#, &["unknown field `Level`"]),
        (r#"{"level":"info","level":"off"}"#, &["duplicate field"]),
        (r#"{"level":"loud"}"#, &["\"loud\" is no level: write one of off, error, warn, info, debug"]),
        (
            r#"{"level":"off","levels":{"linkz":"debug"}}"#,
            &["\"linkz\" is no part of the log: did you mean \"links\"?"],
        ),
        (
            r#"{"level":"trace","levels":{"/room/{room}":"off"}}"#,
            &["\"trace\" is no level", "\"/room/{room}\" is the path of no endpoint: did you mean \"/rooms/{room}\"?"],
        ),
    ] {
        let answer = put(&gateway, body);
        assert_eq!((answer.status, answer.code()), (400, "badRequest".to_owned()), "{body}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        words.iter().for_each(|word| assert!(message.contains(word), "{body}: {message}"));
    }
    assert_eq!(Caller::of(&gateway).get("/api/v1/log").json(), json!({ "level": null, "levels": {} }));
}

#[test]
fn o5_a_drain_that_is_asked_for_says_how_it_stands_and_ends_the_process() {
    let mut gateway = start("[gateway]\ndrain_timeout = \"3s\"\nclose_timeout = \"1s\"\n");
    let mut clients = [0, 1].map(|room| gateway.client(Wire::Plain, &format!("/rooms/{room}")));
    let drain = || {
        let answer = Caller::of(&gateway).ask_with("POST", "/api/v1/drain", &[], None);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()
    };
    let first = drain();
    assert_eq!((&first["alreadyDraining"], &first["clients"]), (&Value::from(false), &Value::from(2)));
    assert!(first["until"].as_str().unwrap().ends_with('Z'), "{first}");
    let most = first["endsWithinSeconds"].as_f64().unwrap();
    assert!((4.0..20.0).contains(&most), "{first}");
    gateway.wait_for_log("draining: closing 2 clients with 1012, evenly over 3s");
    let second = drain();
    assert_eq!(second["alreadyDraining"], true);
    assert!(second["until"].as_str() >= first["until"].as_str().map(|until| &until[..19]), "{first} {second}");
    assert!(second["endsWithinSeconds"].as_f64().unwrap() <= most);
    assert_eq!(Caller::of(&gateway).get("/readyz").status, 503);
    clients.iter_mut().for_each(|client| client.closed_with(1012, "Service restart"));
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.whole_log().iter().filter(|line| line.contains("draining: ")).count(), 1);
}

#[test]
fn o5_a_gateway_that_stops_is_not_drained() {
    let mut gateway = start("[gateway]\ndrain_timeout = \"5s\"\n");
    // One that does not answer its Close keeps the gateway stopping.
    let _silent = gateway.client(Wire::Plain, "/quiet");
    gateway.signal(Signal::TERM);
    eventually("it stops", DEADLINE, || Caller::of(&gateway).get("/readyz").status == 503);
    let answer = Caller::of(&gateway).ask_with("POST", "/api/v1/drain", &[], None);
    assert_eq!((answer.status, answer.code()), (409, "conflict".to_owned()));
    assert!(gateway.wait().success());
}
