//! The kinds of rows of a report.

use crate::usage::period::Period;
use clap::ValueEnum;

/// The kind of the rows of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Grouping {
    /// One row for each day
    Daily,
    /// One row for each week, from Monday
    Weekly,
    /// One row for each month
    Monthly,
    /// One row for each conversation
    Sessions,
    /// One row for each folder
    Projects,
    /// One row for each model
    Models,
    /// One row for each account
    Accounts,
    /// One row for each block of five hours
    Blocks,
}

impl Grouping {
    /// Returns the name on the command line.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Returns the kind of a row, as the head of a column.
    pub(super) fn row_kind(self) -> &'static str {
        match self {
            Self::Daily => "Day",
            Self::Weekly => "Week from",
            Self::Monthly => "Month",
            Self::Sessions => "Session",
            Self::Projects => "Project",
            Self::Models => "Model",
            Self::Accounts => "Account",
            Self::Blocks => "Block from",
        }
    }

    /// Returns true if the rows are periods of time.
    pub(super) fn is_of_time(self) -> bool {
        matches!(
            self,
            Self::Daily | Self::Weekly | Self::Monthly | Self::Blocks
        )
    }

    /// Returns the period of the rows.
    pub(super) fn period(self) -> Option<Period> {
        match self {
            Self::Daily => Some(Period::Day),
            Self::Weekly => Some(Period::Week),
            Self::Monthly => Some(Period::Month),
            _ => None,
        }
    }
}
