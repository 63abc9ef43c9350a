//! The words after `usage`: the kind of the rows, and an account.

use crate::commands::usage::rows::Grouping;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::Error;
use clap::{Arg, Command, ValueEnum};
use std::ffi::OsStr;

#[derive(Debug, Clone)]
pub(super) enum UsageSubject {
    Rows(Grouping),
    Account(String),
}

/// Parses a word as a kind of rows, and any other word as an account. Help and completion list only the kinds.
#[derive(Debug, Clone)]
pub(super) struct SubjectParser;

impl TypedValueParser for SubjectParser {
    type Value = UsageSubject;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<UsageSubject, Error> {
        let word = StringValueParser::new().parse_ref(command, arg, value)?;
        let ignore_case = false;
        let grouping = Grouping::from_str(&word, ignore_case);
        Ok(grouping.map_or(UsageSubject::Account(word), UsageSubject::Rows))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let kinds = Grouping::value_variants().iter();
        Some(Box::new(kinds.filter_map(Grouping::to_possible_value)))
    }
}
