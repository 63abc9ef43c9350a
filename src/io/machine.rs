//! The name of this machine.

use super::environment::Environment;

/// Returns the host name of this machine, without its domain; `None` if it has none or if that is not Unicode.
pub(crate) fn name(env: &Environment) -> Option<String> {
    let full = system_name(env)?;
    let first = full.split('.').next().unwrap_or_default();
    (!first.is_empty()).then(|| first.to_owned())
}

#[cfg(unix)]
fn system_name(_env: &Environment) -> Option<String> {
    let name = rustix::system::uname();
    name.nodename().to_str().ok().map(str::to_owned)
}

#[cfg(not(unix))]
fn system_name(env: &Environment) -> Option<String> {
    env.text("COMPUTERNAME").map(str::to_owned)
}
