//! Authentication by signed tokens that PyJWT has made.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use tempfile::TempDir;

use crate::auth::write;
use crate::harness::jwt::{hs256, seconds_from_now, signed_by};
use crate::harness::{Gateway, LISTENERS, Raw, Remote, pass, process, request};
use crate::real_clients::{installed, source};

/// Tokens by name, and the directory with the keys.
pub(crate) fn tokens() -> (TempDir, HashMap<String, String>) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(installed("target/clients/python/bin/python"));
    command.arg(source("tests/clients/python_tokens.py")).arg(directory.path());
    let output = process::run(&mut command, Duration::from_secs(60));
    let tokens = serde_json::from_slice(&output.stdout);
    (directory, tokens.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// A gateway on one of the files; `auth` is more of the `[[auth]]`, `endpoint` of the `[[endpoint]]`.
fn gateway(directory: &TempDir, file: &str, auth: &str, endpoint: &str) -> Gateway {
    let file = directory.path().join(file).display().to_string();
    let config = format!(
        "{LISTENERS}[[auth]]\nname = \"login\"\nkind = \"jwt\"\nfile = {file:?}\nissuer = \"https://login.example\"\n\
         audience = [\"wsgate\", \"other\"]\ncookie = \"session\"\nquery = \"token\"\nsubprotocol = true\n{auth}\n\
         [[endpoint]]\npath = \"/\"\nauth = [\"login\"]\nsubprotocols = [\"chat\"]\n{endpoint}\n"
    );
    Gateway::start(&config)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn status(mut client: Raw, target: &str, line: &str) -> String {
    client.send(request(target, &[line]).as_bytes());
    client.head()[9..12].to_owned()
}

#[test]
fn tokens_of_pyjwt_let_in_from_each_place_and_are_nowhere_to_be_seen() {
    let (directory, tokens) = tokens();
    let gateway = gateway(&directory, "jwks.json", "", "to = [\"reply\"]");
    for listener in ["plain", "tls"] {
        for name in ["RS256", "ES256", "EdDSA", "no kid"] {
            let token = &tokens[name];
            let encoded = BASE64URL_NOPAD.encode(token.as_bytes());
            for (target, line) in [
                ("/".to_owned(), bearer(token)),
                ("/".to_owned(), format!("Cookie: session={token}")),
                (format!("/?token={token}"), "X: y".to_owned()),
                ("/".to_owned(), format!("Sec-WebSocket-Protocol: chat, wsgate.bearer.{encoded}")),
            ] {
                assert_eq!(status(gateway.raw(listener), &target, &line), "101", "{name} by {line:.20}");
            }
        }
    }
    for (file, auth, name) in [
        ("rs256.pem", "", "RS256"),
        ("jwks.json", "algorithm = \"ES256\"", "ES256"),
        ("secret.txt", "algorithm = \"HS256\"", "secret"),
    ] {
        let gateway = self::gateway(&directory, file, auth, "to = [\"reply\"]");
        for (other, token) in &tokens {
            let is_let_in = name == other || file == "jwks.json" && matches!(&other[..], "no kid" | "short");
            let expected = if is_let_in { "101" } else { "401" };
            assert_eq!(status(gateway.raw("plain"), "/", &bearer(token)), expected, "{other} with {file}");
        }
        let log = gateway.log().join("\n");
        assert!(tokens.values().all(|token| !log.contains(&token[token.len() - 40..])), "{log}");
    }
    gateway.wait_for_log(" as 'ada'");
}

#[test]
fn each_token_that_is_wrong_gets_the_same_401_and_the_log_has_the_reason() {
    let (directory, tokens) = tokens();
    let gateway = gateway(&directory, "jwks.json", "", "to = [\"reply\"]");
    let answer = |line: &str| {
        let mut client = gateway.raw("tls");
        client.send(request("/", &[line]).as_bytes());
        let (head, body) = client.answer();
        let head: Vec<&str> = head.lines().filter(|line| !line.starts_with("Date:")).collect();
        (head.join("\n"), body)
    };
    let none = answer("X: y");
    assert!(none.0.starts_with("HTTP/1.1 401 ") && none.0.contains("\nWWW-Authenticate: Bearer "), "{none:?}");
    for (name, reason) in [
        ("expired", "it has expired"),
        ("endless", "it has no end (exp)"),
        ("not yet", "it is not valid yet"),
        ("other issuer", "it is of another issuer"),
        ("other audience", "it is for another audience"),
        ("other key", "it has a wrong signature"),
        ("unknown kid", "it names an algorithm or a kid that no key has"),
        ("kid of another", "it names an algorithm or a kid that no key has"),
        ("critical", "it has extensions that must be understood (crit)"),
        ("none", "it is not signed with HS256, RS256, ES256 or EdDSA"),
        ("secret", "it names an algorithm or a kid that no key has"),
        ("HS256 with the public key", "it names an algorithm or a kid that no key has"),
    ] {
        assert_eq!(answer(&bearer(&tokens[name])), none, "{name}");
        gateway.wait_for_log(&format!("the one in Authorization is none of \"login\" ({reason})"));
    }
    let whole = &tokens["ES256"];
    for cut in [&whole[..whole.len() - 1], &whole[..whole.rfind('.').unwrap()], "x", "..", "a.b.c"] {
        assert_eq!(answer(&bearer(cut)), none, "{cut}");
    }
}

#[test]
fn a_connection_ends_when_its_token_does() {
    let (directory, tokens) = tokens();
    let gateway = gateway(&directory, "jwks.json", "leeway = \"off\"", "to = [\"reply\"]\nheartbeat = \"off\"");
    let mut stays = gateway.raw("plain");
    stays.upgrade("/", &[&bearer(&tokens["RS256"])]);
    let mut client = gateway.raw("plain");
    client.upgrade("/", &[&bearer(&tokens["short"])]);
    client.closed_with(1008, "Token expired");
    stays.send_text("still here");
    assert_eq!(stays.text(), "still here");
    assert_eq!(status(gateway.raw("plain"), "/", &bearer(&tokens["short"])), "401");
}

#[test]
fn the_time_that_a_server_takes_to_answer_is_no_gift_to_its_client() {
    const SECRET: &str = "hunter2-of-thirty-two-bytes-at-least";
    let (directory, server) = (tempfile::tempdir().unwrap(), Remote::up());
    write(&directory.path().join("secret.txt"), SECRET);
    let gateway = Gateway::start(&format!(
        "{LISTENERS}[[auth]]\nname = \"login\"\nkind = \"jwt\"\nalgorithm = \"HS256\"\nfile = {:?}\nleeway = \"off\"\n\
         [[endpoint]]\npath = \"/\"\nauth = [\"login\"]\nrelay = {{ url = \"{}\", proxy = \"off\" }}\n",
        directory.path().join("secret.txt").display().to_string(),
        server.url()
    ));
    let claims = format!("{{\"sub\":\"ada\",\"exp\":{}}}", seconds_from_now(5));
    let token = signed_by("{\"alg\":\"HS256\"}", &claims, hs256(SECRET.as_bytes()));
    let mut client = gateway.raw("plain");
    client.send(request("/", &[&bearer(&token)]).as_bytes());
    let mut upstream = server.accept_raw();
    let head = upstream.head();
    pass(Duration::from_secs(4));
    upstream.answer_upgrade(&head, &[]);
    let let_in = Instant::now();
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.closed_with(1008, "Token expired");
    assert!(let_in.elapsed() < Duration::from_secs(4), "{:?}", let_in.elapsed());
}

#[test]
fn claims_decide_and_those_that_are_chosen_travel() {
    let (directory, tokens) = tokens();
    let endpoint = "to = [\"endpoint:/seen\"]\nformat = \"message\"\nallow = [{ claims = { group = [\"ops\", \"staff\"], level = 3 } }]\n\
                    [[endpoint]]\npath = \"/other\"\nauth = [\"login\"]\nsubprotocols = [\"chat\"]\nallow = [{ claims = { group = \"ops\" } }]\n\
                    [[endpoint]]\npath = \"/seen\"\nto = []\nformat = \"n8n\"";
    let gateway = gateway(&directory, "jwks.json", "claims = [\"group\", \"none\"]", endpoint);
    let mut seen = gateway.raw("plain");
    seen.upgrade("/seen", &[]);
    let mut client = gateway.raw("plain");
    client.upgrade("/", &[&bearer(&tokens["EdDSA"])]);
    client.send_text("{\"payload\":1}");
    let metadata = serde_json::from_str::<serde_json::Value>(&seen.text()).unwrap()["metadata"].take();
    assert_eq!((&metadata["identity"], &metadata["claims"]), (&"ada".into(), &serde_json::json!({"group": "staff"})));
    assert_eq!(status(gateway.raw("plain"), "/other", &bearer(&tokens["EdDSA"])), "403");
}
