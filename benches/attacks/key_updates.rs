//! Clients that ask for new TLS keys again and again (RFC 8446 section 4.6.3) and read none of the answers.
//!
//! With some data between the requests none of them looks like a flood by itself. What the gateway cannot send must not
//! pile up in it. The clients are rustls, which can ask for new keys without `unsafe`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::SockRef;

use crate::attackers::Attacker;
use crate::frame::{TEXT, push_client_frame};

const PATIENCE: Duration = Duration::from_secs(2);
/// So many requests come between two messages.
const UPDATES_A_MESSAGE: u64 = 100;
/// How long a client waits that nothing is taken from.
const PAUSE: Duration = Duration::from_millis(1);

/// One client, whose handshakes are done.
struct Client {
    tls: ClientConnection,
    socket: TcpStream,
    sent: u64,
}

/// This many clients at once, one turn each; those that are cut come again.
pub(crate) fn flood(attacker: &Attacker, sockets: usize) -> Result<(), String> {
    let config = config(&attacker.certificate)?;
    let mut message = Vec::new();
    push_client_frame(&mut message, TEXT, b"data");
    let mut clients: Vec<Option<Client>> = (0..sockets).map(|_| None).collect();
    while !attacker.is_over() {
        let mut moved = false;
        for place in &mut clients {
            let Some(client) = place else {
                *place = Client::new(attacker, &config).ok();
                continue;
            };
            match client.turn(&message) {
                Ok(0) => {}
                Ok(updates) => {
                    moved = true;
                    attacker.tally.units.fetch_add(updates, Ordering::Relaxed);
                }
                Err(_) => {
                    *place = None;
                    attacker.tally.ended.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if !moved {
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Trusts the gateway's certificate and nothing else.
fn config(certificate: &Path) -> Result<Arc<ClientConfig>, String> {
    let failed = |cause: &dyn std::fmt::Display| format!("failed to trust '{}': {cause}", certificate.display());
    let mut roots = RootCertStore::empty();
    let own = CertificateDer::from_pem_file(certificate).map_err(|cause| failed(&cause))?;
    roots.add(own).map_err(|cause| failed(&cause))?;
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

impl Client {
    fn new(attacker: &Attacker, config: &Arc<ClientConfig>) -> io::Result<Client> {
        let mut socket = TcpStream::connect_timeout(&attacker.address, PATIENCE)?;
        attacker.tally.connections.fetch_add(1, Ordering::Relaxed);
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        tls.writer().write_all(attacker.request("/echo").as_bytes())?;
        let mut answer = [0; 12];
        let mut read = 0;
        while read < answer.len() {
            tls.complete_io(&mut socket)?;
            match tls.reader().read(&mut answer[read..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => read += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if &answer != b"HTTP/1.1 101" {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        socket.set_nonblocking(true)?;
        Ok(Client { tls, socket, sent: 0 })
    }

    /// Asks for new keys as often as it is taken, up to the next message; how often that was.
    fn turn(&mut self, message: &[u8]) -> io::Result<u64> {
        for updates in 0..UPDATES_A_MESSAGE {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(updates),
                    result => result?,
                };
            }
            self.tls.refresh_traffic_keys().map_err(io::Error::other)?;
            self.sent += 1;
            if self.sent.is_multiple_of(UPDATES_A_MESSAGE) {
                self.tls.writer().write_all(message)?;
            }
        }
        Ok(UPDATES_A_MESSAGE)
    }
}
