//! The types of a setting's value: which values each accepts, and how it reads them.

use crate::accounts::profile_ops::name_problem;
use crate::archive::scope::Excludes;
use crate::io::clock::Zone;
use crate::io::time_format;
use chrono::Duration;
use std::path::Path;
use toml_edit::{Array, Value};

/// The type of a setting's value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueKind {
    /// The IANA name of a time zone.
    Zone,
    /// A path; a leading `~` stands for the user's home folder.
    Path,
    /// A program: its name on PATH or its path, which is not relative, or it would depend on the current folder.
    Program,
    /// A text that is not empty.
    Text,
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

impl ValueKind {
    /// Describes the accepted values, for error messages and hints.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Zone => "an IANA name such as \"Europe/Berlin\"".into(),
            Self::Path => "a path".into(),
            Self::Program => "a name on PATH or an absolute path".into(),
            Self::Text => "a text".into(),
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
            Self::Path | Self::Text => text.is_some_and(|text| !text.is_empty()),
            Self::Program => text.is_some_and(|text| {
                let is_name = !text.is_empty() && !text.contains(std::path::is_separator);
                is_name || text.starts_with('~') || Path::new(text).has_root()
            }),
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
            Self::Zone
            | Self::Path
            | Self::Program
            | Self::Text
            | Self::Span
            | Self::Choice(_)
            | Self::Profile => Value::from(text),
        };
        self.accepts(&value).then_some(value)
    }
}

pub(super) fn number(value: &Value) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "hours are small")]
    value
        .as_float()
        .or_else(|| value.as_integer().map(|whole| whole as f64))
}

pub(super) fn count(value: &Value) -> Option<u32> {
    value.as_integer().and_then(|n| u32::try_from(n).ok())
}

/// Parses a duration; zero is refused.
pub(super) fn span(text: &str) -> Option<Duration> {
    time_format::parse_span(text).filter(|span| *span > Duration::zero())
}

pub(super) fn globs(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?;
    list.iter()
        .map(|glob| glob.as_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::config::find;

    #[test]
    fn each_kind_accepts_only_its_values() {
        let accepts = |name: &str, text: &str| find(name).unwrap().key.kind.parse(text).is_some();
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
            ("storage.keep_trash", "30d", "soon"),
            ("recommend.strategy", "most-left", "best"),
            ("folders.~/code", "client-a", "../client"),
            ("trusted.~/code", "true", "yes"),
        ] {
            assert!(accepts(name, good), "{name} {good}");
            assert!(!accepts(name, bad), "{name} {bad}");
        }
    }
}
