//! Opens the places that may have a fuller copy of a conversation: archives, their trash, conflict copies of `sync`,
//! the trash of conversations, and compressed forms beside plain ones.

use crate::archive::metadata::{BackupMode, Metadata};
use crate::archive::reader::ArchiveReader;
use crate::codex::rollout::RolloutName;
use crate::context::Context;
use crate::copies::losses::place::{CopyPlace, CopyPlaceKind};
use crate::copies::losses::search::LossSearch;
use crate::error::CommandError;
use crate::inventory::archive_names::{numbered, typed_name};
use crate::inventory::{store, trash};
use crate::io::parallel;
use crate::io::progress::is_interrupted;
use crate::storage;
use crate::sync::conflict_copies::ConflictCopies;
use crate::sync::sides::Side;
use crate::sync::state::Replica;
use std::path::{Path, PathBuf};

struct ArchivedCopies {
    place: CopyPlace,
    path: PathBuf,
}

/// Adds the archives of the Codex home. Returns false if one could not be read, which is reported.
///
/// # Errors
/// The archives cannot be listed, or the user interrupts.
pub(crate) fn add_archives(
    search: &mut LossSearch,
    context: &Context,
) -> Result<bool, CommandError> {
    let manager = &context.settings.manager_home;
    let home = context.settings.codex_home.display().to_string();
    let backups = store::backups(manager);
    let is_wanted = |metadata: &Metadata| {
        metadata.source_codex_home == home && metadata.mode != BackupMode::Auth
    };
    let records = store::archives(manager)?;
    let usable = numbered(&records).into_iter();
    let usable = usable.filter(|record| record.is_usable() && is_wanted(&record.metadata));
    let files = usable.map(|record| ArchivedCopies {
        place: CopyPlace {
            name: record.path.clone(),
            kind: CopyPlaceKind::Archive(typed_name(record)),
        },
        path: backups.join(&record.path),
    });
    let trashed = trash::archives(manager)?
        .into_iter()
        .map(|path| ArchivedCopies {
            place: CopyPlace::file(&path, CopyPlaceKind::TrashedArchive),
            path,
        });
    let files: Vec<_> = files.chain(trashed).collect();
    let mut is_whole = true;
    let take = |(file, opened): (ArchivedCopies, Result<ArchiveReader, _>)| {
        match opened {
            _ if is_interrupted() => return Err(CommandError::interrupted()),
            Ok(archive) if is_wanted(archive.metadata()) => {
                search.add_source(file.place, Box::new(archive));
            }
            Ok(_) => {}
            Err(e) => {
                is_whole = false;
                let problem = CommandError::from(e).in_one_line();
                context
                    .ui
                    .warn(format_args!("not searched: {}: {problem}", file.place.name));
            }
        }
        Ok(())
    };
    let open = |file: ArchivedCopies| {
        let opened = ArchiveReader::open(&file.path);
        (file, opened)
    };
    parallel::ordered_each(parallel::threads(), files, open, take)?;
    Ok(is_whole)
}

/// Adds the copies that are files of their own.
///
/// # Errors
/// A folder cannot be listed.
pub(crate) fn add_files(search: &mut LossSearch, context: &Context) -> Result<(), CommandError> {
    let settings = &context.settings;
    for folder in Replica::folders_of(&settings.manager_home, &settings.codex_home)? {
        // The copies in the cloud folder are there too, or belong to other machines.
        let copies = ConflictCopies::read(&folder, &folder)?;
        for copy in copies.all.values().filter(|copy| copy.local.is_some()) {
            let path = copies.folders.path(Side::Local, &copy.name);
            let name = PathBuf::from(format!("{}.jsonl", copy.conversation()));
            if let Some(file) = RolloutName::of(&name) {
                search.add_file(
                    CopyPlace::file(&path, CopyPlaceKind::ConflictCopy),
                    file,
                    path,
                );
            }
        }
    }
    let trashed = storage::trash::rollouts(&settings.manager_home, &settings.codex_home)?;
    for path in search.twins().into_iter().chain(trashed) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The trash numbers the further rollouts of a conversation.
        let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        if let Some(file) = RolloutName::of(Path::new(name)) {
            search.add_file(CopyPlace::file(&path, CopyPlaceKind::File), file, path);
        }
    }
    Ok(())
}
