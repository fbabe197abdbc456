//! Removing messages by hand, also while a gateway writes the store: in small steps, so that it never waits for long.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params_from_iter};

use super::error::Trouble;
use super::reader::Filter;
use super::schema::{self, Unusable};

/// How many messages a step removes at most, and how many free pages it gives back to the file system.
const STEP: usize = 1_000;

/// How long a step waits for others that write.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes messages from a store.
#[derive(Debug)]
pub struct Pruner {
    connection: Connection,
}

impl Pruner {
    /// Opens the store at this path.
    ///
    /// # Errors
    /// There is none, it cannot be written, or it is of a newer wsgate or another program.
    pub fn open(path: &Path) -> Result<Pruner, Unusable> {
        schema::check_file(path).map_err(Unusable::Refused)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(PATIENCE)?;
        Ok(Pruner { connection })
    }

    /// How many messages are meant.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn count(&self, filter: &Filter) -> Result<u64, Trouble> {
        let (conditions, values) = filter.conditions();
        let sql = format!("SELECT count(*) FROM messages WHERE {conditions}");
        Ok(self.connection.query_row(&sql, params_from_iter(values), |row| row.get(0))?)
    }

    /// Removes the first messages that are meant, and says how many that were; 0 when none is left.
    ///
    /// # Errors
    /// The file cannot be written, or others have written to it for 10 seconds without a pause. Nothing of this step was
    /// removed.
    pub fn step(&mut self, filter: &Filter) -> Result<usize, Trouble> {
        let (conditions, values) = filter.conditions();
        let sql = format!(
            "DELETE FROM messages WHERE seq IN (SELECT seq FROM messages WHERE {conditions} ORDER BY seq LIMIT {STEP})"
        );
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let removed = transaction.execute(&sql, params_from_iter(values))?;
        transaction.commit()?;
        Ok(removed)
    }

    /// Gives free pages back to the file system, and says whether there are more.
    ///
    /// # Errors
    /// As [`step`](Pruner::step).
    pub fn shrink(&mut self) -> Result<bool, Trouble> {
        // It gives back a page with each row that is asked for.
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({STEP})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        let left: u64 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        Ok(left > 0)
    }
}
