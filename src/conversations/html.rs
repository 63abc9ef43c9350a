//! Transcripts as one self-contained HTML page: no scripts, no fonts, and nothing loaded from elsewhere.

use super::markdown::one_line;
use super::transcript::{EntryKind, TranscriptEntry};
use chrono::{DateTime, Utc};
use std::fmt::Write as _;

/// The style of the page, for light and dark displays.
const STYLE: &str = "
:root{color-scheme:light dark;--text:#1c1e21;--dim:#6a737d;--back:#fff;--card:#f5f6f8;--user:#e8f0fe;--line:#d8dce1;--accent:#3457b1}
@media (prefers-color-scheme:dark){:root{--text:#e2e4e8;--dim:#9aa3ad;--back:#16181c;--card:#1f2228;--user:#20304f;--line:#343941;--accent:#8fb0ff}}
body{margin:0 auto;max-width:52rem;padding:2rem 1rem 6rem;background:var(--back);color:var(--text);font:16px/1.6 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}h2.turn{font-size:.85rem;color:var(--dim);font-weight:600;margin:2.5rem 0 .5rem;border-top:1px solid var(--line);padding-top:1rem}
.about{color:var(--dim);margin:0 0 1rem}a{color:var(--accent)}
.message{padding:.6rem 1rem;border-radius:.6rem;margin:.6rem 0;overflow-wrap:anywhere}.user{background:var(--user)}.reasoning{color:var(--dim);font-style:italic}
details{background:var(--card);border-radius:.5rem;margin:.35rem 0;padding:.3rem .8rem}summary{cursor:pointer;font:.85rem/1.6 ui-monospace,monospace;overflow-wrap:anywhere}
pre{background:var(--card);padding:.8rem;border-radius:.5rem;overflow-x:auto;font:.85rem/1.45 ui-monospace,monospace}details pre{background:none;padding:.2rem 0;white-space:pre-wrap;overflow-wrap:anywhere}
code{font:.88em ui-monospace,monospace;background:var(--card);padding:.1em .3em;border-radius:.3em}pre code{background:none;padding:0}
.compaction{color:var(--dim);text-align:center;margin:2rem 0}
";

/// The longest output that the page shows, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// Writes entries as HTML.
pub(crate) struct HtmlWriter<F> {
    turn: Option<u32>,
    format_time: F,
}

/// Returns the beginning of the page. `about` is a line of facts below the title.
pub(crate) fn page_head(title: &str, about: &str) -> String {
    let (title, about) = (escaped(title), escaped(about));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n<p class=\"about\">{about}</p>\n"
    )
}

/// The end of the page.
pub(crate) const PAGE_END: &str = "</body>\n</html>\n";

impl<F: Fn(&DateTime<Utc>) -> String> HtmlWriter<F> {
    /// Creates a writer that formats times with `format_time`.
    pub(crate) fn new(format_time: F) -> Self {
        Self {
            turn: None,
            format_time,
        }
    }

    /// Returns the HTML of the next entry.
    pub(crate) fn entry(&mut self, entry: &TranscriptEntry) -> String {
        let mut page = String::new();
        if self.turn != Some(entry.turn) {
            self.turn = Some(entry.turn);
            let at = entry.at.as_ref().map(&self.format_time);
            let at = at.map_or(String::new(), |at| format!(" · {}", escaped(&at)));
            let turn = entry.turn;
            let _ = writeln!(
                page,
                "<h2 class=\"turn\" id=\"turn-{turn}\">Turn {turn}{at}</h2>"
            );
        }
        let text = entry.text.trim();
        let _ = match entry.kind {
            EntryKind::User => writeln!(page, "<div class=\"message user\">{}</div>", html(text)),
            EntryKind::Assistant => {
                writeln!(
                    page,
                    "<div class=\"message assistant\">{}</div>",
                    html(text)
                )
            }
            EntryKind::Reasoning => {
                writeln!(
                    page,
                    "<div class=\"message reasoning\">{}</div>",
                    html(text)
                )
            }
            EntryKind::ToolCall => {
                let tool = entry.tool.as_deref().unwrap_or("tool");
                let head = format!("{tool}: {}", one_line(text));
                writeln!(page, "{}", folded(&head, text))
            }
            EntryKind::Files => {
                let files: Vec<_> = text.lines().collect();
                let head = format!("changed: {}", files.join(", "));
                writeln!(page, "{}", folded(&one_line(&head), text))
            }
            EntryKind::ToolOutput => writeln!(page, "{}", folded("output", beginning(text))),
            EntryKind::Compaction => writeln!(
                page,
                "<p class=\"compaction\">Codex replaced the messages above by a summary here.</p>"
            ),
        };
        page
    }
}

fn beginning(text: &str) -> &str {
    let mut end = text.len().min(MAX_OUTPUT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn folded(head: &str, text: &str) -> String {
    format!(
        "<details><summary>{}</summary><pre>{}</pre></details>",
        escaped(head),
        escaped(text)
    )
}

/// Escapes text for HTML. Control characters, which HTML forbids, become replacement characters.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(c),
            '\r' => {}
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// Converts the Markdown of a message: paragraphs, headings, lists, code, bold text and links.
fn html(text: &str) -> String {
    let mut page = String::new();
    let mut fence: Option<String> = None;
    let mut open = "";
    for line in text.lines() {
        let ticks: String = line
            .trim_start()
            .chars()
            .take_while(|c| *c == '`')
            .collect();
        if let Some(mark) = &fence {
            if ticks == *mark && line.trim() == ticks {
                page.push_str("</code></pre>\n");
                fence = None;
            } else {
                page.push_str(&escaped(line));
                page.push('\n');
            }
            continue;
        }
        let item = line.trim_start();
        let (kind, content) = match item.strip_prefix("- ").or_else(|| item.strip_prefix("* ")) {
            _ if ticks.len() >= 3 => ("pre", ""),
            Some(item) => ("ul", item),
            None if item.is_empty() => ("", ""),
            None => ("p", item),
        };
        let level = item.chars().take_while(|c| *c == '#').count();
        let heading = item.get(level..).and_then(|rest| rest.strip_prefix(' '));
        let heading = heading.filter(|_| (1..=6).contains(&level));
        if kind != open || heading.is_some() {
            page.push_str(match open {
                "ul" => "</ul>\n",
                "p" => "</p>\n",
                _ => "",
            });
            open = "";
        }
        if let Some(heading) = heading {
            let level = (level + 2).min(6);
            let _ = writeln!(page, "<h{level}>{}</h{level}>", spans(heading));
            continue;
        }
        match kind {
            "pre" => {
                page.push_str("<pre><code>");
                fence = Some(ticks);
            }
            "ul" => {
                if open != "ul" {
                    page.push_str("<ul>\n");
                }
                let _ = writeln!(page, "<li>{}</li>", spans(content));
                open = "ul";
            }
            "p" => {
                page.push_str(if open == "p" { "<br>\n" } else { "<p>" });
                page.push_str(&spans(content));
                open = "p";
            }
            _ => {}
        }
    }
    page.push_str(match (&fence, open) {
        (Some(_), _) => "</code></pre>",
        (None, "ul") => "</ul>",
        (None, "p") => "</p>",
        _ => "",
    });
    page
}

/// Converts `code` and **bold** text. A mark without its end stays.
fn spans(text: &str) -> String {
    let mut page = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*']) {
        page.push_str(&escaped(&rest[..at]));
        rest = &rest[at..];
        let ticks = rest.len() - rest.trim_start_matches('`').len();
        let (mark, tag) = match ticks {
            0 if rest.starts_with("**") => ("**", "strong"),
            0 => {
                page.push('*');
                rest = &rest[1..];
                continue;
            }
            _ => (&rest[..ticks], "code"),
        };
        let inner = &rest[mark.len()..];
        if let Some(end) = inner.find(mark).filter(|end| *end > 0) {
            let _ = write!(page, "<{tag}>{}</{tag}>", escaped(inner[..end].trim()));
            rest = &inner[end + mark.len()..];
        } else {
            page.push_str(mark);
            rest = inner;
        }
    }
    page.push_str(&escaped(rest));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_html_and_nothing_in_it_becomes_markup() {
        assert_eq!(
            html("# A\none\ntwo\n\n- **x** `<b>`\n- y\n```rust\nlet <x>;\n```\n<script>"),
            "<h3>A</h3>\n<p>one<br>\ntwo</p>\n<ul>\n<li><strong>x</strong> <code>&lt;b&gt;</code></li>\n\
             <li>y</li>\n</ul>\n<pre><code>let &lt;x&gt;;\n</code></pre>\n<p>&lt;script&gt;</p>"
        );
        assert_eq!(escaped("\u{1b}\"&\r\n"), "\u{fffd}&quot;&amp;\n");
        let head = page_head("<script>", "x");
        assert!(!head.contains("<script>"), "{head}");
    }
}
