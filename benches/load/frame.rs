//! The messages of the bench: how they are stamped and framed, and how what comes back is checked.
//!
//! Every message carries a stamp of 8 bytes (who sent it and its number), the rest is a fixed filler. A receiver thus
//! sees at once what was lost, repeated, reordered or mangled. All of it is ASCII, so that servers have text to validate.

/// The mask of all client frames: constant, because masking costs the generator what it should not measure, and not
/// zero, because a server that forgets to unmask has to fail.
const MASK: [u8; 4] = [0x0b, 0x16, 0x21, 0x0c];

/// First byte of an unfragmented text message.
pub(crate) const TEXT: u8 = 0x81;
/// First byte of a Close frame.
pub(crate) const CLOSE: u8 = 0x88;
/// First byte of a Ping frame.
pub(crate) const PING: u8 = 0x89;
/// First byte of a Pong frame.
pub(crate) const PONG: u8 = 0x8a;

/// Bytes of the stamp at the start of every message.
pub(crate) const STAMP: usize = 8;

const SIX_BITS: u64 = 0x3f3f_3f3f_3f3f_3f3f;
const ASCII: u64 = 0x4040_4040_4040_4040;

/// Appends a masked client frame.
pub(crate) fn push_client_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The header of a server frame: `(first byte, header length, payload length)`, or `None` while it is incomplete.
/// The mask bit is the caller's business; its four bytes are not counted.
pub(crate) fn parse_header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    match second & 0x7f {
        126 => rest.first_chunk().map(|length| (*first, 4, u16::from_be_bytes(*length).into())),
        127 => rest.first_chunk().map(|length| (*first, 10, u64::from_be_bytes(*length) as usize)),
        length => Some((*first, 2, length.into())),
    }
}

/// Makes and checks the messages of one case: all of one size, told apart by source (12 bits) and number (36 bits).
pub(crate) struct Messages {
    frame: Vec<u8>,
    stamp_at: usize,
    filler: Vec<u8>,
}

impl Messages {
    /// Messages of `size` bytes, at least [`STAMP`].
    pub(crate) fn new(size: usize) -> Messages {
        let filler: Vec<u8> = (STAMP..size).map(|at| b'a' + (at % 23) as u8).collect();
        let mut payload = vec![0; STAMP];
        payload.extend_from_slice(&filler);
        let mut frame = Vec::new();
        push_client_frame(&mut frame, TEXT, &payload);
        let stamp_at = frame.len() - payload.len();
        Messages { frame, stamp_at, filler }
    }

    /// Bytes of one message on the way to the server.
    pub(crate) fn frame_length(&self) -> usize {
        self.frame.len()
    }

    /// Appends message number `number` of `source`, framed and masked.
    pub(crate) fn push(&self, out: &mut Vec<u8>, source: usize, number: u64) {
        let at = out.len() + self.stamp_at;
        out.extend_from_slice(&self.frame);
        let mask = u32::from_ne_bytes(MASK);
        let masked = stamp(source, number) ^ (u64::from(mask) << 32 | u64::from(mask));
        out[at..at + STAMP].copy_from_slice(&masked.to_ne_bytes());
    }

    /// Source and number of a received message, or what is wrong with it.
    pub(crate) fn check(&self, payload: &[u8]) -> Result<(usize, u64), String> {
        let Some((head, filler)) = payload.split_first_chunk::<STAMP>() else {
            return Err(format!("received a message of {} bytes", payload.len()));
        };
        if filler != self.filler {
            return Err(format!("received a changed message of {} bytes", payload.len()));
        }
        let stamp = u64::from_ne_bytes(*head);
        if stamp & !SIX_BITS != ASCII {
            return Err("received a message with a changed stamp".to_owned());
        }
        Ok(unstamp(stamp))
    }
}

/// Spreads 12 bits of source and 36 bits of number over eight ASCII bytes, six bits each.
fn stamp(source: usize, number: u64) -> u64 {
    let bits = (source as u64 & 0xfff) << 36 | (number & 0xf_ffff_ffff);
    let bits = (bits & 0x0000_0000_00ff_ffff) | (bits & 0x0000_ffff_ff00_0000) << 8;
    let bits = (bits & 0x0000_0fff_0000_0fff) | (bits & 0x00ff_f000_00ff_f000) << 4;
    let bits = (bits & 0x003f_003f_003f_003f) | (bits & 0x0fc0_0fc0_0fc0_0fc0) << 2;
    bits | ASCII
}

/// The inverse of [`stamp`].
fn unstamp(stamp: u64) -> (usize, u64) {
    let bits = stamp & SIX_BITS;
    let bits = (bits & 0x003f_003f_003f_003f) | (bits & 0x3f00_3f00_3f00_3f00) >> 2;
    let bits = (bits & 0x0000_0fff_0000_0fff) | (bits & 0x0fff_0000_0fff_0000) >> 4;
    let bits = (bits & 0x0000_0000_00ff_ffff) | (bits & 0x00ff_ffff_0000_0000) >> 8;
    ((bits >> 36) as usize, bits & 0xf_ffff_ffff)
}
