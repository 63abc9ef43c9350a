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
use std::collections::HashSet;

/// An archive with the reason why it is kept or dropped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RetentionDecision {
    pub candidate: RetentionCandidate,
    /// The rules or other reasons that keep the archive, or the reason why it is dropped.
    pub reason: String,
}

/// The archives to keep and to drop, each sorted by account, class, home, and newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RetentionPlan {
    pub keep: Vec<RetentionDecision>,
    /// The archives that are moved to the trash.
    pub drop: Vec<RetentionDecision>,
}

impl RetentionPlan {
    fn keep(&mut self, candidate: &RetentionCandidate, reason: impl Into<String>) {
        self.keep.push(decision(candidate, reason));
    }

    fn drop(&mut self, candidate: &RetentionCandidate, reason: impl Into<String>) {
        self.drop.push(decision(candidate, reason));
    }

    /// Keeps the first of `names` that the plan drops, unless the plan keeps one of them already.
    pub(crate) fn keep_one_of(&mut self, names: &[String], reason: &str) {
        let is_named = |decision: &RetentionDecision| names.contains(&decision.candidate.archive);
        if self.keep.iter().any(is_named) {
            return;
        }
        let place = names.iter().find_map(|name| {
            let mut dropped = self.drop.iter();
            dropped.position(|decision| decision.candidate.archive == *name)
        });
        if let Some(place) = place {
            let decision = self.drop.remove(place);
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
        let counting: Vec<_> = group
            .iter()
            .copied()
            .filter(|c| c.is_eligible_for_rules(now))
            .collect();
        let mut reasons = rule_reasons(&counting, policy, now, zone);
        let is_verified = |c: &&RetentionCandidate| c.soundness == Soundness::Verified;
        if let Some(place) = counting.iter().position(is_verified)
            && counting[place].class == ArchiveClass::Full
        {
            reasons[place].get_or_insert_with(|| "last verified full archive".into());
        }
        let mut reasons = reasons.into_iter();
        for candidate in group.iter().copied() {
            let kept = if candidate.is_eligible_for_rules(now) {
                reasons.next().flatten()
            } else {
                None
            };
            match &candidate.soundness {
                _ if candidate.is_foreign() => {
                    self.keep(candidate, "in a folder of the Python codex-manager");
                }
                Soundness::Unreadable(detail) => {
                    self.keep(candidate, format!("cannot be read: {detail}"));
                }
                _ if candidate.made_at.is_none() => {
                    self.keep(candidate, "its account and time are unknown");
                }
                Soundness::Damaged(_) if counting.is_empty() => {
                    self.keep(candidate, "damaged, but there is no undamaged one");
                }
                Soundness::Damaged(detail) => self.drop(candidate, format!("damaged: {detail}")),
                _ if !candidate.is_eligible_for_rules(now) => {
                    self.keep(candidate, "dated in the future");
                }
                _ => match kept {
                    Some(rules) => self.keep(candidate, rules + reason_suffix),
                    None => self.drop(candidate, "no rule"),
                },
            }
        }
    }
}

fn decision(candidate: &RetentionCandidate, reason: impl Into<String>) -> RetentionDecision {
    RetentionDecision {
        candidate: candidate.clone(),
        reason: reason.into(),
    }
}

/// Applies `policy` at `now`. Without a rule all archives are kept.
///
/// The newest verified full archive of each account and home is always kept. Archives made with
/// exclusions, or lacking unreadable files, count separately, so they never cause a complete archive to
/// be dropped. A damaged archive is dropped only if a good archive of its account, class and home is kept.
pub(crate) fn plan(
    candidates: &[RetentionCandidate],
    policy: &RetentionPolicy,
    now: &DateTime<Utc>,
    zone: Zone,
) -> RetentionPlan {
    let mut plan = RetentionPlan::default();
    let groups = group_candidates(candidates);
    for (i, group) in groups.iter().enumerate() {
        if policy.is_empty() {
            for candidate in group.iter().copied() {
                plan.keep(candidate, "no rule is given");
            }
            continue;
        }
        let neighbors = [i.checked_sub(1), Some(i + 1)].into_iter().flatten();
        let neighbors = neighbors
            .filter_map(|i| groups.get(i))
            .map(|group| group[0]);
        let reason_suffix = reason_suffix(group[0], neighbors);
        plan.add_group(group, &reason_suffix, policy, now, zone);
    }
    plan
}

/// Returns words that tell the user which archives a rule has counted, because each group is counted separately: the
/// home of the group, if a neighboring group has the same account and class but another home, and the incompleteness of
/// its archives. `group` and `neighbors` are one archive of each group.
fn reason_suffix<'a>(
    group: &RetentionCandidate,
    mut neighbors: impl Iterator<Item = &'a RetentionCandidate>,
) -> String {
    let names_home =
        !group.home.is_empty() && neighbors.any(|other| is_of_another_home(group, other));
    let of_home = if names_home {
        format!(" of {}", group.home)
    } else {
        String::new()
    };
    let incompleteness = match (group.excludes, group.incomplete) {
        (false, false) => "",
        (true, false) => " with --exclude",
        (false, true) => " that lack files",
        (true, true) => " with --exclude that lack files",
    };
    of_home + incompleteness
}

fn is_of_another_home(one: &RetentionCandidate, other: &RetentionCandidate) -> bool {
    let is_same = is_same_account(one.identity.as_ref(), other.identity.as_ref());
    let place = |c: &RetentionCandidate| (c.machine.clone(), c.home.clone());
    is_same && one.class == other.class && place(one) != place(other)
}

fn is_same_account(one: Option<&Identity>, other: Option<&Identity>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (None, None) => true,
        _ => false,
    }
}

/// Returns the archives that must be read completely before the plan is applied: for each
/// account, class and home that loses an archive and keeps no verified one, the newest of the kept archives that count
/// towards rules.
pub(crate) fn archives_to_read_fully(plan: &RetentionPlan, now: &DateTime<Utc>) -> Vec<String> {
    let kept = plan.keep.iter().map(|d| d.candidate.archive.as_str());
    let kept: HashSet<&str> = kept.collect();
    let is_kept = |candidate: &RetentionCandidate| kept.contains(candidate.archive.as_str());
    let all = plan.keep.iter().chain(&plan.drop);
    let all: Vec<_> = all.map(|d| d.candidate.clone()).collect();
    let newest = group_candidates(&all).into_iter().filter_map(|group| {
        let (stay, go): (Vec<&RetentionCandidate>, Vec<_>) =
            group.into_iter().partition(|c| is_kept(c));
        let is_proved = stay.iter().any(|c| c.soundness == Soundness::Verified);
        if go.is_empty() || is_proved {
            return None;
        }
        stay.into_iter().find(|c| c.is_eligible_for_rules(now))
    });
    newest.map(|candidate| candidate.archive.clone()).collect()
}

/// Groups archives by account, class, home, machine and completeness. Each group is ordered from the newest.
fn group_candidates(candidates: &[RetentionCandidate]) -> Vec<Vec<&RetentionCandidate>> {
    let mut accounts: Vec<(Option<&Identity>, Vec<&RetentionCandidate>)> = Vec::new();
    let mut ordered: Vec<_> = candidates.iter().collect();
    // Archives with ids first, so that an archive with only an email joins the account of an archive with ids.
    ordered.sort_by_key(|c| {
        let email = c.identity.as_ref().map(|i| i.email.key().clone());
        let is_vague = c.identity.as_ref().is_some_and(|i| !i.is_known());
        (email, is_vague, c.archive.clone())
    });
    for candidate in ordered {
        let identity = candidate.identity.as_ref();
        let is_same = |known: Option<&Identity>| is_same_account(known, identity);
        match accounts.iter_mut().find(|(known, _)| is_same(*known)) {
            Some((_, group)) => group.push(candidate),
            None => accounts.push((identity, vec![candidate])),
        }
    }
    let mut groups = Vec::new();
    for (_, mut account) in accounts {
        account.sort_by_key(|c| {
            (
                c.class,
                &c.home,
                &c.machine,
                c.excludes,
                c.incomplete,
                Reverse((c.made_at, &c.archive)),
            )
        });
        groups.extend(
            account
                .chunk_by(|a, b| {
                    let key = |c: &RetentionCandidate| {
                        let place = (c.machine.clone(), c.home.clone());
                        (c.class, place, c.excludes, c.incomplete)
                    };
                    key(a) == key(b)
                })
                .map(<[&RetentionCandidate]>::to_vec),
        );
    }
    groups
}

/// Returns for each archive of a group, ordered from the newest, the rules that keep it, or `None`.
fn rule_reasons(
    group: &[&RetentionCandidate],
    policy: &RetentionPolicy,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Vec<Option<String>> {
    let items = group.iter().map(|candidate| {
        let made_at = candidate.made_at.unwrap_or_default();
        RetentionItem {
            age: *now - made_at,
            date: zone.at(&made_at).date_naive(),
        }
    });
    policy.apply(&items.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
