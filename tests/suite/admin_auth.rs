//! Who calls the admin listener, by each kind of credential, and what each may do; and what its Unix socket
//! lets in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use data_encoding::BASE64;
use serde_json::json;
use tempfile::TempDir;

use crate::admin::{ADMIN, Caller};
use crate::auth::{files_of, write};
use crate::certificates::{Authority, client};
use crate::harness::http_server::{HttpServer, Reply};
use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, by_way_of, measured, private_directory, request};
use crate::withdrawn::{certified, jwks, jwt};

const CANARY: &str = "[[endpoint]]\npath = \"/canary\"\nto = [\"reply\"]\nmax_connections = 1000\n";

/// Each caller, and the statuses that it gets where the right to read, to tail and to act is needed.
const CALLERS: [(&str, [u16; 3]); 5] = [
    ("reader", [200, 403, 403]),
    ("tailer", [403, 101, 403]),
    ("actor", [403, 403, 200]),
    ("chief", [200, 101, 200]),
    ("guest", [403, 403, 403]),
];

const ALLOW: &str = "allow = [{ who = \"reader\", rights = \"read\" }, { who = \"tailer\", rights = \"tail\" }, \
                     { who = \"actor\", rights = \"act\" }, { who = \"chief\" }]\n";

/// The statuses of what takes the right to read, to tail and to act; `raw` connects.
fn statuses(raw: impl Fn() -> Raw, line: Option<&str>) -> [u16; 3] {
    let lines: Vec<&str> = line.into_iter().collect();
    let read = Caller::over(raw()).ask_with("GET", "/api/v1/info", &lines, None).status;
    let mut tail = raw();
    tail.send(request("/api/v1/tail", &lines).as_bytes());
    let tail = tail.head()[9..12].parse().unwrap();
    [read, tail, Caller::over(raw()).ask_with("POST", "/api/v1/publish/canary", &lines, Some(b"x")).status]
}

/// A gateway whose admin listener asks for this `[[auth]]`.
fn asking(auth: &str) -> Gateway {
    Gateway::start(&format!(
        "[gateway]\nfailed_credentials = \"off\"\n{CANARY}{LISTENERS}[[auth]]\nname = \"ops\"\n{auth}\n{ADMIN}\
         auth = [\"ops\"]\n{ALLOW}"
    ))
}

/// Each caller with this header gets what its rights allow; who has none, or a wrong one, is nobody.
fn judge(kind: &str, gateway: &Gateway, line: impl Fn(&str) -> String, wrong: &str) {
    let raw = || Raw::plain(gateway.admin_port());
    for (name, expected) in CALLERS {
        assert_eq!(statuses(raw, Some(&line(name))), expected, "{name} by {kind}");
    }
    assert_eq!(statuses(raw, None), [401; 3], "{kind}");
    assert_eq!(statuses(raw, Some(wrong)), [401; 3], "{kind}");
    let checks = ["/healthz", "/readyz"].map(|path| Caller::over(raw()).get(path).status);
    assert_eq!(checks, [200; 2], "{kind}");
    measured("S2", format!("15 of 15 requests of 5 callers with rights to read, tail and act by {kind}"));
}

/// A file of secrets with this text, as the configuration names it.
fn secret(text: &str) -> (TempDir, String) {
    let directory = private_directory();
    write(&directory.path().join("secret"), text);
    let file = directory.path().join("secret").display().to_string();
    (directory, file)
}

#[test]
fn s2_each_right_is_judged_alike_by_each_kind_of_credential() {
    let tokens = CALLERS.map(|(name, _)| (name, format!("hunter2-{name}")));
    let files = files_of(&tokens.each_ref().map(|(name, token)| (*name, token.as_str())));
    let file = files.path().join("tokens.txt").display().to_string();
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let gateway = asking(&format!("kind = \"tokens\"\nfile = {file:?}"));
    judge("tokens", &gateway, |name| bearer(&format!("hunter2-{name}")), &bearer("hunter2-wrong"));

    let lines = CALLERS.map(|(name, _)| format!("{name}:{}\n", bcrypt::hash("hunter2", 4).unwrap()));
    let (_users, file) = secret(&lines.concat());
    let basic = |user: &str, password: &str| {
        format!("Authorization: Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
    };
    let gateway = asking(&format!("kind = \"basic\"\nfile = {file:?}"));
    judge("passwords", &gateway, |name| basic(name, "hunter2"), &basic("chief", "hunter3"));

    let (_keys, file) = secret(&jwks(&CALLERS.map(|(name, _)| name)));
    let gateway = asking(&format!("kind = \"jwt\"\nfile = {file:?}"));
    judge("signed tokens", &gateway, |name| bearer(&jwt(name)), &bearer(&jwt("another")));

    let server = HttpServer::up(|request| {
        let question = request.json();
        let token = question["credentials"]["authorization"].as_str().unwrap_or_default().to_owned();
        match token.strip_prefix("hunter2-") {
            Some(name) if name != "wrong" => Reply::of(200, &json!({ "identity": name }).to_string()),
            _ => Reply::of(401, ""),
        }
    });
    let gateway = asking(&format!("kind = \"http\"\nurl = {:?}", server.url("/check")));
    judge("a service", &gateway, |name| bearer(&format!("hunter2-{name}")), &bearer("hunter2-wrong"));
    let asked = server.requests().pop().unwrap().json();
    assert_eq!((&asked["endpoint"], &asked["auth"]), (&"[admin]".into(), &"ops".into()));
}

/// The certificates of these names beside that of the gateway, from one authority.
fn issue(directory: &Path, names: &[&str]) -> Authority {
    let plant = Authority::root("plant");
    fs::write(directory.join("clients.pem"), plant.pem()).unwrap();
    for (number, name) in names.iter().enumerate() {
        plant.issue(directory, name, client(name, number as u64 + 1), "");
    }
    plant
}

#[test]
fn s2_each_right_is_judged_alike_by_the_certificate_of_the_connection() {
    let names = CALLERS.map(|(name, _)| name);
    let tls = "tls = { certificate = \"cert.pem\", private_key = \"key.pem\", client_ca = \"clients.pem\" }\n";
    let config = format!(
        "{CANARY}{LISTENERS}[[auth]]\nname = \"ops\"\nkind = \"certificate\"\n{ADMIN}{tls}auth = [\"ops\"]\n{ALLOW}"
    );
    let gateway = Gateway::start_with(&config, |command| {
        issue(command.get_current_dir().unwrap(), &names);
    });
    let port = gateway.admin_port();
    for (name, expected) in CALLERS {
        let own = certified(&gateway.file(""), name);
        assert_eq!(statuses(|| Raw::secured(port, &own).0, None), expected, "{name}");
    }
    // A stranger's is of another authority, and one without a certificate says nothing at all.
    let elsewhere = tempfile::tempdir().unwrap();
    issue(elsewhere.path(), &["chief"]);
    fs::copy(gateway.file("ca.pem"), elsewhere.path().join("ca.pem")).unwrap();
    let (mut stranger, _) = Raw::secured(port, &certified(elsewhere.path(), "chief"));
    let head = b"GET /api/v1/info HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(stranger.try_send(head).is_err() || stranger.is_gone_within(DEADLINE));
    let mut without = Raw::tls(port, &gateway.file("ca.pem"));
    assert!(without.try_send(head).is_err() || without.is_gone_within(DEADLINE));
    measured("S2", "15 of 15 requests of 5 callers with rights to read, tail and act by certificates");
}

#[test]
fn the_socket_file_lets_in_whom_the_umask_of_its_process_does() {
    for (mask, mode) in [("077", 0o700), ("027", 0o750), ("007", 0o770)] {
        let gateway =
            Gateway::launch(&format!("{CANARY}{LISTENERS}[admin]\naddress = \"unix:admin.sock\"\n"), |command| {
                let script = format!("umask {mask}; exec \"$0\" \"$@\"");
                by_way_of(&["sh", "-c", &script], command);
            });
        gateway.wait_for_log("admin: answering on unix:");
        let file = gateway.file("admin.sock");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode, "umask {mask}");
        assert_eq!(Caller::over(Raw::unix(&file)).get("/api/v1/info").status, 200);
    }
}
