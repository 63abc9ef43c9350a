//! Limits that the system puts on this process.

/// Returns the number of files that this process may have open at a time; on Windows, which reports none, 512.
pub fn max_open_files() -> usize {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit = Some(512);
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}
