//! Decisions about versions of conversations: their scope and duration. A decision drops no other version.

use crate::support::injection::{can_inject, kill_numbers, run_ends_before_call};
use crate::support::pair::{ID, META, Pair, ROLLOUT};
use crate::tables::shown;
use crate::width;
use std::fs;
use std::path::Path;

/// Number of calls of one kind at which a decision is killed, at most.
const KILLS: usize = 12;
const NO_BACKUP: &str = "[backup]\nbackup_before_overwrite = false\n";

fn line(n: &str) -> String {
    format!("{{\"n\":\"{n}\"}}\n")
}

/// Returns all texts below a folder.
fn texts(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(texts(&path));
        } else {
            found.extend(fs::read_to_string(&path));
        }
    }
    found
}

fn forks(pair: &Pair) -> Vec<String> {
    let mut all = texts(&pair.cloud().join(".codex-manager/forks"));
    all.sort();
    all
}

#[test]
fn a_third_version_needs_its_own_decision() {
    for keep in ["local", "cloud", "both"] {
        let pair = Pair::synced(&[(ROLLOUT, META)]);
        pair.configure("c", NO_BACKUP);
        pair.apply("c");
        let text = |n| format!("{META}{}", line(n));
        for name in ["a", "b", "c"] {
            pair.put(name, ROLLOUT, &text(name));
        }
        pair.apply("a");
        // The version of `c` arrived as a conflict file of its client.
        let copy = ROLLOUT.replace(".jsonl", ".sync-conflict-20261118-101010-ABCDEF7.jsonl");
        let copy = pair.put("cloud", &copy, &text("c"));
        let _ = pair.run("b", &["run", "--apply"]).code(2);
        let run = pair.run("b", &["resolve", ID, "--keep", keep]).code(0);
        let kept = match keep {
            "both" => "kept both versions of ".to_owned(),
            one => format!("kept the {one} version of "),
        };
        assert!(run.stdout.starts_with(&kept), "{run}");
        assert_eq!(forks(&pair), [text("c")], "{keep}");
        fs::remove_file(copy).unwrap();
        pair.configure(
            "c",
            &format!("{NO_BACKUP}[conflict]\npolicy = \"prefer_cloud\"\n"),
        );
        for name in ["b", "c", "b"] {
            pair.apply(name);
        }
        let winner = if keep == "cloud" { "a" } else { "b" };
        assert_eq!(pair.text("c", ROLLOUT), text(winner), "{keep}");
        assert!(
            forks(&pair).contains(&text("c")),
            "{keep}: {:?}",
            forks(&pair)
        );
    }
}

#[test]
fn a_piped_plan_shows_full_paths() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    let run = pair.run("a", &["plan"]).code(0);
    let row = format!("copy-to-cloud  {ROLLOUT}  ");
    assert!(
        run.stdout.lines().any(|line| line.starts_with(&row)),
        "{run}"
    );
}

#[test]
fn a_restored_version_survives_earlier_decisions() {
    let pair = Pair::new();
    let policy = |name| format!("{NO_BACKUP}[conflict]\npolicy = \"{name}\"\n");
    pair.configure("b", &policy("prefer_local"));
    let [of_a, of_b] = pair.diverge();
    pair.apply("b");
    pair.apply("a");
    assert_eq!(forks(&pair), [&*of_a]);
    let decided = pair.run("b", &["resolve", ID, "--keep", "local", "--json"]);
    let snapshot = decided.code(0).json()["snapshot"]
        .as_str()
        .unwrap()
        .to_owned();
    pair.apply("b");
    // `a` publishes the decision too from now on.
    pair.apply("a");
    assert_eq!(forks(&pair), [""; 0]);
    let back = [
        "restore", "--from", &snapshot, "--target", "local", "--apply",
    ];
    let _ = pair.run("b", &back).code(0);
    assert_eq!(pair.text("b", ROLLOUT), of_a);
    pair.put("a", ROLLOUT, &format!("{of_b}{}", line("more")));
    pair.apply("a");
    pair.configure("b", &policy("prefer_cloud"));
    pair.apply("b");
    assert_eq!(forks(&pair), [&*of_a]);
    // `a` does not remove it again. After a further decision, it is removed everywhere.
    for name in ["a", "b"] {
        assert_eq!(pair.apply(name)["forks"].as_array().unwrap().len(), 1);
    }
    let _ = pair.run("a", &["resolve", ID, "--keep", "local"]).code(0);
    for name in ["a", "b", "a"] {
        assert_eq!(pair.apply(name)["forks"].as_array().unwrap().len(), 0);
    }
    assert_eq!(forks(&pair), [""; 0]);
}

#[test]
fn i2_a_killed_keep_both_keeps_the_version_of_the_other_machine() {
    if !can_inject() {
        return;
    }
    for call in ["fsync", "rename", "unlink"] {
        for number in kill_numbers(KILLS) {
            let pair = Pair::new();
            pair.configure("b", NO_BACKUP);
            let [mine, other] = pair.diverge();
            let _ = pair.run("b", &["resolve", ID, "--keep", "local"]).code(0);
            pair.apply("b");
            pair.apply("a");
            // The user restores the file by hand, and both versions continue.
            pair.put("a", ROLLOUT, &mine);
            pair.apply("a");
            pair.put("b", ROLLOUT, &format!("{other}{}", line("more")));
            let args = ["--manager-home", "manager-b", "sync", "-c", "b.toml"];
            let both = ["resolve", ROLLOUT, "--keep", "both"];
            let ended = run_ends_before_call(&pair.0, &[&args[..], &both].concat(), call, number);
            for name in ["b", "a", "b"] {
                let _ = pair.run(name, &["run", "--apply"]);
            }
            let all = [pair.cloud(), pair.home("b"), pair.0.path("manager-b")];
            let all: Vec<String> = all.iter().flat_map(|folder| texts(folder)).collect();
            let lines = line("a");
            assert!(
                all.iter().any(|text| text.ends_with(&lines)),
                "{call} {number}: {all:?}"
            );
            if ended {
                break;
            }
        }
    }
}

#[test]
fn i2_a_killed_keep_fork_leaves_the_conversation_undecided() {
    if !can_inject() {
        return;
    }
    for call in ["fsync", "rename"] {
        for number in kill_numbers(2 * KILLS) {
            let pair = Pair::new();
            for name in ["a", "b"] {
                pair.configure(
                    name,
                    &format!("{NO_BACKUP}[conflict]\npolicy = \"prefer_local\"\n"),
                );
            }
            let [_, living] = pair.diverge();
            pair.apply("b");
            pair.apply("a");
            let args = ["--manager-home", "manager-b", "sync", "-c", "b.toml"];
            let fork = ["resolve", ID, "--keep", "fork"];
            let ended = run_ends_before_call(&pair.0, &[&args[..], &fork].concat(), call, number);
            if ended || pair.text("b", ROLLOUT) != living {
                break;
            }
            pair.apply("b");
            // On the other machine, another version replaces it.
            pair.put("a", ROLLOUT, &format!("{META}{}", line("else")));
            pair.apply("a");
            assert!(forks(&pair).contains(&living), "{call} {number}");
        }
    }
}

const ASKED: &str = "plan the trip";

/// Returns a conversation with one answer, and with this many more of which each quotes `who`.
fn conversation_text(who: &str, more: usize) -> String {
    let message = |second: usize, role: &str, text: &str| {
        let kind = if role == "user" {
            "user_message"
        } else {
            "agent_message"
        };
        format!(
            "{{\"timestamp\":\"2026-11-18T10:00:{second:02}.000Z\",\"type\":\"event_msg\",\"payload\":\
             {{\"type\":\"{kind}\",\"message\":\"{text}\"}}}}\n"
        )
    };
    let mut text = [
        META.to_owned(),
        message(1, "user", ASKED),
        message(2, "assistant", "yes"),
    ]
    .concat();
    for n in 0..more {
        text += &message(10 + 2 * n, "user", &format!("{who} {n}"));
        text += &message(11 + 2 * n, "assistant", &format!("answer to {who} {n}"));
    }
    text
}

/// Creates two machines that continued a conversation: two answers on `b`, one in the cloud folder.
fn diverged_conversation() -> Pair {
    let pair = Pair::synced(&[(ROLLOUT, &conversation_text("", 0))]);
    pair.put("a", ROLLOUT, &conversation_text("a", 1));
    pair.put("b", ROLLOUT, &conversation_text("b", 2));
    pair.apply("a");
    pair
}

#[test]
fn a_conflict_is_described_by_its_title_and_messages() {
    let pair = diverged_conversation();
    for args in [&["plan", "--json"][..], &["resolve", "--json"]] {
        let run = pair.run("b", args);
        let conflict = &run.json()["conflicts"][0];
        for (key, value) in [
            ("session_id", serde_json::json!(ID)),
            ("title", ASKED.into()),
            ("local_prompts", 2.into()),
            ("local_answers", 2.into()),
            ("remote_prompts", 1.into()),
            ("remote_answers", 1.into()),
            ("since", "2026-11-18T10:00:02+00:00".into()),
        ] {
            assert_eq!(conflict[key], value, "{key}: {run}");
        }
    }
    let described =
        "2 answers on this machine, 1 answer in the cloud folder since Wed 18 Nov 10:00";
    let plan = pair.run("b", &["plan"]).code(2);
    let sum = "0 → cloud folder, 0 ← cloud folder, 1 conflict; 0 files are the same";
    assert!(plan.stdout.starts_with(sum), "{plan}");
    let warning = format!("conflict: \"{ASKED}\" ({}): ", &ID[..13]);
    assert!(plan.stderr.contains(&warning), "{plan}");
    assert!(plan.stderr.contains(described), "{plan}");
    let listed = pair.run("b", &["resolve"]).code(0);
    assert!(listed.stdout.contains(described), "{listed}");
    assert!(listed.stdout.contains(ASKED), "{listed}");
    let command = format!(
        "\ncodex-manager --manager-home [ROOT]/manager-b sync resolve {} --keep local -c [ROOT]/b.toml\n",
        &ID[..13]
    );
    assert!(listed.stdout.contains(&command), "{listed}");
    let what: Vec<_> = command.split_whitespace().skip(4).take(4).collect();
    let _ = pair.run("b", &what).code(0);
}

#[test]
fn plans_and_conflicts_fit_terminals_of_40_80_and_120_columns() {
    let pair = diverged_conversation();
    pair.put(
        "b",
        "skills/mine/a-name-that-is-long/description.md",
        "text",
    );
    for columns in [40, 80, 120] {
        for command in ["plan", "resolve"] {
            let args = [
                "--manager-home",
                "manager-b",
                "sync",
                "-c",
                "b.toml",
                command,
            ];
            let (screen, _) = width::shown(&pair.0, &args.map(String::from), columns);
            assert!(screen.contains(&ID[..13]), "{screen}");
            let long = width::too_long(&screen, columns);
            assert!(
                long.is_empty(),
                "{command} at {columns}: {long:?}\n{screen}"
            );
        }
    }
}

#[test]
fn a_plan_begins_with_its_sum_and_names_conversations_by_title() {
    let pair = Pair::new();
    for n in 0..25 {
        let path = format!("skills/mine/{n}.md");
        pair.put("a", &path, "text");
    }
    pair.put("a", ROLLOUT, &conversation_text("a", 0));
    let homes = ["--manager-home", "manager-a"];
    let args = [&homes[..], &["sync", "-c", "a.toml", "plan"]].concat();
    let screen = shown(&pair.0, &args, 80);
    let first = screen.lines().next().unwrap_or_default();
    assert!(first.starts_with("26 → cloud folder ("), "{screen}");
    assert!(first.contains("0 ← cloud folder, 0 conflicts"), "{screen}");
    let row = screen.lines().find(|line| line.contains(&ID[..13]));
    assert!(row.is_some_and(|row| row.contains(ASKED)), "{screen}");
    let is_row = |line: &&str| line.starts_with("copy-to-cloud");
    let rows = screen.lines().filter(is_row);
    let whole = rows.filter(|row| row.ends_with("only on this machine"));
    assert_eq!(whole.count(), 20, "{screen}");
    assert!(screen.contains("… and 6 more; --json has all"), "{screen}");
    // The same for a conversation that is only in the cloud folder.
    pair.apply("a");
    let homes = ["--manager-home", "manager-b"];
    let args = [&homes[..], &["sync", "-c", "b.toml", "plan"]].concat();
    let screen = shown(&pair.0, &args, 80);
    assert!(
        screen.starts_with("0 → cloud folder, 26 ← cloud folder ("),
        "{screen}"
    );
    let row = screen.lines().find(|line| line.contains(&ID[..13]));
    assert!(row.is_some_and(|row| row.contains(ASKED)), "{screen}");
}

#[test]
fn a_conflict_is_resolved_by_title_by_short_id_or_by_an_answer() {
    use crate::support::terminal::Terminal;
    use std::time::Duration;
    for what in [Some(ASKED), Some(&ID[..8]), Some(ROLLOUT), None] {
        let pair = diverged_conversation();
        if let Some(what) = what {
            let unknown = ["resolve", "no such title", "--keep", "local"];
            let _ = pair.run("b", &unknown).code(1);
            let _ = pair.run("b", &["resolve", what, "--keep", "local"]).code(0);
        } else {
            let homes = ["--manager-home", "manager-b"];
            let args = [&homes[..], &["sync", "-c", "b.toml", "resolve"]].concat();
            let mut terminal = Terminal::start(&mut pair.0.command(args));
            terminal.wait_for("Enter leaves it open", Duration::from_secs(60));
            terminal.type_keys("nothing of the kind\nlocal\n");
            assert_eq!(terminal.end().code(), Some(0));
        }
        assert_eq!(
            pair.text("cloud", ROLLOUT),
            conversation_text("b", 2),
            "{what:?}"
        );
    }
}

#[test]
fn a_conflict_copy_is_described_and_resolved_by_its_title() {
    let pair = diverged_conversation();
    pair.configure("b", "[conflict]\npolicy = \"prefer_local\"\n");
    pair.apply("b");
    let listed = pair.run("b", &["resolve"]).code(0);
    let described = "2 answers on this machine, 1 answer in the conflict copy since";
    assert!(listed.stdout.contains(described), "{listed}");
    let json = pair.run("b", &["resolve", "--json"]).code(0).json();
    assert_eq!(json["forks"][0]["remote_answers"], 1, "{json}");
    let _ = pair.run("b", &["resolve", ASKED, "--keep", "fork"]).code(0);
    assert_eq!(pair.text("b", ROLLOUT), conversation_text("a", 1));
}
