//! The name of this machine.

use super::environment::Environment;

/// Returns the host name of this machine, without its domain; `None` if it has none or if that is not Unicode.
pub fn read_name(env: &Environment) -> Option<String> {
    let full_name = read_system_name(env)?;
    let host_name = full_name.split('.').next().unwrap_or_default();
    (!host_name.is_empty()).then(|| host_name.to_owned())
}

#[cfg(unix)]
fn read_system_name(_env: &Environment) -> Option<String> {
    let name = rustix::system::uname();
    name.nodename().to_str().ok().map(str::to_owned)
}

#[cfg(not(unix))]
fn read_system_name(env: &Environment) -> Option<String> {
    env.text("COMPUTERNAME").map(str::to_owned)
}
