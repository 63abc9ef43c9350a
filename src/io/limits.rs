//! Limits of the system that would end the process.

/// Has a write beyond the largest size that files may have here (`ulimit -f`) fail like any other, so that
/// it is told and cleaned up after; else the system ends the process at it. To be called before a thread is
/// started. Programs that we start have the signal as usual: the standard library empties their mask.
pub fn survive_large_files() {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigSet, Signal};
        let mut set = SigSet::empty();
        set.add(Signal::SIGXFSZ);
        // Where it cannot be blocked it ends us, as a kill at any moment may.
        let _ = set.thread_block();
    }
}
