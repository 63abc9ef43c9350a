//! `find --archives`: searches the conversations in archives that are no longer on disk.
//!
//! The rollouts are extracted into a temporary folder in the form of a Codex home, one archive at a time, and
//! searched like those of the Codex home.

use crate::commands::find::found::{Found, FoundArchive};
use crate::context::Context;
use crate::copies::archived::group_rollouts_by_conversation;
use crate::copies::source::ConversationSource as _;
use crate::error::{CommandError, Result, check_interrupt};
use crate::views::account::printable;
use codex_manager_core::archive::file_extract::PathSink;
use codex_manager_core::archive::{ArchiveReader, Extent, FileEntry};
use codex_manager_core::codex::{ThreadFilter, threads};
use codex_manager_core::conversations::search::conversation_filter::ConversationFilter;
use codex_manager_core::conversations::search::evaluate::{Hit, SearchResult};
use codex_manager_core::history::{SkippedFile, session_index};
use codex_manager_core::inventory::archive_names::{list_numbered, shortest_name};
use codex_manager_core::io::{Staging, atomic, is_interrupted};
use codex_manager_core::restore::needed_paths::find_newest_state_database;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A Codex home, or a temporary home with the conversations of one archive.
pub(super) struct SearchedHome<'a> {
    /// The folder that contains `sessions/` and `archived_sessions/`.
    pub folder: &'a Path,
    /// The database with Codex's list of conversations, if the home has a readable one.
    pub database: Option<&'a Path>,
    pub filter: &'a ConversationFilter,
}

/// Searches the archives of the Codex home, one at a time, and adds the hits to `found`. `search` gets the extracted
/// conversations of an archive, and also returns the files that it could not read. Leaves out `known_ids`, the
/// conversations that were searched on disk. Searches a conversation of several archives in the newest one. Skips
/// archives with a known damage. Any other archive or file that cannot be read causes a warning and makes the result
/// partial. Adds the conversations that were searched to `known_ids`.
///
/// # Errors
/// The archives cannot be listed, or the user interrupts.
pub(super) fn search_archives(
    found: &mut Found,
    known_ids: &mut HashSet<String>,
    filter: &ThreadFilter,
    context: &Context,
    search: impl Fn(&SearchedHome<'_>) -> Result<(SearchResult, Vec<SkippedFile>)>,
) -> Result<()> {
    let records = context.archives()?;
    let home = context.codex_home();
    // A rollout whose name lacks the id, such as `rollout-saved.jsonl`, is found only by the row in Codex's database.
    let hits = found.result.hits.iter();
    known_ids.extend(hits.map(|hit| hit.conversation.session.clone()));

    for record in list_numbered(&records) {
        if !record.is_usable() || !record.metadata.records_home(home) {
            continue;
        }

        check_interrupt()?;

        let path = context.backups().join(&record.path);
        let name = shortest_name(record);
        match search_archive(&path, known_ids, filter, context, &search) {
            Ok(None) => {}
            Ok(Some(archive_hits)) => {
                for SkippedFile { path, reason } in &archive_hits.skipped {
                    let (path, reason) = (printable(&path.to_string_lossy()), printable(reason));
                    let ui = &context.ui;
                    ui.warn(format_args!("skipped in archive {name}: {reason}: {path}"));
                }

                // Older archives are searched only for other conversations.
                let searched_count = archive_hits.searched_ids.len();
                known_ids.extend(archive_hits.searched_ids);
                found.is_partial |= !archive_hits.skipped.is_empty();
                let created_at = record.metadata.created_at;
                let archive = FoundArchive { name, created_at };
                found.add_archive(searched_count, archive_hits.result, &archive);
            }
            Err(_) if is_interrupted() => return Err(CommandError::interrupted()),
            Err(e) => {
                found.is_partial = true;
                let problem = e.to_one_line();
                let ui = &context.ui;
                ui.warn(format_args!("archive not searched: {name}: {problem}"));
            }
        }
    }
    Ok(())
}

/// The result of the search of one archive.
struct ArchiveHits {
    /// The conversations that have a hit or were read completely, so that older archives need not be searched for them.
    searched_ids: Vec<String>,
    result: SearchResult,
    /// The files in the archive that could not be read completely.
    skipped: Vec<SkippedFile>,
}

/// Searches the conversations of an archive that are not in `known_ids`. `None` if there are none.
fn search_archive(
    path: &Path,
    known_ids: &HashSet<String>,
    filter: &ThreadFilter,
    context: &Context,
    search: impl Fn(&SearchedHome<'_>) -> Result<(SearchResult, Vec<SkippedFile>)>,
) -> Result<Option<ArchiveHits>> {
    let archive = ArchiveReader::open(path)?;
    let mut searched_rollouts = group_rollouts_by_conversation(archive.files());
    searched_rollouts.retain(|id, _| !known_ids.contains(id));
    if searched_rollouts.is_empty() {
        return Ok(None);
    }

    let staging = Staging::create_in(&context.manager_path("tmp"))?;
    let folder = staging.path("home");
    let database = folder.join("state.sqlite");
    extract_home(&archive, &searched_rollouts, &folder, &database, context)?;

    // An archive of the Python tool may have a damaged database. The search then goes on without its titles.
    let threads_of_archive = threads::list(&database, filter).ok();
    let readable_database = threads_of_archive.is_some().then_some(&*database);
    // The list is already restricted to `filter`.
    let list_in_archive =
        |_: &ThreadFilter| Ok::<_, CommandError>(threads_of_archive.unwrap_or_default());
    let home = SearchedHome {
        folder: &folder,
        database: readable_database,
        filter: &ConversationFilter::new(filter.clone(), list_in_archive)?,
    };

    let (result, mut skipped) = search(&home)?;
    for file in &mut skipped {
        if let Ok(path_in_archive) = file.path.strip_prefix(&folder) {
            file.path = path_in_archive.to_owned();
        }
    }

    // A conversation without a hit and with an unreadable rollout is searched again in older archives.
    searched_rollouts.retain(|id, files| {
        let is_skipped = |file: &FileEntry| skipped.iter().any(|s| s.path == file.path.as_path());
        let is_of_conversation = |hit: &Hit| hit.conversation.session == *id;
        !files.iter().any(is_skipped) || result.hits.iter().any(is_of_conversation)
    });
    Ok(Some(ArchiveHits {
        searched_ids: searched_rollouts.into_keys().collect(),
        result,
        skipped,
    }))
}

/// Extracts the `rollouts` and `session_index.jsonl` into `folder`, in the form of a Codex home. If the archive has a
/// state database, extracts the newest one to `database`.
fn extract_home(
    archive: &ArchiveReader,
    rollouts: &BTreeMap<String, Vec<FileEntry>>,
    folder: &Path,
    database: &Path,
    context: &Context,
) -> Result<()> {
    // Keeps the relative paths: the reader finds the earlier rollouts of a rewound conversation in the folders of their
    // days.
    let mut extracted_paths: HashMap<PathBuf, PathBuf> = HashMap::new();
    for entry in rollouts.values().flatten() {
        let relative = entry.path.as_path();
        let path = folder.join(relative);
        atomic::create_unsynced_folder(atomic::parent_of(&path))?;
        extracted_paths.insert(relative.to_owned(), path);
    }

    if let Some(entry) = find_newest_state_database(archive.files()) {
        extracted_paths.insert(entry.path.as_path().to_owned(), database.to_owned());
    }

    // Older conversations have their names in this file.
    extracted_paths.insert(
        session_index::FILE_NAME.into(),
        folder.join(session_index::FILE_NAME),
    );

    let sink = PathSink {
        path_of: |entry: &FileEntry| extracted_paths.get(entry.path.as_path()).cloned(),
    };
    let bar = context.ui.growing_bar("searching");
    Ok(archive.read(Extent::Wanted, &sink, &bar)?)
}
