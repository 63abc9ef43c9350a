//! File names of archives and their sidecars.
//!
//! The pattern is `yyyy-mm-dd-hhmmss-<email>-codex.tar.gz`. Further archives of the same weekly
//! window have `-2`, `-3`, … after the email. The metadata inside an archive is authoritative: no
//! information is parsed out of a name.

use crate::io::clock::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::path::{Path, PathBuf};

/// Suffix of the name of every archive that this program creates.
pub const ARCHIVE_SUFFIX: &str = "-codex.tar.gz";

/// Suffix of the name of every sidecar that this program creates.
pub(crate) const SIDECAR_SUFFIX: &str = "-codex.metadata.json";

/// The label of a home without a login.
pub const SIGNED_OUT: &str = "signed-out";

/// Characters that some system forbids in file names, and `%`, which makes the encoding reversible.
const UNSAFE_CHARACTERS: &AsciiSet = &CONTROLS
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

/// Maximum length of an encoded label in a file name. Longer labels are cut, because file systems
/// limit a name to 255 bytes.
const MAX_LABEL_BYTES: usize = 160;

/// Returns the first part of an archive's name, without the number and the suffix. The name has the local time of `at`,
/// in the zone offset of `at`.
pub fn stem(at: &Timestamp, label: &str) -> String {
    format!("{}-{}", at.format("%Y-%m-%d-%H%M%S"), encode_label(label))
}

/// Returns the file name of the archive with this number. The name of archive 1 has no number.
pub fn archive_name(stem: &str, number: u32) -> String {
    if number <= 1 {
        format!("{stem}{ARCHIVE_SUFFIX}")
    } else {
        format!("{stem}-{number}{ARCHIVE_SUFFIX}")
    }
}

/// Returns an archive's name without its suffix, so that [`archive_name`] can number it.
pub fn strip_archive_suffix(archive_name: &str) -> &str {
    archive_name
        .strip_suffix(ARCHIVE_SUFFIX)
        .unwrap_or(archive_name)
}

/// Returns the name of an archive's sidecar, or `None` if the archive's name does not end in
/// `.tar.gz`.
pub fn sidecar_name(archive_name: &str) -> Option<String> {
    archive_name
        .strip_suffix(".tar.gz")
        .map(|base| format!("{base}.metadata.json"))
}

/// Returns the path of an archive's sidecar, in the same folder; `None` if the archive's name does not end in
/// `.tar.gz`.
pub fn sidecar_path(archive: &Path) -> Option<PathBuf> {
    let name = archive.file_name()?.to_str()?;
    Some(archive.with_file_name(sidecar_name(name)?))
}

/// Returns true if `name` matches `^\d{4}-\d{2}-\d{2}-\d{6}-.+-codex\.tar\.gz$`.
pub fn is_archive_name(name: &str) -> bool {
    has_archive_pattern(name, ARCHIVE_SUFFIX)
}

/// Returns true if `name` is an archive's name with `.metadata.json` instead of `.tar.gz`.
pub fn is_sidecar_name(name: &str) -> bool {
    has_archive_pattern(name, SIDECAR_SUFFIX)
}

fn has_archive_pattern(name: &str, suffix: &str) -> bool {
    const DATE_AND_TIME: &str = "yyyy-mm-dd-hhmmss-";
    // The date may be impossible, because no code reads it.
    let fits = |(byte, pattern): (u8, u8)| match pattern {
        b'-' => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    name.strip_suffix(suffix).is_some_and(|stem| {
        let mut pairs = stem.bytes().zip(DATE_AND_TIME.bytes());
        stem.len() > DATE_AND_TIME.len() && pairs.all(fits)
    })
}

/// Returns `label` as part of a file name: unsafe characters are percent-encoded. The result has no leading dot or
/// dash, and at most [`MAX_LABEL_BYTES`] bytes. An empty label becomes [`SIGNED_OUT`].
pub fn encode_label(label: &str) -> String {
    // utf8_percent_encode escapes everything beyond ASCII. Letters of other scripts are safe in
    // file names and stay readable.
    let encode_char = |c: char| {
        if c.is_ascii() || !c.is_alphanumeric() {
            utf8_percent_encode(c.encode_utf8(&mut [0; 4]), UNSAFE_CHARACTERS).to_string()
        } else {
            c.to_string()
        }
    };
    let mut encoded: String = label.chars().map(encode_char).collect();

    if let Some(first) = encoded.bytes().next().filter(|b| *b == b'.' || *b == b'-') {
        encoded = format!("%{first:02X}{}", &encoded[1..]);
    }

    if encoded.len() > MAX_LABEL_BYTES {
        let mut cut = MAX_LABEL_BYTES;
        // The cut must not split a character or an escape such as `%2F`.
        while !encoded.is_char_boundary(cut)
            || encoded.as_bytes()[cut.saturating_sub(2)..cut].contains(&b'%')
        {
            cut -= 1;
        }
        encoded.truncate(cut);
    }

    if encoded.is_empty() {
        SIGNED_OUT.into()
    } else {
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_from_rfc3339(text).unwrap()
    }

    #[test]
    fn archive_name_matches_documented_example() {
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
    fn hostile_labels_cannot_leave_the_folder() {
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
    fn archive_names_need_a_complete_date_and_a_label() {
        assert!(is_archive_name("2026-04-14-155500-a@b.c-codex.tar.gz"));
        assert!(!is_archive_name("alice@example.com-latest-codex.tar.gz"));
        assert!(!is_archive_name("2026-04-14-155500--codex.tar.gz"));
        assert!(!is_archive_name("2026-04-14-15550-a@b.c-codex.tar.gz"));
    }
}
