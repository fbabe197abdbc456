//! The guarantees of delivery: which clients get what, in which order, and that a client that does not read
//! takes nothing from the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Frame, Gateway, Raw, Wire, masked, with_any_deliverers};

/// An endpoint for each destination and a few combined.
const CONFIG: &str = r#"
[[endpoint]]
path = "/broadcast"
to = ["broadcast"]

[[endpoint]]
path = "/others"
to = ["others"]

[[endpoint]]
path = "/echo"
to = ["reply"]

[[endpoint]]
path = "/sink"
to = []

[[endpoint]]
path = "/rooms/{room}"
to = ["reply", "others", "endpoint:/dash/{room}"]

[[endpoint]]
path = "/dash/{room}"
to = []

[[endpoint]]
path = "/dash/admin"
to = ["broadcast"]
"#;

/// The number at the beginning of a message.
fn number(frame: &Frame) -> usize {
    assert!(matches!(frame.first, 0x81 | 0x82), "no message but {frame:?}");
    let text = String::from_utf8_lossy(&frame.payload[..frame.payload.len().min(20)]).into_owned();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number in {text:?}"))
}

/// A binary message of this size that begins with its number.
fn numbered(number: usize, size: usize) -> Vec<u8> {
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(size.max(payload.len()), b'.');
    payload
}

#[test]
fn a_room_sees_all_messages_in_one_order_in_which_each_senders_own_order_holds() {
    const SENDERS: usize = 4;
    const EACH: usize = 500;
    with_any_deliverers(CONFIG, |gateway| {
        let client = |index: usize| gateway.client(Wire::BOTH[index % 2], "/broadcast");
        let receivers: Vec<_> = (0..10).map(client).collect();
        let senders: Vec<_> = (0..SENDERS).map(client).collect();
        let receive = |mut client: Raw| (0..SENDERS * EACH).map(|_| client.text()).collect::<Vec<_>>();
        let orders: Vec<Vec<String>> = thread::scope(|scope| {
            let receivers: Vec<_> = receivers.into_iter().map(|client| scope.spawn(move || receive(client))).collect();
            let senders = senders.into_iter().enumerate().map(|(sender, mut client)| {
                scope.spawn(move || {
                    (0..EACH).for_each(|number| client.send_text(&format!("{sender} {number}")));
                    receive(client)
                })
            });
            let senders: Vec<_> = senders.collect();
            receivers.into_iter().chain(senders).map(|thread| thread.join().unwrap()).collect()
        });
        let first = &orders[0];
        for (client, order) in orders.iter().enumerate() {
            assert!(order == first, "client {client} saw another order");
        }
        for sender in 0..SENDERS {
            let own: Vec<_> = first.iter().filter(|text| text.starts_with(&format!("{sender} "))).collect();
            let sent: Vec<_> = (0..EACH).map(|number| format!("{sender} {number}")).collect();
            assert!(own.iter().copied().eq(&sent), "sender {sender}: {own:?}");
        }
    });
}

#[test]
fn broadcast_includes_the_sender_and_others_does_not() {
    with_any_deliverers(CONFIG, |gateway| {
        for wire in Wire::BOTH {
            let [mut one, mut other] = [gateway.client(wire, "/broadcast"), gateway.client(wire, "/broadcast")];
            one.send_text("to all");
            assert_eq!([one.text(), other.text()], ["to all", "to all"]);

            let [mut one, mut other] = [gateway.client(wire, "/others"), gateway.client(wire, "/others")];
            one.send_text("from one");
            assert_eq!(other.text(), "from one");
            other.send_text("from the other");
            // Its own message, had it come back, would have come before.
            assert_eq!(one.text(), "from the other");
            other.send(&masked(0x89, b"nothing before this"));
            assert_eq!(other.frame(), Frame { first: 0x8a, payload: b"nothing before this".to_vec() });
        }
    });
}

#[test]
fn each_of_several_senders_to_others_gets_all_but_its_own_in_one_order() {
    const SENDERS: usize = 6;
    const EACH: usize = 200;
    with_any_deliverers(CONFIG, |gateway| {
        let mut listener = gateway.client(Wire::Plain, "/others");
        let senders: Vec<_> = (0..SENDERS).map(|index| gateway.client(Wire::BOTH[index % 2], "/others")).collect();
        let seen: Vec<Vec<String>> = thread::scope(|scope| {
            let threads: Vec<_> = senders
                .into_iter()
                .enumerate()
                .map(|(sender, mut client)| {
                    scope.spawn(move || {
                        (0..EACH).for_each(|number| client.send_text(&format!("{sender} {number}")));
                        (0..(SENDERS - 1) * EACH).map(|_| client.text()).collect()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let all: Vec<_> = (0..SENDERS * EACH).map(|_| listener.text()).collect();
        for (sender, seen) in seen.iter().enumerate() {
            let own = format!("{sender} ");
            assert!(all.iter().filter(|text| !text.starts_with(&own)).eq(seen), "sender {sender} saw another order");
        }
    });
}

#[test]
fn a_message_goes_to_all_its_destinations_and_to_no_other_room() {
    with_any_deliverers(CONFIG, |gateway| {
        for wire in Wire::BOTH {
            let client = |path| gateway.client(wire, path);
            let [mut sender, mut neighbour] = [client("/rooms/7"), client("/rooms/7")];
            let [mut dash, mut other_dash] = [client("/dash/7"), client("/dash/8")];
            let mut other_room = client("/rooms/8");
            sender.send_text("seven");
            assert_eq!([sender.text(), neighbour.text(), dash.text()], ["seven", "seven", "seven"]);
            other_room.send_text("eight");
            assert_eq!([other_room.text(), other_dash.text()], ["eight", "eight"]);
            // No client got anything before, and none gets anything more.
            for client in [&mut sender, &mut neighbour, &mut dash, &mut other_dash, &mut other_room] {
                client.send(&masked(0x88, &1000u16.to_be_bytes()));
                assert_eq!(client.frame(), Frame::close(1000, ""));
                client.end();
            }
        }
    });
}

#[test]
fn a_room_named_as_an_exact_endpoint_does_not_reach_it() {
    with_any_deliverers(CONFIG, |gateway| {
        let [mut room, mut admin] =
            [gateway.client(Wire::Plain, "/rooms/admin"), gateway.client(Wire::Plain, "/dash/admin")];
        room.send_text("from the room");
        assert_eq!(room.text(), "from the room");
        admin.send_text("from the admin");
        assert_eq!(admin.text(), "from the admin");
    });
}

#[test]
fn an_endpoint_without_destinations_reads_counts_and_discards() {
    with_any_deliverers(CONFIG, |gateway| {
        for wire in Wire::BOTH {
            let [mut sender, mut neighbour] = [gateway.client(wire, "/sink"), gateway.client(wire, "/sink")];
            let id = gateway.id_of(&sender);
            (0..100).for_each(|_| sender.send_text("into nothing"));
            for client in [&mut sender, &mut neighbour] {
                client.send(&masked(0x88, &1000u16.to_be_bytes()));
                assert_eq!(client.frame(), Frame::close(1000, ""));
                client.end();
            }
            let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
            assert!(line.contains("100 messages (1200 bytes) received, 0 messages"), "{line}");
        }
    });
}

#[test]
fn a_client_that_has_seen_the_101_misses_nothing_published_after_it() {
    const CONNECTS: usize = 40;
    const EACH: usize = 20;
    with_any_deliverers(CONFIG, |gateway| {
        let (begun, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut publisher = gateway.client(Wire::Plain, "/broadcast");
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let number = begun.fetch_add(1, Ordering::AcqRel) + 1;
                    publisher.send_text(&number.to_string());
                    assert_eq!(publisher.text(), number.to_string());
                }
            });
            let _done = DoneAtEnd(&done);
            let connectors: Vec<_> = Wire::BOTH
                .into_iter()
                .map(|wire| {
                    let begun = &begun;
                    scope.spawn(move || {
                        for _ in 0..CONNECTS {
                            let mut client = gateway.client(wire, "/broadcast");
                            let next = begun.load(Ordering::Acquire) + 1;
                            let first = number(&client.frame());
                            assert!(first <= next, "{next} was published after the 101, but {first} came first");
                            for expected in (first + 1..).take(EACH) {
                                assert_eq!(number(&client.frame()), expected, "after {first}");
                            }
                        }
                    })
                })
                .collect();
            connectors.into_iter().for_each(|connector| connector.join().unwrap());
        });
    });
}

/// Tells the threads of a test that it is over, also when it has failed.
struct DoneAtEnd<'a>(&'a AtomicBool);

impl Drop for DoneAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_client_that_does_not_read_its_replies_holds_only_itself_and_is_not_taken_for_dead() {
    const MESSAGES: usize = 100;
    const SIZE: usize = 16 << 10;
    let config = r#"
[[endpoint]]
path = "/echo"
to = ["reply"]
heartbeat = "1s"
pong_timeout = "1s"
queue = { messages = 16, bytes = "256KiB" }
"#;
    with_any_deliverers(config, |gateway| {
        let mut held = gateway.narrow_client(Wire::Plain, "/echo");
        let mut sender = held.writer();
        let mut other = gateway.client(Wire::Tls, "/echo");
        thread::scope(|scope| {
            // Far more than its queue and the kernel's buffers hold: this blocks until it reads.
            scope.spawn(move || (0..MESSAGES).for_each(|number| sender.send(&masked(0x82, &numbered(number, SIZE)))));
            // Long enough for the heartbeat to give up on a client that it counts as silent: the
            // other one, which is quiet but answers, is pinged again and again in that time.
            (0..3).for_each(|_| other.pinged());
            other.send_text("not held");
            assert_eq!(other.text(), "not held");
            let lines = gateway.log();
            assert!(!lines.iter().any(|line| line.contains("disconnected")), "{lines:?}");
            held.widen();
            for expected in 0..MESSAGES {
                let echo = held.message();
                assert_eq!((number(&echo), echo.payload.len()), (expected, SIZE));
            }
        });
        held.send_text("as ever");
        assert_eq!(held.text(), "as ever");
    });
}

#[test]
fn the_others_get_everything_although_one_client_is_frozen() {
    const CLIENTS: usize = 19;
    const MESSAGES: usize = 120;
    const SIZE: usize = 64 << 10;
    const WINDOW: usize = 4;
    with_any_deliverers(CONFIG, |gateway| {
        let frozen = gateway.narrow_client(Wire::Plain, "/broadcast");
        let frozen_id = gateway.id_of(&frozen);
        let clients: Vec<_> =
            (0..CLIENTS).map(|index| gateway.client(Wire::BOTH[usize::from(index % 4 == 0)], "/broadcast")).collect();
        let mut publisher = gateway.client(Wire::Plain, "/broadcast");
        thread::scope(|scope| {
            for mut client in clients {
                scope.spawn(move || (0..MESSAGES).for_each(|sent| assert_eq!(number(&client.message()), sent)));
            }
            for sent in 0..MESSAGES + WINDOW {
                if sent < MESSAGES {
                    publisher.send(&masked(0x82, &numbered(sent, SIZE)));
                }
                if let Some(echoed) = sent.checked_sub(WINDOW) {
                    assert_eq!(number(&publisher.message()), echoed);
                }
            }
        });
        gateway.wait_for_log(&format!("client {frozen_id}: its queue is full: messages for it are dropped"));
        drop(frozen);
        let line = gateway.wait_for_log(&format!("client {frozen_id}: disconnected"));
        assert!(!line.contains(" 0 dropped"), "{line}");
    });
}

/// How many numbered messages the gateway is given for a client that takes none, and their size.
/// They are more than the kernel holds for it.
const FLOOD: usize = 150;
const FLOOD_SIZE: usize = 8 << 10;

/// The messages that may wait for a client of [`flooded`].
const QUEUE: usize = 8;

/// A client in the room `/flood` of which nothing was read while [`FLOOD`] messages were published,
/// one at a time, and the publisher, who has seen all of them delivered. Both are in the room.
fn flooded(gateway: &Gateway, wire: Wire) -> (Raw, String, Raw) {
    let frozen = gateway.narrow_client(wire, "/flood");
    let id = gateway.id_of(&frozen);
    // Clients are divided among the deliverers by their id, and one deliverer serves its clients of a
    // room in the order in which they came: what a publisher of the same share has, the frozen one
    // had. Three is right without deliverers, too: clients of the same third are clients of the same whole.
    let share = |id: &str| u64::from_str_radix(id, 16).unwrap() % 3;
    let mut publisher = loop {
        let candidate = gateway.client(Wire::Plain, "/flood");
        if share(&gateway.id_of(&candidate)) == share(&id) {
            break candidate;
        }
    };
    for sent in 0..FLOOD {
        publisher.send(&masked(0x82, &numbered(sent, FLOOD_SIZE)));
        assert_eq!(number(&publisher.message()), sent);
    }
    (frozen, id, publisher)
}

fn with_flooded(when_full: &str, story: impl Fn(&Gateway, Raw, &str, Raw) + Sync) {
    let config = format!(
        "close_timeout = \"1m\"\n[[endpoint]]\npath = \"/flood\"\nqueue = {{ messages = {QUEUE}, bytes = \"4MiB\", when_full = \"{when_full}\" }}\n"
    );
    with_any_deliverers(&config, |gateway| {
        for wire in Wire::BOTH {
            let (frozen, id, publisher) = flooded(gateway, wire);
            story(gateway, frozen, &id, publisher);
        }
    });
}

/// The numbers of the messages up to and without this text.
fn numbers_until(client: &mut Raw, last: &str) -> Vec<usize> {
    client.widen();
    let mut numbers = Vec::new();
    loop {
        let frame = client.message();
        if frame == Frame::text(last) {
            return numbers;
        }
        if frame.first == 0x82 {
            assert_eq!(frame.payload.len(), FLOOD_SIZE, "{:?}", &frame.payload[..10]);
        }
        numbers.push(number(&frame));
    }
}

/// How many messages the gateway says it dropped for this client, once it has ended.
fn dropped(gateway: &Gateway, id: &str) -> usize {
    let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
    line.rsplit(", ").next().and_then(|end| end.strip_suffix(" dropped")).unwrap().parse().unwrap()
}

#[test]
fn drop_oldest_keeps_what_came_last() {
    with_flooded("drop_oldest", |gateway, mut frozen, id, mut publisher| {
        let line = format!("client {id}: its queue is full: messages for it are dropped");
        gateway.wait_for_log(&line);
        publisher.send_text("last");
        assert_eq!(publisher.text(), "last");
        let numbers = numbers_until(&mut frozen, "last");
        let taken = numbers.iter().enumerate().take_while(|(index, number)| index == *number).count();
        let kept = &numbers[taken..];
        // "last" is in the queue as well, and so may be one that the kernel has taken a part of, and
        // with TLS those that are encrypted already, a record of at most 16 KiB.
        assert!((QUEUE - 4..QUEUE).contains(&kept.len()), "{numbers:?}");
        assert!(kept.iter().copied().eq(FLOOD - kept.len()..FLOOD), "{numbers:?}");
        // A batch that the kernel has taken counts until its writer has come back, so on a busy machine there
        // may be no room yet for one more: this is said until it arrives.
        let mut said = 0;
        while said == 0 || !frozen.has_input_within(Duration::from_millis(100)) {
            publisher.send_text("as ever");
            assert_eq!(publisher.text(), "as ever");
            said += 1;
        }
        let mut heard = 0;
        while heard == 0 || (heard < said && frozen.has_input_within(Duration::from_millis(100))) {
            assert_eq!(frozen.text(), "as ever");
            heard += 1;
        }
        drop(frozen);
        assert_eq!(dropped(gateway, id), FLOOD - numbers.len() + said - heard);
        let lines = gateway.log();
        assert_eq!(lines.iter().filter(|other| other.contains(&line)).count(), 1, "one line, not one a message");
    });
}

#[test]
fn drop_newest_keeps_what_came_first() {
    with_flooded("drop_newest", |gateway, mut frozen, id, mut publisher| {
        gateway.wait_for_log(&format!("client {id}: its queue is full: messages for it are dropped"));
        // What the queue has no room for is dropped, until the client has read on: this is said
        // again and again until it arrives.
        let done = AtomicBool::new(false);
        let (numbers, said) = thread::scope(|scope| {
            let speaker = scope.spawn(|| {
                let mut said = 0;
                while !done.load(Ordering::Acquire) {
                    publisher.send_text("last");
                    assert_eq!(publisher.text(), "last");
                    said += 1;
                }
                said
            });
            let _done = DoneAtEnd(&done);
            let numbers = numbers_until(&mut frozen, "last");
            drop(_done);
            (numbers, speaker.join().unwrap())
        });
        assert!(numbers.iter().copied().eq(0..numbers.len()), "{numbers:?}");
        assert!(numbers.len() >= QUEUE && numbers.len() < FLOOD, "{}", numbers.len());
        publisher.send_text("the end");
        let mut heard = 1;
        while frozen.text() == "last" {
            heard += 1;
        }
        drop(frozen);
        assert_eq!(dropped(gateway, id), FLOOD - numbers.len() + said - heard);
    });
}

#[test]
fn disconnect_sends_what_was_queued_and_then_says_too_slow() {
    with_flooded("disconnect", |gateway, mut frozen, id, mut publisher| {
        gateway.wait_for_log(&format!("client {id}: its queue is full: the client is closed"));
        frozen.widen();
        let mut count = 0;
        let close = loop {
            let frame = frozen.message();
            if frame.first == 0x88 {
                break frame;
            }
            assert_eq!((number(&frame), frame.payload.len()), (count, FLOOD_SIZE));
            count += 1;
        };
        assert_eq!(close, Frame::close(1008, "Too slow"));
        assert!((QUEUE..FLOOD).contains(&count), "{count}");
        frozen.send(&masked(0x88, &close.payload[..2]));
        frozen.end();
        let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
        assert!(line.contains("code 1008, reason 'Too slow'"), "{line}");
        publisher.send_text("nobody else is");
        assert_eq!(publisher.text(), "nobody else is");
    });
}

#[test]
fn a_queue_that_is_empty_takes_any_one_message() {
    let config = r#"
[[endpoint]]
path = "/"
to = ["broadcast"]
queue = { messages = 2, bytes = "1KiB", when_full = "disconnect" }
"#;
    with_any_deliverers(config, |gateway| {
        for wire in Wire::BOTH {
            let [mut one, mut other] = [gateway.client(wire, "/"), gateway.client(wire, "/")];
            let large = vec![b'x'; 1 << 20];
            one.send(&masked(0x82, &large));
            assert!(one.message() == Frame::binary(&large));
            assert!(other.message() == Frame::binary(&large));
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_small_and_large_mixed() {
    with_any_deliverers(CONFIG, |gateway| {
        for wire in Wire::BOTH {
            for path in ["/echo", "/broadcast"] {
                let mut client = gateway.client(wire, path);
                let small: Vec<u8> = (0..16).flat_map(|index| masked(0x82, &numbered(index, 10))).collect();
                client.send(&small);
                (0..16).for_each(|index| assert_eq!(client.message(), Frame::binary(&numbered(index, 10))));

                let sizes = [1, 70_000, 2, 3, 16 << 10, 4, 300_000, 5, (16 << 10) - 1, 126, 65_536];
                for round in 0..2 {
                    let payloads: Vec<_> =
                        sizes.iter().enumerate().map(|(index, &size)| numbered(round * 100 + index, size)).collect();
                    client.send(&payloads.iter().flat_map(|payload| masked(0x82, payload)).collect::<Vec<_>>());
                    for payload in payloads {
                        assert!(client.message() == Frame::binary(&payload), "{path}: {} bytes", payload.len());
                    }
                }
            }
        }
    });
}

#[test]
fn pings_are_answered_while_broadcasts_flow() {
    const PINGS: usize = 100;
    with_any_deliverers(CONFIG, |gateway| {
        for wire in Wire::BOTH {
            let done = AtomicBool::new(false);
            let mut client = gateway.client(wire, "/broadcast");
            let mut publisher = gateway.client(Wire::Plain, "/broadcast");
            thread::scope(|scope| {
                let _done = DoneAtEnd(&done);
                scope.spawn(|| {
                    for sent in 0.. {
                        if done.load(Ordering::Acquire) {
                            return;
                        }
                        publisher.send(&masked(0x82, &numbered(sent, if sent % 5 == 0 { 20_000 } else { 50 })));
                        assert_eq!(number(&publisher.message()), sent);
                    }
                });
                let mut next = number(&client.message());
                for ping in 0..PINGS {
                    client.send(&masked(0x89, ping.to_string().as_bytes()));
                    // Broadcasts may come before the answer, none may be missing.
                    loop {
                        let frame = client.frame();
                        if frame.first == 0x8a {
                            assert_eq!(frame.payload, ping.to_string().as_bytes());
                            break;
                        }
                        next += 1;
                        assert_eq!(number(&frame), next);
                    }
                }
            });
        }
    });
}

#[test]
fn a_client_that_has_left_leaves_no_descriptor_behind() {
    const CLIENTS: usize = 20;
    let config = format!("{CONFIG}\n[[endpoint]]\npath = \"/clock\"\nheartbeat = \"1s\"\n");
    with_any_deliverers(&config, |gateway| {
        let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
        let mut clock = gateway.client(Wire::Plain, "/clock");
        let mut tick = |count| (0..count).for_each(|_| clock.pinged());
        let before = descriptors();
        let clients: Vec<_> = (0..CLIENTS).map(|index| gateway.client(Wire::BOTH[index % 2], "/broadcast")).collect();
        // They stay long enough for the heartbeat to have made its next appointment with them.
        tick(1);
        for mut client in clients {
            client.send(&masked(0x88, &1000u16.to_be_bytes()));
            assert_eq!(client.frame(), Frame::close(1000, ""));
            client.end();
        }
        gateway.wait_for_logs(": disconnected", CLIENTS);
        // Those who look after closing clients come by every half second.
        tick(1);
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn what_each_client_is_sent_is_counted() {
    with_any_deliverers(CONFIG, |gateway| {
        let mut client = gateway.client(Wire::Plain, "/echo");
        let id = gateway.id_of(&client);
        client.send(&[masked(0x81, b"four"), masked(0x82, &[7; 6])].concat());
        let received: HashMap<_, _> =
            (0..2).map(|_| client.message()).map(|frame| (frame.first, frame.payload)).collect();
        assert_eq!((received[&0x81].len(), received[&0x82].len()), (4, 6));
        client.send(&masked(0x88, &[&1000u16.to_be_bytes()[..], b"done"].concat()));
        assert_eq!(client.frame(), Frame::close(1000, "done"));
        client.end();
        let line = gateway.wait_for_log(&format!("client {id}: disconnected"));
        // 101 head and Close are bytes too; the head's length is the same for every client.
        assert!(line.contains("from '/echo': code 1000, reason 'done', after "), "{line}");
        assert!(line.contains(", 2 messages (10 bytes) received, 2 messages ("), "{line}");
    });
}
