//! The body of a POST: its messages are those of a naive reading of the rules, all of them or none.
//!
//! Input: which type it has, in the first byte, and the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsgate::internals::http::posted::Form;

/// The longest message. Short, so that inputs reach it.
const MESSAGE_MAX: usize = 20;

const TYPES: [Option<&str>; 5] = [
    None,
    Some("text/plain"),
    Some("application/json"),
    Some("application/octet-stream"),
    Some("application/x-ndjson"),
];

fuzz_target!(|data: &[u8]| {
    let Some((&number, body)) = data.split_first() else { return };
    let content_type = TYPES[usize::from(number) % TYPES.len()];
    let form = Form::of(content_type, None).expect("each of these types is one of a message");
    let messages = form.messages(body, MESSAGE_MAX).map_err(|refusal| refusal.status);
    assert_eq!(messages, expected(content_type, body), "{content_type:?} {:?}", String::from_utf8_lossy(body));
});

fn expected<'b>(content_type: Option<&str>, body: &'b [u8]) -> Result<Vec<&'b [u8]>, u16> {
    let is_json = |text: &[u8]| serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok();
    let is_text = |text: &[u8]| std::str::from_utf8(text).is_ok();
    let mut messages = match content_type {
        Some("application/x-ndjson") => body.split(|byte| *byte == b'\n').collect(),
        _ => vec![body],
    };
    if content_type == Some("application/x-ndjson") {
        messages.iter_mut().for_each(|line| *line = line.strip_suffix(b"\r").unwrap_or(line));
        messages.retain(|line| !line.is_empty());
    }
    for message in &messages {
        if message.len() > MESSAGE_MAX {
            return Err(413);
        }
        let is_good = match content_type {
            Some("application/octet-stream") => true,
            Some("application/json" | "application/x-ndjson") => is_text(message) && is_json(message),
            _ => is_text(message),
        };
        if !is_good {
            return Err(400);
        }
    }
    Ok(messages)
}
