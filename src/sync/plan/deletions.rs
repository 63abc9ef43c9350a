//! Rules for deletions with `delete_policy = "propagate"`. A deletion applies to exactly the deleted text and, for plain
//! files, to its ancestors: a machine that missed an edit still has the older text when the deletion of the edited one
//! arrives. A file that was re-created cancels the deletion.

use super::versions::FileVersion;
use super::{Planner, StateUpdate};
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::sync::config::DeletePolicy;
use crate::sync::decide::{FileFacts, FileKind, Presence};
use crate::sync::manifest::ManifestEntry;
use crate::sync::rollouts;
use crate::sync::state::SyncedFile;
use crate::sync::version_vector::{Ancestry, CausalOrder, causal_order};

/// A deleted version whose deletion is not cancelled.
#[derive(Debug)]
pub(super) struct DeletedVersion {
    text: Sha256Digest,
    /// The entry of the version in a manifest, if a machine still lists it.
    version: Option<ManifestEntry>,
}

impl Planner<'_> {
    /// Corrects the facts about a file that one side lacks, so that a deletion is copied only for the deleted text and
    /// for older ones. A re-created or edited file stays.
    pub(super) fn check_deletion(
        &self,
        key: &str,
        facts: &mut FileFacts,
        (local, remote): (Option<&FileVersion>, Option<&FileVersion>),
        last: Option<&SyncedFile>,
    ) -> Result<(), IoError> {
        if self.rules.delete != DeletePolicy::Propagate {
            return Ok(());
        }
        let is_plain = facts.kind == FileKind::Plain;
        let is_restored = self.state.restore_marker.is_some();
        match (local, remote) {
            // The home was restored from an archive, which may never have contained the file: that is no deletion.
            (None, Some(_)) if is_restored && facts.remote == Presence::Unchanged => {
                facts.remote = Presence::Changed;
            }
            (None, Some(remote)) if facts.remote == Presence::Unchanged => {
                let last_contents = last.and_then(|last| last.contents);
                // If equality was inferred from mtimes only, the deleted content is unknown, so the remote file is
                // kept.
                if last_contents.map(|(_, text)| text) != Some(self.text_digest(&remote.seen)?.1) {
                    facts.remote = Presence::Changed;
                }
            }
            // A cloud client restored an old version of the deleted file.
            (None, Some(remote))
                if is_plain
                    && !is_restored
                    && self.remote_predates_deletion(key, remote, last)? =>
            {
                facts.remote = Presence::Unchanged;
            }
            (Some(local), None)
                if facts.local == Presence::Unchanged && self.has_open_deletion(key)? =>
            {
                let text = self.text_digest(&local.seen)?.1;
                let digest = text.to_string();
                let mut deletions = self.open_deletions(key)?;
                // This machine may never have got the edited version that was deleted.
                facts.deletion_requested = deletions.any(|deletion| deletion.digest == digest)
                    || is_plain && self.predates_deletion(key, &text)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn has_open_deletion(&self, key: &str) -> Result<bool, IoError> {
        Ok(self.open_deletions(key)?.next().is_some())
    }

    /// Returns true if a remote plain file is older than the version that this machine deleted since the last sync, or
    /// than one that any machine deleted before.
    fn remote_predates_deletion(
        &self,
        key: &str,
        remote: &FileVersion,
        last: Option<&SyncedFile>,
    ) -> Result<bool, IoError> {
        if last.is_none() && !self.has_deleted_version(key)? {
            return Ok(false);
        }
        let text = self.text_digest(&remote.seen)?.1;
        let last_contents = last.and_then(|last| last.contents);
        if let Some((_, last_text)) = last_contents.filter(|(_, last_text)| *last_text != text) {
            let (base, own) = (
                self.history_of(key, &last_text)?,
                self.history_of(key, &text)?,
            );
            if causal_order((&own, &text), (&base, &last_text)) == CausalOrder::Older {
                return Ok(true);
            }
        }
        self.predates_deletion(key, &text)
    }

    /// Returns the state update for deleting a remote file that was deleted on this machine.
    pub(super) fn state_update_for_deletion(
        &self,
        key: &str,
        remote: &FileVersion,
        last: Option<&SyncedFile>,
    ) -> Result<StateUpdate, IoError> {
        let text = self.text_digest(&remote.seen)?.1;
        // The deletion of a newer version is published already and covers this one.
        if self.predates_deletion(key, &text)? {
            return Ok(StateUpdate::Forget);
        }
        let last_contents = last.and_then(|last| last.contents);
        Ok(StateUpdate::PublishDeletion(
            last_contents.map_or(text, |(_, last_text)| last_text),
        ))
    }

    /// Returns the deleted versions of a file: those that machines publish and those that this plan will publish.
    pub(super) fn deleted_versions(&self, key: &str) -> Result<Vec<DeletedVersion>, IoError> {
        let others = &self.manifests()?.resolutions;
        let own = self.state.deleted.get(key).filter(|deletion| {
            !self.state.resolutions.contains(&deletion.id) && !others.contains(&deletion.id)
        });
        let known = self.open_deletions(key)?.chain(own);
        let known = known.map(|deletion| deletion.digest.as_str());
        let planned = self.plan.deletions.iter().filter(|(of, _)| of == key);
        let texts = known.chain(planned.map(|(_, text)| text.as_str()));
        let mut all = Vec::new();
        for text in texts.filter_map(Sha256Digest::parse) {
            let mut listed = self.attested_versions(key)?;
            let version = listed.find(|version| version.digest == text).cloned();
            all.push(DeletedVersion { text, version });
        }
        Ok(all)
    }

    /// Returns true if a version of the file was deleted and the file was not re-created since.
    pub(super) fn has_deleted_version(&self, key: &str) -> Result<bool, IoError> {
        Ok(!self.deleted_versions(key)?.is_empty())
    }

    /// Returns the ancestry of a text, from all manifests and the state.
    pub(super) fn history_of(&self, key: &str, text: &Sha256Digest) -> Result<Ancestry, IoError> {
        let last = self.state.files.get(key);
        let is_last = last.is_some_and(|last| last.contents.is_some_and(|(_, of)| of == *text));
        let known = self.state.histories.get(key).filter(|_| is_last);
        let history = known.map(|history| history.with_explicit_vector(text));
        Ok(match self.attested_history(key, text)? {
            Some(attested) => {
                history.map_or(attested.clone(), |history| history.merge(&attested, text))
            }
            None => history.unwrap_or_else(|| Ancestry::first(text)),
        })
    }

    /// Returns true if a text of a plain file is an ancestor of a deleted one.
    pub(super) fn predates_deletion(
        &self,
        key: &str,
        text: &Sha256Digest,
    ) -> Result<bool, IoError> {
        let deleted = self.deleted_versions(key)?;
        if deleted.iter().all(|deleted| deleted.version.is_none()) {
            return Ok(false);
        }
        let own = self.history_of(key, text)?;
        let is_newer = |deleted: &DeletedVersion| {
            let history = deleted.version.as_ref().map(ManifestEntry::history);
            history.is_some_and(|history| {
                causal_order((&history, &deleted.text), (&own, text)) == CausalOrder::Newer
            })
        };
        Ok(deleted.iter().any(is_newer))
    }

    /// Adds the deleted versions of a file to the ancestry of its re-created version: that is newer than they are, even
    /// if its text equals one of theirs. Also returns whether there were any.
    pub(super) fn with_deleted_ancestors(
        &self,
        key: &str,
        mut history: Ancestry,
        text: &Sha256Digest,
    ) -> Result<(Ancestry, bool), IoError> {
        let deleted = self.deleted_versions(key)?;
        for DeletedVersion {
            text: gone,
            version,
        } in &deleted
        {
            if let Some(version) = version {
                history = history.merge(&version.history(), text);
            }
            history = history.record_replaced(Some(*gone), text);
        }
        Ok((history, !deleted.is_empty()))
    }
}

/// Returns true if a version of a manifest was deleted or is older than a deleted one, so that no machine has to wait
/// for it.
pub(super) fn is_deleted(key: &str, version: &ManifestEntry, deleted: &[DeletedVersion]) -> bool {
    let is_conversation = rollouts::is_key(key);
    deleted.iter().any(|deleted| match &deleted.version {
        _ if version.digest == deleted.text => true,
        Some(of) if is_conversation => version.size <= of.size,
        // The length of the deleted conversation is unknown: without evidence of a longer version, do not wait.
        None if is_conversation => true,
        Some(of) => {
            let (own, other) = (version.history(), of.history());
            causal_order((&own, &version.digest), (&other, &deleted.text)) != CausalOrder::Newer
        }
        None => !version.history().replaces(&deleted.text),
    })
}
