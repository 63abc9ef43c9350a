//! Which archives are kept: the rules, applied to what is known of each, without touching any.
//!
//! Rules count for each account, [`Class`] and home apart, by the instants at which archives were made;
//! days, weeks and months are those of the local zone. What is damaged, or made in the future by
//! this clock, fills no place of a rule.

use super::records::{ArchiveRecord, Problem};
use crate::archive::metadata::Mode;
use crate::archive::restore::safety::SAFETY_LABEL;
use crate::codex::identity::Identity;
use crate::io::clock::Zone;
use chrono::{DateTime, Datelike, Duration, NaiveDate, Utc, Weekday};
use serde::Serialize;
use std::cmp::Reverse;

/// How many archives are kept, for each account, class and home. 0 or absent is no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepRules {
    /// The newest ones.
    pub last: u32,
    /// All that are at most this much older than the newest.
    pub within: Option<Duration>,
    /// The newest of each of so many days that have one.
    pub daily: u32,
    /// The newest of each of so many ISO weeks that have one.
    pub weekly: u32,
    /// The newest of each of so many months that have one.
    pub monthly: u32,
}

impl KeepRules {
    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Archives that count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Of the whole home.
    Full,
    /// Of the login and settings.
    Auth,
    /// Of conversations.
    Sessions,
    /// Made before a restore, of whatever that changed.
    Safety,
}

impl Class {
    /// The name used in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Auth => "auth",
            Self::Sessions => "sessions",
            Self::Safety => "safety",
        }
    }
}

/// What is known of an archive's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Soundness {
    /// Nobody has looked yet.
    Unchecked,
    /// Its structure is whole: it opens, and describes itself.
    Sound,
    /// `verify` has read every byte of it as it lies there.
    Verified,
    /// It is damaged.
    Damaged(String),
    /// It cannot be read here and now, which says nothing about it.
    Unreadable(String),
}

/// What is known of one archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its path below `backups/`.
    pub archive: String,
    /// Whose it is; absent where the home was signed out.
    pub identity: Option<Identity>,
    /// What it counts with.
    pub class: Class,
    /// The home that it is of; empty where that is not known, or it is made of a legacy file.
    pub home: String,
    /// Whether the user has left something out of it: it is no match for one that has all.
    pub excludes: bool,
    /// When it was made; absent where it does not even say that.
    pub made_at: Option<DateTime<Utc>>,
    /// Its size.
    pub bytes: u64,
    /// Its state.
    pub soundness: Soundness,
}

impl Candidate {
    /// What a record says; absent where the record has no archive.
    pub fn of(record: &ArchiveRecord) -> Option<Self> {
        let metadata = &record.metadata;
        let bytes = record.archive.as_ref()?.bytes;
        let class = match metadata.mode {
            _ if metadata.label.as_deref() == Some(SAFETY_LABEL) => Class::Safety,
            Mode::Full => Class::Full,
            Mode::Auth => Class::Auth,
            Mode::Sessions => Class::Sessions,
        };
        let soundness = match (record.problem(), &record.verified) {
            (Some(Problem::Damaged(detail)), _) => Soundness::Damaged(detail.clone()),
            (Some(Problem::FoundDamaged), _) => Soundness::Damaged("found by verify".into()),
            (Some(Problem::Unreadable(detail)), _) => Soundness::Unreadable(detail.clone()),
            (_, Some(_)) => Soundness::Verified,
            // Without a good sidecar it was opened to be listed.
            (Some(Problem::Sidecar(_) | Problem::NoArchive), None) => Soundness::Sound,
            (None, None) => Soundness::Unchecked,
        };
        let made_at = metadata.created_at.to_utc();
        let home = match metadata.legacy_auth_filename {
            None => metadata.source_codex_home.clone(),
            Some(_) => String::new(),
        };
        Some(Self {
            archive: record.path.clone(),
            identity: metadata.identity(),
            class,
            home,
            excludes: metadata.excludes,
            made_at: (made_at != DateTime::UNIX_EPOCH).then_some(made_at),
            bytes,
            soundness,
        })
    }

    /// Whether it lies in a folder of the Python codex-manager, where nothing is changed.
    fn is_foreign(&self) -> bool {
        self.archive.contains('/')
    }

    fn counts(&self, now: &DateTime<Utc>) -> bool {
        let is_good = !matches!(
            self.soundness,
            Soundness::Damaged(_) | Soundness::Unreadable(_)
        );
        is_good && self.made_at.is_some_and(|at| at <= *now)
    }
}

/// One archive, and why it stays or goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The archive.
    pub candidate: Candidate,
    /// Why.
    pub reason: String,
}

/// What stays and what goes; both by account, class, home, and newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RetentionPlan {
    /// What stays.
    pub keep: Vec<Decision>,
    /// What goes.
    pub drop: Vec<Decision>,
}

impl RetentionPlan {
    fn keep(&mut self, candidate: &Candidate, reason: impl Into<String>) {
        self.keep.push(decision(candidate, reason));
    }

    fn drop(&mut self, candidate: &Candidate, reason: impl Into<String>) {
        self.drop.push(decision(candidate, reason));
    }
}

fn decision(candidate: &Candidate, reason: impl Into<String>) -> Decision {
    Decision {
        candidate: candidate.clone(),
        reason: reason.into(),
    }
}

/// Applies `rules` at `now`. Without a rule everything stays.
///
/// Of the full archives of an account and home the newest verified one stays whatever the rules say, and
/// those that were made with exclusions count apart. A damaged archive goes only where a good one of its
/// account, class and home stays.
pub fn plan(
    candidates: &[Candidate],
    rules: &KeepRules,
    now: &DateTime<Utc>,
    zone: Zone,
) -> RetentionPlan {
    let mut plan = RetentionPlan::default();
    let groups = groups(candidates);
    for (i, group) in groups.iter().enumerate() {
        // Rules that seem to keep too many say of which home: those of one account and class follow each
        // other.
        let beside = [i.checked_sub(1), Some(i + 1)].into_iter().flatten();
        let of_home = beside
            .filter_map(|i| groups.get(i))
            .any(|other| is_of_another_home(group[0], other[0]))
            .then(|| format!(" of {}", group[0].home));
        let of_home = of_home.filter(|_| !group[0].home.is_empty());
        let less = if group[0].excludes {
            " with --exclude"
        } else {
            ""
        };
        if rules.is_empty() {
            for candidate in group.iter().copied() {
                plan.keep(candidate, "no rule is given");
            }
            continue;
        }
        let counting: Vec<_> = group.iter().copied().filter(|c| c.counts(now)).collect();
        let mut reasons = ruled(&counting, rules, zone);
        let is_verified = |c: &&Candidate| c.soundness == Soundness::Verified;
        if let Some(place) = counting.iter().position(is_verified)
            && counting[place].class == Class::Full
            && reasons[place].is_empty()
        {
            reasons[place].push("last verified full archive".into());
        }
        let mut reasons = reasons.into_iter();
        for candidate in group.iter().copied() {
            let kept = if candidate.counts(now) {
                reasons.next().unwrap_or_default()
            } else {
                Vec::new()
            };
            match &candidate.soundness {
                _ if candidate.is_foreign() => {
                    plan.keep(candidate, "in a folder of the Python codex-manager");
                }
                Soundness::Unreadable(detail) => {
                    plan.keep(candidate, format!("cannot be read: {detail}"));
                }
                _ if candidate.made_at.is_none() => {
                    plan.keep(candidate, "does not say whose it is and when it was made");
                }
                Soundness::Damaged(_) if counting.is_empty() => {
                    plan.keep(candidate, "damaged, but there is no good one");
                }
                Soundness::Damaged(detail) => {
                    plan.drop(candidate, format!("damaged: {detail}"));
                }
                _ if !candidate.counts(now) => plan.keep(candidate, "made in the future"),
                _ if kept.is_empty() => plan.drop(candidate, "no rule keeps it"),
                _ => {
                    let of_home = of_home.as_deref().unwrap_or_default();
                    plan.keep(candidate, kept.join(", ") + of_home + less);
                }
            }
        }
    }
    plan
}

fn is_of_another_home(one: &Candidate, other: &Candidate) -> bool {
    let is_same = is_same_account(one.identity.as_ref(), other.identity.as_ref());
    is_same && one.class == other.class && one.home != other.home
}

fn is_same_account(one: Option<&Identity>, other: Option<&Identity>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (None, None) => true,
        _ => false,
    }
}

/// What has to be read through before anything of `plan` goes: where something of an account, class and
/// home goes and no verified archive stays, the newest that fills a place.
pub fn unproved(plan: &RetentionPlan, now: &DateTime<Utc>) -> Vec<String> {
    let kept: Vec<_> = plan.keep.iter().map(|d| &d.candidate).collect();
    let is_kept = |candidate: &Candidate| kept.contains(&candidate);
    let all = plan.keep.iter().chain(&plan.drop);
    let all: Vec<_> = all.map(|d| d.candidate.clone()).collect();
    let newest = groups(&all).into_iter().filter_map(|group| {
        let (stay, go): (Vec<&Candidate>, Vec<_>) = group.into_iter().partition(|c| is_kept(c));
        let is_proved = stay.iter().any(|c| c.soundness == Soundness::Verified);
        if go.is_empty() || is_proved {
            return None;
        }
        stay.into_iter().find(|c| c.counts(now))
    });
    newest.map(|candidate| candidate.archive.clone()).collect()
}

/// Archives of one account, class and home together, newest first.
fn groups(candidates: &[Candidate]) -> Vec<Vec<&Candidate>> {
    let mut accounts: Vec<(Option<&Identity>, Vec<&Candidate>)> = Vec::new();
    let mut ordered: Vec<_> = candidates.iter().collect();
    // Those that name their account in full first: others are recognised by them.
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
                c.excludes,
                Reverse((c.made_at, &c.archive)),
            )
        });
        groups.extend(
            account
                .chunk_by(|a, b| (a.class, &a.home, a.excludes) == (b.class, &b.home, b.excludes))
                .map(<[&Candidate]>::to_vec),
        );
    }
    groups
}

/// For each archive of a group, newest first, the rules that keep it.
fn ruled(group: &[&Candidate], rules: &KeepRules, zone: Zone) -> Vec<Vec<String>> {
    let mut reasons = vec![Vec::new(); group.len()];
    let at = |i: usize| group[i].made_at.unwrap_or_default();
    for reasons in reasons.iter_mut().take(rules.last as usize) {
        reasons.push(format!("last {}", rules.last));
    }
    if let Some(span) = rules.within {
        for i in (0..group.len()).filter(|i| at(0) - at(*i) <= span) {
            reasons[i].push("within".to_owned());
        }
    }
    let date = |i: usize| zone.at(&at(i)).date_naive();
    // The first day of each period stands for it.
    let week: fn(NaiveDate) -> NaiveDate = |date| {
        let monday = date.week(Weekday::Mon).checked_first_day();
        monday.unwrap_or(date)
    };
    let periods = [
        ("daily", rules.daily, (|date| date) as fn(_) -> _),
        ("weekly", rules.weekly, week),
        ("monthly", rules.monthly, |date| {
            date.with_day(1).unwrap_or_default()
        }),
    ];
    for (rule, count, first_day) in periods {
        let mut seen: Option<NaiveDate> = None;
        let mut left = count;
        for (i, reasons) in reasons.iter_mut().enumerate() {
            let period = first_day(date(i));
            if seen == Some(period) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            reasons.push(rule.to_owned());
            seen = Some(period);
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn now() -> DateTime<Utc> {
        at("2026-11-20T12:00:00Z")
    }

    fn made(text: &str) -> Candidate {
        Candidate {
            excludes: false,
            archive: format!("{text}-codex.tar.gz"),
            identity: Some(Identity::of_email("a@x.com")),
            class: Class::Full,
            home: "/home".into(),
            made_at: Some(at(text)),
            bytes: 1,
            soundness: Soundness::Sound,
        }
    }

    /// What is kept, as `time: reason`; `-` before what goes.
    fn decided(candidates: &[Candidate], rules: KeepRules, zone: &str) -> Vec<String> {
        let plan = plan(candidates, &rules, &now(), Zone::named(zone).unwrap());
        let line = |mark: &str, d: &Decision| {
            let name = d.candidate.archive.trim_end_matches("-codex.tar.gz");
            format!("{mark}{name}: {}", d.reason)
        };
        let mut lines: Vec<_> = plan.keep.iter().map(|d| line("+", d)).collect();
        lines.extend(plan.drop.iter().map(|d| line("-", d)));
        lines
    }

    #[test]
    fn each_rule_keeps_what_it_says() {
        let all: Vec<_> = [
            "2026-11-20T10:00:00Z",
            "2026-11-20T09:00:00Z",
            "2026-11-18T10:00:00Z",
            "2026-11-10T10:00:00Z",
            "2026-09-10T10:00:00Z",
        ]
        .iter()
        .map(|t| made(t))
        .collect();
        let kept = |rules: KeepRules| -> Vec<String> {
            let lines = decided(&all, rules, "UTC");
            lines.into_iter().filter(|l| l.starts_with('+')).collect()
        };
        let none = KeepRules::default();
        assert_eq!(
            kept(KeepRules { last: 2, ..none }),
            [
                "+2026-11-20T10:00:00Z: last 2",
                "+2026-11-20T09:00:00Z: last 2"
            ]
        );
        let within = Some(Duration::days(2));
        assert_eq!(
            kept(KeepRules { within, ..none }),
            [
                "+2026-11-20T10:00:00Z: within",
                "+2026-11-20T09:00:00Z: within",
                "+2026-11-18T10:00:00Z: within"
            ]
        );
        assert_eq!(
            kept(KeepRules { daily: 2, ..none }),
            [
                "+2026-11-20T10:00:00Z: daily",
                "+2026-11-18T10:00:00Z: daily"
            ]
        );
        assert_eq!(
            kept(KeepRules { weekly: 2, ..none }),
            [
                "+2026-11-20T10:00:00Z: weekly",
                "+2026-11-10T10:00:00Z: weekly"
            ]
        );
        assert_eq!(
            kept(KeepRules {
                last: 1,
                monthly: 9,
                ..none
            }),
            [
                "+2026-11-20T10:00:00Z: last 1, monthly",
                "+2026-09-10T10:00:00Z: monthly"
            ]
        );
        assert_eq!(kept(none).len(), 5, "no rule, no loss");
    }

    #[test]
    fn days_are_those_of_the_zone_and_instants_not_texts_are_compared() {
        // Names sort against the instants: a laptop that travelled.
        let mut all = vec![
            made("2026-11-01T00:30:00-05:00"),
            made("2026-11-01T05:10:00+00:00"),
            made("2026-10-31T23:59:00-04:00"),
        ];
        assert_eq!(
            decided(
                &all,
                KeepRules {
                    daily: 9,
                    ..KeepRules::default()
                },
                "America/New_York"
            ),
            // The clock was set back on 1 November: the day has 25 hours.
            [
                "+2026-11-01T00:30:00-05:00: daily",
                "+2026-10-31T23:59:00-04:00: daily",
                "-2026-11-01T05:10:00+00:00: no rule keeps it",
            ]
        );
        all.truncate(1);
        let month = KeepRules {
            monthly: 1,
            ..KeepRules::default()
        };
        assert_eq!(
            decided(&all, month, "America/Los_Angeles"),
            ["+2026-11-01T00:30:00-05:00: monthly"]
        );
    }

    #[test]
    fn the_last_verified_full_archive_stays_and_the_damaged_fill_no_place() {
        let mut all = vec![
            made("2026-11-20T10:00:00Z"),
            made("2026-11-19T10:00:00Z"),
            made("2026-11-18T10:00:00Z"),
            made("2026-11-17T10:00:00Z"),
        ];
        all[0].soundness = Soundness::Damaged("cut".into());
        all[2].soundness = Soundness::Verified;
        all[3].soundness = Soundness::Verified;
        let one = KeepRules {
            last: 1,
            ..KeepRules::default()
        };
        assert_eq!(
            decided(&all, one, "UTC"),
            [
                "+2026-11-19T10:00:00Z: last 1",
                "+2026-11-18T10:00:00Z: last verified full archive",
                "-2026-11-20T10:00:00Z: damaged: cut",
                "-2026-11-17T10:00:00Z: no rule keeps it",
            ]
        );
        for candidate in &mut all {
            candidate.soundness = Soundness::Damaged("cut".into());
        }
        let plan = plan(&all, &one, &now(), Zone::UTC);
        assert_eq!(plan.drop, [], "nothing good is there");
    }

    #[test]
    fn accounts_and_classes_count_apart_and_what_is_not_ours_stays() {
        let mut all = vec![
            made("2026-11-20T10:00:00Z"),
            made("2026-11-19T10:00:00Z"),
            made("2026-11-18T10:00:00Z"),
            made("2026-11-17T10:00:00Z"),
            made("2026-11-16T10:00:00Z"),
            made("2026-12-24T10:00:00Z"),
        ];
        all[1].class = Class::Safety;
        all[2].class = Class::Auth;
        all[3].identity = Some(Identity::of_email("b@x.com"));
        all[4].archive = "auth/a@x.com/backup-1.tar.gz".into();
        let one = KeepRules {
            last: 1,
            ..KeepRules::default()
        };
        assert_eq!(
            decided(&all, one, "UTC"),
            [
                "+2026-12-24T10:00:00Z: made in the future",
                "+2026-11-20T10:00:00Z: last 1",
                "+auth/a@x.com/backup-1.tar.gz: in a folder of the Python codex-manager",
                "+2026-11-18T10:00:00Z: last 1",
                "+2026-11-19T10:00:00Z: last 1",
                "+2026-11-17T10:00:00Z: last 1",
            ]
        );
    }

    #[test]
    fn a_time_at_the_end_of_the_calendar_has_a_week() {
        // The first day that there is, in the middle of its week.
        let first = DateTime::<Utc>::MIN_UTC;
        let mut all = vec![made("2026-11-20T10:00:00Z"), made("2026-11-19T10:00:00Z")];
        all[1].made_at = Some(first);
        let weeks = KeepRules {
            weekly: 2,
            monthly: 2,
            within: Some(Duration::days(1)),
            ..KeepRules::default()
        };
        for zone in ["UTC", "America/New_York", "Asia/Tokyo"] {
            assert_eq!(decided(&all, weeks, zone).len(), 2, "{zone}");
        }
    }

    #[test]
    fn every_home_of_an_account_keeps_its_own() {
        let mut all = vec![
            made("2026-11-20T10:00:00Z"),
            made("2026-11-19T10:00:00Z"),
            made("2026-11-18T10:00:00Z"),
        ];
        all[1].home = "/other".into();
        let one = KeepRules {
            last: 1,
            ..KeepRules::default()
        };
        assert_eq!(
            decided(&all, one, "UTC"),
            [
                "+2026-11-20T10:00:00Z: last 1 of /home",
                "+2026-11-19T10:00:00Z: last 1 of /other",
                "-2026-11-18T10:00:00Z: no rule keeps it",
            ]
        );
        // A damaged one goes only where its own home has a good one.
        all[1].soundness = Soundness::Damaged("cut".into());
        let plan = plan(&all, &one, &now(), Zone::UTC);
        assert_eq!(plan.drop.len(), 1);
    }

    #[test]
    fn where_something_goes_the_newest_that_stays_has_to_be_proved() {
        let mut all = vec![
            made("2026-12-24T10:00:00Z"),
            made("2026-11-20T10:00:00Z"),
            made("2026-11-19T10:00:00Z"),
            made("2026-11-18T10:00:00Z"),
        ];
        let one = KeepRules {
            last: 1,
            ..KeepRules::default()
        };
        let asked = |all: &[Candidate]| {
            let plan = plan(all, &one, &now(), Zone::UTC);
            unproved(&plan, &now())
        };
        // Not the one of the future.
        assert_eq!(asked(&all), [all[1].archive.clone()]);
        assert_eq!(asked(&all[..2]), [""; 0], "nothing goes");
        all[2].soundness = Soundness::Verified;
        assert_eq!(asked(&all), [""; 0], "a verified one stays");
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let soundness = prop_oneof![
            3 => Just(Soundness::Sound),
            2 => Just(Soundness::Verified),
            1 => Just(Soundness::Damaged("cut".into())),
            1 => Just(Soundness::Unreadable("denied".into())),
        ];
        let class = prop_oneof![
            3 => Just(Class::Full),
            1 => Just(Class::Auth),
            1 => Just(Class::Safety),
        ];
        let home = prop_oneof![Just("/home"), Just("/other"), Just("")];
        let one = (-200_i64..20_000, 0..3_u8, class, home, soundness);
        prop::collection::vec(one, 0..40).prop_map(|all| {
            all.into_iter()
                .enumerate()
                .map(|(i, (hours, account, class, home, soundness))| Candidate {
                    excludes: i % 5 == 4,
                    archive: format!("{i}"),
                    identity: (account > 0).then(|| Identity::of_email(format!("{account}@x"))),
                    class,
                    home: home.into(),
                    made_at: Some(now() - Duration::hours(hours)),
                    bytes: 1,
                    soundness,
                })
                .collect()
        })
    }

    fn rules() -> impl Strategy<Value = KeepRules> {
        let days = prop::option::of(1_i64..400);
        (0..4_u32, days, 0..4_u32, 0..4_u32, 0..4_u32).prop_map(
            |(last, days, daily, weekly, monthly)| KeepRules {
                last,
                within: days.map(Duration::days),
                daily,
                weekly,
                monthly,
            },
        )
    }

    proptest! {
        #[test]
        fn nothing_is_lost_that_must_not_be(all in candidates(), rules in rules()) {
            let zone = Zone::named("Europe/Berlin").unwrap();
            let plan = plan(&all, &rules, &now(), zone);
            prop_assert_eq!(plan.keep.len() + plan.drop.len(), all.len());
            let kept: Vec<_> = plan.keep.iter().map(|d| d.candidate.clone()).collect();
            let key = |c: &Candidate| (c.class, c.identity.clone(), c.home.clone());
            let newest = |set: &[Candidate], like: &Candidate, verified: bool| {
                set.iter()
                    .filter(|c| key(c) == key(like) && c.counts(&now()))
                    .filter(|c| !verified || c.soundness == Soundness::Verified)
                    .map(|c| (c.made_at, c.archive.clone()))
                    .max()
            };
            for candidate in &all {
                // The newest good one of each account, class and home stays, and the newest verified full.
                prop_assert_eq!(newest(&all, candidate, false), newest(&kept, candidate, false));
                if candidate.class == Class::Full {
                    prop_assert_eq!(newest(&all, candidate, true), newest(&kept, candidate, true));
                }
                let same = |c: &&Candidate| key(c) == key(candidate) && c.counts(&now());
                let had = all.iter().filter(same).count();
                let has = kept.iter().filter(same).count();
                prop_assert!(has >= had.min(rules.last as usize));
                let days = |set: &[Candidate]| {
                    let mut days: Vec<_> = set.iter().filter(same).map(|c| zone.at(&c.made_at.unwrap()).date_naive()).collect();
                    days.sort();
                    days.dedup();
                    days.len()
                };
                prop_assert!(days(&kept) >= days(&all).min(rules.daily as usize));
            }
            // What goes is only what no rule and no caution keeps; a second time nothing goes.
            let again = super::plan(&kept, &rules, &now(), zone);
            prop_assert_eq!(again.drop, vec![]);
        }
    }
}
