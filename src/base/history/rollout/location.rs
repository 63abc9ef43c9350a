//! Finds the rollout at a path from a row of the table `threads`, or from a folder of Codex. Rows and links may come
//! from another person's archive, so only a conversation of the home is opened, except by [`find_resumable_rollout`].

use super::scanner::Scanner;
use super::{SessionMeta, read_head, scan_head};
use crate::codex::rollout::{self, is_plain};
use crate::codex::{ARCHIVED_SESSIONS, RolloutName, SESSIONS, ZST};
use crate::history::id::ConversationId;
use crate::io::OrdinaryPath as _;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The number of bytes of a first line that are examined. Codex writes the keys before the instructions.
const EXAMINED_BYTES: u64 = 4096;

/// Returns the rollout at a path that Codex recorded, if it [is one of the home](resolve_rollout_in_home). The path may
/// name the plain form, and the file be compressed, or the reverse.
pub fn find_recorded_rollout(home: &Path, recorded: &str) -> Option<PathBuf> {
    find_recorded_path(home, recorded).filter(|path| may_be_conversation(path))
}

/// Resolves the links in `path`, and returns the path below `home` if it leads to a rollout in `sessions/` or
/// `archived_sessions/` of the home. The two folders themselves may be links that the user made.
pub fn resolve_rollout_in_home(home: &Path, path: &Path) -> Option<PathBuf> {
    resolve_in_session_folders(home, path).filter(|path| may_be_conversation(path))
}

/// Like [`find_recorded_rollout`], without reading the file.
pub fn find_recorded_path(home: &Path, recorded: &str) -> Option<PathBuf> {
    let is_rollout = |path: &PathBuf| RolloutName::parse(path).is_some() && path.is_file();
    let mut paths = possible_paths(recorded).into_iter().filter(is_rollout);
    paths.find_map(|path| resolve_in_session_folders(home, &path))
}

/// Returns true if a rollout is at a path that Codex recorded, and outside of the folders of the home.
pub fn is_recorded_outside(home: &Path, recorded: &str) -> bool {
    let paths = possible_paths(recorded);
    let mut files = paths.iter().filter(|path| path.is_file());
    files
        .next()
        .is_some_and(|path| resolve_in_session_folders(home, path).is_none())
}

/// Returns the rollout at the path that Codex recorded for the conversation `id`, if Codex can
/// [resume](is_resumable_rollout_of) the conversation from it. Unlike the other functions, also returns a file outside
/// of the home, because Codex reads such rollouts too.
pub fn find_resumable_rollout(home: &Path, recorded: &str, id: &str) -> Option<PathBuf> {
    let mut paths = possible_paths(recorded).into_iter();
    let path = paths.find(|path| path.is_file())?;
    // Resolved before it is read, because files are not opened through the links of an isolated home.
    let path = resolve_in_session_folders(home, &path).unwrap_or(path);
    is_resumable_rollout_of(&path, id).then_some(path)
}

/// Returns true if the rollout at `path` is [of the conversation](is_rollout_of), and all lines up to the metadata can
/// be read. Codex 0.150 and newer fail to resume if they cannot parse the first line, even if the metadata follow it.
pub fn is_resumable_rollout_of(path: &Path, id: &str) -> bool {
    let scan = super::open(path).and_then(|reader| scan_head(reader, Scanner::has_meta));
    scan.is_ok_and(|scan| {
        let is_of_conversation = |meta: SessionMeta| meta.id == ConversationId::of(id);
        scan.bad_lines == 0 && scan.meta.is_some_and(is_of_conversation)
    })
}

/// Returns true if the metadata of the rollout at `path` can be read and name the conversation `id`. Codex 0.150 and
/// newer fail to resume from any other rollout that a row names.
pub fn is_rollout_of(path: &Path, id: &str) -> bool {
    matches!(read_head(path), Ok(Some(head)) if head.id == ConversationId::of(id))
}

/// Returns the paths of the plain and of the compressed rollout.
pub(in crate::history) fn possible_paths(recorded: &str) -> [PathBuf; 2] {
    let plain = recorded.strip_suffix(ZST).unwrap_or(recorded);
    [plain.into(), format!("{plain}{ZST}").into()]
}

/// Returns the path of the same file below `sessions/` or `archived_sessions/` of `home`; `None` for a file outside of
/// these folders. Until a launch is settled, Codex records a path through a link in the isolated home, and files are
/// not opened through links.
pub fn resolve_in_session_folders(home: &Path, path: &Path) -> Option<PathBuf> {
    let real = path.canonical().ok()?;
    [SESSIONS, ARCHIVED_SESSIONS].iter().find_map(|name| {
        let folder = home.join(name);
        let relative = real.strip_prefix(folder.canonical().ok()?).ok()?;
        Some(folder.join(relative))
    })
}

/// Returns true if the file begins with the first line of a rollout, as written by any version of Codex, or cannot be
/// read.
fn may_be_conversation(path: &Path) -> bool {
    // An unreadable file is accepted here, because its reader reports the error.
    super::open(path)
        .and_then(read_examined)
        .map_or(true, |bytes| begins_like_conversation(&bytes))
}

/// Returns true if a file named `name`, plain or compressed, begins with the first line of a conversation, as far as
/// its first bytes show. Returns false for a file that is empty, filled with NUL bytes, or cut in its first line.
pub fn begins_conversation(file: impl Read, name: &Path) -> bool {
    let read_result = if is_plain(name) {
        read_examined(file)
    } else {
        rollout::decompress(file).and_then(read_examined)
    };
    read_result.is_ok_and(|bytes| {
        let has_whole_line = bytes.len() as u64 == EXAMINED_BYTES || bytes.contains(&b'\n');
        has_whole_line && !bytes.contains(&0) && begins_like_conversation(&bytes)
    })
}

fn read_examined(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(EXAMINED_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns true if `bytes` begin with the first line of a rollout, as written by any version of Codex.
fn begins_like_conversation(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    // Some editors write a byte order mark, which makes only the first line unreadable.
    let line = line.trim_start_matches('\u{feff}');

    let has_key = |key: &str| line.contains(&format!("\"{key}\":"));
    // Codex wrote the metadata without an envelope before 0.32, and other lines with `record_type`.
    let is_known_form = has_key("payload")
        || has_key("record_type")
        || (has_key("timestamp") && (has_key("type") || has_key("id")));

    line.starts_with('{') && is_known_form
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const FIRST: &str =
        "{\"timestamp\":\"2026-01-01T00:00:00Z\",\"type\":\"session_meta\",\"payload\":{}}\n";

    fn home() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a file");
        let home = folder.path().join("home");
        fs::create_dir_all(home.join(SESSIONS)).expect("a file");
        (folder, home)
    }

    fn found(home: &Path, path: &Path) -> Option<PathBuf> {
        find_recorded_rollout(home, &path.to_string_lossy())
    }

    #[test]
    fn a_row_leads_to_conversations_of_the_home_only() {
        let (folder, home) = home();
        let outside = folder.path().join("rollout-outside.jsonl");
        let inside = home.join(SESSIONS).join("rollout-1.jsonl");
        let link = home.join(SESSIONS).join("rollout-2.jsonl");
        let login = home.join("auth.json");
        fs::write(&outside, FIRST).expect("a file");
        fs::write(&inside, FIRST).expect("a file");
        fs::write(&login, FIRST).expect("a file");
        symlink(&outside, &link).expect("a file");
        assert_eq!(found(&home, &inside), Some(inside.clone()));
        let around = home.join(SESSIONS).join("../auth.json");
        for path in [outside, link, login, around] {
            assert_eq!(found(&home, &path), None, "{}", path.display());
        }
        // The folder of an isolated home is a link.
        let isolated = folder.path().join("isolated");
        symlink(home.join(SESSIONS), &isolated).expect("a file");
        let linked = isolated.join("rollout-1.jsonl");
        assert_eq!(found(&home, &linked), Some(inside.clone()));
        // The folder of the conversations may be on another disk.
        let moved = folder.path().join("moved");
        fs::rename(home.join(SESSIONS), &moved).expect("a file");
        symlink(&moved, home.join(SESSIONS)).expect("a file");
        assert_eq!(found(&home, &inside), Some(inside));
    }

    #[test]
    fn a_row_leads_to_a_resumable_rollout_only_if_the_metadata_name_its_conversation() {
        let (_folder, home) = home();
        let path = home.join(SESSIONS).join("rollout-1.jsonl");
        let recorded = path.to_string_lossy();
        let meta =
            r#"{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"01"}}"#;
        let cut = &meta[..meta.len() - 9];
        // A fork may also contain the metadata of its parent.
        let parent = meta.replace("01\"}", "02\"}");
        for (text, expected) in [
            (format!("{meta}\n"), true),
            (format!("{meta}\n{parent}\n"), true),
            (format!("{parent}\n"), false),
            (format!("{cut}\n{parent}\n"), false),
            (format!("{cut}\n{meta}\n"), false),
            (format!("\n{meta}\n"), true),
            (cut.to_owned(), false),
        ] {
            fs::write(&path, &text).expect("a file");
            let found = find_resumable_rollout(&home, &recorded, "01");
            assert_eq!(found.is_some(), expected, "{text}");
        }
    }

    #[test]
    fn a_rollout_is_recognized_by_the_first_line_of_a_conversation() {
        let (_folder, home) = home();
        let path = home.join(SESSIONS).join("rollout-1.jsonl");
        for (text, expected) in [
            (FIRST, true),
            (
                "{\"id\":\"01\",\"timestamp\":\"2025-05-05T00:00:00Z\"}\n",
                true,
            ),
            ("{\"record_type\":\"state\"}\n", true),
            ("\u{feff}{\"record_type\":\"state\"}\n", true),
            (
                "{\"OPENAI_API_KEY\":\"k\",\"tokens\":{\"id_token\":\"i\"}}",
                false,
            ),
            ("root:$6$x:1::::::\n", false),
            ("", false),
        ] {
            fs::write(&path, text).expect("a file");
            assert_eq!(found(&home, &path).is_some(), expected, "{text}");
        }
    }
}
