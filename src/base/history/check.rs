//! Compares the rollouts on disk with the rows of Codex's table and with the name index.
//!
//! Rows are compared one at a time and only differences are kept, because a home may have a hundred
//! thousand conversations.

use super::conversations::{ConversationRollout, Conversations};
use super::files::{self, RolloutFile};
use super::id::ConversationId;
use super::rollout::first_line;
use super::row;
use super::session_index::ThreadNameIndex;
use super::unreadable::{ReadabilityCheck, UnreadableConversation};
use super::{HistoryError, SkippedFile, for_each_file, for_each_head};
use crate::codex::rollout::without_zst;
use crate::codex::threads::RowTexts;
use crate::codex::user_request::is_context;
use crate::codex::{ARCHIVED_SESSIONS, DatabaseError, Projections, SESSIONS, ThreadRow, threads};
use crate::io::{IoError, OrdinaryPath};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The conversations of a home, its name index, and how both differ from Codex's table.
#[derive(Debug, Default)]
pub struct Findings {
    /// The canonical path of the home, as Codex writes it into its database.
    pub home: PathBuf,
    pub conversations: Conversations,
    pub projections: Projections,
    /// True if the database has a readable table of conversations.
    pub has_table: bool,
    pub index: ThreadNameIndex,
    /// The differences, as `history check` prints them.
    pub report: CheckReport,
}

/// Compares all rollouts of `home` with the table in `database` and with the name index.
/// `live_account` is the workspace account that is signed in. Reports folders that this user may not list, and does not
/// compare the rows of rollouts in them.
///
/// # Errors
/// Another folder, the index or the database cannot be read, or the user interrupts. A damaged database
/// is reported as [`CheckReport::problem`] instead.
pub fn compare(
    home: &Path,
    database: Option<&Path>,
    live_account: Option<&str>,
) -> Result<Findings, HistoryError> {
    let projections = database.map(Projections::read_beside).unwrap_or_default();
    let files = files::find_permitted(home)?;
    compare_files(home, database, live_account, files, Some(projections))
}

/// Like [`compare`], for the rollouts in `files` only. All other rows count as orphans. Does not look for
/// [unreadable](super::unreadable) conversations, nor for hidden ones.
///
/// # Errors
/// See [`compare`].
pub(crate) fn compare_rollouts(
    home: &Path,
    database: Option<&Path>,
    files: Vec<RolloutFile>,
) -> Result<Findings, HistoryError> {
    let (live_account, projections) = (None, None);
    let forbidden_folders = Vec::new();
    let files = (files, forbidden_folders);
    compare_files(home, database, live_account, files, projections)
}

/// Compares `files`, the rollouts and the folders that cannot be listed, with the rows of `database` and with the name
/// index. Without `database`, every conversation counts
/// as missing. Without `projections`, does not look for unreadable conversations.
fn compare_files(
    home: &Path,
    database: Option<&Path>,
    live_account: Option<&str>,
    (files, forbidden_folders): (Vec<RolloutFile>, Vec<SkippedFile>),
    projections: Option<Projections>,
) -> Result<Findings, HistoryError> {
    let (conversations, mut damaged) = read_conversations(home, &files, live_account)?;
    // A home may have half a million rollouts, and the comparison needs memory of its own.
    drop(files);

    let index = ThreadNameIndex::read(home)?;
    let new_check = |projections| ReadabilityCheck::new(home, &conversations, projections);
    let input = CheckInput {
        home,
        linked_folders: LinkedFolder::find_all(home),
        real_home: &home.canonical_or_self(),
        conversations: &conversations,
        index: &index,
        forbidden_folders: &forbidden_folders,
        readability: projections.as_ref().map(new_check),
    };

    let fold_result = database.map(|path| {
        let start = || Differences::new(conversations.files.len());
        threads::fold_rows(path, start, |differences, row| {
            differences.add_row(&input, &row);
        })
    });
    let (differences, database_problem) = match fold_result {
        None => (None, None),
        Some(Ok(Some(differences))) => (Some(differences), None),
        Some(Ok(None)) => (None, Some("it has no table of conversations".into())),
        Some(Err(e @ DatabaseError::Damaged { .. })) => (None, Some(e.to_string())),
        // Not a difference: the database may be sound but locked, or unreadable for this user.
        Some(Err(e)) => return Err(e.into()),
    };

    // Without a table, every conversation counts as missing.
    let has_table = differences.is_some();
    let differences = differences.unwrap_or_else(|| Differences::new(conversations.files.len()));
    let mut report = differences.into_report(&input)?;
    damaged.extend_from_slice(&forbidden_folders);
    report.damaged = damaged;
    report.add_previews(home)?;
    report.old_format = conversations.old_format;
    report.database = database.map(Path::to_path_buf);
    report.problem = database_problem;

    let home = input.real_home.to_path_buf();
    // Ends the borrows of `conversations` and `projections`.
    drop(input);
    Ok(Findings {
        home,
        conversations,
        projections: projections.unwrap_or_default(),
        has_table,
        index,
        report,
    })
}

/// Reads the first lines of the rollouts. Also returns the rollouts that cannot be read or name no conversation.
/// Rollouts of Codex before 0.32 are only counted.
fn read_conversations(
    home: &Path,
    files: &[RolloutFile],
    live_account: Option<&str>,
) -> Result<(Conversations, Vec<SkippedFile>), HistoryError> {
    let (mut conversations, mut damaged) = (Conversations::default(), Vec::new());
    conversations.files.reserve_exact(files.len());
    let mut without_meta = Vec::new();

    let is_other_account = |account: &&str| live_account.is_some_and(|live| live != *account);
    let rollouts = files.iter().map(|file| (file, file.path(home)));
    for_each_head(rollouts, &mut damaged, |file, meta| {
        match meta {
            None => without_meta.push(SkippedFile {
                path: file.path(home),
                reason: "its first lines do not name a conversation".into(),
            }),
            // Newer versions of Codex do not list these rollouts.
            Some(meta) if !meta.has_envelope => conversations.old_format += 1,
            Some(meta) => conversations.files.push(ConversationRollout {
                file: file.clone(),
                other_account: meta
                    .creator_account_id()
                    .filter(is_other_account)
                    .map(Into::into),
                is_paginated: meta.is_paginated(),
                base: meta.base_cut().map(Box::new),
                subagent_start: meta.subagent_start(),
                id: meta.id,
            }),
        }
        Ok(())
    })?;

    damaged.append(&mut without_meta);
    damaged.sort_by(|a, b| a.path.cmp(&b.path));
    conversations.sort();
    Ok((conversations, damaged))
}

/// A conversation on disk that has no row, so Codex does not list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingRow {
    pub id: ConversationId,
    /// The absolute path of its rollout.
    pub path: PathBuf,
    pub archived: bool,
}

/// A row whose path or archived flag differs from the conversation's rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StalePath {
    pub id: ConversationId,
    pub recorded: String,
    /// The absolute path of the rollout.
    pub path: PathBuf,
    /// The id exactly as the row has it, if its spelling differs from `id`.
    #[serde(skip)]
    pub row_id: Option<Box<str>>,
    /// True if the row points outside of this home: resuming it would write to another home.
    pub foreign: bool,
    pub archived: bool,
}

/// A row for which this home has no rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrphanRow {
    pub id: ConversationId,
    pub recorded: String,
    /// The first line of the name that the user gave, else of the title.
    pub title: String,
    /// The id exactly as the row has it, if its spelling differs from `id`.
    #[serde(skip)]
    pub(super) row_id: Option<Box<str>>,
}

/// A conversation that has the same rollout in more than one file, such as plain and compressed. The several
/// rollouts of a rewound conversation are no duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DuplicateRollouts {
    pub id: ConversationId,
    /// The absolute paths of all rollouts of the conversation. Codex uses the first one.
    pub paths: Vec<PathBuf>,
}

/// A name given by the user that is in the index but no longer in the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostName {
    pub id: ConversationId,
    pub name: String,
    /// The id exactly as the row has it, if its spelling differs from `id`.
    #[serde(skip)]
    pub row_id: Option<Box<str>>,
}

/// A row without the preview that its rollout has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingPreview {
    pub id: ConversationId,
    /// The absolute path of the rollout.
    pub path: PathBuf,
    /// The first message or goal.
    pub preview: String,
    #[serde(skip)]
    pub texts: RowTexts,
    /// The id exactly as the row has it, if its spelling differs from `id`.
    #[serde(skip)]
    pub row_id: Option<Box<str>>,
    /// True if the row has the path and the archived flag of the rollout.
    #[serde(skip)]
    is_current: bool,
}

/// A conversation of another account, which the picker of `codex resume` hides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HiddenConversation {
    pub id: ConversationId,
    /// The workspace account that created the conversation.
    pub account_id: String,
}

/// The result of a check. Its JSON keys are a stable interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The number of conversations on disk, archived ones included.
    pub on_disk: usize,
    /// The number of conversations with a row that has the path and the archived flag of their rollout, and no missing
    /// preview.
    pub listed: usize,
    pub missing: Vec<MissingRow>,
    pub stale_path: Vec<StalePath>,
    pub orphan_rows: Vec<OrphanRow>,
    pub duplicates: Vec<DuplicateRollouts>,
    pub names_missing: Vec<LostName>,
    /// Conversations with a message or a goal that Codex does not list, because their rows lack it.
    pub preview_missing: Vec<MissingPreview>,
    /// Conversations of other accounts. Not a difference: Codex hides them by design.
    pub hidden: Vec<HiddenConversation>,
    pub unreadable: Vec<UnreadableConversation>,
    /// The number of rollouts of Codex before 0.32. Not a difference: newer versions do not list them.
    pub old_format: usize,
    /// Rollouts that name no conversation or cannot be read.
    pub damaged: Vec<SkippedFile>,
    /// The path of the state database; null if the home has none.
    pub database: Option<PathBuf>,
    /// The reason why the database cannot be used.
    pub problem: Option<String>,
}

impl CheckReport {
    /// Reads the previews of the rows that have none. Drops the rows of conversations without a message, for example
    /// if only commands of the user ran.
    fn add_previews(&mut self, home: &Path) -> Result<(), HistoryError> {
        let rows = &mut self.preview_missing;
        let rollouts = rows.iter_mut().map(|row| {
            let path = row.path.clone();
            (row, path)
        });
        let read = |path: &Path| row::read_texts(home, path);
        // Dropped, because the report has the damaged rollouts already.
        let mut unread = Vec::new();
        for_each_file(rollouts, &mut unread, read, |row, texts| {
            row.preview = texts.preview.clone().unwrap_or_default();
            row.texts = texts;
            Ok(())
        })?;

        rows.retain(|row| !row.preview.is_empty());
        rows.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        // `Differences::add_row` has counted each current row as listed, because it does not know the preview.
        self.listed -= rows.iter().filter(|row| row.is_current).count();
        Ok(())
    }

    /// Returns true if disk, database and index agree. Hidden conversations do not count as a difference.
    pub fn is_consistent(&self) -> bool {
        !self.needs_repair() && self.count_unrepairable() == 0
    }

    /// Returns true if there is a difference that a repair could correct.
    pub fn needs_repair(&self) -> bool {
        let mut unreadable = self.unreadable.iter();
        !self.missing.is_empty()
            || !self.stale_path.is_empty()
            || !self.names_missing.is_empty()
            || !self.preview_missing.is_empty()
            || unreadable.any(UnreadableConversation::is_repairable)
    }

    /// Returns the number of differences that a repair does not touch.
    pub fn count_unrepairable(&self) -> usize {
        let unreadable = self.unreadable.iter();
        let unreadable = unreadable.filter(|conversation| !conversation.is_repairable());
        self.orphan_rows.len() + self.duplicates.len() + self.damaged.len() + unreadable.count()
    }
}

/// The rollouts and the name index that rows are compared with.
struct CheckInput<'a> {
    home: &'a Path,
    real_home: &'a Path,
    linked_folders: Vec<LinkedFolder>,
    conversations: &'a Conversations,
    index: &'a ThreadNameIndex,
    forbidden_folders: &'a [SkippedFile],
    /// `None` if only some rollouts of the home are compared.
    readability: Option<ReadabilityCheck<'a>>,
}

/// A folder of conversations that is a link, and the target of the link.
struct LinkedFolder {
    link: PathBuf,
    target: PathBuf,
}

impl LinkedFolder {
    fn find_all(home: &Path) -> Vec<Self> {
        let folders = [SESSIONS, ARCHIVED_SESSIONS].map(|name| home.join(name));
        let links = folders.into_iter().filter(|folder| folder.is_symlink());
        let with_target = |link: PathBuf| {
            let target = link.canonical().ok()?;
            Some(Self { link, target })
        };
        links.filter_map(with_target).collect()
    }
}

impl CheckInput<'_> {
    /// Returns the path in a row without `.zst`. A path below the target of a linked folder becomes one below the link.
    fn normalize_recorded_path(&self, row: &ThreadRow) -> PathBuf {
        // Codex records either name of a compressed rollout, and finds the rollout by either name.
        let recorded = without_zst(Path::new(&row.rollout_path));
        // After a rewind or a resume below a linked folder, Codex 0.171 records the resolved path.
        let move_below_link = |folder: &LinkedFolder| {
            let below = recorded.strip_prefix(&folder.target).ok()?;
            Some(folder.link.join(below))
        };
        let path_below_link = self.linked_folders.iter().find_map(move_below_link);
        path_below_link.unwrap_or_else(|| recorded.to_path_buf())
    }

    /// Returns true if the rollout at `recorded`, the path in a row, is in a folder that cannot be listed.
    fn is_forbidden(&self, recorded: &Path) -> bool {
        let mut folders = self.forbidden_folders.iter();
        folders.any(|folder| {
            let relative = folder.path.strip_prefix(self.home);
            recorded.starts_with(&folder.path)
                || relative.is_ok_and(|path| recorded.starts_with(self.real_home.join(path)))
        })
    }

    /// Returns the index of the rollout at `recorded`, the path in a row. `files` are the rollouts of the conversation.
    /// `None` if none of them is there, or if a later rewind began another rollout.
    fn find_position(&self, files: &[ConversationRollout], recorded: &Path) -> Option<usize> {
        let is_recorded = |c: &ConversationRollout| {
            recorded == c.file.plain_path(self.home)
                || recorded == c.file.plain_path(self.real_home)
        };
        let index = files.iter().position(is_recorded)?;
        // Codex continues the rollout that the last rewind began, and `Conversations::sort` puts it first. A row that
        // names another rollout is out of date.
        let last_rewind = files.first().and_then(ConversationRollout::rewind_id);
        let is_outdated = last_rewind.is_some() && files[index].rewind_id() != last_rewind;
        (!is_outdated).then_some(index)
    }
}

/// Differences found in the rows read so far.
struct Differences {
    /// The rollout that Codex uses, as an index among the rollouts of its conversation. `None` if the conversation has
    /// no row. Has one element per rollout, of which only that of the first rollout of each conversation is used.
    used_indexes: Vec<Option<usize>>,
    report: CheckReport,
    /// The last error of reading a line of the name index. The check fails with it after all rows are read, because
    /// [`threads::fold_rows`] takes no error.
    index_error: Option<IoError>,
}

impl Differences {
    fn new(rollout_count: usize) -> Self {
        Self {
            used_indexes: vec![None; rollout_count],
            report: CheckReport::default(),
            index_error: None,
        }
    }

    fn add_row(&mut self, input: &CheckInput<'_>, row: &ThreadRow) {
        let id = ConversationId::of(&row.id);
        let range = input.conversations.file_range(&id);
        let recorded = input.normalize_recorded_path(row);
        if input.is_forbidden(&recorded) {
            // The rollout that Codex uses is unknown, so the others of the conversation are no reason to change the row.
            if !range.is_empty() {
                self.used_indexes[range.start] = Some(0);
            }
            return;
        }
        if range.is_empty() {
            self.report.orphan_rows.push(OrphanRow {
                row_id: (id.to_string() != row.id).then(|| row.id.as_str().into()),
                id,
                recorded: row.rollout_path.clone(),
                title: row.shown_title(),
            });
            return;
        }

        let used_index_of_row = &mut self.used_indexes[range.start];
        // Two rows may name one conversation in different case. Rows come in descending order of
        // their ids, so Codex's spelling, in lower case, comes first.
        if used_index_of_row.is_some() {
            return;
        }

        let files = &input.conversations.files[range];
        let recorded_position = input.find_position(files, &recorded);
        // Codex uses the first rollout if the row names no other one.
        let used_index = recorded_position.unwrap_or(0);
        *used_index_of_row = Some(used_index);

        let rollout = &files[used_index];
        let used_file = &rollout.file;
        let row_id = || (id.to_string() != row.id).then(|| row.id.as_str().into());
        let is_current = recorded_position.is_some() && row.archived == used_file.is_archived;
        // Codex lists a child at its parent, also without a preview.
        if row.lacks_preview && !row.is_child {
            self.report.preview_missing.push(MissingPreview {
                path: used_file.path(input.home),
                preview: String::new(),
                texts: RowTexts::default(),
                row_id: row_id(),
                id: id.clone(),
                is_current,
            });
        }

        if is_current {
            self.report.listed += 1;
        } else {
            self.report.stale_path.push(StalePath {
                recorded: row.rollout_path.clone(),
                path: used_file.path(input.home),
                foreign: recorded_position.is_none() && !recorded.starts_with(input.real_home),
                archived: used_file.is_archived,
                row_id: row_id(),
                id: id.clone(),
            });
        }

        if let Some(check) = &input.readability
            && let Some(problem) = check.find_problem(row, rollout)
        {
            self.report.unreadable.push(problem);
        }

        match find_lost_name(row, input.index, &id) {
            Ok(None) => {}
            Ok(Some(name)) => self.report.names_missing.push(LostName {
                row_id: row_id(),
                name,
                id,
            }),
            Err(e) => self.index_error = Some(e),
        }
    }

    /// Sorts the differences by id and adds the differences that need no row: missing rows, duplicates, and
    /// conversations of other accounts.
    fn into_report(self, input: &CheckInput<'_>) -> Result<CheckReport, HistoryError> {
        if let Some(error) = self.index_error {
            return Err(error.into());
        }

        let mut report = self.report;
        report.stale_path.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        report.orphan_rows.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        report
            .names_missing
            .sort_unstable_by(|a, b| a.id.cmp(&b.id));
        report.unreadable.sort_unstable_by(|a, b| a.id.cmp(&b.id));

        let mut first_rollout = 0;
        for files in input.conversations.files.chunk_by(|a, b| a.id == b.id) {
            let used_index_of_row = self.used_indexes[first_rollout];
            first_rollout += files.len();
            report.on_disk += 1;
            let used_index = used_index_of_row.unwrap_or(0);
            let used_rollout = &files[used_index];

            if used_index_of_row.is_none() {
                report.missing.push(MissingRow {
                    id: used_rollout.id.clone(),
                    path: used_rollout.file.path(input.home),
                    archived: used_rollout.file.is_archived,
                });
            }

            if has_duplicates(files) {
                report.duplicates.push(DuplicateRollouts {
                    id: used_rollout.id.clone(),
                    paths: list_paths(files, used_index, input.home),
                });
            }

            if let Some(account_id) = &used_rollout.other_account {
                report.hidden.push(HiddenConversation {
                    id: used_rollout.id.clone(),
                    account_id: account_id.to_string(),
                });
            }
        }

        Ok(report)
    }
}

/// Returns the paths of the rollouts in `files`, the used one first, and then of their compressed copies.
fn list_paths(files: &[ConversationRollout], used_index: usize, home: &Path) -> Vec<PathBuf> {
    let (before, after) = (&files[..used_index], &files[used_index + 1..]);
    let ordered = [&files[used_index]].into_iter().chain(before).chain(after);
    let paths = ordered.clone().map(|c| c.file.path(home));
    let compressed_copies = ordered.filter_map(|c| c.file.compressed_copy(home));
    paths.chain(compressed_copies).collect()
}

/// Returns true if a rollout of a conversation is on disk in more than one file. `files` are its rollouts.
fn has_duplicates(files: &[ConversationRollout]) -> bool {
    // Each rewind begins a rollout with an id of its own, so equal ids mean copies of one rollout.
    let mut rollout_ids: Vec<_> = files.iter().map(ConversationRollout::rollout_id).collect();
    rollout_ids.sort_unstable();
    rollout_ids.windows(2).any(|pair| pair[0] == pair[1])
        || files.iter().any(|c| c.file.has_compressed_copy)
}

/// Returns the name that the user gave to a conversation, if the index has a name and the row has none. Codex 0.169
/// lists legacy conversations under the name in the index, so their name is not lost.
fn find_lost_name(
    row: &ThreadRow,
    index: &ThreadNameIndex,
    id: &ConversationId,
) -> Result<Option<String>, IoError> {
    let is_legacy = !row.is_paginated();
    let has_name = !row.name.trim().is_empty();
    if is_legacy || has_name {
        return Ok(None);
    }
    let name = index.get(id)?.map(|line| line.thread_name);
    let own_texts = [row.title.as_str(), row.message(), row.request()];
    Ok(name.filter(|name| is_given_name(name, id, own_texts)))
}

/// Returns true if the user gave this name to a conversation. `own_texts` are its title and its first messages. Returns
/// false for a name that a rebuild has derived: the id, one of `own_texts` or its first line, or context of a client or
/// of Codex.
pub fn is_given_name<'a>(
    name: &str,
    id: &ConversationId,
    own_texts: impl IntoIterator<Item = &'a str>,
) -> bool {
    let is_source = |text: &str| text == name || first_line(text).as_deref() == Some(name);
    name != id.to_string() && !is_context(name) && !own_texts.into_iter().any(is_source)
}
