//! `verify`: checks archives, every byte against its digest.

use crate::choices::archive_choice::{find_archive, no_archives_error};
use crate::context::Context;
use crate::error::{ErrorKind, Outcome, Result};
use crate::steps::archive_check::{repair_sidecar, to_verify_finding, verify_archive};
use crate::ui::{Style, problem};
use crate::views::account::{absolute_time, printable};
use clap::Args;
use codex_manager_core::archive::verify::VerifyReport;
use codex_manager_core::inventory::archive_names::{LATEST, file_name};
use codex_manager_core::inventory::store::{self, VerifyFinding};
use codex_manager_core::inventory::{ArchiveRecord, catalog};
use codex_manager_core::io::Timestamp;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Check every byte and every database of archives
///
/// Compares every byte with its digest, and checks every database with SQLite's integrity check.
/// The results are recorded in inventory.json. For each account, `prune` always keeps the newest full
/// archive without damage.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager verify                  # the latest archive
  codex-manager verify --all
  codex-manager verify --repair 2026-11-17-155500-me@example.com-codex.tar.gz")]
pub(crate) struct VerifyArgs {
    /// Names under backups/ or their beginnings, numbers of `list-backups`, paths, or `latest`: the newest
    /// archive of this home that is neither a safety nor a partial one, full before other modes [default: latest]
    #[arg(value_name = "ARCHIVE")]
    archives: Vec<PathBuf>,
    /// All archives under backups/
    #[arg(long, conflicts_with = "archives")]
    all: bool,
    /// Recreate a missing or damaged sidecar (the .metadata.json file beside an archive)
    #[arg(long)]
    repair: bool,
    /// Write nothing: neither sidecars nor the results in inventory.json
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// The result for an archive in JSON. Its keys are an interface.
#[derive(Serialize)]
struct VerifiedArchiveJson {
    archive: String,
    ok: bool,
    problems: Vec<String>,
    notes: Vec<String>,
    repaired: bool,
}

impl VerifyArgs {
    /// Verifies the archives, and records the results in `inventory.json`.
    ///
    /// # Errors
    /// An archive does not exist, or there is too little disk space to unpack its databases for the
    /// check.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let manager_home = context.manager_home();
        let mut results = Vec::new();
        let mut findings = Vec::new();
        let verification = self.verify_each(context, &mut results, &mut findings);

        // After an error or Ctrl-C, the results of the archives that were verified completely are still recorded.
        if !self.dry_run {
            match store::note_verified(manager_home, &findings) {
                Ok(true) => {}
                Ok(false) => context.warn("the result is not recorded: another command uses inventory.json, or the file is damaged; verify again later"),
                Err(e) => context.warn(format_args!("the result is not recorded: {e}")),
            }
        }

        verification?;
        let are_all_ok = results.iter().all(|r| r.ok);
        context.ui.list_document("verify", "archives", &results);
        if findings.iter().any(|f| !f.verified.ok) {
            let ui = &context.ui;
            ui.note("make a new archive: codex-manager backup");
            ui.note("look for an undamaged one: codex-manager verify --all");
        }
        Ok(Outcome::passed_if(are_all_ok))
    }

    /// Verifies the archives one by one, and adds each result to `results` and `findings`. An archive that cannot be
    /// read or repaired does not stop the verification of later ones.
    fn verify_each(
        &self,
        context: &Context,
        results: &mut Vec<VerifiedArchiveJson>,
        findings: &mut Vec<VerifyFinding>,
    ) -> Result<()> {
        // The records only add the time of the backup to the output, so an archive given by path needs none.
        let records = context.archives().unwrap_or_default();
        for path in self.resolve_paths(context)? {
            let has_path = |r: &&ArchiveRecord| context.backups().join(&r.path) == path;
            let record = records.iter().find(has_path);
            let backed_up_at = record.and_then(|r| r.metadata.made_at());

            // Taken before the read: if the file changes during the read, the result does not count for the changed
            // file.
            let stamp = catalog::read_file_stamp(&path);
            let mut report = verify_archive(context, &path, self.dry_run)?;

            // In a dry run, true if the sidecar would be written.
            let mut is_repaired = false;
            if self.repair && report.is_archive_good() {
                match repair_sidecar(&path, self.dry_run) {
                    Ok(needs_sidecar) => is_repaired = needs_sidecar,
                    Err(e) if e.kind == ErrorKind::Interrupted => return Err(e),
                    Err(e) => context.warn(format_args!("the sidecar could not be written: {e}")),
                }
            }

            // The new sidecar is good, so the problem of the old one is not reported.
            if is_repaired && !self.dry_run {
                report.sidecar_problem = None;
            }

            findings.extend(to_verify_finding(&report, stamp, context.local_now()));

            if is_repaired {
                let wrote_verb = if self.dry_run { "would write" } else { "wrote" };
                let name = file_name(&path);
                let ui = &context.ui;
                ui.note(format_args!("{wrote_verb} the sidecar of {name} again"));
            }
            results.push(print_result(context, report, backed_up_at, is_repaired));
        }
        Ok(())
    }

    /// Returns the archives to verify: the named ones, or with `--all` all, or the latest one.
    fn resolve_paths(&self, context: &Context) -> Result<Vec<PathBuf>> {
        let find_path = |name: &Path| find_archive(context, name, |r| r.archive.is_some());
        if !self.archives.is_empty() {
            return self.archives.iter().map(|name| find_path(name)).collect();
        }
        if !self.all {
            return Ok(vec![find_path(Path::new(LATEST))?]);
        }

        let backups = context.backups();
        let records = context.archives()?;
        let existing = records.iter().filter(|r| r.archive.is_some());
        let paths: Vec<_> = existing.map(|r| backups.join(&r.path)).collect();

        if paths.is_empty() {
            return Err(no_archives_error(context));
        }
        Ok(paths)
    }
}

/// Prints the result for one archive and returns its JSON form.
fn print_result(
    context: &Context,
    report: VerifyReport,
    backed_up_at: Option<Timestamp>,
    repaired: bool,
) -> VerifiedArchiveJson {
    let ui = &context.ui;
    let name = file_name(&report.archive);
    let is_ok = report.is_ok();
    let is_archive_good = report.is_archive_good();

    // The words are padded to the same width.
    let (style, status_word) = if is_ok {
        (Style::Good, "ok     ")
    } else if is_archive_good {
        (Style::Warn, "sidecar")
    } else if report.read_error.is_some() {
        (Style::Bad, "unread ")
    } else {
        (Style::Bad, "damaged")
    };

    let mut problems = report.problems;
    problems.extend(report.read_error.map(|e| format!("{e}: {}", e.source)));
    let path = report.archive.strip_prefix(context.backups());
    let path = path.unwrap_or(&report.archive).to_string_lossy();
    let sidecar = report.sidecar_problem.as_ref();
    let archive_to_repair = is_archive_good.then_some(&*path);
    problems.extend(sidecar.map(|problem| problem::describe_sidecar(problem, archive_to_repair)));

    // The date in the name is the start of the quota window, not the time of the backup.
    let backup_note =
        backed_up_at.map(|at| format!(" (backed up {})", absolute_time(&at, context)));
    let first_note = match report.notes.first() {
        Some(note) if is_ok => format!(" ({note})"),
        _ => String::new(),
    };
    ui.prose(format_args!(
        "{} {name}{}{first_note}",
        ui.paint(style, status_word),
        backup_note.unwrap_or_default()
    ));

    for problem in &problems {
        ui.prose(format_args!("        {}", printable(problem)));
    }

    VerifiedArchiveJson {
        archive: name,
        ok: is_ok,
        problems,
        notes: report.notes,
        repaired,
    }
}
