//! `wsgate check` in the field's own words: what people write that was accepted and did nothing, files of TLS that only
//! `serve` complained about, and remedies that can be copied.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use openssl::pkey::PKey;
use openssl::symm::Cipher;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::auth::write;
use super::harness::{DEADLINE, Gateway, LISTENERS, process};

/// Runs a command on this text as `wsgate.toml`.
fn wsgate(command: &str, directory: &TempDir, text: &str) -> Output {
    write(&directory.path().join("wsgate.toml"), text);
    let mut run = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    run.args([command, "--config", "wsgate.toml"]).current_dir(directory.path()).stdin(Stdio::null());
    process::run(&mut run, DEADLINE)
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn write_pair(directory: &Path, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(directory.join(format!("{name}.pem")), &certificate).unwrap();
    fs::write(directory.join(format!("{name}.key")), &key).unwrap();
    (certificate, key)
}

#[test]
fn b31_check_and_serve_name_the_key_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let (_, key) = write_pair(directory.path(), "server");
    write_pair(directory.path(), "other");
    let locked = PKey::private_key_from_pem(key.as_bytes()).unwrap();
    let locked = locked.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret").unwrap();
    fs::write(directory.path().join("locked.key"), locked).unwrap();
    fs::write(directory.path().join("empty.pem"), "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n").unwrap();
    for (certificate, key, place, words) in [
        ("server", "locked", "4:19", "holds an encrypted private key, and wsgate asks for no passphrase"),
        ("server", "other", "4:19", "holds the private key of another certificate"),
        ("empty", "server", "3:19", "holds a certificate that cannot be read"),
    ] {
        let tls = format!("tls.certificate = \"{certificate}.pem\"\ntls.private_key = \"{key}.key\"\n");
        let listener = format!("[[listen]]\naddress = \"127.0.0.1:0\"\n{tls}");
        let link = format!("[[link]]\nname = \"a\"\n{tls}url = \"wss://127.0.0.1:1/\"\n");
        for text in [listener, link] {
            for command in ["check", "serve"] {
                let output = wsgate(command, &directory, &text);
                let told = stderr(&output);
                assert_eq!(output.status.code(), Some(78), "{command} {text}: {told}");
                assert!(told.starts_with(&format!("wsgate.toml:{place}: ")), "{command} {text}: {told}");
                assert!(told.contains(words), "{command} {text}: {told}");
            }
        }
    }
}

#[test]
fn b31_check_tells_of_a_certificate_that_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (parameters.not_before, parameters.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let key = KeyPair::generate().unwrap();
    fs::write(directory.path().join("old.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
    write(&directory.path().join("old.key"), &key.serialize_pem());
    let tls = "tls = { certificate = \"old.pem\", private_key = \"old.key\" }\n";
    let told = "in tls of [[listen]] names \"old.pem\", which holds a certificate that expired on Jan  1 00:00:00 2002 \
                GMT: renew it, or check the clock of this machine\n";
    // Its clients would all refuse it.
    let output = wsgate("check", &directory, &format!("[[listen]]\n{tls}"));
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert_eq!(stderr(&output), format!("wsgate.toml:2:23: \"certificate\" {told}1 mistake found\n"));
    // The server of a link need not.
    let link = format!("[[link]]\nname = \"a\"\nurl = \"wss://h/\"\n{tls}");
    let output = wsgate("check", &directory, &link);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = told.replace("[[listen]]", "[[link]]");
    assert_eq!(stderr(&output), format!("wsgate.toml:4:23: warning: \"certificate\" {told}"));
    let told = str::from_utf8(&output.stdout).unwrap();
    assert!(told.starts_with("wsgate.toml: ok: 1 listener, 1 endpoint, 1 link, 1 warning\n"), "{told}");
}

#[test]
fn b31_check_tells_of_a_certificate_that_no_client_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let make = |name: &str, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, "shop.example");
        let key = KeyPair::generate().unwrap();
        let file = |end: &str| directory.path().join(format!("{name}.{end}"));
        fs::write(file("pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
        write(&file("key"), &key.serialize_pem());
    };
    make("named", &["shop.example"]);
    make("nameless", &["127.0.0.1"]);
    let pair = |name: &str| format!("certificate = \"{name}.pem\", private_key = \"{name}.key\"");
    // The first one needs no name: it is for everybody else.
    let more = format!("more = [{{ {} }}, {{ {} }}]", pair("named"), pair("nameless"));
    let output = wsgate("check", &directory, &format!("[[listen]]\ntls = {{ {}, {more} }}\n", pair("nameless")));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = "\"certificate\" in [[listen.tls.more]] names \"nameless.pem\", which has no DNS name among its alternative names, \
                so no client is shown it: get one with its names, or remove it\n";
    assert!(stderr(&output).starts_with("wsgate.toml:2:") && stderr(&output).ends_with(told), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn b29_what_would_never_match_is_a_mistake_with_the_form_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let link = |keys: &str| format!("[[link]]\nname = \"a\"\nurl = \"ws://h/\"\n{keys}\n");
    for (text, place, words) in [
        ("[[endpoint]]\npath = \"/rooms/:roomId\"\n", "2:8", "write a parameter as \"{room_id}\""),
        ("[[endpoint]]\npath = \"/ws/<id>\"\n", "2:8", "write a parameter as \"{id}\""),
        ("[[endpoint]]\npath = \"/files/*\"\n", "2:8", "there are no wildcards: write \"{name}\""),
        ("[[endpoint]]\nto = [\"endpoint:/dash/:id\"]\n", "2:7", "write a parameter as \"{id}\""),
        ("[[endpoint]]\naddress_sessions = true\n", "2:20", "write format = \"message\""),
        ("[[endpoint]]\nformat = \"n8n\"\naddress_sessions = true\n", "3:20", "write format = \"message\""),
        (
            "[[listen]]\nname = \"a\"\n[[listen]]\naddress = \"127.0.0.1:8081\"\n[[endpoint]]\nlisten = [\"a\"]\n",
            "4:11",
            "no endpoint is reachable on the listener \"127.0.0.1:8081\": add \"127.0.0.1:8081\" to \"listen\"",
        ),
        ("[[endpoint]]\nrelay = { url = \"wss://$HOST/x\" }\n", "2:17", "${NAME} is the environment variable"),
        ("[[endpoint]]\nrelay = { url = \"wss://{HOST}/x\" }\n", "2:17", "${NAME} for the environment variable"),
        (&link("to = [\"endpoint:/:id\"]"), "4:7", "write a parameter as \"{id}\""),
    ] {
        let output = wsgate("check", &directory, text);
        assert_eq!(output.status.code(), Some(78), "{text}: {}", stderr(&output));
        assert!(stderr(&output).starts_with(&format!("wsgate.toml:{place}: ")), "{text}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{text}: {}", stderr(&output));
        assert!(stderr(&output).ends_with("\n1 mistake found\n"), "{text}: {}", stderr(&output));
    }
}

#[test]
fn b29_what_is_probably_not_meant_is_a_warning_with_the_form_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let link = "[[endpoint]]\npath = \"/{id}\"\n[[link]]\nname = \"a\"\nurl = \"ws://h/\"\n";
    for (keys, place, words) in [
        ("headers = { X-Key = \"$TOKEN\" }", "6:21", "holds \"$TOKEN\", which is sent as it is: write \"${TOKEN}\""),
        (
            "open_messages = [\"login $(TOKEN)\"]",
            "6:18",
            "holds \"$(TOKEN)\", which is sent as it is: write \"${TOKEN}\"",
        ),
        ("to = [\"endpoint:/{payload.device}\"]", "6:7", "write {device}, or format = \"message\""),
        ("format = \"n8n\"\nto = [\"endpoint:/{message.a.b}\"]", "7:7", "write {a.b}, or format = \"message\""),
    ] {
        let output = wsgate("check", &directory, &format!("{link}{keys}\n"));
        assert_eq!(output.status.code(), Some(0), "{keys}: {}", stderr(&output));
        let told = stderr(&output);
        assert!(told.starts_with(&format!("wsgate.toml:{place}: warning: ")) && told.lines().count() == 1, "{told}");
        assert!(told.contains(words), "{keys}: {told}");
        let summary = str::from_utf8(&output.stdout).unwrap().lines().next().unwrap();
        assert_eq!(summary, "wsgate.toml: ok: 1 listener, 1 endpoint, 1 link, 1 warning");
    }
    for keys in [
        "headers = { X-Key = \"${HOME} $${TOKEN} $5 $filter\" }",
        "format = \"message\"\nto = [\"endpoint:/{payload.a}\"]",
    ] {
        let output = wsgate("check", &directory, &format!("{link}{keys}\n"));
        assert!(output.status.success() && output.stderr.is_empty(), "{keys}: {}", stderr(&output));
    }
}

#[test]
fn b1_an_origin_that_no_browser_sends_is_a_warning_with_that_of_a_page() {
    let directory = tempfile::tempdir().unwrap();
    for (origin, meant) in [
        ("https://dash.example/app", "https://dash.example"),
        ("wss://dash.example:8443", "https://dash.example:8443"),
        ("dash.example", "https://dash.example"),
    ] {
        let output = wsgate("check", &directory, &format!("[[endpoint]]\norigins = [\"same\", {origin:?}]\n"));
        let told = stderr(&output);
        assert!(output.status.success() && told.lines().count() == 1, "{told}");
        let warning = format!(
            "wsgate.toml:2:20: warning: \"origins\" in [[endpoint]] has {origin:?}, which some devices send, but no browser: \
             for a web page write {meant:?}"
        );
        assert_eq!(told.trim_end(), warning);
    }
    for origin in ["https://dash.example/", "null", "file://", "chrome-extension://abc", "http://localhost:3000"] {
        let output = wsgate("check", &directory, &format!("[[endpoint]]\norigins = [{origin:?}]\n"));
        assert!(output.status.success() && output.stderr.is_empty(), "{origin}: {}", stderr(&output));
    }
}

#[test]
fn b29_serve_logs_the_warnings_of_check() {
    let link = "[[link]]\nname = \"a\"\nurl = \"ws://127.0.0.1:1/\"\nheaders = { X-Key = \"$TOKEN\" }\n";
    let gateway = Gateway::start(&format!("{LISTENERS}{link}"));
    gateway.wait_for_log("warning: \"X-Key\" in headers of [[link]] holds \"$TOKEN\"");
}

/// The message about this text, which has one mistake.
fn mistake(directory: &TempDir, text: &str) -> String {
    let output = wsgate("check", directory, text);
    assert_eq!(output.status.code(), Some(78), "{text}: {}", stderr(&output));
    assert!(stderr(&output).contains("\n1 mistake found"), "{text}: {}", stderr(&output));
    stderr(&output).lines().next().unwrap().to_owned()
}

#[test]
fn b30_the_remedy_is_the_line_to_write() {
    let directory = tempfile::tempdir().unwrap();
    for (table, wrong, right) in [
        ("[[endpoint]]", "heartbeat = false", "heartbeat = \"off\""),
        ("[[endpoint]]", "heartbeat = 0", "heartbeat = \"off\""),
        ("[[endpoint]]", "heartbeat = \"never\"", "heartbeat = \"off\""),
        ("[[endpoint]]", "heartbeat = 30", "heartbeat = \"30s\""),
        ("[[endpoint]]", "heartbeat = \"30 sec\"", "heartbeat = \"30s\""),
        ("[[endpoint]]", "heartbeat: 30s", "heartbeat = \"30s\""),
        ("[[endpoint]]", "heartbeat = \"0s\"", "heartbeat = \"off\""),
        ("[gateway]", "close_timeout = 5000", "close_timeout = \"5s\""),
        ("[[endpoint]]", "max_message = \"64k\"", "max_message = \"64KiB\""),
        ("[[endpoint]]", "max_connections = \"100\"", "max_connections = 100"),
        ("[[endpoint]]", "welcome: true", "welcome = true"),
        ("[[endpoint]]", "origins = [\"*\"]", "origins = \"any\""),
        ("[[endpoint]]", "origins = \"*\"", "origins = \"any\""),
        ("[[endpoint]]", "origins = \"https://a.example/x\"", "origins = [\"https://a.example\"]"),
        ("[[endpoint]]", "subprotocols = \"mqtt, ocpp1.6\"", "subprotocols = [\"mqtt\", \"ocpp1.6\"]"),
        ("[[endpoint]]", "to = \"reply, others\"", "to = [\"reply\", \"others\"]"),
        ("[[endpoint]]", "events = \"connect,error\"", "events = [\"connect\", \"error\"]"),
        ("[[endpoint]]", "relay = \"ws://127.0.0.1:9000/dev\"", "relay = { url = \"ws://127.0.0.1:9000/dev\" }"),
        ("[[endpoint]]", "queue = 100", "queue = { messages = 100 }"),
        ("[[endpoint]]", "max_payload = 65536", "max_message = \"1MiB\""),
        ("[[listen]]", "port = 8080", "address = \"127.0.0.1:8080\""),
        ("[[listen]]", "address = 8080", "address = \"127.0.0.1:8080\""),
        ("[[listen]]", "address = \":8080\"", "address = \"0.0.0.0:8080\""),
        ("[[endpoint]]", "path = \"/x\" // the path", "path = \"/x\" # the path"),
        ("[[endpoint]]", "path = \"/x\";", "path = \"/x\""),
        ("[[endpoint]]", "// the path", "# the path"),
        ("[[endpoint]]", "address_sessions = \"no\"", "address_sessions = false"),
    ] {
        let told = mistake(&directory, &format!("{table}\n{wrong}\n"));
        assert!(told.starts_with("wsgate.toml:2:") && told.contains(&format!("write {right}")), "{wrong}: {told}");
        let output = wsgate("check", &directory, &format!("{table}\n{right}\n"));
        assert!(output.status.success(), "{right}: {}", stderr(&output));
    }
    for (text, words) in [
        ("[[listen]]\nhost = \"0.0.0.0\"\nname = \"a\"\n", "write address = \"0.0.0.0:8080\""),
        ("port = 9000\n", "write address = \"127.0.0.1:9000\" under [[listen]]"),
        ("[[endpoint]]\nusers = { user = \"a\", password = \"b\" }\n", "write auth = [\"devices\"] under [[endpoint]]"),
        ("[authentication]\nuser = \"a\"\n", "and an [[auth]] with name = \"devices\""),
        (
            "{ \"listen\": [{ \"address\": \"127.0.0.1:1\" }] }",
            "write [[listen]], on the next line address = \"127.0.0.1:1\"",
        ),
        (
            "listen:\n  - address: 127.0.0.1:1\nendpoint:\n  - path: /\n",
            "write [[listen]], on the next line address = \"127.0.0.1:1\"",
        ),
    ] {
        let told = mistake(&directory, text);
        assert!(told.contains(words), "{text}: {told}");
    }
}
