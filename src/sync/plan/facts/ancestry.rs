//! Ancestry of plain files: which of two versions descends from the other, and which ancestry is published with a
//! version that is copied.
//!
//! A differing remote file is not always newer, because cloud clients deliver late or restore old versions. Each version
//! has an [`Ancestry`]: a version vector that counts the changes of each machine, and the digests of the texts that it
//! replaced. Manifests list the ancestry of the versions that they attest; the state records that of the last sync.

use super::deletions;
use super::file_version::{FilePair, FileVersion, is_truncated_prefix, raw_digest};
use crate::codex::rollout::Relation;
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::sync::decide::{FileFacts, FileKind, NewerSide, Presence};
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::steps::file_plan::attested_file;
use crate::sync::version_vector::{Ancestry, CausalOrder, causal_order};

/// A version whose ancestry is known: its ancestry and the digest of its content.
type KnownVersion = (Ancestry, Sha256Digest);

/// Ancestry of the versions of one file.
#[derive(Debug, Default)]
pub(crate) struct AncestryFacts {
    /// The version of the last sync, or a newer one that this machine is known to have had since.
    base: Option<KnownVersion>,
    /// Digest of the remote text, if the remote file changed.
    remote_digest: Option<Sha256Digest>,
    /// Ancestry of the remote text, if a machine attests it.
    remote_ancestry: Option<Ancestry>,
}

/// The ancestry of a version that is copied to this machine.
pub(crate) struct DownloadAncestry {
    /// The ancestry to record.
    pub(crate) history: Option<Box<Ancestry>>,
    /// Path and manifest entry, if this machine attests the version from now on.
    pub(crate) attested: Option<(String, ManifestEntry)>,
}

/// Finds out which of two versions of a plain file descends from the other. Corrects `facts.local`, `facts.remote`
/// and `facts.causal_order`, which relates the remote version to the base, or to the local version if a machine
/// attests that. `download` is the ledger entry of the local version if a killed run downloaded it.
pub(crate) fn ancestry_facts(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    facts: &mut FileFacts,
    download: Option<&ManifestEntry>,
) -> Result<AncestryFacts, IoError> {
    use Presence::{Changed, New, Unchanged};
    let mut ancestry = AncestryFacts::default();
    if facts.kind != FileKind::Plain || (facts.local, facts.remote) == (Unchanged, Unchanged) {
        return Ok(ancestry);
    }
    let (key, local) = (pair.key, pair.local.as_ref());
    ancestry.base = match download {
        Some(download) => Some((download.history(), download.digest)),
        None => base(inputs, pair, *facts)?,
    };
    let remote = pair.remote.as_ref();
    let Some(remote) = remote.filter(|_| matches!(facts.remote, Changed | New)) else {
        return Ok(ancestry);
    };
    let remote_digest = match remote.digest {
        Some(digest) => digest,
        None if local.is_none() && ancestry.base.is_none() => return Ok(ancestry),
        None => raw_digest(inputs.config, &remote.seen)?,
    };
    ancestry.remote_digest = Some(remote_digest);
    ancestry.remote_ancestry = inputs.attested_ancestry(key, &remote_digest)?;
    let Some(local) = local.filter(|_| facts.relation != Some(Relation::Equal)) else {
        return Ok(ancestry);
    };
    // Without a base, a state with gaps may have known more about the local text than the manifests do.
    let is_state_reliable = ancestry.base.is_some() || !inputs.state.has_gaps;
    if is_state_reliable
        && matches!(facts.local, Changed | New)
        && explain_local_text(inputs, key, facts, &mut ancestry, local, remote_digest)?
    {
        return Ok(ancestry);
    }
    if let Some(base) = &ancestry.base {
        facts.causal_order = order_by_base(inputs, *facts, &ancestry, base, remote, remote_digest)?;
    }
    if facts.causal_order == CausalOrder::Concurrent && facts.local == Unchanged {
        facts.causal_order = order_by_prefix(inputs, &ancestry, local, remote)?;
    }
    Ok(ancestry)
}

/// Finds out whether a changed local text is more than a local edit of the base: the remote file has it too, it
/// replaced a version that a killed run of this machine uploaded, or a machine attests it. Corrects the facts and
/// the base accordingly, and returns true then.
fn explain_local_text(
    inputs: &Inputs<'_>,
    key: &str,
    facts: &mut FileFacts,
    ancestry: &mut AncestryFacts,
    local: &FileVersion,
    remote_digest: Sha256Digest,
) -> Result<bool, IoError> {
    use Presence::{Changed, Unchanged};
    let local_digest = raw_digest(inputs.config, &local.seen)?;
    if local_digest == remote_digest {
        return Ok(true);
    }
    if let Some(own) = ancestry_of_killed_upload(inputs, key, ancestry, &remote_digest)? {
        // This machine uploaded the remote version itself, so only the local one has changed since.
        (facts.local, facts.remote) = (Changed, Unchanged);
        ancestry.base = Some((own, remote_digest));
        return Ok(true);
    }
    let attested = inputs.attested_ancestry(key, &local_digest)?;
    let Some(attested) = attested.filter(|attested| ancestry.is_newer_than_base(attested)) else {
        return Ok(false);
    };
    let order = match &ancestry.remote_ancestry {
        Some(remote) => causal_order((remote, &remote_digest), (&attested, &local_digest)),
        None if attested.replaces(&remote_digest) => CausalOrder::Older,
        None => CausalOrder::Unknown,
    };
    if !matches!(order, CausalOrder::Newer | CausalOrder::Older) {
        return Ok(false);
    }
    facts.causal_order = order;
    // A machine attests the local text, so it is not a local edit: compares as if it were the last sync.
    (facts.local, facts.remote) = (Unchanged, Changed);
    ancestry.base = Some((attested, local_digest));
    Ok(true)
}

/// Orders the remote version and the base.
fn order_by_base(
    inputs: &Inputs<'_>,
    facts: FileFacts,
    ancestry: &AncestryFacts,
    (base, base_digest): &KnownVersion,
    remote: &FileVersion,
    remote_digest: Sha256Digest,
) -> Result<CausalOrder, IoError> {
    if let Some(attested) = &ancestry.remote_ancestry {
        let remote = (attested, &remote_digest);
        return Ok(causal_order(remote, (base, base_digest)));
    }
    if base.replaces(&remote_digest) && inputs.has_other_machines()? {
        return Ok(CausalOrder::Older);
    }
    // The digest is known from `superseded_digest`: another version replaced this one.
    let is_superseded = remote.digest.is_some();
    let may_be_older = inputs.request.accept_unlisted && facts.newer == NewerSide::Local;
    Ok(
        if is_superseded || may_be_older && inputs.has_other_machines()? {
            CausalOrder::OlderUnattested
        } else {
            CausalOrder::Unknown
        },
    )
}

/// Orders two versions without ancestors: a version that is a prefix of the other, cut within a line, is older. A
/// machine copied the incomplete file in its first sync, before any manifest had arrived.
fn order_by_prefix(
    inputs: &Inputs<'_>,
    ancestry: &AncestryFacts,
    local: &FileVersion,
    remote: &FileVersion,
) -> Result<CausalOrder, IoError> {
    let is_first = |known: Option<(&Ancestry, &Sha256Digest)>| {
        known.is_some_and(|(history, digest)| history.is_first(digest))
    };
    let base = ancestry
        .base
        .as_ref()
        .map(|(history, digest)| (history, digest));
    let attested = ancestry
        .remote_ancestry
        .as_ref()
        .zip(ancestry.remote_digest.as_ref());
    Ok(if !is_first(base) || !is_first(attested) {
        CausalOrder::Concurrent
    } else if is_truncated_prefix(inputs.config, remote, local)? {
        CausalOrder::Newer
    } else if is_truncated_prefix(inputs.config, local, remote)? {
        CausalOrder::Older
    } else {
        CausalOrder::Concurrent
    })
}

/// Returns the version of the last sync. If the state does not know its digest, that of an unchanged side is read.
fn base(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    facts: FileFacts,
) -> Result<Option<KnownVersion>, IoError> {
    let Some(last) = pair.last else {
        return Ok(None);
    };
    let local = pair.local.as_ref();
    let remote = pair.remote.as_ref();
    let unchanged = local
        .filter(|_| facts.local == Presence::Unchanged)
        .or(remote.filter(|_| facts.remote == Presence::Unchanged));
    let digest = match (last.contents, unchanged) {
        (Some((_, digest)), _) => digest,
        (None, Some(version)) => raw_digest(inputs.config, &version.seen)?,
        (None, None) => return Ok(None),
    };
    let history = inputs.state.histories.get(pair.key);
    let history = history.map_or_else(
        || Ancestry::first(&digest),
        |history| history.with_explicit_vector(&digest),
    );
    Ok(Some((history, digest)))
}

/// Returns the ancestry of the remote version if a killed run of this machine uploaded it without recording it in
/// the state. The local version was then edited after it.
fn ancestry_of_killed_upload(
    inputs: &Inputs<'_>,
    key: &str,
    ancestry: &AncestryFacts,
    remote_digest: &Sha256Digest,
) -> Result<Option<Ancestry>, IoError> {
    let Some(own) = manifest::listed_ancestry(remote_digest, inputs.ledger_versions(key)?) else {
        return Ok(None);
    };
    let writer = &inputs.state.own.writer;
    let is_unrecorded = match &ancestry.base {
        Some((base, _)) => own.vector.count(writer) > base.vector.count(writer),
        // Without a base, only a first version can have been uploaded.
        None => own.is_first(remote_digest),
    };
    Ok(is_unrecorded.then_some(own))
}

/// Returns the ancestry to publish with a local version that is copied to the cloud folder.
pub(crate) fn ancestry_for_upload(
    inputs: &Inputs<'_>,
    key: &str,
    facts: FileFacts,
    ancestry: &AncestryFacts,
    local: &FileVersion,
) -> Result<Option<Box<Ancestry>>, IoError> {
    let before = inputs.state.histories.get(key);
    let is_new_remote = facts.remote == Presence::Absent;
    let has_no_other_version =
        before.is_none() && ancestry.base.is_none() && ancestry.remote_digest.is_none();
    if has_no_other_version && !(is_new_remote && deletions::has_deleted_version(inputs, key)?) {
        return Ok(None);
    }
    let digest = raw_digest(inputs.config, &local.seen)?;
    let is_unchanged = facts.local == Presence::Unchanged;
    let attested = if is_unchanged {
        None
    } else {
        let attested = inputs.attested_ancestry(key, &digest)?;
        attested.filter(|attested| ancestry.is_newer_than_base(attested))
    };
    let is_change_counted = is_unchanged || attested.is_some();
    let base = ancestry.base.as_ref().map(|(base, _)| base).or(before);
    let mut history = attested.or_else(|| base.cloned()).unwrap_or_default();
    let remote = ancestry.remote_ancestry.as_ref();
    // The local version wins although the remote one has changes of its own. Without a change counted for this
    // machine, other machines would see two concurrent versions again.
    let supersedes_remote = remote.is_some_and(|remote| {
        facts.causal_order != CausalOrder::Older && !remote.vector.is_included_in(&history.vector)
    });
    if let Some(remote) = remote {
        history = history.merge(remote, &digest);
    }
    if let Some((_, replaced)) = &ancestry.base {
        history = history.record_replaced(Some(*replaced), &digest);
    }
    history = history.record_replaced(ancestry.remote_digest, &digest);
    let mut is_recreated = false;
    if is_new_remote {
        (history, is_recreated) = deletions::with_deleted_ancestors(inputs, key, history, &digest)?;
    }
    if !is_change_counted || supersedes_remote || is_recreated {
        let writer = &inputs.state.own.writer;
        let counts = inputs
            .attested_versions(key)?
            .map(|entry| entry.history().vector.count(writer));
        let known = counts.max().unwrap_or(0);
        history.vector = history.vector.increment(writer, known);
    }
    Ok(ancestry_to_publish(inputs, key, history, &digest))
}

/// Returns the ancestry of a remote version that is copied to this machine; `is_absent` is true if this machine lacks
/// the file. From now on this machine attests the version itself if it is a superseded one that no
/// machine attests any more, or if it wins over a version that this machine attests.
pub(crate) fn ancestry_for_download(
    inputs: &Inputs<'_>,
    key: &str,
    ancestry: &AncestryFacts,
    is_absent: bool,
    remote: &FileVersion,
) -> DownloadAncestry {
    let before = inputs.state.histories.get(key);
    let base = ancestry.base.as_ref();
    let Some(digest) = ancestry.remote_digest else {
        return DownloadAncestry {
            history: before.cloned().map(Box::new),
            attested: None,
        };
    };
    let mut wins_conflict = false;
    let history = match (
        &ancestry.remote_ancestry,
        base.map(|(base, _)| base).or(before),
    ) {
        // A deleted local version is no ancestor of the copy.
        (Some(attested), _) if is_absent => attested.clone(),
        (Some(attested), Some(base)) => {
            wins_conflict = !base.vector.is_included_in(&attested.vector);
            let mut history = attested.clone().merge(base, &digest);
            if wins_conflict {
                // Otherwise two machines that decide differently publish equal vectors.
                history.vector = history.vector.increment_unknown(&digest);
            }
            history
        }
        (Some(attested), None) => attested.clone(),
        (None, Some(base)) => {
            let mut history = base.clone();
            history.vector = history.vector.increment_unknown(&digest);
            history
        }
        (None, None) => {
            return DownloadAncestry {
                history: None,
                attested: None,
            };
        }
    };
    let replaced = base.map(|(_, digest)| *digest).filter(|_| !is_absent);
    let history = ancestry_to_publish(
        inputs,
        key,
        history.record_replaced(replaced, &digest),
        &digest,
    );
    let is_unattested = ancestry.remote_ancestry.is_none() && remote.digest.is_some();
    let is_attested_here = is_unattested || wins_conflict;
    DownloadAncestry {
        attested: is_attested_here.then(|| attested_file(remote, digest, history.clone())),
        history,
    }
}

/// Returns the ancestry of equal versions that both sides changed to since the last sync, and true if it has to be
/// published because other machines do not know it.
pub(crate) fn ancestry_for_equal(
    inputs: &Inputs<'_>,
    key: &str,
    facts: FileFacts,
    ancestry: &AncestryFacts,
    digest: &Sha256Digest,
) -> Result<(Option<Box<Ancestry>>, bool), IoError> {
    use Presence::Unchanged;
    let before = inputs.state.histories.get(key);
    let same_text = ancestry
        .base
        .as_ref()
        .is_some_and(|(_, base)| base == digest);
    if same_text || facts.local == Unchanged || facts.remote == Unchanged {
        return Ok((before.cloned().map(Box::new), false));
    }
    let attested = inputs.attested_ancestry(key, digest)?;
    let base = ancestry.base.as_ref().map(|(base, _)| base).or(before);
    let (mut history, is_news) = match (attested, base) {
        (Some(attested), Some(base)) if attested.vector.is_included_in(&base.vector) => {
            (base.clone(), true)
        }
        (Some(attested), Some(base)) => (attested.merge(base, digest), false),
        (Some(attested), None) => (attested, false),
        (None, Some(base)) => (base.clone(), true),
        (None, None) => return Ok((None, false)),
    };
    if is_news {
        history.vector = history.vector.increment_unknown(digest);
    }
    let replaced = ancestry.base.as_ref().map(|(_, digest)| *digest);
    let history = ancestry_to_publish(
        inputs,
        key,
        history.record_replaced(replaced, digest),
        digest,
    );
    Ok((history, is_news))
}

/// Drops the ancestry of a first version, which has nothing to publish, unless the state has one for the file.
fn ancestry_to_publish(
    inputs: &Inputs<'_>,
    key: &str,
    history: Ancestry,
    digest: &Sha256Digest,
) -> Option<Box<Ancestry>> {
    let is_informative = !history.is_first(digest) || inputs.state.histories.contains_key(key);
    is_informative.then(|| Box::new(history))
}

impl AncestryFacts {
    /// Returns true if `attested` includes all changes of the base and more.
    fn is_newer_than_base(&self, attested: &Ancestry) -> bool {
        let base = self.base.as_ref();
        base.is_none_or(|(base, _)| attested.vector > base.vector)
    }
}
