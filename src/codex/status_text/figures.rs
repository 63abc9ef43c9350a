//! The figures in a status text: percentages, lengths of windows, dates of resets.

use super::StatusTextError;
use crate::codex::window::WEEKLY_MINUTES;
use crate::io::clock::{Timestamp, Zone};
use crate::io::time_format;
use chrono::{DateTime, Datelike, Duration, NaiveTime, Utc};

/// The instant of a date: with its year as it stands, else the first in reach of the window, else
/// the last one that has passed.
pub(super) fn date_instant(
    year: Option<i32>,
    (month, day): (u32, u32),
    time: NaiveTime,
    length: Duration,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Option<Timestamp> {
    let this_year = zone.at(now).year();
    let years = year.map_or(this_year - 1..=this_year + 1, |year| year..=year);
    let candidates: Vec<_> = years
        .filter_map(|year| time_format::date(year, month, day))
        .map(|date| {
            let (first, second) = zone.instants(date.and_time(time));
            second.filter(|_| first < *now).unwrap_or(first)
        })
        .collect();
    if year.is_some() {
        return candidates.first().copied();
    }
    // Two days of slack: clocks differ, and a zone may have changed since the text was made.
    let latest = *now + length + Duration::days(2);
    let mut in_reach = candidates
        .iter()
        .filter(|at| **at >= *now && **at <= latest);
    let passed = candidates.iter().rev().find(|at| **at < *now);
    in_reach.next().or(passed).copied()
}

/// The length that a label names: "5h", "Weekly", "3d".
pub(super) fn window_minutes(word: &str) -> Option<u32> {
    match word.to_lowercase().as_str() {
        "weekly" => Some(WEEKLY_MINUTES),
        "daily" => Some(1_440),
        "monthly" => Some(43_200),
        "annual" => Some(525_600),
        word => {
            let digits = word.find(|c: char| !c.is_ascii_digit())?;
            let amount: u32 = word[..digits].parse().ok()?;
            match &word[digits..] {
                "m" | "min" => Some(amount),
                "h" => amount.checked_mul(60),
                "d" => amount.checked_mul(1_440),
                _ => None,
            }
        }
    }
    .filter(|minutes| (1..=5_256_000).contains(minutes))
}

/// What is used, of "88% left", "12 % used".
pub(super) fn used_percent(value: &str) -> Result<f64, StatusTextError> {
    let fail = || StatusTextError::BadFigure(excerpt(value));
    let (before, after) = value.split_once('%').ok_or_else(fail)?;
    let before = before.trim_end();
    let start = before
        .rfind(|c: char| !c.is_ascii_digit() && c != '.')
        .map_or(0, |i| {
            i + before[i..].chars().next().map_or(1, char::len_utf8)
        });
    let negative = before[..start].ends_with(['-', '−']);
    let figure: f64 = before[start..].parse().map_err(|_| fail())?;
    if negative || !(0.0..=100.0).contains(&figure) {
        return Err(fail());
    }
    let word: String = after
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphabetic())
        .collect();
    match word.to_lowercase().as_str() {
        "left" | "remaining" => Ok(100.0 - figure),
        "used" => Ok(figure),
        _ => Err(fail()),
    }
}

/// The beginning of `text`, for an error.
pub(super) fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
