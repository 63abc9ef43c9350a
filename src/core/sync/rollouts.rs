//! Identifies conversations for a sync: one key for all forms and places of a conversation, the parent of a
//! conversation, and the new id of a conversation that is created from a conflict copy.

use crate::codex::home::{ARCHIVED_SESSIONS, SESSIONS};
use crate::codex::rollout::{self, OrderedRolloutId, RolloutName};
use crate::history::{self, ConversationId};
use crate::io::hash::Sha256Digest;
use chrono::NaiveDateTime;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::path::Path;

/// Maximum number of bytes in the first line of a rollout. A longer line is read as a damaged one.
const MAX_FIRST_LINE_BYTES: u64 = 4 * 1024 * 1024;

/// Length of `rollout-<time>-<uuid>` in bytes.
const STEM_BYTES: usize = "rollout-2026-11-18T10-00-00-".len() + UUID_BYTES;
const UUID_BYTES: usize = 36;
/// The place of the id in the stem.
pub(super) const ID_START: usize = STEM_BYTES - UUID_BYTES;
const TIME_BYTES: usize = "2026-11-18T10-00-00".len();
const DATE_BYTES: usize = "2026-11-18".len();
/// The place of the date in the stem.
const DATE_IN_STEM: Range<usize> = "rollout-".len().."rollout-2026-11-18".len();
/// Length of the `_<uuid>` that follows the stem in the name of a rewind.
const REWIND_BYTES: usize = 1 + UUID_BYTES;

/// Distinguishes keys of conversations from paths.
const KEY_PREFIX: &str = "conversation:";

/// Returns the beginning of `name` that has the form `rollout-<time>-<uuid>_<uuid>` of a rewind, or the form
/// `rollout-<time>-<uuid>`. Returns `None` if `name` begins with neither.
pub(crate) fn parse_stem(name: &str) -> Option<&str> {
    let stem = name.get(..STEM_BYTES)?;
    let rewind_stem = name.get(..STEM_BYTES + REWIND_BYTES).filter(|rewind_stem| {
        rewind_stem[STEM_BYTES..].starts_with('_') && ends_with_uuid(rewind_stem)
    });

    let time = stem.strip_prefix("rollout-")?.get(..TIME_BYTES)?;
    // `YYYY-MM-DDThh-mm-ss`
    let is_time = time.bytes().enumerate().all(|(index, b)| match index {
        4 | 7 | 13 | 16 => b == b'-',
        10 => b == b'T',
        _ => b.is_ascii_digit(),
    });

    let is_stem = is_time && ends_with_uuid(stem) && stem.as_bytes()[ID_START - 1] == b'-';
    is_stem.then_some(rewind_stem.unwrap_or(stem))
}

/// Returns the `rollout-<time>-<uuid>` at the start of `name`, which all rollouts of a thread have.
pub(super) fn thread_stem(name: &str) -> Option<&str> {
    parse_stem(name)?.get(..STEM_BYTES)
}

fn ends_with_uuid(text: &str) -> bool {
    rollout::split_uuid(text).is_some()
}

/// Returns true if a relative path is below `sessions` or `archived_sessions`.
pub(crate) fn is_below_sessions(path: &str) -> bool {
    is_below(path, SESSIONS) || is_archived(path)
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the key of the conversation that `path` is a file of; `None` for other files.
///
/// After a prefix, the key has the name without `.zst`, whichever folder it is in, if the name ends in an id.
/// Otherwise it has the path, because files of one name in two folders may be different conversations.
pub fn key(path: &str) -> Option<String> {
    if !is_below_sessions(path) {
        return None;
    }
    let uncompressed_path = path.strip_suffix(rollout::ZST).unwrap_or(path);
    // Other files below `sessions` have no key of a conversation.
    uncompressed_path.strip_suffix(".jsonl")?;
    Some(match RolloutName::parse_file_name(file_name(path)) {
        Some(file) if file.id().is_some() => [KEY_PREFIX, &file.name].concat(),
        _ => [KEY_PREFIX, uncompressed_path].concat(),
    })
}

/// Returns true for `sessions/YYYY/MM/DD/rollout-<time>-<uuid>.jsonl` if the folder has the day of the time. The folder
/// may also be `YYYY-MM-DD`, and the name may end with the id of a rewind. Such a file is never a secret, a client's
/// copy or a placeholder, so callers skip those checks.
pub(crate) fn is_dated_rollout_path(path: &str) -> bool {
    let folder_and_stem = path
        .strip_prefix("sessions/")
        .and_then(|path| path.strip_suffix(".jsonl")?.rsplit_once('/'));
    folder_and_stem.is_some_and(|(folder, stem)| {
        let is_stem = parse_stem(stem) == Some(stem);
        let day = folder.bytes().map(|b| if b == b'/' { b'-' } else { b });
        is_stem && day.eq(stem[DATE_IN_STEM].bytes())
    })
}

pub(crate) fn is_key(key: &str) -> bool {
    key.starts_with(KEY_PREFIX)
}

/// Returns the file name of a conversation, from its key or from the path of one of its files.
pub(crate) fn file_name(key: &str) -> &str {
    let path = key.strip_prefix(KEY_PREFIX).unwrap_or(key);
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns the id of a conversation, from its key or from the name or path of one of its files; `None` if the text has
/// no id.
pub(crate) fn id(key: &str) -> Option<String> {
    RolloutName::parse_file_name(file_name(key)).and_then(|file| file.id().map(str::to_owned))
}

/// Returns the id of a rollout in lower case, from a key, a name or a path, like [`id`]. A rollout that continues
/// another one refers to it by this id.
pub(crate) fn rollout_id(key: &str) -> Option<String> {
    rollout::parse_rollout_id(Path::new(file_name(key)))
}

/// The ids of a rollout and of its thread, in lower case.
pub(crate) struct RolloutIds {
    pub thread: String,
    pub rollout: OrderedRolloutId,
}

/// Returns both ids of a rollout, from a key, a name or a path, like [`id`].
pub(crate) fn ids(key: &str) -> Option<RolloutIds> {
    Some(RolloutIds {
        thread: id(key)?.to_lowercase(),
        rollout: OrderedRolloutId::parse_name(Path::new(file_name(key)))?,
    })
}

/// Returns true for the path of a rollout that a rewind began.
pub(crate) fn is_rewind(path: &str) -> bool {
    RolloutName::parse_file_name(file_name(path)).is_some_and(|file| file.is_rewind())
}

/// Returns the path of the containing folder, or an empty string.
pub(crate) fn parent_folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

pub fn is_archived(path: &str) -> bool {
    is_below(path, ARCHIVED_SESSIONS)
}

pub(crate) fn is_archive_folder(folder: &str) -> bool {
    folder == ARCHIVED_SESSIONS || is_archived(folder)
}

/// Returns the folder in which Codex stores a rollout of this name that is not archived.
pub(crate) fn dated_folder(name: &str) -> String {
    match parse_stem(name).and_then(|stem| stem.get(DATE_IN_STEM)) {
        Some(date) => join(SESSIONS, &date.replace('-', "/")),
        None => SESSIONS.to_owned(),
    }
}

/// Returns the path of a name in a folder; an empty folder is the root of a side.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        [folder, "/", name].concat()
    }
}

/// Returns the date of the folder below `sessions/`: `2026-11-20` for `2026-11-20/` and for `2026/11/20/`, without
/// telling the two layouts apart. `None` if the path is not in such a folder.
pub(crate) fn parse_date(path: &str) -> Option<String> {
    let date = path.strip_prefix("sessions/")?.get(..DATE_BYTES + 1)?;
    let is_date_folder = date.bytes().enumerate().all(|(index, b)| match index {
        4 | 7 => b == b'-' || b == b'/',
        DATE_BYTES => b == b'/',
        _ => b.is_ascii_digit(),
    });
    is_date_folder.then(|| date[..DATE_BYTES].replace('/', "-"))
}

/// Reads the id of the rollout that the rollout at `path` continues (`history_base`), in lower case. `None` if it has
/// no base or cannot be read.
pub(crate) fn read_parent_id(path: &Path) -> Option<String> {
    let meta = read_first_line(path).ok()?;
    let base = meta.get("payload")?.get("history_base")?;
    Some(base.get("thread_id")?.as_str()?.to_lowercase())
}

/// Returns true if the metadata of the rollout at `full_path` name another conversation than `path`, its path below a
/// home. False if one of them names none.
pub(super) fn is_of_other_conversation(path: &str, full_path: &Path) -> bool {
    let named = id(path).map(|id| ConversationId::of(&id));
    let head = history::rollout::read_head(full_path).ok().flatten();
    named
        .zip(head)
        .is_some_and(|(named, head)| named != head.id)
}

pub(super) fn read_first_line(path: &Path) -> io::Result<Value> {
    let mut reader = BufReader::new(rollout::open_plain(path)?.take(MAX_FIRST_LINE_BYTES));
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    serde_json::from_slice(&line).map_err(io::Error::other)
}

/// Returns the id of the conversation that is created from a conflict copy. The id is derived from the content, so that
/// two machines that decide the same create the same conversation. Lists and commands show only the times of ids, so
/// the time of the new id is up to 4.1 seconds later than that of the original id. If the original id has no time, the
/// time in `name` counts, the file name of the original conversation.
pub(crate) fn derive_conversation_id(
    original_id: &str,
    name: &str,
    contents: &Sha256Digest,
) -> String {
    let created = rollout::uuid_time_ms(original_id).or_else(|| parse_time_ms(name));
    // Three hex digits give a delay of 1 to 4096 milliseconds.
    let delay = 1 + u64::from_str_radix(&contents.to_string()[..3], 16).unwrap_or(0);
    derive_id(created.unwrap_or(0).unsigned_abs() + delay, contents)
}

/// Returns the time in the name of a rollout in milliseconds since 1970, as if the local time were UTC.
fn parse_time_ms(name: &str) -> Option<i64> {
    let time = parse_stem(name)?.strip_prefix("rollout-")?;
    let time = NaiveDateTime::parse_from_str(time.get(..TIME_BYTES)?, "%Y-%m-%dT%H-%M-%S");
    Some(time.ok()?.and_utc().timestamp_millis())
}

/// Returns an id that is derived from `contents`, with a time in milliseconds since 1970.
pub(crate) fn derive_id(millis: u64, contents: &Sha256Digest) -> String {
    let millis = format!("{:012x}", millis & 0xffff_ffff_ffff);
    let time = format!("{}-{}", &millis[..8], &millis[8..]);
    let digest = Sha256Digest::of(format!("{time} {contents}").as_bytes()).to_string();

    // The form of a UUID of version 7 needs the digit 7 and one of these four.
    let variant = ['8', '9', 'a', 'b'][usize::from(digest.as_bytes()[3] % 4)];
    format!(
        "{time}-7{}-{variant}{}-{}",
        &digest[..3],
        &digest[4..7],
        &digest[7..19]
    )
}

/// Returns the first line of a rollout with the id `old_id` replaced by `new_id`.
///
/// # Errors
/// The line is not the `session_meta` of `old_id`.
pub(crate) fn replace_id(line: &[u8], old_id: &str, new_id: &str) -> Result<Vec<u8>, &'static str> {
    const WRONG_ID: &str = "its first line does not have the id of this conversation";
    let read_id = |line: &[u8]| -> Option<String> {
        let meta: Value = serde_json::from_slice(line).ok()?;
        Some(meta.get("payload")?.get("id")?.as_str()?.to_owned())
    };
    if read_id(line).as_deref() != Some(old_id) {
        return Err(WRONG_ID);
    }

    // Replaces text instead of reserializing, so that everything else stays as Codex wrote it.
    let mut text = std::str::from_utf8(line).map_err(|_| WRONG_ID)?.to_owned();
    for key in ["id", "session_id"] {
        for colon in [":", ": "] {
            let field = |id: &str| format!("\"{key}\"{colon}\"{id}\"");
            text = text.replace(&field(old_id), &field(new_id));
        }
    }

    if !text.ends_with('\n') {
        text.push('\n');
    }

    // JSON can write a field in other ways, so the result is read again.
    let line = text.into_bytes();
    match read_id(&line) {
        Some(id) if id == new_id => Ok(line),
        _ => Err(WRONG_ID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::scope::never_synced_reason;

    const ID: &str = "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";

    #[test]
    fn a_stem_is_found_only_in_exact_names() {
        let id = "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";
        let good = format!("rollout-2026-11-18T10-00-00-{id}");
        assert_eq!(parse_stem(&good), Some(&*good));
        for at in 0..good.len() {
            for letter in ["é", "\u{1f600}", "\0"] {
                let mut odd = format!("{}{letter}{}", &good[..at], &good[at + 1..]);
                assert_eq!(parse_stem(&odd), None, "{odd}");
                odd.pop();
                assert_eq!(parse_stem(&odd), None, "{odd}");
            }
        }
    }

    #[test]
    fn only_paths_of_dated_rollouts_match_and_none_of_them_is_a_secret() {
        let stem = format!("rollout-2026-11-18T10-00-00-{ID}");
        for path in [
            format!("sessions/2026/11/18/{stem}.jsonl"),
            format!("sessions/2026/11/18/{stem}_{ID}.jsonl"),
            format!("sessions/2026-11-18/{stem}.jsonl"),
        ] {
            assert!(is_dated_rollout_path(&path), "{path}");
            assert_eq!(never_synced_reason(&path), None, "{path}");
        }
        for path in [
            format!("sessions/2026/11/19/{stem}.jsonl"),
            format!("sessions/2026/11/18/.ssh/{stem}.jsonl"),
            format!("sessions/.ssh/{stem}.jsonl"),
            format!("Sessions/2026/11/18/{stem}.jsonl"),
            format!("archived_sessions/{stem}.jsonl"),
            format!("sessions/2026/11/18/{stem}.jsonl.zst"),
            format!("sessions/2026/11/18/{stem} (1).jsonl"),
            format!("sessions/2026/11/18/{stem}.jsonl.part"),
            format!("sessions/2026/11/18/.{stem}.jsonl"),
        ] {
            assert!(!is_dated_rollout_path(&path), "{path}");
        }
    }

    #[test]
    fn all_files_of_a_conversation_have_the_same_key() {
        let name = format!("rollout-2026-11-18T10-00-00-{ID}.jsonl");
        for path in [
            format!("sessions/2026/11/18/{name}"),
            format!("sessions/2026-11-18/{name}.zst"),
            format!("archived_sessions/{name}"),
        ] {
            let expected = format!("conversation:{name}");
            assert_eq!(key(&path).as_deref(), Some(&*expected), "{path}");
        }
        assert_eq!(id(&format!("conversation:{name}")).as_deref(), Some(ID));
        assert_eq!(
            key("sessions/a/s1.jsonl.zst").as_deref(),
            Some("conversation:sessions/a/s1.jsonl")
        );
        assert_eq!(key("sessions/a/notes.md"), None);
        assert_eq!(key("skills/rollout.jsonl"), None);
        assert_eq!(parse_stem(&name), Some(&name[..64]));
        let rewind = format!("{}_{ID}.jsonl", &name[..64]);
        assert_eq!(parse_stem(&rewind), Some(&rewind[..101]));
        let copy = format!("{}_laptop.jsonl", &name[..64]);
        assert_eq!(parse_stem(&copy), Some(&name[..64]));
        assert_eq!(parse_stem("rollout-1.jsonl"), None);
    }

    #[test]
    fn both_date_layouts_are_recognized() {
        for (path, expected) in [
            ("sessions/2026/11/18/a.jsonl", Some("2026-11-18")),
            ("sessions/2026-11-18/a.jsonl", Some("2026-11-18")),
            ("sessions/2026-11-18", None),
            ("sessions/2026/11/a.jsonl", None),
            ("sessions/misc/a.jsonl", None),
            ("archived_sessions/a.jsonl", None),
        ] {
            assert_eq!(parse_date(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn a_new_id_is_a_version_7_uuid_of_almost_the_same_time() {
        let name = format!("rollout-2026-11-18T10-00-00-{ID}.jsonl");
        let derive = |text: &[u8]| derive_conversation_id(ID, &name, &Sha256Digest::of(text));
        let [a, b] = [derive(b"a"), derive(b"b")];
        assert_eq!(a, derive(b"a"));
        // Commands name conversations by the time.
        for (one, other) in [(&a, &b), (&a, &ID.to_owned()), (&b, &ID.to_owned())] {
            assert_ne!(one[..13], other[..13]);
        }
        assert!(a.starts_with("01a1f78b-") && a.len() == 36, "{a}");
        assert_eq!(&a[13..15], "-7", "{a}");
        let name = format!("rollout-2026-11-18T10-00-00-{a}.jsonl");
        assert_eq!(id(&name), Some(a));
    }

    #[test]
    fn a_new_id_has_the_time_of_the_file_name_if_the_old_id_has_none() {
        let old = "c9e9da7a-486a-4153-9d2c-0b6a3b1c7d55";
        let name = format!("rollout-2025-09-01T10-00-00-{old}.jsonl");
        let new = derive_conversation_id(old, &name, &Sha256Digest::of(b"a"));
        let time = rollout::uuid_time_ms(&new).unwrap();
        assert!((1..=4096).contains(&(time - 1_756_720_800_000)), "{new}");
    }
}
