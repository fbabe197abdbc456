//! The answers of wsgate that end a connection before it is a WebSocket: status, reason, and how they look on the wire.

/// An answer of wsgate that ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// An HTTP status of 400 or more.
    pub status: u16,
    /// One sentence, which is the body.
    pub reason: String,
}

impl Refusal {
    /// A refusal with this status and body.
    pub fn new(status: u16, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into() }
    }

    /// The whole HTTP answer.
    pub fn to_http(&self) -> Vec<u8> {
        let phrase = match self.status {
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            426 => "Upgrade Required",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "Service Unavailable",
        };
        let extra = match self.status {
            405 => "Allow: GET\r\n",
            426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            503 => "Retry-After: 1\r\n",
            _ => "",
        };
        // RFC 9110 section 7.8: an Upgrade field goes with the connection option of that name.
        let connection = if self.status == 426 { "upgrade, close" } else { "close" };
        let Refusal { status, reason } = self;
        let length = reason.len() + 1;
        format!(
            "HTTP/1.1 {status} {phrase}\r\nConnection: {connection}\r\n{extra}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {length}\r\n\r\n{reason}\n"
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_whole_http_answer() {
        let answer = String::from_utf8(Refusal::new(426, "why").to_http()).unwrap();
        assert_eq!(
            answer,
            "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\r\nwhy\n"
        );
    }
}
