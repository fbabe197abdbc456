//! Tests of the configuration, by its tables, and what they read with.

mod auth;
mod endpoint;
mod examples;
mod link;
mod loops;
mod manual;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

use log::LevelFilter;
use proptest::prelude::*;

use super::section::Keys;
use super::settings::{AdminSettings, AuthId, BackoffSettings, GatewaySettings, LinkQueueSettings};
use super::*;
use crate::address::list::AddressList;
use crate::auth::admin::{AdminRule, Right};
use crate::auth::allow::{Glob, Rights, Rule};
use crate::auth::certificate::IdentityFrom;
use crate::auth::credentials::Places;
use crate::auth::jwk::Algorithm;
use crate::auth::jwt::JwtSettings;
use crate::limit::Rate;
use crate::path::Pattern;
use crate::secret::Secret;
use crate::template::Template;
use crate::url;

fn read(text: &str) -> Settings {
    parse(text, "test.toml", Path::new("/etc/wsgate")).unwrap_or_else(|error| panic!("{error}"))
}

/// A list that is written in the configuration.
fn addresses(text: &str) -> AddressSource {
    AddressSource { list: AddressList::parse(text).unwrap().into(), file: None }
}

/// The same in a directory with a file of tokens.
fn read_beside_tokens(text: &str) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let tokens = crate::auth::tokens::line("press-3", "secret");
    fs::write(directory.path().join("tokens.txt"), tokens).unwrap();
    parse(text, "test.toml", directory.path()).unwrap_or_else(|error| panic!("{error}"))
}

fn mistakes(text: &str) -> Vec<String> {
    match parse(text, "test.toml", Path::new("")) {
        Err(ConfigError::Mistakes { mistakes, .. }) => mistakes.into_iter().map(|m| m.text).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

/// Where the only `[[auth]]` looks for credentials.
fn read_places(text: &str) -> Places {
    read_beside_tokens(text).auths.remove(0).places
}
