//! The thread of an `[[auth]]` whose issuer's keys are at a URL: it asks for them, again and again.

use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};

use crate::authenticators::issuer_keys::{Change, IssuerKeys};
use crate::config::write_duration;
use crate::display::count;
use crate::shared::Shared;

/// Asks until the gateway stops. `name` is that of the `[[auth]]`.
pub fn run(shared: &Arc<Shared>, name: &str, keys: &IssuerKeys) {
    let cancel = shared.until_stop();
    while keys.wait_until_due() {
        let answer = keys.ask(&cancel);
        if shared.is_stopping() {
            return;
        }
        let change = keys.answered(answer);
        let who = format_args!("[[auth]] {name:?}");
        match change {
            Change::None => {}
            Change::Loaded(number) => {
                info!("{who}: loaded {} from '{}'", count(number, "key"), keys.shown());
                // After a reload there may be clients of keys that came from elsewhere.
                withdraw(shared);
            }
            Change::Renewed(number) => {
                info!("{who}: loaded {} from '{}', other ones than before", count(number, "key"), keys.shown());
                withdraw(shared);
            }
            Change::Failing(why, left) => {
                warn!("{who}: {why}; the keys that came last serve for {} more", whole_minutes(left));
            }
            Change::Without(why) => error!("{who}: {why}; no token is accepted until there are keys"),
        }
    }
}

/// A time for people: long ones to the minute.
fn whole_minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    write_duration(Duration::from_secs(if seconds < 600 { seconds } else { (seconds + 30) / 60 * 60 }))
}

/// Closes the clients whose key is gone.
fn withdraw(shared: &Shared) {
    let generation = shared.generation();
    let withdrawn =
        shared.registry.all().iter().filter(|client| shared.close_if_withdrawn(client, &generation)).count();
    if withdrawn > 0 {
        info!("closing {} whose access was withdrawn", count(withdrawn, "client"));
    }
}
