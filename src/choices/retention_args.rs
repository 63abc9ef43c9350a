//! The retention rules of `prune` and `vault forget` on the command line.

use crate::context::Context;
use crate::error::{CommandError, Result};
use chrono::Duration;
use clap::Args;
use codex_manager_core::io::RetentionPolicy;
use codex_manager_core::io::time_format::parse_duration;

/// The retention rules. Rules that are not given are taken from `prune.keep_*` of config.toml. For clap, they are the
/// group `RetentionArgs`.
#[allow(clippy::struct_field_names, reason = "each is a flag")]
#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    /// Keep the newest N
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep archives that are at most this much older than the newest one: 14d, 12h
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    keep_within: Option<Duration>,
    /// Keep the newest per day, for the last N days that have one
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest per week, for the last N weeks that have one
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest per month, for the last N months that have one
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
}

impl RetentionArgs {
    /// Returns the rules of the command line and of `config.toml`. `command` is for the hint.
    ///
    /// # Errors
    /// No rule is given.
    pub(crate) fn to_policy(&self, context: &Context, command: &str) -> Result<RetentionPolicy> {
        let configured = context.settings.preferences.keep;
        let rules = RetentionPolicy {
            last: self.keep_last.unwrap_or(configured.last),
            within: self.keep_within.or(configured.within),
            daily: self.keep_daily.unwrap_or(configured.daily),
            weekly: self.keep_weekly.unwrap_or(configured.weekly),
            monthly: self.keep_monthly.unwrap_or(configured.monthly),
            ..configured
        };

        if rules.is_empty() {
            return Err(CommandError::usage("no retention rule is given").hint(format!(
                "give one, for example: codex-manager {command} --keep-last 3 --keep-weekly 4 --dry-run"
            )));
        }
        Ok(rules)
    }
}

fn parse_positive_duration(text: &str) -> Result<Duration, &'static str> {
    let duration = parse_duration(text)?;
    if duration > Duration::zero() {
        return Ok(duration);
    }
    Err("must be longer than zero")
}
