//! What is to be done about one file: a pure function of what is known of it.
//!
//! The state of the last sync tells who changed it. Times decide only where there is no such state, and
//! only in the modes that say so.

use super::config::{Compare, ConflictPolicy, DeletePolicy, EqualMtime};
use super::lineage::Descent;
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
pub enum Newer {
    /// Here.
    Here,
    /// In the cloud folder.
    There,
    /// Neither.
    Neither,
}

/// All that a decision goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// See [`FileKind`].
    pub kind: FileKind,
    /// Here.
    pub here: Presence,
    /// In the cloud folder.
    pub there: Presence,
    /// How the contents relate, here first; `None` where nobody has read them.
    pub relation: Option<Relation>,
    /// See [`Newer`].
    pub newer: Newer,
    /// See [`Descent`]; of plain files alone.
    pub descent: Descent,
    /// Whether another machine has asked for this version to be deleted.
    pub delete_asked: bool,
}

/// What the configuration says about decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
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
pub enum Decision {
    /// Nothing: both are as they were.
    Nothing,
    /// Neither side has it any more.
    Forget,
    /// Both are the same; only the state has to learn it.
    Adopt,
    /// The version here goes to the cloud folder.
    ToCloud(Why),
    /// The version in the cloud folder comes here.
    ToHere(Why),
    /// Lines of both, on both sides.
    Merge,
    /// They differ, and the configuration says to leave that alone.
    Skip,
    /// Somebody has to choose.
    Conflict,
    /// It was deleted here: it goes from the cloud folder.
    DeleteThere,
    /// It was deleted elsewhere: it goes from here.
    DeleteHere,
}

/// Why a version goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The other side has none.
    OnlyOneSide,
    /// The other side has lost it; absent is not deleted.
    AbsentIsNotDeleted,
    /// It is the other one with more behind it.
    Grew,
    /// Only this side has changed.
    ChangedHereAlone,
    /// What the other side has is older than what was here already.
    OlderThere,
    /// It is the newer one, and there is no last state.
    Newer,
    /// `equal_mtime_action` prefers it.
    EqualTimes,
    /// `conflict.policy` prefers it.
    Policy,
}

impl Why {
    /// In words, for `side`, the one that the version comes from.
    pub fn text(self) -> &'static str {
        match self {
            Self::OnlyOneSide => "only on this side",
            Self::AbsentIsNotDeleted => "absent on the other side, which is not deleted",
            Self::Grew => "grew on this side",
            Self::ChangedHereAlone => "changed on this side alone",
            Self::OlderThere => "an older version has come back in the cloud folder",
            Self::Newer => "newer on this side",
            Self::EqualTimes => "equal times: equal_mtime_action prefers this side",
            Self::Policy => "changed on both sides: conflict.policy prefers this one",
        }
    }
}

/// Decides.
pub fn decide(facts: Facts, rules: Rules) -> Decision {
    use Presence::{Absent, Changed, New, Unchanged};
    let propagate = rules.delete == DeletePolicy::Propagate;
    match (facts.here, facts.there) {
        (Absent, Absent) => Decision::Forget,
        (Unchanged, Unchanged) => Decision::Nothing,
        (Absent, New) => Decision::ToHere(Why::OnlyOneSide),
        (New, Absent) => Decision::ToCloud(Why::OnlyOneSide),
        (Absent, Unchanged) if propagate => Decision::DeleteThere,
        (Unchanged, Absent) if propagate && facts.delete_asked => Decision::DeleteHere,
        (Absent, Unchanged | Changed) => Decision::ToHere(Why::AbsentIsNotDeleted),
        (Unchanged | Changed, Absent) => Decision::ToCloud(Why::AbsentIsNotDeleted),
        _ => both_there(facts, rules),
    }
}

fn both_there(facts: Facts, rules: Rules) -> Decision {
    use Presence::{Changed, Unchanged};
    let unknown = facts.here == Presence::New || facts.there == Presence::New;
    if facts.relation == Some(Relation::Equal) {
        return Decision::Adopt;
    }
    if facts.kind == FileKind::Plain && unknown && rules.compare != Compare::ThreeWay {
        return by_time(facts, rules);
    }
    // An extension loses nothing, so it may go over whatever else is known. Of a plain file that is
    // changed on both sides nobody knows that it was only ever added to.
    let may_grow = facts.kind != FileKind::Plain || unknown;
    match facts.relation {
        Some(Relation::FirstExtends) if may_grow => return Decision::ToCloud(Why::Grew),
        Some(Relation::SecondExtends) if may_grow => return Decision::ToHere(Why::Grew),
        _ if facts.kind == FileKind::Lines => return Decision::Merge,
        _ => {}
    }
    match (facts.here, facts.there) {
        (Changed, Unchanged) => Decision::ToCloud(Why::ChangedHereAlone),
        (Unchanged | Changed, Changed) if facts.descent == Descent::Older => {
            Decision::ToCloud(Why::OlderThere)
        }
        (Unchanged, Changed) if matches!(facts.descent, Descent::Unknown | Descent::Newer) => {
            Decision::ToHere(Why::ChangedHereAlone)
        }
        _ => conflict(facts, rules),
    }
}

/// The rules of codexSync for two files that no sync has seen.
fn by_time(facts: Facts, rules: Rules) -> Decision {
    match facts.newer {
        Newer::Here => Decision::ToCloud(Why::Newer),
        Newer::There => Decision::ToHere(Why::Newer),
        Newer::Neither => match rules.equal_mtime {
            EqualMtime::Skip => Decision::Skip,
            EqualMtime::PreferLocal => Decision::ToCloud(Why::EqualTimes),
            EqualMtime::PreferCloud => Decision::ToHere(Why::EqualTimes),
            EqualMtime::ManualAbort => conflict(facts, rules),
        },
    }
}

fn conflict(facts: Facts, rules: Rules) -> Decision {
    match (rules.conflict, facts.newer) {
        (ConflictPolicy::PreferLocal, _) | (ConflictPolicy::PreferNewerMtime, Newer::Here) => {
            Decision::ToCloud(Why::Policy)
        }
        (ConflictPolicy::PreferCloud, _) | (ConflictPolicy::PreferNewerMtime, Newer::There) => {
            Decision::ToHere(Why::Policy)
        }
        // With equal times, no version is the newer one.
        (
            ConflictPolicy::ManualAbort | ConflictPolicy::Manual | ConflictPolicy::PreferNewerMtime,
            _,
        ) => Decision::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision as D;
    use FileKind::{Lines, Plain, Rollout};
    use Presence::{Absent, Changed, New, Unchanged};

    const RULES: Rules = Rules {
        compare: Compare::ThreeWay,
        equal_mtime: EqualMtime::Skip,
        conflict: ConflictPolicy::ManualAbort,
        delete: DeletePolicy::Never,
    };
    const KINDS: [FileKind; 3] = [Rollout, Lines, Plain];

    fn facts(kind: FileKind, here: Presence, there: Presence, relation: Option<Relation>) -> Facts {
        Facts {
            kind,
            here,
            there,
            relation,
            newer: Newer::Neither,
            descent: Descent::Unknown,
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
            (&KINDS, New, Absent, None, D::ToCloud(Why::OnlyOneSide)),
            (&KINDS, Absent, New, None, D::ToHere(Why::OnlyOneSide)),
            (
                &KINDS,
                Unchanged,
                Absent,
                None,
                D::ToCloud(Why::AbsentIsNotDeleted),
            ),
            (
                &KINDS,
                Changed,
                Absent,
                None,
                D::ToCloud(Why::AbsentIsNotDeleted),
            ),
            (
                &KINDS,
                Absent,
                Unchanged,
                None,
                D::ToHere(Why::AbsentIsNotDeleted),
            ),
            (
                &KINDS,
                Absent,
                Changed,
                None,
                D::ToHere(Why::AbsentIsNotDeleted),
            ),
            (&KINDS, New, New, Some(Equal), D::Adopt),
            (&KINDS, Changed, Changed, Some(Equal), D::Adopt),
            (&KINDS, New, New, Some(FirstExtends), D::ToCloud(Why::Grew)),
            (&KINDS, New, New, Some(SecondExtends), D::ToHere(Why::Grew)),
            (
                &[Rollout, Lines],
                Changed,
                Changed,
                Some(FirstExtends),
                D::ToCloud(Why::Grew),
            ),
            (
                &[Rollout, Lines],
                Changed,
                Changed,
                Some(SecondExtends),
                D::ToHere(Why::Grew),
            ),
            (
                &[Rollout, Lines],
                Changed,
                Unchanged,
                Some(FirstExtends),
                D::ToCloud(Why::Grew),
            ),
            // It got shorter here: what is missing comes back.
            (
                &[Rollout, Lines],
                Changed,
                Unchanged,
                Some(SecondExtends),
                D::ToHere(Why::Grew),
            ),
            (
                &[Rollout, Lines],
                Unchanged,
                Changed,
                Some(FirstExtends),
                D::ToCloud(Why::Grew),
            ),
            (
                &[Plain],
                Changed,
                Unchanged,
                Some(SecondExtends),
                D::ToCloud(Why::ChangedHereAlone),
            ),
            (
                &[Plain],
                Unchanged,
                Changed,
                Some(FirstExtends),
                D::ToHere(Why::ChangedHereAlone),
            ),
            (&[Plain], Changed, Changed, Some(FirstExtends), D::Conflict),
            (
                &[Rollout, Plain],
                Changed,
                Unchanged,
                Some(Diverged),
                D::ToCloud(Why::ChangedHereAlone),
            ),
            (
                &[Rollout, Plain],
                Unchanged,
                Changed,
                Some(Diverged),
                D::ToHere(Why::ChangedHereAlone),
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
        for (kinds, here, there, relation, expected) in table {
            for kind in kinds {
                let facts = facts(*kind, here, there, relation);
                assert_eq!(decide(facts, RULES), expected, "{facts:?}");
            }
        }
    }

    #[test]
    fn an_older_version_never_comes_back_and_one_that_came_of_another_is_a_conflict() {
        let seen = |here, descent| Facts {
            descent,
            ..facts(Plain, here, Changed, Some(Relation::Diverged))
        };
        for (here, descent, expected) in [
            (Unchanged, Descent::Newer, D::ToHere(Why::ChangedHereAlone)),
            (Unchanged, Descent::Older, D::ToCloud(Why::OlderThere)),
            (Unchanged, Descent::Apart, D::Conflict),
            (Unchanged, Descent::Doubtful, D::Conflict),
            (Changed, Descent::Newer, D::Conflict),
            (Changed, Descent::Older, D::ToCloud(Why::OlderThere)),
            (Changed, Descent::Apart, D::Conflict),
        ] {
            let facts = seen(here, descent);
            assert_eq!(decide(facts, RULES), expected, "{facts:?}");
        }
    }

    #[test]
    fn times_decide_only_between_plain_files_without_a_last_state() {
        for compare in [Compare::Mtime, Compare::MtimeHashFallback] {
            let rules = Rules { compare, ..RULES };
            for newer in [Newer::Here, Newer::There] {
                let expected = match newer {
                    Newer::Here => D::ToCloud(Why::Newer),
                    _ => D::ToHere(Why::Newer),
                };
                for kind in KINDS {
                    for (here, there) in [(New, New), (Changed, Changed)] {
                        let facts = Facts {
                            newer,
                            ..facts(kind, here, there, Some(Relation::Diverged))
                        };
                        let by_time = kind == Plain && here == New;
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
            (EqualMtime::PreferLocal, D::ToCloud(Why::EqualTimes)),
            (EqualMtime::PreferCloud, D::ToHere(Why::EqualTimes)),
            (EqualMtime::ManualAbort, D::Conflict),
        ] {
            let rules = Rules {
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
            (ManualAbort, Newer::Here, D::Conflict),
            (Manual, Newer::There, D::Conflict),
            (PreferCloud, Newer::Here, D::ToHere(Why::Policy)),
            (PreferLocal, Newer::There, D::ToCloud(Why::Policy)),
            (PreferNewerMtime, Newer::Here, D::ToCloud(Why::Policy)),
            (PreferNewerMtime, Newer::There, D::ToHere(Why::Policy)),
            (PreferNewerMtime, Newer::Neither, D::Conflict),
        ] {
            let rules = Rules { conflict, ..RULES };
            let facts = Facts {
                newer,
                ..facts(Rollout, Changed, Changed, Some(Relation::Diverged))
            };
            assert_eq!(decide(facts, rules), expected);
        }
    }

    #[test]
    fn a_deletion_goes_over_only_when_that_was_asked_for() {
        let rules = Rules {
            delete: DeletePolicy::Propagate,
            ..RULES
        };
        assert_eq!(
            decide(facts(Plain, Absent, Unchanged, None), rules),
            D::DeleteThere
        );
        let mut gone = facts(Plain, Unchanged, Absent, None);
        assert_eq!(
            decide(gone, rules),
            D::ToCloud(Why::AbsentIsNotDeleted),
            "the folder may not have arrived"
        );
        gone.delete_asked = true;
        assert_eq!(decide(gone, rules), D::DeleteHere);
        // What has changed since is not what was deleted.
        gone.here = Changed;
        assert_eq!(decide(gone, rules), D::ToCloud(Why::AbsentIsNotDeleted));
        let changed = facts(Plain, Absent, Changed, None);
        assert_eq!(decide(changed, rules), D::ToHere(Why::AbsentIsNotDeleted));
    }
}
