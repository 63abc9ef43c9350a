//! Spending limits that are reached although the windows have quota left.

use crate::cooldown::{entry, write_cooldown};
use crate::support::env::{Run, TestEnv};
use crate::support::fake_codex::{FakeCodex, rate_limits_read};
use crate::support::lab::Lab;
use crate::support::mock_backend::SpendControl;
use crate::support::sign_in::{SignIn, unix_now, write_auth};
use serde_json::{Value, json};

fn rfc3339(unix_seconds: i64) -> String {
    let at = chrono::DateTime::from_timestamp(unix_seconds, 0).expect("a time");
    at.format("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

fn only_account(run: &Run) -> Value {
    let output = run.json();
    let accounts = output["accounts"].as_array().expect("accounts");
    assert_eq!(accounts.len(), 1, "{run}");
    accounts[0].clone()
}

#[test]
fn status_cooldown_list_current_and_recommend_show_a_spend_limit_until_it_is_raised() {
    let Some(lab) = Lab::new() else { return };
    let reset = unix_now() + 9 * 86_400;
    lab.backend.account("acct-alice").set(|alice| {
        alice.spend_control = Some(SpendControl {
            reached: true,
            individual: Some((0, reset)),
        });
        alice.reached_type = Some("workspace_member_usage_limit_reached");
    });
    let _ = lab.manager(["profile", "save", "work"]).code(0);
    let cap = json!({"kind": "spend-limit", "resets_at": rfc3339(reset)});

    let output = lab.manager(["status", "--json"]).code(0).json();
    assert_eq!(output["spend_cap"], cap);
    assert_eq!(output["next_available_at"], rfc3339(reset));
    let text = lab.manager(["status"]).code(0).stdout;
    assert!(text.contains("\nspend limit reached, resets "), "{text}");
    assert!(text.contains("\navailable again "), "{text}");

    let account = only_account(&lab.manager(["cooldown", "--json"]).code(0));
    assert_eq!(account["state"], "cooldown");
    assert_eq!(account["next_available_at"], rfc3339(reset));
    assert_eq!(account["spend_cap"], cap);
    let list = lab.manager(["list", "--json"]).code(0).json();
    assert_eq!(list["profiles"][0]["state"], "cooldown");
    assert_eq!(list["profiles"][0]["spend_cap"], cap);
    let current = lab.manager(["current", "--json"]).code(0).json();
    assert_eq!(current["spend_cap"], cap);
    let _ = lab.manager(["recommend", "--ready-only"]).code(5);
    let output = lab.manager(["recommend", "--json"]).code(0).json();
    let reason = output["recommended"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("spend limit reached until "), "{reason}");

    // Without an answer, the recorded cap is used, although no window is exhausted.
    let fail = |status| {
        let alice = lab.backend.account("acct-alice");
        alice.set(|alice| alice.usage_status = status);
    };
    fail(Some(503));
    let output = lab.manager(["status", "--json"]).code(6).json();
    assert_eq!(output["spend_cap"], cap);
    fail(None);

    // The administrator raises the limit.
    lab.backend.account("acct-alice").set(|alice| {
        alice.spend_control = Some(SpendControl {
            reached: false,
            individual: Some((40, reset)),
        });
        alice.reached_type = None;
    });
    let _ = lab.manager(["status"]).code(0);
    let account = only_account(&lab.manager(["cooldown", "--json"]).code(0));
    assert_eq!(account["state"], "ready");
    assert_eq!(account["spend_cap"], Value::Null);
}

#[test]
fn a_spend_cap_without_a_reset_has_no_known_end() {
    let Some(lab) = Lab::new() else { return };
    let cases = [
        (false, Some("workspace_owner_credits_depleted"), "credits"),
        (false, Some("workspace_member_credits_depleted"), "credits"),
        (
            false,
            Some("workspace_owner_usage_limit_reached"),
            "spend-limit",
        ),
        (true, None, "spend-limit"),
    ];
    for (reached, reached_type, kind) in cases {
        lab.backend.account("acct-alice").set(|alice| {
            alice.spend_control = Some(SpendControl {
                reached,
                individual: None,
            });
            alice.reached_type = reached_type;
        });
        let output = lab.manager(["status", "--json"]).code(0).json();
        let cap = json!({"kind": kind, "resets_at": null});
        assert_eq!(output["spend_cap"], cap, "{reached_type:?}");
        assert_eq!(output["next_available_at"], Value::Null);
        let account = only_account(&lab.manager(["cooldown", "--json"]).code(0));
        assert_eq!(account["state"], "cooldown");
        assert_eq!(account["next_available_at"], Value::Null);
        let _ = lab.manager(["recommend", "--ready-only"]).code(5);
    }
    let text = lab.manager(["status"]).code(0).stdout;
    assert!(
        text.contains("\nspend limit reached; no reset known\n"),
        "{text}"
    );
}

/// Creates Alice's home with an old app-server that reports these limits.
fn with_old_server(limits: &Value) -> (TestEnv, FakeCodex) {
    with_server(&json!({"rateLimits": limits}))
}

fn with_server(answer: &Value) -> (TestEnv, FakeCodex) {
    let mut env = TestEnv::new();
    let fake = FakeCodex::new(&env.path("bin")).answer("account/rateLimits/read", answer);
    env.set("PATH", format!("{}:/usr/bin:/bin", fake.dir().display()));
    write_auth(&env.codex_home(), &SignIn::alice());
    (env, fake)
}

#[test]
fn a_window_reported_as_reached_by_an_old_server_is_exhausted() {
    let reset = chrono::DateTime::parse_from_rfc3339("2026-11-24T15:55:00Z").expect("a time");
    let weekly = json!({
        "usedPercent": 99, "windowDurationMins": 10_080, "resetsAt": reset.timestamp(),
    });
    let (env, _fake) = with_old_server(&json!({
        "primary": weekly, "rateLimitReachedType": "rate_limit_reached",
    }));
    let output = env.run(["status", "--json"]).code(0).json();
    assert_eq!(output["next_available_at"], "2026-11-24T15:55:00+00:00");
    assert_eq!(output["spend_cap"], Value::Null);
    let account = only_account(&env.run(["cooldown", "--json"]).code(0));
    assert_eq!(account["state"], "cooldown");
}

#[test]
fn resets_in_seconds_of_an_old_server_is_converted_to_a_time() {
    let (env, _fake) = with_old_server(&json!({
        "primary": {"usedPercent": 12.5, "windowDurationMins": 300, "resetsInSeconds": 3_600},
        "secondary": {"usedPercent": 40, "windowDurationMins": 10_080, "resetsInSeconds": -1},
    }));
    let run = env.run(["status", "--json"]).code(0);
    let windows = &run.json()["windows"];
    assert_eq!(windows.as_array().map(Vec::len), Some(1), "{run}");
    assert_eq!(windows[0]["resets_at"], "2026-11-20T13:00:00+00:00");
    assert!(
        run.stderr.contains("ignored 1 window from the server"),
        "{run}"
    );
}

#[test]
fn a_spend_cap_of_another_limit_is_ignored() {
    let mut answer = rate_limits_read("acct-alice", 12, 33);
    answer["rateLimitsByLimitId"]["codex_other"] =
        json!({"limitId": "codex_other", "spendControlReached": true});
    let (env, _fake) = with_server(&answer);
    let output = env.run(["status", "--json"]).code(0).json();
    assert_eq!(output["spend_cap"], Value::Null);
    assert_eq!(output["next_available_at"], Value::Null);
}

#[test]
fn recorded_spend_caps_are_shown_and_kept_when_cooldown_json_is_written() {
    let env = TestEnv::new();
    let account = |email: &str, cap: Option<Value>| {
        let mut account = entry(email, 12.0, "2026-11-21T12:00:00Z");
        if let Some(cap) = cap {
            account["observation"]["spend_cap"] = cap;
        }
        account
    };
    let limit = json!({"kind": "spend-limit", "resets_at": "2026-12-01T00:00:00Z"});
    write_cooldown(
        &env,
        &[
            account("credits@x.com", Some(json!({"kind": "credits"}))),
            account("limit@x.com", Some(limit)),
            account("free@x.com", None),
        ],
    );
    insta::assert_snapshot!(env.run(["cooldown"]).code(0), @"
    exit 0
    --- stdout
    ACCOUNT        STATE     WEEKLY LEFT     NEXT       AT                NOTE                 SEEN
    free@x.com     ready     ███████░  88 %  1 d        Sat 21 Nov 12:00                       live, 1 h ago
    limit@x.com    cooldown  ███████░  88 %  10 d 12 h  Tue 1 Dec 00:00   spend limit reached  live, 1 h ago
    credits@x.com  cooldown  ███████░  88 %  unknown                      credits used up      live, 1 h ago
    --- stderr
    ");
    insta::assert_snapshot!(env.run(["cooldown", "--timeline"]).code(0), @"
    exit 0
    --- stdout
                      Sat     Sun     Mon     Tue     Wed     Thu     Fri     Sat
    free@x.com     ───────┤························································
    limit@x.com    ████████████████████████████████████████████████████████████████
    credits@x.com  ████████████████████████████████████████████████████████████████
                   █ cooldown  ─ window running  ┤ reset  · ready  ? unknown
    --- stderr
    ");
    insta::assert_snapshot!(env.run(["recommend", "--explain"]).code(0), @"
    exit 0
    --- stdout
     1. free@x.com     ready, never used; 88 % of the weekly quota left (live, 1 h ago)
     2. limit@x.com    spend limit reached until Tue 1 Dec 00:00, in 10 d 12 h (live, 1 h ago)
     3. credits@x.com  credits used up; no reset known (live, 1 h ago)
    --- stderr
    ");

    let hold = ["cooldown", "--set", "free@x.com", "--until", "+3d", "-q"];
    let _ = env.run(hold).code(0);
    let path = env.manager_home().join("cooldown.json");
    let written = std::fs::read_to_string(path).expect("cooldown.json");
    assert_eq!(written.matches("spend_cap").count(), 2, "{written}");
    let document: Value = serde_json::from_str(&written).expect("JSON");
    assert_eq!(document["schema"], 1);
}
