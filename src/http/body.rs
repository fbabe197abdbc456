//! The body of an HTTP answer, put together as it comes in (RFC 9112 sections 6 and 7).

use std::fmt;

use crate::http::head::ResponseHead;

/// The longest line with the size of a chunk, its extensions included.
const CHUNK_LINE_MAX: usize = 256;

/// A body that is not all there yet. What it holds is never longer than its bound.
#[derive(Debug)]
pub struct AnswerBody {
    framing: Framing,
    data: Vec<u8>,
    max: usize,
}

/// How the end of a body is told.
#[derive(Debug)]
enum Framing {
    /// It has this many bytes more.
    Length(usize),
    /// By a chunk without bytes.
    Chunked(Chunks),
    /// By the end of the connection.
    UntilEnd,
}

#[derive(Debug, Default)]
struct Chunks {
    /// What has come and is not taken apart yet.
    pending: Vec<u8>,
    expected: Expected,
    is_over: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum Expected {
    #[default]
    Size,
    /// This many bytes, and a line end.
    Data(usize),
    LineEnd,
}

/// Why there is no body that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It has more than this many bytes.
    TooLong(usize),
    /// Where it ends cannot be told.
    Malformed(&'static str),
    /// The connection has ended before it had.
    CutShort,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLong(max) => write!(f, "it is longer than {max} bytes"),
            BodyError::Malformed(what) => f.write_str(what),
            BodyError::CutShort => f.write_str("the connection ended in the middle of it"),
        }
    }
}

impl AnswerBody {
    /// The body behind this head, of at most `max` bytes.
    ///
    /// # Errors
    /// The head says that it is longer, or does not say clearly where it ends.
    pub fn new(head: &ResponseHead, max: usize) -> Result<AnswerBody, BodyError> {
        let framing = framing(head)?;
        match framing {
            Framing::Length(length) if length > max => Err(BodyError::TooLong(max)),
            framing => Ok(AnswerBody { framing, data: Vec::new(), max }),
        }
    }

    /// Goes on with what has come next. What follows the end of the body is ignored.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        let room = self.max - self.data.len();
        match &mut self.framing {
            Framing::Length(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                self.data.extend_from_slice(&bytes[..taken]);
                Ok(())
            }
            Framing::UntilEnd if bytes.len() > room => Err(BodyError::TooLong(self.max)),
            Framing::UntilEnd => {
                self.data.extend_from_slice(bytes);
                Ok(())
            }
            Framing::Chunked(chunks) => chunks.feed(bytes, &mut self.data, self.max),
        }
    }

    /// Whether only the end of the connection ends it.
    pub fn is_until_end(&self) -> bool {
        matches!(self.framing, Framing::UntilEnd)
    }

    /// Whether nothing more is needed.
    pub fn is_complete(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.is_over,
            Framing::UntilEnd => false,
        }
    }

    /// The body, once it is complete or the connection has ended.
    pub fn finish(self) -> Result<Vec<u8>, BodyError> {
        match self.framing {
            Framing::UntilEnd => Ok(self.data),
            _ if self.is_complete() => Ok(self.data),
            _ => Err(BodyError::CutShort),
        }
    }
}

/// How the end of the body behind this head is told (RFC 9112 section 6.3).
fn framing(head: &ResponseHead) -> Result<Framing, BodyError> {
    if matches!(head.status, 100..200 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let codings: Vec<String> = head.values("transfer-encoding").collect();
    let lengths: Vec<String> = head.values("content-length").collect();
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(Framing::UntilEnd),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked(Chunks::default())),
        ([], [first, rest @ ..]) if rest.iter().all(|length| length == first) => {
            // A sign would be read too.
            let digits = Some(first).filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length.map(Framing::Length).ok_or(BodyError::Malformed("its Content-Length is no number"))
        }
        ([], _) => Err(BodyError::Malformed("it has two lengths")),
        (_, []) => Err(BodyError::Malformed("its Transfer-Encoding is not \"chunked\" alone")),
        // Two servers on the way may read it in two ways.
        (_, _) => Err(BodyError::Malformed("it has a Content-Length beside Transfer-Encoding")),
    }
}

impl Chunks {
    fn feed(&mut self, bytes: &[u8], data: &mut Vec<u8>, max: usize) -> Result<(), BodyError> {
        if self.is_over {
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while !self.is_over {
            let rest = &self.pending[at..];
            match self.expected {
                Expected::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((length, _))) if length > CHUNK_LINE_MAX => {
                        return Err(BodyError::Malformed("the line with the size of a chunk is too long"));
                    }
                    Ok(httparse::Status::Complete((_, 0))) => self.is_over = true,
                    Ok(httparse::Status::Complete((length, size))) => {
                        let size = usize::try_from(size).ok().filter(|size| *size <= max - data.len());
                        self.expected = Expected::Data(size.ok_or(BodyError::TooLong(max))?);
                        at += length;
                    }
                    Ok(httparse::Status::Partial) if rest.len() <= CHUNK_LINE_MAX => break,
                    Ok(httparse::Status::Partial) => {
                        return Err(BodyError::Malformed("the line with the size of a chunk is too long"));
                    }
                    Err(_) => return Err(BodyError::Malformed("a chunk of it has no size")),
                },
                Expected::Data(left) => {
                    let taken = rest.len().min(left);
                    data.extend_from_slice(&rest[..taken]);
                    at += taken;
                    self.expected = if taken == left { Expected::LineEnd } else { Expected::Data(left - taken) };
                    if taken < left {
                        break;
                    }
                }
                Expected::LineEnd if rest.starts_with(b"\r\n") => {
                    at += 2;
                    self.expected = Expected::Size;
                }
                Expected::LineEnd if b"\r\n".starts_with(rest) => break,
                Expected::LineEnd => return Err(BodyError::Malformed("a chunk of it is longer than its size")),
            }
        }
        self.pending.drain(..at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::ResponseHeadParser;

    /// What becomes of an answer that comes in pieces of this length, with bodies of 9 bytes at most.
    fn body(answer: &str, piece: usize) -> Result<String, BodyError> {
        let mut parser = ResponseHeadParser::default();
        let mut pieces = answer.as_bytes().chunks(piece);
        let head = pieces.find_map(|piece| parser.feed(piece).unwrap()).expect("a head");
        let mut body = AnswerBody::new(&head, 9)?;
        body.feed(&head.behind)?;
        for piece in pieces {
            body.feed(piece)?;
        }
        body.finish().map(|data| String::from_utf8(data).unwrap())
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        use BodyError::{CutShort, TooLong};
        let chunked = "Transfer-Encoding: chunked\r\n\r\n";
        for (status, rest, expected) in [
            (200, "Content-Length: 3\r\n\r\nabcdef", Ok("abc")),
            (200, "Content-Length: 3\r\ncontent-length: 3\r\n\r\nabc", Ok("abc")),
            (200, "Content-Length: 0\r\n\r\n", Ok("")),
            (200, "Content-Length: 4\r\n\r\nabc", Err(CutShort)),
            (200, "Content-Length: 10\r\n\r\nabc", Err(TooLong(9))),
            (200, "\r\nabc", Ok("abc")),
            (200, "\r\n0123456789", Err(TooLong(9))),
            (204, "Content-Length: 3\r\n\r\nabc", Ok("")),
            (200, &format!("{chunked}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n"), Ok("abcde")),
            (200, &format!("{chunked}0\r\n\r\n"), Ok("")),
            (200, &format!("{chunked}3\r\nabc\r\n2\r\nd"), Err(CutShort)),
            (200, &format!("{chunked}6\r\nabcdef\r\n4\r\nghij\r\n0\r\n\r\n"), Err(TooLong(9))),
            (200, &format!("{chunked}ffffffffffffffff\r\n"), Err(TooLong(9))),
        ] {
            let answer = format!("HTTP/1.1 {status} x\r\n{rest}");
            for piece in [1, 2, 7, answer.len()] {
                assert_eq!(body(&answer, piece).as_deref(), expected.as_ref().map(|text| *text), "{answer} by {piece}");
            }
        }
        for rest in [
            "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            "Content-Length: +3\r\n\r\nabc",
            "Content-Length: 99999999999999999999\r\n\r\nabc",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: gzip\r\n\r\nabc",
            &format!("{chunked}zz\r\n"),
            &format!("{chunked}2\r\nabc\r\n0\r\n\r\n"),
            &format!("{chunked}1;{}", "x".repeat(CHUNK_LINE_MAX)),
        ] {
            let answer = format!("HTTP/1.1 200 x\r\n{rest}");
            for piece in [1, 7, answer.len()] {
                let problem = body(&answer, piece);
                assert!(matches!(problem, Err(BodyError::Malformed(_))), "{problem:?} for {answer}");
            }
        }
    }
}
