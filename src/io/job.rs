//! A job object, by which Windows ends a child with every process that it has started.

use std::io;
use std::os::windows::io::AsRawHandle;
use std::process::Child;
use win32job::{ExtendedLimitInfo, Job};

/// The processes of a child. Dropping it ends them, and so does the end of this process, also if it is
/// killed.
#[derive(Debug)]
pub(crate) struct ChildJob(Job);

impl ChildJob {
    /// Puts `child` and all that it will start into a job.
    ///
    /// A process that the child has started before this call stays outside. The standard library cannot
    /// start a child in a job, and a child that it starts suspended can only be resumed by unsafe code.
    ///
    /// # Errors
    /// The child has ended, or the system refuses.
    pub(crate) fn new(child: &Child) -> io::Result<Self> {
        let mut limits = ExtendedLimitInfo::new();
        // A daemon that the child starts may leave the job, as it leaves a process group on Unix.
        limits.limit_kill_on_job_close().limit_breakaway_ok();
        let job = Job::create_with_limit_info(&limits).map_err(io::Error::other)?;
        let handle = child.as_raw_handle() as isize;
        job.assign_process(handle).map_err(io::Error::other)?;
        Ok(Self(job))
    }

    /// Lets the processes run on.
    pub(crate) fn release(self) {
        let _ = self.0.set_extended_limit_info(&ExtendedLimitInfo::new());
    }
}
