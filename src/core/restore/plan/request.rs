//! The archive, the target and the options of a restore.

use crate::accounts::AuthPolicy;
use crate::archive::{ArchiveReader, FileList};
use crate::codex::{RolloutName, home};
use crate::io::{Environment, Timestamp};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The part of an archive that is restored. The default is all of it.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The paths of `--only`, relative to the Codex home; each includes everything below it.
    pub only: Vec<PathBuf>,
    /// The file names of the rollouts of `--session`; see [`RolloutName::name`].
    pub rollout_names: Vec<String>,
}

impl Selection {
    /// Returns true if anything is selected, so that the rest of the archive is not restored.
    pub fn is_partial(&self) -> bool {
        !self.only.is_empty() || !self.rollout_names.is_empty()
    }

    /// Returns the id of the conversation of `--session`.
    pub(crate) fn thread_id(&self) -> Option<String> {
        // The first selected rollout is one of the conversation itself; rollouts that it continues follow.
        let rollout = RolloutName::parse(Path::new(self.rollout_names.first()?))?;
        rollout.id().map(str::to_owned)
    }

    /// Returns true if the file at `path` of the archive with `files` is selected. With a database of `--only`, its
    /// `-wal`, `-shm` and `-journal` are selected too: the `-wal` may have rows that the database lacks.
    pub(crate) fn wants_of(&self, files: &FileList, path: &Path) -> bool {
        const SMALLEST_PAGE_BYTES: u64 = 512;
        let is_database = |base: PathBuf| {
            let mut files = files.iter();
            self.only.contains(&base)
                && files
                    .any(|file| file.path.as_path() == base && file.size % SMALLEST_PAGE_BYTES == 0)
        };
        self.wants(path) || home::database_of_sidecar(path).is_some_and(is_database)
    }

    /// Returns true if the file at `path` is selected, except for files beside a database.
    pub fn wants(&self, path: &Path) -> bool {
        !self.is_partial()
            || self.only.iter().any(|p| path.starts_with(p))
            || RolloutName::parse(path).is_some_and(|c| self.rollout_names.contains(&c.name))
    }
}

/// The kind of folder that an archive is restored into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreTarget {
    /// The Codex home, whose files are replaced.
    Home,
    /// An empty or new folder outside of the homes (`--to`).
    Elsewhere,
}

/// The archive, the target and the options of a restore.
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    pub archive: &'a ArchiveReader,
    /// The absolute path of the folder to restore into.
    pub folder: PathBuf,
    pub target: RestoreTarget,
    /// The part of the archive to restore.
    pub selection: Selection,
    /// Keeps conversations that only the home has (`--merge`).
    pub merge: bool,
    /// The rule for the login to activate.
    pub auth: AuthPolicy,
    /// Allows an archive of a different account than the live one (`--yes`).
    pub may_switch_account: bool,
    /// Makes a safety backup of everything that will change.
    pub safety_backup: bool,
    /// Leaves logins out of the safety backup, because others can read it. Needs [`AuthPolicy::Skip`].
    pub safety_without_logins: bool,
    /// Allows writing databases into a folder outside of the home that only the archived config.toml names (`--yes`).
    pub may_write_outside: bool,
    /// True if the disk ignores letter case. `None` probes the disk.
    pub ignores_case: Option<bool>,
    /// The manager home, for profiles, safety backups and pointers to journals.
    pub manager_home: &'a Path,
    /// The id of this machine, which the safety backup records; `None` if the manager home has none yet.
    pub machine: Option<String>,
    pub env: &'a Environment,
    /// The current time in the local zone.
    pub now: Timestamp,
    /// A time before the plan was made. The restore fails if a file of the home was written later.
    pub planned_after: Instant,
}
