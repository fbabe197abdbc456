//! A listener's TLS: TLS 1.2 and 1.3, Mozilla's intermediate profile, with the files of its certificates and keys, and of
//! whom it trusts among its clients. The files can be read again while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::ssl::{
    NameType, SniError, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslVersion,
};
use openssl::x509::X509;

use crate::config::{ListenerTls, TlsSettings};
use crate::connection::client_trust::ClientTrust;
use crate::connection::server_names::{ServerNames, pick};
use crate::connection::trust_review::{Proved, Review};
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
    files: ListenerTls,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    in_force: Mutex<InForce>,
    /// Counts the changes of whom is trusted, and is changed with the lock above in hand.
    generation: AtomicU64,
    /// The last of these changes, for clients that were there before it.
    review: Mutex<Option<Arc<Review>>>,
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
    /// At least one. The first is for clients that ask for an unknown name or for none.
    certificates: Vec<Certificate>,
    trust: Option<Arc<ClientTrust>>,
    /// The files as they were read, to know whether they are others now: those of the certificates, and those that say
    /// who is trusted.
    of_certificates: Vec<Digest>,
    of_trust: Vec<Digest>,
}

/// The SHA-256 of a file: its content may be a secret, and is not kept.
type Digest = [u8; 32];

#[derive(Debug)]
struct Certificate {
    /// It begins with the server's own certificate.
    chain: Vec<X509>,
    key: PKey<Private>,
    names: ServerNames,
}

/// What one session is made of, and which trust it goes by.
#[derive(Debug)]
pub struct SessionBase {
    /// What it is made of.
    pub context: SslContext,
    /// The number of that trust.
    pub generation: u64,
}

impl ServerTls {
    /// Reads all files. `owner` is whose they are, for the log: `listener "main"`.
    ///
    /// # Errors
    /// A file that cannot be read or is no PEM, a key that is encrypted or does not belong to its certificate, a
    /// certificate that has expired or whose chain lacks its issuer.
    pub fn load(owner: String, files: &ListenerTls) -> Result<ServerTls, ContextError> {
        let in_force = InForce::of(Arc::new(Material::read(files)?), Instant::now())
            .map_err(|error| unusable(files.first())(PemError::Refused(error)))?;
        let state = State { in_force: Mutex::new(in_force), generation: AtomicU64::new(0), review: Mutex::default() };
        Ok(ServerTls { owner, files: files.clone(), state: Arc::new(state) })
    }

    /// What a session that begins now is made of. A new context has new keys for tickets: a client that comes back with a
    /// ticket of an older one does a whole handshake.
    pub fn begin(&self, now: Instant) -> SessionBase {
        let material = {
            let in_force = self.state.in_force.lock();
            if now < in_force.until {
                return self.state.base(&in_force);
            }
            Arc::clone(&in_force.material)
        };
        let renewed = InForce::of(material, now);
        let mut in_force = self.state.in_force.lock();
        // A reload may have been faster.
        if let Ok(renewed) = renewed
            && Arc::ptr_eq(&renewed.material, &in_force.material)
        {
            *in_force = renewed;
        }
        self.state.base(&in_force)
    }

    /// Whether others are trusted by now than when this session began.
    pub fn trusts_others_than(&self, base: &SessionBase) -> bool {
        self.state.generation.load(Ordering::Acquire) != base.generation
    }

    /// Whether the certificate of a client that is here would still be accepted, as far as a reload can change that. It
    /// costs something only after one that has changed it.
    ///
    /// # Errors
    /// Why not, for the log.
    pub fn review(&self, proved: &Proved) -> Result<(), String> {
        let review = self.state.review.lock().clone();
        review.map_or(Ok(()), |review| review.check(proved))
    }
}

impl State {
    fn base(&self, in_force: &InForce) -> SessionBase {
        SessionBase { context: in_force.context.clone(), generation: self.generation.load(Ordering::Acquire) }
    }

    /// `review` is there if others are trusted now.
    fn replace(&self, fresh: InForce, review: Option<Review>) {
        let mut in_force = self.in_force.lock();
        if let Some(review) = review {
            self.generation.store(review.number(), Ordering::Release);
            *self.review.lock() = Some(Arc::new(review));
        }
        *in_force = fresh;
    }

    /// How to look at the clients that are here, if others are trusted by this material than by what is in force.
    fn review_by(&self, material: &Material) -> Result<Option<Review>, ErrorStack> {
        let before = Arc::clone(&self.in_force.lock().material);
        match (&material.trust, &before.trust) {
            (Some(trust), Some(old)) if material.of_trust != before.of_trust => {
                Review::new(Arc::clone(trust), old, self.review.lock().as_deref()).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl Reloadable for ServerTls {
    fn read_again(&self) -> Result<Fresh, String> {
        let owner = &self.owner;
        let failed = |error: ContextError| format!("{owner}: {error}");
        let material = Material::read(&self.files).map_err(failed)?;
        let what = format!("{owner}: {}", material.describe(&self.files));
        if material.is_as(&self.state.in_force.lock().material) {
            // Tickets stay good.
            return Ok(Fresh { what, apply: Box::new(|| {}) });
        }
        let refused = |error| failed(unusable(self.files.first())(PemError::Refused(error)));
        let review = self.state.review_by(&material).map_err(refused)?;
        let fresh = InForce::of(Arc::new(material), Instant::now()).map_err(refused)?;
        let state = Arc::clone(&self.state);
        Ok(Fresh { what, apply: Box::new(move || state.replace(fresh, review)) })
    }
}

impl InForce {
    fn of(material: Arc<Material>, now: Instant) -> Result<InForce, ErrorStack> {
        let context = context_of(&material)?;
        let lasts = material.trust.as_deref().and_then(ClientTrust::lasts).unwrap_or(TICKET_KEYS);
        Ok(InForce { material, context, until: now + lasts.min(TICKET_KEYS) })
    }
}

impl Material {
    fn read(files: &ListenerTls) -> Result<Material, ContextError> {
        let read =
            |path: &Path| read_file(path).map_err(|cause| ContextError::Unreadable { path: path.to_owned(), cause });
        let (mut certificates, mut of_certificates, mut of_trust) = (Vec::new(), Vec::new(), Vec::new());
        for TlsSettings { certificate, private_key } in &files.certificates {
            let (chain_text, key_text) = (read(certificate)?, read(private_key)?);
            let chain = pem::certificates(&chain_text).map_err(unusable(certificate))?;
            let key = pem::private_key(&key_text).map_err(unusable(private_key))?;
            pem::check_pair(&chain, &key).map_err(unusable(private_key))?;
            pem::check_server(&chain).map_err(unusable(certificate))?;
            let names = ServerNames::of(&chain[0]);
            certificates.push(Certificate { chain, key, names });
            of_certificates.extend([sha256(&chain_text), sha256(&key_text)]);
        }
        let mut trust = None;
        if let Some(clients) = &files.clients {
            let text = read(&clients.ca)?;
            let authorities = pem::certificates(&text).map_err(unusable(&clients.ca))?;
            let mut lists = Vec::new();
            of_trust.push(sha256(&text));
            for path in &clients.lists {
                let text = read(path)?;
                lists.extend(pem::revocation_lists(&text).map_err(unusable(path))?);
                of_trust.push(sha256(&text));
            }
            trust = Some(Arc::new(ClientTrust { required: clients.required, authorities, lists }));
        }
        Ok(Material { certificates, trust, of_certificates, of_trust })
    }

    fn is_as(&self, other: &Material) -> bool {
        self.of_certificates == other.of_certificates && self.of_trust == other.of_trust
    }

    /// What was read, for the log.
    fn describe(&self, files: &ListenerTls) -> String {
        let certificates = files.certificates.iter().zip(&self.certificates).map(|(files, read)| {
            let own = read.chain.first().map(pem::describe).unwrap_or_default();
            format!("'{}' with the certificate {own}", files.certificate.display())
        });
        let clients = files.clients.iter().flat_map(|clients| [&clients.ca].into_iter().chain(&clients.lists));
        let clients = clients.map(|path| format!("'{}'", path.display()));
        certificates.chain(clients).collect::<Vec<_>>().join(", ")
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

/// A context for each certificate. Sessions begin with the first one, whose keys are those of all tickets, and change when
/// the client has said which name it wants.
fn context_of(material: &Material) -> Result<SslContext, ErrorStack> {
    let trust = material.trust.as_deref();
    let contexts = material.certificates.iter().map(|certificate| builder_of(certificate, trust));
    let mut contexts = contexts.collect::<Result<Vec<_>, _>>()?.into_iter();
    // There is at least one.
    let mut first = contexts.next().ok_or_else(ErrorStack::get)?;
    let further: Vec<SslContext> = contexts.map(|builder| builder.build().into_context()).collect();
    if !further.is_empty() {
        let names: Vec<_> = material.certificates.iter().map(|certificate| certificate.names.clone()).collect();
        first.set_servername_callback(move |ssl, _| {
            match ssl.servername(NameType::HOST_NAME).and_then(|name| pick(&names, name)) {
                None => Err(SniError::NOACK),
                Some(0) => Ok(()),
                Some(index) => ssl.set_ssl_context(&further[index - 1]).map_err(|_| SniError::ALERT_FATAL),
            }
        });
    }
    Ok(first.build().into_context())
}

fn builder_of(certificate: &Certificate, trust: Option<&ClientTrust>) -> Result<SslAcceptorBuilder, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    // A renegotiation would let a peer spend our processor time at will (CVE-2011-1473).
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::CIPHER_SERVER_PREFERENCE);
    // Idle sessions give their record buffers back: 34 KiB a client.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    // Sessions are resumed from tickets that the client keeps; a cache here would be memory per client.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    for (at, one) in certificate.chain.iter().enumerate() {
        match at {
            0 => builder.set_certificate(one)?,
            _ => builder.add_extra_chain_cert(one.clone())?,
        }
    }
    builder.set_private_key(&certificate.key)?;
    if let Some(trust) = trust {
        trust.apply(&mut builder)?;
    }
    Ok(builder)
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
    fn connect(tls: &Arc<ServerTls>, client: &Arc<ClientConfig>) -> Option<HandshakeKind> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let tls = Arc::clone(tls);
        let server = std::thread::spawn(move || {
            let mut stream = Stream::new(Arc::new(Socket::new(ours)), Some(tls));
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
        let tls = Arc::new(ServerTls::load(String::new(), &ListenerTls::of(files)).unwrap());
        let late = tls.state.in_force.lock().until;
        let (began, soon) = (late - TICKET_KEYS, late - Duration::from_secs(1));
        let table = [
            ("a first", began, HandshakeKind::Full),
            ("one that has come back", soon, HandshakeKind::Resumed),
            ("one with a ticket of old keys", late, HandshakeKind::Full),
            ("one with a ticket of the new keys", late, HandshakeKind::Resumed),
        ];
        for (who, now, kind) in table {
            // What is renewed at this time stays for a while.
            tls.begin(now);
            assert_eq!(connect(&tls, &client), Some(kind), "{who} connection");
        }
    }
}
