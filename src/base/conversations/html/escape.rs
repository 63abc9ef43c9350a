//! Escapes text for the elements and the attributes of HTML.

use std::fmt::Write as _;

/// Appends text to HTML. Leaves out carriage returns. HTML forbids most other control characters, so they become
/// replacement characters.
pub(crate) fn push_escaped(html: &mut String, text: &str) {
    html.reserve(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\t' => html.push(c),
            '\r' => {}
            c if c.is_control() => html.push('\u{fffd}'),
            c => html.push(c),
        }
    }
}

pub fn escape_html(text: &str) -> String {
    let mut html = String::new();
    push_escaped(&mut html, text);
    html
}

/// Appends text in a span of a CSS class. If the class is empty, appends the text without a span.
pub(super) fn push_span(html: &mut String, class: &str, text: &str) {
    if class.is_empty() {
        push_escaped(html, text);
        return;
    }
    let _ = write!(html, "<span class=\"{class}\">");
    push_escaped(html, text);
    html.push_str("</span>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        assert_eq!(
            escape_html("</script><b a='\"'>&\u{1b}\u{0}\r\n\t"),
            "&lt;/script&gt;&lt;b a=&#39;&quot;&#39;&gt;&amp;\u{fffd}\u{fffd}\n\t"
        );
    }
}
