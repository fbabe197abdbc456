//! Files that settings name and that are read again while wsgate runs: all of them, or none.
//!
//! Whatever keeps the content of such a file implements [`Reloadable`], and `Gateway::start` adds it to the [`Reloads`].

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::OFlags;

/// The longest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// Something that was read from files and can be read from them again.
pub trait Reloadable: fmt::Debug + Send + Sync {
    /// Reads its files and checks them as a start does, and changes nothing yet.
    ///
    /// # Errors
    /// What is wrong, for the log: whose file it is, its path in single quotes, the line in it if it has lines, and what
    /// to do. Values of the file, which may be secret, are not in it.
    fn read_again(&self) -> Result<Fresh, String>;
}

/// What was read and is not in force yet.
pub struct Fresh {
    /// What it is, for the log: `listener "main": the certificate of 'server.pem', serial 1F, until May 1 ...`.
    pub what: String,
    /// Puts it in force. It cannot fail and waits for nothing: others may already have done the same.
    pub apply: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").field("what", &self.what).finish_non_exhaustive()
    }
}

/// Everything that is read again together.
#[derive(Debug)]
pub struct Reloads {
    all: Vec<Arc<dyn Reloadable>>,
    /// One can wait while another one is done; whoever asks for a third is told so.
    asked: (Sender<ReloadRequest>, Receiver<ReloadRequest>),
}

impl Default for Reloads {
    fn default() -> Reloads {
        Reloads { all: Vec::new(), asked: crossbeam_channel::bounded(1) }
    }
}

impl Reloads {
    /// Adds one more.
    pub fn add(&mut self, reloadable: Arc<dyn Reloadable>) {
        self.all.push(reloadable);
    }

    /// Where others ask for a reload.
    pub fn asking(&self) -> Sender<ReloadRequest> {
        self.asked.0.clone()
    }

    /// The reloads that others ask for; each is to be done and answered.
    pub fn asked(&self) -> &Receiver<ReloadRequest> {
        &self.asked.1
    }

    /// Reads everything again and puts all of it in force; returns what it was.
    ///
    /// # Errors
    /// Everything that is wrong. Nothing has changed then.
    pub fn run(&self) -> Result<Vec<String>, Vec<String>> {
        let (mut fresh, mut wrong) = (Vec::new(), Vec::new());
        for reloadable in &self.all {
            match reloadable.read_again() {
                Ok(one) => fresh.push(one),
                Err(problem) => wrong.push(problem),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let apply = |one: Fresh| {
            (one.apply)();
            one.what
        };
        Ok(fresh.into_iter().map(apply).collect())
    }
}

/// What came of a reload: what is in force now, or everything that is wrong, and nothing has changed.
pub type Reloaded = Result<Vec<String>, Vec<String>>;

/// A reload that somebody waits for.
#[derive(Debug)]
pub struct ReloadRequest {
    answer: Sender<Reloaded>,
}

impl ReloadRequest {
    /// A request, and where its answer comes; without one if the gateway ends before.
    pub fn new() -> (ReloadRequest, Receiver<Reloaded>) {
        let (answer, answered) = crossbeam_channel::bounded(1);
        (ReloadRequest { answer }, answered)
    }

    /// Tells whoever waits for it, if that one still does.
    pub fn answer(self, reloaded: Reloaded) {
        let _ = self.answer.send(reloaded);
    }
}

/// Reads a whole file, at most 64 MiB. It never waits, also not for whoever writes into a pipe.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let mut content = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("it is longer than {} MiB", FILE_MAX >> 20)));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    /// Has a number, and reads another one.
    #[derive(Debug)]
    struct Number {
        now: Arc<Mutex<u32>>,
        file: Result<u32, &'static str>,
    }

    impl Reloadable for Number {
        fn read_again(&self) -> Result<Fresh, String> {
            let (new, now) = (self.file?, Arc::clone(&self.now));
            Ok(Fresh { what: new.to_string(), apply: Box::new(move || *now.lock() = new) })
        }
    }

    #[test]
    fn r1_all_are_put_in_force_or_none() {
        for (files, result, expected) in [
            ([Ok(3), Ok(4)], Ok(vec!["3".to_owned(), "4".to_owned()]), [3, 4]),
            ([Ok(3), Err("bad")], Err(vec!["bad".to_owned()]), [1, 1]),
            ([Err("bad"), Ok(4)], Err(vec!["bad".to_owned()]), [1, 1]),
            ([Err("bad"), Err("worse")], Err(vec!["bad".to_owned(), "worse".to_owned()]), [1, 1]),
        ] {
            let now = [1, 1].map(|number| Arc::new(Mutex::new(number)));
            let mut reloads = Reloads::default();
            for (now, file) in now.iter().zip(files) {
                reloads.add(Arc::new(Number { now: Arc::clone(now), file }));
            }
            assert_eq!(reloads.run(), result);
            assert_eq!(now.map(|now| *now.lock()), expected);
        }
    }

    #[test]
    fn r1_what_is_no_file_of_some_length_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read_file(directory.path()).is_err());
        assert!(read_file(Path::new("/dev/zero")).unwrap_err().to_string().contains("longer than 64 MiB"));
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(read_file(&pipe).unwrap(), b"", "nobody writes into it");
    }
}
