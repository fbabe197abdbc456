//! A listener's certificates by server name, and certificates of clients: who gets in, who does not, and what is said
//! about it; by the `openssl` command, as an operator would look.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{DEADLINE, Gateway, measured, pass, process};

const CONFIG: &str = r#"
[[listen]]
name = "tls"
address = "127.0.0.1:0"
"#;

pub(crate) const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// Whether the tests can run here; they need the command.
pub(crate) fn has_openssl(case: &str) -> bool {
    let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !found {
        measured(case, "skipped: there is no openssl command");
    }
    found
}

/// An authority of clients.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

pub(crate) fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.use_authority_key_identifier_extension = true;
    parameters
}

fn authority_named(name: &str) -> CertificateParams {
    let mut parameters = named(name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

impl Authority {
    pub(crate) fn root(name: &str) -> Authority {
        Authority(CertifiedIssuer::self_signed(authority_named(name), KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn intermediate(&self, name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::signed_by(authority_named(name), key, &self.0).unwrap())
    }

    /// One whose certificate is over, signed by this one.
    fn expired_intermediate(&self, name: &str) -> Authority {
        let mut parameters = authority_named(name);
        parameters.not_after = date_time_ymd(2021, 1, 1);
        Authority(CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes `name.pem` and `name.key`, with `behind` behind the certificate.
    pub(crate) fn issue(
        &self,
        directory: &Path,
        name: &str,
        parameters: CertificateParams,
        behind: &str,
    ) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let made = parameters.signed_by(&key, &self.0).unwrap();
        fs::write(directory.join(format!("{name}.pem")), made.pem() + behind).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        made
    }

    /// A list that revokes certificates with these serial numbers, in PEM form.
    pub(crate) fn revoke(&self, serials: &[u64], until_year: i32) -> String {
        self.list(serials.iter().map(|serial| SerialNumber::from(*serial)), until_year)
    }

    /// A list that revokes the certificate with this serial number, however long it is.
    pub(crate) fn revoke_number(&self, serial: &[u8]) -> String {
        self.list([SerialNumber::from_slice(serial)].into_iter(), 4000)
    }

    fn list(&self, serials: impl Iterator<Item = SerialNumber>, until_year: i32) -> String {
        let revoked = serials.map(|serial_number| RevokedCertParams {
            serial_number,
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until_year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A client's certificate of this serial number.
pub(crate) fn client(name: &str, serial: u64) -> CertificateParams {
    let mut parameters = named(name);
    parameters.serial_number = Some(SerialNumber::from(serial));
    parameters
}

/// Starts with these keys in `tls`, after `prepare` has written the files that they name.
fn start(tls: &str, prepare: impl FnOnce(&Path)) -> Gateway {
    let config = format!("{CONFIG}[listen.tls]\ncertificate = \"cert.pem\"\nprivate_key = \"key.pem\"\n{tls}\n");
    let gateway = Gateway::launch(&config, |command| prepare(command.get_current_dir().unwrap()));
    gateway.wait_for_log(": accepting on ");
    gateway
}

/// What the `openssl` command tells of a connection; it asks for something that is not there, so that it ends.
fn s_client(gateway: &Gateway, arguments: &str) -> String {
    s_client_saying(gateway, "GET /nothing HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n", arguments)
}

/// What it tells of one over which it says this, in the form of `printf`, and waits for the end.
pub(crate) fn s_client_saying(gateway: &Gateway, said: &str, arguments: &str) -> String {
    let port = gateway.port("tls");
    let script = format!("printf '{said}' | openssl s_client -connect 127.0.0.1:{port} -ign_eof {arguments}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(gateway.file(""));
    let output = process::run(&mut command, DEADLINE);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn is_answered(said: &str) -> bool {
    said.contains("HTTP/1.1 4")
}

#[test]
fn s15_a_client_is_shown_the_certificate_of_the_name_that_it_asks_for() {
    if !has_openssl("S15") {
        return;
    }
    let more = "more = [\n  { certificate = \"shop.pem\", private_key = \"shop.key\" },\n  \
                { certificate = \"wild.pem\", private_key = \"wild.key\" },\n]";
    let gateway = start(more, |directory| {
        let root = Authority::root("names");
        for (name, dns) in
            [("shop", ["shop.example", "www.shop.example"]), ("wild", ["*.plant.example", "plant.example"])]
        {
            let mut parameters = CertificateParams::new(dns.map(str::to_owned)).unwrap();
            parameters.distinguished_name.push(DnType::CommonName, format!("the {name} certificate"));
            root.issue(directory, name, parameters, "");
        }
    });
    for version in VERSIONS {
        for (asked, expected) in [
            ("-servername shop.example", "the shop certificate"),
            ("-servername WWW.shop.example", "the shop certificate"),
            ("-servername press-3.plant.example", "the wild certificate"),
            ("-servername plant.example", "the wild certificate"),
            ("-servername localhost", "wsgate under test"),
            ("-servername a.b.plant.example", "wsgate under test"),
            ("-servername unknown.example", "wsgate under test"),
            ("-noservername", "wsgate under test"),
        ] {
            let said = s_client(&gateway, &format!("{version} {asked}"));
            let subject = said.lines().find(|line| line.starts_with("subject=")).unwrap_or(&said);
            assert!(subject.contains(expected), "{version} {asked}: {subject}");
            assert!(is_answered(&said), "{version} {asked}: {said}");
        }
        // A ticket of one name is good for that name.
        let shop = format!("{version} -servername shop.example");
        assert!(is_answered(&s_client(&gateway, &format!("{shop} -sess_out shop{version}.session"))));
        let said = s_client(&gateway, &format!("{shop} -sess_in shop{version}.session"));
        assert!(said.contains("Reused, TLS") && is_answered(&said), "{said}");
    }
    measured("S15", "8 of 8 names over 1.2 and 1.3");
}

/// Connects and is refused, with these words in the one line of the log about it.
fn is_refused(gateway: &Gateway, version: &str, arguments: &str, words: &str) {
    const FAILED: &str = "TLS handshake failed";
    let before = gateway.log().iter().filter(|line| line.contains(FAILED)).count();
    let said = s_client(gateway, &format!("{version} {arguments}"));
    assert!(!is_answered(&said), "{version} {arguments} gets in: {said}");
    let lines = gateway.wait_for_logs(FAILED, before + 1).split_off(before);
    assert!(lines.len() == 1 && lines[0].contains(words), "{version} {arguments}: {words}: {lines:?}");
}

pub(crate) fn with(name: &str) -> String {
    format!("-cert {name}.pem -key {name}.key -cert_chain {name}.pem")
}

#[test]
fn s12_only_a_certificate_of_the_authority_lets_a_client_in() {
    if !has_openssl("S12") {
        return;
    }
    let gateway = start("client_ca = \"clients.pem\"\ncrl = [\"a.crl\", \"b.crl\"]", |directory| {
        let (root, other) = (Authority::root("plant clients"), Authority::root("somebody else"));
        let middle = root.intermediate("plant middle");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        fs::write(directory.join("a.crl"), root.revoke(&[66], 4000)).unwrap();
        fs::write(directory.join("b.crl"), middle.revoke(&[67], 4000)).unwrap();
        let issue = |from: &Authority, name: &str, change: fn(&mut CertificateParams), behind: &str| {
            let mut parameters = client(name, 1);
            change(&mut parameters);
            from.issue(directory, name, parameters, behind);
        };
        issue(&root, "good", |_| {}, "");
        issue(&middle, "through", |_| {}, &middle.pem());
        issue(&middle, "lonely", |_| {}, "");
        issue(&root, "expired", |p| p.not_after = date_time_ymd(2021, 1, 1), "");
        issue(&root, "early", |p| p.not_before = date_time_ymd(4000, 1, 1), "");
        issue(&root, "revoked", |p| p.serial_number = Some(SerialNumber::from(66)), "");
        issue(&middle, "revoked-too", |p| p.serial_number = Some(SerialNumber::from(67)), &middle.pem());
        issue(&root, "server", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth], "");
        issue(&other, "foreign", |_| {}, "");
        let key = KeyPair::generate().unwrap();
        fs::write(directory.join("own.pem"), client("own", 1).self_signed(&key).unwrap().pem()).unwrap();
        fs::write(directory.join("own.key"), key.serialize_pem()).unwrap();
    });
    for version in VERSIONS {
        for name in ["good", "through"] {
            let said = s_client(&gateway, &format!("{version} {}", with(name)));
            assert!(is_answered(&said), "{version} {name}: {said}");
        }
        is_refused(&gateway, version, "", "the client has no certificate, and `client_certificate` is \"required\"");
        for (name, words) in [
            ("expired", "certificate \"expired\" expired on Jan  1 00:00:00 2021 GMT: renew it"),
            ("early", "certificate \"early\" is not valid before Jan  1 00:00:00 4000 GMT"),
            ("revoked", "certificate \"revoked\" is revoked"),
            ("revoked-too", "certificate \"revoked-too\" is revoked"),
            ("foreign", "\"foreign\" is of \"somebody else\", which `client_ca` does not have"),
            (
                "lonely",
                "\"lonely\" is of \"plant middle\", which `client_ca` does not have and the client has not sent",
            ),
            ("server", "\"server\" is not for clients"),
            ("own", "\"own\" is its own authority"),
        ] {
            is_refused(&gateway, version, &with(name), words);
        }
    }
    measured("S12", "9 of 9 wrong certificates refused with their reason, over 1.2 and 1.3");
}

#[test]
fn s12_where_certificates_are_optional_a_wrong_one_is_refused() {
    if !has_openssl("S12") {
        return;
    }
    let gateway = start("client_ca = \"clients.pem\"\nclient_certificate = \"optional\"", |directory| {
        let root = Authority::root("plant clients");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        root.issue(directory, "good", client("good", 1), "");
        Authority::root("somebody else").issue(directory, "foreign", client("foreign", 1), "");
    });
    for version in VERSIONS {
        assert!(is_answered(&s_client(&gateway, version)));
        assert!(is_answered(&s_client(&gateway, &format!("{version} {}", with("good")))));
        is_refused(&gateway, version, &with("foreign"), "\"somebody else\"");
    }
}

/// Without a bound OpenSSL takes 100 KiB of certificates from a client, and keeps them while it is connected.
#[test]
fn s12_a_client_may_send_ten_further_certificates_and_32_kib_in_all() {
    if !has_openssl("S12") {
        return;
    }
    let gateway = start("client_ca = \"clients.pem\"", |directory| {
        let root = Authority::root("plant clients");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        for (name, further, length) in [("ten", 10, 10), ("eleven", 11, 10), ("long", 9, 3000)] {
            let chain: String = (0..further).map(|_| Authority::root(&"x".repeat(length)).pem()).collect();
            root.issue(directory, name, client(name, 1), "");
            fs::write(directory.join(format!("{name}-chain.pem")), chain).unwrap();
        }
    });
    let with = |name: &str| format!("-cert {name}.pem -key {name}.key -cert_chain {name}-chain.pem");
    for version in VERSIONS {
        let said = s_client(&gateway, &format!("{version} {}", with("ten")));
        assert!(is_answered(&said), "{said}");
        is_refused(&gateway, version, &with("eleven"), "sent 11 certificates besides its own, and may send 10");
        is_refused(&gateway, version, &with("long"), "the client's handshake has more than 32 KiB");
    }
    measured("S12", "10 further certificates accepted, 11 and 33 KiB refused, over 1.2 and 1.3");
}

pub(crate) fn reload(gateway: &Gateway, count: usize) {
    gateway.signal(Signal::HUP);
    gateway.wait_for_logs("reload: read again", count);
}

/// Saves a session of the certificate of this name, and expects that it can be resumed.
fn save(gateway: &Gateway, version: &str, name: &str) {
    let session = format!("{name}{version}.session");
    let said = s_client(gateway, &format!("{version} {} -sess_out {session}", with(name)));
    assert!(is_answered(&said), "{said}");
    let said = s_client(gateway, &format!("{version} {} -sess_in {session}", with(name)));
    assert!(said.contains("Reused, TLS") && is_answered(&said), "{said}");
}

#[test]
fn s12_who_is_not_trusted_any_more_does_not_come_in_by_a_saved_session() {
    if !has_openssl("S12") {
        return;
    }
    let root = Authority::root("plant clients");
    let second = Authority::root("other plant");
    let gateway = start("client_ca = \"clients.pem\"\ncrl = \"clients.crl\"", |directory| {
        fs::write(directory.join("clients.pem"), root.pem() + &second.pem()).unwrap();
        fs::write(directory.join("clients.crl"), root.revoke(&[], 4000) + &second.revoke(&[], 4000)).unwrap();
        root.issue(directory, "stays", client("stays", 1), "");
        root.issue(directory, "revoked", client("revoked", 2), "");
        second.issue(directory, "distrusted", client("distrusted", 3), "");
    });
    for version in VERSIONS {
        ["stays", "revoked", "distrusted"].iter().for_each(|name| save(&gateway, version, name));
    }
    // Nothing has changed: sessions are still good.
    reload(&gateway, 1);
    for version in VERSIONS {
        let said = s_client(&gateway, &format!("{version} {} -sess_in stays{version}.session", with("stays")));
        assert!(said.contains("Reused, TLS") && is_answered(&said), "{said}");
    }
    fs::write(gateway.file("clients.crl"), root.revoke(&[2], 4000) + &second.revoke(&[], 4000)).unwrap();
    reload(&gateway, 2);
    fs::write(gateway.file("clients.pem"), root.pem()).unwrap();
    reload(&gateway, 3);
    for version in VERSIONS {
        for (name, words) in [("revoked", "\"revoked\" is revoked"), ("distrusted", "\"other plant\"")] {
            is_refused(&gateway, version, &with(name), words);
            is_refused(&gateway, version, &format!("{} -sess_in {name}{version}.session", with(name)), words);
            // Without the certificate the ticket is worth nothing either.
            is_refused(
                &gateway,
                version,
                &format!("-sess_in {name}{version}.session"),
                "the client has no certificate",
            );
        }
        let said = s_client(&gateway, &format!("{version} {} -sess_in stays{version}.session", with("stays")));
        assert!(said.contains("New, TLS") && is_answered(&said), "{said}");
        save(&gateway, version, "stays");
    }
    measured("S12", "a revoked and a distrusted certificate: 0 of 12 came in, over 1.2 and 1.3");
}

#[test]
fn s12_a_certificate_that_expires_does_not_come_in_by_a_saved_session() {
    if !has_openssl("S12") {
        return;
    }
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(4);
    let gateway = start("client_ca = \"clients.pem\"", |directory| {
        let root = Authority::root("plant clients");
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        let mut parameters = client("short", 1);
        parameters.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until.as_secs());
        root.issue(directory, "short", parameters, "");
    });
    VERSIONS.iter().for_each(|version| save(&gateway, version, "short"));
    let left = (until + Duration::from_secs(1)).saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    pass(left);
    for version in VERSIONS {
        let arguments = format!("{} -sess_in short{version}.session", with("short"));
        is_refused(&gateway, version, &arguments, "certificate \"short\" expired on ");
    }
}

/// Runs `serve` on these keys of `tls` and returns what it says; it must not start.
fn not_started(directory: &TempDir, tls: &str) -> String {
    fs::write(directory.path().join("wsgate.toml"), format!("{CONFIG}[listen.tls]\n{tls}\n")).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    run.args(["serve", "--config", "wsgate.toml"]).current_dir(directory.path()).stdin(Stdio::null());
    let output = process::run(&mut run, DEADLINE);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{tls}: {said}");
    said
}

#[test]
fn s13_files_that_clients_would_not_get_on_with_are_no_start() {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().into();
    let (root, other) = (Authority::root("plant"), Authority::root("somebody else"));
    let middle = root.intermediate("middle");
    root.issue(&path, "good", named("gate"), "");
    middle.issue(&path, "lonely", named("gate"), &root.pem());
    middle.issue(&path, "foreign", named("gate"), &other.pem());
    let over = root.expired_intermediate("over");
    over.issue(&path, "of-over", named("gate"), &over.pem());
    let mut expired = named("gate");
    expired.not_after = date_time_ymd(2021, 1, 1);
    root.issue(&path, "expired", expired, &root.pem());
    fs::write(path.join("ca.pem"), root.pem()).unwrap();
    let list = root.revoke(&[1], 4000);
    fs::write(path.join("good.crl"), &list).unwrap();
    fs::write(path.join("half.crl"), &list[..list.len() - 40]).unwrap();
    fs::write(path.join("second.crl"), format!("{list}{}", &list[..list.len() / 2])).unwrap();
    fs::write(path.join("empty.crl"), "").unwrap();
    fs::write(path.join("locked.key"), encrypted(&fs::read(path.join("good.key")).unwrap())).unwrap();
    let of = |name: &str| format!("certificate = \"{name}.pem\"\nprivate_key = \"{name}.key\"\n");
    let good = of("good");
    let with_key = |key: &str| format!("certificate = \"good.pem\"\nprivate_key = \"{key}.key\"\n");
    for (tls, place, words) in [
        (of("expired"), "6:15", "certificate that expired on Jan  1 00:00:00 2021 GMT: renew it"),
        (
            of("lonely"),
            "6:15",
            "not that of its issuer \"CN=middle\": put the intermediate certificate of that name second",
        ),
        (of("foreign"), "6:15", "not that of its issuer \"CN=middle\""),
        (of("of-over"), "6:15", "issuer \"CN=over\" that expired on Jan  1 00:00:00 2021 GMT: put the renewed one"),
        (with_key("locked"), "7:15", "holds an encrypted private key, and wsgate asks for no passphrase: write a copy"),
        (
            with_key("lonely"),
            "7:15",
            "holds the private key of another certificate: check that both files are of the same",
        ),
        (
            format!("{good}more = [{{ certificate = \"good.pem\", private_key = \"lonely.key\" }}]"),
            "8:51",
            "of another",
        ),
        (format!("{good}more = {{ certificate = \"good.pem\" }}"), "8:8", "with two brackets"),
        (format!("{good}client_ca = \"good.key\""), "8:13", "holds no certificate in PEM form"),
        (format!("{good}client_ca = \"none.pem\""), "8:13", "cannot be read: no such file"),
        (format!("{good}client_certificate = \"required\""), "8:22", "no meaning without client_ca"),
        (format!("{good}crl = \"good.crl\""), "8:7", "no meaning without client_ca"),
        (format!("{good}client_ca = \"ca.pem\"\nclient_certificate = \"always\""), "9:22", "write one of \"required\""),
        (format!("{good}client_ca = \"ca.pem\"\ncrl = []"), "9:7", "names no file"),
        (
            format!("{good}client_ca = \"ca.pem\"\ncrl = [\"good.crl\", \"empty.crl\"]"),
            "9:20",
            "holds no revocation list",
        ),
        (format!("{good}client_ca = \"ca.pem\"\ncrl = \"half.crl\""), "9:7", "revocation list that cannot be read"),
        (format!("{good}client_ca = \"ca.pem\"\ncrl = \"second.crl\""), "9:7", "revocation list that cannot be read"),
    ] {
        let said = not_started(&directory, &tls);
        assert!(said.starts_with(&format!("wsgate.toml:{place}: ")) && said.contains(words), "{tls}: {said}");
        assert!(said.ends_with("\n1 mistake found\n"), "{tls}: {said}");
    }
    measured("S13", "17 of 17 exit with 78");
}

/// The same key with a passphrase.
fn encrypted(key: &[u8]) -> Vec<u8> {
    let key = openssl::pkey::PKey::private_key_from_pem(key).unwrap();
    key.private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_256_cbc(), b"secret").unwrap()
}

#[test]
fn s13_at_a_reload_the_old_files_stay_in_force() {
    if !has_openssl("S13") {
        return;
    }
    let (root, other) = (Authority::root("plant clients"), Authority::root("somebody else"));
    let middle = root.intermediate("middle");
    let gateway = start("client_ca = \"clients.pem\"\ncrl = \"clients.crl\"", |directory| {
        fs::write(directory.join("clients.pem"), root.pem()).unwrap();
        fs::write(directory.join("clients.crl"), root.revoke(&[2], 4000)).unwrap();
        root.issue(directory, "good", client("good", 1), "");
        root.issue(directory, "revoked", client("revoked", 2), "");
    });
    let elsewhere = tempfile::tempdir().unwrap();
    let issue = |from: &Authority, name: &str, change: fn(&mut CertificateParams), behind: &str| {
        let mut parameters = named("gate");
        change(&mut parameters);
        from.issue(elsewhere.path(), name, parameters, behind);
        ["pem", "key"].map(|end| fs::read(elsewhere.path().join(format!("{name}.{end}"))).unwrap())
    };
    let [new, new_key] = issue(&root, "new", |_| {}, "");
    let [expired, expired_key] = issue(&root, "expired", |p| p.not_after = date_time_ymd(2021, 1, 1), "");
    let [lonely, lonely_key] = issue(&middle, "lonely", |_| {}, &root.pem());
    let over = root.expired_intermediate("over");
    let [of_over, of_over_key] = issue(&over, "of-over", |_| {}, &over.pem());
    let [foreign, foreign_key] = issue(&middle, "foreign", |_| {}, &other.pem());
    let list = root.revoke(&[], 4000);
    let half = list.as_bytes()[..list.len() / 2].to_vec();
    let names = ["cert.pem", "key.pem", "clients.pem", "clients.crl"];
    let old = names.map(|name| fs::read(gateway.file(name)).unwrap());
    let pair = |certificate: &Vec<u8>, key: &Vec<u8>| vec![("cert.pem", certificate.clone()), ("key.pem", key.clone())];
    let cases = [
        (
            pair(&expired, &expired_key),
            "'cert.pem' holds a certificate that expired on Jan  1 00:00:00 2021 GMT: renew it",
        ),
        (
            pair(&lonely, &lonely_key),
            "'cert.pem' holds certificates behind the server's own, but not that of its issuer \"CN=middle\"",
        ),
        (
            pair(&of_over, &of_over_key),
            "'cert.pem' holds a certificate of the server's issuer \"CN=over\" that expired on",
        ),
        (
            pair(&foreign, &foreign_key),
            "'cert.pem' holds certificates behind the server's own, but not that of its issuer \"CN=middle\"",
        ),
        (
            pair(&new, &encrypted(&new_key)),
            "'key.pem' holds an encrypted private key, and wsgate asks for no passphrase",
        ),
        (pair(&new, &expired_key), "'key.pem' holds the private key of another certificate"),
        (vec![("clients.pem", Vec::new())], "'clients.pem' holds no certificate in PEM form"),
        (vec![("clients.crl", Vec::new())], "'clients.crl' holds no revocation list in PEM form"),
        (vec![("clients.crl", half)], "'clients.crl' holds a revocation list that cannot be read"),
    ];
    for (count, (files, words)) in cases.iter().enumerate() {
        for (name, content) in files {
            fs::write(gateway.file(name), content).unwrap();
        }
        gateway.signal(Signal::HUP);
        let lines = gateway.wait_for_logs("reload: failed, and nothing has changed: ", count + 1);
        // A mistake of the configuration, or of a file that it leaves as it is.
        let line = lines[count].replace('"', "'").replace("', which ", "' ");
        assert!(line.contains(&words.replace('"', "'")), "{words}: {line}");
        let said = s_client(&gateway, &with("good"));
        assert!(said.contains("wsgate under test") && is_answered(&said), "{words}: {said}");
        is_refused(&gateway, "-tls1_3", &with("revoked"), "\"revoked\" is revoked");
        names.iter().zip(&old).for_each(|(name, content)| fs::write(gateway.file(name), content).unwrap());
    }
    reload(&gateway, 1);
    measured("S13", format!("{} of {} broken files changed nothing at a reload", cases.len(), cases.len()));
}
