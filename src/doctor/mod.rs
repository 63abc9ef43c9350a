//! What `doctor` looks at: checks with an id each, what they found, why that matters, and the command
//! that mends it. Nothing here writes.

pub mod codex_home;
pub mod launches;
pub mod machine;
pub mod manager_home;
pub mod privacy;

use crate::io::clock::Zone;
use crate::io::environment::Environment;
use crate::io::shell;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Every check: its id, which scripts may rely on, and what it looks at.
pub const CHECKS: [(&str, &str); 40] = [
    ("codex.binary", "the Codex program and its version"),
    ("home", "the Codex home: there, readable, closed to others"),
    ("home.config", "its config.toml"),
    ("home.store", "where Codex keeps the login"),
    (
        "home.login",
        "auth.json: whose, whole, private, without a second link",
    ),
    ("home.files", "other files of Codex that are no files"),
    ("home.databases", "how each database begins, and its length"),
    (
        "home.conversations",
        "whether a database lists the conversations",
    ),
    ("home.daemon", "Codex's background daemon, and whose it is"),
    ("home.cloud", "whether the Codex home is in a synced folder"),
    ("home.disk", "whether it is on a network disk"),
    ("manager.config", "config.toml of the manager home"),
    (
        "manager.home",
        "the manager home: there, and closed to others",
    ),
    ("manager.inventory", "inventory.json"),
    ("manager.cooldown", "cooldown.json"),
    ("manager.profiles", "the profiles and their logins"),
    (
        "manager.launches",
        "launches.jsonl, and running launches of other accounts",
    ),
    ("manager.foreign", "what lies there and is not ours"),
    (
        "manager.python",
        "archives of the Python codex-manager in a folder of its own",
    ),
    (
        "manager.cloud",
        "whether the manager home is in a synced folder",
    ),
    ("manager.disk", "whether it is on a network disk"),
    ("archives", "how old the newest archive is"),
    ("archives.verified", "when an archive was last read through"),
    ("archives.damaged", "an archive that is damaged or gone"),
    ("archives.sidecar", "an archive without a good sidecar"),
    (
        "archives.foreign",
        "what lies among the archives and is none",
    ),
    ("archives.trash", "what the trash takes"),
    ("restore", "a restore that was interrupted"),
    ("temp", "temp files that nobody uses any more"),
    ("clock", "whether the clock can be right"),
    ("zone", "the time zone"),
    ("space", "whether the next archive has room"),
    ("sync.config", "sync.toml, where there is one"),
    ("sync.local", "the Codex home as a side of the sync"),
    ("sync.cloud", "the cloud folder"),
    ("sync.backups", "where a sync keeps what it overwrites"),
    (
        "sync.codex",
        "who uses the home, and is in the way of a sync",
    ),
    ("sync.state", "the last sync, and what killed ones left"),
    ("sync.arrival", "what has not arrived whole"),
    ("sync.forks", "conflict copies that need a decision"),
];

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Something to know.
    Warn,
    /// Something to mend.
    Fail,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at. Scripts may rely on it.
    pub id: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub message: String,
    /// Why it matters; absent where nothing is wrong.
    pub why: Option<&'static str>,
    /// What mends it.
    pub fix: Option<Remedy>,
}

/// What mends a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Remedy {
    /// A command, whole: it can be copied, and does it.
    Command(String),
    /// What somebody has to do, in words.
    Advice(String),
}

impl Check {
    /// A finding without a remedy.
    pub fn new(id: &'static str, status: Status, message: impl Into<String>) -> Self {
        debug_assert!(CHECKS.iter().any(|(known, _)| *known == id), "{id}");
        Self {
            id,
            status,
            message: message.into(),
            why: None,
            fix: None,
        }
    }

    /// All is well.
    pub fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, message)
    }

    /// Something to know.
    pub fn warn(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Warn, message)
    }

    /// Something to mend.
    pub fn fail(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, message)
    }

    /// The same with why it matters.
    #[must_use]
    pub fn because(mut self, why: &'static str) -> Self {
        self.why = Some(why);
        self
    }

    /// The same with the command that mends it.
    #[must_use]
    pub fn fixed_by(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(Remedy::Command(command.into()));
        self
    }

    /// The same with what to do where no command does it.
    #[must_use]
    pub fn advised(mut self, words: impl Into<String>) -> Self {
        self.fix = Some(Remedy::Advice(words.into()));
        self
    }

    /// The same with what gives the user the rights `rights` (`u+rw`) to `path`.
    #[must_use]
    fn opened_by(self, rights: &str, path: &Path) -> Self {
        let quoted = shell::word(&path.to_string_lossy());
        if privacy::is_of_another_user(path) {
            self.advised(format!(
                "it is another user's; take it over: sudo chown -R \"$USER\" {quoted}"
            ))
        } else {
            self.fixed_by(format!("chmod {rights} {quoted}"))
        }
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The Codex home.
    pub codex_home: &'a Path,
    /// The manager home.
    pub manager_home: &'a Path,
    /// The Codex program, where one is set.
    pub codex_bin: Option<&'a Path>,
    /// The environment.
    pub env: &'a Environment,
    /// The time.
    pub now: DateTime<Utc>,
    /// The local zone.
    pub zone: Zone,
    /// Whether that was set, by a flag or in the settings.
    pub zone_is_set: bool,
}

/// Looks at everything.
pub fn examine(world: &World<'_>) -> Vec<Check> {
    let mut checks = codex_home::examine(world);
    checks.extend(manager_home::examine(world));
    checks.extend(machine::examine(world));
    checks
}

/// The first of some paths and how many there are, for a message.
fn first_of(paths: &[PathBuf]) -> String {
    let first = paths.first().map(|p| p.display().to_string());
    let first = first.unwrap_or_default();
    match paths.len() {
        0 | 1 => first,
        n => format!("{n}, first {first}"),
    }
}

/// The mode, if group or others may do anything.
pub fn open_to_others(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        path.metadata()
            .ok()
            .map(|m| m.mode() & 0o777)
            .filter(|mode| mode & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}
