//! What `send` and `listen` share: opening a WebSocket, using it and closing it.

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::dial_arguments::DialArguments;
use super::exit;
use crate::config::{self, DialTls, Proxy};
use crate::dial::{self, CancelToken, Dialed, Dialer, Hints, RequestExtras, Resolver, SetupError, Wire};
use crate::display::{cause, printable};
use crate::http::token::{Reserved, is_header_value, is_token, reserved};
use crate::secret::Secret;
use crate::url;

/// The largest message that we send or accept, in bytes.
pub(super) const MESSAGE_MAX: usize = 64 << 20;

/// How long a command waits for the server's answer to its Close before it ends without it.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How much is shown of an argument.
const SHOWN_MAX: usize = 500;

/// How much of a close reason is shown; a Close frame has no room for more.
const REASON_SHOWN_MAX: usize = 123;

/// What the settings of a dial are called here.
const NAMES: Hints = Hints {
    connect_timeout: "'--connect-timeout'",
    unknown_issuer: "trust its issuer with '--ca FILE', or accept any certificate with '--insecure'",
    other_name: "use the name that it was issued for, or '--insecure' to accept any",
};

/// Checked settings, ready to connect any number of times.
pub(super) struct Caller {
    url: String,
    dialer: Dialer,
}

impl Caller {
    /// Checks everything that can be checked without a network.
    pub(super) fn new(arguments: DialArguments) -> Result<Caller, CallError> {
        let shown = printable(&url::without_user(&arguments.url), SHOWN_MAX);
        let url = url::parse(&arguments.url)
            .map_err(|problem| CallError::Usage(format!("failed to read the URL '{shown}': {problem}")))?;
        let headers = arguments.headers.iter().map(|line| parse_header(line)).collect::<Result<_, _>>()?;
        for (index, name) in arguments.subprotocols.iter().enumerate() {
            if !is_token(name) {
                return Err(CallError::Usage(format!(
                    "failed to offer the subprotocol '{}': it may hold letters, digits and !#$%&'*+-.^_`|~ only \
                     (for several, repeat '--subprotocol')",
                    printable(name, SHOWN_MAX)
                )));
            }
            if arguments.subprotocols[..index].contains(name) {
                return Err(CallError::Usage(format!("failed to offer the subprotocol '{name}' twice: name it once")));
            }
        }
        let settings = config::DialSettings {
            url,
            headers,
            subprotocols: arguments.subprotocols,
            origin: None,
            connect_timeout: arguments.connect_timeout,
            proxy: Proxy::Off,
            tls: DialTls { ca: arguments.ca, identity: None, server_name: None, verify: !arguments.insecure },
        };
        let dialer = Dialer::new(&settings, Resolver::new()).map_err(CallError::Setup)?.shown_as(&shown);
        Ok(Caller { url: shown, dialer })
    }

    /// The URL as it was given, without user and password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What the user should know before the first connection, if anything.
    pub(super) fn warning(&self) -> Option<String> {
        self.dialer.unverified().map(|host| {
            format!(
                "the certificate of '{host}' is not checked ('--insecure'): anyone on the network path can read and \
                 change the data"
            )
        })
    }

    /// Connects; an error says which step failed. `cancel` ends it early with [`CallError::Cancelled`].
    pub(super) fn call(&self, cancel: &CancelToken) -> Result<ServerConnection, CallError> {
        let dialed = match self.dialer.dial(&RequestExtras::default(), cancel) {
            Ok(dialed) => dialed,
            Err(dial::DialError::Cancelled) => return Err(CallError::Cancelled),
            Err(error) => return Err(CallError::Dial(error)),
        };
        let Dialed { socket, session, behind, subprotocol } = dialed;
        let config = WebSocketConfig::default()
            .read_buffer_size(64 << 10)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let wire = Wire::new(socket, session, None, cancel.clone());
        let socket = WebSocket::from_partially_read(wire, behind, Role::Client, Some(config));
        Ok(ServerConnection { socket, url: self.url.clone(), subprotocol })
    }
}

/// An open WebSocket to the server.
pub(super) struct ServerConnection {
    socket: WebSocket<Wire>,
    url: String,
    subprotocol: Option<String>,
}

/// One data message from the peer.
#[derive(Debug)]
pub(super) enum ReceivedMessage {
    /// Text, which is valid UTF-8.
    Text(tungstenite::Utf8Bytes),
    /// Binary.
    Binary(tungstenite::Bytes),
}

impl ReceivedMessage {
    /// The payload: text with a line end behind it, binary as it is.
    pub(super) fn write_raw(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            ReceivedMessage::Text(text) => out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")),
            ReceivedMessage::Binary(data) => out.write_all(data),
        }
    }
}

/// Why there will be no further message, or none for now.
#[derive(Debug)]
pub(super) enum ConnectionEnd {
    /// The peer closed in an orderly way.
    Closed(Closed),
    /// The wait was ended from our side.
    WaitEnded,
    /// The connection or the protocol broke.
    Failed(CallError),
}

impl ServerConnection {
    /// The subprotocol that the server chose.
    pub(super) fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends one message; it has been handed to the system when this returns.
    pub(super) fn send(&mut self, message: Message) -> Result<(), ConnectionEnd> {
        self.socket.get_mut().set_deadline(None);
        self.socket.send(message).map_err(|error| self.end(error))
    }

    /// The next data message; pings are answered on the way. Without a `deadline` it waits for ever.
    pub(super) fn receive(&mut self, deadline: Option<Instant>) -> Result<ReceivedMessage, ConnectionEnd> {
        self.socket.get_mut().set_deadline(deadline);
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(ReceivedMessage::Text(text)),
                Ok(Message::Binary(data)) => return Ok(ReceivedMessage::Binary(data)),
                Ok(Message::Close(frame)) => {
                    // Our half of the closing handshake is written by this flush.
                    self.socket.get_mut().hurry(CLOSE_WAIT);
                    let _ = self.socket.flush();
                    return Err(ConnectionEnd::Closed(Closed::from(frame)));
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(error) => return Err(self.end(error)),
            }
        }
    }

    /// Closes with 1000 and waits briefly for the peer's own Close, which is returned. Messages that come meanwhile
    /// are dropped, and Ctrl-C does not end this.
    pub(super) fn close(mut self) -> Option<Closed> {
        self.socket.get_mut().hurry(CLOSE_WAIT);
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if self.socket.close(Some(normal)).is_err() {
            return None;
        }
        let closed = loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => break Some(Closed::from(frame)),
                Ok(_) => {}
                Err(_) => break None,
            }
        };
        self.socket.get_mut().say_goodbye();
        closed
    }

    /// What an error of tungstenite means to us. A broken protocol is answered with the Close code that says so, which
    /// tungstenite does not do.
    fn end(&mut self, error: tungstenite::Error) -> ConnectionEnd {
        use tungstenite::Error;
        use tungstenite::error::{CapacityError, ProtocolError};
        let url = self.url.clone();
        let (code, problem) = match error {
            Error::Io(error) => {
                return match self.socket.get_mut().wait_end() {
                    Some(_) if error.kind() == io::ErrorKind::WouldBlock => ConnectionEnd::WaitEnded,
                    _ => ConnectionEnd::Failed(CallError::Lost { url, cause: cause(&error) }),
                };
            }
            Error::ConnectionClosed | Error::AlreadyClosed => return ConnectionEnd::Closed(Closed::from(None)),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                let cause = "the server ended the connection without a Close frame".into();
                return ConnectionEnd::Failed(CallError::Lost { url, cause });
            }
            Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
                (CloseCode::Size, format!("a message of {size} bytes is over the limit of {MESSAGE_MAX} bytes"))
            }
            Error::Utf8(_) => (CloseCode::Invalid, "a text message is not valid UTF-8".into()),
            other => (CloseCode::Protocol, other.to_string()),
        };
        self.socket.get_mut().hurry(CLOSE_WAIT);
        let _ = self.socket.close(Some(CloseFrame { code, reason: "".into() }));
        ConnectionEnd::Failed(CallError::Protocol { url, problem })
    }
}

/// The Close frame of the peer.
#[derive(Debug)]
pub(super) struct Closed {
    /// 1005 when the frame had none (RFC 6455 section 7.1.5).
    code: u16,
    reason: String,
}

impl Closed {
    /// A normal ending: 1000, 1001, or a Close without a code, which is what most programs send when they just close.
    pub(super) fn is_normal(&self) -> bool {
        matches!(self.code, 1000 | 1001 | 1005)
    }

    fn exit_code(&self) -> u8 {
        match self.code {
            1002 | 1003 | 1007 => exit::PROTOCOL,
            1008 => exit::NO_PERMISSION,
            1009 => exit::DATA,
            1012 | 1013 => exit::TEMPORARY,
            _ => exit::UNAVAILABLE,
        }
    }
}

impl From<Option<CloseFrame>> for Closed {
    fn from(frame: Option<CloseFrame>) -> Closed {
        match frame {
            Some(frame) => Closed { code: frame.code.into(), reason: frame.reason.as_str().into() },
            None => Closed { code: 1005, reason: String::new() },
        }
    }
}

impl fmt::Display for Closed {
    /// `1008 "reason"`, safe for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            1005 => f.write_str("no code"),
            code if self.reason.is_empty() => write!(f, "code {code}"),
            code => write!(f, "code {code} \"{}\"", printable(&self.reason, REASON_SHOWN_MAX)),
        }
    }
}

/// Why a command has no connection, or has lost it; each has its exit code.
#[derive(Debug)]
pub(super) enum CallError {
    /// The command line is wrong; trying again does not help.
    Usage(String),
    /// The settings cannot be used, a file of them for one; trying again does not help.
    Setup(SetupError),
    /// The connection was not opened.
    Dial(dial::DialError),
    /// The server broke the protocol.
    Protocol { url: String, problem: String },
    /// An open connection broke.
    Lost { url: String, cause: String },
    /// The server closed with a code that is not a normal ending.
    Closed { url: String, closed: Closed },
    /// Not a failure: the caller cancelled it.
    Cancelled,
}

impl CallError {
    /// The exit code after sysexits.
    pub(super) fn exit_code(&self) -> u8 {
        use dial::DialError;
        match self {
            CallError::Usage(_) | CallError::Setup(SetupError::Setting(_)) => exit::USAGE,
            CallError::Setup(SetupError::File { .. }) => exit::NO_INPUT,
            CallError::Setup(SetupError::Tls(_)) => exit::SYSTEM,
            CallError::Dial(error) => match error {
                DialError::Request { .. } => exit::USAGE,
                DialError::Resolve { .. } => exit::NO_HOST,
                DialError::Refused { refusal, .. } if matches!(refusal.status, 401 | 403 | 407) => exit::NO_PERMISSION,
                DialError::Connect { .. }
                | DialError::Proxy { .. }
                | DialError::Tls { .. }
                | DialError::Unanswered { .. }
                | DialError::Refused { .. } => exit::UNAVAILABLE,
                DialError::Protocol { .. } => exit::PROTOCOL,
                DialError::System(_) => exit::SYSTEM,
                DialError::Cancelled => 0,
            },
            CallError::Protocol { .. } => exit::PROTOCOL,
            CallError::Lost { .. } => exit::IO,
            CallError::Closed { closed, .. } => closed.exit_code(),
            CallError::Cancelled => 0,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Usage(text) => f.write_str(text),
            CallError::Setup(error) => error.fmt(f),
            CallError::Dial(error) => error.with(&NAMES).fmt(f),
            CallError::Protocol { url, problem } => write!(f, "failed to speak WebSocket with '{url}': {problem}"),
            CallError::Lost { url, cause } => write!(f, "failed to keep the connection to '{url}': {cause}"),
            CallError::Closed { url, closed } => {
                write!(f, "failed to stay connected to '{url}': closed by the server, {closed}")
            }
            CallError::Cancelled => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CallError::Setup(error) => error.source(),
            CallError::Dial(error) => error.source(),
            _ => None,
        }
    }
}

/// Reads `Name: value`.
fn parse_header(line: &str) -> Result<(String, Secret), CallError> {
    let failed = |problem: &str| {
        CallError::Usage(format!("failed to use the header '{}': {problem}", printable(line, SHOWN_MAX)))
    };
    let (name, value) = line.split_once(':').ok_or_else(|| failed("it has no colon (write 'Name: value')"))?;
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    if !is_token(&name) {
        return Err(failed("its name is not a header name"));
    }
    match reserved(&name) {
        Some(Reserved::ForSubprotocols) => return Err(failed("use '--subprotocol' for it")),
        Some(Reserved::ByHandshake | Reserved::ForExtensions) => return Err(failed("the handshake sets it itself")),
        // The dialer refuses the others.
        Some(Reserved::ForBody | Reserved::ForAnswer) | None => {}
    }
    if !is_header_value(value.as_bytes()) {
        return Err(failed("its value holds a control character"));
    }
    Ok((name, Secret::new(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_the_handshake_itself_is_refused() {
        for line in
            ["Upgrade: x", "sec-websocket-key: x", "Sec-WebSocket-Protocol: a", "novalue", "a b: c", "a: b\nc: d"]
        {
            assert!(parse_header(line).is_err(), "{line}");
        }
        let (name, value) = parse_header("X-Name:  a: b ").unwrap();
        assert_eq!((name.as_str(), value.expose()), ("x-name", "a: b"));
    }

    #[test]
    fn every_close_code_has_its_exit_code() {
        for (code, normal, exit_code) in
            [(1000, true, 69), (1001, true, 69), (1002, false, 76), (1008, false, 77), (1013, false, 75)]
        {
            let closed = Closed { code, reason: String::new() };
            assert_eq!((closed.is_normal(), closed.exit_code()), (normal, exit_code), "{code}");
        }
    }
}
