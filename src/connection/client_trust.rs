//! Which certificates of clients a listener accepts: those that an authority has signed and no list revokes.
//!
//! OpenSSL verifies a certificate in a whole handshake only; a session that is resumed brings the certificate along as it
//! was found then. So tickets are good for one trust: with another authority or another list the context is another one,
//! with other keys for tickets, and also when an authority or a list runs out. That a certificate has run out meanwhile
//! is looked at each time.

use std::fmt;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::nid::Nid;
use openssl::ssl::{Ssl, SslContextBuilder, SslFiletype, SslRef, SslVerifyMode};
use openssl::stack::Stack;
use openssl::x509::store::{X509Lookup, X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509Crl, X509NameRef, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::pem;

/// How much of a name in a certificate is shown, in characters.
const NAME_SHOWN_MAX: usize = 100;

/// Sessions are resumed only where they began: without a context of their own OpenSSL ends them where certificates are
/// asked for. Nobody else has the keys of our tickets, so one text does for all.
const SESSION_CONTEXT: &[u8] = b"wsgate";

/// The most certificates that a client may send besides its own. They are kept as long as its session, and a small one takes
/// many times its size in memory.
const FURTHER_MAX: usize = 10;

/// What clients are asked for and what is accepted.
pub struct ClientTrust {
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// Who may have signed it, at least one.
    pub authorities: Vec<X509>,
    /// What they have revoked; empty if that is not looked at.
    pub lists: Vec<X509Crl>,
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust").field("required", &self.required).finish_non_exhaustive()
    }
}

impl ClientTrust {
    /// Has sessions of this context ask for a certificate.
    pub fn apply(&self, builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let mut mode = SslVerifyMode::PEER;
        mode.set(SslVerifyMode::FAIL_IF_NO_PEER_CERT, self.required);
        builder.set_verify_callback(mode, judge);
        builder.set_session_id_context(SESSION_CONTEXT)?;
        // Browsers and other clients choose by it among the certificates that they have.
        let mut names = Stack::new()?;
        for authority in &self.authorities {
            names.push(authority.subject_name().to_owned()?)?;
        }
        builder.set_client_ca_list(names);
        builder.set_verify_cert_store(self.store()?)
    }

    fn store(&self) -> Result<X509Store, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for authority in &self.authorities {
            store.add_cert(authority.clone())?;
        }
        // An authority that is listed is trusted, also if it is not its own root.
        let mut flags = X509VerifyFlags::PARTIAL_CHAIN;
        if !self.lists.is_empty() {
            flags |= X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
            load_lists(&mut store, &self.lists)?;
        }
        store.set_flags(flags)?;
        Ok(store.build())
    }

    /// How long it stays what it is: until an authority or a list runs out.
    pub fn lasts(&self) -> Option<Duration> {
        let now = Asn1Time::days_from_now(0).ok()?;
        let ends = self.authorities.iter().map(|authority| authority.not_after());
        let ends = ends.chain(self.lists.iter().filter_map(|list| list.next_update()));
        ends.filter_map(|end| time_until(&now, end)).min()
    }
}

/// The time from `now` to a moment that is still to come.
fn time_until(now: &Asn1Time, end: &Asn1TimeRef) -> Option<Duration> {
    let left = now.diff(end).ok()?;
    let seconds = i64::from(left.days) * 24 * 60 * 60 + i64::from(left.secs);
    u64::try_from(seconds).ok().map(|seconds| Duration::from_secs(seconds + 1))
}

/// The library takes lists from files alone. What was checked is put into one in memory: that on the disk may be another
/// one by now.
fn load_lists(store: &mut X509StoreBuilder, lists: &[X509Crl]) -> Result<(), ErrorStack> {
    let mut pem = Vec::new();
    for list in lists {
        pem.extend(list.to_pem()?);
    }
    let file = memfd_create("crl", MemfdFlags::CLOEXEC).ok().and_then(|file| {
        let mut file = std::fs::File::from(file);
        std::io::Write::write_all(&mut file, &pem).is_ok().then_some(file)
    });
    // Without the file the library says that it cannot open it.
    let descriptor = file.as_ref().map_or(-1, std::os::fd::AsRawFd::as_raw_fd);
    let path = format!("/proc/self/fd/{descriptor}");
    store.add_lookup(X509Lookup::file())?.load_crl_file(path, SslFiletype::PEM).map(drop)
}

/// Why a certificate was refused, kept with its session; the library itself tells a number only.
static REASON: LazyLock<Option<Index<Ssl, OnceLock<String>>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

/// Makes room for the reason in a session that asks for a certificate.
pub fn prepare(ssl: &mut SslRef) {
    if let Some(index) = *REASON
        && !ssl.verify_mode().is_empty()
    {
        ssl.set_ex_data(index, OnceLock::new());
    }
}

/// Why the certificate of this session was refused, if it was.
pub fn refusal(ssl: &SslRef) -> Option<&str> {
    REASON.and_then(|index| ssl.ex_data(index)).and_then(OnceLock::get).map(String::as_str)
}

/// Why a session must not be used although its handshake is done; `None` if it may be.
pub fn objection(ssl: &SslRef) -> Option<String> {
    let sent = ssl.peer_cert_chain().map_or(0, |chain| chain.len());
    let many = || {
        format!("the client sent {sent} certificates besides its own, and may send {FURTHER_MAX}: let it send fewer")
    };
    (sent > FURTHER_MAX).then(many).or_else(|| stale(ssl))
}

/// Why a session that is resumed must not be; `None` if it may be.
fn stale(ssl: &SslRef) -> Option<String> {
    if !ssl.session_reused() {
        return None;
    }
    let certificate = ssl.peer_certificate()?;
    let now = Asn1Time::days_from_now(0).ok()?;
    (certificate.not_after() < now).then(|| explain(code::CERTIFICATE_EXPIRED, 0, &certificate, "expired"))
}

/// What the library thinks of a certificate of the chain, and what becomes of it.
fn judge(is_good: bool, chain: &mut X509StoreContextRef) -> bool {
    let (error, depth) = (chain.error(), chain.error_depth());
    if is_good {
        return true;
    }
    // The list of a client's own authority must be there. One of the authorities above it is looked at if it is.
    if error.as_raw() == code::NO_LIST && depth > 0 {
        chain.set_error(X509VerifyResult::OK);
        return true;
    }
    if let Some(certificate) = chain.current_cert()
        && let Ok(index) = X509StoreContext::ssl_idx()
        && let Some(reason) = REASON.and_then(|reason| chain.ex_data(index)?.ex_data(reason))
    {
        // The first reason is the one that counts.
        let _ = reason.set(explain(error.as_raw(), depth, certificate, error.error_string()));
    }
    false
}

/// The library's numbers for what can be wrong (x509_vfy.h).
mod code {
    pub const NO_ISSUER: i32 = 2;
    pub const NO_LIST: i32 = 3;
    pub const NOT_YET_VALID: i32 = 9;
    pub const CERTIFICATE_EXPIRED: i32 = 10;
    pub const LIST_EXPIRED: i32 = 12;
    pub const SELF_SIGNED: i32 = 18;
    pub const SELF_SIGNED_IN_CHAIN: i32 = 19;
    pub const NO_LOCAL_ISSUER: i32 = 20;
    pub const NOT_VERIFIED: i32 = 21;
    pub const REVOKED: i32 = 23;
    pub const WRONG_PURPOSE: i32 = 26;
}

/// What is wrong with a certificate at this depth of a client's chain, and what to do.
fn explain(error: i32, depth: u32, certificate: &X509Ref, otherwise: &str) -> String {
    let subject = shown(certificate.subject_name());
    let issuer = shown(certificate.issuer_name());
    let whose = if depth == 0 { "the client's certificate" } else { "the certificate of an authority of the client" };
    match error {
        code::CERTIFICATE_EXPIRED => format!("{whose} {subject} expired on {}: renew it", certificate.not_after()),
        code::NOT_YET_VALID => {
            format!("{whose} {subject} is not valid before {}: check both clocks", certificate.not_before())
        }
        code::REVOKED => format!("{whose} {subject} is revoked by a list of `crl`"),
        code::NO_LIST => format!("{whose} {subject} is of {issuer}, of which `crl` has no list: add it"),
        code::LIST_EXPIRED => format!("the list of {issuer} in `crl` has expired: get the next one and reload"),
        code::SELF_SIGNED => format!("{whose} {subject} is its own authority, which `client_ca` does not have"),
        code::SELF_SIGNED_IN_CHAIN => format!("the authority {subject} of the client is not in `client_ca`"),
        code::NO_ISSUER | code::NO_LOCAL_ISSUER | code::NOT_VERIFIED => format!(
            "{whose} {subject} is of {issuer}, which `client_ca` does not have and the client has not sent: add it to \
             either"
        ),
        code::WRONG_PURPOSE => format!("{whose} {subject} is not for clients: its extended key usage excludes them"),
        _ => format!("{whose} {subject} is not accepted: {otherwise}"),
    }
}

/// Why a client's own certificate is not accepted.
pub fn not_accepted(error: X509VerifyResult, certificate: &X509Ref) -> String {
    explain(error.as_raw(), 0, certificate, error.error_string())
}

/// That a certificate at this depth of a client's chain is revoked.
pub fn revoked(depth: usize, certificate: &X509Ref) -> String {
    explain(code::REVOKED, u32::from(depth > 0), certificate, "")
}

/// A name of a certificate: the last common name, as it is for identities, or all of it if there is none.
fn shown(name: &X509NameRef) -> String {
    let common_name = name.entries_by_nid(Nid::COMMONNAME).last().and_then(|entry| entry.data().to_string().ok());
    let text = common_name.unwrap_or_else(|| pem::name(name));
    format!("\"{}\"", text.chars().take(NAME_SHOWN_MAX).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_is_over_changes_nothing_any_more() {
        let now = Asn1Time::from_unix(1_000_000).unwrap();
        for (end, expected) in
            [(999_999, None), (1_000_000, Some(1)), (1_000_059, Some(60)), (1_172_800, Some(172_801))]
        {
            let end = Asn1Time::from_unix(end).unwrap();
            assert_eq!(time_until(&now, &end), expected.map(Duration::from_secs));
        }
    }
}
