//! Authentication by passwords, with files that Debian's `htpasswd` has made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::auth::{files_of, write};
use crate::harness::command::run_with_input;
use crate::harness::{DEADLINE, Gateway, LISTENERS, Raw, eventually, measured, request};

/// A file with these users, as `htpasswd` with these options writes it.
pub(crate) fn htpasswd(file: &Path, options: &[&str], users: &[(&str, &str)]) {
    write(file, "");
    for (user, password) in users {
        let mut command = Command::new("htpasswd");
        command.args(["-b"]).args(options).arg(file).args([user, password]);
        let output = command.output().expect("htpasswd is not installed; run tests/install-clients.sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn config(file: &Path) -> String {
    format!(
        "{LISTENERS}[[auth]]\nname = \"staff\"\nkind = \"basic\"\nfile = {:?}\n\
         [[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nauth = [\"staff\"]\n",
        file.display().to_string()
    )
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes()))
}

/// The answer to a request with this line, its date apart.
fn answer(gateway: &Gateway, line: &str) -> String {
    let mut client = gateway.raw("plain");
    client.send(request("/", &[line]).as_bytes());
    let head = client.head();
    head.lines().filter(|line| !line.starts_with("Date:")).collect::<Vec<_>>().join("\n")
}

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users");
    (directory, file)
}

#[test]
fn passwords_of_debian_s_htpasswd_let_in_over_plain_and_tls() {
    let (_directory, file) = directory();
    htpasswd(&file, &["-B", "-C", "4"], &[("ada", "hunter2:with colon"), ("bob", "hunter2-bob")]);
    let gateway = Gateway::start(&config(&file));
    for listener in ["plain", "tls"] {
        // Twice: the second time it is remembered.
        for _ in 0..2 {
            let mut client = gateway.raw(listener);
            client.upgrade("/", &[&basic("ada", "hunter2:with colon")]);
            client.send_text("hello");
            assert_eq!(client.text(), "hello");
            gateway.wait_for_log(&format!(":{}): connected to '/' as 'ada'", client.own_port()));
        }
    }
    let none = answer(&gateway, "X: y");
    assert!(
        none.starts_with("HTTP/1.1 401 ") && none.contains("\nWWW-Authenticate: Basic realm=\"wsgate\", charset="),
        "{none}"
    );
    for line in [
        basic("ada", "hunter2"),
        basic("ada", ""),
        basic("bob", "hunter2:with colon"),
        basic("eve", "hunter2-bob"),
        basic("", ""),
        "Authorization: Basic".to_owned(),
        "Authorization: Basic YWRh".to_owned(),
        "Authorization: Basic !".to_owned(),
        "Authorization: Bearer hunter2-bob".to_owned(),
    ] {
        assert_eq!(answer(&gateway, &line), none, "{line}");
    }
}

#[test]
fn hashes_that_are_guessed_quickly_are_refused_with_what_to_write() {
    let (_directory, file) = directory();
    for (options, words) in [
        (&["-m"][..], "Apache's MD5"),
        (&["-s"], "SHA-1 without a salt"),
        (&["-d"], "crypt or a password in the clear"),
        (&["-p"], "crypt or a password in the clear"),
    ] {
        htpasswd(&file, options, &[("ada", "hunter2")]);
        let mut gateway = Gateway::launch(&config(&file), |_| {});
        assert_eq!(gateway.wait().code(), Some(78));
        let log = gateway.whole_log().join("\n");
        assert!(
            log.contains(words) && log.contains("which is wrong on line 1: ") && log.contains("htpasswd -B"),
            "{log}"
        );
    }
    htpasswd(&file, &["-B", "-C", "4"], &[("ada", "a")]);
    let first = fs::read_to_string(&file).unwrap();
    htpasswd(&file, &["-B", "-C", "5"], &[("bob", "b")]);
    write(&file, &format!("{first}{}", fs::read_to_string(&file).unwrap()));
    let gateway = Gateway::start(&config(&file));
    gateway.wait_for_log("in which checks cost more for some users than for others");
}

#[test]
fn attempts_that_get_no_turn_in_time_are_503_and_hold_no_thread_beyond_the_deadline() {
    let (_directory, file) = directory();
    htpasswd(&file, &["-B", "-C", "12"], &[("ada", "hunter2")]);
    let gateway = Gateway::start(&format!("[gateway]\nhandshake_timeout = \"1s\"\n{}", config(&file)));
    let before = gateway.threads();
    // Each takes a quarter of a second of a processor or more, and one or a few are checked at once.
    let statuses: Vec<String> = thread::scope(|scope| {
        let attempts: Vec<_> = (0..24)
            .map(|number| {
                scope.spawn({
                    let gateway = &gateway;
                    move || answer(gateway, &basic("ada", &number.to_string()))
                })
            })
            .collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()[9..12].to_owned()).collect()
    });
    assert!(statuses.iter().all(|status| matches!(&status[..], "401" | "503")), "{statuses:?}");
    assert!(statuses.iter().any(|status| status == "503"), "{statuses:?}");
    eventually("the threads have ended", DEADLINE, || gateway.threads() <= before);
}

#[test]
fn s23_a_password_whose_client_hangs_up_while_it_waits_is_not_checked() {
    let (_directory, file) = directory();
    htpasswd(&file, &["-B", "-C", "13"], &[("ada", "hunter2")]);
    let gateway = "[gateway]\nhandshake_timeout = \"60s\"\nfailed_credentials = \"off\"\n";
    let gateway = Gateway::start_with(&format!("{gateway}{}", config(&file)), |command| {
        command.env("RUST_LOG", "debug");
    });
    let before = gateway.threads();
    // Each takes a second of a processor or more, and so many are checked at once.
    let at_once = (thread::available_parallelism().unwrap().get() / 2).max(1);
    let count = 4 * at_once + 8;
    let clients: Vec<Raw> = (0..count)
        .map(|number| {
            let mut client = gateway.raw(if number % 2 == 0 { "plain" } else { "tls" });
            client.send(request("/", &[&basic("ada", &number.to_string())]).as_bytes());
            client
        })
        .collect();
    eventually("all have a thread", DEADLINE, || gateway.threads() >= before + count - 2 * at_once);
    drop(clients);
    let left = count / 2;
    gateway.wait_for_logs("it left while its credentials waited to be checked", left);
    // The one whose turn had come is checked to its end, which takes long on a busy machine.
    eventually("the threads have ended", 6 * DEADLINE, || gateway.threads() <= before);
    let checked = gateway.log().iter().filter(|line| line.contains("refused with 401")).count();
    assert!(checked <= count - left, "{checked} of {count} were checked");
    measured("S23", format!("{checked} of {count} passwords checked whose clients had left"));
}

#[test]
fn s26_an_address_that_sends_many_wrong_passwords_keeps_no_other_one_waiting() {
    const ATTEMPTS: usize = 40;
    let (_directory, file) = directory();
    htpasswd(&file, &["-B", "-C", "10"], &[("ada", "hunter2")]);
    let options = "[gateway]\nhandshake_timeout = \"60s\"\nfailed_credentials = \"off\"\n";
    let gateway = Gateway::start(&format!("{options}{}", config(&file)));
    let before = gateway.threads();
    let from = |last: u8| Raw::plain_from([127, 0, 0, last].into(), gateway.port("plain"));
    let mut flood: Vec<Raw> = (0..ATTEMPTS).map(|_| from(2)).collect();
    for (number, client) in flood.iter_mut().enumerate() {
        client.send(request("/", &[&basic("ada", &number.to_string())]).as_bytes());
    }
    eventually("most of them wait", DEADLINE, || gateway.threads() >= before + ATTEMPTS * 3 / 4);
    let mut answered =
        || flood.iter_mut().filter_map(|client| client.has_input_within(Duration::ZERO).then_some(())).count();
    let first = answered();
    from(3).upgrade("/", &[&basic("ada", "hunter2")]);
    let last = answered();
    // Those whose turn it was, those beside the good one, and those that came to an end before it was read.
    let at_once = (thread::available_parallelism().unwrap().get() / 2).max(1);
    assert!(last - first <= 3 * at_once + 2, "{first} of {ATTEMPTS} were answered before, {last} behind it");
    assert!(last + 2 * at_once < ATTEMPTS, "all had their turn: {first} before, {last} behind it");
    measured("S26", format!("{} of {ATTEMPTS} attempts of another address were checked before it", last - first));
}

#[test]
fn s20_of_many_attempts_that_wait_at_once_no_more_are_looked_at_than_may_fail() {
    const ATTEMPTS: usize = 24;
    let (_directory, file) = directory();
    htpasswd(&file, &["-B", "-C", "9"], &[("ada", "hunter2")]);
    let limit = "[gateway]\nfailed_credentials = { most = 3, within = \"1h\" }";
    let gateway = Gateway::start(&format!("{limit}\n{}", config(&file)));
    // All of them are there before the third has failed.
    let mut clients: Vec<Raw> = (0..ATTEMPTS).map(|_| gateway.raw("plain")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request("/", &[&basic("ada", &number.to_string())]).as_bytes());
    }
    let count = |status: &str, heads: &[String]| heads.iter().filter(|head| head[9..12] == *status).count();
    let heads: Vec<String> = clients.iter_mut().map(Raw::head).collect();
    let (wrong, unheard) = (count("401", &heads), count("429", &heads));
    assert_eq!(wrong + unheard, ATTEMPTS, "{heads:?}");
    // Those beside the third, and those whose turn comes before it has been counted.
    let at_once = (thread::available_parallelism().unwrap().get() / 2).max(1);
    assert!((3..3 + 2 * at_once).contains(&wrong), "{wrong} were looked at");
}

#[test]
fn s20_a_wrong_password_beside_a_right_token_counts() {
    let (_directory, file) = directory();
    htpasswd(&file, &["-B", "-C", "4"], &[("ada", "hunter2")]);
    let tokens = files_of(&[("bob", "hunter2-bob")]);
    let config = config(&file).replace("auth = [\"staff\"]", "auth = [\"staff\", \"others\", \"all\"]");
    let auth = |name: &str, more: &str| {
        let file = tokens.path().join("tokens.txt").display().to_string();
        format!("[[auth]]\nname = \"{name}\"\nkind = \"tokens\"\nfile = {file:?}\n{more}\n")
    };
    let others = files_of(&[("eve", "hunter2-eve")]);
    let others = auth("others", "").replace(&*tokens.path().to_string_lossy(), &others.path().to_string_lossy());
    let limit = "[gateway]\nfailed_credentials = { most = 5, within = \"1h\" }";
    let gateway = Gateway::start(&format!("{limit}\n{config}{others}{}", auth("all", "cookie = \"session\"")));
    let status = |lines: &[&str]| {
        let mut client = gateway.raw("plain");
        client.send(request("/", lines).as_bytes());
        client.head()[9..12].to_owned()
    };
    // A token that only the second of two knows is no wrong one.
    for _ in 0..10 {
        assert_eq!(status(&["Authorization: Bearer hunter2-bob"]), "101");
    }
    let (wrong, cookie) = (basic("ada", "hunter3"), "Cookie: session=hunter2-bob");
    for _ in 0..5 {
        assert_eq!(status(&[&wrong, cookie]), "101");
    }
    assert_eq!(status(&[&wrong, cookie]), "429");
    assert_eq!(status(&[cookie]), "429");
}

/// A gateway on these tokens, and clients that came in as these two.
fn tokens(files: &TempDir, names: [&str; 2]) -> (Gateway, [Raw; 2]) {
    let file = files.path().join("tokens.txt").display().to_string();
    let gateway = Gateway::start(&format!(
        "{LISTENERS}[[auth]]\nname = \"all\"\nkind = \"tokens\"\nfile = {file:?}\n\
         [[endpoint]]\npath = \"/\"\nto = [\"reply\"]\nauth = [\"all\"]\n"
    ));
    let clients = names.map(|name| {
        let mut client = gateway.raw("plain");
        client.upgrade("/", &[&format!("Authorization: Bearer hunter2-{name}")]);
        client
    });
    (gateway, clients)
}

#[test]
fn r1_a_reload_closes_those_whose_token_is_gone_and_a_broken_file_changes_nothing() {
    let files = files_of(&[("ada", "hunter2-ada"), ("bob", "hunter2-bob")]);
    let file = files.path().join("tokens.txt");
    let (gateway, [mut ada, mut bob]) = tokens(&files, ["ada", "bob"]);
    let stays = |client: &mut Raw| {
        client.send_text("still here");
        assert_eq!(client.text(), "still here");
    };
    let line =
        |name: &str| run_with_input(&["token", "hash", name], format!("hunter2-{name}").as_bytes()).stdout().to_owned();
    for (number, text) in
        [String::new(), format!("{}ada:12\n", line("ada").repeat(9999)), "ada".to_owned()].iter().enumerate()
    {
        write(&file, text);
        gateway.signal(Signal::HUP);
        let told = gateway.wait_for_logs("reload: failed, and nothing has changed: wsgate.toml:", number + 1);
        assert!(told[number].contains("tokens.txt\"") && told[number].contains("which is wrong"), "{told:?}");
        stays(&mut ada);
        stays(&mut bob);
    }
    assert!(gateway.log().iter().any(|line| line.contains("which is wrong on line 10000: ")));
    write(&file, &format!("{}{}", line("ada"), line("eve")));
    gateway.signal(Signal::HUP);
    bob.closed_with(1008, "Access withdrawn");
    stays(&mut ada);
    gateway.wait_for_log("reload: closing 1 client whose access was withdrawn");
    assert!(answer(&gateway, "Authorization: Bearer hunter2-bob").starts_with("HTTP/1.1 401 "));
    assert!(answer(&gateway, "Authorization: Bearer hunter2-eve").starts_with("HTTP/1.1 101 "));
}
