//! A disk that loses power: it knows which writes a sync has covered, and rebuilds the files as they could be found when
//! the power is back.
//!
//! What a sync has covered is there. Of the rest any part may be: whole writes, single sectors, nothing. A name is there
//! when the directory was synced after it was made or changed; such changes become durable in their order. What was
//! written before a sync that *failed* is covered by no later sync: the kernel takes those pages for clean
//! (<https://wiki.postgresql.org/wiki/Fsync_Errors>).

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Dice;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// The length of a record's head in the trace; `disk.c` describes it.
const HEAD: usize = 17;

/// The files of one directory, seen by `disk.c`.
pub(crate) struct Disk {
    /// The directory.
    pub(crate) directory: PathBuf,
    trace: PathBuf,
    library: PathBuf,
}

impl Disk {
    /// Makes an empty directory below this one, and compiles the library that watches it.
    pub(crate) fn below(parent: &Path) -> Disk {
        let parent = parent.canonicalize().unwrap();
        let [directory, trace, library] = ["disk", "disk.trace", "disk.so"].map(|name| parent.join(name));
        fs::create_dir(&directory).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/harness/disk.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Disk { directory, trace, library }
    }

    /// The program of this command uses the disk. `failing` names the syncs that fail: `"NAME:N"`, with commas.
    pub(crate) fn watch(&self, command: &mut Command, failing: &str) {
        command.env("LD_PRELOAD", &self.library).env("DISK_DIRECTORY", &self.directory);
        command.env("DISK_TRACE", &self.trace).env("DISK_FAIL", failing);
    }

    /// The moment that is now: what happened to the files so far is before it.
    pub(crate) fn now(&self) -> u64 {
        fs::metadata(&self.trace).map_or(0, |metadata| metadata.len())
    }

    /// What has happened to the files, for a program that has ended.
    pub(crate) fn history(&self) -> History {
        let trace = fs::read(&self.trace).unwrap();
        History { trace, at: 0, files: Vec::new(), names: Vec::new(), changes: Vec::new(), failed: 0 }
    }
}

/// What happened to the files, up to one moment.
pub(crate) struct History {
    trace: Vec<u8>,
    at: usize,
    /// By their number less one.
    files: Vec<File>,
    /// The names that a sync of the directory has covered.
    names: Vec<(String, usize)>,
    /// What has changed since, in order.
    changes: Vec<Change>,
    failed: usize,
}

/// A file: the content that is durable, and what was done to it since.
#[derive(Default)]
struct File {
    durable: Vec<u8>,
    rest: Vec<Write>,
}

struct Write {
    what: What,
    fate: Fate,
}

/// What was done to a file; bytes are a part of the trace.
enum What {
    Bytes { offset: usize, bytes: Range<usize> },
    Length(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The next sync covers it.
    Waits,
    /// A sync has covered it.
    Durable,
    /// A sync has failed: no other one covers it.
    Lost,
}

enum Change {
    Made(String, usize),
    Removed(String),
    Renamed(String, String),
}

/// How much of what no sync has covered is found.
#[derive(Debug, Clone, Copy)]
enum Found {
    Nothing,
    WholeWrites,
    Sectors,
    Everything,
}

impl History {
    /// The moments between two events, in order.
    pub(crate) fn moments(&self) -> Vec<u64> {
        let (mut at, mut moments) = (0, Vec::new());
        while let Some(record) = self.record(at) {
            at = record.end;
            moments.push(at as u64);
        }
        moments
    }

    /// How many syncs have failed so far.
    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    /// Goes on to this moment, which is no earlier than the last one.
    pub(crate) fn go_on_to(&mut self, moment: u64) {
        while let Some(record) = self.record(self.at).filter(|record| record.end as u64 <= moment) {
            self.at = record.end;
            self.apply(record);
        }
    }

    fn record(&self, at: usize) -> Option<Record> {
        let head = self.trace.get(at..at + HEAD)?;
        let file = u32::from_le_bytes(head[1..5].try_into().unwrap()) as usize;
        let number = u64::from_le_bytes(head[5..13].try_into().unwrap()) as usize;
        let length = u32::from_le_bytes(head[13..17].try_into().unwrap()) as usize;
        // A process that was killed may have left a part of its last record.
        let end = at + HEAD + length;
        (end <= self.trace.len()).then_some(Record { kind: head[0], file, number, bytes: at + HEAD..end, end })
    }

    fn apply(&mut self, record: Record) {
        let text = || String::from_utf8(self.trace[record.bytes.clone()].to_vec()).unwrap();
        match record.kind {
            b'O' => {
                self.changes.push(Change::Made(text(), record.file));
                self.files.push(File::default());
                assert_eq!(self.files.len(), record.file, "files have numbers in order");
            }
            b'U' => self.changes.push(Change::Removed(text())),
            b'R' => {
                let both = text();
                let (from, to) = both.split_once('\0').unwrap();
                self.changes.push(Change::Renamed(from.to_owned(), to.to_owned()));
            }
            b'D' => self.changes.drain(..).for_each(|change| change.apply(&mut self.names)),
            b'W' => self.wrote(record.file, What::Bytes { offset: record.number, bytes: record.bytes }),
            b'T' => self.wrote(record.file, What::Length(record.number)),
            b'S' => self.files[record.file - 1].end_waiting(Fate::Durable, &self.trace),
            b'F' => {
                self.failed += 1;
                self.files[record.file - 1].end_waiting(Fate::Lost, &self.trace);
            }
            kind => panic!("the trace has a record of the kind {kind}"),
        }
    }

    fn wrote(&mut self, file: usize, what: What) {
        self.files[file - 1].rest.push(Write { what, fate: Fate::Waits });
    }

    /// Leaves in this directory what a loss of power at this moment could have left there. A file that is there already is
    /// written in place: it is still the same one, with other content.
    pub(crate) fn lose_power(&self, dice: &mut Dice, into: &Path) -> String {
        let kept = dice.below(self.changes.len() as u64 + 1) as usize;
        let mut names = self.names.clone();
        self.changes[..kept].iter().for_each(|change| change.apply(&mut names));
        let found = [Found::Nothing, Found::WholeWrites, Found::Sectors, Found::Everything][dice.below(4) as usize];
        for entry in fs::read_dir(into).unwrap() {
            let entry = entry.unwrap();
            if !names.iter().any(|(name, _)| *entry.file_name() == **name) {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        for (name, file) in &names {
            fs::write(into.join(name), self.files[file - 1].found(found, dice, &self.trace)).unwrap();
        }
        let uncovered: usize = self.files.iter().map(|file| file.rest.len()).sum();
        format!("{found:?} of {uncovered} writes, {kept} of {} changed names", self.changes.len())
    }
}

struct Record {
    kind: u8,
    file: usize,
    number: usize,
    bytes: Range<usize>,
    end: usize,
}

impl Change {
    fn apply(&self, names: &mut Vec<(String, usize)>) {
        let remove = |names: &mut Vec<(String, usize)>, gone: &str| {
            let at = names.iter().position(|(name, _)| name == gone);
            at.map(|at| names.remove(at).1)
        };
        match self {
            Change::Made(name, file) => names.push((name.clone(), *file)),
            Change::Removed(name) => drop(remove(names, name)),
            Change::Renamed(from, to) => {
                remove(names, to);
                let file = remove(names, from);
                names.extend(file.map(|file| (to.clone(), file)));
            }
        }
    }
}

impl File {
    /// A sync has returned. What it has covered, behind nothing that may be missing, is the durable content.
    fn end_waiting(&mut self, fate: Fate, trace: &[u8]) {
        self.rest.iter_mut().filter(|write| write.fate == Fate::Waits).for_each(|write| write.fate = fate);
        let covered = self.rest.iter().take_while(|write| write.fate == Fate::Durable).count();
        for write in self.rest.drain(..covered) {
            write.what.apply(&mut self.durable, trace, |_| true);
        }
    }

    fn found(&self, found: Found, dice: &mut Dice, trace: &[u8]) -> Vec<u8> {
        let mut content = self.durable.clone();
        for write in &self.rest {
            let is_found = match found {
                Found::Nothing => false,
                Found::WholeWrites => dice.below(2) == 0,
                Found::Sectors | Found::Everything => true,
            };
            if write.fate == Fate::Durable {
                write.what.apply(&mut content, trace, |_| true);
            } else if is_found {
                let is_torn = matches!(found, Found::Sectors);
                // The sectors of a page that two writes share are found or not, each for itself.
                write.what.apply(&mut content, trace, |_| !is_torn || dice.below(2) == 0);
            }
        }
        content
    }
}

impl What {
    /// Does it to this content; bytes only in those sectors of the file that are there.
    fn apply(&self, content: &mut Vec<u8>, trace: &[u8], mut is_there: impl FnMut(usize) -> bool) {
        match self {
            What::Length(length) => {
                if is_there(0) {
                    content.resize(*length, 0);
                }
            }
            What::Bytes { offset, bytes } => {
                let (mut at, bytes) = (*offset, &trace[bytes.clone()]);
                let end = at + bytes.len();
                while at < end {
                    let next = (at / SECTOR + 1) * SECTOR;
                    let next = next.min(end);
                    if is_there(at / SECTOR) {
                        content.resize(content.len().max(next), 0);
                        content[at..next].copy_from_slice(&bytes[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
        }
    }
}
