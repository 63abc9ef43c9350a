//! Writes an HTML page entry by entry, so that a conversation of any length fits into memory.

use super::code::{highlight_code, push_code_block};
use super::escape::{escape_html, push_escaped};
use super::message::{render_markdown, render_typed_text};
use super::page::format_page_end;
use crate::conversations::image_data::parse_data_url;
use crate::conversations::index::tokens::truncate_bytes;
use crate::conversations::markdown::shorten_to_line;
use crate::conversations::transcript::{EntryKind, PartMark, TranscriptEntry, format_minute};
use crate::io::Zone;
use std::fmt::Write as _;

/// The longest output of a tool that the page shows, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

pub struct HtmlWriter {
    turn: Option<u32>,
    /// True in the part that a fork has from its base. Its turns get no anchors, because the fork has the same numbers.
    is_base: bool,
    /// A tool call that is not written yet, because it waits for its output.
    pending_call: Option<TranscriptEntry>,
    with_images: bool,
    zone: Zone,
}

impl HtmlWriter {
    pub fn new(with_images: bool, zone: Zone) -> Self {
        Self {
            turn: None,
            is_base: false,
            pending_call: None,
            with_images,
            zone,
        }
    }

    /// Begins a part of a fork, and returns the HTML of its heading. Only the turns of the fork itself get anchors.
    pub fn begin_part(&mut self, mark: &PartMark) -> String {
        let mut html = String::new();
        self.push_pending_call(&mut html);
        self.turn = None;
        self.is_base = matches!(mark, PartMark::Base(_));
        let sentence = mark.format_sentence(|id| format!("<code>{}</code>", escape_html(id)));
        let _ = writeln!(html, "<p class=\"part\">{sentence}</p>");
        html
    }

    /// Adds an entry, and returns the HTML that is complete now. A tool call waits for its output, so the result may be
    /// empty.
    pub fn format_entry(&mut self, entry: TranscriptEntry) -> String {
        let mut html = String::new();
        if self.turn != Some(entry.turn) {
            self.push_pending_call(&mut html);
            self.turn = Some(entry.turn);
            self.push_turn_heading(&mut html, &entry);
        }

        match entry.kind {
            EntryKind::ToolCall => {
                self.push_pending_call(&mut html);
                self.pending_call = Some(entry);
            }
            // The entries are in the order of calls, each followed by its output.
            EntryKind::ToolOutput => match self.pending_call.take() {
                Some(call) if call.call_id == entry.call_id => {
                    push_collapsed_call(&mut html, &call, Some(&entry.text));
                }
                call => {
                    self.pending_call = call;
                    self.push_pending_call(&mut html);
                    push_unmatched_output(&mut html, &entry.text);
                }
            },
            EntryKind::Image => {
                self.push_pending_call(&mut html);
                html.push_str(&format_image(entry.text.trim(), self.with_images));
            }
            _ => {
                self.push_pending_call(&mut html);
                let message = format_message(entry.kind, entry.text.trim());
                html.push_str(&message);
                html.push('\n');
            }
        }
        html
    }

    fn push_turn_heading(&self, html: &mut String, entry: &TranscriptEntry) {
        let time = entry.at.map(|at| format_minute(&at, self.zone));
        let time_element = time.map_or(String::new(), |time| {
            format!("<time>{}</time>", escape_html(&time))
        });
        let turn = entry.turn;
        let _ = if self.is_base {
            writeln!(html, "<h2>Turn {turn}{time_element}</h2>")
        } else {
            writeln!(
                html,
                "<h2 id=\"turn-{turn}\"><a href=\"#turn-{turn}\">Turn {turn}</a>{time_element}</h2>"
            )
        };
    }

    /// Returns the end of the page, which names the number of redacted secrets.
    pub fn finish_page(&mut self, redacted_count: usize) -> String {
        let mut html = String::new();
        self.push_pending_call(&mut html);
        let note = match redacted_count {
            0 => String::new(),
            _ => format!("{redacted_count} redacted"),
        };
        html.push_str(&format_page_end(&note));
        html
    }

    /// Writes the pending call, which has no output.
    fn push_pending_call(&mut self, html: &mut String) {
        if let Some(call) = self.pending_call.take() {
            push_collapsed_call(html, &call, None);
        }
    }
}

/// Returns the HTML of a message, a reasoning, a list of files or a compaction.
fn format_message(kind: EntryKind, text: &str) -> String {
    let (class, message) = match kind {
        EntryKind::User => ("user", render_typed_text(text)),
        EntryKind::Reasoning => ("reasoning", render_markdown(text)),
        EntryKind::Files => return format_files(text),
        EntryKind::Compaction => return format_compaction(text),
        _ => ("assistant", render_markdown(text)),
    };
    format!("<div class=\"{class}\">\n{message}</div>")
}

fn format_files(text: &str) -> String {
    let format_file = |file| format!("<code>{}</code>", escape_html(file));
    let files: Vec<_> = text.lines().map(format_file).collect();
    format!("<p class=\"note\">changed {}</p>", files.join(", "))
}

fn format_compaction(summary: &str) -> String {
    let heading = "Codex replaced the messages above by a summary";
    if summary.is_empty() {
        return format!("<p class=\"compaction\">{heading}</p>");
    }
    let summary = render_markdown(summary);
    format!("<details class=\"compaction\"><summary>{heading}</summary>\n{summary}</details>")
}

/// Returns the language for the highlighting of a tool call; empty if it is not recognized.
fn detect_language(tool: &str, call_text: &str) -> &'static str {
    if call_text.starts_with('{') || call_text.starts_with('[') {
        "json"
    } else if call_text.starts_with("*** Begin Patch") {
        "diff"
    } else if matches!(
        tool,
        "exec_command" | "shell" | "local_shell_call" | "shell_command"
    ) {
        "sh"
    } else {
        ""
    }
}

/// Returns the summary line of a collapsed tool call. For a patch it has the names of the changed files.
fn summarize_call(text: &str) -> String {
    let file_marks = ["*** Update File: ", "*** Add File: ", "*** Delete File: "];
    let changed_file = |line: &str| {
        file_marks
            .iter()
            .find_map(|mark| line.strip_prefix(mark).map(str::to_owned))
    };

    let files: Vec<_> = if text.starts_with("*** Begin Patch") {
        text.lines().filter_map(changed_file).collect()
    } else {
        Vec::new()
    };

    if files.is_empty() {
        shorten_to_line(text)
    } else {
        shorten_to_line(&files.join(", "))
    }
}

fn push_collapsed_call(html: &mut String, call: &TranscriptEntry, output: Option<&str>) {
    let call_text = call.text.trim();
    let tool = call.tool.as_deref().unwrap_or("tool");
    let language = detect_language(tool, call_text);
    let summary = summarize_call(call_text);

    html.push_str("<details class=\"tool\"><summary><b>");
    push_escaped(html, tool);
    html.push_str("</b> <code>");
    let summary_language = if language == "sh" { "sh" } else { "" };
    html.push_str(&highlight_code(&summary, summary_language));
    html.push_str("</code></summary>\n");

    // A call that fits into its summary is not repeated.
    if summary != call_text {
        push_code_block(html, call_text, language);
    }

    if let Some(output) = output.filter(|output| !output.trim().is_empty()) {
        push_output_block(html, output);
    }

    html.push_str("</details>\n");
}

fn push_unmatched_output(html: &mut String, output: &str) {
    let summary = escape_html(&shorten_to_line(first_output_line(output)));
    let _ = writeln!(
        html,
        "<details class=\"tool output\"><summary><b>output</b> <code>{summary}</code></summary>"
    );
    push_output_block(html, output);
    html.push_str("</details>\n");
}

/// Returns the first line of what a tool printed, without the lines about the call that Codex writes before it.
fn first_output_line(output: &str) -> &str {
    const HEADER: [&str; 2] = ["Exit code: ", "Chunk ID: "];
    const END: &str = "\nOutput:\n";
    let output = output.trim_start();
    let has_header = HEADER.iter().any(|begin| output.starts_with(begin));
    let body = output.split_once(END).filter(|_| has_header);
    let body = body.map_or(output, |(_, body)| body);
    body.trim_start().lines().next().unwrap_or_default()
}

fn push_output_block(html: &mut String, output: &str) {
    let output = output.trim_matches(['\n', '\r']);
    let shown_output = truncate_bytes(output, MAX_OUTPUT_BYTES);
    let is_diff = shown_output.starts_with("diff --git ") || shown_output.starts_with("--- a/");
    push_code_block(html, shown_output, if is_diff { "diff" } else { "" });

    let left_out_bytes = output.len() - shown_output.len();
    if left_out_bytes > 0 {
        let kilobytes = left_out_bytes.div_ceil(1000);
        let _ = writeln!(
            html,
            "<p class=\"note\">{kilobytes} kB more are left out</p>"
        );
    }
}

/// Returns the HTML of an image, or a note if `with_images` is false, or if the URL is of no image that a page shows, or
/// does not contain its data, because a page never loads anything.
fn format_image(url: &str, with_images: bool) -> String {
    let mut html = String::new();
    let _ = match parse_data_url(url) {
        Some((kind, data)) if with_images => writeln!(
            html,
            "<figure><img alt=\"image\" src=\"data:image/{kind};base64,{data}\"></figure>"
        ),
        Some((kind, data)) => {
            // Four characters of base64 encode three bytes.
            let kilobytes = (data.len() / 4 * 3).div_ceil(1000);
            writeln!(html, "<p class=\"note\">image: {kind}, {kilobytes} kB</p>")
        }
        None => {
            let shown_url = if url.starts_with("http") { url } else { "" };
            let reason = if url.starts_with("data:") {
                "in a form that is not shown"
            } else {
                "not in the conversation"
            };
            let note = format!("image, {reason} {shown_url}");
            let note = escape_html(note.trim_end());
            writeln!(html, "<p class=\"note\">{note}</p>")
        }
    };
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: EntryKind, text: &str) -> TranscriptEntry {
        TranscriptEntry {
            turn: 1,
            at: None,
            kind,
            call_id: None,
            is_copied: false,
            tool: (kind == EntryKind::ToolCall).then(|| "exec_command".to_owned()),
            text: text.to_owned(),
        }
    }

    fn page(entries: &[(EntryKind, &str)]) -> String {
        let mut writer = HtmlWriter::new(true, Zone::UTC);
        let mut page = String::new();
        for (kind, text) in entries {
            page.push_str(&writer.format_entry(entry(*kind, text)));
        }
        page + &writer.finish_page(2)
    }

    #[test]
    fn an_output_is_shown_below_its_call_and_any_other_one_by_its_first_line() {
        use EntryKind::{Assistant, ToolCall, ToolOutput};
        let one = page(&[(ToolCall, "ls"), (ToolOutput, "a.rs"), (ToolCall, "id")]);
        assert_eq!(one.matches("<details").count(), 2, "{one}");
        let header = "Exit code: 0\nWall time: 0.4 seconds\nOutput:\n";
        let late = format!("{header}late");
        let open = page(&[(ToolCall, "ls"), (Assistant, "x"), (ToolOutput, &late)]);
        assert_eq!(open.matches("<details").count(), 2, "{open}");
        assert!(open.contains("<code>late</code></summary>"), "{open}");
        let mut writer = HtmlWriter::new(true, Zone::UTC);
        let _ = writer.format_entry(TranscriptEntry {
            call_id: Some("a".into()),
            ..entry(ToolCall, "ls")
        });
        let of_another = TranscriptEntry {
            call_id: Some("b".into()),
            ..entry(ToolOutput, "root")
        };
        let page = writer.format_entry(of_another);
        assert_eq!(page.matches("<details").count(), 2, "{page}");
    }

    #[test]
    fn names_of_tools_are_escaped_in_html() {
        let mut call = entry(EntryKind::ToolCall, "x");
        call.tool = Some("<script>".into());
        let mut writer = HtmlWriter::new(true, Zone::UTC);
        let page = writer.format_entry(call) + &writer.finish_page(0);
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn patches_are_named_by_their_files_and_long_outputs_are_cut() {
        let patch = "*** Begin Patch\n*** Update File: a.rs\n@@\n-x\n+y\n*** Add File: b.rs\n+z\n*** End Patch";
        assert_eq!(summarize_call(patch), "a.rs, b.rs");
        let output = "ü".repeat(MAX_OUTPUT_BYTES);
        let cut = page(&[(EntryKind::ToolOutput, &output)]);
        assert!(
            cut.contains("66 kB more are left out"),
            "{}",
            &cut[cut.len() - 300..]
        );
    }

    #[test]
    fn only_pictures_in_base64_are_shown() {
        let url = "data:image/png;base64,iVBORw0KGgo=";
        assert!(format_image(url, true).contains("src=\"data:image/png;base64,iVBORw0KGgo=\""));
        assert!(format_image(url, false).contains("image: png, 1 kB"));
        for url in [
            "data:image/svg+xml;base64,PHN2Zz4=",
            "data:text/html;base64,PHN2Zz4=",
            "data:image/png;base64,iVB\" onerror=\"x",
            "javascript:alert(1)",
            "https://example.com/\"><script>.png",
        ] {
            let html = format_image(url, true);
            assert!(
                !html.contains("<img") && !html.contains("<script"),
                "{html}"
            );
        }
    }
}
