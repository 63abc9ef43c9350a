//! Limits that the system puts on this process.

/// Makes the system end this process silently after `seconds` (SIGALRM). For a shell prompt, which
/// must not be delayed. Replaces an earlier limit.
///
/// Does nothing on Windows.
pub(crate) fn end_within(seconds: u32) {
    #[cfg(unix)]
    nix::unistd::alarm::set(seconds);
    #[cfg(not(unix))]
    let _ = seconds;
}

/// Returns the number of files that this process may have open. On Windows, a number that is always
/// possible.
pub(crate) fn open_files() -> usize {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit = Some(512);
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// Blocks SIGXFSZ, so that exceeding `ulimit -f` is reported as a write error instead of killing
/// the process. Call it before starting a thread. Child processes are not affected: the standard
/// library resets their signal mask.
pub(crate) fn survive_large_files() {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigSet, Signal};
        let mut set = SigSet::empty();
        set.add(Signal::SIGXFSZ);
        // If it cannot be blocked, the signal ends the process: as safe as any kill.
        let _ = set.thread_block();
    }
}
