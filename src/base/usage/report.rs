//! Sums of usage under a key: a day, a conversation, a model.

use super::prices::{Price, Prices};
use crate::codex::rollout_lines::TokenUsage;
use crate::conversations::index::usage_query::UsageRow;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UsageSum {
    pub requests: u64,
    #[serde(flatten)]
    pub tokens: TokenUsage,
    /// The estimated cost of the requests to models with a known price; `None` if there are no such requests.
    pub cost_usd: Option<f64>,
    /// True if the sum has requests to models without a known price.
    #[serde(skip)]
    pub lacks_prices: bool,
}

impl UsageSum {
    fn add(&mut self, requests: u64, tokens: TokenUsage, cost: Option<f64>) {
        self.requests = self.requests.saturating_add(requests);
        self.tokens = self.tokens.plus(tokens);
        match cost {
            Some(cost) => *self.cost_usd.get_or_insert(0.0) += cost,
            None => self.lacks_prices = true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSum {
    pub model: Rc<str>,
    #[serde(flatten)]
    pub sum: UsageSum,
}

/// The usage under one key, for example of one day or of one conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportRow<K> {
    #[serde(flatten)]
    pub key: K,
    /// The sum of all models.
    #[serde(flatten)]
    pub sum: UsageSum,
    /// The sum of each model, ordered by tokens, the largest first.
    pub models: Vec<ModelSum>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Report<K> {
    /// One row per key, in the order of the keys.
    pub rows: Vec<ReportRow<K>>,
    /// The sum of all rows.
    pub totals: ReportRow<()>,
    /// The models without a known price.
    pub unknown_models: BTreeSet<String>,
}

/// Adds up the usage under each key. Each row of the index comes with the key to count it under.
pub fn sum_by_key<'a, K: Ord + Clone>(
    usage: impl IntoIterator<Item = (K, &'a UsageRow)>,
    prices: &Prices,
) -> Report<K> {
    let mut costs = Costs::new(prices);
    let mut by_key: BTreeMap<K, ModelTotals> = BTreeMap::new();
    let mut all_models = ModelTotals::default();

    for (key, row) in usage {
        let cost = costs.find_cost(row);
        by_key.entry(key).or_default().add(row, cost);
        all_models.add(row, cost);
    }

    let prices_of_models = costs.prices_of_models.into_iter();
    let unpriced_models = prices_of_models.filter(|(_, price)| price.is_none());
    Report {
        rows: by_key
            .into_iter()
            .map(|(key, models)| models.into_row(key))
            .collect(),
        totals: all_models.into_row(()),
        unknown_models: unpriced_models
            .map(|(model, _)| model.to_string())
            .collect(),
    }
}

/// Estimates costs.
pub struct Costs<'p> {
    prices: &'p Prices,
    /// The price of a model is searched once, because a year of use has 100,000 rows.
    prices_of_models: BTreeMap<Rc<str>, Option<Price>>,
}

impl<'p> Costs<'p> {
    pub fn new(prices: &'p Prices) -> Self {
        Self {
            prices,
            prices_of_models: BTreeMap::new(),
        }
    }

    /// Returns the sum of the usage of one key.
    pub fn sum_rows<K>(&mut self, key: K, rows: &[UsageRow]) -> ReportRow<K> {
        let mut models = ModelTotals::default();
        for usage in rows {
            models.add(usage, self.find_cost(usage));
        }
        models.into_row(key)
    }

    /// Returns the cost of `usage`; `None` if the price of its model is unknown.
    fn find_cost(&mut self, usage: &UsageRow) -> Option<f64> {
        let price = *self
            .prices_of_models
            .entry(Rc::clone(&usage.model))
            .or_insert_with(|| self.prices.find_price(&usage.model));
        price.map(|price| price.cost(usage.tokens))
    }
}

/// The sum of each model. There are so few models that searching a list is faster than a map.
#[derive(Default)]
struct ModelTotals(Vec<ModelSum>);

impl ModelTotals {
    fn add(&mut self, usage: &UsageRow, cost: Option<f64>) {
        let position = self.0.iter().position(|sum| sum.model == usage.model);
        let index = position.unwrap_or_else(|| {
            // Most conversations have one model, and the first `push` into an empty list allocates room for four.
            self.0.reserve_exact(1);
            self.0.push(ModelSum {
                model: Rc::clone(&usage.model),
                sum: UsageSum::default(),
            });
            self.0.len() - 1
        });
        self.0[index].sum.add(usage.requests, usage.tokens, cost);
    }

    fn into_row<K>(self, key: K) -> ReportRow<K> {
        let Self(mut models) = self;
        let mut total = UsageSum::default();
        for ModelSum { sum, .. } in &models {
            total.add(sum.requests, sum.tokens, sum.cost_usd);
        }

        models.sort_by(|a, b| {
            let by_tokens = b.sum.tokens.total_tokens.cmp(&a.sum.tokens.total_tokens);
            by_tokens.then_with(|| a.model.cmp(&b.model))
        });

        ReportRow {
            key,
            sum: total,
            models,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(model: &str, input: u64) -> UsageRow {
        UsageRow {
            conversation: 0,
            slot: 0,
            model: model.into(),
            requests: 1,
            tokens: TokenUsage::from_parts([input, 0, 1, 0]),
        }
    }

    #[test]
    fn rows_add_up_to_the_totals() {
        let prices = Prices::built_in().unwrap();
        let report = sum_by_key(
            [
                (2, &usage("gpt-5", 1_000_000)),
                (1, &usage("gpt-5", 10)),
                (2, &usage("other", 2_000_000)),
                (2, &usage("gpt-5", 5)),
            ],
            &prices,
        );
        let keys: Vec<_> = report.rows.iter().map(|row| row.key).collect();
        assert_eq!(keys, [1, 2]);
        let row = &report.rows[1];
        assert_eq!(row.sum.tokens.input_tokens, 3_000_005);
        assert_eq!(&*row.models[0].model, "other");
        assert_eq!(row.models[0].sum.cost_usd, None);
        assert_eq!(row.models[1].sum.requests, 2);
        assert_eq!(report.totals.sum.requests, 4);
        assert_eq!(report.totals.sum.tokens.total_tokens, 3_000_019);
        assert!(report.totals.sum.cost_usd.unwrap() > 1.25);
        assert_eq!(report.unknown_models, BTreeSet::from(["other".to_owned()]));
    }
}
