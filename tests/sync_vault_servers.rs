//! Sync through a repository on a server: three machines over REST and SFTP whose runs are killed at random moments, and
//! the real Codex.

use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::lab::{messages, rollout};
use crate::support::pair::ID;
use crate::support::pauses::vary;
use crate::support::restic::{self, RestServer, SshServer};
use crate::support::two_machines::TwoMachines;
use crate::support::variables;
use crate::sync_vault::Machines;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 2;

/// Returns the path of a conversation.
fn conversation(number: usize) -> String {
    let id = ID.replace("3b455", &format!("3b45{number}"));
    format!("sessions/2026/11/18/rollout-2026-11-18T10-00-00-{id}.jsonl")
}

/// The machines, what their users wrote, and the longest time of a run.
struct Users {
    machines: Machines,
    dice: Dice,
    conversations: [String; 3],
    prompts: BTreeSet<String>,
    longest: Duration,
}

impl Users {
    fn new(machines: Machines, seed: u64) -> Self {
        let conversations = [0, 1, 2].map(|number| {
            let id = ID.replace("3b455", &format!("3b45{number}"));
            format!("{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"}}}}\n")
        });
        Self {
            machines,
            dice: Dice::seeded(seed),
            conversations,
            prompts: BTreeSet::new(),
            longest: Duration::from_millis(200),
        }
    }

    /// Continues a conversation, writes a prompt and a skill.
    fn write(&mut self, machine: usize, number: usize, text: &str) {
        let name = NAMES[machine];
        let known = &mut self.conversations[number];
        known.extend(["{\"n\":\"", text, "\"}\n"]);
        let known = known.clone();
        self.machines.put(name, &conversation(number), &known);
        let prompt = format!(
            "{{\"session_id\":\"x\",\"ts\":{},\"text\":\"{text}\"}}",
            self.prompts.len()
        );
        let history = self.machines.home(name).join("history.jsonl");
        let mut prompts = fs::read_to_string(history).unwrap_or_default();
        prompts.extend([&*prompt, "\n"]);
        self.machines.put(name, "history.jsonl", &prompts);
        self.machines
            .put(name, &format!("skills/{name}/SKILL.md"), text);
        self.prompts.insert(prompt);
    }

    /// Starts a run and kills it after a random time.
    fn run_killed(&mut self, name: &str) {
        let command = self.machines.command(name, &["run", "--apply"]);
        kill_at_random(command, &mut self.dice, self.longest);
    }

    /// Syncs all machines until all have everything.
    fn settle(&mut self) {
        for name in NAMES.into_iter().chain(NAMES) {
            let begun = Instant::now();
            self.machines.apply(name);
            self.longest = self.longest.max(begun.elapsed());
        }
        for name in NAMES {
            for (number, expected) in self.conversations.iter().enumerate() {
                if self.machines.has(name, &conversation(number)) || expected.lines().count() > 1 {
                    assert_eq!(
                        self.machines.text(name, &conversation(number)),
                        *expected,
                        "{name}"
                    );
                }
            }
            let prompts = self.machines.text(name, "history.jsonl");
            assert_eq!(
                prompts.lines().count(),
                self.prompts.len(),
                "{name}\n{prompts}"
            );
            let prompts: BTreeSet<_> = prompts.lines().map(str::to_owned).collect();
            assert_eq!(prompts, self.prompts, "{name}");
        }
    }
}

/// Starts a run and kills it before it has taken as long as the longest one.
fn kill_at_random(mut run: Command, dice: &mut Dice, longest: Duration) {
    let quiet = run.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    let longest = u64::try_from(longest.as_millis()).unwrap();
    vary(Duration::from_millis(dice.below(longest)));
    let _ = child.kill();
    child.wait().unwrap();
}

/// Lets three users write, and kills the runs of their machines. `disturb` disturbs the server.
fn run_schedule(machines: Machines, seed: u64, mut disturb: impl FnMut(&mut Dice)) {
    let mut users = Users::new(machines, seed);
    for round in 0..ROUNDS {
        for (machine, name) in NAMES.into_iter().enumerate() {
            users.write(
                machine,
                (machine + round) % 3,
                &format!("{round} of {machine}"),
            );
            for _ in 0..users.dice.below(3) {
                users.run_killed(name);
            }
            disturb(&mut users.dice);
        }
        users.settle();
    }
    // A restic that was killed while it locked has left its lock.
    users.machines.restic(&["unlock"]).code(0);
    users.machines.restic(&["check", "--read-data"]).code(0);
    let count = users.machines.snapshots();
    users.settle();
    assert_eq!(users.machines.snapshots(), count, "an idle run publishes");
}

#[test]
fn i2_killed_runs_through_a_rest_server_lose_and_duplicate_no_line() {
    if restic::program().is_none() {
        return;
    }
    for seed in variables::seeds(1) {
        let env = TestEnv::new();
        let vault = env.path("vault");
        restic::new_repository(&vault);
        let Some(mut server) = RestServer::start(&vault, false) else {
            return;
        };
        let machines = Machines::in_vault(env, &server.url());
        run_schedule(machines, seed, |dice| {
            if dice.below(3) == 0 {
                server.restart();
            }
        });
    }
}

#[test]
fn i2_killed_runs_through_sftp_lose_and_duplicate_no_line() {
    if restic::program().is_none() {
        return;
    }
    for seed in variables::seeds(1) {
        let env = TestEnv::new();
        restic::new_repository(&env.path("vault"));
        let Some(server) = SshServer::start(&env) else {
            return;
        };
        let url = server.url(&env.path("vault"));
        let machines = Machines::in_vault(env, &url);
        run_schedule(machines, seed, |_| {});
    }
}

/// Lets the real Codex continue three conversations on three machines in turn, and kills runs of sync.
fn run_real_schedule(three: &TwoMachines, seed: u64) {
    let lab = &three.lab;
    let mut dice = Dice::seeded(seed);
    let mut longest = Duration::from_millis(200);
    let say = |name| lab.say_in(&three.home(name), &format!("begun on {name}"));
    let ids = NAMES.map(say);
    let mut turns = NAMES.map(|name| vec![format!("begun on {name}")]);
    let mut settle = |turns: &[Vec<String>; 3]| {
        for name in NAMES.into_iter().chain(NAMES) {
            let begun = Instant::now();
            three.sync(&[name]);
            longest = longest.max(begun.elapsed());
        }
        for name in NAMES {
            for (id, turns) in ids.iter().zip(turns) {
                assert_eq!(messages(&rollout(&three.home(name), id)), *turns, "{name}");
            }
        }
        longest
    };
    for round in 0..ROUNDS {
        let longest = settle(&turns);
        for (machine, name) in NAMES.into_iter().enumerate() {
            let number = (machine + round + 1) % 3;
            let turn = format!("turn {round} on {name}");
            lab.resume(&three.home(name), &ids[number], &turn);
            turns[number].push(turn);
            let shown = lab.user_messages(&three.home(name), &ids[number]);
            assert_eq!(shown, turns[number], "{name}");
            for _ in 0..=dice.below(2) {
                kill_at_random(three.command(name, &["run", "--apply"]), &mut dice, longest);
            }
        }
    }
    let _ = settle(&turns);
}

#[test]
fn i2_turns_of_the_real_codex_on_three_machines_survive_killed_runs() {
    if restic::program().is_none() {
        return;
    }
    for seed in variables::seeds(1) {
        for place in ["folder", "rest", "sftp"] {
            let Some(mut three) = TwoMachines::new() else {
                return;
            };
            three.add_third();
            let world = &mut three.lab.world;
            let repository = world.path("vault");
            restic::new_repository(&repository);
            let rest = (place == "rest").then(|| RestServer::start(&repository, false));
            let ssh = (place == "sftp").then(|| SshServer::start(world));
            let url = match (&rest, &ssh) {
                (None, None) => repository.to_string_lossy().into_owned(),
                (Some(Some(server)), _) => server.url(),
                (_, Some(Some(server))) => server.url(&repository),
                _ => return,
            };
            three.use_vault(&url);
            run_real_schedule(&three, seed);
            // A restic that was killed while it locked has left its lock.
            for args in [&["unlock"][..], &["check", "--read-data"]] {
                restic::run(&three.lab.world, &repository, args).code(0);
            }
        }
    }
}

#[test]
fn the_real_codex_continues_a_conversation_that_came_through_sftp() {
    if restic::program().is_none() {
        return;
    }
    let Some(mut two) = TwoMachines::new() else {
        return;
    };
    restic::new_repository(&two.lab.world.path("vault"));
    let Some(server) = SshServer::start(&two.lab.world) else {
        return;
    };
    two.use_vault(&server.url(&two.lab.world.path("vault")));
    two.continue_in_turn();
}
