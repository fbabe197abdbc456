//! The attack bench: a hundred well-behaved clients while others do their worst, with the gateway on one core.
//!
//! `cargo bench --bench attacks [-- CASE...]` runs all cases, or those whose names contain a word given; `-- --help` has
//! the options. Each case has a gateway of its own, which goes through a quiet run, a short round of the attack that
//! fills what fills once, and then the attack that counts. The well-behaved clients are measured from a thread that
//! goes before the attackers', and the table is Markdown. A mark that is missed makes the exit code 1.

mod attackers;
mod cases;
mod credentials;
mod feed;
mod good;
mod key_updates;
mod knocks;
mod report;
mod services;

// What only the load bench uses of these is dead code here.
#[allow(dead_code)]
#[path = "../load/frame.rs"]
mod frame;
#[allow(dead_code)]
#[path = "../load/generator.rs"]
mod generator;
#[allow(dead_code)]
#[path = "../load/histogram.rs"]
mod histogram;
#[allow(dead_code)]
#[path = "../load/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../load/tls.rs"]
mod tls;

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use crate::cases::{Bench, Case};
use crate::credentials::Credentials;
use crate::process::{Cores, Workspace};
use crate::services::Services;

/// Measures what a hundred well-behaved clients notice of attacks.
#[derive(Parser)]
#[command(name = "cargo bench --bench attacks --")]
struct Arguments {
    /// Names of cases, or words that they contain; all cases without any.
    cases: Vec<String>,
    /// Print the names of the cases and end.
    #[arg(long)]
    list: bool,
    /// Seconds of each attack; the quiet run before it takes a third of that.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benches too, with the arguments of tests; minutes of attacks help nobody there.
    if !env::args().any(|argument| argument == "--bench") {
        println!("attacks: nothing measured; start it with `cargo bench --bench attacks`");
        return ExitCode::SUCCESS;
    }
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(what) => {
            eprintln!("attacks: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let cases = chosen_cases(&arguments.cases)?;
    if arguments.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    process::raise_file_limit();
    let cores = Cores::of_this_machine();
    process::pin(cores.generator)?;
    if !go_first() {
        eprintln!(
            "attacks: the clients are measured in line with their attackers: root and `chrt` would put them first"
        );
    }
    let workspace = Workspace::new()?;
    let credentials = Arc::new(Credentials::write(&workspace)?);
    let services = Services::start()?;
    let bench =
        Bench { cores, workspace, credentials, services, time: Duration::from_secs_f64(arguments.seconds.max(1.0)) };
    let mut rows = Vec::new();
    for case in &cases {
        eprintln!("{}", case.name);
        let outcome = bench.measure(case);
        match &outcome {
            Ok(figures) => eprintln!("{}", report::line(case, figures)),
            Err(what) => eprintln!("{}: {what}", case.name),
        }
        rows.push((*case, outcome));
    }
    if cores.is_one() {
        println!("Gateway, clients and attackers share the only core: the latencies say little.\n");
    } else {
        println!("Gateway on core {}, clients and attackers on core {}.", cores.server, cores.generator);
    }
    println!("Each attack lasted {} s.\n", arguments.seconds);
    print!("{}", report::markdown(&rows));
    let missed = rows.iter().any(|(case, outcome)| !report::misses(case, outcome).is_empty());
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Gives this thread its core whenever it has something to do, and none of what it starts: a client that is measured
/// waits for the gateway, not for an attacker. False without root.
fn go_first() -> bool {
    let this = std::process::id().to_string();
    let mut chrt = Command::new("chrt");
    chrt.args(["--reset-on-fork", "--fifo", "--pid", "1", &this]).stderr(Stdio::null());
    chrt.status().is_ok_and(|status| status.success())
}

fn chosen_cases(words: &[String]) -> Result<Vec<Case>, String> {
    let mut cases = cases::ALL.to_vec();
    if let Some(word) = words.iter().find(|word| !cases.iter().any(|case| case.name.contains(word.as_str()))) {
        return Err(format!("no case is called '{word}' (--list prints them)"));
    }
    cases.retain(|case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str())));
    Ok(cases)
}
