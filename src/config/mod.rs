//! The settings of `config.toml` in the manager home: one table of every key that is known.
//!
//! Flags win over the environment, that over the file, that over the default. The one exception is
//! the time zone: `TZ` describes the machine, so the file stands above it.

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

/// How long the weekly quota of a legacy file is taken to have lasted, in hours.
pub(crate) const SESSION_HOURS: f64 = 2.0;

/// A setting that is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfigKey {
    /// Its name, with a dot between table and key.
    pub(crate) name: &'static str,
    /// What it may hold.
    pub(crate) kind: ValueKind,
    /// What it is for, in one line.
    pub(crate) about: &'static str,
    /// The variable that says the same.
    pub(crate) variable: Option<&'static str>,
}

/// What a setting may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueKind {
    /// A time zone.
    Zone,
    /// A path; a leading `~` is the home folder.
    Path,
    /// Yes or no.
    Flag,
    /// A number of hours within a week.
    Hours,
    /// A whole number.
    Count,
    /// A span of time.
    Span,
    /// One of some words.
    Choice(fn() -> Vec<String>),
    /// A list of globs.
    Globs,
    /// The name of a profile, whether or not it exists.
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

/// Every setting, in the order in which they are listed.
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
        "smaller or faster",
    ),
    key(
        "backup.exclude",
        ValueKind::Globs,
        "left out, beside --exclude",
    ),
    key(
        "backup.include_tmp",
        ValueKind::Flag,
        "take tmp/ and .tmp/ too",
    ),
    key(
        "backup.verify_reused",
        ValueKind::Choice(names::<VerifyReused>),
        "how much of what is copied is checked",
    ),
    key(
        "normalize.session_duration_hours",
        ValueKind::Hours,
        "how long a weekly quota lasted",
    ),
    key(
        "recommend.strategy",
        ValueKind::Choice(names::<Strategy>),
        "which of several ready accounts",
    ),
    key(
        "recommend.include_api_key",
        ValueKind::Flag,
        "recommend API keys too",
    ),
    key("prune.keep_last", ValueKind::Count, "the newest N"),
    key("prune.keep_within", ValueKind::Span, "all that are younger"),
    key("prune.keep_daily", ValueKind::Count, "the newest of N days"),
    key(
        "prune.keep_weekly",
        ValueKind::Count,
        "the newest of N weeks",
    ),
    key(
        "prune.keep_monthly",
        ValueKind::Count,
        "the newest of N months",
    ),
];

/// The words of an enumeration.
fn names<T: ValueEnum>() -> Vec<String> {
    T::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|value| value.get_name().to_owned())
        .collect()
}

/// The word of a value.
fn name_of<T: ValueEnum>(value: &T) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

impl ValueKind {
    /// What may be written, for an error's hint.
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

    /// Whether the setting may hold `value`.
    pub(crate) fn takes(self, value: &Value) -> bool {
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

    /// The value that `text`, typed on the command line, means; `None` where it means none.
    pub(crate) fn parse(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Flag => Value::from(text.parse::<bool>().ok()?),
            Self::Count => Value::from(text.parse::<i64>().ok()?),
            Self::Hours => match text.parse::<i64>() {
                Ok(whole) => Value::from(whole),
                Err(_) => Value::from(text.parse::<f64>().ok()?),
            },
            // A list as TOML writes it, or one glob.
            Self::Globs => match text.parse::<Value>() {
                Ok(list @ Value::Array(_)) => list,
                _ => Value::Array(Array::from_iter([text])),
            },
            Self::Zone | Self::Path | Self::Span | Self::Choice(_) | Self::Profile => {
                Value::from(text)
            }
        };
        self.takes(&value).then_some(value)
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

/// A span above zero.
fn span(text: &str) -> Option<Duration> {
    time_format::parse_span(text).filter(|span| *span > Duration::zero())
}

fn globs(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?;
    list.iter()
        .map(|glob| glob.as_str().map(str::to_owned))
        .collect()
}

/// What the file may decide of commands; every one of them may be overruled by a flag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Preferences {
    /// When to use colour.
    pub(crate) color: ColorChoice,
    /// How archives are packed.
    pub(crate) compression: Compression,
    /// Globs of what backups leave out.
    pub(crate) exclude: Vec<String>,
    /// Whether backups take tmp/ too.
    pub(crate) include_tmp: bool,
    /// How much of what a backup copies is checked first.
    pub(crate) verify_reused: VerifyReused,
    /// How long the weekly quota of a legacy file is taken to have lasted.
    pub(crate) session_duration_hours: f64,
    /// Which of several ready accounts is recommended.
    pub(crate) strategy: Strategy,
    /// Whether API keys are recommended too.
    pub(crate) include_api_key: bool,
    /// Which archives `prune` keeps.
    pub(crate) keep: KeepRules,
    /// The account of each folder, and which folders are trusted.
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

/// The default of a setting as JSON; null where there is none that is the same everywhere.
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

/// What the file says of places and zone, besides [`Preferences`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ConfigValues {
    /// `timezone`.
    pub(crate) timezone: Option<String>,
    /// `codex.home`.
    pub(crate) codex_home: Option<PathBuf>,
    /// `codex.bin`.
    pub(crate) codex_bin: Option<PathBuf>,
    /// All others.
    pub(crate) preferences: Preferences,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_what_it_says_and_nothing_else() {
        let takes = |name: &str, text: &str| find(name).unwrap().key.kind.parse(text).is_some();
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
            assert!(takes(name, good), "{name} {good}");
            assert!(!takes(name, bad), "{name} {bad}");
        }
    }

    #[test]
    fn what_is_said_to_be_a_default_is_one_that_may_be_set() {
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
