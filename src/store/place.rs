//! Where a store lies: its directory, its file, and what is made beside it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;

use super::error::Refused;
use super::lock::{self, Lock, beside};
use super::schema;

/// What SQLite puts beside a database.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// The place of a store, locked for this gateway until it is dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    lock: Lock,
}

impl Place {
    /// Makes the directory if it is missing (its parent must be there), takes the lock, and makes an empty file if there is
    /// none. What was there stays as it is; the second value is what to warn of.
    ///
    /// # Errors
    /// The system refuses something, another gateway has the store, or the file is no store of ours.
    pub fn take(path: &Path) -> Result<(Place, Option<String>), Refused> {
        let directory = directory_of(path);
        make_directory(path, directory)?;
        let lock = Lock::take(path)?;
        match File::open(path) {
            Ok(file) => schema::check_header(path, &file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_file(path, directory)?,
            Err(error) => return Err(Refused::by_system(path, "open the store", &error)),
        }
        Ok((Place { path: path.to_owned(), lock }, warning(directory)))
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes the database file has, and how many its write-ahead log.
    pub fn sizes(&self) -> (u64, u64) {
        sizes(&self.path)
    }

    /// Which file it is, also under another name: a copy is another one. `None` where the system does not say.
    pub(super) fn file_id(&self) -> Option<String> {
        let metadata = fs::metadata(&self.path).ok()?;
        let born = metadata.created().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(format!("{}-{}", metadata.ino(), born.as_nanos()))
    }

    /// The lock of this place, which knows how often the store in it was opened.
    pub(super) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Gives a damaged file, with what is beside it, another name, and makes an empty one in its place. Says the name.
    /// Nobody may have it open.
    ///
    /// # Errors
    /// The system refuses it. Then the file may have its old name still.
    pub fn set_aside(&self, now: SystemTime) -> io::Result<PathBuf> {
        let now = Timestamp::try_from(now).unwrap_or(Timestamp::MAX);
        let aside = beside(&self.path, &format!(".damaged-{}", now.strftime("%Y%m%dT%H%M%SZ")));
        for end in COMPANIONS {
            match fs::rename(beside(&self.path, end), beside(&aside, end)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, &aside)?;
        new_file(&self.path)?;
        sync_directory(directory_of(&self.path))?;
        Ok(aside)
    }
}

/// How many bytes the database file at this path has, and how many its write-ahead log.
pub fn sizes(path: &Path) -> (u64, u64) {
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    (size(path), size(&beside(path, "-wal")))
}

/// The number of the process whose store this is now.
pub fn user(path: &Path) -> Option<u32> {
    lock::holder(path)
}

/// The directory that a file is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn make_directory(path: &Path, directory: &Path) -> Result<(), Refused> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {
            // The directory itself is to outlast a power failure too.
            let above = directory_of(directory);
            sync_directory(above).map_err(|error| Refused::by_system(above, "sync the directory of the store", &error))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = directory_of(directory).display();
            Err(Refused::new(path, format!("there is no directory '{above}': make it, or choose another path")))
        }
        Err(error) => Err(Refused::by_system(directory, "make the directory of the store", &error)),
    }
}

fn make_file(path: &Path, directory: &Path) -> Result<(), Refused> {
    new_file(path).map_err(|error| Refused::by_system(path, "make the store", &error))?;
    sync_directory(directory).map_err(|error| Refused::by_system(directory, "sync the directory of the store", &error))
}

/// SQLite gives what it makes beside a database the permissions of that.
fn new_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// That others may put another file in the store's place.
fn warning(directory: &Path) -> Option<String> {
    let mode = fs::metadata(directory).ok()?.permissions().mode();
    (mode & 0o022 != 0).then(|| {
        let directory = directory.display();
        format!("other users may write to its directory '{directory}': take that right from them (chmod go-w)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn d10_what_is_made_is_for_its_owner_alone_and_what_was_there_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/readings.db");
        let (place, warning) = Place::take(&path).unwrap();
        assert_eq!(warning, None);
        assert_eq!(
            (mode(path.parent().unwrap()), mode(&path), mode(&super::super::lock::path_of(&path))),
            (0o700, 0o600, 0o600)
        );
        drop(place);
        fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(0o777)).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let (_place, warning) = Place::take(&path).unwrap();
        assert!(warning.unwrap().contains("other users may write to its directory"));
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o777, 0o640));
    }

    #[test]
    fn only_the_last_directory_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/new/readings.db");
        let error = Place::take(&path).unwrap_err().to_string();
        assert!(error.contains("missing': make it, or choose another path"), "{error}");
        assert!(!directory.path().join("missing").exists());
    }
}
