//! What the package ships beside the program: man pages, completions, its configuration; and what `--version` says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use wsgate::internals::config;

use crate::harness::{DEADLINE, measured, process};

const MANUAL: &str = include_str!("../../config/wsgate.toml");
const CONFIGURATION: &str = include_str!("../../config/debian/wsgate.toml");

fn wsgate(arguments: &[&str]) -> String {
    let output = process::run(Command::new(env!("CARGO_BIN_EXE_wsgate")).args(arguments), DEADLINE);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `wsgate generate` writes.
fn generated() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(wsgate(&["generate", directory.path().to_str().unwrap()]), "");
    directory
}

/// The commands that `wsgate --help` lists.
fn commands() -> BTreeSet<String> {
    let help = wsgate(&["--help"]);
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let list = list.split("\n\n").next().unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: BTreeSet<_> = names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert!(names.contains("serve") && names.contains("help") && !names.contains("generate"), "{names:?}");
    names
}

/// Runs a program of the tests, unless it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new(program);
    // A terminal that is wide enough, and letters of all kinds.
    command.args(arguments).env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
    if command.get_program() != "bash" && Command::new(program).arg("--version").output().is_err() {
        measured("package", format!("skipped: {program} is not installed"));
        return None;
    }
    Some(process::run(&mut command, DEADLINE))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_command_has_a_page_and_every_page_is_shown_without_a_warning() {
    let directory = generated();
    let pages = directory.path().join("man");
    for command in commands().iter().filter(|command| *command != "help") {
        assert!(pages.join(format!("wsgate-{command}.1")).exists(), "{command} has no page");
    }
    for page in fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().path()) {
        let arguments = ["--warnings", "--encoding=UTF-8", "-Tutf8", "--local-file", page.to_str().unwrap()];
        let Some(output) = run("man", &arguments) else { return };
        assert_eq!((output.status.success(), text(&output.stderr)), (true, ""), "{}", page.display());
        let name = page.file_stem().unwrap().to_str().unwrap();
        assert!(text(&output.stdout).contains(name), "{name}: {}", text(&output.stdout));
    }
}

#[test]
fn every_option_of_the_manual_is_in_the_page_of_the_configuration() {
    let directory = generated();
    let page = fs::read_to_string(directory.path().join("man/wsgate.toml.5")).unwrap();
    let mut seen = 0;
    for line in MANUAL.lines() {
        let Some(rest) = line.strip_prefix('#') else { continue };
        let Some((key, value)) = rest.trim_start().split_once(" = ") else { continue };
        if !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            continue;
        }
        // At the head of its text, or in an example of another option.
        let head = format!("\n\\fB{key}\\fR");
        assert!(page.contains(&head) || page.contains(&format!("\n{key} = ")), "{key} is not in the page");
        if !rest.starts_with(' ') {
            let value = value.replace('-', "\\-");
            assert!(page.contains(&format!("{head} = {value}\n")), "{key} has another default in the page: {value}");
        }
        seen += 1;
    }
    assert!(seen > 100, "only {seen} options");
}

#[test]
fn every_shell_completes_every_command() {
    let directory = generated();
    let completions = directory.path().join("completions");
    let (bash, fish) = (completions.join("wsgate.bash"), completions.join("wsgate.fish"));
    let bash = format!(
        "source '{}'; COMP_WORDS=(wsgate ''); COMP_CWORD=1; _wsgate wsgate '' wsgate; echo \"${{COMPREPLY[@]}}\"",
        bash.display()
    );
    let fish = format!("source '{}'; complete --do-complete 'wsgate '", fish.display());
    // Without a terminal zsh completes nothing: that it knows the function, and what the function names, must do.
    let zsh = format!(
        "fpath=('{}' $fpath); autoload -Uz compinit; compinit -u -D; [[ $_comps[wsgate] == _wsgate ]] || exit 1
         autoload +X _wsgate; whence -f _wsgate",
        completions.display()
    );
    for (shell, arguments) in [
        ("bash", &["--norc", "-c", &bash][..]),
        ("fish", &["--no-config", "--command", &fish]),
        ("zsh", &["-f", "-c", &zsh]),
    ] {
        let Some(output) = run(shell, arguments) else { continue };
        assert_eq!((output.status.success(), text(&output.stderr)), (true, ""), "{shell}");
        let said = text(&output.stdout);
        let words: BTreeSet<_> = said.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
        for command in commands() {
            assert!(words.contains(&*command), "{shell} does not complete {command}: {said}");
        }
        assert!(!words.contains("generate"), "{shell}: {said}");
    }
}

#[test]
fn the_packaged_configuration_is_for_this_machine_only() {
    let settings = config::parse(CONFIGURATION, "wsgate.toml", Path::new("/etc/wsgate")).unwrap();
    assert_eq!(settings, config::Settings::default(), "the package starts with other settings than the defaults");
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

/// Which commit the build script finds for a release build of the package in this directory, and which files it has cargo
/// watch.
fn commit_at(script: &Path, package: &Path) -> (String, Vec<PathBuf>) {
    let mut command = Command::new(script);
    command.env("PROFILE", "release").env("CARGO_MANIFEST_DIR", package);
    let output = process::run(&mut command, DEADLINE);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout).to_owned();
    let behind = |prefix| said.lines().filter_map(move |line| line.strip_prefix(prefix));
    let commit = behind("cargo::rustc-env=WSGATE_COMMIT=").next().unwrap().to_owned();
    let watched = behind("cargo::rerun-if-changed=").filter(|file| *file != "build.rs").map(PathBuf::from);
    (commit, watched.collect())
}

#[test]
fn a_release_build_names_the_commit_of_its_checkout() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let script = at("build");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-o"]).arg(&script).arg("build.rs");
    let output = process::run(&mut rustc, 6 * DEADLINE);
    assert!(output.status.success(), "{}", text(&output.stderr));

    let write = |name: &str, content: &str| {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), content).unwrap();
    };
    let (first, second) = ("1".repeat(40), "2".repeat(64));
    let branch = "ref: refs/heads/feature/x\n";
    // A branch with a file of its own, one among the packed ones, and none.
    write("own/.git/HEAD", branch);
    write("own/.git/refs/heads/feature/x", &format!("{first}\n"));
    write("packed/.git/HEAD", branch);
    fs::create_dir_all(at("packed/.git/refs/heads")).unwrap();
    write("packed/.git/packed-refs", &format!("# pack-refs\n{first} refs/heads/x\n{second} refs/heads/feature/x\n"));
    write("detached/.git/HEAD", &format!("{second}\n"));
    // A further work tree, whose branch is where all are.
    write("tree/.git", "gitdir: ../own/.git/worktrees/tree\n");
    write("own/.git/worktrees/tree/HEAD", branch);
    write("own/.git/worktrees/tree/commondir", "../..\n");
    // What is no checkout, one that has no commit yet, and one that is broken.
    write("none/Cargo.toml", "");
    write("empty/.git/HEAD", branch);
    write("broken/.git/HEAD", "hello\n");

    let unknown = "unknown (not built in a checkout of git)";
    for (package, expected) in [
        ("own", &first[..12]),
        ("packed", &second[..12]),
        ("detached", &second[..12]),
        ("tree", &first[..12]),
        ("none", unknown),
        ("empty", unknown),
        ("broken", unknown),
    ] {
        let (commit, watched) = commit_at(&script, &at(package));
        assert_eq!(commit, expected, "{package}");
        // Cargo would build anew each time because of a file that is not there.
        assert!(watched.iter().all(|file| file.exists()), "{package}: {watched:?}");
        assert_eq!(watched.is_empty(), package == "none", "{package}: {watched:?}");
    }
}
