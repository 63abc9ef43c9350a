//! Names of archives and their sidecars.
//!
//! `yyyy-mm-dd-hhmmss-<email>-codex.tar.gz`, with `-2`, `-3`, … behind the email for further
//! archives of one window. Once metadata exists, it is the truth: nothing is parsed out of a name.

use crate::io::clock::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::path::{Path, PathBuf};

/// The end of every archive's name.
pub const ARCHIVE_SUFFIX: &str = "-codex.tar.gz";

/// The end of every sidecar's name.
pub const SIDECAR_SUFFIX: &str = "-codex.metadata.json";

/// The label of a home without a login.
pub const SIGNED_OUT: &str = "signed-out";

/// What may not stand in a file name on some system, and `%` itself so that it can be undone.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b'/')
    .add(b'\\')
    .add(b':')
    .add(b'*')
    .add(b'?')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'|')
    .add(b'%')
    .add(b' ');

/// The longest label in a name; longer ones are cut. File systems allow 255 bytes a name.
const MAX_LABEL_BYTES: usize = 160;

/// The first part of an archive's name: without number and suffix.
///
/// `at` is shown with its own offset: the local wall clock.
pub fn stem(at: &Timestamp, label: &str) -> String {
    format!("{}-{}", at.format("%Y-%m-%d-%H%M%S"), safe_label(label))
}

/// The archive's name of a stem: `number` 1 has none in it.
pub fn archive_name(stem: &str, number: u32) -> String {
    if number <= 1 {
        format!("{stem}{ARCHIVE_SUFFIX}")
    } else {
        format!("{stem}-{number}{ARCHIVE_SUFFIX}")
    }
}

/// An archive's name without its suffix: what [`archive_name`] may number.
pub fn stem_of_name(archive_name: &str) -> &str {
    archive_name
        .strip_suffix(ARCHIVE_SUFFIX)
        .unwrap_or(archive_name)
}

/// The sidecar's name of an archive's name, if that is one of ours.
pub fn sidecar_name(archive_name: &str) -> Option<String> {
    archive_name
        .strip_suffix(".tar.gz")
        .map(|base| format!("{base}.metadata.json"))
}

/// The sidecar's path beside an archive.
pub fn sidecar_path(archive: &Path) -> Option<PathBuf> {
    let name = archive.file_name()?.to_str()?;
    Some(archive.with_file_name(sidecar_name(name)?))
}

/// Whether `name` has the form of an archive's name:
/// `^\d{4}-\d{2}-\d{2}-\d{6}-.+-codex\.tar\.gz$`.
pub fn is_archive_name(name: &str) -> bool {
    has_pattern(name, ARCHIVE_SUFFIX)
}

/// Whether `name` has the form of a sidecar's name.
pub fn is_sidecar_name(name: &str) -> bool {
    has_pattern(name, SIDECAR_SUFFIX)
}

fn has_pattern(name: &str, suffix: &str) -> bool {
    let Some(rest) = name.strip_suffix(suffix) else {
        return false;
    };
    let bytes = rest.as_bytes();
    bytes.len() > 18
        && bytes[..18].iter().enumerate().all(|(i, b)| match i {
            4 | 7 | 10 | 17 => *b == b'-',
            _ => b.is_ascii_digit(),
        })
}

/// A label as it can stand in a file name: unsafe characters percent-encoded, never empty, never a
/// leading dot or dash, bounded in length.
pub fn safe_label(label: &str) -> String {
    let mut safe = utf8_percent_encode(label, UNSAFE).to_string();
    // percent-encoding turns all that is not ASCII into escapes; letters of other scripts are safe
    // in file names and are kept readable.
    if !label.is_ascii() {
        safe = label
            .chars()
            .map(|c| {
                if c.is_ascii() || c.is_control() || !c.is_alphanumeric() {
                    utf8_percent_encode(c.encode_utf8(&mut [0; 4]), UNSAFE).to_string()
                } else {
                    c.to_string()
                }
            })
            .collect();
    }
    if let Some(first) = safe.bytes().next().filter(|b| *b == b'.' || *b == b'-') {
        safe = format!("%{first:02X}{}", &safe[1..]);
    }
    if safe.len() > MAX_LABEL_BYTES {
        let mut end = MAX_LABEL_BYTES;
        while !safe.is_char_boundary(end)
            || safe.as_bytes()[end.saturating_sub(2)..end].contains(&b'%')
        {
            end -= 1;
        }
        safe.truncate(end);
    }
    if safe.is_empty() {
        SIGNED_OUT.into()
    } else {
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_from_rfc3339(text).unwrap()
    }

    #[test]
    fn the_worked_example_has_its_name() {
        let stem = stem(&at("2026-04-14T15:55:00+05:30"), "drdpsbose023@gmail.com");
        assert_eq!(
            archive_name(&stem, 1),
            "2026-04-14-155500-drdpsbose023@gmail.com-codex.tar.gz"
        );
        assert_eq!(
            archive_name(&stem, 3),
            "2026-04-14-155500-drdpsbose023@gmail.com-3-codex.tar.gz"
        );
    }

    #[test]
    fn hostile_labels_stay_in_the_folder() {
        for label in [
            "../../etc/x@y",
            "a/b@x.com",
            ".hidden",
            "-rf",
            "a\nb",
            "",
            "..",
            "%2e%2e",
        ] {
            let name = archive_name(&stem(&at("2026-04-14T15:55:00Z"), label), 1);
            assert!(!name.contains('/') && !name.contains('\n'), "{name}");
            assert!(is_archive_name(&name), "{name}");
        }
        let long = archive_name(&stem(&at("2026-04-14T15:55:00Z"), &"é".repeat(400)), 12);
        assert!(long.len() < 255, "{}", long.len());
    }

    #[test]
    fn only_our_form_is_an_archive_name() {
        assert!(is_archive_name("2026-04-14-155500-a@b.c-codex.tar.gz"));
        assert!(!is_archive_name("alice@example.com-latest-codex.tar.gz"));
        assert!(!is_archive_name("2026-04-14-155500--codex.tar.gz"));
        assert!(!is_archive_name("2026-04-14-15550-a@b.c-codex.tar.gz"));
    }
}
