//! Reads a conversation. It can have several files on each side (plain or compressed, archived or not), and cloud
//! clients make copies of them.
//!
//! 1. The files of one side are folded into one main version; a version that diverged becomes a conflict copy.
//! 2. Clients' copies are folded into the remote side in the same way.
//! 3. The two main versions are compared.

use super::compared_file::{ComparedFile, ConversationVersions};
use super::fact_reader::FactReader;
use crate::codex::rollout::{Relation, ZST};
use crate::io::{IoContext, IoError};
use crate::sync::cloud_folder::delivery::{ClientCopy, DeliveredFiles};
use crate::sync::conflicting_versions::ConflictingVersions;
use crate::sync::file_group::FileGroup;
use crate::sync::file_kind::FileKind;
use crate::sync::file_version::FileVersion;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::sync_step::NewConflictCopy;
use crate::sync::sides::Side;
use crate::sync::{conflict_copies, rollouts};
use std::path::Path;

/// A conversation while its files are folded.
struct ConversationFold<'a> {
    key: &'a str,
    /// True while `sync resolve` decides about the conversation.
    is_being_resolved: bool,
    versions: ConversationVersions,
    notices: Vec<Notice>,
}

impl<'a> FactReader<'a> {
    pub(super) fn read_conversation(
        &self,
        key: &'a str,
        path: String,
        files: DeliveredFiles,
    ) -> Result<ComparedFile<'a>, IoError> {
        let mut fold = ConversationFold {
            key,
            is_being_resolved: self.request.decides(&path),
            versions: ConversationVersions::default(),
            notices: files.notices,
        };

        let local = self.fold_files_of_side(&mut fold, files.local)?;
        let remote = self.fold_files_of_side(&mut fold, files.remote)?;
        // Set before a client's copy may replace `remote`, because other machines read this file.
        fold.versions.canonical_remote = remote.as_ref().map(|version| version.observed.clone());
        let copies = files.client_copies;
        let remote = self.fold_client_copies(&mut fold, local.as_ref(), remote, copies)?;

        let mut file = self.compare_versions(key, path, FileKind::Rollout, local, remote)?;
        if let (Some(local), Some(remote), Some(relation)) =
            (&file.local, &file.remote, file.facts.relation)
        {
            if relation == Relation::Diverged {
                // The decision comes later, so a conflict copy of each version is prepared. The step stores only the
                // copy of the losing version.
                for version in [local, remote] {
                    let copy = self.new_conflict_copy(&fold, version)?;
                    fold.versions.losing_copies.extend(copy);
                }
                let (local, remote) = (&local.full_path, &remote.full_path);
                fold.versions.conflicting = self.read_conflicting_versions(key, local, remote)?;
            } else if file.facts.is_rewritten
                && let Some(new_side) = Side::of_extending(relation)
            {
                let new_version = new_side.select(local, remote);
                let old_version = new_side.other().select(local, remote);
                fold.versions.given_up_names =
                    self.find_given_up_names(key, old_version, new_version)?;
            }
        }

        fold.versions.is_thread_archived = self.is_thread_archived(key);
        file.conversation = fold.versions;
        file.notices = fold.notices;
        Ok(file)
    }

    /// Returns true if the newest rollout of a rewound thread is archived. `None` for a thread that was not rewound.
    fn is_thread_archived(&self, key: &str) -> Option<bool> {
        // The key is parsed only if the home has a rewound thread.
        if self.newest_rewinds.is_empty() {
            return None;
        }
        let thread = rollouts::id(key)?.to_lowercase();
        let newest = self.newest_rewinds.get(&thread)?;
        Some(newest.is_archived)
    }

    /// Returns true if a file of a rewound thread is archived and the newest rollout is not, or the reverse.
    pub(super) fn must_follow_thread(&self, key: &str, group: &FileGroup) -> bool {
        self.is_thread_archived(key).is_some_and(|is_archived| {
            let mut files = group.files();
            files.any(|file| rollouts::is_archived(&file.path) != is_archived)
        })
    }

    /// Chooses the main version among the files of one side. The others become duplicates; diverged ones also get a
    /// conflict copy. Returns `None` if `versions` is empty.
    fn fold_files_of_side(
        &self,
        fold: &mut ConversationFold<'_>,
        mut versions: Vec<FileVersion>,
    ) -> Result<Option<FileVersion>, IoError> {
        // The first file becomes the main version unless another one extends it. A plain file comes first, because
        // Codex reads it even if a compressed one exists. A file in a new folder comes before one in the folder of the
        // last sync, because a killed move leaves both.
        let last = self.records.last_synced(fold.key);
        versions.sort_by_key(|version| {
            let path = &version.observed.path;
            let old_folder =
                last.map(|last| rollouts::parent_folder(&last.file_on(version.observed.side).path));
            let is_in_old_folder = old_folder == Some(rollouts::parent_folder(path));
            (path.ends_with(ZST), is_in_old_folder, path.clone())
        });

        let mut versions = versions.into_iter();
        let Some(mut main_version) = versions.next() else {
            return Ok(None);
        };

        for version in versions {
            let duplicate = match main_version.compare_to(&version)?.relation {
                Relation::Equal | Relation::FirstExtends => version,
                Relation::SecondExtends => std::mem::replace(&mut main_version, version),
                Relation::Diverged => {
                    let copy = self.new_conflict_copy(fold, &version)?;
                    fold.versions.diverged_copies.extend(copy);
                    version
                }
            };
            fold.versions.duplicates.push(duplicate.observed);
        }
        Ok(Some(main_version))
    }

    /// Treats the copies that cloud clients made of conflicts as remote versions: a copy that extends the remote main
    /// version becomes the main version, a diverged one gets a conflict copy, and one without new lines is ignored. The
    /// clients' files themselves stay, because their client may still track them.
    fn fold_client_copies(
        &self,
        fold: &mut ConversationFold<'_>,
        local: Option<&FileVersion>,
        mut remote: Option<FileVersion>,
        copies: Vec<ClientCopy>,
    ) -> Result<Option<FileVersion>, IoError> {
        for copy in copies {
            let version = copy.version;
            let relation_of =
                |main: &FileVersion| main.compare_to(&version).map(|compared| compared.relation);
            let relation_to_local = local.map(relation_of).transpose()?;
            let relation_to_remote = remote.as_ref().map(relation_of).transpose()?;
            let has_no_new_lines = [relation_to_local, relation_to_remote]
                .iter()
                .any(|relation| matches!(relation, Some(Relation::Equal | Relation::FirstExtends)));
            let extends_remote = matches!(relation_to_remote, None | Some(Relation::SecondExtends));

            let name = conflict_copies::format_file_name(fold.key, &copy.digest);
            if has_no_new_lines || fold.creates_copy(&name) || self.has_copy_or_is_dropped(&name) {
                continue;
            }

            match copy.problem {
                Some(why) if extends_remote || !copy.has_usable_lines => {
                    let notice = NoticeList::WaitingUnlisted.notice(&version.observed.path, why);
                    fold.notices.push(notice);
                }
                None if extends_remote => remote = Some(version),
                // The lines of this copy are complete, so it is kept now. A longer version that arrives later gets a
                // conflict copy of its own.
                _ => {
                    let copy = self.new_conflict_copy(fold, &version)?;
                    fold.versions.diverged_copies.extend(copy);
                }
            }
        }
        Ok(remote)
    }

    /// Returns true if a version has a conflict copy, or the user has decided to drop it.
    fn has_copy_or_is_dropped(&self, name: &str) -> bool {
        self.records.conflict_copies.all.contains_key(name) || self.records.may_drop(name)
    }

    /// Returns the conflict copy to create for a version; `None` if the step creates it already, if the version has
    /// one, or if the user decided to drop the version. While `sync resolve` decides about this conversation, only the
    /// first of these reasons counts.
    fn new_conflict_copy(
        &self,
        fold: &ConversationFold<'_>,
        version: &FileVersion,
    ) -> Result<Option<NewConflictCopy>, IoError> {
        let digest = version.read_text_digest()?.digest;
        let name = conflict_copies::format_file_name(fold.key, &digest);
        let needs_no_copy = fold.creates_copy(&name)
            || (!fold.is_being_resolved && self.has_copy_or_is_dropped(&name));
        Ok((!needs_no_copy).then(|| NewConflictCopy {
            from: version.observed.clone(),
            name,
            digest,
        }))
    }

    /// Returns the names of the listed versions that will never arrive, because Codex rewrote `old_version` as
    /// `new_version`: the beginnings of `old_version` that are longer than `new_version`.
    fn find_given_up_names(
        &self,
        key: &str,
        old_version: &FileVersion,
        new_version: &FileVersion,
    ) -> Result<Vec<String>, IoError> {
        let mut names = Vec::new();
        for listed in self.records.attested_versions(key)? {
            if listed.size > new_version.observed.stat.size
                && old_version.text_begins_with(listed.size, &listed.digest)?
            {
                names.push(conflict_copies::format_file_name(key, &listed.digest));
            }
        }
        Ok(names)
    }

    /// Compares two diverged versions for the decision of the user; `None` if the file name in `key` has no
    /// conversation id.
    pub(super) fn read_conflicting_versions(
        &self,
        key: &str,
        local: &Path,
        remote: &Path,
    ) -> Result<Option<ConflictingVersions>, IoError> {
        let Some(id) = rollouts::id(key) else {
            return Ok(None);
        };
        let home = &self.config.local;
        let place = self.config.remote.describe_place();
        let versions = ConflictingVersions::compare(home, &id, local, remote, place);
        Ok(Some(versions.at("read", local)?))
    }
}

impl ConversationFold<'_> {
    /// Returns true if the step already creates the conflict copy of this name.
    fn creates_copy(&self, name: &str) -> bool {
        let mut copies = self.versions.diverged_copies.iter();
        copies.any(|copy| copy.name == name)
    }
}
