//! Classifies names in a replicated folder: conflict files and placeholders of cloud clients, and scratch
//! files.
//!
//! Names of conversations have a strict grammar, so any addition by a client is recognized. Conflict files
//! of other names are recognized by the table `cloud_clients.txt`.

use crate::io::temp_name::TEMP_PREFIX;
use crate::sync::rollouts;
use regex::bytes::Regex;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The reason not to sync a file whose name looks like that of a client's copy.
pub(crate) const LOOKS_LIKE_COPY: &str =
    "looks like a copy that a cloud client made; it is not synced";

/// The class of a path in the cloud folder. Paths are relative, with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CloudName {
    /// A name that no client has changed.
    Plain,
    /// A temporary or internal file of a client, an operating system or this program.
    Scratch,
    /// A placeholder for the file at this path, which is not downloaded.
    Placeholder(String),
    /// A client's conflict file for the conversation or line-based file at this path. It may be the only file that has
    /// its lines.
    ClientCopy(String),
    /// A client's conflict file for a plain file. Such a conflict file is reported and left unchanged.
    OtherCopy,
}

pub(crate) fn classify(path: &str) -> CloudName {
    // Nearly all files have such a path. For them, the checks below would take most of the time of a scan.
    if rollouts::is_dated_rollout_path(path) {
        return CloudName::Plain;
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let join_folder = |name: &str| rollouts::join(folder, name);
    // Checked first: `._a.md.icloud` is the placeholder of `_a.md`, not a companion file of macOS.
    if let Some(original) = placeholder_target(name) {
        return CloudName::Placeholder(join_folder(&original));
    }
    if is_scratch(path) {
        return CloudName::Scratch;
    }

    let original = if rollouts::is_below_sessions(path) {
        match_conversation(name)
    } else if folder.is_empty() {
        match_line_file(name).map(str::to_owned)
    } else {
        None
    };
    match original {
        Some(original) if original == name => CloudName::Plain,
        Some(original) => CloudName::ClientCopy(join_folder(&original)),
        None if path.split('/').any(is_conflict_copy) => CloudName::OtherCopy,
        None => CloudName::Plain,
    }
}

/// Names that operating systems and clients create in any folder, in lower case.
const SYSTEM_NAMES: &[&str] = &[
    ".stfolder",
    ".stignore",
    ".stversions",
    ".dropbox",
    ".dropbox.attr",
    ".dropbox.cache",
    ".tmp.driveupload",
    ".tmp.drivedownload",
    ".ds_store",
    ".owncloudsync.log",
    ".nextcloudsync.log",
    "desktop.ini",
    "thumbs.db",
];

/// Returns true if the file, or a folder above it, is [`CloudName::Scratch`].
pub(crate) fn is_scratch(path: &str) -> bool {
    path.split('/').any(is_scratch_name)
}

/// Returns true for a name of [`SYSTEM_NAMES`], and for names that this program, cloud clients and other programs give
/// to temp files. Letter case does not matter.
fn is_scratch_name(name: &str) -> bool {
    let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };

    // The first character decides which checks are needed.
    match name.as_bytes().first() {
        Some(b'.') => {
            let prefixes = [".codex-manager", ".~", "._", ".sync_", ".syncthing."];
            SYSTEM_NAMES.contains(&&*name)
                || prefixes.iter().any(|prefix| name.starts_with(prefix))
                || is_nextcloud_download(&name)
                || is_unison_temp(&name)
        }
        Some(b'~') => name.starts_with("~$") || name.starts_with("~syncthing~"),
        _ => {
            let suffixes = [".partial", ".crdownload", ".filepart", ".part"];
            SYSTEM_NAMES.contains(&&*name) || suffixes.iter().any(|suffix| name.ends_with(suffix))
        }
    }
}

/// Returns true if a system or client certainly created the scratch file at `path`: the file has one of their names, or
/// is the companion that macOS creates beside a file on disks without extended attributes.
pub(crate) fn is_junk(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(original) = name.strip_prefix("._") {
        return path.with_file_name(original).exists();
    }
    let lower = name.to_ascii_lowercase();
    let prefixes = [TEMP_PREFIX, ".syncthing.", "~syncthing~"];
    SYSTEM_NAMES.contains(&&*lower)
        || prefixes.iter().any(|prefix| lower.starts_with(prefix))
        || is_unison_temp(&lower)
}

/// Matches `.unison.NAME.<hash>.unison.tmp`, the copy of a file or folder in progress.
fn is_unison_temp(name: &str) -> bool {
    name.starts_with(".unison.") && name.ends_with(".unison.tmp")
}

/// Matches `.NAME.~1a2b3c4d`, a download in progress.
fn is_nextcloud_download(name: &str) -> bool {
    name.rsplit_once(".~")
        .is_some_and(|(_, hex)| hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Returns the name of the file that a placeholder of this name stands for: `.NAME.icloud` of iCloud Drive before macOS
/// 14, virtual files of Nextcloud and ownCloud. `None` for other names.
pub(crate) fn placeholder_target(name: &str) -> Option<String> {
    let hidden_name = name.strip_prefix('.');
    if let Some(target) = hidden_name.and_then(|name| name.strip_suffix(".icloud")) {
        // `._.NAME.icloud` is the companion file of a placeholder.
        let is_placeholder = !target.is_empty() && !target.starts_with("_.");
        return is_placeholder.then(|| target.to_owned());
    }
    [".nextcloud", ".owncloud"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .filter(|target| !target.is_empty())
        .map(str::to_owned)
}

/// Returns the possible placeholders of the file at `path`.
pub(crate) fn possible_placeholders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let names = [
        format!(".{name}.icloud"),
        format!("{name}.nextcloud"),
        format!("{name}.owncloud"),
    ];
    names.into_iter().map(|name| path.with_file_name(name))
}

/// Returns the file name of the conversation to which `name` belongs: `name` itself, or the original of a client's
/// copy. `None` unless `name` begins with the stem of a conversation.
fn match_conversation(name: &str) -> Option<String> {
    let stem = rollouts::parse_stem(name)?;
    let suffix = &name[stem.len()..];
    let compressed = if suffix.contains(".zst") { ".zst" } else { "" };
    Some(format!("{stem}.jsonl{compressed}"))
}

/// Returns `history.jsonl` or `session_index.jsonl` if `name` is that file or a client's copy of it; `None` for other
/// names.
fn match_line_file(name: &str) -> Option<&'static str> {
    let mut file_names = ["history.jsonl", "session_index.jsonl"].into_iter();
    file_names.find(|file_name| {
        *file_name == name || is_copy_of_line_file(name, file_name.trim_end_matches(".jsonl"))
    })
}

/// Returns true if `name` is that of a client's copy of the file `<stem>.jsonl`.
fn is_copy_of_line_file(name: &str, stem: &str) -> bool {
    let suffix = name.strip_prefix(stem).unwrap_or_default();
    // `history.jsonl.conflict1`
    let has_mark_at_end = suffix.starts_with(".jsonl.conflict")
        || (suffix.starts_with(".jsonl.") && is_conflict_copy(name));
    // `history (1).jsonl`
    let mark_before_extension = suffix.strip_suffix(".jsonl").unwrap_or_default();
    has_mark_at_end || mark_before_extension.starts_with([' ', '(', '-', '_', '.', '['])
}

/// Guesses the path of the original from the name of a copy: `NAME (1).EXT`, `NAME 2.EXT`, `NAME-COMPUTER.EXT`, and
/// `NAME.EXT.WORD1`, `NAME.WORD1.EXT` of `rclone --conflict-suffix WORD`. Users name files like that too, so a match
/// alone proves nothing.
pub(crate) fn guess_original(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    // The extension has its dot, or is empty.
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    if is_numbered_word(extension.trim_start_matches('.')) {
        // rclone also writes two dots: `NAME.EXT..path1`.
        return Some(rollouts::join(folder, stem.trim_end_matches('.')));
    }

    let original = strip_numbered_word(stem)
        .or_else(|| strip_number(stem))
        .or_else(|| strip_computer(stem))?;
    Some(rollouts::join(folder, &format!("{original}{extension}")))
}

fn strip_numbered_word(stem: &str) -> Option<&str> {
    let (original, word) = stem.rsplit_once('.')?;
    let has_mark = is_numbered_word(word) && !original.is_empty();
    has_mark.then(|| original.trim_end_matches('.'))
}

fn strip_number(stem: &str) -> Option<&str> {
    let (original, number) = stem.rsplit_once(' ')?;
    let in_parentheses = number.strip_prefix('(').and_then(|n| n.strip_suffix(')'));
    let number = in_parentheses.unwrap_or(number);
    let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    (is_number && !original.is_empty()).then_some(original)
}

fn strip_computer(stem: &str) -> Option<&str> {
    let is_computer_byte = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
    let dashes = stem.match_indices('-').map(|(dash, _)| dash);
    let mut splits = dashes.map(|dash| (&stem[..dash], &stem[dash + 1..]));
    // Names of computers have at most 15 characters; words of fewer than 4 are common in names of files.
    let split = splits.find(|(original, computer)| {
        !original.is_empty()
            && (4..=15).contains(&computer.len())
            && computer.bytes().all(is_computer_byte)
            && computer.bytes().any(|b| b.is_ascii_uppercase())
    });
    split.map(|(original, _)| original)
}

/// Returns true if a suffix may come from `rclone --conflict-suffix`: a word and a number of at most two digits, unlike
/// `sha256`.
fn is_numbered_word(suffix: &str) -> bool {
    let word = suffix.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = suffix.len() - word.len();
    let is_word_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=2).contains(&digits)
        && word.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && word.bytes().all(is_word_byte)
}

/// Returns the rows of `cloud_clients.txt`: client, pattern, example.
fn parse_client_table() -> impl Iterator<Item = Vec<&'static str>> {
    let lines = include_str!("cloud_clients.txt").lines();
    let rows = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| {
        let cells = row.split("  ").map(str::trim);
        cells.filter(|cell| !cell.is_empty()).collect()
    })
}

/// Returns true if the name matches a conflict pattern of a known client.
fn is_conflict_copy(name: &str) -> bool {
    // A test compiles all patterns of the table, so the regex is never `None`.
    static PATTERNS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let patterns = parse_client_table().filter_map(|row| row.get(1).copied());
        let patterns: Vec<_> = patterns.collect();
        Regex::new(&format!("(?i-u){}", patterns.join("|"))).ok()
    });
    let patterns = PATTERNS.as_ref();
    patterns.is_some_and(|patterns| patterns.is_match(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_a_pattern_that_its_example_in_the_docs_matches() {
        let docs = include_str!("../../../docs/sync-protocol.md");
        for row in parse_client_table() {
            let [client, pattern, example] = row[..] else {
                panic!("{row:?}");
            };
            let pattern = Regex::new(&format!("(?i-u){pattern}")).unwrap();
            assert!(pattern.is_match(example.as_bytes()), "{row:?}");
            assert_eq!(classify(&format!("skills/{example}")), CloudName::OtherCopy);
            let cells = format!("| {client} | `{example}` |");
            assert!(
                docs.contains(&cells),
                "docs/sync-protocol.md has no {cells}"
            );
        }
    }

    const STEM: &str = "rollout-2026-11-18T10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";

    #[test]
    fn every_clients_conflict_file_of_a_conversation_is_recognized() {
        let folder = "sessions/2026/11/18";
        for tail in [
            ".sync-conflict-20261118-101010-ABCDEF7.jsonl",
            ".sync-conflict-20261118-101010.jsonl",
            " (Bob's conflicted copy 2026-11-18).jsonl",
            " (conflicted copy 2026-11-18 101010).jsonl",
            " (충돌된 사본 2026-11-18).jsonl",
            " (Case Conflict).jsonl",
            "-DESKTOP-AB12CDE.jsonl",
            "-laptop-safeBackup-0001.jsonl",
            " (1).jsonl",
            "_conf(1).jsonl",
            " 2.jsonl",
            "_conflict-20261118-101010.jsonl",
            " (SFConflict bob@x.com 2026-11-18-10-10-10).jsonl",
            "-NSConflict.jsonl",
            ".jsonl.conflict1",
            ".jsonl..path1",
            ".conflict2.jsonl",
            ".laptop1.jsonl",
            ".jsonl.laptop1",
            " (bob@x.com).jsonl",
        ] {
            assert_eq!(
                classify(&format!("{folder}/{STEM}{tail}")),
                CloudName::ClientCopy(format!("{folder}/{STEM}.jsonl")),
                "{tail}"
            );
        }
        let packed = format!("archived_sessions/{STEM}.jsonl (1).zst");
        let real = format!("archived_sessions/{STEM}.jsonl.zst");
        assert_eq!(classify(&packed), CloudName::ClientCopy(real.clone()));
        assert_eq!(classify(&real), CloudName::Plain);
    }

    #[test]
    fn conflict_files_of_line_files_are_recognized() {
        for (name, real) in [
            ("history (1).jsonl", "history.jsonl"),
            ("history-LAPTOP.jsonl", "history.jsonl"),
            (
                "history.sync-conflict-20261118-101010-ABCDEF7.jsonl",
                "history.jsonl",
            ),
            ("session_index 2.jsonl", "session_index.jsonl"),
            ("session_index.jsonl.conflict2", "session_index.jsonl"),
            ("history.jsonl..path1", "history.jsonl"),
            ("history.jsonl.path2", "history.jsonl"),
            ("history.conflict1.jsonl", "history.jsonl"),
            ("history.jsonl.2026-11-18-conflict1", "history.jsonl"),
        ] {
            assert_eq!(classify(name), CloudName::ClientCopy(real.into()), "{name}");
        }
        assert_eq!(classify("history.jsonl"), CloudName::Plain);
        assert_eq!(classify("historybook.jsonl"), CloudName::Plain);
        assert_eq!(classify("history.jsonl.bak1"), CloudName::Plain);
        assert_eq!(classify("skills/history (1).jsonl"), CloudName::Plain);
    }

    #[test]
    fn scratch_files_of_clients_are_recognized() {
        for path in [
            ".stversions/history~20261118-101010.jsonl",
            "sessions/.syncthing.a.jsonl.tmp",
            "sessions/~syncthing~a.jsonl.tmp",
            ".dropbox.cache/x",
            ".tmp.drivedownload/1",
            "skills/.x.md.~1a2b3c4d",
            "skills/Desktop.ini",
            "a.partial",
            "skills/.unison.mine.2a1b3c.unison.tmp/SKILL.md",
            ".unison.history.jsonl.2a1b3c.unison.tmp",
            ".codex-manager/forks/x",
        ] {
            assert_eq!(classify(path), CloudName::Scratch, "{path}");
        }
    }

    #[test]
    fn placeholders_name_the_file_that_is_not_downloaded() {
        for (path, real) in [
            ("skills/.a.md.icloud", "skills/a.md"),
            ("history.jsonl.nextcloud", "history.jsonl"),
            ("skills/._a.md.icloud", "skills/_a.md"),
        ] {
            assert_eq!(
                classify(path),
                CloudName::Placeholder(real.into()),
                "{path}"
            );
            assert!(
                possible_placeholders(Path::new(real))
                    .any(|placeholder_target| placeholder_target == Path::new(path))
            );
        }
    }

    #[test]
    fn the_possible_original_of_a_doubtful_conflict_file_is_guessed() {
        for (path, real) in [
            ("skills/a (1).md", Some("skills/a.md")),
            ("skills/a 2.md", Some("skills/a.md")),
            ("skills/a-DESKTOP-AB12.md", Some("skills/a.md")),
            ("skills/a.md.laptop1", Some("skills/a.md")),
            ("skills/a.laptop2.md", Some("skills/a.md")),
            ("skills/a-b.md", None),
            ("skills/a.md.sha256", None),
            ("skills/a.1", None),
            ("skills/a b.md", None),
            ("skills/ (1).md", None),
            ("my skills/a-DESKTOP-AB12.md", Some("my skills/a.md")),
            ("my skills/a (1).md", Some("my skills/a.md")),
            (
                "skills/my notes-DESKTOP-AB12.md",
                Some("skills/my notes.md"),
            ),
            ("x (12)", Some("x")),
        ] {
            assert_eq!(guess_original(path).as_deref(), real, "{path}");
        }
    }

    #[test]
    fn unmistakable_names_are_those_of_conflict_files_and_doubtful_ones_of_plain_files() {
        for path in [
            "skills/a (Bob's conflicted copy 2026-11-18).md",
            "skills (Selective Sync Conflict)/a.md",
            "skills/a_conflict-20261118-101010.md",
            "skills/a (case clash from bob).md",
            "skills/a.md.conflict1",
            "skills/a.conflict1.md",
            "skills/a.md..path1",
            "skills/a.md.path2",
            "skills/a..path2.md",
            "skills/a.md.2026-11-18-conflict1",
            "skills/mine.conflict1/SKILL.md",
        ] {
            assert_eq!(classify(path), CloudName::OtherCopy, "{path}");
        }
        for path in [
            "skills/notes (1).md",
            "skills/notes 2.md",
            "skills/conflict.md",
            "skills/conflict1.md",
            "skills/.conflict1",
            "skills/path1.md",
            "skills/a.path3",
            "skills/a.md.laptop1",
        ] {
            assert_eq!(classify(path), CloudName::Plain, "{path}");
        }
    }
}
