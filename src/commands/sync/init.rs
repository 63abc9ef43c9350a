//! `sync init`: writes a commented configuration.

use crate::choices::sync_config::{config_context, format_sync_command, replica};
use crate::choices::vault_connection::ConnectionArgs;
use crate::config::file_access;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::object;
use clap::Args;
use codex_manager_core::io::settings::SettingsFile;
use codex_manager_core::io::{atomic, file_open, machine};
use codex_manager_core::sync::config::{SyncConfig, SyncRemote, sanitize_machine_name};
use codex_manager_core::vault::VaultError;
use std::path::{Path, PathBuf};

/// Write a commented configuration
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync init --cloud ~/Dropbox/codex
  codex-manager sync init --vault
  codex-manager sync init --output ~/sync.toml --force")]
pub(super) struct SyncInitArgs {
    /// Path of the new file [default: sync.toml in the manager home]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder that another program replicates; without it, asks on a terminal
    #[arg(long, value_name = "DIR")]
    cloud: Option<PathBuf>,
    /// Sync through the vault, encrypted; continues what this machine synced through a folder
    #[arg(long, conflicts_with = "cloud")]
    vault: bool,
    /// Replace an existing file; its copy gets the suffix .bak
    #[arg(long)]
    force: bool,
    /// Print the configuration; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl SyncInitArgs {
    pub(super) fn run(self, context: &Context, default_path: &Path) -> Result<Outcome> {
        let path = match &self.output {
            Some(path) => context.env.absolute(path),
            None => default_path.to_path_buf(),
        };
        let folder_config = self.read_folder_config(context, &path);

        if path.exists() && !self.force && folder_config.is_none() {
            let message = format!("the configuration exists already: {}", path.display());
            return Err(
                CommandError::usage(message).hint("replace it with --force; nothing was changed")
            );
        }

        let mut text = match &folder_config {
            Some((_, text)) => text.clone(),
            None => self.build_text(context)?,
        };
        if self.vault {
            text = set_vault_remote(context, &path, &text)?;
        }

        // Validates before writing, so that no invalid file is created.
        let config = SyncConfig::parse(&path, &text, &config_context(context))?;

        if self.dry_run {
            context.ui.line(text.trim_end());
        } else {
            if let Some((old_config, _)) = &folder_config {
                // Before the configuration is written: without the earlier state, a sync would undo deletions on this
                // machine.
                replica(context, &config).continue_from(&replica(context, old_config))?;
            }
            self.write_configuration(context, &path, &text)?;
        }

        let json = object().with("path", &path).with("dry_run", self.dry_run);
        context.ui.document("sync init", &json);
        Ok(Outcome::Done)
    }

    /// Writes the configuration. With `--force`, keeps a copy of a replaced file that differs.
    fn write_configuration(&self, context: &Context, path: &Path, text: &str) -> Result<()> {
        let ui = &context.ui;
        atomic::create_private_folder(atomic::parent_of(path))?;
        let is_unchanged =
            || file_open::read_to_string(path).is_ok_and(|old_text| old_text == text);
        if self.force && path.exists() && !is_unchanged() {
            let copy = atomic::keep_copy(path, ".bak")?;
            ui.note(format_args!("the old settings are in {}", copy.display()));
        }
        file_access::write(path, text)?;
        ui.prose(format_args!("wrote {}", path.display()));
        let preflight = format_sync_command(context, path, "preflight");
        ui.note(format_args!("check it with: {preflight}"));

        if !self.vault {
            ui.note(
                "conversations are copied as they are, with the secrets that were typed or printed in them; \
                 `codex-manager vault` keeps encrypted copies",
            );
        }
        Ok(())
    }

    /// Returns the configuration in `path`, with its text, if `--vault` changes it from a cloud folder to the vault.
    /// `None` with `--force`, and if `path` is no valid configuration.
    fn read_folder_config(&self, context: &Context, path: &Path) -> Option<(SyncConfig, String)> {
        if !self.vault || self.force {
            return None;
        }
        let text = file_open::read_to_string(path).ok()?;
        let config = SyncConfig::parse(path, &text, &config_context(context)).ok()?;
        (config.remote == SyncRemote::Folder).then_some((config, text))
    }

    fn build_text(&self, context: &Context) -> Result<String> {
        let machine = machine::read_name(&context.env).unwrap_or_else(|| "this-machine".into());
        let cloud = if self.vault {
            // `set_vault_remote` removes the setting.
            PathBuf::new()
        } else {
            self.resolve_cloud_folder(context)?
        };
        let machine = sanitize_machine_name(&machine);
        Ok(format_configuration(&cloud, &machine))
    }

    /// Returns the absolute path of the cloud folder, from the flag or from the user's answer.
    fn resolve_cloud_folder(&self, context: &Context) -> Result<PathBuf> {
        let question = "folder that the cloud client replicates, such as ~/Dropbox/codex:";
        let ask_folder = || context.ui.ask(question).map(PathBuf::from);
        match self.cloud.clone().or_else(ask_folder) {
            Some(cloud) => Ok(context.env.absolute(&cloud)),
            None => Err(CommandError::usage("no cloud folder was given")
                .hint("name it with --cloud DIR; nothing was changed")),
        }
    }
}

/// Returns the text of a configuration with the vault as the remote.
///
/// # Errors
/// No vault is configured, or the text is invalid.
fn set_vault_remote(context: &Context, path: &Path, text: &str) -> Result<String> {
    if ConnectionArgs::default().repository_url(context).is_none() {
        return Err(VaultError::NotConfigured.into());
    }
    let mut file = SettingsFile::parse(path.to_path_buf(), text)?;
    file.unset("paths.cloud_root_dir");
    file.set("sync.remote", "vault".into())?;
    Ok(file.text())
}

fn format_configuration(cloud: &Path, machine: &str) -> String {
    let cloud = cloud.to_string_lossy();
    let cloud = toml_edit::Value::from(&*cloud).to_string();
    let template = include_str!("template.toml");
    // The machine first: its name has no `<`, but the path of the folder may contain `<machine>`.
    template
        .replace("<machine>", machine)
        .replace("\"<cloud>\"", &cloud)
}
