//! RFC 3339 times as Codex writes them.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

/// An instant together with its original text, so that it is written back unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rfc3339Time {
    pub text: String,
    pub at: DateTime<Utc>,
}

impl Rfc3339Time {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        parse_instant(text).map(|at| Self {
            text: text.to_owned(),
            at,
        })
    }

    /// Formats milliseconds since 1970 in UTC, with milliseconds and `Z`.
    pub(crate) fn from_millis(millis: i64) -> Option<Self> {
        let at = DateTime::from_timestamp_millis(millis)?;
        Some(Self {
            text: at.to_rfc3339_opts(SecondsFormat::Millis, true),
            at,
        })
    }

    pub fn millis(&self) -> i64 {
        self.at.timestamp_millis()
    }

    /// Returns the later of two times, the first if they are equal.
    pub(crate) fn later_of(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        let times = [first, second].into_iter().flatten();
        times.reduce(|first, second| if second.at > first.at { second } else { first })
    }
}

/// Parses an RFC 3339 time. The form that Codex writes, `2026-11-20T10:48:02.323Z`, has a fast
/// path, because every line of every rollout has one.
pub(crate) fn parse_instant(text: &str) -> Option<DateTime<Utc>> {
    parse_codex_form(text.as_bytes()).or_else(|| {
        let at = DateTime::parse_from_rfc3339(text).ok()?;
        Some(at.to_utc())
    })
}

fn parse_codex_form(text: &[u8]) -> Option<DateTime<Utc>> {
    // `YYYY-MM-DDTHH:MM:SS`, then the fraction and `Z`.
    let (head, tail) = text.split_at_checked(19)?;
    let separators = [head[4], head[7], head[10], head[13], head[16]];
    if &separators != b"--T::" {
        return None;
    }

    let number = |digits: &[u8]| {
        digits.iter().try_fold(0u32, |n, b| {
            b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0'))
        })
    };

    let fraction = tail.strip_suffix(b"Z")?;
    let nanos = match fraction.split_first() {
        None => 0,
        Some((b'.', decimals)) if (1..=9).contains(&decimals.len()) => {
            let missing_digits = 9 - u32::try_from(decimals.len()).ok()?;
            number(decimals)? * 10u32.pow(missing_digits)
        }
        Some(_) => return None,
    };

    let year = i32::try_from(number(&head[..4])?).ok()?;
    NaiveDate::from_ymd_opt(year, number(&head[5..7])?, number(&head[8..10])?)?
        .and_hms_nano_opt(
            number(&head[11..13])?,
            number(&head[14..16])?,
            number(&head[17..19])?,
            nanos,
        )
        .map(|at| at.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_path_agrees_with_chrono() {
        for text in [
            "2026-11-20T10:48:02.323Z",
            "2026-11-20T10:48:02Z",
            "2026-02-28T23:59:59.123456789Z",
            "2024-02-29T00:00:00.1Z",
        ] {
            let slow = DateTime::parse_from_rfc3339(text).unwrap().to_utc();
            assert_eq!(parse_codex_form(text.as_bytes()), Some(slow), "{text}");
        }
        assert_eq!(
            parse_instant("2026-11-20T12:48:02.5+02:00"),
            parse_instant("2026-11-20T10:48:02.5Z")
        );
        for text in ["2026-02-29T00:00:00Z", "yesterday", "", "2026-11-20"] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
    }

    #[test]
    fn later_returns_the_first_of_equal_times() {
        let a = Rfc3339Time::parse("2026-11-20T10:00:00Z");
        let b = Rfc3339Time::from_millis(1_795_168_800_000);
        assert_eq!(b.clone().unwrap().text, "2026-11-20T10:00:00.000Z");
        assert_eq!(Rfc3339Time::later_of(a.clone(), b), a);
    }
}
