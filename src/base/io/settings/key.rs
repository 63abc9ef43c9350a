//! The definition of a setting: its name, its type and its default.

use clap::ValueEnum;
use serde::de::{DeserializeOwned, IntoDeserializer};
use toml_edit::{Array, Value};

#[derive(Debug, Clone, Copy)]
pub struct SettingKey {
    /// The name, with a dot between table and key.
    pub name: &'static str,
    pub kind: ValueKind,
    /// The default as typed on the command line. Empty if the setting has no default, and for a choice, which has
    /// its default in `kind`.
    default: &'static str,
    pub about: &'static str,
    /// The environment variable with the same meaning.
    pub variable: Option<&'static str>,
}

impl SettingKey {
    pub const fn new(name: &'static str, kind: ValueKind, default: &'static str) -> Self {
        Self {
            name,
            kind,
            default,
            about: "",
            variable: None,
        }
    }

    #[must_use]
    pub const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    #[must_use]
    pub const fn variable(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    /// Returns the default, or `None` if the setting has none.
    pub fn default_value(&self) -> Option<Value> {
        match self.kind {
            ValueKind::Choice { default, .. } => Some(default().into()),
            _ if self.default.is_empty() => None,
            kind => kind.parse(self.default),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum ValueKind {
    Flag,
    /// A whole number from `min` to `u32::MAX`.
    Count {
        min: u32,
    },
    /// A number of hours from 0 to 168, with a fraction.
    Hours,
    Text {
        expected: &'static str,
        is_valid: fn(&str) -> bool,
    },
    /// An array of texts.
    Texts {
        expected: &'static str,
        is_valid: fn(&[String]) -> bool,
    },
    /// One of a few words, in upper or lower case.
    Choice {
        names: fn() -> Vec<String>,
        default: fn() -> String,
    },
    /// A value of any form, such as a table.
    Structure {
        expected: &'static str,
        is_valid: fn(&Value) -> bool,
    },
}

impl ValueKind {
    /// Returns the kind whose values are the command-line names of `T`.
    pub const fn choice<T: ValueEnum + Default>() -> Self {
        Self::Choice {
            names: || T::value_variants().iter().map(choice_name).collect(),
            default: || choice_name(&T::default()),
        }
    }

    /// Describes the accepted values, for error messages and hints.
    pub fn describe(self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::Count { min: 0 } => "a whole number, 0 for none".into(),
            Self::Count { min } => format!("a whole number, {min} or more"),
            Self::Hours => "a number from 0 to 168".into(),
            Self::Choice { names, .. } => format!("one of {}", names().join(", ")),
            Self::Text { expected, .. }
            | Self::Texts { expected, .. }
            | Self::Structure { expected, .. } => expected.into(),
        }
    }

    pub(crate) fn accepts(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Self::Flag => value.is_bool(),
            Self::Count { min } => parse_value(value).is_some_and(|count: u32| count >= min),
            Self::Hours => {
                parse_value(value).is_some_and(|hours: f64| (0.0..=168.0).contains(&hours))
            }
            Self::Text { is_valid, .. } => text.is_some_and(is_valid),
            Self::Texts { is_valid, .. } => {
                parse_value(value).is_some_and(|texts: Vec<String>| is_valid(&texts))
            }
            Self::Choice { names, .. } => text.is_some_and(|text| {
                let is_same = |name: &String| name.eq_ignore_ascii_case(text.trim());
                names().iter().any(is_same)
            }),
            Self::Structure { is_valid, .. } => is_valid(value),
        }
    }

    /// Parses `text` from the command line. Returns `None` if it is not a valid value of this kind.
    pub fn parse(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Flag => Value::from(text.parse::<bool>().ok()?),
            Self::Count { .. } => Value::from(text.parse::<i64>().ok()?),
            Self::Hours => match text.parse::<i64>() {
                Ok(whole) => Value::from(whole),
                Err(_) => Value::from(text.parse::<f64>().ok()?),
            },
            // A TOML array, or one text without quotes.
            Self::Texts { .. } => match text.parse::<Value>() {
                Ok(list @ Value::Array(_)) => list,
                _ => Value::Array(Array::from_iter([text])),
            },
            Self::Text { .. } | Self::Choice { .. } | Self::Structure { .. } => Value::from(text),
        };

        self.accepts(&value).then_some(value)
    }
}

/// Returns the name of a choice on the command line.
pub fn choice_name<T: ValueEnum>(value: &T) -> String {
    let name = value.to_possible_value();
    name.map_or_else(String::new, |name| name.get_name().to_owned())
}

/// Reads a value as a `T`. Returns `None` if it has another form.
pub fn parse_value<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value.clone().into_deserializer()).ok()
}
