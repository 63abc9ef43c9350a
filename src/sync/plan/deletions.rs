//! Texts that were deleted and have not come to life again since, and what is older than they are: a machine that
//! missed an edit still has the text from before it when the deletion of the edited one arrives.

use super::versions::FileVersion;
use super::{Planner, StateUpdate};
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::sync::config::DeletePolicy;
use crate::sync::decide::{Facts, FileKind, Presence};
use crate::sync::lineage::{Descent, History, descent};
use crate::sync::manifest::Written;
use crate::sync::rollouts;
use crate::sync::state::Last;

/// A text that was deleted.
#[derive(Debug)]
pub(super) struct DeletedVersion {
    text: Sha256Digest,
    /// What a machine lists of it.
    version: Option<Written>,
}

impl Planner<'_> {
    /// Corrects the facts about a file that one side lacks: a deletion goes over for the text that was deleted and
    /// for what is older. A file that came to life again, or was changed without looking so, stays.
    pub(super) fn check_deletion(
        &self,
        key: &str,
        facts: &mut Facts,
        (here, there): (Option<&FileVersion>, Option<&FileVersion>),
        last: Option<&Last>,
    ) -> Result<(), IoError> {
        if self.rules.delete != DeletePolicy::Propagate {
            return Ok(());
        }
        let is_plain = facts.kind == FileKind::Plain;
        let is_restored = self.state.restored.is_some();
        match (here, there) {
            // The archive that the home was put back from may have had none.
            (None, Some(_)) if is_restored && facts.there == Presence::Unchanged => {
                facts.there = Presence::Changed;
            }
            (None, Some(there)) if facts.there == Presence::Unchanged => {
                let was = last.and_then(|last| last.contents);
                // Where equal times alone made them one text, what was deleted is not known.
                if was.map(|(_, text)| text) != Some(self.text_digest(&there.seen)?.1) {
                    facts.there = Presence::Changed;
                }
            }
            // A client has brought back what was deleted before.
            (None, Some(there))
                if is_plain
                    && !is_restored
                    && self.remote_predates_deletion(key, there, last)? =>
            {
                facts.there = Presence::Unchanged;
            }
            (Some(here), None)
                if facts.here == Presence::Unchanged && self.has_open_deletion(key)? =>
            {
                let text = self.text_digest(&here.seen)?.1;
                let digest = text.to_string();
                let mut asked = self.open_deletions(key)?;
                // The edit that was deleted may never have come here.
                facts.delete_asked = asked.any(|deletion| deletion.digest == digest)
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
        there: &FileVersion,
        last: Option<&Last>,
    ) -> Result<bool, IoError> {
        if last.is_none() && !self.has_deleted_version(key)? {
            return Ok(false);
        }
        let text = self.text_digest(&there.seen)?.1;
        let was = last.and_then(|last| last.contents);
        if let Some((_, was)) = was.filter(|(_, was)| *was != text) {
            let (base, own) = (self.history_of(key, &was)?, self.history_of(key, &text)?);
            if descent((&own, &text), (&base, &was)) == Descent::Older {
                return Ok(true);
            }
        }
        self.predates_deletion(key, &text)
    }

    /// What the state learns when a file goes from the cloud folder that was deleted here.
    pub(super) fn state_update_for_deletion(
        &self,
        key: &str,
        there: &FileVersion,
        last: Option<&Last>,
    ) -> Result<StateUpdate, IoError> {
        let text = self.text_digest(&there.seen)?.1;
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
        let others = &self.manifests()?.resolved;
        let own = self.state.deleted.get(key).filter(|deletion| {
            !self.state.resolved.contains(&deletion.id) && !others.contains(&deletion.id)
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
    pub(super) fn history_of(&self, key: &str, text: &Sha256Digest) -> Result<History, IoError> {
        let last = self.state.files.get(key);
        let is_last = last.is_some_and(|last| last.contents.is_some_and(|(_, of)| of == *text));
        let known = self.state.histories.get(key).filter(|_| is_last);
        let history = known.map(|history| history.of(text));
        Ok(match self.attested_history(key, text)? {
            Some(said) => history.map_or(said.clone(), |history| history.with(&said, text)),
            None => history.unwrap_or_else(|| History::first(text)),
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
            let history = deleted.version.as_ref().map(Written::history);
            history.is_some_and(|history| {
                descent((&history, &deleted.text), (&own, text)) == Descent::Newer
            })
        };
        Ok(deleted.iter().any(is_newer))
    }

    /// The history of a version that is put where others were deleted: it came after them, also where its text is
    /// one of theirs.
    pub(super) fn with_deleted_ancestors(
        &self,
        key: &str,
        mut history: History,
        text: &Sha256Digest,
    ) -> Result<(History, bool), IoError> {
        let deleted = self.deleted_versions(key)?;
        for DeletedVersion {
            text: gone,
            version,
        } in &deleted
        {
            if let Some(version) = version {
                history = history.with(&version.history(), text);
            }
            history = history.noting(Some(*gone), text);
        }
        Ok((history, !deleted.is_empty()))
    }
}

/// Whether a version that a machine lists was deleted, or is older than one that was.
pub(super) fn is_deleted(key: &str, version: &Written, deleted: &[DeletedVersion]) -> bool {
    let is_conversation = rollouts::is_key(key);
    deleted.iter().any(|deleted| match &deleted.version {
        _ if version.digest == deleted.text => true,
        Some(of) if is_conversation => version.size <= of.size,
        // Nothing tells how long it was.
        None if is_conversation => true,
        Some(of) => {
            let (own, other) = (version.history(), of.history());
            descent((&own, &version.digest), (&other, &deleted.text)) != Descent::Newer
        }
        None => !version.history().is_over(&deleted.text),
    })
}
