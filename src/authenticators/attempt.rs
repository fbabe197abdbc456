//! What is known of a client that asks to be let in, and what finding out who it is is bound to.

use std::net::IpAddr;
use std::time::Instant;

use crate::certificate::ClientCertificate;
use crate::dial::CancelToken;
use crate::http::refusal::Refusal;
use crate::http::request::Request;

/// An attempt to come in: who asks, and what it is bound to.
pub struct Attempt<'a> {
    /// The head of the request, and the same taken apart.
    pub head: &'a [u8],
    pub request: &'a Request<'a>,
    /// The certificate that the client has shown to its listener, if its endpoint looks at it.
    pub certificate: Option<&'a ClientCertificate>,
    /// Whether the claims of a credential are looked at. Those of a signed token are left out otherwise.
    pub looks_at_claims: bool,
    /// Where the client comes from; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The path of the endpoint, as it is written.
    pub endpoint: &'a str,
    /// The path of the room, as people read it.
    pub path: &'a str,
    /// A password whose turn has not come by then is not checked, and no server is waited for any longer.
    pub deadline: Instant,
    /// What ends a request to a service.
    pub cancel: &'a CancelToken,
    /// Whether credentials of this peer are still looked at. It is asked again when its turn has come: many wait at once,
    /// and those before it may have been wrong.
    pub is_heard: &'a dyn Fn() -> Result<(), Refusal>,
    /// Is told once if a credential was wrong.
    pub has_failed: &'a dyn Fn(),
    /// Whether the client has left: no password is checked for it then, and no service asked.
    pub has_left: &'a dyn Fn() -> bool,
}

impl Attempt<'_> {
    /// Whether nobody waits for what comes of it.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline || (self.has_left)()
    }
}
