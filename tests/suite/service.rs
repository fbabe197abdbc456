//! The systemd unit: its numbers against the default settings, which know nothing of each other.

use std::time::Duration;

use wsgate::config::Settings;

const UNIT: &str = include_str!("../../config/wsgate.service");

/// The values of an option of `[Service]`, in the order of the file.
fn values(option: &str) -> Vec<&'static str> {
    let (_, service) = UNIT.split_once("\n[Service]\n").unwrap();
    let (service, _) = service.split_once("\n[").unwrap();
    service.lines().filter_map(|line| line.strip_prefix(option)?.strip_prefix('=')).collect()
}

fn number(option: &str) -> usize {
    match values(option)[..] {
        [value] => value.parse().unwrap_or_else(|error| panic!("{option}={value}: {error}")),
        ref values => panic!("{option} stands there {} times", values.len()),
    }
}

#[test]
fn the_unit_has_a_descriptor_and_a_thread_for_every_client() {
    let clients = Settings::default().gateway.max_connections;
    assert!(number("LimitNOFILE") >= clients + 128, "descriptors for {clients} clients");
    assert!(number("TasksMax") >= clients + 64, "threads for {clients} clients");
}

#[test]
fn the_unit_gives_a_stop_the_time_that_it_may_take() {
    let gateway = Settings::default().gateway;
    let given = Duration::from_secs(number("TimeoutStopSec") as u64);
    assert!(given > gateway.drain_timeout + gateway.close_timeout, "{given:?} before the kill");
}

#[test]
fn the_unit_starts_a_gateway_again_unless_its_configuration_is_wrong() {
    assert_eq!(values("Type"), ["notify"]);
    assert_eq!(values("Restart"), ["on-failure"]);
    assert_eq!(values("RestartPreventExitStatus"), ["78"]);
    // The gateway does not feed a watchdog: systemd would kill it every time.
    assert_eq!(values("WatchdogSec"), [""; 0]);
}
