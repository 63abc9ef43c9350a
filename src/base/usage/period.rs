//! The beginning of days, and blocks of five hours.

use crate::io::clock::{Timestamp, Zone};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

/// The length of a block, which is the length of Codex's short quota window.
const BLOCK: TimeDelta = TimeDelta::hours(5);

/// Returns the instant at which a day begins.
pub fn start_of_day(day: NaiveDate, zone: Zone) -> Timestamp {
    // Of a midnight that occurs twice, because the clock is set back, the first one counts.
    let (first, _second) = zone.resolve_local(day.and_time(NaiveTime::MIN));
    first
}

/// Divides usage into blocks of five hours. A block begins at the full hour of the first use after the previous block.
#[derive(Debug, Default)]
pub struct Blocks {
    current_start: Option<DateTime<Utc>>,
}

impl Blocks {
    /// Returns the start of the block that contains a use at `at`, and begins a new block if needed. The instants of
    /// successive calls must ascend.
    pub fn advance_to(&mut self, at: DateTime<Utc>) -> DateTime<Utc> {
        match self.current_start {
            Some(start) if at - start < BLOCK => start,
            _ => {
                let seconds = at.timestamp();
                let hour = seconds - seconds.rem_euclid(3600);
                let start = DateTime::from_timestamp(hour, 0).unwrap_or(at);
                *self.current_start.insert(start)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_begins_at_midnight_of_the_given_zone() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let day = at("2026-12-01T12:00:00Z").date_naive();
        assert_eq!(
            start_of_day(day, berlin).to_utc(),
            at("2026-11-30T23:00:00Z")
        );
    }

    #[test]
    fn a_block_begins_with_the_hour_of_the_first_use() {
        let mut blocks = Blocks::default();
        let starts: Vec<_> = ["08:20", "12:59", "13:00", "23:59"]
            .map(|time| blocks.advance_to(at(&format!("2026-11-21T{time}:00Z"))))
            .map(|start| start.format("%H:%M").to_string())
            .into();
        assert_eq!(starts, ["08:00", "08:00", "13:00", "23:00"]);
    }
}
