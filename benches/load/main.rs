//! The load bench: the release binary under traffic, beside a floor and a naive design, in the same run.
//!
//! `cargo bench --bench load [-- CASE...]` runs all cases, or those whose names contain a word given; `-- --help` has the
//! options. Every run starts a fresh server on one core and drives it from another; the rounds go over the servers in
//! turn, the tables show medians. The figure to look at is the server's CPU time a message: throughput and latencies
//! depend on the generator too. A message lost, repeated, reordered or changed fails the run.

mod cases;
mod floor;
mod frame;
mod generator;
mod guard;
mod histogram;
mod loads;
mod naive;
// The attack bench shares it; what only that one uses is dead code here.
#[allow(dead_code)]
mod process;
mod pump;
mod relayed;
mod report;
mod rooms;
mod tls;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cases::{Bench, Case};
use crate::guard::Credentials;
use crate::process::{Cores, Guard, Kind, Workspace};
use crate::report::Row;

/// Measures wsgate under load, beside a floor of bare system calls and a naive design.
#[derive(Parser)]
#[command(name = "cargo bench --bench load --")]
struct Arguments {
    /// Names of cases, or words that they contain; all cases without any.
    cases: Vec<String>,
    /// Print the names of the cases and end.
    #[arg(long)]
    list: bool,
    /// Runs of each server in each case; the tables show medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Seconds of traffic in one run.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only these servers: wsgate, floor, naive, or the name of the peer; wsgate with `auth`, `allow` and a rate that is
    /// never reached is measured only if it is named: tokens, es256.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Measures another server too, in the plain cases: its command line, with `{port}`.
    #[arg(long, value_name = "COMMAND")]
    peer_cmd: Option<String>,
    /// The same for the TLS cases, with `{port}`, `{cert}` and `{key}`.
    #[arg(long, value_name = "COMMAND")]
    tls_peer_cmd: Option<String>,
    /// What the tables call that server.
    #[arg(long, default_value = "peer")]
    peer_name: String,
    /// Writes every single run to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    #[arg(long, hide = true, value_name = "PORT")]
    serve_floor: Option<u16>,
    #[arg(long, hide = true, value_name = "PORT")]
    serve_naive: Option<u16>,
    #[arg(long, hide = true, value_name = "PORT", requires = "upstream")]
    serve_pump: Option<u16>,
    /// Where the pump leads.
    #[arg(long, hide = true, value_name = "ADDRESS")]
    upstream: Option<SocketAddr>,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benches too, with the arguments of tests; minutes of load help nobody there.
    if !env::args().any(|argument| argument == "--bench" || argument.starts_with("--serve-")) {
        println!("load: nothing measured; start it with `cargo bench --bench load`");
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(what) => {
            eprintln!("load: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let open_files = process::raise_file_limit();
    if let Some(port) = arguments.serve_floor {
        floor::serve(port)?;
    }
    if let Some(port) = arguments.serve_naive {
        naive::serve(port)?;
    }
    if let (Some(port), Some(upstream)) = (arguments.serve_pump, arguments.upstream) {
        pump::serve(port, upstream)?;
    }
    let cases = chosen_cases(&arguments.cases)?;
    if arguments.list {
        cases.iter().for_each(|case| println!("{}", case.name()));
        return Ok(ExitCode::SUCCESS);
    }
    let cores = Cores::of_this_machine();
    process::pin(cores.generator)?;
    let workspace = Workspace::new()?;
    let credentials = Credentials::write(&workspace)?;
    let bench = Bench { cores, workspace, credentials, time: Duration::from_secs_f64(arguments.seconds) };
    let rows = measure(&bench, &cases, &chosen_servers(arguments)?, arguments.runs, open_files);
    if cores.is_one() {
        println!("Servers and generator share the only core: throughput and latencies say little.\n");
    } else {
        println!("Server on core {}, generator on core {}.", cores.server, cores.generator);
    }
    println!("Medians of {}, {} s of traffic each.\n", count(arguments.runs, "run"), arguments.seconds);
    print!("{}", report::markdown(&rows));
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", report::json(&rows));
        fs::write(path, text).map_err(|cause| format!("failed to write '{}': {cause}", path.display()))?;
    }
    let failed = rows.iter().any(|row| !row.failures.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(bench: &Bench, cases: &[Case], servers: &[Kind], runs: u32, open_files: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for case in cases {
        let kinds: Vec<&Kind> = servers.iter().filter(|kind| case.applies_to(kind)).collect();
        let first = rows.len();
        rows.extend(kinds.iter().map(|kind| Row {
            case: *case,
            kind: (*kind).clone(),
            runs: Vec::new(),
            failures: Vec::new(),
        }));
        // A few files are open besides the sockets.
        let too_many = case.clients() as u64 + 32 > open_files;
        for run in 1..=runs {
            for (kind, row) in kinds.iter().zip(&mut rows[first..]) {
                eprintln!("{} {}, run {run} of {runs}", case.name(), kind.name());
                let measured = if too_many {
                    Err(format!("needs {} open files, the limit is {open_files} (raise ulimit -n)", case.clients()))
                } else {
                    bench.measure(case, kind)
                };
                match measured {
                    Ok(figures) => row.runs.push(figures),
                    Err(what) => {
                        eprintln!("{} {}: {what}", case.name(), kind.name());
                        row.failures.push(what);
                    }
                }
            }
        }
    }
    rows
}

fn chosen_cases(words: &[String]) -> Result<Vec<Case>, String> {
    let named = |word: &String| cases::by_name_only().into_iter().find(|case| case.name() == *word);
    let by_name: Vec<Case> = words.iter().filter_map(named).collect();
    let words: Vec<&String> = words.iter().filter(|word| named(word).is_none()).collect();
    if !by_name.is_empty() && words.is_empty() {
        return Ok(by_name);
    }
    let mut cases = cases::all();
    if let Some(word) = words.iter().find(|word| !cases.iter().any(|case| case.name().contains(word.as_str()))) {
        return Err(format!("no case is called '{word}' (--list prints them)"));
    }
    // A full name means that case alone, not those that go on after it.
    let is_a_name = |word: &str| cases::all().iter().any(|case| case.name() == word);
    let means = |word: &str, name: &str| if is_a_name(word) { name == word } else { name.contains(word) };
    cases.retain(|case| words.is_empty() || words.iter().any(|word| means(word, &case.name())));
    cases.extend(by_name);
    Ok(cases)
}

fn chosen_servers(arguments: &Arguments) -> Result<Vec<Kind>, String> {
    let guarded = [Guard::Tokens, Guard::Es256].map(Kind::Guarded);
    let mut servers = vec![Kind::Floor, Kind::Naive, Kind::Wsgate];
    servers.extend(guarded.into_iter().filter(|kind| arguments.servers.iter().any(|name| name == kind.name())));
    for (command, tls) in [(&arguments.peer_cmd, false), (&arguments.tls_peer_cmd, true)] {
        if let Some(command) = command {
            servers.push(Kind::Peer { name: arguments.peer_name.clone(), command: command.clone(), tls });
        }
    }
    if let Some(name) = arguments.servers.iter().find(|name| !servers.iter().any(|kind| kind.name() == *name)) {
        return Err(format!("no server is called '{name}' (a peer needs --peer-cmd or --tls-peer-cmd)"));
    }
    servers.retain(|kind| arguments.servers.is_empty() || arguments.servers.iter().any(|name| name == kind.name()));
    Ok(servers)
}

fn count(number: u32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
