//! One binary that tests wsgate from outside: the real program, real sockets, real clients.

#![allow(clippy::unwrap_used, reason = "a step that fails ends its test, helpers included")]

mod harness;

mod real_clients;
mod wire;
