//! `config import-python`: copies the archives and the cooldown of a Python codex-manager.

use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::check_logins_allowed;
use crate::views::account::warn_all;
use crate::views::dry_run::would_be;
use crate::views::left_out::warn_not_transferred;
use clap::Args;
use codex_manager_core::io::pluralize;
use codex_manager_core::transfer::python_home::{self, CopyPlan, CopyTarget};
use serde::Serialize;
use std::path::{Path, PathBuf};

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
        let named_folder = self.folder.as_ref().map(|dir| context.env.absolute(dir));
        let folder = named_folder
            .or_else(|| python_home::default_folder(&context.env))
            .ok_or_else(|| {
                CommandError::usage("cannot find your home folder")
                    .hint("name the source folder: codex-manager config import-python DIR")
            })?;

        // The archives contain logins, which other users must not be able to read.
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
            let bar = context.ui.growing_bar("copying");
            let (plan, warnings) = python_home::apply(&home, &target, &bar)?;
            warn_all(&context.ui, &warnings);
            plan
        };

        self.show_copies(context, &folder, &plan);
        Ok(Outcome::partial_if(!plan.left.is_empty()))
    }

    fn show_copies(&self, context: &Context, folder: &Path, plan: &CopyPlan) {
        let ui = &context.ui;
        let json = ImportJson {
            source: folder,
            plan,
            dry_run: self.dry_run,
        };
        ui.document("config import-python", &json);

        warn_not_transferred(ui, "copied", &plan.left);

        let would_be_text = would_be(self.dry_run);
        let added_count = plan.added().count();
        ui.report(format_args!(
            "archives and records: {added_count} {would_be_text}copied, {} already present; newer figures of {}",
            plan.archives.len() - added_count,
            pluralize(plan.accounts.len(), "account"),
        ));
        if !self.dry_run && added_count > 0 {
            ui.note(format_args!("nothing was changed in {}", folder.display()));
            ui.note("verify the copies: codex-manager verify --all");
        }
    }
}
