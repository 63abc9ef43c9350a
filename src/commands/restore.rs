//! The command `restore`: restores an archive into the Codex home, or into another folder.

use super::account::{self, warn_all, warn_not_recorded};
use super::archive_choice::{self, file_name, find_archive, latest_offset, without_suffix};
use super::home_checks::{refusal_reason, refuses_logins};
use super::list_backups::entries_of;
use super::losses::fullest;
use super::restore_diff;
use super::restore_report::{describe, removed_names, show_plan, show_report};
use super::restore_session::{self, ConversationSource};
use super::session_picker::pick_archived;
use crate::accounts::login_selection::AuthPolicy;
use crate::archive::entry_name::EntryName;
use crate::archive::reader::ArchiveReader;
use crate::codex::daemon;
use crate::codex::home::kind_of;
use crate::codex::program::Program;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::inventory::records::ArchiveRecord;
use crate::inventory::resolve::{self, AccountResolveError};
use crate::inventory::store;
use crate::io::quantity::pluralize;
use crate::io::shell;
use crate::io::tree;
use crate::journal::{self, JournalError};
use crate::restore::RestoreError;
use crate::restore::apply::{self, RestoreReport};
use crate::restore::plan::{RestorePlan, RestoreTarget, Selection};
use crate::restore::request::RestoreRequest;
use crate::sync::restore_marker::RestoreMarkers;
use crate::sync::state::Replica;
use crate::ui::picker::{Picker, PickerItem, PickerOptions};
use crate::ui::{Style, problem};
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time limit for Codex's daemon to stop.
const DAEMON_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The value of `--session` without one.
const CHOOSE_SESSION: &str = "";

/// Restore an archive into the Codex home
///
/// Everything is checked before the first change. A safety backup saves what will change. Then the
/// old state is exchanged for the new one in one step, so a crash leaves one or the other. The live
/// login is kept if it is newer than the archive's.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag on the command line"
)]
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager restore latest
  codex-manager restore me@example.com --dry-run
  codex-manager restore latest --diff                  # which conversations would change
  codex-manager restore latest --only sessions/2026/11 --only config.toml
  codex-manager restore latest --session 01a1f78b      # one conversation
  codex-manager restore latest --session               # choose it
  codex-manager restore latest --to ~/elsewhere        # a home of its own")]
pub struct RestoreArgs {
    /// A name under backups/ or its beginning, a number of `list-backups`, a path, an account, or `latest`:
    /// the newest undamaged archive that is neither a safety nor a partial one, full before other modes;
    /// `latest~1` is the one before it [default: a picker; with `--session ID`, the archive with the most messages of it]
    #[arg(value_name = "ARCHIVE|ACCOUNT|latest")]
    what: Option<String>,
    #[command(flatten)]
    options: RestoreOptions,
    /// Show which conversations would change; write nothing
    #[arg(long)]
    diff: bool,
}

/// The options of `restore` and `vault restore`.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag on the command line"
)]
#[derive(Debug, Args)]
pub(super) struct RestoreOptions {
    /// Restore only this file or folder, relative to the Codex home; repeatable
    #[arg(long, value_name = "PATH")]
    only: Vec<PathBuf>,
    /// Restore only this conversation: its id, a prefix of the id, or its name; without a value, choose it
    #[arg(long, value_name = "ID|NAME", num_args = 0..=1, default_missing_value = CHOOSE_SESSION)]
    session: Option<String>,
    /// Restore into this new or empty folder instead of the Codex home
    #[arg(long, value_name = "DIR", conflicts_with = "merge")]
    to: Option<PathBuf>,
    /// The login that goes live [default: newest]
    #[arg(long, value_enum)]
    pub(super) auth: Option<AuthPolicy>,
    /// Keep files that only the home has, and the longer version of each conversation
    #[arg(long)]
    merge: bool,
    /// Stop Codex's background daemon first
    #[arg(long)]
    stop_daemon: bool,
    /// Do not make a safety backup of what will change
    #[arg(long)]
    no_safety_backup: bool,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

impl RestoreArgs {
    /// Runs the command. On a terminal it asks before it replaces a home or the login of another account.
    ///
    /// # Errors
    /// See [`RestoreError`]. Unless it says otherwise, nothing was changed.
    pub fn run(mut self, context: &Context) -> Result<Outcome, CommandError> {
        self.options.destination(context)?;
        let path = self.resolve(context)?;
        let archive = ArchiveReader::open(&path)?;
        context.ui.note(describe(context, &archive, "archive"));
        let selection = self.options.selection(&archive, context)?;
        self.options.dry_run |= self.diff;
        self.options
            .restore(context, &archive, selection, "restore", self.diff)
    }

    /// Returns the path of the archive that the argument names.
    fn resolve(&self, context: &Context) -> Result<PathBuf, CommandError> {
        let Some(what) = self.what.as_deref() else {
            let session = self.options.session.as_deref();
            if let Some(text) = session.filter(|text| latest_offset(text).is_some()) {
                let message = format!("--session takes {text:?} as the name of a conversation");
                return Err(CommandError::usage(message).hint(format!(
                    "name the archive first: codex-manager restore {text} --session"
                )));
            }
            return match session {
                Some(wanted) if wanted != CHOOSE_SESSION => fullest::archive_with(wanted, context),
                _ => pick_archive(context),
            };
        };
        let is_path = what.ends_with(".tar.gz") || what.contains(['/', '\\']);
        if is_path {
            return find_archive(context, Path::new(what), ArchiveRecord::is_usable);
        }
        let backups = store::backups(&context.settings.manager_home);
        let records = store::archives(&context.settings.manager_home)?;
        if let Some(offset) = latest_offset(what) {
            let latest =
                archive_choice::latest(&records, offset, context, ArchiveRecord::is_usable)?;
            if offset == 0 {
                warn_if_damaged_is_newer(context, &records, latest);
            }
            return Ok(backups.join(&latest.path));
        }
        if let Some(path) = archive_choice::find_file(context, Path::new(what)) {
            return Ok(path);
        }
        let record = match archive_choice::by_number(&records, what) {
            Some(record) => record,
            None => by_account_or_beginning(&records, what, context)?,
        };
        Ok(backups.join(&record.path))
    }
}

impl RestoreOptions {
    /// Restores the selected part of an archive. `command` is the name in the JSON document. A dry run with
    /// `diff` compares conversations.
    ///
    /// # Errors
    /// See [`RestoreError`]. Unless it says otherwise, nothing was changed.
    pub(super) fn restore(
        self,
        context: &Context,
        archive: &ArchiveReader,
        selection: Selection,
        command: &str,
        diff: bool,
    ) -> Result<Outcome, CommandError> {
        let mut request = self.request(context, archive, selection)?;
        let target = request.target;
        let leaves_login = self.leaves_login(context, &request);
        let plan = match apply::plan(&request) {
            Err(RestoreError::AnotherAccount { archive, live })
                if !self.dry_run && Self::confirm_account_switch(context, &archive, &live) =>
            {
                request.may_switch_account = true;
                apply::plan(&request)?
            }
            // A comparison changes nothing, so the signed-in account does not matter.
            Err(refusal @ RestoreError::AnotherAccount { .. }) if diff => {
                context.ui.warn(refusal);
                request.may_switch_account = true;
                apply::plan(&request)?
            }
            other => other?,
        };
        if self.dry_run {
            let holders = apply::holders(&request);
            let changes =
                diff.then(|| restore_diff::conversations(archive, &plan, &request.folder));
            show_plan(context, command, archive, &request, &plan, changes);
            for holder in holders {
                context
                    .ui
                    .warn(format_args!("the Codex home is in use: {holder}"));
            }
            return Ok(Outcome::Done);
        }
        if !confirm_replacement(context, &request, &plan) {
            let preview = match command {
                "restore" => format!(
                    "show what would change: codex-manager restore {} --diff",
                    shell::word(&name_for_commands(archive.path(), context))
                ),
                _ => "see what would change with --dry-run".to_owned(),
            };
            return Err(CommandError::refused("the restore was not confirmed")
                .hint(format!("nothing was changed; {preview}")));
        }
        if self.stop_daemon && target == RestoreTarget::Home {
            stop_daemon(context)?;
            // The daemon writes its databases when it ends.
            request.planned = journal::next_tick(&request.folder);
        }
        let mut report = apply_marked(&request, &plan, context)?;
        let is_recorded = record_result(context, target, &mut report);
        show_report(context, command, archive, &request, &report);
        Ok(Outcome::partial_if(!is_recorded || leaves_login))
    }

    /// Warns if logins of the archive are left out because others could read them. Returns true then.
    fn leaves_login(&self, context: &Context, request: &RestoreRequest<'_>) -> bool {
        let is_left = request.auth == AuthPolicy::Skip && self.auth != Some(AuthPolicy::Skip);
        let mut logins = request.archive.contents().files.iter();
        let is_left = is_left && logins.any(|file| kind_of(file.path.as_path()).is_login());
        if is_left {
            let home = if request.safety_without_logins {
                request.manager_home
            } else {
                &request.folder
            };
            let reason = refusal_reason(home);
            let message = format_args!("the logins of the archive are left out: {reason}");
            context.ui.warn(message);
        }
        is_left
    }

    /// Fails if [`RestoreOptions::restore`] would, as far as the list of files in `archive` tells. For
    /// an archive whose content is downloaded later.
    ///
    /// # Errors
    /// The target is not empty or in use, or the selection has no file.
    pub(super) fn check(
        &self,
        context: &Context,
        archive: &ArchiveReader,
        selection: &Selection,
    ) -> Result<(), CommandError> {
        let request = self.request(context, archive, selection.clone())?;
        match apply::plan(&request) {
            // `restore` asks the user.
            Ok(_) | Err(RestoreError::AnotherAccount { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        let holders = apply::holders(&request);
        if holders.is_empty() || self.stop_daemon {
            Ok(())
        } else {
            Err(RestoreError::Busy(holders).into())
        }
    }

    fn request<'a>(
        &self,
        context: &'a Context,
        archive: &'a ArchiveReader,
        selection: Selection,
    ) -> Result<RestoreRequest<'a>, CommandError> {
        let settings = &context.settings;
        let (folder, target) = self.destination(context)?;
        // A login that is replaced is saved to the manager home.
        let is_manager_shared =
            target == RestoreTarget::Home && refuses_logins(context, &settings.manager_home);
        let is_shared = is_manager_shared || refuses_logins(context, &folder);
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
            may_switch_account: settings.assume_yes,
            may_write_outside: settings.assume_yes,
            safety_backup: !self.no_safety_backup,
            safety_without_logins: is_manager_shared,
            ignores_case: None,
            manager_home: &settings.manager_home,
            env: &context.env,
            now: context.local_now(),
            planned: journal::next_tick(&settings.codex_home),
        })
    }

    /// Returns the folder to restore into. Refuses one that overlaps the Codex home or the manager home.
    pub(super) fn destination(
        &self,
        context: &Context,
    ) -> Result<(PathBuf, RestoreTarget), CommandError> {
        let settings = &context.settings;
        let Some(folder) = &self.to else {
            return Ok((settings.codex_home.clone(), RestoreTarget::Home));
        };
        let folder = context.env.absolute(folder);
        let overlaps = |home: &PathBuf| {
            // An existing home makes a folder around it not empty, which has an error of its own.
            tree::lies_in(&folder, home) || (!home.exists() && tree::lies_in(home, &folder))
        };
        if [&settings.codex_home, &settings.manager_home]
            .into_iter()
            .any(overlaps)
        {
            return Err(RestoreError::OverlapsHome(folder).into());
        }
        Ok((folder, RestoreTarget::Elsewhere))
    }

    fn confirm_account_switch(context: &Context, archive: &str, live: &str) -> bool {
        let question = format!(
            "{live} is signed in; the archive is of {archive}. Save the live login to its profile and go on?"
        );
        context.ui.confirm(question) == Some(true)
    }

    /// Returns the part of `source` that `--only` and `--session` select.
    ///
    /// # Errors
    /// A path is not relative to the home, or no conversation or several match.
    pub(super) fn selection(
        &self,
        source: &dyn ConversationSource,
        context: &Context,
    ) -> Result<Selection, CommandError> {
        let mut selection = Selection::default();
        for path in &self.only {
            let name = EntryName::of_path(path).map_err(|reason| {
                CommandError::usage(format!(
                    "--only takes paths relative to the Codex home ({reason}): {}",
                    path.display()
                ))
            })?;
            selection.only.push(name.as_path().to_path_buf());
        }
        if let Some(wanted) = &self.session {
            let wanted = match wanted.as_str() {
                CHOOSE_SESSION => pick_archived(source, context)?,
                wanted => wanted.to_owned(),
            };
            selection.conversations = restore_session::conversations(source, &wanted)?;
        }
        Ok(selection)
    }
}

/// Returns the preferred archive of the account that `what` denotes, else the only archive whose name
/// begins so.
fn by_account_or_beginning<'r>(
    records: &'r [ArchiveRecord],
    what: &str,
    context: &Context,
) -> Result<&'r ArchiveRecord, CommandError> {
    let accounts: Vec<_> = account::known_accounts(context)?
        .into_iter()
        .map(|a| account::with_verdict(a, context))
        .collect();
    let entries = entries_of(&accounts, records);
    let accounts = match resolve::resolve(&entries, what) {
        Ok(i) => {
            let wanted = &entries[i].identity;
            let is_of_account =
                |r: &ArchiveRecord| r.metadata.identity().is_some_and(|i| i.is_same(wanted));
            let found = store::preferred(records, |r| r.is_usable() && is_of_account(r));
            return found.ok_or_else(|| {
                CommandError::failed(format!("no archive of {what}")).hint(if records.is_empty() {
                    account::first_archive(context)
                } else {
                    "list archives with: codex-manager list-backups; nothing was changed".into()
                })
            });
        }
        Err(e @ AccountResolveError::Ambiguous { .. }) => return Err(e.into()),
        Err(AccountResolveError::Unknown { choices, .. }) => choices,
    };
    archive_choice::by_beginning(records, what)?.ok_or_else(|| {
        let message = format!("no archive or account named {what:?}");
        archive_choice::unknown(message, what, records, &accounts, context)
    })
}

/// Asks on a terminal before a whole home is replaced. Returns true without a terminal, with `--yes`, and if
/// nothing live is replaced or removed.
fn confirm_replacement(
    context: &Context,
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
) -> bool {
    let replaced = plan.writes.len() - plan.added.len();
    let is_harmless = plan.partial || (replaced == 0 && plan.removed.is_empty());
    if request.target != RestoreTarget::Home || is_harmless || context.settings.assume_yes {
        return true;
    }
    let removal = match removed_names(&plan.removed).len() {
        0 => String::new(),
        removed => format!(", and remove {removed}"),
    };
    let question = format!(
        "replace {} in {}{removal}?",
        pluralize(replaced, "file"),
        request.folder.display(),
    );
    context.ui.confirm(question) != Some(false)
}

/// Returns the name by which commands find an archive: its file name in `backups/`, else its path.
fn name_for_commands(path: &Path, context: &Context) -> String {
    let backups = store::backups(&context.settings.manager_home);
    if path.parent() == Some(&*backups) {
        without_suffix(&file_name(path)).to_owned()
    } else {
        path.to_string_lossy().into_owned()
    }
}

/// Marks the home as restored, then applies the plan. Without the mark, the next sync would count files
/// missing in the archive as deleted by the user.
fn apply_marked(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    context: &Context,
) -> Result<RestoreReport, CommandError> {
    let bar = context.ui.bar("restoring", plan.bytes);
    let marks = match request.target {
        RestoreTarget::Home if !plan.partial || !plan.removed.is_empty() => Some(
            RestoreMarkers::write(&Replica::folders_of(request.manager_home, &request.folder)?)?,
        ),
        _ => None,
    };
    let applied = apply::apply(request, &bar);
    drop(bar);
    let is_unchanged = matches!(
        &applied,
        Err(RestoreError::Busy(_)
            | RestoreError::Journal(JournalError::Written { .. } | JournalError::Opened { .. }))
    );
    if let Some(marks) = marks.filter(|_| is_unchanged) {
        marks.remove();
    }
    Ok(applied?)
}

/// Records the result in `inventory.json` and the profiles. Returns false, after a warning, if that
/// failed in part.
fn record_result(context: &Context, target: RestoreTarget, report: &mut RestoreReport) -> bool {
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
        match store::note_profiles(manager, &now, zone) {
            Ok(recorded) => warn_all(ui, &recorded.warnings),
            Err(e) => failures.push(e.into()),
        }
    }
    warn_not_recorded(ui, failures)
}

/// Lets the user choose at a terminal; the latest archive is selected first. Elsewhere the archive has to
/// be an argument.
fn pick_archive(context: &Context) -> Result<PathBuf, CommandError> {
    let manager = &context.settings.manager_home;
    let records = store::archives(manager)?;
    let latest = store::latest_first(&records, ArchiveRecord::is_usable);
    let latest = latest.first().map(|r| r.path.clone());
    let offered: Vec<_> = archive_choice::numbered(&records)
        .into_iter()
        .zip(1..)
        .filter(|(r, _)| r.is_usable())
        .collect();
    if offered.is_empty() {
        // Fails with the reason, because there is no archive to restore.
        let _ = archive_choice::latest(&records, 0, context, ArchiveRecord::is_usable)?;
    }
    let is_latest = |(r, _): &(&ArchiveRecord, usize)| Some(&r.path) == latest.as_ref();
    let picker = Picker {
        question: "which archive?",
        default: offered.iter().position(is_latest).unwrap_or(0),
        items: offered
            .iter()
            .map(|(record, number)| item(record, *number, context))
            .collect(),
        options: PickerOptions::default(),
    };
    match picker.run(&context.ui)? {
        Some(choice) => Ok(store::backups(manager).join(choice.id)),
        None => Err(CommandError::usage("which archive?")
            .hint("restore the newest one: codex-manager restore latest")
            .hint("or list all: codex-manager list-backups")),
    }
}

fn item(record: &ArchiveRecord, number: usize, context: &Context) -> PickerItem {
    let metadata = &record.metadata;
    let email = metadata.email.as_deref().unwrap_or("signed out");
    PickerItem::new(
        record.path.clone(),
        vec![
            (Style::Dim, number.to_string()),
            (
                Style::Plain,
                account::absolute(&metadata.created_at, context),
            ),
            (Style::Plain, archive_choice::kind(metadata)),
            (Style::Plain, account::printable(email)),
            (
                Style::Dim,
                account::printable(&archive_choice::typed_name(record)),
            ),
        ],
    )
}

/// Warns if a newer archive than `latest` was passed over because of its damage.
fn warn_if_damaged_is_newer(context: &Context, records: &[ArchiveRecord], latest: &ArchiveRecord) {
    let newest = store::latest_first(records, |r| r.archive.is_some());
    if let Some(newest) = newest.first().filter(|newest| newest.path != latest.path)
        && let Some(problem) = newest.problem()
    {
        context.ui.warn(format_args!(
            "{} is newer, but {}; the latest undamaged archive is {}",
            account::printable(&newest.path),
            account::printable(&problem::problem(problem)),
            account::printable(&latest.path)
        ));
    }
}

fn stop_daemon(context: &Context) -> Result<(), CommandError> {
    let settings = &context.settings;
    if daemon::find(&settings.codex_home).is_none() {
        return Ok(());
    }
    let program = Program::find(settings.codex_bin.as_deref(), &context.env)
        .map_err(|e| CommandError::failed("cannot stop Codex's background daemon").because(e))?;
    daemon::stop(
        &program,
        &settings.codex_home,
        &context.env,
        DAEMON_STOP_TIMEOUT,
    )
    .map_err(|e| CommandError::codex_running(e.to_string()))?;
    context.ui.note("stopped Codex's background daemon");
    Ok(())
}
