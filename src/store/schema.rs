//! The tables of a store, their version, and how a file is told from others. `docs/stores.md` describes them for those who
//! read them: what is there stays, with its meaning, as long as the version does.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::error::{Refused, Trouble};

/// `PRAGMA application_id` of a store: "wsgt".
const APPLICATION_ID: i32 = 0x7773_6774;

/// `PRAGMA user_version`: which tables there are. A file of a later one is left alone.
const VERSION: i32 = 1;

/// Bytes of the header of a database.
const HEADER: usize = 100;

const TABLES: &str = "
    CREATE TABLE store (
        origin TEXT NOT NULL,
        next_seq INTEGER NOT NULL,
        opened_as TEXT,
        openings INTEGER NOT NULL,
        file TEXT
    );
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        received TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        room TEXT,
        session TEXT NOT NULL,
        address TEXT,
        identity TEXT,
        kind TEXT NOT NULL,
        payload BLOB NOT NULL,
        origin TEXT,
        origin_seq INTEGER
    );
    CREATE INDEX messages_by_room ON messages (room);";

/// A new file gets these before anything else: they cannot be changed later.
const AT_BIRTH: &str = "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;";

/// Why the tables are not there.
#[derive(Debug)]
pub enum Unusable {
    /// The file is not for us; it was left as it is.
    Refused(Refused),
    /// It may be later.
    Trouble(Trouble),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Unusable {
        Unusable::Trouble(error.into())
    }
}

/// Looks whether there is a store at this path.
pub(super) fn check_file(path: &Path) -> Result<(), Refused> {
    let file = File::open(path).map_err(|error| Refused::by_system(path, "open the store", &error))?;
    check_header(path, &file)
}

/// Looks at the header of a file that was there (<https://www.sqlite.org/fileformat.html>, section 1.3), without SQLite:
/// it would touch what is beside the file.
pub(super) fn check_header(path: &Path, file: &File) -> Result<(), Refused> {
    let header = read_header(file).map_err(|error| Refused::by_system(path, "read the store", &error))?;
    if header.is_empty() {
        return Ok(());
    }
    if header.len() < HEADER || !header.starts_with(b"SQLite format 3\0") {
        return Err(Refused::new(path, "this file is no SQLite database, and was left as it is: choose another path"));
    }
    let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    check_version(path, number(68), number(60))
}

fn read_header(file: &File) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    file.take(HEADER as u64).read_to_end(&mut header).map(|_| header)
}

fn check_version(path: &Path, application_id: i32, version: i32) -> Result<(), Refused> {
    match (application_id, version) {
        (APPLICATION_ID, ..=VERSION) => Ok(()),
        (APPLICATION_ID, version) => Err(Refused::new(
            path,
            format!(
                "a newer wsgate has made this store (its version is {version}, and this wsgate knows {VERSION}), and it was \
                 left as it is: install that wsgate, or choose another path"
            ),
        )),
        // The tables of one that was just born may still be in its write-ahead log.
        (0, 0) => Ok(()),
        _ => Err(of_another_program(path)),
    }
}

/// Makes the tables in an empty file; one that has some must have ours.
pub(super) fn prepare(connection: &Connection, path: &Path, new_origin: &str) -> Result<(), Unusable> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let first = connection.query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| row.get::<_, String>(0));
    let is_empty = first.optional()?.is_none();
    if !is_empty {
        let application_id = pragma("application_id")?;
        check_version(path, application_id, pragma("user_version")?).map_err(Unusable::Refused)?;
        if application_id != APPLICATION_ID {
            return Err(Unusable::Refused(of_another_program(path)));
        }
    }
    connection.execute_batch(AT_BIRTH)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let why = "its file system allows no write-ahead log: choose a path on a local disk";
        return Err(Unusable::Refused(Refused::new(path, why)));
    }
    if is_empty {
        create(connection, new_origin)?;
    }
    Ok(())
}

fn of_another_program(path: &Path) -> Refused {
    Refused::new(path, "this is the database of another program, and was left as it is: choose another path")
}

fn create(connection: &Connection, origin: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} INSERT INTO store (origin, next_seq, openings) VALUES ('{origin}', 1, 0); \
         PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    ))
}
