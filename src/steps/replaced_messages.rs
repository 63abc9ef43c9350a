//! Counts the messages that a restore of one conversation removes from the home, and updates the record of lost
//! messages.

use crate::context::Context;
use crate::copies::losses::archived::recheck_after_restore;
use crate::copies::source::{ConversationSource as _, read_messages, rollout_files};
use crate::error::Result;
use codex_manager_core::archive::ArchiveReader;
use codex_manager_core::codex::{RolloutName, kind_of, parse_rollout_id};
use codex_manager_core::conversations::messages::{self, MessageCounts};
use codex_manager_core::io::{IoContext, pluralize};
use codex_manager_core::restore::RestoreRequest;
use codex_manager_core::restore::plan::{RestorePlan, Selection};
use std::path::Path;

/// Counts the messages that the archive lacks in the rollouts that the plan replaces or removes. Returns 0 if no
/// conversation was selected, or if the archive is a snapshot that is not downloaded. Ignores rollouts that cannot be
/// read.
pub(crate) fn count_replaced_messages(request: &RestoreRequest<'_>, plan: &RestorePlan) -> usize {
    // A dry run does not download a snapshot.
    let is_downloaded = request.archive.path().is_file();
    if request.selection.rollout_names.is_empty() || !is_downloaded {
        return 0;
    }

    let replaced = plan.replaced_and_removed();
    let rollouts = replaced.iter().filter(|name| {
        kind_of(name.as_path()).is_rollout_folder() && RolloutName::parse(name.as_path()).is_some()
    });
    let paths = rollouts.map(|name| request.folder.join(name.as_path()));
    paths
        .map(|path| count_missing_in_archive(request.archive, &path).unwrap_or_default())
        .sum()
}

/// Describes replaced messages with the archive that keeps them; `None` if there are none.
pub(crate) fn describe_replaced_messages(count: usize, kept_in: &str) -> Option<String> {
    let messages = pluralize(count, "message");
    (count > 0)
        .then(|| format!("not in the archive: {messages} of the Codex home, kept in {kept_in}"))
}

/// Counts the messages of the live rollout at `path` that the archive does not have.
fn count_missing_in_archive(archive: &ArchiveReader, path: &Path) -> Result<usize> {
    let live_messages = messages::read_messages(path).at("read", path)?;
    let rollout_id = parse_rollout_id(path);
    let mut archived_rollouts = rollout_files(archive.files());
    let archived_rollout = archived_rollouts.find(|(_, archived_rollout)| {
        parse_rollout_id(archived_rollout.path.as_path()) == rollout_id
    });
    let mut counts = MessageCounts::default();
    if let Some((_, archived_rollout)) = archived_rollout {
        counts.add(&read_messages(archive, &archived_rollout)?);
    }
    Ok(counts.find_missing(&live_messages).len())
}

/// Compares restored conversations with all archives again, so that `doctor` reports only the losses that remain. If
/// this fails, prints a warning and returns false.
pub(crate) fn update_losses(
    selection: &Selection,
    replaced_messages: usize,
    context: &Context,
) -> bool {
    let rollout_names = selection.rollout_names.iter();
    let ids = rollout_names.filter_map(|name| {
        let rollout = RolloutName::parse(Path::new(name))?;
        rollout.id().map(str::to_lowercase)
    });
    let checked = recheck_after_restore(ids.collect(), replaced_messages > 0, context);
    if let Err(e) = &checked {
        let problem = e.to_one_line();
        context.ui.warn(format_args!(
            "the record of lost messages was not updated, so doctor may report losses that no longer exist: {problem}"
        ));
    }
    checked.is_ok()
}
