//! Machines with the real Codex: two homes, or three, and a cloud folder or the vault.

use super::env::Run;
use super::lab::{Lab, messages, rollout};
use super::restic::PASSWORD;
use super::sign_in::{SignIn, signed_in_home};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Two machines: `a` has the home of the lab, `b` a second home.
pub(crate) struct TwoMachines {
    pub(crate) lab: Lab,
    pub(crate) b: PathBuf,
    /// The names of the machines.
    pub(crate) names: Vec<&'static str>,
    /// True if they sync through the vault.
    is_vault: bool,
}

impl TwoMachines {
    /// Returns two machines whose conflicts stop a run; `None` if the real Codex is not available.
    pub(crate) fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let b = lab.world.path("home-b/.codex");
        // Logins are not synced, so each machine has its own.
        signed_in_home(&b, &lab.backend, &SignIn::alice().generation(9));
        fs::create_dir_all(lab.world.path("cloud")).expect("folder");
        let two = Self {
            lab,
            b,
            names: vec!["a", "b"],
            is_vault: false,
        };
        two.configure("");
        Some(two)
    }

    /// Adds the machine `c`. Call it before [`Self::use_vault`].
    pub(crate) fn add_third(&mut self) {
        self.names.push("c");
        let sign_in = SignIn::alice().generation(10);
        signed_in_home(&self.home("c"), &self.lab.backend, &sign_in);
        self.configure("");
    }

    /// Returns the Codex home of a machine.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        match name {
            "a" => self.lab.home(),
            other => self.lab.world.path(&format!("home-{other}/.codex")),
        }
    }

    /// Makes both sync through the repository at this URL.
    pub(crate) fn use_vault(&mut self, url: &str) {
        self.is_vault = true;
        self.lab.world.set("RESTIC_PASSWORD", PASSWORD);
        let mut path = self.lab.world.path("bin").into_os_string();
        path.push(":");
        path.push(self.lab.codex.search_path());
        self.lab.world.set("PATH", path);
        self.configure("[sync]\nremote = \"vault\"\n");
        for name in &self.names {
            let manager = format!("manager-{name}");
            let args = ["--manager-home", &*manager, "vault", "init", url];
            let _ = self.lab.manager(args).code(0);
        }
    }

    /// Writes the configurations of the machines, with further tables.
    pub(crate) fn configure(&self, more: &str) {
        for name in &self.names {
            let cloud = json!(self.lab.world.path("cloud"));
            let cloud = if self.is_vault {
                String::new()
            } else {
                format!("cloud_root_dir = {cloud}\n")
            };
            let text = format!(
                "[identity]\nmachine_id = \"{name}\"\n[paths]\n{cloud}\
                 local_state_dir = {}\nbackup_dir = {}\n[targets]\ninclude_roots = [\
                 \"sessions\", \"archived_sessions\", \"session_index.jsonl\", \"history.jsonl\"]\n\
                 {more}",
                json!(self.home(name)),
                json!(self.lab.world.path(&format!("backups-{name}"))),
            );
            self.lab.world.write(&format!("{name}.toml"), text);
        }
    }

    /// Returns the command `sync` with these arguments on a machine.
    pub(crate) fn command(&self, name: &str, args: &[&str]) -> Command {
        let (config, manager) = (format!("{name}.toml"), format!("manager-{name}"));
        let first = ["--manager-home", &manager, "sync", "-c", &config];
        let args = first.into_iter().chain(args.iter().copied());
        self.lab.world.command(args)
    }

    /// Runs `sync` with these arguments on a machine.
    pub(crate) fn run_sync(&self, name: &str, args: &[&str]) -> Run {
        Run::of_output(self.command(name, args).output().expect("start"))
    }

    /// Syncs these machines, one after the other.
    #[track_caller]
    pub(crate) fn sync(&self, names: &[&str]) {
        for name in names {
            let _ = self.run_sync(name, &["run", "--apply"]).code(0);
        }
    }

    /// Continues a conversation on both machines in turn, and asserts that Codex shows all of it on both.
    #[track_caller]
    pub(crate) fn continue_in_turn(&self) {
        let (lab, a, b) = (&self.lab, self.lab.home(), &self.b);
        // Codex on B has an index already, so that its first scan cannot find the new files.
        let own = lab.say_in(b, "at home on b");
        let id = lab.say("one");
        self.sync(&["a", "b"]);
        let mut all = [own, id.clone()];
        all.sort();
        assert_eq!(lab.listed_ids(b), all);
        lab.resume(b, &id, "two");
        assert_eq!(lab.user_messages(b, &id), ["one", "two"]);
        self.sync(&["b", "a"]);
        lab.resume(&a, &id, "three");
        assert_eq!(lab.user_messages(&a, &id), ["one", "two", "three"]);
        assert_eq!(messages(&rollout(&a, &id)), ["one", "two", "three"]);
        self.sync(&["a", "b"]);
        assert_eq!(
            fs::read(rollout(&a, &id)).expect("read"),
            fs::read(rollout(b, &id)).expect("read")
        );
        assert_eq!(lab.listed_ids(&a), all);
    }
}
