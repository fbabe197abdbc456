//! What a reload takes away ends the connections that came in by it, within a second, and no others.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::x509::X509;
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};

use crate::auth::write;
use crate::certificates::{Authority, client};
use crate::harness::command::run_with_input;
use crate::harness::{Gateway, Raw, measured};

/// How long a connection may go on whose access was taken away.
const SOON: Duration = Duration::from_secs(1);

/// A proxy, and addresses of clients.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const HERE: [Ipv4Addr; 3] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3), Ipv4Addr::new(127, 0, 0, 4)];

const CONFIG: &str = r#"
[[listen]]
name = "plain"
address = "127.0.0.1:0"
deny_addresses = { file = "deny.txt" }

[[listen]]
name = "proxied"
address = "127.0.0.1:0"
client_address = "x-forwarded-for"
trusted_proxies = { file = "proxies.txt" }
deny_addresses = { file = "deny.txt" }

[[listen]]
name = "tls"
address = "127.0.0.1:0"

[listen.tls]
certificate = "cert.pem"
private_key = "key.pem"
client_ca = "clients.pem"
crl = "clients.crl"

[[auth]]
name = "devices"
kind = "tokens"
file = "tokens.txt"

[[auth]]
name = "staff"
kind = "basic"
file = "users.txt"

[[auth]]
name = "login"
kind = "jwt"
file = "jwks.json"

[[endpoint]]
path = "/"
listen = ["plain", "proxied"]
to = ["reply"]
auth = ["devices", "staff", "login"]

[[endpoint]]
path = "/open"
listen = ["plain", "proxied"]
to = ["reply"]
allow_addresses = { file = "allow.txt" }

[[endpoint]]
path = "/certificates"
listen = ["tls"]
to = ["reply"]
"#;

fn token_lines(names: &[&str]) -> String {
    let line = |name: &&str| run_with_input(&["token", "hash", name], format!("token-of-{name}").as_bytes());
    names.iter().map(|name| line(name).stdout().to_owned()).collect()
}

/// Of each user a line with a bcrypt hash of this password.
fn user_lines(users: &[(&str, &str)]) -> String {
    users.iter().map(|(user, password)| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())).collect()
}

/// A key set with a secret for each of these.
pub(crate) fn jwks(kids: &[&str]) -> String {
    let key = |kid: &&str| serde_json::json!({ "kty": "oct", "kid": kid, "k": BASE64URL_NOPAD.encode(&secret(kid)) });
    serde_json::json!({ "keys": kids.iter().map(key).collect::<Vec<_>>() }).to_string()
}

fn secret(kid: &str) -> Vec<u8> {
    kid.repeat(32).into_bytes()
}

/// A token that the secret of this `kid` has signed.
pub(crate) fn jwt(kid: &str) -> String {
    let header = serde_json::json!({ "alg": "HS256", "kid": kid }).to_string();
    let claims = serde_json::json!({ "sub": kid, "exp": 32_503_680_000u64 }).to_string();
    let signed = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let key = PKey::hmac(&secret(kid)).unwrap();
    let signature = Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature.unwrap()))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

/// The authorities of the clients' certificates, and whom they revoke.
struct Authorities {
    plant: Authority,
    /// Its clients send its certificate along.
    middle: Authority,
    other: Authority,
}

impl Authorities {
    fn new() -> Authorities {
        let plant = Authority::root("plant");
        let middle = plant.intermediate("middle");
        Authorities { middle, plant, other: Authority::root("other") }
    }

    /// Writes the list of each, with these serial numbers.
    fn write_lists(&self, directory: &Path, of_plant: &[u64], of_middle: &[u64]) {
        let lists =
            [self.plant.revoke(of_plant, 4000), self.middle.revoke(of_middle, 4000), self.other.revoke(&[], 4000)];
        fs::write(directory.join("clients.crl"), lists.concat()).unwrap();
    }
}

/// A client with this certificate. It resumes its sessions.
pub(crate) fn certified(directory: &Path, name: &str) -> Arc<ClientConfig> {
    let read = |name: String| X509::stack_from_pem(&fs::read(directory.join(name)).unwrap()).unwrap();
    let der = |certificate: &X509| CertificateDer::from(certificate.to_der().unwrap());
    let mut roots = RootCertStore::empty();
    read("ca.pem".to_owned()).iter().for_each(|root| roots.add(der(root)).unwrap());
    let chain = read(format!("{name}.pem")).iter().map(der).collect();
    let key = PKey::private_key_from_pem(&fs::read(directory.join(format!("{name}.key"))).unwrap()).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.private_key_to_pkcs8().unwrap().into());
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap())
}

/// Those who are connected, by what they are called here.
struct Clients {
    gateway: Gateway,
    here: Vec<(&'static str, Raw)>,
    reloads: usize,
    /// The longest time from a reload to the end of a connection.
    slowest: Duration,
}

impl Clients {
    fn add(&mut self, name: &'static str, mut client: Raw, path: &str, line: &str) {
        client.upgrade(path, &[line]);
        self.here.push((name, client));
    }

    fn add_certified(&mut self, name: &'static str, config: &Arc<ClientConfig>, kind: HandshakeKind) {
        let (client, own) = Raw::secured(self.gateway.port("tls"), config);
        assert_eq!(own, kind, "{name}");
        self.add(name, client, "/certificates", "X: y");
    }

    /// Reloads, and expects that the connections of these end, and that those of all others do not.
    fn reload(&mut self, taken: &[&str], why: &str) {
        let since = Instant::now();
        self.gateway.signal(Signal::HUP);
        let (gone, here) = self.here.drain(..).partition(|(name, _)| taken.contains(name));
        self.here = here;
        assert_eq!(Vec::len(&gone), taken.len(), "{taken:?}");
        for (name, mut client) in gone {
            client.closed_with(1008, "Access withdrawn");
            self.slowest = self.slowest.max(since.elapsed());
            assert!(self.slowest < SOON, "{name}: {why}: after {:?}", self.slowest);
        }
        self.reloads += 1;
        self.gateway.wait_for_logs("reload: read again", self.reloads);
        for (name, client) in &mut self.here {
            client.send_text(name);
            assert_eq!(client.text(), *name, "after {taken:?}");
        }
        let told = self.gateway.log().into_iter().filter(|line| line.contains("its access was withdrawn: "));
        let told: Vec<String> = told.collect();
        assert!(told.len() >= taken.len(), "{told:?}");
        assert!(told.iter().rev().take(taken.len()).all(|line| line.contains(why)), "{why}: {told:?}");
    }
}

#[test]
fn r7_what_a_reload_takes_away_ends_the_connections_that_came_in_by_it_and_no_others() {
    let authorities = Authorities::new();
    let gateway = Gateway::start_with(CONFIG, |command| {
        let directory = command.get_current_dir().unwrap();
        write(&directory.join("tokens.txt"), &token_lines(&["ada", "bob"]));
        write(&directory.join("users.txt"), &user_lines(&[("ada", "one"), ("bob", "two"), ("eve", "three")]));
        write(&directory.join("jwks.json"), &jwks(&["old", "new"]));
        fs::write(directory.join("deny.txt"), "# nobody yet\n").unwrap();
        fs::write(directory.join("allow.txt"), "127.0.0.0/8\n192.0.2.0/24\n").unwrap();
        fs::write(directory.join("proxies.txt"), format!("{PROXY}\n")).unwrap();
        let Authorities { plant, middle, other } = &authorities;
        fs::write(directory.join("clients.pem"), plant.pem() + &other.pem()).unwrap();
        authorities.write_lists(directory, &[], &[]);
        for (name, serial) in [("press", 1), ("revoked", 2)] {
            plant.issue(directory, name, client(name, serial), "");
        }
        for (name, serial) in [("through", 1), ("again", 2), ("later", 3)] {
            middle.issue(directory, name, client(name, serial), &middle.pem());
        }
        other.issue(directory, "foreign", client("foreign", 1), "");
    });
    let directory = gateway.file("");
    let rewrite = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    let (plain, proxied) = (gateway.port("plain"), gateway.port("proxied"));
    let mut clients = Clients { gateway, here: Vec::new(), reloads: 0, slowest: Duration::ZERO };

    for (name, line) in [
        ("token of ada", bearer("token-of-ada")),
        ("token of bob", bearer("token-of-bob")),
        ("ada", basic("ada", "one")),
        ("bob", basic("bob", "two")),
        ("eve", basic("eve", "three")),
        ("old key", bearer(&jwt("old"))),
        ("new key", bearer(&jwt("new"))),
    ] {
        clients.add(name, Raw::plain(plain), "/", &line);
    }
    for (name, from) in [("first", HERE[0]), ("second", HERE[1]), ("third", HERE[2])] {
        clients.add(name, Raw::plain_from(from, plain), "/open", "X: y");
    }
    for (name, said) in [("behind a proxy", "192.0.2.1"), ("another behind it", "192.0.2.2")] {
        clients.add(name, Raw::plain_from(PROXY, proxied), "/open", &format!("X-Forwarded-For: {said}"));
    }
    let full = HandshakeKind::Full;
    for name in ["press", "revoked", "foreign", "through"] {
        clients.add_certified(name, &certified(&directory, name), full);
    }
    // These come back with a ticket, and the certificate of their authority came the first time only.
    for name in ["again", "later"] {
        let config = certified(&directory, name);
        let (mut first, _) = Raw::secured(clients.gateway.port("tls"), &config);
        first.upgrade("/certificates", &[]);
        clients.add_certified(name, &config, HandshakeKind::Resumed);
    }

    clients.reload(&[], "");
    rewrite("tokens.txt", &token_lines(&["bob", "carl"]));
    clients.reload(&["token of ada"], "its credential is not valid any more");
    let users = fs::read_to_string(directory.join("users.txt")).unwrap();
    let of = |user: &str| users.lines().find(|line| line.starts_with(user)).unwrap();
    rewrite("users.txt", &format!("{}\n{}\n", of("bob"), of("eve")));
    clients.reload(&["ada"], "its credential is not valid any more");
    rewrite("users.txt", &format!("{}\n{}", of("bob"), user_lines(&[("eve", "another")])));
    clients.reload(&["eve"], "its credential is not valid any more");
    rewrite("jwks.json", &jwks(&["newer", "new"]));
    clients.reload(&["old key"], "its credential is not valid any more");
    // The same token under another name is another identity.
    rewrite("tokens.txt", &token_lines(&["bob"]).replace("bob:", "robert:"));
    clients.reload(&["token of bob"], "its credential is not valid any more");

    rewrite("deny.txt", &format!("{}\n192.0.2.1\n", HERE[0]));
    clients.reload(&["first", "behind a proxy"], "\"deny_addresses\" has its address (the list in ");
    rewrite("allow.txt", &format!("{}\n{PROXY}\n127.0.0.1\n192.0.2.0/24\n", HERE[2]));
    clients.reload(&["second"], "\"allow_addresses\" does not have its address (the list in ");
    // What the proxy has said does not count any more, and it may not come itself.
    rewrite("proxies.txt", "10.0.0.1\n");
    clients.reload(&[], "");
    rewrite("allow.txt", &format!("{}\n127.0.0.1\n192.0.2.0/24\n", HERE[2]));
    clients.reload(&["another behind it"], "\"allow_addresses\" does not have its address");

    authorities.write_lists(&directory, &[2], &[]);
    clients.reload(&["revoked"], "the client's certificate \"revoked\" is revoked by a list of `crl`");
    authorities.write_lists(&directory, &[2], &[2]);
    clients.reload(&["again"], "the client's certificate \"again\" is revoked by a list of `crl`");
    fs::write(directory.join("clients.pem"), authorities.plant.pem()).unwrap();
    // Whether the authority that is gone was that of a resumed session cannot be told: it has to show its chain again.
    clients.reload(&["foreign", "later"], "which `client_ca` does not have");
    assert!(clients.here.iter().any(|(name, _)| *name == "through"));
    let middle = X509::from_pem(authorities.middle.pem().as_bytes()).unwrap();
    let serial = middle.serial_number().to_bn().unwrap().to_vec();
    fs::write(
        directory.join("clients.crl"),
        authorities.plant.revoke_number(&serial) + &authorities.middle.revoke(&[], 4000),
    )
    .unwrap();
    clients.reload(&["through"], "certificate of an authority of the client \"middle\" is revoked");

    let stay: Vec<&str> = clients.here.iter().map(|(name, _)| *name).collect();
    assert_eq!(stay, ["bob", "new key", "third", "press"]);
    let Clients { slowest, .. } = clients;
    measured(
        "R7",
        format!("14 of 14 connections ended with what they came in by, the last after {slowest:.0?}; 4 of 4 stay"),
    );
}
