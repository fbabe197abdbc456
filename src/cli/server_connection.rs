//! An open WebSocket of `send` or `listen`: sending, receiving and closing.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::call_error::{CallError, Closed};
use crate::dial::{CancelToken, Dialed, Ready, Wire};
use crate::display::cause;

/// The largest message that we send or accept, in bytes.
pub(super) const MESSAGE_MAX: usize = 64 << 20;

/// How long a command waits for the server's answer to its Close before it ends without it.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How many messages are received between two looks at the input.
const MESSAGES_A_LOOK: u32 = 64;

/// An open WebSocket to the server.
pub(super) struct ServerConnection {
    socket: WebSocket<Wire>,
    url: String,
    subprotocol: Option<String>,
    /// How many more messages are received before the input is looked at.
    until_input: u32,
}

/// One data message from the peer.
#[derive(Debug)]
pub(super) enum ReceivedMessage {
    /// Text, which is valid UTF-8.
    Text(tungstenite::Utf8Bytes),
    /// Binary.
    Binary(tungstenite::Bytes),
}

/// What [`ServerConnection::next`] has.
pub(super) enum Next {
    /// A message from the server.
    Message(ReceivedMessage),
    /// The input can be read, or has ended.
    Input,
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
    /// Takes over what a dial has opened.
    pub(super) fn new(dialed: Dialed, url: String, cancel: CancelToken) -> ServerConnection {
        let Dialed { socket, session, behind, subprotocol } = dialed;
        let config = WebSocketConfig::default()
            .read_buffer_size(64 << 10)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let wire = Wire::new(socket, session, None, cancel);
        let socket = WebSocket::from_partially_read(wire, behind, Role::Client, Some(config));
        ServerConnection { socket, url, subprotocol, until_input: MESSAGES_A_LOOK }
    }

    /// The subprotocol that the server chose.
    pub(super) fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends one message; it has been handed to the system when this returns.
    pub(super) fn send(&mut self, message: Message) -> Result<(), ConnectionEnd> {
        self.socket.get_mut().set_deadline(None);
        self.socket.send(message).map_err(|error| self.end(error))
    }

    /// Takes one message, which [`next`](ServerConnection::next) sends. It stays here if the server takes nothing.
    pub(super) fn queue(&mut self, message: Message) -> Result<(), ConnectionEnd> {
        self.socket.get_mut().set_waiting(false);
        match self.socket.write(message) {
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result.map_err(|error| self.end(error)),
        }
    }

    /// The next data message; pings are answered on the way. Without a `deadline` it waits for ever.
    pub(super) fn receive(&mut self, deadline: Option<Instant>) -> Result<ReceivedMessage, ConnectionEnd> {
        self.socket.get_mut().set_deadline(deadline);
        loop {
            if let Some(message) = self.read()? {
                return Ok(message);
            }
        }
    }

    /// Sends what is queued and receives, both as far as the server goes along: neither waits for the other. It returns
    /// the next data message, or says that `input` can be read, but not while the server still has to take something.
    pub(super) fn next(&mut self, input: Option<&dyn AsFd>) -> Result<Next, ConnectionEnd> {
        self.socket.get_mut().set_waiting(false);
        loop {
            let is_sent = self.flush_now()?;
            let input = input.filter(|_| is_sent);
            // A server that sends without a pause must not keep what the user writes from being read.
            self.until_input = self.until_input.saturating_sub(1);
            if self.until_input == 0
                && let Some(input) = input
            {
                self.until_input = MESSAGES_A_LOOK;
                if is_readable(input) {
                    return Ok(Next::Input);
                }
            }
            match self.read() {
                Ok(Some(message)) => return Ok(Next::Message(message)),
                Ok(None) => continue,
                Err(ConnectionEnd::WaitEnded) => {}
                Err(end) => return Err(end),
            }
            match self.socket.get_mut().wait_for(!is_sent, input) {
                Ok(Ready::Socket) => {}
                Ok(Ready::Input) => return Ok(Next::Input),
                Err(error) => return Err(self.end(error.into())),
            }
        }
    }

    /// Sends what is queued without waiting; whether all of it is sent.
    fn flush_now(&mut self) -> Result<bool, ConnectionEnd> {
        match self.socket.flush() {
            Ok(()) => Ok(true),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.end(error)),
        }
    }

    /// One message of whatever kind; `None` if it is none for the user.
    fn read(&mut self) -> Result<Option<ReceivedMessage>, ConnectionEnd> {
        match self.socket.read() {
            Ok(Message::Text(text)) => Ok(Some(ReceivedMessage::Text(text))),
            Ok(Message::Binary(data)) => Ok(Some(ReceivedMessage::Binary(data))),
            Ok(Message::Close(frame)) => {
                // Our half of the closing handshake is written by this flush.
                self.socket.get_mut().hurry(CLOSE_WAIT);
                let _ = self.socket.flush();
                Err(ConnectionEnd::Closed(Closed::from(frame)))
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(None),
            Err(error) => Err(self.end(error)),
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
                return match error.kind() {
                    // The wire itself waits, so the time or the token has ended this, or it was not to wait.
                    io::ErrorKind::WouldBlock => ConnectionEnd::WaitEnded,
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

/// Whether it can be read now, or has ended.
fn is_readable(input: &dyn AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&input.as_fd(), PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}
