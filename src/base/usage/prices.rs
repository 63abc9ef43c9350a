//! Prices of tokens, and estimates of costs.

use crate::codex::rollout_lines::TokenUsage;
use crate::io::settings::describe_toml_error;
use serde::Deserialize;
use std::collections::BTreeMap;

const BUILT_IN: &str = include_str!("prices.toml");

/// The price of a model in USD per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    input: f64,
    /// The price of cached input; `None` if it costs the same as other input.
    #[serde(default)]
    cached_input: Option<f64>,
    output: f64,
}

impl Price {
    /// Returns the cost of tokens in USD. Output tokens include reasoning, and input tokens include cached input.
    pub fn cost(&self, tokens: TokenUsage) -> f64 {
        // A damaged line may count more cached tokens than there are.
        let cached = tokens.cached_input_tokens.min(tokens.input_tokens);
        let uncached = tokens.input_tokens - cached;
        let cost = |tokens: u64, price: f64| millions(tokens) * price;
        cost(uncached, self.input)
            + cost(cached, self.cached_input.unwrap_or(self.input))
            + cost(tokens.output_tokens, self.output)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a cost is an estimate")]
fn millions(tokens: u64) -> f64 {
    tokens as f64 / 1e6
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceFile {
    #[serde(default)]
    date: Option<String>,
    #[serde(default)]
    models: BTreeMap<String, Price>,
}

/// The reason why a price file is invalid.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// The text is not TOML, or does not have the form of [`PriceFile`].
    #[error("{0}")]
    Form(String),
    #[error("a price of the model {0} is negative, infinite or not a number")]
    Number(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// The date of the built-in prices.
    pub date: String,
    built_in: BTreeMap<String, Price>,
    user: BTreeMap<String, Price>,
}

impl Prices {
    /// Returns the prices in `prices.toml`, which is a part of the program.
    ///
    /// # Errors
    /// `prices.toml` is invalid, which a test rules out.
    pub fn built_in() -> Result<Self, PricesError> {
        let file = parse(BUILT_IN)?;
        Ok(Self {
            date: file.date.unwrap_or_default(),
            built_in: file.models,
            user: BTreeMap::new(),
        })
    }

    /// Adds prices of the user, which take precedence over the built-in prices.
    ///
    /// # Errors
    /// The text is not in the format of `prices.toml`, or has an invalid price.
    pub fn with_user_prices(mut self, text: &str) -> Result<Self, PricesError> {
        self.user.extend(parse(text)?.models);
        Ok(self)
    }

    /// Returns the price of the user's entry with the longest name that fits the model, else of such a built-in entry.
    /// `None` if no entry fits.
    ///
    /// A built-in price also applies to versions of its model (`gpt-5-2025-08-07`), but not to another model
    /// (`gpt-5.9`). A price of the user applies to every model with a name that begins with the name of the entry.
    pub fn find_price(&self, model: &str) -> Option<Price> {
        let user_price = find_longest(&self.user, |name| model.starts_with(name));
        let is_version = |suffix: &str| suffix.is_empty() || suffix.starts_with('-');
        let fits = |name: &str| model.strip_prefix(name).is_some_and(is_version);
        user_price.or_else(|| find_longest(&self.built_in, fits))
    }
}

fn find_longest(prices: &BTreeMap<String, Price>, matches: impl Fn(&str) -> bool) -> Option<Price> {
    let matching_prices = prices.iter().filter(|(name, _)| matches(name));
    let longest = matching_prices.max_by_key(|(name, _)| name.len());
    longest.map(|(_, price)| *price)
}

fn parse(text: &str) -> Result<PriceFile, PricesError> {
    let file = toml_edit::de::from_str::<PriceFile>(text);
    let file = file.map_err(|e| PricesError::Form(describe_toml_error(text, &e.into())))?;
    let is_price = |number: f64| number.is_finite() && number >= 0.0;
    for (model, price) in &file.models {
        let numbers = [price.input, price.output, price.cached_input.unwrap_or(0.0)];
        if !numbers.into_iter().all(is_price) {
            return Err(PricesError::Number(model.clone()));
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(prices: &Prices, model: &str, parts: [u64; 4]) -> Option<f64> {
        Some(
            prices
                .find_price(model)?
                .cost(TokenUsage::from_parts(parts)),
        )
    }

    #[test]
    fn the_entry_with_the_longest_fitting_name_has_the_price_and_entries_of_the_user_come_first() {
        let prices = Prices::built_in().unwrap();
        let million = [1_000_000, 0, 0, 0];
        assert_eq!(cost(&prices, "gpt-5", million), Some(1.25));
        assert_eq!(cost(&prices, "gpt-5-2025-08-07", million), Some(1.25));
        assert_eq!(cost(&prices, "gpt-5-mini-2025-08-07", million), Some(0.25));
        assert_eq!(cost(&prices, "gpt-5.9", million), None);
        assert_eq!(cost(&prices, "unknown", million), None);
        let own = "[models.\"gpt-5\"]\ninput = 7\noutput = 0\n[models.\"gpt-5.9\"]\ninput = 8\noutput = 0";
        let prices = prices.with_user_prices(own).unwrap();
        assert_eq!(cost(&prices, "gpt-5-mini", million), Some(7.0));
        assert_eq!(cost(&prices, "gpt-5.9-codex", million), Some(8.0));
        assert_eq!(cost(&prices, "o3", million), Some(2.0));
    }

    #[test]
    fn cached_input_has_its_own_price_and_reasoning_is_output() {
        let prices = Prices::built_in().unwrap();
        let parts = [1_000_000, 400_000, 100_000, 60_000];
        let expected = 0.6 * 1.25 + 0.4 * 0.125 + 0.1 * 10.0;
        let found = cost(&prices, "gpt-5", parts).unwrap();
        assert!((found - expected).abs() < 1e-9, "{found}");
        // A damaged count never costs less than nothing.
        assert_eq!(cost(&prices, "gpt-5", [0, 9, 0, 0]), Some(0.0));
        let pro = cost(&prices, "gpt-5-pro", [1_000_000, 1_000_000, 0, 0]);
        assert_eq!(pro, Some(15.0));
    }

    #[test]
    fn invalid_price_files_are_refused() {
        let prices = Prices::built_in().unwrap();
        for text in [
            "x",
            "[models.a]\ninput = 1",
            "[models.a]\ninput = -1\noutput = 1",
            "[models.a]\ninput = nan\noutput = 1",
            "[models.a]\ninput = 1\noutput = 1\nreasoning = 1",
        ] {
            assert!(prices.clone().with_user_prices(text).is_err(), "{text}");
        }
        let text = "[models.a]\ninput = \"hunter2, expected x\"\noutput = 1";
        let error = prices.with_user_prices(text).unwrap_err().to_string();
        assert_eq!(error, "line 2: invalid type, expected f64");
    }
}
