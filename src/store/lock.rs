//! The lock of a store: a file beside the database that one gateway holds for as long as it uses the store.
//!
//! It is no lock on the database itself. Those belong to the process and not to a descriptor: closing any descriptor of
//! the database, wherever in the process, would give them up.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::Refused;

/// The lock, until it is dropped. Its file stays: to remove it would let two gateways hold two files of one name.
///
/// It also knows how often the store was opened, as the store itself does: one that knows of fewer times is an older copy
/// that was put in its place.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// How often the store was opened, as far as the file says.
    openings: Cell<u64>,
}

/// `PATH.lock`.
pub(super) fn path_of(store: &Path) -> PathBuf {
    beside(store, ".lock")
}

/// What stands beside a store's file, with this added to the name.
pub(super) fn beside(store: &Path, end: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(end);
    path.into()
}

impl Lock {
    /// Takes the lock of the store at this path.
    ///
    /// # Errors
    /// Another gateway has it, or the file cannot be made.
    pub(super) fn take(store: &Path) -> Result<Lock, Refused> {
        let path = path_of(store);
        let no = |error: io::Error| Refused::by_system(&path, "open the lock of the store", &error);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(no)?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            let error = io::Error::from(error);
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(no(error));
            }
            let process =
                Noted::read(&mut file).process.map(|number| format!(" (process {number})")).unwrap_or_default();
            let advice = "give each gateway its own store, or stop the other one";
            return Err(Refused::new(store, format!("another wsgate uses this store{process}: {advice}")));
        }
        let openings = Noted::read(&mut file).openings.unwrap_or(0);
        let lock = Lock { file, openings: Cell::new(openings) };
        // For people: the lock holds without it, on a full disk too.
        let _ = lock.write(openings);
        Ok(lock)
    }

    /// How often the store was opened; 0 if nobody knows.
    pub(super) fn openings(&self) -> u64 {
        self.openings.get()
    }

    /// Notes how often it was opened.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn note_openings(&self, openings: u64) -> io::Result<()> {
        self.openings.set(openings);
        self.write(openings)?;
        self.file.sync_data()
    }

    /// In place: a note that was cut short by a full disk says less than one that was not, and never something else.
    fn write(&self, openings: u64) -> io::Result<()> {
        let note = format!("{}\n{openings}\n", std::process::id());
        self.file.write_all_at(note.as_bytes(), 0)?;
        self.file.set_len(note.len() as u64)
    }
}

/// The number of the process that holds the lock of this store, as far as can be seen without touching the lock: to take
/// it, even for a moment, could keep a gateway from starting. Numbers are those of our own name space.
pub(super) fn holder(store: &Path) -> Option<u32> {
    let mut file = File::open(path_of(store)).ok()?;
    let place = file.metadata().ok()?;
    let (device, inode) = (place.dev(), place.ino());
    let place_in_locks = format!("{:02x}:{:02x}:{inode}", rustix::fs::major(device), rustix::fs::minor(device));
    // proc(5): "1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF".
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let is_held = locks
        .lines()
        .any(|line| line.contains(" FLOCK ") && line.split_whitespace().any(|word| word == place_in_locks));
    is_held.then(|| Noted::read(&mut file).process).flatten()
}

/// What the file of a lock says. A holder that has just taken it may not have written it yet.
struct Noted {
    process: Option<u32>,
    openings: Option<u64>,
}

impl Noted {
    fn read(file: &mut File) -> Noted {
        let mut text = String::new();
        // What cannot be read says nothing.
        let _ = file.read_to_string(&mut text);
        let mut lines = text.lines();
        Noted {
            process: lines.next().and_then(|line| line.parse().ok()),
            openings: lines.next().and_then(|line| line.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d12_a_store_has_one_lock_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("readings.db");
        let first = Lock::take(&store).unwrap();
        let second = Lock::take(&store).unwrap_err().to_string();
        assert!(
            second.contains(&format!("another wsgate uses this store (process {})", std::process::id())),
            "{second}"
        );
        assert_eq!(holder(&store), Some(std::process::id()));
        drop(first);
        assert_eq!(holder(&store), None);
        Lock::take(&store).unwrap();
    }
}
