//! The settings of `config.toml` in the manager home, defined in one table ([`KEYS`]).
//!
//! Precedence: flag, environment, file, default. The time zone is an exception: `TZ` describes the
//! machine, so the file takes precedence over it.

pub(crate) mod file;
mod setting;

pub(crate) use setting::{FOLDER_KEYS, KeyError, Setting, find};

use crate::accounts::profile_ops::name_problem;
use crate::archive::format::Compression;
use crate::archive::reuse::VerifyReused;
use crate::archive::scope::Excludes;
use crate::inventory::retention::KeepRules;
use crate::io::clock::Zone;
use crate::io::time_format;
use crate::launch::folders::FolderAccounts;
use crate::quota::recommend::Strategy;
use crate::ui::ColorChoice;
use chrono::Duration;
use clap::ValueEnum;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use toml_edit::{Array, Value};

/// The name of the document in the manager home.
pub(crate) const FILE_NAME: &str = "config.toml";

/// The assumed duration of the weekly quota of a legacy file, in hours.
pub(crate) const SESSION_HOURS: f64 = 2.0;

/// The definition of a setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfigKey {
    /// The name, with a dot between table and key.
    pub(crate) name: &'static str,
    /// The values that it accepts.
    pub(crate) kind: ValueKind,
    /// The description in `config list`, one line.
    pub(crate) about: &'static str,
    /// The environment variable with the same meaning.
    pub(crate) variable: Option<&'static str>,
}

/// The type of a setting's value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueKind {
    /// The IANA name of a time zone.
    Zone,
    /// A path; a leading `~` stands for the user's home folder.
    Path,
    /// A boolean, `true` or `false`.
    Flag,
    /// A number of hours from 0 to 168, with a fraction.
    Hours,
    /// A whole number from 0 to `u32::MAX`.
    Count,
    /// A duration above zero, such as `14d`.
    Span,
    /// One of the words that the function returns.
    Choice(fn() -> Vec<String>),
    /// An array of valid globs.
    Globs,
    /// A valid profile name; the profile need not exist.
    Profile,
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
pub(crate) const KEYS: [ConfigKey; 16] = [
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
    key("codex.bin", ValueKind::Path, "the Codex program"),
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
        "backup.verify_reused",
        ValueKind::Choice(names::<VerifyReused>),
        "how much copied data backup checks",
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

impl ValueKind {
    /// Describes the accepted values, for error messages and hints.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Zone => "an IANA name such as \"Europe/Berlin\"".into(),
            Self::Path => "a path".into(),
            Self::Flag => "true or false".into(),
            Self::Hours => "a number from 0 to 168".into(),
            Self::Count => "a whole number, 0 for none".into(),
            Self::Span => "a duration such as \"14d\" or \"1d 12h\"".into(),
            Self::Choice(names) => format!("one of {}", names().join(", ")),
            Self::Globs => "a list of globs such as [\"logs_*.sqlite\"]".into(),
            Self::Profile => "the name of a profile".into(),
        }
    }

    /// Returns true if `value` is valid for this kind.
    pub(crate) fn accepts(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Self::Zone => text.is_some_and(|name| Zone::named(name).is_some()),
            Self::Path => text.is_some_and(|path| !path.is_empty()),
            Self::Flag => value.is_bool(),
            Self::Hours => number(value).is_some_and(|hours| (0.0..=168.0).contains(&hours)),
            Self::Count => count(value).is_some(),
            Self::Span => text.is_some_and(|text| span(text).is_some()),
            Self::Choice(names) => text.is_some_and(|text| names().iter().any(|n| n == text)),
            Self::Globs => globs(value).is_some_and(|globs| Excludes::new(&globs).is_ok()),
            Self::Profile => text.is_some_and(|name| name_problem(name).is_none()),
        }
    }

    /// Parses `text` from the command line. Returns `None` if it is not a valid value of this kind.
    pub(crate) fn parse(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Flag => Value::from(text.parse::<bool>().ok()?),
            Self::Count => Value::from(text.parse::<i64>().ok()?),
            Self::Hours => match text.parse::<i64>() {
                Ok(whole) => Value::from(whole),
                Err(_) => Value::from(text.parse::<f64>().ok()?),
            },
            // A TOML array, or one glob without quotes.
            Self::Globs => match text.parse::<Value>() {
                Ok(list @ Value::Array(_)) => list,
                _ => Value::Array(Array::from_iter([text])),
            },
            Self::Zone | Self::Path | Self::Span | Self::Choice(_) | Self::Profile => {
                Value::from(text)
            }
        };
        self.accepts(&value).then_some(value)
    }
}

fn number(value: &Value) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "hours are small")]
    value
        .as_float()
        .or_else(|| value.as_integer().map(|whole| whole as f64))
}

fn count(value: &Value) -> Option<u32> {
    value.as_integer().and_then(|n| u32::try_from(n).ok())
}

/// Parses a duration; zero is refused.
fn span(text: &str) -> Option<Duration> {
    time_format::parse_span(text).filter(|span| *span > Duration::zero())
}

fn globs(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?;
    list.iter()
        .map(|glob| glob.as_str().map(str::to_owned))
        .collect()
}

/// Defaults of commands; a flag overrides each of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preferences {
    /// When to use colour.
    pub(crate) color: ColorChoice,
    /// The compression level of archives.
    pub(crate) compression: Compression,
    /// Globs of files that backups exclude.
    pub(crate) exclude: Vec<String>,
    /// True if backups include `tmp/` and `.tmp/`.
    pub(crate) include_tmp: bool,
    /// The share of the previous archive's data that a backup checks before reusing it.
    pub(crate) verify_reused: VerifyReused,
    /// The assumed duration of the weekly quota of a legacy file, in hours.
    pub(crate) session_duration_hours: f64,
    /// The order of several ready accounts.
    pub(crate) strategy: Strategy,
    /// True if `recommend` may name API keys, which are billed by use.
    pub(crate) include_api_key: bool,
    /// The retention rules of `prune`.
    pub(crate) keep: KeepRules,
    /// The account of each folder, and the folders whose `.codex-account` files are used.
    pub(crate) folders: FolderAccounts,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            color: ColorChoice::default(),
            compression: Compression::default(),
            exclude: Vec::new(),
            include_tmp: false,
            verify_reused: VerifyReused::default(),
            session_duration_hours: SESSION_HOURS,
            strategy: Strategy::default(),
            include_api_key: false,
            keep: KeepRules::default(),
            folders: FolderAccounts::default(),
        }
    }
}

/// Returns the default of a setting as JSON, or null if it depends on the machine.
pub(crate) fn default_of(key: &ConfigKey) -> Json {
    let preferences = Preferences::default();
    match key.name {
        "color" => json!(name_of(&preferences.color)),
        "codex.home" => json!("~/.codex"),
        "codex.bin" => json!("codex"),
        "backup.compression" => json!(name_of(&preferences.compression)),
        "backup.exclude" => json!(preferences.exclude),
        "backup.include_tmp" => json!(preferences.include_tmp),
        "backup.verify_reused" => json!(name_of(&preferences.verify_reused)),
        "normalize.session_duration_hours" => json!(preferences.session_duration_hours),
        "recommend.strategy" => json!(name_of(&preferences.strategy)),
        "recommend.include_api_key" => json!(preferences.include_api_key),
        "trusted" => json!(false),
        _ => Json::Null,
    }
}

/// The validated values of the file. A missing key is `None` or its default.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ConfigValues {
    /// `timezone`, a known IANA name.
    pub(crate) timezone: Option<String>,
    /// `codex.home`, as written in the file.
    pub(crate) codex_home: Option<PathBuf>,
    /// `codex.bin`, as written in the file.
    pub(crate) codex_bin: Option<PathBuf>,
    /// All other settings, which only commands use.
    pub(crate) preferences: Preferences,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_accepts_only_its_values() {
        let accepts = |name: &str, text: &str| find(name).unwrap().key.kind.parse(text).is_some();
        for (name, good, bad) in [
            ("timezone", "Asia/Kolkata", "Mars/Olympus"),
            ("color", "never", "sometimes"),
            ("codex.bin", "/opt/codex", ""),
            ("backup.include_tmp", "true", "yes"),
            ("backup.exclude", "*.log", "[\"{\"]"),
            ("backup.exclude", "[\"a\", \"b\"]", "{"),
            ("normalize.session_duration_hours", "1.5", "-1"),
            ("normalize.session_duration_hours", "2", "NaN"),
            ("prune.keep_last", "0", "-1"),
            ("prune.keep_last", "7", "4294967296"),
            ("prune.keep_within", "14d", "soon"),
            ("recommend.strategy", "most-left", "best"),
            ("folders./work", "client-a", "../client"),
            ("trusted./work", "true", "yes"),
        ] {
            assert!(accepts(name, good), "{name} {good}");
            assert!(!accepts(name, bad), "{name} {bad}");
        }
    }

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
