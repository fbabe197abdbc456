//! The kind `basic`: a password file as Apache's htpasswd writes it, with bcrypt or argon2id. A rule, but for the memory
//! of passwords that were right.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use openssl::sha::Sha256;

use super::digest::sha256;
use super::file::LineError;
use crate::identity::is_name;
use crate::sync::Mutex;

/// The least that there is.
const BCRYPT_COST_MIN: u32 = 4;

/// The most that one check may cost: a minute of processor time would be a gift to whoever tries passwords.
const BCRYPT_COST_MAX: u32 = 15;
const ARGON2_KIB_MAX: u32 = 256 << 10;
const ARGON2_PASSES_MAX: u32 = 64;

/// For how long a right password is remembered, so that a device that comes again and again costs one check.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// How many are remembered; for one more, the oldest is forgotten.
const REMEMBERED_MAX: usize = 1024;

/// The users of a file. Its `Debug` shows no hash.
pub struct Passwords {
    users: HashMap<Box<str>, Hashed>,
    /// What an unknown user is checked against, so that it costs what the first entry costs.
    first: Hashed,
    is_mixed: bool,
    /// Known to this process alone: without it, what is remembered says nothing about a password.
    key: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
}

/// The hash of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hashed {
    text: Box<str>,
    kind: Kind,
}

/// How a password is hashed, and what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The logarithm of the rounds.
    Bcrypt(u32),
    /// KiB of memory, passes, lanes.
    Argon2id(u32, u32, u32),
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Passwords {
    /// Reads lines of `USER:HASH`. Blank lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// The first line that is none of these, or the file itself if it has no user.
    pub fn parse(text: &str, key: [u8; 32]) -> Result<Passwords, LineError> {
        let mut users: HashMap<Box<str>, Hashed> = HashMap::new();
        let mut first: Option<Hashed> = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |problem: String| LineError { line: Some(index + 1), problem };
            let (user, hash) = line.split_once(':').ok_or_else(|| wrong(format!("it is not USER:HASH: {REMEDY}")))?;
            if !is_name(user) {
                return Err(wrong(
                    "the user is empty, longer than 256 bytes, or has an invisible character: write another one"
                        .to_owned(),
                ));
            }
            let hashed = Hashed::parse(hash).map_err(wrong)?;
            first.get_or_insert_with(|| hashed.clone());
            if users.insert(user.into(), hashed).is_some() {
                return Err(wrong("this user is on an earlier line too: remove one of them".to_owned()));
            }
        }
        let Some(first) = first else {
            let problem = format!("it has no user: {REMEDY}");
            return Err(LineError { line: None, problem });
        };
        let is_mixed = users.values().any(|user| user.kind != first.kind);
        Ok(Passwords { users, first, is_mixed, key, remembered: Mutex::new(HashMap::new()) })
    }

    /// Whether checks cost more for some users than for others, so that the time tells which users there are.
    pub fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    /// The digest of a user's entry, if this password was right for it a moment ago.
    pub fn remembers(&self, user: &str, password: &str, now: Instant) -> Option<[u8; 32]> {
        let at = *self.remembered.lock().get(&self.mark(user, password))?;
        (now.duration_since(at) < REMEMBERED_FOR).then(|| self.users.get(user).map(Hashed::digest)).flatten()
    }

    /// Whether the password is right, for which it takes its time; gives the digest of the user's entry.
    pub fn check(&self, user: &str, password: &str, now: Instant) -> Option<[u8; 32]> {
        let known = self.users.get(user);
        let is_right = known.unwrap_or(&self.first).verify(password);
        let digest = known.filter(|_| is_right).map(Hashed::digest)?;
        let mark = self.mark(user, password);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, at| now.duration_since(*at) < REMEMBERED_FOR);
        }
        if remembered.len() >= REMEMBERED_MAX
            && let Some(oldest) = remembered.iter().min_by_key(|(_, at)| **at).map(|(mark, _)| *mark)
        {
            remembered.remove(&oldest);
        }
        remembered.insert(mark, now);
        Some(digest)
    }

    /// Whether the user's entry still is the one with this digest.
    pub fn holds(&self, user: &str, digest: &[u8; 32]) -> bool {
        self.users.get(user).is_some_and(|own| own.digest() == *digest)
    }

    /// What is remembered of a right password. The user has a fixed length in it, so that no two pairs are the same text.
    fn mark(&self, user: &str, password: &str) -> [u8; 32] {
        let mut sha = Sha256::new();
        sha.update(&self.key);
        sha.update(&sha256(user.as_bytes()));
        sha.update(password.as_bytes());
        sha.finish()
    }
}

const REMEDY: &str = "'htpasswd -B -C 10 FILE USER' makes a line with bcrypt";

impl Hashed {
    fn parse(text: &str) -> Result<Hashed, String> {
        let kind = if ["$2a$", "$2b$", "$2y$"].iter().any(|start| text.starts_with(start)) {
            let parts = bcrypt::HashParts::from_str(text);
            let cost = parts.map_err(|_| format!("this is no whole bcrypt hash: {REMEDY}"))?.get_cost();
            // The library takes none of these for right, and says so at once: for a first entry, that would tell by the time
            // which users there are.
            if cost < BCRYPT_COST_MIN {
                return Err(format!("there is no bcrypt cost of {cost}, the least is {BCRYPT_COST_MIN}: {REMEDY}"));
            }
            if cost > BCRYPT_COST_MAX {
                return Err(format!("a bcrypt cost of {cost} takes too long, {BCRYPT_COST_MAX} is allowed: {REMEDY}"));
            }
            Kind::Bcrypt(cost)
        } else if text.starts_with("$argon2id$") {
            let no_hash = |_| "this is no whole argon2id hash: make it anew".to_owned();
            let hash = PasswordHash::new(text).map_err(no_hash)?;
            let params = Params::try_from(&hash)
                .map_err(|_| "this argon2id hash has no such parameters: make it anew".to_owned())?;
            let (memory, passes) = (params.m_cost(), params.t_cost());
            if hash.hash.is_none() || hash.salt.is_none() {
                return Err("this is no whole argon2id hash: make it anew".to_owned());
            }
            if memory > ARGON2_KIB_MAX || passes > ARGON2_PASSES_MAX {
                return Err(format!(
                    "argon2id with m={memory},t={passes} takes too much, m={ARGON2_KIB_MAX},t={ARGON2_PASSES_MAX} is \
                     allowed: make it anew"
                ));
            }
            Kind::Argon2id(memory, passes, params.p_cost())
        } else {
            return Err(format!("{}, and only bcrypt and argon2id are taken: {REMEDY}", foreign(text)));
        };
        Ok(Hashed { text: text.into(), kind })
    }

    /// Whether this is the password. Both libraries compare in constant time.
    fn verify(&self, password: &str) -> bool {
        match self.kind {
            Kind::Bcrypt(_) => bcrypt::verify(password, &self.text).unwrap_or(false),
            Kind::Argon2id(..) => PasswordHash::new(&self.text)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
        }
    }

    fn digest(&self) -> [u8; 32] {
        sha256(self.text.as_bytes())
    }
}

/// What a hash is that is not taken.
fn foreign(text: &str) -> &'static str {
    for (start, what) in [
        ("$apr1$", "this is Apache's MD5, which is guessed quickly"),
        ("$1$", "this is MD5, which is guessed quickly"),
        ("{SHA}", "this is SHA-1 without a salt, which is guessed at once"),
        ("$5$", "this is SHA-256 crypt"),
        ("$6$", "this is SHA-512 crypt"),
        ("$argon2i$", "this is argon2i"),
        ("$argon2d$", "this is argon2d"),
        ("$2x$", "this is a bcrypt hash of a library with a known defect"),
    ] {
        if text.starts_with(start) {
            return what;
        }
    }
    "this is crypt or a password in the clear"
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher;

    use super::*;

    fn bcrypt(password: &str, cost: u32) -> String {
        bcrypt::hash(password, cost).unwrap()
    }

    fn argon2id(password: &str, memory: u32) -> String {
        let argon2 = Argon2::from(Params::new(memory, 2, 1, None).unwrap());
        argon2.hash_password_with_salt(password.as_bytes(), b"0123456789abcdef").unwrap().to_string()
    }

    fn passwords(text: &str) -> Passwords {
        Passwords::parse(text, [7; 32]).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn a_password_is_right_for_its_own_user_alone() {
        let text = format!("# staff\nada:{}\n\nbob:{}\n", bcrypt("secret", 4), argon2id("hunter2", 64));
        let (users, now) = (passwords(&text), Instant::now());
        assert!(users.is_mixed() && !passwords(&format!("ada:{}", bcrypt("x", 4))).is_mixed());
        for (user, password, expected) in [
            ("ada", "secret", true),
            ("ada", "secre", false),
            ("ada", "hunter2", false),
            ("ada", "", false),
            ("Ada", "secret", false),
            ("bob", "hunter2", true),
            ("bob", "secret", false),
            // What an unknown user is checked against lets nobody in.
            ("eve", "secret", false),
            ("", "secret", false),
        ] {
            assert_eq!(users.check(user, password, now).is_some(), expected, "{user} {password}");
            assert_eq!(users.remembers(user, password, now).is_some(), expected, "{user} {password}");
        }
        let digest = users.check("ada", "secret", now).unwrap();
        assert!(users.holds("ada", &digest) && !users.holds("bob", &digest) && !users.holds("eve", &digest));
    }

    #[test]
    fn a_right_password_is_remembered_for_a_minute_and_only_so_many() {
        let (users, now) = (passwords(&format!("ada:{}", bcrypt("secret", 4))), Instant::now());
        users.check("ada", "secret", now).unwrap();
        let after = |seconds| users.remembers("ada", "secret", now + Duration::from_secs(seconds)).is_some();
        assert_eq!((after(0), after(59), after(60)), (true, true, false));
        assert!(users.remembers("ada", "other", now).is_none() && users.remembers("bob", "secret", now).is_none());
        let mut remembered = users.remembered.lock();
        for number in 0..REMEMBERED_MAX as u32 {
            remembered.insert(sha256(&number.to_le_bytes()), now + Duration::from_millis(1));
        }
        drop(remembered);
        users.check("ada", "secret", now + Duration::from_secs(1)).unwrap();
        assert!(users.remembered.lock().len() <= REMEMBERED_MAX + 1 && after(2));
    }

    #[test]
    fn what_is_no_line_is_told_with_its_number_and_what_to_do() {
        let good = format!("ada:{}", bcrypt("secret", 4));
        let hash = &good[4..];
        for (line, words) in [
            ("bob", "it is not USER:HASH"),
            (":$2y$05$x", "the user is empty"),
            (&format!("bob:{}", &hash[..50]), "no whole bcrypt hash"),
            (&format!("bob:{}", hash.replace("$04$", "$16$")), "a bcrypt cost of 16 takes too long"),
            (&format!("bob:{}", hash.replace("$04$", "$03$")), "there is no bcrypt cost of 3, the least is 4"),
            (&format!("bob:{}", hash.replace("$04$", "$00$")), "there is no bcrypt cost of 0"),
            (&format!("bob:{}", argon2id("x", 64).replace("m=64", "m=1000000")), "takes too much"),
            ("bob:$argon2id$v=19$m=64,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg", "no whole argon2id hash"),
            ("bob:$argon2id$x", "argon2id hash"),
            ("bob:$apr1$z/x$y", "Apache's MD5"),
            ("bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "SHA-1 without a salt"),
            ("bob:$6$salt$hash", "SHA-512 crypt"),
            ("bob:$5$salt$hash", "SHA-256 crypt"),
            ("bob:rqXexS6ZhobKA", "crypt or a password in the clear"),
            ("bob:secret", "crypt or a password in the clear"),
            (&good, "an earlier line too"),
        ] {
            let LineError { line: at, problem } = Passwords::parse(&format!("{good}\n{line}"), [0; 32]).unwrap_err();
            assert!(at == Some(2) && problem.contains(words), "{line}: {at:?} {problem}");
            assert!(!problem.contains("5en6G6") && !problem.contains("secret"), "{problem}");
        }
        assert_eq!(Passwords::parse("#\n", [0; 32]).unwrap_err().line, None);
    }
}
