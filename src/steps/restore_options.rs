//! Restores an archive or a snapshot, for `restore` and `vault restore`.

use crate::choices::conversation_picker::pick_archived;
use crate::context::Context;
use crate::copies::source::{self, ConversationSource};
use crate::error::{CommandError, Outcome, Result};
use crate::steps::earlier_turns::project_continued_rollouts;
use crate::steps::home_checks::{describe_login_ban, forbids_logins};
use crate::steps::replaced_messages::{
    count_replaced_messages, describe_replaced_messages, update_losses,
};
use crate::steps::switch_account::update_cooldown_file;
use crate::views::account::{warn_all, warn_unless_recorded};
use crate::views::conversation_changes::{ConversationChanges, thread_ids};
use crate::views::restore_report::{
    describe_other_home, describe_replaced, show_plan, show_report,
};
use clap::Args;
use codex_manager_core::accounts::AuthPolicy;
use codex_manager_core::archive::{ArchiveReader, EntryName};
use codex_manager_core::codex::{Holder, ProcessRole, daemon, kind_of};
use codex_manager_core::conversations::index;
use codex_manager_core::inventory::archive_names::{file_name, strip_archive_suffix};
use codex_manager_core::inventory::{CooldownFile, store};
use codex_manager_core::io::links;
use codex_manager_core::journal::{self, JournalError};
use codex_manager_core::restore::apply::{self, RestoreReport};
use codex_manager_core::restore::plan::unchanged_files::find_unchanged;
use codex_manager_core::restore::plan::{RestorePlan, RestoreTarget, Selection};
use codex_manager_core::restore::{self, RestoreError, RestoreRequest};
use codex_manager_core::sync::restore_marker::RestoreMarkers;
use codex_manager_core::sync::state::Replica;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time limit for Codex's daemon to stop.
pub(crate) const DAEMON_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The value of [`RestoreOptions::session`] if `--session` has no value. The command then asks the user for the
/// conversation.
pub(crate) const CHOOSE_SESSION: &str = "";

/// The options of `restore` and `vault restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreOptions {
    /// Restore only this file or folder, relative to the Codex home; repeatable
    #[arg(long, value_name = "PATH")]
    only: Vec<PathBuf>,
    /// Restore only this conversation: its id, a prefix of the id, or its name; without a value, choose it
    #[arg(long, value_name = "ID|NAME", num_args = 0..=1, default_missing_value = CHOOSE_SESSION)]
    pub(crate) session: Option<String>,
    /// Restore into this new or empty folder instead of the Codex home
    #[arg(long, value_name = "DIR", conflicts_with = "merge")]
    to: Option<PathBuf>,
    /// The login to activate [default: newest]
    #[arg(long, value_enum)]
    pub(crate) auth: Option<AuthPolicy>,
    /// Keep files that only the home has, and the longer version of each conversation
    #[arg(long)]
    merge: bool,
    /// Stop Codex's background daemon first
    #[arg(long)]
    stop_daemon: bool,
    /// Do not make a safety backup of the files that will change
    #[arg(long)]
    no_safety_backup: bool,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

impl RestoreOptions {
    /// Restores the selected part of an archive. `command` is the name of the command in the JSON document.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub(crate) fn restore(
        self,
        context: &Context,
        archive: &ArchiveReader,
        selection: Selection,
        command: &str,
    ) -> Result<Outcome> {
        let mut request = self.build_request(context, archive, selection)?;
        let target = request.target;
        let leaves_logins_out = self.warn_if_logins_left_out(context, &request);

        let plan = self.make_plan(context, &mut request)?;
        let conversations = ConversationChanges::find(&request, &plan, context);
        let replaced_messages = count_replaced_messages(&request, &plan);
        let planned_backup = if request.safety_backup {
            "the safety backup"
        } else {
            "no backup"
        };

        if self.dry_run {
            let note = describe_replaced_messages(replaced_messages, planned_backup);
            show_preview(context, command, &request, &plan, &conversations, note)?;
            return Ok(Outcome::Done);
        }

        if !self.confirm_replacement(context, &request, &plan, &conversations)? {
            return Err(CommandError::refused("the restore was not confirmed")
                .hint("nothing was changed; see what would change with --dry-run"));
        }

        if self.stop_daemon && target == RestoreTarget::Home {
            stop_daemon(context)?;
            // When the daemon ended, it wrote to its databases. Only writes after this time stop the restore.
            request.planned_after = journal::wait_for_next_tick(&request.folder);
        }

        let mut report = apply_with_restore_marker(&request, &plan, context)?;
        // A partial restore may lack the projections, without which Codex does not show the earlier turns.
        if target == RestoreTarget::Home && plan.partial {
            let mut changed_ids = thread_ids(&plan.writes);
            changed_ids.extend(thread_ids(&plan.removed));
            project_continued_rollouts(context, &request.folder, &changed_ids);
        }
        let mut is_recorded = record_result(context, target, &mut report);

        let backup = report.safety.as_ref();
        let backup_name = backup.map(|backup| format_archive_argument(&backup.archive, context));
        let backup_name = backup_name.as_deref().unwrap_or(planned_backup);
        let message_note = describe_replaced_messages(replaced_messages, backup_name);
        report.notes.extend(message_note);

        if target == RestoreTarget::Home {
            is_recorded &= update_losses(&request.selection, replaced_messages, context);
        }

        show_report(context, command, &request, &report, &conversations);
        Ok(Outcome::partial_if(!is_recorded || leaves_logins_out))
    }

    /// Makes the plan. If the plan replaces the login of another account, a dry run warns, and a restore asks the user.
    fn make_plan(
        &self,
        context: &Context,
        request: &mut RestoreRequest<'_>,
    ) -> Result<RestorePlan> {
        match apply::plan(request) {
            // A dry run changes nothing, so the signed-in account does not matter.
            Err(refusal @ RestoreError::AnotherAccount { .. }) if self.dry_run => {
                context.warn(format_args!(
                    "{refusal}; without --dry-run, the command asks whether to save the live login to its profile, or needs --yes"
                ));
            }
            // No login is lost, because the restore saves the live login to its profile.
            Err(RestoreError::AnotherAccount { archive, live }) => {
                if !self.confirm_account_switch(context, request, &archive, &live)? {
                    return Err(RestoreError::AnotherAccount { archive, live }.into());
                }
            }
            result => return Ok(result?),
        }
        request.may_switch_account = true;
        Ok(apply::plan(request)?)
    }

    /// Warns if logins of the archive are left out because other users could read them. Returns true if it warned.
    fn warn_if_logins_left_out(&self, context: &Context, request: &RestoreRequest<'_>) -> bool {
        // `build_request` skips the logins if other users could read them in the target, or in the manager home, which
        // gets them by a restore over the Codex home.
        let is_skip_forced =
            request.auth == AuthPolicy::Skip && self.auth != Some(AuthPolicy::Skip);
        let mut files = request.archive.contents().files.iter();
        let leaves_logins_out =
            is_skip_forced && files.any(|file| kind_of(file.path.as_path()).is_login());

        if leaves_logins_out {
            // `safety_without_logins` is set if it is the manager home that other users can read.
            let home = if request.safety_without_logins {
                request.manager_home
            } else {
                &request.folder
            };
            let reason = describe_login_ban(home);
            let message = format_args!("the logins of the archive are left out: {reason}");
            context.warn(message);
        }
        leaves_logins_out
    }

    /// Makes the checks of [`RestoreOptions::restore`] that need only the list of files in `archive`. Used before the
    /// content is downloaded.
    ///
    /// # Errors
    /// The target is not empty or in use, or the selection has no file.
    pub(crate) fn check_before_download(
        &self,
        context: &Context,
        archive: &ArchiveReader,
        selection: &Selection,
    ) -> Result<()> {
        let request = self.build_request(context, archive, selection.clone())?;
        match apply::plan(&request) {
            // `restore` asks the user whether to switch the account.
            Ok(_) | Err(RestoreError::AnotherAccount { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        self.check_idle(context, &request)
    }

    /// Fails if a process uses the home and the restore will not stop that process.
    fn check_idle(&self, context: &Context, request: &RestoreRequest<'_>) -> Result<()> {
        let holders = restore::find_holders(request);
        let stops_daemon = self.stop_daemon && daemon::find(context.codex_home()).is_some();
        // The children of the daemon end with it, but another Codex does not.
        let is_codex = |holder: &Holder| holder.role == ProcessRole::Codex;
        let all_end_with_daemon = stops_daemon && !holders.iter().any(is_codex);
        if holders.is_empty() || all_end_with_daemon {
            Ok(())
        } else {
            Err(RestoreError::Busy(holders).into())
        }
    }

    fn build_request<'a>(
        &self,
        context: &'a Context,
        archive: &'a ArchiveReader,
        selection: Selection,
    ) -> Result<RestoreRequest<'a>> {
        let (folder, target) = self.destination(context)?;
        // A restore into the Codex home saves the replaced login in the manager home.
        let is_manager_shared =
            target == RestoreTarget::Home && forbids_logins(context, context.manager_home());
        let is_shared = is_manager_shared || forbids_logins(context, &folder);

        Ok(RestoreRequest {
            archive,
            folder,
            target,
            selection,
            merge: self.merge,
            auth: if is_shared {
                AuthPolicy::Skip
            } else {
                self.auth.unwrap_or_default()
            },
            may_switch_account: context.settings.assume_yes,
            may_write_outside: context.settings.assume_yes,
            safety_backup: !self.no_safety_backup,
            safety_without_logins: is_manager_shared,
            // `None` lets the restore probe the disk.
            ignores_case: None,
            manager_home: context.manager_home(),
            machine: context.machine(),
            env: &context.env,
            now: context.local_now(),
            planned_after: journal::wait_for_next_tick(context.codex_home()),
        })
    }

    /// Returns the folder to restore into. Fails if the folder of `--to` overlaps with the Codex home or the manager
    /// home.
    pub(crate) fn destination(&self, context: &Context) -> Result<(PathBuf, RestoreTarget)> {
        let Some(folder) = &self.to else {
            return Ok((context.codex_home().to_path_buf(), RestoreTarget::Home));
        };

        let folder = context.env.absolute(folder);
        let overlaps_with = |home: &Path| {
            // A folder around an existing home is not empty. Another check reports a folder that is not empty.
            links::lies_in(&folder, home) || (!home.exists() && links::lies_in(home, &folder))
        };
        let mut homes = [context.codex_home(), context.manager_home()].into_iter();
        if homes.any(overlaps_with) {
            return Err(RestoreError::OverlapsHome(folder).into());
        }

        Ok((folder, RestoreTarget::Elsewhere))
    }

    fn confirm_account_switch(
        &self,
        context: &Context,
        request: &RestoreRequest<'_>,
        archive: &str,
        live: &str,
    ) -> Result<bool> {
        if !context.ui.is_interactive() {
            return Ok(false);
        }

        // The restore fails while the home is in use, so the question would be useless.
        self.check_idle(context, request)?;
        let question = format!(
            "{live} is signed in; the archive is of {archive}. Save the live login to its profile and go on?"
        );
        Ok(context.ui.confirm(question) == Some(true))
    }

    /// Asks for confirmation before a whole home is replaced. Returns true without a question if there is no terminal
    /// or with `--yes`. Asks even if all sizes and times are equal, because the contents or the login may differ.
    fn confirm_replacement(
        &self,
        context: &Context,
        request: &RestoreRequest<'_>,
        plan: &RestorePlan,
        conversations: &ConversationChanges,
    ) -> Result<bool> {
        let replaces_home = request.target == RestoreTarget::Home && !plan.partial;
        if !replaces_home || context.settings.assume_yes || !context.ui.is_interactive() {
            return Ok(true);
        }

        self.check_idle(context, request)?;
        if let Some(removal) = conversations.describe_removal() {
            context.warn(removal);
        }
        let question = format_replacement_question(context, request, plan, conversations);
        // `None` means that the answer could not be read. Only the answer no stops the restore.
        Ok(context.ui.confirm(question) != Some(false))
    }

    /// Returns the part of `source` that `--only` and `--session` select.
    ///
    /// # Errors
    /// A path is not relative to the home, or no conversation or several conversations match.
    pub(crate) fn resolve_selection(
        &self,
        source: &dyn ConversationSource,
        context: &Context,
    ) -> Result<Selection> {
        let mut selection = Selection::default();
        for path in &self.only {
            let name = EntryName::from_path(path).map_err(|reason| {
                CommandError::usage(format!(
                    "--only takes paths relative to the Codex home ({reason}): {}",
                    path.display()
                ))
            })?;
            selection.only.push(name.as_path().to_path_buf());
        }

        if let Some(wanted_conversation) = &self.session {
            let conversation = match wanted_conversation.as_str() {
                CHOOSE_SESSION => pick_archived(source, context)?,
                given => given.to_owned(),
            };
            selection.rollout_names = source::require_rollout_names(source, &conversation)?;
        }

        Ok(selection)
    }
}

fn format_replacement_question(
    context: &Context,
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    conversations: &ConversationChanges,
) -> String {
    let unchanged = find_unchanged(request.archive.contents(), plan, &request.folder);
    let replaced = describe_replaced(plan, &unchanged);
    let format_clause = |verb, count| match count {
        0 => String::new(),
        count => format!(", {verb} {count}"),
    };
    let added = format_clause("add", plan.added.len());
    let removed = format_clause("remove", plan.removed_files().len());

    let login = if request.auth == AuthPolicy::Archive && plan.wants_login {
        ", use the login of the archive"
    } else {
        ""
    };
    let home = context.env.shorten_home(&request.folder);
    let other_home = describe_other_home(request.archive.metadata(), context);
    let files = format!("replace {replaced} in {home}{added}{removed}{login}{other_home}?");
    if conversations.is_empty() {
        return files;
    }

    context.ui.detail(files);
    // A login that cannot be read is reported by the restore.
    let preview = restore::preview_login(request, plan).ok().flatten();
    let brings_login = preview.is_some_and(|login| login.is_replaced);
    let restored = conversations.describe_restored(brings_login);
    format!("restore {restored} into {home}{login}{other_home}?")
}

/// Returns the argument by which commands find an archive: its file name without the suffix if the archive is in
/// `backups/`, else its path.
fn format_archive_argument(path: &Path, context: &Context) -> String {
    let backups = context.backups();
    if path.parent() == Some(&*backups) {
        strip_archive_suffix(&file_name(path)).to_owned()
    } else {
        path.to_string_lossy().into_owned()
    }
}

/// Prints the plan of a dry run, with the notes about the login and the replaced messages.
fn show_preview(
    context: &Context,
    command: &str,
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    conversations: &ConversationChanges,
    replaced_note: Option<String>,
) -> Result<()> {
    let holders = restore::find_holders(request);
    let login = restore::preview_login(request, plan)?;
    let login_notes = login.iter().flat_map(|login| login.notes.clone());
    let notes: Vec<_> = login_notes.chain(replaced_note).collect();
    show_plan(
        context,
        command,
        request,
        plan,
        conversations,
        login.as_ref(),
        &notes,
    );
    for holder in holders {
        context.warn(format_args!("the Codex home is in use: {holder}"));
    }
    Ok(())
}

/// Applies a restore. If the restore may remove files from the home, first writes the restore markers of its syncs:
/// without them, the next sync would treat these files as deleted by the user. Removes the markers again if the restore
/// changed nothing.
fn apply_with_restore_marker(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    context: &Context,
) -> Result<RestoreReport> {
    let may_remove_files = !plan.partial || !plan.removed.is_empty();
    let markers = match request.target {
        RestoreTarget::Home if may_remove_files => {
            let folders = Replica::find_folders(request.manager_home, &request.folder)?;
            Some(RestoreMarkers::write(&folders)?)
        }
        _ => None,
    };

    let applied = apply::apply(request, &context.ui.growing_bar("restoring"));
    let may_have_changed_home = match &applied {
        Ok(_) => true,
        // After these two journal errors, the old state is live. Any other journal error may leave a part of the steps
        // done, so it counts as a change.
        Err(RestoreError::Journal(error)) => !matches!(
            error,
            JournalError::WrittenMeanwhile { .. } | JournalError::OpenedMeanwhile { .. }
        ),
        Err(_) => false,
    };

    if may_have_changed_home {
        index::expect_changed_rollouts(request.manager_home, &request.folder);
    } else if let Some(markers) = markers {
        markers.remove();
    }
    Ok(applied?)
}

/// Records the safety backup and the profiles in the manager home. If a part of this fails, or the restore could not
/// record the owner of the login, prints a warning and returns false.
pub(crate) fn record_result(
    context: &Context,
    target: RestoreTarget,
    report: &mut RestoreReport,
) -> bool {
    let (ui, settings) = (&context.ui, &context.settings);
    let (manager, now, zone) = (&settings.manager_home, context.now(), settings.zone);

    let mut failures: Vec<CommandError> = Vec::new();
    failures.extend(report.owner_error.take().map(Into::into));

    if let Some(safety) = &report.safety {
        let recorded = store::note_archive(manager, safety, &now, zone);
        warn_all(ui, &recorded.warnings);
        failures.extend(recorded.failures.into_iter().map(Into::into));
    }

    if target == RestoreTarget::Home {
        let no_change = |_: &mut CooldownFile| {};
        failures.extend(update_cooldown_file(context, no_change).err());
    }
    warn_unless_recorded(ui, failures)
}

/// Stops Codex's background daemon, if it runs, and prints a note.
///
/// # Errors
/// Codex is not found, or the daemon does not stop in time.
pub(crate) fn stop_daemon(context: &Context) -> Result<()> {
    let home = context.codex_home();
    if daemon::find(home).is_none() {
        return Ok(());
    }

    let program = context
        .find_codex()
        .map_err(|e| CommandError::failed("cannot stop Codex's background daemon").because(e))?;
    daemon::stop(&program, home, &context.env, DAEMON_STOP_TIMEOUT)
        .map_err(|e| CommandError::codex_running(e.to_string()))?;

    context.note("stopped Codex's background daemon");
    Ok(())
}
