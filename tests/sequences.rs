//! I2, I5: random sequences of commands, some of them killed. No refresh token is spent twice, no account
//! is lost, and launches are recorded and bound to the account of their conversation. Uses the real
//! Codex and a mock backend that rotates tokens and revokes reused ones.
//!
//! A failure prints the seed, the steps, the output of Codex, the location of each token, and the requests to the
//! backend.

#![allow(
    clippy::print_stdout,
    reason = "seeds are shown when a test fails, or with --nocapture"
)]

use crate::support::env::Run;
use crate::support::faults::Dice;
use crate::support::lab::{Lab, creator, rollouts};
use crate::support::launched::{isolated_homes, isolated_logins, launches, registry, turns};
use crate::support::pauses::vary;
use crate::support::sign_in::{SignIn, expired_auth, write_auth, write_auth_text};
use crate::support::{processes, variables};
use codex_manager_core::codex::process::find_codex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The default number of sequences.
const SEQUENCES: u64 = 5;

/// The time limit for a Codex that a killed command has left.
const ORPHANS: Duration = Duration::from_secs(60);

/// The longest work of a launch before the start or after the end of Codex, in microseconds.
const EDGE_MICROS: u64 = 60_000;

const ACCOUNTS: [&str; 2] = ["alice", "bob"];

/// A test environment, with the steps so far.
struct Sequence {
    lab: Lab,
    seed: u64,
    steps: Vec<String>,
    archives: Vec<String>,
    /// The number of launches that were not killed.
    launched: usize,
    /// The last duration of each kind of command, to kill the next one before its end.
    took: HashMap<String, Duration>,
}

impl Sequence {
    fn begin(seed: u64, dice: &mut Dice) -> Option<Self> {
        let lab = Lab::signed_in(&SignIn::bob().with_expired_token())?;
        lab.backend.revoke_family_on_reuse(true);
        for account in ACCOUNTS {
            let delay_ms = dice.below(2) * 150;
            let account = lab.backend.account(&format!("acct-{account}"));
            account.set(|account| account.refresh_delay_ms = delay_ms);
        }
        let mut sequence = Self {
            lab,
            seed,
            steps: Vec::new(),
            archives: Vec::new(),
            launched: 0,
            took: HashMap::new(),
        };
        sequence.manage(&["profile", "save", "bob"], &[0]);
        write_auth(&sequence.lab.home(), &SignIn::alice().with_expired_token());
        sequence.manage(&["profile", "save", "alice"], &[0]);
        sequence.manage(&["backup", "--no-status", "--json"], &[0]);
        Some(sequence)
    }

    /// Returns the details that help to understand a failure.
    fn context(&self) -> String {
        let mut text = format!("seed {}\n", self.seed);
        for step in &self.steps {
            let _ = writeln!(text, "  {step}");
        }
        let _ = writeln!(text, "tokens:");
        for path in self.lab.world.tree("home").0.into_keys() {
            let path = self.lab.world.path("home").join(path);
            let is_login = path.extension().is_some_and(|e| e == "json")
                && path.to_string_lossy().contains("auth");
            let history = path.parent().is_some_and(|p| p.ends_with("history"));
            if let Some(token) = token(&path).filter(|_| is_login || history) {
                let _ = writeln!(text, "  {token} in {}", path.display());
            }
        }
        let _ = writeln!(text, "the backend saw:");
        for (token, status) in self.lab.backend.refreshes() {
            let _ = writeln!(text, "  {token} {status}");
        }
        let _ = writeln!(text, "turns: {:?}", turns(&self.lab));
        let _ = writeln!(text, "launches:\n{}", registry(&self.lab));
        text
    }

    /// Runs a command of the manager to its end.
    #[track_caller]
    fn manage(&mut self, args: &[&str], fine: &[i32]) -> Run {
        let began = Instant::now();
        let run = self.lab.manager(args);
        let took = began.elapsed();
        self.steps
            .push(format!("{args:?}: {} in {took:?}", run.code));
        assert!(fine.contains(&run.code), "{run}");
        self.took.insert(kind(args), took);
        if args[0] == "backup" {
            let name = run.json()["archive"].as_str().expect("a name").to_owned();
            self.archives.push(name);
        }
        run
    }

    /// Runs a command of the manager, and kills it at a random time.
    fn kill(&mut self, args: &[&str], dice: &mut Dice) {
        let usual = self.took.get(&kind(args)).copied();
        let usual = usual.unwrap_or(Duration::from_millis(300));
        let micros = u64::try_from(usual.as_micros()).expect("short");
        let delay = Duration::from_micros(match dice.below(4) {
            // A launch itself works only before the start and after the end of Codex.
            0 => dice.below(EDGE_MICROS),
            1 => (micros + EDGE_MICROS / 2).saturating_sub(dice.below(EDGE_MICROS)),
            _ => dice.below(micros * 11 / 10),
        });
        let mut child = self
            .lab
            .world
            .command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        vary(delay);
        let ended = child.try_wait().expect("wait").is_some();
        let _ = child.kill();
        let _ = child.wait();
        let how = if ended { "ended before" } else { "killed" };
        self.steps.push(format!("{args:?}: {how} after {delay:?}"));
    }

    /// Waits for each Codex that a killed command has left in the homes.
    #[track_caller]
    fn wait_for_codex(&self) {
        let end = Instant::now() + ORPHANS;
        while let Some(pid) = self.orphan() {
            let left = processes::wait_for_end(&[pid], ORPHANS);
            assert!(
                left.is_empty() && Instant::now() < end,
                "an orphaned Codex still runs"
            );
        }
    }

    fn orphan(&self) -> Option<u32> {
        // A process has no environment for a moment while it becomes Codex; the registry has its id before.
        let launched = self.launched_codex();
        if let Some(pid) = launched.into_iter().find(|pid| processes::alive(*pid)) {
            return Some(pid);
        }
        let isolated = isolated_homes(&self.lab.world.manager_home());
        let mut homes = isolated.into_iter().chain([self.lab.home()]);
        homes.find_map(|home| find_codex(&home).first()?.pid)
    }

    /// Returns the processes of the launches whose end is not recorded.
    fn launched_codex(&self) -> Vec<u32> {
        let mut newest = BTreeMap::new();
        for line in registry(&self.lab).lines() {
            // A killed command may leave half a line.
            if let Ok(record) = serde_json::from_str::<serde_json::Value>(line) {
                newest.insert(record["launch_id"].to_string(), record);
            }
        }
        let unsettled = newest.into_values().filter(|r| r["settled"] == false);
        let pids = unsettled.filter_map(|record| record["child"]["pid"].as_u64());
        pids.filter_map(|pid| u32::try_from(pid).ok()).collect()
    }

    /// Makes all access tokens expired, so that the next Codex renews the logins.
    fn expire_logins(&mut self) {
        self.wait_for_codex();
        self.steps.push("all access tokens expire".to_owned());
        expire(&self.lab);
    }

    /// Runs one turn of Codex. Two Codex processes that renew at once spend a token twice, and recover
    /// from that, so a Codex that a killed command has left ends first.
    #[track_caller]
    fn exec(&mut self, is_due: bool) {
        self.wait_for_codex();
        if is_due {
            self.expire_logins();
        }
        let home = self.lab.home();
        let began = Instant::now();
        let printed = self.lab.codex.exec(&home, &self.lab.backend, &["hello"]);
        let took = began.elapsed();
        self.steps
            .push(format!("exec: {} in {took:?}", printed.status));
        assert!(printed.status.success(), "Codex failed\n{printed}");
    }

    /// Launches Codex, isolated or not, or resumes an earlier conversation. A Codex that a killed command
    /// has left ends first, as in [`Sequence::exec`].
    #[track_caller]
    fn launch(&mut self, account: &str, is_resume: bool, dice: &mut Dice) {
        self.wait_for_codex();
        if dice.below(3) > 0 {
            self.expire_logins();
        }
        let known = rollouts(&self.lab.home());
        let resumed = (is_resume && !known.is_empty()).then(|| {
            let file = chosen(&known, dice);
            let stem = file.file_stem().expect("a name").to_string_lossy();
            (stem[stem.len() - 36..].to_owned(), creator(file))
        });
        let mut args = match &resumed {
            Some((id, _)) => vec!["resume", id],
            None => vec!["launch", account],
        };
        args.extend((dice.below(2) == 0).then_some("--isolated"));
        args.extend(["--", "exec", "--skip-git-repo-check", "hello"]);
        if dice.below(2) == 0 {
            return self.kill(&args, dice);
        }
        let before = turns(&self.lab).len();
        self.manage(&args, &[0]);
        self.launched += 1;
        let paid = &turns(&self.lab)[before..];
        let row = launches(&self.lab).remove(0);
        assert_eq!(row["state"], "bound", "{row}");
        assert_eq!(row["account_id"], paid[0], "{row}");
        let (id, account) = resumed.unwrap_or_else(|| (String::new(), format!("acct-{account}")));
        assert_eq!(paid, [account]);
        assert!(id.is_empty() || row["session_id"] == *id, "{row}");
    }

    fn step(&mut self, dice: &mut Dice) {
        let account = *chosen(&ACCOUNTS, dice);
        let older = chosen(&self.archives, dice).clone();
        let args: &[&str] = match dice.below(19) {
            0..3 => &["use", account],
            3..6 => return self.exec(dice.below(3) > 0),
            6..8 => &["status", "--all"],
            8 => &["status"],
            9 => &["backup", "--json"],
            10 => &["backup", "--no-status", "--json"],
            11 => &["restore", "latest", "--yes"],
            12 => &["restore", &older, "--yes"],
            13..17 => return self.launch(account, false, dice),
            _ => return self.launch(account, true, dice),
        };
        let asks = args[0] == "status" || args == ["backup", "--json"];
        if asks && dice.below(3) > 0 {
            self.expire_logins();
        }
        if dice.below(2) == 0 {
            self.kill(args, dice);
        } else {
            // A Codex of a killed command may still use a home. Then a restore, and the use of an isolated
            // login, are refused; figures may be missing.
            let fine: &[i32] = match args[0] {
                "restore" | "use" => &[0, 3],
                "status" | "backup" => &[0, 6],
                _ => &[0],
            };
            let run = self.manage(args, fine);
            let is_isolated = run.stderr.contains("isolated home");
            assert!(args[0] != "use" || run.code == 0 || is_isolated, "{run}");
        }
        let reused = self.lab.backend.reused_tokens();
        assert!(reused.is_empty(), "tokens were spent twice: {reused:?}");
    }

    /// Checks that every launch is listed, none runs, and each conversation belongs to its account.
    fn check_launches(&mut self) {
        self.wait_for_codex();
        let rows = launches(&self.lab);
        let registry = registry(&self.lab);
        let ids: BTreeSet<_> = registry
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a record"))
            .map(|record| record["launch_id"].to_string())
            .collect();
        let listed: BTreeSet<_> = rows
            .iter()
            .map(|row| row["launch_id"].to_string())
            .collect();
        assert_eq!(ids, listed);
        assert!(rows.len() >= self.launched, "{rows:?}");
        for row in &rows {
            assert_ne!(row["state"], "running", "{row}");
            // A restore may have removed the conversation.
            let rollout = row["rollout_path"].is_string();
            let rollout = rollout.then(|| self.lab.path_in(&row["rollout_path"]));
            if let Some(rollout) = rollout.filter(|path| path.exists()) {
                assert_eq!(row["account_id"], creator(&rollout), "{row}");
            }
        }
    }

    /// Checks that every account can still be used.
    fn end(&mut self) {
        self.check_launches();
        for account in ACCOUNTS {
            self.manage(&["use", account], &[0]);
            self.exec(true);
        }
        let reused = self.lab.backend.reused_tokens();
        assert!(reused.is_empty(), "tokens were spent twice: {reused:?}");
        let probes = self.lab.world.manager_home().join("profiles/.probes");
        let left = fs::read_dir(probes).into_iter().flatten().flatten();
        let left: Vec<PathBuf> = left.map(|e| e.path()).filter(|p| p.is_dir()).collect();
        assert!(left.is_empty(), "files remain: {left:?}");
        let isolated = isolated_logins(&self.lab.world.manager_home());
        assert!(isolated.is_empty(), "isolated logins remain: {isolated:?}");
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.context());
        }
    }
}

/// Replaces the access tokens of all logins, which no Codex may use, by expired ones.
pub(crate) fn expire(lab: &Lab) {
    let logins = isolated_logins(&lab.world.manager_home()).into_iter();
    let isolated = logins.map(|login| login.with_file_name(""));
    for home in isolated.chain([lab.home()]) {
        write_auth_text(&home, &expired_auth(&home));
    }
    for account in ACCOUNTS {
        let profile = lab.world.manager_home().join("profiles").join(account);
        write_auth_text(&profile, &expired_auth(&profile));
        // The recorded freshness is newer than the changed tokens: remove it.
        let path = profile.join("profile.json");
        let text = fs::read_to_string(&path).expect("profile.json");
        let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        file["newest"] = serde_json::json!({});
        fs::write(&path, file.to_string()).expect("write");
    }
}

/// Returns the kind of a command; commands of one kind take about the same time.
fn kind(args: &[&str]) -> String {
    if args[0] == "resume" {
        return args[0].to_owned();
    }
    args[0..args.len().min(3)].join(" ")
}

fn chosen<'a, T>(all: &'a [T], dice: &mut Dice) -> &'a T {
    &all[usize::try_from(dice.below(all.len() as u64)).expect("in range")]
}

fn token(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let auth: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(auth["tokens"]["refresh_token"].as_str()?.to_owned())
}

#[test]
fn i2_i5_no_sequence_of_killed_commands_spends_a_refresh_token_twice() {
    for seed in variables::seeds(SEQUENCES) {
        let began = Instant::now();
        let mut dice = Dice::seeded(seed);
        let Some(mut sequence) = Sequence::begin(seed, &mut dice) else {
            return;
        };
        for _ in 0..6 + dice.below(7) {
            sequence.step(&mut dice);
        }
        sequence.end();
        println!("{} steps in {:?}", sequence.steps.len(), began.elapsed());
    }
}
