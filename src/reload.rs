//! Files that settings name and that are read again while wsgate runs: all of them, or none.
//!
//! Whatever keeps the content of such a file implements [`Reloadable`]; `Gateway::reload` finds it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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

/// What came of a reload: what is in force now, or everything that is wrong, and nothing has changed.
pub type Reloaded = Result<Vec<String>, Vec<String>>;

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
