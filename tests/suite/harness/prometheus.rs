//! A Prometheus of the system: it scrapes gateways and evaluates rules every second.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use super::DEADLINE;

/// Dropping it ends it.
pub(crate) struct Prometheus {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Prometheus {
    /// One that scrapes these ports of this machine as the job `wsgate`, with these rules; `None` if Prometheus is not
    /// installed.
    pub(crate) fn start(ports: &[u16], rules: &str) -> Option<Prometheus> {
        let directory = tempfile::tempdir().unwrap();
        let targets = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect::<Vec<_>>().join(", ");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: wsgate, static_configs: [{{targets: [{targets}]}}]}}]\n"
        );
        fs::write(directory.path().join("rules.yml"), rules).unwrap();
        fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        let mut command = Command::new("prometheus");
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]);
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut port, mut said) = (None, String::new());
        while !said.contains("Server is ready to receive web requests") {
            let begin = said.len();
            assert!(log.read_line(&mut said).unwrap() > 0, "Prometheus has ended:\n{said}");
            let line = &said[begin..];
            let address = line.split_once("msg=\"Listening on\" address=").map(|(_, address)| address.trim());
            port = port.or_else(|| address?.rsplit(':').next()?.parse().ok());
        }
        // Nobody needs the rest, but it must not fill the pipe.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Some(Prometheus { child, port: port.expect("it says where it listens"), _directory: directory })
    }

    /// The series that this expression has now; or what is wrong with it.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<serde_json::Value>, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let body: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let body = format!("query={body}");
        let head = format!(
            "POST /api/v1/query HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        match json["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(json.to_string()),
        }
    }

    /// Whether there is a series.
    pub(crate) fn has(&self, expression: &str) -> bool {
        !self.query(expression).unwrap().is_empty()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
