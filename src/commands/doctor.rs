//! `doctor`: looks everything over and names the command that mends what is wrong.

use super::account::printable;
use super::shutdown::ShutdownArgs;
use super::sync;
use crate::archive::restore::pending;
use crate::archive::restore::swap::{Recovery, SwapError};
use crate::context::Context;
use crate::doctor::manager_home::stale_temp_files;
use crate::doctor::permissions;
use crate::doctor::{self, Check, DoctorInput, Remedy, Status};
use crate::error::{CommandError, Outcome};
use crate::inventory::records::{InventoryFile, Problem};
use crate::inventory::{cooldown, store};
use crate::io::document::{self, DocumentState};
use crate::io::tree;
use crate::ui::{Style, Ui};
use clap::Args;
use serde::Serialize;

/// Check Codex, the homes and the archives
///
/// Each finding names the command that mends it. --fix does what is safe: modes of our own files,
/// lost sidecars, left-over temp files.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager doctor
  codex-manager doctor --fix
  codex-manager doctor --json | jq '.checks[] | select(.status != \"ok\")'")]
pub(crate) struct DoctorArgs {
    /// Mend what can be mended safely
    #[arg(long)]
    fix: bool,
    /// With --fix: only say what would be mended
    #[arg(long)]
    dry_run: bool,
}

/// The JSON document. Its keys are a contract.
#[derive(Serialize)]
struct DoctorJson {
    checks: Vec<Check>,
}

impl DoctorArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Something could not be mended.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
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
        Ok(if worst == Some(Status::Fail) {
            Outcome::CheckFailed
        } else {
            Outcome::Done
        })
    }
}

/// What `sync preflight` finds, where a sync is set up at all.
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
                .advised("see codex-manager sync validate, and put sync.toml right"),
        ],
    };
    // A running Codex delays a sync; nothing is wrong with the machine.
    for check in checks.iter_mut().filter(|check| check.id == "sync.codex") {
        check.status = check.status.min(Status::Warn);
    }
    checks
}

/// Does what is safe; each thing that was mended, or could not be, is a finding of its own.
fn fix(context: &Context, dry_run: bool) -> Vec<Check> {
    let settings = &context.settings;
    let home = &settings.manager_home;
    let done = if dry_run { "would be" } else { "was" };
    let mut checks = Vec::new();
    if permissions::homes_overlap(&settings.codex_home, home) {
        return checks;
    }
    let mut tried = |id, result: Result<String, CommandError>| {
        checks.push(match result {
            Ok(message) => Check::ok(id, message),
            Err(e) => Check::fail(id, format!("not mended: {}", e.in_one_line()))
                .because("what is wrong stays as it is")
                .advised("give yourself the right to write there"),
        });
    };
    for path in permissions::accessible_to_others(&settings.codex_home, home) {
        let mended = if dry_run {
            Ok(())
        } else {
            permissions::restrict_to_owner(&path)
        };
        let message = format!("{done} closed to others: {}", path.display());
        tried("manager.home", mended.map(|()| message).map_err(Into::into));
    }
    for path in stale_temp_files(&settings.codex_home, home, &context.env) {
        let mended = if dry_run { Ok(()) } else { tree::remove(&path) };
        let message = format!("{done} removed: {}", path.display());
        tried("temp", mended.map(|()| message).map_err(Into::into));
    }
    // What cannot be listed is a finding of the examination.
    for record in store::archives(home).unwrap_or_default() {
        if record.archive.is_some() && matches!(record.problem(), Some(Problem::Sidecar(_))) {
            let path = store::backups(home).join(&record.path);
            match super::verify::repair_sidecar(&path, dry_run) {
                Ok(false) => {}
                Ok(true) => {
                    let message = format!("the sidecar {done} written again: {}", record.path);
                    tried("archives.sidecar", Ok(message));
                }
                Err(e) => tried("archives.sidecar", Err(e)),
            }
        }
    }
    if dry_run {
        let inventory = document::read::<InventoryFile>(&home.join(store::FILE_NAME));
        if matches!(inventory, Ok(DocumentState::Damaged(_))) {
            let message = "inventory.json would be made again";
            tried("manager.inventory", Ok(message.into()));
        }
        if is_cooldown_damaged(context) {
            let message = "cooldown.json would be made again, as far as the records know";
            tried("manager.cooldown", Ok(message.into()));
        }
    } else {
        let now = context.local_now();
        match pending::recover_all(&settings.codex_home, home, &context.env, now) {
            Err(e) => tried("restore", Err(e.into())),
            Ok(recovered) => {
                for recovery in recovered {
                    match recovery {
                        Recovery::Finished(_) | Recovery::Undone(_) => {
                            tried("restore", Ok("an interrupted restore was settled".into()));
                        }
                        Recovery::PutOff(obstacle) => {
                            tried("restore", Err(SwapError::from(obstacle).into()));
                        }
                        _ => {}
                    }
                }
            }
        }
        if home.is_dir() {
            match store::refresh(home) {
                Ok(None) => {}
                Ok(Some(_)) => tried(
                    "manager.inventory",
                    Ok("inventory.json was made again".into()),
                ),
                Err(e) => tried("manager.inventory", Err(e.into())),
            }
            if let Some(result) = recreate_cooldown(context) {
                tried("manager.cooldown", result);
            }
        }
    }
    checks
}

/// Makes a damaged `cooldown.json` again of what the records say. The damaged one is kept.
fn recreate_cooldown(context: &Context) -> Option<Result<String, CommandError>> {
    if !is_cooldown_damaged(context) {
        return None;
    }
    let settings = &context.settings;
    let (home, now, zone) = (&settings.manager_home, context.now(), settings.zone);
    let updated = store::note_profiles(home, &now, zone);
    Some(match updated {
        Ok(_) => Ok("cooldown.json was made again, as far as the records know".into()),
        Err(e) => Err(e.into()),
    })
}

/// Whether `cooldown.json` is damaged. One that cannot be used at all is a finding of the
/// examination.
fn is_cooldown_damaged(context: &Context) -> bool {
    let settings = &context.settings;
    let loaded = cooldown::load(&settings.manager_home, &context.now(), settings.zone);
    loaded.is_ok_and(|loaded| !loaded.warnings.is_empty())
}

/// Where what was found begins, under which the rest stands.
const MESSAGE_COLUMN: usize = 25;

/// A finding in lines: what, why it matters, what mends it. A command stands on a line of its own.
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
