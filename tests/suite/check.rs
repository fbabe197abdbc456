//! `wsgate check` in the field's own words: what people write that was accepted and did nothing, files of TLS that only
//! `serve` complained about, and remedies that can be copied.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use openssl::pkey::PKey;
use openssl::symm::Cipher;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::harness::{DEADLINE, process};

/// Runs a command on this text as `wsgate.toml`.
fn wsgate(command: &str, directory: &TempDir, text: &str) -> Output {
    fs::write(directory.path().join("wsgate.toml"), text).unwrap();
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
fn b31_check_warns_of_a_certificate_that_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (parameters.not_before, parameters.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    let key = KeyPair::generate().unwrap();
    fs::write(directory.path().join("old.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(directory.path().join("old.key"), key.serialize_pem()).unwrap();
    let text = "[[listen]]\ntls = { certificate = \"old.pem\", private_key = \"old.key\" }\n";
    let output = wsgate("check", &directory, text);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stderr(&output),
        "wsgate.toml:2:23: warning: \"certificate\" in tls of [[listen]] names \"old.pem\", which holds a certificate \
         that expired on Jan  1 00:00:00 2002 GMT: renew it, or check the clock of this machine\n"
    );
    assert!(
        str::from_utf8(&output.stdout).unwrap().starts_with("wsgate.toml: ok: 1 listener, 1 endpoint, 1 warning\n")
    );
}
