//! A request to open a WebSocket, as its head says it: where the head ends, what it asks for, whether that is what
//! RFC 6455 section 4.2.1 demands, and the 101 that accepts it.

use std::fmt::Write as _;

use tungstenite::handshake::derive_accept_key;

use super::refusal::Refusal;
use super::token::split_port;

/// The longest request head that is read, in bytes; more is 431.
pub const HEAD_MAX: usize = 16 << 10;

/// The lines without which nginx passes on no upgrade.
const UPGRADE_LINES: &str = "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                             proxy_set_header Connection \"upgrade\";";

/// How many characters of a target stand in an answer and the log.
const SHOWN: usize = 200;

/// The most header fields in a head; more is 431.
pub(super) const FIELDS_MAX: usize = 100;

/// A request to open a WebSocket, or not, as its head says. Borrowed from the head.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The target without the query: what the endpoints are matched against.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The Host header, or what stands in its place in the target (RFC 9112 section 3.2.2).
    pub host: &'a str,
    /// The Origin header; browsers always send one.
    pub origin: Option<&'a str>,
    /// The User-Agent header.
    pub user_agent: Option<&'a str>,
    /// The subprotocols offered, in the client's order.
    pub subprotocols: Vec<&'a str>,
    /// What the client asks for; only `Upgrade` can become a WebSocket.
    pub intent: Intent<'a>,
}

/// What a well-formed request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Intent<'a> {
    /// To open a WebSocket; the key is valid.
    Upgrade {
        /// Sec-WebSocket-Key as sent.
        key: &'a str,
    },
    /// A plain GET.
    Plain,
}

/// Where the head ends, if it does: behind the first empty line.
pub fn head_end(input: &[u8]) -> Option<usize> {
    input.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Whether a head asks for the head of an answer alone.
pub fn is_head(head: &[u8]) -> bool {
    head.starts_with(b"HEAD ")
}

/// Judges a request head by itself: is it HTTP/1.1, a GET, and if it asks for a WebSocket, is everything there that
/// RFC 6455 section 4.2.1 demands, once?
pub fn judge(head: &[u8]) -> Result<Request<'_>, Refusal> {
    // On the heap: a client thread's stack keeps every page that it ever touched.
    let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    take_apart(&mut parsed, head, |error| malformed(head, error))?;
    if parsed.version != Some(1) {
        let is_upgrade = Fields(parsed.headers).all("Sec-WebSocket-Key").next().is_some();
        let advice = if is_upgrade {
            format!("a proxy in front has to speak HTTP/1.1 and pass on the upgrade ({UPGRADE_LINES})")
        } else {
            "use HTTP/1.1; for a health check of HAProxy write health = \"/healthz\" under this [[listen]] and \
             \"option httpchk GET /healthz\" in HAProxy"
                .to_owned()
        };
        return Err(Refusal::new(505, format!("HTTP/1.0 cannot be upgraded: {advice}")));
    }
    if parsed.method != Some("GET") {
        return Err(Refusal::new(405, "a WebSocket is opened with GET"));
    }
    let target = parsed.path.unwrap_or_default();
    let RequestTarget { authority, path } = RequestTarget::parse(target)?;
    let fields = Fields(parsed.headers);
    let host = fields.once("Host")?.ok_or_else(|| Refusal::new(400, "the Host header is missing"))?;
    fields.no_body()?;
    Ok(Request {
        path,
        query: target.split_once('?').map(|(_, query)| query),
        host: authority.unwrap_or(host),
        origin: fields.once("Origin")?,
        user_agent: fields.first("User-Agent"),
        subprotocols: fields.tokens("Sec-WebSocket-Protocol"),
        intent: fields.intent()?,
    })
}

/// Takes a whole head apart, in which `parsed` has room for [`FIELDS_MAX`] fields. `malformed` says what to answer where it
/// is no HTTP.
pub(super) fn take_apart<'a>(
    parsed: &mut httparse::Request<'_, 'a>,
    head: &'a [u8],
    malformed: impl FnOnce(httparse::Error) -> Refusal,
) -> Result<(), Refusal> {
    match parsed.parse(head) {
        // The parser accepts a line that ends in LF alone (RFC 9112 section 2.2 allows it). For the parser the head may
        // then end earlier than for `head_end`, and what stands between would be skipped.
        Ok(httparse::Status::Complete(end)) if end < head.len() => {
            Err(Refusal::new(400, "the lines of a request end in CR LF"))
        }
        Ok(httparse::Status::Complete(_)) => Ok(()),
        Ok(httparse::Status::Partial) => Err(Refusal::new(400, "the request head is not complete")),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::new(431, format!("more than {FIELDS_MAX} header fields"))),
        Err(error) => Err(malformed(error)),
    }
}

/// Why a head is no request of HTTP/1.1, as its first line may say better than the parser.
fn malformed(head: &[u8], error: httparse::Error) -> Refusal {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\r');
    let is_blank = |c: char| matches!(c, ' ' | '\t');
    if line == "PRI * HTTP/2.0" {
        let advice = "a proxy in front must speak HTTP/1.1 to this port (HAProxy: no \"proto h2\" in the server line)";
        return Refusal::new(505, format!("this is HTTP/2, and only HTTP/1.1 is supported: {advice}"));
    }
    let parts = line.split_once(is_blank).and_then(|(_, rest)| rest.rsplit_once(is_blank));
    match parts {
        Some((target, version)) if version.starts_with("HTTP/1.") && target.contains(is_blank) => {
            // The query may hold a credential.
            let path = target.split('?').next().unwrap_or_default();
            let reason = format!("the request target '{path:.SHOWN$}' has a blank: write %20 in its place");
            Refusal::new(400, reason)
        }
        _ if error == httparse::Error::Version => Refusal::new(505, "only HTTP/1.1 is supported"),
        _ => Refusal::new(400, format!("not a valid HTTP request: {error}")),
    }
}

/// The values of a header in a head that [`judge`] has accepted.
pub fn header_values(head: &[u8], name: &str) -> Vec<Vec<u8>> {
    let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(_) => return Vec::new(),
    }
    let named = parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value.to_vec()).collect()
}

/// The 101 answer to a request with this key (RFC 6455 section 4.2.2).
pub fn accept(key: &str, subprotocol: Option<&str>) -> Vec<u8> {
    let accept = derive_accept_key(key.as_bytes());
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n"
    );
    if let Some(subprotocol) = subprotocol {
        let _ = write!(answer, "Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    answer.push_str("\r\n");
    answer.into_bytes()
}

/// A request target without its query.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestTarget<'a> {
    /// Host and port, if the target names them.
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
}

impl<'a> RequestTarget<'a> {
    /// A path, or a whole http or https URI: RFC 9112 section 3.2.2 demands that a server take both, and RFC 6455
    /// section 4.1 lets a client send either.
    pub(super) fn parse(target: &'a str) -> Result<RequestTarget<'a>, Refusal> {
        // A client that sends one has not encoded it, and what it means is not what stands before it.
        if target.contains('#') {
            return Err(Refusal::new(400, "a request target has no fragment: write %23 in the place of '#'"));
        }
        let target = target.split('?').next().unwrap_or_default();
        if target.starts_with('/') {
            return Ok(RequestTarget { authority: None, path: target });
        }
        let is_http = |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let Some((_, rest)) = target.split_once("://").filter(|(scheme, _)| is_http(scheme)) else {
            return Err(Refusal::new(400, "the request target must be a path that begins with '/', or an http URI"));
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        // A user's name before the host can make one host look like another (RFC 9110 section 4.2.4).
        if split_port(authority).0.is_empty() || authority.contains('@') {
            return Err(Refusal::new(400, "the request target has no host, or it has a user"));
        }
        Ok(RequestTarget { authority: Some(authority), path })
    }
}

/// The header fields of one request. Names are compared without case.
pub(super) struct Fields<'h, 'a>(pub(super) &'h [httparse::Header<'a>]);

impl<'a> Fields<'_, 'a> {
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    pub(super) fn first(&self, name: &str) -> Option<&'a str> {
        self.all(name).next().and_then(|value| std::str::from_utf8(value).ok()).map(str::trim)
    }

    /// A field that must not be repeated: two of them are how requests are smuggled.
    pub(super) fn once(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.all(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Refusal::new(400, format!("more than one {name} header")));
        }
        let value =
            std::str::from_utf8(value).map_err(|_| Refusal::new(400, format!("the {name} header is not text")))?;
        Ok(Some(value.trim()))
    }

    /// The comma-separated elements of a field that may be repeated.
    pub(super) fn tokens(&self, name: &str) -> Vec<&'a str> {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .collect()
    }

    pub(super) fn has_token(&self, name: &str, wanted: &str) -> bool {
        self.tokens(name).iter().any(|token| token.eq_ignore_ascii_case(wanted))
    }

    /// A GET with a body would leave its body to be read as WebSocket frames.
    fn no_body(&self) -> Result<(), Refusal> {
        let length = self.once("Content-Length")?.unwrap_or("0");
        if length != "0" || self.all("Transfer-Encoding").next().is_some() {
            return Err(Refusal::new(400, "a request with a body is not supported"));
        }
        Ok(())
    }

    fn intent(&self) -> Result<Intent<'a>, Refusal> {
        let is_removed =
            |what: &str| format!("{what}: if a proxy in front has removed it, pass it on ({UPGRADE_LINES})");
        if !self.has_token("Upgrade", "websocket") {
            if self.all("Sec-WebSocket-Key").next().is_some() {
                return Err(Refusal::new(426, is_removed("the Upgrade header is missing, but the request has a key")));
            }
            return Ok(Intent::Plain);
        }
        if !self.has_token("Connection", "upgrade") {
            return Err(Refusal::new(400, is_removed("the Connection header does not say upgrade")));
        }
        match self.once("Sec-WebSocket-Version")? {
            Some("13") => {}
            _ => return Err(Refusal::new(426, "only WebSocket version 13 is supported")),
        }
        let key = self.once("Sec-WebSocket-Key")?.unwrap_or_default();
        if !is_key(key) {
            return Err(Refusal::new(400, "the Sec-WebSocket-Key header is not 16 bytes in base64"));
        }
        Ok(Intent::Upgrade { key })
    }
}

/// Whether a key is the base64 form of 16 bytes (RFC 6455 section 4.1): 22 digits and two pads.
fn is_key(key: &str) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.ends_with("==") && key.as_bytes()[..22].iter().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /chat?x=1 HTTP/1.1\r\nHost: here:80\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn a_correct_request_is_understood() {
        let head = GOOD.replace(
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: a, b\r\nsec-websocket-protocol: c\r\nOrigin: http://x\r\n\r\n",
        );
        let request = judge(head.as_bytes()).unwrap();
        assert_eq!(request.path, "/chat");
        assert_eq!(request.host, "here:80");
        assert_eq!(request.origin, Some("http://x"));
        assert_eq!(request.subprotocols, ["a", "b", "c"]);
        assert_eq!(request.intent, Intent::Upgrade { key: "dGhlIHNhbXBsZSBub25jZQ==" });
    }

    #[test]
    fn a_whole_uri_is_a_target_and_its_host_stands_in_for_the_header() {
        for (target, path, host) in [
            ("http://there/chat", "/chat", "there"),
            ("HTTPS://there:8443/a/b?c=://d", "/a/b", "there:8443"),
            ("http://[::1]:80/", "/", "[::1]:80"),
            ("http://there", "/", "there"),
            ("http://there?x=/y", "/", "there"),
            ("http://there//etc", "//etc", "there"),
            ("/http://there/", "/http://there/", "here:80"),
        ] {
            let head = GOOD.replace("/chat?x=1", target);
            let request = judge(head.as_bytes()).unwrap();
            assert_eq!((request.path, request.host), (path, host), "{target}");
        }
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let answer = String::from_utf8(accept("dGhlIHNhbXBsZSBub25jZQ==", Some("a"))).unwrap();
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(answer.ends_with("Sec-WebSocket-Protocol: a\r\n\r\n"), "{answer}");
    }

    #[test]
    fn each_fault_has_its_status() {
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let table = [
            ("post", GOOD.replace("GET", "POST"), 405),
            ("http/1.0", GOOD.replace("HTTP/1.1", "HTTP/1.0"), 505),
            ("http/2.0", GOOD.replace("HTTP/1.1", "HTTP/2.0"), 505),
            ("no version", GOOD.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
            ("version 8", GOOD.replace("Version: 13", "Version: 8"), 426),
            ("no key", GOOD.replace(key, ""), 400),
            ("short key", GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "abc="), 400),
            ("two keys", GOOD.replace(key, &key.repeat(2)), 400),
            ("no host", GOOD.replace("Host: here:80\r\n", ""), 400),
            ("two hosts", GOOD.replace("Host: here:80\r\n", "Host: a\r\nHost: b\r\n"), 400),
            ("no connection", GOOD.replace("Connection: keep-alive, Upgrade\r\n", ""), 400),
            ("a body", GOOD.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n"), 400),
            ("chunks", GOOD.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
            ("another scheme", GOOD.replace("/chat?x=1", "ftp://here/chat"), 400),
            ("no scheme", GOOD.replace("/chat?x=1", "here/chat"), 400),
            ("no authority", GOOD.replace("/chat?x=1", "http:/chat"), 400),
            ("an empty authority", GOOD.replace("/chat?x=1", "http:///chat"), 400),
            ("a port without a host", GOOD.replace("/chat?x=1", "http://:80/chat"), 400),
            ("a user", GOOD.replace("/chat?x=1", "http://here@evil/chat"), 400),
            ("an asterisk", GOOD.replace("/chat?x=1", "*"), 400),
            (
                "a whole target but no host",
                GOOD.replace("/chat?x=1", "http://a/").replace("Host: here:80\r\n", ""),
                400,
            ),
            ("folded line", GOOD.replace("Host: here:80\r\n", "Host: here\r\n :80\r\n"), 400),
            ("an end without CR", GOOD.replacen("here:80\r\n", "here:80\n\r\n", 1), 400),
            ("an end without any CR", GOOD.replacen("here:80\r\n", "here:80\n\n", 1), 400),
            ("a zero byte", GOOD.replace("here", "he\0re"), 400),
            ("garbage", "\x16\x03\x01\x02\r\n\r\n".to_owned(), 400),
            ("many fields", GOOD.replace("\r\n\r\n", &format!("\r\n{}\r\n", "X: y\r\n".repeat(200))), 431),
        ];
        for (name, head, status) in table {
            assert_eq!(judge(head.as_bytes()).map_err(|refusal| refusal.status), Err(status), "{name}");
        }
    }

    #[test]
    fn a_plain_get_is_no_upgrade() {
        let request = judge(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(request.intent, Intent::Plain);
    }
}
