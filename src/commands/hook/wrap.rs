//! The function `codex` of `hook --wrap`, for each shell.
//!
//! Only the name `codex-manager` is in it, so that it survives an upgrade that moves the program.
//! `launch --if-folder` replaces itself with Codex where the folder has no account. Where
//! codex-manager is not on PATH, the function starts Codex itself.

// `function` rather than `codex()`: an alias of that name would be expanded there. `type -P` finds
// programs only.
pub(super) const BASH: &str = r#"# Start Codex under the account of the folder, and as usual where the folder has none.
function codex {
  if type -P codex-manager >/dev/null; then
    command codex-manager launch --if-folder -- "$@"
  else
    command codex "$@"
  fi
}
"#;

pub(super) const ZSH: &str = r#"# Start Codex under the account of the folder, and as usual where the folder has none.
function codex {
  if whence -p codex-manager >/dev/null; then
    command codex-manager launch --if-folder -- "$@"
  else
    command codex "$@"
  fi
}
"#;

pub(super) const FISH: &str = r"# Start Codex under the account of the folder, and as usual where the folder has none.
function codex --description 'Codex under the account of the folder'
  if command -sq codex-manager
    command codex-manager launch --if-folder -- $argv
  else
    command codex $argv
  end
end
";

// A function would not be passed what is piped to it. npm installs Codex as a script too.
pub(super) const POWERSHELL: &str = r"# Start Codex under the account of the folder, and as usual where the folder has none.
function global:codex {
  $manager = Get-Command codex-manager -CommandType Application -TotalCount 1 -ErrorAction SilentlyContinue
  $program = $manager
  $first = @('launch', '--if-folder', '--')
  if (-not $manager) {
    $program = Get-Command codex -CommandType Application,ExternalScript -TotalCount 1 -ErrorAction Stop
    $first = @()
  }
  if ($MyInvocation.ExpectingInput) { $input | & $program @first @args } else { & $program @first @args }
}
";
