//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    wsgate::run(std::env::args_os())
}
