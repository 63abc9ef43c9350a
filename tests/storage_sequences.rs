//! Random sequences of turns, all `storage` commands (some of them killed), sync, backup and restore on
//! two machines. No line is lost, and no conversation exists twice. A failure prints the seed and the steps.

#![allow(
    clippy::print_stdout,
    reason = "the steps are shown when a test fails, or with --nocapture"
)]

use crate::support::env::Run;
use crate::support::fake_codex::FakeCodex;
use crate::support::faults::{Dice, run_ends_before_kill};
use crate::support::pair::Pair;
use crate::support::variables;
use codex_manager_core::codex::rollout::open_plain;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The default number of sequences.
const SEQUENCES: u64 = 4;

/// The number of steps of a sequence.
const STEPS: usize = 30;

const CONVERSATIONS: usize = 3;

fn id(conversation: usize) -> String {
    format!("01a10000-0000-7000-8000-{conversation:012}")
}

fn path(conversation: usize) -> PathBuf {
    PathBuf::from(format!(
        "sessions/2026/10/01/rollout-2026-10-01T00-00-00-{}.jsonl",
        id(conversation)
    ))
}

struct Machines {
    pair: Pair,
    /// The text of each conversation.
    texts: Vec<String>,
    steps: Vec<String>,
}

impl Machines {
    fn new() -> (Self, FakeCodex) {
        let mut pair = Pair::new();
        let codex = FakeCodex::new(&pair.0.path("codex"));
        pair.0
            .set("PATH", format!("{}:/usr/bin:/bin", codex.dir().display()));
        let texts = (0..CONVERSATIONS).map(|n| {
            let id = id(n);
            format!("{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"}}}}\n")
        });
        let texts: Vec<_> = texts.collect();
        for (n, text) in texts.iter().enumerate() {
            pair.put("a", path(n).to_str().unwrap(), text);
        }
        pair.apply("a");
        pair.apply("b");
        (
            Self {
                pair,
                texts,
                steps: Vec::new(),
            },
            codex,
        )
    }

    fn arguments(&self, machine: &str, args: &[&str]) -> Vec<String> {
        let home = self.pair.home(machine);
        let mut all = vec![
            "--manager-home".to_owned(),
            format!("manager-{machine}"),
            "--codex-home".to_owned(),
            home.display().to_string(),
            "--yes".to_owned(),
        ];
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        all
    }

    fn run(&mut self, machine: &str, args: &[&str]) -> Run {
        self.steps.push(format!("{machine}: {args:?}"));
        self.pair.0.run(self.arguments(machine, args)).code(0)
    }

    fn kill(&mut self, machine: &str, args: &[&str], dice: &mut Dice) {
        let delay = Duration::from_micros(dice.below(60_000));
        let all = self.arguments(machine, args);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let ended = run_ends_before_kill(&self.pair.0, &all, delay);
        self.steps.push(format!(
            "{machine}: {args:?} killed after {delay:?}: ended {ended}"
        ));
    }

    /// Continues a conversation. Like Codex, decompresses it first.
    fn turn(&mut self, machine: &str, dice: &mut Dice) {
        self.pair.apply(machine);
        let n = usize::try_from(dice.below(CONVERSATIONS as u64)).unwrap();
        let plain = self.pair.home(machine).join(path(n));
        let packed = plain.with_extension("jsonl.zst");
        if !plain.exists() && !packed.exists() {
            // The conversation is in the trash of one of the machines.
            return;
        }
        if !plain.exists() {
            fs::write(&plain, read(&packed)).unwrap();
            fs::remove_file(&packed).unwrap();
        }
        let words = format!("{:?}", dice.bytes(40));
        let line = format!("{{\"type\":\"event_msg\",\"payload\":\"{words}\"}}\n");
        self.texts[n].push_str(&line);
        let text = fs::read_to_string(&plain).unwrap() + &line;
        fs::write(&plain, text).unwrap();
        self.steps.push(format!("{machine}: a turn in {n}"));
        self.pair.apply(machine);
    }

    /// Returns the conversations in the trash of a machine, with their texts.
    fn trashed(&self, machine: &str) -> Vec<(usize, Vec<u8>)> {
        let args = self.arguments(machine, &["storage", "undelete", "--json"]);
        let listed = self.pair.0.run(args).code(0).json();
        let entries = listed["items"].as_array().expect("items");
        let entry = |entry: &Value| {
            let folder = entry["path"].as_str().expect("a path");
            let folder = self.pair.0.path(folder.trim_start_matches("[ROOT]/"));
            let n = (0..CONVERSATIONS).find(|n| entry["session_id"] == id(*n));
            let files = fs::read_dir(&folder).unwrap().flatten();
            let mut files = files.map(|entry| entry.path());
            let rollout = files.find(|path| !path.ends_with("conversation.json"));
            (
                n.expect("a conversation"),
                read(&rollout.expect("a rollout")),
            )
        };
        entries.iter().map(entry).collect()
    }

    /// Moves a conversation to the trash, unless it is in a trash already.
    fn trash(&mut self, machine: &str, dice: &mut Dice) {
        let trashed = ["a", "b"].map(|machine| self.trashed(machine)).concat();
        let trashed: BTreeSet<usize> = trashed.into_iter().map(|(n, _)| n).collect();
        let live = |n: &usize| {
            let plain = self.pair.home(machine).join(path(*n));
            plain.exists() || plain.with_extension("jsonl.zst").exists()
        };
        let candidates = (0..CONVERSATIONS).filter(|n| !trashed.contains(n));
        let candidates: Vec<usize> = candidates.filter(live).collect();
        let choice = dice.below(candidates.len() as u64);
        let Some(n) = candidates.get(usize::try_from(choice).unwrap()) else {
            return;
        };
        let id = id(*n);
        if dice.below(3) == 0 {
            self.kill(machine, &["storage", "trash", &id], dice);
        } else {
            let _ = self.run(machine, &["storage", "trash", &id]);
        }
    }

    /// Restores all conversations of the trash that the home does not have.
    fn undelete(&mut self, machine: &str, dice: Option<&mut Dice>) {
        let trashed = self.trashed(machine);
        if let (Some(dice), Some((n, _))) = (dice, trashed.first())
            && dice.below(3) == 0
        {
            return self.kill(machine, &["storage", "undelete", &id(*n)], dice);
        }
        for (n, _) in trashed {
            let args = self.arguments(machine, &["storage", "undelete", &id(n)]);
            let run = self.pair.0.run(args);
            self.steps
                .push(format!("{machine}: undelete {n}: {}", run.code));
            let is_occupied = run.code == 2 && run.stderr.contains("has this conversation already");
            assert!(run.code == 0 || is_occupied, "{run}");
        }
    }

    /// Creates unused space in a database by writing and deleting rows, and frees it.
    fn vacuum(&mut self, machine: &str, dice: &mut Dice) {
        let path = self.pair.home(machine).join("logs_2.sqlite");
        let count = {
            let logs = Connection::open(&path).unwrap();
            logs.execute_batch(
                "CREATE TABLE IF NOT EXISTS logs(id INTEGER PRIMARY KEY, ts INTEGER, body TEXT);
                 INSERT INTO logs(ts, body) VALUES(1, 'kept'), (1, zeroblob(90000));
                 DELETE FROM logs WHERE body != 'kept';",
            )
            .unwrap();
            count_logs(&logs)
        };
        if dice.below(2) == 0 {
            self.kill(machine, &["storage", "vacuum"], dice);
        }
        let _ = self.run(machine, &["storage", "vacuum"]);
        assert_eq!(count_logs(&Connection::open(&path).unwrap()), count);
    }

    fn step(&mut self, dice: &mut Dice) {
        const SHRINK: [&str; 6] = ["storage", "shrink", "--older-than", "0s", "--min-size", "0"];
        const EXPAND: [&str; 2] = ["storage", "expand"];
        let machine = ["a", "b"][usize::from(dice.below(2) == 1)];
        match dice.below(12) {
            0 | 1 => self.turn(machine, dice),
            2 => drop(self.run(machine, &SHRINK)),
            3 => drop(self.run(machine, &EXPAND)),
            4 => self.kill(machine, &SHRINK, dice),
            5 => self.kill(machine, &EXPAND, dice),
            6 => drop(self.run(machine, &["backup", "--no-status"])),
            7 => {
                let _ = self.run(machine, &["backup", "--no-status"]);
                let _ = self.run(machine, &SHRINK);
                let _ = self.run(machine, &["restore", "latest", "--auth", "skip"]);
            }
            8 => self.trash(machine, dice),
            9 => self.undelete(machine, Some(dice)),
            10 => self.vacuum(machine, dice),
            _ => {
                self.steps.push(format!("{machine}: sync"));
                self.pair.apply(machine);
            }
        }
    }

    /// Asserts that both machines have every line once, and one file per conversation.
    fn check(&mut self) {
        for machine in ["a", "b"] {
            self.undelete(machine, None);
            self.pair.apply(machine);
        }
        for machine in ["a", "b", "a", "b"] {
            self.pair.apply(machine);
        }
        for (n, text) in ["a", "b"].map(|machine| self.trashed(machine)).concat() {
            // The other machine continued it.
            assert!(self.texts[n].as_bytes().starts_with(&text), "trash: {n}");
        }
        for machine in ["a", "b"] {
            let _ = self.run(machine, &["storage", "expand"]);
            for (n, text) in self.texts.clone().iter().enumerate() {
                let plain = self.pair.home(machine).join(path(n));
                assert_eq!(read(&plain), text.as_bytes(), "{machine} {n}");
                assert!(!plain.with_extension("jsonl.zst").exists(), "{machine} {n}");
            }
            let folder = self.pair.home(machine).join(path(0));
            let files = fs::read_dir(folder.parent().unwrap()).unwrap().flatten();
            let names: Vec<_> = files.map(|entry| entry.file_name()).collect();
            assert_eq!(names.len(), CONVERSATIONS, "{names:?}");
        }
    }
}

fn count_logs(database: &Connection) -> u64 {
    let count = database.query_row("SELECT count(*) FROM logs", [], |row| row.get(0));
    count.unwrap()
}

/// Returns the text of a plain or compressed rollout.
fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = open_plain(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let _ = reader.read_to_end(&mut bytes).expect("read");
    bytes
}

/// Prints the steps if the sequence fails.
struct Sequence(Machines, u64);

impl Drop for Sequence {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}\n  {}", self.1, self.0.steps.join("\n  "));
        }
    }
}

#[test]
fn i2_storage_sync_backup_and_restore_lose_no_line() {
    let seeds = variables::seeds(SEQUENCES);
    println!("{seeds:?}");
    for seed in seeds {
        let mut dice = Dice::seeded(seed);
        let (machines, _codex) = Machines::new();
        let mut sequence = Sequence(machines, seed);
        for _ in 0..STEPS {
            sequence.0.step(&mut dice);
        }
        sequence.0.check();
    }
}
