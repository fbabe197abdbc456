//! The one connection that writes a store's file.
//!
//! What a commit has acknowledged by returning is synced (with `durability = "disk"`). What it has not may be in the
//! file all the same: the system can fail to sync what it has written, forget that it has, and still show it to whoever
//! reads. So after a failure a batch counts as not stored: the next commit deletes whatever there is of it and writes it
//! anew. And a file is opened by copying its whole write-ahead log into the database, with a sync, and beginning an
//! empty log. Otherwise what is appended later would stand behind pages that were never synced, and get lost with them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Statement};

use super::error::{Refused, Trouble};
use super::place::Place;
use super::record::Batch;
use super::schema::{self, Unusable};
use crate::config::Durability;
use crate::display::cause;
use crate::message::Kind;

/// How long SQLite itself waits for the lock of another program.
pub(super) const BUSY: Duration = Duration::from_millis(250);

/// The write-ahead log is copied into the database when about this much was written to it: in small steps, since nothing
/// is stored meanwhile.
const CHECKPOINT: u64 = 4 << 20;

/// What a commit writes besides messages: the pages that it changes in part.
const COMMIT: u64 = 4 * 4096;

/// About what a message takes besides its payload: the other columns, and its place in the index.
const ROW: u64 = 128;

/// To how much the write-ahead log is shortened when it begins anew.
const WAL_KEPT: u64 = 16 << 20;

const INSERT: &str = "INSERT INTO messages (seq, received, endpoint, room, session, address, identity, kind, payload) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// See the module's documentation.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    origin: String,
    /// The number of the next message.
    next: u64,
    /// A commit has failed, so the file may have messages that do not count.
    is_doubtful: bool,
    /// About how many bytes of the write-ahead log are not in the database.
    logged: u64,
}

/// What is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// The lowest and the highest number there is, if there is any.
    pub numbers: Option<(u64, u64)>,
}

impl Contents {
    /// About how many messages there are: exactly, unless somebody has deleted some in between.
    pub fn messages(&self) -> u64 {
        self.numbers.map_or(0, |(first, last)| last - first + 1)
    }
}

/// What a store's file says of its past.
struct State {
    /// The durability with which it was opened; `None` if it was closed in order.
    opened_as: Option<String>,
    /// How often it was opened and closed.
    openings: u64,
    /// Which file it was then.
    file: Option<String>,
}

impl State {
    /// Whether it has all messages that were ever given a number under its origin, unless retention has removed them.
    fn is_complete(&self, place: &Place) -> bool {
        let is_new = self.openings == 0;
        let is_copy = self.file != place.file_id() || self.openings < place.lock().openings();
        is_new || (!is_copy && self.opened_as.as_deref() != Some(Durability::Os.word()))
    }
}

impl Writer {
    /// Opens the file at this place, and makes its tables if it is empty.
    ///
    /// # Errors
    /// Nothing of the file was changed if it is not for us; it may be possible later if something is in the way.
    pub fn open(place: &Place, durability: Durability) -> Result<Writer, Unusable> {
        let new_origin = new_origin().map_err(Unusable::Trouble)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(place.path(), flags)?;
        connection.busy_timeout(BUSY)?;
        schema::prepare(&connection, place.path(), &new_origin)?;
        connection.execute_batch(&format!(
            "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = {WAL_KEPT}; PRAGMA cache_size = -8192; \
             PRAGMA temp_store = MEMORY;"
        ))?;
        let mut writer = Writer { connection, origin: String::new(), next: 0, is_doubtful: false, logged: 0 };
        writer.set_durability(durability)?;
        writer.begin_log().map_err(Unusable::Trouble)?;
        writer.begin(place, durability, &new_origin).map_err(Unusable::Trouble)?;
        Ok(writer)
    }

    /// The same for a store of which nothing is known yet: what is in the way is not said, since it is found again.
    ///
    /// # Errors
    /// The file is not for us.
    pub fn open_if_possible(place: &Place, durability: Durability) -> Result<Option<Writer>, Refused> {
        match Writer::open(place, durability) {
            Ok(writer) => Ok(Some(writer)),
            Err(Unusable::Refused(refused)) => Err(refused),
            Err(Unusable::Trouble(_)) => Ok(None),
        }
    }

    /// Finds out where the numbers go on, and notes that the file is in use.
    ///
    /// A store gets another origin, and its numbers another meaning, if it may lack messages whose numbers others know: a
    /// copy, an older copy that was put back, and one that was not synced and not [closed](Writer::close).
    fn begin(&mut self, place: &Place, durability: Durability, new_origin: &str) -> Result<(), Trouble> {
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let (origin, next, state) =
            transaction.query_row("SELECT origin, next_seq, opened_as, openings, file FROM store", [], |row| {
                let state = State { opened_as: row.get(2)?, openings: row.get(3)?, file: row.get(4)? };
                Ok((row.get(0)?, row.get::<_, u64>(1)?, state))
            })?;
        let last: Option<u64> = transaction.query_row("SELECT max(seq) FROM messages", [], |row| row.get(0))?;
        self.next = next.max(last.map_or(1, |last| last + 1));
        self.origin = if state.is_complete(place) { origin } else { new_origin.to_owned() };
        let openings = state.openings.max(place.lock().openings()) + 1;
        transaction.execute(
            "UPDATE store SET origin = ?1, next_seq = ?2, opened_as = ?3, openings = ?4, file = ?5",
            (&self.origin, self.next, durability.word(), openings, place.file_id()),
        )?;
        transaction.commit()?;
        // Not before: a note that is ahead of the store would make it another one.
        place.lock().note_openings(openings).map_err(|error| Trouble::Failed(cause(&error)))
    }

    /// Which store this is: 16 hex digits.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether a commit waits for the disk from now on.
    pub fn set_durability(&self, durability: Durability) -> rusqlite::Result<()> {
        let synchronous = match durability {
            Durability::Disk => "FULL",
            Durability::Os => "NORMAL",
        };
        self.connection.execute_batch(&format!("PRAGMA synchronous = {synchronous}"))
    }

    /// Stores these messages, all or none, and returns the number of the first. The others have the next ones.
    ///
    /// # Errors
    /// None of them counts as stored.
    pub fn commit(&mut self, batches: &[Batch]) -> Result<u64, Trouble> {
        match self.try_commit(batches) {
            Ok(messages) => {
                let first = self.next;
                self.next += messages;
                self.is_doubtful = false;
                let bytes: usize = batches.iter().map(Batch::bytes).sum();
                self.logged += COMMIT + bytes as u64 + messages * ROW;
                Ok(first)
            }
            Err(error) => {
                self.is_doubtful = true;
                if !self.connection.is_autocommit() {
                    // If even this fails, the next commit begins with the same error.
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                Err(error.into())
            }
        }
    }

    fn try_commit(&mut self, batches: &[Batch]) -> rusqlite::Result<u64> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        if self.is_doubtful {
            self.connection.execute("DELETE FROM messages WHERE seq >= ?1", [self.next])?;
        }
        let mut number = self.next;
        let mut insert = self.connection.prepare(INSERT)?;
        for batch in batches {
            bind_source(&mut insert, batch)?;
            for (kind, payload) in batch.iter() {
                let (word, value) = match kind {
                    Kind::Text => ("text", ValueRef::Text(payload)),
                    Kind::Binary => ("binary", ValueRef::Blob(payload)),
                };
                insert.raw_bind_parameter(1, number)?;
                insert.raw_bind_parameter(8, word)?;
                insert.raw_bind_parameter(9, ToSqlOutput::Borrowed(value))?;
                insert.raw_execute()?;
                number += 1;
            }
        }
        drop(insert);
        self.connection.execute("UPDATE store SET next_seq = ?1", [number])?;
        self.connection.execute_batch("COMMIT")?;
        Ok(number - self.next)
    }

    /// Whether something was written since the last checkpoint.
    pub fn has_logged(&self) -> bool {
        self.logged > 0
    }

    /// Whether enough was written since the last checkpoint for another one.
    pub fn is_checkpoint_due(&self) -> bool {
        self.logged >= CHECKPOINT
    }

    /// Copies what the write-ahead log has into the database, as far as no reader is in the way. The next commit begins
    /// the log anew if all of it was copied and nobody reads from it. Says how many bytes of it are in use.
    pub fn checkpoint(&mut self) -> Result<u64, Trouble> {
        let (_, frames) = self.run_checkpoint("PASSIVE")?;
        self.logged = 0;
        Ok(frames * (4096 + 24))
    }

    /// Copies all of the write-ahead log into the database and begins an empty one.
    ///
    /// # Errors
    /// Besides others: another program reads from the log, or writes.
    pub fn begin_log(&mut self) -> Result<(), Trouble> {
        let (is_busy, _) = self.run_checkpoint("TRUNCATE")?;
        if is_busy {
            return Err(Trouble::Locked(
                "another program reads it, and so keeps its write-ahead log from being emptied".into(),
            ));
        }
        self.logged = 0;
        Ok(())
    }

    /// Whether somebody was in the way, and how many pages the log has.
    fn run_checkpoint(&self, mode: &str) -> Result<(bool, u64), Trouble> {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? != 0, row.get::<_, i64>(1)?.max(0) as u64));
        Ok(self.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], row)?)
    }

    /// What is in the file.
    pub fn contents(&self) -> Result<Contents, Trouble> {
        let number = |sql| self.connection.query_row(sql, [], |row| row.get::<_, Option<u64>>(0));
        let first = number("SELECT min(seq) FROM messages")?;
        Ok(Contents { numbers: first.zip(number("SELECT max(seq) FROM messages")?) })
    }

    /// Ends the use of the file in order: all is in the database, and the log is gone if nobody else uses it.
    ///
    /// # Errors
    /// The system or another program is in the way. What was committed is there all the same.
    pub fn close(self, place: &Place) -> Result<(), Trouble> {
        let openings = place.lock().openings() + 1;
        self.connection.execute("UPDATE store SET opened_as = NULL, openings = ?1", [openings])?;
        place.lock().note_openings(openings).map_err(|error| Trouble::Failed(cause(&error)))?;
        Ok(self.connection.close().map_err(|(_, error)| error)?)
    }
}

/// Binds what the messages of a batch have in common.
fn bind_source(insert: &mut Statement<'_>, batch: &Batch) -> rusqlite::Result<()> {
    let source = batch.source();
    insert.raw_bind_parameter(2, time(batch.received()))?;
    insert.raw_bind_parameter(3, &*source.endpoint)?;
    insert.raw_bind_parameter(4, source.room.as_deref())?;
    insert.raw_bind_parameter(5, &*source.session)?;
    insert.raw_bind_parameter(6, source.address.as_deref())?;
    insert.raw_bind_parameter(7, source.identity.as_deref())
}

/// A time as the file has it: ISO 8601 in UTC with six digits behind the point, always, so that the order of the texts is
/// that of the times.
pub fn time(time: SystemTime) -> String {
    // Only a time beyond the year 9999 is out of range.
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.6}")
}

/// An origin for a new file: nobody can have another store with the same one.
pub(super) fn new_origin() -> Result<String, Trouble> {
    let random = getrandom::u64().map_err(|error| Trouble::Failed(format!("failed to make an id: {error}")))?;
    Ok(format!("{random:016x}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::store::record::tests::batch;

    /// A store in a directory of its own.
    fn store() -> (TempDir, Place, Writer) {
        let directory = tempfile::tempdir().unwrap();
        let (place, _) = Place::take(&directory.path().join("readings.db")).unwrap();
        let writer = Writer::open(&place, Durability::Disk).unwrap();
        (directory, place, writer)
    }

    /// What another program reads.
    fn read<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> Vec<T> {
        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut statement = reader.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn what_is_stored_is_read_by_others_at_once_with_its_source_and_kind() {
        let (_directory, place, mut writer) = store();
        let mut both = batch(&["{\"t\":21.5}"]);
        both.push(Kind::Binary, b"\xff\x00", 0);
        assert_eq!(writer.commit(&[both, batch(&["c"])]).unwrap(), 1);
        let sql = "SELECT concat_ws('|', seq, received, endpoint, room, session, address, identity, kind, typeof(payload), \
                   hex(payload), origin) FROM messages";
        let source = "1970-01-01T00:00:00.000000Z|/rooms/{room}|/rooms/7|d44d1d9fdb4ad6d4|10.0.0.7";
        let expected = [
            format!("1|{source}|text|text|7B2274223A32312E357D"),
            format!("2|{source}|binary|blob|FF00"),
            format!("3|{source}|text|text|63"),
        ];
        assert_eq!(read::<String>(place.path(), sql), expected);
        assert_eq!(read::<f64>(place.path(), "SELECT json_extract(payload, '$.t') FROM messages LIMIT 1"), [21.5]);
        let plan = "EXPLAIN QUERY PLAN SELECT payload FROM messages WHERE room = 'x' AND seq > 7 ORDER BY seq LIMIT 10";
        let plan = writer.connection.query_row(plan, [], |row| row.get::<_, String>("detail")).unwrap();
        assert_eq!(plan, "SEARCH messages USING INDEX messages_by_room (room=? AND rowid>?)");
        assert_eq!(writer.contents().unwrap().messages(), 3);
    }

    #[test]
    fn numbers_are_never_used_again_also_when_the_table_is_empty() {
        let (_directory, place, mut writer) = store();
        writer.commit(&[batch(&["a", "b"])]).unwrap();
        let origin = writer.origin().to_owned();
        writer.connection.execute_batch("DELETE FROM messages").unwrap();
        writer.close(&place).unwrap();
        let mut writer = Writer::open(&place, Durability::Disk).unwrap();
        assert_eq!((writer.commit(&[batch(&["c"])]).unwrap(), writer.origin()), (3, &*origin));
        // Without a close, as after a crash: still the same store, since each commit was synced.
        drop(writer);
        let mut writer = Writer::open(&place, Durability::Os).unwrap();
        assert_eq!((writer.commit(&[batch(&["d"])]).unwrap(), writer.origin()), (4, &*origin));
        drop(writer);
        let writer = Writer::open(&place, Durability::Disk).unwrap();
        assert_ne!(writer.origin(), origin, "what was not synced may have been lost, with its numbers");
    }

    #[test]
    fn a_copy_has_an_origin_of_its_own_and_so_has_an_older_copy_that_is_put_back() {
        let (directory, place, mut writer) = store();
        writer.commit(&[batch(&["a"])]).unwrap();
        let origin = writer.origin().to_owned();
        writer.close(&place).unwrap();
        let old = fs::read(place.path()).unwrap();
        let elsewhere = directory.path().join("copy.db");
        fs::copy(place.path(), &elsewhere).unwrap();
        let (elsewhere, _) = Place::take(&elsewhere).unwrap();
        assert_ne!(Writer::open(&elsewhere, Durability::Disk).unwrap().origin(), origin);

        let mut writer = Writer::open(&place, Durability::Disk).unwrap();
        assert_eq!(writer.origin(), origin, "it has another name, or another time: it is the same file");
        writer.commit(&[batch(&["b"])]).unwrap();
        writer.close(&place).unwrap();
        // Into the same file, as cp does it.
        fs::write(place.path(), &old).unwrap();
        let writer = Writer::open(&place, Durability::Disk).unwrap();
        let renewed = writer.origin().to_owned();
        assert_ne!(renewed, origin, "number 2 was given out before");
        drop(writer);
        assert_eq!(Writer::open(&place, Durability::Disk).unwrap().origin(), renewed);
    }

    #[test]
    fn d5_what_a_failed_commit_has_left_is_not_taken_for_stored() {
        let (_directory, place, mut writer) = store();
        writer.commit(&[batch(&["a"])]).unwrap();
        // As if the frames of a commit whose sync has failed were found again: they are there, but were not acknowledged.
        writer.connection.execute_batch(
            "INSERT INTO messages (seq, received, endpoint, session, kind, payload) VALUES (2, '', '', '', 'text', 'x'), \
             (3, '', '', '', 'text', 'y')",
        ).unwrap();
        writer.is_doubtful = true;
        assert_eq!(writer.commit(&[batch(&["b"])]).unwrap(), 2);
        assert_eq!(read::<String>(place.path(), "SELECT seq || payload FROM messages"), ["1a", "2b"]);
    }

    #[test]
    fn a_commit_that_fails_leaves_nothing_and_the_next_one_has_its_numbers() {
        let (_directory, place, mut writer) = store();
        let other = Connection::open(place.path()).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(writer.commit(&[batch(&["a"])]), Err(Trouble::Locked(_))));
        other.execute_batch("COMMIT").unwrap();
        writer.connection.execute_batch("CREATE TRIGGER no BEFORE INSERT ON messages WHEN new.payload = 'b' BEGIN SELECT RAISE(FAIL, 'no'); END").unwrap();
        assert!(matches!(writer.commit(&[batch(&["a", "b"])]), Err(Trouble::Failed(_))));
        assert_eq!(writer.contents().unwrap().messages(), 0);
        assert_eq!(writer.commit(&[batch(&["c"])]).unwrap(), 1);
    }

    #[test]
    fn a_reader_in_a_transaction_keeps_the_log_and_its_end_lets_it_begin_anew() {
        let (_directory, place, mut writer) = store();
        writer.commit(&[batch(&["a"])]).unwrap();
        let reader = Connection::open(place.path()).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM messages").unwrap();
        let large = "x".repeat(1 << 20);
        writer.commit(&[batch(&[&large])]).unwrap();
        assert!(writer.checkpoint().unwrap() > 1 << 20);
        assert!(matches!(writer.begin_log(), Err(Trouble::Locked(_))));
        reader.execute_batch("COMMIT").unwrap();
        writer.begin_log().unwrap();
        assert_eq!(place.sizes().1, 0);
    }

    #[test]
    fn d13_a_file_that_is_not_ours_or_of_a_newer_wsgate_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let newer = |version: i32| {
            let (place, _) = Place::take(&path).unwrap();
            Writer::open(&place, Durability::Disk).unwrap().close(&place).unwrap();
            Connection::open(&path).unwrap().pragma_update(None, "user_version", version).unwrap();
        };
        let other = || Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
        let marked =
            || Connection::open(&path).unwrap().execute_batch("CREATE TABLE x (x); PRAGMA application_id = 7").unwrap();
        let cases: [(&dyn Fn(), &str); 5] = [
            (&|| newer(2), "a newer wsgate has made this store (its version is 2, and this wsgate knows 1)"),
            (&|| fs::write(&path, "readings").unwrap(), "this file is no SQLite database"),
            (&|| fs::write(&path, [b'x'; 8192]).unwrap(), "this file is no SQLite database"),
            (&other, "the database of another program"),
            (&marked, "the database of another program"),
        ];
        for (make, expected) in cases {
            let _ = fs::remove_file(&path);
            make();
            let before = fs::read(&path).unwrap();
            let why = match Place::take(&path) {
                Err(refused) => refused.to_string(),
                Ok((place, _)) => match Writer::open(&place, Durability::Disk) {
                    Err(Unusable::Refused(refused)) => refused.to_string(),
                    other => panic!("{expected}: {other:?}"),
                },
            };
            assert!(why.contains(expected), "{why}");
            assert!(fs::read(&path).unwrap() == before, "{expected}: the file has changed");
            for companion in ["x.db-wal", "x.db-shm"] {
                let _ = fs::remove_file(directory.path().join(companion));
            }
        }
    }

    #[test]
    fn a_damaged_file_is_set_aside_whole_and_a_new_store_begins() {
        let (directory, place, writer) = store();
        let origin = writer.origin().to_owned();
        writer.close(&place).unwrap();
        let mut bytes = fs::read(place.path()).unwrap();
        bytes[100..2000].fill(0xa5);
        fs::write(place.path(), &bytes).unwrap();
        assert!(matches!(Writer::open(&place, Durability::Disk), Err(Unusable::Trouble(Trouble::Damaged(_)))));
        let aside = place.set_aside(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(aside, directory.path().join("readings.db.damaged-19700101T000000Z"));
        assert!(fs::read(&aside).unwrap() == bytes);
        let mut writer = Writer::open(&place, Durability::Disk).unwrap();
        assert_ne!(writer.origin(), origin);
        assert_eq!(writer.commit(&[batch(&["a"])]).unwrap(), 1);
    }
}
