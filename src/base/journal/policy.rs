//! The policy that each user of the journal adds to its recovery.

use super::document::{JOURNAL_NAME, LOCK_NAME};
use super::folder::NAME_IN_HOME;
use crate::codex::{Holder, HomeEntryKind, ProcessRole, ProgramNames, kind_of, process};
use crate::io::{Environment, IoError};
use std::path::{Path, PathBuf};

/// A policy without restrictions: any file may be exchanged at any time.
pub struct NoPolicy;

impl RecoveryPolicy for NoPolicy {}

/// Exchanges files only while no process uses the Codex home.
pub struct IdleHome<'a> {
    /// The environment, which may name the folder of Codex's databases.
    pub env: &'a Environment,
}

impl RecoveryPolicy for IdleHome<'_> {
    fn find_holders(&self, home: &Path, staging_folders: &[PathBuf]) -> Vec<Holder> {
        find_holders(home, staging_folders, self.env)
    }

    fn is_disposable(&self, home: &Path, path: &Path) -> bool {
        is_recreated_by_codex(home, path)
    }
}

/// Finds the processes that use `home` or have a file in one of the `staging_folders` open.
pub fn find_holders(home: &Path, staging_folders: &[PathBuf], env: &Environment) -> Vec<Holder> {
    // A file that Codex has open is moved to a staging folder by the exchange, and stays open there.
    let outside_folders = [&process::find_outside_folders(home, env), staging_folders].concat();
    let mut usage = process::inspect_home(home, &outside_folders, &ProgramNames::default());

    // Other codex-manager commands open these files to look for an interrupted change. They do not use the home.
    let is_recovery_check = |role: &ProcessRole| {
        let ProcessRole::OtherProgram { open_file: path } = role else {
            return false;
        };
        // The path is relative to the home, or to an outside folder, such as a staging folder.
        let journal_files = [LOCK_NAME, JOURNAL_NAME].map(Path::new);
        path.starts_with(NAME_IN_HOME) || journal_files.contains(&path.as_path())
    };
    usage
        .processes
        .retain(|process| !is_recovery_check(&process.role));
    usage.holders()
}

/// Returns true for files of `home` that Codex creates again if they are missing.
pub fn is_recreated_by_codex(home: &Path, path: &Path) -> bool {
    path.strip_prefix(home)
        .is_ok_and(|name| matches!(kind_of(name), HomeEntryKind::Transient | HomeEntryKind::Tmp))
}

/// The rules of one user of the journal: which files may be exchanged, and when.
pub trait RecoveryPolicy {
    /// Called before a recovery replaces the entry at the live path `outgoing` in `home` by the entry at
    /// `incoming`, or removes it if `incoming` is `None`. May replace the file at `incoming`.
    ///
    /// # Errors
    /// The entry must not be replaced. The recovery stops.
    fn before_exchange(
        &self,
        _home: &Path,
        _outgoing: &Path,
        _incoming: Option<&Path>,
    ) -> Result<(), IoError> {
        Ok(())
    }

    /// For disks without file modes: returns the text that identifies the lock of the staging folder `folder` as this
    /// user's; `None` if this user has no folder there. Empty for folders in the manager home.
    fn lock_marker(&self, _folder: &Path) -> Option<String> {
        Some(String::new())
    }

    /// Returns the processes that use the folder `home`, or its files in the `staging_folders`. While there are any,
    /// nothing is exchanged.
    fn find_holders(&self, _home: &Path, _staging_folders: &[PathBuf]) -> Vec<Holder> {
        Vec::new()
    }

    /// Returns true if a later write to the file at the live path `path` in `home` does not have to
    /// be kept.
    fn is_disposable(&self, _home: &Path, _path: &Path) -> bool {
        false
    }
}
