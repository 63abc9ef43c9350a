//! `profiles/.switch.json`: the previous account of each Codex home.

use super::request::SwitchRequest;
use crate::accounts::profile::ProfileError;
use crate::codex::Identity;
use crate::io::{Document, OrdinaryPath, Timestamp, document};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file name in `profiles/`.
const FILE_NAME: &str = ".switch.json";

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct SwitchFile {
    /// By the canonical path of the Codex home.
    homes: BTreeMap<PathBuf, SwitchRecord>,
}

impl Document for SwitchFile {}

/// The last switch of a Codex home.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct SwitchRecord {
    /// The account that was live before the switch.
    pub previous: Option<Identity>,
    /// The account that the switch made live.
    pub current: Option<Identity>,
    pub at: Option<Timestamp>,
    /// The time of the switch before this one. `previous` was live from this time until `at`.
    pub before: Option<Timestamp>,
}

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
    let last_switch = read_last_switch(manager_home, codex_home)?;
    Ok(last_switch.and_then(|switch| switch.previous))
}

/// Reads the record of the last switch of `codex_home`.
///
/// # Errors
/// The record is unreadable or was written by a newer version.
pub(crate) fn read_last_switch(
    manager_home: &Path,
    codex_home: &Path,
) -> Result<Option<SwitchRecord>, ProfileError> {
    let path = switch_file_path(manager_home);
    let file = document::read_or_damaged::<SwitchFile>(&path)?.good();
    let home = codex_home.canonical_or_self();
    Ok(file.and_then(|mut file| file.homes.remove(&home)))
}

/// Records the switch to `request.to`, from the account `from`, if one was live.
pub(super) fn record_last_switch(
    request: &SwitchRequest<'_>,
    from: Option<&Identity>,
) -> Result<(), ProfileError> {
    let change = |file: &mut SwitchFile| {
        let home = request.codex_home.canonical_or_self();
        let record = file.homes.entry(home).or_default();
        // If no account was live before this switch, the earlier previous account stays.
        if let Some(from) = from {
            record.previous = Some(from.clone());
        }
        record.current = Some(request.to.clone());
        record.before = record.at.replace(request.now);
    };

    let lock = request.manager_home.canonical_or_self().join(".lock");
    document::update(&switch_file_path(request.manager_home), &lock, change)?;
    Ok(())
}
