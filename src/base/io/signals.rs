//! Signals to this process. `io::attached` passes signals on to a child that has the terminal.

use std::io;

/// Calls `handler` on a thread of its own for each Ctrl-C, SIGTERM, SIGHUP and SIGQUIT; on Windows for each
/// Ctrl-C, Ctrl-Break and closing of the console. They no longer end the process.
///
/// # Errors
/// The system refuses the handler or the thread.
#[cfg(unix)]
pub fn handle_end_requests(mut handler: impl FnMut() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    std::thread::Builder::new().spawn(move || signals.forever().for_each(|_| handler()))?;
    Ok(())
}

/// Calls `handler` on a thread of its own for each Ctrl-C, Ctrl-Break and closing of the console.
/// They no longer end the process.
///
/// # Errors
/// The system refuses the handler or the thread.
#[cfg(not(unix))]
pub fn handle_end_requests(handler: impl FnMut() + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(handler).map_err(io::Error::other)
}

/// Makes the process end silently after `seconds`, by SIGALRM. For a shell prompt, which must not be
/// delayed.
///
/// Does nothing on Windows.
pub fn end_process_after(seconds: u64) {
    #[cfg(unix)]
    // Without the thread there is no limit: as on Windows.
    let _ = std::thread::Builder::new().spawn(move || {
        use rustix::process::{Signal, getpid, kill_process};
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        // The default action of SIGALRM ends the process at once, whatever its other threads wait
        // for.
        let _ = kill_process(getpid(), Signal::ALARM);
    });
    #[cfg(not(unix))]
    let _ = seconds;
}

/// Handles SIGXFSZ by doing nothing, so that exceeding `ulimit -f` is reported as a write error instead
/// of ending the process. Child processes are not affected: a new program begins with the default.
pub fn ignore_sigxfsz() {
    #[cfg(unix)]
    {
        use signal_hook::consts::signal::SIGXFSZ;
        // If it cannot be handled, the signal ends the process: as safe as any kill.
        let _ = signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default());
    }
}
