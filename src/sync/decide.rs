//! What is to be done about one file: a pure function of what is known of it.
//!
//! The state of the last sync tells who changed it. Times decide only where there is no such state, and
//! only in the modes that say so.

use super::config::{Compare, ConflictPolicy, DeletePolicy, EqualMtime};
use super::version_vector::CausalOrder;
use crate::codex::rollout::Relation;

/// What a file is, as far as decisions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A conversation: it only ever grows.
    Rollout,
    /// Lines that can be merged.
    Lines,
    /// Anything else.
    Plain,
}

/// One side of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is not there.
    Absent,
    /// It is as the last sync left it.
    Unchanged,
    /// It is not.
    Changed,
    /// It is there, and no sync has seen it.
    New,
}

/// How the two sides' times relate, tolerance allowed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewerSide {
    /// Here.
    Local,
    /// In the cloud folder.
    Remote,
    /// Neither.
    Neither,
}

/// All that a decision goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// See [`FileKind`].
    pub kind: FileKind,
    /// Here.
    pub local: Presence,
    /// In the cloud folder.
    pub remote: Presence,
    /// How the contents relate, here first; `None` where nobody has read them.
    pub relation: Option<Relation>,
    /// See [`Newer`].
    pub newer: NewerSide,
    /// See [`CausalOrder`]; of plain files alone.
    pub causal_order: CausalOrder,
    /// Whether another machine has asked for this version to be deleted.
    pub delete_asked: bool,
}

/// What the configuration says about decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionRules {
    /// See [`Compare`].
    pub compare: Compare,
    /// See [`EqualMtime`].
    pub equal_mtime: EqualMtime,
    /// See [`ConflictPolicy`].
    pub conflict: ConflictPolicy,
    /// See [`DeletePolicy`].
    pub delete: DeletePolicy,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileDecision {
    /// Nothing: both are as they were.
    Nothing,
    /// Neither side has it any more.
    Forget,
    /// Both are the same; only the state has to learn it.
    RecordEqual,
    /// The version here goes to the cloud folder.
    CopyToCloud(CopyReason),
    /// The version in the cloud folder comes here.
    CopyToLocal(CopyReason),
    /// Lines of both, on both sides.
    Merge,
    /// They differ, and the configuration says to leave that alone.
    Skip,
    /// Somebody has to choose.
    Conflict,
    /// It was deleted here: it goes from the cloud folder.
    DeleteCloud,
    /// It was deleted elsewhere: it goes from here.
    DeleteLocal,
}

/// Why a version goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyReason {
    /// The other side has none.
    OnlyOneSide,
    /// The other side has lost it; absent is not deleted.
    AbsentIsNotDeleted,
    /// It is the other one with more behind it.
    Grew,
    /// Only this side has changed.
    ChangedOneSide,
    /// What the other side has is older than what was here already.
    OlderCloud,
    /// It is the newer one, and there is no last state.
    Newer,
    /// `equal_mtime_action` prefers it.
    EqualTimes,
    /// `conflict.policy` prefers it.
    Policy,
}

impl CopyReason {
    /// In words, for `side`, the one that the version comes from.
    pub fn text(self) -> &'static str {
        match self {
            Self::OnlyOneSide => "only on this side",
            Self::AbsentIsNotDeleted => "absent on the other side, which is not deleted",
            Self::Grew => "grew on this side",
            Self::ChangedOneSide => "changed on this side alone",
            Self::OlderCloud => "an older version has come back in the cloud folder",
            Self::Newer => "newer on this side",
            Self::EqualTimes => "equal times: equal_mtime_action prefers this side",
            Self::Policy => "changed on both sides: conflict.policy prefers this one",
        }
    }
}

/// Decides.
pub fn decide(facts: FileFacts, rules: DecisionRules) -> FileDecision {
    use Presence::{Absent, Changed, New, Unchanged};
    let propagate = rules.delete == DeletePolicy::Propagate;
    match (facts.local, facts.remote) {
        (Absent, Absent) => FileDecision::Forget,
        (Unchanged, Unchanged) => FileDecision::Nothing,
        (Absent, New) => FileDecision::CopyToLocal(CopyReason::OnlyOneSide),
        (New, Absent) => FileDecision::CopyToCloud(CopyReason::OnlyOneSide),
        (Absent, Unchanged) if propagate => FileDecision::DeleteCloud,
        (Unchanged, Absent) if propagate && facts.delete_asked => FileDecision::DeleteLocal,
        (Absent, Unchanged | Changed) => FileDecision::CopyToLocal(CopyReason::AbsentIsNotDeleted),
        (Unchanged | Changed, Absent) => FileDecision::CopyToCloud(CopyReason::AbsentIsNotDeleted),
        _ => decide_both_present(facts, rules),
    }
}

fn decide_both_present(facts: FileFacts, rules: DecisionRules) -> FileDecision {
    use Presence::{Changed, Unchanged};
    let unknown = facts.local == Presence::New || facts.remote == Presence::New;
    if facts.relation == Some(Relation::Equal) {
        return FileDecision::RecordEqual;
    }
    if facts.kind == FileKind::Plain && unknown && rules.compare != Compare::ThreeWay {
        return by_time(facts, rules);
    }
    // An extension loses nothing, so it may go over whatever else is known. Of a plain file that is
    // changed on both sides nobody knows that it was only ever added to.
    let may_grow = facts.kind != FileKind::Plain || unknown;
    match facts.relation {
        Some(Relation::FirstExtends) if may_grow => {
            return FileDecision::CopyToCloud(CopyReason::Grew);
        }
        Some(Relation::SecondExtends) if may_grow => {
            return FileDecision::CopyToLocal(CopyReason::Grew);
        }
        _ if facts.kind == FileKind::Lines => return FileDecision::Merge,
        _ => {}
    }
    match (facts.local, facts.remote) {
        (Changed, Unchanged) => FileDecision::CopyToCloud(CopyReason::ChangedOneSide),
        (Unchanged | Changed, Changed) if facts.causal_order == CausalOrder::Older => {
            FileDecision::CopyToCloud(CopyReason::OlderCloud)
        }
        (Unchanged, Changed)
            if matches!(
                facts.causal_order,
                CausalOrder::Unknown | CausalOrder::Newer
            ) =>
        {
            FileDecision::CopyToLocal(CopyReason::ChangedOneSide)
        }
        _ => conflict(facts, rules),
    }
}

/// The rules of codexSync for two files that no sync has seen.
fn by_time(facts: FileFacts, rules: DecisionRules) -> FileDecision {
    match facts.newer {
        NewerSide::Local => FileDecision::CopyToCloud(CopyReason::Newer),
        NewerSide::Remote => FileDecision::CopyToLocal(CopyReason::Newer),
        NewerSide::Neither => match rules.equal_mtime {
            EqualMtime::Skip => FileDecision::Skip,
            EqualMtime::PreferLocal => FileDecision::CopyToCloud(CopyReason::EqualTimes),
            EqualMtime::PreferCloud => FileDecision::CopyToLocal(CopyReason::EqualTimes),
            EqualMtime::ManualAbort => conflict(facts, rules),
        },
    }
}

fn conflict(facts: FileFacts, rules: DecisionRules) -> FileDecision {
    match (rules.conflict, facts.newer) {
        (ConflictPolicy::PreferLocal, _) | (ConflictPolicy::PreferNewerMtime, NewerSide::Local) => {
            FileDecision::CopyToCloud(CopyReason::Policy)
        }
        (ConflictPolicy::PreferCloud, _)
        | (ConflictPolicy::PreferNewerMtime, NewerSide::Remote) => {
            FileDecision::CopyToLocal(CopyReason::Policy)
        }
        // With equal times, no version is the newer one.
        (
            ConflictPolicy::ManualAbort | ConflictPolicy::Manual | ConflictPolicy::PreferNewerMtime,
            _,
        ) => FileDecision::Conflict,
    }
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
            newer: NewerSide::Neither,
            causal_order: CausalOrder::Unknown,
            delete_asked: false,
        }
    }

    /// The table of docs/sync.md.
    #[allow(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn the_table_of_decisions_holds() {
        use Relation::{Diverged, Equal, FirstExtends, SecondExtends};
        let table = [
            (&KINDS[..], Absent, Absent, None, D::Forget),
            (&KINDS, Unchanged, Unchanged, None, D::Nothing),
            (
                &KINDS,
                New,
                Absent,
                None,
                D::CopyToCloud(CopyReason::OnlyOneSide),
            ),
            (
                &KINDS,
                Absent,
                New,
                None,
                D::CopyToLocal(CopyReason::OnlyOneSide),
            ),
            (
                &KINDS,
                Unchanged,
                Absent,
                None,
                D::CopyToCloud(CopyReason::AbsentIsNotDeleted),
            ),
            (
                &KINDS,
                Changed,
                Absent,
                None,
                D::CopyToCloud(CopyReason::AbsentIsNotDeleted),
            ),
            (
                &KINDS,
                Absent,
                Unchanged,
                None,
                D::CopyToLocal(CopyReason::AbsentIsNotDeleted),
            ),
            (
                &KINDS,
                Absent,
                Changed,
                None,
                D::CopyToLocal(CopyReason::AbsentIsNotDeleted),
            ),
            (&KINDS, New, New, Some(Equal), D::RecordEqual),
            (&KINDS, Changed, Changed, Some(Equal), D::RecordEqual),
            (
                &KINDS,
                New,
                New,
                Some(FirstExtends),
                D::CopyToCloud(CopyReason::Grew),
            ),
            (
                &KINDS,
                New,
                New,
                Some(SecondExtends),
                D::CopyToLocal(CopyReason::Grew),
            ),
            (
                &[Rollout, Lines],
                Changed,
                Changed,
                Some(FirstExtends),
                D::CopyToCloud(CopyReason::Grew),
            ),
            (
                &[Rollout, Lines],
                Changed,
                Changed,
                Some(SecondExtends),
                D::CopyToLocal(CopyReason::Grew),
            ),
            (
                &[Rollout, Lines],
                Changed,
                Unchanged,
                Some(FirstExtends),
                D::CopyToCloud(CopyReason::Grew),
            ),
            // It got shorter here: what is missing comes back.
            (
                &[Rollout, Lines],
                Changed,
                Unchanged,
                Some(SecondExtends),
                D::CopyToLocal(CopyReason::Grew),
            ),
            (
                &[Rollout, Lines],
                Unchanged,
                Changed,
                Some(FirstExtends),
                D::CopyToCloud(CopyReason::Grew),
            ),
            (
                &[Plain],
                Changed,
                Unchanged,
                Some(SecondExtends),
                D::CopyToCloud(CopyReason::ChangedOneSide),
            ),
            (
                &[Plain],
                Unchanged,
                Changed,
                Some(FirstExtends),
                D::CopyToLocal(CopyReason::ChangedOneSide),
            ),
            (&[Plain], Changed, Changed, Some(FirstExtends), D::Conflict),
            (
                &[Rollout, Plain],
                Changed,
                Unchanged,
                Some(Diverged),
                D::CopyToCloud(CopyReason::ChangedOneSide),
            ),
            (
                &[Rollout, Plain],
                Unchanged,
                Changed,
                Some(Diverged),
                D::CopyToLocal(CopyReason::ChangedOneSide),
            ),
            (
                &[Rollout, Plain],
                Changed,
                Changed,
                Some(Diverged),
                D::Conflict,
            ),
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
    fn an_older_version_never_comes_back_and_one_that_came_of_another_is_a_conflict() {
        let seen = |local, causal_order| FileFacts {
            causal_order,
            ..facts(Plain, local, Changed, Some(Relation::Diverged))
        };
        for (local, causal_order, expected) in [
            (
                Unchanged,
                CausalOrder::Newer,
                D::CopyToLocal(CopyReason::ChangedOneSide),
            ),
            (
                Unchanged,
                CausalOrder::Older,
                D::CopyToCloud(CopyReason::OlderCloud),
            ),
            (Unchanged, CausalOrder::Concurrent, D::Conflict),
            (Unchanged, CausalOrder::OlderUnattested, D::Conflict),
            (Changed, CausalOrder::Newer, D::Conflict),
            (
                Changed,
                CausalOrder::Older,
                D::CopyToCloud(CopyReason::OlderCloud),
            ),
            (Changed, CausalOrder::Concurrent, D::Conflict),
        ] {
            let facts = seen(local, causal_order);
            assert_eq!(decide(facts, RULES), expected, "{facts:?}");
        }
    }

    #[test]
    fn times_decide_only_between_plain_files_without_a_last_state() {
        for compare in [Compare::Mtime, Compare::MtimeHashFallback] {
            let rules = DecisionRules { compare, ..RULES };
            for newer in [NewerSide::Local, NewerSide::Remote] {
                let expected = match newer {
                    NewerSide::Local => D::CopyToCloud(CopyReason::Newer),
                    _ => D::CopyToLocal(CopyReason::Newer),
                };
                for kind in KINDS {
                    for (local, remote) in [(New, New), (Changed, Changed)] {
                        let facts = FileFacts {
                            newer,
                            ..facts(kind, local, remote, Some(Relation::Diverged))
                        };
                        let by_time = kind == Plain && local == New;
                        let decision = decide(facts, rules);
                        assert_eq!(decision == expected, by_time, "{facts:?} {decision:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn equal_times_do_what_the_configuration_says() {
        for (equal_mtime, expected) in [
            (EqualMtime::Skip, D::Skip),
            (
                EqualMtime::PreferLocal,
                D::CopyToCloud(CopyReason::EqualTimes),
            ),
            (
                EqualMtime::PreferCloud,
                D::CopyToLocal(CopyReason::EqualTimes),
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
    fn the_policy_decides_conflicts_and_a_tie_of_times_decides_none() {
        use ConflictPolicy::{Manual, ManualAbort, PreferCloud, PreferLocal, PreferNewerMtime};
        for (conflict, newer, expected) in [
            (ManualAbort, NewerSide::Local, D::Conflict),
            (Manual, NewerSide::Remote, D::Conflict),
            (
                PreferCloud,
                NewerSide::Local,
                D::CopyToLocal(CopyReason::Policy),
            ),
            (
                PreferLocal,
                NewerSide::Remote,
                D::CopyToCloud(CopyReason::Policy),
            ),
            (
                PreferNewerMtime,
                NewerSide::Local,
                D::CopyToCloud(CopyReason::Policy),
            ),
            (
                PreferNewerMtime,
                NewerSide::Remote,
                D::CopyToLocal(CopyReason::Policy),
            ),
            (PreferNewerMtime, NewerSide::Neither, D::Conflict),
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
    fn a_deletion_goes_over_only_when_that_was_asked_for() {
        let rules = DecisionRules {
            delete: DeletePolicy::Propagate,
            ..RULES
        };
        assert_eq!(
            decide(facts(Plain, Absent, Unchanged, None), rules),
            D::DeleteCloud
        );
        let mut gone = facts(Plain, Unchanged, Absent, None);
        assert_eq!(
            decide(gone, rules),
            D::CopyToCloud(CopyReason::AbsentIsNotDeleted),
            "the folder may not have arrived"
        );
        gone.delete_asked = true;
        assert_eq!(decide(gone, rules), D::DeleteLocal);
        // What has changed since is not what was deleted.
        gone.local = Changed;
        assert_eq!(
            decide(gone, rules),
            D::CopyToCloud(CopyReason::AbsentIsNotDeleted)
        );
        let changed = facts(Plain, Absent, Changed, None);
        assert_eq!(
            decide(changed, rules),
            D::CopyToLocal(CopyReason::AbsentIsNotDeleted)
        );
    }
}
