//! Paths of endpoints: the pattern that the operator writes and how a request's path is matched.
//!
//! A pattern is `/` or segments, each a literal or a whole `{name}`. What a request may put in the
//! place of a name is decided here and nowhere else, because that value becomes part of a room's
//! name, of log lines and of topics behind us.

use std::borrow::Cow;
use std::fmt;

/// The longest value that a parameter takes, in bytes after percent-decoding; longer ones match nothing.
pub const VALUE_BYTES_MAX: usize = 128;

/// An endpoint's path: `/`, `/echo`, `/rooms/{room}`. A trailing slash is another path.
///
/// Two patterns are equal when they are written the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
    // The root is one empty literal, so that `/` needs no rule of its own.
    segments: Box<[Segment]>,
}

/// The name of the parameter that this segment is meant to be, if it is written as other programs write one: `:id`,
/// `<int:id>`, `[id]`.
fn foreign_name(segment: &str) -> Option<String> {
    let between = |open, close| segment.strip_prefix(open).and_then(|rest: &str| rest.strip_suffix(close));
    let name = segment
        .strip_prefix(':')
        .map(|name| name.trim_end_matches('+'))
        .or_else(|| between('<', '>').map(|inner: &str| inner.rsplit(':').next().unwrap_or(inner)))
        .or_else(|| between('[', ']'))?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(word)).then(|| snake_case(name))
}

/// The nearest name that a parameter can have: `deviceId` is `device_id`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            snake.push('_');
        }
        snake.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
        before = c;
    }
    snake
}

/// The name to write in the place of this one, which may have a type behind it: `Id:int`.
fn name_for(wrong: &str) -> String {
    let start = wrong.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let end = start.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-')).unwrap_or(start.len());
    if end == 0 { "room".to_owned() } else { snake_case(&start[..end]) }
}

/// What stands between two slashes of a [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this, after the request's segment is percent-decoded.
    Literal(Box<str>),
    /// `{name}`: any value that is allowed.
    Parameter(Box<str>),
}

impl Segment {
    fn parse(text: &str) -> Result<Segment, PatternError> {
        let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            if text.contains(['{', '}']) {
                return Err(PatternError::PartOfSegment(text.into()));
            }
            if let Some(name) = foreign_name(text) {
                return Err(PatternError::ForeignParameter(text.into(), name.into()));
            }
            if text.contains('*') {
                return Err(PatternError::Wildcard(text.into()));
            }
            if matches!(text, "." | "..") {
                return Err(PatternError::DotSegment(text.into()));
            }
            return Ok(Segment::Literal(text.into()));
        };
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(word) {
            return Err(PatternError::BadName(name.into()));
        }
        Ok(Segment::Parameter(name.into()))
    }
}

impl Pattern {
    /// Reads a pattern as the configuration writes it: plain text, not percent-encoded.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let rest = text.strip_prefix('/').ok_or(PatternError::NoLeadingSlash)?;
        if let Some(c) = text.chars().find(|c| c.is_control() || matches!(c, '?' | '#' | '%')) {
            return Err(PatternError::BadCharacter(c));
        }
        let parts: Vec<&str> = rest.split('/').collect();
        // Only at the end: `/echo/` is another path than `/echo`.
        if parts[..parts.len() - 1].contains(&"") {
            return Err(PatternError::EmptySegment);
        }
        let segments = parts.into_iter().map(Segment::parse).collect::<Result<Box<[_]>, _>>()?;
        let pattern = Pattern { text: text.into(), segments };
        let names: Vec<&str> = pattern.names().collect();
        match (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            Some(i) => Err(PatternError::RepeatedName(names[i].into())),
            None => Ok(pattern),
        }
    }

    /// `/`.
    pub fn root() -> Pattern {
        Pattern { text: "/".into(), segments: [Segment::Literal("".into())].into() }
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments from left to right; the root has one, an empty literal.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of its parameters from left to right.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }

    /// Whether both match exactly the same paths: they differ in the names of parameters at most.
    pub fn same_shape(&self, other: &Pattern) -> bool {
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                (Segment::Parameter(_), Segment::Parameter(_)) => true,
                _ => false,
            })
    }

    /// The values of the parameters, in the order of [`names`](Pattern::names), if `path` matches.
    ///
    /// `path` is the request's path as it came, without the query. Each segment is percent-decoded
    /// once, after the path is split, so an encoded slash never makes a segment. A value must be
    /// UTF-8, at most [`VALUE_BYTES_MAX`] bytes, not empty, not `.` or `..`, and without slash and
    /// control characters.
    pub fn matches(&self, path: &str) -> Option<Vec<Box<str>>> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut values = Vec::new();
        for segment in &self.segments {
            let decoded = percent_decoded(parts.next()?)?;
            match segment {
                Segment::Literal(literal) if decoded == literal.as_bytes() => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(_) => values.push(allowed_value(&decoded)?.into()),
            }
        }
        parts.next().is_none().then_some(values)
    }

    /// The segments of `path`, which matches, in the places of the parameters: as they came, percent-encoded.
    pub fn written<'p>(&self, path: &'p str) -> Vec<&'p str> {
        let parts = path.strip_prefix('/').unwrap_or(path).split('/');
        let pairs = self.segments.iter().zip(parts);
        pairs.filter(|(segment, _)| matches!(segment, Segment::Parameter(_))).map(|(_, part)| part).collect()
    }

    /// Whether this pattern wins where both match: at the leftmost segment at which only one is a
    /// literal, the literal wins.
    pub fn precedes(&self, other: &Pattern) -> bool {
        let mut pairs = self.segments.iter().zip(&other.segments);
        pairs
            .find_map(|pair| match pair {
                (Segment::Literal(_), Segment::Parameter(_)) => Some(true),
                (Segment::Parameter(_), Segment::Literal(_)) => Some(false),
                _ => None,
            })
            .unwrap_or(false)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a text that came from elsewhere than a path may be the value of a parameter; the rules are
/// those of [`Pattern::matches`].
pub fn is_value(text: &str) -> bool {
    allowed_value(text.as_bytes()).is_some()
}

/// The bytes that a part of a URL stands for; `None` if a `%` is not followed by two hex digits.
pub(crate) fn percent_decoded(segment: &str) -> Option<Cow<'_, [u8]>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment.as_bytes()));
    }
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => (hex(bytes.next()?)? * 16 + hex(bytes.next()?)?) as u8,
            _ => byte,
        });
    }
    Some(Cow::Owned(decoded))
}

fn allowed_value(decoded: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(decoded).ok()?;
    let allowed = (1..=VALUE_BYTES_MAX).contains(&value.len())
        && !matches!(value, "." | "..")
        && !value.chars().any(|c| c == '/' || c.is_control());
    allowed.then_some(value)
}

/// Why a text is no [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// It does not begin with a slash.
    NoLeadingSlash,
    /// Two slashes in a row.
    EmptySegment,
    /// A control character, `?`, `#` or `%`.
    BadCharacter(char),
    /// A parameter as other programs write it, and its name.
    ForeignParameter(Box<str>, Box<str>),
    /// A segment with a `*`.
    Wildcard(Box<str>),
    /// A segment that clients resolve before they send it.
    DotSegment(Box<str>),
    /// A brace in a segment that is not `{name}` as a whole.
    PartOfSegment(Box<str>),
    /// A name that is not `[a-z][a-z0-9_]*`.
    BadName(Box<str>),
    /// A name that stands in the pattern twice.
    RepeatedName(Box<str>),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternError::NoLeadingSlash => f.write_str("a path starts with \"/\": write for example \"/echo\""),
            PatternError::EmptySegment => f.write_str("a path has no \"//\": remove the extra slash"),
            PatternError::BadCharacter('%') => {
                f.write_str("a path is written as plain text, without \"%\": write \"/café\", not \"/caf%C3%A9\"")
            }
            PatternError::BadCharacter(c @ ('?' | '#')) => {
                write!(f, "a path has no \"{c}\", the query is not part of the match: remove it and what follows")
            }
            PatternError::BadCharacter(c) => write!(f, "a path has no control characters: remove {:?}", c.to_string()),
            PatternError::ForeignParameter(segment, name) => {
                write!(f, "{segment:?} would match only itself: write a parameter as \"{{{name}}}\"")
            }
            PatternError::Wildcard(segment) => write!(
                f,
                "{segment:?} would match only itself, for there are no wildcards: write \"{{name}}\" for any one segment, \
                 and one [[endpoint]] for each number of segments"
            ),
            PatternError::DotSegment(segment) => {
                write!(f, "clients never send the segment {segment:?}: write the path without it")
            }
            PatternError::PartOfSegment(segment) => write!(
                f,
                "a parameter is a whole segment, but {segment:?} is more than one {{name}}: write for example \
                 \"/rooms/{{room}}\""
            ),
            PatternError::BadName(name) => write!(
                f,
                "{name:?} is no name of a parameter: use lower-case letters, digits and \"_\", a letter first, \
                 for example \"{{{}}}\"",
                name_for(name)
            ),
            PatternError::RepeatedName(name) => {
                write!(f, "the path has the parameter {{{name}}} twice: give each its own name")
            }
        }
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn values(text: &str, path: &str) -> Option<Vec<String>> {
        pattern(text).matches(path).map(|values| values.into_iter().map(String::from).collect())
    }

    #[test]
    fn a_pattern_is_literals_and_whole_parameters() {
        let cases: [(&str, &[&str]); 7] = [
            ("/", &[]),
            ("/echo", &[]),
            ("/rooms/{room}", &["room"]),
            ("/{a}/{b_2}/c", &["a", "b_2"]),
            ("/café/ü", &[]),
            ("/a b/~x", &[]),
            ("/:8080/<>/a:b", &[]),
        ];
        for (text, names) in cases {
            let pattern = pattern(text);
            assert_eq!(pattern.names().collect::<Vec<_>>(), names, "{text}");
            assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn the_root_is_a_pattern() {
        assert_eq!(Pattern::root(), pattern("/"));
    }

    #[test]
    fn what_is_no_pattern_is_refused_for_its_reason() {
        use PatternError::*;
        let cases = [
            ("", NoLeadingSlash),
            ("echo", NoLeadingSlash),
            ("//", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a?b", BadCharacter('?')),
            ("/a#b", BadCharacter('#')),
            ("/a%20b", BadCharacter('%')),
            ("/a\nb", BadCharacter('\n')),
            ("/a/./b", DotSegment(".".into())),
            ("/..", DotSegment("..".into())),
            ("/x{room}", PartOfSegment("x{room}".into())),
            ("/{room", PartOfSegment("{room".into())),
            ("/room}", PartOfSegment("room}".into())),
            ("/{}", BadName("".into())),
            ("/{Room}", BadName("Room".into())),
            ("/{2}", BadName("2".into())),
            ("/{_a}", BadName("_a".into())),
            ("/{a}{b}", BadName("a}{b".into())),
            ("/{a}/{a}", RepeatedName("a".into())),
            ("/rooms/:id", ForeignParameter(":id".into(), "id".into())),
            ("/rooms/:roomId?", BadCharacter('?')),
            ("/rooms/:roomId", ForeignParameter(":roomId".into(), "room_id".into())),
            ("/ws/<id>", ForeignParameter("<id>".into(), "id".into())),
            ("/ws/<int:device-ID>/x", ForeignParameter("<int:device-ID>".into(), "device_id".into())),
            ("/ws/[id]", ForeignParameter("[id]".into(), "id".into())),
            ("/files/*", Wildcard("*".into())),
            ("/files/**", Wildcard("**".into())),
            ("/files/a*", Wildcard("a*".into())),
        ];
        for (text, error) in cases {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_path_matches_by_whole_segments_and_every_slash_counts() {
        let cases: [(&str, &str, Option<&[&str]>); 21] = [
            ("/", "/", Some(&[])),
            ("/", "", None),
            ("/", "//", None),
            ("/", "/echo", None),
            ("/echo", "/echo", Some(&[])),
            ("/echo", "/echo/", None),
            ("/echo/", "/echo", None),
            ("/echo/", "/echo/", Some(&[])),
            ("/echo", "//echo", None),
            ("/echo", "echo", None),
            ("/echo", "/Echo", None),
            ("/echo", "/ech", None),
            ("/echo", "/%65cho", Some(&[])),
            ("/echo", "/%2565cho", None),
            ("/café", "/caf%c3%A9", Some(&[])),
            ("/café", "/café", Some(&[])),
            ("/rooms/{room}", "/rooms/7", Some(&["7"])),
            ("/rooms/{room}", "/rooms/7/", None),
            ("/rooms/{room}", "/rooms", None),
            ("/rooms/{room}", "/rooms/7/8", None),
            ("/{a}/x/{b}", "/1/x/2", Some(&["1", "2"])),
        ];
        for (text, path, expected) in cases {
            let expected = expected.map(|values| values.iter().map(|v| v.to_string()).collect());
            assert_eq!(values(text, path), expected, "{text} {path}");
        }
    }

    #[test]
    fn a_value_is_decoded_once_and_must_be_one_harmless_segment() {
        let longest = "x".repeat(VALUE_BYTES_MAX);
        let too_long = "x".repeat(VALUE_BYTES_MAX + 1);
        // Encoded it is three times as long as allowed; what counts is the decoded value.
        let encoded = "%78".repeat(VALUE_BYTES_MAX);
        let cases = [
            ("7", Some("7")),
            ("a%20b", Some("a b")),
            ("%C3%BC", Some("ü")),
            ("%2541", Some("%41")),
            ("...", Some("...")),
            (&longest, Some(&*longest)),
            (&encoded, Some(&*longest)),
            (&too_long, None),
            ("", None),
            (".", None),
            ("..", None),
            ("%2e", None),
            ("%2E%2e", None),
            ("a%2Fb", None),
            ("%00", None),
            ("a%0d%0ab", None),
            ("%C2%85", None),
            ("%7f", None),
            ("%ff", None),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%+1", None),
        ];
        for (segment, expected) in cases {
            let expected = expected.map(|value| vec![value.to_owned()]);
            assert_eq!(values("/{v}", &format!("/{segment}")), expected, "{segment}");
        }
    }

    #[test]
    fn what_stands_for_a_parameter_is_known_as_it_came() {
        for (text, path, written) in
            [("/a/{b}/c/{d}", "/a/x%40y/c/z", &["x%40y", "z"][..]), ("/{a}", "/%C3%A4@", &["%C3%A4@"]), ("/", "/", &[])]
        {
            assert!(pattern(text).matches(path).is_some(), "{text}");
            assert_eq!(pattern(text).written(path), written, "{text}");
        }
    }

    #[test]
    fn patterns_that_differ_only_in_names_have_the_same_shape() {
        let cases = [
            ("/", "/", true),
            ("/{a}", "/{b}", true),
            ("/rooms/{a}", "/rooms/{b}", true),
            ("/rooms/{a}", "/dash/{a}", false),
            ("/{a}", "/", false),
            ("/{a}", "/a", false),
            ("/{a}/b", "/{a}", false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(pattern(a).same_shape(&pattern(b)), expected, "{a} {b}");
            assert_eq!(pattern(b).same_shape(&pattern(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_leftmost_literal_wins() {
        let cases = [("/a/{x}", "/{x}/b"), ("/a/b", "/a/{x}"), ("/a/{x}/{y}", "/{x}/b/c"), ("/a", "/{x}")];
        for (winner, loser) in cases {
            assert!(pattern(winner).precedes(&pattern(loser)), "{winner} {loser}");
            assert!(!pattern(loser).precedes(&pattern(winner)), "{loser} {winner}");
            assert!(!pattern(winner).precedes(&pattern(winner)), "{winner}");
        }
    }

    /// Every byte encoded, so that nothing in a value can look like syntax.
    fn encoded(value: &str) -> String {
        value.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    proptest! {
        #[test]
        fn whatever_matches_is_a_value_that_is_allowed(path in "(/(%[0-9a-fA-F]{2}|[ -~]|\\PC){0,140}){0,3}") {
            for text in ["/{a}", "/x/{a}", "/{a}/{b}"] {
                for value in pattern(text).matches(&path).unwrap_or_default() {
                    prop_assert!(!value.is_empty() && value.len() <= VALUE_BYTES_MAX);
                    prop_assert!(!value.contains('/') && !value.chars().any(char::is_control));
                    prop_assert!(!matches!(&*value, "." | ".."));
                }
            }
        }

        #[test]
        fn an_allowed_value_survives_encoding(value in "\\PC{1,32}") {
            prop_assume!(!matches!(&*value, "." | "..") && !value.contains('/') && value.len() <= VALUE_BYTES_MAX);
            let path = format!("/rooms/{}", encoded(&value));
            prop_assert_eq!(values("/rooms/{room}", &path), Some(vec![value]));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "/?(\\PC|[/{}%a-c]){0,20}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(pattern.as_str(), &*text);
            }
        }

        #[test]
        fn of_two_shapes_that_match_the_same_path_exactly_one_precedes(
            a in prop::collection::vec(prop::bool::ANY, 1..5),
            b in prop::collection::vec(prop::bool::ANY, 1..5),
        ) {
            let text = |kinds: &[bool]| -> String {
                kinds.iter().enumerate().map(|(i, literal)| if *literal { "/x".into() } else { format!("/{{p{i}}}") }).collect()
            };
            let path = "/x".repeat(a.len());
            let (a, b) = (pattern(&text(&a)), pattern(&text(&b)));
            if b.matches(&path).is_some() && !a.same_shape(&b) {
                prop_assert!(a.precedes(&b) != b.precedes(&a));
            }
        }
    }
}
