//! Authentication by tokens: who is let in, from which place of a request, and that no credential is seen anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::command::{run, run_with_input};
use crate::harness::{Frame, Gateway, LISTENERS, Raw, Remote, masked, request};

/// The token of press-3, and what it is in base64url.
const TOKEN: &str = "hunter2-of-press-3";
const ENCODED: &str = "aHVudGVyMi1vZi1wcmVzcy0z";

/// A directory with `tokens.txt`, in which press-3 has [`TOKEN`] and `hunter2-old`, and `staff.txt`, in which ada has
/// `hunter2-staff` and `hunter2-admin`.
fn files() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (file, name, tokens) in
        [("tokens.txt", "press-3", [TOKEN, "hunter2-old"]), ("staff.txt", "ada", ["hunter2-staff", "hunter2-admin"])]
    {
        let lines = tokens.map(|token| run_with_input(&["token", "hash", name], token.as_bytes()).stdout().to_owned());
        write(&directory.path().join(file), &lines.concat());
    }
    directory
}

/// A directory with `tokens.txt`, in which each of these names has its token.
pub(crate) fn files_of(tokens: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let line =
        |(name, token): &(&str, &str)| run_with_input(&["token", "hash", name], token.as_bytes()).stdout().to_owned();
    write(&directory.path().join("tokens.txt"), &tokens.iter().map(line).collect::<String>());
    directory
}

/// A file that only its owner can read.
pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// `[[auth]]` devices, which looks everywhere, and staff, which looks in Authorization and in a cookie.
fn auths(files: &TempDir) -> String {
    let file = |name: &str| files.path().join(name).display().to_string();
    format!(
        "[[auth]]\nname = \"devices\"\nkind = \"tokens\"\nfile = {:?}\ncookie = \"session\"\nquery = \"token\"\n\
         subprotocol = true\n[[auth]]\nname = \"staff\"\nkind = \"tokens\"\nfile = {:?}\ncookie = \"staff\"\n",
        file("tokens.txt"),
        file("staff.txt")
    )
}

/// A gateway with an endpoint at `/` that has these lines.
fn gateway(files: &TempDir, endpoint: &str) -> Gateway {
    let config = format!("{LISTENERS}{}[[endpoint]]\npath = \"/\"\n{endpoint}\n", auths(files));
    Gateway::start(&config)
}

const GUARDED: &str = "to = [\"reply\"]\nauth = [\"devices\", \"staff\"]\nsubprotocols = [\"chat\"]";

/// The answer to a request, its date apart.
fn answer(mut client: Raw, target: &str, lines: &[&str]) -> (String, String) {
    client.send(request(target, lines).as_bytes());
    let (head, body) = client.answer();
    (head.lines().filter(|line| !line.starts_with("Date:")).collect::<Vec<_>>().join("\n"), body)
}

fn status(client: Raw, target: &str, lines: &[&str]) -> u16 {
    let mut client = client;
    client.send(request(target, lines).as_bytes());
    client.head()[9..12].parse().unwrap()
}

#[test]
fn a_right_token_lets_in_from_each_place_over_plain_and_tls() {
    let files = files();
    let gateway = gateway(&files, GUARDED);
    for listener in ["plain", "tls"] {
        for (target, lines, name) in [
            ("/".to_owned(), vec![format!("Authorization: Bearer {TOKEN}")], "press-3"),
            ("/".to_owned(), vec!["authorization: bearer hunter2-old".to_owned()], "press-3"),
            ("/".to_owned(), vec![format!("Cookie: a=b; session={TOKEN}")], "press-3"),
            (format!("/?a=b&token={TOKEN}"), vec![], "press-3"),
            ("/".to_owned(), vec![format!("Sec-WebSocket-Protocol: wsgate.bearer.{ENCODED}, chat")], "press-3"),
            ("/".to_owned(), vec!["Authorization: Bearer hunter2-staff".to_owned()], "ada"),
            // A wrong one beside it, and two that are right.
            ("/?token=wrong".to_owned(), vec!["Cookie: staff=hunter2-admin".to_owned()], "ada"),
            (
                "/".to_owned(),
                vec!["Authorization: Bearer hunter2-staff".to_owned(), format!("Cookie: session={TOKEN}")],
                "press-3",
            ),
        ] {
            let mut client = gateway.raw(listener);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let head = client.upgrade(&target, &lines);
            assert!(!head.contains("wsgate.bearer"), "{head}");
            assert_eq!(head.contains("Sec-WebSocket-Protocol: chat"), lines.iter().any(|line| line.contains("chat")));
            client.send(&masked(0x81, b"hello"));
            assert_eq!(client.message(), Frame::text("hello"));
            gateway.wait_for_log(&format!(":{}): connected to '/' as '{name}'", client.own_port()));
        }
    }
}

#[test]
fn s4_every_wrong_token_gets_the_same_answer_as_none_and_takes_no_place() {
    let files = files();
    let gateway = gateway(&files, &format!("{GUARDED}\nmax_connections = 1"));
    let mut here = gateway.raw("plain");
    here.upgrade("/", &[&format!("Authorization: Bearer {TOKEN}")]);
    let truncated = format!("Authorization: Bearer {}", &TOKEN[..TOKEN.len() - 1]);
    let digest = fs::read_to_string(files.path().join("tokens.txt")).unwrap();
    let digest = format!("Authorization: Bearer {}", digest.lines().next().unwrap().split(':').nth(1).unwrap());
    for listener in ["plain", "tls"] {
        let none = answer(gateway.raw(listener), "/", &[]);
        assert!(none.0.starts_with("HTTP/1.1 401 Unauthorized\n"), "{none:?}");
        assert_eq!(none.0.matches("WWW-Authenticate: Bearer realm=\"wsgate\"").count(), 1, "{none:?}");
        for (target, lines) in [
            ("/", &[&truncated[..]][..]),
            ("/", &[&digest]),
            ("/", &["Authorization: Bearer"]),
            ("/", &["Authorization: Bearer \u{e9}"]),
            ("/", &["Authorization: Basic cHJlc3MtMzpodW50ZXIyLW9sZA=="]),
            ("/", &["Authorization: hunter2-old"]),
            ("/", &["Cookie: session=; a=hunter2-old"]),
            ("/", &["Cookie: session=hunter2-staff"]),
            ("/?token=", &[]),
            ("/?token=HUNTER2-OLD", &[]),
            ("/?session=hunter2-old", &[]),
            ("/", &["Sec-WebSocket-Protocol: chat, wsgate.bearer.aHVudGVyMi1vbGQ="]),
            ("/", &["Sec-WebSocket-Protocol: chat, wsgate.bearer.hunter2-old"]),
            ("/", &["Sec-WebSocket-Protocol: chat, hunter2-old"]),
        ] {
            assert_eq!(answer(gateway.raw(listener), target, lines), none, "{target} {lines:?}");
        }
        // One that is right learns that there is no place.
        let mut late = gateway.raw(listener);
        late.upgrade("/", &["Authorization: Bearer hunter2-old"]);
        late.closed_with(1013, "Server at capacity");
    }
    gateway.wait_for_log("refused with 401: this endpoint asks for a credential: it has none");
    gateway
        .wait_for_log("the one in Authorization is none of \"devices\", the one in Authorization is none of \"staff\"");
    gateway.wait_for_log("the one in the query is none of \"devices\"");
}

#[test]
fn a_place_that_is_filled_twice_is_400_and_one_too_large_is_431() {
    let files = files();
    let gateway = gateway(&files, GUARDED);
    let right = format!("Authorization: Bearer {TOKEN}");
    let (twice, cookies) = (format!("/?token={TOKEN}&token=x"), format!("Cookie: session={TOKEN}; session={TOKEN}"));
    for listener in ["plain", "tls"] {
        for (target, lines) in [
            ("/", &[&right[..], &right][..]),
            ("/", &[&right, "Authorization: Basic YTpi"]),
            (&twice, &[]),
            (&twice, &[&right]),
            ("/", &[&cookies]),
            ("/", &["Sec-WebSocket-Protocol: chat, wsgate.bearer.aHVudGVyMi1vbGQ, wsgate.bearer.aHVudGVyMi1vbGQ"]),
            // No answer would be possible that a browser accepts.
            ("/", &["Sec-WebSocket-Protocol: wsgate.bearer.aHVudGVyMi1vbGQ"]),
        ] {
            assert_eq!(status(gateway.raw(listener), target, lines), 400, "{target} {lines:?}");
        }
        let mut client = gateway.raw(listener);
        let long = request("/", &[&format!("Authorization: Bearer {}", "x".repeat(1 << 20))]);
        // It is refused before all of it is sent.
        let _ = client.try_send(long.as_bytes());
        assert!(client.head().starts_with("HTTP/1.1 431 "));
    }
}

#[test]
fn a_page_that_must_know_why_gets_a_close_code() {
    let files = files();
    let gateway = gateway(&files, &format!("{GUARDED}\nrefuse = \"close\""));
    for (lines, agreed) in [
        (&["Authorization: Bearer wrong"][..], false),
        (&["Sec-WebSocket-Protocol: wsgate.bearer.aHVudGVyMi1vbA, chat"], true),
        (&[], false),
    ] {
        let mut client = gateway.raw("plain");
        let head = client.upgrade("/", lines);
        assert_eq!(head.contains("Sec-WebSocket-Protocol: chat"), agreed, "{head}");
        assert_eq!(client.frame(), Frame::close(4401, "Unauthorized"));
        gateway
            .wait_for_log(&format!(":{}): closed with 4401: this endpoint asks for a credential", client.own_port()));
    }
    // What is wrong with the request itself is no matter of authentication.
    assert_eq!(status(gateway.raw("plain"), "/?token=hunter2-old&token=hunter2-old", &[]), 400);
    let mut client = gateway.raw("plain");
    client.upgrade("/", &["Authorization: Bearer hunter2-old"]);
    client.send(&masked(0x81, b"hello"));
    assert_eq!(client.message(), Frame::text("hello"));
}

#[test]
fn s2_no_credential_is_in_the_log_an_answer_a_message_or_an_event() {
    let files = files();
    // Its name does not say that it is a secret.
    let auths = auths(&files).replace("query = \"token\"", "query = \"k\"");
    let config = format!(
        "{LISTENERS}{auths}[[endpoint]]\npath = \"/\"\nto = [\"endpoint:/seen\"]\nformat = \"message\"\n\
         events = [\"connect\", \"disconnect\"]\nauth = [\"devices\"]\nsubprotocols = [\"chat\"]\n\
         [[endpoint]]\npath = \"/seen\"\nto = []\nformat = \"message\"\n"
    );
    let gateway = Gateway::start(&config);
    let mut seen = gateway.raw("plain");
    seen.upgrade("/seen", &[]);
    let (query, subprotocol) =
        (format!("/?a=1&k={TOKEN}"), format!("Sec-WebSocket-Protocol: chat, wsgate.bearer.{ENCODED}"));
    let (header, cookie) = (format!("Authorization: Bearer {TOKEN}"), format!("Cookie: session={TOKEN}"));
    let mut told = String::new();
    let mut client = gateway.raw("plain");
    told.push_str(&client.upgrade(&query, &[&header, &cookie, &subprotocol]));
    client.send_text("{\"payload\":1}");
    for _ in 0..2 {
        let text = seen.text();
        assert!(text.contains("\"query\":{\"a\":\"1\"}") || text.contains("\"event\":\"connect\""), "{text}");
        told.push_str(&text);
    }
    drop(client);
    told.push_str(&seen.text());
    // Requests that are refused for each of the reasons that show something of them.
    let secret = |text: &str| text.replace("TOKEN", TOKEN);
    for target in
        ["/?k=TOKEN x", "/?k=TOKEN&k=TOKEN", "/nowhere?k=TOKEN", "/a%2Fb?k=TOKEN", "/?k=TOKEN#TOKEN", "/?k=xTOKEN"]
    {
        for origin in ["http://localhost", "http://evil.example"] {
            let lines = [&cookie.replace(TOKEN, "xTOKEN")[..], &format!("Origin: {origin}")];
            let mut client = gateway.raw("plain");
            client.send(secret(&request(target, &lines)).as_bytes());
            let (head, body) = client.answer();
            told.push_str(&head);
            told.push_str(&body);
        }
    }
    for status in ["400 ", "401 ", "403 ", "404 "] {
        assert!(told.contains(&format!("HTTP/1.1 {status}")), "no {status}: {told}");
    }
    for text in gateway.log().iter().chain([&told]) {
        assert!(!text.contains(TOKEN) && !text.contains(ENCODED), "{text}");
    }
}

#[test]
fn a_relay_passes_on_no_credential_and_tells_who_the_client_is() {
    let (files, server) = (files(), Remote::up());
    let relay = format!(
        "relay = {{ url = \"{}\", proxy = \"off\", forward_headers = [\"Cookie\", \"Authorization\"] }}\nauth = [\"devices\", \"staff\"]",
        server.url_of("/up?own=1")
    );
    let gateway = gateway(&files, &relay);
    let client = gateway.raw("plain");
    let lines = [
        &format!("Cookie: a=1; session={TOKEN}; b=2; staff=hunter2-admin")[..],
        &format!("Sec-WebSocket-Protocol: ocpp1.6, wsgate.bearer.{ENCODED}"),
        "Authorization: Basic YTpi",
        "X-Wsgate-Identity: root",
    ];
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut client = client;
            client.upgrade(&format!("/?x=1&token={TOKEN}&y=2"), &lines);
            client
        });
        let (_, head) = server.upgraded(&["Sec-WebSocket-Protocol: ocpp1.6"]);
        assert!(head.starts_with("GET /up?own=1&x=1&y=2 HTTP/1.1\r\n"), "{head}");
        for line in [
            "Cookie: a=1; b=2",
            "Sec-WebSocket-Protocol: ocpp1.6",
            "Authorization: Basic YTpi",
            "X-Wsgate-Identity: press-3",
        ] {
            let named = line.split(':').next().unwrap();
            let found: Vec<&str> = head.lines().filter(|own| own.starts_with(&format!("{named}:"))).collect();
            assert_eq!(found, [line], "{head}");
        }
        connecting.join().unwrap();
    });
    // Who is not let in does not even make it dial.
    assert_eq!(status(gateway.raw("plain"), "/?token=wrong", &[]), 401);
    server.expect_nobody();
}

#[test]
fn tokens_are_made_and_hashed_by_the_command_line() {
    let made = run(&["token", "new", "00:1B:44:11:3A:B7"]);
    made.expect(0, &["00:1B:44:11:3A:B7:"]);
    let token = made.stdout().trim_end().to_owned();
    assert_eq!((token.len(), made.stdout().lines().count()), (43, 1));
    let hashed = run_with_input(&["token", "hash", "00:1B:44:11:3A:B7"], format!("{token}\n").as_bytes());
    hashed.expect(0, &[]);
    let line = hashed.stdout().trim_end();
    made.expect(0, &[line]);
    let files = files();
    write(&files.path().join("tokens.txt"), &format!("# devices\n\n{line}\n"));
    let gateway = gateway(&files, GUARDED);
    let mut client = gateway.raw("plain");
    client.upgrade("/", &[&format!("Authorization: Bearer {token}")]);
    gateway.wait_for_log(" as '00:1B:44:11:3A:B7'");
    run_with_input(&["token", "hash", "x"], b"short").expect(0, &["warning: this token is short"]);
    run_with_input(&["token", "hash", "x"], b"two words").expect(65, &["one line of ASCII characters"]);
    run_with_input(&["token", "hash", "x"], b"").expect(65, &["no token on standard input"]);
    run(&["token", "new", ""]).expect(64, &["is no name"]);
    run(&["token", "new", "a\u{7}"]).expect(64, &["is no name"]);
}

#[test]
fn a_file_that_is_no_good_stops_the_start_and_is_named() {
    let files = files();
    let tokens = files.path().join("tokens.txt");
    let good = fs::read_to_string(&tokens).unwrap();
    let config = format!(
        "{}[[endpoint]]\npath = \"/\"\nauth = [\"devices\", \"staff\"]\nsubprotocols = [\"a\"]\n",
        auths(&files)
    );
    let refused = |words: &str| {
        let mut gateway = Gateway::launch(&config, |_| {});
        assert_eq!(gateway.wait().code(), Some(78), "{words}");
        let log = gateway.whole_log().join("\n");
        assert!(log.contains("tokens.txt\"") && log.contains(words), "{words}: {log}");
    };
    write(&tokens, "");
    refused("which is wrong: it has no token: add the line");
    write(&tokens, &format!("{}hunter2:12", good.repeat(5000)));
    refused("which is wrong on line 10001: it is not NAME:HEX");
    fs::write(&tokens, b"\xff").unwrap();
    refused("which is not UTF-8 text");
    fs::remove_file(&tokens).unwrap();
    refused("which cannot be read: no such file");
    fs::create_dir(&tokens).unwrap();
    refused("which cannot be read: is a directory");
    fs::remove_dir(&tokens).unwrap();
}

#[test]
fn only_open_endpoints_of_a_listener_that_others_reach_are_warned_of() {
    let files = files();
    let listen =
        "[[listen]]\nname = \"out\"\naddress = \"0.0.0.0:0\"\n[[listen]]\nname = \"in\"\naddress = \"127.0.0.1:0\"\n";
    let endpoint = |path: &str, more: &str| format!("[[endpoint]]\npath = \"{path}\"\nto = []\n{more}\n");
    let guarded = endpoint("/guarded", "auth = [\"devices\"]\nsubprotocols = [\"a\"]");
    let staff = endpoint("/staff", "auth = [\"staff\"]");
    let inside = endpoint("/inside", "listen = [\"in\"]");
    let start = |config: &str| {
        let gateway = Gateway::start_with(config, |_: &mut Command| {});
        gateway.wait_for_log("listener \"in\": accepting on ");
        gateway
    };
    let closed = start(&format!("{listen}{}{guarded}{staff}{inside}", auths(&files)));
    assert!(!closed.log().iter().any(|line| line.contains("nothing authenticates")), "{:?}", closed.log());
    let open = start(&format!("{listen}{}{guarded}{staff}{inside}{}", auths(&files), endpoint("/open", "")));
    let line =
        open.wait_for_log("can be reached from other machines, and nothing authenticates the clients of '/open'");
    assert!(line.contains("listener \"out\"") && line.ends_with("'/open'"), "{line}");
}
