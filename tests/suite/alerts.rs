//! The alerts and the dashboard of config/: they use only metrics that exist, the alerts are those of docs/metrics.md, and
//! in a real Prometheus each alert fires when its cause is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::auth::{files_of, write};
use crate::harness::prometheus::Prometheus;
use crate::harness::{
    ADMIN_LINE, DEADLINE, Gateway, Raw, Remote, eventually, measured, pass, port_in, process, request,
};
use crate::metrics::{documented, is_installed, scrape};

const RULES: &str = include_str!("../../config/prometheus-alerts.yml");
const DASHBOARD: &str = include_str!("../../config/grafana-dashboard.json");

/// The names of the alerts, each with its `for`.
fn alerts() -> BTreeMap<String, String> {
    let mut alerts = BTreeMap::new();
    let mut lines = RULES.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("- alert: ") {
            let after = lines.find_map(|line| line.strip_prefix("for: ")).unwrap();
            alerts.insert(name.to_owned(), after.to_owned());
        }
    }
    assert!(alerts.len() >= 12, "{alerts:?}");
    alerts
}

/// The expressions of the dashboard, with values in the place of its variables.
fn expressions() -> Vec<String> {
    fn collect(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(|expression| expression.as_str()).map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    assert!(found.len() > 40, "only {} expressions", found.len());
    let filled = |expression: String| {
        expression.replace("$job", "wsgate").replace("$instance", ".*").replace("$__rate_interval", "1m")
    };
    found.into_iter().map(filled).collect()
}

/// The names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("wsgate_") || word.starts_with("process_")).collect()
}

#[test]
fn alerts_and_dashboard_use_only_metrics_that_exist() {
    let documented = documented();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for metric in &documented {
        let ends: &[&str] = if metric.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        names.extend(ends.iter().map(|end| format!("{}{end}", metric.name)));
    }
    let tests = fs::read_to_string("tests/prometheus/alerts_test.yml").unwrap();
    for (file, text) in [("alerts", RULES), ("the dashboard", DASHBOARD), ("the tests of alerts", &tests)] {
        let unknown: Vec<_> = metrics_in(text).into_iter().filter(|name| !names.contains(*name)).collect();
        assert!(unknown.is_empty(), "{file}: there is no {unknown:?}");
    }
    let shown = metrics_in(DASHBOARD);
    let left_out: Vec<_> =
        documented.iter().filter(|metric| !shown.iter().any(|name| name.starts_with(&metric.name))).collect();
    assert!(left_out.is_empty(), "the dashboard does not have {left_out:?}");
}

#[test]
fn the_alerts_are_those_of_the_table_and_each_is_tested() {
    let document = fs::read_to_string("docs/metrics.md").unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `Wsgate"));
    let table: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`').to_owned(), cells[3].to_owned())
        })
        .collect();
    assert_eq!(table, alerts());
    let tests = fs::read_to_string("tests/prometheus/alerts_test.yml").unwrap();
    for name in table.keys() {
        let lines = || tests.lines().filter(|line| line.contains(&format!("alertname=\"{name}\"")));
        let is_quiet = lines().any(|line| line.contains("exp_samples: []"));
        assert!(
            is_quiet && lines().any(|line| line.contains("value: 1")),
            "{name} is not tested before and after its time"
        );
    }
}

#[test]
fn the_alerts_fire_after_their_time_and_not_before() {
    if !is_installed("promtool") {
        return measured("alerts", "skipped: promtool is not installed");
    }
    for arguments in
        [["check", "rules", "config/prometheus-alerts.yml"], ["test", "rules", "tests/prometheus/alerts_test.yml"]]
    {
        let output = process::run(Command::new("promtool").args(arguments), DEADLINE);
        let told = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
    }
}

/// Waits until an alert fires for the gateway with this admin port.
fn fires(prometheus: &Prometheus, alert: &str, port: u16) {
    let firing = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\", instance=\"127.0.0.1:{port}\"}}");
    eventually(&format!("{alert} fires"), 3 * DEADLINE, || prometheus.has(&firing));
}

fn with_admin(config: &str) -> String {
    format!("[admin]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:0\"\nname = \"plain\"\n{config}")
}

fn client(gateway: &Gateway, path: &str) -> Raw {
    let mut client = Raw::plain(gateway.port("plain"));
    client.upgrade(path, &[]);
    client
}

/// A gateway whose log is read for as long as it starts, and then no more.
struct Unread {
    child: Child,
    admin: u16,
    port: u16,
}

impl Unread {
    fn start(directory: &tempfile::TempDir) -> Unread {
        let config = with_admin("[[endpoint]]\npath = \"/\"\n");
        fs::write(directory.path().join("wsgate.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        command.args(["serve", "--config", "wsgate.toml"]).current_dir(directory.path()).env_remove("RUST_LOG");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let (admin, port) = loop {
            assert!(log.read_line(&mut said).unwrap() > 0, "it has ended:\n{said}");
            let ports = |text: &str| said.lines().find_map(|line| port_in(line, text));
            if let (Some(admin), Some(port)) = (ports(ADMIN_LINE), ports("listener \"plain\": accepting on ")) {
                break (admin, port);
            }
        };
        Unread { child, admin, port }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The gateways for which alerts fire, each with its cause.
struct Troubled {
    full: Gateway,
    descriptors: Gateway,
    memory: Gateway,
    mixed: Gateway,
    slow: Gateway,
    unread: Unread,
    down: Option<Gateway>,
    _directory: tempfile::TempDir,
    _away: Remote,
}

impl Troubled {
    fn start() -> Troubled {
        let (away, directory) = (Remote::away(), tempfile::tempdir().unwrap());
        let tokens = fs::read_to_string(files_of(&[("press", "hunter2-press")]).path().join("tokens.txt")).unwrap();
        let mixed = format!(
            "[[auth]]\nname = \"devices\"\nkind = \"tokens\"\nfile = \"tokens.txt\"\n\
             [[endpoint]]\npath = \"/\"\nto = [\"broadcast\"]\n\
             queue = {{ messages = 2, bytes = \"64KiB\", when_full = \"drop_newest\" }}\n\
             [[endpoint]]\npath = \"/closed\"\nauth = [\"devices\"]\n\
             [[endpoint]]\npath = \"/plc\"\nto = [\"link:plc\"]\n\
             [[link]]\nname = \"plc\"\nurl = {:?}\nqueue = {{ messages = 2, bytes = \"64KiB\" }}\n",
            away.url()
        );
        Troubled {
            full: Gateway::start(&format!("[gateway]\nmax_connections = 10\n{}", with_admin(""))),
            descriptors: Gateway::start_limited(&with_admin(""), "--nofile=64"),
            memory: Gateway::start(&format!(
                "[gateway]\nmemory = \"64MiB\"\n{}",
                with_admin("[[endpoint]]\npath = \"/\"\nmax_message = \"64MiB\"\nmessage_timeout = \"off\"\nto = []\n")
            )),
            mixed: Gateway::start_with(&with_admin(&mixed), |command| {
                write(&command.get_current_dir().unwrap().join("tokens.txt"), &tokens);
            }),
            slow: Gateway::start(&with_admin(
                "[[endpoint]]\npath = \"/\"\nto = [\"broadcast\"]\nmax_connections = 1000\nheartbeat = \"off\"\n",
            )),
            unread: Unread::start(&directory),
            down: Some(Gateway::start(&with_admin(""))),
            _directory: directory,
            _away: away,
        }
    }

    fn admin_ports(&self) -> Vec<u16> {
        let gateways = [&self.full, &self.descriptors, &self.memory, &self.mixed, &self.slow];
        let ports = gateways.into_iter().chain(&self.down).map(Gateway::admin_port);
        ports.chain([self.unread.admin]).collect()
    }
}

/// Clients until nine tenths of what there is are used.
fn use_up(gateway: &Gateway, used: &str, limit: &str) -> Vec<Raw> {
    let mut clients = Vec::new();
    while {
        let now = scrape(gateway);
        now.value(used) / now.value(limit) <= 0.9
    } {
        clients.push(client(gateway, "/"));
    }
    clients
}

/// A message that never ends, of which so much has arrived that nine tenths of the memory are used.
fn fill_memory(gateway: &Gateway) -> Raw {
    const MIB: usize = 1 << 20;
    let mut client = client(gateway, "/");
    let head = [&[0x82, 0xff][..], &(63 * MIB as u64).to_be_bytes(), &[0; 4]].concat();
    client.send(&head);
    for _ in 0..60 {
        let now = scrape(gateway);
        if now.value("wsgate_memory_bytes") / now.value("wsgate_memory_limit_bytes") > 0.9 {
            client.send(&vec![0; MIB]);
            return client;
        }
        client.send(&vec![0; MIB]);
        // It is counted once it has arrived.
        pass(Duration::from_millis(20));
    }
    panic!("60 MiB of a message have not filled 64 MiB");
}

/// What goes wrong between a gateway and its clients and links.
fn cause_trouble(gateway: &Gateway) -> Vec<Raw> {
    let port = gateway.port("plain");
    for (path, header) in [("/nowhere", "X-Nothing: 1"), ("/closed", "Authorization: Bearer hunter2-wrong")] {
        for _ in 0..60 {
            let mut client = Raw::plain(port);
            client.send(request(path, &[header]).as_bytes());
            client.head();
        }
    }
    let mut plc = client(gateway, "/plc");
    (0..10).for_each(|number| plc.send_text(&number.to_string()));
    let mut stuck = Raw::narrow(port);
    stuck.upgrade("/", &[]);
    let mut sender = client(gateway, "/");
    for _ in 0..40 {
        sender.send_frame(0x82, &vec![7; 100_000]);
        sender.message();
    }
    fs::remove_file(gateway.file("tokens.txt")).unwrap();
    gateway.signal(Signal::HUP);
    vec![plc, stuck, sender]
}

/// A gateway that gets little processor time while it has much to deliver, until `is_seen`.
fn starve(gateway: &Gateway, is_seen: impl Fn() -> bool) {
    let _audience: Vec<Raw> = (0..300).map(|_| client(gateway, "/")).collect();
    let done = AtomicBool::new(false);
    let late = Instant::now() + 4 * DEADLINE;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = client(gateway, "/");
            while !done.load(Ordering::Relaxed) {
                sender.send_text("for three hundred");
                sender.message();
            }
        });
        while !is_seen() && Instant::now() < late {
            gateway.signal(Signal::STOP);
            pass(Duration::from_millis(300));
            gateway.signal(Signal::CONT);
            pass(Duration::from_millis(60));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn each_alert_fires_in_prometheus_when_its_cause_is_there() {
    let times_cut: String =
        RULES
            .lines()
            .map(|line| {
                if line.trim_start().starts_with("for: ") {
                    "        for: 0s\n".to_owned()
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
    let mut troubled = Troubled::start();
    let ports = troubled.admin_ports();
    let Some(prometheus) = Prometheus::start(&ports, &times_cut) else {
        return measured("alerts", "skipped: Prometheus is not installed");
    };
    // What grows from now on has been seen before.
    let seen = format!("count(count_over_time(up{{job=\"wsgate\"}}[1m]) >= 2 and up == 1) == {}", ports.len());
    eventually("Prometheus has seen all", 3 * DEADLINE, || prometheus.has(&seen));
    assert_eq!(prometheus.query("ALERTS{alertname!=\"WsgateLinkDown\"}").unwrap(), Vec::<serde_json::Value>::new());

    let Troubled { full, descriptors, memory, mixed, slow, unread, down, .. } = &mut troubled;
    let mut kept = use_up(full, "wsgate_connections", "wsgate_connections_limit");
    kept.extend(use_up(descriptors, "process_open_fds", "process_max_fds"));
    // The scrape itself has one, too.
    kept.extend([client(descriptors, "/"), client(descriptors, "/")]);
    kept.push(fill_memory(memory));
    kept.extend(cause_trouble(mixed));
    for _ in 0..20 {
        let mut client = Raw::plain(unread.port);
        client.upgrade("/", &[]);
    }
    let down_at = down.as_ref().unwrap().admin_port();
    drop(down.take());
    let starved = slow.admin_port();
    let firing = format!("ALERTS{{alertname=\"WsgateFanoutSlow\", instance=\"127.0.0.1:{starved}\"}}");
    let mixed = mixed.admin_port();
    let expected = [
        ("WsgateDown", down_at),
        ("WsgateConnectionsNearLimit", full.admin_port()),
        ("WsgateDescriptorsNearLimit", descriptors.admin_port()),
        ("WsgateMemoryNearLimit", memory.admin_port()),
        ("WsgateLinkDown", mixed),
        ("WsgateLinkMessagesDropped", mixed),
        ("WsgateMessagesDropped", mixed),
        ("WsgateHandshakeFailures", mixed),
        ("WsgateAuthFailures", mixed),
        ("WsgateReloadFailed", mixed),
        ("WsgateLogLinesLost", unread.admin),
        ("WsgateFanoutSlow", starved),
    ];
    for (alert, port) in expected {
        if port == starved {
            starve(slow, || prometheus.has(&firing));
        }
        fires(&prometheus, alert, port);
    }
    assert_eq!(
        expected.map(|(alert, _)| alert.to_owned()).into_iter().collect::<BTreeSet<_>>(),
        alerts().into_keys().collect()
    );
    for expression in expressions() {
        prometheus.query(&expression).unwrap_or_else(|wrong| panic!("{expression}: {wrong}"));
    }
    let expressions = expressions().len();
    measured(
        "alerts",
        format_args!("{} alerts fire; the dashboard's {expressions} expressions are good", expected.len()),
    );
    drop(kept);
}
