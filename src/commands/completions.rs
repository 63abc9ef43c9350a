//! `completions`: the script that lets a shell complete commands, accounts, profiles and archives.

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use clap::{Args, ValueEnum};
use clap_complete::env::Shells;
use serde_json::json;

/// The variable by which the script asks the program for candidates.
pub(crate) const VARIABLE: &str = "CODEX_MANAGER_COMPLETE";

/// Print the script that completes commands, accounts and archives
///
/// The script asks the program itself for candidates, which reads what it has at hand: it asks no
/// network. Load it where your shell starts, so that it fits the program that is installed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(codex-manager completions bash)                       # in ~/.bashrc
  source <(codex-manager completions zsh)                        # in ~/.zshrc, after compinit
  codex-manager completions fish | source                        # in config.fish
  codex-manager completions powershell | Out-String | Invoke-Expression")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: CompletionShell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompletionShell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl CompletionShell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Elvish => "elvish",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Zsh => "zsh",
        }
    }
}

impl CompletionsArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let shell = self.shell.name();
        let script = script(self.shell)
            .map_err(|e| CommandError::failed(format!("no script for {shell}")).because(e))?;
        context.ui.line(script.trim_end());
        context
            .ui
            .document("completions", &json!({ "shell": shell, "script": script }));
        Ok(Outcome::Done)
    }
}

fn script(shell: CompletionShell) -> std::io::Result<String> {
    const NAME: &str = "codex-manager";
    let mut script = Vec::new();
    if let Some(completer) = Shells::builtins().completer(shell.name()) {
        completer.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
    }
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if matches!(shell, CompletionShell::Bash) {
        // bash cuts words at @ for host names; an email is one word.
        script.insert_str(0, "COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}\n");
    }
    Ok(script)
}
