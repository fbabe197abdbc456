//! The Close of a peer, and ours for a peer that breaks the protocol (RFC 6455 sections 5.5.1 and 7.4). A rule.

/// What a Close is answered whose code must not be on the wire.
const INVALID: (Option<u16>, &str) = (Some(1002), "Invalid close code");

/// The peer's Close, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Its code, `None` if it had none.
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

impl Close {
    /// The Close with this payload. One that has half a code breaks the protocol (1002), and so does a reason that is not
    /// UTF-8 (1007).
    pub(super) fn parse(payload: &[u8]) -> Result<Close, Violation> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return match payload {
                [] => Ok(Close { code: None, reason: String::new() }),
                _ => Err(Violation { code: 1002, reason: "the payload of a Close has one byte".to_owned() }),
            };
        };
        match std::str::from_utf8(reason) {
            Ok(reason) => Ok(Close { code: Some(u16::from_be_bytes(*code)), reason: reason.to_owned() }),
            Err(_) => Err(Violation { code: 1007, reason: "the reason of a Close is not valid UTF-8".to_owned() }),
        }
    }

    /// Whether its code may be on the wire. One that may not says what only the other end can find: that there was no
    /// code (1005) or no Close (1006); or nobody has given it a meaning.
    pub fn is_valid(&self) -> bool {
        self.code.is_none_or(may_be_sent)
    }

    /// The code and the reason of its answer: its own, unless they must not be on the wire.
    pub fn answer(&self) -> (Option<u16>, &str) {
        if self.is_valid() { (self.code, &self.reason) } else { INVALID }
    }
}

/// The codes that RFC 6455 section 7.4 and IANA allow in a Close: 1012 to 1014 came after the RFC.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b13_a_close_is_what_its_payload_says_and_is_answered_with_what_may_be_sent() {
        let table = [
            (&b""[..], None, "", (None, "")),
            (b"\x03\xe8bye", Some(1000), "bye", (Some(1000), "bye")),
            (b"\x03\xf6bad gateway", Some(1014), "bad gateway", (Some(1014), "bad gateway")),
            (b"\x13\x87", Some(4999), "", (Some(4999), "")),
            (b"\x03\xedwhy", Some(1005), "why", INVALID),
            (b"\0\0", Some(0), "", INVALID),
        ];
        for (payload, code, reason, answer) in table {
            let close = Close::parse(payload).unwrap();
            assert_eq!(close, Close { code, reason: reason.to_owned() });
            assert_eq!((close.answer(), close.is_valid()), (answer, answer != INVALID), "{payload:?}");
        }
        for (payload, code) in [(&b"x"[..], 1002), (b"\x03\xe8\xff", 1007)] {
            assert_eq!(Close::parse(payload).unwrap_err().code, code, "{payload:?}");
        }
    }
}
