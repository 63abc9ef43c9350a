//! `restore`: restores an archive into the Codex home, or into another folder.

use crate::choices::archive_choice::{self, find_archive, lacks_readable_conversations};
use crate::context::Context;
use crate::copies::losses::fullest;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::restore_options::{CHOOSE_SESSION, RestoreOptions};
use crate::ui::picker::{Picker, PickerItem, PickerOptions};
use crate::ui::{Style, bytes, problem};
use crate::views::account::{
    absolute_time, label, printable, read_known_accounts, suggest_first_archive,
};
use crate::views::restore_report::describe_archive;
use clap::Args;
use codex_manager_core::archive::ArchiveReader;
use codex_manager_core::codex::Identity;
use codex_manager_core::inventory::archive_names::{self, parse_latest_offset};
use codex_manager_core::inventory::resolve::{self, AccountResolveError, merge_archived_accounts};
use codex_manager_core::inventory::{ArchiveRecord, store};
use codex_manager_core::io::pluralize;
use codex_manager_core::quota::{Account, account::find_by_identity};
use std::path::{Path, PathBuf};

/// Restore an archive into the Codex home
///
/// Everything is checked before the first change. A safety backup saves what will change. Then the
/// old state is exchanged for the new one in one step, so a crash leaves one or the other. The live
/// login is kept if it is newer than the archive's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager restore latest
  codex-manager restore me@example.com --dry-run
  codex-manager restore latest --only sessions/2026/11 --only config.toml
  codex-manager restore latest --session 01a1f78b      # one conversation
  codex-manager restore latest --session               # choose it
  codex-manager restore latest --to ~/elsewhere        # a home of its own")]
pub(crate) struct RestoreArgs {
    /// A name under backups/ or its beginning, a number of `list-backups`, a path, an account, or `latest`: the newest
    /// undamaged archive of this home that is neither a safety nor a partial one, full ones first, and of these the
    /// ones with conversations that can be read; `latest~1` is the one before it. Archives of other homes count only if this home has
    /// none [default: a picker; with `--session ID`, the archive with the most messages of it]
    #[arg(value_name = "ARCHIVE|ACCOUNT|latest")]
    archive_name: Option<String>,
    #[command(flatten)]
    options: RestoreOptions,
}

impl RestoreArgs {
    /// Runs the command. On a terminal it asks before it replaces a home or the login of another account.
    ///
    /// # Errors
    /// See [`RestoreError`](codex_manager_core::restore::RestoreError). Unless it says otherwise, nothing was changed.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        // Refuses an invalid --to before an archive is chosen and read.
        self.options.destination(context)?;
        let path = self.resolve_archive_path(context)?;
        let archive = ArchiveReader::open(&path)?;
        context.note(describe_archive(context, &archive, "archive"));
        let selection = self.options.resolve_selection(&archive, context)?;
        let damaged = archive.contents().damaged.iter().flatten();
        let damaged = damaged.filter(|(text, _)| selection.wants(text.as_path()));
        let commands = context.suggest_restores(damaged.clone().map(|(text, _)| text.as_path()));
        for (text, reason) in damaged {
            let command = commands.get(text.as_path());
            let good_copy = command.map(|command| format!("; its last good copy: {command}"));
            let good_copy = good_copy.unwrap_or_default();
            context.warn(format_args!("in the archive, {text} {reason}{good_copy}"));
        }
        self.options
            .restore(context, &archive, selection, "restore")
    }

    /// Returns the path of the archive that the argument names. Without an argument, returns the archive with the most
    /// messages of the conversation of `--session ID`. Without both, the user picks an archive.
    fn resolve_archive_path(&self, context: &Context) -> Result<PathBuf> {
        match (&self.archive_name, self.options.session.as_deref()) {
            (Some(argument), _) => find_by_argument(argument, context),
            (None, None | Some(CHOOSE_SESSION)) => pick_archive_path(context),
            // The user meant `restore latest`, but `--session` took the word as its value.
            (None, Some(text)) if parse_latest_offset(text).is_some() => {
                let message = format!("--session takes {text:?} as the name of a conversation");
                Err(CommandError::usage(message).hint(format!(
                    "name the archive first: codex-manager restore {text} --session"
                )))
            }
            (None, Some(session_name)) => fullest::find_fullest_archive(session_name, context),
        }
    }
}

/// Finds an archive by a path, `latest`, a file name, a number, an account, or the beginning of a name, in this order.
fn find_by_argument(argument: &str, context: &Context) -> Result<PathBuf> {
    let archive_name = archive_names::of_sidecar(Path::new(argument));
    let argument = &*archive_name.to_string_lossy();
    let is_path = argument.ends_with(".tar.gz") || argument.contains(['/', '\\']);
    if is_path {
        return find_archive(context, Path::new(argument), ArchiveRecord::is_usable);
    }

    let backups = context.backups();
    let records = context.archives()?;
    if let Some(offset) = parse_latest_offset(argument) {
        let latest =
            archive_choice::find_latest(&records, offset, context, ArchiveRecord::is_usable)?;
        if offset == 0 {
            warn_of_better(context, &records, latest);
        }
        return Ok(backups.join(&latest.path));
    }

    let file = archive_names::find_archive_file(&backups, &context.env, Path::new(argument));
    if let Some(file) = file {
        return Ok(file);
    }

    let record = match archive_names::find_by_number(&records, argument) {
        Some(record) => record,
        None => find_by_account_or_prefix(&records, argument, context)?,
    };
    Ok(backups.join(&record.path))
}

/// Returns the preferred archive of the account that `argument` denotes. If it denotes none, returns the only archive
/// whose name begins with it.
fn find_by_account_or_prefix<'r>(
    records: &'r [ArchiveRecord],
    argument: &str,
    context: &Context,
) -> Result<&'r ArchiveRecord> {
    let known_accounts = merge_archived_accounts(&read_known_accounts(context)?, records);
    match resolve::find_account_position(&known_accounts, argument) {
        Ok(i) => find_preferred(records, &known_accounts[i].identity, argument, context),
        // The argument may be the beginning of an archive name. `choices`, the known accounts, are only for the error.
        Err(AccountResolveError::Unknown { choices, .. }) => {
            archive_choice::find_by_prefix(records, argument, context)?.ok_or_else(|| {
                let message = format!("no archive or account named {argument:?}");
                archive_choice::unknown_archive_error(message, argument, records, &choices, context)
            })
        }
        Err(e @ AccountResolveError::Ambiguous { .. }) => Err(e.into()),
    }
}

/// Returns the preferred archive of an account. `name` denotes the account in the error.
fn find_preferred<'r>(
    records: &'r [ArchiveRecord],
    identity: &Identity,
    name: &str,
    context: &Context,
) -> Result<&'r ArchiveRecord> {
    let (home, machine) = (context.codex_home(), context.machine());
    let preferred = store::find_preferred(records, home, machine.as_deref(), |r| {
        r.is_usable() && r.metadata.identity().is_some_and(|i| i.is_same(identity))
    });

    preferred.ok_or_else(|| {
        let hint = if records.is_empty() {
            suggest_first_archive(context)
        } else {
            "list archives with: codex-manager list-backups; nothing was changed".into()
        };
        CommandError::failed(format!("no archive of {name}")).hint(hint)
    })
}

/// Lets the user choose an archive on a terminal; the latest one is preselected. Without a terminal, fails and asks for
/// an argument.
fn pick_archive_path(context: &Context) -> Result<PathBuf> {
    let records = context.archives()?;
    let is_usable = ArchiveRecord::is_usable;
    let latest_first = archive_choice::list_latest(&records, context, is_usable);
    let latest = latest_first.first().map(|r| &r.path);

    let offered: Vec<_> = archive_names::list_numbered(&records)
        .into_iter()
        .zip(1..)
        .filter(|(r, _)| r.is_usable())
        .collect();

    if offered.is_empty() {
        // Called for its error, which says why there is no archive to offer.
        let newest_offset = 0;
        let _ = archive_choice::find_latest(&records, newest_offset, context, is_usable)?;
    }

    let known_accounts = read_known_accounts(context)?;
    let labels: Vec<_> = offered
        .iter()
        .map(|(record, _)| account_label(record, &known_accounts))
        .collect();
    // A column with one value would take the room of the names.
    let has_several_accounts = labels.iter().any(|label| *label != labels[0]);

    let is_latest = |(r, _): &(&ArchiveRecord, usize)| Some(&r.path) == latest;
    let picker = Picker {
        question: "which archive?",
        default: offered.iter().position(is_latest).unwrap_or(0),
        items: offered
            .iter()
            .zip(labels)
            .map(|((record, number), label)| {
                let label = has_several_accounts.then_some(label);
                to_picker_item(record, *number, label, context)
            })
            .collect(),
        options: PickerOptions::default(),
    };

    match picker.run(&context.ui)? {
        Some(choice) => Ok(context.backups().join(choice.id)),
        None => Err(CommandError::usage("which archive?")
            .hint("restore the newest one: codex-manager restore latest")
            .hint("or list all: codex-manager list-backups")),
    }
}

/// Returns the name of the account of an archive.
fn account_label(record: &ArchiveRecord, known_accounts: &[Account]) -> String {
    let metadata = &record.metadata;
    let email = metadata.email.as_deref().unwrap_or("signed out");
    let known_account = metadata
        .identity()
        .and_then(|identity| find_by_identity(known_accounts, &identity));
    known_account.map_or_else(|| printable(email), label)
}

fn to_picker_item(
    record: &ArchiveRecord,
    number: usize,
    account_label: Option<String>,
    context: &Context,
) -> PickerItem {
    let metadata = &record.metadata;
    let name = archive_names::shortest_name(record);
    let conversations = metadata.conversation_count();
    let size = record.archive.as_ref().map(|archive| bytes(archive.bytes));
    let mut columns = vec![
        (Style::Dim, number.to_string()),
        (Style::Plain, absolute_time(&metadata.created_at, context)),
        (
            Style::Plain,
            conversations.map_or_else(|| "?".into(), |count| pluralize(count, "conversation")),
        ),
        (Style::Plain, size.unwrap_or_default()),
        (Style::Plain, archive_names::format_kind(metadata)),
    ];
    columns.extend(account_label.map(|label| (Style::Plain, label)));
    columns.extend([
        (
            Style::Plain,
            printable(metadata.user_label().unwrap_or_default()),
        ),
        (Style::Dim, printable(&name)),
    ]);
    PickerItem::new(record.path.clone(), columns)
}

/// Warns if an archive that is newer than `latest`, or preferred to it, was skipped, because it is damaged or has no
/// conversations.
fn warn_of_better(context: &Context, records: &[ArchiveRecord], latest: &ArchiveRecord) {
    let (home, machine) = (context.codex_home(), context.machine());
    let exists = |r: &ArchiveRecord| r.archive.is_some();
    let latest_first = store::list_latest_first(records, home, machine.as_deref(), exists);
    let latest_time = latest.metadata.created_at;
    let is_newer = |record: &&&ArchiveRecord| record.metadata.created_at > latest_time;
    if let Some(better) = latest_first.first()
        && better.path != latest.path
        && let Some(problem) = problem::describe_problem(better)
    {
        let relation = if is_newer(&better) {
            "is newer"
        } else {
            "is preferred"
        };
        context.warn(format_args!(
            "{} {relation}, but {}; the latest undamaged archive is {}",
            printable(&better.path),
            printable(&problem),
            printable(&latest.path)
        ));
    }

    let mut newer = latest_first.iter().filter(is_newer);
    let is_empty = |r: &&&ArchiveRecord| r.is_usable() && lacks_readable_conversations(r, context);
    if let Some(empty) = newer.find(is_empty) {
        let reason = if empty.metadata.excludes_all_conversations() {
            "was made with --exclude or backup.exclude and has no conversations"
        } else if empty.metadata.lists_conversations() {
            "none of its conversations can be read: they are empty, zero-filled or cut off"
        } else {
            "has no conversations"
        };
        context.warn(format_args!(
            "{} is newer, but {reason}",
            printable(&empty.path)
        ));
    }
}
