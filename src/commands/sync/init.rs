//! `sync init`: writes a commented configuration.

use crate::choices::sync_config::{config_context, sync_command_line};
use crate::config::file_access;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::{atomic, machine};
use crate::sync::config::{SyncConfig, sanitize_machine_name};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Write a commented configuration
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync init --cloud ~/Dropbox/codex
  codex-manager sync init --output ~/sync.toml --force")]
pub(super) struct SyncInitArgs {
    /// Path of the new file [default: sync.toml in the manager home]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder that another program replicates; without it, asks on a terminal
    #[arg(long, value_name = "DIR")]
    cloud: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Print the configuration; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct InitJson<'a> {
    path: &'a Path,
    dry_run: bool,
}

impl SyncInitArgs {
    pub(super) fn run(self, context: &Context, default: &Path) -> Result<Outcome, CommandError> {
        let path = match &self.output {
            Some(path) => context.env.absolute(path),
            None => default.to_path_buf(),
        };
        if path.exists() && !self.force {
            let message = format!("the configuration exists already: {}", path.display());
            return Err(
                CommandError::usage(message).hint("replace it with --force; nothing was changed")
            );
        }
        let text = configuration_text(
            &self.resolve_cloud_folder(context)?,
            &sanitize_machine_name(
                &machine::name(&context.env).unwrap_or_else(|| "this-machine".into()),
            ),
        );
        // Validates before writing, so that no invalid file is created.
        SyncConfig::parse(&path, &text, &config_context(context))?;
        if self.dry_run {
            context.ui.line(text.trim_end());
        } else {
            atomic::create_private_folder(atomic::parent_of(&path))?;
            file_access::write(&path, &text)?;
            context.ui.prose(format_args!("wrote {}", path.display()));
            let preflight = sync_command_line(context, &path, "preflight");
            context.ui.note(format_args!("check it with: {preflight}"));
            context.ui.note(
                "conversations are copied as they are, with the secrets that were typed or printed in them; \
                 `codex-manager vault` keeps encrypted copies",
            );
        }
        let json = InitJson {
            path: &path,
            dry_run: self.dry_run,
        };
        context.ui.document("sync init", &json);
        Ok(Outcome::Done)
    }

    /// Returns the absolute path of the cloud folder, from the flag or from the user's answer.
    fn resolve_cloud_folder(&self, context: &Context) -> Result<PathBuf, CommandError> {
        let question = "folder that the cloud client replicates, such as ~/Dropbox/codex:";
        let answer = || context.ui.ask(question).map(PathBuf::from);
        match self.cloud.clone().or_else(answer) {
            Some(cloud) => Ok(context.env.absolute(&cloud)),
            None => Err(CommandError::usage("no cloud folder was given")
                .hint("name it with --cloud DIR; nothing was changed")),
        }
    }
}

/// Returns the text of a new configuration.
fn configuration_text(cloud: &Path, machine: &str) -> String {
    let cloud = cloud.to_string_lossy();
    let cloud = toml_edit::Value::from(&*cloud).to_string();
    let text = include_str!("template.toml");
    // The machine first: its name has no `<`.
    text.replace("<machine>", machine)
        .replace("\"<cloud>\"", &cloud)
}
