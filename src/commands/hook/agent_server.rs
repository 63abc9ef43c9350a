//! `hook mcp` and `hook plugin`: add the server of past conversations to Codex.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::this_program;
use codex_manager_core::io::{IoContext as _, atomic, shell};
use serde_json::{Value, json};
use std::path::Path;

/// The name of the server, of the plugin, and of the marketplace with this one plugin.
const NAME: &str = "codex-manager";

const MARKETPLACE: &str = include_str!("plugin/marketplace.json");
const MANIFEST: &str = include_str!("plugin/plugin.json");
const SKILL: &str = include_str!("plugin/SKILL.md");

/// Returns the arguments of the server. Homes that are not the default ones are arguments, because Codex 0.169 passes
/// neither `CODEX_HOME` nor `CODEX_MANAGER_HOME` to a server.
fn list_server_arguments(context: &Context) -> Vec<String> {
    let mut arguments = Vec::new();
    for (flag, name, home) in [
        ("--codex-home", ".codex", context.codex_home()),
        ("--manager-home", ".codex-manager", context.manager_home()),
    ] {
        let user_home = context.env.home_dir.as_ref();
        let default_home = user_home.map(|folder| folder.join(name));
        if default_home.as_deref() != Some(home) {
            arguments.extend([flag.to_owned(), home.to_string_lossy().into_owned()]);
        }
    }

    arguments.push("mcp".to_owned());
    arguments
}

/// Returns the block of `config.toml` that adds the server, with the command that writes it as a comment.
///
/// # Errors
/// The path of this program is unknown.
pub(super) fn format_config_block(context: &Context) -> Result<String> {
    let program = this_program::name_of_this_program(context)?;
    let arguments = list_server_arguments(context);
    let words: Vec<_> = arguments
        .iter()
        .map(|word| shell::quote_if_needed(word))
        .collect();

    // A list of strings in JSON is also valid TOML.
    let list = Value::from(arguments).to_string();
    Ok(format!(
        "# The same as: codex mcp add {NAME} -- {} {}\n\
         [mcp_servers.{NAME}]\ncommand = {}\nargs = {list}\n",
        shell::quote_if_needed(&program),
        words.join(" "),
        Value::from(program.as_str())
    ))
}

/// Writes a marketplace with the plugin into `folder`, and overwrites the files of an earlier plugin. Returns the
/// commands that install the plugin. With `dry_run`, only returns the commands.
///
/// # Errors
/// The folder has other files, or cannot be written.
pub(super) fn write_plugin(folder: &Path, dry_run: bool, context: &Context) -> Result<String> {
    let plugin_folder = folder.join("plugins").join(NAME);
    let manifest = plugin_folder.join(".codex-plugin/plugin.json");

    // The manifest of an earlier plugin shows that its files may be overwritten.
    let has_files = folder
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some());
    if has_files && !manifest.is_file() {
        let folder = folder.display();
        let message = format!("the folder has other files; nothing was written: {folder}");
        return Err(CommandError::refused(message).hint("name a new folder"));
    }

    let program = this_program::name_of_this_program(context)?;
    let server = json!({"command": program, "args": list_server_arguments(context)});
    let servers = json!({"mcpServers": {NAME: server}});
    let manifest_text = MANIFEST.replace("VERSION", env!("CARGO_PKG_VERSION"));
    let skill = plugin_folder.join("skills/past-conversations/SKILL.md");
    let files = [
        (
            folder.join(".agents/plugins/marketplace.json"),
            MARKETPLACE.to_owned(),
        ),
        (plugin_folder.join(".mcp.json"), format!("{servers:#}\n")),
        (skill, SKILL.to_owned()),
        (manifest, manifest_text),
    ];

    if !dry_run {
        for (path, text) in files {
            let parent = atomic::parent_of(&path);
            std::fs::create_dir_all(parent).at("create folder", parent)?;
            atomic::write_shared(&path, text.as_bytes())?;
        }
    }

    let folder = shell::quote_if_needed(&folder.to_string_lossy());
    Ok(format!(
        "codex plugin marketplace add {folder}\ncodex plugin add {NAME}@{NAME}\n"
    ))
}
