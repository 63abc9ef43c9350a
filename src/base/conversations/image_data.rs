//! Images that a rollout has as data URLs.

/// The kinds of images that a page shows. SVG is not one of them, because it may contain scripts and links.
const SHOWN_KINDS: [&str; 4] = ["png", "jpeg", "gif", "webp"];

/// Returns the kind and the base64 text of the image in a data URL. `None` for another URL or another kind of image.
pub(super) fn parse_data_url(url: &str) -> Option<(&'static str, &str)> {
    let (kind, data) = url.strip_prefix("data:image/")?.split_once(";base64,")?;
    let kind = SHOWN_KINDS
        .into_iter()
        .find(|shown_kind| *shown_kind == kind)?;
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    data.bytes().all(is_base64).then_some((kind, data))
}
