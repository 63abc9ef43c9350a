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
        let mut context = context.clone();
        if let Some(TableFormat::Tsv) = self.format {
            if context.ui.wants_json() {
                let message = "--format and --json exclude each other";
                return Err(CommandError::usage(message));
            }
            context.ui = context.ui.with_tsv();
        }
        Ok(context)
    }
}
