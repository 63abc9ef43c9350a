//! Chooses the action for one file, by a pure function of the known facts, and describes the reasons for output.
//!
//! The state of the last sync shows which side changed a file. Mtimes decide about plain files that no sync has
//! recorded, if `sync.compare` is `mtime` or `mtime_hash_fallback`, and about conflicts if `conflict.policy` is
//! `prefer_newer_mtime`.

use super::config::{Compare, ConflictPolicy, DecisionRules, DeletePolicy, EqualMtime, SyncRemote};
use super::file_kind::FileKind;
use super::rollouts;
use super::sides::Side;
use crate::codex::rollout::Relation;

/// The state of a file on one side, compared with the last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    Unchanged,
    Changed,
    /// The file exists, and no sync has recorded it.
    New,
}

/// The input of a decision about one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub kind: FileKind,
    pub local: Presence,
    pub remote: Presence,
    /// Relation of the local content to the remote one; `None` if a side lacks the file or the contents were not read.
    pub relation: Option<Relation>,
    /// True if one version of a conversation has all messages of the other one, but does not begin with its bytes.
    pub is_rewritten: bool,
    /// The side with the later mtime; `None` if the times are equal within the configured tolerance.
    pub newer: Option<Side>,
    /// The evidence that the remote version is older; looked for only in plain files that an earlier sync recorded.
    pub former: FormerVersion,
    /// True if the home has the conversation under an excluded name only, so that the absent file is no deletion.
    pub is_excluded: bool,
    /// True if another machine requests the deletion of this version.
    pub deletion_requested: bool,
    /// True if a rollout that stays continues this one. Read only for a rollout that would be deleted.
    pub is_continued: bool,
    /// True while `sync resolve` decides about the file.
    pub is_being_resolved: bool,
}

/// The evidence that a remote version is older than the local one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormerVersion {
    /// No evidence that the remote version is older.
    No,
    /// This machine replaced the remote version before, or it is a truncated copy of the local version.
    Older,
    /// The remote version is older, and no manifest lists it, so the user may have restored it.
    Unlisted,
}

impl FileFacts {
    /// Returns true if both sides equal the last sync.
    pub(crate) fn is_unchanged(self) -> bool {
        (self.local, self.remote) == (Presence::Unchanged, Presence::Unchanged)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileDecision {
    /// Changes nothing: both sides are unchanged since the last sync, neither has the file, or the home has it under an
    /// excluded name.
    Nothing,
    /// Records both files as synced, because their contents are equal.
    RecordEqual,
    /// Copies the version of this side to the other one.
    Copy(Side, CopyReason),
    /// Writes the merged lines of both versions to the sides that lack some of them.
    Merge,
    /// Leaves differing files unchanged, as configured.
    Skip,
    /// Waits for the user's decision.
    Conflict,
    /// Deletes the remote file, because the user deleted the local one.
    DeleteCloud,
    /// Deletes the local file, because another machine deleted it.
    DeleteLocal,
}

/// The reason for copying one version over the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyReason {
    /// Only this side has the file.
    OnlyOneSide,
    /// The other side lost the file, and `sync.delete_policy` does not delete this version.
    AbsentIsNotDeleted,
    /// The other side lost a rollout that another rollout continues.
    Continued,
    /// This version continues the other one.
    Grew,
    /// This version has all messages of the other one, and Codex rewrote it.
    Rewritten,
    /// Only this side changed the file.
    ChangedOneSide,
    /// The remote version is older than the local one.
    OlderCloud,
    /// This version is newer by mtime, and no sync has recorded the file.
    Newer,
    /// `equal_mtime_action` prefers this side.
    EqualTimes,
    /// `conflict.policy` prefers this side, or the user chose it in `sync resolve`.
    Policy,
}

impl CopyReason {
    /// Returns the reason for output, for a copy of the version on the side `source`.
    pub(crate) fn describe(self, source: Side, remote: SyncRemote) -> String {
        const LOCAL: &str = "on this machine";
        let (remote_name, remote_place) = (remote.label(), remote.describe_place());
        let source_place = source.select(LOCAL, remote_place);
        let other_place = source.other().select(LOCAL, remote_place);

        match self {
            Self::OnlyOneSide => format!("only {source_place}"),
            Self::AbsentIsNotDeleted => {
                format!("missing {other_place}; sync.delete_policy does not delete this version")
            }
            Self::Continued => {
                format!("missing {other_place}; a rewind or a fork continues it")
            }
            Self::Grew => format!("longer {source_place}"),
            Self::Rewritten => format!("rewritten by Codex {source_place}, with all messages"),
            Self::ChangedOneSide => format!("changed {source_place}"),
            Self::OlderCloud => format!("the {remote_name} has an older version"),
            Self::Newer => format!("newer {source_place}"),
            Self::EqualTimes => "equal mtimes; equal_mtime_action decides".to_owned(),
            Self::Policy => "in conflict; chosen by conflict.policy or sync resolve".to_owned(),
        }
    }
}

/// Returns the action for a file; docs/sync-protocol.md has the table that this function implements.
pub(crate) fn decide(facts: FileFacts, rules: DecisionRules) -> FileDecision {
    use Presence::{Absent, Changed, New, Unchanged};
    let may_delete = rules.delete == DeletePolicy::Propagate && !facts.is_continued;
    let copy_back_reason = if facts.is_continued {
        CopyReason::Continued
    } else {
        CopyReason::AbsentIsNotDeleted
    };
    match (facts.local, facts.remote) {
        (Absent, Absent) | (Unchanged, Unchanged) => FileDecision::Nothing,
        (Absent, Unchanged) if facts.is_excluded => FileDecision::Nothing,
        (Absent, New) => FileDecision::Copy(Side::Remote, CopyReason::OnlyOneSide),
        (New, Absent) => FileDecision::Copy(Side::Local, CopyReason::OnlyOneSide),
        (Absent, Unchanged) if may_delete => FileDecision::DeleteCloud,
        (Unchanged, Absent) if may_delete && facts.deletion_requested => FileDecision::DeleteLocal,
        (Absent, Unchanged | Changed) => FileDecision::Copy(Side::Remote, copy_back_reason),
        (Unchanged | Changed, Absent) => FileDecision::Copy(Side::Local, copy_back_reason),
        _ => decide_both_present(facts, rules),
    }
}

fn decide_both_present(facts: FileFacts, rules: DecisionRules) -> FileDecision {
    use Presence::{Changed, Unchanged};
    let is_first_sync = facts.local == Presence::New || facts.remote == Presence::New;

    if facts.relation == Some(Relation::Equal) {
        return FileDecision::RecordEqual;
    }
    if facts.kind == FileKind::Plain && is_first_sync && rules.compare != Compare::ThreeWay {
        return decide_by_mtime(facts, rules);
    }

    // Copying the longer version loses nothing. But if a plain file was synced before, the shorter version may be the
    // newer one, because the user may have removed text.
    let longer_wins = facts.kind != FileKind::Plain || is_first_sync;
    let longer = facts.relation.and_then(Side::of_extending);
    if longer_wins && let Some(side) = longer {
        let reason = if facts.is_rewritten {
            CopyReason::Rewritten
        } else {
            CopyReason::Grew
        };
        return FileDecision::Copy(side, reason);
    }

    if facts.kind == FileKind::Lines {
        return FileDecision::Merge;
    }

    // One side may be unchanged: a rollout can also be in conflict because other rollouts continue it.
    if facts.is_being_resolved && facts.kind == FileKind::Rollout {
        return decide_conflict(facts, rules);
    }

    match (facts.local, facts.remote) {
        (Changed, Unchanged) => FileDecision::Copy(Side::Local, CopyReason::ChangedOneSide),
        (Unchanged | Changed, Changed) if facts.former == FormerVersion::Older => {
            FileDecision::Copy(Side::Local, CopyReason::OlderCloud)
        }
        (Unchanged, Changed) if facts.former == FormerVersion::No => {
            FileDecision::Copy(Side::Remote, CopyReason::ChangedOneSide)
        }
        _ => decide_conflict(facts, rules),
    }
}

/// Decides by mtime, as codexSync does, between two plain files that no sync has recorded.
fn decide_by_mtime(facts: FileFacts, rules: DecisionRules) -> FileDecision {
    match facts.newer {
        Some(newer) => FileDecision::Copy(newer, CopyReason::Newer),
        None => match rules.equal_mtime {
            EqualMtime::Skip => FileDecision::Skip,
            EqualMtime::PreferLocal => FileDecision::Copy(Side::Local, CopyReason::EqualTimes),
            EqualMtime::PreferCloud => FileDecision::Copy(Side::Remote, CopyReason::EqualTimes),
            EqualMtime::ManualAbort => decide_conflict(facts, rules),
        },
    }
}

fn decide_conflict(facts: FileFacts, rules: DecisionRules) -> FileDecision {
    let winner = match rules.conflict {
        ConflictPolicy::PreferLocal => Some(Side::Local),
        ConflictPolicy::PreferCloud => Some(Side::Remote),
        // With equal mtimes, neither version is newer, so the user decides.
        ConflictPolicy::PreferNewerMtime => facts.newer,
        ConflictPolicy::ManualAbort | ConflictPolicy::Manual => None,
    };
    winner.map_or(FileDecision::Conflict, |side| {
        FileDecision::Copy(side, CopyReason::Policy)
    })
}

/// Returns the folder for both files of a conversation. `last` is the folder at the last sync. If only one side moved
/// its file since then, returns the new folder. Otherwise prefers a folder that is not the archive.
pub(crate) fn choose_folder<'a>(local: &'a str, remote: &'a str, last: Option<&str>) -> &'a str {
    match last {
        Some(folder) if folder == remote => local,
        Some(folder) if folder == local => remote,
        _ if rollouts::is_archive_folder(local) => remote,
        _ => local,
    }
}

/// Returns a clause for output: the version of the side `winner` wins the conflict.
pub(crate) fn describe_winner(winner: Side, remote: SyncRemote) -> String {
    match winner {
        Side::Local => "the version of this machine wins".to_owned(),
        Side::Remote => format!("the version {} wins", remote.describe_place()),
    }
}

/// Returns the reason for a conflict, as a clause after the path.
pub(crate) fn describe_conflict(facts: FileFacts) -> String {
    let was_synced_before = facts.local != Presence::New && facts.remote != Presence::New;
    match (facts.kind, was_synced_before) {
        _ if facts.former == FormerVersion::Unlisted => {
            "the cloud folder has an older version that no machine has published"
        }
        (FileKind::Rollout, _) => "was continued differently on both sides",
        (_, true) => "changed on both sides since the last sync",
        (_, false) => "differs between the two sides and was never synced",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use FileDecision as D;
    use FileKind::{Lines, Plain, Rollout};
    use Presence::{Absent, Changed, New, Unchanged};

    const RULES: DecisionRules = DecisionRules {
        compare: Compare::ThreeWay,
        equal_mtime: EqualMtime::Skip,
        conflict: ConflictPolicy::ManualAbort,
        delete: DeletePolicy::Never,
    };
    const KINDS: [FileKind; 3] = [Rollout, Lines, Plain];

    fn facts(
        kind: FileKind,
        local: Presence,
        remote: Presence,
        relation: Option<Relation>,
    ) -> FileFacts {
        FileFacts {
            kind,
            local,
            remote,
            relation,
            is_rewritten: false,
            newer: None,
            former: FormerVersion::No,
            is_excluded: false,
            deletion_requested: false,
            is_continued: false,
            is_being_resolved: false,
        }
    }

    /// Mirrors the table of docs/sync-protocol.md.
    #[test]
    fn decide_matches_the_documented_table() {
        use Relation::{Diverged, Equal, FirstExtends, SecondExtends};
        #[rustfmt::skip] // One row per line, as in the documented table.
        let table = [
            (&KINDS[..], Absent, Absent, None, D::Nothing),
            (&KINDS, Unchanged, Unchanged, None, D::Nothing),
            (&KINDS, New, Absent, None, D::Copy(Side::Local, CopyReason::OnlyOneSide)),
            (&KINDS, Absent, New, None, D::Copy(Side::Remote, CopyReason::OnlyOneSide)),
            (&KINDS, Unchanged, Absent, None, D::Copy(Side::Local, CopyReason::AbsentIsNotDeleted)),
            (&KINDS, Changed, Absent, None, D::Copy(Side::Local, CopyReason::AbsentIsNotDeleted)),
            (&KINDS, Absent, Unchanged, None, D::Copy(Side::Remote, CopyReason::AbsentIsNotDeleted)),
            (&KINDS, Absent, Changed, None, D::Copy(Side::Remote, CopyReason::AbsentIsNotDeleted)),
            (&KINDS, New, New, Some(Equal), D::RecordEqual),
            (&KINDS, Changed, Changed, Some(Equal), D::RecordEqual),
            (&KINDS, New, New, Some(FirstExtends), D::Copy(Side::Local, CopyReason::Grew)),
            (&KINDS, New, New, Some(SecondExtends), D::Copy(Side::Remote, CopyReason::Grew)),
            (&[Rollout, Lines], Changed, Changed, Some(FirstExtends), D::Copy(Side::Local, CopyReason::Grew)),
            (&[Rollout, Lines], Changed, Changed, Some(SecondExtends), D::Copy(Side::Remote, CopyReason::Grew)),
            (&[Rollout, Lines], Changed, Unchanged, Some(FirstExtends), D::Copy(Side::Local, CopyReason::Grew)),
            // The local file got shorter, so the missing part comes back.
            (&[Rollout, Lines], Changed, Unchanged, Some(SecondExtends), D::Copy(Side::Remote, CopyReason::Grew)),
            (&[Rollout, Lines], Unchanged, Changed, Some(FirstExtends), D::Copy(Side::Local, CopyReason::Grew)),
            (&[Plain], Changed, Unchanged, Some(SecondExtends), D::Copy(Side::Local, CopyReason::ChangedOneSide)),
            (&[Plain], Unchanged, Changed, Some(FirstExtends), D::Copy(Side::Remote, CopyReason::ChangedOneSide)),
            (&[Plain], Changed, Changed, Some(FirstExtends), D::Conflict),
            (&[Rollout, Plain], Changed, Unchanged, Some(Diverged), D::Copy(Side::Local, CopyReason::ChangedOneSide)),
            (&[Rollout, Plain], Unchanged, Changed, Some(Diverged), D::Copy(Side::Remote, CopyReason::ChangedOneSide)),
            (&[Rollout, Plain], Changed, Changed, Some(Diverged), D::Conflict),
            (&[Rollout, Plain], New, New, Some(Diverged), D::Conflict),
            (&[Lines], Changed, Changed, Some(Diverged), D::Merge),
            (&[Lines], New, New, Some(Diverged), D::Merge),
            (&[Lines], Unchanged, Changed, Some(Diverged), D::Merge),
        ];
        for (kinds, local, remote, relation, expected) in table {
            for kind in kinds {
                let facts = facts(*kind, local, remote, relation);
                assert_eq!(decide(facts, RULES), expected, "{facts:?}");
            }
        }
    }

    #[test]
    fn older_remote_versions_are_replaced_and_unlisted_ones_conflict() {
        let download = D::Copy(Side::Remote, CopyReason::ChangedOneSide);
        let upload = D::Copy(Side::Local, CopyReason::OlderCloud);
        for (local, former, expected) in [
            (Unchanged, FormerVersion::No, download),
            (Unchanged, FormerVersion::Older, upload),
            (Unchanged, FormerVersion::Unlisted, D::Conflict),
            (Changed, FormerVersion::No, D::Conflict),
            (Changed, FormerVersion::Older, upload),
            (Changed, FormerVersion::Unlisted, D::Conflict),
        ] {
            let facts = FileFacts {
                former,
                ..facts(Plain, local, Changed, Some(Relation::Diverged))
            };
            assert_eq!(decide(facts, RULES), expected, "{facts:?}");
        }
    }

    #[test]
    fn mtimes_decide_only_between_unrecorded_plain_files() {
        for compare in [Compare::Mtime, Compare::MtimeHashFallback] {
            let rules = DecisionRules { compare, ..RULES };
            for newer in [Some(Side::Local), Some(Side::Remote)] {
                let expected = match newer {
                    Some(Side::Local) => D::Copy(Side::Local, CopyReason::Newer),
                    _ => D::Copy(Side::Remote, CopyReason::Newer),
                };
                for kind in KINDS {
                    for (local, remote) in [(New, New), (Changed, Changed)] {
                        let facts = FileFacts {
                            newer,
                            ..facts(kind, local, remote, Some(Relation::Diverged))
                        };
                        let decide_by_mtime = kind == Plain && local == New;
                        let decision = decide(facts, rules);
                        assert_eq!(
                            decision == expected,
                            decide_by_mtime,
                            "{facts:?} {decision:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn equal_mtimes_follow_equal_mtime_action() {
        for (equal_mtime, expected) in [
            (EqualMtime::Skip, D::Skip),
            (
                EqualMtime::PreferLocal,
                D::Copy(Side::Local, CopyReason::EqualTimes),
            ),
            (
                EqualMtime::PreferCloud,
                D::Copy(Side::Remote, CopyReason::EqualTimes),
            ),
            (EqualMtime::ManualAbort, D::Conflict),
        ] {
            let rules = DecisionRules {
                compare: Compare::Mtime,
                equal_mtime,
                ..RULES
            };
            assert_eq!(decide(facts(Plain, New, New, None), rules), expected);
        }
    }

    #[test]
    fn conflict_policy_decides_conflicts_unless_mtimes_tie() {
        use ConflictPolicy::{Manual, ManualAbort, PreferCloud, PreferLocal, PreferNewerMtime};
        for (conflict, newer, expected) in [
            (ManualAbort, Some(Side::Local), D::Conflict),
            (Manual, Some(Side::Remote), D::Conflict),
            (
                PreferCloud,
                Some(Side::Local),
                D::Copy(Side::Remote, CopyReason::Policy),
            ),
            (
                PreferLocal,
                Some(Side::Remote),
                D::Copy(Side::Local, CopyReason::Policy),
            ),
            (
                PreferNewerMtime,
                Some(Side::Local),
                D::Copy(Side::Local, CopyReason::Policy),
            ),
            (
                PreferNewerMtime,
                Some(Side::Remote),
                D::Copy(Side::Remote, CopyReason::Policy),
            ),
            (PreferNewerMtime, None, D::Conflict),
        ] {
            let rules = DecisionRules { conflict, ..RULES };
            let facts = FileFacts {
                newer,
                ..facts(Rollout, Changed, Changed, Some(Relation::Diverged))
            };
            assert_eq!(decide(facts, rules), expected);
        }
    }

    #[test]
    fn while_a_rollout_is_resolved_the_chosen_side_wins_even_if_only_one_side_changed() {
        for (local, remote) in [(Changed, Unchanged), (Unchanged, Changed)] {
            for (conflict, side) in [
                (ConflictPolicy::PreferLocal, Side::Local),
                (ConflictPolicy::PreferCloud, Side::Remote),
            ] {
                let rules = DecisionRules { conflict, ..RULES };
                let facts = FileFacts {
                    is_being_resolved: true,
                    ..facts(Rollout, local, remote, Some(Relation::Diverged))
                };
                let expected = D::Copy(side, CopyReason::Policy);
                assert_eq!(decide(facts, rules), expected, "{facts:?}");
            }
        }
    }

    #[test]
    fn deletions_are_propagated_only_on_request() {
        let rules = DecisionRules {
            delete: DeletePolicy::Propagate,
            ..RULES
        };
        assert_eq!(
            decide(facts(Plain, Absent, Unchanged, None), rules),
            D::DeleteCloud
        );
        let mut excluded = facts(Rollout, Absent, Unchanged, None);
        excluded.is_excluded = true;
        for rules in [rules, RULES] {
            assert_eq!(decide(excluded, rules), D::Nothing);
        }
        let mut gone = facts(Plain, Unchanged, Absent, None);
        assert_eq!(
            decide(gone, rules),
            D::Copy(Side::Local, CopyReason::AbsentIsNotDeleted),
            "the folder may not have arrived"
        );
        gone.deletion_requested = true;
        assert_eq!(decide(gone, rules), D::DeleteLocal);
        // A file that changed since is not the one that was deleted.
        gone.local = Changed;
        assert_eq!(
            decide(gone, rules),
            D::Copy(Side::Local, CopyReason::AbsentIsNotDeleted)
        );
        let changed = facts(Plain, Absent, Changed, None);
        assert_eq!(
            decide(changed, rules),
            D::Copy(Side::Remote, CopyReason::AbsentIsNotDeleted)
        );
    }
}
