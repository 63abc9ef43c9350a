//! The result of a check.

use super::permissions;
use crate::io::shell;
use serde::Serialize;
use std::path::Path;

/// All checks: the id, which is an interface for scripts, and a description.
pub const CHECKS: [(&str, &str); 46] = [
    ("codex.binary", "the Codex program and its version"),
    ("home", "the Codex home: exists, is readable, is private"),
    ("home.config", "its config.toml"),
    ("home.store", "the credential store that Codex uses"),
    (
        "home.login",
        "auth.json: account, validity, permissions, hard links",
    ),
    (
        "home.files",
        "folders, pipes or devices in place of Codex's files",
    ),
    (
        "home.databases",
        "the databases: readable, with the tables that Codex needs to start",
    ),
    ("home.conversations", "conversations that no database lists"),
    (
        "home.losses",
        "conversations that lack messages which a copy has, as of the last backup or `history losses`",
    ),
    (
        "home.compressed",
        "compressed conversations that this Codex does not read",
    ),
    ("home.daemon", "Codex's background daemon and its account"),
    ("home.cloud", "a Codex home inside a synced folder"),
    (
        "home.disk",
        "a Codex home on a network file system or a disk without file modes",
    ),
    ("manager.config", "config.toml of the manager home"),
    (
        "manager.home",
        "the manager home: exists, is writable, is private",
    ),
    ("manager.inventory", "inventory.json"),
    ("manager.cooldown", "cooldown.json"),
    ("manager.profiles", "the profiles and their logins"),
    (
        "manager.launches",
        "launches.jsonl, and running launches of other accounts",
    ),
    ("manager.foreign", "unknown files in the manager home"),
    (
        "manager.python",
        "archives of the Python codex-manager that were not imported",
    ),
    ("manager.cloud", "a manager home inside a synced folder"),
    (
        "manager.disk",
        "a manager home on a network file system or a disk without file modes",
    ),
    (
        "archives",
        "the number of archives and the age of the newest",
    ),
    (
        "archives.codex",
        "whether the last archive is from before the installed version of Codex",
    ),
    ("archives.verified", "the time of the last verification"),
    ("archives.damaged", "damaged or missing archives"),
    ("archives.sidecar", "archives without a valid sidecar"),
    ("archives.foreign", "unknown files among the archives"),
    ("archives.trash", "the size of the trash"),
    ("vault.backup", "the age of the last snapshot in the vault"),
    (
        "vault.password",
        "other users' access to the password file of the vault",
    ),
    (
        "vault.drill",
        "the age and the result of the last vault drill",
    ),
    ("restore", "an interrupted restore"),
    ("temp", "stale temp files"),
    ("clock", "the system's clock"),
    ("zone", "the time zone"),
    ("space", "free disk space for the next archive"),
    ("sync.config", "sync.toml, if a sync is set up"),
    ("sync.local", "the local folder of the sync"),
    ("sync.cloud", "the cloud folder"),
    (
        "sync.backups",
        "the folder for backups of overwritten files",
    ),
    ("sync.codex", "Codex programs that block a sync"),
    ("sync.state", "the last sync, and interrupted ones"),
    ("sync.arrival", "files that have not fully arrived"),
    ("sync.forks", "conflict copies that need a decision"),
];

/// The severity of a finding; the highest one decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// No problem was found.
    Ok,
    /// A problem that does not change the exit code.
    Warn,
    /// A problem that makes `doctor` exit with 5.
    Fail,
}

/// The result of one check. Serialized as JSON; the keys are an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// The id from [`CHECKS`].
    pub(crate) id: &'static str,
    /// The severity of the finding.
    pub(crate) status: Status,
    /// A sentence fragment with the object concerned.
    pub(crate) message: String,
    /// The consequence for the user; `None` if nothing is wrong.
    pub(crate) why: Option<&'static str>,
    /// The way to fix it, if there is one.
    pub(crate) fix: Option<Remedy>,
}

/// The way to fix a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Remedy {
    /// A complete command. A test runs it and checks that the finding is gone.
    Command(String),
    /// A description of what the user has to do.
    Advice(String),
}

impl Check {
    /// Creates a finding without consequence and fix.
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

    /// Creates a finding without a problem.
    pub(crate) fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, message)
    }

    /// Creates a finding of severity [`Status::Warn`].
    pub(crate) fn warn(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Warn, message)
    }

    /// Creates a finding of severity [`Status::Fail`].
    pub(crate) fn fail(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, message)
    }

    /// Adds the consequence for the user.
    #[must_use]
    pub(crate) fn because(mut self, why: &'static str) -> Self {
        self.why = Some(why);
        self
    }

    /// Adds the command that fixes it.
    #[must_use]
    pub(crate) fn fixed_by(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(Remedy::Command(command.into()));
        self
    }

    /// Adds a backup as the fix, which needs a Codex home.
    #[must_use]
    pub(super) fn fixed_by_backup(self, codex_home: &Path) -> Self {
        if codex_home.is_dir() {
            self.fixed_by("codex-manager backup")
        } else {
            self.advised("sign in to Codex first, then: codex-manager backup")
        }
    }

    /// Adds a description of the fix, where no single command does it.
    #[must_use]
    pub(crate) fn advised(mut self, words: impl Into<String>) -> Self {
        self.fix = Some(Remedy::Advice(words.into()));
        self
    }

    /// Adds the fix for missing or excessive permissions: `chmod` to `mode` (such as `u+rw`), or
    /// `chown` if another user owns `path`.
    #[must_use]
    pub(super) fn fixed_by_chmod(self, mode: &str, path: &Path) -> Self {
        let quoted = shell::word(&path.to_string_lossy());
        if permissions::belongs_to_other_user(path) {
            self.advised(format!(
                "another user owns it; take ownership: sudo chown -R \"$USER\" {quoted}"
            ))
        } else {
            self.fixed_by(format!("chmod {mode} {quoted}"))
        }
    }
}
