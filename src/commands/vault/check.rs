//! `vault check`: checks the repository with restic.

use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{Style, object};
use clap::Args;
use codex_manager_core::vault::VaultError;
use codex_manager_core::vault::fault::Fault;

/// Check the vault
///
/// restic checks the structure of the repository. With --read-data it also downloads and checks all
/// data.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault check
  codex-manager vault check --read-data")]
pub(super) struct VaultCheckArgs {
    /// Download and check all data
    #[arg(long)]
    read_data: bool,
}

impl VaultCheckArgs {
    pub(super) fn run(self, context: &Context, connection: &ConnectionArgs) -> Result<Outcome> {
        let restic = connection.open(context)?;
        let mut args = vec!["check"];
        if self.read_data {
            args.push("--read-data");
        }

        // restic fails if it finds damage; a failure of unknown kind (`Other`) counts as damage. Known other failures,
        // such as an unreachable repository, are errors of the command.
        let problems = match restic.run(&args) {
            Ok(_) => Vec::new(),
            Err(VaultError::Restic {
                fault: Fault::Damaged | Fault::Other,
                reason,
                ..
            }) => vec![reason.0],
            Err(e) => return Err(e.into()),
        };

        let ui = &context.ui;
        let is_intact = problems.is_empty();
        if is_intact {
            let extent = if self.read_data {
                "all data was read and is intact"
            } else {
                "the structure is intact; --read-data also checks the data"
            };
            ui.report(format_args!("{}: {extent}", ui.paint(Style::Good, "ok")));
        }

        for problem in &problems {
            ui.prose(format_args!(
                "{}: {problem}",
                ui.paint(Style::Bad, "damaged")
            ));
        }
        if !is_intact {
            ui.note("how to repair it with restic: https://restic.readthedocs.io/en/stable/077_troubleshooting.html");
        }

        let json = object()
            .with("repository", restic.location())
            .with("ok", is_intact)
            .with("read_data", self.read_data)
            .with("problems", problems);
        ui.document("vault check", &json);
        Ok(Outcome::passed_if(is_intact))
    }
}
