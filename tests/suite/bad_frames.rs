//! Clients that break the framing of RFC 6455: each is told what was wrong with a Close that
//! reaches it, is gone soon after, and nobody else notices.

use std::time::{Duration, Instant};

use crate::harness::{Canary, DEADLINE, Frame, Gateway, LISTENERS, Raw, eventually, masked};

/// [`LISTENERS`] are added to it.
const CONFIG: &str = r#"
[gateway]
close_timeout = "1s"

[[endpoint]]
path = "/echo"
to = ["reply"]
max_message = "64KiB"

[[endpoint]]
path = "/canary"
to = ["reply"]
"#;

fn start() -> Gateway {
    Gateway::start(&format!("{CONFIG}{LISTENERS}"))
}

const LIMIT: usize = 64 << 10;

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
fn each_is_closed_with(cases: &[(&str, Vec<u8>, u16)]) {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    for (name, bytes, code) in cases {
        for listener in ["plain", "tls"] {
            let mut client = gateway.raw(listener);
            client.upgrade("/echo", &[]);
            client.send(bytes);
            let answer = client.frame();
            assert_eq!(close_code(&answer), Some(*code), "{name} over {listener}: {answer:02x?}");
            client.end();
            canary.sing(name);
        }
    }
}

#[test]
fn a_frame_against_the_protocol_is_closed_with_1002() {
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
    each_is_closed_with(&cases.map_with(1002));
}

#[test]
fn text_that_is_not_utf_8_is_closed_with_1007() {
    let cases = vec![
        ("a byte that is never UTF-8", masked(0x81, b"ab\xffcd")),
        ("an overlong form", masked(0x81, b"\xc0\xaf")),
        ("a surrogate", masked(0x81, b"\xed\xa0\x80")),
        ("a code point beyond the last", masked(0x81, b"\xf4\x90\x80\x80")),
        ("half a code point", masked(0x81, b"\xe2\x82")),
        ("half a code point at the end of the last fragment", [masked(0x01, b"a"), masked(0x80, b"\xe2\x82")].concat()),
        ("a code point broken by the next fragment", [masked(0x01, b"\xe2\x82"), masked(0x80, b"a")].concat()),
    ];
    each_is_closed_with(&cases.map_with(1007));
}

#[test]
fn a_code_point_split_over_fragments_is_accepted() {
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
fn a_close_that_must_not_be_on_the_wire_is_closed_with_1002() {
    let codes = [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535_u16];
    let mut cases: Vec<_> =
        codes.iter().map(|code| ("a forbidden close code", masked(0x88, &code.to_be_bytes()), 1002)).collect();
    cases.push(("a close of one byte", masked(0x88, b"x"), 1002));
    cases.push(("a close reason that is not UTF-8", masked(0x88, b"\x03\xe8\xff"), 1007));
    each_is_closed_with(&cases);
}

#[test]
fn a_good_close_is_answered_with_its_code() {
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999];
    let cases: Vec<_> =
        codes.iter().map(|&code| ("a good close", masked(0x88, &Frame::close(code, "bye").payload), code)).collect();
    each_is_closed_with(&cases);

    let gateway = start();
    let mut client = gateway.raw("plain");
    client.upgrade("/echo", &[]);
    client.send(&masked(0x88, b""));
    assert_eq!(client.frame(), Frame { first: 0x88, payload: Vec::new() });
    client.end();
}

#[test]
fn a_message_over_the_limit_is_closed_with_1009_before_its_payload_is_there() {
    let over = LIMIT as u64 + 1;
    let lengths = [over, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX];
    let cases = lengths.map(|length| ("a length over the limit", announced(0x82, length), 1009));
    each_is_closed_with(&cases);
}

#[test]
fn a_message_just_within_the_limit_is_accepted() {
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
fn the_1009_reaches_a_peer_that_keeps_sending() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
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
            canary.sing(name);
        }
    }
}

#[test]
fn fragments_without_number_cost_no_memory() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    let before = gateway.memory_kib();
    let mut client = gateway.raw("plain");
    client.upgrade("/echo", &[]);
    client.send(&masked(0x02, b""));
    client.send(&masked(0x00, b"").repeat(200_000));
    client.send(&masked(0x00, b"x").repeat(10_000));
    client.send(&masked(0x89, b"all read?"));
    assert_eq!(client.frame(), Frame { first: 0x8a, payload: b"all read?".to_vec() });
    let grown = gateway.memory_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB");
    canary.sing("200,000 fragments");
}

#[test]
fn announced_payloads_that_never_come_cost_no_memory() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    let before = gateway.memory_kib();
    let clients: Vec<Raw> = (0..50)
        .map(|_| {
            let mut client = gateway.raw("plain");
            client.upgrade("/echo", &[]);
            client.send(&[masked(0x89, b""), announced(0x82, LIMIT as u64)].concat());
            assert_eq!(client.frame().first, 0x8a, "the header behind the ping was read with it");
            client
        })
        .collect();
    let grown = gateway.memory_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB for {} clients", clients.len());
    canary.sing("50 announced payloads");
}

#[test]
fn a_peer_that_leaves_tcp_open_after_a_close_is_gone_within_the_close_timeout() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    let violation = vec![0x81, 1, b'x'];
    for (name, bytes) in [("its close", masked(0x88, &[3, 0xe8])), ("a violation", violation)] {
        for listener in ["plain", "tls"] {
            let threads = gateway.threads();
            let mut client = gateway.raw(listener);
            client.upgrade("/echo", &[]);
            client.send(&bytes);
            assert_eq!(client.frame().first, 0x88);
            // Data behind it is not understood any more; the gateway may end the connection meanwhile.
            let _ = client.send_or_end(&masked(0x81, b"are you there?"));
            let since = Instant::now();
            eventually("its thread has ended", Duration::from_secs(3), || gateway.threads() <= threads);
            assert!(since.elapsed() < Duration::from_secs(3), "after {name} over {listener}");
            canary.sing(name);
        }
    }
}

#[test]
fn resets_in_mid_message_give_back_descriptors_and_threads() {
    let gateway = start();
    let mut canary = Canary::enter(&gateway);
    canary.sing("nothing");
    let (threads, descriptors) = (gateway.threads(), gateway.descriptors());
    for round in 0..200 {
        let mut client = gateway.raw(if round % 20 == 0 { "tls" } else { "plain" });
        client.upgrade("/echo", &[]);
        client.send(&masked(0x82, &[0; 1000])[..500]);
        client.reset();
    }
    eventually("threads and descriptors are back", DEADLINE / 2, || {
        gateway.threads() <= threads && gateway.descriptors() <= descriptors
    });
    canary.sing("200 resets");
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
