//! The threads that check signed tokens, while their clients wait. A check leaves much in the thread that does it: what
//! OpenSSL has for each thread, what malloc keeps at hand, pages of the stack. In the thread of a client it would stay for
//! as long as the client does. And so many checks at once take no more than half of the processors.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::error;

use super::verdict::{Checked, Left};
use crate::auth::jwk::KeySet;
use crate::auth::jwt::{self, Flaw, JwtSettings, Verified};
use crate::config::AuthId;
use crate::identity::Proof;
use crate::secret::Secret;
use crate::sync::{Mutex, Signal};
use crate::system::thread::spawn_helper;

/// How many tokens wait for a thread. Whoever brings another one waits for room.
const WAITING_MAX: usize = 64;

/// See the module's documentation. They end with it.
#[derive(Debug)]
pub(super) struct TokenThreads {
    count: usize,
    /// Where tokens wait for the threads, once these are there.
    tokens: Mutex<Option<Sender<Work>>>,
}

/// A token to be checked, and where the answer goes; perhaps nobody waits for it any more.
type Work = (SignedToken, Arc<Answer>);

/// A token, and what it is checked against.
#[derive(Debug)]
pub(super) struct SignedToken {
    pub(super) text: Secret,
    /// Whose keys and settings these are.
    pub(super) auth: AuthId,
    pub(super) keys: Arc<KeySet>,
    pub(super) settings: Arc<JwtSettings>,
    pub(super) looks_at_claims: bool,
}

/// Whose token it is, or why it is nobody's.
type Judged = Result<Box<Checked>, Flaw>;

/// What comes of a token, for whoever waits for it. No channel, which would have its thread spin for a while.
#[derive(Debug, Default)]
struct Answer {
    /// Empty until it is known, and without a judgement if there will be none.
    known: Mutex<Option<Option<Judged>>>,
    given: Signal,
}

impl TokenThreads {
    /// So many threads, of which none is there yet.
    pub(super) fn new(count: usize) -> TokenThreads {
        TokenThreads { count, tokens: Mutex::default() }
    }

    /// Starts the threads, if they are not there yet.
    ///
    /// # Errors
    /// The system has no more threads to give.
    pub(super) fn start(&self) -> io::Result<()> {
        let mut started = self.tokens.lock();
        if started.is_none() {
            let (tokens, waiting) = bounded(WAITING_MAX);
            for number in 1..=self.count {
                let waiting = waiting.clone();
                spawn_helper(&format!("tokens {number}"), move || work(&waiting))?;
            }
            *started = Some(tokens);
        }
        Ok(())
    }

    /// Has one of the threads check a token. `None` if it could not be found out before the deadline.
    pub(super) fn check(&self, token: SignedToken, deadline: Instant) -> Option<Judged> {
        let answer = Arc::default();
        self.bring((token, Arc::clone(&answer)), deadline)?;
        answer.wait(deadline)
    }

    #[inline(never)]
    fn bring(&self, work: Work, deadline: Instant) -> Option<()> {
        let tokens = self.tokens.lock().clone()?;
        tokens.send_deadline(work, deadline).ok()
    }
}

impl Answer {
    fn give(&self, judged: Option<Judged>) {
        *self.known.lock() = Some(judged);
        self.given.notify_all();
    }

    #[inline(never)]
    fn wait(&self, deadline: Instant) -> Option<Judged> {
        let mut known = self.known.lock();
        loop {
            if let Some(judged) = known.take() {
                return judged;
            }
            known = self.given.wait_until(known, Some(deadline))?;
        }
    }
}

/// Checks tokens until nobody can bring any more.
fn work(tokens: &Receiver<Work>) {
    for (token, answer) in tokens {
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&token)));
        if judged.is_err() {
            error!("the check of a signed token panicked; this is a defect of wsgate");
        }
        answer.give(judged.ok());
    }
}

fn judge(token: &SignedToken) -> Judged {
    let SignedToken { text, auth, keys, settings, looks_at_claims } = token;
    let Verified { name, claims, left, key } = jwt::verify(text.expose(), keys, settings, SystemTime::now())?;
    let proof = Proof { auth: auth.0, digest: key };
    let mut checked = Checked::with_claims(&name, claims, &settings.claims, proof, Some(Left::of_token(left)));
    if !looks_at_claims {
        // Freed by the client, malloc would keep them at hand in its thread.
        checked.claims.clear();
    }
    Ok(Box::new(checked))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::jwk::Algorithm;

    fn keys() -> Arc<KeySet> {
        Arc::new(KeySet::parse("a-secret-of-more-than-32-bytes-of-ascii", Some(Algorithm::Hs256)).unwrap())
    }

    fn token(text: &str, keys: &Arc<KeySet>) -> SignedToken {
        SignedToken {
            text: Secret::new(text),
            auth: AuthId(0),
            keys: Arc::clone(keys),
            settings: Arc::default(),
            looks_at_claims: false,
        }
    }

    #[test]
    fn each_gets_the_answer_to_its_own_token() {
        let (threads, keys) = (TokenThreads::new(2), keys());
        let deadline = Instant::now() + Duration::from_secs(10);
        let check = |text: &str| threads.check(token(text, &keys), deadline).map(|judged| judged.map(drop));
        assert_eq!(check("a.b.c"), None, "no thread is there");
        threads.start().unwrap();
        threads.start().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_eq!(check("a.b"), Some(Err("is no JWT of three parts")));
                        assert_eq!(check("a.b.c"), Some(Err("has a header that is no JSON in base64url")));
                    }
                });
            }
        });
    }

    #[test]
    fn nobody_waits_beyond_the_deadline() {
        let (threads, keys) = (TokenThreads::new(1), keys());
        // As where all threads are at work: nobody takes anything.
        let (tokens, _waiting) = bounded(1);
        *threads.tokens.lock() = Some(tokens);
        for _ in 0..2 {
            let deadline = Instant::now() + Duration::from_millis(20);
            assert!(threads.check(token("a.b.c", &keys), deadline).is_none());
            assert!(Instant::now() >= deadline);
        }
    }
}
