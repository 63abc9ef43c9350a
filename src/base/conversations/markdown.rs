//! Writes transcripts as Markdown.

use super::transcript::{EntryKind, PartMark, TranscriptEntry, format_minute};
use crate::io::Zone;
use crate::io::ansi::strip_escapes;
use std::fmt::Write as _;

/// The length to which [`shorten_to_line`] shortens a text, in characters.
const MAX_LINE_CHARS: usize = 100;

/// Writes entries as Markdown, with a heading for each turn.
pub struct MarkdownWriter {
    turn: Option<u32>,
    role: Option<&'static str>,
    /// True to write tool calls in full, instead of shortened to one line.
    with_full_calls: bool,
    zone: Zone,
}

impl MarkdownWriter {
    pub fn new(with_full_calls: bool, zone: Zone) -> Self {
        Self {
            turn: None,
            role: None,
            with_full_calls,
            zone,
        }
    }

    /// Begins a part of a fork, and returns the Markdown of its heading. Each part numbers its turns anew.
    pub fn begin_part(&mut self, mark: &PartMark) -> String {
        self.turn = None;
        format!("\n---\n\n*{}*\n", mark.format_sentence(format_inline_code))
    }

    /// Returns the Markdown of the next entry. Removes escape sequences, which outputs of tools contain, because a text
    /// must not control the terminal that shows it.
    pub fn format_entry(&mut self, entry: &TranscriptEntry) -> String {
        let mut markdown = String::new();
        if self.turn != Some(entry.turn) {
            self.turn = Some(entry.turn);
            self.role = None;
            let time = entry.at.map(|at| format_minute(&at, self.zone));
            let time_suffix = time.map_or(String::new(), |time| format!(" · {time}"));
            let _ = write!(markdown, "\n## Turn {}{time_suffix}\n", entry.turn);
        }

        // Entries of one role share a heading, but each message of the user gets its own.
        let role = entry.kind.role();
        if self.role != Some(role) || role == "user" {
            self.role = Some(role);
            markdown.push_str(match entry.kind {
                EntryKind::User => "\n### User\n\n",
                EntryKind::Assistant => "\n### Assistant\n\n",
                EntryKind::Reasoning => "\n### Reasoning\n\n",
                _ => "\n",
            });
        } else if role != "tool" {
            markdown.push('\n');
        }

        self.push_content(&mut markdown, entry);
        strip_escapes(&markdown).into_owned()
    }

    fn push_content(&self, markdown: &mut String, entry: &TranscriptEntry) {
        match entry.kind {
            EntryKind::User | EntryKind::Assistant | EntryKind::Reasoning => {
                let _ = writeln!(markdown, "{}", entry.text.trim());
            }
            EntryKind::ToolCall => {
                let tool = entry.tool.as_deref().unwrap_or("tool");
                if self.with_full_calls && entry.text.trim().contains('\n') {
                    let _ = writeln!(markdown, "- {tool}:\n\n{}", fence_code(&entry.text));
                } else {
                    let call = format_inline_code(&shorten_to_line(&entry.text));
                    let _ = writeln!(markdown, "- {tool}: {call}");
                }
            }
            EntryKind::Files => {
                let files: Vec<_> = entry.text.lines().map(format_inline_code).collect();
                let _ = writeln!(markdown, "- changed: {}", files.join(", "));
            }
            EntryKind::ToolOutput => {
                let _ = writeln!(markdown, "\n{}", fence_code(&entry.text));
            }
            EntryKind::Image => markdown.push_str("*image*\n"),
            EntryKind::Compaction => {
                markdown.push_str("*Codex replaced the messages above by a summary here.*\n");
                if !entry.text.trim().is_empty() {
                    let _ = writeln!(markdown, "\n{}", quote_lines(entry.text.trim()));
                }
            }
        }
    }
}

/// Joins the lines of a text, and cuts it after [`MAX_LINE_CHARS`] characters. A text that was cut ends with `…`.
pub fn shorten_to_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MAX_LINE_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line
}

fn longest_backtick_run(text: &str) -> usize {
    let runs = text.split(|c| c != '`').map(str::len);
    runs.max().unwrap_or(0)
}

fn format_inline_code(text: &str) -> String {
    let ticks = "`".repeat(longest_backtick_run(text) + 1);
    // A blank separates the marks from backticks at the ends of the text.
    let padding = if ticks.len() > 1 { " " } else { "" };
    format!("{ticks}{padding}{text}{padding}{ticks}")
}

fn fence_code(text: &str) -> String {
    const MIN_FENCE_TICKS: usize = 3;
    let fence = "`".repeat((longest_backtick_run(text) + 1).max(MIN_FENCE_TICKS));
    format!("{fence}text\n{}\n{fence}", text.trim_end())
}

fn quote_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("> {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(turn: u32, kind: EntryKind, text: &str) -> TranscriptEntry {
        TranscriptEntry {
            turn,
            at: None,
            kind,
            call_id: None,
            is_copied: false,
            tool: (kind == EntryKind::ToolCall).then(|| "exec_command".to_owned()),
            text: text.to_owned(),
        }
    }

    #[test]
    fn turns_have_headings_and_a_call_is_written_on_one_line() {
        let mut writer = MarkdownWriter::new(false, Zone::UTC);
        let entries = [
            entry(1, EntryKind::User, "Fix it\n"),
            entry(1, EntryKind::ToolCall, "ls\n  -la `x`"),
            entry(1, EntryKind::ToolOutput, "a ``` b"),
            entry(1, EntryKind::Assistant, "Done."),
            entry(1, EntryKind::Compaction, "Sum"),
            entry(2, EntryKind::User, "Thanks"),
        ];
        let text: String = entries
            .iter()
            .map(|entry| writer.format_entry(entry))
            .collect();
        assert_eq!(
            text,
            "\n## Turn 1\n\n### User\n\nFix it\n\n- exec_command: `` ls -la `x` ``\n\n````text\na ``` b\n````\n\
             \n### Assistant\n\nDone.\n\n*Codex replaced the messages above by a summary here.*\n\n> Sum\n\
             \n## Turn 2\n\n### User\n\nThanks\n"
        );
    }
}
