//! The way back to the conversations that a home lacks: its best copy, the command that restores it, and the login after
//! it. All hints to sign in are made here.

use super::rollouts::{find_unlistable_folder, iter_rollouts};
use crate::context::Context;
use crate::error::Result;
use crate::ui::time;
use chrono::{DateTime, TimeDelta, Utc};
use codex_manager_core::archive::BackupMode;
use codex_manager_core::codex::read_login;
use codex_manager_core::inventory::archive_names::{LATEST, shortest_name};
use codex_manager_core::inventory::{ArchiveRecord, losses, remedies, store};
use codex_manager_core::io::{pluralize, shell};
use codex_manager_core::storage::trash;
use codex_manager_core::vault::state;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The age of the oldest archive that a home is compared with, unless it is the newest one.
pub(crate) const COMPARED_AGE: TimeDelta = TimeDelta::days(90);

/// The largest number of conversations that the user may have deleted one by one, so that they are no loss.
pub(crate) const MAX_DELETED: usize = 2;

/// Returns true if the user hardly deleted one by one the conversations that a home lacks: `missing` of the `copied`
/// ones in an archive. The home has less than half as many, or lacks more than a tenth of the newest archive.
pub(crate) fn is_loss(missing: usize, live: usize, copied: usize, is_newest: bool) -> bool {
    let is_below_half = live * 2 < copied;
    missing > MAX_DELETED && (is_below_half || is_newest && missing * 10 > copied)
}

/// Returns the archive with the most conversations among those of [`COMPARED_AGE`], with their number.
pub(crate) fn find_fullest<'r>(
    records: impl Iterator<Item = &'r ArchiveRecord>,
    now: DateTime<Utc>,
) -> Option<(&'r ArchiveRecord, u64)> {
    let recent = records.filter(|record| now - record.metadata.created_at.to_utc() <= COMPARED_AGE);
    let counted = recent.filter_map(|record| Some((record, record.metadata.conversation_count()?)));
    counted.max_by_key(|(_, count)| *count)
}

/// True once a hint of this run has named the way back.
static IS_NAMED: AtomicBool = AtomicBool::new(false);

/// The conversations that are gone by the user's own decision, by id in lower case.
#[derive(Debug, Default)]
pub(crate) struct DismissedIds {
    /// The conversations whose loss the user accepted, or which were deleted from the trash.
    accepted: BTreeSet<String>,
    /// The conversations in the trash of this program, with the time at which each was moved there.
    trashed: HashMap<String, DateTime<Utc>>,
}

impl DismissedIds {
    /// # Errors
    /// The trash or the record of losses cannot be read, or is of a newer version.
    pub(crate) fn read(context: &Context) -> Result<Self> {
        let (manager_home, home) = (context.manager_home(), context.codex_home());
        let accepted = losses::read(manager_home)?.accepted_gone_in(&losses::home_key(home));
        let entries = trash::list_entries(manager_home)?.into_iter();
        // The entries are in the order of time, so the last one of a conversation counts.
        let trashed = entries.filter(|entry| entry.is_of_home(home)).map(|entry| {
            let id = entry.conversation.id.to_lowercase();
            (id, entry.conversation.trashed_at)
        });
        Ok(Self {
            accepted,
            trashed: trashed.collect(),
        })
    }

    fn len(&self) -> usize {
        self.accepted.len() + self.trashed.len()
    }

    /// Returns true for a conversation that the user dismissed after a copy was made at `copied_at`. A trashed
    /// conversation may have come back since, by a restore.
    pub(crate) fn contains(&self, id: &str, copied_at: Option<DateTime<Utc>>) -> bool {
        let trashed_at = self.trashed.get(id);
        let is_trashed_later = |at: &DateTime<Utc>| copied_at.is_none_or(|copied| copied <= *at);
        self.accepted.contains(id) || trashed_at.is_some_and(is_trashed_later)
    }
}

/// The best copy of a home that is missing, without conversations, or that lacks more than half of those in the copy.
pub(crate) struct WayBack {
    /// The copy, such as "an archive of today 20:43 has 188 conversations".
    pub(crate) finding: String,
    pub(crate) command: String,
    /// True if the home has conversations.
    pub(crate) is_partial: bool,
}

impl WayBack {
    /// Returns the hint, and records that it is named.
    pub(crate) fn to_hint(&self) -> String {
        mark_named();
        format!("{}: {}", self.finding, self.command)
    }
}

/// Records that a text of this run has named the conversations that the home lacks.
pub(crate) fn mark_named() {
    IS_NAMED.store(true, Relaxed);
}

/// Returns true if a hint of this run has named the way back.
pub(crate) fn is_named() -> bool {
    IS_NAMED.load(Relaxed)
}

/// Returns the hint below a list that lacks conversations of the home: the way back, or the command that lists the lost
/// ones. `None` if the home lost none.
pub(crate) fn suggest_complete_list(context: &Context) -> Option<String> {
    let way_back = find_way_back(context);
    way_back.as_ref().map(WayBack::to_hint).or_else(|| {
        let (lost, command) = (describe_lost(context)?, format_losses_command(context));
        Some(format!("{lost}: {command}"))
    })
}

/// Returns the command that lists the lost conversations. Without archives, the vault has them.
pub(crate) fn format_losses_command(context: &Context) -> String {
    let vault_option = if has_archives(context) {
        ""
    } else {
        " --vault"
    };
    format!("codex-manager history losses{vault_option}")
}

fn has_archives(context: &Context) -> bool {
    context.archives().is_ok_and(|records| !records.is_empty())
}

/// Returns the next steps to the login of a first profile, one hint each: the way back to the conversations if the home
/// lacks them, then the login.
pub(crate) fn suggest_login(context: &Context) -> Vec<String> {
    let way_back = find_way_back(context);
    if read_login(context.codex_home()).is_ok_and(|auth| auth.login().is_some()) {
        let save = "save the live login: codex-manager profile save NAME".into();
        return list_steps(way_back.as_ref(), save);
    }
    let sign_in = suggest_program_and(context, "sign in: codex-manager profile login NAME");
    list_steps_to_login(way_back.as_ref(), sign_in)
}

/// Like [`suggest_login`], for the login of the Codex home: through Codex, or with the last saved login. If the user
/// named a home that does not exist, the last step is to check that name, so that no login moves to a mistyped folder.
pub(crate) fn suggest_sign_in(context: &Context) -> Vec<String> {
    let way_back = find_way_back(context);
    if let Some(name) = context.name_of_missing_home() {
        let check = remedies::suggest_check_of_home(name, context.codex_home());
        return list_steps(way_back.as_ref(), check);
    }

    let login = match find_saved_login(way_back.as_ref(), context) {
        Some(command) => format!(
            "sign in: codex login; or, unless codex logout has ended it, restore the last login: {command}"
        ),
        None => suggest_program_and(context, "sign in: codex login"),
    };
    list_steps_to_login(way_back.as_ref(), login)
}

/// Returns the command that makes a saved login live in the Codex home. If the home lacks conversations that an archive
/// has, this is no command that restores the login of an archive alone.
pub(crate) fn suggest_saved_login(context: &Context) -> Option<String> {
    find_saved_login(find_way_back(context).as_ref(), context)
}

fn find_saved_login(way_back: Option<&WayBack>, context: &Context) -> Option<String> {
    let (home, manager_home) = (context.codex_home(), context.manager_home());
    let may_restore = way_back.is_none();
    remedies::suggest_login_command(home, manager_home, may_restore)
}

fn suggest_program_and(context: &Context, sign_in: &str) -> String {
    match context.find_codex() {
        Ok(_) => sign_in.into(),
        Err(_) => format!("{}, then {sign_in}", remedies::INSTALL_CODEX),
    }
}

/// Returns the steps before and to a login. A restore brings the login of most archives, and a second login would end it.
fn list_steps_to_login(way_back: Option<&WayBack>, login: String) -> Vec<String> {
    let login = match way_back {
        Some(_) => format!("if that leaves Codex signed out, {login}"),
        None => login,
    };
    list_steps(way_back, login)
}

fn list_steps(way_back: Option<&WayBack>, last_step: String) -> Vec<String> {
    let way_back = way_back.map(WayBack::to_hint);
    way_back.into_iter().chain([last_step]).collect()
}

/// Returns true if the home has at least one conversation.
pub(crate) fn has_conversations(context: &Context) -> bool {
    iter_rollouts(context.codex_home()).next().is_some()
}

/// Returns the way back to the conversations that the home lacks. `None` if it has enough of those in its best copy, if
/// no copy is known, or if the folder of the home or of its conversations exists but cannot be listed, as on a
/// disk that is not mounted.
pub(crate) fn find_way_back(context: &Context) -> Option<WayBack> {
    let home = context.codex_home();
    let is_out_of_reach = !home.is_dir() && home.symlink_metadata().is_ok();
    if is_out_of_reach || find_unlistable_folder(home).is_some() {
        return None;
    }

    // Other commands report archives that cannot be listed.
    let records = context.archives().unwrap_or_default();
    let (machine, is_usable) = (context.machine(), ArchiveRecord::is_usable);
    let machine = machine.as_deref();
    let mut archives = store::list_latest_first(&records, home, machine, is_usable);
    let latest = archives.first().copied();

    let is_partial = has_conversations(context);
    let may_be_mistyped = context.name_of_missing_home().is_some();
    archives.retain(|record| {
        let metadata = &record.metadata;
        metadata.mode != BackupMode::Auth
            && !metadata.has_no_conversations()
            && (!may_be_mistyped || metadata.is_of_home_path(home))
            && (!is_partial || metadata.is_of_home(home, machine))
    });
    let Some((archive, count)) = find_best_archive(&archives, context) else {
        return if is_partial {
            None
        } else {
            find_snapshot(context)
        };
    };
    let has_enough = match (is_partial, count) {
        (true, count) => count.is_none_or(|count| has_enough_of(count, context)),
        (false, count) => count.is_some_and(|count| count_dismissed(context) as u64 >= count),
    };
    if has_enough {
        return None;
    }

    let is_latest = latest.is_some_and(|latest| latest.path == archive.path);
    let name = if is_latest {
        LATEST.into()
    } else {
        shell::quote_if_needed(&shortest_name(archive))
    };
    let merge_option = if is_partial { " --merge" } else { "" };
    Some(WayBack {
        finding: describe_archive(archive, count, is_partial, context),
        command: format!("codex-manager restore {name}{merge_option}"),
        is_partial,
    })
}

/// Returns the first of `archives`, the latest, with the number of its conversations if it is known. If the fullest
/// archive has more than twice as many, returns that one.
fn find_best_archive<'r>(
    archives: &[&'r ArchiveRecord],
    context: &Context,
) -> Option<(&'r ArchiveRecord, Option<u64>)> {
    let latest = *archives.first()?;
    let count = latest.metadata.conversation_count();
    let full = archives.iter().copied().filter(|r| r.metadata.is_full());
    if let Some((fullest, fullest_count)) = find_fullest(full, context.now())
        && count.is_some_and(|count| count * 2 < fullest_count)
    {
        return Some((fullest, Some(fullest_count)));
    }
    (count != Some(0)).then_some((latest, count))
}

/// Returns true if the home did not lose most of the `copied` conversations. Those that the user dismissed do not count.
fn has_enough_of(copied: u64, context: &Context) -> bool {
    let has_enough_of = |copied: usize| {
        let mut ids = HashSet::new();
        iter_rollouts(context.codex_home()).any(|(_, name)| {
            ids.extend(name.id().map(str::to_lowercase));
            !is_loss(copied.saturating_sub(ids.len()), ids.len(), copied, false)
        })
    };
    let copied = usize::try_from(copied).unwrap_or(usize::MAX);
    has_enough_of(copied) || has_enough_of(copied.saturating_sub(count_dismissed(context)))
}

fn count_dismissed(context: &Context) -> usize {
    DismissedIds::read(context).map_or(0, |dismissed| dismissed.len())
}

fn describe_archive(
    archive: &ArchiveRecord,
    count: Option<u64>,
    is_partial: bool,
    context: &Context,
) -> String {
    let metadata = &archive.metadata;
    let now = context.now();
    let age = metadata.made_at().map_or(String::new(), |at| {
        let at = time::format_recent(&at.to_utc(), context.zone(), &now);
        format!(" of {at}")
    });
    let home = if metadata.is_of_home_path(context.codex_home()) {
        String::new()
    } else {
        format!(" of {}", metadata.source_codex_home)
    };
    let conversations = count.map_or("conversations".into(), |count| {
        pluralize(count, "conversation")
    });
    let archive = format!("an archive{home}{age} has {conversations}");
    match describe_lost(context).filter(|_| is_partial) {
        Some(lost) => format!("{lost}; {archive}"),
        None if is_partial => format!("{archive}, more than twice as many as this home"),
        None => archive,
    }
}

/// Returns the number of conversations that the last check found to be lost; `None` if there are none.
fn describe_lost(context: &Context) -> Option<String> {
    let gone = context.recorded_gone();
    let count = gone.values().filter(|known| known.is_loss).count();
    let place = if has_archives(context) {
        "archives"
    } else {
        "the vault"
    };
    (count > 0).then(|| format!("{count} more in {place}"))
}

/// Returns the way back through the vault, if this machine has made a snapshot.
fn find_snapshot(context: &Context) -> Option<WayBack> {
    context.settings.preferences.vault.repository.as_ref()?;
    let made_at = state::read(context.manager_home()).ok()?.backed_up_at?;
    let at = time::format_recent(&made_at.to_utc(), context.zone(), &context.now());
    // A home without conversations may have been backed up since, so the user has to choose.
    let command = if context.codex_home().is_dir() {
        "codex-manager vault snapshots"
    } else {
        "codex-manager vault restore latest"
    };
    Some(WayBack {
        finding: format!("the vault has a snapshot of {at}"),
        command: command.into(),
        is_partial: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_more_than_a_tenth_of_the_newest_archive_or_more_than_half_of_another() {
        for (missing, live, copied, is_newest, expected) in [
            (2, 0, 2, true, false),
            (3, 0, 3, false, true),
            (3, 27, 30, true, false),
            (4, 26, 30, true, true),
            (15, 15, 30, false, false),
            (16, 14, 30, false, true),
            // Other conversations of the home do not replace those of the newest archive.
            (30, 40, 30, true, true),
            (30, 40, 30, false, false),
        ] {
            let is_loss = is_loss(missing, live, copied, is_newest);
            assert_eq!(is_loss, expected, "{missing} of {copied}, {live} live");
        }
    }
}
