//! Wall-clock times and spans as people and programs write them.
//!
//! "15:55", "3:05 PM", "15:55 on 24 Nov", "Nov 24th, 2026 3:05 PM", "tue 15:55", "2026-11-24 15:55",
//! "3d 4h". The caller decides the meaning of a text without a year or a day.

use chrono::{Datelike, Duration, Month, NaiveDate, NaiveTime, Weekday};

/// The day in a text such as "15:55 on 24 Nov".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// A date, often without its year, and possibly invalid (31 June).
    Date {
        year: Option<i32>,
        /// The month, 1 to 12.
        month: u32,
        day: u32,
    },
    Weekday(Weekday),
}

/// A parsed time: a day, a time of day, or both. A part that was not written is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallTime {
    pub day: Option<Day>,
    pub time: Option<NaiveTime>,
}

/// Parses a time; `None` if any part of the text is not understood.
pub fn parse_wall_time(text: &str) -> Option<WallTime> {
    let lower = text.to_lowercase();
    let mut words = lower
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty() && !matches!(*word, "on" | "at" | "the" | "of"))
        .peekable();

    let (mut time, mut weekday) = (None, None);
    let (mut year, mut month_number, mut day_number) = (None, None, None);

    while let Some(word) = words.next() {
        // A time and its half of the day may be two words: `3:05 PM`.
        let half_start = words.peek().and_then(|next| parse_half_of_day(next));
        if let Some(clock_time) = parse_clock(word, half_start) {
            if half_start.is_some() {
                words.next();
            }
            set_once(&mut time, clock_time)?;
        } else if let Some(number) = parse_month(word) {
            set_once(&mut month_number, number)?;
        } else if let Some(day_of_week) = parse_weekday(word) {
            set_once(&mut weekday, day_of_week)?;
        } else if let Some((date, time_text)) = parse_iso_date(word) {
            set_once(&mut year, date.year())?;
            set_once(&mut month_number, date.month())?;
            set_once(&mut day_number, date.day())?;
            if !time_text.is_empty() {
                set_once(&mut time, parse_clock(time_text, None)?)?;
            }
        } else {
            // A day of the month or a year: `24th`, `24.`, `2026`.
            let digits = ["st", "nd", "rd", "th", "."]
                .iter()
                .find_map(|ending| word.strip_suffix(ending))
                .unwrap_or(word);
            match (digits.len(), parse_number(digits)?) {
                (1 | 2, n) => set_once(&mut day_number, n)?,
                (4, n) => set_once(&mut year, i32::try_from(n).ok()?)?,
                _ => return None,
            }
        }
    }

    // A weekday beside a date is not checked.
    let day = match (year, month_number, day_number, weekday) {
        (year, Some(month), Some(day), _) => Some(Day::Date { year, month, day }),
        (None, None, None, weekday) => weekday.map(Day::Weekday),
        _ => return None,
    };

    (day.is_some() || time.is_some()).then_some(WallTime { day, time })
}

/// Sets a part of the time. Returns `None` if the text names this part twice.
fn set_once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

/// Parses a span such as "3d 4h", "90m", "1w" or "2.5 hours". `None` for anything else, and for more than ten years.
pub fn parse_span(text: &str) -> Option<Duration> {
    const MAX_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;
    let lower = text.trim().to_lowercase();
    let mut unread = lower.as_str();
    let mut seconds = 0.0_f64;

    if unread.is_empty() {
        return None;
    }

    while !unread.is_empty() {
        let amount_len = unread
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            // More digits are no amount of time, and could overflow.
            .filter(|end| (1..=12).contains(end))?;
        let amount: f64 = unread[..amount_len].parse().ok()?;
        unread = unread[amount_len..].trim_start();

        let unit_len = unread
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(unread.len());
        let unit = match &unread[..unit_len] {
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };

        seconds += amount * unit;
        unread = unread[unit_len..].trim_start_matches([' ', '\t', ',']);
    }

    #[allow(clippy::cast_possible_truncation, reason = "bounded by the line below")]
    (seconds.is_finite() && seconds <= MAX_SECONDS)
        .then(|| Duration::seconds(seconds.round() as i64))
}

/// Parses the duration of an option; see [`parse_span`].
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    parse_span(text).ok_or("not a duration; use a form like 30min, 12h, 14d or \"1d 12h\"")
}

/// Parses the name of a month, such as "nov" or "November", into its number.
pub(crate) fn parse_month(text: &str) -> Option<u32> {
    let name = text.trim_end_matches('.').to_lowercase();
    let name = if name == "sept" { "sep" } else { &name };
    let month: Month = name.parse().ok()?;
    Some(month.number_from_month())
}

/// Parses a day of the week, such as "tue" or "Tuesday".
pub(crate) fn parse_weekday(text: &str) -> Option<Weekday> {
    text.trim_end_matches('.').parse().ok()
}

/// Parses "am" into 0 and "pm" into 12, the hour at which that half of the day begins.
fn parse_half_of_day(word: &str) -> Option<u32> {
    match word {
        "am" | "a.m." => Some(0),
        "pm" | "p.m." => Some(12),
        _ => None,
    }
}

/// Parses a time of day, such as "15:55", "9:08:30", "3:05pm" or "3pm"; `half_start` is the "am" (0) or "pm" (12) of
/// the next word.
fn parse_clock(word: &str, half_start: Option<u32>) -> Option<NaiveTime> {
    let (clock_text, half_start) = match (word.strip_suffix("am"), word.strip_suffix("pm")) {
        (Some(clock_text), _) => (clock_text, Some(0)),
        (_, Some(clock_text)) => (clock_text, Some(12)),
        _ => (word, half_start),
    };

    let mut parts = clock_text.split(':');
    // A number of more than two digits is no hour.
    let hour_text = parts.next().filter(|text| text.len() <= 2)?;
    let hour = parse_number(hour_text)?;

    // `Some(None)` if the text ends, `None` if the next part is malformed.
    let mut next_two_digits = || match parts.next() {
        None => Some(None),
        Some(part) if part.len() == 2 => parse_number(part).map(Some),
        Some(_) => None,
    };
    let (minute, second) = (next_two_digits()?, next_two_digits()?);

    // A bare hour is a time only with "am" or "pm".
    if parts.next().is_some() || (minute.is_none() && half_start.is_none()) {
        return None;
    }

    let hour = match half_start {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(half_start) => half_start + hour % 12,
    };

    NaiveTime::from_hms_opt(hour, minute.unwrap_or(0), second.unwrap_or(0))
}

/// Parses the date in "2026-11-24" or "2026-11-24t15:55". Returns the date, and the text after the `t`.
fn parse_iso_date(word: &str) -> Option<(NaiveDate, &str)> {
    let (date_part, time_part) = word.split_at_checked(10)?;
    let date: NaiveDate = date_part.parse().ok()?;
    if !time_part.is_empty() && !time_part.starts_with('t') {
        return None;
    }
    Some((date, time_part.get(1..).unwrap_or_default()))
}

fn parse_number(digits: &str) -> Option<u32> {
    // `parse` also accepts a sign.
    let is_number = digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        match parse_wall_time(text) {
            None => "nothing".into(),
            Some(WallTime { day, time }) => {
                let day = match day {
                    None => String::new(),
                    Some(Day::Weekday(day)) => format!("{day} "),
                    Some(Day::Date { year, month, day }) => {
                        format!(
                            "{}-{month}-{day} ",
                            year.map_or("?".into(), |y| y.to_string())
                        )
                    }
                };
                format!("{day}{}", time.map_or("?".into(), |t| t.to_string()))
            }
        }
    }

    #[test]
    fn common_forms_of_times_are_parsed() {
        for (text, expected) in [
            ("09:08", "09:08:00"),
            ("9:08", "09:08:00"),
            ("3:05 PM", "15:05:00"),
            ("12:05am", "00:05:00"),
            ("12 PM", "12:00:00"),
            ("07:08 on 23 Nov", "?-11-23 07:08:00"),
            ("3:05 PM on Nov 24", "?-11-24 15:05:00"),
            ("Nov 23rd, 2026 6:05 AM", "2026-11-23 06:05:00"),
            ("24 November 2026", "2026-11-24 ?"),
            ("Tue 24 Nov 15:55", "?-11-24 15:55:00"),
            ("tue 15:55", "Tue 15:55:00"),
            ("2026-11-24 15:55", "2026-11-24 15:55:00"),
            ("2026-11-24T15:55:30", "2026-11-24 15:55:30"),
            ("31 Jun 10:00", "?-6-31 10:00:00"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn text_that_is_not_wholly_a_time_is_rejected() {
        for text in [
            "",
            "25:99",
            "24:00",
            "7:5",
            "13:00 PM",
            "0:10 pm",
            "24 Foo",
            "garbage",
            "15:55 UTC",
            "15",
            "Nov",
            "2026",
            "15:55 16:55",
            "on",
            "24 24 Nov",
            "::",
            "1:2:3:4",
            "２:00",
        ] {
            assert_eq!(read(text), "nothing", "{text}");
        }
    }

    #[test]
    fn spans_add_up() {
        assert_eq!(parse_span("3d 4h"), Some(Duration::hours(76)));
        assert_eq!(parse_span("2.5 hours, 1 min"), Some(Duration::minutes(151)));
        for bad in ["", "3", "d", "3x", "-3d", "999999999999w", "3d4"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[0-9a-zA-Z:., \\-éß２]{0,30}") {
            let _ = (parse_wall_time(&text), parse_span(&text));
        }
    }
}
