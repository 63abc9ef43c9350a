//! Numbers of tokens and costs in readable form.

use super::report::UsageSum;

/// The text in place of an unknown cost.
pub const NO_COST: &str = "–";

/// Formats a number of tokens: `950`, `12.3k`, `4.56M`, `1.20G`.
pub fn format_count(tokens: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = tokens as f64;
    // From 999,950 tokens on, rounding would give `1000.0k`.
    match tokens {
        ..1_000 => tokens.to_string(),
        1_000..999_950 => format!("{:.1}k", number / 1e3),
        999_950..999_995_000 => format!("{:.2}M", number / 1e6),
        _ => format!("{:.2}G", number / 1e9),
    }
}

/// Formats the cost of `sum` in USD: `$1.20`, `<$0.01`, or `≥$1.20` if some prices are unknown. Returns [`NO_COST`] if
/// no price is known, or if some prices are unknown and the known ones add up to less than a cent.
pub fn format_cost(sum: &UsageSum) -> String {
    match (sum.cost_usd, sum.lacks_prices) {
        (Some(cost), true) if cost >= 0.01 => format!("≥${cost:.2}"),
        (None, _) | (Some(_), true) => NO_COST.to_owned(),
        (Some(cost), false) if cost > 0.0 && cost < 0.01 => "<$0.01".to_owned(),
        (Some(cost), false) => format!("${cost:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_that_lacks_some_prices_is_shown_as_a_minimum() {
        let shown = |cost_usd, lacks_prices| {
            format_cost(&UsageSum {
                cost_usd,
                lacks_prices,
                ..UsageSum::default()
            })
        };
        assert_eq!(shown(Some(1.8), false), "$1.80");
        assert_eq!(shown(Some(1.8), true), "≥$1.80");
        assert_eq!(shown(Some(0.001), false), "<$0.01");
        assert_eq!(shown(Some(0.001), true), NO_COST);
        assert_eq!(shown(None, true), NO_COST);
    }

    #[test]
    fn token_counts_are_shortened_with_k_m_and_g() {
        let shown = [0, 999, 1_000, 999_949, 999_950, 12_345_678, 999_995_000].map(format_count);
        assert_eq!(
            shown,
            ["0", "999", "1.0k", "999.9k", "1.00M", "12.35M", "1.00G"]
        );
    }
}
