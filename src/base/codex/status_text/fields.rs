//! Joins the lines of a status text into labelled values.
//!
//! Codex prints a table of labels and values. In a narrow terminal it wraps a value, even inside words
//! and with blank lines in between. So a value ends when it is complete or when the next label begins,
//! not at the end of its line.

use crate::codex::window::{MAX_WINDOW_MINUTES, WEEKLY_MINUTES};

/// The largest number of lines of a value: the longest email in a column of three characters. It limits
/// the work on a bracket that is never closed.
const MAX_LINES: usize = 128;

/// A label and its value, of one or more lines.
#[derive(Debug)]
pub(super) struct StatusField<'a> {
    pub(super) label: Label<'a>,
    /// The label in its original spelling.
    pub(super) label_text: &'a str,
    /// The lines of the value, none of them empty.
    pub(super) lines: Vec<&'a str>,
    /// The column in which the label begins.
    column: usize,
}

/// The labels that are used. Other labels of Codex end a value and are ignored.
#[derive(Debug, PartialEq)]
pub(super) enum Label<'a> {
    Account,
    Plan,
    /// The weekly limit as the Python codex-manager writes it.
    Quota,
    Limit(LimitLabel<'a>),
}

/// The parts of `[name] [length] [usage] limit`.
#[derive(Debug, PartialEq)]
pub(super) struct LimitLabel<'a> {
    /// The words of the limit's own name; empty for a window of the last heading.
    pub(super) name: Vec<&'a str>,
    pub(super) minutes: Option<u32>,
    /// True for the second window of unknown length: `Secondary usage limit`.
    pub(super) is_secondary: bool,
    /// True if the label has the word "usage".
    is_usage: bool,
}

/// Returns the labelled values of a status text in the order of the text. Lines that belong to no value are skipped.
pub(super) fn split_fields(text: &str) -> Vec<StatusField<'_>> {
    let mut fields: Vec<StatusField> = Vec::new();
    // True while the value of the last field may continue in the next line.
    let mut is_value_open = false;
    // True after a blank line, also if a notice follows it.
    let mut is_after_blank = false;
    // The column of `Thread name:` while its value may continue. Codex 0.171 names a conversation after its first
    // prompt, so later lines of the name can look like labels.
    let mut name_column = None;

    for line in text.lines() {
        let (column, content) = strip_borders(line);
        if content.is_empty() {
            is_after_blank = true;
            continue;
        }

        let is_below_name = name_column.is_some_and(|name_column| column > name_column);
        if is_below_name && !is_after_blank {
            continue;
        }
        let is_name = strip_prefix_ignoring_case(content, "Thread name:").is_some();
        name_column = is_name.then_some(column);

        // A notice ("⚠ weekly limit: 9% left") does not belong to the table.
        if content.starts_with('⚠') {
            continue;
        }

        if let Some((label, label_text, value)) = parse_label(content) {
            let mut lines = Vec::new();
            if !value.is_empty() {
                lines.push(value);
            }
            fields.push(StatusField {
                label,
                label_text,
                lines,
                column,
            });
            is_value_open = true;
        } else if is_value_open && let Some(field) = fields.last_mut() {
            is_value_open = field.is_continued_by(content, column, is_after_blank);
            if is_value_open {
                field.lines.push(content);
            }
        }

        is_after_blank = false;
    }

    fields
}

impl StatusField<'_> {
    pub(super) fn value(&self) -> String {
        self.lines.join(" ")
    }

    /// Returns true if the value contains any part of a figure, or one of its brackets.
    pub(super) fn has_part_of_figure(&self) -> bool {
        let is_of_figure = |c: char| c.is_ascii_digit() || "%[(".contains(c);
        self.lines.iter().any(|line| line.contains(is_of_figure))
    }

    /// Returns true if a line without a label belongs to this value: a part of the value is missing, or the line is
    /// indented.
    fn is_continued_by(&self, line: &str, column: usize, is_after_blank: bool) -> bool {
        let is_too_long = self.lines.len() >= MAX_LINES;
        if is_too_long || (column <= self.column && begins_with_other_label(line)) {
            return false;
        }

        let value = self.value();
        let bracket_count = |bracket: char| value.matches(bracket).count();
        if bracket_count('(') > bracket_count(')') || bracket_count('[') > bracket_count(']') {
            return true;
        }

        // A reset or a plan in brackets is the end of a value.
        if value.ends_with(')') {
            return false;
        }

        let begins_with_reset =
            line.starts_with('(') || strip_prefix_ignoring_case(line, "resets").is_some();
        // The reset is missing after a bare percentage.
        if begins_with_reset || value.ends_with('%') {
            return true;
        }

        let is_limit = matches!(self.label, Label::Quota | Label::Limit(_));
        let needs_figure = is_limit && !value.contains('%');
        let begins_with_figure = line.starts_with(|c: char| c.is_ascii_digit() || c == '[');
        if needs_figure && begins_with_figure {
            return true;
        }

        // Codex may break an email at any character, so its rest may begin in any column.
        let is_indented = column > self.column || self.label == Label::Account;
        is_indented && !is_after_blank
    }
}

impl LimitLabel<'_> {
    /// Returns true if the label names a window, so that a figure has to follow.
    pub(super) fn is_window(&self) -> bool {
        self.minutes.is_some() || self.is_usage
    }

    /// Returns true for the limit on credits that an administrator sets. It is no quota window.
    pub(super) fn is_monthly_credit(&self) -> bool {
        self.name.join(" ").eq_ignore_ascii_case("monthly credit")
    }
}

/// Removes `prefix` in any letter case; `None` if `text` does not begin with it.
pub(super) fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (beginning, rest) = text.split_at_checked(prefix.len())?;
    beginning.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Returns the column in which the content of a line begins, and the content without borders.
fn strip_borders(line: &str) -> (usize, &str) {
    let is_border = |c: char| c.is_whitespace() || "│┃║|╭╮╰╯─━═>".contains(c);
    let line = line.trim_end_matches(is_border);
    let content = line.trim_start_matches(is_border);
    let indent = &line[..line.len() - content.len()];
    (indent.chars().count(), content)
}

/// Parses the label at the beginning of a line. Returns the label, its original text, and the value in the rest of the
/// line. `None` for a line without a label that is used.
fn parse_label(content: &str) -> Option<(Label<'_>, &str, &str)> {
    // Removes the mark of a list item. A word that is broken over two lines may also leave a hyphen here.
    let content = content.trim_start_matches(['•', '*', '-', ' ']);
    let Some((text, value)) = content.split_once(':') else {
        // The usage page has no colons.
        let label = parse_limit_label(content)?;
        let is_on_usage_page = label.is_usage && label.minutes.is_some() && label.name.is_empty();
        let no_value = "";
        return is_on_usage_page.then_some((Label::Limit(label), content, no_value));
    };

    let text = text.trim();
    let label = match text.to_lowercase().as_str() {
        "account" | "email" | "login" => Label::Account,
        "plan" => Label::Plan,
        "quota" => Label::Quota,
        _ => Label::Limit(parse_limit_label(text)?),
    };
    Some((label, text, value.trim_start_matches(['*', ' ']).trim_end()))
}

/// Returns true if a line begins with an unused label, such as `Session:`. A digit before the colon means
/// a time, not a label.
fn begins_with_other_label(line: &str) -> bool {
    let text = line.split_once(':').map_or("", |(text, _)| text);
    let is_allowed = |c: char| is_label_char(c) && !c.is_numeric();
    text.starts_with(char::is_alphabetic) && text.chars().all(is_allowed)
}

fn is_label_char(c: char) -> bool {
    c.is_alphanumeric() || " ._-+/()&'".contains(c)
}

/// Parses `5h limit`, `Weekly usage limit`, `GPT-5.3-Codex-Spark limit`. A sentence that ends in "limit"
/// and contains a percentage or a comma is no label.
fn parse_limit_label(text: &str) -> Option<LimitLabel<'_>> {
    if !text.starts_with(char::is_alphanumeric) || !text.chars().all(is_label_char) {
        return None;
    }

    // The words that are left at the end are the name.
    let mut name: Vec<_> = text.split_whitespace().collect();
    // Returns true if `word` was the last word.
    let remove_if_last = |name: &mut Vec<&str>, word: &str| {
        let is_last = name.last().is_some_and(|w| w.eq_ignore_ascii_case(word));
        if is_last {
            name.pop();
        }
        is_last
    };

    if !remove_if_last(&mut name, "limit") {
        return None;
    }

    let is_usage = remove_if_last(&mut name, "usage");
    let mut minutes = None;
    // The last word, or the last two, may name the length of the window: `5h`, `5 hour`.
    for word_count in 1..=name.len().min(2) {
        let start = name.len() - word_count;
        minutes = parse_window_minutes(&name[start..].concat());
        if minutes.is_some() {
            name.truncate(start);
            break;
        }
    }
    let is_secondary = is_usage && minutes.is_none() && remove_if_last(&mut name, "secondary");

    Some(LimitLabel {
        name,
        minutes,
        is_secondary,
        is_usage,
    })
}

/// Returns the length in minutes that a label names: "5h", "5hour", "Weekly", "3d".
fn parse_window_minutes(word: &str) -> Option<u32> {
    match word.to_lowercase().as_str() {
        "weekly" => Some(WEEKLY_MINUTES),
        "daily" => Some(1_440),
        "monthly" => Some(43_200),
        "annual" => Some(525_600),
        word => {
            let digit_count = word.find(|c: char| !c.is_ascii_digit())?;
            let amount: u32 = word[..digit_count].parse().ok()?;
            match word[digit_count..].trim_start_matches('-') {
                "m" | "min" => Some(amount),
                "h" | "hour" | "hours" => amount.checked_mul(60),
                "d" | "day" | "days" => amount.checked_mul(1_440),
                _ => None,
            }
        }
    }
    .filter(|minutes| (1..=MAX_WINDOW_MINUTES).contains(minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let fields = split_fields(text);
        let line = |field: &StatusField| format!("{}={}", field.label_text, field.lines.join("|"));
        fields.iter().map(line).collect()
    }

    #[test]
    fn a_value_continues_until_it_is_complete() {
        let wrapped = "
  Account:
             alice@exampl
             e.com (Pro
             200)
  Session:
             01a1fd23
  5h limit:  15%
             left

             (reset
             s
             10:15)
                  more
  Spark limit:
  5h limit:  97% left
     ⚠ weekly limit: 9% left
             (resets 08:15
on 24 Nov)
";
        assert_eq!(
            shown(wrapped),
            [
                "Account=alice@exampl|e.com (Pro|200)",
                "5h limit=15%|left|(reset|s|10:15)",
                "Spark limit=",
                "5h limit=97% left|(resets 08:15|on 24 Nov)",
            ]
        );
    }

    #[test]
    fn a_line_without_indentation_completes_the_last_incomplete_value() {
        assert_eq!(
            shown("Weekly usage limit\n82%\nremaining\nResets 3:05 PM\nCredits\n5"),
            ["Weekly usage limit=82%|remaining|Resets 3:05 PM"]
        );
        assert_eq!(
            shown("Account:\nalice@example.com\n5h limit:\n88% left\n\n(resets\n\n10:06)\n12"),
            [
                "Account=alice@example.com",
                "5h limit=88% left|(resets|10:06)"
            ]
        );
    }

    #[test]
    fn a_wrapped_name_of_a_conversation_has_no_labels() {
        let text = "
  Account:      alice@example.com (Plus)
  Thread name:  raise the rate
                limit: 77% of
                Account: bob@example.com
  5h limit:     88% left
                (resets 09:01)
";
        assert_eq!(
            shown(text),
            [
                "Account=alice@example.com (Plus)",
                "5h limit=88% left|(resets 09:01)"
            ]
        );
    }

    #[test]
    fn the_lines_of_an_unclosed_bracket_are_limited() {
        let text = format!("Weekly limit: (\n{}", "x\n".repeat(100_000));
        let fields = split_fields(&text);
        assert_eq!((fields.len(), fields[0].lines.len()), (1, MAX_LINES));
    }

    #[test]
    fn limit_labels_are_parsed_into_name_and_window() {
        let read = |text: &str| {
            let label = parse_limit_label(text)?;
            let length = match (label.minutes, label.is_usage, label.is_secondary) {
                (Some(minutes), ..) => minutes.to_string(),
                (None, true, true) => "secondary".into(),
                (None, true, false) => "usage".into(),
                (None, false, _) => "-".into(),
            };
            Some(format!("{} {length}", label.name.join("_")))
        };
        for (text, expected) in [
            ("5h limit", " 300"),
            ("WEEKLY LIMIT", " 10080"),
            ("5 hour usage limit", " 300"),
            ("5-hour limit", " 300"),
            ("Weekly usage limit", " 10080"),
            ("Usage limit", " usage"),
            ("Secondary usage limit", " secondary"),
            ("GPT-5.3-Codex-Spark limit", "GPT-5.3-Codex-Spark -"),
            ("GPT-5.3-Codex-Spark 5h limit", "GPT-5.3-Codex-Spark 300"),
            ("Spark Secondary usage limit", "Spark secondary"),
            ("Monthly credit limit", "Monthly_credit -"),
            ("limit", " -"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "⚠ weekly limit",
            "Limits",
            "Heads up, you have less than 10% of your weekly limit",
            "Context window",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
