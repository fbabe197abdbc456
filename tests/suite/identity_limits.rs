//! The connections of each identity on an endpoint: who is refused, and who gives its place to a new one of the same
//! identity.

use std::fs;
use std::time::Instant;

use data_encoding::HEXLOWER;
use openssl::sha::sha256;

use crate::harness::command::run_with_input;
use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, Remote, Wire, eventually, masked, measured, request};

/// A gateway whose clients authenticate by tokens: ada has two and a third one as staff, bob has one.
fn gateway(endpoints: &str) -> Gateway {
    let auth =
        |name: &str| format!("[[auth]]\nname = \"{name}\"\nkind = \"tokens\"\nfile = \"{name}.txt\"\ncookie = \"t\"\n");
    let config = format!("{LISTENERS}{}{}{endpoints}", auth("devices"), auth("staff"));
    let line = |name: &str, token: &str| run_with_input(&["token", "hash", name], token.as_bytes()).stdout().to_owned();
    let gateway = Gateway::launch(&config, |command| {
        let directory = command.get_current_dir().unwrap();
        let devices = [line("ada", "a1"), line("ada", "a2"), line("bob", "b1")].concat();
        fs::write(directory.join("devices.txt"), devices).unwrap();
        fs::write(directory.join("staff.txt"), line("ada", "a3")).unwrap();
    });
    gateway.port("tls");
    gateway
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn join(gateway: &Gateway, wire: Wire, path: &str, token: &str) -> Raw {
    let mut client = gateway.raw(if wire == Wire::Tls { "tls" } else { "plain" });
    client.upgrade(path, &[&bearer(token)]);
    client
}

/// The head of the answer that refuses a further connection.
fn refused(gateway: &Gateway, path: &str, token: &str) -> String {
    let mut client = gateway.raw("plain");
    client.send(request(path, &[&bearer(token)]).as_bytes());
    let (head, body) = client.answer();
    assert!(
        head.starts_with("HTTP/1.1 429 ") && body.contains("too many connections of this identity"),
        "{head}{body}"
    );
    head
}

fn expect_here(client: &mut Raw) {
    client.send_text("here");
    assert_eq!(client.text(), "here");
}

#[test]
fn s22_an_identity_has_so_many_connections_on_an_endpoint_and_gets_them_back() {
    let endpoint = |path: &str| {
        format!(
            "[[endpoint]]\npath = \"{path}\"\nto = [\"reply\"]\nauth = [\"devices\", \"staff\"]\nmax_identity_connections = 2\n"
        )
    };
    let mut gateway = gateway(&(endpoint("/one/{room}") + &endpoint("/two")));
    // Whichever credential it has, in whichever room.
    let [mut first, mut second] =
        [("/one/1", "a1"), ("/one/2", "a3")].map(|(path, token)| join(&gateway, Wire::Plain, path, token));
    for (path, token) in [("/one/1", "a1"), ("/one/3", "a2"), ("/one/3", "a3")] {
        assert!(refused(&gateway, path, token).contains("\r\nRetry-After: 1\r\n"));
    }
    gateway.wait_for_log("refused with 429: there are too many connections of this identity: its identity has 2 connections, as `max_identity_connections` says");
    // Others, and the same on another endpoint, are not affected.
    let mut others = [("/one/1", "b1"), ("/one/1", "b1"), ("/two", "a1")]
        .map(|(path, token)| join(&gateway, Wire::Tls, path, token));
    others.iter_mut().chain([&mut first, &mut second]).for_each(expect_here);
    first.send(&masked(0x88, &[3, 0xe8]));
    assert_eq!(first.message().first, 0x88);
    first.end();
    eventually("its place is free", DEADLINE, || {
        let mut next = gateway.raw("plain");
        next.send(request("/one/1", &[&bearer("a2")]).as_bytes());
        next.head().starts_with("HTTP/1.1 101 ")
    });
    assert!(gateway.terminate().success());
    assert!(
        gateway
            .log()
            .iter()
            .any(|line| line.contains("refused because of limits") && line.contains("by max_identity_connections"))
    );
}

#[test]
fn s22_a_device_whose_old_line_is_dead_gets_in_at_once_and_nobody_else_notices() {
    for wire in Wire::BOTH {
        // The endpoint is full, too, and replaces nobody for that.
        let gateway = gateway(
            "[[endpoint]]\npath = \"/flow\"\nto = [\"reply\"]\nauth = [\"devices\"]\nmax_connections = 2\n\
             at_capacity = \"refuse\"\nmax_identity_connections = 1\nwhen_identity_full = \"replace\"\n\
             heartbeat = \"off\"\nwrite_timeout = \"off\"\n",
        );
        let mut bob = join(&gateway, wire, "/flow", "b1");
        // Nothing is read from it, and its Close is not answered.
        let mut dead = join(&gateway, wire, "/flow", "a1");
        let dead_id = gateway.id_of(&dead);
        let mut next = join(&gateway, wire, "/flow", "a2");
        let next_id = gateway.id_of(&next);
        gateway.wait_for_log(&format!("client {dead_id}: its place is given to client {next_id}"));
        expect_here(&mut next);
        dead.closed_with(1008, "Replaced");
        expect_here(&mut bob);
        expect_here(&mut next);
    }
}

#[test]
fn s22_two_devices_with_one_identity_are_told_so_and_the_log_names_it_once() {
    let gateway = gateway(
        "[[endpoint]]\npath = \"/flow\"\nto = [\"reply\"]\nauth = [\"devices\"]\nmax_identity_connections = 1\nwhen_identity_full = \"replace\"\n",
    );
    let mut here = join(&gateway, Wire::Plain, "/flow", "a1");
    for turn in 0..5 {
        let mut next = join(&gateway, Wire::Plain, "/flow", if turn % 2 == 0 { "a2" } else { "a1" });
        here.closed_with(1008, "Replaced");
        expect_here(&mut next);
        here = next;
    }
    // Whichever of them comes.
    for token in ["a1", "a2", "a1"] {
        let head = refused(&gateway, "/flow", token);
        let seconds = head.lines().find_map(|line| line.strip_prefix("Retry-After: ")).unwrap().parse::<u64>().unwrap();
        assert!((30..=60).contains(&seconds), "{head}");
    }
    expect_here(&mut here);
    let mut bob = join(&gateway, Wire::Plain, "/flow", "b1");
    expect_here(&mut bob);
    gateway.wait_for_logs("refused with 429", 3);
    let named = gateway.log().into_iter().filter(|line| line.contains("'ada' gets 429")).collect::<Vec<_>>();
    assert!(
        named.len() == 1
            && named[0].contains(" WARN ")
            && named[0].contains("endpoint '/flow': the connections of its identity"),
        "{named:?}"
    );
    // Once it has gone, the place is free and nothing is held against it.
    here.send(&masked(0x88, &[3, 0xe8]));
    eventually("its place is free", DEADLINE, || {
        let mut next = gateway.raw("plain");
        next.send(request("/flow", &[&bearer("a1")]).as_bytes());
        next.head().starts_with("HTTP/1.1 101 ")
    });
    measured("S22", "5 replacements, then 3 of 3 got 429; named 1 time");
}

#[test]
fn s22_a_relays_server_is_not_dialled_for_an_identity_that_gets_no_place() {
    let server = Remote::up();
    let gateway = gateway(&format!(
        "[[endpoint]]\npath = \"/dev\"\nauth = [\"devices\"]\nmax_identity_connections = 1\nwhen_identity_full = \"replace\"\n\
         relay = {{ url = \"{}\", proxy = \"off\" }}\n",
        server.url()
    ));
    let pair = || {
        std::thread::scope(|scope| {
            let joining = scope.spawn(|| join(&gateway, Wire::Plain, "/dev", "a1"));
            let (upstream, _) = server.upgraded(&[]);
            (joining.join().unwrap(), upstream)
        })
    };
    let (mut here, mut upstream) = pair();
    for _ in 0..5 {
        let (next, next_upstream) = pair();
        here.closed_with(1008, "Replaced");
        drop(upstream);
        (here, upstream) = (next, next_upstream);
    }
    refused(&gateway, "/dev", "a2");
    server.expect_nobody();
    here.send_text("up");
    assert_eq!(upstream.text(), "up");
}

#[test]
fn s22_all_devices_of_a_plant_come_back_at_once_while_their_old_lines_are_dead() {
    const DEVICES: usize = 400;
    let config = format!(
        "[gateway]\nmax_connections = 2000\nclose_timeout = \"1h\"\n[log]\nlines_per_second = \"off\"\n{LISTENERS}\
         [[auth]]\nname = \"devices\"\nkind = \"tokens\"\nfile = \"devices.txt\"\n\
         [[endpoint]]\npath = \"/flow\"\nto = [\"reply\"]\nauth = [\"devices\"]\nmax_connections = {DEVICES}\nat_capacity = \"refuse\"\n\
         max_identity_connections = 1\nwhen_identity_full = \"replace\"\nheartbeat = \"off\"\n"
    );
    let gateway = Gateway::launch(&config, |command| {
        let digest = |number: usize| HEXLOWER.encode(&sha256(number.to_string().as_bytes()));
        let lines: String = (0..DEVICES).map(|number| format!("device-{number}:{}\n", digest(number))).collect();
        fs::write(command.get_current_dir().unwrap().join("devices.txt"), lines).unwrap();
    });
    let all = |wire: Wire| -> Vec<Raw> {
        let part = |first: usize| {
            let gateway = &gateway;
            move || -> Vec<Raw> {
                let numbers = (first..DEVICES).step_by(8);
                numbers.map(|number| join(gateway, wire, "/flow", &number.to_string())).collect()
            }
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..8).map(|first| scope.spawn(part(first))).collect();
            parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
        })
    };
    // None of these ever answers its Close.
    let dead = all(Wire::Plain);
    let threads = gateway.threads();
    let since = Instant::now();
    let mut back = all(Wire::Plain);
    measured("S22", format!("{DEVICES} devices were back after {:?}", since.elapsed()));
    back.iter_mut().for_each(expect_here);
    eventually("a bounded number of old ones is left", DEADLINE, || gateway.threads() <= threads + 64);
    drop(dead);
}
