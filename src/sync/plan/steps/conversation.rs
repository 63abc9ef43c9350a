//! Plans for conversations. One conversation can have several files on each side (plain or compressed, archived or
//! not), and cloud clients make copies of them.
//!
//! 1. The files of one side are folded into one main version; what diverged becomes a conflict copy.
//! 2. Clients' copies are folded into the remote side in the same way.
//! 3. `conversation_step` compares the two main versions and decides about them.
//! 4. Duplicates are removed, and the file moves to the folder that both sides should have (archived or not).

use super::conversation_draft::ConversationDraft;
use super::conversation_step::{SideVersions, plan_conversation_sync};
use super::file_plan::{FileOutcome, FilePlan, equal};
use crate::codex::rollout::{Relation, ZST};
use crate::sync::contents;
use crate::sync::notice::NoticeList;
use crate::sync::plan::error::PlanError;
use crate::sync::plan::facts::delivery::{
    DownloadState, download_state, usable_version, zero_filled_notice,
};
use crate::sync::plan::facts::file_version::{
    FileVersion, has_complete_lines, relation, text_digest,
};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::{FileGroup, display_path};
use crate::sync::plan::sync_step::ObservedFile;
use crate::sync::read_failure;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side};

/// Plans a conversation from all its files on both sides.
pub(crate) fn plan_conversation(
    inputs: &Inputs<'_>,
    key: &str,
    group: &FileGroup,
) -> Result<FilePlan, PlanError> {
    let path = display_path(key, group);
    let mut draft = ConversationDraft {
        key,
        path: &path,
        last: inputs.state.files.get(key),
        ops: Vec::new(),
        new_copies: Vec::new(),
        notices: Vec::new(),
        published_records: Vec::new(),
    };
    for found in &group.local {
        if let Some(notice) = zero_filled_notice(inputs, found, true, draft.last)? {
            return Ok(notice.into());
        }
    }
    if let Some(outcome) = equal_by_stat(inputs, &draft, group) {
        return Ok(outcome.into());
    }
    let local = group.local.iter();
    let local = local.map(|found| FileVersion::of(Side::Local, found));
    let local: Vec<_> = local.collect();
    let mut remote = Vec::new();
    for found in &group.remote {
        match usable_version(inputs, key, group, found, true, draft.last)? {
            DownloadState::Complete(version) => remote.push(version),
            // Any decision now could make a conflict of a version that is only half delivered.
            DownloadState::Incomplete(why) => {
                return Ok(NoticeList::WaitingUnlisted.notice(&found.path, why).into());
            }
        }
    }
    let local = fold_side(inputs, &mut draft, local)?;
    let mut remote = fold_side(inputs, &mut draft, remote)?;
    let canonical = remote.main.as_ref().map(|version| version.seen.clone());
    fold_client_copies(
        inputs,
        &mut draft,
        &local,
        &mut remote,
        &group.client_copies,
    )?;
    plan_conversation_sync(inputs, draft, local, remote, canonical.as_ref())
}

/// Shortcut of a first sync with `compare = "mtime"`: a conversation is equal without reading it if both sides have one
/// file with equal path, size and time.
fn equal_by_stat(
    inputs: &Inputs<'_>,
    draft: &ConversationDraft<'_>,
    group: &FileGroup,
) -> Option<FileOutcome> {
    let ([local], [remote], []) = (&*group.local, &*group.remote, &*group.client_copies) else {
        return None;
    };
    if draft.last.is_some() || local.path != remote.path || !inputs.trusts_mtime() {
        return None;
    }
    let local = FileVersion::of(Side::Local, local);
    let remote = FileVersion::of(Side::Remote, remote);
    // Without the tolerance for times: two diverged conversations can have equal size and almost equal times.
    // Only times equal to the nanosecond show that one file is a copy of the other.
    let is_equal = local.seen.stat == remote.seen.stat;
    is_equal.then(|| equal(inputs.state, draft.key, &local, &remote, None))
}

/// Chooses the main version among the files of one side. The others become duplicates; of those that diverged, a
/// conflict copy is kept.
fn fold_side(
    inputs: &Inputs<'_>,
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
        match relation(inputs.config, &main.seen, &version.seen)?.relation {
            Relation::Equal | Relation::FirstExtends => {
                side.duplicates.push(version.seen);
            }
            Relation::SecondExtends => {
                side.duplicates.push(main.seen.clone());
                side.main = Some(version);
            }
            Relation::Diverged => {
                draft.keep_conflict_copy(inputs, &version.seen)?;
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
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    local: &SideVersions,
    remote: &mut SideVersions,
    copies: &[ListedFile],
) -> Result<(), PlanError> {
    for found in copies {
        let seen = ObservedFile::of(Side::Remote, found);
        let path = seen.full_path(inputs.config);
        if let Err(e) = contents::read(&path, None) {
            let why = read_failure::reason(&e);
            draft
                .notices
                .push(NoticeList::Waiting.notice(&found.path, why));
            continue;
        }
        let mains = [&local.main, &remote.main];
        let mut extends_remote = remote.main.is_none();
        let mut is_contained = false;
        for main in mains.into_iter().flatten() {
            match relation(inputs.config, &main.seen, &seen)?.relation {
                Relation::Equal | Relation::FirstExtends => is_contained = true,
                Relation::SecondExtends if main.seen.side == Side::Remote => {
                    extends_remote = true;
                }
                _ => {}
            }
        }
        let (_, digest) = text_digest(inputs.config, &seen)?;
        if is_contained || draft.is_kept_or_resolved(inputs, &digest) {
            continue;
        }
        match download_state(inputs, draft.key, found, true, None)? {
            // A client can copy a version that no machine will ever attest. If its lines are complete, it is kept
            // now; a longer version that arrives later gets a conflict copy of its own.
            DownloadState::Incomplete(_)
                if !extends_remote && has_complete_lines(inputs.config, &seen)? =>
            {
                draft.keep_conflict_copy(inputs, &seen)?;
            }
            DownloadState::Incomplete(why) => {
                let notice = NoticeList::WaitingUnlisted.notice(&found.path, why);
                draft.notices.push(notice);
            }
            DownloadState::Complete(version) if extends_remote => remote.main = Some(version),
            DownloadState::Complete(version) => {
                draft.keep_conflict_copy(inputs, &version.seen)?;
            }
        }
    }
    Ok(())
}
