//! The timing bench: does the time of a refusal tell what was wrong with a credential?
//!
//! `cargo bench --bench timing` sends pairs of requests with wrong credentials, one right behind the other and in an order
//! by chance, and compares the medians of the time from the request to the answer. The gateway is on one core, the client
//! on another. Medians of a pair that differ by 1 % or more make the exit code 1.

#[allow(dead_code)]
#[path = "load/process.rs"]
mod process;

use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use openssl::sha::sha256;

use crate::process::{Cores, Server, Workspace};

const TOKEN: &str = "dGhlIHJpZ2h0IHRva2VuIG9mIHRoaXMgdGVzdCBydW4";
/// What `htpasswd -C 10` takes for a hash.
const BCRYPT_COST: u32 = 10;
/// By how much the medians of a pair may differ, of the smaller one.
const DIFFERENCE_MAX: f64 = 0.01;
const PATIENCE: Duration = Duration::from_secs(10);

/// Compares how long it takes to refuse wrong credentials.
#[derive(Parser)]
#[command(name = "cargo bench --bench timing --")]
struct Arguments {
    /// Requests with each of two tokens.
    #[arg(long, default_value_t = 20_000)]
    tokens: usize,
    /// Requests with each of two users, at a twentieth of a second or more.
    #[arg(long, default_value_t = 200)]
    passwords: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Two wrong credentials, each with its name and what stands in Authorization.
struct Pair {
    names: [&'static str; 2],
    path: &'static str,
    credentials: [String; 2],
    count: usize,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` starts benches too, with the arguments of tests.
    if !env::args().any(|argument| argument == "--bench") {
        println!("timing: nothing measured; start it with `cargo bench --bench timing`");
        return ExitCode::SUCCESS;
    }
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(what) => {
            eprintln!("timing: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let (cores, workspace) = (Cores::of_this_machine(), Workspace::new()?);
    process::pin(cores.generator)?;
    let server = start(cores, &workspace)?;
    println!("| wrong credentials | of each | medians, µs | differ by |\n| --- | --- | --- | --- |");
    let mut differs = false;
    for pair in pairs(arguments) {
        let medians = measure(&pair, server.address())?;
        let smaller = medians[0].min(medians[1]);
        let difference = (medians[0] - medians[1]).abs() / smaller;
        differs |= difference >= DIFFERENCE_MAX;
        let [one, other] = medians.map(|median| format!("{median:.1}"));
        let names = pair.names.join(" / ");
        println!("| {names} | {} | {one} / {other} | {:.2} % |", pair.count, difference * 100.0);
    }
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A gateway that locks nobody out.
fn start(cores: Cores, workspace: &Workspace) -> Result<Server, String> {
    let port = process::free_port()?;
    let digest = data_encoding::HEXLOWER.encode(&sha256(TOKEN.as_bytes()));
    workspace.write("tokens.txt", &format!("press-3:{digest}\n"))?;
    let hash = bcrypt::hash("the right password", BCRYPT_COST);
    let hash = hash.map_err(|cause| format!("failed to hash a password: {cause}"))?;
    workspace.write("users.txt", &format!("ada:{hash}\n"))?;
    let mut config = format!("[gateway]\nfailed_credentials = \"off\"\n{}", workspace.listener(port, false));
    for (kind, file) in [("tokens", "tokens.txt"), ("basic", "users.txt")] {
        config += &format!(
            "[[auth]]\nname = \"{kind}\"\nkind = \"{kind}\"\nfile = \"{file}\"\n\
             [[endpoint]]\npath = \"/{kind}\"\nauth = [\"{kind}\"]\n"
        );
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
    command.arg("serve").arg("--config").arg(workspace.write_config(&config)?);
    Server::launch(command, port, cores, workspace)
}

fn pairs(arguments: &Arguments) -> [Pair; 2] {
    let basic = |user: &str| format!("Basic {}", data_encoding::BASE64.encode(user.as_bytes()));
    let (beginning, last) = TOKEN.split_at(TOKEN.len() - 1);
    let (first, end) = TOKEN.split_at(1);
    let other = |right: &str| if right == "x" { "y" } else { "x" };
    [
        Pair {
            names: ["a token with a right beginning", "with a wrong one"],
            path: "/tokens",
            credentials: [format!("Bearer {beginning}{}", other(last)), format!("Bearer {}{end}", other(first))],
            count: arguments.tokens,
        },
        Pair {
            names: ["a known user", "an unknown one"],
            path: "/basic",
            credentials: [basic("ada:a wrong password"), basic("eve:a wrong password")],
            count: arguments.passwords,
        },
    ]
}

/// The medians of both, in microseconds.
fn measure(pair: &Pair, address: SocketAddr) -> Result<[f64; 2], String> {
    let requests = pair.credentials.each_ref().map(|credential| {
        format!(
            "GET {} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Authorization: {credential}\r\n\r\n",
            pair.path
        )
    });
    let mut times = [Vec::new(), Vec::new()];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..pair.count {
        // Xorshift, the same in every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let first = (random >> 32) as usize % 2;
        for which in [first, 1 - first] {
            let time = refused(address, requests[which].as_bytes());
            times[which].push(time.map_err(|cause| format!("'{}': {cause}", pair.path))?.as_secs_f64() * 1e6);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}

/// How long it takes until a request is answered with 401.
fn refused(address: SocketAddr, request: &[u8]) -> std::io::Result<Duration> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut answer = [0; 1024];
    let began = Instant::now();
    socket.write_all(request)?;
    let read = socket.read(&mut answer)?;
    let time = began.elapsed();
    if !answer[..read].starts_with(b"HTTP/1.1 401 ") {
        let head = String::from_utf8_lossy(&answer[..read]);
        return Err(std::io::Error::other(format!("it was not answered with 401: {head}")));
    }
    // Up to the gateway's end, so that its port is free at once.
    while socket.read(&mut answer)? > 0 {}
    Ok(time)
}
