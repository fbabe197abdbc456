//! Reloads that change odd things at once: names that keep their addresses, addresses that are swapped, kinds that change,
//! and what is in the place of a socket.

use std::fs;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::reloads::{LISTEN, Reloads, endpoint};
use crate::harness::{DEADLINE, Gateway, Linked, Raw, Remote, Wire, eventually, measured, request};

/// Free ports.
fn free_ports<const N: usize>() -> [u16; N] {
    // All are taken until the last one is found.
    let taken = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    taken.map(|listener| listener.local_addr().unwrap().port())
}

fn listen(name: &str, address: &str, lines: &str) -> String {
    format!("[[listen]]\nname = \"{name}\"\naddress = \"{address}\"\n{lines}\n")
}

fn at(name: &str, port: u16) -> String {
    listen(name, &format!("127.0.0.1:{port}"), "")
}

fn link(name: &str, url: &str, lines: &str) -> String {
    format!(
        "[[link]]\nname = \"{name}\"\nurl = \"{url}\"\nbackoff = {{ first = \"100ms\", most = \"100ms\" }}\n{lines}\n"
    )
}

/// Puts a whole configuration in force.
fn put(reloads: &mut Reloads<'_>, config: &str) -> String {
    reloads.write(config);
    let line = reloads.reload();
    assert!(!line.contains("reload: failed"), "{line}");
    line
}

fn is_here(client: &mut Raw) {
    client.send_text("here");
    assert_eq!(client.text(), "here");
}

fn upgraded(mut client: Raw) -> Raw {
    client.upgrade("/", &[]);
    client
}

#[test]
fn a_listener_that_is_renamed_keeps_its_socket_and_two_can_swap_their_addresses() {
    let [one, two] = free_ports();
    let echo = |names: &str| endpoint("/", &format!("to = [\"reply\"]\nlisten = [{names}]"));
    let both = |first: &str, second: &str| format!("{}{}", at(first, one), at(second, two));
    let gateway = Gateway::start(&format!("{}{}", both("a", "b"), echo("\"a\", \"b\"")));
    let mut reloads = Reloads::of(&gateway);
    let [mut of_a, mut of_b] = [one, two].map(|port| upgraded(Raw::plain(port)));
    let descriptors = gateway.descriptors();
    let line = put(&mut reloads, &format!("{}{}", both("b", "a"), echo("\"a\", \"b\"")));
    assert!(line.contains("listener \"a\" changed") && line.contains("listener \"b\" changed"), "{line}");
    // Who came by a name is of that name.
    is_here(&mut of_a);
    is_here(&mut of_b);
    let mut second = upgraded(Raw::plain(two));
    put(&mut reloads, &format!("{}{}{}", both("b", "a"), echo("\"a\""), endpoint("/b", "listen = \"b\"")));
    of_b.closed_with(1001, "Endpoint removed");
    is_here(&mut of_a);
    is_here(&mut second);
    let mut refused = Raw::plain(one);
    refused.send(request("/", &[]).as_bytes());
    assert!(refused.head().starts_with("HTTP/1.1 404 "));
    drop((refused, of_b));
    // No socket was bound anew: 127.0.0.1 has no room for two.
    put(&mut reloads, &format!("{}{}", at("c", one), echo("\"c\"")));
    of_a.closed_with(1001, "Endpoint removed");
    second.closed_with(1001, "Endpoint removed");
    drop((of_a, second));
    let mut third = upgraded(Raw::plain(one));
    is_here(&mut third);
    eventually("the other socket is closed", DEADLINE, || {
        TcpListener::bind(("127.0.0.1", two)).is_ok() && gateway.descriptors() < descriptors
    });
}

#[test]
fn tls_comes_to_an_address_and_goes_while_its_clients_stay() {
    let [port] = free_ports();
    let tls = "tls = { certificate = \"cert.pem\", private_key = \"key.pem\" }";
    let config = |lines: &str| {
        format!("{}{}", listen("a", &format!("127.0.0.1:{port}"), lines), endpoint("/", "to = [\"reply\"]"))
    };
    let gateway = Gateway::start(&config(""));
    let mut reloads = Reloads::of(&gateway);
    let mut clients = vec![upgraded(Raw::plain(port))];
    for round in 0..3 {
        let line = put(&mut reloads, &config(if round % 2 == 0 { tls } else { "" }));
        assert!(line.contains("listener \"a\" changed"), "{line}");
        let new = match round % 2 {
            0 => Raw::tls(port, &gateway.file("ca.pem")),
            _ => Raw::plain(port),
        };
        clients.push(upgraded(new));
        clients.iter_mut().for_each(is_here);
    }
}

#[test]
fn an_endpoint_that_becomes_a_relay_or_is_one_no_more_sends_its_clients_to_come_again() {
    let server = Remote::up();
    let relay = |more: &str| endpoint("/", &format!("relay = {{ url = \"{}\" }}\n{more}", server.url()));
    let echo = endpoint("/", "to = [\"reply\"]");
    let gateway = Gateway::start(&format!("{LISTEN}{echo}"));
    let mut reloads = Reloads::of(&gateway);
    let mut echoed = gateway.client(Wire::Plain, "/");
    let line = reloads.put(&relay(""));
    assert!(line.contains("endpoint '/' removed") && line.contains("endpoint '/' added"), "{line}");
    // It has no server that it could be relayed to, and nothing of it goes elsewhere meanwhile.
    echoed.closed_with(1001, "Endpoint removed");
    let come = || {
        thread::scope(|scope| {
            let client = scope.spawn(|| gateway.client(Wire::Plain, "/"));
            (server.accept(), client.join().unwrap())
        })
    };
    let (mut upstream, mut relayed) = come();
    relayed.send_text("1");
    assert_eq!(upstream.text(), "1");
    // Another limit leaves it where it is.
    let line = reloads.put(&relay("max_message = \"2KiB\""));
    assert!(line.contains("endpoint '/' changed"), "{line}");
    relayed.send_text("2");
    assert_eq!(upstream.text(), "2");
    reloads.put(&echo);
    assert_eq!(upstream.closed().map(|close| u16::from(close.code)), Some(1001));
    relayed.closed_with(1001, "Endpoint removed");
    is_here(&mut gateway.client(Wire::Plain, "/"));
}

#[test]
fn a_link_that_is_renamed_is_another_one_and_gets_what_comes_from_then_on() {
    let (remote, mut away) = (Remote::up(), Remote::away());
    let config = |name: &str, url: &str| endpoint("/", &format!("to = [\"link:{name}\"]")) + &link(name, url, "");
    let gateway = Gateway::start(&format!("{LISTEN}{}", config("old", &remote.url())));
    let mut reloads = Reloads::of(&gateway);
    let mut sender = gateway.client(Wire::Plain, "/");
    let mut old = remote.accept();
    for number in 0..100 {
        sender.send_text(&number.to_string());
    }
    for number in 0..100 {
        assert_eq!(old.text(), number.to_string());
    }
    let line = reloads.put(&config("new", &away.url()));
    assert!(line.contains("link \"old\" removed") && line.contains("link \"new\" added"), "{line}");
    for number in 100..200 {
        sender.send_text(&number.to_string());
    }
    assert_eq!(old.closed().map(|close| u16::from(close.code)), Some(1001));
    away.come();
    let mut new = away.accept();
    for number in 100..200 {
        assert_eq!(new.text(), number.to_string());
    }
}

/// The numbers that come over a connection, until its Close.
fn numbers(mut linked: Linked) -> Vec<u64> {
    std::iter::from_fn(|| linked.message().into_text().ok().filter(|text| !text.is_empty()))
        .map_while(|text| text.parse().ok())
        .collect()
}

#[test]
fn no_message_is_lost_while_a_link_is_renamed_again_and_again() {
    const ROUNDS: usize = 15;
    let remote = Remote::up();
    let queue = "queue = { messages = 100000, bytes = \"64MiB\" }";
    let config = |round: usize| {
        let name = format!("plc-{round}");
        endpoint("/", &format!("to = [\"link:{name}\", \"reply\"]")) + &link(&name, &remote.url(), queue)
    };
    let gateway = Gateway::start(&format!("{LISTEN}{}", config(0)));
    let mut reloads = Reloads::of(&gateway);
    let mut sender = gateway.client(Wire::Plain, "/");
    let rounds = AtomicUsize::new(0);
    let (sent, mut came) = thread::scope(|scope| {
        let talk = || {
            let mut sent = 0_u64;
            while rounds.load(Ordering::Relaxed) < ROUNDS {
                (sent..sent + 16).for_each(|number| sender.send_text(&number.to_string()));
                (sent..sent + 16).for_each(|number| assert_eq!(sender.text(), number.to_string()));
                sent += 16;
            }
            sent
        };
        let sending = scope.spawn(talk);
        let mut reading = vec![scope.spawn({
            let linked = remote.accept();
            move || numbers(linked)
        })];
        for round in 1..=ROUNDS {
            reloads.put(&config(round));
            let linked = remote.accept();
            reading.push(scope.spawn(move || numbers(linked)));
            rounds.store(round, Ordering::Relaxed);
        }
        let sent = sending.join().unwrap();
        reloads.put(&endpoint("/", "to = [\"reply\"]"));
        (sent, reading.into_iter().map(|reading| reading.join().unwrap()).collect::<Vec<_>>())
    });
    // Each connection has its own in order, and all together have each once.
    assert!(came.iter().all(|numbers| numbers.is_sorted()));
    let mut all: Vec<u64> = came.drain(..).flatten().collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..sent), "of {sent} messages {} came", all.len());
    measured("R4", format!("a link renamed {ROUNDS} times: {sent} of {sent} messages came, each once"));
}

#[test]
fn two_links_that_swap_their_servers_keep_their_queues() {
    let (first, second) = (Remote::up(), Remote::up());
    let config = |a: &str, b: &str| {
        endpoint("/a", "to = [\"link:a\"]")
            + &endpoint("/b", "to = [\"link:b\"]")
            + &link("a", a, "")
            + &link("b", b, "")
    };
    let gateway = Gateway::start(&format!("{LISTEN}{}", config(&first.url(), &second.url())));
    let mut reloads = Reloads::of(&gateway);
    let (mut to_a, mut to_b) = (gateway.client(Wire::Plain, "/a"), gateway.client(Wire::Plain, "/b"));
    let mut linked = [first.accept(), second.accept()];
    to_a.send_text("a1");
    to_b.send_text("b1");
    assert_eq!([linked[0].text(), linked[1].text()], ["a1", "b1"]);
    let line = reloads.put(&config(&second.url(), &first.url()));
    assert!(line.contains("link \"a\" changed") && line.contains("link \"b\" changed"), "{line}");
    for number in 2..50 {
        to_a.send_text(&format!("a{number}"));
        to_b.send_text(&format!("b{number}"));
    }
    for mut link in linked {
        assert_eq!(link.closed().map(|close| u16::from(close.code)), Some(1001));
    }
    let mut swapped = [first.accept(), second.accept()];
    for number in 2..50 {
        assert_eq!([swapped[0].text(), swapped[1].text()], [format!("b{number}"), format!("a{number}")]);
    }
}

#[test]
fn clients_that_a_link_holds_go_with_their_endpoint_and_the_link_stays() {
    let mut remote = Remote::away();
    let full = link("up", &remote.url(), "queue = { messages = 2, when_full = \"block\" }");
    let config = |path: &str| endpoint(path, "to = [\"link:up\"]") + &endpoint("/", "to = [\"reply\"]") + &full;
    let gateway = Gateway::start(&format!("{LISTEN}{}", config("/goes")));
    let mut reloads = Reloads::of(&gateway);
    let mut held: Vec<Raw> = (0..3).map(|_| gateway.client(Wire::Plain, "/goes")).collect();
    for client in &mut held {
        (0..3).for_each(|number| client.send_text(&number.to_string()));
    }
    gateway.wait_for_logs("held by link up", 3);
    let line = reloads.put(&config("/comes"));
    assert!(line.contains("endpoint '/goes' removed") && !line.contains("link"), "{line}");
    for client in &mut held {
        client.closed_with(1001, "Endpoint removed");
    }
    is_here(&mut gateway.client(Wire::Plain, "/"));
    // The queue of the link is as it was, and goes on.
    let mut sender = gateway.client(Wire::Plain, "/comes");
    remote.come();
    let mut linked = remote.accept();
    assert_eq!([(); 2].map(|()| linked.text().len()), [1, 1]);
    sender.send_text("next");
    while linked.text() != "next" {}
}

#[test]
fn rights_that_a_reload_takes_end_those_clients_alone() {
    let tokens = ["ada", "bob"].map(|name| (name, format!("hunter2-{name}")));
    let files = crate::auth::files_of(&tokens.each_ref().map(|(name, token)| (*name, token.as_str())));
    let file = files.path().join("tokens.txt").display().to_string();
    let auth = |name: &str| format!("[[auth]]\nname = \"{name}\"\nkind = \"tokens\"\nfile = {file:?}\n");
    let config =
        |lines: &str| format!("{}{}{}", auth("one"), auth("two"), endpoint("/", &format!("to = [\"reply\"]\n{lines}")));
    let gateway = Gateway::start(&format!("{LISTEN}{}", config("auth = [\"one\"]")));
    let mut reloads = Reloads::of(&gateway);
    let come = |name: &str| {
        let mut client = gateway.raw("plain");
        client.upgrade("/", &[&format!("Authorization: Bearer hunter2-{name}")]);
        client
    };
    let (mut ada, mut bob) = (come("ada"), come("bob"));
    // Rules that give each what he has.
    reloads.put(&config("auth = [\"one\", \"two\"]\nallow = [{ who = \"*\" }]"));
    is_here(&mut ada);
    is_here(&mut bob);
    reloads.put(&config("auth = [\"one\"]\nallow = [{ who = \"bob\" }, { who = \"ada\", send = false }]"));
    ada.closed_with(1008, "Access withdrawn");
    is_here(&mut bob);
    // Its credential is right for the other one too, but it was this one that let it in.
    reloads.put(&config("auth = [\"two\"]"));
    bob.closed_with(1008, "Access withdrawn");
    is_here(&mut come("bob"));
}

#[test]
fn a_socket_file_goes_with_its_listener_and_what_is_in_its_place_stays() {
    let unix = listen("local", "unix:gate.sock", "");
    let echo = endpoint("/", "to = [\"reply\"]");
    let gateway = Gateway::start(&format!("{LISTEN}{unix}{echo}"));
    let (file, mut reloads) = (gateway.file("gate.sock"), Reloads::of(&gateway));
    let mut client = upgraded(Raw::unix(&file));
    reloads.put(&echo);
    client.closed_with(1001, "Endpoint removed");
    eventually("the socket file is gone", DEADLINE, || !file.exists());
    // Somebody has put a file there meanwhile: it is not the gateway's to remove.
    fs::write(&file, "mine").unwrap();
    reloads.refuse(&format!("{LISTEN}{unix}{echo}"), "there is a file: choose another path, or remove it");
    fs::remove_file(&file).unwrap();
    put(&mut reloads, &format!("{LISTEN}{unix}{echo}"));
    let mut client = upgraded(Raw::unix(&file));
    fs::remove_file(&file).unwrap();
    fs::write(&file, "mine").unwrap();
    let line = put(&mut reloads, &format!("{LISTEN}{unix}{echo}"));
    assert!(line.contains("nothing has changed"), "{line}");
    is_here(&mut client);
    reloads.put(&echo);
    client.closed_with(1001, "Endpoint removed");
    is_here(&mut gateway.client(Wire::Plain, "/"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
