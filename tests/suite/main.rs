//! The tests of the whole program: one test binary, a module per theme.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may end it")]

mod cli;
mod config;
