//! `wsgate store NAME check`.

use super::progress;
use crate::cli::exit;
use crate::cli::failure::{Failure, tell};
use crate::store::reader::Reader;

/// Looks for damage, and says where it is.
pub(super) fn run(reader: &Reader) -> Result<(), Failure> {
    let spinner = progress::spinner("looking at each page");
    let wrong = reader.check();
    spinner.finish_and_clear();
    let wrong = wrong?;
    let path = reader.path().display();
    if wrong.is_empty() {
        tell(&format!("{path}: no damage"));
        return Ok(());
    }
    let advice = "stop the gateway, copy the file, export what can be read, and begin with a new file or a backup";
    let text = format!("{path} is damaged:\n  {}\n{advice}", wrong.join("\n  "));
    Err(Failure { text, exit_code: exit::DATA })
}
