//! `config edit`: opens `config.toml` in the user's editor.

use crate::config::file::ConfigFile;
use crate::config::{FILE_NAME, file_access};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use clap::Args;
use codex_manager_core::io::{Environment, IoContext, atomic, file_open};
use serde_json::json;
use std::path::Path;

/// Edit config.toml in your editor; the result is saved only if it is valid
///
/// The editor is $VISUAL, else $EDITOR. An invalid result is kept beside the file.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config edit
  EDITOR='code --wait' codex-manager config edit")]
pub(super) struct ConfigEditArgs {
    /// Check the result; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Opens a copy of `config.toml` in the editor, then replaces the file with it.
///
/// # Errors
/// No editor is set or it fails, the result is invalid, or another command changed the file in the meantime. A rejected
/// result is saved beside the file, except in a dry run.
pub(super) fn edit_config(context: &Context, args: &ConfigEditArgs) -> Result<Outcome> {
    let home = context.manager_home();
    let path = ConfigFile::path_in(home);
    let mut editors = ["VISUAL", "EDITOR"].iter();
    let editor = editors.find_map(|name| context.env.text(name));
    let editor = editor.ok_or_else(|| {
        CommandError::usage("no editor is set").hint(format!(
            "set EDITOR, or edit the file by hand: {}",
            path.display()
        ))
    })?;

    // A link without a target is refused before the user edits in vain.
    file_access::resolve_link_target(&path)?;
    let original = file_access::read_text_or_empty(&path)?;

    // The editor gets a copy, so that an invalid text never replaces the settings.
    let parent = context.env.temp_dir();
    let folder = tempfile::tempdir_in(&parent).at("create a folder in", &parent)?;
    let copy_path = folder.path().join(FILE_NAME);
    atomic::write(&copy_path, original.as_bytes())?;
    run_editor(editor, &copy_path, &context.env)?;
    let edited = file_open::read_to_string(&copy_path).at("read", &copy_path)?;

    let dry_run = args.dry_run;
    if edited == original {
        context.ui.line("nothing was changed");
    } else {
        let parsed = ConfigFile::parse(path.clone(), &edited);
        // `parse` does not check the values: a text can be TOML and still have an invalid value.
        let file = match parsed.and_then(|file| file.validate().map(|_| file)) {
            Ok(file) => file,
            Err(e) if dry_run => return Err(e.into()),
            Err(e) => return Err(keep_rejected_copy(&path, &copy_path, e.into())?),
        };
        context.warn_of_unknown_keys(&file.unknown_keys());

        if !dry_run && !file_access::replace_if_unchanged(home, &original, &file)? {
            let message = "another command changed the settings in the meantime";
            let conflict = CommandError::conflict(message);
            return Err(keep_rejected_copy(&path, &copy_path, conflict)?);
        }
        let done = if dry_run { "is valid" } else { "was replaced" };
        context.ui.prose(format_args!("{} {done}", path.display()));
    }

    let changed = edited != original && !dry_run;
    let json = json!({ "path": path.to_string_lossy(), "changed": changed, "dry_run": dry_run });
    context.ui.document("config edit", &json);
    Ok(Outcome::Done)
}

/// Saves a rejected text beside the file and adds its path to the error.
fn keep_rejected_copy(path: &Path, copy_path: &Path, error: CommandError) -> Result<CommandError> {
    let rejected_path = path.with_file_name("config.rejected.toml");
    let text = file_open::read(copy_path).at("read", copy_path)?;
    atomic::write(&rejected_path, &text)?;
    Ok(error.hint(format!(
        "the settings were not changed; your version is saved as {}",
        rejected_path.display()
    )))
}

/// Runs the editor on `file`. On Unix the shell runs it, because `EDITOR` is a command of the shell.
fn run_editor(editor: &str, file: &Path, env: &Environment) -> Result<()> {
    let cannot_run = || CommandError::failed(format!("cannot run the editor: {editor}"));

    // EDITOR may have flags and quotes, such as `code --wait`. Only a shell splits these as the user expects.
    let mut command = if cfg!(windows) {
        env.parse_command(editor).ok_or_else(cannot_run)?
    } else {
        let shell = env.find_program(Path::new("sh"));
        let mut command = env.command(&shell.unwrap_or_else(|| "/bin/sh".into()));
        // The shell gets the path as `$1`, so that it does not split a path with spaces.
        command.args(["-c", &format!("{editor} \"$1\""), "sh"]);
        command
    };

    let status = command.arg(file).status();
    let status = status.map_err(|e| cannot_run().because(e))?;
    if status.success() {
        return Ok(());
    }

    let error = CommandError::failed(format!("the editor failed ({status}): {editor}"));
    Err(error.hint("the settings were not changed"))
}
