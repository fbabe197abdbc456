//! What `send` and `listen` share before they are connected: their settings, checked.

use std::fs;

use super::call_error::CallError;
use super::dial_arguments::DialArguments;
use super::server_connection::ServerConnection;
use crate::config;
use crate::dial::{self, CancelToken, Dialer, RequestExtras, Resolver};
use crate::display::{cause, printable};
use crate::http::token::{Reserved, is_header_value, is_token, reserved, value_of_file};
use crate::secret::Secret;
use crate::url;

/// How much is shown of an argument.
const SHOWN_MAX: usize = 500;

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
        let mut headers = arguments.headers.iter().map(|line| parse_header(line)).collect::<Result<Vec<_>, _>>()?;
        let mut secrets = Vec::new();
        for line in &arguments.header_files {
            let (name, value) = header_of_file(line)?;
            secrets.push(value.clone());
            headers.push((name, value));
        }
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
        let tls = arguments.tls.settings(url.secure, &shown)?;
        let settings = config::DialSettings {
            url,
            headers,
            secrets,
            subprotocols: arguments.subprotocols,
            origin: None,
            connect_timeout: arguments.connect_timeout,
            proxy: arguments.proxy,
            tls,
        };
        let mut dialer = Dialer::new(&settings, Resolver::new()).map_err(CallError::Setup)?.shown_as(&shown);
        if let Some(path) = arguments.unix_socket {
            dialer = dialer.over_unix_socket(path);
        }
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
        Ok(ServerConnection::new(dialed, self.url.clone(), cancel.clone()))
    }
}

fn unusable_header(line: &str, problem: &str) -> CallError {
    CallError::Usage(format!("failed to use the header '{}': {problem}", printable(line, SHOWN_MAX)))
}

/// Reads `Name: value`.
fn parse_header(line: &str) -> Result<(String, Secret), CallError> {
    let (name, value) = split_header(line, "it has no colon (write 'Name: value')")?;
    if !is_header_value(value.as_bytes()) {
        return Err(unusable_header(line, "its value holds a control character"));
    }
    Ok((name, Secret::new(value)))
}

/// Reads `Name: file`, and the value from that file.
fn header_of_file(line: &str) -> Result<(String, Secret), CallError> {
    let (name, file) = split_header(line, "it names no file (write 'Name: FILE')")?;
    let unreadable = |problem: &str| CallError::File {
        text: format!("failed to read the header '{name}' from '{}': {problem}", printable(file, SHOWN_MAX)),
    };
    let bytes = fs::read(file).map_err(|error| unreadable(&cause(&error)))?;
    let value = value_of_file(bytes).ok_or_else(|| unreadable("it is not one line of text"))?;
    Ok((name, Secret::new(value)))
}

/// The name of a header, in small letters, and what is behind its colon.
fn split_header<'l>(line: &'l str, without_colon: &str) -> Result<(String, &'l str), CallError> {
    let failed = |problem: &str| unusable_header(line, problem);
    let (name, value) = line.split_once(':').ok_or_else(|| failed(without_colon))?;
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
    Ok((name, value))
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
}
