//! Plans for files that each side has at most once. Plain files (skills, prompts, settings) are copied completely or
//! not at all; line-based files without clients' copies come here too.

use super::ancestry::AncestryFacts;
use super::conflict_reasons::conflict_reason;
use super::delivery::{DownloadState, FileVersion};
use super::error::PlanError;
use super::file_plan::PlannedCopy;
use super::groups::{FileGroup, display_path};
use super::inputs::Planner;
use super::steps::{Conflict, StateUpdate, SyncAction};
use crate::codex::rollout::Relation;
use crate::io::IoContext;
use crate::io::hash::Sha256Digest;
use crate::sync::cloud_names;
use crate::sync::config::{Compare, DeletePolicy};
use crate::sync::decide::{
    CopyReason, FileDecision, FileFacts, FileKind, NewerSide, Presence, decide,
};
use crate::sync::manifest;
use crate::sync::scan::{ListedFile, Side};
use crate::sync::secrets;
use crate::sync::state::SyncedFile;
use crate::sync::version_vector::CausalOrder;

/// A file that each side has at most once.
struct FilePair<'a> {
    key: &'a str,
    /// Relative path that output and JSON show.
    path: &'a str,
    kind: FileKind,
    last: Option<&'a SyncedFile>,
    local: Option<FileVersion>,
    remote: Option<FileVersion>,
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
            self.plan.notices.skipped.push((path, why.into()));
            return Ok(());
        }
        for copy in &group.client_copies {
            let why = "a copy that a cloud client made of a conflict; it is not synced";
            self.plan
                .notices
                .notes
                .push((copy.path.clone(), why.into()));
        }
        self.plan_pair(key, &path, FileKind::Plain, group)
    }

    /// Plans a file that each side has at most once: collects the facts, decides, and adds the outcome to the plan.
    pub(super) fn plan_pair(
        &mut self,
        key: &str,
        path: &str,
        kind: FileKind,
        group: &FileGroup,
    ) -> Result<(), PlanError> {
        let state = self.state;
        let mut pair = FilePair {
            key,
            path,
            kind,
            last: state.files.get(key),
            local: group.local.first().map(FileVersion::local),
            remote: None,
        };
        let is_plain = kind == FileKind::Plain;
        if is_plain
            && let Some(found) = group.local.first()
            && self.skips_zero_filled(found, false, pair.last)?
        {
            return Ok(());
        }
        if let Some(found) = group.remote.first() {
            if is_plain && self.record_pair_if_stats_equal(&pair, found) {
                return Ok(());
            }
            pair.remote = self.usable_remote(&pair, group, found)?;
            if pair.remote.is_none() {
                return Ok(());
            }
        }
        let (facts, ancestry) = self.pair_facts(&pair)?;
        let mut rules = self.rules_for(path);
        if !is_plain {
            rules.delete = DeletePolicy::Never;
        }
        let decision = decide(facts, rules);
        if let Some(why) = self.reason_to_wait(&pair, facts, decision)? {
            self.plan
                .notices
                .waiting
                .push((path.to_owned(), why.into()));
            return Ok(());
        }
        // Prompts are not searched: they quote what the user wrote, and skipping the file would lose them.
        if is_plain && let Some(why) = self.secret_reason(&pair, decision)? {
            self.plan.notices.warnings.push((path.to_owned(), why));
            return Ok(());
        }
        self.push_decision(&pair, facts, &ancestry, decision)
    }

    /// Records a plain file that no sync has seen as equal, if size and time suffice. Returns true if it did. Called
    /// before the manifests are read: files that are equal on both sides need no attestation.
    fn record_pair_if_stats_equal(&mut self, pair: &FilePair<'_>, found: &ListedFile) -> bool {
        let (None, Some(local)) = (pair.last, &pair.local) else {
            return false;
        };
        let remote = FileVersion::remote(found);
        let is_equal = self.stats_are_equal(local, &remote);
        if is_equal {
            self.record_equal(pair.key, local, &remote, None);
        }
        is_equal
    }

    /// Returns the version of the remote file if it may be used; otherwise reports the file.
    fn usable_remote(
        &mut self,
        pair: &FilePair<'_>,
        group: &FileGroup,
        found: &ListedFile,
    ) -> Result<Option<FileVersion>, PlanError> {
        let is_line_file = pair.kind == FileKind::Lines;
        let why = match self.download_state(pair.key, found, is_line_file, pair.last)? {
            DownloadState::Complete(version) => return Ok(Some(version)),
            DownloadState::Incomplete(why) => why,
        };
        if self.adds_nothing(pair.key, group, found, is_line_file)? {
            return Ok(Some(FileVersion::remote(found)));
        }
        if pair.local.is_none() && pair.last.is_none() && self.is_beside_original(found) {
            let why = "looks like a copy that a cloud client made; it is not synced";
            self.plan
                .notices
                .notes
                .push((pair.path.to_owned(), why.into()));
        } else {
            self.wait_for_listing(pair.path, why);
        }
        Ok(None)
    }

    /// Returns the reason to wait for another version before the decision is applied.
    fn reason_to_wait(
        &self,
        pair: &FilePair<'_>,
        facts: FileFacts,
        decision: FileDecision,
    ) -> Result<Option<&'static str>, PlanError> {
        let is_plain = pair.kind == FileKind::Plain;
        let is_copied = matches!(
            decision,
            FileDecision::CopyToCloud(_) | FileDecision::CopyToLocal(_)
        );
        let remote_digest = pair.remote.as_ref().and_then(|remote| remote.digest);
        if is_copied && is_plain && self.has_undelivered_newer(pair.key, facts, remote_digest) {
            let why = "another machine has changed it, and that version has not arrived yet";
            return Ok(Some(why));
        }
        let (FileDecision::CopyToLocal(_), Some(local), Some(remote)) =
            (decision, &pair.local, &pair.remote)
        else {
            return Ok(None);
        };
        // Clients create a file empty before they fill it.
        let is_empty = remote.seen.stat.size == 0 && local.seen.stat.size > 0;
        let is_unattested = remote.digest.is_none();
        if is_empty && is_unattested && pair.last.is_none() && !self.request.accept_unlisted {
            return Ok(Some("is empty, and no machine lists it so"));
        }
        // Not even `--accept-unlisted` uses a truncated file, because the rest may still be on its way;
        // `sync resolve` for this file does.
        let may_be_truncated = is_plain && is_unattested && self.request.policy_override.is_none();
        if may_be_truncated && self.is_truncated_prefix(local, remote)? {
            let why = "is the beginning of the local file, cut off within a line; remove it from the cloud folder \
                       to copy the local file there again";
            return Ok(Some(why));
        }
        Ok(None)
    }

    /// Returns the reason not to copy a file that contains a token or key. In a conflict the user can choose either
    /// version, so both are searched.
    fn secret_reason(
        &self,
        pair: &FilePair<'_>,
        decision: FileDecision,
    ) -> Result<Option<String>, PlanError> {
        let sources = match decision {
            FileDecision::CopyToCloud(_) => [&pair.local, &None],
            FileDecision::CopyToLocal(_) => [&None, &pair.remote],
            FileDecision::Conflict => [&pair.local, &pair.remote],
            _ => [&None, &None],
        };
        for source in sources.into_iter().flatten() {
            let path = self.full(&source.seen);
            if let Some(what) = secrets::find_in_file(&path).at("read", &path)? {
                let why = format!("is not synced: it contains what looks like {what}");
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// Adds the outcome of a decision to the plan.
    fn push_decision(
        &mut self,
        pair: &FilePair<'_>,
        facts: FileFacts,
        ancestry: &AncestryFacts,
        decision: FileDecision,
    ) -> Result<(), PlanError> {
        let (key, path) = (pair.key, pair.path);
        match (decision, &pair.local, &pair.remote) {
            (FileDecision::Nothing, Some(local), Some(remote)) => {
                let contents = pair.last.and_then(|last| last.contents);
                self.record_equal(key, local, remote, contents);
            }
            (FileDecision::RecordEqual, Some(local), Some(remote)) => {
                self.record_found_equal(key, (local, remote), facts, ancestry)?;
            }
            (FileDecision::CopyToCloud(why), Some(local), _) => {
                self.push_upload(pair, local, facts, ancestry, why)?;
            }
            (FileDecision::CopyToLocal(why), _, Some(remote)) => {
                self.push_download(pair, remote, facts, ancestry, why);
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
                self.plan
                    .notices
                    .skipped
                    .push((path.to_owned(), why.into()));
            }
            (FileDecision::Conflict, local, remote) => {
                let seen = |version: &Option<FileVersion>| version.as_ref().map(|v| v.seen.clone());
                self.plan.conflicts.push(Conflict {
                    path: path.to_owned(),
                    reason: conflict_reason(facts),
                    local: seen(local),
                    remote: seen(remote),
                });
            }
            (FileDecision::DeleteCloud, _, Some(remote)) => {
                let state_update = self.state_update_for_deletion(key, remote, pair.last)?;
                self.push_delete(key, path, SyncAction::DeleteCloud, remote, state_update);
            }
            (FileDecision::DeleteLocal, Some(local), _) => {
                let action = SyncAction::DeleteLocal;
                self.push_delete(key, path, action, local, StateUpdate::Forget);
            }
            _ => {}
        }
        Ok(())
    }

    /// Records two versions whose contents were found equal, and attests the remote one.
    fn record_found_equal(
        &mut self,
        key: &str,
        (local, remote): (&FileVersion, &FileVersion),
        facts: FileFacts,
        ancestry: &AncestryFacts,
    ) -> Result<(), PlanError> {
        let contents = self.text_digest(&local.seen)?;
        let (history, is_news) = self.ancestry_for_equal(key, facts, ancestry, &contents.1)?;
        self.attest(remote, contents.1, history.clone(), is_news);
        if let Some(history) = history
            && self.state.histories.get(key) != Some(&*history)
        {
            self.plan.records.histories.push((key.to_owned(), *history));
        }
        self.record_equal(key, local, remote, Some(contents));
        Ok(())
    }

    /// Pushes the step that copies the local version to the cloud folder.
    fn push_upload(
        &mut self,
        pair: &FilePair<'_>,
        local: &FileVersion,
        facts: FileFacts,
        ancestry: &AncestryFacts,
        reason: CopyReason,
    ) -> Result<(), PlanError> {
        if pair.remote.is_none() {
            self.cancel_pending_deletions(pair.key)?;
        }
        let replaced = pair.remote.as_ref();
        self.push_copy(PlannedCopy {
            key: pair.key,
            path: pair.path,
            from: local,
            to: Side::Remote,
            replaced,
            reason,
            conflict: self.policy_note(facts, reason, Side::Local),
            history: self.ancestry_for_upload(pair.key, facts, ancestry, local)?,
        });
        Ok(())
    }

    /// Pushes the step that copies the remote version to this machine.
    fn push_download(
        &mut self,
        pair: &FilePair<'_>,
        remote: &FileVersion,
        facts: FileFacts,
        ancestry: &AncestryFacts,
        reason: CopyReason,
    ) {
        let is_absent = pair.local.is_none();
        let history = self.ancestry_for_download(pair.key, ancestry, is_absent, remote);
        self.push_copy(PlannedCopy {
            key: pair.key,
            path: pair.path,
            from: remote,
            to: Side::Local,
            replaced: pair.local.as_ref(),
            reason,
            conflict: self.policy_note(facts, reason, Side::Remote),
            history,
        });
    }

    /// Describes the conflict that `conflict.policy` decides in favour of the version on `from`, if it does.
    fn policy_note(&self, facts: FileFacts, reason: CopyReason, from: Side) -> Option<String> {
        (reason == CopyReason::Policy).then(|| self.policy_outcome(facts, from))
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

    /// Returns true if a file's name looks like a client's copy and the original is beside it.
    fn is_beside_original(&self, found: &ListedFile) -> bool {
        cloud_names::maybe_copy_of(&found.path)
            .is_some_and(|real| self.root(Side::Remote).join(real).exists())
    }

    /// Collects the facts for [`decide`]. Contents are compared only if the facts need it.
    fn pair_facts(&self, pair: &FilePair<'_>) -> Result<(FileFacts, AncestryFacts), PlanError> {
        let FilePair {
            key, kind, last, ..
        } = *pair;
        let (local, remote) = (pair.local.as_ref(), pair.remote.as_ref());
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
