//! A copy of a store, also of one that a gateway writes: as it was when the copy began.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::error::{Refused, Trouble};
use super::lock::beside;
use super::place::{directory_of, sync_directory};
use super::reader::Reader;
use super::schema::Unusable;
use super::writer::new_origin;

/// Where a copy is made before it gets its name.
pub fn unfinished(to: &Path) -> PathBuf {
    beside(to, ".unfinished")
}

/// About how many bytes a copy of this store will have.
///
/// # Errors
/// The file cannot be read.
pub fn expected_size(reader: &Reader) -> Result<u64, Trouble> {
    let number = |name| reader.connection().query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u64>(0));
    Ok(number("page_count")?.saturating_sub(number("freelist_count")?) * number("page_size")?)
}

/// Makes a copy, for its owner alone. It has an origin of its own: what the store gets from now on has the numbers that
/// the copy gives to other messages. The copy gets its name when all of it is on the disk.
///
/// # Errors
/// There is such a file already, the system refuses something, or the store is damaged.
pub fn copy(reader: &Reader, to: &Path) -> Result<(), Unusable> {
    let refused = |what: &str, error: &io::Error| Unusable::Refused(Refused::by_system(to, what, error));
    if fs::symlink_metadata(to).is_ok() {
        return Err(Unusable::Refused(Refused::new(to, "there is such a file: choose another name, or remove it")));
    }
    let path = unfinished(to);
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    made.map_err(|error| refused("make the copy", &error))?;
    let done = write(reader, &path).and_then(|()| {
        File::open(&path).and_then(|file| file.sync_all()).map_err(|error| refused("sync the copy", &error))?;
        fs::rename(&path, to).map_err(|error| refused("name the copy", &error))?;
        sync_directory(directory_of(to)).map_err(|error| refused("sync the directory of the copy", &error))
    });
    if done.is_err() {
        let _ = fs::remove_file(&path);
    }
    done
}

fn write(reader: &Reader, path: &Path) -> Result<(), Unusable> {
    let Some(text) = path.to_str() else {
        return Err(Unusable::Refused(Refused::new(path, "the name of a copy must be UTF-8: choose another one")));
    };
    reader.connection().execute("VACUUM INTO ?1", [text])?;
    let copy = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let origin = new_origin().map_err(Unusable::Trouble)?;
    copy.execute("UPDATE store SET origin = ?1, opened_as = NULL, file = NULL", [origin])?;
    Ok(copy.close().map_err(|(_, error)| error)?)
}
