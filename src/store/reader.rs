//! Reading a store, also while a gateway writes it: page by page, so that nobody keeps its write-ahead log for long.

use std::path::{Path, PathBuf};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};

use super::error::{Refused, Trouble};
use super::schema::{self, Unusable};
use super::writer::BUSY;
use crate::message::Kind;

/// The most bytes of payloads that a page holds, unless its first message is larger.
const PAGE_BYTES: usize = 4 << 20;

/// A store that is only read.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

/// A message as it is stored. `docs/stores.md` describes the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub seq: u64,
    /// When it came: ISO 8601, in UTC.
    pub received: String,
    /// The path of the sender's endpoint, or `link:NAME`.
    pub endpoint: String,
    /// The sender's room.
    pub room: Option<String>,
    /// The id of its connection.
    pub session: String,
    /// Its address.
    pub address: Option<String>,
    /// Who it is.
    pub identity: Option<String>,
    /// Text or binary.
    pub kind: Kind,
    /// The payload as it came.
    pub payload: Vec<u8>,
    /// The store that it was forwarded from, and its number there.
    pub origin: Option<String>,
    /// See `origin`.
    pub origin_seq: Option<u64>,
}

/// Which messages are meant: those to which all of it applies.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this room.
    pub room: Option<String>,
    /// With a number above this one.
    pub after: Option<u64>,
    /// With a number below this one.
    pub before: Option<u64>,
    /// That came at this time or later, as the column `received` has it.
    pub since: Option<String>,
    /// That came before this time.
    pub until: Option<String>,
}

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Which store it is: 16 hex digits.
    pub origin: String,
    /// How many messages there are.
    pub messages: u64,
    /// The first and the last of them, if there is one: number and time.
    pub range: Option<[(u64, String); 2]>,
    /// How many rooms there are.
    pub rooms: u64,
}

impl Filter {
    /// The conditions of a `WHERE`, and the values of their parameters.
    pub(super) fn conditions(&self) -> (String, Vec<Value>) {
        let number = |number: Option<u64>| number.map(|number| Value::from(i64::try_from(number).unwrap_or(i64::MAX)));
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let all = [
            ("room = ?", text(&self.room)),
            ("seq > ?", number(self.after)),
            ("seq < ?", number(self.before)),
            ("received >= ?", text(&self.since)),
            ("received < ?", text(&self.until)),
        ];
        let (mut conditions, mut values) = ("true".to_owned(), Vec::new());
        for (condition, value) in all {
            if let Some(value) = value {
                conditions.push_str(" AND ");
                conditions.push_str(condition);
                values.push(value);
            }
        }
        (conditions, values)
    }
}

impl Reader {
    /// Opens the store at this path.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is of a newer wsgate or another program.
    pub fn open(path: &Path) -> Result<Reader, Unusable> {
        schema::check_file(path).map_err(Unusable::Refused)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        if !connection.table_exists(None, "messages")? {
            return Err(Unusable::Refused(Refused::new(path, "this store is empty: no gateway has used it yet")));
        }
        Ok(Reader { connection, path: path.to_owned() })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first messages that are meant, in order: at most so many, and at least one if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn page(&self, filter: &Filter, most: usize) -> Result<Vec<Stored>, Trouble> {
        self.read(filter, most, "ORDER BY seq")
    }

    /// The last messages that are meant, in order: at most so many. A page's bytes bound them too.
    ///
    /// # Errors
    /// As [`page`](Reader::page).
    pub fn last(&self, filter: &Filter, most: usize) -> Result<Vec<Stored>, Trouble> {
        let mut last = self.read(filter, most, "ORDER BY seq DESC")?;
        last.reverse();
        Ok(last)
    }

    fn read(&self, filter: &Filter, most: usize, order: &str) -> Result<Vec<Stored>, Trouble> {
        let (conditions, values) = filter.conditions();
        let columns = "seq, received, endpoint, room, session, address, identity, kind, payload, origin, origin_seq";
        let sql = format!("SELECT {columns} FROM messages WHERE {conditions} {order} LIMIT {most}");
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut page, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let stored = Stored::of(row)?;
            bytes += stored.payload.len();
            if bytes > PAGE_BYTES && !page.is_empty() {
                break;
            }
            page.push(stored);
        }
        Ok(page)
    }

    /// The numbers of the first and the last message.
    ///
    /// # Errors
    /// As [`page`](Reader::page).
    pub fn numbers(&self) -> Result<Option<(u64, u64)>, Trouble> {
        let sql = "SELECT (SELECT min(seq) FROM messages), (SELECT max(seq) FROM messages)";
        let numbers = self.connection.query_row(sql, [], |row| Ok((row.get::<_, Option<u64>>(0)?, row.get(1)?)))?;
        Ok(numbers.0.zip(numbers.1))
    }

    /// A number that is another one after somebody has written to the store.
    ///
    /// # Errors
    /// As [`page`](Reader::page).
    pub fn version(&self) -> Result<u64, Trouble> {
        Ok(self.connection.query_row("PRAGMA data_version", [], |row| row.get(0))?)
    }

    /// What the store holds. It counts, so it takes about a second for ten million messages.
    ///
    /// # Errors
    /// As [`page`](Reader::page).
    pub fn summary(&self) -> Result<Summary, Trouble> {
        let origin = self.connection.query_row("SELECT origin FROM store", [], |row| row.get(0))?;
        let messages = self.connection.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))?;
        // From room to room in the index, without a look at their messages.
        let rooms = "WITH RECURSIVE rooms (room) AS (SELECT min(room) FROM messages UNION ALL \
                     SELECT (SELECT min(room) FROM messages WHERE room > rooms.room) FROM rooms WHERE room IS NOT NULL) \
                     SELECT count(room) FROM rooms";
        let rooms = self.connection.query_row(rooms, [], |row| row.get(0))?;
        let end = |end: &str| {
            let sql = format!("SELECT seq, received FROM messages WHERE seq = (SELECT {end}(seq) FROM messages)");
            self.connection.prepare(&sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.next().transpose()
        };
        let range = end("min")?.zip(end("max")?).map(|(first, last)| [first, last]);
        Ok(Summary { origin, messages, range, rooms })
    }

    /// Looks at every page of the file, its tables and its index; says what is wrong with them, each on a line.
    ///
    /// # Errors
    /// As [`page`](Reader::page).
    pub fn check(&self) -> Result<Vec<String>, Trouble> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check")?;
        let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut wrong: Vec<_> = lines.iter().flat_map(|line| line.lines()).map(str::to_owned).collect();
        wrong.retain(|line| line != "ok");
        if wrong.is_empty() {
            let next: Option<u64> =
                self.connection.query_row("SELECT max(next_seq) FROM store", [], |row| row.get(0))?;
            match (next, self.numbers()?) {
                (None, _) => wrong.push("the table 'store' has lost its row".to_owned()),
                (Some(next), Some((_, last))) if last >= next => {
                    wrong.push(format!(
                        "message {last} has a number that was not given out yet: the next one is {next}"
                    ));
                }
                _ => {}
            }
        }
        Ok(wrong)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Stored {
    fn of(row: &Row<'_>) -> rusqlite::Result<Stored> {
        let (ValueRef::Text(payload) | ValueRef::Blob(payload)) = row.get_ref(8)? else {
            return Err(rusqlite::Error::InvalidColumnType(8, "payload".into(), row.get_ref(8)?.data_type()));
        };
        let kind = if row.get_ref(7)? == ValueRef::Text(b"binary") { Kind::Binary } else { Kind::Text };
        Ok(Stored {
            seq: row.get(0)?,
            received: row.get(1)?,
            endpoint: row.get(2)?,
            room: row.get(3)?,
            session: row.get(4)?,
            address: row.get(5)?,
            identity: row.get(6)?,
            kind,
            payload: payload.to_vec(),
            origin: row.get(9)?,
            origin_seq: row.get(10)?,
        })
    }
}
