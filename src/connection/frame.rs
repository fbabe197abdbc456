//! Frames as they are written (RFC 6455 section 5.2), masked where we are the client, and how they
//! are collected into as few writes as possible.

use std::io::IoSlice;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::message::{Kind, Message};
use crate::system::large;

/// Which end of a connection we are: a client masks its frames, a server does not (RFC 6455 section 5.1).
pub use tungstenite::protocol::Role;

/// From this size on a payload is written from where it lies instead of being copied behind its header.
pub const LARGE: usize = 16 << 10;

/// The most bytes and messages of small messages that are joined into one frame.
const JOINED_BYTES: usize = 64 << 10;

/// The longest header: two bytes, a 64-bit length and a masking key.
pub const HEADER_MAX: usize = 14;

/// One piece of an outbox: whole WebSocket frames, encoded, never to be split between peers.
///
/// It holds one large message (header and payload apart), or any number of small messages
/// joined, or control frames. Cloning it copies no payload.
#[derive(Debug, Clone)]
pub struct Frame {
    header: [u8; HEADER_MAX],
    header_len: u8,
    body: Bytes,
    messages: u32,
}

impl Frame {
    /// A server's frame of one message; the payload is not copied.
    pub fn message(message: &Message) -> Frame {
        let mut header = [0; HEADER_MAX];
        let header_len = write_header(&mut header, opcode(message.kind), message.data.len());
        Frame { header, header_len: header_len as u8, body: message.data.clone(), messages: 1 }
    }

    /// A client's frame of one message. The payload is masked where it lies, unless others share it.
    pub fn masked(message: Message) -> Frame {
        let mut header = [0; HEADER_MAX];
        let unmasked_len = write_header(&mut header, opcode(message.kind), message.data.len());
        let (header_len, key) = add_masking_key(&mut header, unmasked_len);
        let body = match message.data.try_into_mut() {
            Ok(mut own) => {
                mask(&mut own, key);
                own.freeze()
            }
            Err(shared) => {
                let mut copy = BytesMut::from(&shared[..]);
                mask(&mut copy, key);
                large::returning(copy.freeze())
            }
        };
        Frame { header, header_len: header_len as u8, body, messages: 1 }
    }

    /// Encoded frames that hold `messages` messages.
    pub fn joined(encoded: Bytes, messages: u32) -> Frame {
        Frame { header: [0; HEADER_MAX], header_len: 0, body: encoded, messages }
    }

    /// A ping, pong or close frame; the payload has at most 125 bytes (RFC 6455 section 5.5).
    pub fn control(role: Role, control: Control, payload: &[u8]) -> Frame {
        debug_assert!(payload.len() <= CONTROL_MAX);
        let mut encoded = Vec::with_capacity(6 + payload.len());
        append_control(role, &mut encoded, control, payload);
        Frame::joined(encoded.into(), 0)
    }

    /// A close frame. The reason is cut at a character boundary where it would not fit.
    pub fn close(role: Role, code: Option<u16>, reason: &str) -> Frame {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            let mut end = reason.len().min(CONTROL_MAX - 2);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            payload.extend_from_slice(&reason.as_bytes()[..end]);
        }
        Frame::control(role, Control::Close, &payload)
    }

    /// How many messages it holds; 0 for control frames, which no policy drops.
    pub fn messages(&self) -> usize {
        self.messages as usize
    }

    /// Its bytes on the wire, headers included.
    pub fn len(&self) -> usize {
        usize::from(self.header_len) + self.body.len()
    }

    /// Whether nobody else has its bytes.
    pub fn is_alone(&self) -> bool {
        self.body.is_unique()
    }

    /// What is left of it when its first `written` bytes are with a peer that will read no more of
    /// them: the WebSocket frames in it of which at least a byte is missing, whole.
    pub fn whole_from(self, written: usize) -> Frame {
        if self.header_len > 0 {
            return self;
        }
        let (mut start, mut messages) = (0, self.messages);
        while let Some((len, is_message)) = frame_at(&self.body[start..]).filter(|(len, _)| start + len <= written) {
            start += len;
            messages -= u32::from(is_message);
        }
        Frame { body: self.body.slice(start..), messages, ..self }
    }

    /// Where each of its messages ends, if it holds several: how many messages and bytes it has up to there.
    pub fn ends(&self) -> impl Iterator<Item = (usize, usize)> {
        let joined = if self.messages > 1 { &self.body[..] } else { &[] };
        let (mut messages, mut at) = (0, 0);
        std::iter::from_fn(move || {
            let (len, is_message) = frame_at(&joined[at..])?;
            messages += usize::from(is_message);
            at += len;
            Some((messages, at))
        })
    }

    /// What comes up to one of its [`ends`](Frame::ends). It has memory of its own: what it was a part of may be dropped.
    pub fn up_to(&self, (messages, bytes): (usize, usize)) -> Frame {
        Frame::joined(Bytes::copy_from_slice(&self.body[..bytes]), messages as u32)
    }

    /// What comes behind one of its [`ends`](Frame::ends). It keeps the memory of all of it.
    pub fn behind(&self, (messages, bytes): (usize, usize)) -> Frame {
        Frame::joined(self.body.slice(bytes..), self.messages - messages as u32)
    }

    /// The part of a joined frame at these bytes, which hold whole WebSocket frames with `messages` messages. It shares
    /// the memory.
    pub fn part(&self, bytes: Range<usize>, messages: u32) -> Frame {
        if bytes.len() == self.len() {
            return self.clone();
        }
        Frame::joined(self.body.slice(bytes), messages)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole frame as one slice, where it lies in one piece.
    pub fn as_one(&self) -> Option<&[u8]> {
        (self.header_len == 0).then_some(&self.body[..])
    }

    /// Its bytes from `offset` on, as up to two slices.
    pub fn slices(&self, offset: usize) -> [IoSlice<'_>; 2] {
        let header = &self.header[..usize::from(self.header_len)];
        let skipped = offset.min(header.len());
        [IoSlice::new(&header[skipped..]), IoSlice::new(&self.body[offset - skipped..])]
    }
}

/// The largest payload of a control frame.
pub const CONTROL_MAX: usize = 125;

/// The control frames (RFC 6455 section 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Opcode 8.
    Close,
    /// Opcode 9.
    Ping,
    /// Opcode 10.
    Pong,
}

/// Collects the messages of one turn for one destination into frames.
///
/// Small messages are joined up to the limits; a large one keeps its own buffer.
#[derive(Debug)]
pub struct Cork {
    role: Role,
    frames: Vec<Frame>,
    tail: Vec<u8>,
    tail_messages: u32,
    limits: CorkLimits,
}

/// How much one joined frame may hold.
///
/// It is at most half of the receiving outbox: a healthy client whose outbox is not yet half full
/// never loses a message because messages were joined.
#[derive(Debug, Clone, Copy)]
pub struct CorkLimits {
    messages: u32,
    bytes: usize,
}

impl CorkLimits {
    /// The limits for outboxes of `messages` messages and `bytes` bytes.
    pub fn for_queue(messages: usize, bytes: usize) -> CorkLimits {
        CorkLimits {
            messages: u32::try_from(messages / 2).unwrap_or(u32::MAX).max(1),
            bytes: (bytes / 2).min(JOINED_BYTES),
        }
    }

    /// Nothing is joined.
    pub const ONE_MESSAGE: CorkLimits = CorkLimits { messages: 1, bytes: 0 };

    /// Whether so many messages and bytes may be in one frame.
    pub fn admit(&self, messages: usize, bytes: usize) -> bool {
        messages <= self.messages as usize && bytes <= self.bytes
    }
}

impl Cork {
    /// An empty cork for frames of a server.
    pub fn new(limits: CorkLimits) -> Cork {
        Cork { role: Role::Server, frames: Vec::new(), tail: Vec::new(), tail_messages: 0, limits }
    }

    /// An empty cork for frames of a client.
    pub fn masked(limits: CorkLimits) -> Cork {
        Cork { role: Role::Client, ..Cork::new(limits) }
    }

    /// Other limits hold from now on.
    pub fn set_limits(&mut self, limits: CorkLimits) {
        self.limits = limits;
    }

    /// Adds a message; `expected` is a guess at the bytes that this turn will bring in all.
    pub fn push(&mut self, message: &Message, expected: usize) {
        if message.data.len() >= LARGE {
            self.push_large(message.clone());
        } else {
            self.push_borrowed(message.kind, &message.data, expected);
        }
    }

    /// As [`push`](Cork::push), for a small message that is copied anyway.
    #[inline]
    pub fn push_borrowed(&mut self, kind: Kind, payload: &[u8], expected: usize) {
        let len = payload.len();
        if self.tail_messages >= self.limits.messages || self.tail.len() + HEADER_MAX + len > self.limits.bytes {
            self.cut();
        }
        if self.tail.capacity() == 0 {
            // A lone message fills its buffer: to be shared, one that is not full needs a second piece of memory.
            let own = header_len(self.role, len) + len;
            let is_lone = expected <= HEADER_MAX + len;
            self.tail.reserve_exact(if is_lone { own } else { expected.min(self.limits.bytes).max(own) });
        }
        append_frame(self.role, &mut self.tail, opcode(kind), payload);
        self.tail_messages += 1;
    }

    /// As [`push`](Cork::push), for a message that nobody else gets: it is masked where it lies.
    pub fn push_owned(&mut self, message: Message, expected: usize) {
        if message.data.len() >= LARGE {
            self.push_large(message);
        } else {
            self.push_borrowed(message.kind, &message.data, expected);
        }
    }

    fn push_large(&mut self, message: Message) {
        self.cut();
        self.frames.push(match self.role {
            Role::Server => Frame::message(&message),
            Role::Client => Frame::masked(message),
        });
    }

    /// Whether nothing was pushed since the last [`take`](Cork::take).
    pub fn is_empty(&self) -> bool {
        self.tail_messages == 0 && self.frames.is_empty()
    }

    /// What was collected, as one frame if it is one.
    pub fn take(&mut self) -> Corked {
        if self.frames.is_empty() {
            return Corked::One(self.take_tail());
        }
        self.cut();
        Corked::Many(std::mem::take(&mut self.frames))
    }

    fn cut(&mut self) {
        if self.tail_messages > 0 {
            let frame = self.take_tail();
            self.frames.push(frame);
        }
    }

    fn take_tail(&mut self) -> Frame {
        let mut tail = std::mem::take(&mut self.tail);
        // The turn has brought much less for this destination than in all. A queue counts what is in its frames, so they
        // keep no more.
        if tail.len() < tail.capacity() / 2 {
            tail.shrink_to_fit();
        }
        Frame::joined(tail.into(), std::mem::take(&mut self.tail_messages))
    }
}

/// The frames of one turn.
#[derive(Debug)]
pub enum Corked {
    /// The common case: all in one.
    One(Frame),
    /// Several, in order.
    Many(Vec<Frame>),
}

impl Corked {
    /// The frames, in order.
    pub fn as_slice(&self) -> &[Frame] {
        match self {
            Corked::One(frame) => std::slice::from_ref(frame),
            Corked::Many(frames) => frames,
        }
    }
}

/// Joins frames that were made apart into one; the caller has asked [`CorkLimits::admit`]. One
/// alone is not copied.
pub fn join(mut frames: Vec<Frame>) -> Frame {
    if frames.len() == 1 {
        return frames.remove(0);
    }
    let mut encoded = Vec::with_capacity(frames.iter().map(Frame::len).sum());
    for frame in &frames {
        for slice in frame.slices(0) {
            encoded.extend_from_slice(&slice);
        }
    }
    Frame::joined(encoded.into(), frames.iter().map(|frame| frame.messages).sum())
}

/// Appends a control frame to encoded frames.
pub fn append_control(role: Role, encoded: &mut Vec<u8>, control: Control, payload: &[u8]) {
    let opcode = match control {
        Control::Close => 0x8,
        Control::Ping => 0x9,
        Control::Pong => 0xA,
    };
    append_frame(role, encoded, opcode, payload);
}

fn append_frame(role: Role, encoded: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let mut header = [0; HEADER_MAX];
    let header_len = write_header(&mut header, opcode, payload.len());
    match role {
        Role::Server => {
            encoded.extend_from_slice(&header[..header_len]);
            encoded.extend_from_slice(payload);
        }
        Role::Client => {
            let (header_len, key) = add_masking_key(&mut header, header_len);
            encoded.extend_from_slice(&header[..header_len]);
            let start = encoded.len();
            encoded.extend_from_slice(payload);
            mask(&mut encoded[start..], key);
        }
    }
}

/// The length of the frame that our own encoded `bytes` begin with, and whether it is a message.
fn frame_at(bytes: &[u8]) -> Option<(usize, bool)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let key = if second & 0x80 != 0 { 4 } else { 0 };
    let len = match second & 0x7F {
        126 => 4 + usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        127 => 10 + u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize,
        short => 2 + usize::from(short),
    };
    Some((len + key, first & 0x0F < 8))
}

/// Makes a header one of a masked frame, with a key that nobody can foresee (RFC 6455 section 5.3).
fn add_masking_key(header: &mut [u8; HEADER_MAX], len: usize) -> (usize, [u8; 4]) {
    let key: [u8; 4] = rand::random();
    header[1] |= 0x80;
    header[len..len + 4].copy_from_slice(&key);
    (len + 4, key)
}

/// Masks or unmasks a payload in place, eight bytes at a time (RFC 6455 section 5.3).
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

fn opcode(kind: Kind) -> u8 {
    match kind {
        Kind::Text => 0x1,
        Kind::Binary => 0x2,
    }
}

/// The length of a header for so much payload.
fn header_len(role: Role, len: usize) -> usize {
    let key = if role == Role::Client { 4 } else { 0 };
    key + match len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Writes FIN, opcode and the shortest form of the length; returns the header's length.
fn write_header(header: &mut [u8; HEADER_MAX], opcode: u8, len: usize) -> usize {
    header[0] = 0x80 | opcode;
    write_length(header, len as u64)
}

/// Writes the shortest form of a payload's length behind a header's first byte; returns the header's length.
pub fn write_length(header: &mut [u8; HEADER_MAX], len: u64) -> usize {
    match len {
        0..=125 => {
            header[1] = len as u8;
            2
        }
        126..=0xFFFF => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&len.to_be_bytes());
            10
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(frame: &Frame, offset: usize) -> Vec<u8> {
        frame.slices(offset).iter().flat_map(|slice| slice.to_vec()).collect()
    }

    fn text(len: usize) -> Message {
        Message { kind: Kind::Text, data: vec![b'x'; len].into() }
    }

    #[test]
    fn a_header_uses_the_shortest_length() {
        for (len, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65535, vec![0x81, 126, 0xFF, 0xFF]),
            (65536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let bytes = bytes_of(&Frame::message(&text(len)), 0);
            assert_eq!(&bytes[..header.len()], &header[..], "{len}");
            assert_eq!(bytes.len(), header.len() + len);
        }
    }

    #[test]
    fn a_frame_can_be_continued_at_any_byte() {
        let frame = Frame::message(&text(300));
        let whole = bytes_of(&frame, 0);
        for offset in 0..=whole.len() {
            assert_eq!(bytes_of(&frame, offset), whole[offset..], "{offset}");
        }
    }

    #[test]
    fn a_lone_message_fills_its_buffer() {
        let limits = CorkLimits::for_queue(100, 1 << 20);
        for (mut cork, len) in
            [0, 125, 126, 10_000].into_iter().flat_map(|len| [(Cork::new(limits), len), (Cork::masked(limits), len)])
        {
            // What a client has sent to bring it.
            let read = header_len(Role::Client, len) + len;
            cork.push(&text(len), read);
            assert_eq!(cork.tail.capacity(), cork.tail.len(), "{len}");
            cork.push(&text(len), read);
            assert_eq!(cork.take().as_slice()[0].messages(), 2);
        }
    }

    #[test]
    fn l13_a_frame_keeps_little_more_than_its_own_size() {
        let limits = CorkLimits::for_queue(100, 1 << 20);
        for (mut cork, len) in
            [0, 64, 10_000].into_iter().flat_map(|len| [(Cork::new(limits), len), (Cork::masked(limits), len)])
        {
            // The rest of the read is for others.
            cork.push(&text(len), 64 << 10);
            let Corked::One(frame) = cork.take() else { panic!("it is one message") };
            let (len, kept) = (frame.len(), frame.body.try_into_mut().unwrap().capacity());
            assert!(kept <= 2 * len, "{kept} bytes for {len}");
        }
    }

    #[test]
    fn of_joined_frames_those_that_are_not_written_whole_are_left() {
        for mut cork in
            [Cork::new(CorkLimits::for_queue(100, 1 << 20)), Cork::masked(CorkLimits::for_queue(100, 1 << 20))]
        {
            let lens = [3, 200, 0, 10_000];
            lens.iter().for_each(|&len| cork.push(&text(len), 0));
            let Corked::One(frame) = cork.take() else { panic!("several frames") };
            let whole = bytes_of(&frame, 0);
            let mut ends = Vec::new();
            while let Some((len, true)) = frame_at(&whole[ends.last().copied().unwrap_or(0)..]) {
                ends.push(ends.last().unwrap_or(&0) + len);
            }
            assert_eq!((ends.len(), ends[3]), (4, whole.len()));
            for written in 0..=whole.len() {
                let done = ends.iter().filter(|&&end| end <= written).count();
                let left = frame.clone().whole_from(written);
                assert_eq!(left.messages(), 4 - done, "{written}");
                assert_eq!(bytes_of(&left, 0), whole[done.checked_sub(1).map_or(0, |last| ends[last])..], "{written}");
            }
        }
        let large = Frame::message(&text(LARGE));
        assert_eq!(large.clone().whole_from(LARGE).len(), large.len());
    }

    #[test]
    fn a_cork_joins_small_messages_and_keeps_large_ones_apart_and_in_order() {
        let mut cork = Cork::new(CorkLimits::for_queue(100, 1 << 20));
        for len in [3, 4, LARGE, 5] {
            cork.push(&text(len), 64);
        }
        let Corked::Many(frames) = cork.take() else { panic!("one frame") };
        let shape: Vec<_> = frames.iter().map(|frame| (frame.messages(), frame.len())).collect();
        assert_eq!(shape, [(2, 11), (1, LARGE + 4), (1, 7)]);
        assert!(cork.is_empty());
    }

    #[test]
    fn a_joined_frame_is_at_most_half_of_the_queue() {
        let mut cork = Cork::new(CorkLimits::for_queue(4, 100));
        for _ in 0..3 {
            cork.push(&text(10), 64);
        }
        cork.push(&text(40), 64);
        let frames: Vec<_> = cork.take().as_slice().iter().map(Frame::messages).collect();
        assert_eq!(frames, [2, 1, 1]);
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = Frame::close(Role::Server, Some(1000), &"é".repeat(100));
        let bytes = bytes_of(&frame, 0);
        assert_eq!(bytes.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&bytes[4..]).is_ok());
        assert_eq!(bytes_of(&Frame::close(Role::Server, None, "ignored"), 0), [0x88, 0]);
    }

    /// What a server reads in a masked frame: its header without the key, and the payload.
    fn unmasked(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
        assert_eq!(frame[1] & 0x80, 0x80, "not masked");
        let len = match frame[1] & 0x7F {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let key = &frame[len..len + 4];
        let payload = frame[len + 4..].iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        let mut header = frame[..len].to_vec();
        header[1] &= 0x7F;
        (header, payload)
    }

    #[test]
    fn a_client_masks_what_a_server_then_reads() {
        for len in [0, 1, 3, 7, 8, 9, 125, 126, 1000, LARGE, 200_000] {
            let payload: Bytes = (0..len).map(|i| i as u8).collect::<Vec<_>>().into();
            let message = Message { kind: Kind::Binary, data: payload.clone() };
            let plain = bytes_of(&Frame::message(&message), 0);
            let mut cork = Cork::masked(CorkLimits::for_queue(100, 1 << 20));
            cork.push(&message, 0);
            let corked = bytes_of(&cork.take().as_slice()[0], 0);
            let shared = bytes_of(&Frame::masked(message.clone()), 0);
            assert_eq!(message.data, payload, "a payload that is shared was changed");
            drop(payload);
            let own = bytes_of(&Frame::masked(message), 0);
            for frame in [corked, shared, own] {
                let (header, payload) = unmasked(&frame);
                assert_eq!([header, payload].concat(), plain, "{len}");
            }
        }
        let close = bytes_of(&Frame::close(Role::Client, Some(1000), "bye"), 0);
        assert_eq!(unmasked(&close), (vec![0x88, 5], b"\x03\xe8bye".to_vec()));
    }
}
