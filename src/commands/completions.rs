//! `completions`: prints the script that makes a shell complete commands, accounts, profiles and
//! archives.

use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use clap::Args;
use clap_complete::Shell;
use clap_complete::env::Shells;
use serde_json::json;

/// The environment variable with which the script requests candidates from the program.
pub(crate) const VARIABLE: &str = "CODEX_MANAGER_COMPLETE";

/// Print the script that completes commands, accounts and archives
///
/// The script gets its candidates from the program, which reads local files and makes no network
/// connections. Load it in your shell's startup file, so that it always matches the installed version.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(codex-manager completions bash)        # in ~/.bashrc
  source <(codex-manager completions zsh)         # in ~/.zshrc, after compinit
  codex-manager completions fish | source         # in config.fish
  codex-manager completions powershell | Out-String | Invoke-Expression")]
pub(crate) struct CompletionsArgs {
    /// The shell to complete in
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script.
    ///
    /// # Errors
    /// clap cannot generate the script.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let shell = self.shell.to_string();
        let script = generate_script(self.shell).map_err(|e| {
            CommandError::failed(format!("cannot generate the script for {shell}")).because(e)
        })?;
        context.ui.line(script.trim_end());
        let json = json!({ "shell": shell, "script": script });
        context.ui.document("completions", &json);
        Ok(Outcome::Done)
    }
}

fn generate_script(shell: Shell) -> std::io::Result<String> {
    const NAME: &str = "codex-manager";
    let mut script_bytes = Vec::new();

    // The name to complete, the command and the completer are this program. The script calls it for each completion, so
    // the script stays correct after an update.
    if let Some(completer) = Shells::builtins().completer(&shell.to_string()) {
        completer.write_registration(VARIABLE, NAME, NAME, NAME, &mut script_bytes)?;
    }

    let mut script = String::from_utf8_lossy(&script_bytes).into_owned();
    if shell == Shell::Bash {
        // bash splits words at @ (for host names), which would split email addresses.
        script.insert_str(0, "COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}\n");
    }
    Ok(script)
}
