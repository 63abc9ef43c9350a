//! `sync` through a folder that two real Syncthing processes replicate.

use crate::support::env::{Run, TestEnv};
use crate::support::pair::{ID, META, ROLLOUT, SKILL, actions};
use crate::support::syncthing::SharedFolder;
use std::fs;
use std::path::{Path, PathBuf};

/// A machine with its own copy of the cloud folder.
struct Machine<'a> {
    env: &'a TestEnv,
    name: &'static str,
}

impl Machine<'_> {
    fn home(&self) -> PathBuf {
        self.env.path(&format!("codex-{}", self.name))
    }

    fn cloud(&self) -> PathBuf {
        self.env.path(&format!("cloud-{}", self.name))
    }

    fn configure(&self) {
        fs::create_dir_all(self.home()).unwrap();
        fs::create_dir_all(self.cloud()).unwrap();
        let path = |path: PathBuf| toml_edit::Value::from(path.to_str().unwrap()).to_string();
        let text = format!(
            "[identity]\nmachine_id = \"{}\"\n[paths]\ncloud_root_dir = {}\nlocal_state_dir = {}\n\
             backup_dir = {}\n[conflict]\npolicy = \"manual\"\n",
            self.name,
            path(self.cloud()),
            path(self.home()),
            path(self.env.path(&format!("backups-{}", self.name))),
        );
        self.env.write(&format!("{}.toml", self.name), text);
    }

    fn put(&self, path: &str, text: &str) {
        self.env.write(&format!("codex-{}/{path}", self.name), text);
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.home().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn sync(&self, args: &[&str]) -> Run {
        let (config, manager) = (
            format!("{}.toml", self.name),
            format!("manager-{}", self.name),
        );
        let mut all = vec!["--manager-home", &*manager, "sync", "-c", &*config];
        all.extend(args);
        self.env.run(all)
    }

    #[track_caller]
    fn apply(&self) -> serde_json::Value {
        self.sync(&["run", "--apply", "--json"]).code(0).json()
    }
}

fn turn(text: &str) -> String {
    format!("{{\"n\":\"{text}\"}}\n")
}

/// Returns all texts below a folder.
fn texts(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all += &texts(&path);
        } else {
            all += &fs::read_to_string(path).unwrap_or_default();
        }
    }
    all
}

#[test]
fn conversations_are_synced_by_syncthing_without_losing_lines() {
    let env = TestEnv::new();
    let [a, b] = ["a", "b"].map(|name| Machine { env: &env, name });
    a.configure();
    b.configure();
    let Some(shared) = SharedFolder::start(&env.path(""), [&a.cloud(), &b.cloud()]) else {
        return;
    };
    let prompt = |n: u8| format!("{{\"session_id\":\"x\",\"ts\":{n},\"text\":\"{n}\"}}\n");
    a.put(ROLLOUT, META);
    a.put(SKILL, "a skill");
    a.put("history.jsonl", &prompt(1));
    a.put(
        "auth.json",
        "{\"tokens\":{\"refresh_token\":\"rt_secret\"}}",
    );
    a.apply();
    shared.exchange();
    b.apply();
    shared.exchange();
    a.apply();
    for path in [ROLLOUT, SKILL, "history.jsonl"] {
        assert_eq!(b.text(path), a.text(path), "{path}");
    }
    assert!(!texts(&b.cloud()).contains("rt_secret") && !b.home().join("auth.json").exists());

    // The manifest arrives before the conversation, so the report asks the user to wait.
    shared.ignore_on_second(Some("sessions"));
    let longer = format!("{META}{}", turn("one"));
    a.put(ROLLOUT, &longer);
    a.apply();
    shared.exchange();
    let run = b.sync(&["run", "--apply", "--json"]).code(6);
    let message = "a has 1 conversation that has not arrived yet";
    assert!(run.stderr.contains(message), "{run}");
    assert_eq!(run.json()["waiting"][0]["path"], ROLLOUT, "{run}");
    shared.ignore_on_second(None);
    shared.exchange();
    assert_eq!(actions(&b.apply()), [format!("copy-to-local {ROLLOUT}")]);
    shared.exchange();
    a.apply();

    // Both machines continue at once: Syncthing creates a conflict file of one version, and no line of either
    // is lost.
    a.put(ROLLOUT, &format!("{longer}{}", turn("by a")));
    b.put(ROLLOUT, &format!("{longer}{}", turn("by b")));
    a.put("history.jsonl", &(prompt(1) + &prompt(2)));
    b.put("history.jsonl", &(prompt(1) + &prompt(3)));
    a.apply();
    b.apply();
    shared.exchange();
    let mut decided = 0;
    for _ in 0..3 {
        for machine in [&a, &b] {
            let run = machine.sync(&["run", "--apply", "--json"]);
            assert!([0, 2].contains(&run.code), "{run}");
            let json = run.json();
            let is_open = |list: &str| !json[list].as_array().unwrap().is_empty();
            if decided == 0 && (is_open("conflicts") || is_open("forks")) {
                let _ = machine.sync(&["resolve", ID, "--keep", "both"]).code(0);
                decided += 1;
            }
            shared.exchange();
        }
    }
    assert_eq!(decided, 1, "the conflict needs one decision");
    for machine in [&a, &b] {
        let sessions = texts(&machine.home().join("sessions"));
        for line in [turn("by a"), turn("by b")] {
            assert_eq!(
                sessions.matches(&*line).count(),
                1,
                "{}: {sessions}",
                machine.name
            );
        }
        assert_eq!(
            machine.text("history.jsonl"),
            prompt(1) + &prompt(2) + &prompt(3)
        );
        assert_eq!(actions(&machine.apply()), [""; 0], "{}", machine.name);
    }
}
