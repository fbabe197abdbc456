//! Other ways to start a gateway's process: through programs that limit it, as a user who may do nothing special.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{self, Command, Stdio};

/// Makes a [`Gateway`](super::Gateway)'s command run by way of these words, to which its own program and
/// arguments are added: `["prlimit", "--nofile=64"]`. The last program has to become it, not to start it.
pub(crate) fn by_way_of<Word: AsRef<OsStr>>(way: &[Word], command: &mut Command) {
    let mut other = Command::new(&way[0]);
    other.args(&way[1..]).arg(command.get_program());
    become_like(other, command);
}

/// Makes a gateway's command run another program with the same arguments.
pub(crate) fn with_program(program: &Path, command: &mut Command) {
    become_like(Command::new(program), command);
}

fn become_like(mut other: Command, command: &mut Command) {
    other.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    *command = other;
}

/// A user that no other process has, so that its limit of processes is that of the gateway alone; `None`
/// where we cannot become another user.
pub(crate) fn nobody() -> Option<u32> {
    rustix::process::geteuid().is_root().then(|| 20_000 + process::id() % 40_000)
}

/// Makes a gateway's command run as this user, under these limits of `prlimit`.
pub(crate) fn run_as(user: u32, limits: &[&str], command: &mut Command) {
    let directory = command.get_current_dir().unwrap().to_owned();
    // Neither the directory of the test nor that of the build need be open to this user.
    let program = directory.join("wsgate");
    let built = command.get_program();
    if fs::hard_link(built, &program).is_err() {
        fs::copy(built, &program).unwrap();
    }
    open(&directory, 0o755);
    open(&directory.join("key.pem"), 0o644);
    with_program(&program, command);
    let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
    let way = ["setpriv", &user, &group, "--clear-groups", "--bounding-set=-all", "prlimit"];
    by_way_of(&[&way, limits].concat(), command);
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
