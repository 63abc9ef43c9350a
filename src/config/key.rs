//! The table of all settings.

use super::value_kind::ValueKind;
use super::values::{BeforeNewCodex, ColorChoice, Preferences};
use crate::archive::format::Compression;
use crate::archive::reuse::VerifyReused;
use crate::quota::recommend::Strategy;
use clap::ValueEnum;
use serde_json::{Value as Json, json};

/// The definition of a setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfigKey {
    /// The name, with a dot between table and key.
    pub(crate) name: &'static str,
    pub(crate) kind: ValueKind,
    /// The description in `config list`, one line.
    pub(crate) about: &'static str,
    /// The environment variable with the same meaning.
    pub(crate) variable: Option<&'static str>,
}

const fn key(name: &'static str, kind: ValueKind, about: &'static str) -> ConfigKey {
    ConfigKey {
        name,
        kind,
        about,
        variable: None,
    }
}

/// All settings with one value, in the order of `config list`.
pub(crate) const KEYS: [ConfigKey; 24] = [
    ConfigKey {
        variable: Some("TZ"),
        ..key("timezone", ValueKind::Zone, "the local time zone")
    },
    ConfigKey {
        variable: Some("NO_COLOR"),
        ..key(
            "color",
            ValueKind::Choice(names::<ColorChoice>),
            "when to use colour",
        )
    },
    ConfigKey {
        variable: Some("CODEX_HOME"),
        ..key("codex.home", ValueKind::Path, "the Codex home")
    },
    key("codex.bin", ValueKind::Program, "the Codex program"),
    key(
        "backup.before_new_codex",
        ValueKind::Choice(names::<BeforeNewCodex>),
        "whether to archive before a new Codex starts",
    ),
    key(
        "backup.compression",
        ValueKind::Choice(names::<Compression>),
        "compression level of archives",
    ),
    key(
        "backup.exclude",
        ValueKind::Globs,
        "globs of paths that backup excludes",
    ),
    key(
        "backup.include_tmp",
        ValueKind::Flag,
        "archive tmp/ and .tmp/ too",
    ),
    key(
        "backup.include_worktrees",
        ValueKind::Flag,
        "archive worktrees/ too",
    ),
    key(
        "backup.verify_reused",
        ValueKind::Choice(names::<VerifyReused>),
        "share of the reused data that backup checks",
    ),
    key(
        "normalize.session_duration_hours",
        ValueKind::Hours,
        "assumed hours until a weekly quota was used up",
    ),
    key(
        "recommend.strategy",
        ValueKind::Choice(names::<Strategy>),
        "which ready account to recommend",
    ),
    key(
        "recommend.include_api_key",
        ValueKind::Flag,
        "recommend API keys too",
    ),
    key(
        "prune.keep_last",
        ValueKind::Count,
        "keep the newest N archives",
    ),
    key(
        "prune.keep_within",
        ValueKind::Span,
        "keep archives younger than this",
    ),
    key(
        "prune.keep_daily",
        ValueKind::Count,
        "keep the newest of each of N days",
    ),
    key(
        "prune.keep_weekly",
        ValueKind::Count,
        "keep the newest of each of N weeks",
    ),
    key(
        "prune.keep_monthly",
        ValueKind::Count,
        "keep the newest of each of N months",
    ),
    key(
        "storage.keep_trash",
        ValueKind::Span,
        "delete conversations in the trash after this time",
    ),
    key(
        "usage.prices",
        ValueKind::Path,
        "the file with prices of models",
    ),
    key(
        "vault.repository",
        ValueKind::Text,
        "the restic repository of the vault",
    ),
    key("vault.program", ValueKind::Program, "the restic program"),
    key(
        "vault.password_file",
        ValueKind::Path,
        "the file with the password of the vault",
    ),
    key(
        "vault.password_command",
        ValueKind::Text,
        "the command that prints the password of the vault",
    ),
];

/// The settings with one value per folder. In the file each is a table whose keys are folders.
pub(crate) const FOLDER_KEYS: [ConfigKey; 3] = [
    key("folders", ValueKind::Profile, "the account of a folder"),
    key(
        "trusted",
        ValueKind::Flag,
        "whether .codex-account files in a folder are used",
    ),
    key(
        "shared_logins",
        ValueKind::Flag,
        "whether logins may be stored in a home that others can read",
    ),
];

/// Returns the command-line names of all values of an enumeration.
fn names<T: ValueEnum>() -> Vec<String> {
    T::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|value| value.get_name().to_owned())
        .collect()
}

/// Returns the command-line name of a value.
fn name_of<T: ValueEnum>(value: &T) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Returns the default of a setting as JSON, or null if it depends on the machine.
pub(crate) fn default_of(key: &ConfigKey) -> Json {
    let preferences = Preferences::default();
    match key.name {
        "color" => json!(name_of(&preferences.color)),
        "codex.home" => json!("~/.codex"),
        "codex.bin" => json!("codex"),
        "backup.before_new_codex" => json!(name_of(&preferences.before_new_codex)),
        "backup.compression" => json!(name_of(&preferences.compression)),
        "backup.exclude" => json!(preferences.exclude),
        "backup.include_tmp" => json!(preferences.include_tmp),
        "backup.include_worktrees" => json!(preferences.include_worktrees),
        "backup.verify_reused" => json!(name_of(&preferences.verify_reused)),
        "normalize.session_duration_hours" => json!(preferences.session_duration_hours),
        "recommend.strategy" => json!(name_of(&preferences.strategy)),
        "recommend.include_api_key" => json!(preferences.include_api_key),
        "trusted" | "shared_logins" => json!(false),
        "vault.program" => json!("restic"),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_valid_value() {
        for key in KEYS.iter().chain(&FOLDER_KEYS) {
            let text = match default_of(key) {
                Json::Null => continue,
                Json::String(text) => text,
                other => other.to_string(),
            };
            assert!(key.kind.parse(&text).is_some(), "{} {text}", key.name);
        }
    }
}
