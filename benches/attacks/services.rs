//! What the gateway under attack asks about its clients: a service that never answers, and an issuer with its keys.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::credentials::jwk_set;

/// For a question of the gateway.
const PATIENCE: Duration = Duration::from_secs(2);

/// The tables of the configuration; `{silent}` and `{keys}` are the ports.
pub(crate) const SECTIONS: &str = r#"
[[auth]]
name = "asked"
kind = "http"
url = "http://127.0.0.1:{silent}/"

[[auth]]
name = "issued"
kind = "jwt"
jwks_url = "http://127.0.0.1:{keys}/"

[[endpoint]]
path = "/asked"
auth = ["asked"]

[[endpoint]]
path = "/issued"
auth = ["issued"]
"#;

/// See the module.
pub(crate) struct Services {
    /// The kernel takes connections for it, and nobody else does.
    _silent: TcpListener,
    silent_port: u16,
    keys_port: u16,
}

impl Services {
    /// Starts both.
    pub(crate) fn start() -> Result<Services, String> {
        let jwks = jwk_set().map_err(|cause| format!("failed to make a key: {cause}"))?;
        let start = || -> io::Result<Services> {
            let (silent, issuer) = (listener()?, listener()?);
            let (silent_port, keys_port) = (silent.local_addr()?.port(), issuer.local_addr()?.port());
            thread::spawn(move || {
                for socket in issuer.incoming().flatten() {
                    // If it comes to nothing, the next question gets its answer.
                    let _ = answer(socket, &jwks);
                }
            });
            Ok(Services { _silent: silent, silent_port, keys_port })
        };
        start().map_err(|cause| format!("failed to start a service: {cause}"))
    }

    /// Fills in the ports.
    pub(crate) fn fill(&self, sections: &str) -> String {
        let (silent, keys) = (self.silent_port.to_string(), self.keys_port.to_string());
        sections.replace("{silent}", &silent).replace("{keys}", &keys)
    }
}

fn listener() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// Answers one question with the keys, whatever it is.
fn answer(mut socket: TcpStream, jwks: &str) -> io::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") {
        let mut some = [0; 1024];
        match socket.read(&mut some)? {
            0 => return Ok(()),
            count => question.extend_from_slice(&some[..count]),
        }
    }
    let length = jwks.len();
    write!(
        socket,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{jwks}"
    )
}
