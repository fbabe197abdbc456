//! Whether a credential is right, a function for each kind. They are not inlined, so that a client's stack has what its own
//! kind needs, and not what all need together: the pages that it has touched are its own for as long as it is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::Map;

use super::attempt::Attempt;
use super::callout::{Callout, Declined, Told};
use super::issuer_keys::{IssuerKeys, NoKeys};
use super::token_threads::SignedToken;
use super::verdict::{Checked, Left, NotChecked, Shown, Verdict};
use super::{Auth, Source};
use crate::auth::Keys;
use crate::auth::answer::Answer;
use crate::auth::certificate::{self, IdentityFrom};
use crate::auth::credentials::Credential;
use crate::auth::htpasswd::Passwords;
use crate::auth::jwk::KeySet;
use crate::auth::jwt;
use crate::certificate::ClientCertificate;
use crate::config::AuthKind;
use crate::identity::{Identity, Proof};
use crate::secret::Secret;

/// After how many seconds it is worth to come again where a server does not answer.
const RETRY_AFTER: u64 = 5;

impl Auth {
    /// Whose credentials these are. All waits end with the deadline.
    #[inline(never)]
    pub fn check(&self, credentials: &[Credential], attempt: &Attempt<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        match &self.source {
            Source::File(file) => {
                let keys = file.keys();
                self.check_each(credentials, &mut verdict, |text| self.check_with(&keys, text, attempt));
            }
            Source::Issuer(keys) => {
                self.check_each(credentials, &mut verdict, |text| self.check_issued(text, keys, attempt));
            }
            Source::Service(callout) if callout.is_concerned(credentials, attempt.head) => {
                verdict.add(Shown::ToService, self.ask(callout, credentials, attempt));
            }
            Source::Service(_) => {}
            Source::Certificate(from) => {
                let checked = attempt.certificate.map(|certificate| self.check_certificate(*from, certificate));
                checked.into_iter().for_each(|checked| verdict.add(Shown::Certificate, checked));
            }
        }
        verdict
    }

    /// Checks one after the other, until one is right.
    fn check_each(
        &self,
        credentials: &[Credential],
        verdict: &mut Verdict,
        check: impl Fn(&str) -> Result<Box<Checked>, NotChecked>,
    ) {
        for Credential { place, text } in credentials {
            verdict.add(Shown::At(*place), check(text.expose()));
            if verdict.right.is_some() {
                return;
            }
        }
    }

    /// Whose credential this is by what was read from a file.
    #[inline(never)]
    fn check_with(&self, keys: &Keys, text: &str, attempt: &Attempt<'_>) -> Result<Box<Checked>, NotChecked> {
        match keys {
            Keys::Tokens(tokens) => {
                let (name, digest) = tokens.find(text).ok_or(NotChecked::Wrong(None))?;
                Ok(self.checked(name, digest, false))
            }
            Keys::Basic(users) => self.check_password(users, text, attempt),
            Keys::Jwt(keys) => self.check_jwt(text, keys, attempt),
        }
    }

    /// Whose password this is. One that was not right a moment ago waits for its turn to be hashed.
    #[inline(never)]
    fn check_password(&self, users: &Passwords, text: &str, attempt: &Attempt<'_>) -> Result<Box<Checked>, NotChecked> {
        let (user, password) = user_and_password(text).ok_or(NotChecked::Wrong(None))?;
        if let Some(digest) = users.remembers(&user, password.expose(), Instant::now()) {
            return Ok(self.checked(&user, digest, false));
        }
        let (user, password) = (&*user, password.expose());
        self.hash_password(users, user, password, attempt).map(|digest| self.checked(user, digest, true))
    }

    /// The digest of a user's entry, if its password is right, for which that is hashed.
    #[inline(never)]
    fn hash_password(
        &self,
        users: &Passwords,
        user: &str,
        password: &str,
        attempt: &Attempt<'_>,
    ) -> Result<[u8; 32], NotChecked> {
        let turn = self.shared.passwords.enter(attempt.address, || attempt.is_over());
        let _turn = turn.ok_or_else(|| match (attempt.has_left)() {
            true => NotChecked::Gone,
            false => NotChecked::unknown("too many passwords wait to be checked", String::new()),
        })?;
        (attempt.is_heard)().map_err(|refusal| NotChecked::Unheard(refusal.into()))?;
        // It may have been found right while this one waited.
        let now = Instant::now();
        let digest = users.remembers(user, password, now).or_else(|| users.check(user, password, now));
        digest.ok_or(NotChecked::Wrong(None))
    }

    /// Whose signed token this is. A thread of its own checks it, for which this one waits.
    #[inline(never)]
    fn check_jwt(&self, token: &str, keys: &Arc<KeySet>, attempt: &Attempt<'_>) -> Result<Box<Checked>, NotChecked> {
        let AuthKind::Jwt(settings, _) = &self.settings.kind else { return Err(NotChecked::Wrong(None)) };
        let (text, auth, keys, settings) = (Secret::new(token), self.id, Arc::clone(keys), Arc::clone(settings));
        let token = SignedToken { text, auth, keys, settings, looks_at_claims: attempt.looks_at_claims };
        let checked = self.shared.tokens.check(token, attempt.deadline);
        let checked =
            checked.ok_or_else(|| NotChecked::unknown("too many tokens wait to be checked", String::new()))?;
        checked.map_err(|flaw| NotChecked::Wrong(Some(flaw)))
    }

    /// As [`check_jwt`](Auth::check_jwt), with keys that may have to be asked for.
    #[inline(never)]
    fn check_issued(
        &self,
        token: &str,
        issuer: &IssuerKeys,
        attempt: &Attempt<'_>,
    ) -> Result<Box<Checked>, NotChecked> {
        let missing = |why| match why {
            NoKeys::Missing => NotChecked::Unknown {
                reason: "the keys for tokens are missing",
                advice: format!("those of [[auth]] {:?}, see the lines above", self.settings.name),
                retry_after: RETRY_AFTER,
            },
            NoKeys::Crowded => NotChecked::unknown("too many wait for the keys for tokens", String::new()),
        };
        let keys = issuer.current(attempt.deadline).map_err(missing)?;
        let checked = self.check_jwt(token, &keys, attempt);
        if checked.as_ref().err() != Some(&NotChecked::Wrong(Some(jwt::NO_KEY))) {
            return checked;
        }
        match issuer.newer(&keys, attempt.deadline).map_err(missing)? {
            Some(keys) => self.check_jwt(token, &keys, attempt),
            None => checked,
        }
    }

    /// Whose certificate this is, which was verified when its session began.
    #[inline(never)]
    fn check_certificate(
        &self,
        from: IdentityFrom,
        certificate: &ClientCertificate,
    ) -> Result<Box<Checked>, NotChecked> {
        let judged = certificate::judge(certificate, from, SystemTime::now());
        let (name, time) = judged.map_err(|flaw| NotChecked::Wrong(Some(flaw)))?;
        let mut checked = self.checked(name, certificate.fingerprint, false);
        checked.left = Some(Left { time, reason: "Certificate expired" });
        Ok(checked)
    }

    /// Who a service says that this is.
    #[inline(never)]
    fn ask(
        &self,
        callout: &Callout,
        credentials: &[Credential],
        attempt: &Attempt<'_>,
    ) -> Result<Box<Checked>, NotChecked> {
        match callout.ask(&self.settings.name, credentials, attempt) {
            Ok(Told { answer: Answer { name, claims, left }, is_over_tls }) => {
                let proof = Proof { auth: self.id.0, digest: [0; 32] };
                let left = left.map(Left::of_token);
                let checked = Checked::with_claims(&name, claims, callout.claims(), proof, left);
                Ok(Box::new(Checked { is_heavy: is_over_tls, ..checked }))
            }
            Err(Declined::Refused(status)) => Err(NotChecked::Refused(status)),
            Err(Declined::Unheard(refusal)) => Err(NotChecked::Unheard(refusal.into())),
            Err(Declined::Gone) => Err(NotChecked::Gone),
            Err(Declined::Busy) => Err(NotChecked::unknown("too many clients wait to be checked", String::new())),
            Err(Declined::Unanswered(advice)) => Err(NotChecked::Unknown {
                reason: "the service that checks clients does not answer",
                advice,
                retry_after: RETRY_AFTER,
            }),
        }
    }

    /// A client of which nothing is known but its name.
    #[inline(never)]
    fn checked(&self, name: &str, digest: [u8; 32], is_heavy: bool) -> Box<Checked> {
        let identity = Arc::new(Identity::new(name, BTreeMap::new(), Proof { auth: self.id.0, digest }));
        Box::new(Checked { identity, claims: Map::new(), is_heavy, left: None })
    }
}

/// What stands behind `Basic`. RFC 7617 section 2 has no control characters in it; bcrypt takes `a`, a zero and `a` for
/// the password `a`.
fn user_and_password(text: &str) -> Option<(String, Secret)> {
    let decoded = String::from_utf8(data_encoding::BASE64.decode(text.as_bytes()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':').filter(|_| !decoded.contains(char::is_control))?;
    Some((user.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_a_password_are_base64_with_a_colon() {
        for (text, expected) in [
            ("YTpi", Some(("a", "b"))),
            ("YTpiOmM=", Some(("a", "b:c"))),
            ("w7w6w6k=", Some(("ü", "é"))),
            ("Og==", Some(("", ""))),
            ("YTpiOmM", None),
            ("YQ==", None),
            ("/zo=", None),
            ("a:b", None),
            ("YTpiAGI=", None),
            ("YQA6Yg==", None),
        ] {
            let read = user_and_password(text);
            let read = read.as_ref().map(|(user, password)| (&**user, password.expose()));
            assert_eq!(read, expected, "{text}");
        }
    }
}
