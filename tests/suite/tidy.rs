//! Rules about the source that a compiler does not hold: layers, sizes, and a map that is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, from the top down: what stands at the top of src/, a folder as one. A module imports only from the
/// floors below its own.
const FLOORS: [&[&str]; 19] = [
    &["cli"],
    &["gateway"],
    &["admin"],
    &["accept"],
    &["client"],
    &["broadcaster", "flusher", "heartbeat", "jwks", "link", "relay", "store_thread"],
    &["events"],
    &["dispatch", "metrics"],
    &["shared"],
    &["approach", "authenticators", "format", "route"],
    &["dial", "listener", "store"],
    &["connection"],
    &["logging"],
    &["config"],
    &["auth"],
    &["http"],
    &["message", "system", "template", "url"],
    &["identity", "path"],
    &[
        "address",
        "certificate",
        "clock",
        "display",
        "errand",
        "histogram",
        "id",
        "limit",
        "log_kind",
        "log_loss",
        "pem",
        "permits",
        "reload",
        "secret",
        "sync",
        "table",
    ],
];

/// Files that import each other in a circle.
const CIRCLES: [(&str, &str); 1] = [
    // The two know each other: an outbox that stalls is watched, and what is watched is an outbox.
    ("connection/outbox/mod.rs", "connection/poller.rs"),
];

/// Rules: values in, value out. They know no socket, no clock and no log, also not for the sake of a type.
const RULES: &[&str] = &[
    "admin/guard.rs",
    "auth/admin.rs",
    "auth/allow.rs",
    "auth/answer.rs",
    "auth/credentials.rs",
    "auth/jwk.rs",
    "auth/jwt.rs",
    "auth/tokens.rs",
    "approach.rs",
    "client/admission.rs",
    "client/origin.rs",
    "route.rs",
    "events/json.rs",
    "connection/keepalive.rs",
    "connection/close.rs",
    "connection/ending.rs",
    "template.rs",
    "path.rs",
    "url.rs",
    "dial/backoff.rs",
    "limit.rs",
    "connection/intake.rs",
    "table.rs",
];

/// Folders whose files are all rules.
const RULE_FOLDERS: [&str; 3] = ["address/", "format/", "http/"];

/// Values that rules may know besides each other.
const VALUES: [&str; 8] =
    ["auth/", "config/", "id.rs", "identity.rs", "message.rs", "clock.rs", "secret.rs", "display.rs"];

/// The most lines of a file above its unit tests.
const LINES_MAX: usize = 450;

/// The most lines of a function outside tests.
const FUNCTION_MAX: usize = 60;

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

    /// The lines above the unit tests. A file named tests.rs, or in a folder of that name, has none: it holds the unit tests
    /// of the file beside it.
    fn lines(&self) -> impl Iterator<Item = &str> {
        let only_tests = self.name.ends_with("/tests.rs") || self.name.contains("/tests/");
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
            assert_eq!(named_behind(&code, "wsgate"), BTreeSet::from(["run".to_owned()]), "main.rs");
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

/// The file that a path such as `connection::tls::Session` leads to: the longest beginning that is one.
fn file_of<'s>(sources: &'s [Source], path: &[String]) -> Option<&'s str> {
    (1..=path.len()).rev().find_map(|len| {
        let name = path[..len].join("/");
        let is_it = |source: &&Source| source.name == format!("{name}.rs") || source.name == format!("{name}/mod.rs");
        sources.iter().find(is_it).map(|source| &*source.name)
    })
}

/// The paths behind `root::` in full, those in braces apart.
fn paths_behind(code: &str, root: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(root) {
        let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let Some(rest) = code[at + root.len()..].strip_prefix("::").filter(|_| is_whole) else { continue };
        let mut words = Vec::new();
        let mut rest = rest;
        loop {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            if end > 0 {
                words.push(rest[..end].to_owned());
            }
            match rest[end..].strip_prefix("::") {
                Some(further) => rest = further,
                None => {
                    rest = &rest[end..];
                    break;
                }
            }
        }
        if let Some(list) = rest.strip_prefix('{') {
            for item in outer_items(list) {
                let first = item.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                paths.push(words.iter().cloned().chain([first.to_owned()]).collect());
            }
        } else {
            paths.push(words);
        }
    }
    paths
}

/// Which files each file imports from.
fn imports(sources: &[Source]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut imports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        let code = source.code();
        let here: Vec<String> = source.name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        let parent = here[..here.len() - 1].to_vec();
        let beside =
            if here.last().is_some_and(|last| last == "mod") { &parent[..parent.len() - 1] } else { &parent[..] };
        let mut paths = paths_behind(&code, "crate");
        paths.extend(paths_behind(&code, "super").into_iter().map(|path| [beside, &path].concat()));
        if here.last().is_some_and(|last| last == "mod") {
            // Its children, named without a prefix.
            for child in sources.iter().filter_map(|child| child.name.strip_prefix(&format!("{}/", parent.join("/")))) {
                let child = child.trim_end_matches(".rs").split('/').next().unwrap();
                if child != "mod" && !paths_behind(&code, child).is_empty() {
                    paths.push([&parent[..], &[child.to_owned()]].concat());
                }
            }
        }
        let files = paths.iter().filter_map(|path| file_of(sources, path)).filter(|file| *file != source.name);
        imports.entry(&source.name).or_default().extend(files);
    }
    imports
}

/// A circle of files, if there is one.
fn circle<'s>(imports: &BTreeMap<&'s str, BTreeSet<&'s str>>) -> Option<Vec<&'s str>> {
    fn walk<'s>(
        at: &'s str,
        way: &mut Vec<&'s str>,
        done: &mut BTreeSet<&'s str>,
        imports: &BTreeMap<&'s str, BTreeSet<&'s str>>,
    ) -> Option<Vec<&'s str>> {
        if let Some(start) = way.iter().position(|earlier| *earlier == at) {
            return Some(way[start..].to_vec());
        }
        if done.contains(at) {
            return None;
        }
        way.push(at);
        let found = imports.get(at).into_iter().flatten().find_map(|next| walk(next, way, done, imports));
        way.pop();
        done.insert(at);
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|start| walk(start, &mut Vec::new(), &mut done, imports))
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let mut imports = imports(&sources);
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 300, "the arrows are not seen");
    for (one, other) in CIRCLES {
        assert!(
            imports[one].contains(other) && imports[other].contains(one),
            "{one} and {other} are no circle any more"
        );
        imports.get_mut(other).unwrap().remove(one);
    }
    if let Some(circle) = circle(&imports) {
        panic!("a circle of imports in src/: {}", circle.join(" -> "));
    }
}

#[test]
fn a_rule_knows_nothing_but_rules_and_values() {
    let sources = sources();
    let is_rule = |name: &str| RULES.contains(&name) || RULE_FOLDERS.iter().any(|folder| name.starts_with(folder));
    let is_value = |name: &str| VALUES.iter().any(|value| name.starts_with(value));
    for &rule in RULES {
        assert!(sources.iter().any(|source| source.name == rule), "src/{rule} is not there");
    }
    let imports = imports(&sources);
    for source in sources.iter().filter(|source| is_rule(&source.name)) {
        for file in &imports[&*source.name] {
            assert!(is_rule(file) || is_value(file), "src/{}: a rule must not import src/{file}", source.name);
        }
        let code = source.code();
        for refused in ["std::net::Tcp", "std::fs", "Instant::now", "SystemTime::now", "log::", "socket2", "rustix"] {
            assert!(!code.contains(refused), "src/{}: a rule has no {refused}", source.name);
        }
    }
}

#[test]
fn a_circle_is_found() {
    let imports = |arrows: &[(&'static str, &'static str)]| {
        let mut imports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, to) in arrows {
            imports.entry(from).or_default().insert(to);
        }
        imports
    };
    assert_eq!(circle(&imports(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    assert_eq!(circle(&imports(&[("a", "b"), ("b", "c"), ("c", "b")])), Some(vec!["b", "c"]));
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
        assert!(lines <= LINES_MAX, "src/{} has {lines} lines above its tests, {LINES_MAX} are allowed", source.name);
    }
}

/// The functions of a file and how many lines each has: from its `fn` to the brace that closes it.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.lines().collect();
    let mut functions = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(name) = words.iter().position(|word| *word == "fn").and_then(|at| words.get(at + 1)) else { continue };
        if line.trim_start().starts_with("//") || line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let closing = format!("{indent}}}");
        if let Some(len) = lines[at..].iter().position(|line| *line == closing) {
            functions.push((name.split(['(', '<']).next().unwrap().to_owned(), len + 1));
        }
    }
    functions
}

#[test]
fn no_function_is_long_and_most_are_short() {
    let mut lengths = Vec::new();
    for source in sources() {
        for (name, lines) in functions(&source) {
            assert!(lines <= FUNCTION_MAX, "src/{}: {name} has {lines} lines, {FUNCTION_MAX} are allowed", source.name);
            lengths.push(lines);
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(lengths.len() > 700 && median <= 9, "{} functions, the median has {median} lines", lengths.len());
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
    assert_eq!(seen, 17, "threads that were seen starting");
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
