//! Conversations that the real Codex migrates (`codex migrate-rollouts --apply`) on machines that sync: the migrated
//! rollout is the newer version of the same conversation.

use crate::support::lab::{messages, open, rollout, write_legacy};
use crate::support::pauses::EVENT_LIMIT;
use crate::support::two_machines::TwoMachines;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The time in which an app server ends.
const END: Duration = EVENT_LIMIT;

/// Long enough that the migrated rollout is shorter: Codex drops them.
const INSTRUCTIONS_CHARS: usize = 12_000;

fn id(n: usize) -> String {
    format!("01a10000-0000-7000-8000-{n:012}")
}

impl TwoMachines {
    /// Writes legacy conversations on machine `a`, and syncs them to `b`. Each machine's Codex has indexed them.
    fn with_legacy(count: usize) -> Option<Self> {
        let two = Self::new()?;
        for n in 0..count {
            let instructions = "x".repeat(n % 2 * INSTRUCTIONS_CHARS);
            write_legacy(
                &two.lab.home(),
                &id(n),
                &format!("prompt {n}"),
                &instructions,
            );
        }
        for home in [two.lab.home(), two.b.clone()] {
            two.lab.say_in(&home, "unrelated");
        }
        two.sync(&["a", "b", "a"]);
        Some(two)
    }

    /// Migrates conversations on a machine: those with these numbers, or all.
    #[track_caller]
    fn migrate(&self, name: &str, conversations: Option<&[usize]>) -> String {
        let run = |more: &[&str]| {
            let args = [&["migrate-rollouts", "--apply"], more].concat();
            let done = self
                .lab
                .codex
                .run(&self.home(name), &self.lab.backend, &args);
            done.expect_success().stdout
        };
        match conversations {
            None => run(&[]),
            Some(all) => all.iter().map(|n| run(&["--thread", &id(*n)])).collect(),
        }
    }

    /// Returns the user's messages that Codex shows of each conversation once it is opened.
    fn shown(&self, name: &str, count: usize) -> Vec<Vec<String>> {
        let mut server = self
            .lab
            .codex
            .app_server(&self.home(name), &self.lab.backend);
        let shown = (0..count).map(|n| {
            let opened = server.request("thread/resume", json!({"threadId": id(n)}));
            user_messages(&opened.unwrap_or_else(|e| panic!("{n} on {name}: {e}")))
        });
        let shown = shown.collect();
        server.close(END).expect("the server ends");
        shown
    }

    /// Asserts that the row of each conversation has the form of its file.
    #[track_caller]
    fn assert_modes(&self, name: &str, count: usize) {
        let home = self.home(name);
        let database = open(&home.join("state_5.sqlite"));
        for n in 0..count {
            let sql = "SELECT history_mode FROM threads WHERE id=?1";
            let row: String = database.query_row(sql, [id(n)], |row| row.get(0)).unwrap();
            let file =
                codex_manager_core::codex::rollout::open_plain(&rollout(&home, &id(n))).unwrap();
            let text = std::io::read_to_string(file).unwrap();
            let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            let mode = first["payload"]["history_mode"]
                .as_str()
                .unwrap_or("legacy");
            assert_eq!(row, mode, "{n} on {name}");
        }
    }

    fn conflicts(&self, name: &str) -> Vec<Value> {
        let plan = self.run_sync(name, &["plan", "--json"]).json();
        plan["conflicts"].as_array().expect("conflicts").clone()
    }
}

fn user_messages(opened: &Value) -> Vec<String> {
    let turns = opened["thread"]["turns"].as_array().expect("turns").iter();
    let items = turns.flat_map(|turn| turn["items"].as_array().into_iter().flatten());
    let users = items.filter(|item| item["type"] == "userMessage");
    users
        .map(|item| {
            item["content"][0]["text"]
                .as_str()
                .expect("text")
                .to_owned()
        })
        .collect()
}

fn compress(path: &Path) {
    let name = format!("{}.zst", path.display());
    fs::write(
        name,
        zstd::encode_all(&*fs::read(path).unwrap(), 3).unwrap(),
    )
    .unwrap();
    fs::remove_file(path).unwrap();
}

fn text(home: &Path, n: usize) -> String {
    let file = codex_manager_core::codex::rollout::open_plain(&rollout(home, &id(n)));
    std::io::read_to_string(file.unwrap()).unwrap()
}

/// Each conversation is migrated in another way; two of three are migrated only half-way through the home.
#[test]
fn a_migrated_conversation_is_the_newer_version_on_both_machines() {
    for order in [["a", "b"], ["b", "a"]] {
        let Some(two) = TwoMachines::with_legacy(7) else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.home("a"), two.home("b"));
        compress(&rollout(&b, &id(5)));
        compress(&rollout(&a, &id(6)));
        two.migrate("a", Some(&[0, 2, 3, 4, 5, 6]));
        two.migrate("b", Some(&[1, 2, 3]));
        // Another version of Codex writes other bytes.
        let path = rollout(&b, &id(3));
        let other = fs::read_to_string(&path).unwrap();
        let other = other.replacen("\"base_instructions\":null,", "", 1);
        fs::write(&path, other).unwrap();
        assert_ne!(text(&a, 3), text(&b, 3));
        lab.resume(&a, &id(4), "more");
        for name in order {
            assert_eq!(two.conflicts(name), [Value::Null; 0], "{order:?} {name}");
            two.sync(&[name]);
        }
        two.sync(&order);
        for n in 0..7 {
            assert_eq!(text(&a, n), text(&b, n), "{n}");
        }
        for name in order {
            let mut expected: Vec<_> = (0..7).map(|n| vec![format!("prompt {n}")]).collect();
            expected[4].push("more".to_owned());
            assert_eq!(two.shown(name, 7), expected, "{order:?}");
            two.assert_modes(name, 7);
            let plan = two.run_sync(name, &["plan", "--json"]).code(0).json();
            assert_eq!(plan["waiting"], json!([]), "{plan}");
            assert_eq!(plan["forks"], json!([]), "{plan}");
        }
        // Codex adds a line to each conversation that it opens (0.169): that is no conflict either.
        assert_ne!(text(&a, 0), text(&b, 0));
        two.sync(&order);
        two.sync(&order);
        for n in 0..7 {
            assert_eq!(text(&a, n), text(&b, n), "{n}");
        }
        let _ = lab.manager(["history", "check"]).code(0);
        lab.resume(&b, &id(0), "on b");
        two.sync(&["b", "a"]);
        assert_eq!(messages(&rollout(&a, &id(0))), ["prompt 0", "on b"]);
    }
}

#[test]
fn a_turn_added_to_the_old_form_is_a_conflict_and_stays_readable() {
    for order in [["a", "b"], ["b", "a"]] {
        let Some(two) = TwoMachines::with_legacy(2) else {
            return;
        };
        two.configure("[conflict]\npolicy = \"manual\"\n");
        two.migrate("a", None);
        two.lab.resume(&two.b, &id(0), "late");
        let _ = two.run_sync(order[0], &["run", "--apply"]).code(0);
        let _ = two.run_sync(order[1], &["run", "--apply"]).code(2);
        let _ = two
            .run_sync(order[1], &["resolve", &id(0), "--keep", "both"])
            .code(0);
        two.sync(&["a", "b", "a"]);
        for name in order {
            let home = two.home(name);
            let kept: Vec<_> = crate::support::lab::rollouts(&home);
            let kept: Vec<_> = kept.iter().map(|path| messages(path)).collect();
            for expected in [vec!["prompt 0"], vec!["prompt 0", "late"], vec!["prompt 1"]] {
                assert!(kept.iter().any(|kept| *kept == expected), "{kept:?}");
            }
            two.assert_modes(name, 2);
        }
    }
}

#[test]
fn a_home_of_300_migrated_conversations_has_no_conflict() {
    let Some(two) = TwoMachines::with_legacy(300) else {
        return;
    };
    let done = two.migrate("a", None);
    assert!(done.contains("300 migrated"), "{done}");
    two.sync(&["a", "b"]);
    two.assert_modes("b", 300);
    let done = two.migrate("b", None);
    assert!(
        done.contains(" 0 migrated, 302 already paginated"),
        "{done}"
    );
    two.sync(&["b", "a"]);
    assert_eq!(two.shown("b", 3), two.shown("a", 3));
}
