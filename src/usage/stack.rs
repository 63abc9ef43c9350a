//! Bars that are divided by model.

use super::report::{ModelSum, ReportRow};
use std::cmp::Reverse;

/// The largest number of parts of a bar.
pub(crate) const MAX_PARTS: usize = 5;

/// The models that have a part of their own in each bar, with the most tokens first. Further ones share the
/// last part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stack {
    models: Vec<String>,
    /// The number of models in the last part; 0 if each has its own.
    others: usize,
}

impl Stack {
    /// Chooses the parts by the sums of all rows.
    pub(crate) fn new(totals: &ReportRow<()>) -> Self {
        let used = totals.models.iter().filter(|m| m.sum.total_tokens > 0);
        let mut models: Vec<_> = used.map(|model| model.model.clone()).collect();
        let others = if models.len() > MAX_PARTS {
            models.split_off(MAX_PARTS - 1).len()
        } else {
            0
        };
        Self { models, others }
    }

    /// Returns the tokens of each part in some sums of models.
    pub(crate) fn parts(&self, sums: &[ModelSum]) -> Vec<u64> {
        let mut parts = vec![0_u64; self.models.len() + usize::from(self.others > 0)];
        for sum in sums {
            let own = self.models.iter().position(|model| *model == sum.model);
            if let Some(part) = parts.get_mut(own.unwrap_or(self.models.len())) {
                *part = part.saturating_add(sum.sum.total_tokens);
            }
        }
        parts
    }

    /// Returns the names of the parts, and their tokens in some sums of models.
    pub(crate) fn named_parts(&self, sums: &[ModelSum]) -> impl Iterator<Item = (String, u64)> {
        self.names().into_iter().zip(self.parts(sums))
    }

    fn names(&self) -> Vec<String> {
        let others = (self.others > 0).then(|| format!("{} other models", self.others));
        self.models.iter().cloned().chain(others).collect()
    }
}

/// Divides a bar: `most` tokens are `width` cells long. Returns the cells of each part: those that are whole,
/// and the rest by the largest remainders. A bar with tokens has a cell.
pub(crate) fn divide_bar(parts: &[u64], most: u64, width: usize) -> Vec<usize> {
    let most = u128::from(most.max(1));
    let scaled = |tokens: u128| tokens * width as u128;
    let count = |cells: u128| usize::try_from(cells).unwrap_or(width).min(width);
    let sum: u128 = parts.iter().map(|tokens| u128::from(*tokens)).sum();
    let length = count((scaled(sum) + most / 2) / most).max(usize::from(sum > 0));
    let whole = parts.iter().map(|n| count(scaled((*n).into()) / most));
    let mut cells: Vec<_> = whole.collect();
    let mut by_rest: Vec<_> = (0..parts.len()).collect();
    by_rest.sort_by_key(|i| Reverse(scaled(parts[*i].into()) % most));
    let missing = length.saturating_sub(cells.iter().sum());
    for i in by_rest.into_iter().take(missing) {
        cells[i] += 1;
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::report::UsageSum;

    fn sums(models: &[(&str, u64)]) -> Vec<ModelSum> {
        let sum = |(model, tokens): &(&str, u64)| ModelSum {
            model: (*model).to_owned(),
            sum: UsageSum {
                total_tokens: *tokens,
                ..UsageSum::default()
            },
        };
        models.iter().map(sum).collect()
    }

    #[test]
    fn models_beyond_the_largest_share_the_last_part() {
        let models = sums(&[
            ("a", 60),
            ("b", 50),
            ("c", 40),
            ("d", 30),
            ("e", 2),
            ("f", 1),
        ]);
        let totals = |models| ReportRow {
            key: (),
            sum: UsageSum::default(),
            models,
        };
        let stack = Stack::new(&totals(models.clone()));
        assert_eq!(stack.names(), ["a", "b", "c", "d", "2 other models"]);
        assert_eq!(stack.parts(&models), [60, 50, 40, 30, 3]);
        assert_eq!(stack.parts(&sums(&[("f", 9)])), [0, 0, 0, 0, 9]);
        let five = Stack::new(&totals(models[..5].to_vec()));
        assert_eq!(five.names(), ["a", "b", "c", "d", "e"]);
        assert_eq!(
            five.parts(&sums(&[("e", 9), ("unknown", 1)])),
            [0, 0, 0, 0, 9]
        );
    }

    #[test]
    fn the_parts_of_a_bar_are_as_long_as_the_bar() {
        assert_eq!(divide_bar(&[50, 25, 25], 100, 20), [10, 5, 5]);
        assert_eq!(divide_bar(&[1, 1, 1], 3, 10), [4, 3, 3]);
        assert_eq!(divide_bar(&[4, 2, 2], 80, 10), [1, 0, 0]);
        assert_eq!(divide_bar(&[0, 1, 0], 1_000_000, 10), [0, 1, 0]);
        assert_eq!(divide_bar(&[0, 0], 100, 10), [0, 0]);
        assert_eq!(divide_bar(&[], 0, 10), [0; 0]);
    }
}
