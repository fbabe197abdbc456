//! Tells the compiler what `wsgate --version` says of the build: the commit, and the features of the package.
//!
//! git itself is not needed: the files of the checkout say which commit it is at. Debug builds do not record the
//! commit, or each commit would compile the program and all tests anew.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=WSGATE_FEATURES={}", features());
    let commit = if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        commit().unwrap_or_else(|| "unknown (not built in a checkout of git)".to_owned())
    } else {
        "unknown (a debug build)".to_owned()
    };
    println!("cargo::rustc-env=WSGATE_COMMIT={commit}");
}

/// The features that the build has, as cargo tells them.
fn features() -> String {
    let prefix = "CARGO_FEATURE_";
    let mut names: Vec<_> =
        env::vars().filter_map(|(name, _)| Some(name.strip_prefix(prefix)?.to_lowercase())).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The commit that the checkout of this package is at, if it is one. The build script runs again when a file changes
/// that was asked for it.
fn commit() -> Option<String> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let (own, common) = git_directories(&package)?;
    let head = read(&own.join("HEAD"))?;
    let commit = match head.strip_prefix("ref: ") {
        None => head,
        Some(reference) => read(&common.join(reference)).or_else(|| packed(&common, reference))?,
    };
    let is_commit = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| commit[..12].to_owned())
}

/// Where git keeps what belongs to this checkout, and what all checkouts of the repository have in common. These are
/// two places where `.git` is a file, which names the first of them.
fn git_directories(package: &Path) -> Option<(PathBuf, PathBuf)> {
    let git = package.join(".git");
    if git.is_dir() {
        return Some((git.clone(), git));
    }
    let own = package.join(read(&git)?.strip_prefix("gitdir: ")?);
    let common = read(&own.join("commondir")).map_or_else(|| own.clone(), |common| own.join(common));
    Some((own, common))
}

/// The commit of a branch that has no file of its own. It gets one with the next commit, which changes the directory.
fn packed(common: &Path, reference: &str) -> Option<String> {
    let directory = common.join(reference).ancestors().skip(1).find(|directory| directory.is_dir())?.to_owned();
    println!("cargo::rerun-if-changed={}", directory.display());
    let refs = read(&common.join("packed-refs"))?;
    refs.lines().find_map(|line| Some(line.strip_suffix(reference)?.strip_suffix(' ')?.to_owned()))
}

/// The text of a file, without the line end. Only a file that is there is watched: cargo takes one that is not for
/// changed, each time.
fn read(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    println!("cargo::rerun-if-changed={}", file.display());
    Some(text.trim_end().to_owned())
}
