//! The difference between what is on disk and what Codex lists.
//!
//! The rows of the table are looked at one after another: what agrees is not kept.

use super::files::{self, Folders, RolloutFile};
use super::id::ConversationId;
use super::rollout::{self, first_line};
use super::session_index::ThreadNameIndex;
use super::{HistoryError, SkippedFile, for_each_file};
use crate::codex::database::DatabaseError;
use crate::codex::threads::{self, ThreadRow};
use crate::io::IoError;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A rollout that says which conversation it is of.
#[derive(Debug)]
pub struct ConversationRollout {
    /// The conversation.
    pub id: ConversationId,
    /// The file.
    pub file: RolloutFile,
    /// The workspace account that made it.
    pub account: Option<Arc<str>>,
}

/// The conversations on disk.
#[derive(Debug, Default)]
pub struct Conversations {
    /// Ordered by id; of several of one conversation the one that counts comes first.
    files: Vec<ConversationRollout>,
}

impl Conversations {
    fn sort(&mut self) {
        // Where no row says which: one that is not archived, the last by name.
        self.files.sort_unstable_by(|a, b| {
            let order =
                |c: &ConversationRollout| (c.file.is_archived, Reverse(c.file.relative.clone()));
            a.id.cmp(&b.id).then_with(|| order(a).cmp(&order(b)))
        });
    }

    /// The rollouts of a conversation.
    pub fn of(&self, id: &ConversationId) -> &[ConversationRollout] {
        &self.files[self.range(id)]
    }

    fn range(&self, id: &ConversationId) -> Range<usize> {
        let start = self.files.partition_point(|c| c.id < *id);
        let len = self.files[start..]
            .iter()
            .take_while(|c| c.id == *id)
            .count();
        start..start + len
    }

    /// All rollouts.
    pub fn iter(&self) -> impl Iterator<Item = &ConversationRollout> {
        self.files.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// What was found in a home.
#[derive(Debug, Default)]
pub struct Findings {
    /// The home, without links, as Codex writes it into its database.
    pub home: PathBuf,
    /// The conversations.
    pub conversations: Conversations,
    /// Whether there is a table that can be used.
    pub has_table: bool,
    /// The index of names.
    pub index: ThreadNameIndex,
    /// The difference.
    pub report: CheckReport,
}

/// Compares: the names of the rollouts of `home`, the first line of each, the table of `database`
/// and the index. `live_account` is the workspace account that is signed in.
///
/// # Errors
/// A folder, the index or the database cannot be read, or the user stopped it. A damaged database
/// is a finding.
pub fn compare(
    home: &Path,
    database: Option<&Path>,
    live_account: Option<&str>,
) -> Result<Findings, HistoryError> {
    compare_rollouts(
        home,
        database,
        live_account,
        files::find(home, Folders::All)?,
    )
}

/// The same for these rollouts alone.
///
/// # Errors
/// See [`compare`].
pub fn compare_rollouts(
    home: &Path,
    database: Option<&Path>,
    live_account: Option<&str>,
    files: Vec<RolloutFile>,
) -> Result<Findings, HistoryError> {
    let mut damaged = Vec::new();
    let conversations = on_disk(home, files, &mut damaged)?;
    damaged.sort_by(|a, b| a.path.cmp(&b.path));
    let index = ThreadNameIndex::read(home)?;
    let sides = CheckInput {
        home,
        real_home: &home.canonicalize().unwrap_or_else(|_| home.to_path_buf()),
        conversations: &conversations,
        index: &index,
    };
    let folded = database.map(|path| {
        let start = || Differences::new(conversations.files.len());
        threads::fold(path, start, |rows, row| rows.add(&sides, &row))
    });
    let (rows, problem) = match folded {
        None => (None, None),
        Some(Ok(Some(rows))) => (Some(rows), None),
        Some(Ok(None)) => (None, Some("it has no table of conversations".into())),
        Some(Err(e @ DatabaseError::Damaged { .. })) => (None, Some(e.to_string())),
        // It may be sound: somebody holds it, or it may not be read.
        Some(Err(e)) => return Err(e.into()),
    };
    let has_table = rows.is_some();
    let rows = rows.unwrap_or_else(|| Differences::new(conversations.files.len()));
    let mut report = rows.report(&sides, live_account)?;
    report.damaged = damaged;
    report.database = database.map(Path::to_path_buf);
    report.problem = problem;
    Ok(Findings {
        home: sides.real_home.to_path_buf(),
        conversations,
        has_table,
        index,
        report,
    })
}

fn on_disk(
    home: &Path,
    files: Vec<RolloutFile>,
    damaged: &mut Vec<SkippedFile>,
) -> Result<Conversations, HistoryError> {
    let paths: Vec<_> = files.iter().map(|file| &*file.relative).collect();
    let mut heads = Vec::with_capacity(files.len());
    let mut accounts: HashSet<Arc<str>> = HashSet::new();
    let mut nothing = Vec::new();
    let read = |path: &Path| {
        let meta = rollout::head(path)?;
        Ok(meta.map(|meta| (meta.account().map(str::to_owned), meta.id)))
    };
    let jobs = paths.iter().map(|relative| home.join(relative));
    for_each_file(jobs, damaged, read, |i, meta| {
        match meta {
            None => nothing.push(i),
            Some((account, id)) => {
                let account = account.map(|account| {
                    let known = accounts.get(&*account).map(Arc::clone);
                    known.unwrap_or_else(|| {
                        let new: Arc<str> = account.into();
                        accounts.insert(Arc::clone(&new));
                        new
                    })
                });
                heads.push((i, id, account));
            }
        }
        Ok(())
    })?;
    damaged.extend(nothing.into_iter().map(|i| {
        let path = home.join(paths[i]);
        let reason = why_damaged(&path);
        SkippedFile { path, reason }
    }));
    drop(paths);
    let mut heads = heads.into_iter().peekable();
    let mut conversations = Conversations {
        files: Vec::with_capacity(heads.len()),
    };
    for (i, file) in files.into_iter().enumerate() {
        if let Some((_, id, account)) = heads.next_if(|(head, ..)| *head == i) {
            conversations
                .files
                .push(ConversationRollout { id, file, account });
        }
    }
    conversations.sort();
    Ok(conversations)
}

/// An error with what is behind it, in one line.
pub fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn why_damaged(path: &Path) -> String {
    match path.metadata() {
        Ok(meta) if meta.len() == 0 => "it is empty".into(),
        _ => "it does not begin with what the conversation is".into(),
    }
}

/// A conversation that has no row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingRow {
    /// The conversation.
    pub id: ConversationId,
    /// Its rollout.
    pub path: PathBuf,
    /// Whether it is archived.
    pub archived: bool,
}

/// A row that does not point at the conversation's rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StalePath {
    /// The conversation.
    pub id: ConversationId,
    /// Where the row points.
    pub recorded: String,
    /// Where the rollout is.
    pub path: PathBuf,
    /// The row's id, where that is written in another way.
    #[serde(skip)]
    pub row_id: Option<Box<str>>,
    /// Whether the row points outside this home: going on there would write into that one.
    pub foreign: bool,
    /// Whether the rollout lies among the archived ones.
    pub archived: bool,
}

/// A row whose rollout is nowhere in this home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrphanRow {
    /// The conversation.
    pub id: ConversationId,
    /// Where the row points.
    pub recorded: String,
    /// What it is called.
    pub title: String,
}

/// A conversation with more than one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DuplicateRollouts {
    /// The conversation.
    pub id: ConversationId,
    /// Its rollouts, the one that counts first.
    pub paths: Vec<PathBuf>,
}

/// A name that only the index still knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostName {
    /// The conversation.
    pub id: ConversationId,
    /// What it was called.
    pub name: String,
    /// The row's id, where that is written in another way.
    #[serde(skip)]
    pub row_id: Option<Box<str>>,
}

/// A conversation of another account: Codex's picker does not show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HiddenConversation {
    /// The conversation.
    pub id: ConversationId,
    /// The workspace account that made it.
    #[serde(serialize_with = "as_text")]
    pub account_id: Arc<str>,
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// The difference. Its keys are a contract.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// How many conversations are on disk, archived ones included.
    pub on_disk: usize,
    /// How many of them Codex lists from its database.
    pub listed: usize,
    /// Those without a row.
    pub missing: Vec<MissingRow>,
    /// Rows that point elsewhere.
    pub stale_path: Vec<StalePath>,
    /// Rows without a rollout.
    pub orphan_rows: Vec<OrphanRow>,
    /// Conversations that are there twice.
    pub duplicates: Vec<DuplicateRollouts>,
    /// Names that the lists do not show.
    pub names_missing: Vec<LostName>,
    /// Conversations of other accounts: no difference.
    pub hidden: Vec<HiddenConversation>,
    /// Rollouts that are no conversation any more.
    pub damaged: Vec<SkippedFile>,
    /// The state database.
    pub database: Option<PathBuf>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

impl CheckReport {
    /// Whether disk, database and index agree. What belongs to another account is as it should be.
    pub fn is_consistent(&self) -> bool {
        self.needs_no_repair() && self.unrepairable() == 0
    }

    /// Whether nothing is left that a repair mends.
    pub fn needs_no_repair(&self) -> bool {
        self.missing.is_empty() && self.stale_path.is_empty() && self.names_missing.is_empty()
    }

    /// How many differences a repair leaves alone.
    pub fn unrepairable(&self) -> usize {
        self.orphan_rows.len() + self.duplicates.len() + self.damaged.len()
    }
}

/// What the table is compared with.
struct CheckInput<'a> {
    home: &'a Path,
    real_home: &'a Path,
    conversations: &'a Conversations,
    index: &'a ThreadNameIndex,
}

/// What the rows differ in.
struct Differences {
    /// By the place of a conversation's first rollout: which of its rollouts the row names, and
    /// one; 0 where it has no row.
    seen: Vec<u8>,
    listed: usize,
    stale_path: Vec<StalePath>,
    orphans: Vec<OrphanRow>,
    names_missing: Vec<LostName>,
    problem: Option<IoError>,
}

impl Differences {
    fn new(conversations: usize) -> Self {
        Self {
            seen: vec![0; conversations],
            listed: 0,
            stale_path: Vec::new(),
            orphans: Vec::new(),
            names_missing: Vec::new(),
            problem: None,
        }
    }

    fn add(&mut self, sides: &CheckInput<'_>, row: &ThreadRow) {
        let id = ConversationId::of(&row.id);
        let range = sides.conversations.range(&id);
        let Some(seen) = self.seen.get_mut(range.start).filter(|_| !range.is_empty()) else {
            let title = first_line(row.given_name().unwrap_or(&row.title)).unwrap_or_default();
            self.orphans.push(OrphanRow {
                id,
                recorded: row.rollout_path.clone(),
                title,
            });
            return;
        };
        // Of two rows for one conversation the one counts that is written as Codex writes it.
        if *seen != 0 {
            return;
        }
        let files = &sides.conversations.files[range];
        let recorded = Path::new(&row.rollout_path);
        let is_recorded = |c: &ConversationRollout| {
            recorded == c.file.plain_path(sides.home)
                || recorded == c.file.plain_path(sides.real_home)
        };
        let place = files.iter().position(is_recorded);
        *seen = u8::try_from(place.unwrap_or(0)).map_or(u8::MAX, |place| place.saturating_add(1));
        let counts = &files[place.unwrap_or(0)].file;
        let row_id = || id.with_text(|text| (text != row.id).then(|| row.id.as_str().into()));
        if place.is_some() && row.archived == counts.is_archived {
            self.listed += 1;
        } else {
            self.stale_path.push(StalePath {
                recorded: row.rollout_path.clone(),
                path: counts.path(sides.home),
                foreign: place.is_none() && !recorded.starts_with(sides.real_home),
                archived: counts.is_archived,
                row_id: row_id(),
                id: id.clone(),
            });
        }
        match lost_name(row, sides.index, &id) {
            Ok(None) => {}
            Ok(Some(name)) => self.names_missing.push(LostName {
                row_id: row_id(),
                name,
                id,
            }),
            Err(e) => self.problem = Some(e),
        }
    }

    /// Brings what was found into the order of ids, with what the conversations themselves say.
    fn report(
        mut self,
        sides: &CheckInput<'_>,
        live_account: Option<&str>,
    ) -> Result<CheckReport, HistoryError> {
        if let Some(problem) = self.problem {
            return Err(problem.into());
        }
        self.stale_path.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        self.orphans.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        self.names_missing.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let mut report = CheckReport {
            listed: self.listed,
            stale_path: self.stale_path,
            orphan_rows: self.orphans,
            names_missing: self.names_missing,
            ..CheckReport::default()
        };
        let mut start = 0;
        for files in sides.conversations.files.chunk_by(|a, b| a.id == b.id) {
            let seen = usize::from(self.seen[start]);
            start += files.len();
            report.on_disk += 1;
            let first = seen.saturating_sub(1).min(files.len() - 1);
            let counts = &files[first];
            if seen == 0 {
                report.missing.push(MissingRow {
                    id: counts.id.clone(),
                    path: counts.file.path(sides.home),
                    archived: counts.file.is_archived,
                });
            }
            let others = files.iter().enumerate().filter(|(i, _)| *i != first);
            let ordered: Vec<_> = [counts].into_iter().chain(others.map(|(_, c)| c)).collect();
            if ordered.len() > 1 || counts.file.has_compressed_copy {
                let paths = ordered.iter().map(|c| c.file.path(sides.home));
                let twins = ordered
                    .iter()
                    .filter_map(|c| c.file.compressed_copy(sides.home));
                report.duplicates.push(DuplicateRollouts {
                    id: counts.id.clone(),
                    paths: paths.chain(twins).collect(),
                });
            }
            if let (Some(account), Some(live)) = (&counts.account, live_account)
                && **account != *live
            {
                report.hidden.push(HiddenConversation {
                    id: counts.id.clone(),
                    account_id: Arc::clone(account),
                });
            }
        }
        Ok(report)
    }
}

/// The name that the index knows of a conversation whose row has none. Old conversations are
/// listed under the name in the index, so they have lost nothing (0.169).
fn lost_name(
    row: &ThreadRow,
    index: &ThreadNameIndex,
    id: &ConversationId,
) -> Result<Option<String>, IoError> {
    if !row.is_paginated || !row.name.trim().is_empty() {
        return Ok(None);
    }
    let line = index.get(id)?;
    let said = [row.title.as_str(), &row.first_user_message];
    Ok(line
        .map(|line| line.thread_name)
        .filter(|name| is_given(name, id, said)))
}

/// Whether a name of the index is one that somebody gave: a rebuild writes the conversation's
/// first line or its id there too.
pub fn is_given<'a>(
    name: &str,
    id: &ConversationId,
    said: impl IntoIterator<Item = &'a str>,
) -> bool {
    let is_derived = |text: &str| text == name || first_line(text).as_deref() == Some(name);
    !id.with_text(|id| id == name) && !said.into_iter().any(is_derived)
}
