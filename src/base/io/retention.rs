//! Retention: decides which items of a series stay, by their number, age and date.

use chrono::{Datelike, NaiveDate, TimeDelta, Weekday};

/// The rules for a series. A field that is 0 or `None` sets no rule.
///
/// If there is a keep rule, only items that a keep rule selects stay. An item over a limit is dropped, even if a keep
/// rule selects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionPolicy {
    /// Keep this number of the newest items.
    pub last: u32,
    /// Keep all items that are at most this much older than the newest one.
    pub within: Option<TimeDelta>,
    /// Keep the newest item of each day, for this number of days that have an item.
    pub daily: u32,
    /// Keep the newest item of each ISO week, for this number of weeks that have an item.
    pub weekly: u32,
    /// Keep the newest item of each month, for this number of months that have an item.
    pub monthly: u32,
    pub max_count: usize,
    /// The age from which on items are dropped.
    pub max_age: Option<TimeDelta>,
}

/// The properties of an item that the rules use.
#[derive(Debug, Clone, Copy)]
pub struct RetentionItem {
    pub age: TimeDelta,
    pub date: NaiveDate,
}

impl RetentionPolicy {
    /// Returns true if there is no rule. Everything stays then.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns for each of `items`, which are ordered from the newest, the names of the keep rules that select it, or
    /// `None` if it is dropped. Without keep rules, the names of a kept item are an empty text.
    pub fn apply(&self, items: &[RetentionItem]) -> Vec<Option<String>> {
        let keep_rules_only = Self {
            max_count: 0,
            max_age: None,
            ..*self
        };
        let keeps_all = keep_rules_only.is_empty();

        let rule_names = self.match_keep_rules(items).into_iter();
        let numbered_items = rule_names.zip(items).enumerate();
        numbered_items
            .map(|(index, (rule_names, item))| {
                let is_excess = self.max_count > 0 && index >= self.max_count;
                let is_old = self.max_age.is_some_and(|max| item.age >= max);
                let is_selected = keeps_all || !rule_names.is_empty();
                (is_selected && !is_excess && !is_old).then(|| rule_names.join(", "))
            })
            .collect()
    }

    /// Returns for each item the names of the keep rules that select it.
    fn match_keep_rules(&self, items: &[RetentionItem]) -> Vec<Vec<String>> {
        let mut rule_names = vec![Vec::new(); items.len()];
        for item_rules in rule_names.iter_mut().take(self.last as usize) {
            item_rules.push(format!("last {}", self.last));
        }

        if let Some(span) = self.within {
            for (item_rules, item) in rule_names.iter_mut().zip(items) {
                if item.age - items[0].age <= span {
                    item_rules.push("within".to_owned());
                }
            }
        }

        let period_rules: [(_, _, FirstDayOfPeriod); 3] = [
            ("daily", self.daily, |date| date),
            ("weekly", self.weekly, first_day_of_week),
            ("monthly", self.monthly, first_day_of_month),
        ];
        for (rule, mut remaining_periods, first_day_of_period) in period_rules {
            let mut last_period = None;
            for (item_rules, item) in rule_names.iter_mut().zip(items) {
                let period = Some(first_day_of_period(item.date));
                // The newest item of a period comes first, and its other items are skipped.
                if last_period == period {
                    continue;
                }
                if remaining_periods == 0 {
                    break;
                }

                remaining_periods -= 1;
                item_rules.push(rule.to_owned());
                last_period = period;
            }
        }

        rule_names
    }
}

/// Returns the first day of the period of a date, which identifies the period.
type FirstDayOfPeriod = fn(NaiveDate) -> NaiveDate;

fn first_day_of_week(date: NaiveDate) -> NaiveDate {
    let monday = date.week(Weekday::Mon).checked_first_day();
    monday.unwrap_or(date)
}

fn first_day_of_month(date: NaiveDate) -> NaiveDate {
    date.with_day(1).unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies a policy to items of these ages in days.
    fn kept(policy: RetentionPolicy, ages: &[i64]) -> Vec<Option<String>> {
        let today: NaiveDate = "2026-11-20".parse().unwrap();
        let items = ages.iter().map(|days| RetentionItem {
            age: TimeDelta::days(*days),
            date: today - TimeDelta::days(*days),
        });
        policy.apply(&items.collect::<Vec<_>>())
    }

    #[test]
    fn limits_drop_items_that_are_too_many_or_too_old() {
        let limits = RetentionPolicy {
            max_count: 3,
            max_age: Some(TimeDelta::days(5)),
            ..RetentionPolicy::default()
        };
        let stays =
            |ages: &[i64]| -> Vec<_> { kept(limits, ages).iter().map(Option::is_some).collect() };
        assert_eq!(stays(&[0, 1, 2, 3]), [true, true, true, false]);
        assert_eq!(stays(&[4, 5, 6]), [true, false, false]);
    }

    #[test]
    fn a_limit_is_stronger_than_a_keep_rule() {
        let policy = RetentionPolicy {
            last: 1,
            daily: 3,
            max_age: Some(TimeDelta::days(2)),
            ..RetentionPolicy::default()
        };
        let text = |rules: &str| Some(rules.to_owned());
        let expected = [text("last 1, daily"), None, text("daily"), None];
        assert_eq!(kept(policy, &[0, 0, 1, 2]), expected);
        let no_rule = RetentionPolicy::default();
        assert_eq!(kept(no_rule, &[0, 900]), [text(""), text("")]);
    }
}
