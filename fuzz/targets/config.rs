//! A configuration: settings or mistakes, never a panic.
//!
//! Input: the text of a configuration file.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rustix::event::{EventfdFlags, eventfd};
use wsgate::internals::config::{ConfigError, DialSettings, Settings, parse};
use wsgate::internals::connection::poller::Poller;
use wsgate::internals::dial::{Dialer, Resolver};
use wsgate::internals::route::Place;
use wsgate::internals::shared::{Parts, Rooms, Shared};

/// Where relative paths lead: nowhere.
const NOWHERE: &str = "/nowhere";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read(text) {
        Ok(settings) => accepted(text, settings),
        Err(error) => refused(text, &error),
    }
});

fn read(text: &str) -> Result<Settings, ConfigError> {
    parse(text, "fuzz.toml", Path::new(NOWHERE))
}

/// What is accepted is accepted again, also when TOML writes it in its own way, and can be run.
fn accepted(text: &str, settings: Settings) {
    assert!(!settings.listeners.is_empty() && !settings.endpoints.is_empty());
    let table: toml::Table = toml::from_str(text).expect("what is accepted is TOML");
    let rewritten = toml::to_string(&table).expect("a table can be written");
    for again in [text.to_owned(), format!("{text}\n"), format!("# a comment\r\n{rewritten}"), rewritten] {
        match read(&again) {
            Ok(same) => assert_eq!(same, settings, "{again}"),
            Err(error) => panic!("accepted, and then not:\n{again}\n{error}"),
        }
    }
    let poller = Poller::new().expect("an epoll");
    let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"));
    settings.endpoints.iter().for_each(|endpoint| drop(dialer(endpoint.relay.as_ref().map(|relay| &relay.dial))));
    settings.links.iter().for_each(|link| drop(dialer(Some(&link.dial))));
    let parts = Parts::bare(&settings);
    let shared = Shared::new(settings, parts, Rooms::new().0, Arc::new(poller), stop);
    let generation = shared.generation();
    let routes = &generation.routes;
    generation.links.iter().for_each(|(id, _)| drop(routes.targets_of_link(id)));
    for (id, endpoint) in generation.endpoints.iter() {
        routes.leads(id, Place::Endpoint(id));
        let settings = &endpoint.settings;
        if let Some(room) = routes.find(settings.path.as_str(), |_| true) {
            routes.targets(&room, Some("press-3"));
            for relay in settings.relay.iter().filter(|_| room.endpoint() == id) {
                relay.path.fill(|parameter| &room.values()[*parameter]);
            }
        }
    }
}

/// What is accepted can be dialled. Over TLS that would read the system's certificates each time.
fn dialer(settings: Option<&DialSettings>) -> Option<Dialer> {
    let settings = settings.filter(|settings| !settings.url.secure)?;
    Some(Dialer::new(settings, Resolver::new()).unwrap_or_else(|error| panic!("accepted, and then not: {error}")))
}

/// Every mistake has a place inside the file and one line of words.
fn refused(text: &str, error: &ConfigError) {
    let ConfigError::Mistakes { mistakes, .. } = error else { panic!("no file was read: {error}") };
    assert!(!mistakes.is_empty());
    let lines: Vec<&str> = text.split('\n').collect();
    for mistake in mistakes {
        assert!((1..=lines.len()).contains(&mistake.line), "{mistake:?}");
        let columns = lines[mistake.line - 1].chars().count() + 1;
        assert!((1..=columns).contains(&mistake.column), "{mistake:?} in a line of {columns}");
        assert!(!mistake.text.trim().is_empty(), "{mistake:?}");
        assert!(!mistake.text.contains(char::is_control), "{mistake:?}");
    }
    assert!(mistakes.is_sorted_by_key(|mistake| (mistake.line, mistake.column)), "{mistakes:?}");
    assert_eq!(error.to_string().lines().count(), mistakes.len() + 1, "{error}");
}
