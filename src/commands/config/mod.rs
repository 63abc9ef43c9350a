//! `config`: the settings of `config.toml`.

mod edit;
mod import_python;
mod settings;

use self::edit::ConfigEditArgs;
use self::import_python::ImportPythonArgs;
use self::settings::{ConfigGetArgs, ConfigListArgs, ConfigSetArgs, ConfigUnsetArgs};
use crate::config::file::ConfigFile;
use crate::context::Context;
use crate::error::{Outcome, Result};
use clap::{Args, Subcommand};
use serde_json::json;

/// Show and change settings
///
/// Settings are stored in config.toml of the manager home. Flags take precedence over the environment,
/// then come the file and the default. For the time zone the file takes precedence over TZ.
///
/// folders.PATH is the profile that launch uses in a folder and everything below it. PATH is absolute or
/// begins with ~; the longest matching PATH wins.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager config list
  codex-manager config set prune.keep_daily 7
  codex-manager config set backup.exclude '[\"logs_*.sqlite\", \"*.tmp\"]'
  codex-manager config set folders.~/clients/acme acme
  codex-manager config unset timezone")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    List(ConfigListArgs),
    Get(ConfigGetArgs),
    Set(ConfigSetArgs),
    Unset(ConfigUnsetArgs),
    /// Print the path of config.toml
    #[command(after_help = "Examples:
  codex-manager config path")]
    Path,
    Edit(ConfigEditArgs),
    ImportPython(ImportPythonArgs),
}

impl ConfigArgs {
    /// # Errors
    /// An unknown setting, an invalid value, a file that is not TOML, or no editor. The file is unchanged
    /// then.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        match self.command {
            ConfigCommand::List(args) => settings::print_settings(context, &args),
            ConfigCommand::Get(args) => settings::print_setting(context, &args),
            ConfigCommand::Set(args) => settings::set_setting(context, &args),
            ConfigCommand::Unset(args) => settings::unset_setting(context, &args),
            ConfigCommand::Path => {
                let path = ConfigFile::path_in(context.manager_home());
                context.ui.line(path.display());
                let json = json!({ "path": path.to_string_lossy() });
                context.ui.document("config path", &json);
                Ok(Outcome::Done)
            }
            ConfigCommand::Edit(args) => edit::edit_config(context, &args),
            ConfigCommand::ImportPython(args) => args.run(context),
        }
    }
}
