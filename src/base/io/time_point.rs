//! Points in time as the user writes them for an option.
//!
//! Days, months and times of day are in the local time zone. A text without a date means the last such time for an
//! option about the past, and the next such time for an option about the future.

use super::clock::{Timestamp, Zone};
use super::time_format::{self, Day, WallTime};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc, Weekday};

/// The direction in which an incomplete time is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeDirection {
    /// A time in the past, for filters.
    Back,
    /// A time in the future.
    Ahead,
}

/// A period from `start` until before `end`; both are equal for an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimePeriod {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl TimePeriod {
    /// Returns the end of a period that contains `now`, and the start of any other period.
    pub fn next_bound(&self, now: &DateTime<Utc>) -> Timestamp {
        if self.contains(now) {
            self.end
        } else {
            self.start
        }
    }

    fn contains(&self, at: &DateTime<Utc>) -> bool {
        self.start <= *at && *at < self.end
    }
}

/// The error for a text that is no time.
#[derive(Debug, thiserror::Error)]
#[error("not a time: {text:?}; write {}", describe_forms(*.direction))]
pub struct TimePointError {
    text: String,
    direction: TimeDirection,
}

fn describe_forms(direction: TimeDirection) -> &'static str {
    match direction {
        TimeDirection::Back => {
            "7d, 12h, today, yesterday, monday, \"last week\", 2026-11, 2026-11-20, \"yesterday 9:00\" or RFC 3339"
        }
        TimeDirection::Ahead => {
            "15:55, \"tomorrow 9:00\", monday, \"tue 15:55\", \"2026-11-24 15:55\", +3d, \"3d 4h\" or RFC 3339"
        }
    }
}

/// Returns the period that `text` means at `now` in `zone`. A text that names only a day, a week or a month means all
/// of it; any other text means an instant.
///
/// RFC 3339 is exact, and a duration counts from `now`. If daylight saving repeats a time, the first one counts. If
/// daylight saving skips a time, see [`Zone::resolve_local`].
pub fn parse(
    text: &str,
    direction: TimeDirection,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Result<TimePeriod, TimePointError> {
    let reader = TimeReader {
        direction,
        now,
        zone,
    };

    let lower = text.trim().to_lowercase();
    let rfc3339_time = DateTime::parse_from_rfc3339(text.trim()).ok();
    rfc3339_time
        .map(|at| to_instant_period(zone.at(&at)))
        .or_else(|| reader.parse_duration(&lower))
        .or_else(|| reader.parse_days(&lower))
        .or_else(|| reader.parse_wall_time(&lower))
        .ok_or_else(|| TimePointError {
            text: text.to_owned(),
            direction,
        })
}

fn to_instant_period(at: Timestamp) -> TimePeriod {
    TimePeriod { start: at, end: at }
}

struct TimeReader<'a> {
    direction: TimeDirection,
    now: &'a DateTime<Utc>,
    zone: Zone,
}

impl TimeReader<'_> {
    fn today(&self) -> NaiveDate {
        self.zone.at(self.now).date_naive()
    }

    /// Parses "3d", which counts in the direction of the reader, "+3d", "in 3d" and "3d ago".
    fn parse_duration(&self, text: &str) -> Option<TimePeriod> {
        let ahead = text.strip_prefix('+').or_else(|| text.strip_prefix("in "));
        let (span, direction) = match (ahead, text.strip_suffix(" ago")) {
            (Some(span), _) => (span, TimeDirection::Ahead),
            (None, Some(span)) => (span, TimeDirection::Back),
            (None, None) => (text, self.direction),
        };

        let span = time_format::parse_span(span)?;
        let span = match direction {
            TimeDirection::Ahead => span,
            TimeDirection::Back => -span,
        };

        let at = self.now.checked_add_signed(span)?;
        Some(to_instant_period(self.zone.at(&at)))
    }

    /// Parses a text that names calendar days: "yesterday", "yesterday 9:00", "last week", "2026-11".
    fn parse_days(&self, text: &str) -> Option<TimePeriod> {
        let today = self.today();
        if text == "now" {
            return Some(to_instant_period(self.zone.at(self.now)));
        }

        if text == "last week" {
            let this_week = today.week(Weekday::Mon).checked_first_day()?;
            return Some(self.day_period(this_week.checked_sub_days(Days::new(7))?, this_week));
        }

        if text.len() == "2026-11".len()
            && let Ok(first) = format!("{text}-01").parse::<NaiveDate>()
        {
            return Some(self.day_period(first, first.checked_add_months(Months::new(1))?));
        }

        let (word, time_text) = text.split_once(' ').unwrap_or((text, ""));
        let day_offset = match word {
            "yesterday" => -1,
            "today" => 0,
            "tomorrow" => 1,
            _ => return None,
        };

        let date = today.checked_add_signed(TimeDelta::days(day_offset))?;
        if time_text.is_empty() {
            return self.period_on(date, None);
        }

        // The text after the first word must not name another day.
        let WallTime { day: None, time } = time_format::parse_wall_time(time_text)? else {
            return None;
        };
        self.period_on(date, Some(time?))
    }

    fn parse_wall_time(&self, text: &str) -> Option<TimePeriod> {
        let WallTime { day, time } = time_format::parse_wall_time(text)?;
        match day {
            None => self.find_day(|_| true, time),
            Some(Day::Weekday(day)) => self.find_day(|date| date.weekday() == day, time),
            Some(Day::Date { year, month, day }) => {
                let in_year = |y| self.period_on(NaiveDate::from_ymd_opt(y, month, day)?, time);
                if let Some(year) = year {
                    return in_year(year);
                }

                let year_step = match self.direction {
                    TimeDirection::Ahead => 1,
                    TimeDirection::Back => -1,
                };

                let this_year = self.today().year();
                // The next 29 February is up to eight years away.
                let years = (0..=8).map(|distance| this_year + year_step * distance);
                let mut periods = years.filter_map(in_year);
                // The date of today means today, but its weekday ahead means next week: `find_day`.
                periods.find(|period| period.contains(self.now) || self.is_in_direction(period))
            }
        }
    }

    /// Returns the nearest day that `is_wanted` accepts, searched in the direction of the reader; with `time`, that
    /// time of the day.
    fn find_day(
        &self,
        is_wanted: impl Fn(NaiveDate) -> bool,
        time: Option<NaiveTime>,
    ) -> Option<TimePeriod> {
        let today = self.today();
        // 16 days have each day of the week twice, because the time of today may have passed.
        let mut dates = (0..16).filter_map(|days| match self.direction {
            TimeDirection::Ahead => today.checked_add_days(Days::new(days)),
            TimeDirection::Back => today.checked_sub_days(Days::new(days)),
        });
        dates.find_map(|date| {
            let period = self.period_on(date, time)?;
            let is_found = is_wanted(date) && self.is_in_direction(&period);
            is_found.then_some(period)
        })
    }

    /// Returns true if the period starts after now (`Ahead`), or now or earlier (`Back`).
    fn is_in_direction(&self, period: &TimePeriod) -> bool {
        match self.direction {
            TimeDirection::Ahead => period.start > *self.now,
            TimeDirection::Back => period.start <= *self.now,
        }
    }

    /// Returns the instant of `time` on this date, or without `time` the whole day.
    fn period_on(&self, date: NaiveDate, time: Option<NaiveTime>) -> Option<TimePeriod> {
        Some(match time {
            Some(time) => to_instant_period(self.zone.resolve_local(date.and_time(time)).0),
            None => self.day_period(date, date.checked_add_days(Days::new(1))?),
        })
    }

    /// Returns the period from the first moment of the day `first` to that of the day `end`.
    fn day_period(&self, first: NaiveDate, end: NaiveDate) -> TimePeriod {
        let [start, end] =
            [first, end].map(|date| self.zone.resolve_local(date.and_time(NaiveTime::MIN)).0);
        TimePeriod { start, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The period at 08:00 on Friday, 20 November 2026 in Berlin.
    fn read(text: &str, direction: TimeDirection) -> String {
        read_at("2026-11-20T08:00:00+01:00", text, direction)
    }

    fn read_at(now: &str, text: &str, direction: TimeDirection) -> String {
        let now = DateTime::parse_from_rfc3339(now).unwrap().to_utc();
        let zone = Zone::named("Europe/Berlin").unwrap();
        match parse(text, direction, &now, zone) {
            Ok(TimePeriod { start, end }) if start == end => start.to_rfc3339(),
            Ok(TimePeriod { start, end }) => {
                format!("{} to {}", start.to_rfc3339(), end.to_rfc3339())
            }
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn incomplete_times_ahead_mean_the_next_such_time() {
        for (text, expected) in [
            ("2026-11-24T15:55:00Z", "2026-11-24T16:55:00+01:00"),
            ("2026-11-24 15:55", "2026-11-24T15:55:00+01:00"),
            (
                "2026-11-24",
                "2026-11-24T00:00:00+01:00 to 2026-11-25T00:00:00+01:00",
            ),
            ("15:55", "2026-11-20T15:55:00+01:00"),
            ("8:00", "2026-11-21T08:00:00+01:00"),
            (
                "20 Nov",
                "2026-11-20T00:00:00+01:00 to 2026-11-21T00:00:00+01:00",
            ),
            ("07:30", "2026-11-21T07:30:00+01:00"),
            ("tue 15:55", "2026-11-24T15:55:00+01:00"),
            ("fri 07:00", "2026-11-27T07:00:00+01:00"),
            (
                "friday",
                "2026-11-27T00:00:00+01:00 to 2026-11-28T00:00:00+01:00",
            ),
            ("tomorrow 9:00", "2026-11-21T09:00:00+01:00"),
            ("tomorrow at 3pm", "2026-11-21T15:00:00+01:00"),
            ("+3d", "2026-11-23T08:00:00+01:00"),
            ("3d 4h", "2026-11-23T12:00:00+01:00"),
            ("in 90 min", "2026-11-20T09:30:00+01:00"),
            ("1 Jul 10:00", "2027-07-01T10:00:00+02:00"),
            (
                "29 Feb",
                "2028-02-29T00:00:00+01:00 to 2028-03-01T00:00:00+01:00",
            ),
        ] {
            assert_eq!(read(text, TimeDirection::Ahead), expected, "{text}");
        }
    }

    #[test]
    fn an_incomplete_past_time_means_its_latest_occurrence() {
        for (text, expected) in [
            ("now", "2026-11-20T08:00:00+01:00"),
            ("3d", "2026-11-17T08:00:00+01:00"),
            ("2h ago", "2026-11-20T06:00:00+01:00"),
            (
                "today",
                "2026-11-20T00:00:00+01:00 to 2026-11-21T00:00:00+01:00",
            ),
            (
                "Yesterday",
                "2026-11-19T00:00:00+01:00 to 2026-11-20T00:00:00+01:00",
            ),
            ("yesterday 15:00", "2026-11-19T15:00:00+01:00"),
            ("15:00", "2026-11-19T15:00:00+01:00"),
            ("07:30", "2026-11-20T07:30:00+01:00"),
            (
                "friday",
                "2026-11-20T00:00:00+01:00 to 2026-11-21T00:00:00+01:00",
            ),
            (
                "sunday",
                "2026-11-15T00:00:00+01:00 to 2026-11-16T00:00:00+01:00",
            ),
            ("fri 9:00", "2026-11-13T09:00:00+01:00"),
            (
                "last week",
                "2026-11-09T00:00:00+01:00 to 2026-11-16T00:00:00+01:00",
            ),
            (
                "2026-02",
                "2026-02-01T00:00:00+01:00 to 2026-03-01T00:00:00+01:00",
            ),
            (
                "24 Nov",
                "2025-11-24T00:00:00+01:00 to 2025-11-25T00:00:00+01:00",
            ),
        ] {
            assert_eq!(read(text, TimeDirection::Back), expected, "{text}");
        }
    }

    #[test]
    fn days_follow_the_time_zone_when_clocks_change() {
        for (now, text, expected) in [
            // 23 and 25 hours long.
            (
                "2026-03-30T12:00:00Z",
                "yesterday",
                "2026-03-29T00:00:00+01:00 to 2026-03-30T00:00:00+02:00",
            ),
            (
                "2026-10-26T12:00:00Z",
                "sunday",
                "2026-10-25T00:00:00+02:00 to 2026-10-26T00:00:00+01:00",
            ),
            (
                "2026-11-05T12:00:00Z",
                "2026-10",
                "2026-10-01T00:00:00+02:00 to 2026-11-01T00:00:00+01:00",
            ),
            // The local day is a day ahead of UTC.
            (
                "2026-11-19T23:30:00Z",
                "today",
                "2026-11-20T00:00:00+01:00 to 2026-11-21T00:00:00+01:00",
            ),
            // Skipped and repeated by the change.
            (
                "2026-03-30T12:00:00Z",
                "yesterday 2:30",
                "2026-03-29T03:30:00+02:00",
            ),
            (
                "2026-10-26T12:00:00Z",
                "yesterday 2:30",
                "2026-10-25T02:30:00+02:00",
            ),
        ] {
            assert_eq!(read_at(now, text, TimeDirection::Back), expected, "{text}");
        }
    }

    #[test]
    fn invalid_times_are_refused_with_a_list_of_valid_forms() {
        for text in [
            "",
            "soon",
            "25:99",
            "tomorrow tue 9:00",
            "yesterday soon",
            "2026-13",
            "2026-02-30 10:00",
            "31 Jun",
            "99999999999d",
        ] {
            for direction in [TimeDirection::Back, TimeDirection::Ahead] {
                let shown = read(text, direction);
                assert!(shown.starts_with("not a time"), "{text}: {shown}");
                assert!(shown.contains("9:00"), "{text}: {shown}");
            }
        }
    }
}
