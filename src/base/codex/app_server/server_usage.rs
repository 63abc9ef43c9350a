//! Parses the answers to `account/usage/read`: the tokens of an account by day, and the estimate for a conversation.

use crate::codex::auth::text_field;
use chrono::NaiveDate;
use serde_json::Value;
use smart_default::SmartDefault;
use std::collections::BTreeMap;

/// The tokens that the server counted for an account, on all machines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerUsage {
    pub lifetime_tokens: Option<u64>,
    pub days: BTreeMap<NaiveDate, u64>,
}

impl ServerUsage {
    /// Parses an answer. Skips days without a valid date or number of tokens.
    pub fn parse(result: &Value) -> Self {
        let days = result["dailyUsageBuckets"].as_array();
        let days = days.into_iter().flatten().filter_map(|bucket| {
            let day = text_field(bucket, "startDate")?.parse().ok()?;
            Some((day, bucket.get("tokens")?.as_u64()?))
        });
        Self {
            lifetime_tokens: result["summary"]["lifetimeTokens"].as_u64(),
            days: days.collect(),
        }
    }
}

/// The server's estimate of the use of a conversation, without its subagents.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThreadEstimate {
    pub credits: f64,
    pub usd: Option<f64>,
    pub models: BTreeMap<String, ModelEstimate>,
}

/// The server's estimate of the use of a model.
#[derive(Debug, Clone, Copy, PartialEq, SmartDefault)]
pub struct ModelEstimate {
    /// `None` if the server does not name all tokens.
    #[default(Some(0))]
    pub tokens: Option<u64>,
    pub credits: f64,
}

impl ThreadEstimate {
    /// Parses an answer; `None` if the server has no estimate of the conversation.
    pub fn parse(result: &Value) -> Option<Self> {
        let usage = result.get("threadUsage")?;
        let mut estimate = Self {
            credits: parse_millionths(usage, "estimatedUsageCreditsMicros")?,
            usd: parse_millionths(usage, "estimatedUsageUsdMicros"),
            ..Self::default()
        };

        // A group for each model, reasoning effort and speed.
        let groups = usage.get("groups").and_then(Value::as_array);
        for group in groups.into_iter().flatten() {
            let count = |key: &str| group.get(key).and_then(Value::as_u64);
            let tokens = count("totalTokens")
                .or_else(|| count("inputTokens")?.checked_add(count("outputTokens")?));
            let model = text_field(group, "model").unwrap_or_default();

            let total = estimate.models.entry(model).or_default();
            // One group without tokens makes the sum of its model unknown.
            total.tokens = total.tokens.zip(tokens).and_then(|(a, b)| a.checked_add(b));
            total.credits += parse_millionths(group, "estimatedUsageCreditsMicros").unwrap_or(0.0);
        }

        Some(estimate)
    }
}

fn parse_millionths(object: &Value, key: &str) -> Option<f64> {
    object.get(key).and_then(Value::as_f64).map(|n| n / 1e6)
}
