//! A gateway that runs as a user who may do nothing special, for what root is never refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{self, Command, Stdio};

/// A user that nobody else has, so that its limit of processes is that of the gateway alone; `None`
/// where we cannot become another user.
pub(crate) fn nobody() -> Option<u32> {
    (rustix::process::geteuid().is_root()).then(|| 20_000 + process::id() % 40_000)
}

/// Makes a [`Gateway`](super::Gateway)'s command run as this user, under these limits of `prlimit`.
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

    let mut other = Command::new("setpriv");
    other.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--bounding-set=-all"]);
    other.arg("prlimit").args(limits).arg(&program).args(command.get_args()).current_dir(&directory);
    other.env_remove("RUST_LOG").env_remove("RUST_LOG_STYLE");
    other.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    *command = other;
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
