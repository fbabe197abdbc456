//! A listener's TLS: TLS 1.2 and 1.3, Mozilla's intermediate profile, from the files of its certificate and its key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVersion};
use openssl::x509::X509;

use crate::config::TlsSettings;
use crate::pem::{self, PemError};
use crate::reload::{Fresh, Reloadable, read_file};
use crate::sync::Mutex;

/// How long the keys of session tickets are used. Whoever steals one can read what was said in the sessions that were
/// resumed with its tickets (RFC 8446 section 4.6.1), so they do not live as long as the process.
const TICKET_KEYS: Duration = Duration::from_secs(12 * 60 * 60);

/// What the sessions of a listener are made of.
#[derive(Debug)]
pub struct ServerTls {
    /// Whose it is, for the log.
    owner: String,
    files: TlsSettings,
    in_force: Arc<Mutex<InForce>>,
}

/// What sessions that begin now are made of.
#[derive(Debug)]
struct InForce {
    material: Arc<Material>,
    context: SslContext,
    /// When the context has to give way to another one of the same material.
    until: Instant,
}

/// What was in the files.
#[derive(Debug)]
struct Material {
    /// As they were read, to know whether they are others now.
    files: [Vec<u8>; 2],
    /// It begins with the server's own certificate.
    chain: Vec<X509>,
    key: PKey<Private>,
}

impl ServerTls {
    /// Reads the certificate and the key. `owner` is whose they are, for the log: `listener "main"`.
    ///
    /// # Errors
    /// A file that cannot be read or is no PEM, a key that is encrypted or does not belong to the certificate.
    pub fn load(owner: String, files: &TlsSettings) -> Result<ServerTls, ContextError> {
        let in_force = InForce::of(Arc::new(Material::read(files)?), Instant::now())
            .map_err(|error| unusable(&files.certificate)(PemError::Refused(error)))?;
        Ok(ServerTls { owner, files: files.clone(), in_force: Arc::new(Mutex::new(in_force)) })
    }

    /// What a session that begins now is made of. A new context has new keys for tickets: a client that comes back with a
    /// ticket of an older one does a whole handshake.
    pub fn context(&self, now: Instant) -> SslContext {
        let material = {
            let in_force = self.in_force.lock();
            if now < in_force.until {
                return in_force.context.clone();
            }
            Arc::clone(&in_force.material)
        };
        let renewed = InForce::of(material, now);
        let mut in_force = self.in_force.lock();
        // A reload may have been faster.
        if let Ok(renewed) = renewed
            && Arc::ptr_eq(&renewed.material, &in_force.material)
        {
            *in_force = renewed;
        }
        in_force.context.clone()
    }
}

impl Reloadable for ServerTls {
    fn read_again(&self) -> Result<Fresh, String> {
        let owner = &self.owner;
        let failed = |error: ContextError| format!("{owner}: {error}");
        let material = Material::read(&self.files).map_err(failed)?;
        let what = format!("{owner}: {}", material.describe(&self.files));
        if material.files == self.in_force.lock().material.files {
            // Tickets stay good.
            return Ok(Fresh { what, apply: Box::new(|| {}) });
        }
        let fresh = InForce::of(Arc::new(material), Instant::now())
            .map_err(|error| failed(unusable(&self.files.certificate)(PemError::Refused(error))))?;
        let in_force = Arc::clone(&self.in_force);
        Ok(Fresh { what, apply: Box::new(move || *in_force.lock() = fresh) })
    }
}

impl InForce {
    fn of(material: Arc<Material>, now: Instant) -> Result<InForce, ErrorStack> {
        let context = context_of(&material.chain, &material.key)?;
        Ok(InForce { material, context, until: now + TICKET_KEYS })
    }
}

impl Material {
    fn read(files: &TlsSettings) -> Result<Material, ContextError> {
        let TlsSettings { certificate, private_key } = files;
        let read =
            |path: &Path| read_file(path).map_err(|cause| ContextError::Unreadable { path: path.to_owned(), cause });
        let files = [read(certificate)?, read(private_key)?];
        let chain = pem::certificates(&files[0]).map_err(unusable(certificate))?;
        let key = pem::private_key(&files[1]).map_err(unusable(private_key))?;
        pem::check_pair(&chain, &key).map_err(unusable(private_key))?;
        Ok(Material { files, chain, key })
    }

    /// Which certificate it is, for the log.
    fn describe(&self, files: &TlsSettings) -> String {
        let place = files.certificate.display();
        match self.chain.first() {
            Some(own) => format!("'{place}' with the certificate {}", pem::describe(own)),
            None => format!("'{place}'"),
        }
    }
}

fn unusable(path: &Path) -> impl FnOnce(PemError) -> ContextError + use<> {
    let path = path.to_owned();
    move |problem| ContextError::Unusable { path, problem }
}

/// Why there are no settings of a listener's TLS.
#[derive(Debug)]
pub enum ContextError {
    /// A file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A file can be read and not be used.
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: PemError,
    },
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContextError::Unreadable { path, cause } => {
                write!(f, "'{}' cannot be read: {cause} (check path and permissions)", path.display())
            }
            ContextError::Unusable { path, problem } => write!(f, "'{}' {problem}", path.display()),
        }
    }
}

impl std::error::Error for ContextError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ContextError::Unreadable { cause, .. } => Some(cause),
            ContextError::Unusable { problem, .. } => Some(problem),
        }
    }
}

/// The chain begins with the server's own certificate.
fn context_of(chain: &[X509], key: &PKey<Private>) -> Result<SslContext, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    // A renegotiation would let a peer spend our processor time at will (CVE-2011-1473).
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::CIPHER_SERVER_PREFERENCE);
    // Idle sessions give their record buffers back: 34 KiB a client.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    // Sessions are resumed from tickets that the client keeps; a cache here would be memory per client.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    for (at, certificate) in chain.iter().enumerate() {
        match at {
            0 => builder.set_certificate(certificate)?,
            _ => builder.add_extra_chain_cert(certificate.clone())?,
        }
    }
    builder.set_private_key(key)?;
    Ok(builder.build().into_context())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

    use super::*;
    use crate::connection::handshake::Stream;
    use crate::connection::socket::Socket;

    /// Connects to a server whose sessions are made of this, and reads a little, with which tickets come.
    fn connect(context: SslContext, client: &Arc<ClientConfig>) -> Option<HandshakeKind> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = Stream::new(Arc::new(Socket::new(ours)), Some(context));
            stream.read_head(Instant::now() + Duration::from_secs(10)).unwrap();
            stream.write(b"hello").unwrap();
        });
        let mut tls = ClientConnection::new(Arc::clone(client), "localhost".try_into().unwrap()).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut theirs);
        stream.write_all(b"\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        server.join().unwrap();
        tls.handshake_kind()
    }

    #[test]
    fn c18_tickets_are_good_until_their_keys_are_old() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());

        let files = TlsSettings { certificate, private_key: key };
        let tls = ServerTls::load("a listener".to_owned(), &files).unwrap();
        let late = tls.in_force.lock().until;
        let (began, soon) = (late - TICKET_KEYS, late - Duration::from_secs(1));
        let table = [
            ("a first", began, HandshakeKind::Full),
            ("one that has come back", soon, HandshakeKind::Resumed),
            ("one with a ticket of old keys", late, HandshakeKind::Full),
            ("one with a ticket of the new keys", late, HandshakeKind::Resumed),
        ];
        for (who, now, kind) in table {
            assert_eq!(connect(tls.context(now), &client), Some(kind), "{who} connection");
        }
    }
}
