//! The exit codes, after sysexits.h: a script can tell a typing mistake from a server that is down.

/// The command was used incorrectly: an unknown option, a URL that is none.
pub(super) const USAGE: u8 = 64;
/// The input is not what it has to be: text that is not UTF-8, a message over the limit.
pub(super) const DATA: u8 = 65;
/// A file that was named cannot be read.
pub(super) const NO_INPUT: u8 = 66;
/// A host name does not resolve.
pub(super) const NO_HOST: u8 = 68;
/// The other side is not there or does not let us in: refused, unreachable, TLS, an HTTP error.
pub(super) const UNAVAILABLE: u8 = 69;
/// An internal failure of the system, such as no more threads.
pub(super) const SYSTEM: u8 = 71;
/// Reading or writing failed: standard input, standard output, a connection that broke.
pub(super) const IO: u8 = 74;
/// The other side asks to be tried again later.
pub(super) const TEMPORARY: u8 = 75;
/// The other side does not keep to the protocol.
pub(super) const PROTOCOL: u8 = 76;
/// The other side does not allow it: 401, 403, close code 1008.
pub(super) const NO_PERMISSION: u8 = 77;
/// The configuration is wrong.
pub(super) const CONFIG: u8 = 78;
