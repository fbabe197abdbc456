//! Authentication by signed tokens whose keys are at a URL.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use rustix::process::Signal;

use crate::auth_jwt::tokens;
use crate::harness::http_server::{HttpServer, Reply};
use crate::harness::{Attack, DEADLINE, Gateway, LISTENERS, Raw, certificates, eventually, pass, request};

/// A key of an issuer.
struct Key {
    kid: &'static str,
    key: PKey<Private>,
}

impl Key {
    fn new(kid: &'static str) -> Key {
        Key { kid, key: PKey::generate_ed25519().unwrap() }
    }

    /// As it stands in a set.
    fn jwk(&self) -> String {
        let x = BASE64URL_NOPAD.encode(&self.key.raw_public_key().unwrap());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"{}","x":"{x}"}}"#, self.kid)
    }

    /// An Authorization with a token of ada's, of an hour.
    fn bearer(&self) -> String {
        let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 3600;
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, self.kid);
        let payload = format!(r#"{{"sub":"ada","exp":{end}}}"#);
        let signed = [header, payload].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
        let signature = Signer::new_without_digest(&self.key).unwrap().sign_oneshot_to_vec(signed.as_bytes()).unwrap();
        format!("Authorization: Bearer {signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

fn set(keys: &[&Key]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| key.jwk()).collect();
    format!(r#"{{"keys":[{{"kty":"future"}},{{"kty":"RSA","n":"AQ","e":"AQAB"}},{}]}}"#, keys.join(","))
}

fn config(server: &HttpServer, auth: &str) -> String {
    format!(
        "[gateway]\nfailed_credentials = \"off\"\n{LISTENERS}[[auth]]\nname = \"login\"\nkind = \"jwt\"\njwks_url = {:?}\n{auth}\n\
         [[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nauth = [\"login\"]\n\
         [[endpoint]]\npath = \"/canary\"\nto = [\"reply\"]\n",
        server.url("/jwks.json")
    )
}

fn answer(gateway: &Gateway, line: &str) -> String {
    let mut client = gateway.raw("plain");
    client.send(request("/", &[line]).as_bytes());
    client.head()
}

fn status(gateway: &Gateway, line: &str) -> String {
    answer(gateway, line)[9..12].to_owned()
}

fn connected(gateway: &Gateway, line: &str) -> Raw {
    let mut client = gateway.raw("plain");
    client.upgrade("/", &[line]);
    client
}

fn stays(client: &mut Raw) {
    client.send_text("still here");
    assert_eq!(client.text(), "still here");
}

#[test]
fn an_unknown_kid_has_the_url_asked_once_and_a_key_that_is_gone_ends_its_clients() {
    let directory = tempfile::tempdir().unwrap();
    certificates::write(directory.path());
    let (old, new, stranger) = (Key::new("old"), Key::new("new"), Key::new("new"));
    let first = set(&[&old]);
    let server = HttpServer::tls(directory.path(), move |_| Reply::of(200, &first));
    let ca = directory.path().join("ca.pem").display().to_string();
    let gateway = Gateway::start(&config(&server, &format!("tls = {{ ca = {ca:?} }}")));
    let mut client = connected(&gateway, &old.bearer());
    gateway.wait_for_log("loaded 1 key from 'https://localhost:");
    assert_eq!(server.requests().len(), 1);

    // The issuer has a further key, and a client comes with it.
    let both = set(&[&old, &new]);
    server.answers(move |_| Reply::of(200, &both));
    let mut newer = connected(&gateway, &new.bearer());
    assert_eq!(server.requests().len(), 2);
    gateway.wait_for_log(", other ones than before");
    stays(&mut client);
    assert_eq!(status(&gateway, &stranger.bearer()), "401", "it has another key of that name");

    // For a minute it is not asked for another one.
    for _ in 0..3 {
        assert_eq!(status(&gateway, &Key::new("third").bearer()), "401");
    }
    gateway.wait_for_log("(it names an algorithm or a kid that no key has)");
    assert_eq!(server.requests().len(), 2);

    let last = set(&[&new]);
    server.answers(move |_| Reply::of(200, &last));
    gateway.signal(Signal::HUP);
    client.closed_with(1008, "Access withdrawn");
    stays(&mut newer);
    assert_eq!(status(&gateway, &old.bearer()), "401");
    let head = server.requests().pop().unwrap().head;
    assert!(head.starts_with("GET /jwks.json HTTP/1.1\r\nHost: localhost:"), "{head}");
}

#[test]
fn an_issuer_that_is_down_at_start_lets_nobody_in_until_it_is_up() {
    let key = Key::new("a");
    let keys = set(&[&key]);
    let mut server = HttpServer::away(move |_| Reply::of(200, &keys));
    let gateway = Gateway::start(&config(&server, ""));
    gateway.wait_for_log("connection refused (is the server running?); no token is accepted until there are keys");
    let head = answer(&gateway, &key.bearer());
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 5"), "{head}");
    assert_eq!(status(&gateway, "X: y"), "401", "it brings nothing to check");
    server.come();
    gateway.wait_for_log("[[auth]] \"login\": loaded 1 key from 'http://127.0.0.1:");
    drop(connected(&gateway, &key.bearer()));
    let log = gateway.log();
    assert_eq!(log.iter().filter(|line| line.contains("no token is accepted")).count(), 1, "{log:?}");
}

#[test]
fn the_last_good_keys_serve_for_a_while_and_then_nobody_comes_in() {
    let key = Key::new("a");
    let keys = set(&[&key]);
    let mut server = HttpServer::up({
        let keys = keys.clone();
        move |_| Reply::of(200, &keys)
    });
    let gateway = Gateway::start(&config(&server, "refresh_interval = \"1s\"\nstale_for = \"6s\""));
    let mut client = connected(&gateway, &key.bearer());
    // Not each answer can be used: what was there stays.
    let many: Vec<Key> = (0..33).map(|_| Key::new("x")).collect();
    let too_many = set(&many.iter().collect::<Vec<_>>());
    let problems = [
        (Reply::of(404, "gone"), "the server answered 404 Whatever: gone"),
        (Reply::of(200, "{}"), "it is JSON, but no JWK set: \"keys\" is missing"),
        (Reply::of(200, r#"{"keys":[]}"#), "it has no key for the signatures"),
        (Reply::of(200, &too_many), "it has 33 keys, and 32 are allowed"),
        (Reply::of(200, &" ".repeat(257 << 10)), "it is longer than 262144 bytes"),
    ];
    for (reply, words) in problems {
        server.answers(move |_| reply.clone());
        gateway.wait_for_log(words);
        assert_eq!(status(&gateway, &key.bearer()), "101", "{words}");
        let keys = keys.clone();
        server.answers(move |_| Reply::of(200, &keys));
        let again = |line: &String| line.contains("loaded 1 key from ");
        let before = gateway.log().iter().filter(|line| again(line)).count();
        eventually("it is well again", DEADLINE, || gateway.log().iter().filter(|line| again(line)).count() > before);
    }
    server.go();
    gateway.wait_for_log("connection refused (is the server running?); the keys that came last serve for ");
    assert_eq!(status(&gateway, &key.bearer()), "101");
    gateway.wait_for_log("; no token is accepted until there are keys");
    assert!(answer(&gateway, &key.bearer()).starts_with("HTTP/1.1 503 "));
    stays(&mut client);
    server.come();
    eventually("keys are there again", DEADLINE, || status(&gateway, &key.bearer()) == "101");
    stays(&mut client);
    let log = gateway.log();
    assert_eq!(log.iter().filter(|line| line.contains("no token is accepted")).count(), 1, "{log:?}");
}

#[test]
fn s25_tokens_with_unknown_kids_cost_nobody_anything() {
    let key = Key::new("a");
    let keys = set(&[&key]);
    let server = HttpServer::up(move |_| Reply::of(200, &keys));
    let gateway = Gateway::start(&config(&server, "answer_timeout = \"2s\""));
    drop(connected(&gateway, &key.bearer()));
    // From now on it takes the question and says nothing.
    server.answers(|_| Reply::Silence);
    let mut attack = Attack::begin("S25", &gateway);
    let threads = gateway.threads();
    let mut first: Vec<Raw> = (0..200).map(|_| gateway.raw("plain")).collect();
    first.iter_mut().for_each(|client| client.send(request("/", &[&Key::new("b").bearer()]).as_bytes()));
    server.wait_for_requests(2);
    attack.check_echo("200 tokens with unknown kids");
    drop(connected(&gateway, &key.bearer()));
    eventually("few wait for the answer", DEADLINE, || gateway.threads() <= threads + 16 + 4);
    let statuses: Vec<String> = first.iter_mut().map(|client| client.head()[9..12].to_owned()).collect();
    assert!(statuses.iter().all(|status| matches!(&**status, "401" | "503")), "{statuses:?}");
    assert!(statuses.iter().filter(|status| *status == "401").count() <= 16, "{statuses:?}");
    // There was no answer, and for a minute there is no further question for such a token.
    let since = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let line = Key::new("c").bearer();
                for _ in 0..250 {
                    assert!(matches!(&*status(&gateway, &line), "401" | "503"));
                    assert!(since.elapsed() < DEADLINE, "each of them waits");
                }
            });
        }
    });
    let took = since.elapsed();
    attack.check_echo("1,000 tokens with unknown kids");
    drop(first);
    // What is asked again is asked because of the failure, after 1 s, 2 s and so on.
    assert!(server.requests().len() <= 2 + 4, "{} questions in {took:?}", server.requests().len());
    attack.end(format!("1,000 tokens with unknown kids in {took:.1?}"));
}

#[test]
fn each_kind_of_key_of_pyjwt_is_loaded_from_a_server_of_python_s() {
    let (directory, tokens) = tokens();
    let mut child = Command::new("python3")
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is not installed");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{line}"));
    let url = format!("http://127.0.0.1:{port}/jwks.json");
    let told = thread::spawn(move || {
        let gateway = Gateway::start(&format!(
            "[gateway]\nfailed_credentials = \"off\"\n{LISTENERS}[[auth]]\nname = \"login\"\nkind = \"jwt\"\njwks_url = {url:?}\n\
             issuer = \"https://login.example\"\naudience = \"wsgate\"\n\
             [[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nauth = [\"login\"]\n"
        ));
        for (name, expected) in [
            ("RS256", "101"),
            ("ES256", "101"),
            ("EdDSA", "101"),
            ("expired", "401"),
            ("other key", "401"),
            ("unknown kid", "401"),
            ("none", "401"),
            ("HS256 with the public key", "401"),
        ] {
            assert_eq!(status(&gateway, &format!("Authorization: Bearer {}", tokens[name])), expected, "{name}");
        }
        gateway.wait_for_log("loaded 3 keys from 'http://127.0.0.1:");
    })
    .join();
    child.kill().unwrap();
    child.wait().unwrap();
    told.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
}

#[test]
fn a_stop_does_not_wait_for_an_issuer() {
    let server = HttpServer::up(|_| Reply::Silence);
    let mut gateway = Gateway::start(&config(&server, "answer_timeout = \"9s\""));
    server.wait_for_requests(1);
    let mut client = gateway.raw("plain");
    client.send(request("/", &[&Key::new("a").bearer()]).as_bytes());
    pass(Duration::from_millis(50));
    let since = Instant::now();
    assert_eq!(gateway.terminate().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(3), "it took {:?}", since.elapsed());
}
