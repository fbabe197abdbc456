//! The floor of a relay: what the system calls of two threads per client cost when nothing else is done.
//!
//! A measuring stick, not a relay: it knows nothing of WebSocket. Each client gets a connection to the upstream, and
//! two threads hand on whatever a read brings until one side ends. As the threads of a relay do, they let others run
//! before they wait.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use crate::process;

const READ_BUFFER: usize = 64 * 1024;
const STACK: usize = 64 * 1024;

/// Serves until it is killed.
pub(crate) fn serve(port: u16, upstream: SocketAddr) -> Result<(), String> {
    let listener = process::listen(port)?;
    loop {
        let Ok((client, _)) = listener.accept() else { continue };
        // A failure drops the sockets: the generator sees it and says so.
        let _ = start(client, upstream);
    }
}

fn start(client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let back = (upstream.try_clone()?, client.try_clone()?);
    for (from, to) in [(client, upstream), back] {
        thread::Builder::new().stack_size(STACK).spawn(move || {
            let _ = pump(&from, &to);
            let _ = to.shutdown(Shutdown::Write);
        })?;
    }
    Ok(())
}

fn pump(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        thread::yield_now();
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}
