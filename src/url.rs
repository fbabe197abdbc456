//! URLs of WebSocket servers (RFC 6455 section 3) and of HTTP servers: taken apart, checked, and fit to be shown.

use std::fmt;
use std::net::Ipv6Addr;

use tungstenite::http::Uri;
use tungstenite::http::uri::InvalidUri;

use crate::path::percent_decoded;
use crate::secret::Secret;

/// What is spoken with the server of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `ws` and `wss`.
    WebSocket,
    /// `http` and `https`.
    Http,
}

impl Protocol {
    /// The scheme of its URLs, over TLS or not.
    pub fn scheme(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Protocol::WebSocket, false) => "ws",
            (Protocol::WebSocket, true) => "wss",
            (Protocol::Http, false) => "http",
            (Protocol::Http, true) => "https",
        }
    }

    /// One of its URLs, for people.
    fn kind(self) -> &'static str {
        match self {
            Protocol::WebSocket => "a WebSocket",
            Protocol::Http => "an HTTP",
        }
    }
}

/// A URL of one of these protocols, taken apart. Shown with `{}` it has no user and no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// What its scheme says.
    pub protocol: Protocol,
    /// `wss` or `https`: over TLS.
    pub secure: bool,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// 1 to 65535; 80 or 443 where the URL has none.
    pub port: u16,
    /// The user and the password before the `@`, percent-decoded; a Basic credential, so the user has no colon.
    pub user: Option<(String, Secret)>,
    /// What stands in the request line; it begins with `/`.
    pub path_and_query: String,
}

impl Url {
    /// What the Host header holds (RFC 9112 section 3.2): an IPv6 address in brackets, no port that the scheme implies.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.secure) { host } else { format!("{host}:{}", self.port) }
    }

    /// The URL as it may be shown to everybody who reads a log: neither user, password nor query, and no path but one that
    /// says something.
    pub fn shown(&self) -> String {
        let user = if self.user.is_some() { "***@" } else { "" };
        let path = if self.path_and_query == "/" { "" } else { &self.path_and_query };
        fit_to_show(&format!("{}://{user}{}{path}", self.protocol.scheme(self.secure), self.authority()))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.protocol.scheme(self.secure), self.authority(), self.path_and_query)
    }
}

/// Reads the URL of a WebSocket server; the error says what to write instead. It quotes the URL without its user and
/// password.
pub fn parse(text: &str) -> Result<Url, String> {
    parse_as(Protocol::WebSocket, text)
}

/// The same for another protocol.
pub fn parse_as(protocol: Protocol, text: &str) -> Result<Url, String> {
    let (secure, rest) = split_scheme(protocol, text)?;
    if rest.contains('#') {
        let kind = protocol.kind();
        return Err(format!("{kind} URL has no fragment (leave out '#' and what follows, or write '%23')"));
    }
    let (authority, behind) = rest.split_at(authority_len(rest));
    if let Some(odd) = behind.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("it holds '{}' (write it percent-encoded, a space as '%20')", odd.escape_default()));
    }
    let (user, authority) = match authority.rsplit_once('@') {
        Some((user, authority)) => (Some(parse_user(user)?), authority),
        None => (None, authority),
    };
    check_authority(authority, behind, protocol, secure)?;
    let path_and_query = if behind.starts_with('/') { behind.to_owned() } else { format!("/{behind}") };
    // What may stand in a path and a query is the library's to know.
    let uri: Uri = format!("{}://{authority}{path_and_query}", protocol.scheme(secure))
        .parse()
        .map_err(|error: InvalidUri| format!("{error} (write what is not a letter or digit percent-encoded)"))?;
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = match authority.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
        None | Some("") => Some(default_port(secure)),
        Some(digits) => digits.parse().ok().filter(|port| *port > 0),
    };
    let port = port.ok_or("its port is not a number from 1 to 65535")?;
    Ok(Url { protocol, secure, host: bare.to_owned(), port, user, path_and_query })
}

/// Whether it is over TLS, and what follows the `://`.
fn split_scheme(protocol: Protocol, text: &str) -> Result<(bool, &str), String> {
    let bare = text.trim();
    if bare.len() < text.len() && !bare.is_empty() {
        return Err(format!("it has blanks around it (write '{}')", without_any_user(bare).escape_debug()));
    }
    let is_scheme = |written: &str| SCHEMES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(written));
    let Some((written, rest)) = text.split_once("://") else {
        let is_slash = ['/', '\\', ':'];
        return Err(
            match text.split_once([':', '/', '\\']).and_then(|(written, rest)| Some((is_scheme(written)?, rest))) {
                Some((&(known, _, secure), rest)) => {
                    format!(
                        "'://' must follow '{known}' (did you mean {}?)",
                        guess(protocol.scheme(secure), rest.trim_start_matches(is_slash))
                    )
                }
                None => {
                    let scheme = protocol.scheme(false);
                    format!("it has no scheme (did you mean {}?)", guess(scheme, text.trim_start_matches('/')))
                }
            },
        );
    };
    let kind = protocol.kind();
    let secure = match is_scheme(written) {
        Some(&(_, own, secure)) if own == protocol => secure,
        Some(&(known, _, secure)) => {
            let meant = guess(protocol.scheme(secure), rest);
            return Err(format!("'{known}' is not {kind} scheme (did you mean {meant}?)"));
        }
        None => {
            let start: String = written.chars().take(40).collect();
            let [plain, secure] = [false, true].map(|secure| protocol.scheme(secure));
            return Err(format!("'{}' is not {kind} scheme (use {plain}:// or {secure}://)", start.escape_debug()));
        }
    };
    match rest.split_once("//") {
        Some((second, _)) if second.strip_suffix(':').is_some_and(|second| is_scheme(second).is_some()) => {
            Err(format!("it has two schemes (did you mean '{}'?)", without_any_user(rest).escape_debug()))
        }
        _ => Ok((secure, rest)),
    }
}

/// The schemes that people write, whose they are, and whether they are over TLS.
const SCHEMES: [(&str, Protocol, bool); 4] = [
    ("ws", Protocol::WebSocket, false),
    ("wss", Protocol::WebSocket, true),
    ("http", Protocol::Http, false),
    ("https", Protocol::Http, true),
];

/// Looks at `host:port`, the user left out. `behind` is what follows it, for a URL that may have been meant.
fn check_authority(authority: &str, behind: &str, protocol: Protocol, secure: bool) -> Result<(), String> {
    let meant = |authority: &str| guess(protocol.scheme(secure), &format!("{authority}{behind}"));
    if authority.is_empty() {
        return Err(format!("it has no host ({}://HOST:PORT/PATH)", protocol.scheme(false)));
    }
    if authority.contains(char::is_whitespace) {
        let all: String = authority.chars().filter(|c| !c.is_whitespace()).collect();
        return Err(format!("its host or port holds a blank (did you mean {}?)", meant(&all)));
    }
    if let Some((_, zone)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')?.0.split_once('%')) {
        return Err(format!(
            "its address has a zone, '%{}', which a URL cannot have (write another address of that machine, or its name)",
            zone.escape_debug()
        ));
    }
    if let Some(odd) = authority.chars().find(|c| matches!(c, '$' | '%' | '<' | '>' | '{' | '}' | '*' | ',')) {
        return Err(format!(
            "its host holds '{odd}' (write a name or an IP address; in a configuration, ${{NAME}} is the environment \
             variable NAME)"
        ));
    }
    if let Some(odd) = authority.chars().find(|c| !c.is_ascii()) {
        return Err(format!(
            "its host holds '{}' (write the name in its ASCII form, in which such parts begin with 'xn--'; the command \
             idn2 prints it)",
            odd.escape_debug()
        ));
    }
    if let Some(odd) = authority.chars().find(|c| !c.is_ascii_graphic() || "\"'`\\^|()!&;=+~".contains(*c)) {
        return Err(format!("its host holds '{}' (write a name or an IP address)", odd.escape_debug()));
    }
    check_places(authority, protocol, meant)
}

/// Looks at where its colons and brackets stand; `meant` is the URL with another authority.
fn check_places(authority: &str, protocol: Protocol, meant: impl Fn(&str) -> String) -> Result<(), String> {
    let scheme = protocol.scheme(false);
    if let Some(inside) = authority.strip_prefix('[') {
        return match inside.split_once(']') {
            None => Err("its '[' has no ']' (write an IPv6 address as '[::1]')".into()),
            Some((address, _)) if address.parse::<Ipv6Addr>().is_err() => {
                Err(format!("'[{address}]' is not an IPv6 address"))
            }
            Some((_, rest)) if rest.is_empty() || rest.starts_with(':') => Ok(()),
            Some(_) => Err(format!("there is text between its host and its port (write '{scheme}://[::1]:8080/')")),
        };
    }
    let Some((host, port)) = authority.rsplit_once(':') else { return Ok(()) };
    if authority.parse::<Ipv6Addr>().is_ok() {
        let with_port =
            host.parse::<Ipv6Addr>().map_or(String::new(), |_| format!(" or {}", meant(&format!("[{host}]:{port}"))));
        return Err(format!(
            "an IPv6 address stands in brackets (write {}{with_port})",
            meant(&format!("[{authority}]"))
        ));
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address stands in brackets (write {})", meant(&format!("[{host}]:{port}"))));
    }
    match host.split_once(':') {
        _ if host.is_empty() => Err(format!("it has no host ({scheme}://HOST:PORT/PATH)")),
        Some((host, _)) => {
            let one = match host.is_empty() {
                true => format!("{scheme}://HOST:PORT/PATH"),
                false => meant(&format!("{host}:{port}")),
            };
            Err(format!("it has more than one port (did you mean {one}?)"))
        }
        None => Ok(()),
    }
}

/// Reads a URL whose path may have `{name}`s; `place` says what stands for a name, or why there can be none. The URL has
/// nothing in those places. The error says what to write instead.
pub fn parse_template<P>(
    text: &str,
    place: impl FnMut(&str) -> Result<P, String>,
) -> Result<(Url, PathTemplate<P>), String> {
    split_scheme(Protocol::WebSocket, text)?;
    let path_start = text.find("://").map_or(0, |at| at + 3);
    let path_start = path_start + authority_len(&text[path_start..]);
    let path_end = path_start + text[path_start..].find(['?', '#']).unwrap_or(text.len() - path_start);
    let (before, path, behind) = (&text[..path_start], &text[path_start..path_end], &text[path_end..]);
    if before.contains(['{', '}']) {
        return Err(
            "a {name} is allowed only in its path (write the host, or ${NAME} for the environment variable NAME)"
                .into(),
        );
    }
    if behind.contains(['{', '}']) {
        return Err("a {name} is allowed only in its path (write a brace as '%7B' or '%7D')".into());
    }
    let mut path = PathTemplate::cut(path)?.map(place)?;
    path.push_str(behind);
    let mut url = parse(&format!("{before}{}", path.fill(|_| "x")))?;
    if path.places.is_empty() {
        // A URL without a path has the slash all the same.
        path.start.clone_from(&url.path_and_query);
    }
    url.path_and_query = path.fill(|_| "");
    Ok((url, path))
}

/// The path and the query of a URL, with places for values in the path: `/dev/{id}?x=1`. `P` says which value belongs
/// in a place. Its `Debug` hides the rest: a token may be part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PathTemplate<P> {
    start: String,
    /// Each place and the text behind it.
    places: Vec<(P, String)>,
}

impl<'t> PathTemplate<&'t str> {
    /// Cuts a path at its braces.
    fn cut(path: &'t str) -> Result<PathTemplate<&'t str>, String> {
        let unmatched =
            || "its braces do not match (write a brace that is not part of a {name} as '%7B' or '%7D')".to_owned();
        let cut_at_brace = |text: &'t str| match text.split_once('{') {
            Some((literal, from_name)) => (literal, Some(from_name)),
            None => (text, None),
        };
        let (start, mut next) = cut_at_brace(path);
        let mut literal = start;
        let mut places = Vec::new();
        while let Some(from_name) = next {
            let (name, rest) = from_name.split_once('}').filter(|_| !literal.contains('}')).ok_or_else(unmatched)?;
            (literal, next) = cut_at_brace(rest);
            places.push((name, literal.to_owned()));
        }
        if literal.contains('}') {
            return Err(unmatched());
        }
        Ok(PathTemplate { start: start.to_owned(), places })
    }

    fn map<P>(self, mut place: impl FnMut(&str) -> Result<P, String>) -> Result<PathTemplate<P>, String> {
        let places = self.places.into_iter().map(|(name, literal)| Ok((place(name)?, literal)));
        Ok(PathTemplate { start: self.start, places: places.collect::<Result<_, String>>()? })
    }
}

impl<P> PathTemplate<P> {
    /// A path and query without places.
    pub fn fixed(path_and_query: &str) -> PathTemplate<P> {
        PathTemplate { start: path_and_query.to_owned(), places: Vec::new() }
    }

    /// The same with other words for the places, if there is one for each.
    pub fn resolve<Q>(&self, place: impl Fn(&P) -> Option<Q>) -> Option<PathTemplate<Q>> {
        let places = self.places.iter().map(|(own, literal)| Some((place(own)?, literal.clone())));
        Some(PathTemplate { start: self.start.clone(), places: places.collect::<Option<_>>()? })
    }

    /// Puts a segment of another path in each place, as it is written there. It stays one segment: what must not stand in
    /// one is percent-encoded.
    pub fn fill<'s>(&self, segment: impl Fn(&P) -> &'s str) -> String {
        let mut filled = self.start.clone();
        for (place, literal) in &self.places {
            push_segment(segment(place), &mut filled);
            filled.push_str(literal);
        }
        filled
    }

    fn push_str(&mut self, text: &str) {
        self.places.last_mut().map_or(&mut self.start, |(_, literal)| literal).push_str(text);
    }
}

impl<P: fmt::Debug> fmt::Debug for PathTemplate<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.places.iter().map(|(place, _)| place).collect();
        f.debug_struct("PathTemplate").field("places", &places).finish_non_exhaustive()
    }
}

/// Appends a segment, and percent-encodes what RFC 3986 section 3.3 does not allow in one. What is percent-encoded stays
/// so, and what is not is not encoded either: to a server the two can mean different things (section 2.2).
fn push_segment(segment: &str, out: &mut String) {
    let bytes = segment.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        let is_allowed = match byte {
            b'%' => bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte),
        };
        if is_allowed {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// A URL, or what was meant to be one, as it may be shown: what stands before an `@` can be a password.
pub fn without_user(text: &str) -> String {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    // A password may hold a slash that should have been encoded; then this is no URL.
    if rest[..authority_len(rest)].contains('@') || parse(&format!("ws://{rest}")).is_err() {
        return without_any_user(text);
    }
    text.to_owned()
}

/// As [`without_user`], for what is known to be no URL: a password may reach as far as the last `@`.
fn without_any_user(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let at = rest[..authority_len(rest)].rfind('@').or_else(|| rest.rfind('@'));
    at.map_or_else(|| text.to_owned(), |at| format!("{scheme}***{}", &rest[at..]))
}

/// The URL of a proxy, or what was meant to be one, as it may be shown: it has no path, so all before the last `@` is
/// user and password, whatever they hold.
pub fn proxy_without_user(text: &str) -> String {
    let Some((before, place)) = text.rsplit_once('@') else { return text.to_owned() };
    match before.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => format!("{scheme}://***@{place}"),
        _ => format!("***@{place}"),
    }
}

/// Whether this can be the scheme of a URL (RFC 3986 section 3.1).
pub fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A URL as it may be shown to everybody who reads a log: the query is hidden too, many of them hold a token.
pub fn fit_to_show(text: &str) -> String {
    let text = without_user(text);
    match text.split_once('?') {
        Some((before, _)) => format!("{before}?***"),
        None => text,
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// How much of what follows the scheme is user, host and port (RFC 3986 section 3.2).
fn authority_len(rest: &str) -> usize {
    rest.find(['/', '?', '#']).unwrap_or(rest.len())
}

/// The URL that may have been meant, in quotes.
fn guess(scheme: &str, rest: &str) -> String {
    format!("'{}'", without_any_user(&format!("{scheme}://{rest}")).escape_debug())
}

/// Reads `user:password` or `user`. The error quotes nothing of it.
fn parse_user(text: &str) -> Result<(String, Secret), String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |part: &str| {
        let text = String::from_utf8(percent_decoded(part)?.into_owned()).ok()?;
        (!text.contains(char::is_control)).then_some(text)
    };
    let (Some(user), Some(password)) = (decode(user), decode(password)) else {
        return Err("its user or password is not text (write a '%' as '%25', and no control characters)".into());
    };
    // The colon ends the user in a Basic credential (RFC 7617 section 2).
    if user.contains(':') {
        return Err("its user holds a colon, which Basic authentication cannot send".into());
    }
    Ok((user, Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, secure, host, port, path) in [
            ("ws://localhost", false, "localhost", 80, "/"),
            ("wss://h", true, "h", 443, "/"),
            ("WS://h:81/a/b?c=d&e", false, "h", 81, "/a/b?c=d&e"),
            ("ws://h?x=1", false, "h", 80, "/?x=1"),
            ("ws://h:/x", false, "h", 80, "/x"),
            ("ws://[::1]:8080/", false, "::1", 8080, "/"),
            ("wss://[::1]", true, "::1", 443, "/"),
            ("ws://10.0.0.1:1/a%20b", false, "10.0.0.1", 1, "/a%20b"),
            ("ws://h/a@b", false, "h", 80, "/a@b"),
            // A relay's URL, before its parameters are filled in.
            ("ws://h/dev/{id}", false, "h", 80, "/dev/{id}"),
        ] {
            let url = parse(text).unwrap();
            let found = (url.secure, &*url.host, url.port, &*url.path_and_query, url.user);
            assert_eq!(found, (secure, host, port, path, None), "{text}");
        }
    }

    #[test]
    fn a_url_of_http_has_its_own_schemes() {
        for (text, expected) in [
            ("https://login.example/jwks.json?v=1", Ok((true, "login.example", 443, "/jwks.json?v=1"))),
            ("http://[::1]:9000", Ok((false, "::1", 9000, "/"))),
            ("ws://h/x", Err("'ws' is not an HTTP scheme (did you mean 'http://h/x'?)")),
            ("wss://h", Err("(did you mean 'https://h'?)")),
            ("ftp://h", Err("(use http:// or https://)")),
            ("login.example", Err("did you mean 'http://login.example'?")),
            ("https://h/#a", Err("an HTTP URL has no fragment")),
            ("https://", Err("(http://HOST:PORT/PATH)")),
            ("http:h", Err("(did you mean 'http://h'?)")),
        ] {
            let url = parse_as(Protocol::Http, text);
            let found = url.as_ref().map(|url| (url.secure, &*url.host, url.port, &*url.path_and_query));
            match (found, expected) {
                (Err(problem), Err(hint)) => assert!(problem.contains(hint), "{text}: {problem}"),
                (found, expected) => assert_eq!(found.map_err(|problem| &**problem), expected, "{text}"),
            }
        }
        assert_eq!(parse_as(Protocol::Http, "https://me:pw@h:444/x?y").unwrap().shown(), "https://***@h:444/x?***");
    }

    #[test]
    fn a_wrong_url_says_what_to_write_instead() {
        for (text, hint) in [
            ("localhost:8080/x", "ws://localhost:8080/x"),
            ("http://h/x", "ws://h/x"),
            ("https://h/x", "wss://h/x"),
            ("ftp://h", "use ws:// or wss://"),
            ("ws://", "no host"),
            ("ws://:80/", "no host"),
            ("ws://u:p@/", "no host"),
            ("ws://u:p@:80/", "no host"),
            ("ws://h:0/", "1 to 65535"),
            ("ws://h:70000/", "1 to 65535"),
            ("ws://h:x/", "1 to 65535"),
            ("ws://gate:8080:8080", "more than one port (did you mean 'ws://gate:8080'?)"),
            ("ws://gate:80:81/x", "'ws://gate:81/x'"),
            ("ws://::1/x", "brackets (write 'ws://[::1]/x')"),
            ("ws://::1:8080/x", "'ws://[::1:8080]/x' or 'ws://[::1]:8080/x'"),
            ("ws://1:2:3:4:5:6:7:8:9", "(write 'ws://[1:2:3:4:5:6:7:8]:9')"),
            ("ws://[::1/x", "no ']'"),
            ("ws://[::1]8080/x", "between its host and its port"),
            ("ws://[h]/", "not an IPv6 address"),
            ("ws://[fe80::1%eth0]:8080/", "zone, '%eth0'"),
            ("ws://[fe80::1%25eth0]/", "zone, '%25eth0'"),
            ("ws:gate", "'://' must follow 'ws' (did you mean 'ws://gate'?)"),
            ("wss:gate:8080/x", "'wss://gate:8080/x'"),
            ("ws:/gate/x", "'ws://gate/x'"),
            ("ws//gate/x", "'ws://gate/x'"),
            ("WSS:\\\\gate", "'wss://gate'"),
            ("http:gate", "'ws://gate'"),
            ("ws:me:secret@gate", "'ws://***@gate'"),
            ("ws://http://gate/x", "two schemes (did you mean 'http://gate/x'?)"),
            ("ws://wss://me:secret@gate/x", "'wss://***@gate/x'"),
            (&"ws://".repeat(50_000), "two schemes"),
            (" ws://h/x", "blanks around it (write 'ws://h/x')"),
            ("ws://h/x\n", "blanks around it (write 'ws://h/x')"),
            ("\tme:secret@h ", "(write '***@h')"),
            ("ws://h: 80/", "holds a blank (did you mean 'ws://h:80/'?)"),
            ("ws://my gate/", "holds a blank"),
            (
                "ws://g\u{e4}te.example:80/x",
                "holds '\u{e4}' (write the name in its ASCII form, in which such parts begin with 'xn--'; the command idn2 prints it)",
            ),
            ("wss://\u{4f8b}\u{3048}.jp", "the command idn2 prints it"),
            ("ws://h\u{9b}/", "holds '\\u{9b}'"),
            ("ws://ho\"st/", "holds '\\\"'"),
            ("ws://a\\b/", "its host holds"),
            ("ws://h/<x>", "percent-encoded"),
            ("ws://h/a b", "%20"),
            ("ws://h/#a", "fragment"),
            ("ws://[::g]/", ""),
            ("ws://50%@h/", "%25"),
            ("ws://a%3Ab:c@h/", "colon"),
            ("ws://a:b%0A@h/", "control"),
            ("ws://a:%ff@h/", "not text"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }

    #[test]
    fn a_user_and_a_password_are_kept_apart_and_decoded() {
        for (text, user, password) in [
            ("ws://me:secret@h/", "me", "secret"),
            ("ws://me@h", "me", ""),
            ("ws://:token@h", "", "token"),
            ("ws://a%40b:p%3A%2F:q@h:81/x@y", "a@b", "p:/:q"),
            ("wss://me:a@b@h", "me", "a@b"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.host, "h", "{text}");
            assert_eq!(url.user, Some((user.into(), Secret::new(password))), "{text}");
            assert!(!url.to_string().contains(password) || password.is_empty(), "{url}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_has_no_password() {
        for (text, shown) in [
            ("ws://h/x", "ws://h/x"),
            ("ws://me:secret@h/x", "ws://***@h/x"),
            ("ws://me:sec@ret@h/x", "ws://***@h/x"),
            ("ws://me:sec/ret@h/x", "ws://***@h/x"),
            ("me:secret@h/x", "***@h/x"),
            ("ws://h/a@b?c@d", "ws://h/a@b?c@d"),
            ("", ""),
        ] {
            assert_eq!(without_user(text), shown, "{text}");
        }
        for (text, shown) in
            [("ws://me:secret@h/x?token=secret", "ws://***@h/x?***"), ("/x?secret", "/x?***"), ("ws://h/x", "ws://h/x")]
        {
            assert_eq!(fit_to_show(text), shown, "{text}");
        }
        for text in ["http://me:secret@h/", "me:secret@h", "ws://me:secret%@h/", "http://me:1/secret x@h"] {
            let problem = parse(text).unwrap_err();
            assert!(!problem.contains("secret"), "{text}: {problem}");
        }
    }

    #[test]
    fn b19_what_is_shown_of_a_proxy_has_no_password_wherever_it_ends() {
        for (text, shown) in [
            ("http://p:3128", "http://p:3128"),
            ("http://me:secret@p:3128", "http://***@p:3128"),
            ("socks5h://me:12/sec@ret@p:3128/", "socks5h://***@p:3128/"),
            ("me:secret/x@p:3128", "***@p:3128"),
            ("me:se://cret@p:3128", "***@p:3128"),
        ] {
            assert_eq!(proxy_without_user(text), shown, "{text}");
        }
    }

    #[test]
    fn b15_a_segment_is_put_in_its_place_as_it_came_and_stays_one() {
        let value = |name: &str| match name {
            "a" => "7",
            "b" => "x/y ?#%ü",
            "c" => "DE*ABC@a:b+c=d,e;f!$&'()~",
            "d" => "%40%2a%C3%a4%41%4",
            _ => panic!("{name}"),
        };
        for (text, empty, filled) in [
            ("ws://h/dev/{a}", "/dev/", "/dev/7"),
            ("ws://h/{b}/dev-{a}?q=1", "//dev-?q=1", "/x%2Fy%20%3F%23%25%C3%BC/dev-7?q=1"),
            ("ws://h/{c}", "/", "/DE*ABC@a:b+c=d,e;f!$&'()~"),
            ("ws://h/{d}", "/", "/%40%2a%C3%a4%41%254"),
            ("ws://h", "/", "/"),
            ("ws://h?q", "/?q", "/?q"),
        ] {
            let (url, path) = parse_template(text, |name| Ok(name.to_owned())).unwrap();
            assert_eq!((&*url.path_and_query, url.host.as_str()), (empty, "h"), "{text}");
            assert_eq!(path.fill(|name| value(name)), filled, "{text}");
            let numbered = path.resolve(|name| ["d", "c", "b", "a"].iter().position(|known| known == name)).unwrap();
            assert_eq!(numbered.fill(|index| value(["d", "c", "b", "a"][*index])), filled, "{text}");
        }
        for text in ["ws://{a}/", "ws://h/?x={a}", "ws://h/{a", "ws://h/a}", "ws://h/}{a}", "ws://h/{a}}"] {
            assert!(parse_template(text, |_| Ok(())).is_err(), "{text}");
        }
        assert!(parse_template("ws://h/{a}", |_| Err::<(), _>("no".into())).is_err());
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (text, shown) in [
            ("ws://h", "ws://h"),
            ("ws://h:80/", "ws://h"),
            ("wss://h:80/x", "wss://h:80/x"),
            ("wss://u:p@[::1]:443/?q", "wss://***@[::1]/?***"),
            ("ws://me:secret@h/x?token=secret", "ws://***@h/x?***"),
        ] {
            assert_eq!(parse(text).unwrap().shown(), shown, "{text}");
        }
    }

    #[test]
    fn a_template_shows_no_query() {
        let (_, path) = parse_template("ws://h/{a}?token=secret", |name| Ok(name.to_owned())).unwrap();
        let shown = format!("{path:?}");
        assert!(shown.contains("\"a\"") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_host_header_has_brackets_and_a_port_where_they_are_needed() {
        for (text, authority, shown) in [
            ("ws://h:80", "h", "ws://h/"),
            ("wss://h:80/x", "h:80", "wss://h:80/x"),
            ("wss://u:p@[::1]:443/?q", "[::1]", "wss://[::1]/?q"),
            ("ws://[::1]:8080", "[::1]:8080", "ws://[::1]:8080/"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.authority(), url.to_string()), (authority.to_owned(), shown.to_owned()), "{text}");
        }
    }
}
