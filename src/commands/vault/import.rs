//! `vault import`: makes snapshots of archives.

use crate::choices::archive_choice::find_archive;
use crate::choices::vault_connection::{ConnectionArgs, host};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::{Ui, object};
use clap::Args;
use codex_manager_core::vault::import::{self, ImportOutcome};
use codex_manager_core::vault::{TreeLock, VaultError, snapshot};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Make snapshots of archives
///
/// Each snapshot has the time of its archive. The archives are left unchanged. An archive that is
/// already in the vault is not imported again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault import 2026-11-17-155500-me@example.com-codex.tar.gz
  codex-manager vault import ~/.codex-manager/backups/*.tar.gz")]
pub(super) struct VaultImportArgs {
    /// A name under backups/, or a path
    #[arg(value_name = "ARCHIVE", required = true)]
    archives: Vec<PathBuf>,
    /// Show what would be imported; contact nothing and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl VaultImportArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let ui = &context.ui;
        let names = self.archives.iter();
        let archives = names.map(|name| find_archive(context, name, |r| r.archive.is_some()));
        let paths: Vec<_> = archives.collect::<Result<_>>()?;

        let mut results = Vec::new();
        if self.dry_run {
            for path in &paths {
                ui.report(format_args!("would import {}", path.display()));
                results.push(ImportedArchive {
                    archive: path.display().to_string(),
                    snapshot: None,
                    outcome: "planned",
                    problem: None,
                });
            }
        } else {
            let restic = connection.open(context)?;
            // Listed once, because each query of a remote repository takes seconds.
            let existing = snapshot::list_snapshots(&restic)?;
            let lock = TreeLock::acquire(context.manager_home())?;
            let host = host(context);

            for path in &paths {
                let bar = ui.growing_bar("importing");
                let imported = import::import(&restic, path, &existing, &lock, &host, &bar);
                drop(bar);
                results.push(report_import(path, imported, ui)?);
            }
        }

        let has_failed = results.iter().any(|result| result.problem.is_some());
        let json = object()
            .with("archives", results)
            .with("dry_run", self.dry_run);
        ui.document("vault import", &json);
        Ok(Outcome::partial_if(has_failed))
    }
}

/// The result of importing one archive, in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct ImportedArchive {
    archive: String,
    snapshot: Option<String>,
    outcome: &'static str,
    problem: Option<String>,
}

/// Prints and returns the result of importing one archive.
///
/// # Errors
/// The import failed for another reason than the archive, so the remaining archives would fail too.
fn report_import(
    path: &Path,
    imported: Result<ImportOutcome, VaultError>,
    ui: &Ui,
) -> Result<ImportedArchive> {
    let archive = path.display();
    let (outcome, snapshot, problem) = match imported {
        Ok(ImportOutcome::Added(report)) => {
            let id = report.short_id().to_owned();
            ui.report(format_args!("imported {archive} as {id}"));
            ("added", Some(id), None)
        }
        Ok(ImportOutcome::Present(id)) => {
            ui.report(format_args!("already in the vault: {archive}"));
            ("present", Some(id), None)
        }
        Err(e) if !matches!(e, VaultError::Archive(_)) => return Err(e.into()),
        Err(e) => {
            let problem = CommandError::from(e).to_one_line();
            ui.warn(format_args!("not imported: {archive} ({problem})"));
            ("failed", None, Some(problem))
        }
    };

    Ok(ImportedArchive {
        archive: archive.to_string(),
        snapshot,
        outcome,
        problem,
    })
}
