//! The floor: what the system calls of a thread per client cost when nothing else is done.
//!
//! A measuring stick, not a server: a fixed handshake answer, no validation, no limits, no queue (a client that does not
//! read stops everybody). What one `recv` brought goes out in one `send` per destination, from the reading thread.

use std::net::TcpStream;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::frame::{CLOSE, parse_header};
use crate::process;

/// What the fixed key of the generator is answered with.
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const READ_BUFFER: usize = 16 * 1024;
const STACK: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq)]
enum Path {
    Echo,
    Broadcast,
    Ingest,
}

type Subscribers = Mutex<Vec<Arc<TcpStream>>>;

/// Serves until it is killed.
pub(crate) fn serve(port: u16) -> Result<(), String> {
    let listener = process::listen(port)?;
    let subscribers: Arc<Subscribers> = Arc::default();
    loop {
        let Ok((socket, _)) = listener.accept() else { continue };
        let subscribers = Arc::clone(&subscribers);
        // A failed spawn drops the socket: the generator sees it and says so.
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || client(socket, &subscribers));
    }
}

fn client(socket: TcpStream, subscribers: &Subscribers) {
    let socket = Arc::new(socket);
    let _ = socket.set_nodelay(true);
    // Capacity that nobody has touched costs no memory, hence the spare capacity and not a zeroed buffer.
    let mut read = Vec::with_capacity(READ_BUFFER);
    let Some(path) = handshake(&socket, &mut read, subscribers) else { return };
    let mut batch = Vec::new();
    loop {
        let taken = take_frames(&mut read, path, &mut batch);
        let answer = if let Some(lone) = taken.lone { &read[lone] } else { &batch[..] };
        if !answer.is_empty() {
            match path {
                Path::Echo => send_all(&socket, answer),
                Path::Broadcast => {
                    for other in subscribers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                        if !Arc::ptr_eq(other, &socket) {
                            send_all(other, answer);
                        }
                    }
                }
                Path::Ingest => {}
            }
        }
        batch.clear();
        read.drain(..taken.used);
        if taken.closed {
            send_all(&socket, &[CLOSE, 2, 0x03, 0xe8]);
            break;
        }
        if !receive(&socket, &mut read) {
            break;
        }
    }
    subscribers.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, &socket));
}

/// Answers the request; its path starts at byte 5 and its first letter tells it.
fn handshake(socket: &Arc<TcpStream>, read: &mut Vec<u8>, subscribers: &Subscribers) -> Option<Path> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if !receive(socket, read) {
            return None;
        }
    };
    let path = match read[5] {
        b'e' => Path::Echo,
        b'b' => Path::Broadcast,
        _ => Path::Ingest,
    };
    read.drain(..end);
    // Under the lock: who has the answer is among the subscribers.
    let mut subscribers = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
    send_all(socket, ANSWER);
    if path == Path::Broadcast {
        subscribers.push(Arc::clone(socket));
    }
    Some(path)
}

/// The whole frames of a read.
struct Taken {
    /// Bytes that they took.
    used: usize,
    /// Where the answer lies in the read buffer itself, when all that was read is one frame: nothing is copied.
    lone: Option<Range<usize>>,
    /// The last of them was a Close.
    closed: bool,
}

/// Unmasks all whole frames of `read`, and appends them as server frames to `batch`.
fn take_frames(read: &mut [u8], path: Path, batch: &mut Vec<u8>) -> Taken {
    let mut used = 0;
    while let Some((first, header, length)) = parse_header(&read[used..]) {
        let payload = used + header + 4;
        let end = payload + length;
        if read.len() < end {
            break;
        }
        if first == CLOSE {
            return Taken { used: end, lone: None, closed: true };
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&read[payload - 4..payload]);
        unmask(&mut read[payload..end], mask);
        if path != Path::Ingest {
            read[used + 1] &= 0x7f;
            if used == 0 && end == read.len() {
                // The header moves over the mask, up to the payload.
                read.copy_within(..header, 4);
                return Taken { used: end, lone: Some(4..end), closed: false };
            }
            batch.extend_from_slice(&read[used..used + header]);
            batch.extend_from_slice(&read[payload..end]);
        }
        used = end;
    }
    Taken { used, lone: None, closed: false }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut eights = payload.chunks_exact_mut(8);
    for eight in &mut eights {
        let mut word = [0; 8];
        word.copy_from_slice(eight);
        eight.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in eights.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// One blocking `recv` into what is free in `read`; false at the end of the stream.
fn receive(socket: &TcpStream, read: &mut Vec<u8>) -> bool {
    if read.len() == read.capacity() {
        read.reserve(read.len());
    }
    matches!(recv(socket, spare_capacity(read), RecvFlags::empty()), Ok((count, _)) if count > 0)
}

fn send_all(socket: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            // The reader of that client sees the same error and ends it.
            Err(_) => return,
        }
    }
}
