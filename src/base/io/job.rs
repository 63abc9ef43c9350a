//! Job objects, by which Windows ends a child together with every process that the child has started.

use std::io;
use std::os::windows::io::AsRawHandle;
use std::process::{Child, Command};
use win32job::{ExtendedLimitInfo, Job};

/// A job with a child and the processes that the child starts. Dropping the job ends them, and so does the end of this
/// process, even by a kill.
#[derive(Debug)]
pub(crate) struct ChildJob(Job);

impl ChildJob {
    /// Starts `command` in a job of its own. Returns no job if the system refuses to create it.
    ///
    /// # Errors
    /// The child cannot be started.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Option<Self>)> {
        let child = command.spawn()?;
        // The job is created microseconds after the start, and a program needs milliseconds to start another one. A
        // child that is started suspended has no such gap, but only unsafe code can resume it.
        let job = Self::create_for(&child).ok();
        Ok((child, job))
    }

    fn create_for(child: &Child) -> io::Result<Self> {
        let mut limits = ExtendedLimitInfo::new();
        // A daemon that the child starts may leave the job, as it leaves a process group on Unix.
        limits.limit_kill_on_job_close().limit_breakaway_ok();
        let job = Job::create_with_limit_info(&limits).map_err(io::Error::other)?;
        let handle = child.as_raw_handle() as isize;
        job.assign_process(handle).map_err(io::Error::other)?;
        Ok(Self(job))
    }

    /// Closes the job without ending its processes.
    pub(crate) fn release(self) {
        // Without a limit, the processes outlive the job. If the system refuses to remove the limit, closing the job
        // ends them.
        let _ = self.0.set_extended_limit_info(&ExtendedLimitInfo::new());
    }
}
