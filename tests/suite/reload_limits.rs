//! The limits of the whole gateway, changed by a reload: they hold for whoever comes from then on, also beside those who are
//! there, and throw nobody out.

use crate::harness::reloads::{LISTEN, Reloads, endpoint};
use crate::harness::{DEADLINE, Gateway, Raw, Wire, eventually, measured, request};

/// What a new client from this address is told, and the client.
fn come_from(gateway: &Gateway, last: u8) -> (u16, Raw) {
    come(gateway, last, &[])
}

fn come(gateway: &Gateway, last: u8, headers: &[&str]) -> (u16, Raw) {
    let mut client = Raw::plain_from([127, 0, 0, last].into(), gateway.port("plain"));
    client.send(request("/", headers).as_bytes());
    (client.head().split(' ').nth(1).unwrap().parse().unwrap(), client)
}

/// The gateway with these lines of `[gateway]`.
fn config(lines: &str) -> String {
    format!("[gateway]\n{lines}\n{}", endpoint("/", "to = [\"reply\"]"))
}

fn start(lines: &str) -> Gateway {
    Gateway::start(&format!("{LISTEN}{}", config(lines)))
}

fn all_are_here(clients: &mut [Raw]) {
    for client in clients {
        client.send_text("still here");
        assert_eq!(client.text(), "still here");
    }
}

#[test]
fn fewer_connections_of_the_gateway_keep_out_who_comes_and_more_let_in() {
    let gateway = start("max_connections = 1000");
    let mut reloads = Reloads::of(&gateway);
    let mut clients: Vec<Raw> = (0..3).map(|_| gateway.client(Wire::Plain, "/")).collect();
    let line = reloads.put(&format!("{}max_connections = 2\n", config("max_connections = 2")));
    assert!(line.contains("[gateway] max_connections changed") && !line.contains("restart"), "{line}");
    for left in [3, 2] {
        assert_eq!(come_from(&gateway, 2).0, 503, "{left} are there");
        all_are_here(&mut clients);
        drop(clients.pop());
        gateway.wait_for_logs(": disconnected", 4 - left);
    }
    eventually("there is room for one again", DEADLINE, || come_from(&gateway, 2).0 == 101);
    reloads.put(&format!("{}max_connections = 3\n", config("max_connections = 3")));
    let more: Vec<_> = (0..2).map(|_| come_from(&gateway, 2)).collect();
    assert_eq!(more.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [101, 101]);
    assert_eq!(come_from(&gateway, 2).0, 503);
    all_are_here(&mut clients);
    measured("L1", "max_connections 1000, 2, 3 by reloads: nobody was thrown out, and each held for the next client");
}

#[test]
fn l2_a_limit_of_each_address_that_comes_counts_who_is_there() {
    let gateway = start("");
    let mut reloads = Reloads::of(&gateway);
    let mut held: Vec<Raw> = (0..3).map(|_| come_from(&gateway, 2).1).collect();
    reloads.put(&config("max_address_connections = 2"));
    assert_eq!((come_from(&gateway, 2).0, come_from(&gateway, 3).0), (429, 101));
    all_are_here(&mut held);
    reloads.put(&config("max_address_connections = 4"));
    let (status, fourth) = come_from(&gateway, 2);
    assert_eq!((status, come_from(&gateway, 2).0), (101, 429));
    reloads.put(&config("address_rate = { per_second = 1, burst = 2 }"));
    let statuses = [(); 3].map(|()| come_from(&gateway, 2).0);
    assert_eq!((statuses, come_from(&gateway, 3).0), ([101, 101, 429], 101));
    reloads.put(&config(""));
    assert!((0..8).all(|_| come_from(&gateway, 2).0 == 101));
    drop(fourth);
    all_are_here(&mut held);
}

#[test]
fn s20_another_limit_of_wrong_credentials_holds_from_the_next_one_on() {
    let auth = "auth = [\"devices\"]";
    let config = |limit: &str| {
        format!(
            "[gateway]\nfailed_credentials = {limit}\n[[auth]]\nname = \"devices\"\nkind = \"tokens\"\n\
             file = \"tokens.txt\"\n{}",
            endpoint("/", &format!("to = [\"reply\"]\n{auth}"))
        )
    };
    let gateway = Gateway::start_with(&format!("{LISTEN}{}", config("\"off\"")), |command| {
        let file = command.get_current_dir().unwrap().join("tokens.txt");
        crate::auth::write(&file, &format!("press-3:{}\n", "0".repeat(64)));
    });
    let mut reloads = Reloads::of(&gateway);
    let wrong = || come(&gateway, 2, &["Authorization: Bearer hunter2"]).0;
    assert_eq!([(); 30].map(|()| wrong()), [401; 30]);
    let two = config("{ most = 2, within = \"1h\" }");
    reloads.put(&two);
    assert_eq!([(); 3].map(|()| wrong()), [401, 401, 429]);
    // The same once more is no fresh start for whoever guesses.
    reloads.put(&format!("{two}max_message = \"2KiB\"\n"));
    assert_eq!(wrong(), 429);
    reloads.put(&config("{ most = 3, within = \"1h\" }"));
    assert_eq!([(); 4].map(|()| wrong()), [401, 401, 401, 429]);
}

#[test]
fn c11_fewer_handshakes_have_only_those_give_way_for_whom_somebody_comes() {
    let gateway = start("max_handshakes = 100");
    let mut reloads = Reloads::of(&gateway);
    let silent = || Raw::plain_from([127, 0, 0, 2].into(), gateway.port("plain"));
    let threads = gateway.threads();
    let mut first: Vec<Raw> = (0..3).map(|_| silent()).collect();
    eventually("all three are in their handshake", DEADLINE, || gateway.threads() == threads + 3);
    reloads.put(&config("max_handshakes = 2"));
    // All three may still finish.
    first[0].upgrade("/", &[]);
    all_are_here(&mut first[..1]);
    let second = [(); 2].map(|()| silent());
    assert_eq!(come_from(&gateway, 3).0, 101, "whoever comes takes the place of another one");
    for client in &mut first[1..] {
        assert!(client.is_gone_within(DEADLINE), "a fourth handshake where there are two places");
    }
    drop(second);
    reloads.put(&config("max_handshakes = 100"));
    let mut many: Vec<Raw> = (0..20).map(|_| silent()).collect();
    many.iter_mut().for_each(|client| drop(client.upgrade("/", &[])));
    all_are_here(&mut many);
}
