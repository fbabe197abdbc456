//! Addresses of the network as they are written: lists of them in a configuration, and the header of the PROXY protocol
//! with which a proxy says whose connection it passes on. Rules.

pub mod list;
pub mod proxy_header;
pub mod source;
