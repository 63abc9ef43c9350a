//! The legend of a chart: what its characters mean.

use crate::context::Context;
use crate::ui::Style;
use crate::ui::text_width::columns;

/// Prints a character and its meaning for each entry, as many on a line as fit.
pub(super) fn print(entries: &[(Style, char, String)], indent: usize, context: &Context) {
    const GAP: usize = 2;
    let ui = &context.ui;
    let mut line = String::new();
    let mut used = 0;
    for (style, mark, meaning) in entries {
        let width = 2 + columns(meaning);
        if used > 0 && used + GAP + width > ui.width() {
            ui.line(std::mem::take(&mut line));
            used = 0;
        }
        let blanks = if used == 0 { indent } else { GAP };
        line.push_str(&" ".repeat(blanks));
        line.push_str(&ui.paint(*style, mark));
        line.push(' ');
        line.push_str(meaning);
        used += blanks + width;
    }
    if used > 0 {
        ui.line(line);
    }
}
