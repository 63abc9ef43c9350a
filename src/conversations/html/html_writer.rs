//! Writes an HTML page entry by entry, so that a conversation of any length fits into memory.

use super::escape::{escape_html, push_escape_html};
use super::image::format_image;
use super::message::{render_markdown, render_typed_text};
use crate::conversations::index::tokens::truncate_bytes;
use crate::conversations::markdown::shorten_to_line;
use crate::conversations::part_mark::PartMark;
use crate::conversations::transcript::{EntryKind, TranscriptEntry};
use chrono::{DateTime, Utc};
use std::fmt::Write as _;

/// The longest output of a tool that the page shows, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

pub(crate) struct HtmlWriter<F> {
    turn: Option<u32>,
    /// True in a part that comes from another conversation. Its turns have the same numbers as those of the shown one.
    is_base: bool,
    with_images: bool,
    format_time: F,
}

impl<F: Fn(&DateTime<Utc>) -> String> HtmlWriter<F> {
    pub(crate) fn new(with_images: bool, format_time: F) -> Self {
        Self {
            turn: None,
            is_base: false,
            with_images,
            format_time,
        }
    }

    /// Begins a part of a fork, and returns the HTML of its heading. Only the turns of the fork itself get anchors.
    pub(crate) fn begin_part(&mut self, mark: &PartMark) -> String {
        self.turn = None;
        self.is_base = matches!(mark, PartMark::Base(_));
        let text = mark.text(|id| format!("<code>{}</code>", escape_html(id)));
        format!("<p class=\"part\">{text}</p>\n")
    }

    /// Returns the HTML of the next entry.
    pub(crate) fn format_entry(&mut self, entry: &TranscriptEntry) -> String {
        let mut page = String::new();
        if self.turn != Some(entry.turn) {
            self.turn = Some(entry.turn);
            let at = entry.at.as_ref().map(&self.format_time);
            let at = at.map_or(String::new(), |at| {
                format!("<time>{}</time>", escape_html(&at))
            });
            let turn = entry.turn;
            let _ = if self.is_base {
                writeln!(page, "<h2>Turn {turn}{at}</h2>")
            } else {
                writeln!(
                    page,
                    "<h2 id=\"turn-{turn}\"><a href=\"#turn-{turn}\">Turn {turn}</a>{at}</h2>"
                )
            };
        }
        let text = entry.text.trim();
        match entry.kind {
            EntryKind::User => {
                let text = render_typed_text(text);
                let _ = writeln!(page, "<div class=\"user\">\n{text}</div>");
            }
            EntryKind::Assistant => {
                let text = render_markdown(text);
                let _ = writeln!(page, "<div class=\"assistant\">\n{text}</div>");
            }
            EntryKind::Reasoning => {
                let text = render_markdown(text);
                let _ = writeln!(page, "<div class=\"reasoning\">\n{text}</div>");
            }
            EntryKind::ToolCall => push_call(&mut page, entry),
            EntryKind::ToolOutput => push_output(&mut page, &entry.text),
            EntryKind::Image => page.push_str(&format_image(text, self.with_images)),
            EntryKind::Files => {
                let paths = text.lines();
                let paths = paths.map(|path| format!("<code>{}</code>", escape_html(path)));
                let paths = paths.collect::<Vec<_>>().join(", ");
                let _ = writeln!(page, "<p class=\"note\">changed {paths}</p>");
            }
            EntryKind::Compaction => page.push_str(&format_compaction(text)),
        }
        page
    }
}

fn format_compaction(summary: &str) -> String {
    let text = "Codex replaced the messages above by a summary";
    if summary.is_empty() {
        return format!("<p class=\"compaction\">{text}</p>\n");
    }
    let summary = render_markdown(summary);
    format!("<details class=\"compaction\"><summary>{text}</summary>\n{summary}</details>\n")
}

/// Returns the summary line of a collapsed tool call. For a patch it has the names of the changed files.
fn summarize_call(text: &str) -> String {
    let marks = ["*** Update File: ", "*** Add File: ", "*** Delete File: "];
    let parse_path = |line: &str| {
        let path = marks.iter().find_map(|mark| line.strip_prefix(mark))?;
        Some(path.to_owned())
    };
    let mut paths = Vec::new();
    if is_patch(text) {
        paths.extend(text.lines().filter_map(parse_path));
    }
    if paths.is_empty() {
        shorten_to_line(text)
    } else {
        shorten_to_line(&paths.join(", "))
    }
}

/// Returns true for a patch in Codex's own format.
fn is_patch(text: &str) -> bool {
    text.starts_with("*** Begin Patch")
}

fn push_call(page: &mut String, call: &TranscriptEntry) {
    let text = call.text.trim();
    let tool = escape_html(call.tool.as_deref().unwrap_or("tool"));
    let summary = summarize_call(text);
    let _ = writeln!(
        page,
        "<details class=\"tool\"><summary><b>{tool}</b> <code>{}</code></summary>",
        escape_html(&summary)
    );
    if summary != text {
        push_code_block(page, text, is_patch(text));
    }
    page.push_str("</details>\n");
}

fn push_output(page: &mut String, output: &str) {
    let output = output.trim_matches(['\n', '\r']);
    let first_line = output.trim().lines().next().unwrap_or_default();
    let summary = escape_html(&shorten_to_line(first_line));
    let _ = writeln!(
        page,
        "<details class=\"tool output\"><summary><b>output</b> <code>{summary}</code></summary>"
    );
    let shown = truncate_bytes(output, MAX_OUTPUT_BYTES);
    let is_diff = shown.starts_with("diff --git ") || shown.starts_with("--- a/");
    push_code_block(page, shown, is_diff);
    let left_out = output.len() - shown.len();
    if left_out > 0 {
        let kilobytes = left_out.div_ceil(1000);
        let _ = writeln!(
            page,
            "<p class=\"note\">{kilobytes} kB more are left out</p>"
        );
    }
    page.push_str("</details>\n");
}

/// Appends a block of code. In a diff or a patch, the lines have the colours of their kinds.
fn push_code_block(page: &mut String, code: &str, is_diff: bool) {
    page.push_str("<pre><code>");
    if is_diff {
        code.split_inclusive('\n')
            .for_each(|line| push_diff_line(page, line));
    } else {
        push_escape_html(page, code);
    }
    page.push_str("</code></pre>\n");
}

fn push_diff_line(page: &mut String, line: &str) {
    let heads = ["+++", "---", "***", "@@", "diff ", "index "];
    let class = match line.as_bytes().first() {
        _ if heads.iter().any(|head| line.starts_with(head)) => "hunk",
        Some(b'+') => "added",
        Some(b'-') => "removed",
        _ => return push_escape_html(page, line),
    };
    let _ = write!(page, "<span class=\"{class}\">{}</span>", escape_html(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind, text: &str) -> TranscriptEntry {
        TranscriptEntry {
            turn: 1,
            at: None,
            kind,
            tool: (kind == EntryKind::ToolCall).then(|| "exec_command".to_owned()),
            text: text.to_owned(),
        }
    }

    #[test]
    fn tools_are_escaped() {
        let mut call = entry(EntryKind::ToolCall, "x");
        call.tool = Some("<script>".into());
        let mut writer = HtmlWriter::new(true, |_| String::new());
        let page = writer.format_entry(&call);
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn patches_are_named_by_their_files_and_long_outputs_are_cut() {
        let patch = "*** Begin Patch\n*** Update File: a.rs\n@@\n-x\n+y\n*** Add File: b.rs\n+z\n*** End Patch";
        assert_eq!(summarize_call(patch), "a.rs, b.rs");
        let mut html = String::new();
        push_code_block(&mut html, "@@ x\n-<a>\n+b\n c", true);
        assert_eq!(
            html,
            "<pre><code><span class=\"hunk\">@@ x\n</span><span class=\"removed\">-&lt;a&gt;\n</span>\
             <span class=\"added\">+b\n</span> c</code></pre>\n"
        );
        let output = "ü".repeat(MAX_OUTPUT_BYTES);
        let mut writer = HtmlWriter::new(true, |_| String::new());
        let cut = writer.format_entry(&entry(EntryKind::ToolOutput, &output));
        assert!(
            cut.contains("66 kB more are left out"),
            "{}",
            &cut[cut.len() - 300..]
        );
    }
}
