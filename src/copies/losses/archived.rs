//! Compares the conversations of the home with archives, for `backup` and `prune`.

use crate::context::Context;
use crate::copies::losses::acceptance::LossAcceptance;
use crate::copies::losses::gone::{GoneConversation, record_gone};
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::place::{CopyBackup, CopyPlace, CopyPlaceKind};
use crate::copies::losses::report::{
    CheckExtent, LossJson, record_losses, to_json_rows, warn_of_failures,
};
use crate::copies::losses::search::{FoundLosses, LossSearch};
use crate::copies::losses::{describe_gone, describe_last_copy, places, short_id};
use crate::copies::source::{ConversationSource as _, list_rollout_ids};
use crate::copies::unreadable_fixes::find_restored_id;
use crate::doctor::way_back::DismissedIds;
use crate::error::{CommandError, Result, check_interrupt};
use codex_manager_core::archive::{ArchiveManifest, ArchiveReader};
use codex_manager_core::history::check::compare;
use codex_manager_core::history::unreadable::UnreadableCause;
use codex_manager_core::inventory::archive_names::{file_name, strip_archive_suffix};
use codex_manager_core::inventory::retention::RetentionPlan;
use codex_manager_core::inventory::{ArchiveRecord, losses, trash};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Messages or turns of a conversation of which at least one copy must be kept.
#[derive(Debug)]
struct NeededCopy {
    /// The id of the conversation that lacks the messages or turns.
    id: String,
    /// The places with a copy, the newest first.
    places: Vec<CopyPlace>,
    /// The id of the conversation to restore, which may be a deleted one.
    restored_id: String,
    content: NeededContent,
}

/// The reason why a copy must be kept.
#[derive(Debug, PartialEq, Eq)]
enum NeededContent {
    /// Messages that the conversation lacks. The user can accept their loss.
    LostMessages,
    HiddenTurns,
    /// This number of whole conversations that the home lacks. The user can accept their loss.
    GoneConversations(usize),
    /// A conversation that could not be compared, for example because its rollout is damaged. This may be its last
    /// intact copy.
    NotCompared,
}

impl NeededCopy {
    /// Returns the reason to keep the archive that has this content, as a clause.
    fn describe_reason(&self) -> String {
        let id = short_id(&self.id);
        match self.content {
            NeededContent::LostMessages => describe_last_copy(&self.id),
            NeededContent::HiddenTurns => {
                format!("has turns of the conversation {id} that Codex hides")
            }
            NeededContent::GoneConversations(count) => describe_gone(&self.id, count),
            NeededContent::NotCompared => {
                format!("has the conversation {id}, which could not be compared")
            }
        }
    }
}

/// The archives that have the messages which conversations lack, or the turns that a migration hid.
#[derive(Debug)]
pub(crate) struct NeededArchives(Vec<NeededCopy>);

impl NeededArchives {
    /// Compares the conversations of the Codex home and of `homes`, which may be gone, with all archives of these homes in
    /// `records`. Warns of conversations that cannot be compared; all their different copies count as needed.
    ///
    /// # Errors
    /// A home or the trash cannot be listed, or the user interrupts.
    pub(crate) fn find(
        homes: BTreeSet<PathBuf>,
        records: &[ArchiveRecord],
        context: &Context,
    ) -> Result<Self> {
        let is_archive = |kind: &CopyPlaceKind| matches!(kind, CopyPlaceKind::Archive(_));
        Self::find_among(homes, records, is_archive, context)
    }

    /// Like [`NeededArchives::find`], for the copies in the places that `is_wanted` selects.
    fn find_among(
        mut homes: BTreeSet<PathBuf>,
        records: &[ArchiveRecord],
        is_wanted: impl Fn(&CopyPlaceKind) -> bool,
        context: &Context,
    ) -> Result<Self> {
        homes.insert(context.codex_home().to_path_buf());
        let mut needed = Vec::new();
        for codex_home in homes {
            let mut context = context.clone();
            context.settings.codex_home = codex_home;
            needed.extend(Self::find_in_home(records, &context, &is_wanted)?);
        }
        Ok(Self(needed))
    }

    fn find_in_home(
        records: &[ArchiveRecord],
        context: &Context,
        is_wanted: impl Fn(&CopyPlaceKind) -> bool,
    ) -> Result<Vec<NeededCopy>> {
        let mut search = LossSearch::new(LiveThreads::read(context.codex_home())?);
        places::add_archives(&mut search, records, context)?;
        let acceptance = LossAcceptance::read(&search.live, context)?;
        let found = search.find_losses(&acceptance.accepted)?;
        warn_of_failures(&found, context);

        let mut needed = Vec::new();
        // Any copy of a conversation that could not be compared may have lost messages, so each copy is needed.
        for (id, _) in found.failures {
            for places in search.list_places_by_copy(&id) {
                needed.push(NeededCopy {
                    id: id.clone(),
                    places,
                    restored_id: id.clone(),
                    content: NeededContent::NotCompared,
                });
            }
        }

        for loss in found.losses {
            for places in loss.find_needed_places(&search.places, &is_wanted) {
                needed.push(NeededCopy {
                    id: loss.id.clone(),
                    places,
                    restored_id: loss.restored_id.clone(),
                    content: NeededContent::LostMessages,
                });
            }
        }

        for (id, places) in find_hidden_turns(records, context)? {
            needed.push(NeededCopy {
                id: id.clone(),
                places,
                restored_id: id,
                content: NeededContent::HiddenTurns,
            });
        }

        for NeededGone { id, count, places } in find_needed_gone(&search, &is_wanted, context)? {
            needed.push(NeededCopy {
                id: id.clone(),
                places,
                restored_id: id,
                content: NeededContent::GoneConversations(count),
            });
        }

        // A caller that wants archives only, such as `prune`, must not count on a copy in the trash.
        for copy in &mut needed {
            copy.places.retain(|place| is_wanted(&place.kind));
        }
        Ok(needed)
    }

    /// Makes `plan` keep at least one archive with each of these copies. If `plan` would remove all archives with a
    /// copy, keeps the newest of them.
    pub(crate) fn keep_last_copies(&self, plan: &mut RetentionPlan) {
        for copy in &self.0 {
            let names: Vec<_> = copy.places.iter().map(|place| place.name.clone()).collect();
            plan.keep_one_of(&names, &copy.describe_reason());
        }
    }
}

/// Gone conversations of which a copy must be kept.
#[derive(Debug)]
pub(crate) struct NeededGone {
    /// The id of the first conversation.
    pub id: String,
    /// The number of conversations that these places have, and of which each is enough.
    pub count: usize,
    /// The newest place first.
    pub places: Vec<CopyPlace>,
}

/// Returns the gone conversations of which a copy must be kept. After the days of `prune.keep_gone`, counted from the
/// first check or backup that missed a conversation, its copies may go.
///
/// # Errors
/// The record of losses or the trash cannot be read, or the user interrupts.
pub(crate) fn find_needed_gone(
    search: &LossSearch,
    is_wanted: impl Fn(&CopyPlaceKind) -> bool,
    context: &Context,
) -> Result<Vec<NeededGone>> {
    let Some(oldest_kept) = context.oldest_kept_absence() else {
        return Ok(Vec::new());
    };
    let (home, now) = (context.codex_home(), context.now());
    let recorded = losses::read(context.manager_home())?.gone_from(&losses::home_key(home));
    let is_kept = |gone: &GoneConversation| {
        let since = recorded.get(&gone.id).map(|known| known.since.to_utc());
        let since = since.unwrap_or_else(|| search.find_time_of_absence(gone, home.is_dir(), now));
        since >= oldest_kept
    };

    // Most conversations have the same places, so each set of places is made once.
    let mut by_places: BTreeMap<Vec<usize>, (String, usize)> = BTreeMap::new();
    let is_copy = |place: &CopyPlace| place.kind != CopyPlaceKind::File;
    let gone = search.find_gone(&DismissedIds::read(context)?, is_copy);
    for gone in gone.into_iter().filter(is_kept) {
        for places in search.find_needed_places_of_gone(&gone, &is_wanted)? {
            let (_, count) = by_places
                .entry(places)
                .or_insert_with(|| (gone.id.clone(), 0));
            *count += 1;
        }
    }

    let needed = by_places
        .into_iter()
        .map(|(places, (id, count))| NeededGone {
            id,
            count,
            places: places
                .into_iter()
                .map(|place| search.places[place].place.clone())
                .collect(),
        });
    Ok(needed.collect())
}

/// Fails if the trash of archives has the last copy of messages that a conversation lacks, or of turns that a migration
/// hid.
///
/// # Errors
/// The trash has such a copy, the home or the archives cannot be listed, or the user interrupts.
pub(crate) fn refuse_last_copy_in_trash(context: &Context) -> Result<()> {
    let is_trashed = |kind: &CopyPlaceKind| *kind == CopyPlaceKind::TrashedArchive;
    // All Codex homes of the manager home share the trash, so the conversations of each home are compared.
    let trashed_archives = trash::list_archives(context.manager_home())?.into_iter();
    // The comparison below warns of an archive that cannot be opened.
    let trashed_archives = trashed_archives.filter_map(|path| ArchiveReader::open(&path).ok());
    let homes =
        trashed_archives.map(|archive| PathBuf::from(&archive.metadata().source_codex_home));

    let is_anywhere = |_: &CopyPlaceKind| true;
    let needed =
        NeededArchives::find_among(homes.collect(), &context.archives()?, is_anywhere, context)?;

    let only_in_trash = needed.0.iter().find(|copy| {
        // A conversation that cannot be compared must not keep the trash full for ever.
        let is_compared = copy.content != NeededContent::NotCompared;
        let has_places = !copy.places.is_empty();
        let mut places = copy.places.iter();
        is_compared && has_places && places.all(|place| is_trashed(&place.kind))
    });
    let Some(copy) = only_in_trash else {
        return Ok(());
    };

    let accept = "accept the loss: codex-manager history losses --accept";
    let (lost_content, alternative) = match copy.content {
        NeededContent::LostMessages => ("messages that a conversation lost", accept),
        NeededContent::GoneConversations(_) => ("a conversation that the home lacks", accept),
        NeededContent::HiddenTurns | NeededContent::NotCompared => (
            "turns of a conversation that Codex hides",
            "trash the conversation: codex-manager storage trash",
        ),
    };

    let mut error = CommandError::refused(format!(
        "the trash has the last copy of {lost_content}; nothing was deleted"
    ));
    if let Some(place) = copy.places.first()
        && let Some(command) = place.format_restore_command(&copy.restored_id)
    {
        error = error.hint(format!("bring them back: {command}"));
    }
    Err(error.hint(format!("or {alternative} {}", copy.id)))
}

/// The losses that a backup found.
#[derive(Debug, Default)]
pub(crate) struct BackupLosses {
    /// The conversations of the new archive that lack messages.
    pub losses: Vec<LossJson>,
    /// The number of conversations that only the compared archives have; `None` if they were not compared.
    pub gone_count: Option<usize>,
    pub new_loss: Option<VanishedConversations>,
}

/// Many conversations that the home had when an archive was made, and lacks now.
#[derive(Debug)]
pub(crate) struct VanishedConversations {
    pub count: usize,
    /// The archive with most of them.
    pub place: CopyPlace,
}

/// Returns the losses of the new archive `name`, compared with the previous archive, and records them. A rollout that
/// the previous archive does not have is compared with its newest archived copy. Warns of conversations that cannot be
/// compared.
///
/// A file with the same size and mtime in both archives is not read. If a file grew, its beginning is hashed.
///
/// # Errors
/// The archives cannot be listed, the record of accepted losses cannot be read, or the user interrupts.
pub(crate) fn find_and_record_losses(
    previous: Option<ArchiveReader>,
    name: &str,
    new: &ArchiveManifest,
    context: &Context,
) -> Result<BackupLosses> {
    let live = LiveThreads::from_archive(context.codex_home(), &new.files);
    let mut search = LossSearch::new(live);

    let mut uncompared_ids = list_rollout_ids(&new.files);
    let mut compared_names = vec![name.to_owned()];
    if let Some(previous) = previous {
        for id in list_rollout_ids(previous.files()) {
            uncompared_ids.remove(&id);
        }
        let previous_name = file_name(previous.path());
        compared_names.push(previous_name.clone());
        let machine = context.machine();
        let place = CopyPlace {
            kind: CopyPlaceKind::Archive(strip_archive_suffix(&previous_name).to_owned()),
            name: previous_name,
            backup: Some(CopyBackup::new(previous.metadata(), machine.as_deref())),
        };
        search.add_source(place, Box::new(previous));
    }

    // The new archive is left out, because it has the live rollouts themselves.
    places::add_newest_copies(&mut search, uncompared_ids, &compared_names, context)?;

    let acceptance = LossAcceptance::read(&search.live, context)?;
    acceptance.withdraw_returned(context);
    let found = search.find_losses(&acceptance.accepted)?;
    let extent = CheckExtent::LastArchive;
    let losses = warn_and_record(&found, &search, &extent, context);
    let new_count = new.metadata.conversation_count().unwrap_or_default();
    let (gone_count, new_loss) =
        find_and_record_gone(search, new_count, context).unwrap_or_else(|e| {
            let problem = e.to_one_line();
            context.warn(format_args!(
                "not checked for lost conversations: {problem}"
            ));
            (None, None)
        });
    Ok(BackupLosses {
        losses,
        gone_count,
        new_loss,
    })
}

/// Records the conversations that the archives of `search` have and the home lacks. The new archive has `new_count`
/// conversations. Returns their number, and those to warn of, if they are a loss that was not recorded before.
///
/// # Errors
/// The archives, the trash or the record of losses cannot be read.
fn find_and_record_gone(
    mut search: LossSearch,
    new_count: u64,
    context: &Context,
) -> Result<(Option<usize>, Option<VanishedConversations>)> {
    places::add_fullest_archive(&mut search, 2 * new_count, context)?;
    if !search.lacks_threads() {
        return Ok((Some(0), None));
    }

    // The new archive may lack conversations of the home, because of exclusions. In a folder that cannot be listed,
    // nothing is missing for sure.
    let Ok(live) = LiveThreads::read(context.codex_home()) else {
        return Ok((None, None));
    };
    search.live = live;
    // Read after the home: a conversation that is moved to the trash meanwhile is not gone.
    let dismissed = DismissedIds::read(context)?;
    let gone = search.find_gone(&dismissed, CopyPlace::can_have_gone_conversations);
    let vanished = search.find_vanished(&gone, context.now());
    let is_complete_check = false;
    let is_new_loss = record_gone(&gone, &vanished, is_complete_check, context);

    let by_place = gone.chunk_by(|a, b| a.place == b.place).map(|of_place| {
        let count = of_place
            .iter()
            .filter(|gone| vanished.contains(&gone.id))
            .count();
        (count, of_place[0].place)
    });
    let most = by_place
        .max_by_key(|(count, _)| *count)
        .filter(|_| is_new_loss);
    let new_loss = most.map(|(count, place)| VanishedConversations {
        count,
        place: search.places.swap_remove(place).place,
    });
    Ok((Some(gone.len()), new_loss))
}

/// Warns of conversations that could not be compared, records the losses, and returns them.
fn warn_and_record(
    found: &FoundLosses,
    search: &LossSearch,
    extent: &CheckExtent,
    context: &Context,
) -> Vec<LossJson> {
    warn_of_failures(found, context);
    let rows = to_json_rows(&found.losses, &search.places, context);
    record_losses(found, &rows, &search.places, extent, context);
    rows
}

/// Compares the conversations that a restore changed, and those with recorded losses, with all archives again, and
/// records the result. `has_new_losses` is true if the restore replaced messages that the archive lacks. Without new,
/// recorded or accepted losses, does nothing.
///
/// # Errors
/// The home, the archives or the record of losses cannot be read, or the user interrupts.
pub(crate) fn recheck_after_restore(
    changed_ids: BTreeSet<String>,
    has_new_losses: bool,
    context: &Context,
) -> Result<()> {
    let home = losses::home_key(context.codex_home());
    let record = losses::read(context.manager_home())?;
    let recorded_losses = record.losses.iter().filter(|loss| loss.home == home);
    let recorded_ids: Vec<_> = recorded_losses
        .map(|loss| loss.session_id.clone())
        .collect();
    if recorded_ids.is_empty()
        && record.accepted_in(&home).is_empty()
        && record.gone_from(&home).is_empty()
        && record.accepted_gone_in(&home).is_empty()
        && !has_new_losses
    {
        return Ok(());
    }

    let mut search = LossSearch::new(LiveThreads::read(context.codex_home())?);
    places::add_archives(&mut search, &context.archives()?, context)?;
    let acceptance = LossAcceptance::read(&search.live, context)?;
    acceptance.withdraw_returned(context);

    let mut checked_ids = changed_ids;
    checked_ids.extend(recorded_ids);
    let found = search.find_losses_of(&acceptance.accepted, |id| checked_ids.contains(id))?;
    let extent = CheckExtent::Conversations(checked_ids);
    warn_and_record(&found, &search, &extent, context);
    Ok(())
}

/// Returns the ids of conversations with turns that a migration of Codex hid, each with the archives in which these
/// turns are visible, the newest first. The messages are not lost, because the live rollouts still have them. Leaves
/// out archives that cannot be read.
///
/// # Errors
/// The home or the trash cannot be listed, or the user interrupts.
fn find_hidden_turns(
    records: &[ArchiveRecord],
    context: &Context,
) -> Result<Vec<(String, Vec<CopyPlace>)>> {
    let (database, live_account) = (context.state_database(), None);
    let report = compare(context.codex_home(), database.as_deref(), live_account)?.report;
    let mut unreadable = report.unreadable;
    unreadable.retain(|conversation| conversation.cause == UnreadableCause::Boundary);
    if unreadable.is_empty() {
        return Ok(Vec::new());
    }

    let ids = unreadable.iter().map(|c| c.id.to_string());
    let mut places_by_id: Vec<_> = ids.map(|id| (id, Vec::new())).collect();
    for candidate in places::list_candidate_archives(records, context)? {
        check_interrupt()?;
        let Ok(archive) = ArchiveReader::open(&candidate.path) else {
            continue;
        };
        for (conversation, (_, places)) in unreadable.iter().zip(&mut places_by_id) {
            let restored_id = find_restored_id(&archive, conversation).unwrap_or_default();
            if restored_id.is_some() {
                places.push(candidate.place.clone());
            }
        }
    }
    Ok(places_by_id)
}
