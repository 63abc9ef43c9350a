//! Exit codes and hints for errors about accounts: profiles, logins, switches, status and exports.

use super::ErrorKind::{CodexRunning, Failed, Refused, Usage};
use super::{Advised, CommandError, FREE_SPACE};
use codex_manager_core::codex::{CredentialStore, Holder, ProcessRole};
use codex_manager_core::inventory::remedies;
use codex_manager_core::io::{shell, similar};
use std::path::Path;

impl Advised for codex_manager_core::accounts::profile::ProfileError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Document(e) => e.to_command_error(),
            Self::BadName { .. } => self.unchanged_error(Usage, "choose another name, such as work"),
            Self::Taken { .. }
            | Self::EmailOfAnother { .. }
            | Self::NotAProfile(_) => self.unchanged_error(Refused, "choose another name"),
            Self::HasProfile { name, removed, is_removed_older, .. } => {
                self.unchanged_error(Refused, hint_for_second_profile(name, removed, *is_removed_older))
            }
            Self::InTrash { name, .. } => self.unchanged_error(Refused, remedies::suggest_undo(name)),
            Self::IsLive { .. } => self.unchanged_error(Refused, "switch to another account first: codex-manager use ACCOUNT"),
            Self::Moved(name) => self.unchanged_error(Refused, format!(
                "sign in again: codex-manager profile login {name}; if this machine still has the login, save it \
                 again: codex-manager profile save {name} --from FILE, with the auth.json in the folder of that profile"
            )),
            Self::Ambiguous { .. } => self.unchanged_error(Refused, "sign in again: codex-manager profile login NAME"),
            Self::NoSuchLogin { choices, .. } if choices.is_empty() => {
                self.unchanged_error(Failed, "the history has no login that differs from the current one")
            }
            Self::NoSuchLogin { choices, .. } => {
                self.unchanged_error(Failed, format!("available: {}", choices.join(", ")))
            }
            Self::Unknown { name, choices, can_undo_removal } => {
                let suggestion = similar::format_suggestion(name, choices.iter().map(String::as_str));
                let mut wrapped = CommandError::wrap(Failed, self);
                if *can_undo_removal {
                    wrapped.hints.push(remedies::suggest_undo(name));
                }
                wrapped.hints.extend(suggestion);
                wrapped.hint_unchanged("list all profiles: codex-manager profile list")
            }
        }
    }
}

impl Advised for codex_manager_core::accounts::switch::SwitchError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Profile(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::NoProfile { removed: Some(name), .. } => self.unchanged_error(Refused, remedies::suggest_undo(name)),
            Self::NoProfile { .. } => self.unchanged_error(Refused, "save one from a file or an archive: codex-manager profile save NAME --from FILE"),
            Self::OtherAccount { auth_json, .. } => self.unchanged_error(Refused, format!(
                "make a profile of that login: codex-manager profile save NAME --from {}",
                shell::quote_if_needed(&auth_json.to_string_lossy())
            )),
            Self::NoLogin { profile, .. } => {
                self.unchanged_error(Refused, format!("save a login of its account: codex-manager profile save {profile} --from FILE"))
            }
            Self::LiveElsewhere { home, .. } => self.unchanged_error(Refused, remedies::suggest_switch_of_owner(home)),
            Self::Stale { profile } => self.unchanged_error(Refused, format!("sign in again: codex-manager profile login {profile}; or use this login anyway: codex-manager use --force-stale {profile}")),
            Self::Locked(_) => self.unchanged_error(Failed, "list the Codex processes: codex-manager current"),
            Self::Renewing { .. } => self.unchanged_error(CodexRunning, "end these processes or wait"),
            Self::Daemon(_) => self.unchanged_error(CodexRunning, "stop it with --stop-daemon"),
            Self::DaemonAtWork { .. } => self.unchanged_error(CodexRunning, "wait for it to finish, or abort its turn: codex-manager use ACCOUNT --stop-daemon --force"),
            Self::NoProgram(_) => self.unchanged_error(Failed, "pass the path of codex: --codex-bin FILE"),
            Self::NotStopped(_) => self.hinted_error(CodexRunning, "it may still be ending: run the same command again; no login was changed"),
            Self::Lease(e) => e.to_command_error(),
        }
    }
}

impl Advised for codex_manager_core::accounts::lease::LeaseError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Profile(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::InUse(_) => self.unchanged_error(Failed, "wait for it to end, then run the same command again"),
            Self::ProbeRunning { .. } => self.unchanged_error(CodexRunning, "wait for it to end, then run the same command again"),
            Self::NoIsolatedLogin(_) => self.unchanged_error(CodexRunning, "end that Codex first; find it with: codex-manager launches"),
            Self::Storage(e) => e.to_command_error(),
            Self::AlreadyLeased(_) => self.unchanged_error(Refused, "return it to the profile: codex-manager status --all"),
            Self::Isolated {
                profile,
                home,
                holders,
            } => self.hinted_error(CodexRunning, hint_for_isolated(profile, home, holders)),
            Self::Damaged { profile, .. } => self.unchanged_error(Refused, format!("if its auth.json is valid, rewrite profile.json: codex-manager profile save {profile} --from FILE, with the auth.json of the profile")),
            Self::HomeUnreadable { profile, .. } => self.unchanged_error(Refused, format!("mount its disk; if the home is gone for good: codex-manager use --force-stale {profile}")),
            Self::NoProfile { removed: Some(name), .. } => self.unchanged_error(Refused, remedies::suggest_undo(name)),
            Self::NoProfile { .. } => self.unchanged_error(Refused, "save a profile of this account: codex-manager profile save NAME --from FILE; or sign in: codex-manager profile login NAME"),
            Self::NoLogin(profile)
            | Self::Moved(profile)
            | Self::Stale(profile) => self.unchanged_error(Refused, format!("sign in again: codex-manager profile login {profile}")),
            Self::Live { home, .. } => self.unchanged_error(Refused, format!("query it there: codex-manager status --codex-home {}", shell::quote_if_needed(&home.to_string_lossy()))),
            Self::InKeyring { home, .. } => self.unchanged_error(Refused, CredentialStore::read(home).advise_file_store(home)),
        }
    }
}

/// Returns the hint for a removed profile, if its account has the profile `name` now. `is_removed_older` is true if the
/// login of the removed profile is not newer.
fn hint_for_second_profile(name: &str, removed: &str, is_removed_older: bool) -> String {
    let [quoted_name, quoted_removed] = [name, removed].map(shell::quote_if_needed);
    let is_same_name = name == removed;
    if is_removed_older && is_same_name {
        "the removed login is not newer, so it is not needed".into()
    } else if is_removed_older {
        format!(
            "the removed login is not newer, so it is not needed; to use its name: codex-manager profile rename {quoted_name} {quoted_removed}"
        )
    } else if is_same_name {
        format!(
            "rename that profile, then remove it: codex-manager profile rename {quoted_name} NAME"
        )
    } else {
        format!("remove that profile first: codex-manager profile remove {quoted_name}")
    }
}

/// Returns the hint for a login that is in the isolated home of a running Codex. It says when the login returns to the
/// profile.
fn hint_for_isolated(profile: &str, home: &Path, holders: &[Holder]) -> String {
    if holders
        .iter()
        .any(|holder| holder.role == ProcessRole::Daemon)
    {
        return format!(
            "the login returns to the profile when the daemon is stopped: CODEX_HOME={} codex \
             app-server daemon stop; nothing was changed",
            shell::quote_if_needed(&home.to_string_lossy())
        );
    }

    // `check_profile_name` allows no character that a shell needs quoted.
    format!(
        "the login returns to the profile when the last Codex in the isolated home ends; use it there with: \
         codex-manager launch {profile} --isolated; nothing was changed"
    )
}

impl Advised for codex_manager_core::accounts::switchers::SwitcherError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Database { .. } | Self::Damaged { .. } => {
                self.unchanged_error(Failed, "name another folder of the switcher")
            }
        }
    }
}

impl Advised for codex_manager_core::inventory::resolve::AccountResolveError {
    fn to_command_error(&self) -> CommandError {
        let hints = match self {
            Self::Unknown { choices, .. } if choices.is_empty() => {
                vec!["no account is known yet; sign in: codex-manager profile login NAME".into()]
            }
            Self::Unknown { text, choices } if choices.len() > similar::MAX_SUGGESTIONS => {
                let suggestion =
                    similar::format_suggestion(text, choices.iter().map(String::as_str));
                let list = "list all accounts: codex-manager accounts".to_owned();
                suggestion.into_iter().chain([list]).collect()
            }
            Self::Unknown { choices, .. } | Self::Ambiguous { choices, .. } => {
                vec![format!(
                    "the accounts are: {}",
                    similar::join_first_names(choices)
                )]
            }
        };

        let wrapped = CommandError::wrap(Failed, self);
        hints.into_iter().fold(wrapped, CommandError::hint)
    }
}

const NAME_ACCOUNT_OF_TEXT: &str =
    "or name the account of the text: codex-manager status NAME --status-file FILE";

impl Advised for codex_manager_core::inventory::status::StatusError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Document(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::Text(_) => self.hinted_error(
                Failed,
                "paste the whole output of /status in Codex, including the lines of the limits",
            ),
            Self::UnreadableAccount(_) => self
                .unchanged_error(Failed, "copy /status again from a wider terminal")
                .hint(NAME_ACCOUNT_OF_TEXT),
            Self::AnotherAccount { .. } => self
                .unchanged_error(Refused, "paste the /status of the live account")
                .hint(NAME_ACCOUNT_OF_TEXT),
            Self::NotOfAccount { .. } => self.unchanged_error(
                Refused,
                "name the account of the text, or leave out --account",
            ),
        }
    }
}

impl Advised for codex_manager_core::transfer::TransferError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Profile(e) => e.to_command_error(),
            Self::Lease(e) => e.to_command_error(),
            Self::Document(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::PythonHome(e) => e.to_command_error(),
            Self::Exists(_) => self.unchanged_error(Refused, "choose another name"),
            Self::Locked(_) => self.unchanged_error(Failed, "list the Codex processes: codex-manager current"),
            Self::Changed(_) => self.unchanged_error(Failed, "run the same command again"),
            Self::BadKey(_) => self.unchanged_error(Usage, "give another passphrase, or create a key with age-keygen"),
            Self::NeedsPassphrase(_) => self.unchanged_error(Usage, "give the passphrase: --passphrase-file FILE"),
            Self::NeedsIdentity(_) => self.unchanged_error(Usage, "give its private key: --identity FILE"),
            Self::WrongKey { .. } => self.unchanged_error(Refused, "give another: --passphrase-file FILE or --identity FILE"),
            Self::TooCostly(_) => self.unchanged_error(Refused, "encrypt it again with a work factor of at most 18: age -d FILE | age -p -o NEWFILE"),
            Self::Foreign { .. } => self.unchanged_error(Refused, "save a login from an auth.json or an archive with: codex-manager profile save NAME --from FILE"),
            Self::Damaged { .. } => self.unchanged_error(Refused,
                "copy it again from the other machine; if it is damaged there too, export again there: codex-manager profile \
                 export FILE; a login that moved into it first has to be saved again: codex-manager profile save NAME --from \
                 FILE, with the auth.json in the folder of that profile"),
            Self::Newer { .. } => self.unchanged_error(Refused, "upgrade codex-manager"),
            Self::NoSpace(_) => self.unchanged_error(Failed, FREE_SPACE),
        }
    }
}

impl Advised for codex_manager_core::transfer::PythonHomeError {
    fn to_command_error(&self) -> CommandError {
        let (kind, hint) = match self {
            Self::Missing(_) => (
                Failed,
                "name the folder with its backups/: codex-manager config import-python DIR",
            ),
            Self::IsManagerHome(_) => (
                Refused,
                "there is nothing to import; list the archives: codex-manager list-backups",
            ),
            Self::HoldsManagerHome(_) => (
                Refused,
                "choose a manager home outside of it: --manager-home or CODEX_MANAGER_HOME",
            ),
            Self::NotPython(_) => (
                Refused,
                "use it in place with --manager-home, or merge it with: codex-manager profile export",
            ),
            Self::Empty(_) => (
                Refused,
                "import legacy *_auth.json files with: codex-manager normalize DIR",
            ),
            Self::Taken(_) => {
                return self.hinted_error(Failed, "run the same command again: it copies the rest");
            }
        };
        self.unchanged_error(kind, hint)
    }
}
