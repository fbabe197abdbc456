//! What is wrong with a configuration: the mistakes found in it, each with its place.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fmt, io};

/// Why there are no settings. Nothing was changed; the operator corrects the file and tries again.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Its path as it was given.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file can be read and is wrong.
    Mistakes {
        /// The file's name as it was given.
        file: String,
        /// At least one, in the order of their places in the file.
        mistakes: Vec<Mistake>,
        /// Whether the whole file was read. Some slips, as a list that does not end, hide what follows.
        complete: bool,
    },
}

/// One thing to correct in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to do. It shows values as they stand in the file, `${NAME}` for what
    /// comes from the environment; only paths, names and addresses appear with their variables in place.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { file, source } => {
                write!(f, "failed to read configuration {file:?}: {}", cause(source))?;
                if source.kind() == io::ErrorKind::NotFound {
                    f.write_str(" (check the path, or leave --config out to use the built-in defaults)")?;
                }
                Ok(())
            }
            ConfigError::Mistakes { file, mistakes, complete } => {
                for Mistake { line, column, text } in mistakes {
                    writeln!(f, "{file}:{line}:{column}: {text}")?;
                }
                match mistakes.len() {
                    1 => f.write_str("1 mistake found")?,
                    n => write!(f, "{n} mistakes found")?,
                }
                f.write_str(if *complete { "" } else { "; the values are checked when this is corrected" })
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Unreadable { source, .. } => Some(source),
            ConfigError::Mistakes { .. } => None,
        }
    }
}

/// The cause in plain words where there are some.
pub(super) fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// How variables of the environment are looked up; tests bring their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Result<String, env::VarError>;

/// What every step of reading shares: the text, the environment and the mistakes found so far.
pub(super) struct Report<'a> {
    text: &'a str,
    /// Where each line begins: a file may have thousands of lines and of mistakes.
    line_starts: Vec<usize>,
    pub(super) environment: Environment<'a>,
    /// Whether everybody on this machine can read the file.
    pub(super) is_for_everybody: bool,
    // A cell, so that the many small readers need no exclusive borrow of what they share.
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<Mistake>>,
    broken_lines: RefCell<BTreeSet<usize>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str, environment: Environment<'a>) -> Report<'a> {
        let behind_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Report {
            text,
            line_starts: std::iter::once(0).chain(behind_ends).collect(),
            environment,
            is_for_everybody: false,
            mistakes: RefCell::default(),
            warnings: RefCell::default(),
            broken_lines: RefCell::default(),
        }
    }

    /// The same, of a file that everybody on this machine can read or not.
    pub(super) fn read_by_everybody(self, is_for_everybody: bool) -> Report<'a> {
        Report { is_for_everybody, ..self }
    }

    /// Records that something is wrong at this byte of the text.
    pub(super) fn mistake(&self, at: usize, text: impl Into<String>) {
        let (line, column) = self.position(at);
        if !self.broken_lines.borrow().contains(&line) {
            self.mistakes.borrow_mut().push(Mistake { line, column, text: text.into() });
        }
    }

    /// Records that something at this byte of the text is probably not what was meant, although it means something.
    pub(super) fn warning(&self, at: usize, text: impl Into<String>) {
        let (line, column) = self.position(at);
        self.warnings.borrow_mut().push(Mistake { line, column, text: text.into() });
    }

    /// Records that the line of this byte is not TOML. Whatever else is found wrong with the line
    /// would be wrong about what was meant, so this stays its only mistake.
    pub(super) fn broken_line(&self, at: usize, text: impl Into<String>) {
        self.mistake(at, text);
        self.broken_lines.borrow_mut().insert(self.line(at));
    }

    /// The line of this byte of the text, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.position(at).0
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= at);
        // Bytes, because nobody promises that the parser's places are between characters.
        let before = &self.text.as_bytes()[self.line_starts[line - 1]..at];
        let before = before.strip_prefix("\u{feff}".as_bytes()).unwrap_or(before);
        let starts_character = |byte: &&u8| **byte & 0xc0 != 0x80;
        (line, before.iter().filter(starts_character).count() + 1)
    }

    /// Ends the reading: the mistakes by position, each once.
    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.into_findings().0
    }

    /// The same, and the warnings.
    pub(super) fn into_findings(self) -> (Vec<Mistake>, Vec<Mistake>) {
        let sorted = |found: RefCell<Vec<Mistake>>| {
            let mut found = found.into_inner();
            found.sort();
            found.dedup();
            found
        };
        (sorted(self.mistakes), sorted(self.warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters_from_one() {
        let text = "a\nüb\r\n\n";
        let report = Report::new(text, &|_| Err(env::VarError::NotPresent));
        let cases = [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (3, (2, 2)), (4, (2, 2)), (8, (4, 1)), (99, (4, 1))];
        for (at, position) in cases {
            assert_eq!(report.position(at), position, "{at}");
        }
    }

    #[test]
    fn a_missing_file_is_named_with_what_to_do() {
        let error = ConfigError::Unreadable { file: "x.toml".into(), source: io::Error::from(io::ErrorKind::NotFound) };
        assert_eq!(
            error.to_string(),
            "failed to read configuration \"x.toml\": no such file \
             (check the path, or leave --config out to use the built-in defaults)"
        );
    }
}
