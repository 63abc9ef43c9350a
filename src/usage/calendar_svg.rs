//! A calendar of days as a drawing in HTML.

use super::calendar::{Calendar, WEEKDAYS};
use super::figures::short;
use std::fmt::Write as _;

/// The size of a day, and the distance between the corners of two days.
const DAY: usize = 11;
const STEP: usize = 14;

/// The places of the first day: right of the names of weekdays, below those of months.
const LEFT: usize = 30;
const TOP: usize = 16;

/// Returns the drawing, with the tokens of each day as its tooltip, and its legend.
pub(super) fn calendar_svg(calendar: &Calendar) -> String {
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
                short(*tokens)
            );
        }
    }
    svg.push_str("</svg></div>\n<ul class=\"legend\">\n");
    push_entry(&mut svg, "l0", "none");
    for (level, limit) in calendar.levels() {
        let meaning = limit.map_or("more".to_owned(), |limit| format!("up to {}", short(limit)));
        push_entry(&mut svg, &format!("l{level}"), &meaning);
    }
    svg.push_str("</ul>\n");
    svg
}

/// Appends an entry of a legend. `meaning` is HTML.
pub(super) fn push_entry(page: &mut String, class: &str, meaning: &str) {
    let _ = writeln!(
        page,
        "<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"10\" \
         height=\"10\" rx=\"2\"/></svg>{meaning}</li>"
    );
}
