//! From received bytes to messages.
//!
//! The reader knows the boundaries of frames. A data frame that is a whole message, as nearly all are, is unmasked where
//! it lies in what was read, or collected where it does not lie there whole. So is a Close, whose code must be known as it
//! came. All other frames, fragments, pings and pongs, are parsed by tungstenite, which never touches the socket: it is
//! handed a frame, or a piece of a large one, as a stream that "would block" at its end; what it wants to write (pongs) is
//! swallowed, since the outbox answers.
//!
//! What is wrong with a header is told before the payload has come. Memory grows with what arrives, not with what a
//! header announces, and an idle client has none: tungstenite exists only inside a fragmented message, or while what was
//! read has frames for it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tungstenite::error::CapacityError;
use tungstenite::protocol::{WebSocketConfig, WebSocketContext};

use super::close::{Close, Violation};
use super::collected::Collected;
use super::frame::{CONTROL_MAX, HEADER_MAX, LARGE, Role, mask};
use super::header::Header;
use crate::message::{Kind, Message};
use crate::system::large;

/// tungstenite's read buffer: what it copies at a time.
const READ_BUFFER: usize = 4 << 10;

const NOT_UTF8: &str = "text is not valid UTF-8";

/// Where what a client has sent goes, in order.
pub trait Sink {
    /// A complete text or binary message.
    fn message(&mut self, message: Message);

    /// A complete message that is not large and whose payload lies in what was read; text is valid UTF-8.
    fn borrowed(&mut self, kind: Kind, payload: &[u8]) {
        self.message(Message { kind, data: Bytes::copy_from_slice(payload) });
    }

    /// A ping; the payload is to be sent back (RFC 6455 section 5.5.2).
    fn ping(&mut self, payload: Bytes);

    /// A pong; that something came is all that it says.
    fn pong(&mut self) {}
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct Reader {
    role: Role,
    max_message: usize,
    /// The same for the next message.
    next_max_message: usize,
    stage: Stage,
    /// What the fragments of the present message announce together, in bytes; `None` outside of a fragmented message.
    fragmented: Option<u64>,
    /// What parses fragments and control frames.
    parser: Option<Box<WebSocketContext>>,
}

/// What comes next.
#[derive(Debug)]
enum Stage {
    /// A header, or the rest of one of which these bytes have come.
    Header { begun: [u8; HEADER_MAX], len: usize },
    /// The payload of a frame that is a whole message.
    Whole(Collected),
    /// The payload of a Close.
    Close(Collected),
    /// The payload of another frame.
    Pieces(Pieces),
}

/// Between two frames.
const BETWEEN: Stage = Stage::Header { begun: [0; HEADER_MAX], len: 0 };

/// The payload of a frame that is handed to the parser in pieces, each as a frame of its own.
#[derive(Debug)]
struct Pieces {
    header: Header,
    /// Bytes that are still to come, and those of the present piece.
    left: u64,
    piece_left: usize,
}

impl Reader {
    /// A reader at our end, `role`, that refuses messages over `max_message` bytes, fragments together.
    pub fn new(role: Role, max_message: usize) -> Reader {
        let next_max_message = max_message;
        Reader { role, max_message, next_max_message, stage: BETWEEN, fragmented: None, parser: None }
    }

    /// Refuses messages over `max_message` bytes from the next one on that begins.
    pub fn set_max_message(&mut self, max_message: usize) {
        self.next_max_message = max_message;
    }

    /// Reads all of `input` into the sink, or up to the peer's Close or the first violation. Payloads are unmasked where
    /// they lie.
    pub fn read(&mut self, mut input: &mut [u8], sink: &mut impl Sink) -> Result<Option<Close>, Violation> {
        while !input.is_empty() {
            let (count, close) = match &self.stage {
                Stage::Header { .. } => self.read_frame(input, sink)?,
                Stage::Whole(_) => (self.read_whole(input, sink)?, None),
                Stage::Close(_) => self.read_close(input)?,
                Stage::Pieces(_) => (self.read_piece(input, sink)?, None),
            };
            if close.is_some() {
                return Ok(close);
            }
            input = &mut input[count..];
        }
        if !self.is_inside_message() {
            self.parser = None;
        }
        Ok(None)
    }

    /// Whether a message or a control frame has begun that is not yet complete.
    pub fn is_inside_message(&self) -> bool {
        !matches!(self.stage, Stage::Header { len: 0, .. }) || self.fragmented.is_some()
    }

    /// How many bytes of the present message are here.
    pub fn unfinished(&self) -> usize {
        let before = self.fragmented.unwrap_or(0);
        match &self.stage {
            Stage::Whole(collected) => collected.len(),
            Stage::Pieces(pieces) => before.saturating_sub(pieces.left) as usize,
            Stage::Header { .. } | Stage::Close(_) => before as usize,
        }
    }

    /// Reads a header, and its frame if all of it is there; says how many bytes that were.
    #[inline]
    fn read_frame(&mut self, input: &mut [u8], sink: &mut impl Sink) -> Result<(usize, Option<Close>), Violation> {
        let (header, len) = match (&self.stage, Header::parse(input)) {
            (Stage::Header { len: 0, .. }, Some(header)) => (header, header.len),
            _ => match self.continue_header(input) {
                (len, Some(header)) => (header, len),
                (len, None) => return Ok((len, None)),
            },
        };
        let is_whole = header.is_data() && header.is_final && self.fragmented.is_none();
        self.judge(&header)?;
        let payload = &mut input[len..];
        let is_here = header.payload <= payload.len() as u64 && header.payload < LARGE as u64;
        if is_whole && is_here {
            let payload = &mut payload[..header.payload as usize];
            header.key.iter().for_each(|key| mask(payload, *key));
            if header.kind() == Kind::Text {
                check_text(payload)?;
            }
            sink.borrowed(header.kind(), payload);
            return Ok((len + payload.len(), None));
        }
        if is_whole {
            self.stage = Stage::Whole(Collected::begin(&header));
        } else if header.is_close() {
            self.stage = Stage::Close(Collected::begin(&header));
            let (count, close) = self.read_close(payload)?;
            return Ok((len + count, close));
        } else if is_here && len == header.len {
            let end = len + header.payload as usize;
            self.parse(&input[..end], sink)?;
            return Ok((end, None));
        } else {
            self.begin_pieces(header, sink)?;
        }
        Ok((len, None))
    }

    /// Takes more bytes of a header that is not there whole; says how many, and the header once it is complete.
    fn continue_header(&mut self, input: &[u8]) -> (usize, Option<Header>) {
        let Stage::Header { begun, len } = &mut self.stage else { return (0, None) };
        for (count, byte) in input.iter().enumerate() {
            begun[*len] = *byte;
            *len += 1;
            if let Some(header) = Header::parse(&begun[..*len]) {
                self.stage = BETWEEN;
                return (count + 1, Some(header));
            }
        }
        (input.len(), None)
    }

    /// Refuses a header that is wrong or announces too much, and notes what a right one begins or ends.
    fn judge(&mut self, header: &Header) -> Result<(), Violation> {
        if let Some(fault) = header.fault(self.role, self.fragmented.is_some()) {
            return Err(Violation { code: 1002, reason: fault.to_owned() });
        }
        if header.is_data() {
            if self.fragmented.is_none() && self.max_message != self.next_max_message {
                self.max_message = self.next_max_message;
                self.parser = None;
            }
            let announced = self.fragmented.unwrap_or(0).saturating_add(header.payload);
            if announced > self.max_message as u64 {
                return Err(too_long(announced, self.max_message));
            }
            self.fragmented = (!header.is_final).then_some(announced);
        }
        Ok(())
    }

    /// Reads more of a frame that is a whole message.
    fn read_whole(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<usize, Violation> {
        let Stage::Whole(collected) = &mut self.stage else { return Ok(0) };
        let count = collected.take(input);
        self.go_on(sink)?;
        Ok(count)
    }

    /// Reads more of a Close; says how many bytes, and the Close once it is complete.
    fn read_close(&mut self, input: &[u8]) -> Result<(usize, Option<Close>), Violation> {
        let Stage::Close(collected) = &mut self.stage else { return Ok((0, None)) };
        let count = collected.take(input);
        if !collected.is_complete() {
            return Ok((count, None));
        }
        let Stage::Close(collected) = std::mem::replace(&mut self.stage, BETWEEN) else { return Ok((count, None)) };
        let (_, payload) = collected.end();
        Close::parse(&payload).map(|close| (count, Some(close)))
    }

    /// The message that is being collected, if one is: what comes next may be received straight into it. Call
    /// [`go_on`](Reader::go_on) then.
    pub fn collected(&mut self) -> Option<&mut Collected> {
        if let Stage::Whole(collected) = &mut self.stage { Some(collected) } else { None }
    }

    /// Checks what has come of the message that is being collected, and hands it over if that is all of it.
    pub fn go_on(&mut self, sink: &mut impl Sink) -> Result<(), Violation> {
        let Stage::Whole(collected) = &mut self.stage else { return Ok(()) };
        if collected.is_wrong() {
            // Its memory ends here: the peer may take its time to close.
            self.stage = BETWEEN;
            return Err(not_utf8());
        }
        if collected.is_complete()
            && let Stage::Whole(collected) = std::mem::replace(&mut self.stage, BETWEEN)
        {
            let (kind, data) = collected.end();
            sink.message(Message { kind, data });
        }
        Ok(())
    }

    /// Begins a frame that the parser gets in pieces.
    fn begin_pieces(&mut self, header: Header, sink: &mut impl Sink) -> Result<(), Violation> {
        let mut pieces = Pieces { header, left: header.payload, piece_left: 0 };
        let (begin, len) = pieces.begin_piece();
        if pieces.left > 0 {
            self.stage = Stage::Pieces(pieces);
        }
        self.parse(&begin[..len], sink)
    }

    /// Hands more of a frame to the parser; says how many bytes.
    fn read_piece(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<usize, Violation> {
        let Stage::Pieces(pieces) = &mut self.stage else { return Ok(0) };
        let count = pieces.piece_left.min(input.len());
        pieces.piece_left -= count;
        pieces.left -= count as u64;
        let next = (pieces.piece_left == 0 && pieces.left > 0).then(|| pieces.begin_piece());
        if pieces.left == 0 {
            self.stage = BETWEEN;
        }
        self.parse(&input[..count], sink)?;
        if let Some((begin, len)) = next {
            self.parse(&begin[..len], sink)?;
        }
        Ok(count)
    }

    /// Has the parser read these bytes.
    fn parse(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), Violation> {
        use tungstenite::{Error, Message as Parsed};
        let (role, max_message) = (self.role, self.max_message);
        let new = || Box::new(WebSocketContext::new(role, Some(config(max_message))));
        let parser = self.parser.get_or_insert_with(new);
        loop {
            match parser.read(&mut Feed { bytes: &mut bytes }) {
                Ok(Parsed::Text(text)) => sink.message(whole(Kind::Text, text.into())),
                Ok(Parsed::Binary(data)) => sink.message(whole(Kind::Binary, data)),
                Ok(Parsed::Ping(payload)) => sink.ping(payload),
                Ok(Parsed::Pong(_)) => sink.pong(),
                Ok(Parsed::Close(_)) => unreachable!("it is handed no Close"),
                Ok(Parsed::Frame(_)) => unreachable!("tungstenite reads no raw frames"),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(violation(&error)),
            }
        }
    }
}

impl Pieces {
    /// The header of the next piece, and its length.
    fn begin_piece(&mut self) -> ([u8; HEADER_MAX], usize) {
        let is_first = self.left == self.header.payload;
        let piece = self.left.min(LARGE as u64);
        self.piece_left = piece as usize;
        self.header.of_piece(piece, is_first, piece == self.left)
    }
}

fn whole(kind: Kind, data: Bytes) -> Message {
    Message { kind, data: large::returning(data) }
}

/// Text must be UTF-8 (RFC 6455 section 8.1).
fn check_text(payload: &[u8]) -> Result<(), Violation> {
    simdutf8::basic::from_utf8(payload).map(drop).map_err(|_| not_utf8())
}

fn not_utf8() -> Violation {
    Violation { code: 1007, reason: NOT_UTF8.to_owned() }
}

fn config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        // Pongs pass through here on their way to being swallowed.
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
        Error::Utf8(_) => return not_utf8(),
        Error::Protocol(error) => (1002, error.to_string()),
        other => (1002, other.to_string()),
    };
    Violation { code, reason }
}

fn too_long(size: u64, limit: usize) -> Violation {
    Violation { code: 1009, reason: format!("message of {size} bytes is over the limit of {limit}") }
}

/// The bytes of a frame, or of a piece of one, as a stream for tungstenite.
struct Feed<'a, 'b> {
    bytes: &'a mut &'b [u8],
}

impl Read for Feed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.bytes.read(buffer) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            result => result,
        }
    }
}

impl Write for Feed<'_, '_> {
    /// Swallows everything, always whole: the outbox answers pings.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
            assert_eq!(reader.read(&mut piece.to_vec(), &mut events)?, None);
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
    fn a_long_text_is_checked_as_it_comes_wherever_it_is_cut() {
        let text = "aé€😀".repeat(3 * LARGE / 10);
        for step in [1, 7, 4096, LARGE, 1 << 20] {
            let events =
                read_all(&mut Reader::new(Role::Server, 1 << 20), &masked(0x81, text.as_bytes()), step).unwrap();
            assert_eq!(events, [Event::Message(Message { kind: Kind::Text, data: text.clone().into() })], "{step}");
        }
        let wrong_at = LARGE + 3;
        let mut wrong = text.clone().into_bytes();
        wrong[wrong_at] = 0xff;
        let half = &text.as_bytes()[..text.len() - 1];
        for (name, payload, come) in [("wrong", &wrong[..], wrong_at + 1), ("half a character", half, half.len())] {
            let wire = masked(0x81, payload);
            let header = wire.len() - payload.len();
            let mut reader = Reader::new(Role::Server, 1 << 20);
            let read = (1..=wire.len()).find_map(|end| {
                let read = reader.read(&mut wire[end - 1..end].to_vec(), &mut Vec::<Event>::new());
                read.err().map(|violation| (end, violation.code))
            });
            assert_eq!(read, Some((header + come, 1007)), "{name}");
            assert_eq!(reader.unfinished(), 0, "{name}: its memory is kept");
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
                let read =
                    wire.chunks(step).try_for_each(|piece| reader.read(&mut piece.to_vec(), &mut events).map(drop));
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
        let read = |wire: &[u8]| Reader::new(Role::Server, 100).read(&mut wire.to_vec(), &mut Vec::new());
        let close = |code, reason: &str| Ok(Some(Close { code, reason: reason.to_owned() }));
        assert_eq!(read(&masked(0x88, b"")), close(None, ""));
        assert_eq!(read(&masked(0x88, b"\x03\xe8bye")), close(Some(1000), "bye"));
        assert_eq!(read(&[masked(0x88, b"\x03\xe8"), masked(0x81, b"x")].concat()), close(Some(1000), ""));
        assert_eq!(read(&masked(0x88, b"\x03\xf6")), close(Some(1014), ""));
        assert_eq!(read(&masked(0x88, b"\x03\xed")), close(Some(1005), ""));
        assert_eq!(read(&masked(0x88, b"\x03")).map_err(|violation| violation.code), Err(1002));
        // Inside of a message, and however it is cut.
        let wire = [masked(0x01, b"he"), masked(0x88, b"\x03\xe8bye")].concat();
        for step in 1..wire.len() {
            let (mut reader, mut closes) = (Reader::new(Role::Server, 100), Vec::new());
            for piece in wire.chunks(step) {
                closes.extend(reader.read(&mut piece.to_vec(), &mut Vec::new()).unwrap());
            }
            assert_eq!(closes, [Close { code: Some(1000), reason: "bye".to_owned() }], "in steps of {step}");
        }
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
    fn between_messages_there_is_no_parser() {
        let mut reader = Reader::new(Role::Server, 100);
        for (wire, is_kept) in [
            (masked(0x81, b"hello"), false),
            (masked(0x89, b"p"), false),
            (masked(0x01, b"a"), true),
            (masked(0x89, b"p"), true),
            (masked(0x80, b"b"), false),
            (masked(0x8A, b""), false),
        ] {
            read_all(&mut reader, &wire, 3).unwrap();
            assert_eq!(reader.parser.is_some(), is_kept, "{wire:?}");
        }
    }

    #[test]
    fn c17_what_is_wrong_with_a_header_is_told_before_its_payload() {
        let table: [(&str, &[u8], u16); 8] = [
            ("unmasked", &[0x81, 100], 1002),
            ("reserved bit", &[0xC1, 0x80 | 100, 1, 2, 3, 4], 1002),
            ("reserved opcode", &[0x83, 0x80 | 100, 1, 2, 3, 4], 1002),
            ("stray continuation", &[0x80, 0x80 | 100, 1, 2, 3, 4], 1002),
            ("long ping", &[0x89, 0x80 | 126, 0, 126, 1, 2, 3, 4], 1002),
            ("fragmented ping", &[0x09, 0x80 | 5, 1, 2, 3, 4], 1002),
            ("top bit", &[0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1002),
            ("too long", &[0x82, 0x80 | 127, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
        ];
        for (name, header, code) in table {
            for step in [1, 3, 100] {
                let wire = [&masked(0x82, b"before"), header].concat();
                let (mut reader, mut events) = (Reader::new(Role::Server, 1000), Vec::new());
                let read =
                    wire.chunks(step).try_for_each(|piece| reader.read(&mut piece.to_vec(), &mut events).map(drop));
                assert_eq!(read.map_err(|violation| violation.code), Err(code), "{name} in steps of {step}");
                assert_eq!(events.len(), 1, "{name} in steps of {step}");
            }
        }
    }

    #[test]
    fn c13_a_large_fragment_reaches_the_parser_in_pieces() {
        let payload: Vec<u8> = (0..5 * LARGE + 7).map(|i| b'a' + (i % 26) as u8).collect();
        let (first, second) = payload.split_at(3 * LARGE + 1);
        let wire = [masked(0x01, first), masked(0x89, b"p"), masked(0x80, second), masked(0x81, b"next")].concat();
        for step in [1, 4093, 1 << 20] {
            let events = read_all(&mut Reader::new(Role::Server, 1 << 20), &wire, step).unwrap();
            let text = |data: &[u8]| Event::Message(Message { kind: Kind::Text, data: data.to_vec().into() });
            assert_eq!(events, [Event::Ping("p".into()), text(&payload), text(b"next")], "in steps of {step}");
        }
    }
}
