//! The body of a POST as messages: of which kind they are by the type of the content, and where each begins and ends.

use serde::de::IgnoredAny;

use super::refusal::Refusal;
use crate::message::Kind;

/// How many characters of a type stand in an answer and the log.
const SHOWN: usize = 100;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One message of any text.
    Text,
    /// One message that is a JSON value.
    Json,
    /// One binary message.
    Binary,
    /// A message a line, each a JSON value (NDJSON).
    Lines,
}

impl Form {
    /// That of a body of this type and coding, as its head has them. Without a type it is text.
    ///
    /// # Errors
    /// 415 for a type or a set of characters that is none of these, and for a body that is compressed.
    pub fn of(content_type: Option<&str>, content_encoding: Option<&str>) -> Result<Form, Refusal> {
        if content_encoding.is_some_and(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity")) {
            return Err(Refusal::new(415, "the body is compressed: send it as it is"));
        }
        let content_type = content_type.unwrap_or_default();
        let mut parts = content_type.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let form = match essence.split_once('/') {
            _ if essence.is_empty() => Form::Text,
            Some(("application", "octet-stream")) => return Ok(Form::Binary),
            Some(("application", "x-ndjson" | "ndjson" | "jsonl" | "x-jsonlines")) => Form::Lines,
            Some(("application", "json")) => Form::Json,
            Some((_, subtype)) if subtype.ends_with("+json") => Form::Json,
            // What "curl -d" sends unless it is told a type.
            Some(("application", "x-www-form-urlencoded" | "xml")) | Some(("text", _)) => Form::Text,
            Some((_, subtype)) if subtype.ends_with("+xml") => Form::Text,
            _ => {
                let known = "use application/json, text/plain, application/x-ndjson or application/octet-stream";
                return Err(Refusal::new(415, format!("'{essence:.SHOWN$}' is no type of a message: {known}")));
            }
        };
        match parts.find_map(charset) {
            Some(charset) if !matches!(&*charset, "utf-8" | "utf8" | "us-ascii") => {
                Err(Refusal::new(415, format!("the charset '{charset:.SHOWN$}' is not UTF-8")))
            }
            _ => Ok(form),
        }
    }

    /// The kind of its messages.
    pub fn kind(self) -> Kind {
        if self == Form::Binary { Kind::Binary } else { Kind::Text }
    }

    /// The messages of a body, each at most `message_max` bytes, as they stand there. Lines without a character are none;
    /// the line ends, LF or CR LF, belong to no message.
    ///
    /// # Errors
    /// 400 for what is no UTF-8 or no JSON, 413 for a message that is too long, each with the number of its line if there
    /// are lines. Then there are no messages at all.
    pub fn messages(self, body: &[u8], message_max: usize) -> Result<Vec<&[u8]>, Refusal> {
        if self == Form::Lines {
            return lines(body, message_max);
        }
        let what = || "the body".to_owned();
        check_length(body, message_max, what)?;
        match self {
            Form::Binary => {}
            Form::Text | Form::Lines => check_text(body, what)?,
            Form::Json => check_json(body, what)?,
        }
        Ok(vec![body])
    }
}

/// The value of a parameter of a type, in lower case, if it is `charset`.
fn charset(parameter: &str) -> Option<String> {
    let (name, value) = parameter.split_once('=')?;
    let is_it = name.trim().eq_ignore_ascii_case("charset");
    is_it.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
}

fn lines(body: &[u8], message_max: usize) -> Result<Vec<&[u8]>, Refusal> {
    let mut messages = Vec::new();
    for (number, line) in (1_usize..).zip(body.split(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let what = || format!("line {number}");
        check_length(line, message_max, what)?;
        check_json(line, what)?;
        messages.push(line);
    }
    Ok(messages)
}

fn check_length(message: &[u8], max: usize, what: impl Fn() -> String) -> Result<(), Refusal> {
    match message.len() <= max {
        true => Ok(()),
        false => Err(Refusal::new(413, format!("{} is longer than {max} bytes", what()))),
    }
}

fn check_text(message: &[u8], what: impl Fn() -> String) -> Result<(), Refusal> {
    match simdutf8::basic::from_utf8(message) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new(400, format!("{} is not UTF-8", what()))),
    }
}

fn check_json(message: &[u8], what: impl Fn() -> String) -> Result<(), Refusal> {
    let Ok(text) = simdutf8::basic::from_utf8(message) else { return check_text(message, what) };
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new(400, format!("{} is no JSON value", what()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_the_content_says_what_a_body_is() {
        for (content_type, form) in [
            (None, Ok(Form::Text)),
            (Some(""), Ok(Form::Text)),
            (Some("text/plain"), Ok(Form::Text)),
            (Some("text/csv; header=present"), Ok(Form::Text)),
            (Some("TEXT/Plain ; Charset=\"UTF-8\""), Ok(Form::Text)),
            (Some("application/x-www-form-urlencoded"), Ok(Form::Text)),
            (Some("application/soap+xml"), Ok(Form::Text)),
            (Some("application/json"), Ok(Form::Json)),
            (Some("application/cloudevents+json; charset=utf-8"), Ok(Form::Json)),
            (Some("application/x-ndjson"), Ok(Form::Lines)),
            (Some("application/octet-stream; charset=latin1"), Ok(Form::Binary)),
            (Some("text/plain; charset=iso-8859-1"), Err(415)),
            (Some("multipart/form-data; boundary=x"), Err(415)),
            (Some("image/png"), Err(415)),
            (Some("json"), Err(415)),
        ] {
            assert_eq!(Form::of(content_type, None).map_err(|refusal| refusal.status), form, "{content_type:?}");
        }
        assert!(Form::of(None, Some("identity")).is_ok() && Form::of(None, Some("")).is_ok());
        assert_eq!(Form::of(None, Some("gzip")).unwrap_err().status, 415);
    }

    #[test]
    fn one_message_is_the_body_as_it_stands() {
        for (form, body, expected) in [
            (Form::Text, &b""[..], Ok(())),
            (Form::Text, b" {a\n", Ok(())),
            (Form::Text, b"1234567", Err((413, "the body is longer than 6 bytes"))),
            (Form::Text, b"\xff", Err((400, "the body is not UTF-8"))),
            (Form::Binary, b"\xff\0", Ok(())),
            (Form::Binary, b"1234567", Err((413, "the body is longer than 6 bytes"))),
            (Form::Json, b" [1] ", Ok(())),
            (Form::Json, b"", Err((400, "the body is no JSON value"))),
            (Form::Json, b"{a:1}", Err((400, "the body is no JSON value"))),
            (Form::Json, b"1 2", Err((400, "the body is no JSON value"))),
            (Form::Json, b"\"\xff\"", Err((400, "the body is not UTF-8"))),
        ] {
            let found = form.messages(body, 6);
            let found = found.map(|messages| assert_eq!(messages, [body])).map_err(|it| (it.status, it.reason));
            assert_eq!(found, expected.map_err(|(status, why)| (status, why.to_owned())), "{form:?} {body:?}");
        }
    }

    #[test]
    fn each_line_is_a_message_or_none_is() {
        for (body, expected) in [
            ("", Ok(vec![])),
            ("1", Ok(vec!["1"])),
            ("1\n", Ok(vec!["1"])),
            ("1\r\n\n\r\n {\"a\":2}\n\"3\"", Ok(vec!["1", " {\"a\":2}", "\"3\""])),
            ("1\n2\nx\n", Err((400, "line 3 is no JSON value"))),
            ("1\n\n \n", Err((400, "line 3 is no JSON value"))),
            ("1\n2 3\n", Err((400, "line 2 is no JSON value"))),
            ("1\n1234567890\n", Err((413, "line 2 is longer than 9 bytes"))),
        ] {
            let messages = Form::Lines.messages(body.as_bytes(), 9).map_err(|it| (it.status, it.reason));
            let expected = expected.map(|all: Vec<&str>| all.into_iter().map(str::as_bytes).collect::<Vec<_>>());
            assert_eq!(messages, expected.map_err(|(status, why)| (status, why.to_owned())), "{body:?}");
        }
        assert_eq!(Form::Lines.messages(b"1\n\"\xff\"", 9).unwrap_err().reason, "line 2 is not UTF-8");
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(Form::Lines.messages(deep.as_bytes(), 1 << 20).unwrap(), [deep.as_bytes()]);
    }
}
