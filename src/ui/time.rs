//! Times and sizes in readable form.

use chrono::{DateTime, Datelike, Duration, Utc};
use codex_manager_core::io::clock::{Timestamp, Zone};

/// Formats a time as "Tue 24 Nov 15:55", with the year if it is not the current one.
pub(crate) fn format_absolute(at: &DateTime<Utc>, zone: Zone, now: &DateTime<Utc>) -> String {
    let (at, now) = (zone.at(at), zone.at(now));
    let format = if at.year() == now.year() {
        "%a %-d %b %H:%M"
    } else {
        "%a %-d %b %Y %H:%M"
    };
    at.format(format).to_string()
}

/// Formats a day as "Tue 24 Nov", with the year if it is not the current one.
pub(crate) fn format_day(at: &DateTime<Utc>, zone: Zone, now: &DateTime<Utc>) -> String {
    // The time of day follows the last blank.
    let text = format_absolute(at, zone, now);
    text.rsplit_once(' ')
        .map_or(text.clone(), |(day, _)| day.to_owned())
}

/// Formats a time of today or of the six days before as "today 15:55" or "Tue 15:55", any other like
/// [`format_absolute`].
pub(crate) fn format_recent(at: &DateTime<Utc>, zone: Zone, now: &DateTime<Utc>) -> String {
    let days = zone.at(now).date_naive() - zone.at(at).date_naive();
    match days.num_days() {
        0 => zone.at(at).format("today %H:%M").to_string(),
        1..7 => zone.at(at).format("%a %H:%M").to_string(),
        _ => format_absolute(at, zone, now),
    }
}

/// Formats the distance to a time by its two largest units: "in 3 d 4 h", "5 min ago", "just now".
pub(crate) fn format_relative(at: &DateTime<Utc>, now: &DateTime<Utc>) -> String {
    let delta = *at - *now;
    let is_ahead = delta > Duration::zero();
    let is_short = delta.abs() < Duration::seconds(60);
    if is_ahead && is_short {
        "in less than 1 min".to_owned()
    } else if is_short {
        "just now".to_owned()
    } else if is_ahead {
        format!("in {}", format_duration(delta))
    } else {
        format!("{} ago", format_duration(-delta))
    }
}

/// Formats a time as "Tue 24 Nov 15:55, in 3 d 4 h".
pub(crate) fn format_full(at: &DateTime<Utc>, zone: Zone, now: &DateTime<Utc>) -> String {
    format!(
        "{}, {}",
        format_absolute(at, zone, now),
        format_relative(at, now)
    )
}

/// Formats a span, which must not be negative, by its two largest units: "3 d 4 h", "4 h 5 min", "12 min", "30 s".
pub(crate) fn format_duration(span: Duration) -> String {
    let minutes = span.num_minutes();
    let (d, h, m) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{} s", span.num_seconds()),
        (0, 0, m) => format!("{m} min"),
        (0, h, 0) => format!("{h} h"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, 0, _) => format!("{d} d"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// Formats a time by RFC 3339 with the offset of `zone`, in whole seconds.
pub(crate) fn rfc3339(at: &DateTime<Utc>, zone: Zone) -> String {
    rfc3339_of(&zone.at(at))
}

/// Formats a time by RFC 3339 with its own offset, in whole seconds.
pub(crate) fn rfc3339_of(at: &Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, false)
}

/// Formats a number of bytes as "12 B" or "3.4 MB", with decimal units like the sizes of disks.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];

    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    // Not 1000, so that 999.96 kB is not shown as 1000.0 kB.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }

    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn absolute_times_show_the_year_only_if_it_is_not_the_current_one() {
        let now = at("2026-11-21T11:50:00Z");
        assert_eq!(
            format_full(&at("2026-11-24T15:55:00Z"), Zone::UTC, &now),
            "Tue 24 Nov 15:55, in 3 d 4 h"
        );
        assert_eq!(
            format_absolute(&at("2027-01-02T00:00:00Z"), Zone::UTC, &now),
            "Sat 2 Jan 2027 00:00"
        );
    }

    #[test]
    fn times_of_the_last_week_have_no_date() {
        let now = at("2026-11-21T11:50:00Z");
        let format = |text| format_recent(&at(text), Zone::UTC, &now);
        assert_eq!(format("2026-11-21T00:00:00Z"), "today 00:00");
        assert_eq!(format("2026-11-20T23:59:00Z"), "Fri 23:59");
        assert_eq!(format("2026-11-15T08:00:00Z"), "Sun 08:00");
        assert_eq!(format("2026-11-14T08:00:00Z"), "Sat 14 Nov 08:00");
        assert_eq!(format("2026-11-22T08:00:00Z"), "Sun 22 Nov 08:00");
    }

    #[test]
    fn relative_times_are_in_whole_minutes_and_shorter_ones_are_in_words() {
        let now = at("2026-11-21T11:50:00Z");
        assert_eq!(
            format_relative(&at("2026-11-21T11:45:00Z"), &now),
            "5 min ago"
        );
        assert_eq!(format_relative(&now, &now), "just now");
        assert_eq!(
            format_relative(&at("2026-11-21T11:49:01Z"), &now),
            "just now"
        );
        let soon = at("2026-11-21T11:50:59Z");
        assert_eq!(format_relative(&soon, &now), "in less than 1 min");
    }

    #[test]
    fn sizes_have_one_decimal_place() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(bytes(999_999), "1.0 MB");
    }
}
