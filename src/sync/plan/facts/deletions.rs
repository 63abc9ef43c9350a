//! Rules for deletions with `delete_policy = "propagate"`. A deletion applies to exactly the deleted text and, for plain
//! files, to its ancestors: a machine that missed an edit still has the older text when the deletion of the edited one
//! arrives. A file that was re-created cancels the deletion.

use super::file_version::{FilePair, FileVersion, text_digest};
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::sync::config::DeletePolicy;
use crate::sync::decide::{FileFacts, FileKind, Presence};
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::steps::sync_step::StateUpdate;
use crate::sync::rollouts;
use crate::sync::state::{Deletion, SyncedFile};
use crate::sync::version_vector::{Ancestry, CausalOrder, causal_order};

/// A deleted version whose deletion is not cancelled.
#[derive(Debug)]
pub(crate) struct DeletedVersion {
    digest: Sha256Digest,
    /// The entry of the version in a manifest, if a machine still lists it.
    version: Option<ManifestEntry>,
}

/// Returns the deletions of a file that other machines publish and that are not cancelled.
pub(crate) fn pending_deletions<'i>(
    inputs: &'i Inputs<'_>,
    key: &str,
) -> Result<impl Iterator<Item = &'i Deletion>, IoError> {
    let asked = inputs.manifests()?.deletions(key);
    Ok(asked.filter(|deletion| !inputs.state.resolutions.contains(&deletion.id)))
}

/// Returns the ids of the pending deletions that a re-created file cancels, even with identical content. Called for each
/// file that is copied to a cloud folder without it.
pub(crate) fn cancelled_deletions(inputs: &Inputs<'_>, key: &str) -> Result<Vec<String>, IoError> {
    let asked = pending_deletions(inputs, key)?;
    Ok(asked.map(|deletion| deletion.id.clone()).collect())
}

/// Corrects the facts about a file that one side lacks, so that a deletion is copied only for the deleted text and
/// for older ones. A re-created or edited file stays.
pub(crate) fn check_deletion(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    facts: &mut FileFacts,
) -> Result<(), IoError> {
    if inputs.rules.delete != DeletePolicy::Propagate {
        return Ok(());
    }
    let is_plain = facts.kind == FileKind::Plain;
    let is_restored = inputs.state.restore_marker.is_some();
    let (key, last) = (pair.key, pair.last);
    match (&pair.local, &pair.remote) {
        // The home was restored from an archive, which may never have contained the file: that is no deletion.
        (None, Some(_)) if is_restored && facts.remote == Presence::Unchanged => {
            facts.remote = Presence::Changed;
        }
        (None, Some(remote)) if facts.remote == Presence::Unchanged => {
            let last_contents = last.and_then(|last| last.contents);
            // If equality was inferred from mtimes only, the deleted content is unknown, so the remote file is
            // kept.
            if last_contents.map(|(_, digest)| digest)
                != Some(text_digest(inputs.config, &remote.seen)?.1)
            {
                facts.remote = Presence::Changed;
            }
        }
        // The remote file is an old version that a cloud client restored. As `Unchanged`, it is deleted again.
        (None, Some(remote))
            if is_plain && !is_restored && remote_predates_deletion(inputs, key, remote, last)? =>
        {
            facts.remote = Presence::Unchanged;
        }
        (Some(local), None)
            if facts.local == Presence::Unchanged && has_pending_deletion(inputs, key)? =>
        {
            let digest = text_digest(inputs.config, &local.seen)?.1;
            let digest_text = digest.to_string();
            let mut deletions = pending_deletions(inputs, key)?;
            // This machine may never have got the edited version that was deleted.
            facts.deletion_requested = deletions.any(|deletion| deletion.digest == digest_text)
                || is_plain && predates_deletion(inputs, key, &digest)?;
        }
        _ => {}
    }
    Ok(())
}

fn has_pending_deletion(inputs: &Inputs<'_>, key: &str) -> Result<bool, IoError> {
    Ok(pending_deletions(inputs, key)?.next().is_some())
}

/// Returns true if a remote plain file is older than the version that this machine deleted since the last sync, or
/// than one that any machine deleted before.
fn remote_predates_deletion(
    inputs: &Inputs<'_>,
    key: &str,
    remote: &FileVersion,
    last: Option<&SyncedFile>,
) -> Result<bool, IoError> {
    if last.is_none() && !has_deleted_version(inputs, key)? {
        return Ok(false);
    }
    let digest = text_digest(inputs.config, &remote.seen)?.1;
    let last_contents = last.and_then(|last| last.contents);
    if let Some((_, last_digest)) = last_contents.filter(|(_, last_digest)| *last_digest != digest)
    {
        let (base, own) = (
            inputs.ancestry_of(key, &last_digest)?,
            inputs.ancestry_of(key, &digest)?,
        );
        if causal_order((&own, &digest), (&base, &last_digest)) == CausalOrder::Older {
            return Ok(true);
        }
    }
    predates_deletion(inputs, key, &digest)
}

/// Returns the state update for deleting a remote file that was deleted on this machine.
pub(crate) fn state_update_for_deletion(
    inputs: &Inputs<'_>,
    key: &str,
    remote: &FileVersion,
    last: Option<&SyncedFile>,
) -> Result<StateUpdate, IoError> {
    let digest = text_digest(inputs.config, &remote.seen)?.1;
    // The deletion of a newer version is published already and covers this one.
    if predates_deletion(inputs, key, &digest)? {
        return Ok(StateUpdate::Forget);
    }
    let last_contents = last.and_then(|last| last.contents);
    Ok(StateUpdate::PublishDeletion(
        last_contents.map_or(digest, |(_, last_digest)| last_digest),
    ))
}

/// Returns the deleted versions of a file: those that machines publish.
pub(crate) fn deleted_versions(
    inputs: &Inputs<'_>,
    key: &str,
) -> Result<Vec<DeletedVersion>, IoError> {
    // The records of resolutions also hold the ids of cancelled deletions.
    let others = &inputs.manifests()?.resolutions;
    let own = inputs.state.deleted.get(key).filter(|deletion| {
        !inputs.state.resolutions.contains(&deletion.id) && !others.contains(&deletion.id)
    });
    let known = pending_deletions(inputs, key)?.chain(own);
    let digests = known.filter_map(|deletion| Sha256Digest::parse(&deletion.digest));
    digests
        .map(|digest| deleted_version(inputs, key, digest))
        .collect()
}

/// Returns a deleted version of a file, with its ancestry if a machine still lists it.
pub(crate) fn deleted_version(
    inputs: &Inputs<'_>,
    key: &str,
    digest: Sha256Digest,
) -> Result<DeletedVersion, IoError> {
    let mut listed = inputs.attested_versions(key)?;
    let version = listed.find(|version| version.digest == digest).cloned();
    Ok(DeletedVersion { digest, version })
}

/// Returns true if a version of the file was deleted and the file was not re-created since.
pub(crate) fn has_deleted_version(inputs: &Inputs<'_>, key: &str) -> Result<bool, IoError> {
    Ok(!deleted_versions(inputs, key)?.is_empty())
}

/// Returns true if a text of a plain file is an ancestor of a deleted one.
fn predates_deletion(
    inputs: &Inputs<'_>,
    key: &str,
    digest: &Sha256Digest,
) -> Result<bool, IoError> {
    let deleted = deleted_versions(inputs, key)?;
    if deleted.iter().all(|deleted| deleted.version.is_none()) {
        return Ok(false);
    }
    let own = inputs.ancestry_of(key, digest)?;
    let is_newer = |deleted: &DeletedVersion| {
        let history = deleted.version.as_ref().map(ManifestEntry::history);
        history.is_some_and(|history| {
            causal_order((&history, &deleted.digest), (&own, digest)) == CausalOrder::Newer
        })
    };
    Ok(deleted.iter().any(is_newer))
}

/// Adds the deleted versions of a file to the ancestry of its re-created version, which counts as newer than they
/// do, even with equal content. Also returns true if there were any.
pub(crate) fn with_deleted_ancestors(
    inputs: &Inputs<'_>,
    key: &str,
    mut history: Ancestry,
    digest: &Sha256Digest,
) -> Result<(Ancestry, bool), IoError> {
    let deleted = deleted_versions(inputs, key)?;
    for DeletedVersion {
        digest: gone,
        version,
    } in &deleted
    {
        if let Some(version) = version {
            history = history.merge(&version.history(), digest);
        }
        history = history.record_replaced(Some(*gone), digest);
    }
    Ok((history, !deleted.is_empty()))
}

/// Returns true if a version of a manifest was deleted or is older than a deleted one, so that no machine has to wait
/// for it.
pub(crate) fn is_deleted(key: &str, version: &ManifestEntry, deleted: &[DeletedVersion]) -> bool {
    let is_conversation = rollouts::is_key(key);
    deleted.iter().any(|deleted| match &deleted.version {
        _ if version.digest == deleted.digest => true,
        Some(of) if is_conversation => version.size <= of.size,
        // The length of the deleted conversation is unknown: without evidence of a longer version, do not wait.
        None if is_conversation => true,
        Some(of) => {
            let (own, other) = (version.history(), of.history());
            causal_order((&own, &version.digest), (&other, &deleted.digest)) != CausalOrder::Newer
        }
        None => !version.history().replaces(&deleted.digest),
    })
}
