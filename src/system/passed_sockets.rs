//! Sockets that the supervisor has opened before it started the process, as systemd does for socket units.

use std::env;
use std::fmt;

use listenfd::ListenFd;
use socket2::Socket;

/// The name that systemd itself gives to a descriptor without one (`sd_listen_fds_with_names`).
const NAMELESS: &str = "unknown";

/// A socket that was passed.
#[derive(Debug)]
pub struct PassedSocket {
    /// What the supervisor calls it: `FileDescriptorName=` of the socket unit, or else the name of that unit.
    pub name: String,
    /// The socket, or why it is none that accepts connections.
    pub listening: Result<Socket, NotListening>,
}

/// Why something that was passed cannot be a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotListening {
    /// It is no stream socket of TCP or of the Unix domain.
    Type,
    /// It is a socket that does not accept: a connection, as with `Accept=yes`.
    Connection,
}

/// Takes what was passed to this process, in the order in which it was passed. It changes the environment, so that no
/// process that is started later takes the same: call it before the first thread starts.
pub fn take() -> Vec<PassedSocket> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    let names = names.split(':').map(|name| if name.is_empty() { NAMELESS } else { name });
    let names = names.chain(std::iter::repeat(NAMELESS)).map(str::to_owned);
    (0..passed.len())
        .zip(names)
        .map(|(number, name)| PassedSocket { name, listening: socket(&mut passed, number) })
        .collect()
}

fn socket(passed: &mut ListenFd, number: usize) -> Result<Socket, NotListening> {
    let tcp = passed.take_tcp_listener(number).ok().flatten().map(Socket::from);
    let socket = tcp.or_else(|| passed.take_unix_listener(number).ok().flatten().map(Socket::from));
    let socket = socket.ok_or(NotListening::Type)?;
    match socket.is_listener() {
        Ok(true) => Ok(socket),
        Ok(false) | Err(_) => Err(NotListening::Connection),
    }
}

/// It goes on after "the supervisor passes NAME, which is ".
impl fmt::Display for NotListening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotListening::Type => {
                "no stream socket of TCP or of the Unix domain: write ListenStream= in the socket unit"
            }
            NotListening::Connection => "no socket that listens: remove Accept=yes from the socket unit",
        })
    }
}
