//! Applies the retention rules to archives. Pure: reads and moves no file.
//!
//! Rules apply separately to each account, [`ArchiveClass`], machine and home, by the instants at which
//! archives were made. Days, weeks and months are those of the local zone. Damaged archives and
//! those from the future do not count towards a rule.

use super::candidate::{ArchiveClass, RetentionCandidate, Soundness};
use crate::codex::Identity;
use crate::io::{RetentionItem, RetentionPolicy, Zone};
use chrono::{DateTime, Utc};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

/// An archive with the reason why it is kept or dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionDecision {
    pub candidate: RetentionCandidate,
    /// The rules or other reasons that keep the archive, or the reason why it is dropped.
    pub reason: String,
}

/// The archives to keep and to drop, each sorted by account, class, home, and newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RetentionPlan {
    pub keep: Vec<RetentionDecision>,
    /// The archives that are moved to the trash.
    pub drop: Vec<RetentionDecision>,
}

impl RetentionPlan {
    fn keep(&mut self, candidate: &RetentionCandidate, reason: impl Into<String>) {
        self.keep.push(to_decision(candidate, reason));
    }

    fn drop(&mut self, candidate: &RetentionCandidate, reason: impl Into<String>) {
        self.drop.push(to_decision(candidate, reason));
    }

    /// Keeps the first of `names` that the plan drops, unless the plan keeps one of them already.
    pub fn keep_one_of(&mut self, names: &[String], reason: &str) {
        let is_named = |decision: &RetentionDecision| names.contains(&decision.candidate.archive);
        if self.keep.iter().any(is_named) {
            return;
        }

        let position = names.iter().find_map(|name| {
            let mut dropped = self.drop.iter();
            dropped.position(|decision| decision.candidate.archive == *name)
        });
        if let Some(position) = position {
            let decision = self.drop.remove(position);
            self.keep(&decision.candidate, reason);
        }
    }

    /// Adds the decisions for one group of [`group_candidates`]. `reason_suffix` is appended to the rules that keep an
    /// archive.
    fn add_group(
        &mut self,
        group: &[&RetentionCandidate],
        reason_suffix: &str,
        policy: &RetentionPolicy,
        now: &DateTime<Utc>,
        zone: Zone,
    ) {
        let eligible: Vec<_> = group
            .iter()
            .copied()
            .filter(|c| c.is_eligible_for_rules(now))
            .collect();
        let reasons = find_reasons_to_keep(&eligible, policy, now, zone);
        let names = eligible.iter().map(|c| c.archive.as_str());
        let mut reasons_by_name: HashMap<&str, Option<String>> = names.zip(reasons).collect();

        for candidate in group.iter().copied() {
            match &candidate.soundness {
                _ if candidate.is_in_python_folder() => {
                    self.keep(
                        candidate,
                        "never moved: it is in a folder of the Python codex-manager",
                    );
                }
                Soundness::Unreadable(detail) => {
                    self.keep(candidate, format!("cannot be read: {detail}"));
                }
                // No metadata could be read.
                _ if candidate.made_at.is_none() => {
                    self.keep(candidate, "its account and time are unknown");
                }
                Soundness::Damaged(_) if eligible.is_empty() => {
                    self.keep(candidate, "damaged, but there is no undamaged one");
                }
                Soundness::Damaged(detail) => self.drop(candidate, format!("damaged: {detail}")),
                _ if !candidate.is_eligible_for_rules(now) => {
                    self.keep(candidate, "dated in the future");
                }
                _ => match reasons_by_name.remove(candidate.archive.as_str()).flatten() {
                    Some(rules) => self.keep(candidate, rules + reason_suffix),
                    None => self.drop(candidate, "no rule"),
                },
            }
        }
    }
}

fn to_decision(candidate: &RetentionCandidate, reason: impl Into<String>) -> RetentionDecision {
    RetentionDecision {
        candidate: candidate.clone(),
        reason: reason.into(),
    }
}

/// Applies `policy` at `now`. Without a rule all archives are kept.
///
/// For each account and home, always keeps the newest verified full archive, if possible one with conversations. Also
/// keeps the newest archive with conversations if newer archives have none. Archives made with exclusions, or lacking
/// unreadable files, count separately, so they never cause a complete archive to be dropped. A damaged archive is
/// dropped only if a good archive of its account, class and home is kept.
pub fn plan_retention(
    candidates: &[RetentionCandidate],
    policy: &RetentionPolicy,
    now: &DateTime<Utc>,
    zone: Zone,
) -> RetentionPlan {
    let mut plan = RetentionPlan::default();
    let recorded_homes = candidates.iter().map(|candidate| candidate.home.as_str());
    let homes: HashSet<_> = recorded_homes.filter(|home| !home.is_empty()).collect();

    for group in &group_candidates(candidates) {
        if policy.is_empty() {
            for candidate in group.iter().copied() {
                plan.keep(candidate, "no rule is given");
            }
            continue;
        }
        let reason_suffix = format_reason_suffix(group[0], homes.len() > 1);
        plan.add_group(group, &reason_suffix, policy, now, zone);
    }
    plan
}

/// Returns words that distinguish a group of archives for the user, because rules count each group separately: its home
/// if there are several homes, and its incompleteness. `archive` is any archive of the group.
fn format_reason_suffix(archive: &RetentionCandidate, has_several_homes: bool) -> String {
    let home_suffix = if has_several_homes && !archive.home.is_empty() {
        format!(" of {}", archive.home)
    } else {
        String::new()
    };

    let incompleteness_suffix = match (archive.excludes, archive.incomplete) {
        (false, false) => "",
        (true, false) => " with --exclude",
        (false, true) => " with skipped files",
        (true, true) => " with --exclude and skipped files",
    };

    home_suffix + incompleteness_suffix
}

/// Returns the archives that must be read completely before the plan is applied: of each group that loses an archive
/// and keeps no verified one, the newest kept archive that counts towards rules. If a kept archive that counts has
/// conversations, archives without conversations are ignored. A group has one account, class, home, machine and
/// completeness.
pub fn list_archives_to_verify(plan: &RetentionPlan, now: &DateTime<Utc>) -> Vec<String> {
    let kept_names = plan.keep.iter().map(|d| d.candidate.archive.as_str());
    let kept_names: HashSet<&str> = kept_names.collect();
    let decisions = plan.keep.iter().chain(&plan.drop);
    let candidates: Vec<_> = decisions.map(|d| d.candidate.clone()).collect();

    let mut to_verify = Vec::new();
    for group in group_candidates(&candidates) {
        let (mut kept, dropped): (Vec<&RetentionCandidate>, Vec<_>) = group
            .into_iter()
            .partition(|c| kept_names.contains(c.archive.as_str()));
        if dropped.is_empty() {
            continue;
        }

        // A good archive without conversations does not prove that the conversations can be restored.
        let mut eligible = kept.iter().filter(|c| c.is_eligible_for_rules(now));
        if eligible.any(|c| !c.lacks_conversations) {
            kept.retain(|c| !c.lacks_conversations);
        }

        if !kept.iter().any(|c| c.soundness == Soundness::Verified) {
            let newest = kept.iter().find(|c| c.is_eligible_for_rules(now));
            to_verify.extend(newest.map(|c| c.archive.clone()));
        }
    }
    to_verify
}

/// Groups archives by account, class, home, machine and completeness. Each group is ordered from the newest.
fn group_candidates(candidates: &[RetentionCandidate]) -> Vec<Vec<&RetentionCandidate>> {
    let mut accounts: Vec<(Option<&Identity>, Vec<&RetentionCandidate>)> = Vec::new();

    let mut ordered: Vec<_> = candidates.iter().collect();
    // Archives with ids first, so that an archive with only an email joins the account of an archive with ids.
    ordered.sort_by_key(|c| {
        let email = c.identity.as_ref().map(|i| i.email.key().clone());
        let lacks_ids = c.identity.as_ref().is_some_and(|i| !i.is_known());
        (email, lacks_ids, c.archive.clone())
    });

    for candidate in ordered {
        let identity = candidate.identity.as_ref();
        let mut accounts_so_far = accounts.iter_mut();
        match accounts_so_far.find(|(account, _)| Identity::is_same_or_none(*account, identity)) {
            Some((_, group)) => group.push(candidate),
            None => accounts.push((identity, vec![candidate])),
        }
    }

    let mut groups = Vec::new();
    for (_, mut archives) in accounts {
        archives.sort_by_key(|c| (group_key(c), Reverse((c.made_at, &c.archive))));
        let chunks = archives.chunk_by(|a, b| group_key(a) == group_key(b));
        groups.extend(chunks.map(<[&RetentionCandidate]>::to_vec));
    }

    groups
}

/// Returns the properties in which the archives of a group are equal, besides the account.
fn group_key(archive: &RetentionCandidate) -> (ArchiveClass, &String, &Option<String>, bool, bool) {
    (
        archive.class,
        &archive.home,
        &archive.machine,
        archive.excludes,
        archive.incomplete,
    )
}

/// Returns the reason to keep each archive, in the order of `group`; `None` for an archive that nothing keeps. `group`
/// has the archives of one group that count towards rules, from the newest.
fn find_reasons_to_keep(
    group: &[&RetentionCandidate],
    policy: &RetentionPolicy,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Vec<Option<String>> {
    let items = group.iter().map(|candidate| {
        // The time of an archive that counts towards rules is known.
        let made_at = candidate.made_at.unwrap_or_default();
        RetentionItem {
            age: *now - made_at,
            date: zone.at(&made_at).date_naive(),
        }
    });
    let mut reasons = policy.apply(&items.collect::<Vec<_>>());

    // A verified archive without conversations must not take the place of an older one with conversations.
    let is_verified = |c: &&RetentionCandidate| c.soundness == Soundness::Verified;
    let has_conversations = |c: &&RetentionCandidate| !c.lacks_conversations;
    let mut archives = group.iter();
    let with_conversations = archives.position(|c| is_verified(c) && has_conversations(c));
    let last_verified = with_conversations.or_else(|| group.iter().position(is_verified));
    if let Some(position) = last_verified
        && group[position].class == ArchiveClass::Full
    {
        reasons[position].get_or_insert_with(|| "last verified full archive".into());
    }

    // If newer archives have no conversations, because the home was emptied, the last one with conversations stays.
    if let Some(position @ 1..) = group.iter().position(has_conversations) {
        reasons[position].get_or_insert_with(|| "last with conversations".into());
    }
    reasons
}

#[cfg(test)]
mod tests;
