//! Collects the facts about one file that [`decide`](crate::sync::decide) maps to a decision.
//!
//! Each side is compared with the last sync, and the contents of both sides with each other where the facts need it.
//! `deletions` corrects these facts by what other machines deleted.

use super::deletions;
use super::file_version::{
    FilePair, FileVersion, is_truncated_prefix, newer, raw_digest, relation,
};
use crate::codex::rollout::Relation;
use crate::io::{IoContext, IoError};
use crate::sync::config::{Compare, SyncConfig};
use crate::sync::contents;
use crate::sync::decide::{FileFacts, FileKind, FormerVersion, Presence};
use crate::sync::plan::inputs::Inputs;
use crate::sync::scan::Side;
use crate::sync::state::SyncedFile;

/// Collects the facts about a file.
pub(crate) fn collect_facts(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
) -> Result<FileFacts, IoError> {
    let mut facts = FileFacts {
        kind: pair.kind,
        local: presence(inputs.config, pair.local.as_ref(), pair.last)?,
        remote: presence(inputs.config, pair.remote.as_ref(), pair.last)?,
        relation: None,
        is_rewritten: false,
        newer: None,
        former: FormerVersion::No,
        deletion_requested: false,
    };
    if is_interrupted_download(inputs, pair, facts)? {
        (facts.local, facts.remote) = (Presence::Unchanged, Presence::Changed);
    }
    if let (Some(local), Some(remote)) = (&pair.local, &pair.remote) {
        facts.newer = newer(inputs.config, local, remote);
        let is_unchanged =
            (facts.local, facts.remote) == (Presence::Unchanged, Presence::Unchanged);
        let is_line_file = pair.kind == FileKind::Lines;
        if is_line_file || (!is_unchanged && must_read(inputs, facts, local, remote)) {
            let compared = relation(inputs.config, &local.seen, &remote.seen)?;
            facts.relation = Some(compared.relation);
            facts.is_rewritten = compared.is_rewritten;
        }
        // Merges on two machines can leave equal size and time with different lines.
        if is_line_file && is_unchanged && facts.relation != Some(Relation::Equal) {
            (facts.local, facts.remote) = (Presence::Changed, Presence::Changed);
        }
    }
    if pair.kind == FileKind::Plain {
        facts = with_known_versions(inputs, pair, facts)?;
    }
    deletions::with_deletions(inputs, pair, facts)
}

/// Returns the facts about a plain file, corrected by what this machine knows of the remote version: a killed run of its
/// own uploaded it, or it had the version before.
fn with_known_versions(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    mut facts: FileFacts,
) -> Result<FileFacts, IoError> {
    use Presence::{Absent, Changed, New, Unchanged};
    let (Some(remote), Changed | New) = (&pair.remote, facts.remote) else {
        return Ok(facts);
    };
    if facts.local == Absent || facts.relation == Some(Relation::Equal) {
        return Ok(facts);
    }
    let replaced = inputs.state.replaced_by(pair.key);
    let own = inputs.own_versions(pair.key);
    let mut is_replaced = false;
    // Without any known version, the file is not read here.
    if !replaced.is_empty() || !own.is_empty() {
        let digest = raw_digest(inputs.config, &remote.seen)?;
        is_replaced = replaced.contains(&digest);
        let last = pair.last.and_then(|last| last.contents);
        let is_recorded = is_replaced || last.is_some_and(|(_, last)| last == digest);
        let is_own = own.iter().any(|own| own.digest == digest);
        if facts.local != Unchanged && !is_recorded && is_own {
            // The local file was edited after that.
            (facts.local, facts.remote) = (Changed, Unchanged);
            return Ok(facts);
        }
    }
    if pair.last.is_some() {
        facts.former = former_version(inputs, pair, is_replaced, facts.newer)?;
    }
    Ok(facts)
}

/// Returns the evidence that the remote version is older than the local one. `is_replaced` is true if this machine had
/// the remote version before.
fn former_version(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    is_replaced: bool,
    newer: Option<Side>,
) -> Result<FormerVersion, IoError> {
    let (Some(local), Some(remote)) = (&pair.local, &pair.remote) else {
        return Ok(FormerVersion::No);
    };
    let is_unlisted = remote.digest.is_none();
    // A user who returns to an old text writes it later than the one that it replaces.
    let is_earlier = remote.mtime_ns < local.mtime_ns;
    let is_cut = || is_truncated_prefix(inputs.config, local, remote);
    if is_replaced && is_unlisted && !inputs.has_other_machines() {
        return Ok(FormerVersion::Unlisted);
    }
    // A machine may list a partial file that it found before any manifest had arrived.
    if is_replaced && is_unlisted || is_earlier && (is_replaced || !is_unlisted && is_cut()?) {
        return Ok(FormerVersion::Older);
    }
    // `--accept-unlisted` uses versions that no machine lists.
    let looks_older = inputs.request.accept_unlisted && newer == Some(Side::Local);
    Ok(
        if is_unlisted && looks_older && inputs.has_other_machines() {
            FormerVersion::Unlisted
        } else {
            FormerVersion::No
        },
    )
}

/// Compares one side with the last sync: by size and time, and by content if these differ.
fn presence(
    config: &SyncConfig,
    version: Option<&FileVersion>,
    last: Option<&SyncedFile>,
) -> Result<Presence, IoError> {
    let Some(version) = version else {
        return Ok(Presence::Absent);
    };
    let Some(last) = last else {
        return Ok(Presence::New);
    };
    let place = match version.seen.side {
        Side::Local => &last.local,
        Side::Remote => &last.remote,
    };
    if version.seen.stat == place.stat {
        return Ok(Presence::Unchanged);
    }
    if let Some((len, digest)) = last.contents {
        let path = version.seen.full_path(config);
        // Another length is another content, so the file need not be read. The length of a compressed file says
        // nothing about its text.
        let may_be_equal =
            version.seen.stat.size == len || path.extension().is_some_and(|e| e == "zst");
        if may_be_equal && contents::read(&path, None).at("read", &path)?.digest == digest {
            return Ok(Presence::Unchanged);
        }
    }
    Ok(Presence::Changed)
}

/// Returns true if an interrupted run downloaded the local file. It counts as synced, not as a local edit: then only
/// the remote side has changed.
fn is_interrupted_download(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    facts: FileFacts,
) -> Result<bool, IoError> {
    let is_changed = |presence| matches!(presence, Presence::New | Presence::Changed);
    let is_candidate = is_changed(facts.local) && is_changed(facts.remote);
    let Some(local) = pair.local.as_ref().filter(|_| is_candidate) else {
        return Ok(false);
    };
    let downloads = inputs.downloaded_versions(pair.key);
    let size = local.seen.stat.size;
    if downloads.iter().all(|entry| entry.size != size) {
        return Ok(false);
    }
    let digest = raw_digest(inputs.config, &local.seen)?;
    Ok(downloads.iter().any(|entry| entry.digest == digest))
}

/// Returns true if the contents have to be compared. On the first sync of a plain file, `sync.compare` can say that
/// size and time suffice.
fn must_read(
    inputs: &Inputs<'_>,
    facts: FileFacts,
    local: &FileVersion,
    remote: &FileVersion,
) -> bool {
    let is_first_sync_of_plain_file = facts.kind == FileKind::Plain && facts.local == Presence::New;
    let same_size = local.seen.stat.size == remote.seen.stat.size;
    match inputs.rules.compare {
        _ if !is_first_sync_of_plain_file => true,
        Compare::ThreeWay => true,
        Compare::Mtime => false,
        Compare::MtimeHashFallback => same_size && facts.newer.is_none(),
    }
}
