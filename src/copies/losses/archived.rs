//! Compares the conversations of the home with archives, for `backup` and `prune`.

use crate::archive::{ArchiveManifest, ArchiveReader};
use crate::context::Context;
use crate::copies::losses::compare::Loss;
use crate::copies::losses::last_copy;
use crate::copies::losses::live::LiveThreads;
use crate::copies::losses::place::{CopyPlace, CopyPlaceKind};
use crate::copies::losses::places;
use crate::copies::losses::report::{CheckExtent, LossJson, describe, record};
use crate::copies::losses::search::LossSearch;
use crate::error::CommandError;
use crate::inventory::archive_names::{file_name, without_suffix};
use crate::inventory::{RetentionPlan, losses};

/// Archives that have messages which conversations lack.
#[derive(Debug, Default)]
pub(crate) struct NeededArchives(Vec<(String, Vec<Vec<String>>)>);

impl NeededArchives {
    /// Compares the conversations of the Codex home with all archives. A conversation that cannot be compared lacks
    /// nothing.
    ///
    /// # Errors
    /// The home or the archives cannot be listed, or the user interrupts.
    pub(crate) fn find(context: &Context) -> Result<Self, CommandError> {
        let (search, found) = compare_archives(context)?;
        let is_archive = |kind: &CopyPlaceKind| matches!(kind, CopyPlaceKind::Archive(_));
        let needed = found.iter().map(|loss| {
            let names = loss.needed_names(&search.places, is_archive);
            (last_copy(&loss.id), names)
        });
        Ok(Self(needed.collect()))
    }

    /// Keeps the last archive that has each of these messages.
    pub(crate) fn keep(&self, plan: &mut RetentionPlan) {
        for (reason, sets) in &self.0 {
            for names in sets {
                plan.keep_one_of(names, reason);
            }
        }
    }
}

fn compare_archives(context: &Context) -> Result<(LossSearch, Vec<Loss>), CommandError> {
    let mut search = LossSearch::new(LiveThreads::read(&context.settings.codex_home)?);
    places::add_archives(&mut search, context)?;
    let accepted = losses::read(&context.settings.manager_home)?.accepted;
    let found = search.run(&accepted)?.losses;
    Ok((search, found))
}

/// Refuses if no archive outside of the trash has messages that a conversation lacks.
///
/// # Errors
/// The trash has the last copy of messages, the home or the archives cannot be listed, or the user interrupts.
pub(crate) fn refuse_last_copy_in_trash(context: &Context) -> Result<(), CommandError> {
    let (search, found) = compare_archives(context)?;
    let trashed = CopyPlaceKind::TrashedArchive;
    let is_archive =
        |kind: &CopyPlaceKind| matches!(kind, CopyPlaceKind::Archive(_)) || *kind == trashed;
    let place_of = |name: &String| {
        let mut places = search.places.iter();
        places.find(|place| place.kind == trashed && place.name == *name)
    };
    let last = found.iter().find_map(|loss| {
        let needed = loss.needed_names(&search.places, is_archive).into_iter();
        let mut in_trash = needed.filter(|names| names.iter().all(|name| place_of(name).is_some()));
        Some((loss, in_trash.next()?))
    });
    let Some((loss, names)) = last else {
        return Ok(());
    };
    let message =
        "the trash has the last copy of messages that a conversation lost; nothing was deleted";
    let mut error = CommandError::refused(message);
    let place = names.first().and_then(place_of);
    if let Some(command) = place.and_then(|place| place.command(&loss.id)) {
        error = error.hint(format!("bring them back: {command}"));
    }
    Err(error.hint(format!(
        "if you do not miss them: codex-manager history losses --accept {}",
        loss.id
    )))
}

/// Returns the conversations of a new archive that lack messages which the previous one has, and records them.
///
/// Files that are in both with one size and time are not read; of a file that grew, the beginning is hashed.
///
/// # Errors
/// The user interrupts, or the record of accepted losses cannot be read.
pub(crate) fn lost_since(
    previous: ArchiveReader,
    new: &ArchiveManifest,
    context: &Context,
) -> Result<Vec<LossJson>, CommandError> {
    let settings = &context.settings;
    let live = LiveThreads::of_archive(&settings.codex_home, &new.files);
    let mut search = LossSearch::new(live);
    let name = file_name(previous.path());
    let place = CopyPlace {
        kind: CopyPlaceKind::Archive(without_suffix(&name).to_owned()),
        name,
    };
    search.add_source(place, Box::new(previous));
    let accepted = losses::read(&settings.manager_home)?.accepted;
    let found: Vec<Loss> = search.run(&accepted)?.losses;
    let listed = describe(&found, &search.places, context);
    let extent = CheckExtent::LastArchive;
    record(&found, &listed, &search.places, extent, context);
    Ok(listed)
}
