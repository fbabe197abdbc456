//! What a peer's bytes mean (RFC 6455 section 5), read with no regard to speed: the reader under test must find the
//! same, however the bytes arrive.

use wsgate::internals::connection::close::{Close, Violation};
use wsgate::internals::connection::frame::Role;
use wsgate::internals::message::Kind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
}

/// How the reading ended.
enum End {
    Close(Option<u16>, String),
    /// The codes of all that is wrong with the frame: which of them is told first is not laid down.
    Faults(Vec<u16>),
}

pub struct Incoming {
    /// Ours.
    role: Role,
    max_message: usize,
    /// What is not parsed yet: a part of a frame.
    rest: Vec<u8>,
    /// The message whose first fragments have come.
    open: Option<(Kind, Vec<u8>)>,
}

/// A frame's header.
struct Header {
    first: u8,
    masked: bool,
    mask: [u8; 4],
    /// The length as the second byte says it: 126 and 127 mean that it follows.
    form: u8,
    len: u64,
    /// Of the header itself.
    size: usize,
}

impl Incoming {
    pub fn new(role: Role, max_message: usize) -> Incoming {
        Incoming { role, max_message, rest: Vec::new(), open: None }
    }

    pub fn is_inside_message(&self) -> bool {
        !self.rest.is_empty() || self.open.is_some()
    }

    /// What one read should bring; `end` is what the reader said of it, which is judged here.
    pub fn read(&mut self, bytes: &[u8], end: Result<&Option<Close>, &Violation>) -> Vec<Event> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let own = self.parse(&mut events);
        match (end, own) {
            (Ok(None), None) => {}
            (Ok(Some(close)), Some(End::Close(code, reason))) => {
                assert_eq!((close.code, &close.reason), (code, &reason));
                assert_eq!(close.is_valid(), code.is_none_or(may_be_sent), "{close:?}");
                assert!(close.answer().0.is_none_or(may_be_sent), "{close:?}");
            }
            (Err(violation), Some(End::Faults(faults))) => {
                assert!(faults.contains(&violation.code), "{violation:?} where {faults:?}")
            }
            // What is wrong with a frame may be told before all of it has come.
            (Err(violation), None) => {
                let faults = Header::parse(&self.rest).map(|header| self.early_faults(&header)).unwrap_or_default();
                assert!(faults.contains(&violation.code), "{violation:?} where {faults:?}");
            }
            (end, Some(End::Close(code, reason))) => panic!("{end:?} instead of a Close with {code:?}, {reason:?}"),
            (end, Some(End::Faults(faults))) => panic!("{end:?} instead of {faults:?}"),
            (end, None) => panic!("{end:?} where nothing ends"),
        }
        events
    }

    fn parse(&mut self, events: &mut Vec<Event>) -> Option<End> {
        loop {
            let header = Header::parse(&self.rest)?;
            let end = header.len.saturating_add(header.size as u64);
            if (self.rest.len() as u64) < end {
                return None;
            }
            let faults = self.faults(&header);
            if !faults.is_empty() {
                return Some(End::Faults(faults));
            }
            let frame: Vec<u8> = self.rest.drain(..end as usize).collect();
            let payload: Vec<u8> =
                frame[header.size..].iter().enumerate().map(|(at, byte)| byte ^ header.mask[at % 4]).collect();
            let is_final = header.first & 0x80 != 0;
            match header.first & 0x0F {
                0x8 => return Some(close(&payload)),
                0x9 => events.push(Event::Ping(payload)),
                0xA => {}
                opcode => {
                    let kind = if opcode == 1 { Kind::Text } else { Kind::Binary };
                    let (kind, mut data) = self.open.take().unwrap_or((kind, Vec::new()));
                    data.extend_from_slice(&payload);
                    if kind == Kind::Text
                        && let Err(error) = std::str::from_utf8(&data)
                        && (is_final || error.error_len().is_some())
                    {
                        return Some(End::Faults(vec![1007]));
                    }
                    if is_final {
                        events.push(Event::Message(kind, data));
                    } else {
                        self.open = Some((kind, data));
                    }
                }
            }
        }
    }

    /// The close codes of all that is wrong with the frame of which only a part has come.
    fn early_faults(&self, header: &Header) -> Vec<u16> {
        let mut faults = self.faults(header);
        let (kind, mut data) = self.open.clone().unwrap_or((Kind::Text, Vec::new()));
        let payload = self.rest[header.size..].iter().enumerate().map(|(at, byte)| byte ^ header.mask[at % 4]);
        data.extend(payload);
        if kind == Kind::Text && std::str::from_utf8(&data).is_err_and(|error| error.error_len().is_some()) {
            faults.push(1007);
        }
        faults
    }

    /// The close codes of all that is wrong with a frame, as its header says.
    fn faults(&self, header: &Header) -> Vec<u16> {
        let opcode = header.first & 0x0F;
        let is_control = opcode >= 8;
        let is_final = header.first & 0x80 != 0;
        let is_out_of_order = !is_control && (opcode == 0) != self.open.is_some();
        let is_bad_control = is_control && (!is_final || header.len > 125);
        // RFC 6455 section 5.2: the shortest form must be used.
        let is_padded = matches!((header.form, header.len), (126, ..126) | (127, ..0x1_0000));
        // RFC 6455 section 5.1: clients mask, servers do not.
        let is_masked_wrong = header.masked != (self.role == Role::Server);
        let mut faults = Vec::new();
        if header.first & 0x70 != 0
            || header.len >> 63 != 0
            || is_masked_wrong
            || !matches!(opcode, 0..=2 | 8..=10)
            || is_out_of_order
            || is_bad_control
            || is_padded
        {
            faults.push(1002);
        }
        let before = self.open.as_ref().map_or(0, |(_, data)| data.len() as u64);
        // A control frame that is no control frame may be too long for any frame as well.
        let limit = if is_control { self.max_message.max(126) } else { self.max_message };
        if header.len.saturating_add(if is_control { 0 } else { before }) > limit as u64 {
            faults.push(1009);
        }
        faults
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Header> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let number = |count: usize| {
            let bytes = bytes.get(2..2 + count)?;
            Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        let form = second & 0x7F;
        let (len, size) = match form {
            126 => (number(2)?, 4),
            127 => (number(8)?, 10),
            len => (u64::from(len), 2),
        };
        let masked = second & 0x80 != 0;
        if !masked {
            return Some(Header { first, masked, mask: [0; 4], form, len, size });
        }
        let mask = bytes.get(size..size + 4)?.try_into().expect("four bytes");
        Some(Header { first, masked, mask, form, len, size: size + 4 })
    }
}

/// The codes that may be on the wire (RFC 6455 section 7.4 and what IANA has added).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn close(payload: &[u8]) -> End {
    match payload {
        [] => End::Close(None, String::new()),
        [_] => End::Faults(vec![1002]),
        [high, low, reason @ ..] => match (u16::from_be_bytes([*high, *low]), std::str::from_utf8(reason)) {
            (_, Err(_)) => End::Faults(vec![1002, 1007]),
            (code, Ok(reason)) => End::Close(Some(code), reason.to_owned()),
        },
    }
}
