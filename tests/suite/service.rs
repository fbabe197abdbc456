//! Under systemd: what the gateway tells it, and whether the unit's numbers fit the default settings.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use wsgate::internals::config::Settings;

use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, Wire, by_way_of, measured, process};

const UNIT: &str = include_str!("../../config/wsgate.service");
const PROGRAM: (&str, &str) = ("wsgate.service", UNIT);
const SOCKET: (&str, &str) = ("wsgate.socket", include_str!("../../config/wsgate.socket"));

/// The values of an option, in the order of the file.
fn values(option: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(option)?.strip_prefix('=')).collect()
}

fn number(option: &str) -> usize {
    match values(option)[..] {
        [value] => value.parse().unwrap_or_else(|error| panic!("{option}={value}: {error}")),
        ref values => panic!("{option} stands there {} times", values.len()),
    }
}

#[test]
fn o4_the_unit_has_a_descriptor_and_a_thread_for_every_client() {
    let clients = Settings::default().gateway.max_connections;
    assert!(number("LimitNOFILE") >= clients + 128, "descriptors for {clients} clients");
    assert!(number("TasksMax") >= clients + 64, "threads for {clients} clients");
}

#[test]
fn o4_the_unit_gives_a_stop_the_time_that_it_may_take() {
    let gateway = Settings::default().gateway;
    let given = Duration::from_secs(number("TimeoutStopSec") as u64);
    assert!(given > gateway.drain_timeout + gateway.close_timeout, "{given:?} before the kill");
}

#[test]
fn o4_the_unit_starts_a_gateway_again_unless_its_configuration_is_wrong() {
    assert_eq!(values("Type"), ["notify"]);
    assert_eq!(values("Restart"), ["on-failure"]);
    assert_eq!(values("RestartPreventExitStatus"), ["78"]);
    assert_eq!(number("StartLimitIntervalSec"), 0);
    assert_eq!(number("RestartSec"), 1);
    assert_eq!(number("WatchdogSec"), 30);
}

#[test]
fn o4_the_unit_keeps_to_itself() {
    let expected = "
        LimitNOFILE= TasksMax= TimeoutStopSec= DynamicUser=yes UMask=0077 NoNewPrivileges=yes
        ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes ProtectKernelTunables=yes
        ProtectKernelModules=yes ProtectKernelLogs=yes ProtectControlGroups=yes ProtectClock=yes ProtectHostname=yes
        ProtectProc=invisible RemoveIPC=yes RestrictNamespaces=yes RestrictRealtime=yes
        RestrictSUIDSGID=yes LockPersonality=yes MemoryDenyWriteExecute=yes SystemCallArchitectures=native
        CapabilityBoundingSet=";
    for line in expected.split_whitespace() {
        let (option, value) = line.split_once('=').unwrap();
        let values = values(option);
        assert_eq!(values.len(), 1, "{option}: {values:?}");
        let is_number = ["LimitNOFILE", "TasksMax", "TimeoutStopSec"].contains(&option);
        assert!(is_number || values == [value], "{option}: {values:?}");
    }
    assert_eq!(values("SupplementaryGroups"), ["wsgate"]);
    assert!(!["", "wsgate"].contains(&values("User")[0]), "systemd makes no user with the name of a group that exists");
    assert_eq!((values("StateDirectory"), values("StateDirectoryMode")), (vec!["wsgate"], vec!["0700"]));
    assert_eq!(values("RestrictAddressFamilies"), ["AF_INET AF_INET6 AF_UNIX"]);
    assert_eq!(values("SystemCallFilter"), ["@system-service", "~@privileged @resources"]);
}

/// The units, the service with this build as its program, where `systemd-analyze` finds them, if that is installed.
fn installed_units() -> Option<(TempDir, [PathBuf; 2])> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        measured("O4", "skipped: systemd-analyze is not installed");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let units = [PROGRAM, SOCKET].map(|(name, text)| {
        let unit = directory.path().join(name);
        fs::write(&unit, text.replace("/usr/local/bin/wsgate", env!("CARGO_BIN_EXE_wsgate"))).unwrap();
        unit
    });
    Some((directory, units))
}

#[test]
fn o4_systemd_finds_nothing_wrong_with_the_units() {
    let Some((_directory, units)) = installed_units() else { return };
    let output = process::run(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units), DEADLINE);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    measured("O4", "systemd-analyze verify of both units: silent");
}

#[test]
fn o4_the_units_are_exposed_to_little() {
    let Some((_directory, units)) = installed_units() else { return };
    for unit in units {
        let mut command = Command::new("systemd-analyze");
        let output = process::run(command.args(["security", "--offline=true", "--no-pager"]).arg(&unit), DEADLINE);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let name = unit.file_name().unwrap().display();
        let level = said.split(&format!("Overall exposure level for {name}: ")).nth(1);
        let level = level.and_then(|rest| rest.split(' ').next());
        let level: f64 = level.unwrap_or_else(|| panic!("no level in {said}")).parse().unwrap();
        measured("O4", format!("systemd-analyze security of {name}: {level}"));
        assert!(level < 2.0, "{said}");
    }
}

/// Who started the gateway and listens to what it says.
pub(crate) struct Supervisor {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Supervisor {
    pub(crate) fn new() -> Supervisor {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Supervisor { socket, directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// What it is told next.
    pub(crate) fn told(&self) -> String {
        let mut buffer = [0; 200];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
    }

    /// What it is told next but for how things are.
    pub(crate) fn told_but_status(&self) -> String {
        loop {
            let told = self.told();
            if !told.starts_with("STATUS=") {
                return told;
            }
        }
    }

    /// Whether the watchdog bites: nothing is said for as long as it waits. What was said before is still there to be read.
    pub(crate) fn starves(&self) -> bool {
        self.socket.set_read_timeout(Some(WATCHDOG)).unwrap();
        let is_silent = (0..10).any(|_| self.socket.recv(&mut [0; 200]).is_err());
        self.socket.set_read_timeout(Some(DEADLINE)).unwrap();
        is_silent
    }
}

/// When the watchdog of these tests bites.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(3);

#[test]
fn o4_systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let supervisor = Supervisor::new();
    let mut gateway = Gateway::launch(LISTENERS, |command| {
        command.env("NOTIFY_SOCKET", supervisor.path());
    });
    assert_eq!(supervisor.told(), "READY=1\nSTATUS=0 clients");
    // Ready means that it accepts.
    let mut clients = Wire::BOTH.map(|wire| gateway.client(wire, "/"));
    // Not for each client, but before long.
    assert_eq!(supervisor.told(), "STATUS=2 clients");
    gateway.signal(Signal::TERM);
    // As long as both timeouts, and some.
    assert_eq!(supervisor.told(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=18000000");
    for client in &mut clients {
        client.closed_with(1001, "Server shutting down");
    }
    measured("O4", "READY=1 when it accepts, STOPPING=1 before the first Close");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn o4_systemd_is_told_of_each_reload_and_of_one_that_failed_until_the_next() {
    let now = || {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
        Duration::from(now).as_micros()
    };
    let supervisor = Supervisor::new();
    let gateway = Gateway::launch(LISTENERS, |command| {
        command.env("NOTIFY_SOCKET", supervisor.path());
    });
    assert_eq!(supervisor.told(), "READY=1\nSTATUS=0 clients");
    let good = fs::read_to_string(gateway.file("wsgate.toml")).unwrap();
    let failed = "READY=1\nSTATUS=0 clients; the last reload failed, see the log";
    for (config, said) in [
        (good.clone(), "READY=1\nSTATUS=0 clients"),
        (format!("{good}\nnonsense = 1"), failed),
        (format!("{good}\n[[endpoint"), failed),
        (good, "READY=1\nSTATUS=0 clients"),
    ] {
        fs::write(gateway.file("wsgate.toml"), config).unwrap();
        let before = now();
        gateway.signal(Signal::HUP);
        let told = supervisor.told();
        let at = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{told}"));
        let at: u128 = at.parse().unwrap();
        assert!((before..=now()).contains(&at), "{before}, {at}");
        assert_eq!(supervisor.told(), said);
    }
    measured("O4", "RELOADING=1 with MONOTONIC_USEC, then READY=1, after 4 of 4 reloads of which 2 failed");
}

/// A gateway with a watchdog that bites after three seconds, and two listeners.
fn watched(supervisor: &Supervisor) -> Gateway {
    watched_with(supervisor, LISTENERS)
}

/// The same with this configuration.
pub(crate) fn watched_with(supervisor: &Supervisor, config: &str) -> Gateway {
    let gateway = Gateway::start_with(config, |command| {
        command.env("NOTIFY_SOCKET", supervisor.path()).env("WATCHDOG_USEC", "3000000");
        // Few, and the socket for the watchdog is one of them from the start.
        by_way_of(&["prlimit", "--nofile=64"], command);
    });
    let mut first = supervisor.told();
    while first == "WATCHDOG=1" {
        first = supervisor.told();
    }
    assert!(first.starts_with("READY=1\n"), "{first}");
    gateway
}

#[test]
fn o4_the_watchdog_is_fed_while_the_gateway_idles_and_when_it_has_no_descriptor_left() {
    let supervisor = Supervisor::new();
    let mut gateway = watched(&supervisor);
    let mut longest = Duration::ZERO;
    let mut feed = |times: usize| {
        let mut last = Instant::now();
        for _ in 0..times {
            assert_eq!(supervisor.told_but_status(), "WATCHDOG=1");
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
    };
    feed(4);
    let beyond: Vec<Raw> = (0..100).map(|_| gateway.raw("plain")).collect();
    gateway.wait_for_log("failed to accept");
    feed(2);
    drop(beyond);
    gateway.client(Wire::Tls, "/");
    measured("O4", format!("a watchdog of 3 s was fed every {longest:.1?} or sooner"));
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test]
fn o4_the_watchdog_of_a_gateway_that_hangs_starves() {
    let supervisor = Supervisor::new();
    let gateway = watched(&supervisor);
    assert_eq!(supervisor.told(), "WATCHDOG=1");
    gateway.signal(Signal::STOP);
    assert!(supervisor.starves(), "it is still fed");
    gateway.signal(Signal::CONT);
    assert_eq!(supervisor.told(), "WATCHDOG=1");
}
