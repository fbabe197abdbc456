//! Links whose server does not read: what is dropped for it, what the others notice, and when it is given up.

use std::thread;

use crate::harness::{DEADLINE, Frame, Gateway, Raw, Remote, Wire, eventually, masked};

/// More than fits into the kernel, the outbox of a connection and the queue of the link together.
const MESSAGES: usize = 4000;
const LENGTH: usize = 8000;

/// A room whose messages also go to a link with these settings.
fn room_with_link(remote: &Remote, settings: &str) -> Gateway {
    Gateway::start(&format!(
        "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n\
         [[endpoint]]\npath = \"/\"\nto = [\"others\", \"link:up\"]\nqueue = {{ bytes = \"64MiB\" }}\n\
         [[link]]\nname = \"up\"\nurl = \"{}\"\nproxy = \"off\"\n{settings}\n",
        remote.url()
    ))
}

fn text(number: usize) -> String {
    format!("{number} {}", "x".repeat(LENGTH))
}

fn number(text: &str) -> usize {
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Sends all messages from one client of the room to another, which has to get each of them, in order. When this
/// returns, the link has been handed all of them too.
fn fill(gateway: &Gateway) {
    let mut listener: Raw = gateway.client(Wire::Plain, "/");
    let mut sender: Raw = gateway.client(Wire::Plain, "/");
    let sender_id = gateway.id_of(&sender);
    thread::scope(|scope| {
        scope.spawn(move || {
            (0..MESSAGES).for_each(|number| sender.send_text(&text(number)));
            sender.send(&masked(0x88, b""));
            sender.cut_off();
        });
        for number in 0..MESSAGES {
            assert_eq!(listener.message(), Frame::text(&text(number)));
        }
    });
    gateway.wait_for_log(&format!("client {sender_id}: disconnected"));
}

/// What the log says was dropped while the link was up, once it has caught up. It may fall behind several times: where
/// the processor is busy with others, its own thread can be slower than the sender long before the server is.
fn dropped(gateway: &Gateway) -> usize {
    let lines = |text: &str| gateway.log().into_iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
    let (behind, caught_up) = ("link up: it accepts data too slowly", "link up: while it was too slow, ");
    eventually("it catches up", DEADLINE, || lines(caught_up).len() == lines(behind).len());
    let count = |line: &String| line.split_once(caught_up).unwrap().1.split(' ').next().unwrap().parse::<usize>();
    lines(caught_up).iter().map(|line| count(line).unwrap()).sum()
}

#[test]
fn a_server_that_reads_nothing_stops_no_room_and_what_it_misses_is_counted() {
    for (when_slow, newest_is_kept) in [("drop_oldest", true), ("drop_newest", false)] {
        let remote = Remote::up();
        let queue = format!("queue = {{ messages = 64, when_slow = \"{when_slow}\" }}\nwrite_timeout = \"off\"");
        let gateway = room_with_link(&remote, &queue);
        let mut stuck = remote.accept();
        gateway.wait_for_log("link up: connected");
        fill(&gateway);
        gateway.wait_for_log(
            "link up: it accepts data too slowly and its queue is full: messages for it are dropped from now on",
        );
        // It reads again: what was kept comes in order, and with what was dropped that is everything.
        let reader = thread::spawn(move || {
            let texts = std::iter::repeat_with(|| stuck.text()).take_while(|text| text != "end");
            texts.map(|text| number(&text)).collect::<Vec<_>>()
        });
        let dropped = dropped(&gateway);
        gateway.client(Wire::Plain, "/").send_text("end");
        let numbers = reader.join().unwrap();
        assert!(numbers.is_sorted(), "{when_slow}: {numbers:?}");
        assert_eq!(numbers.len() + dropped, MESSAGES, "{when_slow}");
        assert_eq!(numbers.last() == Some(&(MESSAGES - 1)), newest_is_kept, "{when_slow}");
    }
}

#[test]
fn b17_a_link_that_is_cut_by_its_write_timeout_has_failed_however_long_it_was_up() {
    let remote = Remote::up();
    let settings = "queue = { messages = 64, when_slow = \"drop_oldest\" }\nwrite_timeout = \"1s\"\nheartbeat = \"off\"\n\
                    backoff = { first = \"10ms\", most = \"20ms\", reset_after = \"10ms\", attempts = 2 }";
    let gateway = room_with_link(&remote, settings);
    let _first = remote.accept();
    gateway.wait_for_log("link up: connected");
    fill(&gateway);
    // By wsgate ("Too slow ...") or by the kernel ("... timed out"), whose clock is the finer one.
    gateway.wait_for_log("link up: disconnected: code 1006");
    // What was left goes on filling the second one.
    let _second = remote.accept();
    fill(&gateway);
    gateway.wait_for_log("given up after 2 attempts, as `attempts` says");
    // Nobody waits for a link that is given up.
    fill(&gateway);
}
