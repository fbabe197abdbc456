//! Clients that break the framing of RFC 6455: each gets a Close with the right code and is disconnected soon
//! after, and no other client notices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Attack, Frame, Gateway, LISTENERS, masked, measured};

/// [`LISTENERS`] are added to it.
const CONFIG: &str = r#"
[gateway]
close_timeout = "1s"

[[endpoint]]
path = "/echo"
to = ["reply"]
max_message = "64KiB"

[[endpoint]]
path = "/mebibyte"
to = ["reply"]
max_message = "1MiB"

[[endpoint]]
path = "/pinged"
to = ["reply"]
heartbeat = "1s"
pong_timeout = "1s"

[[endpoint]]
path = "/stuck"
to = ["reply"]
message_timeout = "1s"

[[endpoint]]
path = "/canary"
to = ["reply"]
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

const LIMIT: usize = 64 << 10;

/// The close timeout, and how much later than a deadline something may come on a busy machine.
const CLOSE: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(2);

/// A frame's header, and nothing behind it.
fn announced(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127], &length.to_be_bytes()[..], &[0; 4]].concat()
}

/// What a Close says, or what else came.
fn close_code(frame: &Frame) -> Option<u16> {
    (frame.first == 0x88).then_some(())?;
    Some(u16::from_be_bytes(frame.payload.get(..2)?.try_into().unwrap()))
}

/// Plays each of these to an echo endpoint over plain and TLS, and expects this code, an orderly end
/// and a canary that sings on.
fn each_is_closed_with(case: &'static str, cases: &[(&str, Vec<u8>, u16)]) {
    let gateway = start();
    let mut attack = Attack::begin(case, &gateway);
    for (name, bytes, code) in cases {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            client.upgrade("/echo", &[]);
            client.send(bytes);
            let answer = client.frame();
            assert_eq!(close_code(&answer), Some(*code), "{name} over {listener}: {answer:02x?}");
            client.end();
            attack.check_echo(name);
        }
    }
    let codes: BTreeSet<_> = cases.iter().map(|(.., code)| code).collect();
    attack.end(format!("{} of {} closed with {codes:?}, over plain and TLS", cases.len(), cases.len()));
}

#[test]
fn f1_a_frame_against_the_protocol_is_closed_with_1002() {
    // The 18 of the table, and their neighbours.
    let mut cases = vec![
        ("an unmasked frame", vec![0x81, 1, b'x']),
        ("an unmasked close", vec![0x88, 2, 3, 0xe8]),
        ("the first reserved bit", masked(0xc1, b"x")),
        ("the second reserved bit", masked(0xa1, b"x")),
        ("the third reserved bit", masked(0x91, b"x")),
        ("a reserved bit in a ping", masked(0xc9, b"x")),
        ("a ping of 126 bytes", masked(0x89, &[b'x'; 126])),
        ("a pong of 126 bytes", masked(0x8a, &[b'x'; 126])),
        ("a close of 126 bytes", masked(0x88, &[&[3, 0xe8][..], &[b'x'; 124]].concat())),
        ("a fragmented ping", masked(0x09, b"x")),
        ("a fragmented pong", masked(0x0a, b"x")),
        ("a fragmented close", masked(0x08, &[3, 0xe8])),
        ("a continuation without a start", masked(0x80, b"x")),
        ("an unfinished continuation without a start", masked(0x00, b"x")),
        ("text inside text", [masked(0x01, b"a"), masked(0x81, b"b")].concat()),
        ("binary inside text", [masked(0x01, b"a"), masked(0x02, b"b")].concat()),
    ];
    let reserved = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15];
    cases.extend(reserved.map(|opcode| ("a reserved opcode", masked(0x80 | opcode, b""))));
    each_is_closed_with("F1", &cases.map_with(1002));
}

#[test]
fn f1_a_length_that_is_not_in_its_shortest_form_is_closed_with_1002() {
    let mask = [0; 4];
    let in_16_bits = |first: u8, length: u16| [&[first, 0x80 | 126], &length.to_be_bytes()[..], &mask].concat();
    let cases = vec![
        ("an empty message, its length in 16 bits", in_16_bits(0x82, 0)),
        ("125 bytes, their length in 16 bits", [in_16_bits(0x82, 125), vec![0; 125]].concat()),
        ("a ping of 5 bytes, its length in 16 bits", [in_16_bits(0x89, 5), vec![0; 5]].concat()),
        ("an empty close, its length in 16 bits", in_16_bits(0x88, 0)),
        ("an empty message, its length in 64 bits", announced(0x82, 0)),
        ("65,535 bytes, their length in 64 bits", announced(0x82, 65_535)),
    ];
    each_is_closed_with("F1", &cases.map_with(1002));
}

#[test]
fn f2_text_that_is_not_utf_8_is_closed_with_1007() {
    let cases = vec![
        ("a byte that is never UTF-8", masked(0x81, b"ab\xffcd")),
        ("an overlong form", masked(0x81, b"\xc0\xaf")),
        ("a surrogate", masked(0x81, b"\xed\xa0\x80")),
        ("a code point beyond the last", masked(0x81, b"\xf4\x90\x80\x80")),
        ("half a code point", masked(0x81, b"\xe2\x82")),
        ("half a code point at the end of the last fragment", [masked(0x01, b"a"), masked(0x80, b"\xe2\x82")].concat()),
        ("a code point broken by the next fragment", [masked(0x01, b"\xe2\x82"), masked(0x80, b"a")].concat()),
    ];
    each_is_closed_with("F2", &cases.map_with(1007));
}

#[test]
fn f2_a_code_point_split_over_fragments_is_accepted() {
    let gateway = start();
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        client.upgrade("/echo", &[]);
        for cut in 1..4 {
            let (head, tail) = "\u{1f980}".as_bytes().split_at(cut);
            client.send(&[masked(0x01, head), masked(0x80, tail)].concat());
            assert_eq!(client.frame(), Frame::text("\u{1f980}"));
        }
    }
}

#[test]
fn f3_a_close_that_must_not_be_on_the_wire_is_closed_with_1002() {
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535_u16];
    let mut cases: Vec<_> =
        codes.iter().map(|code| ("a forbidden close code", masked(0x88, &code.to_be_bytes()), 1002)).collect();
    cases.push(("a close of one byte", masked(0x88, b"x"), 1002));
    cases.push(("a close reason that is not UTF-8", masked(0x88, b"\x03\xe8\xff"), 1007));
    each_is_closed_with("F3", &cases);
}

#[test]
fn f4_a_good_close_is_answered_with_its_code() {
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    let cases: Vec<_> =
        codes.iter().map(|&code| ("a good close", masked(0x88, &Frame::close(code, "bye").payload), code)).collect();
    each_is_closed_with("F4", &cases);
}

#[test]
fn f4_a_close_is_answered_and_the_connection_ended_within_a_second() {
    let gateway = start();
    let mut attack = Attack::begin("F4", &gateway);
    let mut longest = Duration::ZERO;
    for payload in [&[3, 0xe8][..], b""] {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            client.upgrade("/echo", &[]);
            let since = Instant::now();
            client.send(&masked(0x88, payload));
            assert_eq!(client.frame(), Frame { first: 0x88, payload: payload.to_vec() });
            client.end();
            longest = longest.max(since.elapsed());
            attack.gives_back_within(LATE);
            attack.check_echo("a close");
        }
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    attack.end(format!("4 of 4 answered and ended, the last after {longest:.0?}"));
}

#[test]
fn f6_a_message_over_the_limit_is_closed_with_1009_before_its_payload_is_there() {
    let gateway = start();
    let mut attack = Attack::begin("F6", &gateway);
    // The highest bit of a length must not be set (RFC 6455 section 5.2).
    let (long, wrong) = ([(1 << 20) + 1, 1 << 32, (1 << 63) - 1], [1 << 63, u64::MAX]);
    for (length, code) in long.map(|length| (length, 1009)).into_iter().chain(wrong.map(|length| (length, 1002))) {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            client.upgrade("/mebibyte", &[]);
            client.send(&announced(0x82, length));
            let answer = client.frame();
            assert_eq!(close_code(&answer), Some(code), "{length} over {listener}: {answer:02x?}");
            attack.costs_less_than_kib(4 << 10);
            client.end();
            attack.check_echo("a length over the limit");
        }
    }
    let count = long.len() + wrong.len();
    attack.end(format!("{count} of {count} closed, over plain and TLS"));
}

#[test]
fn f6_a_message_just_within_the_limit_is_accepted() {
    let gateway = start();
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        client.upgrade("/echo", &[]);
        client.send(&masked(0x82, &[7; LIMIT]));
        assert_eq!(client.frame(), Frame::binary(&[7; LIMIT]));
        client.send(&[masked(0x02, &[7; LIMIT / 2]), masked(0x80, &[7; LIMIT / 2])].concat());
        assert_eq!(client.frame(), Frame::binary(&[7; LIMIT]));
    }
}

#[test]
fn f7_the_1009_reaches_a_peer_that_keeps_sending() {
    let gateway = start();
    let mut attack = Attack::begin("F7", &gateway);
    let one_frame = masked(0x82, &vec![0; 4 << 20]);
    let fragments = [masked(0x02, &[0; 1000]), masked(0x00, &[0; 1000]).repeat(4 << 10)].concat();
    for (name, bytes) in [("one frame of 4 MiB", one_frame), ("4 MiB in fragments", fragments)] {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            client.upgrade("/echo", &[]);
            client.send(&bytes);
            let answer = client.frame();
            assert_eq!(close_code(&answer), Some(1009), "{name} over {listener}");
            client.end();
            attack.check_echo(name);
        }
    }
    attack.end("4 of 4 got the 1009 and no reset");
}

#[test]
fn f8_fragments_without_number_cost_no_memory() {
    let gateway = start();
    let mut attack = Attack::begin("F8", &gateway);
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        client.upgrade("/echo", &[]);
        client.send(&masked(0x02, b""));
        client.send(&masked(0x00, b"").repeat(200_000));
        client.send(&masked(0x00, b"x").repeat(60_000));
        client.send(&masked(0x89, b"all read?"));
        assert_eq!(client.frame(), Frame { first: 0x8a, payload: b"all read?".to_vec() });
        attack.costs_less_than_kib(8 << 10);
        attack.check_echo("260,000 fragments");
        client.send(&masked(0x80, b"x"));
        assert_eq!(client.frame().payload.len(), 60_001);
    }
    attack.end("200,000 empty and 60,000 tiny fragments, over plain and TLS");
}

#[test]
fn f9_announced_payloads_that_never_come_cost_no_memory_and_are_cut_by_the_pong_timeout() {
    const CLIENTS: usize = 50;
    let gateway = start();
    let mut attack = Attack::begin("F9", &gateway);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = gateway.raw(if number % 2 == 0 { "plain" } else { "tls" });
            let since = Instant::now();
            client.upgrade("/pinged", &[]);
            client.send(&[masked(0x89, b""), announced(0x82, 1 << 20)].concat());
            // The gateway's own ping may come first. What was sent in one piece is read in one.
            while client.frame().first != 0x8a {}
            (client, since)
        })
        .collect();
    attack.costs_less_than_kib(16 << 10);
    attack.check_echo("announced payloads");
    // An interval until the ping, a pong timeout behind it.
    let limit = Duration::from_secs(2) + LATE;
    let mut latest = Duration::ZERO;
    for (client, since) in &mut clients {
        assert!(client.is_gone_within(limit), "a client inside a frame was not cut");
        let took = since.elapsed();
        assert!(took < limit, "cut after {took:?}");
        latest = latest.max(took);
    }
    attack.costs_less_than_kib(16 << 10);
    attack.gives_back_within(LATE);
    attack.end(format!("{CLIENTS} of {CLIENTS} cut, the last after {latest:.1?} of 2 s"));
}

#[test]
fn f4_a_peer_that_leaves_tcp_open_after_a_close_is_gone_within_the_close_timeout() {
    let gateway = start();
    let mut attack = Attack::begin("F4", &gateway);
    let violation = vec![0x81, 1, b'x'];
    let mut longest = Duration::ZERO;
    for (name, bytes) in [("its close", masked(0x88, &[3, 0xe8])), ("a violation", violation)] {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            client.upgrade("/echo", &[]);
            client.send(&bytes);
            assert_eq!(client.frame().first, 0x88);
            // Data behind it is not understood any more; the gateway may end the connection meanwhile.
            let _ = client.send_or_end(&masked(0x81, b"are you there?"));
            let since = Instant::now();
            attack.gives_back_within(CLOSE + LATE);
            longest = longest.max(since.elapsed());
            attack.check_echo(name);
        }
    }
    attack.end(format!("4 of 4 gone, the last after {longest:.1?}; the close timeout is {CLOSE:?}"));
}

#[test]
fn f5_a_peer_that_ignores_our_close_is_gone_at_the_close_timeout() {
    let gateway = start();
    let mut attack = Attack::begin("F5", &gateway);
    let mut longest = Duration::ZERO;
    for listener in ["plain", "tls"] {
        let mut client = gateway.raw(listener);
        client.upgrade("/stuck", &[]);
        client.send(&masked(0x01, b"never finished"));
        assert_eq!(client.frame(), Frame::close(1008, "Message not complete in time"));
        let since = Instant::now();
        attack.gives_back_within(CLOSE + LATE);
        longest = longest.max(since.elapsed());
        attack.check_echo("a close that is not answered");
    }
    attack.end(format!("2 of 2 gone, the last {longest:.1?} after our close; the close timeout is {CLOSE:?}"));
}

#[test]
fn f5_peers_that_ignore_the_close_of_a_stop_hold_it_no_longer_than_the_close_timeout() {
    let mut gateway = start();
    let mut clients = ["plain", "tls"].map(|listener| gateway.raw(listener));
    for client in &mut clients {
        client.upgrade("/echo", &[]);
    }
    let since = Instant::now();
    gateway.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.frame(), Frame::close(1001, "Server shutting down"));
    }
    assert_eq!(gateway.wait().code(), Some(0));
    let took = since.elapsed();
    assert!(took < CLOSE + LATE, "{took:?}");
    measured("F5", format!("stopped {took:.1?} after SIGTERM; the close timeout is {CLOSE:?}"));
}

#[test]
fn f12_resets_in_mid_message_give_back_descriptors_and_threads() {
    let gateway = start();
    let mut attack = Attack::begin("F12", &gateway);
    for round in 0..200 {
        let mut client = gateway.raw(if round % 20 == 0 { "tls" } else { "plain" });
        client.upgrade("/echo", &[]);
        client.send(&masked(0x82, &[0; 1000])[..500]);
        client.reset();
    }
    let since = Instant::now();
    attack.gives_back_within(Duration::from_secs(5));
    let took = since.elapsed();
    attack.check_echo("200 resets");
    attack.end(format!("200 resets, threads and descriptors back after {took:.0?}"));
}

/// The same close code for every case of a table.
trait MapWith {
    fn map_with(self, code: u16) -> Vec<(&'static str, Vec<u8>, u16)>;
}

impl MapWith for Vec<(&'static str, Vec<u8>)> {
    fn map_with(self, code: u16) -> Vec<(&'static str, Vec<u8>, u16)> {
        self.into_iter().map(|(name, bytes)| (name, bytes, code)).collect()
    }
}
