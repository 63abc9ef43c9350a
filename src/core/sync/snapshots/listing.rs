//! Lists the staged tree for the manifest of the next snapshot.

use super::join::Join;
use super::snapshot_manifest::FileVersions;
use super::store::Remote;
use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::manifest::ManifestEntry;
use crate::sync::sides::Stat;
use crate::sync::state::{SyncState, SyncedFile};
use crate::sync::{contents, rollouts};
use std::collections::BTreeMap;

impl<R: Remote> Join<'_, R> {
    /// Returns the entries of the staged `files` of one key. Reads the files without a recorded digest.
    pub(super) fn read_entries(
        &self,
        state: &SyncState,
        key: &str,
        files: &BTreeMap<String, Stat>,
    ) -> Result<BTreeMap<String, ManifestEntry>, IoError> {
        let entries = files.iter().map(|(path, stat)| {
            let last = state.files.get(key);
            if let Some(entry) = last.and_then(|last| self.find_synced_beginning(last, path, *stat))
            {
                return Ok((path.clone(), entry));
            }

            let full_path = self.tree.path_of(path);
            let digest = match self.find_recorded_digest(last, key, path, *stat) {
                Some(digest) => digest,
                None => contents::read_raw_digest(&full_path).at("read", &full_path)?,
            };

            Ok((path.clone(), ManifestEntry::new(*stat, digest)))
        });
        entries.collect()
    }

    /// Returns the entry of the text `last` that this run synced, if the staged conversation has grown since. The added
    /// text may end within a line, and the next run syncs it.
    fn find_synced_beginning(
        &self,
        last: &SyncedFile,
        path: &str,
        stat: Stat,
    ) -> Option<ManifestEntry> {
        let (synced, text) = (&last.remote, last.text?);
        let has_grown = rollouts::is_below_sessions(path)
            && synced.path == path
            && synced.stat.size == text.len
            && text.len < stat.size;

        let full_path = self.tree.path_of(path);
        let begins_with_synced = has_grown
            && contents::raw_begins_with(&full_path, text.len, &text.digest).unwrap_or_default();
        begins_with_synced.then(|| ManifestEntry::new(synced.stat, text.digest))
    }

    /// Returns the recorded digest of a staged file that is unchanged since the last sync or the last publication.
    fn find_recorded_digest(
        &self,
        last: Option<&SyncedFile>,
        key: &str,
        path: &str,
        stat: Stat,
    ) -> Option<Sha256Digest> {
        if let Some(last) = last
            && last.remote.matches(path, stat)
            && !path.ends_with(rollout::ZST)
        {
            // Without a digest, size and mtime prove nothing: two merges of lines can have the same.
            return last.text_digest();
        }
        let own_entry = self.outgoing.get(key)?.files.get(path)?;
        (own_entry.stat() == stat).then_some(own_entry.digest)
    }

    /// Returns all staged files with their versions. A file that differs from [`Self::outgoing`] gets
    /// [`Self::next_version_id`].
    pub(super) fn list_staged_versions(
        &self,
        state: &SyncState,
    ) -> Result<BTreeMap<String, FileVersions>, IoError> {
        let (staged, new_version) = (self.tree.list_files()?, self.next_version_id());
        let versions = staged.iter().map(|(key, files)| {
            let mut file = FileVersions {
                files: self.read_entries(state, key, files)?,
                version: new_version.clone(),
            };

            let outgoing = self.outgoing.get(key);
            if let Some(outgoing) = outgoing.filter(|outgoing| outgoing.has_same_files(&file)) {
                file.version = outgoing.version.clone();
            }
            Ok((key.clone(), file))
        });
        versions.collect()
    }
}
