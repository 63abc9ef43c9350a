//! Adds the outcome of a decision to the plan: a copy, a deletion, or files that are equal.

use super::delivery::FileVersion;
use super::inputs::Planner;
use super::steps::{CopyOp, Op, Placement, StateUpdate, SyncAction, SyncStep};
use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::sync::decide::CopyReason;
use crate::sync::index_updates::ContentChange;
use crate::sync::manifest::ManifestEntry;
use crate::sync::scan::Side;
use crate::sync::state::{SideFile, SyncedFile};
use crate::sync::version_vector::Ancestry;

/// A version to copy to the other side.
pub(super) struct PlannedCopy<'a> {
    pub(super) key: &'a str,
    /// Relative path that output and JSON show.
    pub(super) path: &'a str,
    pub(super) from: &'a FileVersion,
    /// The side that gets the version.
    pub(super) to: Side,
    /// The version of that side, whose path the copy gets.
    pub(super) replaced: Option<&'a FileVersion>,
    pub(super) reason: CopyReason,
    /// Explanation of the conflict that the copy resolves.
    pub(super) conflict: Option<String>,
    /// Ancestry to publish with the copy.
    pub(super) history: Option<Box<Ancestry>>,
}

impl Planner<'_> {
    /// Pushes the step that copies a version to the other side.
    pub(super) fn push_copy(&mut self, copy: PlannedCopy<'_>) {
        let from = copy.from;
        let path = copy
            .replaced
            .map_or(&from.seen.path, |replaced| &replaced.seen.path);
        let source = Placement::existing(from.seen.path.clone(), &from.seen);
        let target = Placement::written(path.clone());
        let (action, local, remote) = match copy.to {
            Side::Local => (SyncAction::CopyToLocal, target, source),
            Side::Remote => (SyncAction::CopyToCloud, source, target),
        };
        self.plan.steps.push(SyncStep {
            key: copy.key.to_owned(),
            path: copy.path.to_owned(),
            action,
            reason: copy.reason.text(from.seen.side).into(),
            bytes: from.seen.stat.size,
            ops: vec![Op::Copy(CopyOp {
                from: from.seen.clone(),
                to: (copy.to, path.clone()),
                over: copy.replaced.map(|version| version.seen.stat),
                mtime_ns: from.mtime_ns,
                expect: from.digest,
                history: copy.history,
            })],
            state_update: StateUpdate::Synced { local, remote },
            change: ContentChange::Unchanged,
            conflict: copy.conflict,
        });
    }

    /// Records that both sides have the same version; `contents` is the length and digest of its text, if known.
    pub(super) fn record_equal(
        &mut self,
        key: &str,
        local: &FileVersion,
        remote: &FileVersion,
        contents: Option<(u64, Sha256Digest)>,
    ) {
        let place = |version: &FileVersion| SideFile {
            path: version.seen.path.clone(),
            stat: version.seen.stat,
        };
        let last = SyncedFile {
            local: place(local),
            remote: place(remote),
            contents,
        };
        self.plan.unchanged += 1;
        if self.state.files.get(key) != Some(&last) {
            self.plan
                .records
                .recorded_equal
                .push((key.to_owned(), last));
        }
    }

    /// Attests a remote file that was found equal to the local one, unless its digest is known already. With `is_news`,
    /// other
    /// machines have to learn its ancestry, so this machine attests it in any case. Compressed files are never attested
    /// this way: `digest` is that of the text, and a manifest lists the bytes.
    pub(super) fn attest(
        &mut self,
        remote: &FileVersion,
        digest: Sha256Digest,
        history: Option<Box<Ancestry>>,
        is_news: bool,
    ) {
        let is_attested = remote.digest.is_some() && !is_news;
        if is_attested || remote.seen.path.ends_with(rollout::ZST) {
            return;
        }
        let entry = ManifestEntry {
            size: remote.seen.stat.size,
            mtime_ns: remote.mtime_ns,
            digest,
            history,
        };
        self.plan
            .records
            .attested
            .push((remote.seen.path.clone(), entry));
    }

    /// Pushes the step that copies a deletion to the other side.
    pub(super) fn push_delete(
        &mut self,
        key: &str,
        path: &str,
        action: SyncAction,
        victim: &FileVersion,
        state_update: StateUpdate,
    ) {
        let reason = match action {
            SyncAction::DeleteCloud => "deleted on this machine, and delete_policy is propagate",
            _ => "deleted on another machine, and delete_policy is propagate",
        };
        self.plan.steps.push(SyncStep {
            key: key.to_owned(),
            path: path.to_owned(),
            action,
            reason: reason.into(),
            bytes: 0,
            ops: vec![Op::Remove(victim.seen.clone())],
            state_update,
            change: ContentChange::Unchanged,
            conflict: None,
        });
    }
}
