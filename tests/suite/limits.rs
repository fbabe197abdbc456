//! What one client may take, and what happens when the gateway or the system has no more to give: a client that is
//! one too many is refused, the others do not notice, and the gateway goes on afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Attack, Canary, DEADLINE, Frame, Gateway, Raw, Wire, by_way_of, eventually, masked, measured, nobody, pass,
    request, run_as,
};

/// The write timeout of the endpoints that have one.
const WRITE: Duration = Duration::from_secs(2);

fn config(gateway: &str) -> String {
    format!(
        r#"
[gateway]
close_timeout = "1s"
{gateway}

[[listen]]
name = "plain"
address = "127.0.0.1:0"

[[endpoint]]
path = "/canary"
to = ["reply"]
heartbeat = "off"
write_timeout = "2s"

[[endpoint]]
path = "/many"
max_connections = 200

[[endpoint]]
path = "/two"
max_connections = 2

[[endpoint]]
path = "/refuses"
max_connections = 2
at_capacity = "refuse"

[[endpoint]]
path = "/drop_oldest"
write_timeout = "off"
heartbeat = "off"
queue = {{ messages = 64, bytes = "64KiB", when_full = "drop_oldest" }}

[[endpoint]]
path = "/drop_newest"
write_timeout = "off"
heartbeat = "off"
queue = {{ messages = 64, bytes = "64KiB", when_full = "drop_newest" }}

[[endpoint]]
path = "/disconnect"
heartbeat = "off"
queue = {{ messages = 64, bytes = "64KiB", when_full = "disconnect" }}

[[endpoint]]
path = "/paced/drop_oldest"
write_timeout = "off"
heartbeat = "off"
queue = {{ messages = 4096, bytes = "4MiB", when_full = "drop_oldest" }}

[[endpoint]]
path = "/paced/disconnect"
write_timeout = "off"
heartbeat = "off"
queue = {{ messages = 4096, bytes = "4MiB", when_full = "disconnect" }}

[[endpoint]]
path = "/slow"
heartbeat = "off"
write_timeout = "2s"
"#
    )
}

/// The answer to an upgrade request: its status, and the client if it was accepted.
fn try_upgrade(gateway: &Gateway, path: &str) -> (String, Raw) {
    let mut client = gateway.raw("plain");
    client.send(request(path, &[]).as_bytes());
    (client.head(), client)
}

fn is_accepted(head: &str) -> bool {
    head.starts_with("HTTP/1.1 101 ")
}

fn is_told_to_retry(head: &str) -> bool {
    head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: ")
}

/// Broadcasts in closed loop until `enough` or all is sent; the sender sees every message.
fn broadcast(sender: &mut Raw, messages: usize) {
    let payload = vec![b'm'; 16 << 10];
    for number in 0..messages {
        sender.send(&masked(0x82, &[&number.to_be_bytes()[..], &payload].concat()));
        let frame = sender.frame();
        assert_eq!(frame.payload[..8], number.to_be_bytes(), "the reader that reads loses nothing");
    }
}

#[test]
fn f13_a_client_that_never_reads_meets_its_policy_and_the_others_lose_nothing() {
    let gateway = Gateway::start(&config(""));
    let mut canary = Canary::connect(&gateway);
    for path in ["/drop_oldest", "/drop_newest", "/disconnect"] {
        let mut silent = gateway.raw("plain");
        silent.upgrade(path, &[]);
        let mut sender = gateway.raw("plain");
        sender.upgrade(path, &[]);
        // 32 MiB: far more than the kernel's buffers on both sides hold.
        broadcast(&mut sender, 2000);
        canary.check_echo(path);
        silent.socket().shutdown(std::net::Shutdown::Both).unwrap();
        let line = gateway.wait_for_log(&format!("disconnected from '{path}'"));
        let dropped: u64 = line.trim_end_matches(" dropped").rsplit(' ').next().unwrap().parse().unwrap();
        assert!(dropped > 0, "{line}");
        // It was shut down with the Close still in the queue.
        let too_slow = "code 1006, reason 'Too slow (the Close with 1008 never left)'";
        assert_eq!(line.contains(too_slow), path == "/disconnect", "{line}");
    }
}

#[test]
fn a_client_that_takes_nothing_is_cut_at_the_write_timeout() {
    let gateway = Gateway::start(&config(""));
    let mut canary = Canary::connect(&gateway);
    let mut silent = gateway.raw("plain");
    silent.upgrade("/slow", &[]);
    let mut sender = gateway.raw("plain");
    sender.upgrade("/slow", &[]);
    broadcast(&mut sender, 1000);
    let line = gateway.wait_for_log("disconnected from '/slow'");
    assert!(line.contains("code 1006"), "{line}");
    canary.check_echo("a cut client");
}

#[test]
fn f10_a_flood_of_pings_from_a_client_that_reads_no_pong_costs_no_memory_and_is_cut() {
    let gateway = Gateway::start(&config(""));
    let mut attack = Attack::begin("F10", &gateway);
    let mut flooder = gateway.raw("plain");
    flooder.upgrade("/canary", &[]);
    let flood = masked(0x89, &[b'p'; 125]).repeat(1000);
    let since = Instant::now();
    let mut rounds = 0;
    while flooder.send_or_end(&flood).is_ok() {
        let took = since.elapsed();
        assert!(took < WRITE + Duration::from_secs(4), "a client that takes nothing was not cut in {took:?}");
        rounds += 1;
        if rounds % 100 == 0 {
            attack.check_echo("a flood of pings");
            attack.costs_less_than_kib(8 << 10);
        }
    }
    let took = since.elapsed();
    assert!(took < WRITE + Duration::from_secs(4), "cut after {took:?}");
    attack.end(format!("{rounds},000 pings, none of their pongs read: cut after {took:.1?} of {WRITE:?}"));
}

#[test]
fn f10_a_flood_of_pings_from_a_client_that_reads_is_answered() {
    let gateway = Gateway::start(&config(""));
    let mut attack = Attack::begin("F10", &gateway);
    let mut flooder = gateway.raw("plain");
    flooder.upgrade("/canary", &[]);
    let mut pongs = 0;
    for round in 0..300_u32 {
        let pings = (0..100_u32).flat_map(|number| masked(0x89, &(round * 100 + number).to_be_bytes()));
        flooder.send(&pings.collect::<Vec<_>>());
        // A pong may answer all pings before it, and the last one has its own.
        let mut answered = None;
        while answered != Some(round * 100 + 99) {
            let pong = flooder.frame();
            assert_eq!(pong.first, 0x8a);
            let number = u32::from_be_bytes(pong.payload.try_into().unwrap());
            assert!(answered.is_none_or(|before| before < number), "{number} after {answered:?}");
            answered = Some(number);
            pongs += 1;
        }
        if round % 10 == 0 {
            attack.check_echo("a flood of pings");
        }
    }
    attack.costs_less_than_kib(8 << 10);
    attack.end(format!("30,000 pings, {pongs} pongs read"));
}

/// The clients of F13 that read, and how many messages each of them gets: together many more than a queue holds, but in
/// each round less than half of a queue, so that a reader may be behind by a whole round.
const READERS: usize = 11;
const ROUNDS: u32 = 30;
const PER_ROUND: u32 = 100;

/// One of the readers publishes messages of 10 KiB in rounds. Each reader gets every message of a round, in order,
/// before the next round begins.
fn publish_in_rounds(readers: &mut [Raw]) {
    for round in 0..ROUNDS {
        let numbers = round * PER_ROUND..(round + 1) * PER_ROUND;
        for number in numbers.clone() {
            let mut payload = vec![b'm'; 10 << 10];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            readers[0].send(&masked(0x82, &payload));
        }
        for reader in &mut *readers {
            for number in numbers.clone() {
                let payload = reader.frame().payload;
                assert_eq!((payload.len(), &payload[..4]), (10 << 10, &number.to_be_bytes()[..]), "a message was lost");
            }
        }
    }
}

/// Checks what needs no clock: the others lose no message. How long they wait beside clients that never read is
/// measured by `cargo bench --bench attacks -- never-read`, with the gateway on one core.
#[test]
fn f13_clients_that_read_lose_nothing_beside_one_that_never_does() {
    let gateway = Gateway::start(&config(""));
    for (path, ending) in [("/paced/drop_oldest", "code 1006"), ("/paced/disconnect", "reason 'Too slow (the Close")] {
        let mut readers: Vec<Raw> = (0..READERS).map(|_| gateway.client(Wire::Plain, path)).collect();
        let mut attack = Attack::begin("F13", &gateway);
        let mut frozen = gateway.narrow_client(Wire::Plain, path);
        let id = gateway.id_of(&frozen);
        publish_in_rounds(&mut readers);
        attack.check_echo("a client that never reads");
        // Its queue holds 4 MiB.
        attack.costs_less_than_kib((4 + 8) << 10);
        frozen.socket().shutdown(std::net::Shutdown::Both).unwrap();
        frozen.cut_off();
        let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
        let dropped: u64 = line.trim_end_matches(" dropped").rsplit(' ').next().unwrap().parse().unwrap();
        assert!(line.contains(ending) && dropped > 0, "{line}");
        let full = gateway.log().iter().filter(|line| line.contains(&id) && line.contains("queue is full")).count();
        assert_eq!(full, 1);
        let all = ROUNDS * PER_ROUND;
        attack.end(format!("{path}: {READERS} of {READERS} got all {all} of 10 KiB beside one that lost {dropped}"));
    }
}

/// Checks that the others are served while the flood goes on. How long they wait beside floods of pings and of
/// fragments is measured by `cargo bench --bench attacks -- ping-flood fragments`. Here only the canary has a time
/// limit, the same as in every attack.
#[test]
fn f14_a_flood_of_messages_from_one_client_does_not_hold_the_others() {
    const ECHOES: usize = 100;
    let gateway = Gateway::start(&config(""));
    for path in ["/canary", "/drop_oldest"] {
        let mut attack = Attack::begin("F14", &gateway);
        let mut others: Vec<Raw> = (0..5).map(|_| gateway.client(Wire::Plain, "/canary")).collect();
        let mut flooder = gateway.client(Wire::Plain, path);
        let mut writer = flooder.writer();
        let (sent, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let batch = masked(0x81, b"as fast as it goes").repeat(1000);
                while !is_over.load(Ordering::Relaxed) {
                    writer.send(&batch);
                    sent.fetch_add(1000, Ordering::Relaxed);
                }
                writer.end_sending();
            });
            // It reads what comes back, or it would only be held by its own replies.
            scope.spawn(|| flooder.discard_until_end());
            for number in 0..ECHOES {
                let before = sent.load(Ordering::Relaxed);
                attack.check_echo("a flood of messages");
                for other in &mut others {
                    other.send_text(&number.to_string());
                    assert_eq!(other.text(), number.to_string());
                }
                eventually("the flood goes on", DEADLINE, || sent.load(Ordering::Relaxed) > before);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let sent = sent.into_inner();
        attack.end(format!("{} others got all {ECHOES} echoes beside {sent} messages to '{path}'", others.len()));
    }
}

#[test]
fn l1_a_client_beyond_the_limit_of_the_gateway_gets_503_and_a_place_is_free_again_after_a_close() {
    const PLACES: usize = 200;
    let gateway = Gateway::start(&config(&format!("max_connections = {PLACES}")));
    let mut canary = Canary::connect(&gateway);
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..PLACES + 50 {
        let (head, client) = try_upgrade(&gateway, "/many");
        if is_accepted(&head) {
            held.push(client);
        } else {
            assert!(is_told_to_retry(&head), "{head}");
            refused += 1;
            canary.check_echo("a refusal");
        }
    }
    // The canary has a place too.
    assert_eq!((held.len(), refused), (PLACES - 1, 51));
    held[0].send(&masked(0x81, b"all here"));
    for client in &mut held {
        assert_eq!(client.frame(), Frame::text("all here"));
    }
    let freed = Instant::now();
    drop(held.pop());
    eventually("a place is free", Duration::from_secs(3), || is_accepted(&try_upgrade(&gateway, "/many").0));
    let again = freed.elapsed();
    measured("L1", format!("{PLACES} held and alive, {refused} refused with 503, accepts {again:.1?} after a close"));
    assert!(again < Duration::from_secs(3), "{again:?}");
}

#[test]
fn a_client_beyond_the_limit_of_an_endpoint_is_closed_or_refused_as_at_capacity_says() {
    let gateway = Gateway::start(&config(""));
    let mut canary = Canary::connect(&gateway);
    for path in ["/two", "/refuses"] {
        let mut held: Vec<Raw> = (0..2)
            .map(|_| {
                let (head, client) = try_upgrade(&gateway, path);
                assert!(is_accepted(&head), "{head}");
                client
            })
            .collect();
        for _ in 0..5 {
            let (head, mut beyond) = try_upgrade(&gateway, path);
            if path == "/two" {
                assert!(is_accepted(&head), "{head}");
                assert_eq!(beyond.frame(), Frame::close(1013, "Server at capacity"));
                beyond.end();
            } else {
                assert!(is_told_to_retry(&head), "{head}");
            }
            canary.check_echo(path);
        }
        held[0].send(&masked(0x88, &[3, 0xe8]));
        assert_eq!(held[0].frame().first, 0x88);
        eventually("a place is free", Duration::from_secs(3), || {
            let (head, mut next) = try_upgrade(&gateway, path);
            next.send(&masked(0x81, b"mine"));
            is_accepted(&head) && next.frame() == Frame::text("mine")
        });
    }
}

#[test]
fn c11_who_opens_connections_and_says_nothing_keeps_out_nobody_else() {
    const PLACES: usize = 20;
    let gateway = Gateway::start(&config(&format!("max_handshakes = {PLACES}\nhandshake_timeout = \"60s\"")));
    let mut attack = Attack::begin("C11", &gateway);
    let mut slow = Raw::plain_from([127, 0, 0, 2].into(), gateway.port("plain"));
    let request = request("/canary", &[]);
    let mut silent = Vec::new();
    // Each piece of its request comes behind more silent connections than there are places.
    for piece in request.as_bytes().chunks(request.len().div_ceil(5)) {
        slow.send(piece);
        silent.extend((0..2 * PLACES).map(|_| gateway.raw("plain")));
        // One from the flood's own address gets in, and as it was accepted after the others, so have they been.
        assert!(is_accepted(&try_upgrade(&gateway, "/canary").0));
        attack.check_echo("silent connections");
    }
    assert!(is_accepted(&slow.head()), "it was kept out");
    let held = silent.len();
    for old in &mut silent[..held - PLACES] {
        old.end();
    }
    gateway.wait_for_log("20 handshakes are not finished, and most of them come from 127.0.0.1");
    drop((silent, slow));
    attack.gives_back_within(DEADLINE / 2);
    attack.end(format!("{held} silent connections for {PLACES} places, 6 of 6 others let in"));
}

/// Tries 120 clients, of which only some can have a thread, and then whether threads start again.
fn l4_exhaust_threads(gateway: &Gateway, with: &str) {
    let mut canary = Canary::connect(gateway);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..120 {
        let (head, client) = try_upgrade(gateway, "/many");
        if is_accepted(&head) {
            held.push(client);
        } else {
            assert!(is_told_to_retry(&head), "{head}");
            refused += 1;
        }
        canary.check_echo("a thread that was not started");
    }
    assert!(!held.is_empty() && refused > 0, "{} held, {refused} refused", held.len());
    assert!(gateway.wait_for_log("refused a connection").contains("failed to start a thread"));
    held[0].send(&masked(0x81, b"all here"));
    for client in &mut held {
        assert_eq!(client.frame(), Frame::text("all here"));
    }
    let held_most = held.len();
    drop(held);
    let freed = Instant::now();
    eventually("threads start again", DEADLINE / 2, || is_accepted(&try_upgrade(gateway, "/many").0));
    let again = freed.elapsed();
    measured(
        "L4",
        format!("{with}: {held_most} held and alive, {refused} refused with 503, accepts {again:.1?} after"),
    );
    assert!(gateway.log().iter().all(|line| !line.contains("panicked")), "a thread panicked");
}

#[test]
fn l4_a_thread_that_has_no_memory_refuses_one_client_with_503() {
    // 32 MiB of address space a client in 1 GiB: some get a thread, the others cannot.
    let gateway = Gateway::start_limited(&config("client_stack = \"32MiB\""), "--as=1073741824");
    l4_exhaust_threads(&gateway, "1 GiB of address space");
}

#[test]
fn l4_a_thread_that_the_system_does_not_grant_refuses_one_client_with_503() {
    let Some(user) = nobody() else { return measured("L4", "skipped: only root can become another user") };
    // No limit of processes holds for root.
    let gateway = Gateway::start_with(&config(""), |command| run_as(user, &["--nproc=40"], command));
    l4_exhaust_threads(&gateway, "40 threads of a user");
}

#[test]
fn l4_a_thread_beyond_the_limit_of_its_cgroup_refuses_one_client_with_503() {
    let Some(group) = PidsGroup::new(40) else {
        return measured("L4", "skipped: no cgroup with pids.max can be made here");
    };
    let gateway = Gateway::start_with(&config(""), |command| {
        let enter = "echo $$ > \"$0\"/cgroup.procs && exec \"$@\"";
        by_way_of(&["sh".as_ref(), "-c".as_ref(), enter.as_ref(), group.0.as_os_str()], command);
    });
    l4_exhaust_threads(&gateway, "pids.max = 40");
}

/// A cgroup for one test, in which there may be only so many threads.
struct PidsGroup(PathBuf);

impl PidsGroup {
    fn new(most: usize) -> Option<PidsGroup> {
        let name = format!("wsgate-test-{}", std::process::id());
        ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].iter().find_map(|root| {
            let group = PidsGroup(Path::new(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            // A directory that is no cgroup has no such file, and must not get one.
            fs::OpenOptions::new().write(true).open(group.0.join("pids.max")).ok()?;
            fs::write(group.0.join("pids.max"), most.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn l3_without_descriptors_the_accept_loop_waits_without_spinning_and_goes_on() {
    let gateway = Gateway::start_limited(&config(""), "--nofile=64");
    let mut canary = Canary::connect(&gateway);
    let beyond: Vec<Raw> = (0..100).map(|_| gateway.raw("plain")).collect();
    gateway.wait_for_log("failed to accept");
    let lines = || gateway.log().iter().filter(|line| line.contains("failed to accept")).count();
    let (before, lines_before) = (gateway.processor_time(), lines());
    // What is measured is time in which nothing happens, so there is nothing to wait for.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        canary.check_echo("the last descriptor");
        pass(Duration::from_millis(100));
    }
    let spent = gateway.processor_time().saturating_sub(before);
    let lines = lines() - lines_before;
    drop(beyond);
    let freed = Instant::now();
    assert!(is_accepted(&try_upgrade(&gateway, "/canary").0));
    let served = freed.elapsed();
    measured("L3", format!("{spent:.1?} of processor time and {lines} lines in 3 s, serves {served:.1?} after"));
    assert!(spent < Duration::from_millis(200), "{spent:?} of processor time in 3 s");
    assert!(lines <= 3 + 1, "{lines} lines in 3 s");
    assert!(served < Duration::from_secs(2), "served {served:?} after");
    gateway.wait_for_log("accepting connections again");
}
