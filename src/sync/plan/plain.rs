//! Plans for all files that are not conversations. Plain files (skills, prompts, settings) are copied completely or
//! not at all. Line-based files (`history.jsonl`, `session_index.jsonl`) are merged line by line.

use super::ancestry::AncestryFacts;
use super::conflict_reasons::conflict_reason;
use super::error::PlanError;
use super::grouping::{FileGroup, display_path};
use super::planner::Planner;
use super::steps::{
    Conflict, CopyOp, MergeTarget, ObservedFile, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
use super::versions::{DownloadState, FileVersion};
use crate::codex::config::CodexConfig;
use crate::codex::rollout::{self, Relation};
use crate::io::IoContext;
use crate::io::hash::Sha256Digest;
use crate::sync::cloud_names;
use crate::sync::config::{Compare, DeletePolicy};
use crate::sync::contents;
use crate::sync::decide::{
    CopyReason, FileDecision, FileFacts, FileKind, NewerSide, Presence, decide,
};
use crate::sync::index_updates::ContentChange;
use crate::sync::line_merge::{self, Merge};
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::scan::{ListedFile, Side};
use crate::sync::secrets;
use crate::sync::state::{SideFile, SyncedFile};
use crate::sync::version_vector::{Ancestry, CausalOrder};

/// The line-based file that Codex truncates to `history.max_bytes`.
const PROMPT_HISTORY: &str = "history.jsonl";

/// A merge with the sides whose files it changes.
struct PlannedMerge {
    merge: Merge,
    /// Each with the index of the first merged line that it gets.
    sides: Vec<(Side, usize)>,
    /// True if both sides have the same lines afterwards; see [`Op::Merge`].
    is_one_text: bool,
}

impl Planner<'_> {
    /// Plans a plain file. Skips it if one side has two names for it; copies made by cloud clients are only reported.
    pub(super) fn plan_plain_file(
        &mut self,
        key: &str,
        group: &FileGroup,
    ) -> Result<(), PlanError> {
        let path = display_path(key, group);
        if group.local.len() > 1 || group.remote.len() > 1 {
            let why = "has two names on one side that are one name on another system; rename one of the files";
            self.plan.skipped.push((path, why.into()));
            return Ok(());
        }
        for copy in &group.client_copies {
            let why = "a copy that a cloud client made of a conflict; it is not synced";
            self.plan.notes.push((copy.path.clone(), why.into()));
        }
        self.plan_pair(key, &path, FileKind::Plain, group)
    }

    /// Plans a line-based file, and merges the copies that cloud clients made of it.
    pub(super) fn plan_line_file(&mut self, key: &str, group: &FileGroup) -> Result<(), PlanError> {
        let last = self.state.files.get(key);
        if let Some(found) = group.local.first()
            && self.skips_zero_filled(found, true, last)?
        {
            return Ok(());
        }
        let mut remote = None;
        if let Some(found) = group.remote.first() {
            match self.download_state(key, found, true, last)? {
                DownloadState::Complete(version) => remote = Some(version),
                DownloadState::Incomplete(_) if self.adds_nothing(key, group, found, true)? => {
                    remote = Some(FileVersion::remote(found));
                }
                DownloadState::Incomplete(why) => {
                    self.wait_for_listing(key, why);
                    return Ok(());
                }
            }
        }
        let mut copies = Vec::new();
        for copy in &group.client_copies {
            match self.download_state(key, copy, true, None)? {
                DownloadState::Complete(version) => copies.push(version),
                DownloadState::Incomplete(why) => match self.complete_unlisted_lines(copy)? {
                    Some(version) => copies.push(version),
                    None => self.wait_for_listing(&copy.path, why),
                },
            }
        }
        let local = group.local.first().map(FileVersion::local);
        // `plan_pair` checks the remote file again, because other decisions than a merge are possible.
        if copies.is_empty() {
            return self.plan_pair(key, key, FileKind::Lines, group);
        }
        let mut versions: Vec<&FileVersion> = local.iter().chain(&remote).collect();
        let side_files = versions.len();
        versions.extend(&copies);
        let merge = self.plan_merge(key, &versions, side_files)?;
        if merge.sides.is_empty() {
            return self.plan_pair(key, key, FileKind::Lines, group);
        }
        self.push_merge(key, &versions, &merge);
        Ok(())
    }

    /// Merges these versions, of which the first `side_files` are the files of the two sides and the others are clients'
    /// copies.
    fn plan_merge(
        &self,
        key: &str,
        versions: &[&FileVersion],
        side_files: usize,
    ) -> Result<PlannedMerge, PlanError> {
        let paths: Vec<_> = versions.iter().map(|v| self.full(&v.seen)).collect();
        let merge = line_merge::merge(&paths)?;
        let at = |side| {
            versions[..side_files]
                .iter()
                .position(|v| v.seen.side == side)
        };
        let limit = if key == PROMPT_HISTORY {
            CodexConfig::read(self.root(Side::Local))
                .history_max_bytes
                .ok()
                .flatten()
        } else {
            None
        };
        let local_first_line = match (limit, at(Side::Local)) {
            (Some(limit), Some(version)) => merge.first_within(limit, version),
            _ => 0,
        };
        let sides = [(Side::Local, local_first_line), (Side::Remote, 0)].into_iter();
        let needed = sides.filter(|(side, first)| {
            at(*side).is_none_or(|version| !merge.matches_version(*first, version))
        });
        Ok(PlannedMerge {
            sides: needed.collect(),
            is_one_text: local_first_line == 0,
            merge,
        })
    }

    /// Returns a version for a client's copy that no machine attests, if all its lines are complete: merging complete
    /// lines loses nothing. A client can copy a version that no machine will ever attest.
    fn complete_unlisted_lines(&self, copy: &ListedFile) -> Result<Option<FileVersion>, PlanError> {
        let seen = ObservedFile {
            side: Side::Remote,
            path: copy.path.clone(),
            stat: copy.stat,
        };
        let path = self.full(&seen);
        let is_whole = self.has_complete_lines(&seen)?
            && !contents::is_zero_filled(&path, true, true).at("read", &path)?;
        Ok(is_whole.then_some(FileVersion {
            mtime_ns: copy.stat.mtime_ns,
            seen,
            digest: None,
        }))
    }

    /// Pushes the step for a merge. If an attested file changed between its check and the merge, the sync waits for it.
    fn push_merge(&mut self, key: &str, versions: &[&FileVersion], planned: &PlannedMerge) {
        let PlannedMerge {
            merge,
            sides,
            is_one_text,
        } = planned;
        let all = || versions.iter().zip(&merge.digests);
        // The attested file was replaced between the check of its digest and the merge.
        if all().any(|(version, read)| version.digest.is_some_and(|attested| attested != *read)) {
            let why = "changed while it was read";
            self.plan.waiting.push((key.to_owned(), why.into()));
            return;
        }
        let over = |side| {
            let mut seen = versions.iter().map(|version| &version.seen);
            let found = seen.find(|seen| seen.side == side && seen.path == key);
            found.map(|seen| seen.stat)
        };
        let placement = |side| Placement {
            path: key.to_owned(),
            stat: over(side).filter(|_| !sides.iter().any(|(written, _)| *written == side)),
        };
        let op = Op::Merge {
            versions: all().map(|(v, read)| (v.seen.clone(), *read)).collect(),
            to: sides
                .iter()
                .map(|(side, first)| MergeTarget {
                    place: (*side, key.to_owned()),
                    over: over(*side),
                    first: *first,
                })
                .collect(),
            is_one_text: *is_one_text,
        };
        self.plan.steps.push(SyncStep {
            key: key.to_owned(),
            path: key.to_owned(),
            action: SyncAction::Merge,
            reason: "lines of all versions, in order of time".into(),
            bytes: sides
                .iter()
                .map(|(_, first)| merge.bytes_from(*first))
                .sum(),
            ops: vec![op],
            state_update: StateUpdate::Synced {
                local: placement(Side::Local),
                remote: placement(Side::Remote),
            },
            change: ContentChange::Unchanged,
            conflict: None,
        });
    }

    /// Plans a file that each side has at most once: collects the facts, decides, and pushes the step.
    #[allow(
        clippy::too_many_lines,
        reason = "one arm for each decision, read together"
    )]
    fn plan_pair(
        &mut self,
        key: &str,
        path: &str,
        kind: FileKind,
        group: &FileGroup,
    ) -> Result<(), PlanError> {
        let last = self.state.files.get(key);
        let is_lines = kind == FileKind::Lines;
        if kind == FileKind::Plain
            && let Some(found) = group.local.first()
            && self.skips_zero_filled(found, false, last)?
        {
            return Ok(());
        }
        let local = group.local.first().map(FileVersion::local);
        let remote_file = group.remote.first();
        // Checked before the manifests: files that are equal on both sides need no attestation.
        if last.is_none()
            && kind == FileKind::Plain
            && let (Some(local), Some(found)) = (&local, remote_file)
        {
            let remote = FileVersion::remote(found);
            if self.stats_are_equal(local, &remote) {
                self.record_equal(key, local, &remote, None);
                return Ok(());
            }
        }
        let remote = match remote_file {
            None => None,
            Some(found) => match self.download_state(key, found, is_lines, last)? {
                DownloadState::Complete(version) => Some(version),
                DownloadState::Incomplete(_)
                    if self.adds_nothing(key, group, found, is_lines)? =>
                {
                    Some(FileVersion::remote(found))
                }
                DownloadState::Incomplete(_)
                    if local.is_none() && last.is_none() && self.is_beside_original(found) =>
                {
                    let why = "looks like a copy that a cloud client made; it is not synced";
                    self.plan.notes.push((path.to_owned(), why.into()));
                    return Ok(());
                }
                DownloadState::Incomplete(why) => {
                    self.wait_for_listing(path, why);
                    return Ok(());
                }
            },
        };
        let (facts, ancestry) =
            self.pair_facts(key, kind, local.as_ref(), remote.as_ref(), last)?;
        let mut rules = self.rules_for(path);
        if is_lines {
            rules.delete = DeletePolicy::Never;
        }
        let decision = decide(facts, rules);
        let is_copied = matches!(
            decision,
            FileDecision::CopyToCloud(_) | FileDecision::CopyToLocal(_)
        );
        let digest = remote.as_ref().and_then(|remote| remote.digest);
        if is_copied && !is_lines && self.has_undelivered_newer(key, facts, digest) {
            let why = "another machine has changed it, and that version has not arrived yet";
            self.plan.waiting.push((path.to_owned(), why.into()));
            return Ok(());
        }
        if let (FileDecision::CopyToLocal(_), Some(local), Some(remote)) =
            (decision, &local, &remote)
        {
            let why = if self.may_be_unfilled(local, remote, last) {
                Some("is empty, and no machine lists it so")
            } else if !is_lines && self.is_truncated(local, remote)? {
                Some(
                    "is the beginning of the local file, cut off within a line; remove it from the cloud folder \
                     to copy the local file there again",
                )
            } else {
                None
            };
            if let Some(why) = why {
                self.plan.waiting.push((path.to_owned(), why.into()));
                return Ok(());
            }
        }
        // In a conflict the user can choose either version, so both are searched for tokens.
        let sources = match decision {
            FileDecision::CopyToCloud(_) => [&local, &None],
            FileDecision::CopyToLocal(_) => [&None, &remote],
            FileDecision::Conflict => [&local, &remote],
            _ => [&None, &None],
        };
        // Prompts are not searched: they quote what the user wrote, and skipping the file would lose them.
        for source in sources.into_iter().flatten().filter(|_| !is_lines) {
            if let Some(why) = self.secret_reason(&source.seen)? {
                self.plan.warnings.push((path.to_owned(), why));
                return Ok(());
            }
        }
        match (decision, &local, &remote) {
            (FileDecision::Nothing, Some(local), Some(remote)) => {
                self.record_equal(key, local, remote, last.and_then(|last| last.contents));
            }
            (FileDecision::RecordEqual, Some(local), Some(remote)) => {
                let contents = self.text_digest(&local.seen)?;
                let (history, is_news) =
                    self.ancestry_for_equal(key, facts, &ancestry, &contents.1)?;
                self.attest(remote, contents.1, history.clone(), is_news);
                if let Some(history) = history
                    && self.state.histories.get(key) != Some(&*history)
                {
                    self.plan.histories.push((key.to_owned(), *history));
                }
                self.record_equal(key, local, remote, Some(contents));
            }
            (FileDecision::CopyToCloud(why), Some(local), _) => {
                if remote.is_none() {
                    self.cancel_pending_deletions(key)?;
                }
                let to = remote
                    .as_ref()
                    .map_or(&local.seen.path, |remote| &remote.seen.path)
                    .clone();
                let history = self.ancestry_for_upload(key, facts, &ancestry, local)?;
                let to = (Side::Remote, to);
                let ended =
                    (why == CopyReason::Policy).then(|| self.policy_outcome(facts, Side::Local));
                let why = (why, ended);
                self.push_copy(key, path, local, to, remote.as_ref(), why, history);
            }
            (FileDecision::CopyToLocal(why), _, Some(remote)) => {
                let to = local
                    .as_ref()
                    .map_or(&remote.seen.path, |local| &local.seen.path)
                    .clone();
                let history = self.ancestry_for_download(key, &ancestry, local.is_none(), remote);
                let to = (Side::Local, to);
                let ended =
                    (why == CopyReason::Policy).then(|| self.policy_outcome(facts, Side::Remote));
                let why = (why, ended);
                self.push_copy(key, path, remote, to, local.as_ref(), why, history);
            }
            (FileDecision::Merge, Some(local), Some(remote)) => {
                let merge = self.plan_merge(key, &[local, remote], 2)?;
                if merge.sides.is_empty() {
                    // Codex dropped the lines that only the remote file has, because of `history.max_bytes`.
                    self.record_equal(key, local, remote, None);
                } else {
                    self.push_merge(key, &[local, remote], &merge);
                }
            }
            (FileDecision::Skip, ..) => {
                let why = "differs, and equal_mtime_action is skip";
                self.plan.skipped.push((path.to_owned(), why.into()));
            }
            (FileDecision::Conflict, ..) => self.plan.conflicts.push(Conflict {
                path: path.to_owned(),
                reason: conflict_reason(facts),
                local: local.map(|v| v.seen),
                remote: remote.map(|v| v.seen),
            }),
            (FileDecision::DeleteCloud, _, Some(remote)) => {
                let state_update = self.state_update_for_deletion(key, remote, last)?;
                self.push_delete(key, path, SyncAction::DeleteCloud, remote, state_update);
            }
            (FileDecision::DeleteLocal, Some(local), _) => {
                self.push_delete(
                    key,
                    path,
                    SyncAction::DeleteLocal,
                    local,
                    StateUpdate::Forget,
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns true if one side lacks the file and another machine lists a newer version than the one to be copied
    /// there. Copying it would restore a deleted file in an outdated version. A local file that changed is copied
    /// anyway.
    fn has_undelivered_newer(
        &self,
        key: &str,
        facts: FileFacts,
        remote: Option<Sha256Digest>,
    ) -> bool {
        use Presence::{Absent, Changed, New};
        let is_one_sided = match (facts.local, facts.remote) {
            (Absent, remote) => remote != Absent,
            (local, Absent) => !matches!(local, Changed | New),
            _ => false,
        };
        let is_undelivered = || {
            let ahead = self.undelivered.get(&manifest::fold_name(key));
            ahead.is_some_and(|ahead| ahead.has_newer_than(remote))
        };
        is_one_sided && !self.request.accept_unlisted && is_undelivered()
    }

    /// Returns the reason not to copy a file that contains a token or key.
    fn secret_reason(&self, seen: &ObservedFile) -> Result<Option<String>, PlanError> {
        let path = self.full(seen);
        let found = secrets::find_in_file(&path).at("read", &path)?;
        Ok(found.map(|what| format!("is not synced: it contains what looks like {what}")))
    }

    /// Returns true if a remote file is empty, no sync has seen it and no machine attests it: clients create a file
    /// empty before they fill it.
    fn may_be_unfilled(
        &self,
        local: &FileVersion,
        remote: &FileVersion,
        last: Option<&SyncedFile>,
    ) -> bool {
        let is_empty = remote.seen.stat.size == 0 && local.seen.stat.size > 0;
        let is_known = last.is_some() || remote.digest.is_some() || self.request.accept_unlisted;
        is_empty && !is_known
    }

    /// Returns true if a remote file that no machine attests is a prefix of the local one, cut within a line. Not even
    /// `--accept-unlisted` uses it, because the rest may still be on its way; `sync resolve` for this file does.
    fn is_truncated(&self, local: &FileVersion, remote: &FileVersion) -> Result<bool, PlanError> {
        let may_be = remote.digest.is_none() && self.request.policy_override.is_none();
        Ok(may_be && self.is_truncated_prefix(local, remote)?)
    }

    /// Returns true if a file's name looks like a client's copy and the original is beside it.
    fn is_beside_original(&self, found: &ListedFile) -> bool {
        cloud_names::maybe_copy_of(&found.path)
            .is_some_and(|real| self.root(Side::Remote).join(real).exists())
    }

    /// Collects the facts for [`decide`]. Contents are compared only if the facts need it.
    fn pair_facts(
        &self,
        key: &str,
        kind: FileKind,
        local: Option<&FileVersion>,
        remote: Option<&FileVersion>,
        last: Option<&SyncedFile>,
    ) -> Result<(FileFacts, AncestryFacts), PlanError> {
        let mut facts = FileFacts {
            kind,
            local: self.presence(local, last)?,
            remote: self.presence(remote, last)?,
            relation: None,
            newer: NewerSide::Neither,
            causal_order: CausalOrder::Unknown,
            deletion_requested: false,
        };
        let download = self.check_interrupted_download(key, &mut facts, local)?;
        if let (Some(local), Some(remote)) = (local, remote) {
            facts.newer = self.newer(local, remote);
            let is_unchanged =
                (facts.local, facts.remote) == (Presence::Unchanged, Presence::Unchanged);
            let is_line_file = kind == FileKind::Lines;
            if is_line_file || (!is_unchanged && self.must_read(facts, local, remote)) {
                facts.relation = Some(self.relation(&local.seen, &remote.seen)?);
            }
            // Merges on two machines can leave equal size and time with different lines.
            if is_line_file && is_unchanged && facts.relation != Some(Relation::Equal) {
                (facts.local, facts.remote) = (Presence::Changed, Presence::Changed);
            }
        }
        let ancestry = self.ancestry_facts(key, &mut facts, (local, remote), last, download)?;
        self.check_deletion(key, &mut facts, (local, remote), last)?;
        Ok((facts, ancestry))
    }

    /// Returns true if the contents have to be compared. On the first sync of a plain file, `sync.compare` can say that
    /// size and time suffice.
    fn must_read(&self, facts: FileFacts, local: &FileVersion, remote: &FileVersion) -> bool {
        let is_first_sync_of_plain_file =
            facts.kind == FileKind::Plain && facts.local == Presence::New;
        let same_size = local.seen.stat.size == remote.seen.stat.size;
        match self.rules.compare {
            _ if !is_first_sync_of_plain_file => true,
            Compare::ThreeWay => true,
            Compare::Mtime => false,
            Compare::MtimeHashFallback => same_size && facts.newer == NewerSide::Neither,
        }
    }
}
