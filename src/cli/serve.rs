//! Stands in for `wsgate serve` until the real one is merged.

use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(_config: Option<&Path>) -> ExitCode {
    ExitCode::SUCCESS
}
