//! What happens to clients and links, told to the destinations that ask for it.

pub mod json;
