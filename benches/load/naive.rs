//! The naive design: two threads a client, a channel between them, one write a message.
//!
//! What a straightforward program of tungstenite, threads and crossbeam looks like; the second baseline.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Sender, unbounded};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket, accept_hdr};

use crate::process;

const STACK: usize = 128 * 1024;

type Subscribers = Mutex<HashMap<u64, Sender<Message>>>;

/// Serves until it is killed.
pub(crate) fn serve(port: u16) -> Result<(), String> {
    let listener = process::listen(port)?;
    let subscribers: Arc<Subscribers> = Arc::default();
    for id in 0.. {
        let Ok((socket, _)) = listener.accept() else { continue };
        let subscribers = Arc::clone(&subscribers);
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || client(id, socket, &subscribers));
    }
    Ok(())
}

fn client(id: u64, socket: TcpStream, subscribers: &Subscribers) {
    let _ = socket.set_nodelay(true);
    let Ok(write_half) = socket.try_clone() else { return };
    let mut path = String::new();
    // The size of the error is tungstenite's choice.
    #[allow(clippy::result_large_err)]
    let read_path = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let Ok(mut reader) = accept_hdr(socket, read_path) else { return };
    let (outbox, queued) = unbounded::<Message>();
    let writer = thread::Builder::new().stack_size(STACK).spawn(move || {
        let mut writer = WebSocket::from_raw_socket(write_half, Role::Server, None);
        while let Ok(message) = queued.recv() {
            if writer.send(message).is_err() {
                return;
            }
        }
    });
    if writer.is_err() {
        return;
    }
    let others = || subscribers.lock().unwrap_or_else(PoisonError::into_inner);
    if path == "/broadcast" {
        others().insert(id, outbox.clone());
    }
    while let Ok(message) = reader.read() {
        match message {
            // The answer to a Close lies ready in the reader.
            Message::Close(_) => drop(reader.flush()),
            Message::Text(_) | Message::Binary(_) if path == "/echo" => drop(outbox.send(message)),
            Message::Text(_) | Message::Binary(_) if path == "/broadcast" => {
                for (other, its_outbox) in others().iter() {
                    if *other != id {
                        let _ = its_outbox.send(message.clone());
                    }
                }
            }
            _ => {}
        }
    }
    others().remove(&id);
}
