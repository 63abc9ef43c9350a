//! The report in JSON. Its keys are an interface.

use crate::commands::usage::rows::RowKey;
use crate::usage::report::{ModelSum, Report, UsageSum};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct UsageView<'a> {
    rows: Vec<RowView<'a>>,
    totals: TotalsView<'a>,
    unknown_models: Vec<&'a str>,
    prices_date: &'a str,
}

#[derive(Debug, Serialize)]
struct RowView<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(flatten)]
    sum: &'a UsageSum,
    models: &'a [ModelSum],
}

#[derive(Debug, Serialize)]
struct TotalsView<'a> {
    #[serde(flatten)]
    sum: &'a UsageSum,
    models: &'a [ModelSum],
}

impl<'a> UsageView<'a> {
    pub(super) fn of(report: &'a Report<RowKey>, prices_date: &'a str) -> Self {
        let row = |row: &'a crate::usage::report::ReportRow<RowKey>| RowView {
            key: &row.key.key,
            title: row.key.shown.as_deref().filter(|_| row.key.start == 0),
            sum: &row.sum,
            models: &row.models,
        };
        Self {
            rows: report.rows.iter().map(row).collect(),
            totals: TotalsView {
                sum: &report.totals.sum,
                models: &report.totals.models,
            },
            unknown_models: report.unknown_models.iter().map(String::as_str).collect(),
            prices_date,
        }
    }
}
