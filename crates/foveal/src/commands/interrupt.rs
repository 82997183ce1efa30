//! Handling of Ctrl-C and of the signals that ask a program to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::console;
use crate::failure::INTERRUPTED;

/// A Ctrl-C ends the process at once if the request to stop is at least this old. Programs such as `timeout` send a
/// signal to a process and then to its group, which must not count as twice.
const PATIENCE: Duration = Duration::from_millis(500);

/// Returns a flag that the first Ctrl-C, SIGTERM or SIGHUP sets. A later Ctrl-C ends the process with code
/// [`INTERRUPTED`]; later signals of the other kinds change nothing, because a closed terminal sends several.
///
/// Signals that were ignored when the process began stay ignored: those of `nohup`, and Ctrl-C for background jobs of
/// scripts.
///
/// # Errors
/// If the handlers cannot be installed.
pub(super) fn flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let mut requested: Option<Instant> = None;
    system::on_signal(move |is_ctrl_c| match requested {
        None => {
            requested = Some(Instant::now());
            seen.store(true, Ordering::SeqCst);
            console::line("stopping after the current step (press Ctrl-C again to stop immediately)");
        }
        Some(at) if is_ctrl_c && at.elapsed() >= PATIENCE => system::exit(i32::from(INTERRUPTED)),
        Some(_) => {}
    })
    .context("cannot install a handler for Ctrl-C")?;
    Ok(stop)
}

#[cfg(unix)]
mod system {
    //! Signals of Unix.

    use std::io;
    use std::thread;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    pub(super) use signal_hook::low_level::exit;

    /// Calls `react` in a thread of its own for every SIGINT, SIGTERM and SIGHUP, except for those that are ignored.
    /// Its argument says whether the signal is SIGINT.
    pub(super) fn on_signal(mut react: impl FnMut(bool) + Send + 'static) -> io::Result<()> {
        let ignored = ignored();
        let heard = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let mut signals = Signals::new(heard)?;
        let listen = move || signals.forever().for_each(|signal| react(signal == SIGINT));
        thread::Builder::new().name("signals".to_owned()).spawn(listen).map(drop)
    }

    /// The signals that this process ignores, the signal n as bit n - 1. Only Linux says so without unsafe code; on
    /// other systems no signal counts as ignored.
    fn ignored() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    }
}

#[cfg(not(unix))]
mod system {
    //! Ctrl-C and the closing of the console on Windows.

    pub(super) use std::process::exit;

    /// Calls `react` in a thread of its own for every Ctrl-C and for other requests to end, which count as Ctrl-C.
    pub(super) fn on_signal(mut react: impl FnMut(bool) + Send + 'static) -> Result<(), ctrlc::Error> {
        ctrlc::set_handler(move || react(true))
    }
}
