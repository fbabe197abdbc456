//! Files with secrets that everybody on this machine can read: each is a warning, by its name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::section::Value;

/// Warns that everybody can read a file with secrets, if it is so. The value at this byte of the text names it, and
/// `shown` is what people call it.
pub(super) fn warn_if_for_everybody(value: &Value<'_>, at: usize, shown: &str, file: &Path) {
    if is_for_everybody(file) {
        let what = format_args!("names {shown:?}, which every user of this machine can read: chmod o-r it");
        value.warning_at(at, what);
    }
}

/// Whether everybody on this machine can read a file: it may be read, and its directories may be entered.
pub(super) fn is_for_everybody(file: &Path) -> bool {
    let may = |path: &Path, bit| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & bit != 0);
    // Behind a symbolic link, the directories of what it leads to count.
    let Ok(file) = file.canonicalize() else { return false };
    may(&file, 0o004) && file.ancestors().skip(1).all(|directory| may(directory, 0o001))
}
