//! `list-backups`: lists archives, grouped by account.

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{Cell, Column, Style, Table, Ui, object, problem};
use crate::views::account::{self, absolute_time, backup_time, printable, state_style, time_json};
use crate::views::account_table::AccountNames;
use crate::views::archive_json::archive_json;
use crate::views::table_format::TableArgs;
use clap::{Args, ValueEnum};
use codex_manager_core::archive::Metadata;
use codex_manager_core::codex::Identity;
use codex_manager_core::inventory::archive_names::LATEST;
use codex_manager_core::inventory::resolve::{self, merge_archived_accounts};
use codex_manager_core::inventory::{ArchiveRecord, archive_names, store};
use codex_manager_core::io::pluralize;
use codex_manager_core::quota::Account;
use codex_manager_core::quota::state::{AccountState, Verdict};
use codex_manager_core::transfer::python_home;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

const COLUMNS: [Column; 10] = [
    Column::new("#").number(),
    Column::new("ACCOUNT").only_tsv(),
    Column::new("CREATED").rank(1),
    Column::new("WINDOW").rank(5).only_text(),
    // A safety backup undoes a restore, so its kind is always shown.
    Column::new("KIND"),
    Column::new("CONV").rank(1).number(),
    Column::new("SIZE").rank(3).number(),
    // The number is enough to name an archive.
    Column::new("ARCHIVE").shorten_middle(20).widen(46, 3),
    // A label is a text of any length, so it takes no room from the names and sizes.
    Column::new("LABEL").rank(4).shorten(5),
    Column::new("PROBLEM").only_tsv(),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Sort {
    /// Creation time of the archive
    #[default]
    CreatedAt,
    /// Start of the weekly window
    SessionStartAt,
    /// Reset of the weekly window
    ResetAt,
    /// The account, then the creation time
    Account,
    /// Size of the archive
    Size,
}

/// List archives, grouped by account
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager list-backups
  codex-manager list-backups me@example.com --latest
  codex-manager list-backups --format tsv | cut -f7    # names
  codex-manager list-backups --json | jq -r '.backups[].path'")]
pub(crate) struct ListBackupsArgs {
    /// Only archives of one account: a profile, an email, or a unique prefix of one
    #[arg(value_name = "ACCOUNT")]
    account_argument: Option<String>,
    /// The same as ACCOUNT
    #[arg(long, value_name = "ACCOUNT", conflicts_with = "account_argument")]
    account: Option<String>,
    /// Only archives of accounts that are ready now
    #[arg(long)]
    ready: bool,
    /// The order of archives, newest or largest first
    #[arg(long, value_enum, default_value = "created-at")]
    sort: Sort,
    /// Only the newest good archive of each account and mode. A safety or partial archive only if there is no
    /// other
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    table: TableArgs,
}

impl ListBackupsArgs {
    /// Prints the archives that the options select.
    ///
    /// # Errors
    /// `backups/` or `cooldown.json` cannot be read, or no account or several match `--account`.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let all_records = context.archives()?;
        let known_accounts = account::read_known_accounts(context)?.into_iter();
        let with_verdicts = known_accounts.map(|a| account::with_verdict(a, context));
        let accounts: Vec<_> = with_verdicts.collect();

        // `restore` and `verify` accept these numbers, so the filters must not change them.
        let numbered_archives = archive_names::list_numbered(&all_records).into_iter();
        let numbers: HashMap<_, _> = numbered_archives.map(|r| &*r.path).zip(1..).collect();

        let records = self.select_records(&all_records, &accounts)?;
        if context.ui.wants_json() {
            let rows = records.iter().map(|r| {
                let state = find_account_state(&r.metadata, &accounts);
                record_json(r, numbers.get(&*r.path).copied(), state, context)
            });
            let rows: Vec<_> = rows.collect();
            context.ui.list_document("list-backups", "backups", &rows);
        } else if all_records.is_empty() {
            let suggestion = account::suggest_first_archive(context);
            context.note(format_args!("no archives; {suggestion}"));
        } else if records.is_empty() {
            context.note("no archive matches; list all archives with: codex-manager list-backups");
        } else {
            show_archives(context, &all_records, &records, &numbers, &accounts);
        }

        if all_records.is_empty() {
            suggest_import(context);
        }
        Ok(Outcome::Done)
    }

    /// Returns the records that the options select, in the order of `--sort`. References, because a record is large.
    fn select_records<'r>(
        &self,
        all_records: &'r [ArchiveRecord],
        accounts: &[(Account, Verdict)],
    ) -> Result<Vec<&'r ArchiveRecord>> {
        let mut records: Vec<_> = all_records.iter().collect();
        if let Some(text) = self.account.as_ref().or(self.account_argument.as_ref()) {
            let known_accounts =
                merge_archived_accounts(accounts.iter().map(|(a, _)| a), all_records);
            let position = resolve::find_account_position(&known_accounts, text)?;
            let identity = &known_accounts[position].identity;
            records.retain(|r| r.metadata.identity().is_some_and(|i| i.is_same(identity)));
        }
        if self.ready {
            records.retain(|r| find_account_state(&r.metadata, accounts) == AccountState::Ready);
        }

        self.sort_records(&mut records);
        if self.latest {
            retain_latest(&mut records);
        }
        Ok(records)
    }

    fn sort_records(&self, records: &mut [&ArchiveRecord]) {
        let email = |r: &ArchiveRecord| r.metadata.email.as_ref().map(|e| e.to_lowercase());
        let bytes = |r: &ArchiveRecord| r.archive.as_ref().map(|a| a.bytes);
        match self.sort {
            Sort::CreatedAt => records.sort_by_key(|r| Reverse(r.metadata.created_at)),
            Sort::SessionStartAt => records.sort_by_key(|r| Reverse(r.metadata.session_start_at)),
            Sort::ResetAt => records.sort_by_key(|r| Reverse(r.metadata.reset_at)),
            Sort::Account => records.sort_by_key(|r| (email(r), Reverse(r.metadata.created_at))),
            Sort::Size => records.sort_by_key(|r| Reverse(bytes(r))),
        }
    }
}

fn find_account_state(metadata: &Metadata, accounts: &[(Account, Verdict)]) -> AccountState {
    let owner = metadata.identity().and_then(|identity| {
        let mut accounts = accounts.iter();
        accounts.find(|(account, _)| account.entry.identity.is_same(&identity))
    });
    owner.map_or(AccountState::Unknown, |(_, verdict)| verdict.state)
}

/// Keeps the best archive of each account and mode. An archive of a home ranks before a safety backup or a single
/// login, then a usable one before a damaged one, then a newer one before an older one.
fn retain_latest(records: &mut Vec<&ArchiveRecord>) {
    let group_key = |m: &Metadata| {
        let email = m.email.as_ref().map(|e| e.to_lowercase());
        (email, m.user_id.clone(), m.account_id.clone(), m.mode)
    };
    let rank = |r: &ArchiveRecord| {
        let is_of_home = !r.metadata.is_safety() && !r.metadata.is_single_login();
        let created_at = r.metadata.created_at;
        (is_of_home, r.is_usable(), created_at, r.path.clone())
    };

    let mut best: HashMap<_, &ArchiveRecord> = HashMap::new();
    for record in records.iter().copied() {
        let best_record = best.entry(group_key(&record.metadata)).or_insert(record);
        if rank(record) > rank(best_record) {
            *best_record = record;
        }
    }

    let best_paths: HashSet<_> = best.into_values().map(|r| &r.path).collect();
    records.retain(|r| best_paths.contains(&r.path));
}

/// Returns the JSON object of a record, which may be of a legacy file without an archive. Scripts read the keys.
/// `number` is the number in the list.
fn record_json<'r>(
    record: &'r ArchiveRecord,
    number: Option<usize>,
    state: AccountState,
    context: &Context,
) -> impl Serialize + use<'r> {
    let metadata = &record.metadata;
    let archive = record.archive.as_ref();

    object()
        .with("number", number)
        // A record without an archive has a name in the inventory, but no file.
        .with("archive", archive.map(|_| &record.path))
        .with(
            "path",
            archive.map(|_| context.backups().join(&record.path)),
        )
        .and(archive_json(metadata, context))
        .with("created_at", time_json(metadata.made_at(), context))
        .with("archive_bytes", archive.map(|archive| archive.bytes))
        .with("files", metadata.files)
        .with("label", &metadata.label)
        // True if the archive has only a part of a home: one login, or the files that a restore changed.
        .with(
            "partial",
            metadata.is_single_login() || metadata.is_safety(),
        )
        .with("excludes", metadata.excludes)
        .with("state", state)
        .with("problem", problem::describe_problem(record))
}

/// Prints `records`, a part of `all_records`, their problems, and the command that restores the best one.
fn show_archives(
    context: &Context,
    all_records: &[ArchiveRecord],
    records: &[&ArchiveRecord],
    numbers: &HashMap<&str, usize>,
    accounts: &[(Account, Verdict)],
) {
    let ui = &context.ui;
    build_table(context, records, numbers, accounts).print(ui);
    print_problems(ui, records);

    ui.note(
        "CREATED is the time of the backup. The date in a name is the start of the weekly window, or if that is unknown \
         the time of the backup.",
    );

    suggest_restore(context, all_records, records, numbers);
}

/// Prints the command that restores the best of `records`: `latest` if that denotes it, else its number.
fn suggest_restore(
    context: &Context,
    all_records: &[ArchiveRecord],
    records: &[&ArchiveRecord],
    numbers: &HashMap<&str, usize>,
) {
    let shown_paths: HashSet<_> = records.iter().map(|r| &r.path).collect();
    let is_shown = |r: &ArchiveRecord| shown_paths.contains(&r.path);
    let (home, machine) = (context.codex_home(), context.machine());
    let list = |is_wanted: &dyn Fn(&ArchiveRecord) -> bool| {
        let accepts = |r: &ArchiveRecord| r.is_usable() && is_wanted(r);
        store::list_latest_first(all_records, home, machine.as_deref(), accepts)
    };
    let name = match list(&|_| true).first() {
        Some(latest) if is_shown(latest) => Some(LATEST.to_owned()),
        _ => {
            let best = list(&is_shown).into_iter().next();
            let number = best.and_then(|r| numbers.get(&*r.path));
            number.map(ToString::to_string)
        }
    };
    if let Some(name) = name {
        context.note(format_args!(
            "restore the newest good one with: codex-manager restore {name}"
        ));
    }
}

/// Builds one table for all accounts, so that columns align across accounts.
fn build_table(
    context: &Context,
    records: &[&ArchiveRecord],
    numbers: &HashMap<&str, usize>,
    accounts: &[(Account, Verdict)],
) -> Table {
    let mut table = Table::new(&context.ui, COLUMNS);
    let known_accounts = accounts.iter().map(|(account, _)| account);
    let all_accounts = merge_archived_accounts(known_accounts, records.iter().copied());
    let names = AccountNames::from_entries(&all_accounts);

    for group in group_by_account(records) {
        let metadata = &group[0].metadata;
        let is_readable = has_readable_metadata(metadata);
        let owner = names.format_owner(metadata.identity().as_ref(), is_readable);
        let state = find_account_state(metadata, accounts);
        table.add_group(owner, Some(Cell::new(state_style(state), state.name())));
        for record in group {
            let number = numbers.get(&*record.path).copied();
            table.add_row(build_row(context, record, number));
        }
    }

    table
}

/// Prints the problem of each record that has one, after an empty line.
fn print_problems(ui: &Ui, records: &[&ArchiveRecord]) {
    let with_problem = |record| Some((record, problem::describe_problem(record)?));
    let problems: Vec<_> = records.iter().copied().filter_map(with_problem).collect();
    if !problems.is_empty() {
        ui.line("");
    }
    for (record, problem) in problems {
        let (path, problem) = (printable(&record.path), printable(&problem));
        let word = ui.paint(Style::Bad, "problem");
        ui.prose(format_args!("{word} {path}: {problem}"));
    }
}

/// Suggests importing the archives of the Python codex-manager, if they are in another home.
fn suggest_import(context: &Context) {
    let home = context.manager_home();
    if let Some((folder, archives)) = python_home::find_unimported(&context.env, home) {
        context.note(format_args!(
            "{} of the Python codex-manager in {}; copy them with: codex-manager config import-python",
            pluralize(archives, "archive"),
            folder.display()
        ));
    }
}

/// The records of an account; `None` for the groups of archives without an account.
type ArchiveGroup<'r> = (Option<Identity>, Vec<&'r ArchiveRecord>);

/// Groups records by account. Archives of signed-out homes are a group, and so are archives without readable metadata.
/// The groups are in the order of their first records.
fn group_by_account<'r>(records: &[&'r ArchiveRecord]) -> Vec<Vec<&'r ArchiveRecord>> {
    let mut groups: Vec<ArchiveGroup<'r>> = Vec::new();
    for &record in records {
        let identity = record.metadata.identity();
        let is_readable = has_readable_metadata(&record.metadata);
        // `is_same`, because archives of one account may lack different ids of the account.
        let is_group_of_record =
            |(account, members): &&mut ArchiveGroup<'r>| match (account, &identity) {
                (Some(account), Some(identity)) => account.is_same(identity),
                (None, None) => has_readable_metadata(&members[0].metadata) == is_readable,
                _ => false,
            };
        match groups.iter_mut().find(is_group_of_record) {
            Some((_, members)) => members.push(record),
            None => groups.push((identity, vec![record])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

fn has_readable_metadata(metadata: &Metadata) -> bool {
    metadata.made_at().is_some()
}

fn build_row(context: &Context, record: &ArchiveRecord, number: Option<usize>) -> [Cell; 10] {
    let metadata = &record.metadata;
    let window_start = metadata.session_start_at;
    // A record without an archive has a name in the inventory, but no file.
    let size = record.archive.as_ref().map(|a| a.bytes);
    let kind = match &record.archive {
        Some(_) => archive_names::format_kind(metadata),
        None => metadata.mode.name().to_owned(),
    };

    let name = archive_names::shortest_name(record);

    let problem = problem::describe_problem(record);
    let style = if problem.is_some() {
        Style::Bad
    } else {
        Style::Plain
    };

    [
        Cell::plain(number.map_or_else(String::new, |n| n.to_string())),
        Cell::plain(metadata.email.clone().unwrap_or_default()),
        Cell::plain(backup_time(metadata, context))
            .value(time_json(metadata.made_at(), context).unwrap_or_default()),
        Cell::plain(window_start.map_or(String::new(), |at| absolute_time(&at, context))),
        Cell::plain(kind),
        Cell::count(metadata.conversation_count()),
        size.map_or_else(|| Cell::plain("record").value(""), Cell::bytes),
        Cell::new(style, name),
        Cell::plain(metadata.user_label().unwrap_or_default()),
        Cell::plain(problem.unwrap_or_default()),
    ]
}
