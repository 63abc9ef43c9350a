//! The beginning and the end of an HTML page. Its content security policy forbids browsers to load anything.

use super::escape::escape_html;
use std::fmt::Write as _;

/// The style of all pages, for light and dark displays and for print.
const STYLE: &str = include_str!("page.css");

#[derive(Debug, Clone, Default)]
pub struct PageHead {
    pub title: String,
    /// The names and values in the list below the title.
    pub facts: Vec<(&'static str, String)>,
}

/// Returns the beginning of a page. `more_style` is CSS that follows the style of all pages.
pub fn format_page_start(head: &PageHead, more_style: &str) -> String {
    let title = escape_html(&head.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src &#39;none&#39;; \
         style-src &#39;unsafe-inline&#39;; img-src data:; base-uri &#39;none&#39;; form-action &#39;none&#39;\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{more_style}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n<dl>\n"
    );

    for (name, value) in &head.facts {
        let value = escape_html(value);
        let _ = writeln!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }

    page.push_str("</dl>\n</header>\n<main>\n");
    page
}

/// Returns the end of a page. Its last line shows `note`, unless that is empty.
pub fn format_page_end(note: &str) -> String {
    let mut page = String::from("</main>\n<footer>Exported by codex-manager");
    if !note.is_empty() {
        let _ = write!(page, " · {}", escape_html(note));
    }
    page.push_str("</footer>\n</body>\n</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_facts_and_notes_are_escaped() {
        let head = PageHead {
            title: "</title><script>".into(),
            facts: vec![("Folder", "<b>".into())],
        };
        let page = format_page_start(&head, "") + &format_page_end("<i>");
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<b>") && !page.contains("<i>"), "{page}");
    }
}
