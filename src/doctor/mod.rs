//! What `doctor` looks at: checks with an id each, what they found, why that matters, and the command
//! that mends it. Nothing here writes.

pub(crate) mod codex_home;
pub(crate) mod launches;
pub(crate) mod machine;
pub(crate) mod manager_home;
pub(crate) mod permissions;

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
    ("sync.forks", "kept versions that need a decision"),
];

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Something to know.
    Warn,
    /// Something to mend.
    Fail,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was looked at. Scripts may rely on it.
    pub(crate) id: &'static str,
    /// How it ended.
    pub(crate) status: Status,
    /// What was found.
    pub(crate) message: String,
    /// Why it matters; absent where nothing is wrong.
    pub(crate) why: Option<&'static str>,
    /// What mends it.
    pub(crate) fix: Option<Remedy>,
}

/// What mends a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Remedy {
    /// A command, whole: it can be copied, and does it.
    Command(String),
    /// What somebody has to do, in words.
    Advice(String),
}

impl Check {
    /// A finding without a remedy.
    pub(crate) fn new(id: &'static str, status: Status, message: impl Into<String>) -> Self {
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
    pub(crate) fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, message)
    }

    /// Something to know.
    pub(crate) fn warn(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Warn, message)
    }

    /// Something to mend.
    pub(crate) fn fail(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, message)
    }

    /// The same with why it matters.
    #[must_use]
    pub(crate) fn because(mut self, why: &'static str) -> Self {
        self.why = Some(why);
        self
    }

    /// The same with the command that mends it.
    #[must_use]
    pub(crate) fn fixed_by(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(Remedy::Command(command.into()));
        self
    }

    /// The same with what to do where no command does it.
    #[must_use]
    pub(crate) fn advised(mut self, words: impl Into<String>) -> Self {
        self.fix = Some(Remedy::Advice(words.into()));
        self
    }

    /// The same with what gives the user the rights `rights` (`u+rw`) to `path`.
    #[must_use]
    fn opened_by(self, rights: &str, path: &Path) -> Self {
        let quoted = shell::word(&path.to_string_lossy());
        if permissions::belongs_to_other_user(path) {
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
pub(crate) struct DoctorInput<'a> {
    /// The Codex home.
    pub(crate) codex_home: &'a Path,
    /// The manager home.
    pub(crate) manager_home: &'a Path,
    /// The Codex program, where one is set.
    pub(crate) codex_bin: Option<&'a Path>,
    /// The environment.
    pub(crate) env: &'a Environment,
    /// The time.
    pub(crate) now: DateTime<Utc>,
    /// The local zone.
    pub(crate) zone: Zone,
    /// Whether that was set, by a flag or in the settings.
    pub(crate) zone_is_set: bool,
}

/// Looks at everything.
pub(crate) fn run_checks(input: &DoctorInput<'_>) -> Vec<Check> {
    let mut checks = codex_home::run_checks(input);
    checks.extend(manager_home::run_checks(input));
    checks.extend(machine::run_checks(input));
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
pub(crate) fn mode_open_to_others(path: &Path) -> Option<u32> {
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
