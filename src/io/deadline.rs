//! A limit on how long the process may live.

/// Lets the system end the process, without a word, when it is still there after `seconds`. For what
/// draws a prompt: nothing is better than late. Replaces a limit that was set before.
///
/// Where the system has no such call there is no limit.
pub fn end_within(seconds: u32) {
    #[cfg(unix)]
    nix::unistd::alarm::set(seconds);
    #[cfg(not(unix))]
    let _ = seconds;
}
