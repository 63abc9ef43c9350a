//! `--format` of the commands that print a table.

use crate::context::Context;
use crate::error::{CommandError, Result};
use clap::{Args, ValueEnum};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableFormat {
    /// Tab-separated values below a line of column names
    Tsv,
}

/// The form of the table on stdout.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct TableArgs {
    /// Print the table for scripts: all columns, exact values
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<TableFormat>,
}

impl TableArgs {
    /// Returns the context with a printer for this form.
    ///
    /// # Errors
    /// The user asks for JSON too.
    pub(crate) fn apply(self, context: &Context) -> Result<Context> {
        if self.format.is_some() && context.ui.wants_json() {
            return Err(CommandError::usage(
                "--format and --json exclude each other",
            ));
        }
        let ui = match self.format {
            Some(TableFormat::Tsv) => context.ui.with_tsv(),
            None => context.ui.clone(),
        };
        Ok(Context {
            ui,
            ..context.clone()
        })
    }
}
