//! A quota window on an HTML page: its use over time by conversation, and what used it up.

use crate::commands::usage::window_use::{ELSEWHERE, PartKind, PartView, WindowUse};
use crate::context::Context;
use crate::views::account::{absolute_time, full_time, label};
use crate::views::page_charts::{
    AreaChart, AreaLayer, CHART_STYLE, MAX_COLORS, ShareRow, format_figures, format_shares,
};
use chrono::{DateTime, TimeDelta, Utc};
use codex_manager_core::codex::redaction::redact_and_count;
use codex_manager_core::conversations::html::{PageHead, format_page_end, format_page_start};
use codex_manager_core::io::pluralize;
use codex_manager_core::usage::figures::format_count;
use codex_manager_core::usage::period::start_of_day;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

/// The largest number of conversations with an area of their own. The other conversations share one area, and the other
/// machines share another one.
const MAX_SHOWN: usize = MAX_COLORS - 2;

/// The largest number of rows of a table.
const MAX_ROWS: usize = 10;

impl WindowUse<'_> {
    /// Returns the page of the window.
    pub(super) fn render(&self, context: &Context) -> String {
        let time = |at: &DateTime<Utc>| full_time(at, context);
        let head = PageHead {
            title: format!("Weekly window of {}", label(self.account)),
            facts: vec![
                ("Began", time(&self.span.start)),
                ("Resets", time(&self.span.end)),
            ],
        };

        let tokens = self.requests.iter();
        let tokens = tokens.map(|request| request.tokens.total_tokens);
        let used_up = match self.forecast_exhaustion(context) {
            Some(at) => absolute_time(&at, context),
            None => "not before its reset".to_owned(),
        };
        let figures = [
            ("Used", format!("{:.0} %", self.parts.used)),
            (
                "Used elsewhere",
                format!("{:.0} %", self.parts.unattributed),
            ),
            ("Tokens", format_count(tokens.sum())),
            ("Used up at this pace", used_up),
        ];

        let mut page = format_page_start(&head, CHART_STYLE);
        page.push_str(&format_figures(&figures));
        page.push_str("<h2>Use over time, by conversation</h2>\n");
        page.push_str(&self.draw(context));

        for kind in PartKind::ALL {
            let rows: Vec<_> = self.rows.iter().filter(|row| row.kind == kind).collect();
            if !rows.is_empty() {
                let table = self.format_table(kind, &rows);
                let _ = write!(page, "<h2>{}</h2>\n{table}", kind.heading());
            }
        }
        let no_note = "";
        page + &format_page_end(no_note)
    }

    /// Returns the table of the parts of one kind. It has a row for other machines, unless the kind covers only a part
    /// of the window.
    fn format_table(&self, kind: PartKind, rows: &[&PartView]) -> String {
        let to_row = |row: &&PartView| ShareRow {
            name: redacted_name(row),
            part: row.percent_of_window,
            shown: format_count(row.tokens),
        };
        let mut rows: Vec<_> = rows.iter().map(to_row).collect();

        // Inserted before the rows beyond `MAX_ROWS`, so that the row of the other machines is always shown.
        let covers_window = !matches!(kind, PartKind::Subagent | PartKind::Elsewhere);
        if self.parts.unattributed > 0.0 && covers_window {
            rows.insert(
                rows.len().min(MAX_ROWS - 1),
                ShareRow {
                    name: ELSEWHERE.to_owned(),
                    part: self.parts.unattributed,
                    shown: String::new(),
                },
            );
        }

        format_shares(["Name", "Tokens"], &rows, self.parts.used, MAX_ROWS)
    }

    /// Draws the use of the window by hour, and the forecast until the window is used up or resets.
    pub(super) fn draw(&self, context: &Context) -> String {
        let span = &self.span;
        let steps = count_hours(&(span.start..span.end));
        let end = self.last_observation.at.min(span.end);
        // The hour in which the last observation was made is drawn too.
        let drawn_hours = count_hours(&(span.start..end)) + 1;
        let chart = AreaChart {
            layers: self.build_layers(drawn_hours),
            steps,
            marks: build_day_marks(span, context),
            forecast: self.forecast_line(),
        };
        chart.draw()
    }

    /// Returns the cumulative use in each of the first `drawn_hours` hours, as one layer for each of the largest
    /// conversations, one for the other conversations, and one for other machines. Layers without use are left out.
    fn build_layers(&self, drawn_hours: usize) -> Vec<AreaLayer> {
        let conversations = self
            .rows
            .iter()
            .filter(|row| row.kind == PartKind::Conversation);
        let shown: Vec<_> = conversations.clone().take(MAX_SHOWN).collect();
        let other_count = conversations.count() - shown.len();
        let layer_by_id: HashMap<&str, usize> =
            (0..).zip(&shown).map(|(i, row)| (&*row.key, i)).collect();

        let mut names: Vec<_> = shown.iter().map(|row| redacted_name(row)).collect();
        let layer_of_others = names.len();
        names.push(pluralize(other_count, "other conversation"));
        let layer_of_elsewhere = names.len();
        names.push(ELSEWHERE.to_owned());

        // The heights by layer and hour.
        let mut heights = vec![vec![0.0; drawn_hours]; names.len()];
        let hour_of = |at: DateTime<Utc>| count_hours(&(self.span.start..at)).min(drawn_hours - 1);
        for (request, percent) in self.requests.iter().zip(&self.parts.of_requests) {
            let of_account = self.conversations.get(&request.conversation);
            let layer = of_account.and_then(|c| layer_by_id.get(&*c.conversation.session));
            heights[*layer.unwrap_or(&layer_of_others)][hour_of(request.at)] += percent;
        }
        for (at, percent) in &self.parts.unattributed_by_rise {
            heights[layer_of_elsewhere][hour_of(*at)] += percent;
        }

        // Each height is the use of a single hour; the layer needs the sum of this hour and all earlier ones.
        let layers = names.into_iter().zip(heights).map(|(name, mut heights)| {
            for n in 1..heights.len() {
                heights[n] += heights[n - 1];
            }
            AreaLayer { name, heights }
        });

        let is_used = |layer: &AreaLayer| layer.heights.last().is_some_and(|last| *last > 0.0);
        layers.filter(is_used).collect()
    }

    /// Returns the ends of the forecast line at the average pace so far: the last observation, and 100 % or the reset.
    /// `None` if nothing or everything is used, or if the last observation is at an end of the window.
    fn forecast_line(&self) -> Option<[(f64, f64); 2]> {
        let (span, last) = (&self.span, self.last_observation);
        let last_at = relative_position(span, last.at);
        if last_at <= 0.0 || last_at >= 1.0 || last.percent <= 0.0 || last.percent >= 100.0 {
            return None;
        }

        let percent_at_end = last.percent / last_at;
        let end = if percent_at_end > 100.0 {
            // The time at which the window is used up.
            (last_at * 100.0 / last.percent, 100.0)
        } else {
            (1.0, percent_at_end)
        };
        Some([(last_at, last.percent), end])
    }
}

/// Returns the redacted name of a part, because titles of conversations may contain keys.
fn redacted_name(row: &PartView) -> String {
    redact_and_count(&row.display_name()).0
}

fn count_hours(span: &Range<DateTime<Utc>>) -> usize {
    usize::try_from((span.end - span.start).num_hours()).unwrap_or(0)
}

/// Returns the position of a time in a window, from 0 to 1.
fn relative_position(span: &Range<DateTime<Utc>>, at: DateTime<Utc>) -> f64 {
    let seconds = |delta: TimeDelta| delta.as_seconds_f64();
    seconds(at - span.start) / seconds(span.end - span.start)
}

/// Returns the [`relative_position`] and the label of each midnight in a window, without those near its end.
fn build_day_marks(span: &Range<DateTime<Utc>>, context: &Context) -> Vec<(f64, String)> {
    /// A label further right would leave the chart.
    const MAX_POSITION: f64 = 0.95;

    let zone = context.zone();
    let first_day = zone.at(&span.start).date_naive();
    // A window of a week has at most seven midnights.
    let days = first_day.iter_days().skip(1).take(7);
    let marks = days.map(|day| {
        let start = start_of_day(day, zone);
        (
            relative_position(span, start.to_utc()),
            day.format("%a %-d").to_string(),
        )
    });
    marks.filter(|(at, _)| *at < MAX_POSITION).collect()
}
