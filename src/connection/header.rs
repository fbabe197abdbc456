//! The header of a frame that comes in (RFC 6455 section 5.2), and what can be wrong with it. A rule.

use super::frame::{CONTROL_MAX, HEADER_MAX, Role, write_length};
use crate::message::Kind;

/// A complete header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its own length in bytes.
    pub len: usize,
    /// The bytes of payload that it announces.
    pub payload: u64,
    /// The last or only frame of a message.
    pub is_final: bool,
    /// What the frame is: 0 to 15.
    pub opcode: u8,
    /// The masking key, if the payload is masked.
    pub key: Option<[u8; 4]>,
    has_reserved_bits: bool,
    is_shortest: bool,
}

impl Header {
    /// The header that these bytes begin with, if all of it is there.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (at, payload, shortest) = match second & 0x7F {
            126 => (4, u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 126),
            127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 1 << 16),
            short => (2, u64::from(short), 0),
        };
        let key = if second & 0x80 != 0 { Some(*bytes.get(at..)?.first_chunk()?) } else { None };
        Some(Header {
            len: at + if key.is_some() { 4 } else { 0 },
            payload,
            is_final: first & 0x80 != 0,
            opcode: first & 0x0F,
            key,
            has_reserved_bits: first & 0x70 != 0,
            is_shortest: payload >= shortest,
        })
    }

    /// Whether it is a frame of a message; else it is a control frame.
    pub fn is_data(&self) -> bool {
        self.opcode < 8
    }

    /// Whether it is a Close.
    pub fn is_close(&self) -> bool {
        self.opcode == 8
    }

    /// Text or binary, for a frame that begins a message.
    pub fn kind(&self) -> Kind {
        if self.opcode == 1 { Kind::Text } else { Kind::Binary }
    }

    /// The header of a piece of this frame that is a frame of its own, and its length. All pieces but the last have a
    /// multiple of four bytes, so the masking key holds for each.
    pub fn of_piece(&self, payload: u64, is_first: bool, is_last: bool) -> ([u8; HEADER_MAX], usize) {
        let mut header = [0; HEADER_MAX];
        header[0] = if is_first { self.opcode } else { 0 } | if self.is_final && is_last { 0x80 } else { 0 };
        let len = write_length(&mut header, payload);
        let Some(key) = self.key else { return (header, len) };
        header[1] |= 0x80;
        header[len..len + 4].copy_from_slice(&key);
        (header, len + 4)
    }

    /// What is wrong with it at our end `role`, where `fragmented` says whether fragments of a message have come. Each of
    /// these is closed with 1002.
    pub fn fault(&self, role: Role, fragmented: bool) -> Option<&'static str> {
        Some(match (self.opcode, role) {
            _ if self.has_reserved_bits => "reserved bits are set but no extension was agreed",
            (3..=7 | 11.., _) => "reserved opcode",
            (_, Role::Server) if self.key.is_none() => "frame is not masked",
            (_, Role::Client) if self.key.is_some() => "frame of a server is masked",
            (8.., _) if !self.is_final => "control frame is fragmented",
            (8.., _) if self.payload > CONTROL_MAX as u64 => "control frame has more than 125 bytes",
            (0, _) if !fragmented => "continuation without a start",
            (1 | 2, _) if fragmented => "new message inside a fragmented one",
            _ if self.payload >> 63 != 0 => "length has its highest bit set",
            _ if !self.is_shortest => "length is not in its shortest form",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_known_once_all_of_it_is_there() {
        let headers: [&[u8]; 5] = [
            &[0x81, 0],
            &[0x01, 0x80 | 5, 1, 2, 3, 4],
            &[0x82, 126, 1, 0],
            &[0x82, 0x80 | 126, 1, 0, 1, 2, 3, 4],
            &[0x80, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
        ];
        for bytes in headers {
            for cut in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..cut]), None, "{bytes:?} up to {cut}");
            }
            let header = Header::parse(bytes).unwrap();
            assert_eq!(header.len, bytes.len());
            assert_eq!(Header::parse(&[bytes, &[9; 20]].concat()), Some(header));
        }
        let header = Header::parse(headers[4]).unwrap();
        assert_eq!(
            (header.payload, header.opcode, header.is_final, header.key),
            (1 << 16, 0, true, Some([1, 2, 3, 4]))
        );
    }

    #[test]
    fn what_is_wrong_with_a_header_is_told() {
        let masked = |first: u8, length: &[u8]| [&[first, 0x80 | length[0]], &length[1..], &[1, 2, 3, 4]].concat();
        let top = [127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        let table = [
            (masked(0x81, &[5]), false, None),
            (masked(0x80, &[5]), true, None),
            (masked(0x89, &[125]), true, None),
            (masked(0xC1, &[5]), false, Some("reserved bits")),
            (masked(0x83, &[5]), false, Some("reserved opcode")),
            (masked(0x8B, &[5]), false, Some("reserved opcode")),
            (vec![0x81, 5], false, Some("not masked")),
            (masked(0x09, &[5]), false, Some("fragmented")),
            (masked(0x89, &[126, 0, 126]), false, Some("more than 125")),
            (masked(0x80, &[5]), false, Some("without a start")),
            (masked(0x81, &[5]), true, Some("inside a fragmented")),
            (masked(0x82, &top), false, Some("highest bit")),
            (masked(0x82, &[126, 0, 125]), false, Some("shortest")),
            (masked(0x82, &[127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]), false, Some("shortest")),
        ];
        for (bytes, fragmented, expected) in table {
            let fault = Header::parse(&bytes).unwrap().fault(Role::Server, fragmented);
            match expected {
                None => assert_eq!(fault, None, "{bytes:?}"),
                Some(part) => assert!(fault.is_some_and(|fault| fault.contains(part)), "{bytes:?}: {fault:?}"),
            }
        }
        let from_server = Header::parse(&[0x81, 1]).unwrap();
        assert_eq!(from_server.fault(Role::Client, false), None);
        assert!(Header::parse(&masked(0x81, &[1])).unwrap().fault(Role::Client, false).is_some());
    }
}
