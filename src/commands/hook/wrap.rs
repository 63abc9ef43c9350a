//! The function `codex` of `hook --wrap`, one per shell.
//!
//! `PROGRAM` is the name or path of this program. `launch --if-folder` replaces itself with Codex if the folder has no account. If
//! codex-manager is not on `PATH`, the function starts Codex directly.

// `function codex` instead of `codex()`: bash would expand an alias of that name. `type -P` finds
// programs only, not this function.
pub(super) const BASH: &str = r#"# Start Codex under the account of the folder, and as usual where the folder has none.
function codex {
  if type -P PROGRAM >/dev/null; then
    command PROGRAM launch --if-folder -- "$@"
  else
    command codex "$@"
  fi
}
"#;

pub(super) const FISH: &str = r"# Start Codex under the account of the folder, and as usual where the folder has none.
function codex --description 'Codex under the account of the folder'
  if command -sq PROGRAM
    command PROGRAM launch --if-folder -- $argv
  else
    command codex $argv
  end
end
";

// A PowerShell function does not forward its pipeline input by itself. npm installs Codex as a script, so
// ExternalScript is needed.
pub(super) const POWERSHELL: &str = r"# Start Codex under the account of the folder, and as usual where the folder has none.
function global:codex {
  $manager = Get-Command PROGRAM -CommandType Application -TotalCount 1 -ErrorAction SilentlyContinue
  $program = $manager
  $first = @('launch', '--if-folder', '--')
  if (-not $manager) {
    $program = Get-Command codex -CommandType Application,ExternalScript -TotalCount 1 -ErrorAction Stop
    $first = @()
  }
  if ($MyInvocation.ExpectingInput) { $input | & $program @first @args } else { & $program @first @args }
}
";
