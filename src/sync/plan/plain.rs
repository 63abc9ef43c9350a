//! Plans for files that are no conversations: lines that are merged, and files that are whole.

use super::ancestry::Ancestry;
use super::conflict_reasons::conflict_reason;
use super::versions::{DownloadState, FileVersion};
use super::{
    Conflict, CopyOp, FileGroup, MergeTarget, Op, Placement, PlanError, Planner, StateUpdate,
    SyncAction, SyncStep, display_path,
};
use crate::codex::config::CodexConfig;
use crate::codex::rollout::{self, Relation};
use crate::io::IoContext;
use crate::io::hash::Sha256Digest;
use crate::sync::cloud_names;
use crate::sync::config::{Compare, DeletePolicy};
use crate::sync::contents;
use crate::sync::decide::{Decision, Facts, FileKind, Newer, Presence, Why, decide};
use crate::sync::lineage::{Descent, History};
use crate::sync::lines::{self, Merge};
use crate::sync::manifest::{self, Written};
use crate::sync::register::Change;
use crate::sync::scan::{Found, Side};
use crate::sync::secrets;
use crate::sync::state::{Last, Place};

/// The file of lines that Codex keeps below a size.
const PROMPT_HISTORY: &str = "history.jsonl";

/// A merge, and the sides that need it: from which line on.
struct PlannedMerge {
    merge: Merge,
    sides: Vec<(Side, usize)>,
    /// See [`Op::Merge`].
    is_one_text: bool,
}

impl Planner<'_> {
    /// A file that is copied as a whole or not at all.
    pub(super) fn plan_plain_file(
        &mut self,
        key: &str,
        group: &FileGroup,
    ) -> Result<(), PlanError> {
        let path = display_path(key, group);
        if group.here.len() > 1 || group.there.len() > 1 {
            let why = "two names on one side that are one elsewhere";
            self.plan.skipped.push((path, why.into()));
            return Ok(());
        }
        for copy in &group.client_copies {
            let why = "a copy that a cloud client made of a conflict";
            self.plan.notes.push((copy.path.clone(), why.into()));
        }
        self.plan_pair(key, &path, FileKind::Plain, group)
    }

    /// A file of lines, with the copies that clients made of it.
    pub(super) fn plan_line_file(&mut self, key: &str, group: &FileGroup) -> Result<(), PlanError> {
        let last = self.state.files.get(key);
        if let Some(found) = group.here.first()
            && self.skips_zero_filled(found, true, last)?
        {
            return Ok(());
        }
        let mut there = None;
        if let Some(found) = group.there.first() {
            match self.download_state(key, found, true, last)? {
                DownloadState::Complete(version) => there = Some(version),
                DownloadState::Incomplete(_) if self.adds_nothing(key, group, found, true)? => {
                    there = Some(FileVersion::there(found));
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
        let here = group.here.first().map(FileVersion::here);
        if copies.is_empty() {
            return self.plan_pair(key, key, FileKind::Lines, group);
        }
        let mut versions: Vec<&FileVersion> = here.iter().chain(&there).collect();
        let own = versions.len();
        versions.extend(&copies);
        let merge = self.plan_merge(key, &versions, own)?;
        if merge.sides.is_empty() {
            return self.plan_pair(key, key, FileKind::Lines, group);
        }
        self.push_merge(key, &versions, &merge);
        Ok(())
    }

    /// A merge of these versions, of which the first `own` are the files of the two sides.
    fn plan_merge(
        &self,
        key: &str,
        versions: &[&FileVersion],
        own: usize,
    ) -> Result<PlannedMerge, PlanError> {
        let paths: Vec<_> = versions.iter().map(|v| self.full(&v.seen)).collect();
        let merge = lines::merge(&paths)?;
        let at = |side| versions[..own].iter().position(|v| v.seen.side == side);
        let limit = if key == PROMPT_HISTORY {
            CodexConfig::read(self.root(Side::Here))
                .history_max_bytes
                .ok()
                .flatten()
        } else {
            None
        };
        let first_here = match (limit, at(Side::Here)) {
            (Some(limit), Some(version)) => merge.first_within(limit, version),
            _ => 0,
        };
        let sides = [(Side::Here, first_here), (Side::There, 0)].into_iter();
        let needed = sides.filter(|(side, first)| {
            at(*side).is_none_or(|version| !merge.is_from(*first, version))
        });
        Ok(PlannedMerge {
            sides: needed.collect(),
            is_one_text: first_here == 0,
            merge,
        })
    }

    /// A client makes its copy of a version that nobody may ever vouch for; whole lines of it can be
    /// taken all the same, for a merge loses none of the others.
    fn complete_unlisted_lines(&self, copy: &Found) -> Result<Option<FileVersion>, PlanError> {
        let seen = super::ObservedFile {
            side: Side::There,
            path: copy.path.clone(),
            stat: copy.stat,
        };
        let path = self.full(&seen);
        let is_whole = self.has_complete_lines(&seen)?
            && !contents::is_blanked(&path, true, true).at("read", &path)?;
        Ok(is_whole.then_some(FileVersion {
            mtime_ns: copy.stat.mtime_ns,
            seen,
            digest: None,
        }))
    }

    fn push_merge(&mut self, key: &str, versions: &[&FileVersion], planned: &PlannedMerge) {
        let PlannedMerge {
            merge,
            sides,
            is_one_text,
        } = planned;
        let all = || versions.iter().zip(&merge.digests);
        // What was vouched for is not what was read.
        if all().any(|(version, read)| version.digest.is_some_and(|said| said != *read)) {
            let why = "it changed while it was read";
            self.plan.waiting.push((key.to_owned(), why.into()));
            return;
        }
        let over = |side| {
            let mut seen = versions.iter().map(|version| &version.seen);
            let found = seen.find(|seen| seen.side == side && seen.path == key);
            found.map(|seen| seen.stat)
        };
        let standing = |side| Placement {
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
            reason: "lines of all versions, in the order of time".into(),
            bytes: sides
                .iter()
                .map(|(_, first)| merge.bytes_from(*first))
                .sum(),
            ops: vec![op],
            state_update: StateUpdate::Synced {
                here: standing(Side::Here),
                there: standing(Side::There),
            },
            change: Change::Same,
            conflict: None,
        });
    }

    /// One file on each side, at most.
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
            && let Some(found) = group.here.first()
            && self.skips_zero_filled(found, false, last)?
        {
            return Ok(());
        }
        let here = group.here.first().map(FileVersion::here);
        let looks = group.there.first();
        // What both sides have alike need not be vouched for.
        if last.is_none()
            && kind == FileKind::Plain
            && let (Some(here), Some(found)) = (&here, looks)
        {
            let there = FileVersion::there(found);
            if self.stats_are_equal(here, &there) {
                self.record_equal(key, here, &there, None);
                return Ok(());
            }
        }
        let there = match looks {
            None => None,
            Some(found) => match self.download_state(key, found, is_lines, last)? {
                DownloadState::Complete(version) => Some(version),
                DownloadState::Incomplete(_)
                    if self.adds_nothing(key, group, found, is_lines)? =>
                {
                    Some(FileVersion::there(found))
                }
                DownloadState::Incomplete(_)
                    if here.is_none() && last.is_none() && self.is_beside_original(found) =>
                {
                    let why = "looks like a copy that a cloud client made; left alone";
                    self.plan.notes.push((path.to_owned(), why.into()));
                    return Ok(());
                }
                DownloadState::Incomplete(why) => {
                    self.wait_for_listing(path, why);
                    return Ok(());
                }
            },
        };
        let (facts, trace) = self.pair_facts(key, kind, here.as_ref(), there.as_ref(), last)?;
        let mut rules = self.rules_for(path);
        if is_lines {
            rules.delete = DeletePolicy::Never;
        }
        let decision = decide(facts, rules);
        let is_sent = matches!(decision, Decision::ToCloud(_) | Decision::ToHere(_));
        let digest = there.as_ref().and_then(|there| there.digest);
        if is_sent && !is_lines && self.has_undelivered_newer(key, facts, digest) {
            let why = "another machine has changed it, and that has not arrived";
            self.plan.waiting.push((path.to_owned(), why.into()));
            return Ok(());
        }
        if let (Decision::ToHere(_), Some(here), Some(there)) = (decision, &here, &there) {
            let why = if self.is_emptied(here, there, last) {
                Some("it is empty, and nobody vouches for it")
            } else if !is_lines && self.is_truncated(here, there)? {
                Some(
                    "it is half of what is here, cut in the midst of a line; once it is removed there, \
                     what is here goes over again",
                )
            } else {
                None
            };
            if let Some(why) = why {
                self.plan.waiting.push((path.to_owned(), why.into()));
                return Ok(());
            }
        }
        // Somebody could choose either.
        let sources = match decision {
            Decision::ToCloud(_) => [&here, &None],
            Decision::ToHere(_) => [&None, &there],
            Decision::Conflict => [&here, &there],
            _ => [&None, &None],
        };
        // Prompts are what somebody wrote, and are merged whatever is in them.
        for source in sources.into_iter().flatten().filter(|_| !is_lines) {
            if let Some(why) = self.secret_reason(&source.seen)? {
                self.plan.warnings.push((path.to_owned(), why));
                return Ok(());
            }
        }
        match (decision, &here, &there) {
            (Decision::Nothing, Some(here), Some(there)) => {
                self.record_equal(key, here, there, last.and_then(|last| last.contents));
            }
            (Decision::Adopt, Some(here), Some(there)) => {
                let contents = self.text_digest(&here.seen)?;
                let (history, is_news) = self.history_for_equal(key, facts, &trace, &contents.1)?;
                self.attest(there, contents.1, history.clone(), is_news);
                if let Some(history) = history
                    && self.state.histories.get(key) != Some(&*history)
                {
                    self.plan.histories.push((key.to_owned(), *history));
                }
                self.record_equal(key, here, there, Some(contents));
            }
            (Decision::ToCloud(why), Some(here), _) => {
                if there.is_none() {
                    self.cancel_pending_deletions(key)?;
                }
                let to = there
                    .as_ref()
                    .map_or(&here.seen.path, |t| &t.seen.path)
                    .clone();
                let history = self.history_for_upload(key, facts, &trace, here)?;
                let to = (Side::There, to);
                let ended = (why == Why::Policy).then(|| self.policy_outcome(facts, Side::Here));
                let why = (why, ended);
                self.push_copy(key, path, here, to, there.as_ref(), why, history);
            }
            (Decision::ToHere(why), _, Some(there)) => {
                let to = here
                    .as_ref()
                    .map_or(&there.seen.path, |h| &h.seen.path)
                    .clone();
                let history = self.history_for_download(key, &trace, here.is_none(), there);
                let to = (Side::Here, to);
                let ended = (why == Why::Policy).then(|| self.policy_outcome(facts, Side::There));
                let why = (why, ended);
                self.push_copy(key, path, there, to, here.as_ref(), why, history);
            }
            (Decision::Merge, Some(here), Some(there)) => {
                let merge = self.plan_merge(key, &[here, there], 2)?;
                if merge.sides.is_empty() {
                    // Codex has dropped what is only there.
                    self.record_equal(key, here, there, None);
                } else {
                    self.push_merge(key, &[here, there], &merge);
                }
            }
            (Decision::Skip, ..) => {
                let why = "differs, and equal_mtime_action is skip";
                self.plan.skipped.push((path.to_owned(), why.into()));
            }
            (Decision::Conflict, ..) => self.plan.conflicts.push(Conflict {
                path: path.to_owned(),
                reason: conflict_reason(facts),
                here: here.map(|v| v.seen),
                there: there.map(|v| v.seen),
            }),
            (Decision::DeleteThere, _, Some(there)) => {
                let state_update = self.state_update_for_deletion(key, there, last)?;
                self.push_delete(key, path, SyncAction::DeleteCloud, there, state_update);
            }
            (Decision::DeleteHere, Some(here), _) => {
                self.push_delete(
                    key,
                    path,
                    SyncAction::DeleteLocal,
                    here,
                    StateUpdate::Forget,
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the only version of a file would go to the side that has none although another machine has changed
    /// it since: what was deleted there would come back as it was before that.
    fn has_undelivered_newer(&self, key: &str, facts: Facts, there: Option<Sha256Digest>) -> bool {
        use Presence::{Absent, Changed, New};
        let is_alone = match (facts.here, facts.there) {
            (Absent, there) => there != Absent,
            (here, Absent) => !matches!(here, Changed | New),
            _ => false,
        };
        let is_late = || {
            let ahead = self.undelivered.get(&manifest::folded(key));
            ahead.is_some_and(|ahead| ahead.has_newer_than(there))
        };
        is_alone && !self.request.accept_unlisted && is_late()
    }

    /// Why what is in a file keeps it where it is.
    fn secret_reason(&self, seen: &super::ObservedFile) -> Result<Option<String>, PlanError> {
        let path = self.full(seen);
        let found = secrets::by_contents(&path).at("read", &path)?;
        Ok(found.map(|what| format!("is not synced: what is in it looks like {what}")))
    }

    /// Whether a file that no sync has seen may be empty for the reason alone that it has not arrived.
    fn is_emptied(&self, here: &FileVersion, there: &FileVersion, last: Option<&Last>) -> bool {
        let is_empty = there.seen.stat.size == 0 && here.seen.stat.size > 0;
        let is_known = last.is_some() || there.digest.is_some() || self.request.accept_unlisted;
        is_empty && !is_known
    }

    /// Whether a file that nobody vouches for is half of what is here. That nothing more comes, a folder
    /// cannot say, nor can who takes what nobody vouches for; who chose that file can.
    fn is_truncated(&self, here: &FileVersion, there: &FileVersion) -> Result<bool, PlanError> {
        let may_be = there.digest.is_none() && self.request.policy_override.is_none();
        Ok(may_be && self.is_truncated_prefix(here, there)?)
    }

    /// Whether a file that nobody vouches for stands beside the one that its name says it is of.
    fn is_beside_original(&self, found: &Found) -> bool {
        cloud_names::maybe_copy_of(&found.path)
            .is_some_and(|real| self.root(Side::There).join(real).exists())
    }

    fn pair_facts(
        &self,
        key: &str,
        kind: FileKind,
        here: Option<&FileVersion>,
        there: Option<&FileVersion>,
        last: Option<&Last>,
    ) -> Result<(Facts, Ancestry), PlanError> {
        let mut facts = Facts {
            kind,
            here: self.presence(here, last)?,
            there: self.presence(there, last)?,
            relation: None,
            newer: Newer::Neither,
            descent: Descent::Unknown,
            delete_asked: false,
        };
        let taken = self.check_interrupted_download(key, &mut facts, here)?;
        if let (Some(here), Some(there)) = (here, there) {
            facts.newer = self.newer(here, there);
            let quiet = (facts.here, facts.there) == (Presence::Unchanged, Presence::Unchanged);
            let of_lines = kind == FileKind::Lines;
            if of_lines || (!quiet && self.must_read(facts, here, there)) {
                facts.relation = Some(self.relation(&here.seen, &there.seen)?);
            }
            if of_lines && quiet && facts.relation != Some(Relation::Equal) {
                (facts.here, facts.there) = (Presence::Changed, Presence::Changed);
            }
        }
        let trace = self.trace(key, &mut facts, (here, there), last, taken)?;
        self.check_deletion(key, &mut facts, (here, there), last)?;
        Ok((facts, trace))
    }

    /// Whether contents have to be read: not where the mode goes by size and time alone.
    fn must_read(&self, facts: Facts, here: &FileVersion, there: &FileVersion) -> bool {
        let by_looks = facts.kind == FileKind::Plain && facts.here == Presence::New;
        let same_size = here.seen.stat.size == there.seen.stat.size;
        match self.rules.compare {
            _ if !by_looks => true,
            Compare::ThreeWay => true,
            Compare::Mtime => false,
            Compare::MtimeHashFallback => same_size && facts.newer == Newer::Neither,
        }
    }

    pub(super) fn record_equal(
        &mut self,
        key: &str,
        here: &FileVersion,
        there: &FileVersion,
        contents: Option<(u64, Sha256Digest)>,
    ) {
        let place = |version: &FileVersion| Place {
            path: version.seen.path.clone(),
            stat: version.seen.stat,
        };
        let last = Last {
            here: place(here),
            there: place(there),
            contents,
        };
        self.plan.unchanged += 1;
        if self.state.files.get(key) != Some(&last) {
            self.plan.recorded_equal.push((key.to_owned(), last));
        }
    }

    /// A version in the cloud folder that turned out to be what is here: this machine vouches for it.
    /// Where others have to learn what came before it, it does so even if somebody else does.
    pub(super) fn attest(
        &mut self,
        there: &FileVersion,
        digest: Sha256Digest,
        history: Option<Box<History>>,
        is_news: bool,
    ) {
        let is_asserted = there.digest.is_some() && !is_news;
        if is_asserted || there.seen.path.ends_with(rollout::ZST) {
            return;
        }
        let written = Written {
            size: there.seen.stat.size,
            mtime_ns: there.mtime_ns,
            digest,
            history,
        };
        self.plan.attested.push((there.seen.path.clone(), written));
    }

    #[allow(clippy::too_many_arguments, reason = "each is one fact of a copy")]
    fn push_copy(
        &mut self,
        key: &str,
        path: &str,
        from: &FileVersion,
        to: (Side, String),
        over: Option<&FileVersion>,
        (why, conflict): (Why, Option<String>),
        history: Option<Box<History>>,
    ) {
        let action = match to.0 {
            Side::Here => SyncAction::CopyToLocal,
            Side::There => SyncAction::CopyToCloud,
        };
        let source = Placement::seen(from.seen.path.clone(), &from.seen);
        let (here, there) = match to.0 {
            Side::Here => (Placement::put(to.1.clone()), source),
            Side::There => (source, Placement::put(to.1.clone())),
        };
        self.plan.steps.push(SyncStep {
            key: key.to_owned(),
            path: path.to_owned(),
            action,
            reason: why.text().into(),
            bytes: from.seen.stat.size,
            ops: vec![Op::Copy(CopyOp {
                from: from.seen.clone(),
                to,
                over: over.map(|version| version.seen.stat),
                mtime_ns: from.mtime_ns,
                expect: from.digest,
                history,
            })],
            state_update: StateUpdate::Synced { here, there },
            change: Change::Same,
            conflict,
        });
    }

    pub(super) fn push_delete(
        &mut self,
        key: &str,
        path: &str,
        action: SyncAction,
        victim: &FileVersion,
        state_update: StateUpdate,
    ) {
        let reason = match action {
            SyncAction::DeleteCloud => "deleted here, and delete_policy is propagate",
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
            change: Change::Same,
            conflict: None,
        });
    }
}
