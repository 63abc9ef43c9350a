//! A calendar of days with levels of use: weeks from Monday, as in weekly reports.

use chrono::{Datelike, Days, NaiveDate, Weekday};
use std::collections::BTreeMap;

pub(crate) const YEAR_WEEKS: usize = 53;

/// The days of the week in their order.
pub(crate) const WEEKDAYS: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

/// The use of the days of some weeks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Calendar {
    /// The first day, a Monday.
    pub first: NaiveDate,
    /// The last day, any day of the week.
    pub last: NaiveDate,
    /// True if there are earlier days with use.
    pub is_cut: bool,
    tokens: BTreeMap<NaiveDate, u64>,
    /// The largest numbers of tokens of the levels 1, 2 and 3.
    limits: [u64; 3],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CalendarWeek {
    /// The Monday of the week.
    pub first: NaiveDate,
    /// The days with their tokens, without those behind the last day of the calendar.
    pub days: Vec<(NaiveDate, u64)>,
}

impl Calendar {
    /// Returns the weeks from the first day with use to `last`, but at most the last `max_weeks`. `None` if
    /// there is no use until `last`.
    pub(crate) fn new(
        tokens: BTreeMap<NaiveDate, u64>,
        last: NaiveDate,
        max_weeks: usize,
    ) -> Option<Self> {
        let monday = |day: NaiveDate| day.week(Weekday::Mon).first_day();
        let used = *tokens.keys().next().filter(|day| **day <= last)?;
        let weeks = u64::try_from(max_weeks.max(1) - 1).unwrap_or(0);
        let earliest = monday(last) - Days::new(7 * weeks);
        let first = monday(used).max(earliest);
        let mut shown: Vec<_> = tokens.range(first..=last).map(|(_, n)| *n).collect();
        shown.sort_unstable();
        // By the days, not by the largest one: a single busy day would make all others pale.
        let quarter = |n: usize| match shown.len() {
            0 => 0,
            len => shown[(len * n).div_ceil(4) - 1],
        };
        Some(Self {
            first,
            last,
            is_cut: used < first,
            limits: [quarter(1), quarter(2), quarter(3)],
            tokens,
        })
    }

    /// Returns the level of a number of tokens: 0 for none, then a quarter of the days with use each.
    pub(crate) fn level(&self, tokens: u64) -> usize {
        if tokens == 0 {
            return 0;
        }
        1 + self.limits.iter().filter(|limit| tokens > **limit).count()
    }

    /// Returns the levels that occur, each with its largest number of tokens; `None` for the highest.
    pub(crate) fn levels(&self) -> Vec<(usize, Option<u64>)> {
        let mut levels: Vec<_> = self
            .limits
            .iter()
            .map(|n| (self.level(*n), Some(*n)))
            .collect();
        levels.dedup();
        levels.retain(|(level, _)| *level > 0);
        let shown = self.tokens.range(self.first..=self.last);
        if shown.into_iter().any(|(_, n)| self.level(*n) == 4) {
            levels.push((4, None));
        }
        levels
    }

    /// Returns the weeks in their order.
    pub(crate) fn weeks(&self) -> Vec<CalendarWeek> {
        let mondays = self.first.iter_weeks().take_while(|day| *day <= self.last);
        let week = |first: NaiveDate| {
            let days = first.iter_days().take(7).filter(|day| *day <= self.last);
            let tokens = |day: NaiveDate| self.tokens.get(&day).copied().unwrap_or(0);
            CalendarWeek {
                first,
                days: days.map(|day| (day, tokens(day))).collect(),
            }
        };
        mondays.map(week).collect()
    }

    /// Returns the positions of the weeks in which a month begins, and of the first week, each with a day of
    /// the month; without those that leave no room of two weeks for their name.
    pub(crate) fn months(&self) -> Vec<(usize, NaiveDate)> {
        let weeks = self.weeks();
        let mut months: Vec<(usize, NaiveDate)> = Vec::new();
        for (i, week) in weeks.iter().enumerate() {
            let begins = week.days.iter().find(|(day, _)| day.day() == 1);
            let Some(day) = begins.map_or((i == 0).then_some(week.first), |(day, _)| Some(*day))
            else {
                continue;
            };
            if months.last().is_some_and(|(before, _)| i - before < 2) {
                months.pop();
            }
            months.push((i, day));
        }
        months.retain(|(i, _)| i + 2 <= weeks.len());
        months
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn calendar(days: &[(&str, u64)], last: &str, weeks: usize) -> Option<Calendar> {
        let tokens = days.iter().map(|(text, n)| (day(text), *n)).collect();
        Calendar::new(tokens, day(last), weeks)
    }

    #[test]
    fn weeks_begin_on_monday_and_end_with_the_last_day() {
        let days = [("2026-11-11", 5), ("2026-11-20", 7)];
        let found = calendar(&days, "2026-11-20", 10).unwrap();
        assert_eq!(found.first, day("2026-11-09"));
        let weeks = found.weeks();
        assert_eq!(weeks.len(), 2);
        assert_eq!(weeks[0].days.len(), 7);
        assert_eq!(weeks[0].days[2], (day("2026-11-11"), 5));
        assert_eq!(weeks[1].days.len(), 5);
        assert!(!found.is_cut);
        let cut = calendar(&days, "2026-11-20", 1).unwrap();
        assert_eq!(cut.first, day("2026-11-16"));
        assert!(cut.is_cut);
        assert_eq!(calendar(&[], "2026-11-20", 10), None);
        assert_eq!(calendar(&[("2026-11-21", 1)], "2026-11-20", 10), None);
    }

    #[test]
    fn levels_are_quarters_of_the_days_with_use() {
        let days = ["2026-11-16", "2026-11-17", "2026-11-18", "2026-11-19"];
        let days: Vec<_> = days.into_iter().zip([10, 1000, 20, 30]).collect();
        let found = calendar(&days, "2026-11-20", 10).unwrap();
        let levels = [0, 10, 20, 30, 1000].map(|n| found.level(n));
        assert_eq!(levels, [0, 1, 2, 3, 4]);
        let expected = [(1, Some(10)), (2, Some(20)), (3, Some(30)), (4, None)];
        assert_eq!(found.levels(), expected);
        let one = calendar(&[("2026-11-16", 7)], "2026-11-20", 10).unwrap();
        assert_eq!(one.levels(), [(1, Some(7))]);
    }

    #[test]
    fn a_month_without_room_for_its_name_is_left_out() {
        let found = calendar(&[("2026-09-28", 1)], "2026-11-20", 10).unwrap();
        // September has no room before October.
        let months: Vec<_> = found
            .months()
            .iter()
            .map(|(i, m)| (*i, m.month()))
            .collect();
        assert_eq!(months, [(0, 10), (4, 11)]);
    }
}
