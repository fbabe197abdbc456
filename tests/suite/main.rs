//! The tests of the whole program, a module for each theme.

mod config;
