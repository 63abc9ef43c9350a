//! Files of the last sync that a side no longer has, or that the configuration no longer includes.

use super::fact_reader::FactReader;
use crate::history::files;
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::sync::config::DeletePolicy;
use crate::sync::scope::ScopeMatch;
use crate::sync::sides::{Side, Stat};
use crate::sync::state::SyncedFile;
use crate::sync::{identity, rollouts};
use std::collections::{BTreeMap, HashSet};

#[derive(Debug, Default)]
pub(crate) struct MissingFiles {
    /// Number of known files that the cloud folder lacks. Files that a machine deleted or that the configuration no
    /// longer includes are not missing.
    pub(crate) missing_count: usize,
    /// Number of files of the last sync, without those of `out_of_scope_count`.
    pub(crate) known_count: usize,
    pub(crate) has_own_manifest: bool,
    /// Keys of files that a side lacks, and whose records the sync removes from the state.
    pub(crate) forgotten_keys: Vec<String>,
    /// Number of files that neither side has any more and that no machine reports as deleted.
    pub(crate) lost_count: usize,
    /// For the lost files, the digest of the last text, by key. They are published as deletions, because another
    /// machine that has such a file would restore it.
    pub(crate) lost_deletions: BTreeMap<String, Sha256Digest>,
    /// Number of files that the configuration no longer includes and that both sides have.
    pub(crate) out_of_scope_count: usize,
}

impl FactReader<'_> {
    /// Compares the files of the last sync with the files of both sides. `is_renamed` is true if this machine gets a
    /// new manifest name in this run, so that its manifest does not exist yet.
    pub(crate) fn find_missing_files(&self, is_renamed: bool) -> Result<MissingFiles, IoError> {
        let records = self.records;
        let own_manifest = identity::own_manifest_path(self.config, &records.state);
        let mut found = MissingFiles {
            has_own_manifest: is_renamed || own_manifest.exists(),
            ..MissingFiles::default()
        };

        // If the state may be out of date, another machine may have created the lost files again.
        let publishes_deletions =
            self.rules.delete == DeletePolicy::Propagate && !is_renamed && !records.state.has_gaps;

        for (key, last) in &records.state.files {
            if let Some(group) = self.groups.get(key) {
                let may_be_remote =
                    !group.remote.is_empty() || group.has_placeholder() || group.is_blocked;
                // If a manifest in the folder lists the deletion, the folder is mounted and the file is not missing.
                if !may_be_remote && !records.has_deletion(key) {
                    found.missing_count += 1;
                }
            } else if self.is_out_of_scope(last) {
                // The record of an excluded file stays, in case the file is included again. If a side has lost the file
                // since, the record is removed, so that the loss never counts as a deletion.
                if self.is_on_both_sides(last)? {
                    found.out_of_scope_count += 1;
                } else {
                    found.forgotten_keys.push(key.clone());
                }
            } else if records.has_deletion(key) {
                // Both sides lack the file, and its deletion is published: two users deleted it, or a killed run did.
                found.forgotten_keys.push(key.clone());
            } else if !self.is_excluded_locally(key) {
                found.missing_count += 1;
                found.lost_count += 1;
                found.forgotten_keys.push(key.clone());
                if publishes_deletions && let Some(digest) = last.text_digest() {
                    found.lost_deletions.insert(key.clone(), digest);
                }
            }
        }

        found.known_count = records.state.files.len() - found.out_of_scope_count;
        Ok(found)
    }

    /// Returns true if the configuration no longer includes the file on either side.
    fn is_out_of_scope(&self, last: &SyncedFile) -> bool {
        [&last.local, &last.remote]
            .into_iter()
            .all(|file| self.scope.classify(&file.path) == ScopeMatch::Excluded)
    }

    /// Returns true if the home has a file of this conversation under a name that `exclude_globs` excludes, as after
    /// `codex archive` or `storage shrink`.
    pub(super) fn is_excluded_locally(&self, key: &str) -> bool {
        let excluded_keys = self.excluded_keys.get_or_init(|| {
            if self.config.scope.exclude.is_empty() {
                return HashSet::new();
            }
            // The scan does not enter excluded folders.
            let (local_files, _skipped) = files::find_readable(&self.config.local);
            let paths = local_files.iter().filter_map(|file| file.relative.to_str());
            let paths = paths.map(|path| path.replace('\\', "/"));
            let excluded_paths = paths.filter(|path| self.scope.is_excluded(path));
            let keys = excluded_paths.filter_map(|path| rollouts::key(&path));
            keys.collect()
        });
        excluded_keys.contains(key)
    }

    fn is_on_both_sides(&self, last: &SyncedFile) -> Result<bool, IoError> {
        let local = Stat::read(&self.config.file_path(Side::Local, &last.local.path))?;
        let remote = Stat::read(&self.config.file_path(Side::Remote, &last.remote.path))?;
        Ok(local.is_some() && remote.is_some())
    }
}
