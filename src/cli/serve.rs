//! `wsgate serve`: runs the gateway until a signal stops it.

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};
use log::{error, info, warn};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;

use super::failure::tell;
use super::{exit, logging};
use crate::config::{self, Settings};
use crate::gateway::{Gateway, StartError};
use crate::listener::ListenError;
use crate::system::thread::spawn_vital;
use crate::system::watchdog::Watchdog;

/// Runs until SIGINT or SIGTERM; a second one ends the process at once. SIGHUP stops it when its terminal
/// is gone; otherwise the files that the configuration names are read again.
///
/// The exit code is 0 after an orderly stop, 78 for a wrong configuration or an unusable
/// certificate, 77 and 69 for an address that cannot be bound, 71 if the system refuses a thread.
pub(super) fn run(config: Option<&Path>) -> ExitCode {
    let settings = match config.map_or_else(|| Ok(Settings::default()), config::load) {
        Ok(settings) => settings,
        Err(error) => {
            tell(&error.to_string());
            return ExitCode::from(exit::CONFIG);
        }
    };
    if let Err(error) = logging::start(settings.gateway.log_level, settings.gateway.log_lines_per_second) {
        tell(&format!("failed to start the thread of the log: {error}"));
        return ExitCode::from(exit::SYSTEM);
    }
    let code = serve(settings, config);
    log::logger().flush();
    code
}

/// Runs with the log.
fn serve(settings: Settings, config: Option<&Path>) -> ExitCode {
    // Before the first listener: a signal at the very start is a signal to stop, too.
    let signals = match watch_signals() {
        Ok(signals) => signals,
        Err(error) => {
            error!("failed to watch for signals: {error}");
            return ExitCode::from(exit::SYSTEM);
        }
    };
    info!(
        "wsgate {} starts with {}",
        env!("CARGO_PKG_VERSION"),
        config.map_or("the built-in defaults".into(), Path::to_string_lossy)
    );
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    let gateway = match Gateway::start(settings, watchdog().as_ref()) {
        Ok(gateway) => gateway,
        Err(error) => {
            error!("{error}");
            return ExitCode::from(exit_code(&error));
        }
    };
    notify(NotifyState::Ready);
    let signal = loop {
        crossbeam_channel::select_biased! {
            // An error would mean that the handlers are gone, which they never are.
            recv(signals.stop) -> signal => break signal.unwrap_or("no signal handler"),
            recv(signals.reload) -> _ => drop(gateway.reload()),
            recv(gateway.asked_reloads()) -> request => {
                request.into_iter().for_each(|request| request.answer(gateway.reload()));
            }
        }
    };
    info!("{signal}: stopping");
    notify(NotifyState::Stopping);
    gateway.stop();
    ExitCode::SUCCESS
}

/// What signals ask for.
struct Asked {
    /// To stop, with the name of the signal.
    stop: Receiver<&'static str>,
    /// To read files again. Signals that come before that begins are one.
    reload: Receiver<()>,
}

/// SIGINT comes through ctrlc; SIGTERM apart from it, since ctrlc would swallow SIGHUP with it.
fn watch_signals() -> io::Result<Asked> {
    let (first, stop) = crossbeam_channel::bounded(1);
    let (again, reload) = crossbeam_channel::bounded(1);
    let interrupted = first.clone();
    let at_terminal = io::stderr().is_terminal();
    ctrlc::set_handler(move || stop_or_end(&interrupted, "SIGINT", 130)).map_err(io::Error::other)?;
    let mut signals = Signals::new([SIGTERM, SIGHUP])?;
    spawn_vital("signals", move || {
        signals.forever().for_each(|signal| match signal {
            // A terminal that was closed is none any more.
            SIGHUP if at_terminal && !io::stderr().is_terminal() => stop_or_end(&first, "SIGHUP", 129),
            // A full channel: the one that waits reads what is there by then.
            SIGHUP => drop(again.try_send(())),
            _ => stop_or_end(&first, "SIGTERM", 143),
        });
    })?;
    Ok(Asked { stop, reload })
}

/// The first signal stops, any further one ends the process as the signal itself would have.
fn stop_or_end(stop: &Sender<&'static str>, signal: &'static str, code: i32) {
    /// Whether a signal has come. Signals belong to the process, so this does too.
    static CAME: AtomicBool = AtomicBool::new(false);
    if CAME.swap(true, Ordering::Relaxed) {
        warn!("{signal} again: ending at once");
        log::logger().flush();
        std::process::exit(code);
    }
    // The channel has room for the one signal that is ever sent.
    let _ = stop.try_send(signal);
}

/// Tells systemd, if it started us with Type=notify.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("failed to notify systemd: {error}");
    }
}

/// The watchdog of systemd, if it started us with WatchdogSec=.
fn watchdog() -> Option<Arc<Watchdog>> {
    let timeout = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero())?;
    // It is fed over a socket of its own: without a free descriptor there would be no new one, and a
    // gateway that has many clients would be killed for it.
    let connected = UnixDatagram::unbound().and_then(|socket| {
        socket.connect(std::env::var_os("NOTIFY_SOCKET").unwrap_or_default())?;
        // An accept loop does not wait for systemd.
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    match connected {
        Ok(socket) => Some(Arc::new(Watchdog::new(timeout, move || {
            if let Err(error) = socket.send(b"WATCHDOG=1") {
                warn!("failed to feed the watchdog of systemd: {error}");
            }
        }))),
        Err(error) => {
            warn!("failed to reach the watchdog of systemd: {error}");
            None
        }
    }
}

fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Listen(ListenError::Bind { cause, .. }) if cause.kind() == io::ErrorKind::PermissionDenied => {
            exit::NO_PERMISSION
        }
        StartError::Listen(ListenError::Bind { .. }) => exit::UNAVAILABLE,
        StartError::Listen(ListenError::Tls { .. }) | StartError::Auth(_) | StartError::Dial { .. } => exit::CONFIG,
        StartError::System { .. } => exit::SYSTEM,
    }
}
