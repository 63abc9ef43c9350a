//! The table of all settings.

use super::values::{BeforeNewCodex, ColorChoice};
use chrono::Duration;
use codex_manager_core::accounts::profile_ops::find_name_problem;
use codex_manager_core::archive::format::Compression;
use codex_manager_core::archive::reuse::VerifyReused;
use codex_manager_core::archive::scope::Excludes;
use codex_manager_core::io::clock::Zone;
use codex_manager_core::io::settings::{SettingKey, ValueKind};
use codex_manager_core::io::time_format;
use codex_manager_core::quota::recommend::Strategy;
use std::path::Path;

/// The IANA name of a time zone.
const ZONE: ValueKind = ValueKind::Text {
    expected: "an IANA name such as \"Europe/Berlin\"",
    is_valid: |name| Zone::named(name).is_some(),
};

/// A path; a leading `~` stands for the user's home folder.
const PATH: ValueKind = ValueKind::Text {
    expected: "a path",
    is_valid: |path| !path.is_empty(),
};

/// A program: its name on PATH, or a path. The path must not be relative, because it would depend on the current
/// folder.
const PROGRAM: ValueKind = ValueKind::Text {
    expected: "a name on PATH or an absolute path",
    is_valid: |program| {
        let is_name = !program.is_empty() && !program.contains(std::path::is_separator);
        is_name || program.starts_with('~') || Path::new(program).has_root()
    },
};

const TEXT: ValueKind = ValueKind::Text {
    expected: "a text",
    is_valid: |text| !text.is_empty(),
};

const COUNT: ValueKind = ValueKind::Count { min: 0 };

/// A duration above zero, such as `14d`.
const SPAN: ValueKind = ValueKind::Text {
    expected: "a duration such as \"14d\" or \"1d 12h\"",
    is_valid: |text| parse_span_value(text).is_some(),
};

const GLOBS: ValueKind = ValueKind::Texts {
    expected: "a list of globs such as [\"logs_*.sqlite\"]",
    is_valid: |globs| Excludes::compile(globs).is_ok(),
};

/// A valid profile name; the profile need not exist.
const PROFILE: ValueKind = ValueKind::Text {
    expected: "the name of a profile",
    is_valid: |name| find_name_problem(name).is_none(),
};

/// Parses a duration above zero.
pub(super) fn parse_span_value(text: &str) -> Option<Duration> {
    time_format::parse_span(text).filter(|span| *span > Duration::zero())
}

const fn key(name: &'static str, kind: ValueKind, default: &'static str) -> SettingKey {
    SettingKey::new(name, kind, default)
}

const fn flag(name: &'static str) -> SettingKey {
    key(name, ValueKind::Flag, "false")
}

const fn choice<T: clap::ValueEnum + Default>(name: &'static str) -> SettingKey {
    key(name, ValueKind::choice::<T>(), "")
}

/// All settings with one value, in the order of `config list`.
pub(crate) const KEYS: [SettingKey; 27] = [
    key("timezone", ZONE, "")
        .about("the local time zone")
        .variable("TZ"),
    choice::<ColorChoice>("color")
        .about("when to use colour")
        .variable("NO_COLOR"),
    key("codex.home", PATH, "~/.codex")
        .about("the Codex home")
        .variable("CODEX_HOME"),
    key("codex.bin", PROGRAM, "codex").about("the Codex program"),
    choice::<BeforeNewCodex>("backup.before_new_codex")
        .about("archive before a new version of Codex starts"),
    choice::<Compression>("backup.compression").about("compression level of archives"),
    key("backup.exclude", GLOBS, "[]").about("globs of paths that backup excludes"),
    flag("backup.include_tmp").about("archive tmp/ and .tmp/ too"),
    flag("backup.include_worktrees").about("archive worktrees/ too"),
    choice::<VerifyReused>("backup.verify_reused")
        .about("share of the reused data that backup checks"),
    key("normalize.session_duration_hours", ValueKind::Hours, "2.0")
        .about("assumed hours from the start of a session to the end of its quota"),
    choice::<Strategy>("recommend.strategy").about("which ready account to recommend"),
    flag("recommend.include_api_key").about("recommend API keys too"),
    key("notify.command", TEXT, "").about("the command that shows a notification"),
    key("notify.backup_days", COUNT, "7").about("notify of backups that are older than N days"),
    key("prune.keep_last", COUNT, "").about("keep the newest N archives"),
    key("prune.keep_within", SPAN, "").about("keep archives younger than this"),
    key("prune.keep_daily", COUNT, "").about("keep the newest archive per day, for N days"),
    key("prune.keep_weekly", COUNT, "").about("keep the newest archive per week, for N weeks"),
    key("prune.keep_monthly", COUNT, "").about("keep the newest archive per month, for N months"),
    key("prune.keep_gone", COUNT, "90")
        .about("keep the last copy of a conversation that is gone, for N days"),
    key("storage.keep_trash", SPAN, "30d")
        .about("delete conversations in the trash after this time"),
    key("usage.prices", PATH, "").about("the file with prices of models"),
    key("vault.repository", TEXT, "").about("the restic repository of the vault"),
    key("vault.program", PROGRAM, "restic").about("the restic program"),
    key("vault.password_file", PATH, "").about("the file with the password of the vault"),
    key("vault.password_command", TEXT, "")
        .about("the command that prints the password of the vault"),
];

/// The settings with one value per folder. In the file each is a table whose keys are folders.
pub(crate) const FOLDER_KEYS: [SettingKey; 2] = [
    key("folders", PROFILE, "").about("the account of a folder"),
    flag("shared_logins").about("store logins in a home that others can read"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::find_setting;

    #[test]
    fn every_key_but_the_listed_ones_has_a_valid_default() {
        let all = KEYS.iter().chain(&FOLDER_KEYS);
        let without = all.filter(|key| key.default_value().is_none());
        let without: Vec<_> = without.map(|key| key.name).collect();
        assert_eq!(
            without,
            [
                "timezone",
                "notify.command",
                "prune.keep_last",
                "prune.keep_within",
                "prune.keep_daily",
                "prune.keep_weekly",
                "prune.keep_monthly",
                "usage.prices",
                "vault.repository",
                "vault.password_file",
                "vault.password_command",
                "folders"
            ]
        );
    }

    #[test]
    fn each_kind_accepts_only_its_values() {
        let accepts =
            |name: &str, text: &str| find_setting(name).unwrap().key.kind.parse(text).is_some();
        for (name, good, bad) in [
            ("timezone", "Asia/Kolkata", "Mars/Olympus"),
            ("color", "never", "sometimes"),
            ("codex.bin", "/opt/codex", ""),
            ("codex.bin", "codex-nightly", "./codex"),
            ("vault.program", "~/bin/restic", "node_modules/.bin/restic"),
            ("vault.repository", "sftp:nas:/codex", ""),
            ("backup.include_tmp", "true", "yes"),
            ("backup.exclude", "*.log", "[\"{\"]"),
            ("backup.exclude", "[\"a\", \"b\"]", "{"),
            ("normalize.session_duration_hours", "1.5", "-1"),
            ("normalize.session_duration_hours", "2", "NaN"),
            ("prune.keep_last", "0", "-1"),
            ("prune.keep_last", "7", "4294967296"),
            ("prune.keep_within", "14d", "soon"),
            ("prune.keep_gone", "0", "90d"),
            ("storage.keep_trash", "30d", "soon"),
            ("recommend.strategy", "most-left", "best"),
            ("folders.~/code", "client-a", "../client"),
            ("shared_logins.~/code", "true", "yes"),
        ] {
            assert!(accepts(name, good), "{name} {good}");
            assert!(!accepts(name, bad), "{name} {bad}");
        }
    }
}
