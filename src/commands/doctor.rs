//! `doctor`: runs all checks, and with `--fix` applies the safe fixes first.

use super::account::printable;
use super::shutdown::ShutdownArgs;
use super::sync;
use crate::context::Context;
use crate::doctor::manager_home::stale_temp_files;
use crate::doctor::permissions;
use crate::doctor::{self, Check, DoctorInput, Remedy, Status};
use crate::error::{CommandError, Outcome};
use crate::inventory::records::{ArchiveProblem, InventoryFile};
use crate::inventory::{cooldown, store};
use crate::io::document::{self, DocumentState};
use crate::io::tree;
use crate::restore::pending;
use crate::restore::swap::{Recovery, SwapError};
use crate::ui::{Style, Ui};
use clap::Args;
use serde::Serialize;

/// Check Codex, the homes and the archives
///
/// Each problem comes with its fix. --fix applies the safe ones: permissions of codex-manager's own
/// files, lost sidecars, damaged indexes, stale temp files.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager doctor
  codex-manager doctor --fix
  codex-manager doctor --json | jq '.checks[] | select(.status != \"ok\")'")]
pub(crate) struct DoctorArgs {
    /// Apply the safe fixes
    #[arg(long)]
    fix: bool,
    /// With --fix: show what would be fixed; write nothing
    #[arg(long)]
    dry_run: bool,
}

/// The JSON document. Its keys are an interface.
#[derive(Serialize)]
struct DoctorJson {
    checks: Vec<Check>,
}

impl DoctorArgs {
    /// Runs the command. A fix that fails is a finding, not an error.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let mut checks = Vec::new();
        if self.fix {
            checks = fix(context, self.dry_run);
        }
        let settings = &context.settings;
        checks.extend(doctor::run_checks(&DoctorInput {
            codex_home: &settings.codex_home,
            manager_home: &settings.manager_home,
            codex_bin: settings.codex_bin.as_deref(),
            env: &context.env,
            now: context.now(),
            zone: settings.zone,
            zone_is_set: settings.zone_is_set,
        }));
        checks.extend(sync_checks(context));
        for check in &checks {
            show(&context.ui, check);
        }
        let worst = checks.iter().map(|c| c.status).max();
        context.ui.document("doctor", &DoctorJson { checks });
        if worst == Some(Status::Fail) {
            Outcome::CheckFailed
        } else {
            Outcome::Done
        }
    }
}

/// Returns the findings of `sync preflight` if a sync is set up.
fn sync_checks(context: &Context) -> Vec<Check> {
    let path = context.manager_path("sync.toml");
    if !path.exists() {
        return Vec::new();
    }
    let mut checks = match sync::preflight_checks(context, &path, &ShutdownArgs::default()) {
        Ok(checks) => checks,
        Err(e) => vec![
            Check::fail("sync.config", e.in_one_line())
                .because("no sync can run")
                .advised("run codex-manager sync validate, and fix sync.toml"),
        ],
    };
    // A running Codex only delays a sync. For doctor that is not a failure.
    for check in checks.iter_mut().filter(|check| check.id == "sync.codex") {
        check.status = check.status.min(Status::Warn);
    }
    checks
}

/// Applies the safe fixes. Returns one finding for each applied or failed fix; with `dry_run` one for
/// each fix that would be applied.
fn fix(context: &Context, dry_run: bool) -> Vec<Check> {
    let settings = &context.settings;
    let home = &settings.manager_home;
    let done = if dry_run { "would be " } else { "" };
    let mut checks = Vec::new();
    if permissions::homes_overlap(&settings.codex_home, home) {
        return checks;
    }
    let mut add_finding = |id, result: Result<String, CommandError>| {
        checks.push(match result {
            Ok(message) => Check::ok(id, message),
            Err(e) => Check::fail(id, format!("cannot fix: {}", e.in_one_line()))
                .because("the problem remains")
                .advised("make the path writable"),
        });
    };
    for path in permissions::accessible_to_others(&settings.codex_home, home) {
        let result = if dry_run {
            Ok(())
        } else {
            permissions::restrict_to_owner(&path)
        };
        let message = format!("{done}restricted to your user: {}", path.display());
        add_finding("manager.home", result.map(|()| message).map_err(Into::into));
    }
    for path in stale_temp_files(&settings.codex_home, home, &context.env) {
        let result = if dry_run { Ok(()) } else { tree::remove(&path) };
        let message = format!("{done}removed: {}", path.display());
        add_finding("temp", result.map(|()| message).map_err(Into::into));
    }
    // A backups/ that cannot be listed is reported by the checks themselves.
    for record in store::archives(home).unwrap_or_default() {
        if record.archive.is_some() && matches!(record.problem(), Some(ArchiveProblem::Sidecar(_)))
        {
            let path = store::backups(home).join(&record.path);
            match super::verify::repair_sidecar(&path, dry_run) {
                Ok(false) => {}
                Ok(true) => {
                    let message = format!("sidecar {done}written again: {}", record.path);
                    add_finding("archives.sidecar", Ok(message));
                }
                Err(e) => add_finding("archives.sidecar", Err(e)),
            }
        }
    }
    if dry_run {
        let inventory = document::read::<InventoryFile>(&home.join(store::FILE_NAME));
        if matches!(inventory, Ok(DocumentState::Damaged(_))) {
            let message = "inventory.json would be created again";
            add_finding("manager.inventory", Ok(message.into()));
        }
        if is_cooldown_damaged(context) {
            let message = "cooldown.json would be created again from the records";
            add_finding("manager.cooldown", Ok(message.into()));
        }
    } else {
        let now = context.local_now();
        match pending::recover_all(&settings.codex_home, home, &context.env, now) {
            Err(e) => add_finding("restore", Err(e.into())),
            Ok(recovered) => {
                for recovery in recovered {
                    match recovery {
                        Recovery::Finished(_) | Recovery::Undone(_) => {
                            add_finding("restore", Ok("recovered an interrupted restore".into()));
                        }
                        Recovery::Deferred(obstacle) => {
                            add_finding("restore", Err(SwapError::from(obstacle).into()));
                        }
                        _ => {}
                    }
                }
            }
        }
        if home.is_dir() {
            match store::refresh(home) {
                Ok(None) => {}
                Ok(Some(_)) => add_finding(
                    "manager.inventory",
                    Ok("created inventory.json again".into()),
                ),
                Err(e) => add_finding("manager.inventory", Err(e.into())),
            }
            if let Some(result) = recreate_cooldown(context) {
                add_finding("manager.cooldown", result);
            }
        }
    }
    checks
}

/// Creates a damaged `cooldown.json` again from the records and keeps the damaged file. Returns `None` if
/// the file is not damaged.
fn recreate_cooldown(context: &Context) -> Option<Result<String, CommandError>> {
    if !is_cooldown_damaged(context) {
        return None;
    }
    let settings = &context.settings;
    let (home, now, zone) = (&settings.manager_home, context.now(), settings.zone);
    let updated = store::note_profiles(home, &now, zone);
    Some(match updated {
        Ok(_) => Ok("created cooldown.json again from the records".into()),
        Err(e) => Err(e.into()),
    })
}

/// Returns true if `cooldown.json` is damaged. A file that cannot be read at all is reported by the
/// checks.
fn is_cooldown_damaged(context: &Context) -> bool {
    let settings = &context.settings;
    let loaded = cooldown::load(&settings.manager_home, &context.now(), settings.zone);
    loaded.is_ok_and(|loaded| !loaded.warnings.is_empty())
}

/// The column at which messages, consequences and fixes start.
const MESSAGE_COLUMN: usize = 25;

/// Prints a finding: message, consequence, fix. A command is never wrapped, so that it can be copied.
pub(super) fn show(ui: &Ui, check: &Check) {
    let (style, word) = match check.status {
        Status::Ok => (Style::Good, "ok  "),
        Status::Warn => (Style::Warn, "warn"),
        Status::Fail => (Style::Bad, "fail"),
    };
    let head = format!("{}  {:18}", ui.paint(style, word), check.id);
    let blank = " ".repeat(MESSAGE_COLUMN);
    let message = printable(&check.message);
    ui.line(ui.wrapped(MESSAGE_COLUMN, format_args!("{head} {message}")));
    if let Some(why) = check.why {
        ui.line(ui.wrapped(MESSAGE_COLUMN, format_args!("{blank}{why}")));
    }
    match &check.fix {
        None => {}
        Some(Remedy::Advice(words)) => {
            let words = format!("{blank}→ {}", printable(words));
            ui.line(ui.paint(Style::Dim, ui.wrapped(MESSAGE_COLUMN + 2, words)));
        }
        Some(Remedy::Command(command)) => {
            let command = printable(command);
            let fits = MESSAGE_COLUMN + 2 + command.chars().count() <= ui.width();
            let blank = if fits { &blank } else { "      " };
            ui.line(ui.paint(Style::Dim, format_args!("{blank}→ {command}")));
        }
    }
}
