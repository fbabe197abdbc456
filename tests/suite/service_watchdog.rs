//! The watchdog of systemd starves when any one thread hangs that all clients rely on. A debugger's means hold a single
//! thread of the real program; all others go on.

use std::fs;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::service::{Supervisor, WATCHDOG, watched_with};
use crate::harness::{Gateway, LISTENERS, Wire, masked, measured};

/// A thread that is held until this is dropped.
struct Held(Pid);

impl Held {
    /// Holds the thread whose name begins so; `None` where the system does not let anybody do that.
    fn thread(gateway: &Gateway, name: &str) -> Option<Held> {
        let mut tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap().map(|task| task.unwrap());
        let is_it = |comm: String| comm.trim_end() == name || comm.starts_with(&format!("{name} "));
        let task = tasks.find(|task| is_it(fs::read_to_string(task.path().join("comm")).unwrap_or_default()));
        let task = task.unwrap_or_else(|| panic!("there is no thread {name}"));
        let tid = Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap());
        ptrace::attach(tid).ok()?;
        waitpid(tid, Some(WaitPidFlag::__WALL)).unwrap();
        Some(Held(tid))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // An error says that the process has ended.
        let _ = ptrace::detach(self.0, None);
    }
}

#[test]
fn c18_the_watchdog_starves_while_any_one_thread_hangs() {
    let supervisor = Supervisor::new();
    let gateway = watched_with(&supervisor, &format!("[gateway]\ndeliverers = 2\n{LISTENERS}"));
    for name in ["broadcaster", "deliver 0", "deliver 1", "flusher", "heartbeat", "accept"] {
        assert_eq!(supervisor.told_but_status(), "WATCHDOG=1", "before {name}");
        let Some(held) = Held::thread(&gateway, name) else {
            return measured("C18", "skipped: the system lets no process hold a thread of another");
        };
        assert!(supervisor.starves(), "{name} hangs, and the watchdog is fed");
        drop(held);
        assert_eq!(supervisor.told_but_status(), "WATCHDOG=1", "{name} goes on");
    }
    // They have all gone on with their work.
    let mut clients: Vec<_> = (0..6).map(|_| gateway.client(Wire::Plain, "/")).collect();
    clients[0].send(&masked(0x81, b"x"));
    clients.iter_mut().for_each(|client| assert_eq!(client.text(), "x"));
    measured("C18", format!("a watchdog of {WATCHDOG:?} starved for each of 6 threads, and was fed again behind it"));
}
