//! The connection of requests that come one after the other to the same HTTP server, for as long as the server keeps it.

use std::fmt;
use std::io::Read;
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::error::DialError;
use super::exchange;
use super::mask::Secrets;
use super::response::ServerRefusal;
use super::wire::Wire;
use crate::http::body::AnswerBody;
use crate::http::head::ResponseHead;

/// How much of the body of a good answer is read, and for how long, for the sake of the next request: with a longer one
/// the connection ends.
const BODY_MAX: usize = 64 << 10;
const BODY_WAIT: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Default)]
pub struct HttpPoster {
    /// A connection whose last answer was read to its end.
    kept: Option<Wire>,
}

impl fmt::Debug for HttpPoster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPoster").field("is_connected", &self.kept.is_some()).finish()
    }
}

impl HttpPoster {
    /// The connection that was kept, if there is one.
    pub(super) fn take(&mut self) -> Option<Wire> {
        self.kept.take()
    }

    /// Has the next request open a connection.
    pub fn disconnect(&mut self) {
        if let Some(mut wire) = self.kept.take() {
            wire.say_goodbye();
        }
    }

    /// Sends a request over this connection, and keeps it if it can. `secrets` must not be shown of what the server says.
    pub(super) fn ask(
        &mut self,
        mut wire: Wire,
        request: &[u8],
        secrets: &Secrets,
        attempt: &Attempt<'_>,
    ) -> Result<(), DialError> {
        wire.set_deadline(Some(attempt.deadline));
        let head = exchange::exchange(request, &mut wire, attempt)?;
        if !(200..300).contains(&head.status) {
            let mut refusal = ServerRefusal::read(head, &mut wire);
            refusal.hide(secrets, &Secrets::default());
            return Err(attempt.refused(refusal));
        }
        if is_read_to_its_end(head, &mut wire) {
            self.kept = Some(wire);
        } else {
            wire.say_goodbye();
        }
        Ok(())
    }
}

/// Reads the body behind a head, and says whether another answer can follow it.
fn is_read_to_its_end(mut head: ResponseHead, wire: &mut Wire) -> bool {
    if head.values("connection").any(|value| value.to_ascii_lowercase().contains("close")) {
        return false;
    }
    let mut came = std::mem::take(&mut head.behind);
    let Ok(mut body) = AnswerBody::new(&head, BODY_MAX) else { return false };
    if body.is_until_end() {
        return false;
    }
    wire.cap_deadline(BODY_WAIT);
    let (mut buffer, late) = ([0; 4096], Instant::now() + BODY_WAIT);
    while body.feed(&came).is_ok() {
        if body.is_complete() {
            return true;
        }
        match wire.read(&mut buffer) {
            Ok(count @ 1..) if Instant::now() < late => came = buffer[..count].to_vec(),
            _ => return false,
        }
    }
    false
}
