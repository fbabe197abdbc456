//! The admin listener, changed by a reload: it moves, goes and comes; who asked for it gets the answer, and who may not be
//! there any more is closed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::admin::{ADMIN, Answer, Caller};
use crate::auth::files_of;
use crate::harness::reloads::{LISTEN, Reloads, endpoint};
use crate::harness::{ADMIN_LINE, Canary, DEADLINE, Gateway, Raw, Wire, eventually, port_in};

/// The gateway with this `[admin]`.
fn config(admin: &str) -> String {
    format!("{LISTEN}{}{admin}", endpoint("/canary", "to = [\"reply\"]"))
}

fn start(admin: &str) -> Gateway {
    Gateway::start(&config(admin))
}

fn at(address: &str) -> String {
    format!("[admin]\naddress = \"{address}\"\n")
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The port at which it has answered last.
fn newest_port(gateway: &Gateway, moves: usize) -> u16 {
    port_in(&gateway.wait_for_logs(ADMIN_LINE, moves + 1)[moves], ADMIN_LINE).unwrap()
}

/// Writes a configuration, and asks for a reload over the admin listener.
fn reload_to(gateway: &Gateway, caller: &mut Caller, config: &str) -> Answer {
    Reloads::of(gateway).write(config);
    caller.ask_with("POST", "/api/v1/reload", &[], Some(b""))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[test]
fn it_moves_and_whoever_asked_for_it_gets_the_answer_over_the_old_connection() {
    let gateway = start(ADMIN);
    let mut canary = Canary::connect(&gateway);
    let old = gateway.admin_port();
    let mut feed = Raw::plain(old);
    feed.upgrade("/api/v1/feed", &[]);
    let (mut caller, mut idle) = (Caller::of(&gateway), Caller::of(&gateway));
    assert_eq!(idle.get("/healthz").header("Connection"), Some("keep-alive"));
    let answer = reload_to(&gateway, &mut caller, &config(&at(&format!("127.0.0.1:{}", free_port()))));
    assert!(answer.status == 200 && answer.body.contains("[admin] changed"), "{answer:?}");
    assert!(!answer.body.contains("restart"), "{answer:?}");
    caller.end();
    let new = newest_port(&gateway, 1);
    gateway.wait_for_log(&format!("admin: no longer answering on 127.0.0.1:{old}"));
    assert_eq!(Caller::over(Raw::plain(new)).get("/api/v1/info").status, 200);
    eventually("the old port is free", DEADLINE, || is_free(old));
    // What was opened by the old address ends: it may have been another one's.
    idle.send(b"GET /api/v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n");
    idle.end();
    while feed.message().payload.starts_with(b"{") {}
    canary.check_echo("a move of the admin listener");
    // The history and the places go on: it is the same admin listener elsewhere.
    let answer =
        reload_to(&gateway, &mut Caller::over(Raw::plain(new)), &config("[admin]\naddress = \"unix:admin.sock\"\n"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let info = Caller::over(Raw::unix(&gateway.file("admin.sock"))).get("/api/v1/info").json();
    assert!(info["uptimeSeconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn it_goes_and_comes_and_leaves_no_thread_behind() {
    let gateway = start(ADMIN);
    let mut canary = Canary::connect(&gateway);
    let (old, mut reloads) = (gateway.admin_port(), Reloads::of(&gateway));
    let mut feed = Raw::plain(old);
    feed.upgrade("/api/v1/feed", &[]);
    let with = gateway.threads();
    let mut caller = Caller::of(&gateway);
    let answer = reload_to(&gateway, &mut caller, &config(&at("off")));
    assert!(answer.status == 200 && answer.body.contains("[admin] changed"), "{answer:?}");
    caller.end();
    let close = std::iter::from_fn(|| Some(feed.message())).find(|frame| !frame.payload.starts_with(b"{")).unwrap();
    assert_eq!(close.payload[..2], 1001u16.to_be_bytes());
    drop(feed);
    eventually("its threads have ended", DEADLINE, || gateway.threads() <= with - 3);
    eventually("its port is free", DEADLINE, || is_free(old));
    let without = gateway.threads();
    reloads.count = 1;
    for round in 1..=3 {
        reloads.write(&config(ADMIN));
        reloads.reload();
        let port = newest_port(&gateway, round);
        assert_eq!(Caller::over(Raw::plain(port)).get("/api/v1/info").status, 200);
        reloads.write(&config(&at("off")));
        reloads.reload();
    }
    eventually("nothing of it is left", DEADLINE, || gateway.threads() <= without);
    canary.check_echo("an admin listener that comes and goes");
}

#[test]
fn an_address_that_is_taken_changes_nothing_and_tls_comes_to_the_same_address() {
    let gateway = start(ADMIN);
    let mut reloads = Reloads::of(&gateway);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    reloads.refuse(&config(&at(&address)), &format!("failed to bind '{address}'"));
    assert_eq!(Caller::of(&gateway).get("/api/v1/info").status, 200);
    let port = free_port();
    let mut put = |more: &str| {
        reloads.write(&config(&format!("{}{more}", at(&format!("127.0.0.1:{port}")))));
        let line = reloads.reload();
        assert!(line.contains("[admin] changed"), "{line}");
    };
    put("");
    let mut plain = Caller::over(Raw::plain(port));
    assert_eq!(plain.get("/healthz").status, 200);
    put("tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }\n");
    assert_eq!(Caller::over(Raw::tls(port, &gateway.file("ca.pem"))).get("/healthz").status, 200);
    assert_eq!(plain.get("/healthz").status, 200, "the connection is still the same");
    put("hosts = [\"gate.example\"]\n");
    let status = |host: &str| {
        let mut caller = Caller::over(Raw::plain(port));
        caller.send(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        caller.answer("GET").status
    };
    assert_eq!((status("gate.example"), status("other.example")), (200, 403));
    let wrong = "tls = { certificate = \"none.pem\", private_key = \"none.key\" }\n";
    reloads.refuse(&config(&format!("{}{wrong}", at(&format!("127.0.0.1:{port}")))), "none.pem");
    assert_eq!(status("gate.example"), 200);
}

#[test]
fn r5_its_certificate_is_renewed_by_a_reload() {
    let tls = "tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }\n";
    let gateway = start(&format!("{ADMIN}{tls}"));
    let mut reloads = Reloads::of(&gateway);
    let port = gateway.admin_port();
    let mut old = Caller::over(Raw::tls(port, &gateway.file("ca.pem")));
    assert_eq!(old.get("/healthz").status, 200);
    // Another authority: only a certificate of its own convinces who trusts it alone.
    crate::harness::certificates::write(&gateway.file(""));
    let line = reloads.reload();
    assert!(line.contains("listener \"admin\"") && line.contains("cert.pem"), "{line}");
    // The harness keeps a client for each file of an authority.
    fs::copy(gateway.file("ca.pem"), gateway.file("renewed.pem")).unwrap();
    assert_eq!(Caller::over(Raw::tls(port, &gateway.file("renewed.pem"))).get("/healthz").status, 200);
    assert_eq!(old.get("/healthz").status, 200);
}

/// An `[[auth]]` of the tokens in this directory, and an `[admin]` that asks for them, with these further lines.
fn asking(files: &Path, more: &str) -> String {
    let file = files.join("tokens.txt").display().to_string();
    format!("[[auth]]\nname = \"ops\"\nkind = \"tokens\"\nfile = {file:?}\n{ADMIN}auth = [\"ops\"]\n{more}")
}

#[test]
fn s2_who_may_not_watch_any_more_is_closed_and_the_others_stay() {
    let names = ["reader", "tailer", "both"];
    let tokens = names.map(|name| (name, format!("hunter2-{name}")));
    let files = files_of(&tokens.each_ref().map(|(name, token)| (*name, token.as_str())));
    let allow = |lines: &str| asking(files.path(), &format!("allow = [{lines}]\n"));
    let (reader, tailer) = ("{ who = \"reader\", rights = \"read\" }", "{ who = \"tailer\", rights = \"tail\" }");
    let gateway = start(&allow(&format!("{reader}, {tailer}, {{ who = \"both\" }}")));
    let mut reloads = Reloads::of(&gateway);
    let watch = |path: &str, name: &str| {
        let mut watcher = Raw::plain(gateway.admin_port());
        watcher.upgrade(path, &[&format!("Authorization: Bearer hunter2-{name}")]);
        watcher
    };
    let mut tails = ["tailer", "both"].map(|name| watch("/api/v1/tail", name));
    let mut feeds = ["reader", "both"].map(|name| watch("/api/v1/feed", name));
    // The names change their places: nobody loses a right of his own.
    let mut put = |text: &str| {
        reloads.write(&config(text));
        let line = reloads.reload();
        assert!(line.contains("[admin] changed"), "{line}");
    };
    put(&allow(&format!("{tailer}, {reader}, {{ who = \"both\" }}")));
    put(&allow(&format!("{tailer}, {reader}, {{ who = \"both\", rights = \"read\" }}")));
    tails[1].closed_with(1008, "Access withdrawn");
    gateway.wait_for_log("its access was withdrawn: \"allow\" of");
    // What the credential says is not kept: where that counts, it has to be shown again.
    put(&allow(&format!(
        "{tailer}, {{ who = \"reader\", claims = {{ group = \"x\" }} }}, {{ who = \"both\", rights = \"read\" }}"
    )));
    for feed in &mut feeds {
        let close = std::iter::from_fn(|| Some(feed.message())).find(|frame| !frame.payload.starts_with(b"{")).unwrap();
        assert_eq!(close.payload[..2], 1008u16.to_be_bytes());
    }
    tails[0].closed_with(1008, "Access withdrawn");
    // Somebody who came where nobody was asked, and then is.
    put(ADMIN);
    let mut open = watch("/api/v1/tail", "nobody");
    put(&allow(tailer));
    open.closed_with(1008, "Access withdrawn");
}

#[test]
fn s2_a_connection_of_an_address_that_asked_is_not_heard_at_one_that_does_not() {
    let files = files_of(&[("ada", "hunter2-ada")]);
    let gateway = start(&asking(files.path(), ""));
    let mut stranger = Caller::of(&gateway);
    assert_eq!(stranger.get("/api/v1/info").status, 401);
    let mut stranger = Caller::of(&gateway);
    assert_eq!(stranger.get("/healthz").status, 200);
    let mut reloads = Reloads::of(&gateway);
    // Nobody is asked there, since only this user reaches it.
    reloads.write(&config("[admin]\naddress = \"unix:admin.sock\"\n"));
    reloads.reload();
    stranger.send(b"GET /api/v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stranger.end();
    assert_eq!(Caller::over(Raw::unix(&gateway.file("admin.sock"))).get("/api/v1/info").status, 200);
}

#[test]
fn the_socket_file_of_an_admin_listener_goes_with_it_and_what_is_in_its_place_stays() {
    let gateway = start("[admin]\naddress = \"unix:admin.sock\"\n");
    gateway.wait_for_log("admin: answering on unix:");
    let (file, mut reloads) = (gateway.file("admin.sock"), Reloads::of(&gateway));
    reloads.write(&config(&at("off")));
    reloads.reload();
    eventually("the socket file is gone", DEADLINE, || !file.exists());
    reloads.write(&config("[admin]\naddress = \"unix:admin.sock\"\n"));
    reloads.reload();
    assert_eq!(Caller::over(Raw::unix(&file)).get("/healthz").status, 200);
    // Somebody has put a file of his own in its place.
    fs::remove_file(&file).unwrap();
    fs::write(&file, "mine").unwrap();
    let line = reloads.reload();
    assert!(line.contains("nothing has changed") && !line.contains("failed"), "{line}");
    reloads.write(&config(&at("off")));
    reloads.reload();
    drop(gateway.client(Wire::Plain, "/canary"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
