//! `profiles/.switch.json`: who was signed in before, in each Codex home.

use super::SwitchRequest;
use crate::accounts::profile::{ProfileError, canonical};
use crate::codex::identity::Identity;
use crate::io::clock::Timestamp;
use crate::io::document::{self, Document};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name of the document in `profiles/`.
const FILE_NAME: &str = ".switch.json";

/// What the last switch was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SwitchFile {
    /// Who was signed in before it.
    pub previous: Option<Identity>,
    /// Who has been since.
    #[serde(default)]
    pub current: Option<Identity>,
    /// When it was.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// When the one before it was: until then `previous` was not live.
    #[serde(default)]
    pub before: Option<Timestamp>,
    /// In which Codex home.
    #[serde(default)]
    pub home: Option<PathBuf>,
    /// Who was signed in before the last switch of each Codex home.
    #[serde(default)]
    pub homes: BTreeMap<PathBuf, Identity>,
}

impl SwitchFile {
    /// Who was signed in before the last switch in `home`, which is canonical.
    fn previous_in(&self, home: &Path) -> Option<&Identity> {
        // A file of before the homes were told apart speaks of one.
        let is_of = self.home.as_deref().is_none_or(|noted| noted == home);
        let last = self.previous.as_ref().filter(|_| is_of);
        self.homes.get(home).or(last)
    }
}

impl Document for SwitchFile {
    const SCHEMA: u64 = 1;
}

fn state_path(manager_home: &Path) -> PathBuf {
    manager_home.join("profiles").join(FILE_NAME)
}

/// Who was signed in before the last switch in `codex_home`.
///
/// # Errors
/// The document is of a newer version or cannot be read.
pub fn previous(manager_home: &Path, codex_home: &Path) -> Result<Option<Identity>, ProfileError> {
    let file = document::read::<SwitchFile>(&state_path(manager_home))?.good();
    let home = canonical(codex_home);
    Ok(file.and_then(|file| file.previous_in(&home).cloned()))
}

/// The last switch in `codex_home`, if it was the last one of all.
///
/// # Errors
/// The document is of a newer version or cannot be read.
pub fn last(manager_home: &Path, codex_home: &Path) -> Result<Option<SwitchFile>, ProfileError> {
    let file = document::read::<SwitchFile>(&state_path(manager_home))?.good();
    let home = canonical(codex_home);
    Ok(file.filter(|file| file.home.as_ref() == Some(&home)))
}

pub(super) fn remember(
    request: &SwitchRequest<'_>,
    from: Option<&Identity>,
) -> Result<(), ProfileError> {
    let change = |file: &mut SwitchFile| {
        let home = canonical(request.codex_home);
        // What an older version noted of another home is not lost.
        if let (Some(noted), Some(who)) = (&file.home, &file.previous) {
            file.homes
                .entry(noted.clone())
                .or_insert_with(|| who.clone());
        }
        file.previous = from.or(file.previous_in(&home)).cloned();
        if let Some(previous) = &file.previous {
            file.homes.insert(home.clone(), previous.clone());
        }
        file.before = file.at.filter(|_| file.home.as_ref() == Some(&home));
        file.home = Some(home);
        file.current = Some(request.to.clone());
        file.at = Some(request.now);
    };
    document::update(
        &state_path(request.manager_home),
        &canonical(request.manager_home).join(".lock"),
        |_| SwitchFile::default(),
        change,
    )?;
    Ok(())
}
