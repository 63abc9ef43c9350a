//! Plans for conversations. One conversation can have several files on each side (plain or compressed, archived or
//! not), and cloud clients make copies of them.
//!
//! 1. The files of one side are folded into one main version; what diverged becomes a conflict copy.
//! 2. Clients' copies are folded into the remote side in the same way.
//! 3. `conversation_step` compares the two main versions and decides about them.
//! 4. Duplicates are removed, and the file moves to the folder that both sides should have (archived or not).

use super::conversation_draft::ConversationDraft;
use super::conversation_step::SideVersions;
use super::delivery::{DownloadState, FileVersion};
use super::error::PlanError;
use super::groups::{FileGroup, display_path};
use super::inputs::Planner;
use super::steps::ObservedFile;
use crate::codex::rollout::{Relation, ZST};
use crate::sync::contents;
use crate::sync::read_failure;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side};

impl Planner<'_> {
    /// Plans a conversation from all its files on both sides.
    pub(super) fn plan_conversation(
        &mut self,
        key: &str,
        group: &FileGroup,
    ) -> Result<(), PlanError> {
        let state = self.state;
        let mut draft = ConversationDraft {
            key,
            path: display_path(key, group),
            last: state.files.get(key),
            ops: Vec::new(),
            new_copies: Vec::new(),
        };
        for found in &group.local {
            if self.skips_zero_filled(found, true, draft.last)? {
                return Ok(());
            }
        }
        if self.record_if_stats_equal(&draft, group) {
            return Ok(());
        }
        let local: Vec<_> = group.local.iter().map(FileVersion::local).collect();
        let mut remote = Vec::new();
        for found in &group.remote {
            match self.download_state(key, found, true, draft.last)? {
                DownloadState::Complete(version) => remote.push(version),
                DownloadState::Incomplete(_) if self.adds_nothing(key, group, found, true)? => {
                    remote.push(FileVersion::remote(found));
                }
                // Any decision now could make a conflict of a version that is only half delivered.
                DownloadState::Incomplete(why) => {
                    self.wait_for_listing(&found.path, why);
                    return Ok(());
                }
            }
        }
        let local = self.fold_side(&mut draft, local)?;
        let mut remote = self.fold_side(&mut draft, remote)?;
        let base = remote.main.as_ref().map(|version| version.seen.clone());
        self.fold_client_copies(&mut draft, &local, &mut remote, &group.client_copies)?;
        self.plan_conversation_sync(draft, local, remote, base.as_ref())
    }

    /// Shortcut of a first sync with `compare = "mtime"`: records a conversation as equal without reading it, if both
    /// sides have one file with equal path, size and time. Returns true if it did.
    fn record_if_stats_equal(&mut self, draft: &ConversationDraft<'_>, group: &FileGroup) -> bool {
        let ([local], [remote], []) = (&*group.local, &*group.remote, &*group.client_copies) else {
            return false;
        };
        if draft.last.is_some() || local.path != remote.path || !self.trusts_mtime() {
            return false;
        }
        let (local, remote) = (FileVersion::local(local), FileVersion::remote(remote));
        // Without the tolerance for times: two diverged conversations can have equal size and almost equal times.
        // Only times equal to the nanosecond show that one file is a copy of the other.
        if local.seen.stat != remote.seen.stat {
            return false;
        }
        self.record_equal(draft.key, &local, &remote, None);
        true
    }

    /// Chooses the main version among the files of one side. The others become duplicates; of those that diverged, a
    /// conflict copy is kept.
    fn fold_side(
        &mut self,
        draft: &mut ConversationDraft<'_>,
        mut versions: Vec<FileVersion>,
    ) -> Result<SideVersions, PlanError> {
        // Codex reads the plain file if a compressed one exists beside it. A killed move leaves two files; then the one
        // in the new folder counts.
        versions.sort_by_key(|version| {
            let path = &version.seen.path;
            let place = draft.last.map(|last| match version.seen.side {
                Side::Local => &last.local,
                Side::Remote => &last.remote,
            });
            let is_old = place.is_some_and(|p| rollouts::folder(&p.path) == rollouts::folder(path));
            (path.ends_with(ZST), is_old, path.clone())
        });
        let mut side = SideVersions::default();
        for version in versions {
            let Some(main) = &side.main else {
                side.main = Some(version);
                continue;
            };
            match self.relation(&main.seen, &version.seen)? {
                Relation::Equal | Relation::FirstExtends => {
                    side.duplicates.push(version.seen);
                }
                Relation::SecondExtends => {
                    side.duplicates.push(main.seen.clone());
                    side.main = Some(version);
                }
                Relation::Diverged => {
                    self.keep_conflict_copy(draft, &version.seen)?;
                    side.duplicates.push(version.seen);
                }
            }
        }
        Ok(side)
    }

    /// Treats the copies that cloud clients made of conflicts as remote versions: a copy that extends the remote main
    /// version becomes the main version, a diverged one gets a conflict copy, and one without new lines is ignored. The
    /// clients' files themselves stay, because their client may still track them.
    fn fold_client_copies(
        &mut self,
        draft: &mut ConversationDraft<'_>,
        local: &SideVersions,
        remote: &mut SideVersions,
        copies: &[ListedFile],
    ) -> Result<(), PlanError> {
        for found in copies {
            let seen = ObservedFile {
                side: Side::Remote,
                path: found.path.clone(),
                stat: found.stat,
            };
            let path = self.full(&seen);
            if let Err(e) = contents::read(&path, None) {
                let why = read_failure::reason(&e);
                self.plan.notices.waiting.push((found.path.clone(), why));
                continue;
            }
            let mains = [&local.main, &remote.main];
            let mut extends_remote = remote.main.is_none();
            let mut is_contained = false;
            for main in mains.into_iter().flatten() {
                match self.relation(&main.seen, &seen)? {
                    Relation::Equal | Relation::FirstExtends => is_contained = true,
                    Relation::SecondExtends if main.seen.side == Side::Remote => {
                        extends_remote = true;
                    }
                    _ => {}
                }
            }
            if is_contained || self.is_kept_or_resolved(draft, &self.text_digest(&seen)?.1)? {
                continue;
            }
            match self.download_state(draft.key, found, true, None)? {
                // A client can copy a version that no machine will ever attest. If its lines are complete, it is kept
                // now; a longer version that arrives later gets a conflict copy of its own.
                DownloadState::Incomplete(_)
                    if !extends_remote && self.has_complete_lines(&seen)? =>
                {
                    self.keep_conflict_copy(draft, &seen)?;
                }
                DownloadState::Incomplete(why) => self.wait_for_listing(&found.path, why),
                DownloadState::Complete(version) if extends_remote => remote.main = Some(version),
                DownloadState::Complete(version) => {
                    self.keep_conflict_copy(draft, &version.seen)?;
                }
            }
        }
        Ok(())
    }
}
