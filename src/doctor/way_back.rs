//! The way back to the conversations that a home lacks: its best copy, the command that restores it, and the login after
//! it. All hints to sign in are made here.

use super::rollouts::{find_unlistable_folder, iter_rollouts};
use crate::context::Context;
use crate::ui::time;
use chrono::Duration;
use codex_manager_core::archive::BackupMode;
use codex_manager_core::codex::{RolloutName, read_login};
use codex_manager_core::inventory::archive_names::{LATEST, shortest_name};
use codex_manager_core::inventory::{ArchiveRecord, losses, remedies, store};
use codex_manager_core::io::{pluralize, shell};
use codex_manager_core::storage::trash;
use codex_manager_core::vault::state;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The age of an archive, in days, up to which it is named instead of a newer one with less than half its
/// conversations.
const MAX_FULLEST_AGE_DAYS: i64 = 90;

/// The number of conversations that a home may lack without a hint.
const FEW_MISSING: u64 = 2;

/// True once a hint of this run has named the way back.
static IS_NAMED: AtomicBool = AtomicBool::new(false);

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
        (false, count) => count.is_some_and(|count| count_dismissed(context) >= count),
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

/// Returns the first of `archives`, the latest, with the number of its conversations if it is known. If an archive of the
/// last [`MAX_FULLEST_AGE_DAYS`] has more than twice as many, returns that one.
fn find_best_archive<'r>(
    archives: &[&'r ArchiveRecord],
    context: &Context,
) -> Option<(&'r ArchiveRecord, Option<u64>)> {
    let latest = *archives.first()?;
    let count = latest.metadata.conversation_count();
    let oldest = context.now() - Duration::days(MAX_FULLEST_AGE_DAYS);
    let recent = archives
        .iter()
        .filter(|r| r.metadata.is_full() && r.metadata.created_at.to_utc() >= oldest);
    if let Some(fullest) = recent.max_by_key(|r| r.metadata.conversation_count())
        && let Some(fullest_count) = fullest.metadata.conversation_count()
        && count.is_some_and(|count| count * 2 < fullest_count)
    {
        return Some((fullest, Some(fullest_count)));
    }
    (count != Some(0)).then_some((latest, count))
}

fn lowercase_id(name: &RolloutName) -> Option<String> {
    name.id().map(str::to_lowercase)
}

/// Returns true if the home has at least half of `count` conversations, or all but [`FEW_MISSING`]. Those that the user
/// moved to the trash, or accepted as gone, count too.
fn has_enough_of(count: u64, context: &Context) -> bool {
    let home = context.codex_home();
    let enough = count.div_ceil(2).min(count.saturating_sub(FEW_MISSING));
    let mut ids = HashSet::new();
    for (_, name) in iter_rollouts(home) {
        ids.extend(lowercase_id(&name));
        if ids.len() as u64 >= enough {
            return true;
        }
    }
    ids.len() as u64 + count_dismissed(context) >= enough
}

/// Returns the number of conversations that the user moved to the trash, or accepted as gone.
fn count_dismissed(context: &Context) -> u64 {
    let home = context.codex_home();
    let trashed = trash::list_entries(context.manager_home()).unwrap_or_default();
    let trashed = trashed.iter().filter(|entry| entry.is_of_home(home));
    let losses = losses::read(context.manager_home()).unwrap_or_default();
    let accepted = losses.accepted_gone_in(&losses::home_key(home));
    (trashed.count() + accepted.len()) as u64
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
    let more = if is_partial {
        ", more than twice as many as this home"
    } else {
        ""
    };
    format!("an archive{home}{age} has {conversations}{more}")
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
