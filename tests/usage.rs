//! `usage` counts every request once, even if Codex writes counts repeatedly.

use crate::support::conversations::{id, write};
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::lab::Lab;
use crate::support::usage_lines::{
    Tokens, at, context, conversation, count, line, record, store, sum, text_of, tokens,
};
use crate::support::variables;
use chrono::TimeDelta;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;

fn rows(env: &TestEnv, args: &[&str]) -> Vec<(String, Tokens)> {
    let json = env
        .run([&["usage", "--json"], args].concat())
        .code(0)
        .json();
    let rows = json["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["key"].as_str().unwrap().to_owned(), tokens(row)))
        .collect()
}

#[test]
fn every_request_counts_once() {
    let env = TestEnv::new();
    let (a, b) = ([100, 20, 10, 5], [200, 100, 20, 0]);
    let both = sum(a, b);
    let mut lines = vec![
        context(at(0), "gpt-5"),
        count(at(1), a, a, None),
        // Codex writes a sum again when only the quota changed.
        count(at(2), a, a, Some(1.0)),
        count(at(3), both, b, None),
        // An estimate of the context, which no request used.
        count(at(4), [0; 4], [0; 4], None),
        // The sum starts again at zero.
        count(at(5), a, a, None),
        // The event of one request is missing.
        count(at(6), sum(both, a), a, None),
    ];
    lines.push(line(
        at(7),
        "event_msg",
        r#"{"type":"token_count","info":null}"#,
    ));
    store(&env, &conversation(1), &lines);
    let expected = sum(sum(both, a), both);
    assert_eq!(rows(&env, &["sessions"]), [(id(1), expected)]);
    assert_eq!(rows(&env, &["models"]), [("gpt-5".to_owned(), expected)]);
    assert_eq!(
        rows(&env, &["daily"]),
        [("2026-11-19".to_owned(), expected)]
    );
    assert_eq!(
        rows(&env, &["weekly"]),
        [("2026-11-16".to_owned(), expected)]
    );
    assert_eq!(rows(&env, &["monthly"]), [("2026-11".to_owned(), expected)]);
    assert_eq!(
        rows(&env, &["projects"]),
        [("/home/alice/proj".to_owned(), expected)]
    );
}

#[test]
fn a_fork_counts_only_its_own_requests() {
    let env = TestEnv::new();
    let (a, b) = ([100, 20, 10, 5], [200, 100, 20, 0]);
    let original = vec![
        context(at(0), "gpt-5"),
        count(at(1), a, a, None),
        count(at(2), sum(a, b), b, None),
        // It continues with the same tokens as the fork.
        count(at(30), sum(sum(a, b), b), b, None),
    ];
    store(&env, &conversation(1), &original);
    // Older versions copied the counts, with the time of the copy.
    let fork_meta = |number: u32, more: Value| {
        let mut meta = json!({"id": id(number), "timestamp": at(20), "forked_from_id": id(1), "cwd": "/home/alice/proj"});
        meta.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        line(at(20), "session_meta", &meta.to_string())
    };
    let copy = at(20) + TimeDelta::milliseconds(15);
    let fork = [
        fork_meta(2, json!({})),
        context(copy, "gpt-5"),
        count(copy, a, a, None),
        count(copy, sum(a, b), b, None),
        count(at(22), sum(sum(a, b), b), b, None),
    ];
    // Newer versions refer to the original: the sum includes it.
    let base = json!({"history_base": {"thread_id": id(1)}});
    let by_reference = [
        fork_meta(3, base),
        context(at(21), "gpt-5"),
        record(at(25), &id(3), a, sum(sum(a, b), a)),
        count(at(25), sum(sum(a, b), a), a, None),
    ];
    for (number, lines) in [(2, &fork[..]), (3, &by_reference)] {
        let path = write(&env, &conversation(number));
        fs::write(path, lines.join("\n") + "\n").unwrap();
    }
    let mut found = rows(&env, &["sessions"]);
    found.sort();
    let whole = sum(sum(a, b), b);
    assert_eq!(found, [(id(1), whole), (id(2), b), (id(3), a)]);
}

#[test]
fn no_request_counts_twice_after_growth_a_rebuild_or_compression() {
    let mut env = TestEnv::new();
    let (a, b) = ([100, 20, 10, 5], [200, 100, 20, 0]);
    let first = [context(at(0), "gpt-5"), count(at(1), a, a, None)];
    let path = store(&env, &conversation(1), &first);
    assert_eq!(rows(&env, &["models"]), [("gpt-5".to_owned(), a)]);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    writeln!(file, "{}", count(at(2), a, a, None)).unwrap();
    writeln!(file, "{}", count(at(3), sum(a, b), b, None)).unwrap();
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:20:00Z");
    assert_eq!(rows(&env, &["models"]), [("gpt-5".to_owned(), sum(a, b))]);
    // A rebuilt index and a compressed rollout have the same figures.
    let _ = env.run(["sessions", "index", "--rebuild"]).code(0);
    assert_eq!(rows(&env, &["models"]), [("gpt-5".to_owned(), sum(a, b))]);
    let plain = fs::read(&path).unwrap();
    fs::write(
        path.with_extension("jsonl.zst"),
        zstd::encode_all(&*plain, 3).unwrap(),
    )
    .unwrap();
    fs::remove_file(&path).unwrap();
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:40:00Z");
    assert_eq!(rows(&env, &["models"]), [("gpt-5".to_owned(), sum(a, b))]);
}

#[test]
fn filters_select_folders_and_times() {
    let env = TestEnv::new();
    let a = [100, 20, 10, 5];
    for (number, cwd, minutes) in [(1, "/code/site", 0), (2, "/code/app", 24 * 60)] {
        let lines = [
            context(at(minutes), "gpt-5"),
            count(at(minutes), a, a, None),
        ];
        let mut made = conversation(number);
        cwd.clone_into(&mut made.cwd);
        store(&env, &made, &lines);
    }
    let day = |day: &str| (day.to_owned(), a);
    assert_eq!(
        rows(&env, &["daily"]),
        [day("2026-11-19"), day("2026-11-20")]
    );
    let site = rows(&env, &["daily", "--project", "/code/site"]);
    assert_eq!(site, [day("2026-11-19")]);
    assert_eq!(rows(&env, &["--since", "2026-11-20"]), [day("2026-11-20")]);
    assert_eq!(rows(&env, &["--until", "2026-11-19"]), [day("2026-11-19")]);
    assert_eq!(rows(&env, &["--since", "2027-01-01"]), []);
}

#[test]
fn costs_are_estimates_and_unknown_models_are_named() {
    let env = TestEnv::new();
    let a = [1_000_000, 400_000, 100_000, 0];
    let lines = [
        context(at(0), "gpt-5"),
        count(at(1), a, a, None),
        context(at(2), "secret-9"),
        count(at(3), sum(a, a), a, None),
    ];
    store(&env, &conversation(1), &lines);
    let cost = |args: &[&str]| {
        let json = env
            .run([&["usage", "--json"], args].concat())
            .code(0)
            .json();
        (
            json["totals"]["cost_usd"].as_f64().unwrap(),
            json["unknown_models"].clone(),
        )
    };
    // 0.6 M × 1.25 + 0.4 M × 0.125 + 0.1 M × 10
    let (known, unknown) = cost(&[]);
    assert!((known - 1.8).abs() < 1e-9, "{known}");
    assert_eq!(unknown, json!(["secret-9"]));
    let shown = env.run(["usage"]).code(0).stdout;
    assert!(shown.contains("; ≥$1.80 at API prices of "), "{shown}");
    let prices = env.path("prices.toml");
    fs::write(&prices, "[models.\"secret\"]\ninput = 1\noutput = 10\n").unwrap();
    let (all, unknown) = cost(&["--prices", prices.to_str().unwrap()]);
    assert!((all - 3.8).abs() < 1e-9, "{all}");
    assert_eq!(unknown, json!([]));
    let run = env.run(["usage"]).code(0);
    assert!(run.stdout.contains("API prices"), "{run}");
    assert!(run.stderr.contains("secret-9"), "{run}");
    fs::write(&prices, "[models.x]\ninput = -1\noutput = 1\n").unwrap();
    let run = env
        .run(["usage", "--prices", prices.to_str().unwrap()])
        .code(4);
    assert!(run.stderr.contains("prices.toml"), "{run}");
    // Without any price there is no estimate.
    store(&env, &conversation(1), &lines[2..]);
    let run = env.run(["usage"]).code(0);
    assert!(run.stdout.ends_with("100.0k output\n"), "{run}");
}

#[test]
fn the_usage_of_real_codex_equals_the_answers_of_its_server() {
    let Some(lab) = Lab::new() else {
        return;
    };
    let first = lab.say("hello");
    let _ = lab.resume(&lab.home(), &first, "again").expect_success();
    let _ = lab.say("another");
    let count = || {
        let json = lab.manager(["usage", "sessions", "--json"]).code(0).json();
        let rows = json["rows"].as_array().unwrap().iter();
        let requests = rows.map(|row| row["requests"].as_u64().unwrap());
        let mut requests: Vec<_> = requests.collect();
        requests.sort_unstable();
        (requests, tokens(&json["totals"]))
    };
    // The mock answers every request with the same numbers.
    let (requests, total) = count();
    assert_eq!(requests, [1, 2]);
    let one: Tokens = total.map(|part| part / 3);
    assert!(one[0] > 0 && one[2] > 0, "{total:?}");
    assert_eq!(one.map(|part| part * 3), total);
    let forked = ["exec", "fork", "--skip-git-repo-check", &first, "fork"];
    let forked = lab.codex.run(&lab.home(), &lab.backend, &forked);
    let _ = forked.expect_success();
    let (requests, total) = count();
    assert_eq!(requests, [1, 1, 2]);
    assert_eq!(one.map(|part| part * 4), total);
    // Codex chose the model.
    let shown = lab.manager(["usage"]).code(0);
    assert!(!shown.stderr.contains("no price is known"), "{shown}");
    let window = lab.manager(["usage", "--window", "--json"]).code(0).json();
    assert!(window["used_percent"].as_f64().unwrap() > 0.0, "{window}");
    assert_eq!(window["account"], "alice@example.com");
}

/// The default number of random conversations.
const SEQUENCES: u64 = 1000;

/// Writes a random conversation. Returns the tokens of its requests.
fn random_lines(dice: &mut Dice, number: u32) -> (Vec<String>, Tokens) {
    let has_records = dice.below(2) == 0;
    let has_last = dice.below(4) > 0;
    let count = |minute, total, last| count(at(minute), total, has_last.then_some(last), None);
    let mut minute = i64::try_from(dice.below(3000)).unwrap();
    let mut lines = vec![context(at(minute), "gpt-5")];
    let (mut used, mut total, mut last) = ([0; 4], [0; 4], [0; 4]);
    for _ in 0..dice.below(12) {
        minute += 1;
        match dice.below(8) {
            0 => lines.push(count(minute, total, last)),
            1 => lines.push(context(at(minute), "gpt-5-codex")),
            2 if !has_records => {
                // After an estimate of the context the sum starts at zero.
                (total, last) = ([0; 4], [0; 4]);
                lines.push(count(minute, total, last));
            }
            _ => {
                let input = 1 + dice.below(10_000);
                let output = 1 + dice.below(1000);
                last = [input, dice.below(input), output, dice.below(output)];
                (used, total) = (sum(used, last), sum(total, last));
                if has_records {
                    lines.push(record(at(minute), &id(number), last, total));
                }
                if dice.below(6) > 0 || !has_records {
                    lines.push(count(minute, total, last));
                }
            }
        }
    }
    (lines, used)
}

#[test]
fn the_usage_of_random_conversations_equals_their_token_counts() {
    let sequences = u32::try_from(variables::sequences(SEQUENCES)).unwrap();
    let mut dice = Dice::new();
    let env = TestEnv::new();
    let mut expected = BTreeMap::new();
    let folder = env.codex_home().join("sessions/2026/11/20");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..sequences {
        let (lines, used) = random_lines(&mut dice, number);
        let made = conversation(number);
        let path = env.codex_home().join(made.relative());
        fs::write(path, text_of(&made, &lines)).unwrap();
        if used != [0; 4] {
            expected.insert(id(number), used);
        }
    }
    let found: BTreeMap<_, _> = rows(&env, &["sessions"]).into_iter().collect();
    let wrong = expected
        .iter()
        .find(|(id, used)| found.get(*id) != Some(*used));
    assert_eq!(
        wrong,
        None,
        "counted: {:?}",
        wrong.map(|(id, _)| found.get(id))
    );
    assert_eq!(found.len(), expected.len());
}
