//! `profiles/.switch.json`: the previous account of each Codex home.

use super::request::SwitchRequest;
use crate::accounts::ProfileError;
use crate::codex::Identity;
use crate::io::{Document, OrdinaryPath, Timestamp, document};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file name in `profiles/`.
const FILE_NAME: &str = ".switch.json";

/// The record of the last switch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct SwitchFile {
    /// The account that was live before the switch.
    pub previous: Option<Identity>,
    /// The account that the switch made live.
    pub current: Option<Identity>,
    pub at: Option<Timestamp>,
    /// The time of the earlier switch in the same home. `previous` was live from this time until `at`.
    pub before: Option<Timestamp>,
    /// The Codex home of the switch, canonical.
    pub home: Option<PathBuf>,
    /// The account before the last switch, for each Codex home.
    #[serde(default)]
    pub homes: BTreeMap<PathBuf, Identity>,
}

impl SwitchFile {
    /// Returns the account that was live in `home` before its last switch; `home` must be
    /// canonical.
    fn previous_account_in(&self, home: &Path) -> Option<&Identity> {
        // Files of older versions have no `home`, because these versions know only one home.
        let is_same_home = self.home.as_deref().is_none_or(|recorded| recorded == home);
        let last_previous = self.previous.as_ref().filter(|_| is_same_home);
        self.homes.get(home).or(last_previous)
    }
}

impl Document for SwitchFile {}

fn switch_file_path(manager_home: &Path) -> PathBuf {
    manager_home.join("profiles").join(FILE_NAME)
}

/// Reads the account that was live in `codex_home` before the last switch.
///
/// # Errors
/// The record is unreadable or was written by a newer version.
pub fn read_previous_account(
    manager_home: &Path,
    codex_home: &Path,
) -> Result<Option<Identity>, ProfileError> {
    let file = document::read::<SwitchFile>(&switch_file_path(manager_home))?.good();
    let home = codex_home.canonical_or_self();
    Ok(file.and_then(|file| file.previous_account_in(&home).cloned()))
}

/// Reads the record of the last switch; `None` if that was not a switch of `codex_home`.
///
/// # Errors
/// The record is unreadable or was written by a newer version.
pub(crate) fn read_last_switch(
    manager_home: &Path,
    codex_home: &Path,
) -> Result<Option<SwitchFile>, ProfileError> {
    let file = document::read::<SwitchFile>(&switch_file_path(manager_home))?.good();
    let home = codex_home.canonical_or_self();
    Ok(file.filter(|file| file.home.as_ref() == Some(&home)))
}

/// Records the switch to `request.to`, from the account `from`, if one was live.
pub(super) fn record_last_switch(
    request: &SwitchRequest<'_>,
    from: Option<&Identity>,
) -> Result<(), ProfileError> {
    let change = |file: &mut SwitchFile| {
        let home = request.codex_home.canonical_or_self();
        // Keeps the entry that an older version wrote for another home.
        if let (Some(recorded_home), Some(account)) = (&file.home, &file.previous) {
            file.homes
                .entry(recorded_home.clone())
                .or_insert_with(|| account.clone());
        }

        // If no account was live before this switch, the earlier previous account stays.
        file.previous = from.or(file.previous_account_in(&home)).cloned();
        if let Some(previous) = &file.previous {
            file.homes.insert(home.clone(), previous.clone());
        }

        file.before = file.at.filter(|_| file.home.as_ref() == Some(&home));
        file.home = Some(home);
        file.current = Some(request.to.clone());
        file.at = Some(request.now);
    };

    let lock = request.manager_home.canonical_or_self().join(".lock");
    document::update(&switch_file_path(request.manager_home), &lock, change)?;
    Ok(())
}
