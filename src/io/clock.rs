//! The clock and the local time zone, as values that are passed around.

use chrono::{DateTime, FixedOffset, Utc};
use chrono_tz::Tz;

/// An instant together with the offset it is shown in. Compares by instant.
pub type Timestamp = DateTime<FixedOffset>;

/// Where "now" comes from.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The system's clock.
    System,
    /// One instant for the whole run (tests).
    Fixed(DateTime<Utc>),
}

impl Clock {
    /// The current instant.
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

/// A time zone by its IANA rules: offsets follow the date, so daylight saving is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(pub Tz);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(Tz::UTC);

    /// The zone of an IANA name, in any letter case; `None` for an unknown one.
    pub fn named(name: &str) -> Option<Self> {
        Tz::from_str_insensitive(name.trim()).ok().map(Self)
    }

    /// `instant` with the offset that this zone has at that time.
    pub fn at<O: chrono::TimeZone>(self, instant: &DateTime<O>) -> Timestamp {
        instant.with_timezone(&self.0).fixed_offset()
    }
}

/// A file time as an instant. Times before 1970 or out of range become 1970.
pub fn from_unix_nanos(nanos: i128) -> DateTime<Utc> {
    let secs = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(0);
    let rest = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
    DateTime::from_timestamp(secs, rest).unwrap_or_default()
}
