//! `doctor`: runs all checks, and with `--fix` applies the safe fixes first.

use crate::context::Context;
use crate::doctor::manager_home::find_stale_temp_files;
use crate::doctor::{self, Check, Status, permissions};
use crate::error::{Outcome, Result};
use crate::inventory::records::{ArchiveProblem, InventoryFile};
use crate::inventory::{cooldown, store};
use crate::io::document::{self, DocumentState};
use crate::io::quantity::pluralize;
use crate::io::{IoError, tree};
use crate::journal::{JournalError, Recovery};
use crate::recovery::{self, Interrupted};
use crate::steps::archive_check::repair_sidecar;
use crate::steps::shutdown::ShutdownArgs;
use crate::steps::sync_checks;
use crate::views::check_output::show;
use crate::views::dry_run::would_be;
use clap::Args;
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
            checks = fix(context, self.dry_run);
            if checks.is_empty() {
                context.ui.line("nothing to fix automatically");
            }
        }
        checks.extend(doctor::run_checks(context));
        checks.extend(run_sync_checks(context));
        for check in &checks {
            show(&context.ui, check);
        }
        context.ui.line(summarize(&checks));
        let worst = checks.iter().map(|c| c.status).max();
        context.ui.list_document("doctor", "checks", &checks);
        Outcome::passed_if(worst != Some(Status::Fail))
    }
}

/// Formats the number of checks, of failures and of warnings.
fn summarize(checks: &[Check]) -> String {
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let found = [
        (count(Status::Fail), "failure"),
        (count(Status::Warn), "warning"),
    ];
    let found = found.into_iter().filter(|(count, _)| *count > 0);
    let found: Vec<_> = found.map(|(count, noun)| pluralize(count, noun)).collect();
    let checks = pluralize(checks.len(), "check");
    if found.is_empty() {
        format!("{checks}, no problems")
    } else {
        format!("{checks}, {}", found.join(", "))
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
    // A running Codex only delays a sync. For doctor that is not a failure.
    for check in checks.iter_mut().filter(|check| check.id == "sync.codex") {
        check.status = check.status.min(Status::Warn);
    }
    checks
}

/// Applies the safe fixes. Returns a finding for each applied or failed fix, or with `dry_run` for each fix that would
/// be applied. Does nothing if one of the homes is inside the other.
fn fix(context: &Context, dry_run: bool) -> Vec<Check> {
    let mut run = FixRun {
        context,
        dry_run,
        findings: Vec::new(),
    };
    if permissions::homes_overlap(context.codex_home(), context.manager_home()) {
        return run.findings;
    }
    run.restrict_permissions();
    run.remove_temp_files();
    run.repair_sidecars();
    if dry_run {
        run.announce_documents();
    } else {
        run.recover_restores();
        run.recreate_documents();
    }
    run.findings
}

/// A run of `doctor --fix` with its findings so far.
struct FixRun<'a> {
    context: &'a Context,
    dry_run: bool,
    findings: Vec<Check>,
}

impl FixRun<'_> {
    fn add(&mut self, id: &'static str, result: Result<String>) {
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

    fn restrict_permissions(&mut self) {
        let (codex_home, home) = (self.context.codex_home(), self.context.manager_home());
        let open = permissions::find_accessible_to_others(codex_home, home);
        let done = "restricted to your user";
        self.fix_each("manager.home", &open, done, permissions::restrict_to_owner);
    }

    fn remove_temp_files(&mut self) {
        let stale = find_stale_temp_files(self.context);
        self.fix_each("temp", &stale, "removed", tree::remove);
    }

    fn fix_each(
        &mut self,
        id: &'static str,
        paths: &[PathBuf],
        done: &str,
        fix: impl Fn(&Path) -> Result<(), IoError>,
    ) {
        for path in paths {
            let result = if self.dry_run { Ok(()) } else { fix(path) };
            let message = format!("{}{done}: {}", would_be(self.dry_run), path.display());
            self.add(id, result.map(|()| message).map_err(Into::into));
        }
    }

    fn repair_sidecars(&mut self) {
        let home = &self.context.manager_home();
        // A backups/ that cannot be listed is reported by the checks themselves.
        for record in store::list_archives(home).unwrap_or_default() {
            let is_damaged = matches!(record.problem(), Some(ArchiveProblem::Sidecar(_)));
            if record.archive.is_none() || !is_damaged {
                continue;
            }
            let path = store::backups_folder(home).join(&record.path);
            let done = would_be(self.dry_run);
            let message = format!("sidecar {done}written again: {}", record.path);
            match repair_sidecar(&path, self.dry_run) {
                Ok(false) => {}
                Ok(true) => self.add("archives.sidecar", Ok(message)),
                Err(e) => self.add("archives.sidecar", Err(e)),
            }
        }
    }

    /// Adds a finding for each document that [`Self::recreate_documents`] would create again.
    fn announce_documents(&mut self) {
        let home = &self.context.manager_home();
        let inventory = document::read::<InventoryFile>(&home.join(store::FILE_NAME));
        if matches!(inventory, Ok(DocumentState::Damaged(_))) {
            let message = "inventory.json would be created again";
            self.add("manager.inventory", Ok(message.into()));
        }
        if is_cooldown_damaged(self.context) {
            let message = "cooldown.json would be created again from the records";
            self.add("manager.cooldown", Ok(message.into()));
        }
    }

    /// Recovers interrupted commands again. Adds a finding for each restore of the Codex home that cannot be recovered
    /// yet.
    fn recover_restores(&mut self) {
        let (context, now) = (self.context, self.context.local_now());
        let (codex_home, home) = (context.codex_home(), context.manager_home());
        for recovered in recovery::recover_all(codex_home, home, &context.env, now) {
            if recovered.interrupted != Interrupted::Restore {
                continue;
            }
            match recovered.result {
                Ok(Recovery::Deferred(obstacle)) => {
                    self.add("restore", Err(JournalError::from(obstacle).into()));
                }
                // A restore that can be recovered was recovered and reported when the program started.
                Ok(_) => {}
                Err(e) => self.add("restore", Err(e.into())),
            }
        }
    }

    /// Creates `inventory.json` and `cooldown.json` again if they are damaged.
    fn recreate_documents(&mut self) {
        let home = &self.context.manager_home();
        if !home.is_dir() {
            return;
        }
        let id = "manager.inventory";
        match store::refresh(home) {
            Ok(None) => {}
            Ok(Some(_)) => self.add(id, Ok("created inventory.json again".into())),
            Err(e) => self.add(id, Err(e.into())),
        }
        // The damaged file is kept beside the new one.
        if is_cooldown_damaged(self.context) {
            let (now, zone) = (self.context.now(), self.context.zone());
            let updated = store::note_profiles_and(home, &now, zone, |_| {});
            let message = "created cooldown.json again from the records".to_owned();
            let result = updated.map(|_| message).map_err(Into::into);
            self.add("manager.cooldown", result);
        }
    }
}

/// Returns true if `cooldown.json` is damaged. Returns false if the file cannot be read at all, which the checks
/// report.
fn is_cooldown_damaged(context: &Context) -> bool {
    let loaded = cooldown::load(context.manager_home(), &context.now(), context.zone());
    loaded.is_ok_and(|loaded| !loaded.warnings.is_empty())
}
