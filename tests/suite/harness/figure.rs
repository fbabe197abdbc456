//! What a test measured, for the reader of its output.

use std::io::{self, Write};

/// Prints what was measured in a case of the given id, also when the test passes.
pub(crate) fn measured(case: &str, figure: impl std::fmt::Display) {
    // Straight to the descriptor: what `println!` prints is shown only for tests that fail.
    let _ = writeln!(io::stderr().lock(), "{case}: {figure}");
}
