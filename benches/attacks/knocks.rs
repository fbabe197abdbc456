//! Requests with wrong credentials: so many a second, whatever has become of those before.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::attackers::Attacker;
use crate::credentials::Wrong;

/// The requests that wait for their answers.
struct Waiting {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    sockets: HashMap<u64, TcpStream>,
}

/// Sends requests until the attack is over, the addresses in turns.
pub(crate) fn knock(attacker: &Attacker, wrong: Wrong, per_second: u32, addresses: u32) -> Result<(), String> {
    let mut waiting = Waiting::new().map_err(|cause| format!("failed to create an epoll instance: {cause}"))?;
    let since = Instant::now();
    for number in 0_u64.. {
        let due = since + Duration::from_secs(number) / per_second;
        while let Some(wait) = due.checked_duration_since(Instant::now()) {
            waiting.take_answers(attacker, wait)?;
        }
        waiting.take_answers(attacker, Duration::ZERO)?;
        if attacker.is_over() {
            return Ok(());
        }
        let credential = attacker.credentials.wrong(wrong, number)?;
        let head = attacker.request_with(wrong.path(), &format!("Authorization: {credential}\r\n"));
        let asked = attacker.connect_from(number as u32 % addresses).and_then(|mut socket| {
            socket.write_all(head.as_bytes())?;
            socket.set_nonblocking(true)?;
            waiting.add(number, socket)
        });
        if asked.is_err() {
            attacker.tally.ended.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

impl Waiting {
    fn new() -> io::Result<Waiting> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Waiting { epoll, events: Vec::with_capacity(512), sockets: HashMap::new() })
    }

    fn add(&mut self, number: u64, socket: TcpStream) -> io::Result<()> {
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
        self.sockets.insert(number, socket);
        Ok(())
    }

    /// Counts the answers that come in this time, each with the end of its connection.
    fn take_answers(&mut self, attacker: &Attacker, wait: Duration) -> Result<(), String> {
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(cause) => return Err(format!("failed to wait for events: {cause}")),
        }
        for event in &self.events {
            let number = event.data.u64();
            let Some(socket) = self.sockets.get_mut(&number) else { continue };
            let mut answer = [0; 512];
            let counter = match socket.read(&mut answer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Ok(12..) if answer.starts_with(b"HTTP/1.1 401") => Some(&attacker.tally.units),
                // 429, or 503 of a gateway that has too much to do.
                Ok(12..) if answer.starts_with(b"HTTP/1.1 ") => None,
                _ => Some(&attacker.tally.ended),
            };
            counter.into_iter().for_each(|counter| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            self.sockets.remove(&number);
        }
        Ok(())
    }
}
