//! The text of a recommendation: the reason in a sentence, and `--format`.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::price_file;
use crate::ui::time;
use crate::views::account::{full_time, label, printable, relative_time, time_json};
use crate::views::account_table::find_short_window;
use crate::views::week_pace::format_pace;
use chrono::Days;
use clap::ValueEnum;
use codex_manager_core::codex::ResetCredits;
use codex_manager_core::conversations::index::usage_query::{self, SLOT_MS, UsageDetail, UsageRow};
use codex_manager_core::conversations::index::{self, IndexStore};
use codex_manager_core::io::Timestamp;
use codex_manager_core::quota::AccountEntry;
use codex_manager_core::quota::recommend::{RankedAccount, Ranking};
use codex_manager_core::quota::state::{self, AccountState};
use codex_manager_core::usage::figures::{NO_COST, format_cost, format_count};
use codex_manager_core::usage::period::start_of_day;
use codex_manager_core::usage::report;
use std::cell::LazyCell;
use std::ops::Deref;

/// Returns the reason for the rank of an account, as a sentence.
pub(crate) fn format_reason(
    candidate: &RankedAccount<'_>,
    ranking: &Ranking<'_>,
    context: &Context,
) -> String {
    ranking.reason(
        candidate,
        |at| relative_time(at, context),
        |at| full_time(at, context),
    )
}

/// A field of a template. It stands for a property of the recommended account, or for the usage of the current day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TemplateField {
    Email,
    Profile,
    AccountId,
    Label,
    State,
    Login,
    Reason,
    NextAvailableAt,
    NextIn,
    WeeklyLeft,
    WeeklyUsed,
    #[value(name = "5h_left")]
    FiveHoursLeft,
    WeekPace,
    Resets,
    ResetsUntil,
    Prompt,
    TodayTokens,
    TodayCost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Field(TemplateField),
}

/// A parsed `--format`: text and fields in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<TemplatePart>);

impl Template {
    /// Parses `text`: `{name}` is a field, `{{` and `}}` are braces.
    ///
    /// # Errors
    /// A single brace, or an unknown field.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut pending_text = String::new();
        let mut remaining_text = text;
        while let Some(brace_index) = remaining_text.find(['{', '}']) {
            pending_text.push_str(&remaining_text[..brace_index]);
            let brace = &remaining_text[brace_index..=brace_index];
            remaining_text = &remaining_text[brace_index + 1..];

            if let Some(after_second_brace) = remaining_text.strip_prefix(brace) {
                pending_text.push_str(brace);
                remaining_text = after_second_brace;
                continue;
            }

            let name = match remaining_text.split_once('}') {
                Some((name, after)) if brace == "{" => {
                    remaining_text = after;
                    name
                }
                // A `}` without a `{` before it, or a `{` that is never closed.
                _ => {
                    let message = format!("--format has a single {brace:?}");
                    let hint = "write {{ or }} for a literal brace";
                    return Err(CommandError::usage(message).hint(hint));
                }
            };

            let ignores_case = false;
            let field = TemplateField::from_str(name, ignores_case).map_err(|_| {
                let fields = TemplateField::value_variants().iter();
                let fields = fields.filter_map(ValueEnum::to_possible_value);
                let fields: Vec<_> = fields.map(|value| value.get_name().to_owned()).collect();
                CommandError::usage(format!("unknown field {{{name}}} in --format"))
                    .hint(format!("the fields are: {}", fields.join(", ")))
            })?;

            if !pending_text.is_empty() {
                parts.push(TemplatePart::Text(std::mem::take(&mut pending_text)));
            }
            parts.push(TemplatePart::Field(field));
        }

        pending_text.push_str(remaining_text);
        if !pending_text.is_empty() {
            parts.push(TemplatePart::Text(pending_text));
        }
        Ok(Self(parts))
    }

    /// Returns true if the template contains the field `{prompt}`.
    pub(crate) fn shows_better_account(&self) -> bool {
        self.0.contains(&TemplatePart::Field(TemplateField::Prompt))
    }

    pub(crate) fn fill_in(
        &self,
        best: &RankedAccount<'_>,
        ranking: &Ranking<'_>,
        context: &Context,
    ) -> String {
        // Only a template with a field for the usage of today reads the index.
        let today = LazyCell::new(|| read_usage_of_today(context));
        self.0
            .iter()
            .map(|part| match part {
                TemplatePart::Text(text) => text.clone(),
                TemplatePart::Field(field) => {
                    printable(&field.format_value(best, ranking, &today, context))
                }
            })
            .collect()
    }
}

impl TemplateField {
    /// Returns the text for the field; empty if the value is not known. `today` is read at its first use.
    fn format_value(
        self,
        best: &RankedAccount<'_>,
        ranking: &Ranking<'_>,
        today: &impl Deref<Target = Option<Vec<UsageRow>>>,
        context: &Context,
    ) -> String {
        let entry = &best.account.entry;
        let reset_at = best.verdict.next_available_at;
        let format_percent =
            |figure: Option<f64>| figure.map_or(String::new(), |f| format!("{f:.0}"));

        match self {
            Self::Email => entry.identity.email.to_string(),
            Self::Profile => entry.profile.clone().unwrap_or_default(),
            Self::AccountId => entry.identity.account_id.clone().unwrap_or_default(),
            Self::Label => label(best.account),
            Self::State => best.verdict.state.name().into(),
            Self::Login => best.account.login.name().into(),
            Self::Reason => format_reason(best, ranking, context),
            Self::NextAvailableAt => time_json(reset_at, context).unwrap_or_default(),
            Self::NextIn => match (reset_at, best.verdict.state) {
                (Some(at), _) => relative_time(&at, context),
                (None, AccountState::Ready) => "now".into(),
                (None, _) => String::new(),
            },
            Self::WeeklyLeft => format_percent(best.weekly_left),
            Self::WeeklyUsed => format_percent(best.weekly_left.map(|left| 100.0 - left)),
            Self::WeekPace => format_pace(entry, context),
            Self::Resets => find_left_resets(entry, context)
                .map_or(String::new(), |resets| resets.available.to_string()),
            Self::ResetsUntil => {
                let resets = find_left_resets(entry, context);
                let expiry = resets.and_then(|resets| resets.expires_at.first().copied());
                expiry.map_or(String::new(), |at| format_day(&at, context))
            }
            Self::Prompt => format_live_and_better(ranking, context),
            Self::TodayTokens => today.as_deref().map(format_tokens).unwrap_or_default(),
            Self::TodayCost => {
                let to_cost = |rows: &[UsageRow]| format_estimated_cost(rows, context);
                today.as_deref().map(to_cost).unwrap_or_default()
            }
            Self::FiveHoursLeft => {
                let window = find_short_window(entry);
                format_percent(window.map(|window| state::percent_left(window, &context.now())))
            }
        }
    }
}

/// Returns the banked resets that an account has left; `None` if their number is not known.
fn find_left_resets(entry: &AccountEntry, context: &Context) -> Option<ResetCredits> {
    let resets = entry.observation.as_ref()?.reset_credits.as_ref()?;
    Some(resets.unexpired_at(&context.now()))
}

fn format_day(at: &Timestamp, context: &Context) -> String {
    time::format_day(&at.to_utc(), context.zone(), &context.now())
}

/// Returns the live account and a better account if there is one, such as `work 12 % → personal 88 %`. If no account is
/// live, the text begins with the arrow. If a banked reset of the live account expires soon, its date follows the live
/// account.
fn format_live_and_better(ranking: &Ranking<'_>, context: &Context) -> String {
    let format_account = |ranked: &RankedAccount<'_>| match ranked.weekly_left {
        Some(left) => format!("{} {left:.0} %", label(ranked.account)),
        None => label(ranked.account),
    };

    let live_text = ranking.live().map(|live| {
        let resets = find_left_resets(&live.account.entry, context);
        let expiry = resets.and_then(|resets| resets.next_expiry_if_soon(&context.now()));
        let reset_note = expiry.map(|at| format!(", reset until {}", format_day(&at, context)));
        format!("{}{}", format_account(live), reset_note.unwrap_or_default())
    });

    let better = ranking
        .find_better()
        .map(|c| format!("→ {}", format_account(c)));
    let texts: Vec<_> = live_text.into_iter().chain(better).collect();
    texts.join(" ")
}

/// Reads the usage of all accounts of the Codex home on the current day from the index: the sums of the requests. Opens
/// no rollout and changes nothing. `None` if no index can be read now.
fn read_usage_of_today(context: &Context) -> Option<Vec<UsageRow>> {
    let path = index::index_path(context.manager_home(), context.codex_home());
    let store = IndexStore::open_read_only(&path).ok().flatten()?;
    let today = context.zone().at(&context.now()).date_naive();
    let first_slot_of = |day| start_of_day(day, context.zone()).timestamp_millis() / SLOT_MS;
    let slots = first_slot_of(today)..first_slot_of(today + Days::new(1));
    usage_query::read_sums(&store, slots, UsageDetail::Slots).ok()
}

/// Returns the total number of input and output tokens, such as `1.20M`.
fn format_tokens(rows: &[UsageRow]) -> String {
    let tokens = rows.iter().map(|row| row.tokens);
    let counts = tokens.map(|t| t.input_tokens.saturating_add(t.output_tokens));
    format_count(counts.sum())
}

/// Returns the estimated cost, such as `$3.40`; empty without a price.
fn format_estimated_cost(rows: &[UsageRow], context: &Context) -> String {
    if rows.is_empty() {
        return "$0.00".to_owned();
    }
    let given_path = None;
    let Ok(prices) = price_file::read_prices(given_path, context) else {
        return String::new();
    };

    let usage = rows.iter().map(|row| ((), row));
    let totals = report::sum_by_key(usage, &prices).totals.sum;
    let cost = format_cost(&totals);
    if cost == NO_COST { String::new() } else { cost }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_template_unescapes_braces_and_finds_fields() {
        assert_eq!(
            Template::parse("{{{email}}} {5h_left}%").unwrap(),
            Template(vec![
                TemplatePart::Text("{".into()),
                TemplatePart::Field(TemplateField::Email),
                TemplatePart::Text("} ".into()),
                TemplatePart::Field(TemplateField::FiveHoursLeft),
                TemplatePart::Text("%".into()),
            ])
        );
    }

    #[test]
    fn an_invalid_template_is_refused() {
        for text in ["{nope}", "{email", "email}", "{", "}", "{}", "{ email }"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
