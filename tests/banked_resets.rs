//! Banked resets of the weekly window: shown, recorded, announced before they expire, and never spent.

use crate::cooldown::{entry, write_cooldown};
use crate::support::env::TestEnv;
use crate::support::fake_codex::{FakeCodex, rate_limits_read};
use crate::support::lab::Lab;
use crate::support::mock_backend::RESET_CREDITS;
use crate::support::sign_in::{SignIn, unix_now, write_auth};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::path::Path;

const DAY: i64 = 86_400;

fn at(unix_seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(unix_seconds, 0).expect("a time")
}

/// Returns a banked reset on the wire of the server.
fn credit(status: &str, expires_at: Option<i64>) -> Value {
    json!({
        "id": "reset-1",
        "reset_type": "weekly",
        "status": status,
        "granted_at": "2026-11-01T00:00:00Z",
        "expires_at": expires_at.map(|seconds| at(seconds).to_rfc3339()),
        "title": null,
        "description": null,
    })
}

#[test]
fn all_commands_show_the_banked_resets_that_one_query_found() {
    let Some(lab) = Lab::new() else { return };
    let (soon, later) = (unix_now() + 2 * DAY, unix_now() + 9 * DAY);
    lab.backend.account("acct-alice").set(|alice| {
        let credits = [
            credit("available", Some(later)),
            credit("redeemed", Some(soon)),
            credit("available", Some(soon)),
        ];
        let answer = json!({"available_count": 2, "credits": credits});
        alice.answers.insert(RESET_CREDITS, answer);
    });
    let _ = lab.manager(["profile", "save", "work"]).code(0);

    let output = lab.manager(["status", "--json"]).code(0).json();
    let time = |seconds| at(seconds).format("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    let resets = json!({"available": 2, "expires_at": [time(soon), time(later)]});
    assert_eq!(output["reset_credits"], resets);
    let day = at(soon).format("%a %-d %b").to_string();
    let shown = format!("2 resets, one until {day}");
    let text = lab.manager(["status"]).code(0).stdout;
    assert!(text.contains(&format!("\nbanked  {shown}")), "{text}");
    let paths = lab.backend.requests().into_iter().map(|sent| sent.path);
    let spent: Vec<_> = paths.filter(|path| path.contains("consume")).collect();
    assert_eq!(spent, [] as [String; 0]);

    lab.backend.forget_requests();
    for (args, key) in [
        (&["cooldown"][..], "/accounts/0"),
        (&["accounts"], "/accounts/0"),
        (&["list"], "/profiles/0"),
        (&["status", "--dry-run"], ""),
        (&["current"], ""),
        (&["recommend"], "/recommended"),
    ] {
        let output = lab.manager(args.iter().chain(&["--json"])).code(0).json();
        let account = output.pointer(key).expect("the account");
        assert_eq!(account["reset_credits"], resets, "{args:?}");
    }
    for args in [
        &["cooldown"][..],
        &["accounts"],
        &["list"],
        &["current"],
        &["recommend", "--explain"],
    ] {
        let run = lab.manager(args).code(0);
        assert!(run.stdout.contains(&shown), "{args:?}: {run}");
    }
    let format = "{resets}|{resets_until}|{prompt}";
    let filled = lab.manager(["recommend", "--format", format]).code(0);
    let expected = format!("2|{day}|work 9 %, reset until {day}\n");
    assert_eq!(filled.stdout, expected);
    assert_eq!(lab.backend.requests(), []);
}

#[test]
fn answers_with_missing_malformed_or_expired_resets_show_only_what_is_known() {
    let Some(lab) = Lab::new() else { return };
    let (past, soon) = (unix_now() - DAY, unix_now() + 2 * DAY);
    let day = at(soon).format("%a %-d %b").to_string();
    let time = at(soon).format("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    let list =
        |count: i64, credits: &[Value]| json!({"available_count": count, "credits": credits});
    let with_number = |seconds: i64| {
        let mut malformed = credit("available", None);
        malformed["expires_at"] = json!(seconds);
        malformed
    };
    let count = |available: u32, expires_at: &[&str]| json!({"available": available, "expires_at": expires_at});
    let available = |seconds| credit("available", Some(seconds));
    let cases = [
        // The list, the number in the answer about usage, the JSON, the text.
        (None, None, Value::Null, None),
        (Some(list(0, &[])), None, count(0, &[]), None),
        // Without a list, only the number is known.
        (None, Some(2), count(2, &[]), Some("2 resets".to_owned())),
        (
            Some(list(1, &[with_number(soon)])),
            Some(1),
            count(1, &[]),
            Some("1 reset".to_owned()),
        ),
        (Some(json!("malformed")), None, Value::Null, None),
        (Some(list(-1, &[])), None, Value::Null, None),
        (
            Some(list(1, &[available(soon)])),
            None,
            count(1, &[&time]),
            Some(format!("1 reset until {day}")),
        ),
        (
            Some(list(
                3,
                &[available(soon), available(soon), credit("available", None)],
            )),
            None,
            count(3, &[&time, &time]),
            Some(format!("3 resets, 2 until {day}")),
        ),
        // The server counts one that has expired, or lists one that it no longer counts.
        (Some(list(1, &[available(past)])), None, count(0, &[]), None),
        (
            Some(list(2, &[available(past), available(soon)])),
            None,
            count(1, &[&time]),
            Some(format!("1 reset until {day}")),
        ),
        (
            Some(list(1, &[available(past), available(soon)])),
            None,
            count(1, &[&time]),
            Some(format!("1 reset until {day}")),
        ),
    ];
    for (list, number, expected, text) in cases {
        lab.backend.account("acct-alice").set(|alice| {
            alice.answers.clear();
            alice
                .answers
                .extend(list.clone().map(|list| (RESET_CREDITS, list)));
            alice.reset_count = number.map(|number| json!({"available_count": number}));
        });
        let what = format!("{list:?}, {number:?}");
        let output = lab.manager(["status", "--json"]).code(0).json();
        assert_eq!(output["reset_credits"], expected, "{what}");
        let shown = lab.manager(["status", "--dry-run"]).code(0).stdout;
        let shown = shown.lines().find_map(|line| line.strip_prefix("banked  "));
        assert_eq!(shown, text.as_deref(), "{what}");
    }
}

/// Returns an account at 40 % with two banked resets, which expire at these times of November 2026.
fn with_resets(email: &str, expires_at: [&str; 2]) -> Value {
    let mut known = entry(email, 40.0, "2026-11-24T15:55:00Z");
    let times = expires_at.map(|day| format!("2026-11-{day}:00Z"));
    known["observation"]["reset_credits"] = json!({"available": 2, "expires_at": times});
    known
}

fn fill(env: &TestEnv, format: &str) -> String {
    let run = env.run(["recommend", "--format", format]).code(0);
    run.stdout.trim_end().to_owned()
}

#[test]
fn a_reset_is_announced_three_days_before_it_expires_and_then_forgotten() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::new("acct-a", "a@x.com"));
    let doctor = || {
        let output = env.run(["doctor", "--json"]).json();
        let checks = output["checks"].as_array().expect("checks").clone();
        let found = checks.into_iter().find(|c| c["id"] == "manager.resets");
        found.map(|check| {
            assert_eq!(check["status"], "warn");
            check["message"].as_str().expect("a message").to_owned()
        })
    };
    // Now is Fri 20 Nov 12:00.
    write_cooldown(&env, &[with_resets("a@x.com", ["23T12:00", "28T00:00"])]);
    assert_eq!(fill(&env, "{prompt}"), "a@x.com 60 %");
    assert_eq!(fill(&env, "{resets}|{resets_until}"), "2|Mon 23 Nov");
    assert_eq!(doctor(), None);

    write_cooldown(&env, &[with_resets("a@x.com", ["23T11:59", "28T00:00"])]);
    assert_eq!(
        fill(&env, "{prompt}"),
        "a@x.com 60 %, reset until Mon 23 Nov"
    );
    let message = "a@x.com: 2 resets, one until Mon 23 Nov";
    assert_eq!(doctor().as_deref(), Some(message));

    write_cooldown(&env, &[with_resets("a@x.com", ["20T11:59", "28T00:00"])]);
    assert_eq!(
        fill(&env, "{resets}|{resets_until}|{prompt}"),
        "1|Sat 28 Nov|a@x.com 60 %"
    );
    assert_eq!(doctor(), None);
    write_cooldown(&env, &[with_resets("a@x.com", ["18T00:00", "20T12:00"])]);
    assert_eq!(
        fill(&env, "{resets}|{resets_until}|{prompt}"),
        "0||a@x.com 60 %"
    );
    let output = env.run(["cooldown", "--json"]).code(0).json();
    let none = json!({"available": 0, "expires_at": []});
    assert_eq!(output["accounts"][0]["reset_credits"], none);

    write_cooldown(&env, &[entry("a@x.com", 40.0, "2026-11-24T15:55:00Z")]);
    assert_eq!(
        fill(&env, "{resets}|{resets_until}|{prompt}"),
        "||a@x.com 60 %"
    );
}

#[test]
fn only_an_answer_of_codex_replaces_the_known_resets() {
    let mut env = TestEnv::new();
    let mut answer = rate_limits_read("acct-alice", 12, 33);
    let fake = FakeCodex::new(&env.path("bin")).answer("account/rateLimits/read", &answer);
    env.set("PATH", format!("{}:/usr/bin:/bin", fake.dir().display()));
    write_auth(&env.codex_home(), &SignIn::alice());
    write_cooldown(
        &env,
        &[with_resets("alice@example.com", ["23T11:59", "28T00:00"])],
    );

    env.write(
        "pasted.txt",
        "Weekly limit: 50% left (resets 15:55 on 24 Nov)\n",
    );
    let pasted = env.path("pasted.txt");
    let args = [
        "status",
        "--json",
        "--status-file",
        &pasted.to_string_lossy(),
    ];
    let output = env.run(args).code(0).json();
    assert_eq!(output["source"], "status-file");
    assert_eq!(output["reset_credits"]["available"], 2);
    assert_eq!(fill(&env, "{weekly_left} {resets}"), "50 2");

    // Codex 0.4x and servers without resets.
    let output = env.run(["status", "--json"]).code(0).json();
    assert_eq!(output["reset_credits"], Value::Null);
    assert_eq!(fill(&env, "[{resets}]"), "[]");

    answer["rateLimitResetCredits"] = json!({"availableCount": 1, "credits": null});
    let fake = fake.answer("account/rateLimits/read", &answer);
    let _ = env.run(["status"]).code(0);
    assert_eq!(fill(&env, "[{resets}]"), "[1]");

    // Not signed in, a method that this Codex does not know, and no answer in time.
    let method = "account/rateLimits/read";
    let mut fake = fake.error(method, -32_600, "codex account authentication required");
    let _ = env.run(["status"]).code(6);
    fake = fake.error(
        method,
        -32_600,
        "Invalid request: unknown variant `account/rateLimits/read`",
    );
    let _ = env.run(["status"]).code(6);
    let _fake = fake.silent_on(method);
    let output = env.run(["status", "--json"]).code(6).json();
    assert_eq!(output["reset_credits"]["available"], 1);
    assert_eq!(fill(&env, "[{resets}]"), "[1]");
}

#[test]
fn no_code_can_spend_a_reset() {
    fn check(folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                check(&path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                assert!(!text.contains("consume\""), "{}", path.display());
                assert!(!text.contains("ResetCredit/"), "{}", path.display());
            }
        }
    }
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
}
