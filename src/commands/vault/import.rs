//! `vault import`: makes snapshots of archives.

use crate::choices::archive_choice::find_archive;
use crate::choices::vault_connection::{ConnectionArgs, host};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::ui::Ui;
use crate::ui::json_object::object;
use crate::vault::import::{self, ImportOutcome};
use crate::vault::{TreeLock, VaultError, snapshot};
use clap::Args;
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

/// The result for an archive in JSON. Its keys are an interface.
#[derive(Serialize)]
struct ImportedArchiveJson {
    archive: String,
    snapshot: Option<String>,
    outcome: &'static str,
    problem: Option<String>,
}

impl ImportedArchiveJson {
    fn new(path: &Path, snapshot: Option<String>, outcome: &'static str) -> Self {
        Self {
            archive: path.display().to_string(),
            snapshot,
            outcome,
            problem: None,
        }
    }
}

impl VaultImportArgs {
    pub(super) fn run(
        self,
        context: &Context,
        connection: &ConnectionArgs,
    ) -> Result<Outcome, CommandError> {
        let ui = &context.ui;
        let found: Result<Vec<PathBuf>, CommandError> = self
            .archives
            .iter()
            .map(|archive| find_archive(context, archive, |r| r.archive.is_some()))
            .collect();
        let paths = found?;
        let mut rows = Vec::new();
        if self.dry_run {
            for path in &paths {
                ui.report(format_args!("would import {}", path.display()));
                rows.push(ImportedArchiveJson::new(path, None, "planned"));
            }
        } else {
            let restic = connection.open(context)?;
            let known = snapshot::list(&restic)?;
            let lock = TreeLock::acquire(&context.settings.manager_home)?;
            let host = host(context);
            for path in &paths {
                let bar = ui.bar("importing", 0);
                let imported = import::import(&restic, path, &known, &lock, &host, &bar);
                drop(bar);
                rows.push(report(path, imported, ui)?);
            }
        }
        let failed = rows.iter().any(|row| row.problem.is_some());
        let json = object()
            .with("archives", rows)
            .with("dry_run", self.dry_run);
        ui.document("vault import", &json);
        Ok(Outcome::partial_if(failed))
    }
}

/// Reports what became of one archive.
///
/// # Errors
/// The import failed for a reason that is not the archive's: the remaining archives would fail too.
fn report(
    path: &Path,
    imported: Result<ImportOutcome, VaultError>,
    ui: &Ui,
) -> Result<ImportedArchiveJson, CommandError> {
    let shown = path.display();
    match imported {
        Ok(ImportOutcome::Added(report)) => {
            let id = report.short_id().to_owned();
            ui.report(format_args!("imported {shown} as {id}"));
            Ok(ImportedArchiveJson::new(path, Some(id), "added"))
        }
        Ok(ImportOutcome::Present(id)) => {
            ui.report(format_args!("already in the vault: {shown}"));
            Ok(ImportedArchiveJson::new(path, Some(id), "present"))
        }
        Err(e) if !matches!(e, VaultError::Archive(_)) => Err(e.into()),
        Err(e) => {
            let problem = CommandError::from(e).in_one_line();
            ui.warn(format_args!("not imported: {shown} ({problem})"));
            Ok(ImportedArchiveJson {
                problem: Some(problem),
                ..ImportedArchiveJson::new(path, None, "failed")
            })
        }
    }
}
