//! `wsgate serve`: runs the gateway until a signal stops it.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use super::failure::tell;
use super::{exit, supervisor};
use crate::config::{self, Settings};
use crate::display::count;
use crate::gateway::{Gateway, StartError};
use crate::listener::ListenError;
use crate::log_kind::CONFIG;
use crate::logging;
use crate::reload::Reloaded;
use crate::shared::drain::{Drain, Draining};
use crate::shared::summary::{drain_takes, stop_takes, summary};
use crate::system::passed_sockets::{self, PassedSocket};
use crate::system::thread::spawn_vital;

/// How often the supervisor is told how things are, if that has changed.
const STATUS_PAUSE: Duration = Duration::from_secs(5);

/// Runs until SIGINT or SIGTERM; a second one ends the process at once. SIGUSR2 drains first. SIGHUP stops it when its terminal
/// is gone; otherwise the configuration and the files that it names are read again.
///
/// The exit code is 0 after an orderly stop, 78 for a wrong configuration or an unusable
/// certificate, 77 and 69 for an address that cannot be bound, 71 if the system refuses a thread.
pub(super) fn run(config: Option<&Path>) -> ExitCode {
    // Before the first thread.
    let passed = passed_sockets::take();
    let settings = match config.map_or_else(|| Ok(Settings::default()), config::load) {
        Ok(settings) => settings,
        Err(error) => {
            tell(&error.to_string());
            return ExitCode::from(exit::CONFIG);
        }
    };
    if let Err(error) = logging::start(&settings.gateway.log) {
        tell(&format!("failed to start the thread of the log: {error}"));
        return ExitCode::from(exit::SYSTEM);
    }
    let code = serve(settings, passed, config);
    log::logger().flush();
    code
}

/// Runs with the log.
fn serve(settings: Settings, passed: Vec<PassedSocket>, config: Option<&Path>) -> ExitCode {
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
        warn!(target: CONFIG, "{warning}");
    }
    let mut gateway = match Gateway::start(settings, passed, supervisor::watchdog().as_ref()) {
        Ok(gateway) => gateway,
        Err(error) => {
            error!("{error}");
            return ExitCode::from(exit_code(&error));
        }
    };
    let mut supervisor = supervisor::Supervisor::of_process();
    supervisor.ready(summary(&gateway.shared));
    let (mut drain, mut pause) = (None, STATUS_PAUSE);
    let (reloads, drains) = (gateway.asked_reloads(), gateway.asked_drains());
    let signal = loop {
        crossbeam_channel::select_biased! {
            // An error would mean that the handlers are gone, which they never are.
            recv(signals.stop) -> signal => break signal.unwrap_or("no signal handler"),
            recv(signals.reload) -> _ => drop(reload(&mut gateway, config, &mut supervisor)),
            recv(reloads) -> request => {
                request.into_iter().for_each(|request| request.answer(reload(&mut gateway, config, &mut supervisor)));
            }
            recv(signals.drain) -> _ => {
                begin_drain(&gateway, &supervisor, &mut drain);
            }
            recv(drains) -> request => {
                request.into_iter().for_each(|request| request.answer(begin_drain(&gateway, &supervisor, &mut drain)));
            }
            default(pause) => {}
        }
        if let Some(drain) = &mut drain {
            match drain.step(&gateway.shared) {
                Some(next) => pause = next,
                None => break "drained",
            }
        }
        supervisor.tell(|| summary(&gateway.shared));
    };
    info!("{signal}: stopping");
    supervisor.stopping(stop_takes(&gateway.shared));
    gateway.stop();
    ExitCode::SUCCESS
}

/// Reads the configuration again, and logs in one line what came of it.
fn reload(gateway: &mut Gateway, config: Option<&Path>, supervisor: &mut supervisor::Supervisor) -> Reloaded {
    supervisor.reloading();
    let reloaded = gateway.reload(config);
    match &reloaded {
        Ok(reloaded) => {
            if reloaded.withdrawn > 0 {
                info!(target: CONFIG, "reload: closing {} whose access was withdrawn", count(reloaded.withdrawn, "client"));
            }
            info!(target: CONFIG, "reload: {reloaded}");
        }
        Err(error) => error!(target: CONFIG, "reload: failed, and nothing has changed: {error}"),
    }
    supervisor.ready(summary(&gateway.shared));
    reloaded.map(|applied| applied.lines()).map_err(|error| error.lines())
}

/// Begins to drain, unless that has begun, and says how it stands.
fn begin_drain(gateway: &Gateway, supervisor: &supervisor::Supervisor, drain: &mut Option<Drain>) -> Draining {
    let (shared, had_begun) = (&gateway.shared, drain.is_some());
    let drain = drain.get_or_insert_with(|| {
        supervisor.draining(drain_takes(shared));
        Drain::begin(shared)
    });
    drain.stands(shared, had_begun)
}

/// What signals ask for.
struct Asked {
    /// To stop, with the name of the signal.
    stop: Receiver<&'static str>,
    /// To read files again. Signals that come before that begins are one.
    reload: Receiver<()>,
    /// To drain.
    drain: Receiver<()>,
}

/// SIGINT comes through ctrlc; SIGTERM apart from it, since ctrlc would swallow SIGHUP with it.
fn watch_signals() -> io::Result<Asked> {
    let (first, stop) = crossbeam_channel::bounded(1);
    let (again, reload) = crossbeam_channel::bounded(1);
    let (restart, drain) = crossbeam_channel::bounded(1);
    let interrupted = first.clone();
    let at_terminal = io::stderr().is_terminal();
    ctrlc::set_handler(move || stop_or_end(&interrupted, "SIGINT", 130)).map_err(io::Error::other)?;
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGUSR2])?;
    spawn_vital("signals", move || {
        signals.forever().for_each(|signal| match signal {
            // A terminal that was closed is none any more.
            SIGHUP if at_terminal && !io::stderr().is_terminal() => stop_or_end(&first, "SIGHUP", 129),
            // A full channel: the one that waits reads what is there by then.
            SIGHUP => drop(again.try_send(())),
            SIGUSR2 => drop(restart.try_send(())),
            _ => stop_or_end(&first, "SIGTERM", 143),
        });
    })?;
    Ok(Asked { stop, reload, drain })
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

fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Listen(ListenError::Bind { cause, .. }) if cause.kind() == io::ErrorKind::PermissionDenied => {
            exit::NO_PERMISSION
        }
        StartError::Listen(ListenError::Bind { .. }) => exit::UNAVAILABLE,
        StartError::Listen(ListenError::Tls { .. } | ListenError::Passed(_))
        | StartError::Auth(_)
        | StartError::Dial { .. }
        | StartError::Store { .. } => exit::CONFIG,
        StartError::System { .. } => exit::SYSTEM,
    }
}
