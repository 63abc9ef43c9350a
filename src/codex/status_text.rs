//! `/status` as it is pasted from a terminal: the account, and the quota windows with their resets.
//!
//! Forms: plain lines as Codex 0.169 shows them, the same in a box (`│ … │`) as older versions draw
//! it, and `Email: …` with `Quota: 40% left (resets 15:55 on 24 Nov)`, which the Python
//! codex-manager reads. Times are local; within 24 hours they lack the day, and always the year.
//! A named limit has a heading of its own (`X limit:`), with its windows below, or one line
//! (`X 5h limit: …`); both are kept under that name.

mod figures;

use self::figures::{date_instant, excerpt, used_percent, window_minutes};
use crate::codex::window::{CODEX_LIMIT, WEEKLY_MINUTES, Window};
use crate::io::ansi;
use crate::io::clock::{Timestamp, Zone};
use crate::io::time_format::{self, Day, WallTime};
use chrono::{DateTime, Duration, NaiveTime, Utc};

/// The longest text that is looked at. A screen of `/status` is below 4 kB.
const MAX_BYTES: usize = 256 * 1024;

/// What was found in the text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatusText {
    /// The account's email.
    pub email: Option<String>,
    /// The plan.
    pub plan: Option<String>,
    /// The windows in the order of the text, those of Codex under the limit id `codex`.
    pub windows: Vec<Window>,
}

/// Why a text is not taken for `/status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusTextError {
    /// Too long to be one screen.
    #[error("the status text is too long: {0} bytes")]
    TooLong(usize),
    /// Neither an account nor a quota.
    #[error("the status text names no account and no quota")]
    Nothing,
    /// A limit whose figure is no percentage from 0 to 100.
    #[error("not a percentage from 0 to 100: {0}")]
    BadFigure(String),
    /// A reset that names no time.
    #[error("not a time of reset: {0}")]
    BadTime(String),
    /// Two accounts in one text: whose the figures are is not known.
    #[error("the status text names two accounts: {0} and {1}")]
    TwoAccounts(String, String),
}

/// Reads pasted `/status` text; `now` and `zone` complete its times.
///
/// A time without a day is the next such time, except that of a window shorter than a day that
/// cannot reset so late: that one has just passed. A date without a year is the next such date that
/// the window can reset on; where there is none (text pasted late) it is the last one before. Of a
/// time that clocks show twice the earlier one that lies ahead is taken.
pub fn parse(text: &str, now: DateTime<Utc>, zone: Zone) -> Result<StatusText, StatusTextError> {
    if text.len() > MAX_BYTES {
        return Err(StatusTextError::TooLong(text.len()));
    }
    let mut reader = Reader {
        found: StatusText::default(),
        limit: CODEX_LIMIT.to_owned(),
        unfinished: None,
        now,
        zone,
    };
    for line in ansi::strip(text).lines() {
        reader.line(line)?;
    }
    if reader.found.email.is_none() && reader.found.windows.is_empty() {
        return Err(StatusTextError::Nothing);
    }
    Ok(reader.found)
}

struct Reader {
    found: StatusText,
    /// The limit that windows belong to: `codex`, or that of the last heading.
    limit: String,
    /// The window whose reset may follow on the next line, in a narrow terminal.
    unfinished: Option<usize>,
    now: DateTime<Utc>,
    zone: Zone,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), StatusTextError> {
        let line = line
            .trim_matches(|c: char| c.is_whitespace() || "│┃║|╭╮╰╯─━═>•*".contains(c))
            .trim_start_matches(['-', ' ']);
        if line.is_empty() {
            return Ok(());
        }
        let continues = line.starts_with("(resets") || line.starts_with("resets ");
        if let Some(position) = self.unfinished.take().filter(|_| continues) {
            let minutes = self.found.windows[position].minutes;
            self.found.windows[position].resets_at = self.reset_in(line, minutes)?;
            return Ok(());
        }
        let Some((label, value)) = line.split_once(':') else {
            return Ok(());
        };
        let value = value.trim();
        match label.trim().to_lowercase().as_str() {
            "account" | "email" | "login" => self.account(value),
            "plan" => {
                self.found.plan = Some(value.to_owned()).filter(|plan| !plan.is_empty());
                Ok(())
            }
            "quota" => self.window(CODEX_LIMIT.into(), Some(WEEKLY_MINUTES), value),
            lower => {
                let Some(name) = lower.strip_suffix("limit").map(str::trim_end) else {
                    return Ok(());
                };
                // The name as it was written; lower-casing keeps the count of words.
                let words: Vec<_> = label.split_whitespace().collect();
                let words = &words[..name.split_whitespace().count().min(words.len())];
                self.limit_line(words, value)
            }
        }
    }

    fn account(&mut self, value: &str) -> Result<(), StatusTextError> {
        self.limit = CODEX_LIMIT.into();
        let mut words = value.split_whitespace();
        let Some(email) = words.find(|word| is_email(word)) else {
            return Ok(());
        };
        if let Some(known) = &self.found.email
            && known.to_lowercase() != email.to_lowercase()
        {
            return Err(StatusTextError::TwoAccounts(
                known.clone(),
                email.to_owned(),
            ));
        }
        self.found.email = Some(email.to_owned());
        let rest = words.collect::<Vec<_>>().join(" ");
        let plan = rest
            .strip_prefix('(')
            .and_then(|plan| plan.strip_suffix(')'))
            .map(str::trim)
            .filter(|plan| !plan.is_empty());
        if let Some(plan) = plan {
            self.found.plan = Some(plan.to_owned());
        }
        Ok(())
    }

    fn limit_line(&mut self, words: &[&str], value: &str) -> Result<(), StatusTextError> {
        if value.is_empty() {
            // A heading: its windows follow.
            self.limit = if words.is_empty() {
                CODEX_LIMIT.into()
            } else {
                limit_id(words)
            };
            return Ok(());
        }
        if !value.contains('%') {
            // "not available for this account", "refreshing…".
            return Ok(());
        }
        let minutes = words.last().and_then(|word| window_minutes(word));
        let name = &words[..words.len() - usize::from(minutes.is_some())];
        let limit = if name.is_empty() {
            self.limit.clone()
        } else {
            limit_id(name)
        };
        self.window(limit, minutes, value)
    }

    fn window(
        &mut self,
        limit_id: String,
        minutes: Option<u32>,
        value: &str,
    ) -> Result<(), StatusTextError> {
        let window = Window {
            used_percent: used_percent(value)?,
            resets_at: self.reset_in(value, minutes)?,
            limit_id,
            minutes,
        };
        let same = |w: &Window| w.limit_id == window.limit_id && w.minutes == window.minutes;
        let position = self.found.windows.iter().position(same);
        let position = if let Some(position) = position {
            // Pasted twice: the later screen is the newer one.
            self.found.windows[position] = window;
            position
        } else {
            self.found.windows.push(window);
            self.found.windows.len() - 1
        };
        self.unfinished = self.found.windows[position]
            .resets_at
            .is_none()
            .then_some(position);
        Ok(())
    }

    /// The time behind "resets", if the text has one.
    fn reset_in(
        &self,
        text: &str,
        minutes: Option<u32>,
    ) -> Result<Option<Timestamp>, StatusTextError> {
        let Some((_, rest)) = text.split_once("resets") else {
            return Ok(None);
        };
        let time = rest.split(')').next().unwrap_or(rest).trim();
        self.instant(time.trim_start_matches(':').trim(), minutes)
            .map(Some)
            .ok_or_else(|| StatusTextError::BadTime(excerpt(time)))
    }

    fn instant(&self, text: &str, minutes: Option<u32>) -> Option<Timestamp> {
        let (now, zone) = (self.now, self.zone);
        if let Some(span) = text.strip_prefix("in ").and_then(time_format::parse_span) {
            return now.checked_add_signed(span).map(|at| zone.at(&at));
        }
        let WallTime { day, time } = time_format::parse(text)?;
        let length = minutes.map(|m| Duration::minutes(i64::from(m)));
        match (day, time) {
            (None, Some(time)) => {
                let next = zone.next(time, None, &now);
                let latest = length
                    .filter(|length| *length < Duration::hours(24))
                    .map(|length| now + length + Duration::minutes(10));
                if latest.is_some_and(|latest| next > latest) {
                    let from = now.checked_sub_signed(Duration::hours(24))?;
                    return Some(zone.next(time, None, &from));
                }
                Some(next)
            }
            (Some(Day::Weekday(day)), time) => {
                Some(zone.next(time.unwrap_or(NaiveTime::MIN), Some(day), &now))
            }
            (Some(Day::Date { year, month, day }), time) => {
                let time = time.unwrap_or(NaiveTime::MIN);
                let length = length.unwrap_or(Duration::days(31)).max(Duration::days(1));
                date_instant(year, (month, day), time, length, &now, zone)
            }
            (None, None) => None,
        }
    }
}

fn is_email(word: &str) -> bool {
    word.len() <= 320
        && !word.chars().any(char::is_control)
        && word
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
}

fn limit_id(words: &[&str]) -> String {
    let name = words.join(" ");
    if name.eq_ignore_ascii_case(CODEX_LIMIT) {
        CODEX_LIMIT.into()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CURRENT: &str = "
  Model:               GPT-6.1-Sol (reasoning low, summaries auto)
  Directory:           ~/proj
  Account:             alice@example.com (Plus)
  ChatGPT workspace:   alice@example.com (acct-alice)
  Context window:      97% left (12.3K used / 258K)

  5h limit:            [██████████████████░░] 88% left (resets 09:08)
  Weekly limit:        [██░░░░░░░░░░░░░░░░░░] 9% left (resets 07:08 on 23 Nov)
";

    fn parse_at(text: &str, now: &str, zone: &str) -> Result<StatusText, StatusTextError> {
        let now = DateTime::parse_from_rfc3339(now).unwrap().to_utc();
        parse(text, now, Zone::named(zone).unwrap())
    }

    fn parse_now(text: &str) -> Result<StatusText, StatusTextError> {
        parse_at(text, "2026-11-20T07:20:00Z", "UTC")
    }

    fn reset(text: &str, now: &str, zone: &str) -> String {
        let line = format!("Quota: 40% left (resets {text})");
        match parse_at(&line, now, zone) {
            Ok(status) => status.windows[0].resets_at.unwrap().to_rfc3339(),
            Err(e) => e.to_string(),
        }
    }

    fn shown(status: &StatusText) -> Vec<String> {
        status
            .windows
            .iter()
            .map(|w| {
                format!(
                    "{} {} {} {}",
                    w.limit_id,
                    w.label(),
                    w.used_percent,
                    w.resets_at.map_or("-".into(), |t| t.to_rfc3339())
                )
            })
            .collect()
    }

    #[test]
    fn the_current_screen_is_read() {
        let status = parse_now(CURRENT).unwrap();
        assert_eq!(status.email.as_deref(), Some("alice@example.com"));
        assert_eq!(status.plan.as_deref(), Some("Plus"));
        assert_eq!(
            shown(&status),
            [
                "codex 5h 12 2026-11-20T09:08:00+00:00",
                "codex weekly 91 2026-11-23T07:08:00+00:00"
            ]
        );
    }

    #[test]
    fn a_box_colours_and_line_ends_make_no_difference() {
        let boxed: Vec<_> = CURRENT
            .lines()
            .map(|line| format!("\x1b[2m│\x1b[0m {line:<78}\x1b[38;5;8m│\x1b[m\r\n"))
            .collect();
        let boxed = boxed.concat();
        let boxed = format!("╭{0}╮\r\n{boxed}╰{0}╯\r\n\x1b]0;codex\x07", "─".repeat(78));
        assert_eq!(parse_now(&boxed), parse_now(CURRENT));
    }

    #[test]
    fn lines_may_be_missing_or_broken_by_a_narrow_terminal() {
        let status =
            parse_now("Weekly limit: [█░] 9% left\n      (resets 07:08 on 23 Nov)").unwrap();
        assert_eq!(status.email, None);
        assert_eq!(
            shown(&status),
            ["codex weekly 91 2026-11-23T07:08:00+00:00"]
        );
        let status = parse_now("5h limit: 12% used\nDirectory: ~/resets 10:00").unwrap();
        assert_eq!(shown(&status), ["codex 5h 12 -"]);
        let status = parse_now("Account: a@x.com\nLimits: not available for this account").unwrap();
        assert_eq!(shown(&status), [""; 0]);
    }

    #[test]
    fn the_form_of_the_python_tool_is_read() {
        let status =
            parse_now("Email: user1@example.com\nQuota: 40% left (resets 15:55 on 24 Nov)\n")
                .unwrap();
        assert_eq!(status.email.as_deref(), Some("user1@example.com"));
        assert_eq!(
            shown(&status),
            ["codex weekly 60 2026-11-24T15:55:00+00:00"]
        );
    }

    #[test]
    fn named_limits_are_kept_under_their_own_id() {
        let status = parse_now(
            "5h limit: 88% left\nGPT-6-Spark limit:\n  5h limit: 50% left\n  Weekly limit: 40% left\n\
             Review Weekly limit: 1% used\n",
        )
        .unwrap();
        assert_eq!(
            shown(&status),
            [
                "codex 5h 12 -",
                "GPT-6-Spark 5h 50 -",
                "GPT-6-Spark weekly 60 -",
                "Review weekly 1 -"
            ]
        );
    }

    #[test]
    fn a_time_alone_is_the_next_such_time() {
        let reset = |text, now| reset(text, now, "America/New_York");
        assert_eq!(
            reset("00:30", "2026-11-20T23:50:00-05:00"),
            "2026-11-21T00:30:00-05:00"
        );
        assert_eq!(
            reset("9:08 PM", "2026-11-20T21:08:40-05:00"),
            "2026-11-20T21:08:00-05:00"
        );
        assert_eq!(
            reset("Tue 15:55", "2026-11-20T23:50:00-05:00"),
            "2026-11-24T15:55:00-05:00"
        );
        assert_eq!(
            reset("in 3h 20m", "2026-11-20T10:00:00-05:00"),
            "2026-11-20T13:20:00-05:00"
        );
    }

    #[test]
    fn five_hours_cannot_reset_tomorrow_so_late_text_is_over() {
        let status = parse_now("5h limit: 0% left (resets 07:08)").unwrap();
        assert_eq!(shown(&status), ["codex 5h 100 2026-11-20T07:08:00+00:00"]);
    }

    #[test]
    fn a_date_without_a_year_is_the_nearest_that_the_window_can_reset_on() {
        let reset = |text, now| reset(text, now, "UTC");
        let new_year = "2027-01-02T12:00:00Z";
        assert_eq!(
            reset("09:00 on 3 Jan", "2026-12-30T12:00:00Z"),
            "2027-01-03T09:00:00+00:00"
        );
        assert_eq!(
            reset("09:00 on 31 Dec", new_year),
            "2026-12-31T09:00:00+00:00"
        );
        assert_eq!(
            reset("3:05 PM on Nov 24", "2026-11-20T12:00:00Z"),
            "2026-11-24T15:05:00+00:00"
        );
        assert_eq!(
            reset("Nov 23rd, 2026 6:05 AM", "2026-11-20T12:00:00Z"),
            "2026-11-23T06:05:00+00:00"
        );
        assert_eq!(
            reset("10:00 on 29 Feb", "2028-02-25T12:00:00Z"),
            "2028-02-29T10:00:00+00:00"
        );
        assert_eq!(
            reset("10:00 on 29 Feb", "2026-02-25T12:00:00Z"),
            "not a time of reset: 10:00 on 29 Feb"
        );
    }

    #[test]
    fn the_offset_is_that_of_the_reset_not_of_now() {
        let ny = "America/New_York";
        assert_eq!(
            reset("09:00 on 3 Nov", "2026-10-30T12:00:00-04:00", ny),
            "2026-11-03T09:00:00-05:00"
        );
        assert_eq!(
            reset("09:00 on 16 Mar", "2027-03-12T12:00:00-05:00", ny),
            "2027-03-16T09:00:00-04:00"
        );
        assert_eq!(
            reset("02:30 on 29 Mar", "2026-03-27T12:00:00Z", "Europe/Berlin"),
            "2026-03-29T03:30:00+02:00",
            "a time that is skipped"
        );
        let fold = "01:45 on 5 Apr";
        assert_eq!(
            reset(fold, "2026-04-03T12:00:00Z", "Australia/Lord_Howe"),
            "2026-04-05T01:45:00+11:00",
            "a time that comes twice"
        );
        assert_eq!(
            reset(fold, "2026-04-05T01:50:00+11:00", "Australia/Lord_Howe"),
            "2026-04-05T01:45:00+10:30"
        );
    }

    #[test]
    fn nonsense_is_refused_with_what_was_not_understood() {
        for (text, expected) in [
            ("", "the status text names no account and no quota"),
            ("garbage", "the status text names no account and no quota"),
            (
                "Quota: -5% left",
                "not a percentage from 0 to 100: -5% left",
            ),
            (
                "Quota: 99999999999% left",
                "not a percentage from 0 to 100: 99999999999% left",
            ),
            ("Quota: garbage", "not a percentage from 0 to 100: garbage"),
            (
                "Weekly limit: 1.2.3% left",
                "not a percentage from 0 to 100: 1.2.3% left",
            ),
            (
                "Quota: 40% left (resets 25:99)",
                "not a time of reset: 25:99",
            ),
            (
                "Quota: 40% left (resets 24 Foo)",
                "not a time of reset: 24 Foo",
            ),
            (
                "Quota: 40% left (resets 9:00 on 31 Jun)",
                "not a time of reset: 9:00 on 31 Jun",
            ),
            (
                "Email: a@x.com\nAccount: b@x.com",
                "the status text names two accounts: a@x.com and b@x.com",
            ),
        ] {
            assert_eq!(parse_now(text).unwrap_err().to_string(), expected);
        }
        let long = "Email: a@x.com\n".repeat(20_000);
        assert_eq!(parse_now(&long), Err(StatusTextError::TooLong(long.len())));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}", tail in ".{0,40}") {
            let _ = parse_now(&text);
            let _ = parse_now(&format!("Weekly limit: {tail}"));
            let _ = parse_now(&format!("{tail} limit: 5% left (resets {text})\n(resets {tail})"));
        }

        #[test]
        fn every_figure_and_reset_that_codex_prints_is_read(
            left in 0u8..=100, ahead in 0i64..10_000, start in 1_600_000_000i64..2_000_000_000,
            zone in prop::sample::select(vec!["America/New_York", "Europe/Berlin", "Asia/Kolkata"]),
        ) {
            let zone = Zone::named(zone).unwrap();
            let now = DateTime::from_timestamp(start, 0).unwrap();
            let at = zone.at(&(now + Duration::minutes(ahead)));
            let text = format!("Weekly limit: [██] {left}% left (resets {})", at.format("%H:%M on %-d %b"));
            let status = parse(&text, now, zone).unwrap();
            let window = &status.windows[0];
            prop_assert!((window.used_percent - f64::from(100 - left)).abs() < 1e-9);
            let error = window.resets_at.unwrap() - at;
            // The text has no seconds, and does not say which of two equal wall-clock times it means.
            prop_assert!(error.abs() < Duration::minutes(1) || (error.abs() - Duration::hours(1)).abs() < Duration::minutes(1), "{}", error);
        }
    }
}
