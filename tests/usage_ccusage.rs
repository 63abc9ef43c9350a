//! Compares `usage` with ccusage: equal totals where its rules are correct, and an example of each difference.

use crate::support::conversations::{id, write};
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::lab::Lab;
use crate::support::shapes::{Exchange, ForkForm, Shaped};
use crate::support::tool_install::{installed_once, npm_install, tool_or_skip};
use crate::support::usage_lines::{
    Tokens, at, context, conversation, count, line, record, store, sum, tokens,
};
use chrono::TimeDelta;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The version of ccusage in the npm registry.
const VERSION: &str = "20.0.24";

const A: Tokens = [100, 20, 10, 5];
const B: Tokens = [200, 100, 20, 0];

/// Returns ccusage, installed once. Its npm package starts this binary.
fn ccusage() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let install = || {
        let arch = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "x64",
        };
        let package = format!("@ccusage/ccusage-linux-{arch}");
        let program = |prefix: &Path| {
            prefix
                .join("node_modules")
                .join(&package)
                .join("bin/ccusage")
        };
        let place = installed_once(
            &format!("ccusage-{VERSION}"),
            |prefix| program(prefix).is_file(),
            |prefix| {
                npm_install(prefix, &format!("{package}@{VERSION}"))?;
                // The npm launcher of ccusage also sets the mode.
                let executable = Permissions::from_mode(0o755);
                fs::set_permissions(program(prefix), executable).map_err(|e| e.to_string())
            },
        )?;
        Ok(program(&place))
    };
    tool_or_skip("ccusage", FOUND.get_or_init(install)).map(PathBuf::as_path)
}

/// Returns the totals of ccusage for a Codex home.
fn ccusage_totals(program: &Path, codex_home: &Path) -> Tokens {
    let user_home = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(["codex", "daily", "--json", "--offline", "--timezone", "UTC"])
        .env_clear()
        .env("HOME", user_home.path())
        .env("CODEX_HOME", codex_home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| json["totals"][key].as_u64().unwrap_or(0);
    // ccusage counts only uncached tokens as input.
    let cached = number("cacheReadTokens");
    [
        number("inputTokens") + cached,
        cached,
        number("outputTokens"),
        number("reasoningOutputTokens"),
    ]
}

fn manager_totals(env: &TestEnv) -> Tokens {
    tokens(&env.run(["usage", "--json"]).code(0).json()["totals"])
}

/// Conversations by number, each without its first line.
type Rollouts = Vec<(u32, Vec<String>)>;

/// Returns the totals of `usage` and those of ccusage.
fn both_totals(program: &Path, rollouts: &Rollouts) -> (Tokens, Tokens) {
    let env = TestEnv::new();
    for (number, lines) in rollouts {
        store(&env, &conversation(*number), lines);
    }
    (
        manager_totals(&env),
        ccusage_totals(program, &env.codex_home()),
    )
}

fn counted_twice() -> Vec<String> {
    vec![
        context(at(0), "gpt-5"),
        count(at(1), A, A, None),
        count(at(2), sum(A, B), B, None),
    ]
}

#[test]
fn totals_equal_ccusage_where_the_rules_agree() {
    let Some(program) = ccusage() else {
        return;
    };
    let estimate = [0; 4];
    let cases: [(&str, Vec<String>, Tokens); 4] = [
        ("two requests", counted_twice(), sum(A, B)),
        (
            "a sum again, when only the quota changed",
            vec![
                context(at(0), "gpt-5"),
                count(at(1), A, A, None),
                count(at(2), A, A, Some(3.0)),
                count(at(3), sum(A, B), B, None),
            ],
            sum(A, B),
        ),
        (
            "an estimate of the context, then the sum begins again",
            vec![
                context(at(0), "gpt-5"),
                count(at(1), A, A, None),
                count(at(2), estimate, estimate, None),
                count(at(3), B, B, None),
            ],
            sum(A, B),
        ),
        (
            "a record of each request besides",
            vec![
                context(at(0), "gpt-5"),
                record(at(1), &id(1), A, A),
                count(at(1), A, A, None),
            ],
            A,
        ),
    ];
    for (name, lines, expected) in cases {
        let (ours, theirs) = both_totals(program, &vec![(1, lines)]);
        assert_eq!((ours, theirs), (expected, expected), "{name}");
    }
    let mut dice = Dice::new();
    let mut expected = [0; 4];
    let mut rollouts = Vec::new();
    for number in 0..200 {
        let mut total = [0; 4];
        let mut lines = vec![context(at(0), "gpt-5")];
        for _ in 0..dice.below(20) {
            let (input, output) = (1 + dice.below(90_000), 1 + dice.below(3000));
            let last = [input, dice.below(input), output, dice.below(output)];
            total = sum(total, last);
            expected = sum(expected, last);
            let minute = i64::try_from(dice.below(20_000)).unwrap();
            let time = at(minute) + TimeDelta::milliseconds(i64::from(number));
            lines.push(count(time, total, last, Some(1.0)));
        }
        rollouts.push((number, lines));
    }
    let totals = both_totals(program, &rollouts);
    assert_eq!(totals, (expected, expected));
}

/// Returns the first line of a fork, which older versions of Codex followed by a copy of the original.
fn fork_head(number: u32, more: &Value) -> String {
    let mut meta = json!({"id": id(number), "timestamp": at(20), "forked_from_id": id(1), "cwd": "/home/alice/proj"});
    let more = more.as_object().unwrap().clone();
    meta.as_object_mut().unwrap().extend(more);
    line(at(20), "session_meta", &meta.to_string())
}

/// The examples of docs/usage.md.
#[test]
fn documented_differences_from_ccusage_match_manual_counts() {
    let Some(program) = ccusage() else {
        return;
    };
    let two = sum(A, B);
    let cases: [(&str, Rollouts, Tokens, Tokens); 3] = [
        (
            "the event of a request is missing, and its tokens are in the next sum",
            vec![(
                1,
                vec![
                    context(at(0), "gpt-5"),
                    count(at(1), A, A, None),
                    count(at(3), sum(two, B), B, None),
                ],
            )],
            sum(two, B),
            two,
        ),
        (
            "a sum that begins again without the figures of the request",
            vec![(
                1,
                vec![
                    context(at(0), "gpt-5"),
                    count(at(1), two, None, None),
                    count(at(2), A, None, None),
                ],
            )],
            sum(two, A),
            two,
        ),
        (
            "two conversations with the same figures at the same time",
            [1, 2]
                .map(|number| {
                    let lines = vec![context(at(0), "gpt-5"), count(at(1), A, A, None)];
                    (number, lines)
                })
                .to_vec(),
            sum(A, A),
            A,
        ),
    ];
    for (name, rollouts, ours, theirs) in cases {
        assert_eq!(both_totals(program, &rollouts), (ours, theirs), "{name}");
    }

    // A fork that refers to its original: the sum includes it.
    let env = TestEnv::new();
    store(&env, &conversation(1), &counted_twice());
    let fork = [
        fork_head(2, &json!({"history_base": {"thread_id": id(1)}})),
        context(at(21), "gpt-5"),
        count(at(25), sum(two, A), A, None),
    ];
    fs::write(write(&env, &conversation(2)), fork.join("\n") + "\n").unwrap();
    assert_eq!(manager_totals(&env), sum(two, A));
    assert_eq!(ccusage_totals(program, &env.codex_home()), two);

    // Copies of the original at the beginning of a fork that does not name it.
    for (form, has_last, theirs) in [
        (ForkForm::SecondMeta, true, 770),
        (ForkForm::SecondMeta, false, 770),
        (ForkForm::Named, true, 440),
        (ForkForm::LateSubagent, true, 440),
    ] {
        let env = TestEnv::new();
        let exchange = |minute, total, last: u64| Exchange {
            at: at(minute),
            prompt: format!("prompt {minute}"),
            total,
            last: has_last.then_some(last),
        };
        let own = vec![exchange(1, 110, 110), exchange(5, 330, 220)];
        let original = Shaped::new(1, at(0), own);
        let mut fork = original.fork(2, form, at(20), 2);
        fork.own = vec![exchange(25, 440, 110)];
        original.write(&env);
        fork.write(&env);
        let totals = [
            manager_totals(&env),
            ccusage_totals(program, &env.codex_home()),
        ];
        assert_eq!(totals.map(|total| total[0]), [440, theirs], "{form:?}");
    }

    // Codex compresses old rollouts.
    let env = TestEnv::new();
    let path = store(&env, &conversation(1), &counted_twice());
    let plain = fs::read(&path).unwrap();
    let packed = zstd::encode_all(&*plain, 3).unwrap();
    fs::write(path.with_extension("jsonl.zst"), packed).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(manager_totals(&env), two);
    assert_eq!(ccusage_totals(program, &env.codex_home()), [0; 4]);
}

#[test]
fn the_usage_of_real_codex_equals_that_of_ccusage_except_for_forks() {
    let (Some(program), Some(lab)) = (ccusage(), Lab::new()) else {
        return;
    };
    let first = lab.say("hello");
    let _ = lab.resume(&lab.home(), &first, "again").expect_success();
    let _ = lab.say("another");
    let ours = || tokens(&lab.manager(["usage", "--json"]).code(0).json()["totals"]);
    let three = ours();
    assert_eq!(ccusage_totals(program, &lab.home()), three);
    let forked = ["exec", "fork", "--skip-git-repo-check", &first, "fork"];
    let forked = lab.codex.run(&lab.home(), &lab.backend, &forked);
    let _ = forked.expect_success();
    let one = three.map(|part| part / 3);
    assert_eq!(ours(), sum(three, one));
    // ccusage treats the first sum of the fork as a copy.
    assert_eq!(ccusage_totals(program, &lab.home()), three);
}
