//! Collects the facts about one file that [`decide`](crate::sync::decide) maps to a decision.
//!
//! Each side is compared with the last sync, and the contents of both sides with each other where the facts need it.
//! `ancestry` and `deletions` correct these facts: which version of a plain file descends from the other, and what
//! other machines deleted.

use super::ancestry::{self, AncestryFacts};
use super::deletions;
use super::file_version::{FilePair, FileVersion, newer, raw_digest, relation};
use crate::codex::rollout::Relation;
use crate::io::{IoContext, IoError};
use crate::sync::config::{Compare, SyncConfig};
use crate::sync::contents;
use crate::sync::decide::{FileFacts, FileKind, NewerSide, Presence};
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::plan::inputs::Inputs;
use crate::sync::scan::Side;
use crate::sync::state::SyncedFile;
use crate::sync::version_vector::CausalOrder;

/// Collects the facts about a file.
pub(crate) fn collect_facts(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
) -> Result<(FileFacts, AncestryFacts), IoError> {
    let mut facts = FileFacts {
        kind: pair.kind,
        local: presence(inputs.config, pair.local.as_ref(), pair.last)?,
        remote: presence(inputs.config, pair.remote.as_ref(), pair.last)?,
        relation: None,
        is_rewritten: false,
        newer: NewerSide::Neither,
        causal_order: CausalOrder::Unknown,
        deletion_requested: false,
    };
    let download = interrupted_download(inputs, pair, facts)?;
    if download.is_some() {
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
    let (facts, ancestry) = ancestry::ancestry_facts(inputs, pair, facts, download)?;
    let facts = deletions::with_deletions(inputs, pair, facts)?;
    Ok((facts, ancestry))
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

/// Returns the ledger entry of a local file that an interrupted run downloaded. It counts as synced, not as a local
/// edit: then only the remote side has changed.
fn interrupted_download<'i>(
    inputs: &'i Inputs<'_>,
    pair: &FilePair<'_>,
    facts: FileFacts,
) -> Result<Option<&'i ManifestEntry>, IoError> {
    let is_changed = |presence| matches!(presence, Presence::New | Presence::Changed);
    let is_candidate = is_changed(facts.local) && is_changed(facts.remote);
    let Some(local) = pair.local.as_ref().filter(|_| is_candidate) else {
        return Ok(None);
    };
    let size = local.seen.stat.size;
    let downloads = inputs
        .ledger()?
        .downloaded
        .get(&manifest::fold_name(pair.key));
    let same_size = downloads
        .into_iter()
        .flatten()
        .filter(|entry| entry.size == size);
    if same_size.clone().next().is_none() {
        return Ok(None);
    }
    let digest = raw_digest(inputs.config, &local.seen)?;
    // Entries of one digest can differ in ancestry: the newest one counts.
    Ok(same_size.rev().find(|entry| entry.digest == digest))
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
        Compare::MtimeHashFallback => same_size && facts.newer == NewerSide::Neither,
    }
}
