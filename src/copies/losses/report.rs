//! The losses as commands print and record them.

use crate::context::Context;
use crate::copies::losses::compare::Loss;
use crate::copies::losses::gone::GoneConversation;
use crate::copies::losses::place::{CopyPlace, CopyPlaceKind, SearchedPlace};
use crate::copies::losses::search::{FoundLosses, LossSearch};
use crate::ui::time::{format_absolute, rfc3339};
use chrono::{DateTime, Utc};
use codex_manager_core::history::thread_titles::read_titles;
use codex_manager_core::inventory::{KnownLoss, losses};
use codex_manager_core::io::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A loss in the JSON output. The keys are part of the JSON contract.
#[derive(Debug, Serialize)]
pub(crate) struct LossJson {
    pub session_id: String,
    pub title: String,
    pub rollout_path: Option<PathBuf>,
    pub lost_messages: usize,
    /// The time of the oldest missing message.
    pub first_lost: Option<String>,
    /// The name of the archive, the short id of the snapshot, or the path of the file with the most complete copy.
    pub place: String,
    /// The command that restores the messages; `None` if they are only in a file that no command restores.
    pub command: Option<String>,
    #[serde(skip)]
    first_lost_at: Option<DateTime<Utc>>,
}

impl LossJson {
    /// Returns a text such as ` since Tue 24 Nov 14:10`, with the time of the oldest missing message; empty if the time
    /// is unknown.
    pub(crate) fn format_first_lost(&self, context: &Context) -> String {
        let zone = context.settings.zone;
        let at = self.first_lost_at.as_ref();
        at.map_or_else(String::new, |at| {
            format!(" since {}", format_absolute(at, zone, &context.now()))
        })
    }
}

/// A conversation that only copies have, in the JSON output. The keys are part of the JSON contract.
#[derive(Debug, Serialize)]
pub(crate) struct GoneJson {
    pub session_id: String,
    pub title: String,
    /// The time of the newest copy; `None` for a conflict copy.
    pub last_live_at: Option<String>,
    /// The account of the archive or the snapshot.
    pub email: Option<String>,
    /// As in [`LossJson`].
    pub place: String,
    pub command: Option<String>,
    #[serde(skip)]
    pub gone: GoneConversation,
}

/// Converts gone conversations to rows of the JSON output, with the titles that `search` finds.
pub(crate) fn to_gone_rows(
    gone: Vec<GoneConversation>,
    search: &LossSearch,
    context: &Context,
) -> Vec<GoneJson> {
    let titles = search.read_gone_titles(&gone);
    let to_row = |(gone, title): (GoneConversation, String)| {
        let place = &search.places[gone.place].place;
        let backup = place.backup.as_ref();
        let account = backup.and_then(|backup| backup.account.as_ref());
        GoneJson {
            session_id: gone.id.clone(),
            title,
            last_live_at: backup.map(|backup| rfc3339(&backup.made_at, context.settings.zone)),
            email: account.map(|account| account.email.to_string()),
            place: place.display_name().to_owned(),
            command: place.format_restore_command(&gone.id),
            gone,
        }
    };
    gone.into_iter().zip(titles).map(to_row).collect()
}

/// Converts losses to rows of the JSON output, with the titles of their conversations.
pub(crate) fn to_json_rows(
    losses: &[Loss],
    places: &[SearchedPlace],
    context: &Context,
) -> Vec<LossJson> {
    let ids = losses.iter().map(|loss| loss.id.clone()).collect();
    let titles = read_titles(context.codex_home(), &context.env, ids);

    let to_json_row = |loss: &Loss| {
        let place = &places[loss.place].place;
        let first_lost_at = loss.first_lost_at();
        LossJson {
            session_id: loss.id.clone(),
            title: titles.get(&loss.id).cloned().unwrap_or_default(),
            rollout_path: loss.rollout_path.clone(),
            lost_messages: loss.messages.len(),
            first_lost: first_lost_at.map(|at| rfc3339(&at, context.settings.zone)),
            place: place.display_name().to_owned(),
            command: place.format_restore_command(&loss.restored_id),
            first_lost_at,
        }
    };
    losses.iter().map(to_json_row).collect()
}

/// Warns of the conversations that could not be compared.
pub(crate) fn warn_of_failures(found: &FoundLosses, context: &Context) {
    for (id, e) in &found.failures {
        let problem = e.to_one_line();
        context.warn(format_args!(
            "the conversation {id} was not compared with its copies: {problem}"
        ));
    }
}

/// Records losses for `doctor`, `notify` and `vault forget`. Removes each earlier loss that this check would have found
/// again if it still existed. Prints a warning if the record cannot be written.
pub(crate) fn record_losses(
    found: &FoundLosses,
    rows: &[LossJson],
    places: &[SearchedPlace],
    extent: &CheckExtent,
    context: &Context,
) {
    let manager_home = context.manager_home();
    let home = losses::home_key(context.codex_home());
    let former_record = losses::read(manager_home).unwrap_or_default();

    // A check with the last archive never removes a recorded loss. If it finds no loss, there is nothing to write.
    if found.losses.is_empty()
        && (former_record.losses.is_empty() || *extent == CheckExtent::LastArchive)
    {
        return;
    }

    let change = |record: &mut losses::LossRecord| {
        let (former_losses, losses_of_other_homes): (Vec<_>, Vec<_>) =
            std::mem::take(&mut record.losses)
                .into_iter()
                .partition(|recorded| recorded.home == home);

        for (loss, row) in found.losses.iter().zip(rows) {
            // Only a check of all places reads the snapshots. After any other check, the recorded snapshots stay.
            let snapshots = if *extent == CheckExtent::All {
                list_needed_snapshots(loss, places)
            } else {
                let mut same_home = former_losses.iter();
                let former = same_home.find(|former| former.session_id == loss.id);
                former.map_or_else(Vec::new, |former| former.snapshots.clone())
            };

            record.losses.push(KnownLoss {
                home: home.clone(),
                session_id: loss.id.clone(),
                title: row.title.clone(),
                lost_messages: row.lost_messages,
                snapshots,
            });
        }

        let is_found = |id: &str| found.losses.iter().any(|loss| loss.id == id);
        let has_failed = |id: &String| found.failures.iter().any(|(failed, _)| failed == id);
        let kept_losses = former_losses.into_iter().filter(|recorded| {
            let id = &recorded.session_id;
            let would_be_found_again = extent.includes(recorded) && !has_failed(id);
            !would_be_found_again && !is_found(id)
        });

        record.losses.extend(kept_losses);
        record.losses.extend(losses_of_other_homes);
        record.checked_at = Some(Timestamp::from(context.local_now()));
    };
    if let Err(e) = losses::update(manager_home, change) {
        context.warn(format_args!("cannot record the lost messages: {e}"));
    }
}

/// Returns sets of ids of snapshots. If one snapshot of each set is kept, each lost message that any snapshot has can
/// still be restored.
fn list_needed_snapshots(loss: &Loss, places: &[SearchedPlace]) -> Vec<Vec<String>> {
    let needed = loss.find_needed_places(places, |kind| *kind == CopyPlaceKind::Snapshot);
    let ids = |places: Vec<CopyPlace>| places.into_iter().map(|place| place.name).collect();
    needed.into_iter().map(ids).collect()
}

/// The conversations that were compared, and the copies with which they were compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckExtent {
    /// The conversations of a new archive, with the previous archive, and with the newest copies of other rollouts.
    LastArchive,
    /// All conversations, with all copies except those in snapshots.
    WithoutVault,
    /// All conversations, with all copies.
    All,
    /// The conversations with these ids, with all archives.
    Conversations(BTreeSet<String>),
}

impl CheckExtent {
    /// Returns true if this check would find the loss `recorded` again if it still existed.
    fn includes(&self, recorded: &KnownLoss) -> bool {
        match self {
            Self::All => true,
            // The snapshots were not read, so they may still have messages that no other place has.
            Self::WithoutVault => recorded.snapshots.is_empty(),
            Self::LastArchive => false,
            Self::Conversations(ids) => ids.contains(&recorded.session_id),
        }
    }
}
