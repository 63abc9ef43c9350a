//! `restore --session`: which rollouts of an archive a conversation needs.

use crate::archive::ArchiveError;
use crate::archive::manifest::FileEntry;
use crate::archive::reader::Archive;
use crate::archive::restore::RestoreError;
use crate::archive::sink::{Extent, Sink};
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::rollout::ConversationFile;
use crate::error::CommandError;
use crate::history::rollout;
use crate::io::progress::Silent;
use crate::io::{IoContext, position};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::sync::Mutex;

/// The rollouts of one conversation: by id, the beginning of one, or the name that the archived
/// index gives it.
/// It brings those along whose beginnings it continues.
pub(super) fn conversations(archive: &Archive, wanted: &str) -> Result<Vec<String>, CommandError> {
    if wanted.trim().is_empty() {
        return Err(CommandError::usage("--session wants an id or a name"));
    }
    let by_id = |id: &str| -> Vec<String> {
        let files = archive.contents().files.iter();
        files
            .filter(|f| kind_of(f.path.as_path()).is_rollout_folder())
            .filter_map(|f| ConversationFile::of(f.path.as_path()))
            .filter(|c| c.id().is_some_and(|i| i.starts_with(id)))
            .map(|c| c.name)
            .collect()
    };
    let mut found = by_id(&wanted.to_lowercase());
    if found.is_empty() {
        let ids = ids_by_name(archive, wanted)?;
        found = ids.iter().flat_map(|id| by_id(id)).collect();
    }
    found.sort();
    found.dedup();
    match found.as_slice() {
        [] => Err(RestoreError::NotFound(wanted.to_owned()).into()),
        [_] => with_parents(archive, found),
        several => {
            let named = &several[..several.len().min(SHOWN_CONVERSATIONS)];
            let more = if named.len() < several.len() {
                ", …"
            } else {
                ""
            };
            Err(CommandError::failed(format!(
                "{wanted:?} may be one of {} conversations",
                several.len()
            ))
            .hint(format!("they are: {}{more}", named.join(", "))))
        }
    }
}

/// The same rollouts, and those that they continue (`history_base`), as far as the archive has them.
fn with_parents(archive: &Archive, mut names: Vec<String>) -> Result<Vec<String>, CommandError> {
    let mut next = 0;
    while next < names.len() {
        let parent = parent_of(archive, &names[next])?;
        let file = parent.and_then(|id| {
            let files = archive.contents().files.iter();
            files
                .filter(|f| kind_of(f.path.as_path()).is_rollout_folder())
                .filter_map(|f| ConversationFile::of(f.path.as_path()))
                .find(|c| c.id() == Some(&id))
        });
        names.extend(file.map(|f| f.name).filter(|name| !names.contains(name)));
        next += 1;
    }
    Ok(names)
}

/// The conversation whose beginning the rollout of this name continues.
fn parent_of(archive: &Archive, name: &str) -> Result<Option<String>, CommandError> {
    let mut files = archive.contents().files.iter();
    let found =
        files.find(|f| ConversationFile::of(f.path.as_path()).is_some_and(|c| c.name == name));
    let Some(entry) = found else {
        return Ok(None);
    };
    let head = Head {
        entry: &entry,
        beginning: Mutex::default(),
    };
    archive.read(Extent::Wanted, &head, &Silent)?;
    let beginning = head.beginning.into_inner().unwrap_or_default();
    // What cannot be read of it says nothing of others; it comes back as it is.
    let meta = rollout::head_in(&beginning, entry.path.as_path()).unwrap_or_default();
    Ok(meta.and_then(|meta| meta.parent()))
}

/// Takes the beginning of one file out of an archive: what comes in one part.
struct Head<'a> {
    entry: &'a FileEntry,
    beginning: Mutex<Vec<u8>>,
}

impl Sink for Head<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        entry.path == self.entry.path
    }

    fn part(&self, _entry: &FileEntry, offset: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
        if offset == 0
            && let Ok(mut beginning) = self.beginning.lock()
        {
            *beginning = bytes.to_vec();
        }
        Ok(())
    }

    fn done(&self, _entry: &FileEntry) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// How many conversations are named when one was not told enough.
const SHOWN_CONVERSATIONS: usize = 8;

/// The longest line of `session_index.jsonl` that is looked at.
const MAX_LINE_BYTES: u64 = 1024 * 1024;

/// The conversations that the archived `session_index.jsonl` calls `wanted`; the last line of an id
/// counts.
fn ids_by_name(archive: &Archive, wanted: &str) -> Result<Vec<String>, CommandError> {
    // Without a name on the disk, and gone when it is closed.
    let index = tempfile::tempfile().at("create a temp file in", std::env::temp_dir())?;
    archive.read(Extent::Wanted, &SessionIndex(&index), &Silent)?;
    let mut ids: Vec<String> = Vec::new();
    let mut lines = BufReader::new(&index);
    lines.rewind().at("read", archive.path())?;
    let mut line = Vec::new();
    // Codex's lines are short; what is longer is none of them.
    while (&mut lines)
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', &mut line)
        .at("read", archive.path())?
        > 0
    {
        if let Ok(entry) = serde_json::from_slice::<serde_json::Value>(&line) {
            let field = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
            if let (Some(id), Some(name)) = (field("id"), field("thread_name")) {
                ids.retain(|known| known != id);
                if name == wanted {
                    ids.push(id.to_owned());
                }
            }
        }
        line.clear();
    }
    Ok(ids)
}

/// Takes `session_index.jsonl` out of an archive.
struct SessionIndex<'a>(&'a File);

impl Sink for SessionIndex<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        kind_of(entry.path.as_path()) == HomeEntryKind::SessionIndex
    }

    fn part(&self, entry: &FileEntry, offset: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
        Ok(position::write_all_at(self.0, bytes, offset).at("write", entry.path.as_path())?)
    }

    fn done(&self, _entry: &FileEntry) -> Result<(), ArchiveError> {
        Ok(())
    }
}
