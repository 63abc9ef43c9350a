//! Parses the figures in a status text: percentages, reset times.

use super::error::StatusTextError;
use super::fields::strip_prefix_ignoring_case;
use crate::io::clock::{Timestamp, Zone};
use crate::io::time_format::{self, Day, WallTime};
use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveTime, Utc};

#[derive(Debug, PartialEq)]
pub(super) struct WindowFigure {
    pub(super) used_percent: f64,
    pub(super) resets_at: Option<Timestamp>,
}

/// The current time and zone, which complete the reset times of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResetContext {
    pub(super) now: DateTime<Utc>,
    pub(super) zone: Zone,
}

impl ResetContext {
    /// Parses the value of a window: `[██░░] 88% left (resets 09:08)`.
    ///
    /// Lines of a value may end inside a word. The lines are first joined by blanks; if that gives no
    /// valid value, they are joined without blanks.
    pub(super) fn parse_figure(
        self,
        lines: &[&str],
        window_minutes: Option<u32>,
    ) -> Result<WindowFigure, StatusTextError> {
        let figure = self.parse_joined_figure(&lines.join(" "), window_minutes);
        if figure.is_ok() || lines.len() <= 1 {
            return figure;
        }
        let joined_value = separate_letters_and_digits(&lines.concat());
        self.parse_joined_figure(&joined_value, window_minutes)
            .or(figure)
    }

    fn parse_joined_figure(
        self,
        value: &str,
        window_minutes: Option<u32>,
    ) -> Result<WindowFigure, StatusTextError> {
        let bad_time_error = |text: &str| StatusTextError::BadTime(excerpt(text));
        let (used_percent, tail) =
            parse_used_percent(value).ok_or_else(|| StatusTextError::BadFigure(excerpt(value)))?;

        let is_separator = |c: char| !c.is_alphanumeric() && !"()".contains(c);
        let reset_text = tail.trim_start_matches(is_separator);
        let resets_at = if reset_text.is_empty() {
            None
        } else {
            let time = parse_reset_time(reset_text).ok_or_else(|| bad_time_error(tail.trim()))?;
            let instant = self.resolve_reset(time, window_minutes);
            Some(instant.ok_or_else(|| bad_time_error(time))?)
        };

        Ok(WindowFigure {
            used_percent,
            resets_at,
        })
    }

    /// Returns the instant of a reset time, by the rules of [`parse`](super::parse). `None` if the text is no time.
    fn resolve_reset(self, text: &str, window_minutes: Option<u32>) -> Option<Timestamp> {
        let Self { now, zone } = self;
        if let Some(span) = text.strip_prefix("in ").and_then(time_format::parse_span) {
            return now.checked_add_signed(span).map(|at| zone.at(&at));
        }

        let WallTime { day, time } = time_format::parse_wall_time(text)?;
        let length = window_minutes.map(|minutes| Duration::minutes(i64::from(minutes)));
        match (day, time) {
            (None, Some(time)) => {
                let any_day = None;
                let next = zone.next_occurrence(time, any_day, &now);
                let short_length = length.filter(|length| *length < Duration::hours(24));
                // A window cannot reset later than its length from now; clocks may differ by ten minutes.
                let is_too_late = |length: Duration| next > now + length + Duration::minutes(10);
                if short_length.is_some_and(is_too_late) {
                    let day_before = now.checked_sub_signed(Duration::hours(24))?;
                    return Some(zone.next_occurrence(time, any_day, &day_before));
                }
                Some(next)
            }

            (Some(Day::Weekday(day)), time) => {
                Some(zone.next_occurrence(time.unwrap_or(NaiveTime::MIN), Some(day), &now))
            }

            (Some(Day::Date { year, month, day }), time) => {
                let time = time.unwrap_or(NaiveTime::MIN);
                // A window of unknown length counts as a month.
                let length = length.unwrap_or(Duration::days(31)).max(Duration::days(1));
                self.resolve_date(year, (month, day), time, length)
            }
            (None, None) => None,
        }
    }

    /// Returns the instant of a date. Without a year, returns the next such date on which the window can reset, else
    /// the last such date before now.
    fn resolve_date(
        self,
        year: Option<i32>,
        (month, day): (u32, u32),
        time: NaiveTime,
        window_length: Duration,
    ) -> Option<Timestamp> {
        let Self { now, zone } = self;
        let this_year = zone.at(&now).year();
        let years = match year {
            Some(year) => year..=year,
            None => this_year - 1..=this_year + 1,
        };
        let candidates: Vec<_> = years
            .filter_map(|year| NaiveDate::from_ymd_opt(year, month, day))
            .map(|date| {
                let (first, second) = zone.resolve_local(date.and_time(time));
                match second {
                    // Daylight saving repeats the time, and its first occurrence has passed.
                    Some(second) if first < now => second,
                    _ => first,
                }
            })
            .collect();

        if year.is_some() {
            return candidates.first().copied();
        }

        // Two days of tolerance: clocks differ, and the zone may have changed since the user copied the text.
        let latest = now + window_length + Duration::days(2);
        let mut reachable = candidates.iter().filter(|at| **at >= now && **at <= latest);

        let last_passed = candidates.iter().rev().find(|at| **at < now);
        reachable.next().or(last_passed).copied()
    }
}

/// Parses `[bar] 88% left` or `12 % used`. Returns the used percentage and the rest of the value.
fn parse_used_percent(value: &str) -> Option<(f64, &str)> {
    let is_bar_char = |c: char| c.is_whitespace() || ('\u{2580}'..='\u{259f}').contains(&c);
    // The bar is in brackets, consists of blocks, or is missing.
    let figure = match value.strip_prefix('[') {
        Some(bar) => bar.split_once(']')?.1.trim_start(),
        None => value.trim_start_matches(is_bar_char),
    };

    let number_end = figure.find(|c: char| !c.is_ascii_digit() && !".,".contains(c))?;
    let percent: f64 = figure[..number_end].replace(',', ".").parse().ok()?;
    let after_number = figure[number_end..].trim_start();
    let words = after_number.strip_prefix('%')?.trim_start();

    let word_end = words.find(|c: char| !c.is_alphabetic());
    let (word, rest) = words.split_at(word_end.unwrap_or(words.len()));
    let used = match word.to_lowercase().as_str() {
        "left" | "remaining" => 100.0 - percent,
        "used" => percent,
        _ => return None,
    };

    (0.0..=100.0).contains(&percent).then_some((used, rest))
}

/// Returns the text of the time in `(resets 09:08)` or `resets 09:08`.
fn parse_reset_time(reset: &str) -> Option<&str> {
    let inner = match reset.strip_prefix('(') {
        Some(inner) => {
            let (inner, after) = inner.split_once(')')?;
            // Text of another program after the bracket is harmless, but a second figure is not.
            if after.contains('%') {
                return None;
            }
            inner
        }
        None => reset,
    };

    let time = strip_prefix_ignoring_case(inner.trim(), "resets")?;
    Some(time.trim_start_matches([':', ' ']).trim_end())
}

/// Inserts blanks between letters and digits: `resets08:06on24Nov` becomes `resets 08:06 on 24 Nov`.
fn separate_letters_and_digits(text: &str) -> String {
    let mut separated = String::with_capacity(text.len() * 2);
    let mut previous = ' ';

    for c in text.chars() {
        let is_boundary = (previous.is_alphabetic() && c.is_ascii_digit())
            || (previous.is_ascii_digit() && c.is_alphabetic());
        if is_boundary {
            separated.push(' ');
        }
        separated.push(c);
        previous = c;
    }

    separated
}

/// Returns the beginning of `text`, for an error message.
pub(super) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut short: String = text.chars().take(MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
