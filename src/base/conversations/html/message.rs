//! Converts messages to HTML: Markdown of the assistant, and text that the user typed.

use super::code::push_code_block;
use super::escape::{escape_html, push_escaped};
use pulldown_cmark::{
    CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html,
};

/// The URL schemes that become links. Others could run scripts or open programs.
const LINK_SCHEMES: [&str; 3] = ["https://", "http://", "mailto:"];

/// Converts Markdown to HTML. Shows HTML tags in the Markdown as text, and images as links.
pub(super) fn render_markdown(text: &str) -> String {
    let text = replace_control_chars(text);
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;

    let mut html = String::with_capacity(text.len() * 2);
    html::push_html(
        &mut html,
        SafeEvents {
            events: Parser::new_ext(&text, options),
            link_ends: Vec::new(),
        },
    );
    html
}

/// Converts a message of the user to HTML. Keeps the text as it was typed, except fenced blocks of code.
pub(super) fn render_typed_text(text: &str) -> String {
    let mut html = String::with_capacity(text.len() * 2);
    let mut shown_end = 0;
    let push_paragraph = |html: &mut String, part: &str| {
        if !part.trim().is_empty() {
            html.push_str("<p class=\"typed\">");
            push_escaped(html, part.trim_matches('\n').trim_end());
            html.push_str("</p>\n");
        }
    };

    let mut depth = 0_usize;
    let mut events = Parser::new(text).into_offset_iter();
    while let Some((event, range)) = events.next() {
        match event {
            // Fenced code within another element, such as a list, is shown as it was typed.
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) if depth == 0 => {
                let code = collect_code(events.by_ref().map(|(event, _)| event));
                push_paragraph(&mut html, &text[shown_end..range.start]);
                shown_end = range.end;
                push_code_block(&mut html, &code, &language);
            }
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            _ => {}
        }
    }

    push_paragraph(&mut html, &text[shown_end..]);
    html
}

/// Returns the text of the code block that the events are in, and consumes the events up to its end.
fn collect_code<'a>(events: impl Iterator<Item = Event<'a>>) -> String {
    let parts = events.map_while(|event| match event {
        Event::Text(part) => Some(part),
        _ => None,
    });
    parts.fold(String::new(), |code, part| code + &part)
}

fn replace_control_chars(text: &str) -> String {
    let to_shown_char = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let text = text.replace("\r\n", "\n");
    text.chars().map(to_shown_char).collect()
}

/// Rewrites the events of a Markdown parser for a page. HTML tags become text, unsafe links become spans, headings get
/// a lower level, and line breaks are kept.
struct SafeEvents<'a> {
    events: Parser<'a>,
    /// The closing tags of the open links.
    link_ends: Vec<&'static str>,
}

impl<'a> Iterator for SafeEvents<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        Some(match self.events.next()? {
            Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
            Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
            Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
            // Markdown would join lines that the author of the message has broken on purpose.
            Event::SoftBreak => Event::HardBreak,
            Event::Start(Tag::Heading { level, .. }) => Event::Start(Tag::Heading {
                level: demote_heading(level),
                id: None,
                classes: Vec::new(),
                attrs: Vec::new(),
            }),
            Event::End(TagEnd::Heading(level)) => {
                Event::End(TagEnd::Heading(demote_heading(level)))
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                self.begin_link(&dest_url)
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                Event::InlineHtml(self.link_ends.pop().unwrap_or_default().into())
            }
            Event::Start(Tag::CodeBlock(kind)) => self.convert_code_block(&kind),
            event => event,
        })
    }
}

impl<'a> SafeEvents<'a> {
    fn begin_link(&mut self, target: &str) -> Event<'a> {
        let lower_target = target.trim_start().to_ascii_lowercase();
        let target = escape_html(target);
        let mut link_schemes = LINK_SCHEMES.iter();
        let (begin_tag, end_tag) = if link_schemes.any(|scheme| lower_target.starts_with(scheme)) {
            let begin_tag = format!("<a href=\"{target}\" rel=\"noopener noreferrer nofollow\">");
            (begin_tag, "</a>")
        } else {
            // A target with another scheme is shown, but cannot be followed.
            let begin_tag = format!("<span class=\"target\" title=\"{target}\">");
            (begin_tag, "</span>")
        };

        self.link_ends.push(end_tag);
        Event::InlineHtml(begin_tag.into())
    }

    fn convert_code_block(&mut self, kind: &CodeBlockKind<'_>) -> Event<'a> {
        let code = collect_code(self.events.by_ref());
        let language = match kind {
            CodeBlockKind::Fenced(language) => language,
            CodeBlockKind::Indented => "",
        };
        let mut block = String::new();
        push_code_block(&mut block, &code, language);
        Event::Html(CowStr::from(block))
    }
}

/// Returns the level of a message's heading in the page, two levels lower. The title of the page has the first level,
/// and the headings of turns have the second.
fn demote_heading(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_html() {
        assert_eq!(
            render_markdown("# A\none\ntwo\n\n- **x** `<b>`\n- [ ] y\n\n```text\nlet <x>;\n```\n"),
            "<h3>A</h3>\n<p>one<br />\ntwo</p>\n<ul>\n<li><strong>x</strong> <code>&lt;b&gt;</code></li>\n\
             <li><input disabled=\"\" type=\"checkbox\"/>\ny</li>\n</ul>\n\
             <pre><code>let &lt;x&gt;;\n</code></pre>\n"
        );
        let table = render_markdown("| a |\n| --- |\n| 1 |\n");
        assert!(table.contains("<td>1</td>"), "{table}");
    }

    #[test]
    fn links_lead_only_to_the_web() {
        assert_eq!(
            render_markdown("[a](https://x.org/?a=1&b=2 \"t\")"),
            "<p><a href=\"https://x.org/?a=1&amp;b=2\" rel=\"noopener noreferrer nofollow\">a</a></p>\n"
        );
        for text in [
            "[a](javascript:alert(1))",
            "[a]( JaVaScRiPt:alert(1) )",
            "[a](&#106;avascript:alert(1))",
            "[a](data:text/html,<script>)",
            "[a](file:///etc/passwd)",
            "[a](//example.com/x)",
            "<javascript:alert(1)>",
            "![a](x.png)",
            "[a][b]\n\n[b]: vbscript:x",
        ] {
            let html = render_markdown(text);
            assert!(
                !html.contains("href") && !html.contains("src"),
                "{text}: {html}"
            );
        }
        let image = render_markdown("![a](https://x.org/a.png)");
        assert!(
            image.contains("<a href") && !image.contains("<img"),
            "{image}"
        );
    }

    #[test]
    fn foreign_markup_is_text() {
        for text in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<style>*{}</style>\n\n</div></details>",
            "`</code><script>`",
            "```\n</pre><script>\n```",
            "```\"><script>\nx\n```",
            "[<script>](https://x.org/\"onclick=\"x)",
            "| <script> |\n| --- |\n| <b onclick=x> |",
            "<!-- </body>",
            "<https://x.org/<script>>",
        ] {
            for html in [render_markdown(text), render_typed_text(text)] {
                for markup in [
                    "<script",
                    "<img",
                    "<style",
                    "</div",
                    "<!--",
                    "onclick=\"",
                    "<b ",
                ] {
                    assert!(!html.contains(markup), "{text}: {html}");
                }
            }
        }
    }

    #[test]
    fn user_text_keeps_its_markdown_marks_and_code_blocks() {
        assert_eq!(
            render_typed_text("see __init__ and *x*\n  # y\n```sh\nls <x>\n```\nend"),
            "<p class=\"typed\">see __init__ and *x*\n  # y</p>\n\
             <pre><code data-language=\"sh\">ls &lt;x&gt;\n</code></pre>\n<p class=\"typed\">end</p>\n"
        );
        let pasted = "```Error: no module\n  at x\n```";
        let block = "<pre><code>Error: no module\n  at x\n</code></pre>\n";
        assert_eq!(render_typed_text(pasted), block);
        assert_eq!(render_markdown(pasted), block);
    }
}
