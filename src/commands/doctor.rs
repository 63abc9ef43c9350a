//! `doctor`: runs all checks, and with `--fix` applies the safe fixes first.

use crate::context::Context;
use crate::doctor::manager_home::find_stale_temp_files;
use crate::doctor::{self, Check, Status, permissions};
use crate::error::{CommandError, Outcome, Result};
use crate::steps::archive_check::repair_sidecar;
use crate::steps::shutdown::ShutdownArgs;
use crate::steps::sync_checks;
use crate::views::check_output::print_check;
use crate::views::dry_run::{wording, would_be};
use clap::Args;
use codex_manager_core::inventory::{ArchiveProblem, InventoryFile, cooldown, store};
use codex_manager_core::io::{DocumentState, IoError, document, pluralize, tree};
use std::path::{Path, PathBuf};

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
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl DoctorArgs {
    pub(crate) fn only_reads(&self) -> bool {
        !self.fix
    }

    /// Applies the fixes, then runs the checks. A fix that fails is a finding, not an error.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let mut checks = Vec::new();
        if self.fix {
            checks = apply_fixes(context, self.dry_run);
            if checks.is_empty() {
                context.ui.line("nothing to fix automatically");
            }
        }

        checks.extend(doctor::run_checks(context));
        checks.extend(run_sync_checks(context));
        for check in &checks {
            print_check(&context.ui, check);
        }

        context.ui.line(format_summary(&checks));
        let worst = checks.iter().map(|c| c.status).max();
        context.ui.list_document("doctor", "checks", &checks);
        Outcome::passed_if(worst != Some(Status::Fail))
    }
}

/// Formats the number of checks, of failures and of warnings.
fn format_summary(checks: &[Check]) -> String {
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let checks_text = pluralize(checks.len(), "check");
    let failures = pluralize(count(Status::Fail), "failure");
    let warnings = pluralize(count(Status::Warn), "warning");
    match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => format!("{checks_text}, no problems"),
        (0, _) => format!("{checks_text}, {warnings}"),
        (_, 0) => format!("{checks_text}, {failures}"),
        _ => format!("{checks_text}, {failures}, {warnings}"),
    }
}

/// Returns the findings of `sync preflight` if a sync is set up.
fn run_sync_checks(context: &Context) -> Vec<Check> {
    let path = context.manager_path("sync.toml");
    if !path.exists() {
        return Vec::new();
    }

    let mut checks = match sync_checks::run_checks(context, &path, &ShutdownArgs::default()) {
        Ok(checks) => checks,
        Err(e) => vec![
            Check::fail("sync.config", e.to_one_line())
                .because("no sync can run")
                .advised("fix sync.toml, and check it with: codex-manager sync validate"),
        ],
    };

    // A running Codex only delays a sync, so for `doctor` it is a warning.
    for check in checks.iter_mut().filter(|check| check.id == "sync.codex") {
        check.status = check.status.min(Status::Warn);
    }
    checks
}

/// Applies the safe fixes. Returns a finding for each applied or failed fix, or with `dry_run` for each fix that would
/// be applied. Does nothing if one of the homes is inside the other, because the files of Codex and of the manager
/// cannot be distinguished then.
fn apply_fixes(context: &Context, dry_run: bool) -> Vec<Check> {
    let (codex_home, manager_home) = (context.codex_home(), context.manager_home());
    if permissions::homes_overlap(codex_home, manager_home) {
        return Vec::new();
    }

    let mut fix_run = FixRun {
        context,
        dry_run,
        findings: Vec::new(),
    };
    let accessible = permissions::find_accessible_to_others(codex_home, manager_home);
    let (participle, restrict) = ("restricted to your user", permissions::restrict_to_owner);
    fix_run.fix_each("manager.home", &accessible, participle, restrict);
    let stale_files = find_stale_temp_files(context);
    fix_run.fix_each("temp", &stale_files, "removed", tree::remove);
    fix_run.repair_sidecars();
    fix_run.recreate_documents();
    fix_run.findings
}

/// A run of `doctor --fix` with its findings so far.
struct FixRun<'a> {
    context: &'a Context,
    dry_run: bool,
    findings: Vec<Check>,
}

impl FixRun<'_> {
    fn add_finding(&mut self, id: &'static str, result: Result<String>) {
        self.findings.push(match result {
            Ok(message) => Check::ok(id, message),
            Err(e) => {
                let advice = e.hints.first().map_or("make the path writable", |h| h);
                Check::fail(id, format!("cannot fix: {}", e.to_one_line()))
                    .because("the problem remains")
                    .advised(advice)
            }
        });
    }

    /// Calls `apply` unless this is a dry run, and adds a finding with `message` or the error.
    fn fix<E: Into<CommandError>>(
        &mut self,
        id: &'static str,
        message: String,
        apply: impl FnOnce() -> Result<(), E>,
    ) {
        let result = if self.dry_run { Ok(()) } else { apply() };
        self.add_finding(id, result.map(|()| message).map_err(Into::into));
    }

    /// Applies `fix` to each path, and adds a finding with `participle`, such as "removed".
    fn fix_each(
        &mut self,
        id: &'static str,
        paths: &[PathBuf],
        participle: &str,
        fix: impl Fn(&Path) -> Result<(), IoError>,
    ) {
        for path in paths {
            let message = format!("{}{participle}: {}", would_be(self.dry_run), path.display());
            self.fix(id, message, || fix(path));
        }
    }

    /// Adds a finding for each sidecar that is written again, or that cannot be.
    fn repair_sidecars(&mut self) {
        let manager_home = &self.context.manager_home();
        // If backups/ cannot be listed, the checks report it.
        for record in store::list_archives(manager_home).unwrap_or_default() {
            let has_sidecar_problem = matches!(record.problem(), Some(ArchiveProblem::Sidecar(_)));
            // The sidecar is written from the metadata in the archive.
            if record.archive.is_none() || !has_sidecar_problem {
                continue;
            }

            let path = store::backups_folder(manager_home).join(&record.path);
            let would_be_text = would_be(self.dry_run);
            let message = format!("sidecar {would_be_text}written again: {}", record.path);
            match repair_sidecar(&path, self.dry_run) {
                // The sidecar is good, the archive cannot be opened, or it is one of the Python tool.
                Ok(false) => {}
                repaired => self.add_finding("archives.sidecar", repaired.map(|_| message)),
            }
        }
    }

    /// Creates `inventory.json` and `cooldown.json` again if they are damaged.
    fn recreate_documents(&mut self) {
        let home = self.context.manager_home();
        let created_text = wording(self.dry_run, "would be created", "created");

        let inventory = document::read::<InventoryFile>(&home.join(store::FILE_NAME));
        if matches!(inventory, Ok(DocumentState::Damaged(_))) {
            let message = format!("inventory.json {created_text} again");
            self.fix("manager.inventory", message, || {
                store::refresh(home).map(drop)
            });
        }

        // `note_profiles_and` keeps the damaged file beside the new one.
        if is_cooldown_damaged(self.context) {
            let (now, zone) = (self.context.now(), self.context.zone());
            let message = format!("cooldown.json {created_text} again from the records");
            // Every update of cooldown.json replaces a damaged file, even one that changes nothing.
            let no_change = |_: &mut cooldown::CooldownFile| {};
            self.fix("manager.cooldown", message, || {
                store::note_profiles_and(home, &now, zone, no_change).map(drop)
            });
        }
    }
}

/// Returns true if `cooldown.json` is damaged: like the check, takes each warning about the file for damage. If it
/// cannot be read at all, returns false: the checks report that.
fn is_cooldown_damaged(context: &Context) -> bool {
    let loaded = cooldown::load(context.manager_home(), &context.now(), context.zone());
    loaded.is_ok_and(|loaded| !loaded.warnings.is_empty())
}
