//! Rules for deletions with `delete_policy = "propagate"`. A deletion applies to exactly the deleted text. A file that
//! was re-created cancels the deletion.

use super::file_version::{FilePair, text_digest};
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::sync::config::DeletePolicy;
use crate::sync::decide::{FileFacts, Presence};
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::inputs::Inputs;
use crate::sync::rollouts;
use crate::sync::state::Deletion;

/// Returns the deletions of a file that other machines publish and that are not cancelled.
pub(crate) fn pending_deletions<'i>(
    inputs: &'i Inputs<'_>,
    key: &str,
) -> impl Iterator<Item = &'i Deletion> {
    let asked = inputs.manifests.deletions(key);
    asked.filter(|deletion| !inputs.state.resolutions.contains(&deletion.id))
}

/// Returns the ids of the pending deletions that a re-created file cancels, even with identical content. Called for
/// each file that is copied to a cloud folder without it.
pub(crate) fn cancelled_deletions(inputs: &Inputs<'_>, key: &str) -> Vec<String> {
    let asked = pending_deletions(inputs, key);
    asked.map(|deletion| deletion.id.clone()).collect()
}

/// Returns the facts about a file, corrected if one side lacks it so that a deletion is copied only for the deleted
/// text. A re-created or edited file stays.
pub(crate) fn with_deletions(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    mut facts: FileFacts,
) -> Result<FileFacts, IoError> {
    if inputs.rules.delete != DeletePolicy::Propagate {
        return Ok(facts);
    }
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
        (Some(local), None)
            if facts.local == Presence::Unchanged
                && pending_deletions(inputs, key).next().is_some() =>
        {
            let digest_text = text_digest(inputs.config, &local.seen)?.1.to_string();
            let mut deletions = pending_deletions(inputs, key);
            facts.deletion_requested = deletions.any(|deletion| deletion.digest == digest_text);
        }
        _ => {}
    }
    Ok(facts)
}

/// Returns the digests of the deleted versions of a file, whose deletions are published and not cancelled.
pub(crate) fn deleted_versions(inputs: &Inputs<'_>, key: &str) -> Vec<Sha256Digest> {
    // The records of resolutions also hold the ids of cancelled deletions.
    let own = inputs.state.deleted.get(key).filter(|deletion| {
        let mut records = inputs.resolutions().into_iter();
        !records.any(|records| records.contains(&deletion.id))
    });
    let known = pending_deletions(inputs, key).chain(own);
    let digests = known.filter_map(|deletion| Sha256Digest::parse(&deletion.digest));
    digests.collect()
}

/// Returns true if a listed version was `deleted`, or is no longer than the deleted one, so that no machine has to wait
/// for it. Of plain files, nothing tells which version is newer.
pub(crate) fn is_deleted(
    inputs: &Inputs<'_>,
    key: &str,
    version: &ManifestEntry,
    deleted: Sha256Digest,
) -> bool {
    let mut attested = inputs.attested_versions(key);
    match attested.find(|attested| attested.digest == deleted) {
        Some(of) if rollouts::is_key(key) && version.digest != deleted => version.size <= of.size,
        _ => true,
    }
}
