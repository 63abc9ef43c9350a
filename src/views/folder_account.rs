//! The account of the current folder, for `recommend` and `current`.

use crate::context::Context;
use crate::views::account::printable;
use codex_manager_core::inventory::remedies;
use codex_manager_core::inventory::resolve::find_account_position;
use codex_manager_core::launch::folders;
use codex_manager_core::quota::{Account, state};
use std::path::Path;

/// Returns the entry of the setting `folders` that applies to the current folder, or to `root` if it is given: the
/// folder in the setting and its profile. A relative `root` is below the current folder.
pub(crate) fn find_folder_profile<'a>(
    root: Option<&Path>,
    context: &'a Context,
) -> Option<(&'a String, &'a String)> {
    let folder_settings = &context.settings.preferences.folders;
    // Without this check, each `recommend` would resolve the links of the current folder.
    if folder_settings.folders.is_empty() {
        return None;
    }
    let env = &context.env;
    // Settings name a folder by the path that the shell shows, in which links are not resolved.
    let current = folders::logical_dir(&env.current_dir, env.get("PWD"));
    let folder = root.map_or(current.clone(), |root| current.join(root));
    folder_settings.find_profile(&folder, env.home_dir.as_deref())
}

/// Returns the profile that the settings give to the current folder.
pub(crate) fn read_folder_profile(context: &Context) -> Option<String> {
    let root = None;
    find_folder_profile(root, context).map(|(_, profile)| profile.clone())
}

/// Prints the account of the current folder with its remaining quota, and if it is not live, the command that starts
/// Codex under it. If no account has the name in the setting, prints how to correct the setting. Prints nothing for a
/// folder without a setting.
pub(crate) fn note_folder_account(accounts: &[Account], context: &Context) {
    let root = None;
    let Some((folder, profile)) = find_folder_profile(root, context) else {
        return;
    };

    let name = printable(profile);
    let Ok(position) = find_account_position(accounts.iter().map(|a| &a.entry), profile) else {
        context.note(format_args!(
            "the account of this folder is {name}, which does not exist; {}",
            remedies::suggest_folder_setting(folder)
        ));
        return;
    };

    let account = &accounts[position];
    let percent_left = state::weekly_left(&account.entry, &context.now());
    let left_note = percent_left.map_or(String::new(), |left| format!(" ({left:.0} % left)"));

    context.note(if account.current {
        format!("{name}{left_note} is the account of this folder")
    } else {
        format!(
            "the account of this folder is {name}{left_note}; start Codex with it: codex-manager launch"
        )
    });
}
