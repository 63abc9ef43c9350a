//! A report as one self-contained HTML page: a table with a bar for each row, a calendar, and sections of the caller.

use super::calendar::{Calendar, WEEKDAYS};
use super::figures::{format_cost, format_count};
use super::report::{ModelSum, ReportRow, UsageSum};
use super::stack::Stack;
use crate::conversations::html::escape::escape_html;
use crate::conversations::html::{PageHead, format_page_end, format_page_start};
use std::fmt::Write as _;

const STYLE: &str = include_str!("usage_page.css");

#[derive(Debug)]
pub(crate) struct UsagePage<'a> {
    /// The title and the facts below it.
    pub head: PageHead,
    /// The style of `figures` and `sections`.
    pub style: &'static str,
    /// HTML below the head.
    pub figures: String,
    /// Headings below the rows, each with its HTML.
    pub sections: Vec<(String, String)>,
    /// The heading of the rows.
    pub rows_title: String,
    /// The use of the days; `None` if there is none.
    pub calendar: Option<Calendar>,
    /// The kind of the rows, such as `Day`.
    pub kind: &'static str,
    /// The names of the rows, and their sums.
    pub rows: Vec<(String, &'a UsageSum, &'a [ModelSum])>,
    /// The sum of all rows.
    pub totals: &'a ReportRow<()>,
    /// The date of the prices, and models without one.
    pub note: String,
}

impl UsagePage<'_> {
    pub(crate) fn render(&self) -> String {
        let mut page = format_page_start(&self.head, &[STYLE, self.style].concat());
        page.push_str(&self.figures);
        let stack = Stack::new(self.totals);
        let _ = writeln!(
            page,
            "<h2>{}</h2>\n<ul class=\"legend\">",
            escape_html(&self.rows_title)
        );
        for (i, (name, tokens)) in stack.named_parts(&self.totals.models).enumerate() {
            let meaning = format!("{} {}", escape_html(&name), format_count(tokens));
            push_entry(&mut page, &format!("p{i}"), &meaning);
        }
        page.push_str("</ul>\n");
        self.push_table(&mut page, &stack);
        if let Some(calendar) = &self.calendar {
            page.push_str("<h2>Calendar</h2>\n");
            page.push_str(&draw_calendar(calendar));
        }
        for (title, html) in &self.sections {
            let _ = writeln!(page, "<h2>{}</h2>\n{html}", escape_html(title));
        }
        let _ = writeln!(page, "<p class=\"note\">{}</p>", escape_html(&self.note));
        page + &format_page_end("")
    }

    fn push_table(&self, page: &mut String, stack: &Stack) {
        let kind = self.kind;
        let _ = writeln!(
            page,
            "<table class=\"rows\">\n<thead><tr><th>{kind}</th><th class=\"bar\"></th>\
             <th class=\"more\">Input</th><th class=\"more\">Cached</th><th class=\"more\">Output</th>\
             <th>Total</th><th>Cost</th></tr></thead>\n<tbody>"
        );
        let totals = self.rows.iter().map(|(_, sum, _)| sum.total_tokens);
        let most = totals.max().unwrap_or(0);
        for (name, sum, models) in &self.rows {
            let bar = draw_bar(stack.named_parts(models), most);
            push_row(page, name, &bar, sum);
        }
        page.push_str("</tbody>\n<tfoot>\n");
        push_row(page, "Total", "", &self.totals.sum);
        page.push_str("</tfoot>\n</table>\n");
    }
}

fn push_row(page: &mut String, name: &str, bar: &str, sum: &UsageSum) {
    let name = escape_html(name);
    let [input, cached, output, total] = [
        sum.input_tokens,
        sum.cached_input_tokens,
        sum.output_tokens,
        sum.total_tokens,
    ]
    .map(format_count);
    let cost = escape_html(&format_cost(sum));
    let _ = writeln!(
        page,
        "<tr><td>{name}</td><td class=\"bar\">{bar}</td><td class=\"more\">{input}</td>\
         <td class=\"more\">{cached}</td><td class=\"more\">{output}</td><td>{total}</td><td>{cost}</td></tr>"
    );
}

/// Returns a bar with a part for each model: `most` tokens are as long as the column.
fn draw_bar(parts: impl Iterator<Item = (String, u64)>, most: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a length in a drawing")]
    let length = |tokens: u64| 1000.0 * tokens as f64 / most.max(1) as f64;
    let mut svg = String::from("<svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\">");
    let mut start: u64 = 0;
    for (i, (name, tokens)) in parts.enumerate() {
        if tokens > 0 {
            let _ = write!(
                svg,
                "<rect class=\"p{i}\" x=\"{:.1}\" width=\"{:.1}\" height=\"10\"><title>{}: {}</title></rect>",
                length(start),
                length(tokens).max(1.0),
                escape_html(&name),
                format_count(tokens)
            );
        }
        start = start.saturating_add(tokens);
    }
    svg.push_str("</svg>");
    svg
}

/// The size of a day, and the distance between the corners of two days.
const DAY: usize = 11;
const STEP: usize = 14;

/// The places of the first day: right of the names of weekdays, below those of months.
const LEFT: usize = 30;
const TOP: usize = 16;

/// Returns the drawing, with the tokens of each day as its tooltip, and its legend.
fn draw_calendar(calendar: &Calendar) -> String {
    let weeks = calendar.weeks();
    let width = LEFT + weeks.len() * STEP;
    let height = TOP + WEEKDAYS.len() * STEP;
    let mut svg = format!(
        "<div class=\"calendar\"><svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" \
         aria-label=\"Tokens of each day\">\n"
    );
    for (week, month) in calendar.months() {
        let x = LEFT + week * STEP;
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"10\">{}</text>",
            month.format("%b")
        );
    }
    for (i, weekday) in WEEKDAYS.into_iter().enumerate().step_by(2) {
        let y = TOP + i * STEP + 9;
        let _ = writeln!(svg, "<text x=\"0\" y=\"{y}\">{weekday}</text>");
    }
    for (i, week) in weeks.iter().enumerate() {
        let x = LEFT + i * STEP;
        for (j, (day, tokens)) in week.days.iter().enumerate() {
            let (y, level) = (TOP + j * STEP, calendar.level(*tokens));
            let day = day.format("%a %-d %b %Y");
            let _ = writeln!(
                svg,
                "<rect class=\"l{level}\" x=\"{x}\" y=\"{y}\" width=\"{DAY}\" height=\"{DAY}\" rx=\"2\">\
                 <title>{day}: {} tokens</title></rect>",
                format_count(*tokens)
            );
        }
    }
    svg.push_str("</svg></div>\n<ul class=\"legend\">\n");
    push_entry(&mut svg, "l0", "none");
    for (level, limit) in calendar.levels() {
        let meaning = limit.map_or("more".to_owned(), |limit| {
            format!("up to {}", format_count(limit))
        });
        push_entry(&mut svg, &format!("l{level}"), &meaning);
    }
    svg.push_str("</ul>\n");
    svg
}

/// Appends an entry of a legend. `meaning` is HTML.
fn push_entry(page: &mut String, class: &str, meaning: &str) {
    let _ = writeln!(
        page,
        "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"10\" \
         height=\"10\" rx=\"2\"/></svg>{meaning}</li>"
    );
}
