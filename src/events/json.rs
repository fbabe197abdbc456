//! Events: what happened to a client or a link, as JSON for a flow that acts on it. Values in, text out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use crate::config::EventKind;
use crate::connection::ending::{Ending, Totals};
use crate::format;
use crate::id::Id;

/// Whom it happened to.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Subject<'a> {
    /// A client.
    Client {
        /// Its endpoint, as configured.
        endpoint: &'a str,
        /// Its room.
        path: String,
        /// What the room's path says, by name.
        parameters: BTreeMap<&'a str, &'a str>,
        /// Its address; `None` on a Unix socket.
        #[serde(skip_serializing_if = "Option::is_none")]
        client_ip: Option<IpAddr>,
        /// Its User-Agent header, if it sent one.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_agent: Option<&'a str>,
        /// Who it is, if it was authenticated.
        #[serde(skip_serializing_if = "Option::is_none")]
        identity: Option<&'a str>,
        /// What its credential says of it, as far as that is told.
        #[serde(skip_serializing_if = "Option::is_none")]
        claims: Option<&'a BTreeMap<String, Value>>,
    },
    /// A link.
    Link {
        /// Its name.
        link: &'a str,
        /// Whom it dials, for people.
        url: &'a str,
        /// How it is from now on.
        state: LinkState,
    },
}

/// How a link is after what happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It is connected.
    Up,
    /// It has just lost its connection.
    Down,
    /// It will be dialled again.
    Waiting,
    /// It is not dialled any more.
    #[serde(rename = "given up")]
    GivenUp,
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum What {
    /// Its connection is open.
    Connected {
        /// The subprotocol that was agreed.
        #[serde(skip_serializing_if = "Option::is_none")]
        subprotocol: Option<String>,
    },
    /// Its connection was open before the receiver's was.
    Present {
        /// The subprotocol that was agreed.
        #[serde(skip_serializing_if = "Option::is_none")]
        subprotocol: Option<String>,
        /// `true`.
        present: bool,
    },
    /// Its connection has ended.
    Disconnected(Disconnected),
    /// Its connection has ended badly.
    Broken(Disconnected),
    /// A link could not be connected, or has to be again.
    Failed(Failed),
}

/// How a connection was and how it ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Disconnected {
    /// The close code; 1005 for a Close without one, 1006 for none at all.
    pub code: u16,
    /// The reason that was sent or received, or ours for ending it without a Close.
    pub reason: String,
    /// The code of the peer's Close, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_code: Option<u16>,
    /// The reason of that Close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_reason: Option<String>,
    /// How long it was connected, in milliseconds.
    #[serde(rename = "duration", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// What it has sent us.
    pub messages_received: u64,
    /// Their payload.
    pub bytes_received: u64,
    /// What we have sent it.
    pub messages_sent: u64,
    /// Their frames.
    pub bytes_sent: u64,
    /// What it did not get because it was too slow.
    pub dropped: u64,
}

impl Disconnected {
    /// How a connection was that is over: what it has sent us, messages and bytes, and what we have sent it.
    pub fn new(ending: Ending, duration: Duration, received: (u64, u64), sent: Totals) -> Disconnected {
        let (received_code, received_reason) =
            ending.received.map_or((None, None), |close| (close.code, Some(close.reason)));
        Disconnected {
            code: ending.code,
            reason: ending.reason,
            received_code,
            received_reason,
            duration,
            messages_received: received.0,
            bytes_received: received.1,
            messages_sent: sent.messages,
            bytes_sent: sent.bytes,
            dropped: sent.dropped,
        }
    }
}

/// Why a link is not connected.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// The step of the dial that failed; `connection` if that had succeeded.
    pub step: &'static str,
    /// Why, as the log has it.
    pub cause: String,
    /// The close code of a connection that ended badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The failures in a row, this one included.
    pub failures: u32,
    /// When it is dialled again, in milliseconds; `None` if never.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds_if_any")]
    pub retry_in: Option<Duration>,
}

impl What {
    /// Which of the configured events it is.
    pub fn kind(&self) -> EventKind {
        match self {
            What::Connected { .. } => EventKind::Connect,
            What::Present { .. } => EventKind::Present,
            What::Disconnected(_) => EventKind::Disconnect,
            What::Broken(_) | What::Failed(_) => EventKind::Error,
        }
    }
}

/// The event as JSON; `session` is the connection's id, if there was one.
pub fn to_json(subject: &Subject<'_>, session: Option<Id>, what: &What, now: SystemTime) -> String {
    let event = match what.kind() {
        EventKind::Connect | EventKind::Present => "connect",
        EventKind::Disconnect => "disconnect",
        EventKind::Error => "error",
    };
    let session = session.map(|id| id.to_string());
    let all = EventJson { event, subject, session, what, timestamp: format::iso_8601(now) };
    serde_json::to_string(&all).expect("keys are texts and nothing in it can fail")
}

#[derive(Serialize)]
struct EventJson<'a> {
    event: &'static str,
    #[serde(flatten)]
    subject: &'a Subject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(flatten)]
    what: &'a What,
    timestamp: String,
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn milliseconds_if_any<S: serde::Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    milliseconds(&duration.unwrap_or_default(), to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::ending::EndCause;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_323_200_007)
    }

    fn disconnected(code: u16) -> Disconnected {
        let ending = Ending { code, reason: "a \"reason\"".to_owned(), cause: EndCause::Ended, received: None };
        let sent = Totals { messages: 3, bytes: 4, dropped: 5, lost: 6 };
        Disconnected::new(ending, Duration::from_micros(1_234_567), (1, 2), sent)
    }

    const COUNTS: &str = r#""reason":"a \"reason\"","duration":1234,"messagesReceived":1,"bytesReceived":2,"messagesSent":3,"bytesSent":4,"dropped":5,"timestamp":"2026-03-01T00:00:00.007Z""#;

    #[test]
    fn what_happens_to_a_client_is_told_with_its_room_and_its_numbers() {
        let client = |client_ip, user_agent| Subject::Client {
            endpoint: "/rooms/{room}",
            path: "/rooms/é\"".to_owned(),
            parameters: [("room", "é\"")].into(),
            client_ip,
            user_agent,
            identity: None,
            claims: None,
        };
        let known = client(Some("10.0.0.7".parse().unwrap()), Some("press 3"));
        let start = r#""endpoint":"/rooms/{room}","path":"/rooms/é\"","parameters":{"room":"é\""}"#;
        let session = r#""session":"0000000000000007""#;
        for (subject, what, expected) in [
            (
                &known,
                What::Connected { subprotocol: Some("chat".to_owned()) },
                format!(
                    r#"{{"event":"connect",{start},"clientIp":"10.0.0.7","userAgent":"press 3",{session},"subprotocol":"chat","timestamp":"2026-03-01T00:00:00.007Z"}}"#
                ),
            ),
            (
                &client(None, None),
                What::Disconnected(disconnected(1000)),
                format!(r#"{{"event":"disconnect",{start},{session},"code":1000,{COUNTS}}}"#),
            ),
            (
                &client(None, None),
                What::Broken(disconnected(1006)),
                format!(r#"{{"event":"error",{start},{session},"code":1006,{COUNTS}}}"#),
            ),
        ] {
            assert_eq!(to_json(subject, Some(7.into()), &what, now()), expected);
        }
    }

    #[test]
    fn what_happens_to_a_link_is_told_with_its_state() {
        let link = |state| Subject::Link { link: "plc", url: "ws://plc/", state };
        let failed = |code, retry_in| {
            let cause = "refused".to_owned();
            What::Failed(Failed { step: "connect", cause, code, failures: 3, retry_in })
        };
        let start = r#""link":"plc","url":"ws://plc/""#;
        let end = r#""timestamp":"2026-03-01T00:00:00.007Z"}"#;
        for (state, session, what, expected) in [
            (
                LinkState::Up,
                Some(Id::from(7)),
                What::Connected { subprotocol: None },
                format!(r#"{{"event":"connect",{start},"state":"up","session":"0000000000000007",{end}"#),
            ),
            (
                LinkState::Waiting,
                None,
                failed(Some(1006), Some(Duration::from_millis(250))),
                format!(
                    r#"{{"event":"error",{start},"state":"waiting","step":"connect","cause":"refused","code":1006,"failures":3,"retryIn":250,{end}"#
                ),
            ),
            (
                LinkState::GivenUp,
                None,
                failed(None, None),
                format!(
                    r#"{{"event":"error",{start},"state":"given up","step":"connect","cause":"refused","failures":3,{end}"#
                ),
            ),
        ] {
            assert_eq!(to_json(&link(state), session, &what, now()), expected);
        }
    }
}
