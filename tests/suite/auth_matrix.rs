//! Every way in which a credential can be right or wrong, for each kind of `[[auth]]`, from each place in which it may
//! stand, over plain and TLS; and credentials of two kinds at once.

use std::fmt::Write as _;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use tempfile::TempDir;

use crate::auth::{files_of, write};
use crate::auth_basic::htpasswd;
use crate::harness::jwt::{hs256, rs256, seconds_from_now, signed_by};
use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, eventually, masked, request};

const PLACES: [&str; 4] = ["authorization", "cookie", "query", "subprotocol"];
const WIRES: [&str; 2] = ["plain", "tls"];
const MEBIBYTE: usize = 1 << 20;

/// A kind of `[[auth]]`, and what its clients may send.
struct Kind {
    name: &'static str,
    /// What stands before it in Authorization.
    scheme: &'static str,
    /// The table, without its places.
    table: String,
    right: String,
    wrong: Vec<(&'static str, String)>,
}

impl Kind {
    /// Passwords come in Authorization alone.
    fn is_looked_for(&self, place: &str) -> bool {
        self.scheme == "Bearer" || place == "authorization"
    }

    /// What is let in is called.
    fn identity(&self) -> &'static str {
        if self.name == "tokens" { "press-3" } else { "ada" }
    }
}

/// All kinds, with their files in this directory.
fn kinds(directory: &TempDir, tokens: &TempDir) -> [Kind; 3] {
    let file = |directory: &TempDir, name: &str| directory.path().join(name).display().to_string();
    [of_tokens(&file(tokens, "tokens.txt")), of_basic(&file(directory, "users")), of_jwt(&file(directory, "keys.pem"))]
}

fn of_tokens(file: &str) -> Kind {
    let right = "hunter2-of-press-3".to_owned();
    let line = std::fs::read_to_string(file).unwrap();
    let wrong = vec![
        ("another", "hunter2-of-press-4".to_owned()),
        ("truncated", right[..right.len() - 1].to_owned()),
        ("longer", format!("{right}x")),
        ("in upper case", right.to_uppercase()),
        ("the digest of it", line.trim_end().rsplit(':').next().unwrap().to_owned()),
        ("a JWT that nobody has signed", signed_by("{\"alg\":\"none\"}", "{\"sub\":\"press-3\"}", |_| Vec::new())),
    ];
    Kind { name: "tokens", scheme: "Bearer", table: format!("kind = \"tokens\"\nfile = {file:?}"), right, wrong }
}

fn of_basic(file: &str) -> Kind {
    htpasswd(file.as_ref(), &["-B", "-C", "4"], &[("ada", "hunter2-of-ada")]);
    let basic = |text: &str| BASE64.encode(text.as_bytes());
    let right = basic("ada:hunter2-of-ada");
    let wrong = vec![
        ("another password", basic("ada:hunter2")),
        ("no password", basic("ada:")),
        ("an unknown user", basic("eve:hunter2-of-ada")),
        ("no user", basic(":hunter2-of-ada")),
        ("no colon", basic("ada")),
        ("the same twice with a zero between", basic("ada:hunter2-of-ada\0hunter2-of-ada")),
        ("truncated", right[..right.len() - 1].to_owned()),
        ("cut where base64 is whole", right[..right.len() / 4 * 4 - 4].to_owned()),
        ("not encoded", "ada:hunter2-of-ada".to_owned()),
    ];
    Kind { name: "basic", scheme: "Basic", table: format!("kind = \"basic\"\nfile = {file:?}"), right, wrong }
}

fn of_jwt(file: &str) -> Kind {
    let [key, other] = [2048; 2].map(|bits| PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap());
    let pem = key.public_key_to_pem().unwrap();
    write(file.as_ref(), str::from_utf8(&pem).unwrap());
    let der = key.public_key_to_der().unwrap();
    let (later, header) = (seconds_from_now(3600), "{\"alg\":\"RS256\"}");
    let good = format!("{{\"sub\":\"ada\",\"exp\":{later}}}");
    let claims = |claims: String| signed_by(header, &format!("{{\"sub\":\"ada\",{claims}}}"), rs256(&key));
    let right = signed_by(header, &good, rs256(&key));
    let parts: Vec<&str> = right.split('.').collect();
    let forged = BASE64URL_NOPAD.encode(good.replace("ada", "root").as_bytes());
    let wrong = vec![
        ("of another key", signed_by(header, &good, rs256(&other))),
        ("expired", claims(format!("\"exp\":{}", seconds_from_now(-60)))),
        ("without an end", claims(format!("\"iat\":{later}"))),
        ("not yet valid", claims(format!("\"exp\":{later},\"nbf\":{}", seconds_from_now(600)))),
        ("for somebody else", claims(format!("\"exp\":{later},\"aud\":\"shop\""))),
        ("none", signed_by("{\"alg\":\"none\"}", &good, |_| Vec::new())),
        ("none with a signature", signed_by("{\"alg\":\"none\"}", &good, rs256(&key))),
        ("RS256 without a signature", signed_by(header, &good, |_| Vec::new())),
        ("HS256 with the public key as PEM", signed_by("{\"alg\":\"HS256\"}", &good, hs256(&pem))),
        ("HS256 with the public key as DER", signed_by("{\"alg\":\"HS256\"}", &good, hs256(&der))),
        ("RS256 that is HS256", signed_by(header, &good, hs256(&pem))),
        ("RS512", signed_by("{\"alg\":\"RS512\"}", &good, rs256(&key))),
        ("critical", signed_by("{\"alg\":\"RS256\",\"crit\":[\"exp\"]}", &good, rs256(&key))),
        ("with other claims", [parts[0], &forged, parts[2]].join(".")),
        ("truncated", right[..right.len() - 2].to_owned()),
        ("cut behind its claims", parts[..2].join(".")),
        ("with a fourth part", format!("{right}.")),
        ("a token of another kind", "hunter2-of-press-3".to_owned()),
    ];
    Kind { name: "jwt", scheme: "Bearer", table: format!("kind = \"jwt\"\nfile = {file:?}"), right, wrong }
}

/// The target and the header line of a request with a credential in this place, once or twice.
fn at(place: &str, path: &str, scheme: &str, text: &str, count: usize) -> (String, Vec<String>) {
    let line = |line: String| (path.to_owned(), vec![line]);
    match place {
        "authorization" => (path.to_owned(), vec![format!("Authorization: {scheme} {text}"); count]),
        "cookie" => line(format!("Cookie: {}", vec![format!("session={text}"); count].join("; "))),
        "query" => (format!("{path}?{}", vec![format!("token={text}"); count].join("&")), Vec::new()),
        "subprotocol" => {
            let encoded = format!(", wsgate.bearer.{}", BASE64URL_NOPAD.encode(text.as_bytes()));
            line(format!("Sec-WebSocket-Protocol: chat{}", encoded.repeat(count)))
        }
        other => panic!("no place {other}"),
    }
}

/// An endpoint with one place for each of them: a wrong credential that took it would keep the right one out.
fn config(kinds: &[Kind]) -> String {
    let mut config = format!("[gateway]\nfailed_credentials = \"off\"\n{LISTENERS}");
    for Kind { name, scheme, table, .. } in kinds {
        let places = "cookie = \"session\"\nquery = \"token\"\nsubprotocol = true";
        let places = if *scheme == "Bearer" { places } else { "" };
        let _ = writeln!(config, "[[auth]]\nname = \"{name}\"\n{table}\n{places}");
    }
    let mut endpoint = |path: &str, auth: &str| {
        let _ = writeln!(
            config,
            "[[endpoint]]\npath = \"{path}\"\nto = [\"reply\"]\nauth = {auth}\nsubprotocols = [\"chat\"]\n\
             max_connections = 1\nat_capacity = \"refuse\""
        );
    };
    for Kind { name, .. } in kinds {
        for path in PLACES.iter().flat_map(|place| WIRES.map(|wire| path(name, place, wire))) {
            endpoint(&path, &format!("[\"{name}\"]"));
        }
    }
    endpoint("/two", "[\"tokens\", \"basic\", \"jwt\"]");
    config
}

fn path(kind: &str, place: &str, wire: &str) -> String {
    format!("/{kind}/{place}/{wire}")
}

/// The whole answer to a request, without its date. The connection stays open on this side.
fn answer(client: &mut Raw, target: &str, lines: &[String]) -> (String, String) {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    // What is too long is refused before all of it is sent.
    let _ = client.try_send(request(target, &lines).as_bytes());
    let (head, body) = client.answer();
    (head.lines().filter(|line| !line.starts_with("Date:")).collect::<Vec<_>>().join("\n"), body)
}

fn files() -> (TempDir, TempDir) {
    (tempfile::tempdir().unwrap(), files_of(&[("press-3", "hunter2-of-press-3")]))
}

#[test]
fn s4_each_credential_of_each_kind_is_judged_alike_in_each_place() {
    let (directory, tokens) = files();
    let kinds = kinds(&directory, &tokens);
    let gateway = Gateway::start(&config(&kinds));
    let threads = gateway.threads();
    let mut open = Vec::new();
    for (kind, place, wire) in
        kinds.iter().flat_map(|kind| PLACES.iter().flat_map(move |place| WIRES.map(|wire| (kind, *place, wire))))
    {
        let path = path(kind.name, place, wire);
        let mut ask = |text: &str, count| {
            let (target, lines) = at(place, &path, kind.scheme, text, count);
            open.push(gateway.raw(wire));
            answer(open.last_mut().unwrap(), &target, &lines)
        };
        let missing = answer(&mut gateway.raw(wire), &path, &[]);
        assert!(missing.0.starts_with("HTTP/1.1 401 Unauthorized\n"), "{path}: {missing:?}");
        assert_eq!(missing.0.matches("\nWWW-Authenticate: ").count(), 1, "{path}: {missing:?}");
        for (what, text) in kind.wrong.iter().map(|(what, text)| (*what, text)).chain([("empty", &String::new())]) {
            assert_eq!(ask(text, 1), missing, "{path}: {what}");
        }
        if kind.is_looked_for(place) {
            assert!(ask(&kind.right, 2).0.starts_with("HTTP/1.1 400 "), "{path}: twice");
        }
        assert!(ask(&"x".repeat(MEBIBYTE), 1).0.starts_with("HTTP/1.1 431 "), "{path}: a mebibyte");
        // The others are still there, and none of them has the only place.
        let (target, lines) = at(place, &path, kind.scheme, &kind.right, 1);
        let mut client = gateway.raw(wire);
        if !kind.is_looked_for(place) {
            assert_eq!(answer(&mut client, &target, &lines), missing, "{path}: right, where it is not looked for");
            continue;
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let head = client.upgrade(&target, &lines);
        assert_eq!(head.contains("\nSec-WebSocket-Protocol: chat"), place == "subprotocol", "{head}");
        client.send_text("hello");
        assert_eq!(client.text(), "hello");
        gateway.wait_for_log(&format!(":{}): connected to '{path}' as '{}'", client.own_port(), kind.identity()));
        client.send(&masked(0x88, &1000_u16.to_be_bytes()));
    }
    assert!(open.len() > 200, "only {} were wrong", open.len());
    eventually("no thread is held by those who are still connected", DEADLINE, || gateway.threads() <= threads);
}

#[test]
fn of_two_kinds_at_once_one_that_is_right_suffices() {
    let (directory, tokens) = files();
    let kinds = kinds(&directory, &tokens);
    let gateway = Gateway::start(&config(&kinds));
    let [tokens, basic, jwt] = &kinds;
    let forged = &jwt.wrong.iter().find(|(what, _)| *what == "none").unwrap().1;
    let (stranger, mistyped) = (&tokens.wrong[0].1, &basic.wrong[0].1);
    let both = |first: (&str, &Kind, &String), second: (&str, &Kind, &String)| {
        let (_, mut lines) = at(first.0, "/two", first.1.scheme, first.2, 1);
        let (target, more) = at(second.0, "/two", second.1.scheme, second.2, 1);
        lines.extend(more);
        (target, lines)
    };
    for wire in WIRES {
        let missing = answer(&mut gateway.raw(wire), "/two", &[]);
        let challenges: Vec<_> = missing.0.lines().filter(|line| line.starts_with("WWW-Authenticate: ")).collect();
        assert_eq!(challenges.len(), 2, "each once: {challenges:?}");
        for (first, second) in [
            (("authorization", basic, mistyped), ("cookie", tokens, stranger)),
            (("authorization", basic, mistyped), ("query", jwt, forged)),
            (("authorization", tokens, stranger), ("subprotocol", jwt, forged)),
            // A right one of a kind that does not look there.
            (("cookie", basic, &basic.right), ("query", basic, &basic.right)),
        ] {
            let (target, lines) = both(first, second);
            assert_eq!(answer(&mut gateway.raw(wire), &target, &lines), missing, "{target} {lines:?}");
        }
        for (first, second, identity) in [
            (("authorization", basic, mistyped), ("cookie", tokens, &tokens.right), "press-3"),
            (("authorization", basic, &basic.right), ("query", jwt, forged), "ada"),
            (("cookie", tokens, stranger), ("subprotocol", jwt, &jwt.right), "ada"),
            (("authorization", jwt, &jwt.right), ("cookie", tokens, &tokens.right), "press-3"),
            (("authorization", basic, &basic.right), ("query", tokens, &tokens.right), "press-3"),
        ] {
            let (target, lines) = both(first, second);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut client = gateway.raw(wire);
            eventually("the place is free", DEADLINE, || {
                client = gateway.raw(wire);
                client.send(request(&target, &lines).as_bytes());
                let head = client.head();
                assert!(!head.starts_with("HTTP/1.1 40"), "{target} {lines:?}: {head}");
                head.starts_with("HTTP/1.1 101 ")
            });
            gateway.wait_for_log(&format!(":{}): connected to '/two' as '{identity}'", client.own_port()));
        }
        // One place twice is no question of which is right.
        let (target, mut lines) = both(("cookie", tokens, &tokens.right), ("authorization", basic, &basic.right));
        lines.push(lines.last().unwrap().clone());
        assert!(answer(&mut gateway.raw(wire), &target, &lines).0.starts_with("HTTP/1.1 400 "));
    }
}
