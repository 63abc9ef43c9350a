//! Markdown on a terminal: headings, bold text, remarks, code and lists, as far as messages use them.

use super::{Style, Ui};

impl Ui {
    /// Renders complete lines of Markdown for stdout, wrapped at the terminal's width.
    pub(crate) fn render_markdown(&self, text: &str) -> String {
        let mut rendered = String::with_capacity(text.len() + 64);
        let mut fence: Option<String> = None;
        for line in text.lines() {
            let ticks: String = line
                .trim_start()
                .chars()
                .take_while(|c| *c == '`')
                .collect();

            // CommonMark ends a block with as many backquotes as it began with, so a block can show another one.
            match &fence {
                Some(opening_ticks) if ticks == *opening_ticks && line.trim() == ticks => {
                    fence = None;
                    continue;
                }
                None if ticks.len() >= 3 => {
                    fence = Some(ticks);
                    continue;
                }
                Some(_) => {
                    rendered.push_str("    ");
                    rendered.push_str(&self.paint(Style::Dim, line));
                }
                None => rendered.push_str(&self.render_line(line)),
            }
            rendered.push('\n');
        }
        rendered
    }

    fn render_line(&self, line: &str) -> String {
        let level = line.chars().take_while(|c| *c == '#').count();
        if (1..=6).contains(&level)
            && let Some(heading) = line[level..].strip_prefix(' ')
        {
            let style = if level < 3 {
                Style::Strong
            } else {
                Style::Good
            };
            return self.paint(style, self.wrapped(0, heading));
        }

        // A line in single asterisks is a remark of this program, such as the one about a summary.
        let remark = line
            .strip_prefix('*')
            .and_then(|line| line.strip_suffix('*'));
        if let Some(remark) = remark.filter(|text| !text.is_empty() && !text.contains('*')) {
            return self.paint(Style::Dim, self.wrapped(0, remark.replace('`', "")));
        }

        // A wrapped list item continues below its text, not below its mark.
        let text = line.trim_start();
        let blanks = line.len() - text.len();
        let indent = match text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")) {
            Some(_) => blanks + 2,
            None => blanks,
        };
        self.wrapped(indent, self.render_spans(line))
    }

    /// Renders `code` and **bold** text. A mark without its end stays.
    fn render_spans(&self, line: &str) -> String {
        let mut rendered = String::new();
        let mut remaining = line;
        while let Some(mark_position) = remaining.find(['`', '*']) {
            rendered.push_str(&remaining[..mark_position]);
            remaining = &remaining[mark_position..];

            // A code span begins with any number of backquotes, and ends with as many.
            let ticks = remaining.len() - remaining.trim_start_matches('`').len();
            let (mark, style) = match ticks {
                0 if remaining.starts_with("**") => ("**", Style::Strong),
                0 => {
                    rendered.push('*');
                    remaining = &remaining[1..];
                    continue;
                }
                _ => (&remaining[..ticks], Style::Warn),
            };

            let inner = &remaining[mark.len()..];
            if let Some(inner_end) = inner.find(mark).filter(|inner_end| *inner_end > 0) {
                rendered.push_str(&self.paint(style, inner[..inner_end].trim()));
                remaining = &inner[inner_end + mark.len()..];
            } else {
                rendered.push_str(mark);
                remaining = inner;
            }
        }

        rendered.push_str(remaining);
        rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ColorChoice;
    use crate::ui::Verbosity;
    use codex_manager_core::io::environment::Environment;

    #[test]
    fn headings_code_and_bold_are_rendered_and_the_rest_stays() {
        let env = Environment::default();
        let ui = Ui::new(false, Verbosity::Normal, ColorChoice::Never, &env);
        let text = "## Turn 1\n\nA **bold** `` a`b `` word, 2 * 3\n```rust\nfn **x**\n```\n- open `code\n\
             *From `x`:*\n* item\n**\n";
        assert_eq!(
            ui.render_markdown(text),
            "Turn 1\n\nA bold a`b word, 2 * 3\n    fn **x**\n- open `code\nFrom x:\n* item\n**\n"
        );
    }
}
