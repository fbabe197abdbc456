//! Proxies that people put in front of a gateway, as Debian has them. Each listens on a Unix socket in a directory of its
//! own, so that no port has to be found for it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{DEADLINE, Raw, eventually, process};

/// A running proxy; dropping it kills it.
pub(crate) struct Proxy {
    child: Child,
    directory: TempDir,
}

/// Where a program of this name is, also one that only root has in its PATH.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/local/sbin"]);
    directories.map(|directory| Path::new(directory).join(name)).find(|program| program.is_file())
}

impl Proxy {
    /// nginx with this `server` block, whose `listen 80` is the socket; `None` if it is not installed.
    pub(crate) fn nginx(server: &str) -> Option<Proxy> {
        let program = program("nginx")?;
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let server = replaced(server, "listen 80;", &format!("listen unix:{at}/web.sock;"));
        // Its workers would become another user, who may not enter the directory.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {at}/{name};\n")).collect();
        let config = format!(
            "{user}\ndaemon off;\nworker_processes 1;\npid {at}/pid;\nerror_log {at}/log;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{server}\n}}\n"
        );
        fs::write(directory.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new(program);
        command.arg("-e").arg(directory.path().join("log")).arg("-p").arg(directory.path());
        command.arg("-c").arg(directory.path().join("nginx.conf"));
        Some(Proxy::start(command, directory))
    }

    /// HAProxy with this configuration, whose `bind :80` is the socket; `None` if it is not installed.
    pub(crate) fn haproxy(config: &str) -> Option<Proxy> {
        let program = program("haproxy")?;
        let directory = tempfile::tempdir().unwrap();
        let bind = format!("bind {}/web.sock", directory.path().display());
        let config = format!("{}\n", replaced(config, "bind :80", &bind));
        fs::write(directory.path().join("haproxy.cfg"), config).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(directory.path().join("haproxy.cfg"));
        Some(Proxy::start(command, directory))
    }

    /// Caddy with this site, which is served without TLS on the socket; `None` if it is not installed.
    pub(crate) fn caddy(site: &str) -> Option<Proxy> {
        let program = program("caddy")?;
        let directory = tempfile::tempdir().unwrap();
        let plain = format!("http://gate.example {{\n    bind unix/{}/web.sock", directory.path().display());
        let config = format!("{{\n    admin off\n}}\n{}\n", replaced(site, "gate.example {", &plain));
        fs::write(directory.path().join("Caddyfile"), config).unwrap();
        let mut command = Command::new(program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(directory.path().join("Caddyfile"));
        for name in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(name, directory.path());
        }
        Some(Proxy::start(command, directory))
    }

    fn start(mut command: Command, directory: TempDir) -> Proxy {
        let log = File::create(directory.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut proxy = Proxy { child: command.spawn().unwrap(), directory };
        eventually("the proxy accepts", DEADLINE, || {
            assert!(proxy.child.try_wait().unwrap().is_none(), "it has ended: {}", proxy.log());
            UnixStream::connect(proxy.socket()).is_ok()
        });
        proxy
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("web.sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A client of the proxy.
    pub(crate) fn raw(&self) -> Raw {
        Raw::unix(&self.socket())
    }
}

/// The text with one part of it changed, which has to be there once.
pub(crate) fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} in {text}");
    text.replace(from, to)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of the proxy\n{}\n---", self.log());
        }
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // The master of nginx ends its workers when it is asked to end, not when it is killed.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if process::wait(&mut self.child, DEADLINE).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
