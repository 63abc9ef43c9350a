//! Infers quota from the name and the time of a legacy `21apr_me@x.com_auth.json`.
//!
//! The modification time of the file is the time at which the quota was used up. The weekly window began an assumed
//! duration before that, and the account is available again seven days of 24 hours after the window began. The day in
//! the name of the file only validates these times.

use super::window::{Observation, QuotaSource};
use crate::codex::Window;
use crate::io::{Timestamp, Zone, time_format};
use chrono::{DateTime, Datelike, Duration, NaiveDate, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

const SUFFIX: &str = "_auth.json";
/// The length of the name of a month, such as "apr".
const MONTH_CHARS: usize = 3;

/// A parsed legacy file name: `^(?P<day>\d{1,2})(?P<month>[a-z]{3})_(?P<email>.+)_auth\.json$`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyName<'a> {
    /// The day and month in their original spelling, even if they are invalid: "21apr", "0apr", "21abc".
    pub date: &'a str,
    pub email: &'a str,
}

impl<'a> LegacyName<'a> {
    /// Parses a file name. Returns `None` if it is no legacy name; the comparison is case-sensitive.
    pub fn parse(name: &'a str) -> Option<Self> {
        let digits = name.bytes().take_while(u8::is_ascii_digit).count();
        let month = name.get(digits..digits + MONTH_CHARS)?;
        if !(1..=2).contains(&digits) || !month.bytes().all(|b| b.is_ascii_lowercase()) {
            return None;
        }
        let date_end = digits + MONTH_CHARS;
        let email = name[date_end..].strip_prefix('_')?.strip_suffix(SUFFIX)?;
        (!email.is_empty() && !email.contains('\n')).then_some(Self {
            date: &name[..date_end],
            email,
        })
    }

    /// Returns the date of this day and month in `year`, or `None` if the year has no such day.
    fn date_in_year(&self, year: i32) -> Option<NaiveDate> {
        let (day, month) = self.date.split_at(self.date.len() - MONTH_CHARS);
        let month = time_format::parse_month(month)?;
        NaiveDate::from_ymd_opt(year, month, day.parse().ok()?)
    }
}

/// The assumptions for reading legacy files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyOptions {
    /// The assumed time from the start of the weekly window to the end of its quota.
    pub session_duration: Duration,
    /// The year to which the day in the names belongs, if the user gave it.
    pub year: Option<i32>,
}

/// The result of comparing the day in a legacy file's name with the file's modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValidationStatus {
    /// The day in the name matches the time.
    Match,
    /// The day in the name does not match the time. Both are recorded unchanged.
    Mismatch,
}

/// The facts inferred from the name and the modification time of a legacy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyInference {
    /// The modification time of the file, in whole seconds.
    pub quota_end_detected_at: Timestamp,
    /// `quota_end_detected_at` minus the assumed duration.
    pub session_start_at: Timestamp,
    /// `session_start_at` plus 168 hours, also across changes of daylight saving.
    pub next_available_at: Timestamp,
    /// The year to which the day in the name belongs.
    pub legacy_year: i32,
    /// `Match` if the name has the calendar day of `next_available_at`, and the modification time is not in the future.
    pub validation: ValidationStatus,
}

/// Infers the quota from the name and modification time of a legacy file. Calendar days are those of `zone`.
///
/// Without a year in `options` the day in the name belongs to the current year. If the day matches only in the year of
/// `next_available_at` (old files, New Year), it belongs to that year.
pub fn infer_quota(
    name: &LegacyName<'_>,
    modified_at: &DateTime<Utc>,
    options: &LegacyOptions,
    now: &DateTime<Utc>,
    zone: Zone,
) -> LegacyInference {
    let quota_end = modified_at.trunc_subsecs(0);
    let window_start = quota_end - options.session_duration;
    let next_available_at = zone.at(&(window_start + Duration::days(7)));
    let available_on = next_available_at.date_naive();

    let current_year = zone.at(now).year();
    let matches_name = |year: &i32| name.date_in_year(*year) == Some(available_on);
    let mut likely_years = [current_year, available_on.year()].into_iter();
    let matching_year = likely_years.find(matches_name);
    let year = options.year.or(matching_year).unwrap_or(current_year);

    LegacyInference {
        quota_end_detected_at: zone.at(&quota_end),
        session_start_at: zone.at(&window_start),
        next_available_at,
        legacy_year: year,
        validation: if *modified_at <= *now && matches_name(&year) {
            ValidationStatus::Match
        } else {
            ValidationStatus::Mismatch
        },
    }
}

/// Returns the observation of an exhausted weekly window that a legacy file represents.
pub fn exhausted_observation(detected_at: Timestamp, next_available_at: Timestamp) -> Observation {
    let exhausted = Window::new_weekly(100.0, Some(next_available_at));
    Observation::new(QuotaSource::Legacy, detected_at, vec![exhausted])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct LegacyCase {
        name: &'static str,
        mtime: &'static str,
        now: &'static str,
        zone: &'static str,
        year: Option<i32>,
    }

    const CASE: LegacyCase = LegacyCase {
        name: "21apr_drdpsbose023@gmail.com_auth.json",
        mtime: "2026-04-14T17:55:00+05:30",
        now: "2026-04-19T15:30:00+05:30",
        zone: "Asia/Kolkata",
        year: None,
    };

    fn run(case: &LegacyCase) -> LegacyInference {
        let utc = |text| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        infer_quota(
            &LegacyName::parse(case.name).unwrap(),
            &utc(case.mtime),
            &LegacyOptions {
                session_duration: Duration::hours(2),
                year: case.year,
            },
            &utc(case.now),
            Zone::named(case.zone).unwrap(),
        )
    }

    fn status(case: &LegacyCase) -> (ValidationStatus, i32) {
        let inference = run(case);
        (inference.validation, inference.legacy_year)
    }

    use ValidationStatus::{Match, Mismatch};

    #[test]
    fn the_documented_example_is_inferred_exactly() {
        let inference = run(&CASE);
        assert_eq!(
            inference.session_start_at.to_rfc3339(),
            "2026-04-14T15:55:00+05:30"
        );
        assert_eq!(
            inference.next_available_at.to_rfc3339(),
            "2026-04-21T15:55:00+05:30"
        );
        assert_eq!((inference.validation, inference.legacy_year), (Match, 2026));
    }

    #[test]
    fn only_the_exact_form_is_accepted_as_a_legacy_name() {
        let name = LegacyName::parse("1jan_müller_jr@exämple.de_auth.json").unwrap();
        assert_eq!((name.date, name.email), ("1jan", "müller_jr@exämple.de"));
        assert_eq!(
            LegacyName::parse("21apr_a_auth.json_auth.json")
                .unwrap()
                .email,
            "a_auth.json"
        );
        for other in [
            "auth.json",
            "21APR_a@x.com_auth.json",
            "21Apr_a@x.com_auth.json",
            "121apr_a@x.com_auth.json",
            "apr_a@x.com_auth.json",
            "21apr__auth.json",
            "21apr_auth.json",
            "21apr_a@x.com_auth.json.bak",
            "21april_a@x.com_auth.json",
            "21äpr_a@x.com_auth.json",
            "2１apr_a@x.com_auth.json",
            "",
        ] {
            assert_eq!(LegacyName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn an_impossible_day_in_a_name_is_a_mismatch_but_does_not_change_the_times() {
        for name in [
            "31jun_a@x.com_auth.json",
            "0apr_a@x.com_auth.json",
            "99apr_a@x.com_auth.json",
            "21abc_a@x.com_auth.json",
            "22apr_a@x.com_auth.json",
        ] {
            let inference = run(&LegacyCase { name, ..CASE });
            assert_eq!(inference.validation, Mismatch, "{name}");
            assert_eq!(inference.next_available_at, run(&CASE).next_available_at);
        }
    }

    #[test]
    fn february_29_matches_in_leap_years_only() {
        let leap = LegacyCase {
            name: "29feb_a@x.com_auth.json",
            mtime: "2028-02-22T12:00:00Z",
            now: "2028-02-23T00:00:00Z",
            zone: "UTC",
            year: None,
        };
        assert_eq!(status(&leap), (Match, 2028));
        let old = LegacyCase {
            now: "2029-02-23T00:00:00Z",
            ..leap
        };
        assert_eq!(status(&old), (Match, 2028), "only the year differs");
        let common = LegacyCase {
            mtime: "2027-02-22T12:00:00Z",
            now: "2027-02-23T00:00:00Z",
            ..leap
        };
        assert_eq!(status(&common), (Mismatch, 2027));
        assert_eq!(
            status(&LegacyCase {
                year: Some(2027),
                ..leap
            }),
            (Mismatch, 2027)
        );
    }

    #[test]
    fn the_year_of_a_legacy_name_is_inferred_from_the_mtime() {
        let new_year = LegacyCase {
            name: "1jan_a@x.com_auth.json",
            mtime: "2026-12-25T12:00:00Z",
            now: "2026-12-26T00:00:00Z",
            zone: "UTC",
            year: None,
        };
        assert_eq!(status(&new_year), (Match, 2027));
        let last_day = LegacyCase {
            name: "31dec_a@x.com_auth.json",
            mtime: "2026-12-24T12:00:00Z",
            now: "2027-01-02T00:00:00Z",
            ..new_year
        };
        assert_eq!(status(&last_day), (Match, 2026));
        let old = LegacyCase {
            mtime: "2019-12-25T12:00:00Z",
            ..new_year
        };
        assert_eq!(status(&old), (Match, 2020));
    }

    #[test]
    fn a_given_year_has_to_match() {
        let with = |year| {
            status(&LegacyCase {
                year: Some(year),
                ..CASE
            })
        };
        assert_eq!(with(2026), (Match, 2026));
        assert_eq!(with(2025), (Mismatch, 2025));
    }

    #[test]
    fn days_are_local_and_a_week_has_168_hours() {
        // 2 h after midnight UTC is still the day before in New York.
        let case = LegacyCase {
            name: "7nov_a@x.com_auth.json",
            mtime: "2026-10-31T22:30:00-04:00",
            now: "2026-11-02T00:00:00Z",
            zone: "America/New_York",
            year: None,
        };
        let inference = run(&case);
        assert_eq!(
            inference.next_available_at.to_rfc3339(),
            "2026-11-07T19:30:00-05:00"
        );
        assert_eq!(inference.validation, Match);
        let berlin = run(&LegacyCase {
            name: "30mar_a@x.com_auth.json",
            mtime: "2026-03-23T01:30:00+01:00",
            zone: "Europe/Berlin",
            ..case
        });
        assert_eq!(
            berlin.next_available_at.to_rfc3339(),
            "2026-03-30T00:30:00+02:00"
        );
        assert_eq!(berlin.validation, Match);
        let lord_howe = run(&LegacyCase {
            name: "11oct_a@x.com_auth.json",
            mtime: "2026-10-04T01:45:00+10:30",
            zone: "Australia/Lord_Howe",
            ..case
        });
        assert_eq!(
            lord_howe.next_available_at.to_rfc3339(),
            "2026-10-11T00:15:00+11:00"
        );
    }

    #[test]
    fn a_file_dated_in_the_future_is_a_mismatch() {
        let inference = run(&LegacyCase {
            now: "2026-04-14T17:54:59+05:30",
            ..CASE
        });
        assert_eq!(inference.validation, Mismatch);
    }

    proptest! {
        #[test]
        fn arbitrary_names_and_times_give_a_week_of_168_hours_and_no_panic(
            day in 0u32..100, month in "[a-z]{3}", secs in any::<i32>(), hours in 0i64..168,
            year in proptest::option::of(any::<i32>()),
        ) {
            let name = format!("{day}{month}_a@x.com_auth.json");
            let at = DateTime::from_timestamp(i64::from(secs) * 4, 0).unwrap();
            let options = LegacyOptions { session_duration: Duration::hours(hours), year };
            let found = infer_quota(
                &LegacyName::parse(&name).unwrap(), &at, &options, &DateTime::UNIX_EPOCH, Zone::UTC,
            );
            prop_assert_eq!(found.next_available_at - found.session_start_at, Duration::hours(168));
        }
    }
}
