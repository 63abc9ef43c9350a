//! A job object, by which Windows ends a child with every process that it has started.

use std::io;
use std::os::windows::io::AsRawHandle;
use std::os::windows::process::CommandExt;
use std::process::{Child, Command};
use win32job::{ExtendedLimitInfo, Job};
use windows_sys::Win32::Foundation::{CloseHandle, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::Threading::{
    CREATE_SUSPENDED, OpenThread, ResumeThread, THREAD_SUSPEND_RESUME,
};

/// The processes of a child. Dropping it ends them, and so does the end of this process, also if it is
/// killed.
#[derive(Debug)]
pub(crate) struct ChildJob(Job);

impl ChildJob {
    /// Starts `command` in a job of its own. The child runs only after it was put into the job, so that
    /// no process that it starts is outside. The job is `None` if the system refuses it.
    ///
    /// # Errors
    /// The child cannot be started.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Option<Self>)> {
        let mut child = command.creation_flags(CREATE_SUSPENDED).spawn()?;
        let job = Self::of(&child).ok();
        if let Err(e) = resume(child.id()) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
        Ok((child, job))
    }

    fn of(child: &Child) -> io::Result<Self> {
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

/// Lets the only thread of a process run that was started suspended.
#[allow(
    unsafe_code,
    reason = "the standard library keeps the handle of the thread to itself, and no crate resumes a process"
)]
fn resume(pid: u32) -> io::Result<()> {
    let size = u32::try_from(size_of::<THREADENTRY32>()).map_err(io::Error::other)?;
    // SAFETY: the call takes no pointers; the handle is closed below.
    let threads = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if threads == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    let mut entry = THREADENTRY32 {
        dwSize: size,
        ..THREADENTRY32::default()
    };
    // SAFETY: `threads` is open, and `entry` has its size in its first field.
    let mut is_entry = unsafe { Thread32First(threads, &raw mut entry) } != 0;
    while is_entry && entry.th32OwnerProcessID != pid {
        // SAFETY: as above.
        is_entry = unsafe { Thread32Next(threads, &raw mut entry) } != 0;
    }
    let mut result = Err(io::ErrorKind::NotFound.into());
    if is_entry {
        // SAFETY: the call takes no pointers. Without a thread it returns null, which `ResumeThread` refuses.
        let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, entry.th32ThreadID) };
        // SAFETY: `thread` is open or null, and is closed once.
        result = match unsafe { ResumeThread(thread) } {
            u32::MAX => Err(io::Error::last_os_error()),
            _ => Ok(()),
        };
        // SAFETY: as above.
        unsafe { CloseHandle(thread) };
    }
    // SAFETY: `threads` is open, and is closed once.
    unsafe { CloseHandle(threads) };
    result
}
