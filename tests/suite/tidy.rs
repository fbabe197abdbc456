//! Rules about the source that a compiler does not hold: layers, sizes, and a map that is complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, from the top down: what stands at the top of src/, a folder as one. A module imports only from the
/// floors below its own.
const FLOORS: [&[&str]; 14] = [
    &["cli"],
    &["gateway"],
    &["accept"],
    &["client"],
    &["broadcaster", "flusher", "heartbeat", "link", "relay"],
    &["dispatch"],
    &["events"],
    &["shared"],
    &["format", "route"],
    &["dial"],
    &["connection"],
    &["config"],
    &["message", "system", "template", "url"],
    &["clock", "display", "http", "id", "path", "permits", "secret", "sync"],
];

/// The files of src/connection/, from the top down; a file imports only from those below its own.
const CONNECTION: &[&str] = &[
    "handshake",
    "read_loop",
    "peer",
    "outbox",
    "poller",
    "keepalive",
    "record_writer",
    "reader",
    "tls",
    "queue",
    "socket",
    "frame",
    "buffer_pool",
    "ending",
];

/// The arrows that go up in src/connection/.
const CONNECTION_UP: [(&str, &str); 1] = [
    // The two know each other: an outbox that stalls is watched, and what is watched is an outbox.
    ("poller", "outbox"),
];

/// The most lines of a file above its unit tests.
const LINES_MAX: usize = 600;

/// Files that are over it, and how far they may be.
const LONG: [(&str, usize); 1] = [
    // All that happens under one lock, and between its holders: a part of it elsewhere would be read without the rest.
    ("connection/outbox.rs", 680),
];

/// A file of src/.
struct Source {
    /// Relative to src/, with slashes.
    name: String,
    text: String,
}

impl Source {
    /// The module that it belongs to: the first part of its name.
    fn module(&self) -> &str {
        let name = self.name.strip_suffix(".rs").unwrap();
        name.split('/').next().unwrap()
    }

    /// The lines above the unit tests. A file named tests.rs has none: it holds the unit tests of the file beside it.
    fn lines(&self) -> impl Iterator<Item = &str> {
        let only_tests = self.name.ends_with("/tests.rs");
        self.text.lines().take_while(move |line| !only_tests && *line != "#[cfg(test)]")
    }

    /// What the compiler sees of them: no comments. A `//` in a string ends its line here too.
    fn code(&self) -> String {
        self.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
    }
}

/// Every file under this directory that ends so.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("tests run in the directory of the package") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let read = |path: &PathBuf| Source {
        name: path.strip_prefix("src").unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    };
    let sources: Vec<_> = files(Path::new("src"), "rs").iter().map(read).collect();
    assert!(sources.len() > 40, "only {} files in src", sources.len());
    sources
}

/// The names that stand behind `root::`, also in braces: `crate::{a, b::c}` has a and b.
fn named_behind(code: &str, root: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let Some(rest) = code[at + root.len()..].strip_prefix("::").filter(|_| is_whole) else { continue };
        let first = |path: &str| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("").to_owned();
        match rest.strip_prefix('{') {
            None => names.extend([first(rest)]),
            Some(list) => names.extend(outer_items(list).map(|item| first(item.trim_start()))),
        }
    }
    names.remove("");
    names
}

/// The items of a list in braces, its opening brace removed; braces inside are part of an item.
fn outer_items(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let end = list.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth < 0
    });
    let mut depth = 0;
    list[..end.unwrap_or(list.len())].split(move |c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0 && c == ','
    })
}

/// The number of the floor, from the top.
fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|floor| floor.contains(&module))
        .unwrap_or_else(|| panic!("the module {module} is on no floor: say on which one it belongs"))
}

#[test]
fn every_module_has_a_floor() {
    let library = fs::read_to_string("src/lib.rs").unwrap();
    let declared = |line: &str| Some(line.split_once("mod ")?.1.strip_suffix(';')?.to_owned());
    let modules: BTreeSet<String> = library.lines().filter_map(declared).collect();
    let floors: BTreeSet<String> =
        FLOORS.iter().flat_map(|floor| floor.iter().map(|name| (*name).to_owned())).collect();
    assert_eq!(modules, floors);
}

#[test]
fn modules_import_only_from_the_floors_below() {
    let mut arrows = 0;
    for source in sources() {
        let (from, code) = (source.module(), source.code());
        if from == "lib" {
            continue;
        }
        if from == "main" {
            assert_eq!(named_behind(&code, "wsgate"), BTreeSet::from(["cli".to_owned()]), "main.rs");
            continue;
        }
        assert!(!code.contains("super::super"), "src/{}: write crate:: instead", source.name);
        assert!(source.name.contains('/') || !code.contains("super::"), "src/{}: write crate::", source.name);
        for to in named_behind(&code, "crate") {
            arrows += 1;
            let is_down = from == to || floor(from) < floor(&to);
            assert!(is_down, "src/{}: '{from}' must not import '{to}', which is not below it", source.name);
        }
    }
    assert!(arrows > 60, "only {arrows} arrows were seen");
}

#[test]
fn the_files_of_a_connection_import_only_from_those_below() {
    let place = |file: &str| {
        let place = CONNECTION.iter().position(|listed| *listed == file);
        place.unwrap_or_else(|| panic!("src/connection/{file}.rs has no place in the order"))
    };
    let mut used: BTreeSet<(&str, &str)> = BTreeSet::new();
    for source in sources() {
        let Some(from) = source.name.strip_prefix("connection/").and_then(|name| name.strip_suffix(".rs")) else {
            continue;
        };
        if from == "mod" {
            continue;
        }
        let code = source.code();
        assert!(!code.contains("crate::connection"), "src/{}: write super::", source.name);
        for to in named_behind(&code, "super") {
            let up = CONNECTION_UP.iter().find(|arrow| **arrow == (from, &to[..]));
            used.extend(up);
            assert!(place(from) < place(&to) || up.is_some(), "src/{}: '{to}' is not below it", source.name);
        }
    }
    assert_eq!(used, BTreeSet::from(CONNECTION_UP), "exceptions that nobody needs any more");
}

#[test]
fn imports_are_seen_however_they_are_written() {
    let code = "use crate::a;\nuse crate::{b, c::{d, e}, f::G};\nlet x = crate::h::i();\nmy_crate::j; ::crate::k";
    let names: Vec<_> = named_behind(code, "crate").into_iter().collect();
    assert_eq!(names, ["a", "b", "c", "f", "h"]);
}

#[test]
fn every_file_says_first_what_it_owns() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "src/{} has no module comment", source.name);
    }
}

#[test]
fn no_file_is_long() {
    for source in sources() {
        let lines = source.lines().count();
        let exception = LONG.iter().find(|(name, _)| *name == source.name);
        let most = exception.map_or(LINES_MAX, |(_, lines)| *lines);
        assert!(lines <= most, "src/{} has {lines} lines above its tests, {most} are allowed", source.name);
        assert!(
            exception.is_none() || lines > LINES_MAX,
            "src/{} has {lines} lines: it is no exception any more",
            source.name
        );
    }
}

#[test]
fn one_call_is_unsafe_and_nothing_is_unwrapped() {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    assert!(manifest.contains("\nunsafe_code = \"deny\"\n"), "the compiler has to deny unsafe code");
    for source in sources() {
        let code = source.code();
        let words = |wanted: &str| {
            code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| *word == wanted).count()
        };
        let (may, blocks) = (usize::from(source.name == "system/malloc.rs"), words("unsafe") + words("unsafe_code"));
        assert_eq!(blocks, 2 * may, "src/{}: the one call that is unsafe is malloc_trim", source.name);
        assert!(!code.contains(".unwrap()"), "src/{}: use expect(\"why it cannot fail\")", source.name);
        for macro_name in ["todo!", "unimplemented!", "dbg!"] {
            assert!(!code.contains(macro_name), "src/{} has {macro_name}", source.name);
        }
    }
}

#[test]
fn l6_every_lock_is_one_that_a_panic_does_not_spoil() {
    for source in sources().iter().filter(|source| source.name != "sync/lock.rs") {
        let code: String = source.code().split_whitespace().collect();
        let std_items = code.split("std::sync::").skip(1).map(|rest| rest.split(';').next().unwrap());
        for refused in ["Mutex", "Condvar", "RwLock", "PoisonError"] {
            let is_std = std_items.clone().any(|items| items.contains(refused));
            assert!(!is_std, "src/{}: take {refused} from crate::sync: a panic elsewhere would spread", source.name);
        }
    }
}

#[test]
fn the_map_names_every_module_and_no_file_that_is_not_there() {
    let architecture = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let (_, map) = architecture.split_once("\n## Code map\n").expect("a code map");
    let map = map.split("\n## ").next().unwrap();
    let named = |text: &str| -> BTreeSet<String> {
        let is_file = |name: &&str| {
            ["src/", "tests/", "benches/", "fuzz/", "model/", "config/", "docs/"]
                .iter()
                .any(|top| name.starts_with(top))
        };
        text.split('`').skip(1).step_by(2).filter(is_file).map(str::to_owned).collect()
    };
    let (map, all) = (named(map), named(&architecture));
    for entry in fs::read_dir("src").unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        let name = if entry.path().is_dir() { format!("src/{name}/") } else { format!("src/{name}") };
        assert!(map.contains(&name), "the map in ARCHITECTURE.md does not name {name}");
    }
    for name in all {
        assert!(Path::new(&name).exists(), "ARCHITECTURE.md names {name}, which is not there");
    }
}

#[test]
fn the_map_names_every_thread() {
    let architecture = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let (_, threads) = architecture.split_once("\n## Threads\n").expect("a section on the threads");
    let threads = threads.split("\n## ").next().unwrap();
    let mut seen = 0;
    for source in sources() {
        let code = source.code();
        // A name is the first argument, as a literal or as the format of one.
        for call in [
            "spawn_vital(\"",
            "spawn_vital(&format!(\"",
            "spawn_client(format!(\"",
            "spawn_helper(\"",
            "let name = format!(\"",
        ] {
            for rest in code.split(call).skip(1) {
                let name = rest.split(['"', ' ']).next().unwrap();
                assert!(threads.contains(&format!("| `{name}")), "ARCHITECTURE.md does not name the thread '{name}'");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 11, "threads that were seen starting");
}

#[test]
fn nothing_is_asynchronous() {
    let lock = fs::read_to_string("Cargo.lock").unwrap();
    for runtime in ["tokio", "async-std", "smol", "mio", "futures-executor"] {
        assert!(!lock.contains(&format!("name = \"{runtime}\"\n")), "{runtime} is among the dependencies");
    }
    for source in sources() {
        let code = source.code();
        assert!(!code.contains("async fn") && !code.contains(".await"), "src/{} is asynchronous", source.name);
        // Threads have names, and one that panics is noticed.
        let starts = code.contains("thread::spawn(") || code.contains("Builder::new().name");
        let may = source.name == "system/thread.rs";
        assert!(!starts || may, "src/{}: start threads through system/thread.rs", source.name);
    }
}
