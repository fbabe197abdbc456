//! The answer to a request of ours: the same comes of it however it arrives, and nothing is longer than its bound.
//!
//! Input: the length of the pieces, in the first byte, and what the server sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsgate::internals::http::body::{AnswerBody, BodyError};
use wsgate::internals::http::head::ResponseHeadParser;

/// The longest body. Short, so that inputs reach it.
const BODY_MAX: usize = 100;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, sent)) = data.split_first() else { return };
    let whole = read(sent, sent.len().max(1));
    let in_pieces = read(sent, usize::from(piece).max(1));
    match (&whole, &in_pieces) {
        // It is wrong in two ways, and which is seen first depends on how much is there.
        (Some(Err(BodyError::Malformed(_))), Some(Err(BodyError::Malformed(_)))) => {}
        (whole, in_pieces) => assert_eq!(whole, in_pieces, "{}", String::from_utf8_lossy(sent)),
    }
    if let Some(Ok(body)) = whole {
        assert!(body.len() <= BODY_MAX && body.len() <= sent.len(), "{} bytes", body.len());
    }
});

/// What comes of this answer; `None` if it has no head.
fn read(sent: &[u8], piece: usize) -> Option<Result<Vec<u8>, BodyError>> {
    let mut parser = ResponseHeadParser::default();
    let mut pieces = sent.chunks(piece);
    let head = loop {
        match parser.feed(pieces.next()?) {
            Ok(Some(head)) => break head,
            Ok(None) => {}
            Err(_) => return None,
        }
    };
    let mut body = match AnswerBody::new(&head, BODY_MAX) {
        Ok(body) => body,
        Err(error) => return Some(Err(error)),
    };
    let mut fed = body.feed(&head.behind);
    for piece in pieces {
        if fed.is_err() || body.is_complete() {
            break;
        }
        fed = body.feed(piece);
    }
    Some(fed.and_then(|()| body.finish()))
}
