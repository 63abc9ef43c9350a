//! Numbers of tokens and costs in readable form.

use super::report::UsageSum;

/// Formats a number of tokens: `950`, `12.3k`, `4.56M`, `1.20G`.
pub(crate) fn format_count(tokens: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = tokens as f64;
    match tokens {
        ..1_000 => tokens.to_string(),
        1_000..999_950 => format!("{:.1}k", number / 1e3),
        999_950..999_995_000 => format!("{:.2}M", number / 1e6),
        _ => format!("{:.2}G", number / 1e9),
    }
}

/// Formats the cost of `sum` in USD, or a dash if no price is known.
pub(crate) fn format_cost(sum: &UsageSum) -> String {
    match sum.cost_usd {
        Some(cost) if cost > 0.0 && cost < 0.01 => "<$0.01".to_owned(),
        Some(cost) => format!("${cost:.2}"),
        None => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_counts_are_shortened_with_k_m_and_g() {
        let shown = [0, 999, 1_000, 999_949, 999_950, 12_345_678, 999_995_000].map(format_count);
        assert_eq!(
            shown,
            ["0", "999", "1.0k", "999.9k", "1.00M", "12.35M", "1.00G"]
        );
    }
}
