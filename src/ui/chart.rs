//! Charts of one line: bars, shares in per cent, and sparklines.

/// A bar grows by eighths of a cell.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws a bar without a background: `whole` is `width` cells long. A part above 0 is visible.
pub(crate) fn draw_bar(part: f64, whole: f64, width: usize) -> String {
    let eighths = to_steps(part, whole, width * EIGHTHS.len());
    let mut bar = "█".repeat(eighths / EIGHTHS.len());
    if let Some(partial_cell) = (eighths % EIGHTHS.len()).checked_sub(1) {
        bar.push(EIGHTHS[partial_cell]);
    }
    bar
}

/// Returns a share in per cent: `12 %`, or `<1 %`.
pub(crate) fn format_share(part: f64, whole: f64) -> String {
    let percent = if whole > 0.0 {
        part / whole * 100.0
    } else {
        0.0
    };
    if percent > 0.0 && percent < 1.0 {
        "<1 %".to_owned()
    } else {
        format!("{percent:.0} %")
    }
}

/// Returns a share with its bar. All shares are padded to one width, so that the bars of a column are aligned.
pub(crate) fn format_share_bar(part: f64, whole: f64, width: usize) -> String {
    let bar = draw_bar(part, whole, width);
    format!("{:>5} {bar}", format_share(part, whole))
        .trim_end()
        .to_owned()
}

/// Draws values from 0 to `max` as a line of columns, with a blank for each unknown value.
pub(crate) fn draw_sparkline(values: impl IntoIterator<Item = Option<f64>>, max: f64) -> String {
    let to_level = |value| LEVELS[to_steps(value, max, LEVELS.len()).saturating_sub(1)];
    let columns = values.into_iter().map(|value| value.map_or(' ', to_level));
    columns.collect()
}

#[allow(clippy::cast_precision_loss, reason = "a length in a drawing")]
pub(crate) fn as_length(number: u64) -> f64 {
    number as f64
}

/// Converts `part` to steps, if `whole` is `steps` long. A part above 0 is at least one step.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a length in a drawing"
)]
pub(super) fn to_steps(part: f64, whole: f64, steps: usize) -> usize {
    if part <= 0.0 || whole <= 0.0 {
        return 0;
    }
    let scaled = (part / whole * steps as f64).round() as usize;
    scaled.clamp(1, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_shares_are_parts_of_a_whole() {
        assert_eq!(draw_bar(1.0, 2.0, 5), "██▌");
        assert_eq!(draw_bar(3.0, 2.0, 2), "██");
        assert_eq!(draw_bar(1.0, 1e6, 5), "▏");
        assert_eq!(draw_bar(0.0, 1.0, 5), "");
        let shares = [0.0, 2500.0, 6.0e6, 54.0e6].map(|part| format_share(part, 54.0e6));
        assert_eq!(shares, ["0 %", "<1 %", "11 %", "100 %"]);
        assert_eq!(format_share_bar(1.0, 4.0, 4), " 25 % █");
        assert_eq!(format_share_bar(0.0, 0.0, 4), "  0 %");
    }

    #[test]
    fn a_sparkline_has_a_column_for_each_value() {
        let values = [Some(0.0), None, Some(50.0), Some(100.0)];
        assert_eq!(draw_sparkline(values, 100.0), "▁ ▄█");
    }
}
