//! Examples and property tests of the retention rules.

use super::*;
use chrono::Duration;
use proptest::prelude::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn now() -> DateTime<Utc> {
    at("2026-11-20T12:00:00Z")
}

fn archive_made_at(text: &str) -> RetentionCandidate {
    RetentionCandidate {
        excludes: false,
        conversations: None,
        lacks_conversations: false,
        incomplete: false,
        is_partial: false,
        archive: format!("{text}-codex.tar.gz"),
        identity: Some(Identity::from_email("a@x.com")),
        class: ArchiveClass::Full,
        home: "/home".into(),
        machine: None,
        made_at: Some(at(text)),
        bytes: 1,
        soundness: Soundness::Sound,
    }
}

/// Formats decisions as `+time: reason` for kept and `-time: reason` for dropped archives.
fn decided(candidates: &[RetentionCandidate], rules: RetentionPolicy, zone: &str) -> Vec<String> {
    let plan = plan_retention(candidates, &rules, &now(), Zone::named(zone).unwrap());
    let line = |mark: &str, d: &RetentionDecision| {
        let name = d.candidate.archive.trim_end_matches("-codex.tar.gz");
        format!("{mark}{name}: {}", d.reason)
    };
    let mut lines: Vec<_> = plan.keep.iter().map(|d| line("+", d)).collect();
    lines.extend(plan.drop.iter().map(|d| line("-", d)));
    lines
}

#[test]
fn each_rule_keeps_its_archives() {
    let all: Vec<_> = [
        "2026-11-20T10:00:00Z",
        "2026-11-20T09:00:00Z",
        "2026-11-18T10:00:00Z",
        "2026-11-10T10:00:00Z",
        "2026-09-10T10:00:00Z",
    ]
    .iter()
    .map(|t| archive_made_at(t))
    .collect();
    let kept = |rules: RetentionPolicy| -> Vec<String> {
        let lines = decided(&all, rules, "UTC");
        lines.into_iter().filter(|l| l.starts_with('+')).collect()
    };
    let none = RetentionPolicy::default();
    assert_eq!(
        kept(RetentionPolicy { last: 2, ..none }),
        [
            "+2026-11-20T10:00:00Z: last 2",
            "+2026-11-20T09:00:00Z: last 2"
        ]
    );
    let within = Some(Duration::days(2));
    assert_eq!(
        kept(RetentionPolicy { within, ..none }),
        [
            "+2026-11-20T10:00:00Z: within",
            "+2026-11-20T09:00:00Z: within",
            "+2026-11-18T10:00:00Z: within"
        ]
    );
    assert_eq!(
        kept(RetentionPolicy { daily: 2, ..none }),
        [
            "+2026-11-20T10:00:00Z: daily",
            "+2026-11-18T10:00:00Z: daily"
        ]
    );
    assert_eq!(
        kept(RetentionPolicy { weekly: 2, ..none }),
        [
            "+2026-11-20T10:00:00Z: weekly",
            "+2026-11-10T10:00:00Z: weekly"
        ]
    );
    assert_eq!(
        kept(RetentionPolicy {
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
fn the_local_zone_decides_the_day_of_an_archive_and_the_instant_its_order() {
    // A laptop changed its zone, so names sort against instants.
    let mut all = vec![
        archive_made_at("2026-11-01T00:30:00-05:00"),
        archive_made_at("2026-11-01T05:10:00+00:00"),
        archive_made_at("2026-10-31T23:59:00-04:00"),
    ];
    assert_eq!(
        decided(
            &all,
            RetentionPolicy {
                daily: 9,
                ..RetentionPolicy::default()
            },
            "America/New_York"
        ),
        // The clock was set back on 1 November: the day has 25 hours.
        [
            "+2026-11-01T00:30:00-05:00: daily",
            "+2026-10-31T23:59:00-04:00: daily",
            "-2026-11-01T05:10:00+00:00: no rule",
        ]
    );
    all.truncate(1);
    let month = RetentionPolicy {
        monthly: 1,
        ..RetentionPolicy::default()
    };
    assert_eq!(
        decided(&all, month, "America/Los_Angeles"),
        ["+2026-11-01T00:30:00-05:00: monthly"]
    );
}

#[test]
fn the_last_verified_full_archive_is_kept_and_damaged_ones_do_not_count() {
    let mut all = vec![
        archive_made_at("2026-11-20T10:00:00Z"),
        archive_made_at("2026-11-19T10:00:00Z"),
        archive_made_at("2026-11-18T10:00:00Z"),
        archive_made_at("2026-11-17T10:00:00Z"),
    ];
    all[0].soundness = Soundness::Damaged("cut".into());
    all[2].soundness = Soundness::Verified;
    all[3].soundness = Soundness::Verified;
    let one = RetentionPolicy {
        last: 1,
        ..RetentionPolicy::default()
    };
    assert_eq!(
        decided(&all, one, "UTC"),
        [
            "+2026-11-19T10:00:00Z: last 1",
            "+2026-11-18T10:00:00Z: last verified full archive",
            "-2026-11-20T10:00:00Z: damaged: cut",
            "-2026-11-17T10:00:00Z: no rule",
        ]
    );
    for candidate in &mut all {
        candidate.soundness = Soundness::Damaged("cut".into());
    }
    let plan = plan_retention(&all, &one, &now(), Zone::UTC);
    assert_eq!(plan.drop, [], "no good archive would be kept");
}

#[test]
fn accounts_and_classes_count_separately_and_python_archives_are_kept() {
    let mut all = vec![
        archive_made_at("2026-11-20T10:00:00Z"),
        archive_made_at("2026-11-19T10:00:00Z"),
        archive_made_at("2026-11-18T10:00:00Z"),
        archive_made_at("2026-11-17T10:00:00Z"),
        archive_made_at("2026-11-16T10:00:00Z"),
        archive_made_at("2026-12-24T10:00:00Z"),
    ];
    all[1].class = ArchiveClass::Safety;
    all[2].class = ArchiveClass::Auth;
    all[3].identity = Some(Identity::from_email("b@x.com"));
    all[4].archive = "auth/a@x.com/backup-1.tar.gz".into();
    let one = RetentionPolicy {
        last: 1,
        ..RetentionPolicy::default()
    };
    assert_eq!(
        decided(&all, one, "UTC"),
        [
            "+2026-12-24T10:00:00Z: dated in the future",
            "+2026-11-20T10:00:00Z: last 1",
            "+auth/a@x.com/backup-1.tar.gz: never moved: it is in a folder of the Python codex-manager",
            "+2026-11-18T10:00:00Z: last 1",
            "+2026-11-19T10:00:00Z: last 1",
            "+2026-11-17T10:00:00Z: last 1",
        ]
    );
}

#[test]
fn an_incomplete_archive_never_causes_a_complete_one_to_be_dropped() {
    let mut all = vec![
        archive_made_at("2026-11-20T10:00:00Z"),
        archive_made_at("2026-11-20T09:00:00Z"),
        archive_made_at("2026-11-19T10:00:00Z"),
        archive_made_at("2026-11-18T10:00:00Z"),
    ];
    for place in [0, 1] {
        all[place].incomplete = true;
        all[place].soundness = Soundness::Verified;
    }
    for rules in [
        RetentionPolicy {
            last: 1,
            ..RetentionPolicy::default()
        },
        RetentionPolicy {
            daily: 1,
            ..RetentionPolicy::default()
        },
    ] {
        let lines = decided(&all, rules, "UTC");
        let kept: Vec<_> = lines.iter().filter(|l| l.starts_with('+')).collect();
        assert_eq!(kept.len(), 2, "{lines:?}");
        assert!(
            lines.iter().any(|l| l.starts_with("+2026-11-19")),
            "{lines:?}"
        );
        assert!(
            kept.iter().any(|l| l.ends_with("with skipped files")),
            "{lines:?}"
        );
    }
}

#[test]
fn an_archive_of_the_first_day_of_the_calendar_causes_no_overflow() {
    // The first representable day, in the middle of its week.
    let first = DateTime::<Utc>::MIN_UTC;
    let mut all = vec![
        archive_made_at("2026-11-20T10:00:00Z"),
        archive_made_at("2026-11-19T10:00:00Z"),
    ];
    all[1].made_at = Some(first);
    let weeks = RetentionPolicy {
        weekly: 2,
        monthly: 2,
        within: Some(Duration::days(1)),
        ..RetentionPolicy::default()
    };
    for zone in ["UTC", "America/New_York", "Asia/Tokyo"] {
        assert_eq!(decided(&all, weeks, zone).len(), 2, "{zone}");
    }
}

#[test]
fn homes_of_an_account_count_separately() {
    let mut all = vec![
        archive_made_at("2026-11-20T10:00:00Z"),
        archive_made_at("2026-11-19T10:00:00Z"),
        archive_made_at("2026-11-18T10:00:00Z"),
    ];
    all[1].home = "/other".into();
    let one = RetentionPolicy {
        last: 1,
        ..RetentionPolicy::default()
    };
    assert_eq!(
        decided(&all, one, "UTC"),
        [
            "+2026-11-20T10:00:00Z: last 1 of /home",
            "+2026-11-19T10:00:00Z: last 1 of /other",
            "-2026-11-18T10:00:00Z: no rule",
        ]
    );
    // A damaged one is dropped only if its own home keeps a good one.
    all[1].soundness = Soundness::Damaged("cut".into());
    let plan = plan_retention(&all, &one, &now(), Zone::UTC);
    assert_eq!(plan.drop.len(), 1);
}

#[test]
fn dropping_requires_a_full_read_of_the_newest_kept_archive() {
    let mut all = vec![
        archive_made_at("2026-12-24T10:00:00Z"),
        archive_made_at("2026-11-20T10:00:00Z"),
        archive_made_at("2026-11-19T10:00:00Z"),
        archive_made_at("2026-11-18T10:00:00Z"),
    ];
    let one = RetentionPolicy {
        last: 1,
        ..RetentionPolicy::default()
    };
    let to_read = |all: &[RetentionCandidate]| {
        let plan = plan_retention(all, &one, &now(), Zone::UTC);
        list_archives_to_verify(&plan, &now())
    };
    // The archive from the future does not count.
    assert_eq!(to_read(&all), [all[1].archive.clone()]);
    assert_eq!(to_read(&all[..2]), [""; 0], "nothing is dropped");
    all[2].soundness = Soundness::Verified;
    assert_eq!(to_read(&all), [""; 0], "a verified one is kept");
}

#[test]
fn backups_of_an_emptied_home_do_not_remove_the_last_one_with_conversations() {
    let days = ["20", "19", "18", "17"];
    let all = days.map(|day| archive_made_at(&format!("2026-11-{day}T10:00:00Z")));
    let with_empty = |count: usize| {
        let mut all = all.clone();
        for archive in &mut all[..count] {
            archive.lacks_conversations = true;
        }
        let rules = RetentionPolicy {
            last: 1,
            ..RetentionPolicy::default()
        };
        let lines = decided(&all, rules, "UTC").into_iter();
        lines
            .filter(|line| line.starts_with('+'))
            .collect::<Vec<_>>()
    };
    let newest = "+2026-11-20T10:00:00Z: last 1";
    let full = "+2026-11-18T10:00:00Z: last with conversations";
    assert_eq!(with_empty(0), [newest]);
    assert_eq!(with_empty(2), [newest, full]);
    assert_eq!(with_empty(4), [newest], "the home never had any");
}

#[test]
fn a_verified_archive_without_conversations_does_not_count_if_others_have_some() {
    let days = ["20", "19", "18", "17"];
    let mut all = days.map(|day| archive_made_at(&format!("2026-11-{day}T10:00:00Z")));
    all[0].lacks_conversations = true;
    all[0].soundness = Soundness::Verified;
    let one = RetentionPolicy {
        last: 1,
        ..RetentionPolicy::default()
    };
    let to_read = |all: &[RetentionCandidate]| {
        let plan = plan_retention(all, &one, &now(), Zone::UTC);
        list_archives_to_verify(&plan, &now())
    };
    assert_eq!(to_read(&all), [all[1].archive.clone()]);

    all[2].soundness = Soundness::Verified;
    assert_eq!(
        decided(&all, one, "UTC"),
        [
            "+2026-11-20T10:00:00Z: last 1",
            "+2026-11-19T10:00:00Z: last with conversations",
            "+2026-11-18T10:00:00Z: last verified full archive",
            "-2026-11-17T10:00:00Z: no rule",
        ]
    );
    assert_eq!(to_read(&all), [""; 0], "one with conversations is verified");

    let mut empty = all;
    for archive in &mut empty {
        archive.lacks_conversations = true;
    }
    assert_eq!(to_read(&empty), [""; 0], "no archive has conversations");
}

fn candidates() -> impl Strategy<Value = Vec<RetentionCandidate>> {
    let soundness = prop_oneof![
        3 => Just(Soundness::Sound),
        2 => Just(Soundness::Verified),
        1 => Just(Soundness::Damaged("cut".into())),
        1 => Just(Soundness::Unreadable("denied".into())),
    ];
    let class = prop_oneof![
        3 => Just(ArchiveClass::Full),
        1 => Just(ArchiveClass::Auth),
        1 => Just(ArchiveClass::Safety),
    ];
    let home = prop_oneof![Just("/home"), Just("/other"), Just("")];
    let one = (-200_i64..20_000, 0..3_u8, class, home, soundness);
    prop::collection::vec(one, 0..40).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(
                |(i, (hours, account, class, home, soundness))| RetentionCandidate {
                    excludes: i % 5 == 4,
                    conversations: None,
                    lacks_conversations: i % 11 == 10,
                    incomplete: i % 7 == 6,
                    is_partial: false,
                    archive: format!("{i}"),
                    identity: (account > 0).then(|| Identity::from_email(format!("{account}@x"))),
                    class,
                    home: home.into(),
                    machine: (i % 3 == 2).then(|| "m".to_owned()),
                    made_at: Some(now() - Duration::hours(hours)),
                    bytes: 1,
                    soundness,
                },
            )
            .collect()
    })
}

fn rules() -> impl Strategy<Value = RetentionPolicy> {
    let days = prop::option::of(1_i64..400);
    (0..4_u32, days, 0..4_u32, 0..4_u32, 0..4_u32).prop_map(
        |(last, days, daily, weekly, monthly)| RetentionPolicy {
            last,
            within: days.map(Duration::days),
            daily,
            weekly,
            monthly,
            ..RetentionPolicy::default()
        },
    )
}

proptest! {
    #[test]
    fn newest_and_newest_verified_archives_stay_and_a_second_plan_drops_none(all in candidates(), rules in rules()) {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let plan = plan_retention(&all, &rules, &now(), zone);
        prop_assert_eq!(plan.keep.len() + plan.drop.len(), all.len());
        let kept: Vec<_> = plan.keep.iter().map(|d| d.candidate.clone()).collect();
        let key = |c: &RetentionCandidate| (c.class, c.identity.clone(), c.home.clone());
        let newest = |set: &[RetentionCandidate], like: &RetentionCandidate, verified: bool| {
            set.iter()
                .filter(|c| key(c) == key(like) && c.is_eligible_for_rules(&now()))
                .filter(|c| !verified || c.soundness == Soundness::Verified)
                // A verified archive with conversations is preferred.
                .map(|c| (verified && !c.lacks_conversations, c.made_at, c.archive.clone()))
                .max()
        };
        for candidate in &all {
            // The newest good archive of each account, class and home is kept, and the newest
            // verified full one.
            prop_assert_eq!(newest(&all, candidate, false), newest(&kept, candidate, false));
            if candidate.class == ArchiveClass::Full {
                prop_assert_eq!(newest(&all, candidate, true), newest(&kept, candidate, true));
            }
            let same = |c: &&RetentionCandidate| key(c) == key(candidate) && c.is_eligible_for_rules(&now());
            let had = all.iter().filter(same).count();
            let has = kept.iter().filter(same).count();
            prop_assert!(has >= had.min(rules.last as usize));
            let days = |set: &[RetentionCandidate]| {
                let mut days: Vec<_> = set.iter().filter(same).map(|c| zone.at(&c.made_at.unwrap()).date_naive()).collect();
                days.sort();
                days.dedup();
                days.len()
            };
            prop_assert!(days(&kept) >= days(&all).min(rules.daily as usize));
        }
        // Idempotent: applied to the kept archives, the rules drop nothing.
        let again = plan_retention(&kept, &rules, &now(), zone);
        prop_assert_eq!(again.drop, vec![]);
    }
}

#[test]
fn the_archives_to_read_are_found_in_linear_time() {
    let first = at("2026-01-01T00:00:00Z");
    let decisions = (0..60_000).map(|minute| {
        let time = (first + Duration::minutes(minute)).to_rfc3339();
        to_decision(&archive_made_at(&time), "")
    });
    let mut keep: Vec<_> = decisions.collect();
    let drop = keep.split_off(59_000);
    let plan = RetentionPlan { keep, drop };
    // Quadratic time would be minutes.
    let names = list_archives_to_verify(&plan, &now());
    assert_eq!(names, [plan.keep[58_999].candidate.archive.clone()]);
}
