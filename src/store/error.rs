//! What can be wrong with a store's file, in words that say what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::display;

/// Why a store cannot be used with these settings. Nothing of it was changed.
#[derive(Debug)]
pub struct Refused {
    path: PathBuf,
    why: String,
}

impl Refused {
    pub(super) fn new(path: &Path, why: impl Into<String>) -> Refused {
        Refused { path: path.to_owned(), why: why.into() }
    }

    /// That the system did not do this to it.
    pub(super) fn by_system(path: &Path, what: &str, error: &io::Error) -> Refused {
        Refused::new(path, format!("failed to {what}: {}", display::cause(error)))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}': {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Refused {}

/// What keeps a store from storing right now. Nothing of what it was to store is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room: on the file system, or within `wal_limit`.
    Full(String),
    /// Another program has locked the file.
    Locked(String),
    /// What SQLite reads is not what it once wrote.
    Damaged(String),
    /// The system failed to read, write or sync. What was not synced may be gone although it can still be read.
    Failed(String),
}

impl Trouble {
    /// What SQLite says, in our words.
    pub(super) fn of(error: &rusqlite::Error) -> Trouble {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Trouble::Full("no space is left for it".to_owned()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Trouble::Locked("another program has locked its file".to_owned())
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged(text),
            _ => Trouble::Failed(text),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Full(why) | Trouble::Locked(why) | Trouble::Damaged(why) | Trouble::Failed(why) => {
                f.write_str(why)
            }
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        Trouble::of(&error)
    }
}
