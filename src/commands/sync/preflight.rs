//! `sync validate` and `sync preflight`: whether a sync could run.

use super::closing;
use super::shared::{self, is_writable, read_quietly, replica};
use crate::commands::doctor;
use crate::commands::shutdown::ShutdownArgs;
use crate::context::Context;
use crate::doctor::{Check, Status, machine};
use crate::error::{CommandError, Outcome};
use crate::io::atomic;
use crate::io::quantity::pluralize;
use crate::sync::config::SyncConfig;
use crate::sync::decisions;
use crate::sync::forks::Forks;
use crate::sync::identity;
use crate::sync::manifest;
use crate::sync::peers;
use crate::sync::plan::{self, NotArrived, Request};
use crate::sync::scan::Stat;
use crate::sync::state::{Damage, StateError};
use crate::sync::travel::{self, Scope};
use chrono::DateTime;
use clap::Args;
use serde::Serialize;
use std::path::Path;

/// Check the configuration
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync validate -c config.toml")]
pub(super) struct ValidateArgs {}

#[derive(Serialize)]
struct ValidateJson<'a> {
    path: &'a Path,
    ok: bool,
    warnings: &'a [String],
}

impl ValidateArgs {
    #[allow(clippy::unused_self, reason = "like its siblings")]
    pub(super) fn run(self, context: &Context, path: &Path) -> Result<Outcome, CommandError> {
        let config = shared::read_config(context, path)?;
        Scope::of(&config)
            .map_err(|e| CommandError::usage(format!("filters.exclude_globs: {e}")))?;
        let misspelled = misspelled(&config);
        for warning in &misspelled {
            context.ui.warn(warning);
        }
        context.ui.document(
            "sync validate",
            &ValidateJson {
                path,
                ok: true,
                warnings: &[config.warnings, misspelled].concat(),
            },
        );
        context.ui.prose(format_args!("valid: {}", path.display()));
        Ok(Outcome::Done)
    }
}

/// Check the configuration, the folders and who uses them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync preflight")]
pub(super) struct PreflightArgs {}

#[derive(Serialize)]
struct PreflightJson<'a> {
    checks: &'a [Check],
}

impl PreflightArgs {
    #[allow(clippy::unused_self, reason = "like its siblings")]
    pub(super) fn run(
        self,
        context: &Context,
        path: &Path,
        closing: &ShutdownArgs,
    ) -> Result<Outcome, CommandError> {
        let checks = checks(context, path, closing)?;
        let json = PreflightJson { checks: &checks };
        context.ui.document("sync preflight", &json);
        for check in &checks {
            doctor::show(&context.ui, check);
        }
        let failed = checks.iter().any(|check| check.status == Status::Fail);
        Ok(if failed {
            Outcome::CheckFailed
        } else {
            Outcome::Done
        })
    }
}

/// Checks what a `sync run --apply` with the flags `args` needs; changes nothing.
///
/// # Errors
/// The configuration cannot be used.
pub(in crate::commands) fn checks(
    context: &Context,
    path: &Path,
    args: &ShutdownArgs,
) -> Result<Vec<Check>, CommandError> {
    let config = read_quietly(context, path)?;
    let message = format!("configuration: {}", path.display());
    let mut checks = vec![Check::ok("sync.config", message)];
    for warning in config.warnings.iter().chain(&misspelled(&config)) {
        push(
            &mut checks,
            "sync.config",
            Status::Warn,
            warning.clone(),
            None,
        );
    }
    folders(&config, &mut checks);
    checks.push(closing::check(context, &config, path, args));
    state(context, &config, &mut checks);
    not_arrived(context, &config, &mut checks);
    Ok(checks)
}

/// Warns of newer versions that other machines list and that are on their way.
fn not_arrived(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
    // Why no plan can be made, a run reports, with what helps.
    let replica = replica(context, config);
    let Ok((plan, _)) = plan::plan(&Request::of(config, &replica)) else {
        return;
    };
    for told in NotArrived::by_machine(&plan.not_arrived) {
        let fix = "wait for the cloud client, then run codex-manager sync run --apply before you start Codex here";
        push(checks, "sync.arrival", Status::Warn, told, Some(fix));
    }
}

fn misspelled(config: &SyncConfig) -> Vec<String> {
    let found = travel::misspelled(config).into_iter();
    found.map(|(key, why)| format!("{key} {why}")).collect()
}

fn push(
    checks: &mut Vec<Check>,
    id: &'static str,
    status: Status,
    message: String,
    fix: Option<&str>,
) {
    let check = Check::new(id, status, message);
    checks.push(match fix {
        Some(fix) => check.advised(fix),
        None => check,
    });
}

fn folders(config: &SyncConfig, checks: &mut Vec<Check>) {
    let (id, local) = ("sync.local", &config.local);
    if local.is_dir() {
        let message = format!("Codex home: {}", local.display());
        push(checks, id, Status::Ok, message, None);
    } else {
        let message = format!("there is no Codex home yet: {}", local.display());
        push(
            checks,
            id,
            Status::Warn,
            message,
            Some("start Codex once, or sync into it"),
        );
    }
    let (id, cloud) = ("sync.cloud", &config.cloud);
    if !cloud.is_dir() {
        let message = format!("the cloud folder is not there: {}", cloud.display());
        let fix = "mount it, start its client, or make it with mkdir";
        push(checks, id, Status::Fail, message, Some(fix));
    } else if let Err(e) = is_writable(cloud) {
        let message = format!("the cloud folder cannot be used: {e}: {}", e.source);
        push(checks, id, Status::Fail, message, None);
    } else {
        let message = format!("cloud folder: {}", cloud.display());
        push(checks, id, Status::Ok, message, None);
    }
    let (id, backups) = ("sync.backups", &config.backup_dir);
    // What is there, be it a file or a link to nowhere, decides: not what is above it.
    let mut above = backups.ancestors();
    let existing = above.find(|path| path.symlink_metadata().is_ok());
    if let Some(Ok(())) = existing.map(is_writable) {
        let message = format!("backups before overwriting: {}", backups.display());
        push(checks, id, Status::Ok, message, None);
    } else {
        let message = format!("no backup can be made there: {}", backups.display());
        push(
            checks,
            id,
            Status::Fail,
            message,
            Some("set paths.backup_dir"),
        );
    }
    if let Some((_, service)) = machine::sync_service(local) {
        let message = format!("the Codex home itself lies in a folder of {service}");
        let fix = "move it: replicated databases and logins break";
        push(checks, "sync.local", Status::Warn, message, Some(fix));
    }
}

fn state(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
    let replica = replica(context, config);
    let id = "sync.state";
    let mut state = match replica.read() {
        Ok(state) => state,
        Err(e) => {
            let (message, fix) = match &e {
                StateError::Io(e) => (format!("{e}: {}", e.source), None),
                StateError::Newer { .. } => (e.to_string(), Some("upgrade codex-manager")),
            };
            push(checks, id, Status::Fail, message, fix);
            return;
        }
    };
    let file = replica.file();
    let (status, message) = match state.damage {
        Some(Damage::All) => (
            Status::Warn,
            format!("it cannot be read: {}", file.display()),
        ),
        Some(Damage::Lines(n)) => {
            let message = format!("lines that cannot be read: {n} in {}", file.display());
            (Status::Warn, message)
        }
        None if state.exists => {
            let message = format!("last sync: {}", pluralize(state.files.len(), "file"));
            (Status::Ok, message)
        }
        None => (Status::Ok, "no sync yet".to_owned()),
    };
    let fix = "the next sync run keeps it aside and compares contents";
    push(checks, id, status, message, state.damage.map(|_| fix));
    if let Ok(true) = identity::is_torn(&state, config, &replica) {
        let message = "what this machine says is torn in the cloud folder".to_owned();
        let fix = "the next sync run writes it again";
        push(checks, "sync.arrival", Status::Warn, message, Some(fix));
    }
    if peers::is_not_here(&identity::manifest_of(config, &state)) {
        let message = "what this machine said last is not downloaded to it".to_owned();
        let fix = "have the cloud client download it";
        push(checks, "sync.arrival", Status::Fail, message, Some(fix));
    }
    if let Ok(Some((path, why))) = identity::settle(&mut state, config, &replica) {
        push(checks, id, Status::Warn, format!("{path} {why}"), None);
    }
    let others = identity::others(config, &state);
    if let Ok(manifests) = &others {
        for name in &manifests.incomplete {
            let path = manifest::place_of(&config.cloud, name);
            let machine = manifest::machine_of(name).unwrap_or(name);
            let at = Stat::at(&path).ok().flatten().map(|stat| stat.mtime_ns);
            let since = at.map_or_else(String::new, |ns| {
                let at = DateTime::from_timestamp_nanos(ns);
                format!(" since {}", at.format("%Y-%m-%d %H:%M UTC"))
            });
            let message = format!(
                "what another machine says has not arrived whole: {machine}{since}: {}",
                path.display()
            );
            let fix = "wait for the cloud client, or sync on that machine; where it is no more, remove that \
                       file: a machine that has the same files vouches for them at its next sync";
            push(checks, "sync.arrival", Status::Warn, message, Some(fix));
        }
        for name in &manifests.not_here {
            let message = format!("what another machine says is not downloaded: {name}");
            let fix = "have the cloud client download it";
            push(checks, "sync.arrival", Status::Warn, message, Some(fix));
        }
        for (name, why) in &manifests.refused {
            let message = format!("{name}: {why}");
            push(checks, "sync.arrival", Status::Warn, message, None);
        }
        for name in &manifests.foreign {
            let message = format!("a name that is nobody's: {name}");
            push(checks, "sync.arrival", Status::Warn, message, None);
        }
    }
    let forks = Forks::read(&replica.folder, &config.cloud).unwrap_or_default();
    let said_by_others = others.map(|all| all.resolved).unwrap_or_default();
    let words = [&state.resolved, &said_by_others];
    let names = forks.all.keys();
    let open = names.filter(|name| !decisions::may_go(name, words)).count();
    if open > 0 {
        let kept = pluralize(open, "kept version");
        let message = format!("a decision is needed: {kept} of conversations");
        let fix = "decide with: codex-manager sync resolve";
        push(checks, "sync.forks", Status::Warn, message, Some(fix));
    }
    let left = atomic::stale(&config.local, std::time::SystemTime::UNIX_EPOCH);
    if !left.is_empty() {
        let message = format!("{} of killed runs", pluralize(left.len(), "temp file"));
        push(
            checks,
            id,
            Status::Warn,
            message,
            Some("the next sync run removes them"),
        );
    }
}
