//! Everything at once: bursts of real Codex turns of two accounts, one of them isolated, beside random commands of two
//! machines that sync, some killed or terminated. After each burst every acknowledged message is in one place, the
//! databases are whole, no refresh token was used twice, and the next command finds nothing to complain about.
//!
//! A failure prints the seed and the steps.

#![allow(
    clippy::print_stdout,
    reason = "seeds and steps are shown when a test fails, or with --nocapture"
)]

use crate::late_turns::{assert_databases_whole, rollout_text};
use crate::sequences::expire;
use crate::support::aftermath::stray_files;
use crate::support::env::Run;
use crate::support::faults::Dice;
use crate::support::lab::{Lab, messages_in, rollouts};
use crate::support::launched::{isolated_homes, isolated_logins};
use crate::support::pauses::{poll, vary};
use crate::support::sign_in::{SignIn, jwt_claims, read_auth, unix_now};
use crate::support::{processes, restic, variables};
use codex_manager_core::codex::process::find_codex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use walkdir::WalkDir;

/// The default number of seeds.
const SEQUENCES: u64 = 2;

/// The default number of bursts of a seed.
const BURSTS: u64 = 4;

/// The time limit of each program.
const LIMIT: Duration = Duration::from_secs(90);

/// The longest time from the start of a burst to the start of one of its programs, and to its end by a signal.
const SPREAD_MS: u64 = 1_500;

const ACCOUNTS: [&str; 2] = ["alice", "bob"];

/// The end of a command: by itself, or by a signal this long after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Own,
    Signal(&'static str, Duration),
}

/// A command of the manager in a burst.
#[derive(Debug, Clone)]
struct Task {
    args: Vec<String>,
    after: Duration,
    end: End,
}

/// Turns of Codex in a burst: for each one the pause before it, the message, and the conversation that it continues.
type Turns = Vec<(Duration, String, Option<String>)>;

/// Two machines: the home of the lab with its isolated homes, and the home `b`, which receives conversations by sync.
struct Machines {
    lab: Lab,
    seed: u64,
    steps: Mutex<Vec<String>>,
    /// The acknowledged messages that the home has.
    present: BTreeSet<String>,
    /// The acknowledged messages that a restore, or the user, has moved out of the home.
    elsewhere: BTreeSet<String>,
    has_vault: bool,
}

impl Machines {
    fn new(seed: u64) -> Option<Self> {
        let mut lab = Lab::of_two(
            &SignIn::alice().with_expired_token(),
            &SignIn::bob().with_expired_token(),
        )?;
        lab.backend.revoke_family_on_reuse(true);
        let world = &mut lab.world;
        for (name, home) in [("a", world.codex_home()), ("b", world.path("b"))] {
            fs::create_dir_all(&home).expect("folder");
            let backups = world.path(&format!("backups-{name}"));
            let cloud = world.path("cloud");
            let text = format!(
                "[identity]\nmachine_id = '{name}'\n[paths]\ncloud_root_dir = '{}'\n\
                 local_state_dir = '{}'\nbackup_dir = '{}'\n",
                cloud.display(),
                home.display(),
                backups.display(),
            );
            world.write(&format!("{name}.toml"), text);
        }
        fs::create_dir(world.path("cloud")).expect("folder");
        let has_vault = restic::program().is_some();
        if has_vault {
            restic::new_repository(&world.path("vault"));
            world.set("RESTIC_PASSWORD", restic::PASSWORD);
            let _ = world.run(["vault", "init", "vault"]).code(0);
        }
        let machines = Self {
            lab,
            seed,
            steps: Mutex::default(),
            present: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            has_vault,
        };
        machines.lab.say("the first conversation");
        let _ = machines.lab.back_up();
        Some(machines)
    }

    fn note(&self, step: String) {
        self.steps.lock().expect("steps").push(step);
    }

    /// Returns the id of a random conversation in the home.
    fn conversation(&self, dice: &mut Dice) -> Option<String> {
        let found = rollouts(&self.lab.home());
        let place = usize::try_from(dice.below(found.len() as u64)).expect("in range");
        let name = found.get(place)?.file_name()?.to_str()?;
        Some(name.get(28..64)?.to_owned())
    }

    /// Returns the id of a conversation in the trash.
    fn trashed(&self) -> Option<String> {
        let trash = self.lab.world.manager_home().join("trash/conversations");
        let files = WalkDir::new(trash).into_iter().filter_map(Result::ok);
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        let mut rollouts = names.filter(|name| name.starts_with("rollout-") && name.len() > 64);
        Some(rollouts.next()?[28..64].to_owned())
    }

    /// Chooses a command. A restore is chosen more often, because most are refused while Codex runs.
    fn args(&self, dice: &mut Dice) -> Vec<String> {
        const SHRINK: &[&str] = &["storage", "shrink", "--older-than", "0s", "--min-size", "0"];
        let conversation = self.conversation(dice).unwrap_or_default();
        let trashed = self.trashed().unwrap_or_else(|| conversation.clone());
        let of_b = ["--manager-home", "manager-b"];
        let args: &[&str] = match dice.below(26) {
            0 | 1 => &["backup", "--no-status"],
            2 if self.has_vault => &["vault", "backup"],
            2 | 3 => SHRINK,
            4 => &["storage", "expand"],
            5 | 6 if !conversation.is_empty() => &["storage", "trash", &conversation],
            5..8 => &["storage", "undelete", &trashed],
            8 => &["storage", "vacuum"],
            9..12 => &["sync", "-c", "a.toml", "run", "--apply"],
            12 => &["sync", "-c", "b.toml", "run", "--apply"],
            13 | 14 => &["history", "repair"],
            15 => &["find", "message"],
            16 => &["usage"],
            17 => &["use", "alice"],
            18 => &["use", "bob"],
            19 => &["prune", "--keep-last", "2"],
            20 => &["restore", "latest", "--merge"],
            21 => &["restore", "latest", "--no-safety-backup", "--merge"],
            _ => &["restore", "latest"],
        };
        let is_of_b = args.contains(&"b.toml");
        let all = of_b
            .iter()
            .filter(|_| is_of_b)
            .chain(args)
            .chain(&["--yes"]);
        all.map(|arg| (*arg).to_owned()).collect()
    }

    fn task(&self, dice: &mut Dice) -> Task {
        let mut within = |ms: u64| Duration::from_micros(dice.below(ms * 1_000));
        let (after, delay) = (within(SPREAD_MS), within(SPREAD_MS / 2));
        let end = match dice.below(4) {
            0 => End::Signal("KILL", delay),
            1 => End::Signal("TERM", delay),
            _ => End::Own,
        };
        let args = self.args(dice);
        Task { args, after, end }
    }

    fn turns(&self, name: &str, dice: &mut Dice) -> Turns {
        let turn = |n: u64| {
            let pause = Duration::from_micros(dice.below(SPREAD_MS * 500));
            let resumed = (dice.below(2) == 0).then(|| self.conversation(dice));
            (
                pause,
                format!("message {name}.{n} of it"),
                resumed.flatten(),
            )
        };
        (0..2).map(turn).collect()
    }

    /// Runs a command of the manager as the task says. Returns `None` if a signal ended it.
    fn run(&self, task: &Task) -> Option<Run> {
        vary(task.after);
        let [out, err] = [(); 2].map(|()| tempfile::NamedTempFile::new().expect("a file"));
        let mut command = self.lab.world.command(&task.args);
        command.stdin(Stdio::null());
        command.stdout(out.reopen().expect("open"));
        command.stderr(err.reopen().expect("open"));
        let began = Instant::now();
        let mut child = command.spawn().expect("start");
        let mut signal = match task.end {
            End::Own => None,
            End::Signal(name, delay) => Some((name, delay)),
        };
        let status = poll(LIMIT, || {
            if let Some((name, _)) = signal.take_if(|(_, delay)| began.elapsed() >= *delay) {
                processes::signal(name, child.id());
            }
            child.try_wait().expect("wait")
        });
        let status = status.unwrap_or_else(|| {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the command does not end: {task:?}")
        });
        let text = |file: &tempfile::NamedTempFile| {
            let bytes = fs::read(file.path()).expect("read");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let run = Run {
            stdout: text(&out),
            stderr: text(&err),
            code: status.code().unwrap_or(-1),
        };
        let last = run.stderr.lines().last().unwrap_or_default().to_owned();
        self.note(format!("{task:?}: {status} {last}"));
        assert!(!run.stderr.contains("panicked"), "{task:?}: {run}");
        status.code().is_some().then_some(run)
    }

    /// Runs a command to its end. Every documented code is fine beside other programs, except an invalid flag.
    fn run_task(&self, task: &Task) {
        if let Some(run) = self.run(task) {
            let is_ended = task.end != End::Own;
            assert!(
                matches!(run.code, 0..=3 | 5 | 6) || is_ended,
                "{task:?}: {run}"
            );
        }
    }

    /// Runs turns of the live account with Codex itself. Returns the acknowledged messages.
    fn live_turns(&self, turns: &Turns) -> Vec<String> {
        let mut acknowledged = Vec::new();
        for (pause, message, resumed) in turns {
            vary(*pause);
            let resume = resumed.iter().flat_map(|id| ["resume", id]);
            let args = ["exec", "--skip-git-repo-check"].into_iter().chain(resume);
            let args: Vec<&str> = args.chain([message.as_str()]).collect();
            let home = self.lab.home();
            if !home.join("config.toml").exists() {
                continue;
            }
            let done = self.lab.codex.start(&home, &self.lab.backend, &args);
            let done = done.finish(LIMIT);
            self.note(format!("codex {args:?}: {}", done.status));
            if done.status.success() {
                acknowledged.push(message.clone());
            }
        }
        acknowledged
    }

    /// Runs turns of an isolated account.
    fn isolated_turns(&self, account: &str, turns: &Turns, end: End) -> Vec<String> {
        let mut acknowledged = Vec::new();
        for (pause, message, resumed) in turns {
            let mut args = vec!["launch", account, "--isolated", "--yes"];
            if let Some(id) = resumed {
                args = vec![
                    "resume",
                    id,
                    "--profile",
                    account,
                    "--isolated",
                    "--rebind",
                    "--yes",
                ];
            }
            args.extend(["--", "exec", "--skip-git-repo-check", message]);
            let task = Task {
                args: args.into_iter().map(str::to_owned).collect(),
                after: *pause,
                end,
            };
            let run = self.run(&task);
            // A signal may end the manager after Codex has acknowledged; such a message is not demanded.
            if run.is_some_and(|run| run.code == 0) {
                acknowledged.push(message.clone());
            }
        }
        acknowledged
    }

    /// Waits for every Codex that a killed command has left.
    #[track_caller]
    fn wait_for_codex(&self) {
        let until = Instant::now() + LIMIT;
        let orphan = || {
            let isolated = isolated_homes(&self.lab.world.manager_home());
            let mut homes = isolated.into_iter().chain([self.lab.home()]);
            homes.find_map(|home| find_codex(&home).first()?.pid)
        };
        while let Some(pid) = orphan() {
            let left = processes::wait_for_end(&[pid], LIMIT);
            assert!(left.is_empty() && Instant::now() < until, "{pid} runs");
        }
    }

    fn live(&self) -> String {
        let current = self.lab.manager(["current", "--json"]).code(0).json();
        current["profile"].as_str().expect("a profile").to_owned()
    }

    /// Returns true if the next Codex of the account renews its login.
    fn is_renewal_due(&self, account: &str) -> bool {
        let profile = self.lab.world.manager_home().join("profiles").join(account);
        let auth = read_auth(&profile);
        let claims = jwt_claims(auth["tokens"]["access_token"].as_str().expect("a token"));
        claims["exp"].as_i64().expect("a time") <= unix_now()
    }

    /// Runs one burst, and checks what it leaves.
    fn burst(&mut self, number: u64, dice: &mut Dice) {
        self.note(format!("burst {number}"));
        let live = self.live();
        let other = *ACCOUNTS.iter().find(|name| **name != live).expect("two");
        let mut tasks: Vec<Task> = (0..3 + dice.below(4)).map(|_| self.task(dice)).collect();
        if dice.below(3) == 0 {
            // A switch while Codex renews would have two Codex processes renew one login, which only Codex can prevent.
            expire(&self.lab);
            tasks.retain(|task| task.args[0] != "use");
            self.note("all access tokens expire".to_owned());
        }
        let (direct, isolated) = (
            self.turns(&format!("{number}-live"), dice),
            self.turns(&format!("{number}-isolated"), dice),
        );
        let end = match dice.below(5) {
            0 => End::Signal("KILL", Duration::from_millis(dice.below(SPREAD_MS))),
            // A launch forwards SIGTERM, and Codex loses a new token that it has not yet written.
            1 if self.is_renewal_due(other) => End::Own,
            1 => End::Signal("TERM", Duration::from_millis(dice.below(SPREAD_MS))),
            _ => End::Own,
        };
        let all = &*self;
        let acknowledged: Vec<String> = std::thread::scope(|scope| {
            let workers: Vec<_> = tasks
                .iter()
                .map(|task| scope.spawn(move || all.run_task(task)))
                .collect();
            let direct = scope.spawn(|| all.live_turns(&direct));
            let isolated = scope.spawn(|| all.isolated_turns(other, &isolated, end));
            for worker in workers {
                worker.join().expect("a command");
            }
            let ended = [direct, isolated].map(|turns| turns.join().expect("turns"));
            ended.concat()
        });
        self.note(format!("acknowledged: {acknowledged:?}"));
        self.present.extend(acknowledged);
        self.settle();
        self.check();
    }

    /// Runs the next command, which clears what killed ones have left.
    #[track_caller]
    fn settle(&self) {
        self.wait_for_codex();
        let cleared = self.lab.manager(["launches"]);
        self.note(format!("launches: {} {}", cleared.code, cleared.stderr));
        let _ = self.lab.manager(["launches"]).code(0);
        let checked = self.lab.manager(["doctor", "--json"]).code(0).json();
        let checks = checked["checks"].as_array().expect("checks").iter();
        let failed: Vec<&Value> = checks.filter(|check| check["status"] == "fail").collect();
        assert!(failed.is_empty(), "{failed:#?}");
        // A backup clears what is left of other backups, and proves that the home can be read.
        let _ = self.lab.manager(["backup", "--no-status"]).code(0);
        // A sync clears the temp files of a killed one in both folders.
        let _ = self.lab.manager(["sync", "-c", "a.toml", "run", "--apply"]);
        let left = stray_files(&self.lab.world);
        let is_kept = |path: &PathBuf| path.to_string_lossy().contains(".kept-");
        let left: Vec<_> = left.into_iter().filter(|path| !is_kept(path)).collect();
        assert!(left.is_empty(), "{left:?}");
        let isolated = || isolated_logins(&self.lab.world.manager_home());
        if !isolated().is_empty() {
            // The login of a killed launch returns with the next command that locks its account.
            let live = self.live();
            let account = ACCOUNTS.iter().find(|name| **name != live);
            let _ = self.lab.manager(["use", account.expect("two")]).code(0);
        }
        assert!(isolated().is_empty(), "{:?}", isolated());
    }

    #[track_caller]
    fn check(&mut self) {
        let reused = self.lab.backend.reused_tokens();
        assert!(reused.is_empty(), "tokens were spent twice: {reused:?}");
        for home in [self.lab.home(), self.lab.world.path("b")] {
            assert_databases_whole(&home, "after a burst");
        }
        let counts = count(&rollouts(&self.lab.home()));
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "more than once: {twice:?}");
        let ids: BTreeSet<String> = rollouts(&self.lab.home())
            .iter()
            .map(|path| path.file_name().expect("a name").to_string_lossy()[28..64].to_owned())
            .collect();
        assert_eq!(ids.len(), rollouts(&self.lab.home()).len(), "two files");
        let missing: Vec<String> = self.present.iter().cloned().collect();
        let missing: Vec<String> = missing
            .into_iter()
            .filter(|message| !counts.contains_key(message))
            .collect();
        if missing.is_empty() {
            return;
        }
        let kept = self.kept();
        for message in missing {
            assert!(kept.contains(&message), "{message:?} is lost");
            self.note(format!("{message:?} is not in the home"));
            self.present.remove(&message);
            self.elsewhere.insert(message);
        }
    }

    /// Returns the messages in the trash, in the archives, and in what restores have kept.
    fn kept(&self) -> BTreeSet<String> {
        let places = ["home", "backups-a"].map(|name| self.lab.world.path(name));
        let all = places.into_iter().flat_map(WalkDir::new);
        let files = all.filter_map(Result::ok).map(walkdir::DirEntry::into_path);
        let home = self.lab.home();
        let files: Vec<PathBuf> = files.filter(|path| !path.starts_with(&home)).collect();
        let mut found: BTreeSet<String> = count(&files).into_keys().collect();
        for archive in files
            .iter()
            .filter(|path| path.to_string_lossy().ends_with(".tar.gz"))
        {
            let folder = tempfile::tempdir().unwrap();
            let mut tar = Command::new("tar");
            tar.arg("-xzf").arg(archive).arg("-C").arg(folder.path());
            let done = tar.stderr(Stdio::null()).status();
            assert!(done.expect("tar").success(), "{}", archive.display());
            let files = WalkDir::new(folder.path())
                .into_iter()
                .filter_map(Result::ok);
            let files: Vec<PathBuf> = files.map(walkdir::DirEntry::into_path).collect();
            found.extend(count(&files).into_keys());
        }
        found
    }

    /// Checks that both accounts can still be used, and renew their logins.
    fn end(&mut self) {
        for account in ACCOUNTS {
            let _ = self.lab.manager(["use", account]).code(0);
            expire(&self.lab);
            self.lab.say(&format!("the end of {account}"));
        }
        self.check();
    }
}

/// Returns how often each message of a user is in these rollouts, plain and compressed.
fn count(files: &[PathBuf]) -> BTreeMap<String, usize> {
    let is_rollout = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && (name.ends_with(".jsonl") || name.ends_with(".jsonl.zst"))
    };
    let mut counts = BTreeMap::new();
    for path in files.iter().filter(is_rollout) {
        for message in messages_in(rollout_text(path).as_bytes()) {
            *counts.entry(message).or_default() += 1;
        }
    }
    counts
}

impl Drop for Machines {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}", self.seed);
            let steps = self.steps.lock();
            for step in steps.iter().flat_map(|steps| steps.iter()) {
                println!("  {step}");
            }
        }
    }
}

#[test]
fn i2_i5_i10_random_concurrent_commands_lose_no_message_and_no_login() {
    for seed in variables::seeds(SEQUENCES) {
        let began = Instant::now();
        let mut dice = Dice::seeded(seed);
        let Some(mut machines) = Machines::new(seed) else {
            return;
        };
        let bursts = variables::value("CODEX_MANAGER_BURSTS").unwrap_or(BURSTS);
        for number in 0..bursts {
            machines.burst(number, &mut dice);
        }
        machines.end();
        println!(
            "seed {seed}: {bursts} bursts, {} messages in the home, {} elsewhere, {:?}",
            machines.present.len(),
            machines.elsewhere.len(),
            began.elapsed()
        );
    }
}
