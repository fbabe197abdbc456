//! What is wrong with a file of credentials, and reading one.

use std::fmt;
use std::io;
use std::path::Path;

use crate::display::cause;
use crate::reload::read_file;

/// What a file holds that it must not, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// The line, from 1; `None` is the file as a whole.
    pub line: Option<usize>,
    /// It goes on after `line N: `. It shows nothing of the file.
    pub problem: String,
}

/// Why a file of credentials cannot be used. Shown, it goes on after the name of the file.
#[derive(Debug)]
pub enum FileError {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is not text.
    NotText,
    /// It does not hold what it has to.
    Content(LineError),
}

/// The text of a file, without the mark that editors on Windows put in front of UTF-8.
pub fn read(path: &Path) -> Result<String, FileError> {
    let bytes = read_file(path).map_err(FileError::Unreadable)?;
    let mut text = String::from_utf8(bytes).map_err(|_| FileError::NotText)?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

const BYTE_ORDER_MARK: char = '\u{feff}';

impl From<LineError> for FileError {
    fn from(error: LineError) -> FileError {
        FileError::Content(error)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Unreadable(error) => {
                let cause = if error.kind() == io::ErrorKind::NotFound { "no such file".into() } else { cause(error) };
                write!(f, "which cannot be read: {cause} (check path and permissions)")
            }
            FileError::NotText => f.write_str("which is not UTF-8 text: check that it is the right file"),
            FileError::Content(LineError { line: Some(line), problem }) => {
                write!(f, "which is wrong on line {line}: {problem}")
            }
            FileError::Content(LineError { line: None, problem }) => write!(f, "which is wrong: {problem}"),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FileError::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_the_byte_order_is_no_part_of_the_text() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users.txt");
        for (written, text) in [("\u{feff}ada:x", "ada:x"), ("ada:\u{feff}x", "ada:\u{feff}x"), ("\u{feff}", "")] {
            std::fs::write(&file, written).unwrap();
            assert_eq!(read(&file).unwrap(), text);
        }
    }
}
