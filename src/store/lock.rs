//! The lock of a store: a file beside the database that one gateway holds for as long as it uses the store.
//!
//! It is no lock on the database itself. Those belong to the process and not to a descriptor: closing any descriptor of
//! the database, wherever in the process, would give them up.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::Refused;

/// The lock, until it is dropped. Its file stays: to remove it would let two gateways hold two files of one name.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
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
            let mut holder = String::new();
            // Whoever has just taken it may not have written its number yet.
            let _ = file.read_to_string(&mut holder);
            let process = match holder.trim() {
                "" => String::new(),
                number => format!(" (process {number})"),
            };
            let advice = "give each gateway its own store, or stop the other one";
            return Err(Refused::new(store, format!("another wsgate uses this store{process}: {advice}")));
        }
        let note = format!("{}\n", std::process::id());
        // For people: the lock holds without it, on a full disk too.
        let _ =
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(note.as_bytes()));
        Ok(Lock { _file: file })
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
        drop(first);
        Lock::take(&store).unwrap();
    }
}
