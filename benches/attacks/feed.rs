//! Clients that read nothing while each is sent small messages of its own, as much as fills the memory that there is.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::attackers::{Attacker, discard};
use crate::frame::{TEXT, push_client_frame};

/// Bytes of a message. Each client is sent 1 MiB of them in half a minute.
const SIZE: usize = 1024;
const PER_CLIENT: u32 = 1024;
const SPREAD: Duration = Duration::from_secs(30);
/// How long nothing comes any more from a connection that has not ended.
const LAST_WAIT: Duration = Duration::from_millis(20);

/// The endpoints: a room for each client, and a sender for all.
pub(crate) const SECTIONS: &str = r#"
[[endpoint]]
path = "/own/{room}"
to = []
max_connections = 10000
heartbeat = "off"
write_timeout = "off"

[[endpoint]]
path = "/feed"
to = ["endpoint:/own/{room}"]
choose_rooms = true
"#;

/// Sends to each client in turn until the attack is over, or all have what they were to get.
pub(crate) fn feed(attacker: &Attacker, sockets: usize) -> Result<(), String> {
    let own = |number| attacker.narrow(&format!("/own/{number}"));
    let mut silent = (0..sockets).map(own).collect::<Result<Vec<_>, String>>()?;
    let failed = |cause| format!("failed to feed the clients that read nothing: {cause}");
    let mut feeder = attacker.upgrade("/feed").map_err(failed)?;
    let messages: Vec<Vec<u8>> = (0..sockets).map(message).collect();
    let (since, pause) = (Instant::now(), SPREAD / (PER_CLIENT * sockets as u32));
    for (number, message) in (0..PER_CLIENT).flat_map(|_| &messages).enumerate() {
        let due = since + pause * number as u32;
        let early = due.saturating_duration_since(Instant::now());
        // Many of them at a time: a sleep is longer than the time between two.
        if early > Duration::from_millis(1) {
            thread::sleep(early);
        }
        if attacker.is_over() {
            break;
        }
        feeder.write_all(message).map_err(failed)?;
        attacker.tally.units.fetch_add(1, Ordering::Relaxed);
    }
    while !attacker.is_over() {
        thread::sleep(Duration::from_millis(10));
    }
    for socket in &mut silent {
        // What was sent to one that was closed is read first.
        socket.set_read_timeout(Some(LAST_WAIT)).map_err(failed)?;
        attacker.tally.ended.fetch_add(discard(socket).is_err().into(), Ordering::Relaxed);
    }
    Ok(())
}

fn message(room: usize) -> Vec<u8> {
    let mut text = format!("{{\"room\":\"{room}\",\"x\":\"");
    text.extend(std::iter::repeat_n('x', SIZE - text.len() - 2));
    text.push_str("\"}");
    let mut frame = Vec::new();
    push_client_frame(&mut frame, TEXT, text.as_bytes());
    frame
}
