//! The logins on this machine, for the search of their tokens in texts that leave it.

use super::isolated::ISOLATED;
use super::lease::PROBE_HOMES;
use super::profile::{HISTORY, Profiles};
use super::save::list_history_names;
use crate::codex::AuthFile;
use crate::codex::home::kind_of;
use crate::codex::redaction::known_values::KnownValues;
use crate::io::tree;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// The folder of the logins of Codex Desktop's workspaces.
const ACCOUNT_SESSIONS: &str = "account-sessions";

/// The deepest folder below `account-sessions/` that is searched.
const MAX_DEPTH: usize = 3;

/// Adds the tokens of all logins of a Codex home and of a manager home: live, isolated and stored ones, older logins of
/// profiles, those of Desktop's workspaces, of probes and of unfinished sign-ins. Files that cannot be read are left
/// out.
pub fn add_stored_logins(codex_home: &Path, manager_home: &Path, values: &mut KnownValues) {
    let profiles = Profiles::of(manager_home).folder;
    for folder in login_folders(codex_home, manager_home, &profiles) {
        let names = tree::list(&folder).unwrap_or_default().into_iter();
        let logins = names.filter(|(name, _)| kind_of(Path::new(name)).is_login());
        logins.for_each(|(name, _)| add_login(&folder.join(name), values));

        // In the manager home, the folder of this name has no logins.
        if folder.parent() == Some(&profiles) {
            let history = folder.join(HISTORY);
            let older = list_history_names(&history).unwrap_or_default().into_iter();
            older.for_each(|name| add_login(&history.join(name), values));
        }

        let workspaces = WalkDir::new(folder.join(ACCOUNT_SESSIONS)).max_depth(MAX_DEPTH);
        let files = workspaces.into_iter().flatten();
        files.for_each(|file| add_login(file.path(), values));
    }
}

/// Returns the folders that may have an auth.json, whether they exist or not.
fn login_folders(codex_home: &Path, manager_home: &Path, profiles: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| tree::list_folders(folder).unwrap_or_default();
    let home_in = |folder: PathBuf| folder.join("home");

    let mut folders = vec![codex_home.to_owned(), manager_home.to_owned()];
    folders.extend(list(profiles));
    folders.extend(list(&profiles.join(PROBE_HOMES)));
    folders.extend(list(&profiles.join(ISOLATED)).into_iter().map(home_in));
    folders.extend(list(&manager_home.join("tmp")).into_iter().map(home_in));
    folders
}

fn add_login(path: &Path, values: &mut KnownValues) {
    if let Ok(auth) = AuthFile::read(path)
        && let Some(bytes) = auth.bytes()
    {
        values.add_login(bytes.expose());
    }
}
