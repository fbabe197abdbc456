//! What `wsgate check` says about configurations, word for word.
//!
//! Each `tests/configs/NAME.toml` is broken in its own way, and `NAME.expected` beside it is the
//! answer. Run with `WSGATE_BLESS=1` to write the answers anew, then read the difference.

use std::path::{Path, PathBuf};
use std::{env, fs};

use wsgate::cli::check;

fn configs() -> Vec<PathBuf> {
    let directory = fs::read_dir("tests/configs").expect("tests run in the directory of the package");
    let mut configs: Vec<PathBuf> = directory.map(|entry| entry.unwrap().path()).collect();
    configs.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    configs.sort();
    configs
}

#[test]
fn every_broken_config_is_answered_with_what_to_do() {
    let configs = configs();
    assert!(configs.len() >= 10, "only {} broken configs", configs.len());
    for config in configs {
        let answer = match check::report(Some(&config)) {
            Ok(summary) => panic!("nothing wrong was found in {}: {summary}", config.display()),
            Err(error) => format!("{error}\n"),
        };
        let expected = config.with_extension("expected");
        if env::var_os("WSGATE_BLESS").is_some() {
            fs::write(&expected, &answer).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(answer, wanted, "the answer to {} changed", config.display());
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = check::report(Some(Path::new("tests/configs/none.toml"))).unwrap_err().to_string();
    assert_eq!(
        error,
        "failed to read configuration \"tests/configs/none.toml\": no such file \
         (check the path, or leave --config out to use the built-in defaults)"
    );
}

#[test]
fn a_directory_in_the_place_of_a_file_is_named() {
    let error = check::report(Some(Path::new("tests/configs"))).unwrap_err().to_string();
    assert_eq!(error, "failed to read configuration \"tests/configs\": it is a directory");
}

#[test]
fn the_built_in_defaults_are_ok() {
    assert_eq!(
        check::report(None).unwrap(),
        "built-in defaults: ok: 1 listener, 1 endpoint\n  \
           listener 127.0.0.1:8080: plain, this machine only\n  \
           endpoint /: to broadcast; at most 100 clients of 1MiB a message, pinged after 30s\n"
    );
}

#[test]
fn a_good_config_is_summed_up() {
    assert_eq!(
        check::report(Some(Path::new("config/relay.toml"))).unwrap(),
        "config/relay.toml: ok: 1 listener, 1 endpoint\n  \
           listener 127.0.0.1:8080: plain, this machine only\n  \
           endpoint /rooms/{room}: to others; at most 1000 clients of 1MiB a message, pinged after 30s\n"
    );
}
