//! `config import-python`: copies the archives and the cooldown of a Python codex-manager.

use crate::archive::names::ARCHIVE_SUFFIX;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::io::quantity::pluralize;
use crate::steps::home_checks::check_logins_allowed;
use crate::transfer::merge::ArchiveOutcome;
use crate::transfer::python_home::{self, ArchiveCopy, CopyPlan, CopyTarget};
use crate::ui::{Column, Table, bytes};
use crate::views::account::{printable, warn_all};
use crate::views::dry_run::would_be;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

const COLUMNS: [Column; 4] = [
    Column::new("ARCHIVE"),
    Column::new("MODE").rank(2),
    Column::new("SIZE").rank(3).number(),
    Column::new("OUTCOME").rank(1).shorten(8),
];

/// Copy the archives and the cooldown of a Python codex-manager into the manager home
///
/// Versions 1.x and 2.0 of that tool store them in ~/.codexmgr. Later versions use the manager home and
/// need no import. The source folder is not changed. Copies are identical; no archive is overwritten, and
/// a newer figure is never replaced by an older one. Running the command again copies only what is new.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config import-python --dry-run
  codex-manager config import-python
  codex-manager config import-python /mnt/old-disk/home/me/.codexmgr")]
pub(super) struct ImportPythonArgs {
    /// The home of the Python codex-manager [default: `$CODEXMGR_HOME`, else ~/.codexmgr]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Show what would be copied; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// The JSON document. Its keys are an interface.
#[derive(Serialize)]
struct ImportJson<'a> {
    source: &'a Path,
    #[serde(flatten)]
    plan: &'a CopyPlan,
    dry_run: bool,
}

impl ImportPythonArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let given = self.folder.as_ref().map(|dir| context.env.absolute(dir));
        let folder = given
            .or_else(|| python_home::default_folder(&context.env))
            .ok_or_else(|| {
                CommandError::usage("cannot find your home folder")
                    .hint("name the source folder: codex-manager config import-python DIR")
            })?;
        check_logins_allowed(context, &[context.manager_home()])?;
        let target = CopyTarget {
            manager_home: context.manager_home(),
            now: context.now(),
            zone: context.zone(),
        };
        let home = python_home::read(&folder, &target)?;
        warn_all(&context.ui, &home.warnings);
        let plan = if self.dry_run {
            python_home::plan(&home, &target)?
        } else {
            let bar = context.ui.bar("copying", 0);
            let report = python_home::apply(&home, &target, &bar)?;
            drop(bar);
            warn_all(&context.ui, &report.warnings);
            report.plan
        };
        self.show(context, &folder, &plan);
        if home.legacy_files > 0 {
            context.note(format_args!(
                "not copied: records of {} in its inventory.json; create them again with: codex-manager normalize DIR",
                pluralize(home.legacy_files, "legacy file")
            ));
        }
        Ok(Outcome::partial_if(!plan.left.is_empty()))
    }

    fn show(&self, context: &Context, folder: &Path, plan: &CopyPlan) {
        let ui = &context.ui;
        let json = ImportJson {
            source: folder,
            plan,
            dry_run: self.dry_run,
        };
        ui.document("config import-python", &json);
        if !plan.archives.is_empty() {
            Table::with_rows(ui, COLUMNS, plan.archives.iter().map(plan_row)).report(ui);
        }
        for left in &plan.left {
            ui.warn(format_args!(
                "not copied: {}: {}",
                printable(&left.name),
                left.reason
            ));
        }
        let done = would_be(self.dry_run);
        let added = plan.added().count();
        let archives = plan
            .added()
            .filter(|copy| copy.archive_bytes.is_some())
            .count();
        let copied = match added - archives {
            0 => pluralize(archives, "archive"),
            records => format!(
                "{} and {}",
                pluralize(archives, "archive"),
                pluralize(records, "record")
            ),
        };
        ui.report(format_args!(
            "{copied} {done}copied, {} already present; newer figures of {}",
            plan.archives.len() - added,
            pluralize(plan.accounts.len(), "account"),
        ));
        if !self.dry_run && added > 0 {
            ui.note(format_args!("nothing was changed in {}", folder.display()));
            ui.note("verify the copies: codex-manager verify --all");
        }
    }
}

fn plan_row(copy: &ArchiveCopy) -> [String; 4] {
    let short = |path: &str| printable(path.strip_suffix(ARCHIVE_SUFFIX).unwrap_or(path));
    let size = copy.archive_bytes.map_or("record".into(), bytes);
    let outcome = match copy.outcome {
        ArchiveOutcome::Added if copy.archive == copy.saved_as => "new".to_owned(),
        ArchiveOutcome::Added => format!("new, as {}", short(&copy.saved_as)),
        ArchiveOutcome::Present => "present".to_owned(),
    };
    [
        short(&copy.archive),
        copy.mode.name().to_owned(),
        size,
        outcome,
    ]
}
