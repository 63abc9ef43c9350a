//! Forks and subagents that begin with copies of another conversation: only their own part counts.

use crate::support::conversations::id;
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::shapes::{Exchange, ForkForm, Shaped, read_own};
use crate::support::usage_lines::{at, tokens};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

fn exchange(minute: i64, prompt: &str, total: u64, last: impl Into<Option<u64>>) -> Exchange {
    Exchange {
        at: at(minute),
        prompt: prompt.to_owned(),
        total,
        last: last.into(),
    }
}

/// Returns the tokens of each conversation with requests.
fn usage_of_sessions(env: &TestEnv) -> BTreeMap<String, u64> {
    let json = env.run(["usage", "sessions", "--json"]).code(0).json();
    let rows = json["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["key"].as_str().unwrap().to_owned(), tokens(row)[0]))
        .collect()
}

fn history(env: &TestEnv) -> Vec<(String, String)> {
    let _ = env
        .run(["history", "rebuild", "--yes", "--include-orphans"])
        .code(0);
    let text = fs::read_to_string(env.codex_home().join("history.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut prompts: Vec<_> = lines
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            (text("session_id"), text("text"))
        })
        .collect();
    prompts.sort();
    prompts
}

/// The original, and six forks of it and of another one.
fn six_forks() -> [Shaped; 8] {
    let mut original = Shaped::new(
        1,
        at(0),
        vec![
            exchange(1, "plan alpha", 1000, 1000),
            exchange(5, "build beta", 5000, 4000),
        ],
    );
    let mut of_0_55 = original.fork(2, ForkForm::SecondMeta, at(20), 2);
    of_0_55.own = vec![exchange(22, "check gamma", 300, 300)];
    let mut named = original.fork(3, ForkForm::Named, at(23), 2);
    named.own = vec![exchange(25, "trim delta", 5300, 300)];
    let mut late = original.fork(4, ForkForm::LateSubagent, at(26), 1);
    late.own = vec![exchange(27, "audit epsilon", 1500, 500)];
    let mut of_fork = of_0_55.fork(5, ForkForm::SecondMeta, at(40), 3);
    of_fork.own = vec![exchange(42, "paint zeta", 40, 40)];
    let mut of_gone =
        Shaped::new(99, at(0), original.own.clone()).fork(6, ForkForm::Named, at(43), 2);
    of_gone.own = vec![exchange(45, "stir eta", 5200, 200)];
    let without_last = Shaped::new(
        7,
        at(50),
        vec![
            exchange(51, "weigh theta", 1000, None),
            exchange(53, "measure iota", 3000, None),
        ],
    );
    let mut of_that = without_last.fork(8, ForkForm::SecondMeta, at(60), 2);
    of_that.own = vec![exchange(62, "count kappa", 3400, None)];
    // The original goes on with a request of the same size as the fork of 0.98.
    original.own.push(exchange(30, "ship lambda", 5300, 300));
    [
        original,
        of_0_55,
        named,
        late,
        of_fork,
        of_gone,
        without_last,
        of_that,
    ]
}

#[test]
fn six_forks_have_the_tokens_prompts_and_texts_that_are_counted_by_hand() {
    let env = TestEnv::new();
    for shaped in six_forks() {
        shaped.write(&env);
    }
    let by_hand = [
        (1, 5300),
        (2, 300),
        (3, 300),
        (4, 500),
        (5, 40),
        (6, 200),
        (7, 3000),
        (8, 400),
    ];
    let by_hand: BTreeMap<_, _> = by_hand.map(|(number, tokens)| (id(number), tokens)).into();
    assert_eq!(usage_of_sessions(&env), by_hand);

    // Only the last fork has its past, because its original is gone.
    let mut expected: Vec<_> = [
        (1, "plan alpha"),
        (1, "build beta"),
        (1, "ship lambda"),
        (2, "check gamma"),
        (3, "trim delta"),
        (4, "audit epsilon"),
        (5, "paint zeta"),
        (6, "plan alpha"),
        (6, "build beta"),
        (6, "stir eta"),
        (7, "weigh theta"),
        (7, "measure iota"),
        (8, "count kappa"),
    ]
    .map(|(number, prompt)| (id(number), prompt.to_owned()))
    .into();
    expected.sort();
    assert_eq!(history(&env), expected);

    for options in [&[][..], &["--exact"], &["--regex"]] {
        for (words, found) in [
            ("plan alpha", &[1, 6][..]),
            ("weigh theta", &[7]),
            ("check gamma", &[2]),
            ("audit epsilon", &[4]),
        ] {
            let args = [&["find", words, "--role", "user", "--json"], options].concat();
            let json = env.run(args).code(0).json();
            let hits = json["hits"].as_array().unwrap().iter();
            let hits: BTreeSet<_> = hits
                .map(|hit| hit["session_id"].as_str().unwrap().to_owned())
                .collect();
            let expected: BTreeSet<_> = found.iter().map(|number| id(*number)).collect();
            assert_eq!(hits, expected, "{words} {options:?}");
        }
    }
}

#[test]
fn a_fork_that_is_indexed_before_its_copy_counts_only_its_own_part() {
    let env = TestEnv::new();
    let [original, fork, ..] = six_forks();
    original.write(&env);
    // Codex 0.55 writes the copy seconds after the first line.
    let text = fork.text();
    let (first_line, _) = text.split_once('\n').unwrap();
    fork.write_text(&env, 11, &format!("{first_line}\n"));
    let mut by_hand = BTreeMap::from([(id(1), 5300)]);
    assert_eq!(usage_of_sessions(&env), by_hand);
    fork.write_text(&env, 10, &text);
    by_hand.insert(id(2), 300);
    assert_eq!(usage_of_sessions(&env), by_hand);
}

#[test]
fn show_and_export_mark_the_copied_past_of_a_fork_and_name_its_original() {
    let env = TestEnv::new();
    for shaped in six_forks() {
        shaped.write(&env);
    }
    for (fork, original, past, own) in [
        (2, 1, "plan alpha", "check gamma"),
        (3, 1, "build beta", "trim delta"),
        (5, 2, "check gamma", "paint zeta"),
    ] {
        let text = env.run(["show", &id(fork)]).code(0).stdout;
        let position = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}\n{text}"));
        let parts = [
            position(&format!("*From `{}`, which", id(original))),
            position(&format!("\n{past}\n")),
            position("*This conversation:*"),
            position(&format!("\n{own}\n")),
        ];
        assert!(parts.is_sorted(), "{text}");
        assert_eq!(text.matches("*From").count(), 1, "{text}");
        let json = env.run(["show", &id(fork), "--json"]).code(0).json();
        for entry in json["turns"].as_array().unwrap() {
            let is_own = entry["text"].as_str().unwrap().contains(own);
            let expected = id(if is_own { fork } else { original });
            assert_eq!(entry["session_id"], expected, "{entry}");
        }
        // The turns of `find` are counted from the beginning of the rollout.
        let hit = env
            .run(["find", own, "--role", "user", "--json"])
            .code(0)
            .json();
        let turn = hit["hits"][0]["turn"].to_string();
        let turn = env.run(["show", &id(fork), "--turn", &turn]).code(0).stdout;
        // Like Codex, the title of a fork is the first request, also of a copied past.
        let has_past = turn.contains(&format!("\n{past}\n"));
        assert!(turn.contains(own) && !has_past, "{turn}");
    }
    // The original of this one is gone.
    let text = env.run(["show", &id(6)]).code(0).stdout;
    assert!(
        !text.contains("*From") && text.contains("plan alpha"),
        "{text}"
    );
}

#[test]
fn random_families_of_forks_count_what_an_independent_reader_counts() {
    let mut dice = Dice::new();
    for _ in 0..3 {
        let env = TestEnv::new();
        let (mut minute, mut word) = (0, 0);
        let mut family: Vec<Shaped> = Vec::new();
        for number in 1..=12 {
            minute += 10;
            let fork_of = dice.below(family.len() as u64 + 1);
            let original = usize::try_from(fork_of)
                .unwrap()
                .checked_sub(1)
                .map(|index| &family[index]);
            let mut made = match original {
                None => Shaped::new(number, at(minute), Vec::new()),
                Some(original) => {
                    let form = ForkForm::ALL[usize::try_from(dice.below(3)).unwrap()];
                    let shown = original.past.len() + original.own.len();
                    let kept = usize::try_from(dice.below(shown as u64 + 1)).unwrap();
                    original.fork(number, form, at(minute), kept)
                }
            };
            let has_last =
                made.past.iter().all(|exchange| exchange.last.is_some()) && dice.below(4) > 0;
            let mut total = made.past.last().map_or(0, |exchange| exchange.total);
            if has_last && dice.below(3) == 0 {
                total = 0;
            }
            for _ in 0..dice.below(4) {
                (minute, word) = (minute + 1, word + 1);
                let used = 1 + dice.below(9000);
                total += used;
                made.own.push(exchange(
                    minute,
                    &format!("prompt{word}"),
                    total,
                    has_last.then_some(used),
                ));
            }
            family.push(made);
        }
        for made in &family {
            made.write(&env);
        }
        let facts: Vec<_> = family
            .iter()
            .map(|made| (id(made.number), read_own(&made.text())))
            .collect();
        let tokens: BTreeMap<_, _> = facts
            .iter()
            .filter(|(_, facts)| facts.tokens > 0)
            .map(|(id, facts)| (id.clone(), facts.tokens))
            .collect();
        assert_eq!(usage_of_sessions(&env), tokens);
        let prompts = facts.iter().flat_map(|(id, facts)| {
            facts
                .prompts
                .iter()
                .map(|prompt| (id.clone(), prompt.clone()))
        });
        let mut prompts: Vec<_> = prompts.collect();
        prompts.sort();
        assert_eq!(history(&env), prompts);
        for (id, facts) in &facts {
            let shown = env.run(["show", id, "--json"]);
            if shown.code != 0 {
                continue;
            }
            let json = shown.json();
            let turns = json["turns"].as_array().unwrap().iter();
            let own = turns.filter(|turn| turn["session_id"] == **id && turn["role"] == "user");
            let own: Vec<_> = own.map(|turn| turn["text"].as_str().unwrap()).collect();
            assert_eq!(own, facts.prompts, "{id}");
        }
    }
}
