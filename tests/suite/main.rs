//! One test binary, a module per theme.

mod cli;
