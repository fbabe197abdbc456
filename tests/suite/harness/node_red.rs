//! A real Node-RED, of the npm package that tests/install-clients.sh installs, with flows of the test's own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use socket2::Socket;
use tempfile::TempDir;

use super::remote::bound;
use super::{DEADLINE, Raw, certificates, eventually, process};
use crate::real_clients::installed;

/// How long it may take from its start to its flows: a second, and many times that on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A Node-RED that may be there or not, always at the same port of this machine. It is killed when this is
/// dropped; after a failed test its log is printed.
pub(crate) struct NodeRed {
    directory: TempDir,
    /// Bound and never listening: it keeps the port while Node-RED is away.
    _holder: Socket,
    port: u16,
    running: Option<Running>,
}

struct Running {
    process: Child,
    /// Node-RED ends when this is closed, so that it does not outlive a test run that is killed.
    _stdin: ChildStdin,
}

impl NodeRed {
    /// A Node-RED that is not there yet. Its directory holds `ca.pem`, `cert.pem` and `key.pem` of an authority
    /// of its own.
    pub(crate) fn away() -> NodeRed {
        let directory = tempfile::tempdir().unwrap();
        certificates::write(directory.path());
        let holder = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = holder.local_addr().unwrap().as_socket().unwrap().port();
        NodeRed { directory, _holder: holder, port, running: None }
    }

    /// A Node-RED that runs these flows.
    pub(crate) fn up(flows: &Value) -> NodeRed {
        let mut node_red = NodeRed::away();
        node_red.come(flows, "");
        node_red
    }

    /// Starts it with these flows and waits until they run. `settings` are more members of its settings, in
    /// JavaScript.
    pub(crate) fn come(&mut self, flows: &Value, settings: &str) {
        assert!(self.running.is_none(), "it is there already");
        let script = installed("target/clients/node-red/node_modules/node-red/red.js");
        fs::write(self.file("flows.json"), flows.to_string()).unwrap();
        let settings = format!(
            "process.stdin.on('end', () => process.exit()).resume();\n\
             module.exports = {{\n\
             flowFile: 'flows.json', credentialSecret: false, uiHost: '127.0.0.1', uiPort: {}, disableEditor: true,\n\
             telemetry: {{ enabled: false, updateNotification: false }}, diagnostics: {{ enabled: false }},\n\
             externalModules: {{ autoInstall: false, palette: {{ allowInstall: false }} }},\n\
             {settings}\n}};\n",
            self.port
        );
        fs::write(self.file("settings.js"), settings).unwrap();
        // A file takes whatever it writes, and there is nobody who has to read it.
        let log = File::create(self.file("log")).unwrap();
        let mut command = Command::new("node");
        command.arg(script).args(["--userDir", ".", "--settings", "settings.js"]).current_dir(self.directory.path());
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        let stdin = process.stdin.take().unwrap();
        self.running = Some(Running { process, _stdin: stdin });
        eventually("Node-RED runs its flows", START, || {
            let ended = self.running.as_mut().unwrap().process.try_wait().unwrap();
            assert!(ended.is_none(), "Node-RED has ended: {ended:?}");
            self.log().contains("Started flows")
        });
        // It also starts flows that it does not understand.
        assert!(!self.log().contains("Error: "), "Node-RED does not run these flows as they are");
    }

    /// Ends it as an operator does, with SIGTERM, and waits until it is gone.
    pub(crate) fn go(&mut self) {
        let mut running = self.running.take().expect("it is there");
        kill_process(Pid::from_child(&running.process), Signal::TERM).unwrap();
        let status = process::wait(&mut running.process, DEADLINE);
        if status.is_none() {
            let _ = running.process.kill();
            let _ = running.process.wait();
            panic!("Node-RED has not ended within {DEADLINE:?} of its SIGTERM");
        }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of one of its listeners.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    /// A file of its directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.file("log")).unwrap_or_default()).into_owned()
    }

    /// What the flows have [recorded](flows) so far.
    pub(crate) fn seen(&self) -> Vec<Value> {
        let mut client = Raw::plain(self.port);
        client.send(b"GET /seen HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let (head, body) = client.answer();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}\n{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until the flows have recorded what `is_it` looks for this many times, and returns those.
    pub(crate) fn wait_for_seen(&self, what: &str, count: usize, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut found = Vec::new();
        eventually(what, DEADLINE, || {
            found = self.seen();
            found.retain(|seen| is_it(seen));
            found.len() >= count
        });
        found
    }

    /// Waits until the websocket nodes of this name have had this status this many times.
    pub(crate) fn wait_for_status(&self, name: &str, status: &str, count: usize) {
        let what = format!("{count} times {status} of {name}");
        self.wait_for_seen(&what, count, |seen| seen["status"] == status && seen["by"] == name);
    }
}

impl Drop for NodeRed {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            // An error says that it has ended already.
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
        if thread::panicking() {
            eprintln!("--- Node-RED's log\n{}\n---", self.log());
        }
    }
}

/// Flows of these groups of nodes. What they record, and every status of their "websocket in" nodes, is
/// served at `/seen`.
pub(crate) fn flows(groups: &[Value]) -> Value {
    let mut nodes = vec![json!({ "id": "the tab", "type": "tab", "label": "wsgate" })];
    nodes.extend(groups.iter().flat_map(|group| group.as_array().unwrap().clone()));
    nodes.extend([
        json!({ "id": "statuses", "type": "status", "z": "the tab", "scope": null, "wires": [["keep status"]] }),
        function(
            "keep status",
            "if (msg.status.source.type !== 'websocket in' || !msg.status.event) return null;\n\
             global.set('seen', (global.get('seen') || []).concat({ by: msg.status.source.name, status: msg.status.event }));",
            &[],
        ),
        json!({ "id": "asked", "type": "http in", "z": "the tab", "method": "get", "url": "/seen", "wires": [["give"]] }),
        function("give", "msg.payload = global.get('seen') || []; return msg;", &["given"]),
        json!({ "id": "given", "type": "http response", "z": "the tab", "statusCode": "", "headers": {}, "wires": [] }),
    ]);
    nodes.into()
}

/// A listener at this path, and what becomes of its messages: a function's body in JavaScript that returns
/// what goes out again. `whole` is "Send/Receive entire message".
pub(crate) fn listener(path: &str, whole: bool, answer: &str) -> Value {
    let config = json!({ "type": "websocket-listener", "path": path, "wholemsg": whole.to_string() });
    group(path, "server", config, answer)
}

/// A client of this name at this URL; `more` are more of its settings.
pub(crate) fn client(name: &str, url: &str, more: Value, answer: &str) -> Value {
    let mut config = json!({
        "type": "websocket-client", "path": url,
        "tls": "", "wholemsg": "false", "hb": "0", "subprotocol": "", "headers": [],
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    group(name, "client", config, answer)
}

/// A configuration with a "websocket in" and a "websocket out" node. What comes in is recorded and goes
/// through the function.
fn group(name: &str, role: &str, mut config: Value, answer: &str) -> Value {
    // To Node-RED every setting of a node that is the id of another is a reference: no id may be the value of a
    // name or a path.
    let [id, input, record, decide, output] =
        ["config", "in", "record", "decide", "out"].map(|part| format!("{part} {name}"));
    config["id"] = json!(id);
    let mut nodes = json!([
        config,
        { "id": input, "type": "websocket in", "z": "the tab", "name": name, "server": "", "client": "", "wires": [[record]] },
        { "id": output, "type": "websocket out", "z": "the tab", "name": name, "server": "", "client": "", "wires": [] },
    ]);
    for index in [1, 2] {
        nodes[index][role] = json!(id);
    }
    // In one go with the answer, so that whoever has the answer finds the record.
    let record_it = format!(
        "const kept = Object.assign({{}}, msg, {{ by: {name:?}, isBinary: Buffer.isBuffer(msg.payload) }});\n\
         if (kept.isBinary) kept.payload = msg.payload.toString('hex');\n\
         const seen = global.get('seen') || []; seen.push(kept); global.set('seen', seen);\n\
         return msg;"
    );
    let nodes_of_it = nodes.as_array_mut().unwrap();
    nodes_of_it.push(function(&record, &record_it, &[&decide]));
    nodes_of_it.push(function(&decide, answer, &[&output]));
    nodes
}

/// A function node.
pub(crate) fn function(id: &str, body: &str, next: &[&str]) -> Value {
    json!({
        "id": id, "type": "function", "z": "the tab", "name": "", "func": body, "outputs": 1, "timeout": 0, "noerr": 0,
        "initialize": "", "finalize": "", "libs": [], "wires": [next],
    })
}
