//! Escapes text for the elements and the attributes of HTML.

use std::fmt::Write as _;

/// Appends text to HTML. Leaves out carriage returns. HTML forbids most other control characters, so they become
/// replacement characters.
pub(crate) fn push_escape_html(page: &mut String, text: &str) {
    page.reserve(text.len());
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            '\n' | '\t' => page.push(c),
            '\r' => {}
            c if c.is_control() => page.push('\u{fffd}'),
            c => page.push(c),
        }
    }
}

pub(crate) fn escape_html(text: &str) -> String {
    let mut html = String::new();
    push_escape_html(&mut html, text);
    html
}

/// Appends text in a span of a CSS class. If the class is empty, appends the text without a span.
pub(super) fn push_span(page: &mut String, class: &str, text: &str) {
    if class.is_empty() {
        push_escape_html(page, text);
        return;
    }
    let _ = write!(page, "<span class=\"{class}\">");
    push_escape_html(page, text);
    page.push_str("</span>");
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
