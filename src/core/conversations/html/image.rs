//! Formats the images of an HTML page.

use super::escape::escape_html;
use std::fmt::Write as _;

/// The kinds of images that a page shows. SVG is not one of them, because it may contain scripts and links.
const SHOWN_KINDS: [&str; 4] = ["png", "jpeg", "gif", "webp"];

/// Returns the HTML of an image. If `with_images` is false, or the URL does not contain the data of the image, returns
/// a note instead, because a page never loads anything.
pub(super) fn format_image(url: &str, with_images: bool) -> String {
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
            let note = format!("image, not in the conversation {shown_url}");
            writeln!(
                html,
                "<p class=\"note\">{}</p>",
                escape_html(note.trim_end())
            )
        }
    };
    html
}

/// Returns the kind and the base64 text of the image in a data URL. `None` for another URL or another kind of image.
fn parse_data_url(url: &str) -> Option<(&'static str, &str)> {
    let (kind, data) = url.strip_prefix("data:image/")?.split_once(";base64,")?;
    let kind = SHOWN_KINDS
        .into_iter()
        .find(|shown_kind| *shown_kind == kind)?;
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    data.bytes().all(is_base64).then_some((kind, data))
}

#[cfg(test)]
mod tests {
    use super::*;

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
