//! Opens the places that may have a more complete copy of a conversation: archives, also in the trash, conflict copies
//! of `sync`, trashed conversations, and compressed rollouts beside plain ones.

use crate::context::Context;
use crate::copies::losses::place::{CopyBackup, CopyPlace, CopyPlaceKind};
use crate::copies::losses::search::LossSearch;
use crate::copies::source::{ConversationSource as _, list_rollout_ids};
use crate::doctor::way_back::find_fullest;
use crate::error::{CommandError, Result, check_interrupt};
use chrono::{DateTime, Utc};
use codex_manager_core::archive::{ArchiveReader, BackupMode, Metadata};
use codex_manager_core::codex::{RolloutName, rollout};
use codex_manager_core::inventory::archive_names::list_numbered;
use codex_manager_core::inventory::{ArchiveProblem, ArchiveRecord, trash};
use codex_manager_core::io::parallel;
use codex_manager_core::storage;
use codex_manager_core::sync::conflict_copies::ConflictCopies;
use codex_manager_core::sync::sides::Side;
use codex_manager_core::sync::state::Replica;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// An archive that may have copies. It is not opened yet.
pub(crate) struct CandidateArchive {
    pub place: CopyPlace,
    pub path: PathBuf,
}

/// Returns false for an archive of another home, or of the login alone.
pub(crate) fn may_have_copies(metadata: &Metadata, home: &Path) -> bool {
    metadata.mode != BackupMode::Auth && metadata.records_home(home)
}

/// Returns the usable archives of the Codex home that may have conversations, with their times, the newest first.
fn list_usable_archives(
    records: &[ArchiveRecord],
    context: &Context,
) -> Vec<(CandidateArchive, DateTime<Utc>)> {
    let home = context.codex_home();
    let machine = context.machine();
    let backups = context.backups();
    let archives = list_numbered(records).into_iter();
    let usable =
        archives.filter(|record| record.is_usable() && may_have_copies(&record.metadata, home));

    let dated_archives = usable.map(|record| {
        let archive = CandidateArchive {
            place: CopyPlace::for_archive(record, machine.as_deref()),
            path: backups.join(&record.path),
        };
        (archive, record.metadata.created_at.to_utc())
    });
    dated_archives.collect()
}

/// Returns the usable archives of the Codex home among `records`, the newest first, then all archives in the trash.
///
/// # Errors
/// The trash cannot be listed.
pub(crate) fn list_candidate_archives(
    records: &[ArchiveRecord],
    context: &Context,
) -> Result<Vec<CandidateArchive>> {
    let usable_archives = list_usable_archives(records, context).into_iter();
    let archives = usable_archives.map(|(archive, _time)| archive);
    let trashed_paths = trash::list_archives(context.manager_home())?;
    let trashed = trashed_paths.into_iter().map(|path| CandidateArchive {
        place: CopyPlace::for_file(&path, CopyPlaceKind::TrashedArchive),
        path,
    });
    Ok(archives.chain(trashed).collect())
}

/// Adds the fullest archive of the Codex home among those that are compared, if it has more than `min_count`
/// conversations and is not one of the places yet. An archive that cannot be opened is left out.
///
/// # Errors
/// The archives cannot be listed.
pub(crate) fn add_fullest_archive(
    search: &mut LossSearch,
    min_count: u64,
    context: &Context,
) -> Result<()> {
    let records = context.archives()?;
    let machine = context.machine();
    let of_home = records.iter().filter(|record| {
        let metadata = &record.metadata;
        record.is_usable()
            && may_have_copies(metadata, context.codex_home())
            && !metadata.is_from_other_machine(machine.as_deref())
    });
    let is_place = |name: &str| search.places.iter().any(|of| of.place.name == name);
    if let Some((record, count)) = find_fullest(of_home, context.now())
        && count > min_count
        && !is_place(&record.path)
        && let Ok(archive) = ArchiveReader::open(&context.backups().join(&record.path))
    {
        let place = CopyPlace::for_archive(record, machine.as_deref());
        search.add_source(place, Box::new(archive));
    }
    Ok(())
}

/// Adds the newest archived copy of each rollout in `wanted_ids`, but none from the archives `excluded_names`. Opens
/// the newest archive first, and stops when all rollouts are found or the remaining archives are older than the missing
/// rollouts.
///
/// # Errors
/// The archives cannot be listed, or the user interrupts.
pub(crate) fn add_newest_copies(
    search: &mut LossSearch,
    mut wanted_ids: BTreeSet<String>,
    excluded_names: &[String],
    context: &Context,
) -> Result<()> {
    // The id of a rollout has its creation time, so an archive from before that time cannot have the rollout.
    let may_be_in_archive_of = |time: &DateTime<Utc>, id: &String| {
        rollout::uuid_time_ms(id).is_none_or(|created| created < time.timestamp_millis())
    };

    if wanted_ids.is_empty() {
        return Ok(());
    }

    for (candidate, time) in list_usable_archives(&context.archives()?, context) {
        check_interrupt()?;
        if excluded_names.contains(&candidate.place.name) {
            continue;
        }
        if !wanted_ids.iter().any(|id| may_be_in_archive_of(&time, id)) {
            return Ok(());
        }

        // No warning, because `history losses` names archives that cannot be read.
        let Ok(archive) = ArchiveReader::open(&candidate.path) else {
            continue;
        };

        let found_ids = &list_rollout_ids(archive.files()) & &wanted_ids;
        wanted_ids.retain(|id| !found_ids.contains(id));
        if !found_ids.is_empty() {
            let is_found = |name: &RolloutName| {
                let id = name.rollout_id().map(str::to_lowercase);
                id.is_some_and(|id| found_ids.contains(&id))
            };
            search.add_rollouts(candidate.place, Box::new(archive), is_found);
        }
    }
    Ok(())
}

/// Adds the archives of the Codex home among `records`, and those in the trash. Returns true if all archives could be
/// read. Prints a warning for each archive that cannot be read.
///
/// # Errors
/// The trash cannot be listed, or the user interrupts.
pub(crate) fn add_archives(
    search: &mut LossSearch,
    records: &[ArchiveRecord],
    context: &Context,
) -> Result<bool> {
    let home = context.codex_home();
    let machine = context.machine();
    let archives = list_candidate_archives(records, context)?;
    let mut are_all_readable = true;

    let add_opened = |opened: (CandidateArchive, Result<ArchiveReader, _>)| -> Result<()> {
        let (candidate, result) = opened;
        check_interrupt()?;
        match result {
            Ok(archive) if may_have_copies(archive.metadata(), home) => {
                let backup = Some(CopyBackup::new(archive.metadata(), machine.as_deref()));
                let place = CopyPlace {
                    backup,
                    ..candidate.place
                };
                search.add_source(place, Box::new(archive));
            }
            // An archive in the trash may be of another home.
            Ok(_) => {}
            Err(e) => {
                are_all_readable = false;
                let problem = CommandError::from(e).to_one_line();
                context.warn(format_args!(
                    "not searched: {}: {problem}",
                    candidate.place.name
                ));
            }
        }
        Ok(())
    };

    // Archives are opened in parallel but added in order, because a copy names the newest place first.
    let open_archive = |candidate: CandidateArchive| {
        let result = ArchiveReader::open(&candidate.path);
        (candidate, result)
    };
    parallel::run_each_ordered(parallel::thread_count(), archives, open_archive, add_opened)?;
    add_damaged_archives(search, records, context);
    Ok(are_all_readable)
}

/// Adds the conversations that are not live of the archives that `verify` found damaged: some can still be extracted.
fn add_damaged_archives(search: &mut LossSearch, records: &[ArchiveRecord], context: &Context) {
    let machine = context.machine();
    let is_damaged = |record: &&ArchiveRecord| {
        record.problem() == Some(&ArchiveProblem::FoundDamaged)
            && may_have_copies(&record.metadata, context.codex_home())
    };
    for record in list_numbered(records).into_iter().filter(is_damaged) {
        if let Ok(archive) = ArchiveReader::open(&context.backups().join(&record.path)) {
            let mut place = CopyPlace::for_archive(record, machine.as_deref());
            // It proves nothing about the home.
            place.backup = place.backup.map(|backup| CopyBackup {
                is_full: false,
                ..backup
            });
            let live_ids: HashSet<_> = search.live.0.keys().cloned().collect();
            search.add_rollouts(place, Box::new(archive), |name| {
                name.id()
                    .is_some_and(|id| !live_ids.contains(&id.to_lowercase()))
            });
        }
    }
}

/// Adds the copies that are single files: conflict copies of `sync`, trashed conversations, and compressed rollouts
/// beside plain ones.
///
/// # Errors
/// A folder cannot be listed.
pub(crate) fn add_single_files(search: &mut LossSearch, context: &Context) -> Result<()> {
    for folder in Replica::find_folders(context.manager_home(), context.codex_home())? {
        // The cloud folder is not read: its copies are in the local folder too, or belong to other machines.
        let copies = ConflictCopies::read(&folder, &folder)?;
        for copy in copies.all.values().filter(|copy| copy.local.is_some()) {
            let path = copies.folders.path(Side::Local, &copy.name);
            let name = PathBuf::from(format!("{}.jsonl", copy.conversation_label()));
            if let Some(rollout_name) = RolloutName::parse(&name) {
                let place = CopyPlace::for_file(&path, CopyPlaceKind::ConflictCopy);
                search.add_file(place, rollout_name, path);
            }
        }
    }

    let trashed = storage::trash::list_rollouts(context.manager_home(), context.codex_home())?;
    for path in search.list_compressed_copies().into_iter().chain(trashed) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // In the trash, the names of the further rollouts of a conversation begin with a number.
        let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        if let Some(rollout_name) = RolloutName::parse(Path::new(name)) {
            let place = CopyPlace::for_file(&path, CopyPlaceKind::File);
            search.add_file(place, rollout_name, path);
        }
    }
    Ok(())
}
