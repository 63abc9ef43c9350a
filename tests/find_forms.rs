//! `find` for words that are only half remembered: other forms, parts of names, folders, too many words.

use crate::support::conversations::{Conversation, assistant, id, state, tool_output, user, write};
use crate::support::env::TestEnv;
use serde_json::Value;
use std::collections::BTreeMap;

fn found(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let run = env.run([&["find", "--json"], args].concat());
    assert!([0, 5].contains(&run.code), "{run}");
    let hits = run.json()["hits"].as_array().expect("hits").clone();
    let id = |hit: &Value| hit["session_id"].as_str().expect("an id").to_owned();
    hits.iter().map(id).collect()
}

fn write_answer(env: &TestEnv, number: u32, minutes: i64, answer: &str) {
    let title = format!("Number {number}");
    write(env, &Conversation::new(number, minutes, &title, answer));
}

#[test]
fn words_are_found_in_all_forms_and_the_typed_form_comes_first() {
    let env = TestEnv::new();
    write_answer(&env, 1, 5, "It retries three times.");
    write_answer(&env, 2, 6, "Call chargeWithRetry instead.");
    write_answer(&env, 3, 60, "One retry is enough.");
    write_answer(&env, 4, 4, "The retrying stopped.");
    write_answer(&env, 5, 1, "A retrypolicy is set.");
    write_answer(&env, 6, 2, "It retires soon.");
    let forms = [id(3), id(4), id(1), id(2), id(5)];
    assert_eq!(found(&env, &["retry"]), forms);
    assert_eq!(found(&env, &["\"retry\""]), [id(3)]);
    assert_eq!(found(&env, &["retr*"]).len(), 4);
    assert_eq!(found(&env, &["-retry", "number", "times"]), [id(1)]);
    assert_eq!(found(&env, &["chargeWithRetry"]), [id(2)]);
    assert_eq!(found(&env, &["charging", "stop*"]), [""; 0]);
    assert_eq!(found(&env, &["stop"]), [id(4)]);
}

#[test]
fn parts_of_identifiers_are_found_also_beside_digits_but_not_in_quotes() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "PaymentGatewayClient and HTTPServer");
    write_answer(&env, 2, 2, "the UTF-8 decoder");
    write_answer(&env, 3, 3, "Use sha256sum.");
    assert_eq!(found(&env, &["gateways"]), [id(1)]);
    assert_eq!(found(&env, &["server"]), [id(1)]);
    assert_eq!(found(&env, &["utf8"]), [id(2)]);
    assert_eq!(found(&env, &["sum"]), [id(3)]);
    assert_eq!(found(&env, &["\"gateway\""]), [""; 0]);
    let shown = env.run(["find", "gateways"]).stdout;
    assert!(shown.contains("PaymentGatewayClient"), "{shown}");
}

#[test]
fn coloured_words_are_found_and_shown_without_escapes() {
    let env = TestEnv::new();
    write_answer(
        &env,
        1,
        1,
        "\x1b[31mquokkared\x1b[0m, \x1b[1;32mwombat\x1b[0m",
    );
    assert_eq!(found(&env, &["quokkared"]), [id(1)]);
    assert_eq!(found(&env, &["\"quokkared, wombat\""]), [id(1)]);
    assert_eq!(found(&env, &["--exact", "quokkared, wombat"]), [id(1)]);
    assert_eq!(found(&env, &["31mquokkared"]), [""; 0]);
    let hits = env.run(["find", "wombat", "--json"]).code(0).json();
    assert_eq!(hits["hits"][0]["snippet"], "quokkared, wombat");
    let nearby = env.run(["find", "wombat", "-C", "1"]).code(0);
    assert!(nearby.stdout.contains("quokkared, wombat"), "{nearby}");
}

#[test]
fn projects_and_branches_are_found() {
    let env = TestEnv::new();
    let mut conversation = Conversation::new(1, 1, "Slow start", "Cached.");
    conversation.cwd = "/home/alice/clients/northwind".into();
    write(&env, &conversation);
    write_answer(&env, 2, 2, "It starts slowly.");
    assert_eq!(found(&env, &["northwind"]), [id(1)]);
    assert_eq!(found(&env, &["slow", "northwind"]), [id(1)]);
    assert_eq!(found(&env, &["clients/northwind"]), [id(1)]);
    let set = "UPDATE threads SET git_branch='feature/login-pkce', updated_at_ms=updated_at_ms+1000 WHERE id=?1";
    state(&env).execute(set, [id(2)]).expect("update");
    assert_eq!(found(&env, &["login-pkce"]), [id(2)]);
    let shown = env.run(["find", "pkce"]).stdout;
    assert!(shown.contains("feature/login-pkce"), "{shown}");
}

#[test]
fn a_phrase_without_quotes_is_tried_as_words() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "The checker has a borrow.");
    let run = env.run(["find", "borrow checker"]).code(0);
    assert!(
        run.stderr
            .contains("no conversation has these words in a row"),
        "{run}"
    );
    let document = env.run(["find", "--json", "borrow checker"]).json();
    assert_eq!(document["relaxation"], "phrase_as_words");
    assert_eq!(found(&env, &["\"borrow checker\""]), [""; 0]);
    assert_eq!(found(&env, &["checker has"]), [id(1)]);
}

#[test]
fn fewer_words_are_enough_if_no_conversation_has_all() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "The gateway has a timeout.");
    write_answer(&env, 2, 2, "The gateway is fine.");
    let run = env.run(["find", "gateway", "timeout", "quantum"]).code(0);
    assert!(
        run.stderr
            .contains("no conversation has all 3 words; these have 2"),
        "{run}"
    );
    assert!(!run.stdout.contains("Number 2"), "{run}");
    let document = env
        .run(["find", "--json", "gateway", "timeout", "quantum"])
        .json();
    assert_eq!(document["relaxation"], "fewer_words");
    // What is quoted, excluded or code is never ignored.
    assert_eq!(found(&env, &["gateway", "timeout", "\"quantum\""]), [""; 0]);
    assert_eq!(found(&env, &["gateway", "quantum", "-timeout"]), [id(2)]);
    assert_eq!(found(&env, &["gateway", "timeout", "foo_bar.rs"]), [""; 0]);
    assert_eq!(found(&env, &["quantum"]), [""; 0]);
    assert_eq!(found(&env, &["how", "is", "the", "gateway"]).len(), 2);
}

#[test]
fn an_excluded_conversation_does_not_hide_those_that_match_fewer_words() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "alpha gamma delta in foo.rs, far from foo bar");
    write_answer(&env, 2, 2, "alpha gamma only, in a row");
    write_answer(&env, 3, 3, "alpha alone");
    let words = ["alpha", "gamma", "delta", "zeta"];
    for (condition, of) in [("-foo.rs", 4), ("\"in a row\"", 5), ("!\"foo bar\"", 4)] {
        let run = env.run([&["find"], &words[..], &[condition]].concat());
        let run = run.code(0);
        assert!(run.stdout.contains("alpha gamma only"), "{run}");
        let note = format!("no conversation has all {of} words; these have {}", of - 2);
        assert!(run.stderr.contains(&note), "{run}");
        let all = [&words[..], &[condition]].concat();
        assert_eq!(found(&env, &all), [id(2)], "{condition}");
    }
}

#[test]
fn a_query_has_at_most_64_words() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "word1 word2");
    let words: Vec<_> = (1..=65).map(|n| format!("word{n}")).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    assert_eq!(found(&env, &words[..64]), [id(1)]);
    let run = env.run([&["find"], &words[..]].concat()).code(4);
    assert!(run.stderr.contains("at most 64 words"), "{run}");
    let run = env.run(["find", "word1", "--limit", "0"]).code(4);
    assert!(run.stderr.contains("--limit"), "{run}");
}

#[test]
fn fewer_words_under_a_filter_come_with_the_number_of_full_matches_without_it() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "alpha gamma delta");
    let elsewhere = Conversation {
        cwd: "/home/alice/projy".into(),
        ..Conversation::new(2, 2, "Number 2", "alpha gamma")
    };
    write(&env, &elsewhere);
    let words = ["find", "alpha", "gamma", "delta"];
    let run = env.run([&words[..], &["--project", "projy"]].concat());
    let note = "no conversation has all 3 words; these have 2; full matches: 1 without --project\n";
    assert!(run.code(0).stderr.contains(note));
}

#[test]
fn a_word_after_a_hyphen_is_excluded_also_if_it_begins_like_an_option() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "kubernetes with cargo");
    write_answer(&env, 2, 2, "kubernetes on a cpu");
    write_answer(&env, 3, 3, "kubernetes upgrade\nand after");
    assert_eq!(found(&env, &["kubernetes", "-Cargo"]), [id(2), id(3)]);
    assert_eq!(found(&env, &["kubernetes", "-CPU", "-C3"]), [id(1), id(3)]);
    assert_eq!(found(&env, &["kubernetes", "-C3", "-CPU"]), [id(1), id(3)]);
    let run = env.run(["find", "kubernetes", "-cargo", "-cpu", "-C1"]);
    let run = run.code(0);
    assert!(run.stdout.contains("and after"), "{run}");
    let _ = env.run(["find", "kubernetes", "-C", "many"]).code(4);
}

#[test]
fn close_spellings_are_offered() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "Drain the kubernetes nodes.");
    let run = env.run(["find", "kubrenetes"]).code(5);
    assert!(run.stderr.contains("did you mean kubernetes?"), "{run}");
    let document = env
        .run(["find", "--json", "kubrenetes", "drained"])
        .code(0)
        .json();
    assert_eq!(document["spellings"]["kubrenetes"], "kubernetes");
    assert_eq!(document["hits"][0]["session_id"], id(1));
    assert_eq!(document["relaxation"], Value::Null);
}

#[test]
fn words_in_one_sentence_come_before_words_in_one_message() {
    let env = TestEnv::new();
    write_answer(&env, 1, 1, "The cache is cold. Then the parser waits.");
    write_answer(&env, 2, 900, "The parser has a cache. It works.");
    write(
        &env,
        &Conversation::new(3, 1, "About the cache", "A parser waits."),
    );
    assert_eq!(found(&env, &["parser", "cache"]), [id(2), id(1), id(3)]);
}

/// Conversations like those that people have, with questions that people ask later.
const QUERIES: &str = include_str!("support/find_queries.json");

fn turn_lines(turn: &Value) -> Vec<Value> {
    let text = |i: usize| turn[i].as_str().unwrap_or_default();
    match text(0) {
        "u" => vec![user(text(1))],
        "a" => vec![assistant(text(1))],
        // A command or a changed file, with what it prints.
        _ => vec![tool_output(text(1)), tool_output(text(2))],
    }
}

/// Writes the conversations between others about other things. Returns their keys by id.
fn write_known(env: &TestEnv, known: &[Value]) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for (number, known) in (1..).zip(known) {
        let turns = known["turns"].as_array().expect("turns");
        let days = known["days_ago"].as_i64().expect("days");
        let first = turns[0][1].as_str().expect("a question");
        let mut conversation = Conversation::new(number, days * 24 * 60, first, "");
        conversation.lines = turns.iter().flat_map(turn_lines).collect();
        known["cwd"]
            .as_str()
            .expect("a folder")
            .clone_into(&mut conversation.cwd);
        known["name"]
            .as_str()
            .unwrap_or(first)
            .clone_into(&mut conversation.title);
        write(env, &conversation);
        let set = "UPDATE threads SET git_branch=?2 WHERE id=?1";
        let branch = known["branch"].as_str().unwrap_or_default();
        let done = state(env).execute(set, [&*id(number), branch]);
        done.expect("update");
        let key = known["key"].as_str().expect("a key");
        keys.insert(id(number), key.to_owned());
    }
    let subjects = [
        "the pagination of the orders endpoint",
        "the callback of the login",
        "the Dockerfile",
        "a flaky test",
        "structured logs",
        "the CSV importer",
        "the dark mode of the settings",
        "metrics of the queue worker",
        "the GraphQL resolver",
        "dates with time zones",
        "the connection pool",
        "the cache keys of CI",
        "the memory of the image resizer",
        "an index of the database",
        "the release script",
        "session expiry",
        "websocket reconnects",
        "the search ranking",
        "error messages",
        "the Makefile",
    ];
    let tasks = ["Fix", "Review", "Document", "Speed up", "Write tests for"];
    for (number, i) in (1000..).zip(0..100_usize) {
        let question = format!("{} {}", tasks[i / 20], subjects[i % 20]);
        let answer =
            "I looked at the call sites first. The config was read twice. All tests pass now.";
        let minutes = 1000 + i64::try_from(i).expect("small") * 400;
        write(env, &Conversation::new(number, minutes, &question, answer));
    }
    keys
}

#[test]
fn nine_of_ten_half_remembered_queries_find_their_conversation_first() {
    let env = TestEnv::new();
    let table: Value = serde_json::from_str(QUERIES).expect("JSON");
    let keys = write_known(&env, table["conversations"].as_array().expect("a list"));
    let queries = table["queries"].as_array().expect("a list");
    assert!(queries.len() >= 60);
    let (mut first, mut missed) = (0, Vec::new());
    for query in queries {
        let (typed, wanted) = (query[0].as_str().expect("words"), query[1].as_str());
        // As several arguments, and as one.
        for args in [typed.split(' ').collect(), vec![typed]] {
            let hits = found(&env, &args);
            let best = hits.first().and_then(|id| keys.get(id));
            if best.map(String::as_str) == wanted {
                first += 1;
            } else {
                missed.push((args, wanted, best.cloned()));
            }
        }
    }
    assert!(
        first * 100 >= 2 * queries.len() * 90,
        "{first} first, not {missed:#?}"
    );
}
