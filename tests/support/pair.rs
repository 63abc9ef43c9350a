//! Two machines that sync: two homes and one cloud folder, driven by the command line.

#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "TOML quotes as Rust does"
)]

use super::copy_tree;
use super::env::{Run, TestEnv, Tree};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub(crate) const ID: &str = "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";
pub(crate) const ROLLOUT: &str =
    "sessions/2026/11/18/rollout-2026-11-18T10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b455.jsonl";
pub(crate) const META: &str =
    "{\"type\":\"session_meta\",\"payload\":{\"id\":\"01a1f78b-4d30-7ef3-b0ee-5caab8d3b455\"}}\n";

/// Returns the first line of the rollout at `path`, with the id of its name.
pub(crate) fn meta_of(path: &str) -> String {
    let end = path.len() - ".jsonl".len();
    META.replace(ID, &path[end - ID.len()..end])
}

pub(crate) const SKILL: &str = "skills/mine/SKILL.md";

/// The words of a run of machine `a`, for a program that starts it.
pub(crate) const RUN_OF_A: [&str; 7] = [
    "--manager-home",
    "manager-a",
    "sync",
    "-c",
    "a.toml",
    "run",
    "--apply",
];
/// The words of a run of machine `b`, for a program that starts it.
pub(crate) const RUN_OF_B: [&str; 7] = [
    "--manager-home",
    "manager-b",
    "sync",
    "-c",
    "b.toml",
    "run",
    "--apply",
];

/// Two machines with the homes `a` and `b`. Both use the same cloud folder, so files arrive at once.
pub(crate) struct Pair(pub(crate) TestEnv);

impl Pair {
    pub(crate) fn new() -> Self {
        let pair = Self(TestEnv::new());
        for name in ["a", "b"] {
            pair.configure(name, "");
            fs::create_dir_all(pair.home(name)).unwrap();
        }
        fs::create_dir_all(pair.cloud()).unwrap();
        pair
    }

    /// Creates two machines with these files: `a` writes them, and both sync.
    pub(crate) fn synced(files: &[(&str, &str)]) -> Self {
        let pair = Self::new();
        pair.sync(files);
        pair
    }

    /// Writes these files on `a`, and syncs both machines.
    pub(crate) fn sync(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            self.put("a", path, text);
        }
        self.apply("a");
        self.apply("b");
    }

    /// Creates a conversation on both machines that continues differently on each, and syncs `a`.
    /// Returns the text of `a` and that of `b`.
    pub(crate) fn diverge(&self) -> [String; 2] {
        self.sync(&[(ROLLOUT, META)]);
        let texts = ["a", "over there"].map(|n| format!("{META}{{\"n\":\"{n}\"}}\n"));
        for (name, text) in ["a", "b"].into_iter().zip(&texts) {
            self.put(name, ROLLOUT, text);
        }
        self.apply("a");
        texts
    }

    /// Writes the configuration of a machine, followed by `more`.
    pub(crate) fn configure(&self, name: &str, more: &str) {
        let text = format!(
            "[identity]\nmachine_id = \"{name}\"\n[paths]\ncloud_root_dir = {:?}\n\
             local_state_dir = {:?}\nbackup_dir = {:?}\n{more}",
            self.cloud(),
            self.home(name),
            self.0.path(&format!("backups-{name}")),
        );
        self.0.write(&format!("{name}.toml"), text);
    }

    /// Returns the tree of all files except logs, to which each applied run appends.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = self.0.tree("");
        tree.0.retain(|path, _| {
            let mut parts = path
                .components()
                .filter_map(|part| part.as_os_str().to_str());
            !parts.any(|part| part == "logs")
        });
        tree
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.0.path(&format!("codex-{name}"))
    }

    pub(crate) fn cloud(&self) -> PathBuf {
        self.0.path("cloud")
    }

    pub(crate) fn run(&self, name: &str, args: &[&str]) -> Run {
        let (config, manager) = (format!("{name}.toml"), format!("manager-{name}"));
        let mut all = vec!["--manager-home", &*manager, "sync", "-c", &*config];
        all.extend(args);
        self.0.run(all)
    }

    #[track_caller]
    pub(crate) fn apply(&self, name: &str) -> serde_json::Value {
        let run = self.run(name, &["run", "--apply", "--json"]).code(0);
        run.json()
    }

    /// Copies the current state of the cloud folder, and returns the path of the copy.
    pub(crate) fn copy_cloud(&self) -> PathBuf {
        let copy = self.0.path("day");
        copy_tree(&self.cloud(), &copy);
        copy
    }

    /// Replaces the cloud folder by a copy.
    pub(crate) fn restore_cloud(&self, copy: &Path) {
        fs::remove_dir_all(self.cloud()).unwrap();
        copy_tree(copy, &self.cloud());
    }

    /// Writes a file in the home of a machine, or in the cloud folder if `name` is `cloud`.
    pub(crate) fn put(&self, name: &str, path: &str, text: &str) -> PathBuf {
        let root = if name == "cloud" {
            self.cloud()
        } else {
            self.home(name)
        };
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn put_all(&self, name: &str, paths: &[&str]) {
        for path in paths {
            self.put(name, path, "x");
        }
    }

    pub(crate) fn text(&self, name: &str, path: &str) -> String {
        let root = if name == "cloud" {
            self.cloud()
        } else {
            self.home(name)
        };
        fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{name} {path}: {e}"))
    }
}

/// Sets the modification time of a file, in Unix seconds.
pub(crate) fn set_mtime(path: &Path, secs: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(secs))
        .unwrap();
}

/// Returns the actions of a JSON report, each as `action path`.
pub(crate) fn actions(json: &serde_json::Value) -> Vec<String> {
    let actions = json["actions"].as_array().unwrap();
    actions
        .iter()
        .map(|a| {
            format!(
                "{} {}",
                a["action"].as_str().unwrap(),
                a["path"].as_str().unwrap()
            )
        })
        .collect()
}
