//! Whether the certificate of a client that is connected would still be accepted, after a reload has changed which are.
//!
//! Looked at is what a reload can take away: the trust in an authority, and a certificate that a list now revokes. That a
//! certificate or a list has expired since is not: the time takes it away, not the reload.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{CrlStatus, X509, X509Crl, X509NameRef, X509Ref, X509StoreContext, X509VerifyResult};

use super::client_trust::{ClientTrust, not_accepted, revoked};

/// The certificate that a client has proved to have, as it was verified.
pub struct Proved {
    own: X509,
    /// What the client has sent with it; nothing in a session that was resumed.
    sent: Stack<X509>,
    is_resumed: bool,
    /// Which trust it was found good by.
    judged: AtomicU64,
}

impl fmt::Debug for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proved").field("judged", &self.judged).finish_non_exhaustive()
    }
}

impl Proved {
    /// What the client of this session has proved, verified by the trust of this number; `None` without a certificate.
    pub fn of(ssl: &SslRef, judged: u64) -> Option<Proved> {
        let own = ssl.peer_certificate()?;
        let mut sent = Stack::new().ok()?;
        for certificate in ssl.peer_cert_chain().into_iter().flatten() {
            sent.push(certificate.to_owned()).ok()?;
        }
        Some(Proved { own, sent, is_resumed: ssl.session_reused(), judged: AtomicU64::new(judged) })
    }
}

/// Which certificates are accepted since the last reload that has changed it.
pub struct Review {
    trust: Arc<ClientTrust>,
    store: X509Store,
    /// The number of this trust, and that of the last one that lacks an authority which was there before.
    number: u64,
    narrowed: u64,
}

impl fmt::Debug for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Review").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Review {
    /// A review by `trust`, which follows on `before`, by which `last` was the last review if there was one.
    pub fn new(trust: Arc<ClientTrust>, before: &ClientTrust, last: Option<&Review>) -> Result<Review, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for authority in &trust.authorities {
            store.add_cert(authority.clone())?;
        }
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::NO_CHECK_TIME)?;
        let number = last.map_or(0, |last| last.number) + 1;
        let lacks = |authority: &X509| trust.authorities.iter().all(|own| **own != **authority);
        let is_narrower = before.authorities.iter().any(lacks);
        let narrowed = if is_narrower { number } else { last.map_or(0, |last| last.narrowed) };
        Ok(Review { trust, store: store.build(), number, narrowed })
    }

    /// The number of this trust; that of the start is 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether a client's certificate is still good.
    ///
    /// # Errors
    /// Why not, for the log.
    pub fn check(&self, proved: &Proved) -> Result<(), String> {
        let judged = proved.judged.load(Ordering::Relaxed);
        if judged >= self.number {
            return Ok(());
        }
        let found = self.chain_of(proved);
        // What the library has queued of it is nothing to whoever asks it next in this thread.
        drop(ErrorStack::get());
        match found.map_err(|error| error.to_string())? {
            Ok(chain) => self.check_lists(&chain)?,
            // The certificates of its authorities came in an earlier session. They were good by then, and all that were
            // trusted then still are.
            Err(_) if proved.is_resumed && judged >= self.narrowed => {
                self.check_lists(std::slice::from_ref(&proved.own))?
            }
            Err(error) => return Err(not_accepted(error, &proved.own)),
        }
        proved.judged.store(self.number, Ordering::Relaxed);
        Ok(())
    }

    /// From the client's own certificate to an authority that is trusted, or why there is no such chain.
    fn chain_of(&self, proved: &Proved) -> Result<Result<Vec<X509>, X509VerifyResult>, ErrorStack> {
        X509StoreContext::new()?.init(&self.store, &proved.own, &proved.sent, |context| {
            if !context.verify_cert()? {
                return Ok(Err(context.error()));
            }
            Ok(Ok(context.chain().into_iter().flatten().map(X509Ref::to_owned).collect()))
        })
    }

    /// Looks for a list that has one of these certificates, each followed by that of its issuer.
    fn check_lists(&self, chain: &[X509]) -> Result<(), String> {
        for (depth, certificate) in chain.iter().enumerate() {
            let issuer = chain.get(depth + 1);
            if self.trust.lists.iter().any(|list| is_in(list, certificate, issuer)) {
                return Err(revoked(depth, certificate));
            }
        }
        Ok(())
    }
}

/// Whether a list of its issuer revokes a certificate. Where the issuer is known, the list has to be its own, and not one of
/// another authority of the same name.
fn is_in(list: &X509Crl, certificate: &X509, issuer: Option<&X509>) -> bool {
    let is_own = |issuer: &X509| issuer.public_key().is_ok_and(|key| list.verify(&key).unwrap_or(false));
    is_same(list.issuer_name(), certificate.issuer_name())
        && matches!(list.get_by_cert(certificate), CrlStatus::Revoked(_))
        && issuer.is_none_or(is_own)
}

fn is_same(one: &X509NameRef, other: &X509NameRef) -> bool {
    one.try_cmp(other).is_ok_and(|order| order.is_eq())
}
