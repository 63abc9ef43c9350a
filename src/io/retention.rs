//! Retention: decides which items of a series stay, by their number, age and date.

use chrono::{Datelike, NaiveDate, TimeDelta, Weekday};

/// The rules for a series. 0 or `None` is no rule.
///
/// With a keep rule, only the items that a keep rule names stay. An item over a limit is dropped,
/// even if a keep rule names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RetentionPolicy {
    /// Keep this many of the newest.
    pub last: u32,
    /// Keep all that are at most this much older than the newest.
    pub within: Option<TimeDelta>,
    /// Keep the newest of a day, for this many days that have an item.
    pub daily: u32,
    /// Keep the newest of an ISO week, for this many weeks that have an item.
    pub weekly: u32,
    /// Keep the newest of a month, for this many months that have an item.
    pub monthly: u32,
    /// Limit of the number of items.
    pub max_count: usize,
    /// Limit of the age; an item of exactly this age is dropped.
    pub max_age: Option<TimeDelta>,
}

/// The properties of an item that the rules use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetentionItem {
    /// The age at the time of the decision.
    pub age: TimeDelta,
    /// The local date on which it was made.
    pub date: NaiveDate,
}

impl RetentionPolicy {
    /// Returns true if there is no rule. Everything stays then.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns for each of `items`, the newest first, the names of the keep rules that name it, or
    /// `None` if it is dropped. Without keep rules the text is empty.
    pub(crate) fn apply(&self, items: &[RetentionItem]) -> Vec<Option<String>> {
        let limits_only = Self {
            max_count: self.max_count,
            max_age: self.max_age,
            ..Self::default()
        };
        let keeps_all = *self == limits_only;
        let rules = self.keep_rules(items).into_iter().zip(items).enumerate();
        rules
            .map(|(i, (rules, item))| {
                let is_excess = self.max_count > 0 && i >= self.max_count;
                let is_old = self.max_age.is_some_and(|max| item.age >= max);
                let is_kept = keeps_all || !rules.is_empty();
                (is_kept && !is_excess && !is_old).then(|| rules.join(", "))
            })
            .collect()
    }

    /// Returns for each item the names of the keep rules that name it.
    fn keep_rules(&self, items: &[RetentionItem]) -> Vec<Vec<String>> {
        let mut rules = vec![Vec::new(); items.len()];
        for rules in rules.iter_mut().take(self.last as usize) {
            rules.push(format!("last {}", self.last));
        }
        if let Some(span) = self.within {
            for (rules, item) in rules.iter_mut().zip(items) {
                if item.age - items[0].age <= span {
                    rules.push("within".to_owned());
                }
            }
        }
        // A period is identified by its first day.
        let week: fn(NaiveDate) -> NaiveDate = |date| {
            let monday = date.week(Weekday::Mon).checked_first_day();
            monday.unwrap_or(date)
        };
        let periods = [
            ("daily", self.daily, (|date| date) as fn(_) -> _),
            ("weekly", self.weekly, week),
            ("monthly", self.monthly, |date| {
                date.with_day(1).unwrap_or_default()
            }),
        ];
        for (rule, mut left, first_day) in periods {
            let mut seen = None;
            for (rules, item) in rules.iter_mut().zip(items) {
                let period = Some(first_day(item.date));
                if seen == period {
                    continue;
                }
                if left == 0 {
                    break;
                }
                left -= 1;
                rules.push(rule.to_owned());
                seen = period;
            }
        }
        rules
    }
}
