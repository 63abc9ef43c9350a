//! Detects incomplete, truncated and zero-filled files by their content. Memory use is constant.
//!
//! A power cut and a cloud client leave such files: `sync` does not copy them over good ones, and `backup` and `doctor`
//! name those that hold texts of the user.

use super::home::{HomeEntryKind, USER_TEXTS, kind_of};
use super::rollout;
use crate::io::{file_open, position};
use serde::de::IgnoredAny;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Number of bytes at each end of a file that are checked for the traces of a crash or an incomplete download.
const END_BYTES: u64 = 512;
/// Number of zeros at the end of a file that indicate damage. A complete binary file may end in fewer.
const DAMAGE_ZEROS: usize = 64;
/// The largest TOML file that is parsed to check whether it is complete.
const MAX_PARSED_TOML_BYTES: u64 = 1024 * 1024;
/// The extensions of texts in the folders of the user, which can also have programs, pictures and fonts.
const TEXT_EXTENSIONS: [&str; 9] = [
    "json", "jsonl", "md", "mdx", "rules", "toml", "txt", "yaml", "yml",
];
/// The reason for a text with zeros, as a clause.
const ZEROS_FOR_TEXT: &str = "has zeros where its text was";

/// Returns true if [`find_text_damage`] judges the file at this path of a home.
pub fn is_judged(relative: &Path) -> bool {
    let top = relative.components().next();
    let is_text = relative.parent() == Some(Path::new(""))
        || relative
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|extension| TEXT_EXTENSIONS.contains(&extension));
    is_text && top.is_some_and(|top| USER_TEXTS.iter().any(|name| top.as_os_str() == *name))
}

/// Returns the reason why a text of the user looks damaged, as a clause; `None` if it looks complete, is empty, or is no
/// such text. `relative` is its path in the home, `path` the file to read.
///
/// # Errors
/// The file cannot be read.
pub fn find_text_damage(relative: &Path, path: &Path) -> io::Result<Option<&'static str>> {
    if !is_judged(relative) {
        return Ok(None);
    }
    let kind = kind_of(relative);
    let has_lines = matches!(kind, HomeEntryKind::History | HomeEntryKind::SessionIndex);
    if is_zero_filled(path, has_lines, SearchedPart::Whole)? {
        return Ok(Some(ZEROS_FOR_TEXT));
    }
    if has_lines {
        find_defect(path, has_lines)
    } else {
        find_truncation(path)
    }
}

/// The part of a file that is searched for zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchedPart {
    /// The first and the last [`END_BYTES`].
    Ends,
    /// All bytes of a file of lines; the ends of other files.
    Whole,
}

/// The first and the last bytes of a file, at most [`END_BYTES`] each.
struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Size of the whole file.
    size: u64,
}

impl Ends {
    fn read(file: &File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let end_len = size.min(END_BYTES);
        let mut head = vec![0; usize::try_from(end_len).unwrap_or(0)];
        let mut tail = head.clone();
        position::read_exact_at(file, &mut head, 0)?;
        position::read_exact_at(file, &mut tail, size - end_len)?;
        Ok(Self { head, tail, size })
    }
}

fn count_trailing_zeros(bytes: &[u8]) -> usize {
    bytes.iter().rev().take_while(|b| **b == 0).count()
}

/// Returns the reason why a file looks incomplete, as a clause; `None` if the file looks complete or is empty.
///
/// A crash leaves zeros at the end, and so does a cloud client that allocates the space of a file first. An incomplete
/// file of lines ends within a line; an incomplete compressed file cannot be decompressed.
pub fn find_defect(path: &Path, has_lines: bool) -> io::Result<Option<&'static str>> {
    let Ends { head, tail, size } = Ends::read(&file_open::open(path)?)?;
    if size == 0 {
        return Ok(None);
    }

    let end_zeros = count_trailing_zeros(&tail);
    let is_plain_lines = has_lines && !is_zstd(&head);
    if end_zeros >= DAMAGE_ZEROS || end_zeros == tail.len() || (is_plain_lines && end_zeros > 0) {
        return Ok(Some("ends in zero bytes"));
    }

    if is_plain_lines {
        let is_cut = tail.last() != Some(&b'\n');
        return Ok(is_cut.then_some("ends in the middle of a line"));
    }
    let decompress = || io::copy(&mut *rollout::open_plain(path)?, &mut io::sink());
    let is_unreadable = has_lines && decompress().is_err();
    Ok(is_unreadable.then_some("cannot be decompressed"))
}

/// Returns true if zero bytes have replaced text of the file, as after a power cut or an incomplete download:
/// - any file: both ends are only zeros;
/// - uncompressed lines: a zero byte is in the first bytes, at the very end or, with [`SearchedPart::Whole`], anywhere: a
///   line never has one;
/// - any other text: it ends in many zeros. Binary and compressed files may end in zeros.
pub fn is_zero_filled(path: &Path, has_lines: bool, part: SearchedPart) -> io::Result<bool> {
    let mut file = file_open::open(path)?;
    let Ends { head, tail, size } = Ends::read(&file)?;
    if size == 0 {
        return Ok(false);
    }

    let end_zeros = count_trailing_zeros(&tail);
    if end_zeros == tail.len() && head.iter().all(|b| *b == 0) {
        return Ok(true);
    }

    if has_lines {
        if is_zstd(&head) {
            return Ok(false);
        }
        let is_whole = part == SearchedPart::Whole;
        let has_zero_at_ends = end_zeros > 0 || head.contains(&0);
        return Ok(has_zero_at_ends || (is_whole && has_zero_run(&mut file, 1)?));
    }

    let text_len = head.len() - count_trailing_zeros(&head);
    // A binary file, such as a tar archive, may end in zeros.
    let is_text = !head[..text_len].contains(&0);
    // In a short file, zeros in half of the tail are enough.
    Ok(is_text && (end_zeros >= DAMAGE_ZEROS || end_zeros * 2 >= tail.len()))
}

/// Returns true if the file has `min_len` consecutive zero bytes after its current position.
fn has_zero_run(file: &mut File, min_len: usize) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    let mut run_len = 0;
    loop {
        let read_bytes = file.read(&mut buffer)?;
        if read_bytes == 0 {
            return Ok(false);
        }
        for byte in &buffer[..read_bytes] {
            run_len = if *byte == 0 { run_len + 1 } else { 0 };
            if run_len == min_len {
                return Ok(true);
            }
        }
    }
}

/// Returns the reason why a plain file looks truncated, as a clause; `None` if the file looks complete, is empty or is
/// not a text. A truncated text has a sector of zeros, a partial character at the end, no final newline at a block
/// boundary, or an unterminated JSON or TOML value. These signs are needed while no machine has published the digest of
/// the complete file.
pub fn find_truncation(path: &Path) -> io::Result<Option<&'static str>> {
    const BLOCK: u64 = 4096;
    /// A missing sector reads as zeros.
    const SECTOR: usize = 512;

    let mut file = file_open::open(path)?;
    let Ends { head, tail, size } = Ends::read(&file)?;
    if size == 0 || !is_text(&head) {
        return Ok(None);
    }

    if has_zero_run(&mut file, SECTOR)? {
        return Ok(Some(ZEROS_FOR_TEXT));
    }

    // The tail may begin within a character, with at most three bytes of its end (0b10xxxxxx).
    let partial_char = tail.iter().take(3).take_while(|b| **b & 0xc0 == 0x80);
    let tail_text = std::str::from_utf8(&tail[partial_char.count()..]);
    // An error without a length is at the end of the text, so the file ends within a character.
    if tail_text.is_err_and(|e| e.error_len().is_none()) {
        return Ok(Some("ends in the middle of a character"));
    }

    // A complete text may lack the final newline, but rarely ends at the end of a block.
    let has_final_newline = tail.last() == Some(&b'\n');
    if !has_final_newline && size.is_multiple_of(BLOCK) {
        return Ok(Some("ends in the middle of a line"));
    }

    let has_extension = |extension: &str| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case(extension))
    };
    let is_unterminated = if has_extension("json") {
        let reader = BufReader::new(file_open::open(path)?);
        let value: Result<IgnoredAny, _> = serde_json::from_reader(reader);
        // Other errors are the user's: JSON with comments is complete.
        value.is_err_and(|e| e.is_eof())
    } else if has_extension("toml") && !has_final_newline && size <= MAX_PARSED_TOML_BYTES {
        let text = file_open::read_to_string(path)?;
        text.parse::<toml_edit::DocumentMut>().is_err()
    } else {
        false
    };
    Ok(is_unterminated.then_some("ends in the middle of a value"))
}

/// Returns true if a file with this beginning is a text: UTF-8 without control characters except white space and
/// escape.
fn is_text(head: &[u8]) -> bool {
    const ESCAPE: u8 = 0x1b;
    // An error without a length is a character that the end of `head` cuts.
    let is_invalid = std::str::from_utf8(head).is_err_and(|e| e.error_len().is_some());
    let is_control = |b: &u8| *b < b' ' && !b.is_ascii_whitespace() && *b != ESCAPE;
    !is_invalid && !head.iter().any(is_control)
}

fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(&rollout::ZST_MAGIC)
}

/// Returns true if the file has no zstd header.
pub fn is_uncompressed(file: &File) -> io::Result<bool> {
    Ok(!is_zstd(&Ends::read(file)?.head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn zeros_are_damage_in_texts_but_not_in_binary_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let middle = [
            &b"{}\n".repeat(900)[..],
            &[0; 900],
            b"\n{}\n".repeat(900).as_slice(),
        ]
        .concat();
        let tar = [&b"name\0\0ustar"[..], &[7; 900], &[0; 1024]].concat();
        for (bytes, of_lines, blanked) in [
            (b"{}\n".to_vec(), true, false),
            (b"{}\n\0".to_vec(), true, true),
            (middle, true, true),
            (vec![0; 12], false, true),
            (vec![0; 5000], true, true),
            ([b"text".to_vec(), vec![0; 5000]].concat(), false, true),
            ([b"text".to_vec(), vec![0; 9]].concat(), false, true),
            (tar, false, false),
            (b"binary\0\0".to_vec(), false, false),
            (Vec::new(), true, false),
        ] {
            fs::write(&path, &bytes).unwrap();
            let found = is_zero_filled(&path, of_lines, SearchedPart::Whole).unwrap();
            assert_eq!(found, blanked, "{} {of_lines}", bytes.len());
        }
    }

    #[test]
    fn truncated_texts_are_detected_and_complete_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let hole = [&b"text\n".repeat(200)[..], &[0; 512], b"text\n"].concat();
        let small = [&b"text\n".repeat(200)[..], &[0; 511], b"text\n"].concat();
        for (name, bytes, cut) in [
            ("a.md", b"no newline".to_vec(), false),
            ("a.md", "ä".repeat(400).into_bytes(), false),
            ("a.md", "ä".repeat(400).into_bytes()[..799].to_vec(), true),
            ("a.md", b"x".repeat(4096), true),
            ("a.md", b"x".repeat(4097), false),
            ("a.md", b"1234567\n".repeat(512), false),
            ("a.md", hole, true),
            ("a.md", small, false),
            ("a.md", Vec::new(), false),
            ("a.bin", vec![1; 4096], false),
            ("a.md", vec![0xe4; 4096], false),
            ("a.json", b"{\"a\": [1, 2".to_vec(), true),
            ("a.json", b"{\"a\": [1, 2]}".to_vec(), false),
            ("a.json", b"{ // why\n\"a\": 1}".to_vec(), false),
            ("a.JSON", b"{\"a\"".to_vec(), true),
            ("a.toml", b"a = 1\nb = \"x".to_vec(), true),
            ("a.toml", b"a = 1\nb = 2".to_vec(), false),
            ("a.toml", b"nothing of the kind\n".to_vec(), false),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, &bytes).unwrap();
            let found = find_truncation(&path).unwrap();
            assert_eq!(found.is_some(), cut, "{name} {}: {found:?}", bytes.len());
        }
    }

    #[test]
    fn incomplete_files_are_detected_by_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (bytes, of_lines, is_incomplete) in [
            (b"{}\n{}\n".to_vec(), true, false),
            (b"{}\n{\"a\"".to_vec(), true, true),
            (b"{}\n\0\0".to_vec(), true, true),
            (b"no newline".to_vec(), false, false),
            (vec![0; 10], false, true),
            ([b"x".to_vec(), vec![0; 300]].concat(), false, true),
            (b"binary\0\0".to_vec(), false, false),
            (Vec::new(), true, false),
            (vec![0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3], true, true),
        ] {
            fs::write(&path, &bytes).unwrap();
            let found = find_defect(&path, of_lines).unwrap();
            assert_eq!(found.is_some(), is_incomplete, "{bytes:?}: {found:?}");
        }
    }

    #[test]
    fn texts_of_the_user_are_judged_by_their_kind_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let judge = |relative: &str| find_text_damage(Path::new(relative), &path).unwrap();
        fs::write(&path, "cut off").unwrap();
        assert_eq!(judge("history.jsonl"), Some("ends in the middle of a line"));
        assert_eq!(judge("AGENTS.md"), None);
        fs::write(&path, vec![0; 4096]).unwrap();
        for relative in USER_TEXTS {
            assert_eq!(judge(relative), Some(ZEROS_FOR_TEXT), "{relative}");
        }
        assert_eq!(judge("skills/mine/a/b.md"), Some(ZEROS_FOR_TEXT));
        for relative in [
            "config.toml",
            "auth.json",
            "sessions/x.jsonl",
            "notes.txt",
            "plugins/a/AGENTS.md",
            "x/AGENTS.md",
        ] {
            assert_eq!(judge(relative), None, "{relative}");
        }
    }
}
