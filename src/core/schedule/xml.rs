//! The escaping of text in XML.

/// Escapes `text` for the content of an XML element.
pub(super) fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
