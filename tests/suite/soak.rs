//! A soak: clients that connect, talk and are cut at random for as long as you like, while the gateway's memory,
//! threads and descriptors do not grow and no message is lost. `tests/soak` runs it for half an hour.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Dice, Gateway, LISTENERS, Raw, Wire, eventually, masked, measured, pass, with_program};

const CLIENTS: usize = 200;
const ROOMS: usize = 20;

/// Between two looks at what the gateway has.
const LOOK: Duration = Duration::from_secs(10);

/// Until the allocator and every queue have had their largest day.
const SETTLING: Duration = Duration::from_secs(5 * 60);

/// The shortest soak whose slope says something.
const LONG: Duration = Duration::from_secs(25 * 60);

/// What may be there beside a client's own thread and descriptor while one leaves and the next comes.
const CHURN: usize = 20;

/// What all clients did together.
#[derive(Default)]
struct Tally {
    lives: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// Set at the end, or when one has failed: then the others need not go on.
    is_over: AtomicBool,
}

/// What the gateway has at a moment.
struct Look {
    at: Duration,
    memory_kib: usize,
    threads: usize,
    descriptors: usize,
}

/// How a client leaves.
#[derive(Clone, Copy)]
enum Leave {
    /// With a Close, after everything it sent has come back.
    InOrder,
    /// Without a word.
    End,
    /// As a process does that was killed.
    Reset,
    /// The same in the middle of a message.
    ResetInside,
}

#[test]
#[ignore = "takes a minute or more: tests/soak runs it"]
fn o3_however_long_clients_come_talk_and_are_cut_nothing_grows_and_nothing_is_lost() {
    let length = env::var("WSGATE_SOAK_SECONDS").map_or(60, |seconds| seconds.parse().unwrap());
    let length = Duration::from_secs(length);
    let config = format!(
        "[gateway]\nmax_connections = 400\n[[endpoint]]\npath = \"/rooms/{{room}}\"\nmax_connections = 400\n{LISTENERS}"
    );
    let gateway = Gateway::start_with(&config, |command| {
        if let Some(binary) = env::var_os("WSGATE_SOAK_BINARY") {
            with_program(&fs::canonicalize(binary).unwrap(), command);
        }
    });
    let before = look(&gateway, Duration::ZERO);
    let seed = u64::from(std::process::id()) << 20;
    measured("O3", format!("{CLIENTS} clients for {length:?}, seed {seed}"));

    let tally = Tally::default();
    let begun = Instant::now();
    let looks = thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (tally, gateway) = (&tally, &gateway);
            let clients = thread::Builder::new().name(format!("soak client {number}"));
            let told = clients.spawn_scoped(scope, move || live(gateway, number, seed, tally));
            told.unwrap();
        }
        let looks = watch(&gateway, begun, length, &before, &tally);
        tally.is_over.store(true, Ordering::Relaxed);
        looks
    });

    eventually("every thread and descriptor is back", DEADLINE, || {
        gateway.threads() == before.threads && gateway.descriptors() == before.descriptors
    });
    let [lives, sent, received] =
        [&tally.lives, &tally.sent, &tally.received].map(|count| count.load(Ordering::Relaxed));
    assert!(lives > CLIENTS as u64 && sent > 0 && received > sent, "{lives} lives, {sent} sent, {received} received");
    let share = |spent: f64| 100.0 * spent / begun.elapsed().as_secs_f64();
    measured(
        "O3",
        format!(
            "{lives} lives, {sent} messages sent, {received} received, 0 lost; processor: gateway {:.0} %, clients {:.0} %",
            share(processor_seconds(&gateway.pid().to_string())),
            share(processor_seconds("self"))
        ),
    );
    let settled: Vec<_> = looks.iter().filter(|look| length < LONG || look.at >= SETTLING).collect();
    let slope = slope_mib_an_hour(&settled);
    let last = looks.last().unwrap();
    measured("O3", format!("{} KiB before, {} KiB at the end, {slope:+.2} MiB/h", before.memory_kib, last.memory_kib));
    assert!(length < LONG || slope < 1.0, "memory grows by {slope:.2} MiB/h");
}

/// Looks at the gateway until the time is over or a client has failed.
fn watch(gateway: &Gateway, begun: Instant, length: Duration, before: &Look, tally: &Tally) -> Vec<Look> {
    let mut looks = Vec::new();
    while begun.elapsed() < length && !tally.is_over.load(Ordering::Relaxed) {
        let next = (LOOK * (looks.len() as u32 + 1)).min(length);
        // Nothing is waited for but the time of the next look.
        while begun.elapsed() < next && !tally.is_over.load(Ordering::Relaxed) {
            pass(Duration::from_millis(200));
        }
        let look = look(gateway, begun.elapsed());
        let Look { at, memory_kib, threads, descriptors } = &look;
        measured(
            "O3",
            format!("{:>5.0} s: {memory_kib} KiB, {threads} threads, {descriptors} descriptors", at.as_secs_f64()),
        );
        for (what, there, at_first) in
            [("threads", *threads, before.threads), ("descriptors", *descriptors, before.descriptors)]
        {
            let most = at_first + CLIENTS + CHURN;
            // The clients would go on without us until the end.
            tally.is_over.fetch_or(there > most, Ordering::Relaxed);
            assert!(there <= most, "{there} {what}, at most {most} are needed");
        }
        looks.push(look);
    }
    looks
}

fn look(gateway: &Gateway, at: Duration) -> Look {
    Look { at, memory_kib: gateway.memory_kib(), threads: gateway.threads(), descriptors: gateway.descriptors() }
}

/// User and system time of a process and all threads that it ever had.
fn processor_seconds(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which may hold anything, come the state and then numbers; hundredths of seconds.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

/// The slope of the line through these looks, by least squares.
fn slope_mib_an_hour(looks: &[&Look]) -> f64 {
    let points: Vec<(f64, f64)> =
        looks.iter().map(|look| (look.at.as_secs_f64() / 3600.0, look.memory_kib as f64 / 1024.0)).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (middle, height) = (mean(|point| point.0), mean(|point| point.1));
    let rise: f64 = points.iter().map(|(x, y)| (x - middle) * (y - height)).sum();
    let run: f64 = points.iter().map(|(x, _)| (x - middle).powi(2)).sum();
    rise / run
}

#[test]
fn a_slope_is_that_of_the_line() {
    let looks: Vec<_> = (0..5)
        .map(|hour| Look {
            at: Duration::from_secs(3600 * hour),
            memory_kib: 5000 + 2048 * hour as usize,
            threads: 0,
            descriptors: 0,
        })
        .collect();
    let slope = slope_mib_an_hour(&looks.iter().collect::<Vec<_>>());
    assert!((slope - 2.0).abs() < 1e-9, "{slope}");
}

/// One life after another until it is over.
fn live(gateway: &Gateway, number: usize, seed: u64, tally: &Tally) {
    /// Tells the others when this one has failed.
    struct Alarm<'a>(&'a AtomicBool);
    impl Drop for Alarm<'_> {
        fn drop(&mut self) {
            self.0.fetch_or(thread::panicking(), Ordering::Relaxed);
        }
    }
    let _alarm = Alarm(&tally.is_over);
    let mut dice = Dice(seed + 1 + number as u64);
    for life in 0.. {
        if tally.is_over.load(Ordering::Relaxed) {
            return;
        }
        let wire = if dice.below(5) == 0 { Wire::Tls } else { Wire::Plain };
        let name = format!("{number}.{life}");
        let client = gateway.client(wire, &format!("/rooms/{}", number % ROOMS));
        tally.lives.fetch_add(1, Ordering::Relaxed);
        Life { client, name, sent: 0, heard: HashMap::new(), tally }.run(&mut dice);
    }
}

/// A connection, and what it has sent and heard.
struct Life<'t> {
    client: Raw,
    name: String,
    /// How many messages it sent.
    sent: u64,
    /// The number of the last message of each member of the room.
    heard: HashMap<String, u64>,
    tally: &'t Tally,
}

impl Life<'_> {
    fn run(mut self, dice: &mut Dice) {
        let words = 2 + dice.below(8);
        for _ in 0..words {
            let next = Instant::now() + Duration::from_millis(600 + dice.below(2800));
            while let Some(left) = next.checked_duration_since(Instant::now()) {
                if self.client.has_input_within(left) {
                    self.hear();
                }
            }
            if self.tally.is_over.load(Ordering::Relaxed) {
                break;
            }
            self.say(dice);
        }
        let leave = match dice.below(5) {
            0 | 1 => Leave::InOrder,
            2 => Leave::End,
            3 => Leave::Reset,
            _ => Leave::ResetInside,
        };
        self.leave(leave);
    }

    fn say(&mut self, dice: &mut Dice) {
        // One in a hundred is large: it takes other ways through the gateway than a small one.
        let padding = if dice.below(100) == 0 { 100 << 10 } else { dice.below(2000) as usize };
        self.sent += 1;
        self.client.send_text(&format!("{} {} {}", self.name, self.sent, "x".repeat(padding)));
        self.tally.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the next message and checks that none of the same sender is missing before it. Of a member that was here
    /// before, the first message heard may be any.
    fn hear(&mut self) {
        let text = self.client.text();
        let mut words = text.splitn(3, ' ');
        let (from, number) = (words.next().unwrap(), words.next().unwrap().parse::<u64>().unwrap());
        let last = self.heard.insert(from.to_owned(), number);
        let expected = last.map_or(number, |last| last + 1);
        assert_eq!(number, expected, "{} lost something of {from}", self.name);
        if from == self.name {
            assert!(last.is_some() || number == 1, "{} lost its own first message", self.name);
        }
        self.tally.received.fetch_add(1, Ordering::Relaxed);
    }

    fn leave(mut self, how: Leave) {
        match how {
            Leave::InOrder => {
                // Everything of its own has to come back before the answer to its Close.
                while self.heard.get(&self.name).copied().unwrap_or(0) < self.sent {
                    self.hear();
                }
                self.client.send(&masked(0x88, &1000u16.to_be_bytes()));
                while self.client.message().first != 0x88 {}
            }
            Leave::End => {}
            Leave::Reset => self.client.reset(),
            Leave::ResetInside => {
                let frame = masked(0x82, &[b'x'; 1000]);
                self.client.send(&frame[..500]);
                self.client.reset();
            }
        }
    }
}
