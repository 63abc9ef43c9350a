//! `hook`: prints shell code that shows the account in the prompt, or that starts Codex
//! under the account of the folder; and how agents reach past conversations.

mod agent_server;
mod wrap;

use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::recommend_template::Template;
use crate::steps::this_program;
use chrono::Duration;
use clap::{Args, ValueEnum};
use codex_manager_core::io::settings::choice_name;
use codex_manager_core::io::shell;
use codex_manager_core::io::time_format::parse_duration;
use serde_json::json;
use std::path::PathBuf;

/// Print shell code that shows the live account in the prompt
///
/// The prompt reads a small local file: `work 12 %`, or `work 12 % → personal 88 %` if another account has
/// clearly more quota left. With a --format without {prompt} it shows the recommended account, and nothing
/// if none is ready. In a shell, the quota is
/// queried in the background when the figures are older than --every; tmux and starship only show them.
///
/// With --wrap, prints a function `codex` instead, which starts Codex under the account of the folder
/// (see folders.PATH in config --help). The function exists for bash, fish, powershell and zsh.
///
/// Three values of SHELL let Codex look up past conversations: `mcp` prints the entry of config.toml for the server of
/// `codex-manager mcp`, `plugin` writes a plugin with the server and a skill to DIR and prints how to install it, and
/// `agents` prints instructions for AGENTS.md that need no server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  eval \"$(codex-manager hook bash)\"            # in ~/.bashrc
  eval \"$(codex-manager hook zsh)\"             # in ~/.zshrc
  codex-manager hook fish | source             # in config.fish
  eval \"$(codex-manager hook bash --wrap)\"     # the account of each folder
  codex-manager hook powershell | Out-String | Invoke-Expression
  codex-manager hook mcp >> ~/.codex/config.toml
  codex-manager hook plugin ~/.codex-manager-plugin
  codex-manager hook agents >> ~/.codex/AGENTS.md
  codex-manager hook tmux >> ~/.tmux.conf
  codex-manager hook starship >> ~/.config/starship.toml")]
pub(crate) struct HookArgs {
    /// The shell or program that draws the prompt, or `agents`, `mcp` or `plugin`
    #[arg(value_name = "SHELL")]
    shell: HookShell,
    /// With `plugin`: the folder to write, a new one or that of an earlier plugin
    #[arg(value_name = "DIR", required_if_eq("shell", "plugin"))]
    folder: Option<PathBuf>,
    /// With `plugin`: print the commands; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print the function `codex` for the account of each folder instead of the prompt
    #[arg(long, conflicts_with_all = ["every", "format"])]
    wrap: bool,
    /// Query the quota when the figures are older than this
    #[arg(long, value_name = "DURATION", default_value = "30min", value_parser = parse_duration)]
    every: Duration,
    /// The text to show; its fields are listed in recommend --help
    #[arg(long, value_name = "TEMPLATE", default_value = "{prompt}")]
    format: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum HookShell {
    Agents,
    Bash,
    Fish,
    Mcp,
    Plugin,
    Powershell,
    Starship,
    Tmux,
    Zsh,
}

// The query starts in a subshell, so that bash prints no job messages. The names keep a default for `set -u`.
const BASH: &str = r#"# The account and its quota, from codex-manager's cache, in front of the prompt.
_codex_manager_prompt() {
  local _codex_manager_code=$?
  CODEX_MANAGER_PROMPT=$(command PROGRAM recommend --ready-only --format FORMAT 2>/dev/null) ||
    CODEX_MANAGER_PROMPT=
  if [ "${SECONDS:-0}" -ge "${_codex_manager_next:-0}" ]; then
    _codex_manager_next=$((SECONDS + EVERY))
    (command PROGRAM status --quiet --if-older EVERYs </dev/null >/dev/null 2>&1 &)
  fi
  # At each prompt, because other code may set PS1.
  case "${PS1-}" in
    *CODEX_MANAGER_PROMPT*) ;;
    *) PS1='${CODEX_MANAGER_PROMPT:+[$CODEX_MANAGER_PROMPT] }'"${PS1-}" ;;
  esac
  return $_codex_manager_code
}
case "${PROMPT_COMMAND[*]-}" in
  *_codex_manager_prompt*) ;;
  *)
    if [ "$((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1]))" -ge 501 ]; then
      # bash gives each element the exit codes of the last command. Other code may use the first one.
      PROMPT_COMMAND[0]=${PROMPT_COMMAND[0]-}
      PROMPT_COMMAND+=(_codex_manager_prompt)
    else
      PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND$'\n'}_codex_manager_prompt"
    fi
    ;;
esac
"#;

// zsh shows an element of `psvar` as it is. In PROMPT itself it expands percent signs, and with `prompt_subst`, which
// belongs to the user, also commands.
const ZSH: &str = r#"# The account and its quota, from codex-manager's cache, in front of the prompt.
_codex_manager_prompt() {
  emulate -L zsh
  CODEX_MANAGER_PROMPT=$(command PROGRAM recommend --ready-only --format FORMAT 2>/dev/null) ||
    CODEX_MANAGER_PROMPT=
  psvar[40]=${CODEX_MANAGER_PROMPT:+"[$CODEX_MANAGER_PROMPT] "}
  if (( SECONDS >= ${_codex_manager_next:-0} )); then
    _codex_manager_next=$(( SECONDS + EVERY ))
    (command PROGRAM status --quiet --if-older EVERYs </dev/null >/dev/null 2>&1 &)
  fi
  # At each prompt, because other code may set PROMPT.
  [[ ${PROMPT-} == *%40v* ]] || PROMPT="%40v${PROMPT-}"
}
if [[ -z ${precmd_functions[(r)_codex_manager_prompt]:-} ]]; then
  precmd_functions+=(_codex_manager_prompt)
fi
"#;

// fish asks before it closes while a job runs, unless the job is disowned. The job may have ended already.
const FISH: &str = r#"# The account and its quota, from codex-manager's cache, in front of the prompt.
function _codex_manager_prompt --on-event fish_prompt
  set -g CODEX_MANAGER_PROMPT (command PROGRAM recommend --ready-only --format FORMAT 2>/dev/null)
  or set -g CODEX_MANAGER_PROMPT
  set -l now (command date +%s)
  if not set -q _codex_manager_next; or test $now -ge $_codex_manager_next
    set -g _codex_manager_next (math $now + EVERY)
    command PROGRAM status --quiet --if-older EVERYs </dev/null >/dev/null 2>&1 &
    disown 2>/dev/null
  end
end
if not functions -q _codex_manager_prompt_before
  functions -q fish_prompt; and functions -c fish_prompt _codex_manager_prompt_before
  or function _codex_manager_prompt_before; printf '> '; end
  function fish_prompt
    # The old prompt runs first: it may show the exit status of the last command.
    set -l before (_codex_manager_prompt_before)
    if test -n "$CODEX_MANAGER_PROMPT"
      printf '[%s] ' $CODEX_MANAGER_PROMPT
    end
    printf '%s' (string join -- \n $before | string collect)
  end
end
"#;

// The prompt calls programs, which would change the LASTEXITCODE that the user sees.
const POWERSHELL: &str = r#"# The account and its quota, from codex-manager's cache, in front of the prompt.
if (-not (Test-Path variable:global:CodexManagerPromptBefore)) {
  $global:CodexManagerPromptBefore = $function:prompt
  $global:CodexManagerNext = [DateTime]::MinValue
  function global:prompt {
    $code = $global:LASTEXITCODE
    $account = & PROGRAM recommend --ready-only --format FORMAT 2>$null
    if ($LASTEXITCODE -eq 0 -and $account) { Write-Host -NoNewline "[$account] " }
    if ([DateTime]::UtcNow -ge $global:CodexManagerNext) {
      $global:CodexManagerNext = [DateTime]::UtcNow.AddSeconds(EVERY)
      $null = Start-Job { & PROGRAM status --quiet --if-older EVERYs 2>&1 | Out-Null }
    }
    $global:LASTEXITCODE = $code
    & $global:CodexManagerPromptBefore
  }
}
"#;

// The lines are safe to run twice, because users reload the file with source-file. The default length of the right
// side, 40, would truncate the account or its figure.
const TMUX: &str = r##"# The account and its quota, from codex-manager's cache, on the right side.
set -g @codex_manager " #(PROGRAM recommend --ready-only --format FORMAT 2>/dev/null)"
if -F "#{m:*@codex_manager*,#{status-right}}" "" "set -ag status-right '#{E:@codex_manager}'"
# Widens the right side if its length has two digits, as the default of 40 has.
if -F "#{m:??,#{status-right-length}}" "set -g status-right-length 120"
"##;

// Without `when`, starship never runs the command of a custom module.
const STARSHIP: &str = r#"# The account and its quota, from codex-manager's cache. Nothing is shown when there is none.
[custom.codex]
command = """PROGRAM recommend --ready-only --format FORMAT"""
when = true
format = '[\[$output\]]($style) '
"#;

// At most ten lines, because a model reads them in every conversation.
const AGENTS: &str = r#"## Past conversations

Before you solve a problem anew or ask what was decided, search past conversations:
- `codex-manager find --json --limit 5 WORDS` prints `hits[]` with `session_id`, `title`, `turn` and `snippet`.
  With a `relaxation`, none has all words. `"two words"` is a phrase. `--here`: this folder. Exit code 5: nothing found.
- `codex-manager show --format md --max-bytes 20000 --turn N SESSION` prints the turn of a hit. Without
  `--turn N` it prints the conversation from its beginning.

Use other words before you give up. Do not quote tokens or keys that you find.
"#;

impl HookArgs {
    /// # Errors
    /// --every is less than one minute, --format is invalid, --wrap is given for a program without shell functions, a
    /// folder is given without `plugin`, or the plugin cannot be written.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let snippet = match (self.shell, &self.folder) {
            _ if self.wrap => self.format_wrap_function(context)?,
            (HookShell::Plugin, Some(folder)) => {
                let folder = context.env.absolute(folder);
                agent_server::write_plugin(&folder, self.dry_run, context)?
            }
            (_, Some(_)) => return Err(CommandError::usage("DIR is only for hook plugin")),
            (HookShell::Mcp, None) => agent_server::format_config_block(context)?,
            (_, None) => self.format_prompt_code(context)?,
        };

        let shell = choice_name(&self.shell);
        context.ui.line(snippet.trim_end());
        let document = json!({ "shell": shell, "snippet": snippet, "dry_run": self.dry_run });
        context.ui.document("hook", &document);
        Ok(Outcome::Done)
    }

    /// Returns the shell function `codex` of `--wrap`.
    fn format_wrap_function(&self, context: &Context) -> Result<String> {
        let code = match self.shell {
            HookShell::Bash => wrap::BASH.to_owned(),
            HookShell::Fish => wrap::FISH.to_owned(),
            HookShell::Powershell => wrap::POWERSHELL.to_owned(),
            // zsh has no `type -P`.
            HookShell::Zsh => wrap::BASH.replace("type -P", "whence -p"),
            _ => {
                let error = CommandError::usage("--wrap needs a shell with functions");
                return Err(error.hint("choose bash, fish, powershell or zsh"));
            }
        };
        Ok(code.replace("PROGRAM", &self.quote_program(context)?))
    }

    /// Returns the code that shows the account in the prompt, or the instructions for agents.
    fn format_prompt_code(&self, context: &Context) -> Result<String> {
        let code = match self.shell {
            // `run` has already handled `mcp` and `plugin`. The options of a prompt do not apply to instructions.
            HookShell::Agents | HookShell::Mcp | HookShell::Plugin => return Ok(AGENTS.to_owned()),
            HookShell::Bash => BASH,
            HookShell::Zsh => ZSH,
            HookShell::Fish => FISH,
            HookShell::Powershell => POWERSHELL,
            HookShell::Starship => STARSHIP,
            HookShell::Tmux => TMUX,
        };

        if self.every < Duration::minutes(1) {
            return Err(CommandError::usage("--every is less than one minute"));
        }
        let template = Template::parse(&self.format)?;
        if self.format.chars().any(char::is_control) {
            return Err(CommandError::usage("--format contains a control character"));
        }

        // `{prompt}` shows the live account even if no account is ready, when `--ready-only` would print nothing.
        let code = if template.shows_better_account() {
            code.replace(" --ready-only", "")
        } else {
            code.to_owned()
        };

        // The texts of the user are inserted last, so that nothing is replaced in them.
        let every = self.every.num_seconds().to_string();
        let format = self.quote(&self.format);
        let parts = code
            .split("PROGRAM")
            .map(|part| part.replace("EVERY", &every).replace("FORMAT", &format));
        let parts: Vec<_> = parts.collect();
        Ok(parts.join(&self.quote_program(context)?))
    }

    /// Returns the name or path of this program as a word of the shell.
    fn quote_program(&self, context: &Context) -> Result<String> {
        let program = this_program::name_of_this_program(context)?;
        Ok(match &*program {
            this_program::NAME => program,
            path => self.quote(path),
        })
    }

    /// Quotes a text as a word for the shell, or for the file that the program of the prompt reads.
    fn quote(&self, text: &str) -> String {
        match self.shell {
            HookShell::Fish => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            HookShell::Powershell => format!("'{}'", text.replace('\'', "''")),
            HookShell::Starship => escape_double_quotes(&shell::single_quote(text)),
            // tmux parses the line before the shell does: it expands `#`, and `$` in double quotes.
            HookShell::Tmux => {
                let escaped = escape_double_quotes(&shell::single_quote(text));
                escaped.replace('$', "\\$").replace('#', "##")
            }
            _ => shell::single_quote(text),
        }
    }
}

/// Escapes backslashes and double quotes in a text between double quotes.
fn escape_double_quotes(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
