//! `wsgate serve`: runs the gateway until a signal stops it.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};
use log::{error, info, warn};
use sd_notify::NotifyState;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use super::{exit, logging, tell};
use crate::config::{self, Settings};
use crate::gateway::{Gateway, StartError};
use crate::thread::spawn_vital;

/// Runs until SIGINT or SIGTERM; a second one ends the process at once.
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
    if let Err(error) = logging::start(settings.gateway.log_level) {
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
    let stop = match watch_signals() {
        Ok(stop) => stop,
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
    let gateway = match Gateway::start(settings) {
        Ok(gateway) => gateway,
        Err(error) => {
            error!("{error}");
            return ExitCode::from(exit_code(&error));
        }
    };
    notify(NotifyState::Ready);
    // An error would mean that the handlers are gone, which they never are.
    let signal = stop.recv().unwrap_or("no signal handler");
    info!("{signal}: stopping");
    notify(NotifyState::Stopping);
    gateway.stop();
    ExitCode::SUCCESS
}

/// SIGINT comes through ctrlc; SIGTERM apart from it, since ctrlc would swallow SIGHUP with it.
fn watch_signals() -> io::Result<Receiver<&'static str>> {
    let (first, stop) = crossbeam_channel::bounded(1);
    let interrupted = first.clone();
    ctrlc::set_handler(move || stop_or_end(&interrupted, "SIGINT", 130)).map_err(io::Error::other)?;
    let mut signals = Signals::new([SIGTERM])?;
    spawn_vital("signals", move || signals.forever().for_each(|_| stop_or_end(&first, "SIGTERM", 143)))?;
    Ok(stop)
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

fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Bind { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
        StartError::Bind { .. } => exit::UNAVAILABLE,
        StartError::Tls { .. } => exit::CONFIG,
        StartError::System { .. } => exit::SYSTEM,
    }
}
