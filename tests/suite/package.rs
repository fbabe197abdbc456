//! What `--version` says.

use std::process::Command;

use crate::harness::{DEADLINE, process};

fn wsgate(arguments: &[&str]) -> String {
    let output = process::run(Command::new(env!("CARGO_BIN_EXE_wsgate")).args(arguments), DEADLINE);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_version_tells_two_builds_apart() {
    let number = format!("wsgate {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(wsgate(&["-V"]).trim_end(), number);
    let long = wsgate(&["--version"]);
    let lines: Vec<_> = long.lines().collect();
    let [version, commit, features, openssl] = lines[..] else { panic!("{long}") };
    assert_eq!(version, number);
    assert!(commit.starts_with("commit: "), "{long}");
    assert_eq!(features == "features: none", !cfg!(feature = "vendored"), "{long}");
    assert_eq!(openssl, format!("OpenSSL: {}", openssl::version::version()));
}
