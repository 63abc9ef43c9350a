//! Texts that were deleted and have not come to life again since, and what is older than they are: a machine that
//! missed an edit still has the text from before it when the deletion of the edited one arrives.

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

/// A text that was deleted.
#[derive(Debug)]
pub(super) struct DeletedVersion {
    text: Sha256Digest,
    /// What a machine lists of it.
    version: Option<ManifestEntry>,
}

impl Planner<'_> {
    /// Corrects the facts about a file that one side lacks: a deletion goes over for the text that was deleted and
    /// for what is older. A file that came to life again, or was changed without looking so, stays.
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
            // The archive that the home was put back from may have had none.
            (None, Some(_)) if is_restored && facts.remote == Presence::Unchanged => {
                facts.remote = Presence::Changed;
            }
            (None, Some(remote)) if facts.remote == Presence::Unchanged => {
                let was = last.and_then(|last| last.contents);
                // Where equal times alone made them one text, what was deleted is not known.
                if was.map(|(_, text)| text) != Some(self.text_digest(&remote.seen)?.1) {
                    facts.remote = Presence::Changed;
                }
            }
            // A client has brought back what was deleted before.
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
                let mut asked = self.open_deletions(key)?;
                // The edit that was deleted may never have come here.
                facts.deletion_requested = asked.any(|deletion| deletion.digest == digest)
                    || is_plain && self.predates_deletion(key, &text)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn has_open_deletion(&self, key: &str) -> Result<bool, IoError> {
        Ok(self.open_deletions(key)?.next().is_some())
    }

    /// Whether a plain file of the cloud folder is older than what was deleted, here since the last sync or before.
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
        let was = last.and_then(|last| last.contents);
        if let Some((_, was)) = was.filter(|(_, was)| *was != text) {
            let (base, own) = (self.history_of(key, &was)?, self.history_of(key, &text)?);
            if causal_order((&own, &text), (&base, &was)) == CausalOrder::Older {
                return Ok(true);
            }
        }
        self.predates_deletion(key, &text)
    }

    /// What the state learns when a file goes from the cloud folder that was deleted here.
    pub(super) fn state_update_for_deletion(
        &self,
        key: &str,
        remote: &FileVersion,
        last: Option<&SyncedFile>,
    ) -> Result<StateUpdate, IoError> {
        let text = self.text_digest(&remote.seen)?.1;
        // The deletion of what came after it goes on.
        if self.predates_deletion(key, &text)? {
            return Ok(StateUpdate::Forget);
        }
        let was = last.and_then(|last| last.contents);
        Ok(StateUpdate::PublishDeletion(
            was.map_or(text, |(_, was)| was),
        ))
    }

    /// What was deleted of a file, here or elsewhere.
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

    /// Whether anything of a file was deleted and has not come to life again.
    pub(super) fn has_deleted_version(&self, key: &str) -> Result<bool, IoError> {
        Ok(!self.deleted_versions(key)?.is_empty())
    }

    /// What came before a text, by what all machines and the state say.
    pub(super) fn history_of(&self, key: &str, text: &Sha256Digest) -> Result<Ancestry, IoError> {
        let last = self.state.files.get(key);
        let is_last = last.is_some_and(|last| last.contents.is_some_and(|(_, of)| of == *text));
        let known = self.state.histories.get(key).filter(|_| is_last);
        let history = known.map(|history| history.with_explicit_vector(text));
        Ok(match self.attested_history(key, text)? {
            Some(said) => history.map_or(said.clone(), |history| history.merge(&said, text)),
            None => history.unwrap_or_else(|| Ancestry::first(text)),
        })
    }

    /// Whether a text of a plain file is older than one that was deleted.
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

    /// The history of a version that is put where others were deleted: it came after them, also where its text is
    /// one of theirs.
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

/// Whether a version that a machine lists was deleted, or is older than one that was.
pub(super) fn is_deleted(key: &str, version: &ManifestEntry, deleted: &[DeletedVersion]) -> bool {
    let is_conversation = rollouts::is_key(key);
    deleted.iter().any(|deleted| match &deleted.version {
        _ if version.digest == deleted.text => true,
        Some(of) if is_conversation => version.size <= of.size,
        // Nothing tells how long it was.
        None if is_conversation => true,
        Some(of) => {
            let (own, other) = (version.history(), of.history());
            causal_order((&own, &version.digest), (&other, &deleted.text)) != CausalOrder::Newer
        }
        None => !version.history().replaces(&deleted.text),
    })
}
