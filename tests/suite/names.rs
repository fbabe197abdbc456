//! Servers that are given by a name, and a name server that takes its time.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Gateway, Remote, Wire, measured, pass, process};
use crate::relay::config;

/// Where the name server listens; the port is that of all name servers.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);

/// A name server for which every name is this machine, and each answer takes so long.
struct NameServer {
    /// How often each name was asked for, for IPv4.
    asked: Arc<Mutex<HashMap<String, usize>>>,
    ended: Arc<AtomicBool>,
}

impl NameServer {
    fn start(takes: Duration) -> io::Result<NameServer> {
        let socket = Arc::new(UdpSocket::bind((ADDRESS, 53))?);
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let server = NameServer { asked: Arc::default(), ended: Arc::default() };
        let (asked, ended) = (Arc::clone(&server.asked), Arc::clone(&server.ended));
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut buffer) else { continue };
                let (answer, name, is_ipv4) = answer(&buffer[..count]);
                if is_ipv4 {
                    *asked.lock().unwrap().entry(name).or_default() += 1;
                }
                let socket = Arc::clone(&socket);
                thread::spawn(move || {
                    pass(takes);
                    let _ = socket.send_to(&answer, from);
                });
            }
        });
        Ok(server)
    }

    fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The answer to a question (RFC 1035 section 4), the name in it, and whether it asks for an IPv4 address.
fn answer(question: &[u8]) -> (Vec<u8>, String, bool) {
    let mut labels = Vec::new();
    let mut at = 12;
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).into_owned());
        at = end;
    }
    let is_ipv4 = question[at + 1..at + 3] == [0, 1];
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
    answer.extend(&question[12..at + 5]);
    if is_ipv4 {
        // The name of the question, an address, a minute, and the address.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    (answer, labels.join("."), is_ipv4)
}

#[test]
fn b16_sixty_clients_that_ask_for_a_name_at_once_share_one_lookup() {
    let may_mount = process::run(Command::new("unshare").args(["--mount", "true"]), DEADLINE).status.success();
    let names = match NameServer::start(Duration::from_millis(200)) {
        Ok(names) if may_mount => names,
        Ok(_) => return measured("B16", format_args!("skipped: no file may be mounted")),
        Err(error) => return measured("B16", format_args!("skipped: there can be no name server: {error}")),
    };
    let server = Remote::up();
    let url = format!("ws://upstream.test:{}/", server.address().port());
    let relay = config(&url, "connect_timeout = \"10s\"", "max_connections = 60");
    // The second gateway keeps nothing, and goes on sharing.
    for (keeps, cache) in [(true, "24h"), (false, "off")] {
        let before = names.asked("upstream.test");
        let gateway = Gateway::start_with_nameserver(
            &relay.replacen("[gateway]\n", &format!("[gateway]\nresolve_cache = \"{cache}\"\n"), 1),
            &ADDRESS.to_string(),
        );
        let begun = Instant::now();
        let (clients, servers) = thread::scope(|scope| {
            let clients: Vec<_> = (0..60).map(|_| scope.spawn(|| gateway.client(Wire::Plain, "/dev/7"))).collect();
            let servers: Vec<_> = (0..60).map(|_| server.upgraded(&[]).0).collect();
            (clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>(), servers)
        });
        let asked = names.asked("upstream.test") - before;
        let took = begun.elapsed();
        measured("B16", format_args!("60 clients at once, resolve_cache = {cache:?}: {asked} lookups, {took:.0?}"));
        if keeps {
            assert_eq!(asked, 1);
        } else {
            assert!(asked < 60, "nothing is shared");
        }
        drop((clients, servers));
    }
}
