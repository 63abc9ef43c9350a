//! `usage --window` shows the conversations that used a weekly window, a current or an earlier one.

use crate::support::conversations::{Conversation, id};
use crate::support::env::TestEnv;
use crate::support::usage_lines::{Tokens, at, context, conversation, line, store, sum, usage};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

const A: Tokens = [1000, 0, 100, 0];

/// Returns a token count, with the use of the window that ends at `resets_at`.
fn count(when: DateTime<Utc>, total: Tokens, used: f64, resets_at: &str) -> String {
    let resets_at: DateTime<Utc> = resets_at.parse().unwrap();
    let limits = json!({"limit_id": "codex", "primary": null, "secondary": {"used_percent": used,
        "window_minutes": 10080, "resets_at": resets_at.timestamp()}});
    let info = json!({"total_token_usage": usage(total), "last_token_usage": usage(A)});
    let payload = format!(r#"{{"type":"token_count","info":{info},"rate_limits":{limits}}}"#);
    line(when, "event_msg", &payload)
}

/// Creates two conversations, each in another window.
pub(crate) fn world() -> TestEnv {
    let env = TestEnv::new();
    for (number, days, resets_at) in [
        (1, 7, "2026-11-17T06:00:00Z"),
        (2, 0, "2026-11-24T06:00:00Z"),
    ] {
        let start = at(0) - TimeDelta::days(days);
        let hour = |n: i64| start + TimeDelta::hours(n);
        let both = sum(A, A);
        let lines = [
            context(hour(0), "gpt-5"),
            count(hour(0), A, 10.0, resets_at),
            count(hour(1), both, 15.0, resets_at),
            count(hour(2), sum(both, A), 20.0, resets_at),
        ];
        let made = Conversation {
            account: "acct-alice".into(),
            ..conversation(number)
        };
        store(&env, &made, &lines);
    }
    let account = json!({"email": "alice@x.com", "account_id": "acct-alice"});
    let known = json!({"schema": 1, "accounts": [account]});
    env.write("home/.codex-manager/cooldown.json", known.to_string());
    env
}

fn window(env: &TestEnv, args: &[&str]) -> Value {
    let all = [&["usage", "--window", "alice@x.com", "--json"], args].concat();
    env.run(all).code(0).json()
}

fn conversations(window: &Value) -> Vec<&str> {
    let rows = window["rows"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["kind"] == "conversation");
    rows.map(|row| row["key"].as_str().unwrap()).collect()
}

#[test]
fn a_past_window_is_selected_by_a_time_in_it() {
    let env = world();
    let now = window(&env, &[]);
    assert_eq!(conversations(&now), [id(2)]);
    assert_eq!(now["window"]["start_at"], "2026-11-17T06:00:00+00:00");
    assert_eq!(now["used_percent"], 20.0);
    assert_eq!(now["unattributed_percent"], 0.0);
    for at in [
        "2026-11-12",
        "2026-11-16",
        "8d",
        "2026-11-10",
        "2026-11-11T01:00:00Z",
    ] {
        let past = window(&env, &["--at", at]);
        assert_eq!(conversations(&past), [id(1)], "{at}");
        assert_eq!(
            past["window"]["resets_at"], "2026-11-17T06:00:00+00:00",
            "{at}"
        );
        assert_eq!(past["used_percent"], 20.0, "{at}");
        assert_eq!(past["forecast"]["exhausted_at"], Value::Null, "{at}");
    }
    // A date means the end of that day, so it names the window that began on it.
    for at in ["2026-11-17", "2026-11-20", "1h"] {
        assert_eq!(window(&env, &["--at", at]), now, "{at}");
    }
    let text = env
        .run(["usage", "--window", "alice@x.com", "--at", "8d"])
        .code(0);
    assert!(text.stdout.contains("it ended Tue 17 Nov 06:00"), "{text}");
}

#[test]
fn each_breakdown_is_a_separate_table_that_adds_up_to_100_percent() {
    let env = world();
    let run = env.run(["usage", "--window", "alice@x.com"]).code(0);
    let tables: Vec<_> = run.stdout.split("\n\n").skip(1).collect();
    for (table, head) in tables.iter().zip(["CONVERSATION", "PROJECT", "MODEL"]) {
        let mut lines = table.lines();
        let heads = lines.next().unwrap_or_default();
        assert!(heads.starts_with("SHARE") && heads.contains(head), "{run}");
        let shares = lines.filter_map(|line| line.split_once(" %")?.0.trim().parse::<u32>().ok());
        assert_eq!(shares.sum::<u32>(), 100, "{run}");
    }
    assert_eq!(tables.len(), 3, "{run}");
}

#[test]
fn on_a_narrow_terminal_the_name_of_a_part_stands_above_its_figures() {
    let env = world();
    let text = crate::tables::shown(&env, &["usage", "--window", "alice@x.com"], 40);
    let lines: Vec<_> = text.lines().collect();
    let heading = lines
        .iter()
        .position(|line| *line == "gpt-5")
        .expect("a model");
    assert!(lines[heading + 1].starts_with("  SHARE"), "{text}");
}

#[test]
fn an_html_page_shows_a_chart_of_a_window_and_its_breakdowns() {
    let env = world();
    let path = env.path("window.html");
    let args = [
        "usage",
        "--window",
        "alice@x.com",
        "--html",
        path.to_str().unwrap(),
    ];
    let _ = env.run(args).code(0);
    let page = std::fs::read_to_string(&path).unwrap();
    let area = page.split("<path class=\"a0\"").nth(1).unwrap_or_default();
    assert!(area.contains(&id(2)[..13]), "{page}");
    assert!(page.contains("class=\"pace\""), "{page}");
    for part in [
        "<dd>20 %</dd>",
        "<h2>Conversations</h2>",
        "<h2>Projects</h2>",
        "<h2>Models</h2>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn an_unknown_window_is_an_error_not_an_empty_report() {
    let env = world();
    let run = |at: &str| env.run(["usage", "--window", "alice@x.com", "--at", at]);
    let unknown = run("2026-10-01").code(1);
    assert!(
        unknown
            .stderr
            .contains("the weekly window of alice@x.com at Thu 1 Oct"),
        "{unknown}"
    );
    let future = run("2027-01-01").code(4);
    assert!(future.stderr.contains("--at is in the future"), "{future}");
    assert!(run("soon").code(4).stderr.contains("not a time"));
}
