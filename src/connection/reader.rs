//! From received bytes to messages: tungstenite parses and validates, we decide what it sees.
//!
//! tungstenite never touches the socket. It is handed the bytes of one read as a stream that
//! "would block" at their end; what it wants to write (pongs, Close replies) is swallowed, since
//! the outbox answers. Its buffers exist only while there is something in them:
//!
//! * it has no read buffer before the first byte;
//! * a large message pins its buffer, so tungstenite is never given bytes beyond a large frame,
//!   and after the message it is dropped and rebuilt when the next byte comes;
//! * after nothing but control frames it is dropped as well: an idle client that answers pings
//!   costs no buffer.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::{WebSocketConfig, WebSocketContext};

use super::frame::{CONTROL_MAX, LARGE, Role};
use crate::message::{Kind, Message};
use crate::system::large;

/// tungstenite's read buffer: what it copies at a time, and what an active client keeps.
const READ_BUFFER: usize = 4 << 10;

/// Where what a client has sent goes, in order. Pongs go nowhere: that something came is all they say.
pub trait Sink {
    /// A complete text or binary message.
    fn message(&mut self, message: Message);

    /// A ping; the payload is to be sent back (RFC 6455 section 5.5.2).
    fn ping(&mut self, payload: Bytes);
}

/// The peer's Close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Its code, `None` if it had none. One that must not be on the wire has become 1002.
    pub code: Option<u16>,
    /// Its reason.
    pub reason: String,
}

/// What a peer did wrong, and the Close that tells it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// 1002, 1007 or 1009 (RFC 6455 section 7.4.1).
    pub code: u16,
    /// For the peer and for the log.
    pub reason: String,
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct Reader {
    role: Role,
    context: Option<WebSocketContext>,
    walk: FrameWalk,
    max_message: usize,
}

impl Reader {
    /// A reader at our end, `role`, that refuses messages over `max_message` bytes, fragments together.
    pub fn new(role: Role, max_message: usize) -> Reader {
        Reader { role, context: None, walk: FrameWalk::default(), max_message }
    }

    /// Reads all of `input` into the sink, or up to the peer's Close or the first violation.
    pub fn read(&mut self, mut input: &[u8], sink: &mut impl Sink) -> Result<Option<Close>, Violation> {
        while !input.is_empty() {
            if let Some(close) = self.read_message(&mut input, sink)? {
                return Ok(Some(close));
            }
        }
        Ok(None)
    }

    /// Reads messages while the parser has its present buffer.
    fn read_message(&mut self, input: &mut &[u8], sink: &mut impl Sink) -> Result<Option<Close>, Violation> {
        use tungstenite::{Error, Message as Read};
        let (role, max_message) = (self.role, self.max_message);
        let context = self.context.get_or_insert_with(|| WebSocketContext::new(role, Some(config(max_message))));
        loop {
            let (kind, data) = match context.read(&mut Feed { input, walk: &mut self.walk }) {
                Ok(Read::Text(text)) => (Kind::Text, text.into()),
                Ok(Read::Binary(data)) => (Kind::Binary, data),
                Ok(Read::Ping(payload)) => {
                    sink.ping(payload);
                    continue;
                }
                Ok(Read::Pong(_)) => continue,
                Ok(Read::Close(close)) => {
                    let (code, reason) = close
                        .map_or((None, String::new()), |close| (Some(close.code.into()), close.reason.to_string()));
                    return Ok(Some(Close { code, reason }));
                }
                Ok(Read::Frame(_)) => unreachable!("tungstenite reads no raw frames"),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    // All that was handed out is parsed: what is too long by now is still to come.
                    return if self.walk.at_padded_length {
                        Err(Violation { code: 1002, reason: "length is not in its shortest form".to_owned() })
                    } else if self.walk.message > max_message as u64 {
                        Err(too_long(self.walk.message, max_message))
                    } else {
                        Ok(None)
                    };
                }
                Err(error) => return Err(violation(&error)),
            };
            if self.walk.at_large_end {
                // Nothing beyond the large frame was handed out, so nothing is lost with its buffer.
                self.context = None;
                sink.message(Message { kind, data: large::returning(data) });
                return Ok(None);
            }
            sink.message(Message { kind, data });
        }
    }

    /// Whether a message or a control frame has begun that is not yet complete.
    pub fn is_inside_message(&self) -> bool {
        self.walk.is_inside_message()
    }

    /// Gives the buffers back if they are empty. For clients that sent only control frames.
    pub fn rest(&mut self) {
        if !self.is_inside_message() {
            self.context = None;
        }
    }
}

fn config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        // Pongs and Close replies pass through here on their way to being swallowed.
        .max_write_buffer_size(READ_BUFFER)
        .max_message_size(Some(max_message))
        // A control frame is not a message: even one byte too long for its kind is a 1002, not a 1009.
        .max_frame_size(Some(max_message.max(CONTROL_MAX + 1)))
}

fn violation(error: &tungstenite::Error) -> Violation {
    use tungstenite::Error;
    let (code, reason) = match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            return too_long(*size as u64, *max_size);
        }
        Error::Capacity(error) => (1009, error.to_string()),
        Error::Utf8(_) => (1007, "text is not valid UTF-8".to_owned()),
        Error::Protocol(error) => (1002, protocol_reason(error)),
        other => (1002, other.to_string()),
    };
    Violation { code, reason }
}

fn too_long(size: u64, limit: usize) -> Violation {
    Violation { code: 1009, reason: format!("message of {size} bytes is over the limit of {limit}") }
}

fn protocol_reason(error: &ProtocolError) -> String {
    match error {
        ProtocolError::NonZeroReservedBits => "reserved bits are set but no extension was agreed".to_owned(),
        ProtocolError::UnmaskedFrameFromClient => "frame is not masked".to_owned(),
        ProtocolError::MaskedFrameFromServer => "frame of a server is masked".to_owned(),
        ProtocolError::ControlFrameTooBig => "control frame has more than 125 bytes".to_owned(),
        ProtocolError::FragmentedControlFrame => "control frame is fragmented".to_owned(),
        ProtocolError::UnexpectedContinueFrame => "continuation without a start".to_owned(),
        ProtocolError::ExpectedFragment(_) => "new message inside a fragmented one".to_owned(),
        other => other.to_string(),
    }
}

/// The bytes of one read as a stream for tungstenite.
struct Feed<'a, 'b> {
    input: &'a mut &'b [u8],
    walk: &'a mut FrameWalk,
}

impl Read for Feed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let offered = &self.input[..self.input.len().min(buffer.len())];
        let count = self.walk.advance(offered);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..count].copy_from_slice(&offered[..count]);
        *self.input = &self.input[count..];
        Ok(count)
    }
}

impl Write for Feed<'_, '_> {
    /// Swallows everything, always whole: the outbox answers pings and Closes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Walks along the frame boundaries of what is handed out, so that nothing beyond a large frame is,
/// and no header with a length that is not in its shortest form, which tungstenite would accept.
#[derive(Debug, Default)]
struct FrameWalk {
    /// The bytes of a header that is not complete yet.
    header: [u8; HEADER_MAX],
    header_len: usize,
    /// What is still to come of the present frame's payload.
    payload_left: u64,
    /// The present frame's payload is large.
    large: bool,
    /// The last byte handed out was the last of a large frame.
    at_large_end: bool,
    /// The next byte completes a header whose length is not in its shortest form: nothing more is handed out.
    at_padded_length: bool,
    /// A data frame without FIN was the last data frame.
    fragmented: bool,
    /// What the fragments of the present message announce together, in bytes.
    message: u64,
}

/// The longest header of a client frame: two bytes, a 64-bit length and the mask.
const HEADER_MAX: usize = 14;

impl FrameWalk {
    /// How many of these bytes may be handed out: all, or up to the end of a large frame, or not even
    /// the header of a frame whose length is against RFC 6455 section 5.2.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        self.at_large_end = false;
        loop {
            let step = self.payload_left.min((bytes.len() - at) as u64);
            self.payload_left -= step;
            at += step as usize;
            if self.payload_left == 0 && self.large {
                self.large = false;
                self.at_large_end = true;
                return at;
            }
            if at == bytes.len() {
                return at;
            }
            let step = self.walk_header(&bytes[at..]);
            if step == 0 {
                self.at_padded_length = true;
                return at;
            }
            at += step;
        }
    }

    /// Walks through a header, or through as much of it as is there; returns its bytes, or 0 where its
    /// last one must not be handed out.
    fn walk_header(&mut self, bytes: &[u8]) -> usize {
        if self.header_len == 0
            && let Some(header) = Header::parse(bytes)
        {
            if !header.is_shortest {
                return 0;
            }
            self.begin_payload(&header);
            return header.len;
        }
        self.header[self.header_len] = bytes[0];
        if let Some(header) = Header::parse(&self.header[..=self.header_len]) {
            if !header.is_shortest {
                return 0;
            }
            self.begin_payload(&header);
            self.header_len = 0;
        } else {
            self.header_len += 1;
        }
        1
    }

    fn begin_payload(&mut self, header: &Header) {
        self.payload_left = header.payload;
        self.large = header.payload >= LARGE as u64;
        if header.is_data {
            let before = if self.fragmented { self.message } else { 0 };
            self.message = before.saturating_add(header.payload);
            self.fragmented = !header.is_final;
        }
    }

    fn is_inside_message(&self) -> bool {
        self.header_len > 0 || self.payload_left > 0 || self.fragmented
    }
}

/// What the walk needs of a client frame's header (RFC 6455 section 5.2).
struct Header {
    len: usize,
    payload: u64,
    is_final: bool,
    is_data: bool,
    /// Its length could not have been said in fewer bytes.
    is_shortest: bool,
}

impl Header {
    /// The header that these bytes begin with, if all of it is there.
    fn parse(bytes: &[u8]) -> Option<Header> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let mask = if second & 0x80 != 0 { 4 } else { 0 };
        let (len, payload, shortest) = match second & 0x7F {
            126 => (4 + mask, u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 126),
            127 => (10 + mask, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 1 << 16),
            short => (2 + mask, u64::from(short), 0),
        };
        let (is_final, is_data) = (first & 0x80 != 0, first & 0x0F < 8);
        (bytes.len() >= len).then_some(Header { len, payload, is_final, is_data, is_shortest: payload >= shortest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | len as u8),
            len @ 126..=0xFFFF => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
        frame
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Event {
        Message(Message),
        Ping(Bytes),
    }

    impl Sink for Vec<Event> {
        fn message(&mut self, message: Message) {
            self.push(Event::Message(message));
        }

        fn ping(&mut self, payload: Bytes) {
            self.push(Event::Ping(payload));
        }
    }

    /// Feeds `wire` in pieces of `step` bytes and collects what comes out.
    fn read_all(reader: &mut Reader, wire: &[u8], step: usize) -> Result<Vec<Event>, Violation> {
        let mut events = Vec::new();
        for piece in wire.chunks(step) {
            assert_eq!(reader.read(piece, &mut events)?, None);
        }
        Ok(events)
    }

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let sizes = [0, 1, 125, 126, 4096, LARGE - 1, LARGE, 3, 70_000, 5];
        let payloads: Vec<Vec<u8>> = sizes.iter().map(|&size| (0..size).map(|i| i as u8).collect()).collect();
        let wire: Vec<u8> = payloads.iter().flat_map(|payload| masked(0x82, payload)).collect();
        for step in [1, 2, 7, 4096, 65_536, usize::MAX >> 1] {
            let mut reader = Reader::new(Role::Server, 1 << 20);
            let events = read_all(&mut reader, &wire, step).unwrap();
            assert_eq!(events.len(), payloads.len(), "step {step}");
            for (event, payload) in events.into_iter().zip(&payloads) {
                let Event::Message(message) = event else { panic!("{event:?}") };
                assert_eq!(&message.data[..], &payload[..], "step {step}");
            }
            assert!(!reader.is_inside_message());
        }
    }

    #[test]
    fn a_control_frame_between_fragments_comes_first() {
        let wire = [masked(0x01, b"he"), masked(0x89, b"p"), masked(0x80, b"llo")].concat();
        let mut reader = Reader::new(Role::Server, 100);
        let events = read_all(&mut reader, &wire, 1000).unwrap();
        let text = Message { kind: Kind::Text, data: "hello".into() };
        assert_eq!(events, [Event::Ping("p".into()), Event::Message(text)]);
    }

    #[test]
    fn what_follows_a_large_message_of_small_fragments_is_not_lost() {
        let mut wire = masked(0x02, &[7; 1000]);
        for _ in 0..LARGE / 1000 + 1 {
            wire.extend(masked(0x00, &[7; 1000]));
        }
        wire.extend(masked(0x80, &[7; LARGE]));
        wire.extend(masked(0x81, b"next"));
        wire.extend(masked(0x01, &[b'x'; LARGE]));
        wire.extend(masked(0x80, b"end"));
        wire.extend(masked(0x81, b"last"));
        for step in [3, 4096, 1 << 20] {
            let events = read_all(&mut Reader::new(Role::Server, 1 << 20), &wire, step).unwrap();
            let lengths: Vec<_> = events
                .iter()
                .map(|event| if let Event::Message(message) = event { message.data.len() } else { 0 })
                .collect();
            assert_eq!(lengths, [(LARGE / 1000 + 2) * 1000 + LARGE, 4, LARGE + 3, 4], "step {step}");
        }
    }

    #[test]
    fn a_message_that_has_begun_is_known() {
        let frame = masked(0x82, b"abc");
        for cut in 1..frame.len() {
            let mut reader = Reader::new(Role::Server, 100);
            assert_eq!(read_all(&mut reader, &frame[..cut], 100), Ok(vec![]));
            assert!(reader.is_inside_message(), "{cut}");
        }
        let mut reader = Reader::new(Role::Server, 100);
        read_all(&mut reader, &masked(0x02, b"abc"), 100).unwrap();
        assert!(reader.is_inside_message(), "a fragment is open");
        read_all(&mut reader, &masked(0x80, b""), 100).unwrap();
        assert!(!reader.is_inside_message());
    }

    #[test]
    fn each_violation_has_its_close_code() {
        let table: [(&str, Vec<u8>, u16); 9] = [
            ("unmasked", vec![0x81, 1, b'x'], 1002),
            ("reserved bit", masked(0xC1, b"x"), 1002),
            ("reserved opcode", masked(0x83, b"x"), 1002),
            ("long ping", masked(0x89, &[0; 126]), 1002),
            ("fragmented ping", masked(0x09, b"x"), 1002),
            ("stray continuation", masked(0x80, b"x"), 1002),
            ("bad utf-8", masked(0x81, b"\xff"), 1007),
            ("too long", masked(0x82, &[0; 101]), 1009),
            ("too long in fragments", [masked(0x02, &[0; 60]), masked(0x80, &[0; 60])].concat(), 1009),
        ];
        for (name, wire, code) in table {
            let violation = read_all(&mut Reader::new(Role::Server, 100), &wire, 1000).unwrap_err();
            assert_eq!(violation.code, code, "{name}: {violation:?}");
        }
    }

    #[test]
    fn a_length_that_is_not_in_its_shortest_form_is_refused_behind_what_came_before() {
        let mask = [0; 4];
        let long = |first: u8, length: u16| [&[first, 0x80 | 126], &length.to_be_bytes()[..], &mask].concat();
        let longest = |length: u64| [&[0x82, 0x80 | 127], &length.to_be_bytes()[..], &mask].concat();
        let headers = [long(0x82, 0), long(0x82, 125), long(0x89, 5), longest(0), longest(125), longest(65_535)];
        for header in headers {
            let wire = [masked(0x82, b"before"), header.clone(), vec![0; 200]].concat();
            for step in [1, 7, 9, 1000] {
                let (mut reader, mut events) = (Reader::new(Role::Server, 1 << 20), Vec::new());
                let read = wire.chunks(step).try_for_each(|piece| reader.read(piece, &mut events).map(drop));
                assert_eq!(read.map_err(|violation| violation.code), Err(1002), "{header:?} in steps of {step}");
                assert_eq!(events.len(), 1, "{header:?} in steps of {step}");
            }
        }
        for shortest in [[long(0x82, 126), vec![0; 126]].concat(), [longest(65_536), vec![0; 65_536]].concat()] {
            assert_eq!(read_all(&mut Reader::new(Role::Server, 1 << 20), &shortest, 1000).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_close_ends_the_reading() {
        let read = |wire: &[u8]| Reader::new(Role::Server, 100).read(wire, &mut Vec::new());
        let close = |code, reason: &str| Ok(Some(Close { code, reason: reason.to_owned() }));
        assert_eq!(read(&masked(0x88, b"")), close(None, ""));
        assert_eq!(read(&masked(0x88, b"\x03\xe8bye")), close(Some(1000), "bye"));
        assert_eq!(read(&[masked(0x88, b"\x03\xe8"), masked(0x81, b"x")].concat()), close(Some(1000), ""));
        assert_eq!(read(&masked(0x88, b"\x03\xed")).map(|close| close.and_then(|close| close.code)), Ok(Some(1002)));
        assert_eq!(read(&masked(0x88, b"\x03")).map_err(|violation| violation.code), Err(1002));
    }

    #[test]
    fn fragments_that_announce_too_much_are_refused_before_they_come() {
        let mut wire = masked(0x02, &[0; 60]);
        wire.extend_from_slice(&[0x80, 0x80 | 60, 1, 2, 3, 4]);
        let violation = read_all(&mut Reader::new(Role::Server, 100), &wire, 1000).unwrap_err();
        assert_eq!(violation.code, 1009);
        let fits = [masked(0x02, &[0; 60]), masked(0x80, &[0; 40]), masked(0x82, &[0; 100])].concat();
        assert_eq!(read_all(&mut Reader::new(Role::Server, 100), &fits, 1000).unwrap().len(), 2);
    }

    #[test]
    fn a_rest_keeps_what_has_begun() {
        let mut reader = Reader::new(Role::Server, 100);
        let frame = masked(0x81, b"hello");
        assert_eq!(read_all(&mut reader, &frame[..7], 100), Ok(vec![]));
        reader.rest();
        let events = read_all(&mut reader, &frame[7..], 100).unwrap();
        assert_eq!(events.len(), 1);
        reader.rest();
        assert!(reader.context.is_none());
    }
}
