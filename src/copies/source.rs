//! Reads the conversations of an archive or a snapshot, and finds one of them with the rollouts that it continues.

use crate::error::{CommandError, Result};
use crate::views::account::printable;
use codex_manager_core::archive::{
    ArchiveError, ArchiveReader, Extent, FileEntry, FileList, Sink, file_extract,
    parse_rollout_name,
};
use codex_manager_core::codex::rollout::{is_plain, split_uuid};
use codex_manager_core::codex::{ListedThread, RolloutName, ThreadFilter, threads};
use codex_manager_core::conversations::messages::{self, Message};
use codex_manager_core::history::{JsonlLine, LineReader, rollout, session_index, thread_choice};
use codex_manager_core::io::{IoContext, Silent};
use codex_manager_core::restore::RestoreError;
use codex_manager_core::restore::needed_paths::find_newest_state_database;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Seek as _;
use std::path::Path;
use std::sync::Mutex;

/// The number of conversations that an error names.
const MAX_LISTED: usize = 10;

/// An archive or a snapshot in which conversations are searched.
pub(crate) trait ConversationSource {
    fn files(&self) -> &FileList;

    /// Returns the beginning of the stored file of a rollout, plain or compressed. Usually it has more than the first
    /// line.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read_beginning(&self, rollout: &FileEntry) -> Result<Vec<u8>>;

    /// Writes the content of a file to `to`.
    ///
    /// # Errors
    /// The file cannot be read or written.
    fn extract(&self, entry: &FileEntry, to: &File) -> Result<()>;

    /// Returns the error for an id or a name that no conversation of the source has.
    fn to_not_found_error(&self, wanted: &str) -> CommandError;
}

impl ConversationSource for ArchiveReader {
    fn files(&self) -> &FileList {
        &self.contents().files
    }

    fn read_beginning(&self, rollout: &FileEntry) -> Result<Vec<u8>> {
        let head = RolloutHeadSink {
            entry: rollout,
            beginning: Mutex::default(),
        };
        self.read(Extent::Wanted, &head, &Silent)?;
        Ok(head.beginning.into_inner().unwrap_or_default())
    }

    fn extract(&self, entry: &FileEntry, to: &File) -> Result<()> {
        Ok(file_extract::extract_entry(self, entry, to)?)
    }

    fn to_not_found_error(&self, wanted: &str) -> CommandError {
        let error = RestoreError::NoConversation {
            name: wanted.to_owned(),
            archive: self.path().to_path_buf(),
        };
        error.into()
    }
}

/// Returns the rollouts among the files of an archive or a snapshot.
pub(crate) fn rollout_files(files: &FileList) -> impl Iterator<Item = (RolloutName, FileEntry)> {
    files.iter().filter_map(|entry| {
        let name = parse_rollout_name(entry.path.as_path())?;
        Some((name, entry))
    })
}

/// Returns true if the archive has a rollout that begins with a whole line of a conversation. Reads rollouts until it
/// finds one; a part of the archive that cannot be read counts as one.
pub(crate) fn has_readable_rollout(archive: &ArchiveReader) -> bool {
    rollout_files(archive.files()).any(|(_, entry)| {
        let path = entry.path.as_path();
        let beginning = archive.read_beginning(&entry);
        beginning.map_or(true, |bytes| {
            let has_line = !is_plain(path) || bytes.contains(&b'\n');
            has_line && rollout::begins_conversation(&*bytes, path)
        })
    })
}

/// Returns the ids of the rollouts among the files of an archive or a snapshot, in lower case.
pub(crate) fn list_rollout_ids(files: &FileList) -> BTreeSet<String> {
    let names = rollout_files(files).map(|(name, _)| name);
    let ids = names.filter_map(|name| name.rollout_id().map(str::to_lowercase));
    ids.collect()
}

/// Returns the ids of the conversations among the files of an archive or a snapshot, in lower case.
pub(crate) fn list_thread_ids(files: &FileList) -> BTreeSet<String> {
    let names = rollout_files(files).map(|(name, _)| name);
    names
        .filter_map(|name| name.id().map(str::to_lowercase))
        .collect()
}

/// Returns the messages of a rollout of `source`.
///
/// # Errors
/// The rollout cannot be read or extracted.
pub(crate) fn read_messages(
    source: &dyn ConversationSource,
    entry: &FileEntry,
) -> Result<Vec<Message>> {
    let read = |path: &Path| messages::read_messages(path).at("read", path);
    Ok(read_extracted(source, entry, read)??)
}

/// Returns the title in a rollout of `source`; `None` if the rollout has none.
///
/// # Errors
/// The rollout cannot be extracted.
pub(crate) fn read_title(
    source: &dyn ConversationSource,
    entry: &FileEntry,
) -> Result<Option<String>> {
    read_extracted(source, entry, rollout::read_title)
}

/// Extracts a rollout of `source` into a temp file, and reads it with `read`.
fn read_extracted<T>(
    source: &dyn ConversationSource,
    entry: &FileEntry,
    read: impl FnOnce(&Path) -> T,
) -> Result<T> {
    let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
    // The reader recognizes a compressed rollout by the name.
    let name = entry.path.as_path().file_name().unwrap_or_default();
    let path = folder.path().join(name);
    let file = File::create_new(&path).at("create", &path)?;
    source.extract(entry, &file)?;
    Ok(read(&path))
}

/// Returns the file names of the rollouts of one conversation, then those of the rollouts that they continue. Chooses
/// the conversation by [`thread_choice::find_named`], with the names in the session index of `source` and the titles in
/// its state database.
///
/// # Errors
/// No conversation or several ones match, or a file of `source` cannot be read.
pub(crate) fn require_rollout_names(
    source: &dyn ConversationSource,
    name_or_id: &str,
) -> Result<Vec<String>> {
    find_rollout_names(source, name_or_id)?.ok_or_else(|| source.to_not_found_error(name_or_id))
}

/// Like [`require_rollout_names`], but returns `None` if no conversation matches.
///
/// # Errors
/// Several conversations match, or a file of `source` cannot be read.
pub(crate) fn find_rollout_names(
    source: &dyn ConversationSource,
    name_or_id: &str,
) -> Result<Option<Vec<String>>> {
    if name_or_id.trim().is_empty() {
        return Err(CommandError::usage("--session needs an id or a name"));
    }

    let all_names = rollout_files(source.files()).map(|(name, _)| name);
    let rollout_names: Vec<_> = all_names.filter(|name| name.id().is_some()).collect();
    let id_of = |name: &RolloutName| name.id().unwrap_or_default().to_owned();
    let ignore_titles = |_: &RolloutName, _: &dyn Fn(&str) -> bool| false;
    let mut matching_names =
        thread_choice::find_named(&rollout_names.iter(), name_or_id, id_of, ignore_titles);

    if matching_names.is_empty() && may_be_title(name_or_id) {
        // The titles are read only if no id matches: they are near the end of an archive, so reading them takes long.
        let titles = read_titles(source)?;
        let has_title = |name: &RolloutName, fits: &dyn Fn(&str) -> bool| {
            let own_titles = titles.get(&id_of(name).to_lowercase());
            own_titles.is_some_and(|titles| titles.iter().any(|title| fits(title)))
        };
        matching_names =
            thread_choice::find_named(&rollout_names.iter(), name_or_id, id_of, has_title);
    }

    let ids: BTreeSet<_> = matching_names.iter().map(|name| id_of(name)).collect();
    // A conversation that was rewound has several rollouts.
    let names = matching_names.iter().map(|name| name.name.clone());
    let names: BTreeSet<_> = names.collect();

    match ids.len() {
        0 => Ok(None),
        1 => add_continued_rollouts(source, names.into_iter().collect()).map(Some),
        _ => Err(to_ambiguous_error(source, name_or_id, ids)?),
    }
}

/// Returns the error for an id or a name that the conversations `ids` match, with their titles.
fn to_ambiguous_error(
    source: &dyn ConversationSource,
    name_or_id: &str,
    ids: BTreeSet<String>,
) -> Result<CommandError> {
    let titles = read_titles(source)?;
    let describe = |id: String| match titles.get(&id.to_lowercase()).map(Vec::as_slice) {
        Some([title, ..]) => format!("{id}  {}", printable(title)),
        _ => id,
    };
    let message = format!("{name_or_id:?} matches {} conversations", ids.len());
    let error = CommandError::failed(message);
    let mut error = error.hint("use the id of one of them; the first are:");
    let choices = ids.into_iter().take(MAX_LISTED).map(describe);
    error.hints.extend(choices);
    Ok(error)
}

/// Returns false for a complete id and for the path of a rollout, which name one conversation.
fn may_be_title(text: &str) -> bool {
    let is_path = thread_choice::parse_thread_id_in_path(text).is_some();
    let is_id = split_uuid(text).is_some_and(|(before, _)| before.is_empty());
    !is_path && !is_id
}

/// Adds to `names` the rollouts that these rollouts continue (`history_base`), directly or through other rollouts, if
/// `source` has them.
fn add_continued_rollouts(
    source: &dyn ConversationSource,
    mut names: Vec<String>,
) -> Result<Vec<String>> {
    // Built only if a rollout continues another one. For a long chain, a search of all files for each rollout is slow.
    let rollouts_by_id = LazyCell::new(|| {
        let mut by_id = HashMap::new();
        for (rollout, entry) in rollout_files(source.files()) {
            if let Some(id) = rollout.rollout_id().map(str::to_owned) {
                by_id.entry(id).or_insert((rollout.name, entry));
            }
        }
        by_id
    });

    // A rollout may have several files: plain, compressed, archived. One of them is enough.
    let mut unread_by_name = BTreeMap::new();
    for (rollout, entry) in rollout_files(source.files()) {
        if names.contains(&rollout.name) {
            unread_by_name.entry(rollout.name).or_insert(entry);
        }
    }
    let mut unread: Vec<_> = unread_by_name.into_values().collect();
    // The list grows in the loop, because a continued rollout may itself continue another one.
    while let Some(entry) = unread.pop() {
        let continued_id = read_continued_id(source, &entry)?;
        let continued = continued_id.and_then(|id| rollouts_by_id.get(&id));
        if let Some((name, entry)) = continued
            && !names.contains(name)
        {
            names.push(name.clone());
            unread.push(entry.clone());
        }
    }
    Ok(names)
}

/// Returns the id of the rollout that a rollout continues, if any.
fn read_continued_id(source: &dyn ConversationSource, entry: &FileEntry) -> Result<Option<String>> {
    let beginning = source.read_beginning(entry)?;
    // A rollout with an unreadable beginning is restored without the rollout that it continues.
    let meta = rollout::parse_prefix(&beginning, entry.path.as_path()).unwrap_or_default();
    Ok(meta.and_then(|meta| meta.base_id()))
}

/// A sink that has at least this many bytes of a rollout keeps no more. The first line has 10 to 25 kB.
const HEAD_BYTES: usize = 1 << 20;

/// Keeps the beginning of one file of an archive.
struct RolloutHeadSink<'a> {
    entry: &'a FileEntry,
    beginning: Mutex<Vec<u8>>,
}

impl Sink for RolloutHeadSink<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        entry.path == self.entry.path
    }

    fn write_chunk(
        &self,
        _entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        if let Ok(mut beginning) = self.beginning.lock()
            && beginning.len() < HEAD_BYTES
            // Chunks after a gap are not a part of the beginning.
            && offset == beginning.len() as u64
        {
            beginning.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// Returns the conversations in the newest state database of a source. Returns none if the database is missing or
/// unreadable, because each conversation can also be found by its rollouts.
pub(crate) fn read_threads(source: &dyn ConversationSource) -> Vec<ListedThread> {
    let try_read = || {
        let entry = find_newest_state_database(source.files())?;
        let database = tempfile::NamedTempFile::new().ok()?;
        source.extract(&entry, database.as_file()).ok()?;
        threads::list(database.path(), &ThreadFilter::default()).ok()
    };
    try_read().unwrap_or_default()
}

/// Returns the titles of each conversation by its id in lower case: the one that the picker shows, and the name in
/// `session_index.jsonl`.
pub(crate) fn read_titles(source: &dyn ConversationSource) -> Result<HashMap<String, Vec<String>>> {
    let threads = read_threads(source).into_iter();
    // The picker does not offer subagents and side conversations.
    let offered = threads.filter(|thread| !thread.is_child());
    let shown = offered.map(|thread| (thread.id, thread.title));

    let mut titles: HashMap<String, Vec<String>> = HashMap::new();
    for (id, title) in shown.chain(read_names(source)?) {
        titles.entry(id.to_lowercase()).or_default().push(title);
    }
    Ok(titles)
}

/// Returns the names in `session_index.jsonl` by the id of the conversation. The last line of an id counts.
pub(crate) fn read_names(source: &dyn ConversationSource) -> Result<HashMap<String, String>> {
    let mut names = HashMap::new();
    let path = Path::new(session_index::FILE_NAME);
    let mut files = source.files().iter();
    let Some(entry) = files.find(|entry| entry.path.as_path() == path) else {
        return Ok(names);
    };

    let mut file = tempfile::tempfile().at("create a temp file in", std::env::temp_dir())?;
    source.extract(&entry, &file)?;
    file.rewind().at("read", path)?;
    let mut lines = LineReader::new(file);
    while let Some(line) = lines.next_line().at("read", path)? {
        if let JsonlLine::Whole(line) = line
            && let Some(entry) = session_index::parse_entry(line)
        {
            names.insert(entry.id, entry.thread_name);
        }
    }
    Ok(names)
}
