//! Parses a time that the user types for `--until` or `--reset-at`.

use crate::io::{Day, Timestamp, WallTime, Zone, time_format};
use chrono::{DateTime, Datelike, NaiveTime, Utc};

/// The error for a text that is no time.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a time: {0:?}; write 15:55, \"tue 15:55\", \"2026-11-24 15:55\", +3d, \"3d 4h\" or RFC 3339"
)]
pub(crate) struct ResetTimeError(String);

/// Returns the instant that `text` means at `now` in `zone`.
///
/// RFC 3339 is exact; a span counts from `now`; a date without a year, a weekday or a bare time means the
/// next such time. If daylight saving repeats a time, the first one counts.
pub(crate) fn parse(
    text: &str,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Result<Timestamp, ResetTimeError> {
    let fail = || ResetTimeError(text.to_owned());
    let trimmed = text.trim();
    if let Ok(at) = DateTime::parse_from_rfc3339(trimmed) {
        return Ok(zone.at(&at));
    }
    let span = trimmed.strip_prefix('+').or(trimmed.strip_prefix("in "));
    if let Some(span) = time_format::parse_span(span.unwrap_or(trimmed)) {
        return now
            .checked_add_signed(span)
            .map(|at| zone.at(&at))
            .ok_or_else(fail);
    }
    let WallTime { day, time } = time_format::parse(trimmed).ok_or_else(fail)?;
    let midnight_or = time.unwrap_or(NaiveTime::MIN);
    match day {
        None => Ok(zone.next(midnight_or, None, now)),
        Some(Day::Weekday(day)) => Ok(zone.next(midnight_or, Some(day), now)),
        Some(Day::Date { year, month, day }) => {
            let this_year = zone.at(now).year();
            let years = year.map_or(this_year..=this_year + 8, |year| year..=year);
            years
                .filter_map(|year| time_format::date(year, month, day))
                .map(|date| zone.resolve_local(date.and_time(midnight_or)).0)
                .find(|at| year.is_some() || at >= now)
                .ok_or_else(fail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> String {
        let now = DateTime::parse_from_rfc3339("2026-11-20T08:00:00+01:00").unwrap();
        parse(text, &now.to_utc(), Zone::named("Europe/Berlin").unwrap())
            .map_or_else(|e| e.to_string(), |t| t.to_rfc3339())
    }

    #[test]
    fn incomplete_times_mean_the_next_such_time() {
        for (text, expected) in [
            ("2026-11-24T15:55:00Z", "2026-11-24T16:55:00+01:00"),
            ("2026-11-24 15:55", "2026-11-24T15:55:00+01:00"),
            ("2026-11-24", "2026-11-24T00:00:00+01:00"),
            ("15:55", "2026-11-20T15:55:00+01:00"),
            ("07:30", "2026-11-21T07:30:00+01:00"),
            ("tue 15:55", "2026-11-24T15:55:00+01:00"),
            ("fri 07:00", "2026-11-27T07:00:00+01:00"),
            ("+3d", "2026-11-23T08:00:00+01:00"),
            ("3d 4h", "2026-11-23T12:00:00+01:00"),
            ("in 90 min", "2026-11-20T09:30:00+01:00"),
            ("1 Jul 10:00", "2027-07-01T10:00:00+02:00"),
            ("29 Feb", "2028-02-29T00:00:00+01:00"),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
    }

    #[test]
    fn invalid_times_are_refused_with_a_list_of_valid_forms() {
        for text in [
            "",
            "soon",
            "25:99",
            "2026-02-30 10:00",
            "31 Jun",
            "99999999999d",
        ] {
            assert!(at(text).starts_with("not a time"), "{text}: {}", at(text));
        }
    }
}
