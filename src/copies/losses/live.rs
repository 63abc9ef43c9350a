//! The live conversations of a home: their rollouts with size and time.

use crate::copies::source::rollout_files;
use codex_manager_core::archive::FileList;
use codex_manager_core::codex::RolloutName;
use codex_manager_core::history::files;
use codex_manager_core::io::{IoContext, IoError, modified_ns};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone)]
pub(crate) struct LiveRollout {
    pub rollout_name: RolloutName,
    pub path: PathBuf,
    pub size: u64,
    /// Time of the last change in nanoseconds since 1970.
    pub mtime: i64,
    /// The compressed form beside the plain one. Codex reads only the plain form.
    pub compressed_copy: Option<PathBuf>,
}

/// The rollouts of a home by the id of their thread, in lower case.
#[derive(Debug, Default)]
pub(crate) struct LiveThreads(pub(crate) HashMap<String, Vec<LiveRollout>>);

impl LiveThreads {
    /// Lists the rollouts of a home. Opens no file.
    ///
    /// # Errors
    /// A folder or a rollout cannot be read. Its conversations would seem to be deleted.
    pub(crate) fn read(home: &Path) -> Result<Self, IoError> {
        let mut threads = Self::default();
        for rollout in files::find_rollouts(home)? {
            let path = rollout.path(home);
            let compressed_copy = rollout.compressed_copy(home);
            match path.metadata().at("read", &path) {
                Ok(meta) => threads.add(path, compressed_copy, meta.len(), modified_ns(&meta)),
                // Codex moved it since the folder was listed.
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(threads)
    }

    /// Returns the rollouts of `home` that an archive lists, with the archived sizes and times. Reads no file.
    /// For an archive that was just made of `home`.
    pub(crate) fn from_archive(home: &Path, files: &FileList) -> Self {
        let mut threads = Self::default();
        for (_, entry) in rollout_files(files) {
            let path = home.join(entry.path.as_path());
            let compressed_copy = None;
            threads.add(path, compressed_copy, entry.size, entry.mtime);
        }
        threads
    }

    /// Returns the live rollouts of the thread `id`, which is in lower case; none if the thread was deleted.
    pub(crate) fn rollouts_of(&self, id: &str) -> &[LiveRollout] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, path: PathBuf, compressed_copy: Option<PathBuf>, size: u64, mtime: i64) {
        let Some(rollout_name) = RolloutName::parse(&path) else {
            return;
        };
        let Some(id) = rollout_name.id().map(str::to_lowercase) else {
            return;
        };

        // Most conversations have one rollout. The first push to an empty list would allocate room for four.
        let rollouts = self.0.entry(id).or_insert_with(|| Vec::with_capacity(1));
        rollouts.push(LiveRollout {
            rollout_name,
            path,
            size,
            mtime,
            compressed_copy,
        });
    }
}
