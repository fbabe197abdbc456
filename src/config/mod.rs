//! Configuration: from a TOML file to checked [`Settings`].
//!
//! In two steps: `raw/` reads what is written, value by value; `relations/` judges what the values mean together and puts
//! the thing itself in the place of its name. Neither stops at a mistake, so that you see all of them at once.

mod aliases;
mod foreign;
mod log_words;
mod marks;
mod measures;
mod mistake;
mod numbers;
mod raw;
mod relations;
mod remedy;
mod secret_file;
mod section;
mod settings;
mod shown;
mod shown_store;
mod syntax;
mod text;
mod units;
mod variables;

use std::path::Path;
use std::{env, fs, io};

use mistake::Report;
use secret_file::is_for_everybody;

use crate::reload::read_file;

pub(crate) use log_words::{asked_levels, level_word};
pub(crate) use mistake::Environment;
pub(crate) use raw::dial::{is_server_name, proxy_of};

pub use marks::{TakesEffect, takes_effect};
pub use mistake::{ConfigError, Mistake};
pub use numbers::Numbers;
pub use settings::{
    Ack, AddressRules, AddressSource, AdminSettings, AtCapacity, AuthId, AuthKind, AuthServer, AuthSettings,
    BatchFormat, BatchSettings, CalloutSettings, ClientAddress, ClientCertificates, Destination, DialSettings, DialTls,
    Durability, EndpointId, EndpointSettings, EventKind, FailedCredentials, Format, GatewaySettings, Hosts,
    HttpLinkSettings, IdentityLimit, JwksSettings, KeySource, LinkDestination, LinkId, LinkSettings, ListenAddress,
    ListenerSettings, ListenerTls, LogFormat, LogLevels, LogSettings, Origins, OutletPolicy, Proxy, QueueSettings,
    RateSettings, Refuse, RelaySettings, RoomSource, Settings, StoreId, StoreQueueSettings, StoreSettings, TlsSettings,
    Welcome, WhenFull, WhenIdentityFull, WhenOver,
};
pub(crate) use shown::{Running, shown};
pub(crate) use units::{write_duration, write_size};
pub(crate) use variables::substitute;

/// Reads a configuration file.
///
/// Relative paths in it are relative to its directory, and `${NAME}` in its strings is a variable
/// of the environment. The files it names for TLS are opened and must hold what they are named for.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    read(path, fs::read(path))
}

/// The same for a gateway that runs: it waits for nobody who writes into a pipe, and a file in which there is nothing is one
/// that is about to be written, or has no room on its disk. The defaults would take its endpoints and their `auth` away.
pub fn load_again(path: &Path) -> Result<Settings, ConfigError> {
    let bytes = read_file(path).and_then(|bytes| match bytes.trim_ascii_start() {
        [] => Err(io::Error::other("it is empty (for the defaults, write a comment into it)")),
        _ => Ok(bytes),
    });
    read(path, bytes)
}

fn read(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<Settings, ConfigError> {
    let bytes = bytes.map_err(|source| ConfigError::Unreadable { file: path.to_owned(), source })?;
    let file_name = path.display().to_string();
    let base_dir = path.parent().unwrap_or(Path::new(""));
    match str::from_utf8(&bytes) {
        Ok(text) => {
            let report = Report::new(text, &|name| env::var(name));
            report_on(text, &file_name, base_dir, report.read_by_everybody(is_for_everybody(path)))
        }
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let report = Report::new(&valid, &|_| Err(env::VarError::NotPresent));
            report.mistake(valid.len(), "this is not UTF-8 text: save the file with the encoding UTF-8");
            Err(ConfigError::Mistakes { file: file_name, mistakes: report.into_mistakes(), complete: false })
        }
    }
}

/// Reads the text of a configuration file; the same as `load` without opening that file.
///
/// `file_name` is what mistakes begin with; relative paths are relative to `base_dir`.
pub fn parse(text: &str, file_name: &str, base_dir: &Path) -> Result<Settings, ConfigError> {
    parse_in(text, file_name, base_dir, &|name| env::var(name))
}

/// The same in another environment.
pub(crate) fn parse_in(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    environment: Environment<'_>,
) -> Result<Settings, ConfigError> {
    report_on(text, file_name, base_dir, Report::new(text, environment))
}

fn report_on(text: &str, file_name: &str, base_dir: &Path, report: Report<'_>) -> Result<Settings, ConfigError> {
    let settings = syntax::parse(text, &report)
        .map(|table| relations::resolve(raw::read(table.get_ref(), base_dir, &report), &report));
    let (mistakes, warnings) = report.into_findings();
    let told = |Mistake { line, column, text }| format!("{file_name}:{line}:{column}: warning: {text}");
    match settings {
        Some(settings) if mistakes.is_empty() => {
            Ok(Settings { warnings: warnings.into_iter().map(told).collect(), ..settings })
        }
        settings => Err(ConfigError::Mistakes { file: file_name.to_owned(), mistakes, complete: settings.is_some() }),
    }
}

#[cfg(test)]
mod tests;
