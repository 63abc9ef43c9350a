//! Limits the run time of this process.

/// Makes the system end this process silently after `seconds` (SIGALRM). For output in a shell prompt,
/// where no output is better than a delay. Replaces an earlier limit.
///
/// Does nothing on Windows.
pub(crate) fn end_within(seconds: u32) {
    #[cfg(unix)]
    nix::unistd::alarm::set(seconds);
    #[cfg(not(unix))]
    let _ = seconds;
}
