//! Sync through the vault, with a real restic: machines with one repository.

#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "TOML quotes as Rust does"
)]

use crate::support::env::{Run, TestEnv, Tree};
use crate::support::pair::{META, ROLLOUT, SKILL, actions};
use crate::support::pauses::vary;
use crate::support::restic::{self, PASSWORD};
use crate::support::{processes, write_program};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Its name has the characters that the patterns of restic treat specially, and a backslash.
const ODD_SKILL: &str = "skills/odd/a [b]*?{c}, $d\\e.md";

/// A change of the text of a manifest.
type Change<'a> = &'a dyn Fn(&str) -> String;

pub(crate) trait HasError {
    fn has_error(self, words: &str) -> Self;
}

impl HasError for Run {
    #[track_caller]
    fn has_error(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{words}\n{self}");
        self
    }
}

/// Machines with the homes `a`, `b` and `c`, and a vault in the folder `vault`.
pub(crate) struct Machines(pub(crate) TestEnv);

impl Machines {
    /// Returns `None` if restic is not installed.
    pub(crate) fn new() -> Option<Self> {
        restic::program()?;
        let env = TestEnv::new();
        restic::new_repository(&env.path("vault"));
        Some(Self::in_vault(env, "vault"))
    }

    /// Sets up the machines with the repository at this URL.
    pub(crate) fn in_vault(mut env: TestEnv, url: &str) -> Self {
        env.set("RESTIC_PASSWORD", PASSWORD);
        let machines = Self(env);
        for name in ["a", "b", "c"] {
            machines.configure(name, "");
            fs::create_dir_all(machines.home(name)).unwrap();
            machines.manage(name, &["vault", "init", url]).code(0);
        }
        machines
    }

    pub(crate) fn configure(&self, name: &str, more: &str) {
        let text = format!(
            "[identity]\nmachine_id = \"{name}\"\n[paths]\nlocal_state_dir = {:?}\nbackup_dir = {:?}\n\
             [conflict]\npolicy = \"manual\"\n[sync]\nremote = \"vault\"\ncompare = \"three_way\"\n{more}",
            self.home(name),
            self.0.path(&format!("backups-{name}")),
        );
        self.0.write(&format!("{name}.toml"), text);
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.0.path(&format!("codex-{name}"))
    }

    pub(crate) fn manage(&self, name: &str, args: &[&str]) -> Run {
        let manager = format!("manager-{name}");
        let mut all = vec!["--manager-home", &*manager];
        all.extend(args);
        self.0.run(all)
    }

    /// Returns the command `sync ARGS` of a machine.
    pub(crate) fn command(&self, name: &str, args: &[&str]) -> Command {
        let (manager, config) = (format!("manager-{name}"), format!("{name}.toml"));
        let mut all = vec!["--manager-home", &*manager, "sync", "-c", &*config];
        all.extend(args);
        self.0.command(all)
    }

    /// Runs `sync ARGS`. No message may speak of the other kind of remote.
    #[track_caller]
    pub(crate) fn sync(&self, name: &str, args: &[&str]) -> Run {
        let run = Run::of_output(self.command(name, args).output().unwrap());
        let shown = run.to_string();
        assert!(
            !shown.contains("cloud folder") && !shown.contains("cloud client"),
            "{shown}"
        );
        run
    }

    #[track_caller]
    pub(crate) fn apply(&self, name: &str) -> serde_json::Value {
        self.sync(name, &["run", "--apply", "--json"])
            .code(0)
            .json()
    }

    pub(crate) fn put(&self, name: &str, path: &str, text: &str) {
        let path = self.home(name).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn text(&self, name: &str, path: &str) -> String {
        let full = self.home(name).join(path);
        fs::read_to_string(full).unwrap_or_else(|e| panic!("{name} {path}: {e}"))
    }

    pub(crate) fn has(&self, name: &str, path: &str) -> bool {
        self.home(name).join(path).exists()
    }

    pub(crate) fn snapshots(&self) -> usize {
        fs::read_dir(self.0.path("vault/snapshots"))
            .unwrap()
            .count()
    }

    /// Returns the time at which the state of the last sync was written.
    fn state_of(&self, name: &str) -> std::time::SystemTime {
        let folders = fs::read_dir(self.0.path(&format!("manager-{name}/sync"))).unwrap();
        let files = folders.map(|folder| folder.unwrap().path().join("state.jsonl"));
        let mut files = files.filter_map(|file| file.metadata().ok());
        files.next().unwrap().modified().unwrap()
    }

    pub(crate) fn restic(&self, args: &[&str]) -> Run {
        restic::run(&self.0, &self.0.path("vault"), args)
    }

    /// Returns everything that a failed run must not change: the homes and the repository.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = self.0.tree("");
        tree.0.retain(|path, _| {
            let text = path.to_string_lossy();
            (text.starts_with("codex-") || text.starts_with("vault")) && !text.contains("/locks")
        });
        tree
    }
}

#[test]
fn conversations_skills_and_prompts_are_synced_through_the_vault() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("a", ROLLOUT, META);
    machines.put("a", SKILL, "first");
    machines.put("a", ODD_SKILL, "odd");
    machines.put(
        "a",
        "history.jsonl",
        "{\"session_id\":\"x\",\"ts\":1,\"text\":\"one\"}\n",
    );
    machines.put(
        "a",
        "auth.json",
        "{\"tokens\":{\"access_token\":\"never-copied\"}}",
    );
    let planned = machines.sync("a", &["plan", "--json"]).code(0).json();
    assert_eq!(actions(&planned).len(), 4, "{planned}");
    assert_eq!(machines.snapshots(), 0);
    let shown = machines.sync("a", &["plan"]).code(0).to_string();
    assert!(shown.contains("4 → vault"), "{shown}");
    machines.apply("a");
    machines.apply("b");
    for path in [ROLLOUT, SKILL, ODD_SKILL, "history.jsonl"] {
        assert_eq!(machines.text("b", path), machines.text("a", path), "{path}");
    }
    assert!(!machines.has("b", "auth.json"));
    // Idle runs publish nothing.
    machines.apply("a");
    let before = machines.snapshots();
    for name in ["a", "b", "a", "b"] {
        let run = machines.apply(name);
        assert!(actions(&run).is_empty(), "{name}: {run}");
    }
    assert_eq!(machines.snapshots(), before);
    // The first idle run does all work, the later ones end before they write a state.
    let runs = [(); 3].map(|()| {
        let run = machines.apply("a");
        (run, machines.state_of("a"))
    });
    assert_eq!(runs[0].0, runs[2].0);
    assert_eq!(runs[1], runs[2]);
    machines.put("a", "skills/mine/notes.md", "new");
    assert_eq!(actions(&machines.apply("a")).len(), 1);
    assert_ne!(machines.state_of("a"), runs[2].1);
    // Both continue something, and a third machine joins.
    let longer = format!("{META}{{\"n\":\"from b\"}}\n");
    machines.put("b", ROLLOUT, &longer);
    machines.put("a", SKILL, "second");
    let prompt =
        |text: &str, at: u32| format!("{{\"session_id\":\"x\",\"ts\":{at},\"text\":\"{text}\"}}\n");
    machines.put(
        "a",
        "history.jsonl",
        &(prompt("one", 1) + &prompt("of a", 2)),
    );
    machines.put(
        "b",
        "history.jsonl",
        &(prompt("one", 1) + &prompt("of b", 3)),
    );
    for name in ["a", "b", "c", "a"] {
        machines.apply(name);
    }
    for name in ["a", "b", "c"] {
        assert_eq!(machines.text(name, ROLLOUT), longer, "{name}");
        assert_eq!(machines.text(name, SKILL), "second", "{name}");
        let prompts = machines.text(name, "history.jsonl");
        assert_eq!(prompts.lines().count(), 3, "{name}: {prompts}");
    }
    machines.restic(&["check", "--read-data"]).code(0);
    // Sync's snapshots are no backups.
    let listed = machines
        .manage("a", &["vault", "snapshots", "--json"])
        .code(0)
        .json();
    assert!(
        listed["snapshots"].as_array().is_some_and(Vec::is_empty),
        "{listed}"
    );
}

/// Syncs a conversation to two machines, and continues it on both. Returns their versions.
fn continue_on_both(machines: &Machines) -> [String; 2] {
    machines.put("a", ROLLOUT, META);
    machines.apply("a");
    machines.apply("b");
    let texts = ["a", "over there"].map(|n| format!("{META}{{\"n\":\"{n}\"}}\n"));
    machines.put("a", ROLLOUT, &texts[0]);
    machines.put("b", ROLLOUT, &texts[1]);
    texts
}

#[test]
fn in_a_conflict_each_machine_keeps_its_version_until_one_resolves_it_and_other_files_are_synced() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let texts = continue_on_both(&machines);
    machines.put("b", SKILL, "travels anyway");
    machines.apply("a");
    machines.sync("b", &["run", "--apply"]).code(2);
    machines.sync("b", &["plan"]).code(2);
    machines.sync("b", &["run", "--apply"]).code(2);
    assert_eq!(machines.text("b", ROLLOUT), texts[1]);
    machines.apply("a");
    assert_eq!(machines.text("a", ROLLOUT), texts[0]);
    assert_eq!(machines.text("a", SKILL), "travels anyway");
    let listed = machines.sync("b", &["resolve", "--json"]).code(0).json();
    assert_eq!(
        listed["conflicts"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    machines
        .sync("b", &["resolve", ROLLOUT, "--keep", "local"])
        .code(0);
    machines.apply("a");
    machines.apply("b");
    for name in ["a", "b"] {
        assert_eq!(machines.text(name, ROLLOUT), texts[1], "{name}");
    }
}

#[test]
fn a_conflict_copy_that_became_the_conversation_waits_for_no_decision() {
    let Some(machines) = Machines::new() else {
        return;
    };
    for name in ["a", "b", "c"] {
        let file = machines.0.path(&format!("{name}.toml"));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("manual", "prefer_cloud")).unwrap();
    }
    let texts = continue_on_both(&machines);
    for name in ["a", "b", "a"] {
        machines.apply(name);
    }
    assert_eq!(machines.text("b", ROLLOUT), texts[0]);
    for name in ["a", "b"] {
        let listed = machines.sync(name, &["resolve", "--json"]).code(0).json();
        assert_eq!(listed["forks"].as_array().unwrap().len(), 1, "{listed}");
    }
    let id = crate::support::pair::ID;
    machines
        .sync("b", &["resolve", id, "--keep", "fork"])
        .code(0);
    // The last machine joins after the decision.
    for name in ["b", "a", "b", "a", "c", "c"] {
        let run = machines.apply(name);
        assert_eq!(run["summary"]["forks"], 0, "{name}: {run}");
        assert_eq!(machines.text(name, ROLLOUT), texts[1], "{name}");
        let listed = machines.sync(name, &["resolve", "--json"]).code(0).json();
        assert_eq!(listed["forks"], serde_json::json!([]), "{name}");
        let checked = machines.sync(name, &["preflight"]).to_string();
        assert!(!checked.contains("without a decision"), "{checked}");
    }
}

#[test]
fn a_restore_chooses_the_newest_snapshot_with_files_of_this_machine() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let write = |name: &str, text: &str| {
        machines.put(name, ROLLOUT, &format!("{META}{text}"));
        machines.apply(name)["snapshot"].as_str().map(str::to_owned)
    };
    assert_eq!(write("a", ""), None);
    // A snapshot of a version in the vault.
    let of_vault = write("a", "{\"n\":1}\n").unwrap();
    machines
        .sync("a", &["restore"])
        .code(1)
        .has_error("no snapshot has files of this machine");
    let explicit = machines
        .sync("a", &["restore", "--from", &of_vault, "--json"])
        .code(0)
        .json();
    assert_eq!(explicit["target"], "local", "{explicit}");
    machines
        .sync("a", &["restore", "--target", "cloud"])
        .code(4)
        .has_error("snapshots in the vault are never replaced");
    machines.apply("b");
    write("b", "{\"n\":1}\n{\"n\":2}\n");
    let of_home = machines.apply("a")["snapshot"].clone();
    write("a", "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n").unwrap();
    let shown = machines.sync("a", &["restore", "--json"]).code(0).json();
    assert_eq!(shown["snapshot"], of_home, "{shown}");
    assert_eq!(shown["target"], "local", "{shown}");
    machines.sync("a", &["restore", "--apply"]).code(0);
    assert_eq!(machines.text("a", ROLLOUT), format!("{META}{{\"n\":1}}\n"));
}

#[test]
fn sync_forget_refuses_the_name_of_several_machines() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let text = fs::read_to_string(machines.0.path("c.toml")).unwrap();
    let text = text.replace("machine_id = \"c\"", "machine_id = \"a\"");
    machines.0.write("c.toml", text);
    machines.put("a", SKILL, "of a");
    for name in ["a", "c", "b"] {
        machines.apply(name);
    }
    let run = machines.sync("b", &["forget", "a", "--yes"]).code(1);
    run.has_error("a is the name of several machines");
    assert_eq!(machines.snapshots(), 3);
}

#[test]
fn a_run_that_a_conflict_stops_prints_one_json_document() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let text = fs::read_to_string(machines.0.path("c.toml")).unwrap();
    let text = text.replace("policy = \"manual\"", "policy = \"manual_abort\"");
    machines.0.write("c.toml", text);
    machines.put("b", "skills/own/SKILL.md", "of b");
    machines.apply("b");
    machines.put("a", SKILL, "of a");
    machines.apply("a");
    machines.put("c", "skills/own/SKILL.md", "of c");
    let run = machines.sync("c", &["run", "--apply", "--json"]).code(2);
    let document = run.json();
    let conflicts = document["conflicts"].as_array().map(Vec::len);
    assert_eq!(conflicts, Some(1), "{document}");
    assert_eq!(machines.text("c", "skills/own/SKILL.md"), "of c");
}

#[test]
fn a_deletion_is_synced_and_other_machines_do_not_recreate_the_file() {
    let Some(machines) = Machines::new() else {
        return;
    };
    for name in ["a", "b", "c"] {
        machines.configure(name, "delete_policy = \"propagate\"\n");
    }
    let files: Vec<_> = (0..12).map(|n| format!("skills/s{n}/SKILL.md")).collect();
    for path in &files {
        machines.put("a", path, path);
    }
    for name in ["a", "b", "c"] {
        machines.apply(name);
    }
    fs::remove_file(machines.home("b").join(&files[3])).unwrap();
    for name in ["b", "a", "c", "b"] {
        machines.apply(name);
    }
    for name in ["a", "b", "c"] {
        assert!(!machines.has(name, &files[3]), "{name}");
        assert!(machines.has(name, &files[4]), "{name}");
    }
    machines.put("c", &files[3], "again");
    for name in ["c", "a", "b"] {
        machines.apply(name);
        assert_eq!(machines.text(name, &files[3]), "again");
    }
}

#[test]
fn a_machine_that_synced_through_a_folder_continues_through_the_vault_but_not_through_both() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let cloud = machines.0.path("cloud");
    fs::create_dir_all(&cloud).unwrap();
    for name in ["a", "b"] {
        let text = format!(
            "[identity]\nmachine_id = \"{name}\"\n[paths]\ncloud_root_dir = {cloud:?}\nlocal_state_dir = {:?}\n\
             [sync]\ndelete_policy = \"propagate\"\n",
            machines.home(name)
        );
        machines.0.write(&format!("manager-{name}/sync.toml"), text);
    }
    let run = |name: &str, args: &[&str]| {
        let mut all = vec!["sync"];
        all.extend(args);
        machines.manage(name, &all)
    };
    machines.put("a", ROLLOUT, META);
    machines.put("a", SKILL, "old");
    for name in ["a", "b"] {
        run(name, &["run", "--apply"]).code(0);
    }
    // Deleted after the last sync through the folder.
    fs::remove_file(machines.home("a").join(SKILL)).unwrap();
    for name in ["a", "b"] {
        run(name, &["init", "--vault"]).code(0);
        let text =
            fs::read_to_string(machines.0.path(&format!("manager-{name}/sync.toml"))).unwrap();
        assert!(
            text.contains("remote = \"vault\"") && text.contains("propagate"),
            "{text}"
        );
        assert!(!text.contains("cloud_root_dir"), "{text}");
    }
    for name in ["b", "a", "b"] {
        run(name, &["run", "--apply"]).code(0);
    }
    for name in ["a", "b"] {
        assert!(machines.has(name, ROLLOUT), "{name}");
        assert!(!machines.has(name, SKILL), "{name}");
    }
    run("a", &["init", "--vault"])
        .code(4)
        .has_error("exists already");
    // Both at once.
    let path = machines.0.path("manager-a/sync.toml");
    let text = fs::read_to_string(&path).unwrap();
    let both = text.replacen(
        "[paths]\n",
        &format!("[paths]\ncloud_root_dir = {cloud:?}\n"),
        1,
    );
    fs::write(&path, both).unwrap();
    run("a", &["run", "--apply"])
        .code(4)
        .has_error("a home syncs through a folder or through the vault");
}

#[test]
fn sync_forget_removes_old_snapshots_and_those_of_a_lost_machine_but_no_backup() {
    let Some(machines) = Machines::new() else {
        return;
    };
    for name in ["a", "b"] {
        machines.configure(name, "keep_snapshots = 2\n");
    }
    for n in 0..3 {
        machines.put("a", SKILL, &format!("text {n}"));
        machines.apply("a");
    }
    machines.apply("b");
    machines
        .manage("b", &["--codex-home", "codex-b", "vault", "backup"])
        .code(0);
    assert_eq!(machines.snapshots(), 5);
    machines.sync("b", &["forget", "--dry-run"]).code(0);
    assert_eq!(machines.snapshots(), 5);
    machines.sync("b", &["forget"]).code(5);
    machines.sync("b", &["forget", "--yes"]).code(0);
    assert_eq!(machines.snapshots(), 4);
    machines.sync("b", &["forget", "b", "--yes"]).code(4);
    machines.sync("b", &["forget", "nobody", "--yes"]).code(1);
    machines.sync("b", &["forget", "a", "--yes"]).code(0);
    assert_eq!(machines.snapshots(), 2);
    assert_eq!(machines.text("b", SKILL), "text 2");
    // It comes back.
    machines.put("a", SKILL, "text 4");
    machines.apply("a");
    machines.apply("b");
    assert_eq!(machines.text("b", SKILL), "text 4");
    // Backups are removed by the rules of backups only.
    machines
        .manage("b", &["vault", "forget", "--keep-last", "1", "--yes"])
        .code(0);
    assert_eq!(machines.snapshots(), 4);
    machines.restic(&["check"]).code(0);
}

#[test]
fn a_repository_that_cannot_be_read_stops_the_run_before_anything_changes() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("a", SKILL, "of a");
    machines.apply("a");
    machines.apply("b");
    machines.put("a", SKILL, "newer");
    machines.apply("a");
    machines.put("b", "skills/own/SKILL.md", "of b");
    let before = machines.tree();
    let fails = |env: &[(&str, &str)], code: i32, words: &str| {
        let mut command = machines.command("b", &["run", "--apply"]);
        command.envs(env.iter().copied());
        let run = Run::of_output(command.output().unwrap());
        run.code(code).has_error(words);
        assert_eq!(machines.tree().0, before.0, "{words}");
    };
    fails(&[("RESTIC_PASSWORD", "wrong")], 1, "password");
    fails(&[("PATH", "/nowhere")], 1, "restic");
    write_program(
        &machines.0.path("bin/restic"),
        "#!/bin/sh\necho restic 0.13.1 compiled\n",
    );
    fails(&[], 1, "restic 0.13.1 is too old");
    fs::remove_file(machines.0.path("bin/restic")).unwrap();
    let gone = machines.0.path("gone");
    for (part, words) in [
        ("", "no repository"),
        ("config", "no repository"),
        ("keys", "restic"),
        ("index", "missing or damaged"),
        ("data", "missing or damaged"),
    ] {
        let part = machines.0.path("vault").join(part);
        fs::rename(&part, &gone).unwrap();
        let before = machines.tree();
        let run = machines.sync("b", &["run", "--apply"]);
        assert_ne!(run.code, 0, "{part:?} {run}");
        run.has_error(words);
        assert_eq!(machines.tree().0, before.0, "{part:?}");
        fs::rename(&gone, &part).unwrap();
    }
    machines.apply("b");
    assert_eq!(machines.text("b", SKILL), "newer");
}

/// Writes a tree for the machine `evil`, whose manifest is that of `a` with a changed text.
fn write_changed(machines: &Machines, change: impl Fn(&str) -> String, reseal: bool) {
    let text = machines
        .restic(&["dump", "latest", "/manifest.jsonl"])
        .code(0)
        .stdout;
    let lines: Vec<&str> = text.lines().collect();
    let (_, body) = lines.split_last().unwrap();
    let body = change(&(body.join("\n") + "\n"));
    let end = if reseal {
        let digest = codex_manager_core::io::hash::Sha256Digest::of(body.as_bytes());
        format!("{{\"end\":\"{digest}\"}}\n")
    } else {
        (*lines.last().unwrap()).to_owned() + "\n"
    };
    machines.0.write("evil/manifest.jsonl", body + &end);
    machines
        .0
        .write("evil/home/skills/evil/SKILL.md", "another text");
}

/// Publishes the tree of the machine `evil`.
fn publish_evil(machines: &Machines, layout: u8) {
    let mut command = Command::new(restic::program().unwrap());
    command
        .args(["backup", ".", "--tag"])
        .arg(format!(
            "codex-manager-sync,layout={layout},replica=evil,machine=evil,number=1"
        ))
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("RESTIC_REPOSITORY", machines.0.path("vault"))
        .current_dir(machines.0.path("evil"));
    assert!(command.output().unwrap().status.success());
}

#[test]
fn a_snapshot_with_a_wrong_manifest_changes_nothing_and_is_reported_until_it_is_removed() {
    let newer = |text: &str| text.replacen("\"schema\":2", "\"schema\":99", 1);
    let longer = |text: &str| {
        text.replace("\"size\":4", "\"size\":5")
            .replace("\"number\":1", "\"number\":2")
    };
    let outside = |text: &str| text.replace("skills/mine", "../../mine");
    let other = |text: &str| {
        let digest = codex_manager_core::io::hash::Sha256Digest::of(b"of a");
        let wrong = codex_manager_core::io::hash::Sha256Digest::of(b"other");
        text.replace("skills/mine", "skills/evil")
            .replace(&digest.to_string(), &wrong.to_string())
            .replace("\"size\":4", "\"size\":12")
            .replace("\",1]]}", "\",9]]}")
    };
    let cases: [(Change<'_>, bool, &str); 4] = [
        (&newer, true, "a newer codex-manager"),
        (&longer, false, "was changed"),
        (&outside, true, "outside of the Codex home"),
        (&other, true, "does not match its manifest"),
    ];
    for (change, reseal, words) in cases {
        let Some(machines) = machines_with_a_skill() else {
            return;
        };
        write_changed(&machines, change, reseal);
        publish_evil(&machines, 1);
        refuses_evil(&machines, words);
        machines.sync("b", &["forget", "evil", "--yes"]).code(0);
        machines.apply("b");
        assert_eq!(machines.text("b", SKILL), "of a");
    }
}

fn machines_with_a_skill() -> Option<Machines> {
    let machines = Machines::new()?;
    machines.put("a", SKILL, "of a");
    machines.apply("a");
    Some(machines)
}

/// Runs sync on `b`, which must fail with these words and change nothing.
#[track_caller]
fn refuses_evil(machines: &Machines, words: &str) {
    machines.put("b", "skills/own/SKILL.md", "of b");
    let before = machines.tree();
    let run = machines.sync("b", &["run", "--apply"]);
    assert_ne!(run.code, 0, "{run}");
    run.has_error(words).has_error("nothing was changed");
    assert_eq!(machines.tree().0, before.0, "{words}");
}

#[test]
fn a_snapshot_of_a_newer_layout_changes_nothing() {
    let Some(machines) = machines_with_a_skill() else {
        return;
    };
    write_changed(&machines, str::to_owned, true);
    publish_evil(&machines, 2);
    refuses_evil(&machines, "a newer codex-manager on evil");
}

#[cfg(unix)]
#[test]
fn a_link_in_a_snapshot_is_not_followed() {
    let Some(machines) = machines_with_a_skill() else {
        return;
    };
    let evil = |text: &str| {
        text.replace("skills/mine", "skills/evil")
            .replace("\",1]]}", "\",9]]}")
    };
    write_changed(&machines, evil, true);
    let link = machines.0.path("evil/home/skills/evil/SKILL.md");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", link).unwrap();
    publish_evil(&machines, 1);
    refuses_evil(&machines, "is not a file");
}

#[test]
fn the_next_run_completes_what_a_killed_run_left() {
    let Some(machines) = Machines::new() else {
        return;
    };
    let mut expected = String::from(META);
    machines.put("a", ROLLOUT, META);
    machines.apply("a");
    for (n, millis) in [5, 50, 150, 300, 450, 600, 900, 1400]
        .into_iter()
        .enumerate()
    {
        let (from, to) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        machines.apply(from);
        expected += &["{\"n\":\"", &n.to_string(), "\"}\n"].concat();
        machines.put(from, ROLLOUT, &expected);
        machines.put(from, SKILL, &format!("text {n}"));
        for name in [from, to] {
            let mut child = machines.command(name, &["run", "--apply"]).spawn().unwrap();
            vary(std::time::Duration::from_millis(millis));
            let _ = child.kill();
            child.wait().unwrap();
        }
        machines.apply(from);
        machines.apply(to);
        for name in [from, to] {
            assert_eq!(machines.text(name, ROLLOUT), expected, "{name} {millis}");
            assert_eq!(
                machines.text(name, SKILL),
                format!("text {n}"),
                "{name} {millis}"
            );
        }
    }
    // A restic that outlives the killed run still holds its lock, and a killed one leaves it.
    let folder = machines.0.path("");
    let is_of_this_test = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        processes::executable(*pid).is_some_and(|path| path.ends_with("restic"))
            && String::from_utf8_lossy(&environment).contains(&*folder.to_string_lossy())
    };
    let all = processes::all().into_iter().map(|process| process.pid);
    let left: Vec<_> = all.filter(is_of_this_test).collect();
    let limit = std::time::Duration::from_secs(120);
    assert_eq!(processes::wait_for_end(&left, limit), Vec::<u32>::new());
    machines.restic(&["unlock"]).code(0);
    machines.restic(&["check"]).code(0);
    let left = fs::read_dir(machines.0.path("manager-a/sync/staging")).unwrap();
    let left = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("staging-")
    });
    assert_eq!(left.count(), 0);
}
