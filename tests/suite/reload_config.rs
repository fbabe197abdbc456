//! A reload of the configuration itself: what has changed holds for those who are there, what has not notices nothing, and
//! what is wrong changes nothing at all.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::admin::ADMIN;
use crate::harness::reloads::{LISTEN, Reloads, endpoint};
use crate::harness::scrape::Scrape;
use crate::harness::{DEADLINE, Gateway, Raw, Remote, Wire, eventually, measured, pass};

/// A link with this URL and these lines.
fn link(url: &str, lines: &str) -> String {
    format!("[[link]]\nname = \"up\"\nurl = \"{url}\"\nbackoff = {{ first = \"100ms\", most = \"100ms\" }}\n{lines}\n")
}

fn start(config: &str) -> Gateway {
    Gateway::start(&format!("{LISTEN}{config}"))
}

#[test]
fn another_route_and_format_hold_from_one_message_to_the_next() {
    let gateway = start(&(endpoint("/in", "to = [\"reply\"]") + &endpoint("/out", "to = []")));
    let mut reloads = Reloads::of(&gateway);
    let (mut sender, mut receiver) = (gateway.client(Wire::Plain, "/in"), gateway.client(Wire::Plain, "/out"));
    sender.send_text("1");
    assert_eq!(sender.text(), "1");
    let line = reloads.put(&(endpoint("/in", "to = [\"endpoint:/out\"]") + &endpoint("/out", "to = []")));
    assert!(line.contains("endpoint '/in' changed") && !line.contains("'/out'"), "{line}");
    sender.send_text("2");
    assert_eq!(receiver.text(), "2");
    let out = endpoint("/out", "to = []\nformat = \"message\"");
    let line = reloads.put(&(endpoint("/in", "to = [\"endpoint:/out\", \"reply\"]") + &out));
    assert!(line.contains("endpoint '/in' changed") && line.contains("endpoint '/out' changed"), "{line}");
    sender.send_text("3");
    assert_eq!(sender.text(), "3");
    let text = receiver.text();
    assert!(text.contains("\"payload\":\"3\"") && text.contains("\"path\":\"/in\""), "{text}");
    let line = reloads.reload();
    assert!(line.contains("nothing has changed"), "{line}");
}

#[test]
fn other_limits_hold_for_those_who_are_there_and_throw_nobody_out() {
    let config = |lines: &str| endpoint("/", &format!("to = [\"reply\"]\n{lines}"));
    let gateway = start(&config(""));
    let mut reloads = Reloads::of(&gateway);
    let (mut one, mut two) = (gateway.client(Wire::Plain, "/"), gateway.client(Wire::Plain, "/"));
    reloads.put(&config("max_connections = 1\nat_capacity = \"refuse\"\nmax_message = \"1KiB\""));
    for client in [&mut one, &mut two] {
        client.send_text("still here");
        assert_eq!(client.text(), "still here");
    }
    let refused = |expected: &str| {
        let mut third = gateway.raw("plain");
        third.send(crate::harness::request("/", &[]).as_bytes());
        let head = third.head();
        assert!(head.starts_with(expected), "{head}");
    };
    refused("HTTP/1.1 503");
    one.send_text(&"x".repeat(2000));
    one.closed_with(1009, "message of 2000 bytes is over the limit of 1024");
    drop(one);
    gateway.wait_for_log("code 1009");
    reloads.put(&config("max_connections = 3\nat_capacity = \"refuse\""));
    two.send_text(&"x".repeat(2000));
    assert_eq!(two.text().len(), 2000);
    refused("HTTP/1.1 101");
    // A room that is full by a limit that it had not when they came.
    reloads.put(&config("max_room_connections = 1\nat_capacity = \"replace\""));
    let mut newest = gateway.client(Wire::Plain, "/");
    two.closed_with(1008, "Replaced");
    // A heartbeat that there was none of.
    reloads.put(&config("heartbeat = \"1s\""));
    newest.pinged();
}

#[test]
fn clients_of_an_endpoint_that_is_renamed_are_told_behind_what_was_published() {
    let config = |path: &str| endpoint("/stays", "to = [\"broadcast\"]") + &endpoint(path, "to = [\"broadcast\"]");
    let gateway = start(&config("/old/{room}"));
    let mut reloads = Reloads::of(&gateway);
    let mut stays = gateway.client(Wire::Plain, "/stays");
    let mut gone: Vec<Raw> = (0..8).map(|_| gateway.client(Wire::Plain, "/old/1")).collect();
    for number in 0..100 {
        gone[0].send_text(&number.to_string());
    }
    assert_eq!(gone[0].text(), "0");
    let line = reloads.put(&config("/new/{room}"));
    assert!(line.contains("endpoint '/old/{room}' removed") && line.contains("endpoint '/new/{room}' added"), "{line}");
    for (index, client) in gone.iter_mut().enumerate() {
        let mut next = usize::from(index == 0);
        while next < 100 {
            assert_eq!(client.text(), next.to_string());
            next += 1;
        }
        client.closed_with(1001, "Endpoint removed");
    }
    stays.send_text("unmoved");
    assert_eq!(stays.text(), "unmoved");
    let mut new = gateway.client(Wire::Plain, "/new/1");
    new.send_text("here");
    assert_eq!(new.text(), "here");
    // Its parameter has another name: it is the same endpoint.
    let line = reloads.put(&config("/new/{hall}"));
    assert!(line.contains("endpoint '/new/{hall}' changed") && !line.contains("removed"), "{line}");
    new.send_text("still");
    assert_eq!(new.text(), "still");
}

#[test]
fn a_link_is_dialled_anew_and_what_waits_for_it_goes_to_its_new_server() {
    let (mut first, mut second) = (Remote::up(), Remote::away());
    let config = |url: &str| endpoint("/", "to = [\"link:up\"]") + &link(url, "");
    let gateway = start(&config(&first.url()));
    let mut reloads = Reloads::of(&gateway);
    let mut sender = gateway.client(Wire::Plain, "/");
    let mut linked = first.accept();
    sender.send_text("1");
    assert_eq!(linked.text(), "1");
    let line = reloads.put(&config(&second.url()));
    assert!(line.contains("link \"up\" changed"), "{line}");
    let close = linked.closed().expect("a Close");
    assert_eq!(u16::from(close.code), 1001);
    for number in 2..5 {
        sender.send_text(&number.to_string());
    }
    first.go();
    second.come();
    let mut linked = second.accept();
    for number in 2..5 {
        assert_eq!(linked.text(), number.to_string());
    }
    // A change of anything else leaves the connection alone.
    let line = reloads.put(&(endpoint("/", "to = [\"link:up\"]") + &link(&second.url(), "max_message = \"2KiB\"")));
    assert!(line.contains("link \"up\" changed"), "{line}");
    sender.send_text("5");
    assert_eq!(linked.text(), "5");
}

#[test]
fn a_link_that_is_removed_while_it_is_full_lets_its_senders_go() {
    let remote = Remote::away();
    let lines = "queue = { messages = 2, when_full = \"block\" }";
    let gateway = start(
        &(endpoint("/", "to = [\"link:up\", \"reply\"]")
            + &link(&remote.url(), lines)
            + "[gateway]\ndrain_timeout = \"1s\"\n"),
    );
    let mut reloads = Reloads::of(&gateway);
    let mut sender = gateway.client(Wire::Plain, "/");
    for number in 0..5 {
        sender.send_text(&number.to_string());
        if number < 3 {
            assert_eq!(sender.text(), number.to_string());
        }
    }
    gateway.wait_for_log("held by link up");
    let line = reloads.put(&(endpoint("/", "to = [\"reply\"]") + "[gateway]\ndrain_timeout = \"1s\"\n"));
    assert!(line.contains("link \"up\" removed"), "{line}");
    for number in 3..5 {
        assert_eq!(sender.text(), number.to_string());
    }
    gateway.wait_for_log("link up: 2 messages were still queued for it and got lost");
    eventually("its threads have ended", DEADLINE, || {
        reloads.reload();
        gateway.log().iter().any(|line| line.contains("link up: since the start 0 connections"))
    });
}

#[test]
fn listeners_come_go_and_move_while_clients_of_the_others_stay() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = |name: &str, address: &str| format!("[[listen]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    let echo = endpoint("/", "to = [\"reply\"]");
    let gateway = Gateway::start(&format!("{LISTEN}{}{echo}", listen("second", "127.0.0.1:0")));
    let mut reloads = Reloads::of(&gateway);
    let (mut stays, mut goes) = (gateway.client(Wire::Plain, "/"), gateway.raw("second"));
    goes.upgrade("/", &[]);
    let address = taken.local_addr().unwrap().to_string();
    reloads.refuse(&format!("{LISTEN}{}{echo}", listen("second", &address)), "failed to bind");
    goes.send_text("still here");
    assert_eq!(goes.text(), "still here");
    drop(taken);
    reloads.write(&format!("{LISTEN}{}{echo}", listen("third", &address)));
    let line = reloads.reload();
    assert!(line.contains("listener \"second\" removed") && line.contains("listener \"third\" added"), "{line}");
    goes.closed_with(1001, "Endpoint removed");
    let mut third = gateway.raw("third");
    third.upgrade("/", &[]);
    // The address stays bound, whoever has it.
    reloads.write(&format!("{LISTEN}{}{echo}", listen("fourth", &address)));
    let line = reloads.reload();
    assert!(line.contains("listener \"third\" removed") && line.contains("listener \"fourth\" added"), "{line}");
    third.closed_with(1001, "Endpoint removed");
    let mut fourth = Raw::plain(address.rsplit(':').next().unwrap().parse().unwrap());
    fourth.upgrade("/", &[]);
    for client in [&mut fourth, &mut stays] {
        client.send_text("here");
        assert_eq!(client.text(), "here");
    }
}

#[test]
fn r1_a_configuration_that_is_wrong_changes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let gateway = start(&endpoint("/", "to = [\"reply\"]"));
    let mut reloads = Reloads::of(&gateway);
    let mut client = gateway.client(Wire::Plain, "/");
    let listen = |lines: &str| format!("[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n{lines}\n");
    let other = endpoint("/other", "");
    for (config, words) in [
        (format!("{LISTEN}[[endpoint"), "wsgate.toml:"),
        (format!("{LISTEN}[[endpoint]]\npath = \"/other\"\nnonsense = 1"), "nonsense"),
        (format!("{LISTEN}{}", endpoint("/other", "max_connections = \"many\"")), "max_connections"),
        (listen("tls = { certificate = \"none.pem\", private_key = \"none.key\" }") + &other, "none.pem"),
        (listen("[[listen]]\naddress = \"127.0.0.1:1\"") + &other, "failed to bind '127.0.0.1:1'"),
        (format!("[[listen]]\naddress = \"127.0.0.1:{port}\"\n{other}"), "failed to bind"),
        (format!("{LISTEN}{}", endpoint("/other", "to = [\"link:nobody\"]")), "nobody"),
        (format!("{LISTEN}{other}{other}"), "/other"),
        (format!("{LISTEN}{}", endpoint("/other", "auth = [\"nobody\"]")), "nobody"),
        (format!("{LISTEN}{}", endpoint("/other", "heartbeat = \"soon\"")), "heartbeat"),
    ] {
        if config.contains("127.0.0.1:1\"") && rustix::process::geteuid().is_root() {
            continue;
        }
        reloads.refuse(&config, words);
        client.send_text("unchanged");
        assert_eq!(client.text(), "unchanged");
        assert!(gateway.raw("plain").upgrade("/", &[]).starts_with("HTTP/1.1 101"));
    }
    fs::remove_file(gateway.file("wsgate.toml")).unwrap();
    let line = reloads.reload();
    assert!(line.contains("reload: failed, and nothing has changed: "), "{line}");
    client.send_text("unchanged");
    assert_eq!(client.text(), "unchanged");
    reloads.put(&other);
    client.closed_with(1001, "Endpoint removed");
}

#[test]
fn r2_who_is_let_in_is_judged_anew_and_an_empty_list_lets_nobody_in() {
    let config = |lines: &str| endpoint("/", &format!("to = [\"reply\"]\n{lines}"));
    let gateway = start(&config(""));
    let mut reloads = Reloads::of(&gateway);
    let mut client = gateway.client(Wire::Plain, "/");
    reloads.put(&config("allow_addresses = [\"127.0.0.1\"]"));
    client.send_text("here");
    assert_eq!(client.text(), "here");
    reloads.write(&format!("{LISTEN}{}", config("allow_addresses = []")));
    gateway.signal(Signal::HUP);
    client.closed_with(1008, "Access withdrawn");
    gateway.wait_for_log("reload: closing 1 client whose access was withdrawn");
    reloads.count += 2;
    reloads.put(&config(""));
    let mut client = gateway.client(Wire::Plain, "/");
    let auth = "[[auth]]\nname = \"devices\"\nkind = \"tokens\"\nfile = \"tokens.txt\"\n";
    fs::write(gateway.file("tokens.txt"), "").unwrap();
    let asks = config("auth = [\"devices\"]") + auth;
    reloads.refuse(&format!("{LISTEN}{asks}"), "tokens.txt");
    client.send_text("here");
    assert_eq!(client.text(), "here");
    crate::auth::write(&gateway.file("tokens.txt"), &format!("press-3:{}\n", "0".repeat(64)));
    reloads.write(&format!("{LISTEN}{asks}"));
    gateway.signal(Signal::HUP);
    // It came without a credential.
    client.closed_with(1008, "Access withdrawn");
}

#[test]
fn what_takes_a_restart_is_named_and_the_rest_is_applied() {
    let gateway = start(&endpoint("/", "to = [\"reply\"]"));
    let mut reloads = Reloads::of(&gateway);
    let line = reloads.put(&(endpoint("/", "to = []") + "[gateway]\ndeliverers = 3\nclient_stack = \"512KiB\"\n"));
    assert!(line.contains("endpoint '/' changed"), "{line}");
    assert!(line.contains("these take a restart: [gateway] deliverers, [gateway] client_stack"), "{line}");
}

#[test]
fn r1_signals_that_come_while_a_reload_runs_are_one_further_reload() {
    let config = |lines: &str| endpoint("/", &format!("to = [\"reply\"]\n{lines}"));
    let gateway = start(&config(""));
    let reloads = Reloads::of(&gateway);
    let mut client = gateway.client(Wire::Plain, "/");
    let (until, mut signals) = (Instant::now() + Duration::from_secs(5), 0);
    while Instant::now() < until {
        signals += 1;
        gateway.signal(Signal::HUP);
        if signals % 50 == 0 {
            client.send_text(&signals.to_string());
            assert_eq!(client.text(), signals.to_string());
        }
        pass(Duration::from_millis(1));
    }
    reloads.write(&format!("{LISTEN}{}", config("max_message = \"2KiB\"")));
    gateway.signal(Signal::HUP);
    gateway.wait_for_log("endpoint '/' changed");
    let count = gateway.log().iter().filter(|line| line.contains(" reload: ")).count();
    assert!(count <= signals + 1, "{count} reloads for {signals} signals");
    measured("R1", format!("{signals} SIGHUP in 5 s: {count} reloads, 1 of 1 clients went on"));
}

/// `tests/long reload` runs it for longer and with more clients.
#[test]
fn r4_reloads_of_two_configurations_in_turns_lose_nothing() {
    const ENDPOINTS: usize = 10;
    let number = |name, default| env::var(name).map_or(default, |number: String| number.parse().unwrap());
    let (length, count) = (number("WSGATE_RELOAD_SECONDS", 3), number("WSGATE_RELOAD_CLIENTS", 100));
    let remote = Remote::up();
    let config = |is_first: bool| {
        let places = "max_connections = 2000\n";
        let others =
            (2..ENDPOINTS).map(|number| endpoint(&format!("/{number}"), &format!("to = [\"reply\"]\n{places}")));
        let (to, limit) = if is_first { ("[\"reply\"]", "1MiB") } else { ("[\"reply\", \"endpoint:/log\"]", "1KiB") };
        let mut config = endpoint("/0", &format!("to = {to}\n{places}"));
        config += &endpoint("/1", &format!("to = [\"reply\"]\nmax_message = \"{limit}\"\n{places}"));
        config.extend(others);
        config += &endpoint("/log", "to = []");
        config += &if is_first {
            link(&remote.url(), "")
        } else {
            "[[listen]]\nname = \"other\"\naddress = \"127.0.0.1:0\"\n".to_owned()
        };
        config + ADMIN
    };
    let gateway = start(&config(true));
    let mut reloads = Reloads::of(&gateway);
    let mut clients: Vec<Raw> =
        (0..count).map(|number| gateway.client(Wire::Plain, &format!("/{}", number % ENDPOINTS))).collect();
    let mut sent = 0;
    let mut talk = |clients: &mut [Raw], while_sent: &mut dyn FnMut()| {
        sent += 3;
        let numbers = || (sent - 2..=sent).map(|number| number.to_string());
        for client in &mut *clients {
            numbers().for_each(|number| client.send_text(&number));
        }
        while_sent();
        for client in clients {
            numbers().for_each(|number| assert_eq!(client.text(), number));
        }
    };
    // What comes with the first of each kind is not for the reloads.
    for is_first in [false, true] {
        talk(&mut clients, &mut || drop(reloads.put(&config(is_first))));
    }
    let (threads, descriptors, memory) = (gateway.threads(), gateway.descriptors(), gateway.memory_kib());
    let until = Instant::now() + Duration::from_secs(length as u64);
    let mut done = 0;
    while Instant::now() < until {
        let next = Instant::now() + Duration::from_millis(600);
        for is_first in [false, true] {
            talk(&mut clients, &mut || drop(reloads.put(&config(is_first))));
            done += 1;
        }
        pass(next.saturating_duration_since(Instant::now()));
    }
    eventually("threads and descriptors are back", DEADLINE, || {
        reloads.reload();
        gateway.threads() <= threads + 2 && gateway.descriptors() <= descriptors + 2
    });
    let grown = gateway.memory_kib().saturating_sub(memory);
    let messages = sent * clients.len();
    // The endpoints have counted the same.
    let scrape = Scrape::of(gateway.admin_port());
    for number in 0..ENDPOINTS {
        let of_endpoint = sent * (number..count).step_by(ENDPOINTS).count();
        for metric in ["received", "sent"] {
            let counted = scrape.value(&format!("wsgate_{metric}_messages_total{{endpoint=\"/{number}\"}}"));
            assert_eq!(counted, of_endpoint as f64, "{metric} at /{number}");
        }
    }
    assert!(done >= length * 100 / 60, "{done} reloads in {length} s");
    measured(
        "R4",
        format!("{done} reloads in {length} s: {count} clients got {messages} of {messages} messages; +{grown} KiB"),
    );
    assert!(grown < 8 << 10, "+{grown} KiB");
}
